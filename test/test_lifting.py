"""Rectangles to boxes: geometry against OpenCV, made scenes, the world's truth, and real labelled frames."""

from __future__ import annotations

import os
from dataclasses import replace
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from karp_perception.core import Boxes, CameraFrame, LidarSweep, ObjectClass, SensorFrame
from karp_perception.core.geometry import invert_pose
from karp_perception.core.image_boxes import ImageBoxes
from karp_perception.detection.lifting.lifter import Lifter
from karp_perception.detection.lifting.merging import merged
from karp_perception.detection.lifting.riders import with_riders
from karp_perception.detection.lifting.view import View
from karp_perception.sensing.labelled_frame import LabelledFrame, load_labelled_frame

DATA = Path(os.environ.get("KARP_DATA", Path(__file__).resolve().parents[2] / "shared" / "data")) / "labelled"
FRAMES = sorted(DATA.glob("*/frame.json"))
T_BASE_CAMERA = np.array([[0, 0, 1, 1.0], [-1, 0, 0, 0], [0, -1, 0, 1.6], [0, 0, 0, 1]], float)
K = np.array([[700.0, 0, 640], [0, 700, 360], [0, 0, 1]])
CAMERA = CameraFrame(np.zeros((720, 1280, 3), np.uint8), K, T_BASE_CAMERA, 0)
NAN2 = (np.nan, np.nan)


def boxes_of(*rows: tuple[float, float, float, float, float, float, int]) -> Boxes:
    """Rows of x, y, yaw, length, width, height, label: boxes that stand on flat ground."""
    x, y, yaw, length, width, height, label = np.array(rows, float).T
    size = np.column_stack([length, width, height])
    center = np.column_stack([x, y, 0.5 * height])
    return Boxes(center, size, yaw, np.tile(NAN2, (len(x), 1)), label.astype(int), np.ones(len(x)))


def scanned(boxes: Boxes, walls: Boxes | None = None) -> LidarSweep:
    """What a lidar 1.9 m above the origin measures of boxes on flat ground: rays against slabs."""
    everything = Boxes.concatenate([boxes, walls] if walls is not None else [boxes])
    elevation, azimuth = np.meshgrid(np.radians(np.linspace(-22, 6, 48)), np.radians(np.arange(-60, 60, 0.25)))
    rays = np.stack(
        [np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)], axis=-1
    ).reshape(-1, 3)
    origin = np.array([0.0, 0.0, 1.9])
    with np.errstate(divide="ignore", invalid="ignore"):
        distance = np.where(rays[:, 2] < 0, -origin[2] / rays[:, 2], np.inf)
        for center, size, yaw in zip(everything.center, everything.size, everything.yaw, strict=True):
            c, s = np.cos(yaw), np.sin(yaw)
            turn = np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]])
            start, way = turn @ (origin - center), rays @ turn.T
            one, other = (-0.5 * size - start) / way, (0.5 * size - start) / way
            near, far = np.minimum(one, other).max(axis=1), np.maximum(one, other).min(axis=1)
            distance = np.where((near > 0) & (near <= far), np.minimum(distance, near), distance)
    seen = distance < 70
    noise = np.random.default_rng(0).normal(0, 0.02, seen.sum())
    points = origin + rays[seen] * (distance[seen] + noise)[:, None]
    return LidarSweep(np.column_stack([points, np.ones(len(points))]).astype(np.float32), 0)


def detected(boxes: Boxes, camera: CameraFrame = CAMERA, least_px: float = 8.0) -> tuple[ImageBoxes, np.ndarray]:
    """The rectangles that a perfect detector would draw around boxes, and which boxes they are of.

    Scores tell them apart: each box has one of its own.
    """
    view = View.of(camera)
    corners, seen = view.rectangles(boxes)
    seen &= (boxes.label >= 0) & ((corners[:, 2:] - corners[:, :2]) > least_px).all(axis=1)
    seen &= view.pixels(boxes.center)[1] > 0.5
    rows = np.flatnonzero(seen)
    return ImageBoxes(corners[rows], boxes.label[rows], scores(boxes)[rows]), rows


def scores(boxes: Boxes) -> np.ndarray:
    return np.linspace(0.9, 0.5, len(boxes))


