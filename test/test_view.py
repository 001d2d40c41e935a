"""Drawings: what is where in the pictures, compared with OpenCV's projections and with plain geometry."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from karp_perception.core import (
    Boxes,
    CameraFrame,
    ConfigurationError,
    Decision,
    DecisionKind,
    Distortion,
    DistortionModel,
    EgoState,
    LidarSweep,
    MotionSource,
    Objects,
    Plan,
    SensorFrame,
    Trajectory,
    Vehicle,
)
from karp_perception.core.geometry import invert_pose, pose_from_rotation, pose_from_xy_yaw
from karp_perception.view import corridor, relevance
from karp_perception.view import text as text_module
from karp_perception.view.birdseye import BirdsEye
from karp_perception.view.camera import Projection, draw_boxes, scaled
from karp_perception.view.drive_view import DriveView
from karp_perception.view.palette import DECISION_COLORS, TARGET
from karp_perception.view.text import draw_text, fitted, text_width, wrapped

K = np.array([[400.0, 0, 319.5], [0, 410.0, 179.5], [0, 0, 1]])
OPTICAL = np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])
T_BASE_CAMERA = pose_from_rotation(OPTICAL @ cv2.Rodrigues(np.array([0.03, 0.1, -0.02]))[0], (0.5, 0.1, 1.6))
LENSES = [
    Distortion(),
    Distortion(DistortionModel.PLUMB_BOB, (-0.2, 0.05, 0.001, -0.002, 0.0)),
    Distortion(DistortionModel.RATIONAL, (0.1, -0.05, 0.001, 0.002, 0.01, 0.05, -0.01, 0.002)),
    Distortion(DistortionModel.EQUIDISTANT, (0.01, -0.003, 0.001, 0.0)),
]


def boxes_at(*centers: tuple[float, float, float], size: tuple[float, float, float] = (4.0, 1.8, 1.5)) -> Boxes:
    n = len(centers)
    zeros = np.zeros(n)
    return Boxes(np.array(centers), np.tile(size, (n, 1)), zeros, np.zeros((n, 2)), zeros.astype(int), zeros + 1)


def objects_at(*centers: tuple[float, float, float]) -> Objects:
    n = len(centers)
    nothing = (np.zeros((n, 6, 6)), np.ones(n), np.zeros(n), np.zeros((n, 0, 0, 3)), np.zeros((n, 0)))
    return Objects(boxes_at(*centers), np.arange(1, n + 1), *nothing)


def straight(speed: float, seconds: float = 4.0) -> Trajectory:
    time = np.arange(0, seconds, 0.1)
    zeros = np.zeros_like(time)
    return Trajectory(time, speed * time, zeros, zeros, zeros + speed, zeros, zeros)


def result_of(
    kind: DecisionKind = DecisionKind.FOLLOW,
    objects: Objects | None = None,
    trajectory: Trajectory | None = None,
    target_id: int | None = None,
    distance_m: float | None = None,
    source: MotionSource = MotionSource.ODOMETRY,
    stamp_ns: int = 10**9,
) -> SimpleNamespace:
    decision = Decision(kind, "a car stands in the way", target_id, distance_m)
    return SimpleNamespace(
        stamp_ns=stamp_ns,
        ego=EgoState(stamp_ns, np.eye(4), np.array([5.0, 0.0]), 0.0, source),
        detections=Boxes.empty(),
        obstacles=Boxes.empty(),
        objects=objects or Objects.empty(),
        plan=Plan(stamp_ns, trajectory or Trajectory.empty(), decision),
        latency_ms={"total": 12.0},
    )


def camera_of(size: tuple[int, int] = (640, 360), T: np.ndarray = T_BASE_CAMERA, value: int = 90) -> CameraFrame:
    return CameraFrame(np.full((size[1], size[0], 3), value, np.uint8), K, T, 10**9)


def near(image: np.ndarray, color: tuple[int, int, int], tolerance: int = 40) -> np.ndarray:
    """Mask of pixels of about a colour."""
    return (np.abs(image.astype(int) - color) < tolerance).all(axis=-1)


@pytest.mark.parametrize("lens", LENSES, ids=lambda lens: lens.model.value)
def test_projection_equals_opencv(lens: Distortion):
    points = np.random.default_rng(0).uniform((4, -3, -1), (30, 3, 3), (50, 3))
    projection = Projection(K, T_BASE_CAMERA, lens, (640, 360))
    ours = projection.pixels(projection.in_camera(points))
    T = invert_pose(T_BASE_CAMERA)
    turn, move = cv2.Rodrigues(T[:3, :3])[0], T[:3, 3].copy()
    coefficients = np.array(lens.coefficients) if lens.coefficients else None
    if lens.model is DistortionModel.EQUIDISTANT:
        theirs, _ = cv2.fisheye.projectPoints(points[:, None], turn, move, K, coefficients)
    else:
        theirs, _ = cv2.projectPoints(points, turn, move, K, coefficients)
    seen = np.isfinite(ours).all(axis=1)
    assert seen.sum() > 40
    np.testing.assert_allclose(ours[seen], theirs.reshape(-1, 2)[seen], atol=1e-6)


@pytest.mark.parametrize("lens", LENSES, ids=lambda lens: lens.model.value)
def test_boxes_are_drawn_on_the_edges_opencv_projects(lens: Distortion):
    image = np.zeros((360, 640, 3), np.uint8)
    boxes = boxes_at((12.0, 1.0, 0.75))
    draw_boxes(image, boxes, K, T_BASE_CAMERA, distortion=lens, colors=[(255, 0, 0)])
    corners = boxes.corners()[0]
    edges = [(0, 1), (1, 2), (2, 3), (3, 0), (4, 5), (5, 6), (6, 7), (7, 4), (0, 4), (1, 5), (2, 6), (3, 7)]
    samples = np.concatenate(
        [corners[a] + np.linspace(0, 1, 60)[:, None] * (corners[b] - corners[a]) for a, b in edges]
    )
    T = invert_pose(T_BASE_CAMERA)
    turn, move, coefficients = cv2.Rodrigues(T[:3, :3])[0], T[:3, 3].copy(), np.array(lens.coefficients)
    if lens.model is DistortionModel.EQUIDISTANT:
        pixels, _ = cv2.fisheye.projectPoints(samples[:, None], turn, move, K, coefficients)
    else:
        pixels, _ = cv2.projectPoints(samples, turn, move, K, coefficients if len(coefficients) else None)
    expected = np.zeros(image.shape[:2], np.uint8)
    u, v = np.round(pixels.reshape(-1, 2)).astype(int).T
    expected[v, u] = 1
    lines = image[..., 0] > 100
    assert lines.sum() > 300
    assert not (lines & ~cv2.dilate(expected, np.ones((5, 5))).astype(bool)).any()
    assert not (expected.astype(bool) & ~cv2.dilate(lines.astype(np.uint8), np.ones((5, 5))).astype(bool)).any()


def test_a_box_that_reaches_behind_the_camera_is_cut_off_and_one_behind_it_is_not_drawn():
    beside = boxes_at((0.5, 2.5, 0.75), size=(30.0, 1.8, 1.5))
    image = np.zeros((360, 640, 3), np.uint8)
    draw_boxes(image, beside, K, T_BASE_CAMERA, texts=["truck"])
    left_half = image.any(axis=2)[:, :320].sum()
    assert left_half > 200
    # It stands on the left: nothing of it may appear mirrored on the right.
    assert not image.any(axis=2)[:, 480:].any()
    behind = np.zeros((360, 640, 3), np.uint8)
    draw_boxes(behind, boxes_at((-12.0, 0.0, 0.75)), K, T_BASE_CAMERA, texts=["car"])
    assert not behind.any()
    draw_boxes(behind, Boxes.empty(), K, T_BASE_CAMERA, texts=[])
    assert not behind.any()


def test_scaling_a_camera_moves_pixel_centres_as_resizing_does():
    frame = camera_of()
    point = np.array([[10.0, 1.0, 1.0]])
    full, half = (Projection.of(frame, size) for size in ((640, 360), (320, 180)))
    u, v = full.pixels(full.in_camera(point))[0]
    np.testing.assert_allclose(half.pixels(half.in_camera(point))[0], ((u + 0.5) / 2 - 0.5, (v + 0.5) / 2 - 0.5))
    spot = np.zeros((360, 640, 3), np.uint8)
    spot[100:104, 200:204] = 255
    rows, columns = np.nonzero(scaled(spot, (160, 90))[..., 0] > 200)
    assert (rows.tolist(), columns.tolist()) == ([25], [50])


def test_birdseye_has_ahead_up_and_left_left_in_metres():
    view = BirdsEye(Vehicle(), (400, 640), ahead=50, behind=14)
    np.testing.assert_allclose(view.pixels(np.array([0.0, 0.0])), (200, 500))
    np.testing.assert_allclose(view.pixels(np.array([50.0, 0.0])), (200, 0))
    np.testing.assert_allclose(view.pixels(np.array([0.0, 10.0])), (100, 500))
    image = view.draw(points=np.zeros((0, 4), np.float32))
    vehicle = Vehicle()
    for x, y in ((vehicle.front, 0.0), (-vehicle.rear, 0.0), (0.0, vehicle.width / 2), (0.0, -vehicle.width / 2)):
        u, v = np.round(view.pixels(np.array([x, y]))).astype(int)
        assert image[v - 1 : v + 2, u - 1 : u + 2].max() > 200
    assert not near(image[:380, 150:250], (232, 236, 242)).any()


def test_birdseye_points_lie_where_they_were_measured_and_standing_things_cover_ground():
    view = BirdsEye(Vehicle(), (400, 640))
    blank = view.draw(points=np.zeros((0, 4), np.float32))
    at = np.array(
        [[20.0, 5.0, 0.0, 0.5], [20.0, 5.0, 1.5, 0.5], [20.0, 5.0, 0.0, 0.5], [500.0, 0.0, 1.0, 0.5]], np.float32
    )
    image = view.draw(points=at)
    rows, columns = np.nonzero((image != blank).any(axis=2))
    assert list(zip(columns, rows, strict=True)) == [tuple(np.floor(view.pixels(at[0, :2])).astype(int))]
    assert image[rows[0], columns[0]].sum() > 350
    assert near(view.draw(points=None), TARGET).sum() > 30


def test_the_target_is_red_in_both_views_and_others_are_not():
    camera = camera_of()
    objects = objects_at((20.0, 0.0, 0.75), (20.0, 6.0, 0.75))
    view = DriveView(Vehicle())
    frame = SensorFrame(10**9, {"front": camera}, LidarSweep(np.zeros((0, 4), np.float32), 10**9))
    quiet = view.draw(frame, result_of(objects=objects))
    image = view.draw(frame, result_of(objects=objects, target_id=1, distance_m=15.1))
    above = view._birdseye
    left, top = image.shape[1] - above.size[0] - 8, image.shape[0] - above.size[1] - 8
    u, v = np.round(above.pixels(objects.boxes.center[0, :2]) + np.array([left, top])).astype(int)
    region = np.s_[v - 18 : v + 18, u - 9 : u + 9]
    assert near(image[region], TARGET).sum() > 20
    assert not near(quiet[region], TARGET).any()
    u, v = np.round(above.pixels(objects.boxes.center[1, :2]) + np.array([left, top])).astype(int)
    assert not near(image[v - 18 : v + 18, u - 9 : u + 9], TARGET).any()
    cameras = np.s_[80:540, : left - 8]
    assert near(image[cameras], TARGET).sum() > 200
    assert not near(quiet[cameras], TARGET).any()


@pytest.mark.parametrize("kind", DecisionKind)
def test_the_banner_has_the_colour_of_the_decision(kind: DecisionKind):
    image = DriveView(Vehicle()).draw(SensorFrame(12 * 10**8), result_of(kind, stamp_ns=12 * 10**8))
    assert near(image[:74, :320], DECISION_COLORS[kind], 12).mean() > 0.2


def test_an_emergency_stop_flashes():
    view = DriveView(Vehicle())
    corners = {
        tuple(view.draw(SensorFrame(ns), result_of(DecisionKind.EMERGENCY_STOP, stamp_ns=ns))[2, 2].tolist())
        for ns in range(10**9, 2 * 10**9, 10**8)
    }
    assert len(corners) == 2
    assert all(red > 120 and green < 60 for red, green, _ in corners)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 6])
@pytest.mark.parametrize("size", [(1280, 720), (1600, 640), (641, 363)])
def test_any_number_of_cameras_present_or_lost_fits(count: int, size: tuple[int, int]):
    bearings = (0.0, 1.0, -1.0, 2.0, -2.0, 3.0)
    turns = [pose_from_rotation(pose_from_xy_yaw(0, 0, a)[:3, :3] @ OPTICAL, (0, 0, 1.6)) for a in bearings]
    shapes = ((640, 360), (1242, 375), (300, 400))
    cameras = {f"camera{i}": camera_of(shapes[i % 3], turns[i]) for i in range(count)}
    view = DriveView(Vehicle(), size)
    seen = view.draw(SensorFrame(10**9, cameras), result_of(trajectory=straight(5.0)))
    assert seen.shape == (size[1], size[0], 3)
    assert seen.dtype == np.uint8
    assert near(seen, (90, 90, 90), 3).any() == (count > 0)
    lost = view.draw(SensorFrame(10**9, dict.fromkeys(cameras)), result_of(source=MotionSource.NONE))
    assert not near(lost, (90, 90, 90), 3).any()
    assert near(lost[80:], TARGET).sum() > 20


def test_pictures_do_not_depend_on_what_the_caller_does_with_them():
    frame, result = SensorFrame(10**9, {"front": camera_of()}), result_of(trajectory=straight(6.0), distance_m=9.0)
    first = DriveView(Vehicle()).draw(frame, result)
    view = DriveView(Vehicle())
    view.draw(frame, result)[:] = 0
    np.testing.assert_array_equal(view.draw(frame, result), first)
    assert (frame.cameras["front"].image == 90).all()


def test_too_small_pictures_are_refused():
    with pytest.raises(ConfigurationError, match="640 x 360"):
        DriveView(Vehicle(), (320, 240))


def test_the_corridor_is_as_wide_as_the_vehicle_and_the_gap_is_measured_from_the_bumper():
    vehicle = Vehicle()
    path = corridor.resampled(straight(5.0))
    left, right = corridor.edges(path, vehicle)
    np.testing.assert_allclose(np.linalg.norm(left - right, axis=1), vehicle.width)
    assert left[0, 0] == pytest.approx(vehicle.front)
    for distance in (0.0, 7.0, 60.0):
        ends = corridor.bar(path, vehicle, distance)
        np.testing.assert_allclose(ends[:, 0], vehicle.front + distance)
        np.testing.assert_allclose(ends.mean(axis=0)[1], 0, atol=1e-12)
    assert len(corridor.resampled(Trajectory.empty())) == 0
    assert len(corridor.resampled(straight(0.0))) == 0


def test_a_bar_on_a_bend_lies_on_the_circle_of_the_bumper():
    radius, vehicle = 20.0, Vehicle()
    angle = np.linspace(0, 1.2, 200)
    zeros = np.zeros_like(angle)
    bend = Trajectory(
        angle * 4, radius * np.sin(angle), radius * (1 - np.cos(angle)), angle, zeros + 5, zeros, zeros + 1 / radius
    )
    x, y, yaw = corridor.point_ahead(corridor.resampled(bend), vehicle, 8.0)
    outer = np.hypot(radius, vehicle.front)
    assert np.hypot(x, y - radius) == pytest.approx(outer, abs=0.01)
    assert yaw == pytest.approx(8.0 / outer, abs=0.01)


def test_text_is_placed_by_its_alignment_cut_at_the_edge_and_shortened_to_fit():
    width = text_width("speed 12 km/h", 16)
    boxes = {}
    for align in ("left", "center", "right"):
        image = np.zeros((40, 400, 3), np.uint8)
        assert draw_text(image, "speed 12 km/h", (200, 25), (255, 255, 255), 16, align=align) == width
        columns = np.flatnonzero(image.any(axis=(0, 2)))
        boxes[align] = (columns[0], columns[-1])
    assert boxes["left"][0] == pytest.approx(200, abs=3)
    assert boxes["right"][1] == pytest.approx(200, abs=3)
    assert sum(boxes["center"]) / 2 == pytest.approx(200, abs=3)
    for at in ((-20, 5), (395, 38), (500, 500), (-900, -900)):
        draw_text(np.zeros((40, 400, 3), np.uint8), "edge", at, (255, 255, 255), 16)
    long = "a sentence that is far too long for the room it has been given"
    assert text_width(fitted(long, 120, 14), 14) <= 120
    assert fitted(long, 120, 14).endswith("...")
    lines = wrapped(long, 160, 14, lines=3)
    assert 2 <= len(lines) <= 3
    assert all(text_width(line, 14) <= 160 for line in lines)


def test_stroke_fonts_stand_in_where_opencv_has_no_outline_fonts(monkeypatch: pytest.MonkeyPatch):
    for cached in (text_module._word, text_module._line):
        cached.cache_clear()
    monkeypatch.setattr(text_module, "_HAS_OUTLINES", False)
    image = np.zeros((40, 400, 3), np.uint8)
    width = draw_text(image, "car 12 · 8 m/s²", (10, 25), (255, 255, 255), 16, weight=700)
    columns = np.flatnonzero(image.any(axis=(0, 2)))
    assert columns[0] == pytest.approx(10, abs=3)
    assert columns[-1] == pytest.approx(10 + width, abs=4)
    for cached in (text_module._word, text_module._line):
        cached.cache_clear()


def test_things_without_a_class_are_named_only_in_the_way_and_move_only_beyond_doubt():
    objects = objects_at((15.0, 0.0, 0.75), (15.0, 9.0, 0.75), (15.0, -9.0, 0.75), (-15.0, 0.0, 0.75))
    unknown = replace(objects.boxes, label=np.full(4, -1), velocity=np.array([[3.0, 0], [0, 0], [3.0, 0], [0, 0.2]]))
    covariance = np.zeros((4, 6, 6))
    covariance[2, 4, 4] = 2.0
    objects = replace(objects, boxes=unknown, covariance=covariance)
    path = corridor.resampled(straight(6.0))
    assert relevance.relevant(objects, path, Vehicle(), None).tolist() == [True, False, False, False]
    assert relevance.relevant(objects, np.zeros((0, 4)), Vehicle(), 2).tolist() == [True, True, False, False]
    assert relevance.moving(objects).tolist() == [True, False, False, False]
    cars = replace(objects, boxes=replace(unknown, label=np.zeros(4, int)))
    assert relevance.relevant(cars, path, Vehicle(), None).all()
