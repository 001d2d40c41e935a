"""Mirroring, turning, scaling and tilting: pixels, points and boxes belong together before and after."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from labelled_scenes import scene

from karp_perception.core import CameraFrame, Distortion, DistortionModel, SensorFrame
from karp_perception.detection.training.augmentation import AugmentationSettings, augment, geometric
from karp_perception.detection.training.augmentation.augment import placed
from karp_perception.detection.training.augmentation.cameras import enlarged, shrunk, zoomed
from karp_perception.detection.training.augmentation.settings import ImageSettings, PlaceSettings
from karp_perception.sensing.labelled_frame import LabelledFrame, load_labelled_frame

LENSES = {
    "none": Distortion(),
    "plumb_bob": Distortion(DistortionModel.PLUMB_BOB, (-0.2, 0.05, 0.01, -0.008, 0.002)),
    "rational": Distortion(
        DistortionModel.RATIONAL,
        (0.1, -0.02, 0.006, 0.01, 0.003, 0.05, 0.01, 0.002, 0.003, 0.001, -0.004, 0.002, 0.02, -0.03),
    ),
    "equidistant": Distortion(DistortionModel.EQUIDISTANT, (0.05, -0.01, 0.002, 0.0005)),
}


def pixels(camera: CameraFrame, points: np.ndarray) -> np.ndarray:
    """(N, 2) by OpenCV, of points (N, 3) in base_link."""
    T = np.linalg.inv(camera.T_base_camera)
    turn, _ = cv2.Rodrigues(T[:3, :3])
    coefficients = np.array(camera.distortion.coefficients)
    points = np.ascontiguousarray(points, float)[:, None]
    if camera.distortion.model is DistortionModel.EQUIDISTANT:
        result, _ = cv2.fisheye.projectPoints(points, turn, T[:3, 3], camera.intrinsics, coefficients)
    else:
        result, _ = cv2.projectPoints(points, turn, T[:3, 3], camera.intrinsics, coefficients)
    return result[:, 0]


def with_lens(frame: LabelledFrame, lens: Distortion) -> LabelledFrame:
    sensors = frame.sensors
    cameras = {name: replace(camera, distortion=lens) for name, camera in sensors.cameras.items()}
    return replace(frame, sensors=SensorFrame(sensors.stamp_ns, cameras, sensors.lidar, sensors.ego))


def same_frame(a: LabelledFrame, b: LabelledFrame) -> None:
    """Asserts that two frames hold the same numbers, but for rounding."""
    np.testing.assert_allclose(a.sensors.lidar.points, b.sensors.lidar.points, atol=1e-4)
    for name in ("center", "size", "velocity", "label"):
        np.testing.assert_allclose(getattr(a.labels, name), getattr(b.labels, name), atol=1e-6)
    np.testing.assert_allclose(np.exp(1j * a.labels.yaw), np.exp(1j * b.labels.yaw), atol=1e-6)
    for name, camera in a.sensors.cameras.items():
        other = b.sensors.cameras[name]
        np.testing.assert_array_equal(camera.image, other.image)
        np.testing.assert_allclose(camera.T_base_camera, other.T_base_camera, atol=1e-9)
        np.testing.assert_allclose(camera.intrinsics, other.intrinsics, atol=1e-9)
        np.testing.assert_allclose(camera.distortion.coefficients, other.distortion.coefficients)
        np.testing.assert_array_equal(a.masks[name], b.masks[name])
    np.testing.assert_allclose(a.sensors.ego.T_odom_base, b.sensors.ego.T_odom_base, atol=1e-9)
    np.testing.assert_allclose(a.sensors.ego.velocity, b.sensors.ego.velocity, atol=1e-9)
    np.testing.assert_allclose(a.unlabelled, b.unlabelled, atol=1e-9)


@pytest.mark.parametrize("lens", LENSES)
def test_a_mirrored_world_projects_to_the_mirrored_pixels(lens: str) -> None:
    frame = with_lens(scene(), LENSES[lens])
    flipped = geometric.flip(frame)
    for name, camera in frame.sensors.cameras.items():
        other = flipped.sensors.cameras[name]
        assert np.linalg.det(other.T_base_camera[:3, :3]) == pytest.approx(1.0)
        before = pixels(camera, frame.labels.center)
        after = pixels(other, flipped.labels.center)
        np.testing.assert_allclose(after[:, 0], camera.image.shape[1] - 1 - before[:, 0], atol=1e-6)
        np.testing.assert_allclose(after[:, 1], before[:, 1], atol=1e-6)
        np.testing.assert_array_equal(other.image, camera.image[:, ::-1])
        np.testing.assert_array_equal(flipped.masks[name], frame.masks[name][:, ::-1])


def test_corners_of_mirrored_boxes_are_the_mirrored_corners() -> None:
    frame = scene()
    flipped = geometric.flip(frame)
    mirrored = frame.labels.corners() * (1, -1, 1)
    # Left and right corners change places.
    np.testing.assert_allclose(flipped.labels.corners(), mirrored[:, [3, 2, 1, 0, 7, 6, 5, 4]], atol=1e-9)
    np.testing.assert_allclose(flipped.labels.velocity, frame.labels.velocity * (1, -1))
    ego, other = frame.sensors.ego, flipped.sensors.ego
    assert other.yaw_rate == -ego.yaw_rate
    np.testing.assert_allclose(other.velocity, ego.velocity * (1, -1))
    # A place is the mirror of itself in odom, too.
    place = np.array([3.0, -2.0, 1.0, 1.0])
    np.testing.assert_allclose(
        other.T_odom_base @ (place * (1, -1, 1, 1)), (ego.T_odom_base @ place) * (1, -1, 1, 1), atol=1e-9
    )


@pytest.mark.parametrize("lens", LENSES)
def test_mirrored_twice_is_what_it_was(lens: str) -> None:
    frame = with_lens(scene(), LENSES[lens])
    same_frame(geometric.flip(geometric.flip(frame)), frame)


@given(
    yaw=st.floats(-3.1, 3.1),
    tilt=st.tuples(st.floats(-0.05, 0.05), st.floats(-0.05, 0.05)),
    shift=st.tuples(*[st.floats(-2, 2)] * 3),
    scale=st.floats(0.8, 1.25),
)
@settings(max_examples=30, deadline=None)
def test_moved_centres_stay_on_their_pixels_and_points_with_their_boxes(
    yaw: float, tilt: tuple[float, float], shift: tuple[float, float, float], scale: float
) -> None:
    frame = scene()
    T = geometric.pose_change(yaw, *tilt, shift)
    moved = geometric.moved(frame, T, scale)
    for name, camera in frame.sensors.cameras.items():
        other = moved.sensors.cameras[name]
        np.testing.assert_allclose(
            pixels(other, moved.labels.center), pixels(camera, frame.labels.center), atol=1e-5, rtol=1e-7
        )
        np.testing.assert_array_equal(other.image, camera.image)
    # Upright boxes do not lean with their points: at half the length from the middle, by a share of the tilt.
    slack = 0.5 * scale * frame.labels.size.max() * np.tan(np.hypot(*tilt)) * 2 + 1e-3
    inside = frame.labels.contains(frame.sensors.lidar.points)
    assert inside.sum() > 100
    assert moved.labels.contains(moved.sensors.lidar.points, slack)[inside].all()
    np.testing.assert_allclose(moved.labels.size, scale * frame.labels.size)


@given(yaw=st.floats(-3.1, 3.1), scale=st.floats(0.8, 1.25))
@settings(max_examples=20, deadline=None)
def test_a_turn_keeps_counts_and_where_objects_will_be(yaw: float, scale: float) -> None:
    frame = scene()
    T = geometric.pose_change(yaw, 0.0, 0.0, (1.0, 2.0, 0.1))
    moved = geometric.moved(frame, T, scale)
    # A second later: moved and then driven on is driven on and then moved.
    later = frame.labels.center.copy()
    later[:, :2] += frame.labels.velocity
    expected = scale * later @ T[:3, :3].T + T[:3, 3]
    np.testing.assert_allclose(moved.labels.center[:, :2] + moved.labels.velocity, expected[:, :2], atol=1e-9)
    # In odom all lengths are scaled about its origin.
    before = frame.sensors.ego.T_odom_base @ np.c_[frame.labels.center, np.ones(len(frame.labels))].T
    after = moved.sensors.ego.T_odom_base @ np.c_[moved.labels.center, np.ones(len(frame.labels))].T
    np.testing.assert_allclose(after[:3], scale * before[:3], atol=1e-6)
    shrunk, grown = (moved.labels.contains(moved.sensors.lidar.points, m).sum(axis=1) for m in (-1e-3, 1e-3))
    assert (shrunk <= frame.points_inside).all()
    assert (frame.points_inside <= grown).all()


def test_moved_there_and_back_is_what_it_was() -> None:
    frame = scene()
    T = geometric.pose_change(1.1, 0.0, 0.0, (1.0, -2.0, 0.3))
    back = np.linalg.inv(T)
    back[:3, 3] /= 1.2
    same_frame(geometric.moved(geometric.moved(frame, T, 1.2), back, 1 / 1.2), frame)


def test_settings_of_none_give_the_same_frame() -> None:
    frame = scene()
    assert augment(frame, np.random.default_rng(0), AugmentationSettings.none()) is frame


def test_placing_keeps_within_its_settings() -> None:
    frame = scene()
    settings_ = PlaceSettings(flip=0, rotation=0.2, any_rotation=0, scale=0.1, shift=0, height=0, tilt=0)
    for seed in range(20):
        moved = placed(frame, np.random.default_rng(seed), settings_)
        factor = moved.labels.size[0, 0] / frame.labels.size[0, 0]
        turn = np.angle(np.exp(1j * (moved.labels.yaw - frame.labels.yaw)))
        assert 0.9 <= factor <= 1.1
        assert np.ptp(turn) < 1e-9
        assert abs(turn[0]) <= 0.2


@given(factor=st.floats(1.0, 3.0), x=st.floats(0, 1), y=st.floats(0, 1))
@settings(max_examples=30, deadline=None)
def test_an_enlarged_image_is_what_its_camera_matrix_says(factor: float, x: float, y: float) -> None:
    camera = scene().sensors.cameras["front"]
    # A picture of its own columns and rows: every pixel tells where it came from.
    height, width = camera.image.shape[:2]
    v, u = np.mgrid[:height, :width]
    source = np.stack([u * 255 / width, v * 255 / height, 0 * u], axis=-1).round().astype(np.uint8)
    near = enlarged(replace(camera, image=source), factor, np.array([x, y]))
    K, K_near = camera.intrinsics, near.intrinsics
    rng = np.random.default_rng(0)
    for column, row in rng.integers(2, (width - 2, height - 2), (50, 2)):
        ray = np.linalg.inv(K_near) @ (column, row, 1.0)
        from_column, from_row, _ = K @ ray
        # The corner of the part that is shown lies in the image.
        assert -0.51 <= from_column <= width - 0.49
        assert -0.51 <= from_row <= height - 0.49
        np.testing.assert_allclose(
            near.image[row, column, :2], (from_column * 255 / width, from_row * 255 / height), atol=2.5
        )


def test_a_shrunk_image_shows_boxes_at_the_same_share_of_it() -> None:
    frame = scene()
    small = shrunk(frame, 200)
    for name, camera in frame.sensors.cameras.items():
        other = small.sensors.cameras[name]
        size, small_size = (np.array(c.image.shape[1::-1]) for c in (camera, other))
        assert small_size[0] == 200
        before, after = pixels(camera, frame.labels.center), pixels(other, frame.labels.center)
        np.testing.assert_allclose((after + 0.5) / small_size, (before + 0.5) / size, atol=1e-9)
        for number in frame.object_id:
            share, small_share = (np.mean(m == number) for m in (frame.masks[name], small.masks[name]))
            assert small_share == pytest.approx(share, abs=2e-3)
    assert shrunk(frame, 352) is frame


def test_masks_are_enlarged_with_their_images() -> None:
    frame = scene()
    near = zoomed(frame, np.random.default_rng(3), ImageSettings(zoom=1.0, most_zoom=1.5))
    mask, image = near.masks["front"], near.sensors.cameras["front"].image
    # The scene paints every object in a colour of its own.
    for number in np.unique(mask[mask > 0]):
        inner = cv2.erode((mask == number).astype(np.uint8), np.ones((5, 5))) > 0
        before = frame.sensors.cameras["front"].image[frame.masks["front"] == number][0]
        if inner.any():
            np.testing.assert_allclose(np.median(image[inner], axis=0), before, atol=1)
    assert set(np.unique(mask)) <= {0, *frame.object_id.tolist()}


@pytest.mark.data
@pytest.mark.parametrize("name", ["kitti_000008", "nuscenes_n015", "sustech_000965"])
def test_recorded_frames_stay_consistent(recorded_data, name: str) -> None:  # type: ignore[no-untyped-def]
    frame = load_labelled_frame(recorded_data / "labelled" / name)
    flipped = geometric.flip(frame)
    assert np.abs(flipped.labels.contains(flipped.sensors.lidar.points).sum(1) - frame.points_inside).max() <= 2
    changed = augment(frame, np.random.default_rng(1))
    grown = changed.labels.contains(changed.sensors.lidar.points.astype(float), 0.5).sum(axis=1)
    assert (changed.points_inside <= grown).all()
    assert len(changed.labels) == len(frame.labels)