def errors(found: Boxes, truth: Boxes, rows: np.ndarray) -> np.ndarray:
    """(N,) m between the centres, from above, of what was lifted of the true rows; infinite for what was lost."""
    same = np.abs(found.score[None] - scores(truth)[rows, None]) < 1e-9
    away = np.linalg.norm(found.center[None, :, :2] - truth.center[rows, None, :2], axis=-1)
    return np.where(same, away, np.inf).min(axis=1, initial=np.inf)


def lift(sweep: LidarSweep | None, boxes: Boxes) -> tuple[Boxes, np.ndarray]:
    rectangles, rows = detected(boxes)
    return Lifter().lift(SensorFrame(0, {"front": CAMERA}, sweep), {"front": rectangles}), rows


@settings(max_examples=40, deadline=None)
@given(st.floats(4, 60), st.floats(-25, 25), st.floats(-3.2, 3.2), st.floats(0.5, 8), st.floats(0.5, 3))
def test_rectangles_are_those_of_opencv(x: float, y: float, yaw: float, length: float, width: float) -> None:
    box = boxes_of((x, y, yaw, length, width, 1.7, 0))
    view = View.of(CAMERA)
    T = invert_pose(T_BASE_CAMERA)
    if (box.corners()[0] @ T[:3, :3].T + T[:3, 3])[:, 2].min() < 0.3:
        return
    pixels, _ = cv2.projectPoints(box.corners()[0], cv2.Rodrigues(T[:3, :3])[0], T[:3, 3], K, None)
    low, high = pixels[:, 0].min(axis=0), pixels[:, 0].max(axis=0)
    limit = np.array([1279.5, 719.5])
    expected = np.concatenate([np.clip(low, -0.5, limit), np.clip(high, -0.5, limit)])
    corners, seen = view.rectangles(box)
    if seen[0]:
        np.testing.assert_allclose(corners[0], expected, atol=1e-6)
    else:
        assert (high < 0).any() or (low > limit - 1e-9).any()


def test_what_is_partly_behind_the_lens_reaches_the_border() -> None:
    beside = boxes_of((1.0, -1.6, 0.0, 6.0, 1.8, 1.6, 0))
    corners, seen = View.of(CAMERA).rectangles(beside)
    assert seen[0]
    assert corners[0, 2] == 1279.5
    assert View.of(CAMERA).cut(corners)[0, 2:].all()


@pytest.mark.parametrize("yaw_deg", [0.0, 20.0, 65.0, 90.0, 130.0])
@pytest.mark.parametrize("x", [9.0, 22.0])
def test_a_car_is_found_where_it_is_before_a_wall(x: float, yaw_deg: float) -> None:
    car = boxes_of((x, 2.0, np.radians(yaw_deg), 4.4, 1.8, 1.5, 0))
    wall = boxes_of((x + 4.5, 0.0, np.pi / 2, 40.0, 0.4, 5.0, -1))
    found, rows = lift(scanned(car, wall), car)
    assert errors(found, car, rows)[0] < 0.35
    turn = (found.yaw[0] - car.yaw[0] + np.pi / 2) % np.pi - np.pi / 2
    assert abs(np.degrees(turn)) < 6
    assert abs(found.center[0, 2] - 0.75) < 0.25
    assert found.variance is not None
    sigma = np.sqrt(found.variance[0, :2].sum())
    assert errors(found, car, rows)[0] < 3 * sigma < 3.0


def test_a_pedestrian_before_a_car_takes_no_points_from_it_nor_it_from_him() -> None:
    scene = boxes_of((14.0, 0.0, np.pi / 2, 4.4, 1.8, 1.5, 0), (11.0, 0.3, 0.0, 0.6, 0.6, 1.75, 5))
    found, rows = lift(scanned(scene), scene)
    assert sorted(found.label) == [0, 5]
    assert errors(found, scene, rows).max() < 0.4


def test_a_car_behind_another_one_is_put_behind_it() -> None:
    scene = boxes_of((12.0, 1.0, 0.0, 4.4, 1.8, 1.5, 0), (20.0, 3.2, 0.0, 4.4, 1.8, 1.5, 0))
    found, rows = lift(scanned(scene), scene)
    assert errors(found, scene, rows).max() < 0.7


