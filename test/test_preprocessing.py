"""Images and canvas against slow, independent ways to make them."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest
from small_model import SMALL, camera, looking, sweep

from karp_perception.core import CameraFrame, Distortion, DistortionModel, InvalidInput, LidarSweep
from karp_perception.core.geometry import invert_pose, project_points, transform_points
from karp_perception.detection.model.config import NANO
from karp_perception.detection.preprocessing import (
    canvas_of,
    choose_cameras,
    ground_height,
    image_cut,
    place_cameras,
)


def naive_canvas(cloud: LidarSweep, ground: np.ndarray) -> np.ndarray:
    """The canvas by a loop over points, in float64."""
    nx, ny = SMALL.canvas_cells
    edges = SMALL.height_edges_m
    bins = len(edges) - 1
    cells: dict[tuple[int, int], list[tuple[float, ...]]] = {}
    time = cloud.time if cloud.time is not None else np.zeros(len(cloud.points))
    for (x, y, z, intensity), t in zip(cloud.points.astype(np.float64), time, strict=True):
        u, v = (x - SMALL.x_range_m[0]) / SMALL.cell_m, (y - SMALL.y_range_m[0]) / SMALL.cell_m
        i, j = int(np.floor(u)), int(np.floor(v))
        if 0 <= i < nx and 0 <= j < ny:
            height = z - ground[i, j]
            if edges[0] <= height < edges[-1]:
                cells.setdefault((i, j), []).append((height, min(max(intensity, 0), 1), u - i, v - j, t))
    canvas = np.zeros((SMALL.canvas_channels, nx, ny))
    for (i, j), points in cells.items():
        rows = np.array(points)
        counts = np.histogram(rows[:, 0], edges)[0]
        canvas[:bins, i, j] = np.log1p(np.minimum(counts, 255))
        means = rows.mean(axis=0)
        heights = (rows[:, 0].max() / 2, means[0] / 2, ground[i, j] / 2)
        canvas[bins:, i, j] = (*heights, means[1], 2 * means[2] - 1, 2 * means[3] - 1, 10 * means[4])
    return canvas


def cells_of(cloud: LidarSweep) -> tuple[np.ndarray, np.ndarray]:
    nx, ny = SMALL.canvas_cells
    i = np.floor((cloud.points[:, 0] - SMALL.x_range_m[0]) / SMALL.cell_m).astype(int)
    j = np.floor((cloud.points[:, 1] - SMALL.y_range_m[0]) / SMALL.cell_m).astype(int)
    inside = (i >= 0) & (i < nx) & (j >= 0) & (j < ny)
    return i[inside] * ny + j[inside], cloud.points[inside, 2]


@pytest.mark.parametrize("seed", range(4))
def test_canvas_equals_a_loop_over_points(seed: int) -> None:
    # Away from the edges of cells and bins, where float32 and float64 may disagree which side a point is on.
    rng = np.random.default_rng(seed)
    points = rng.uniform((-9, -15, -0.5, -0.2), (22, 15, 6, 1.4), (3000, 4))
    points[:, :2] = np.floor(points[:, :2] / 0.4) * 0.4 + 0.2 + rng.uniform(-0.19, 0.19, (3000, 2))
    time = rng.uniform(-0.2, 0.2, 3000).astype(np.float32) if seed % 2 else None
    cloud = LidarSweep(points.astype(np.float32), 0, time)
    ground = ground_height(*cells_of(cloud), SMALL)
    edges, heights = np.array(SMALL.height_edges_m), points[:, 2:3]
    i, j = ((points[:, :2] - (SMALL.x_range_m[0], SMALL.y_range_m[0])) // 0.4).astype(int).T
    in_grid = (i >= 0) & (i < ground.shape[0]) & (j >= 0) & (j < ground.shape[1])
    level = np.where(in_grid, ground[np.clip(i, 0, ground.shape[0] - 1), np.clip(j, 0, ground.shape[1] - 1)], 0.0)
    clear = np.abs(heights - level[:, None] - edges).min(axis=1) > 1e-4
    time = None if cloud.time is None else cloud.time[clear]
    # The ground may differ once points are left out: it is taken anew.
    cloud = LidarSweep(cloud.points[clear], 0, time)
    ground = ground_height(*cells_of(cloud), SMALL)
    np.testing.assert_allclose(canvas_of(cloud, SMALL), naive_canvas(cloud, ground), rtol=1e-4, atol=2e-4)


def test_canvas_of_points_out_of_range_is_empty() -> None:
    points = np.array([[500.0, 0, 0, 1], [0, 500, 0, 1], [-500, -500, 0, 1], [3, 3, 90, 1]], np.float32)
    assert not canvas_of(LidarSweep(points, 0), SMALL).any()


def test_order_of_points_does_not_matter() -> None:
    rng = np.random.default_rng(3)
    cloud = sweep(rng)
    order = rng.permutation(len(cloud.points))
    assert cloud.time is not None
    shuffled = LidarSweep(cloud.points[order], 0, cloud.time[order])
    np.testing.assert_allclose(canvas_of(cloud, NANO), canvas_of(shuffled, NANO), rtol=1e-5, atol=1e-6)


def street(rng: np.random.Generator, slope: float, count: int = 60000) -> np.ndarray:
    """(N, 3) a road that rises along x, dense enough for every cell."""
    x, y = rng.uniform(*NANO.x_range_m, count), rng.uniform(*NANO.y_range_m, count)
    return np.column_stack([x, y, slope * x + 0.02 * rng.standard_normal(count)])


def nano_ground(points: np.ndarray) -> np.ndarray:
    i = ((points[:, 0] - NANO.x_range_m[0]) / NANO.cell_m).astype(int)
    j = ((points[:, 1] - NANO.y_range_m[0]) / NANO.cell_m).astype(int)
    return ground_height(i * NANO.canvas_cells[1] + j, points[:, 2].astype(np.float32), NANO)


@pytest.mark.parametrize("slope", [0.0, 0.05, -0.08])
def test_ground_follows_a_slope_under_vehicles_and_despite_reflections(slope: float) -> None:
    rng = np.random.default_rng(0)
    points = street(rng, slope)
    lorry = (np.abs(points[:, 0] - 20) < 6) & (np.abs(points[:, 1] - 3) < 1.3)
    points[lorry, 2] += 3.0  # its roof; nothing is seen below
    below = rng.random(len(points)) < 0.005
    points[below, 2] -= 2.0
    ground = nano_ground(points)
    x = NANO.x_range_m[0] + (np.arange(NANO.canvas_cells[0]) + 0.5) * NANO.cell_m
    error = ground - slope * x[:, None]
    # A square is 3.2 m long: on a slope its low end lies lower by half of that times the slope.
    assert np.percentile(np.abs(error), 99) < 0.15 + 2.5 * abs(slope)
    i, j = int((20 - NANO.x_range_m[0]) / NANO.cell_m), int((3 - NANO.y_range_m[0]) / NANO.cell_m)
    assert error[i - 10 : i + 10, j - 2 : j + 2].max() < 0.8


@pytest.mark.parametrize("count", [1, 3, 12])
def test_reflections_where_nothing_else_is_seen_pull_no_ground_down(count: int) -> None:
    """As a recording of a wet road between lorries has them: all that a hidden square shows lies deep below it."""
    rng = np.random.default_rng(1)
    points = street(rng, 0.0)
    hidden = (np.abs(points[:, 0] - 22) < 5) & (np.abs(points[:, 1] - 5) < 5)
    mirrored = np.column_stack([rng.uniform(21.8, 23.2, count), rng.uniform(4.2, 5.2, count), np.full(count, -3.9)])
    ground = nano_ground(np.vstack([points[~hidden], mirrored, np.tile([0.0, 0.0, 0.0], (1, 1))]))
    assert np.abs(ground).max() < 0.5


SIZES = [(375, 1242), (900, 1600), (480, 640), (64, 120), (1536, 2048), (300, 300)]


@pytest.mark.parametrize("shape", SIZES)
def test_a_dot_in_the_image_is_where_the_new_intrinsics_say(shape: tuple[int, int]) -> None:
    height, width = shape
    K = np.array([[0.7 * width, 0, 0.52 * width], [0, 0.7 * width, 0.48 * height], [0, 0, 1]])
    pose = looking(0.2)
    points = np.array([[14.0, 4.5, 1.2], [11.0, -0.5, 1.0], [17.0, 3.0, 1.5]])
    local = transform_points(invert_pose(pose), points)
    for point in local:
        (pixel,), _ = project_points(point[None], K)
        v, u = np.mgrid[:height, :width]
        radius = max(2.0, width / 150)
        image = (255 * np.exp(-((u - pixel[0]) ** 2 + (v - pixel[1]) ** 2) / (2 * radius**2))).astype(np.uint8)
        frame = CameraFrame(np.repeat(image[..., None], 3, axis=2), K, pose, 0)
        rig, images = place_cameras({"a": frame}, NANO)
        (expected,), _ = project_points(point[None], rig.intrinsics[0, 0].astype(np.float64))
        plane = images[0, 0, 1] - np.median(images[0, 0, 1])
        # The padding below a low image is lower than black would be: zeros are the mean grey.
        plane = np.where(plane > 0.3 * plane.max(), plane, 0.0)
        rows = image_cut(frame, NANO).rows
        plane[rows:] = 0.0
        y, x = np.mgrid[: NANO.image_height, : NANO.image_width]
        found = np.array([(plane * x).sum(), (plane * y).sum()]) / plane.sum()
        np.testing.assert_allclose(found, expected, atol=0.4)


@pytest.mark.parametrize("shape", SIZES[:3])
def test_images_are_close_to_area_averages_and_normalised(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    smooth = cv2.GaussianBlur(rng.integers(0, 256, (*shape, 3), dtype=np.uint8), (0, 0), 3)
    K = np.array([[shape[1], 0, shape[1] / 2], [0, shape[1], shape[0] / 2], [0, 0, 1.0]])
    frame = CameraFrame(smooth, K, looking(0), 0)
    _, images = place_cameras({"a": frame}, NANO)
    cut = image_cut(frame, NANO)
    area = cv2.resize(smooth[cut.top : cut.bottom], (NANO.image_width, cut.rows), interpolation=cv2.INTER_AREA)
    expected = (area / 255.0 - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)
    got = images[0, 0, :, : cut.rows].transpose(1, 2, 0)
    assert np.abs(got - expected).mean() < 0.02
    assert not images[0, 0, :, cut.rows :].any()
    assert not images[0, 1:].any()


def test_a_tall_image_is_cut_around_the_horizon() -> None:
    rng = np.random.default_rng(0)
    frame = camera(rng, 0.0, (600, 800))
    pitched = frame.T_base_camera.copy()
    angle = np.radians(5)  # nose down: the horizon moves up in the image
    c, s = np.cos(angle), np.sin(angle)
    pitched[:3, :3] = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]]) @ pitched[:3, :3]
    for pose in (frame.T_base_camera, pitched):
        cut = image_cut(dataclasses.replace(frame, T_base_camera=pose), NANO)
        level = invert_pose(pose)[:3, :3] @ np.array([1000.0, 0, 0])
        row = cut.intrinsics[1, 1] * level[1] / level[2] + cut.intrinsics[1, 2]
        assert row == pytest.approx(NANO.horizon_fraction * NANO.image_height, abs=1.0)


def test_a_camera_that_looks_down_is_cut_in_the_middle() -> None:
    rng = np.random.default_rng(0)
    down = np.array([[0.0, -1, 0, 0], [-1, 0, 0, 0], [0, 0, -1, 3], [0, 0, 0, 1]])
    frame = dataclasses.replace(camera(rng, 0.0, (600, 800)), T_base_camera=down)
    cut = image_cut(frame, NANO)
    assert 0 < cut.top < cut.bottom < 600


def test_cameras_are_chosen_by_where_they_look_whatever_their_names() -> None:
    rng = np.random.default_rng(0)
    yaws = np.radians([0, 55, -55, 110, -110, 180])
    ring = [camera(rng, yaw, (20, 40)) for yaw in yaws]
    names = ["c", "f", "a", "e", "b", "d"]
    chosen = choose_cameras(dict(zip(names, ring, strict=True)), 3)
    assert chosen == ("c", "f", "a")  # ahead, left, right
    assert choose_cameras(dict(zip(sorted(names), ring, strict=True)), 3) == ("a", "b", "c")
    assert choose_cameras({"x": ring[5], "y": None, "z": ring[0]}, 3) == ("z", "x")


def test_a_stereo_pair_does_not_push_out_the_side_camera() -> None:
    rng = np.random.default_rng(0)
    cameras = {
        "right_eye": camera(rng, 0.0, (20, 40), y=-0.3), "left_eye": camera(rng, 0.0, (20, 40), y=0.3),
        "side": camera(rng, 1.5, (20, 40)),
    }  # fmt: skip
    assert choose_cameras(cameras, 2) == ("left_eye", "side")
    assert choose_cameras(cameras, 3) == ("left_eye", "right_eye", "side")


def test_distorted_image_is_refused() -> None:
    frame = camera(np.random.default_rng(0), 0.0)
    distorted = dataclasses.replace(frame, distortion=Distortion(DistortionModel.PLUMB_BOB, (0.1, 0, 0, 0, 0)))
    with pytest.raises(InvalidInput, match="camera 'front': expected a rectified image"):
        place_cameras({"front": distorted}, NANO)


def test_rigs_are_equal_when_their_calibration_is() -> None:
    rng = np.random.default_rng(0)
    a, b = camera(rng, 0.0), camera(rng, 0.0)
    moved = camera(rng, 0.0, x=0.01)
    key = place_cameras({"one": a}, NANO)[0].key()
    assert place_cameras({"two": b}, NANO)[0].key() == key
    assert place_cameras({"one": moved}, NANO)[0].key() != key
    assert place_cameras({}, NANO)[0].key() != key