@pytest.mark.parametrize(("x", "label", "within"), [(8.0, 0, 0.6), (20.0, 0, 2.0), (10.0, 5, 0.6), (25.0, 5, 2.5)])
def test_without_a_lidar_ground_and_size_place_it(x: float, label: int, within: float) -> None:
    size = (4.3, 1.8, 1.6) if label == 0 else (0.75, 0.68, 1.76)
    one = boxes_of((x, -1.5, 0.0, *size, label))
    found, rows = lift(None, one)
    off = errors(found, one, rows)[0]
    assert off < within
    assert found.variance is not None
    assert off < 3 * np.sqrt(found.variance[0, :2].sum())
    near, rows = lift(scanned(one), one)
    assert near.variance is not None
    assert near.variance[0, :2].sum() < found.variance[0, :2].sum(), "the lidar knows better, and says so"


def test_one_object_of_two_cameras_is_told_of_once() -> None:
    car = boxes_of((12.0, 0.5, 0.0, 4.4, 1.8, 1.5, 0))
    turned = T_BASE_CAMERA.copy()
    c, s = np.cos(0.5), np.sin(0.5)
    turned[:3, :3] = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ T_BASE_CAMERA[:3, :3]
    cameras = {"front": CAMERA, "left": replace(CAMERA, T_base_camera=turned)}
    found = {name: detected(car, camera)[0] for name, camera in cameras.items()}
    assert all(len(each) for each in found.values())
    for sweep in (scanned(car), None):
        lifted = Lifter().lift(SensorFrame(0, cameras, sweep), found)
        assert len(lifted) == 1
        assert lifted.score[0] == 0.9


def test_two_that_stand_side_by_side_stay_two() -> None:
    boxes = boxes_of((10, 0, 0, 4.4, 1.8, 1.5, 0), (10, 2.4, 0, 4.4, 1.8, 1.5, 0), (10, 0.2, 0, 4.4, 1.8, 1.5, 1))
    certain = replace(boxes, variance=np.full((3, 9), 0.01))
    kept = merged(certain, np.array([0, 0, 0]), np.array([2.0, 2.0, 1.0]))
    assert kept.center[:, 1].tolist() == [0.0, 2.4], "a lorry in the car's place is the car"
    pedestrian = boxes_of((10, 0, 0, 0.7, 0.7, 1.7, 5), (10, 0.9, 0, 0.7, 0.7, 1.7, 5))
    pair = replace(pedestrian, variance=np.full((2, 9), 0.01))
    assert len(merged(pair, np.array([0, 0]), np.ones(2))) == 2


def test_a_rider_belongs_to_the_two_wheeler_and_who_walks_beside_it_does_not() -> None:
    corners = np.array([[100, 200, 220, 300], [130, 120, 190, 270], [300, 130, 350, 300]], float)
    labels = np.array([ObjectClass.BICYCLE, ObjectClass.PEDESTRIAN, ObjectClass.PEDESTRIAN])
    found = with_riders(ImageBoxes(corners, labels, np.array([0.9, 0.8, 0.7])))
    assert found.label.tolist() == [ObjectClass.BICYCLE, ObjectClass.PEDESTRIAN]
    assert found.corners[0].tolist() == [100, 120, 220, 300]


def test_nothing_comes_of_nothing() -> None:
    frame = SensorFrame(0, {"front": CAMERA}, LidarSweep(np.zeros((0, 4), np.float32), 0))
    assert len(Lifter().lift(frame, {})) == 0
    assert len(Lifter().lift(frame, {"front": ImageBoxes.empty()})) == 0


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.floats(-0.5, 1200), st.floats(-0.5, 650), st.floats(2, 900), st.floats(2, 600)), max_size=5),
    st.integers(0, 9),
    st.booleans(),
)
def test_any_rectangles_give_boxes_that_can_be(
    rows: list[tuple[float, float, float, float]], label: int, with_lidar: bool
) -> None:
    corners = np.array([[x, y, min(x + w, 1279.5), min(y + h, 719.5)] for x, y, w, h in rows]).reshape(-1, 4)
    rectangles = ImageBoxes(corners, np.full(len(corners), label), np.full(len(corners), 0.5))
    frame = SensorFrame(0, {"front": CAMERA}, SCANNED if with_lidar else None)
    found = Lifter().lift(frame, {"front": rectangles})
    assert len(found) <= len(rectangles)
    assert found.frame == "base_link"
    assert len(found) == 0 or (found.variance is not None and np.isfinite(found.variance).all())
    assert (np.abs(found.center[:, :2]) < 250).all()


SCANNED = scanned(boxes_of((12.0, 1.0, 0.3, 4.4, 1.8, 1.5, 0), (18.0, -4.0, 0.0, 0.7, 0.7, 1.7, 5)))


# Truth of the world, and of real frames.


def car_errors(frame: LabelledFrame, *, lidar: bool, masks: bool = False) -> np.ndarray:
    """(N, 3) of cars within 30 m: error, and by how many standard deviations x and y are off."""
    found: dict[str, ImageBoxes] = {}
    rows: set[int] = set()
    labels, sensors = frame.labels, frame.sensors
    for name, camera in sensors.cameras.items():
        if camera is None:
            continue
        rectangles, seen = detected(labels, camera)
        if masks:
            assert frame.object_id is not None
            rectangles, seen = outlined(labels, frame.masks[name], frame.object_id)
        keep = frame.points_inside[seen] > 0
        found[name] = rectangles[keep]
        rows |= set(seen[keep].tolist())
    lifted = Lifter().lift(sensors if lidar else replace(sensors, lidar=None), found)
    near = (labels.label == ObjectClass.CAR) & (np.linalg.norm(labels.center[:, :2], axis=1) < 30)
    result = []
    for row in sorted(rows & set(np.flatnonzero(near).tolist())):
        match = np.flatnonzero(np.abs(lifted.score - scores(labels)[row]) < 1e-9)
        if len(match):
            assert lifted.variance is not None
            off = lifted.center[match[0], :2] - labels.center[row, :2]
            result.append([np.linalg.norm(off), *np.abs(off) / np.sqrt(lifted.variance[match[0], :2])])
        else:
            result.append([np.inf] * 3)
    return np.array(result).reshape(-1, 3)


def outlined(labels: Boxes, mask: np.ndarray, object_id: np.ndarray) -> tuple[ImageBoxes, np.ndarray]:
    """Rectangles around what is visible of each object in a mask, as detectors draw them."""
    corners, rows = [], []
    for row, number in enumerate(object_id.tolist()):
        v, u = np.nonzero(mask == number)
        if labels.label[row] >= 0 and len(u) >= 60 and min(np.ptp(u), np.ptp(v)) >= 5:
            corners.append([u.min() - 0.5, v.min() - 0.5, u.max() + 0.5, v.max() + 0.5])
            rows.append(row)
    return ImageBoxes(np.array(corners).reshape(-1, 4), labels.label[rows], scores(labels)[rows]), np.array(rows, int)


@pytest.fixture(scope="module")
def world_frames() -> list[LabelledFrame]:
    from karp_perception.world.world_frames import WorldFrames, labelled

    frames = WorldFrames(7, ("straight", "roundabout", "intersection"), "nano", per_drive=2, spacing=2.0)
    return [labelled(sensors, truth) for sensors, truth in islice(iter(frames), 14)]


@pytest.mark.parametrize(("lidar", "most_m"), [(True, 0.5), (False, 2.5)])
def test_cars_of_the_world_come_to_their_places(world_frames: list[LabelledFrame], lidar: bool, most_m: float) -> None:
    found = np.concatenate([car_errors(frame, lidar=lidar, masks=True) for frame in world_frames])
    print(
        f"{len(found)} cars, median {np.median(found[:, 0]):.2f} m, 68 % within {np.quantile(found[:, 1:], 0.68):.2f}"
    )
    assert len(found) >= 12
    assert np.median(found[:, 0]) < most_m
    assert np.quantile(found[:, 1:], 0.68) < 1.5, "standard deviations are honest"


@pytest.fixture
def recorded() -> list[LabelledFrame]:
    if not FRAMES:
        pytest.skip(f"no labelled frames in {DATA}")
    return [load_labelled_frame(file.parent) for file in FRAMES]


@pytest.mark.parametrize(("lidar", "most_m"), [(True, 0.5), (False, 1.5)])
def test_real_cars_come_to_their_places(recorded: list[LabelledFrame], lidar: bool, most_m: float) -> None:
    found = np.concatenate([car_errors(frame, lidar=lidar) for frame in recorded])
    print(
        f"{len(found)} cars, median {np.median(found[:, 0]):.2f} m, 68 % within {np.quantile(found[:, 1:], 0.68):.2f}"
    )
    assert len(found) >= 12
    assert np.median(found[:, 0]) < most_m
    assert np.quantile(found[:, 1:], 0.68) < 2.0
