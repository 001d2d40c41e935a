"""The frame assembler: what comes in as messages comes out as sensor frames in base_link, and everything is counted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from karp_perception.core import InvalidInput
from karp_perception.core.geometry import invert_pose, pose_from_quaternion, project_points, transform_points
from karp_perception.ros.messages import (
    camera_info_message,
    compressed_image_message,
    image_message,
    pointcloud_message,
    transforms_message,
)
from karp_perception.sensing.assembler import FrameAssembler, SensingSettings
from karp_perception.sensing.message_types import default_message

SECOND = 1_000_000_000
PERIOD = SECOND // 10
K = np.array([[50.0, 0, 32], [0, 50, 24], [0, 0, 1]])
T_BASE_LIDAR = pose_from_quaternion((0.5, 0.0, 1.7), (0, 0, 0.1, 1))
T_BASE_CAMERA = pose_from_quaternion((1.0, 0.2, 1.5), (-0.5, 0.5, -0.5, 0.5))
POINTS = np.array([[5, 0, 0, 0.1], [10, 2, 1, 0.2], [np.nan, 0, 0, 0]], np.float32)


def tf() -> Any:
    mounts = [("base_link", "lidar", T_BASE_LIDAR), ("base_link", "cam", T_BASE_CAMERA)]
    return transforms_message(mounts, 0, default_message)


def cloud(stamp_ns: int, frame: str = "lidar") -> Any:
    message = pointcloud_message(np.nan_to_num(POINTS), stamp_ns, frame, default_message)
    message.data = POINTS.view(np.uint8).reshape(-1)
    return message


def picture(stamp_ns: int, size: tuple[int, int] = (64, 48)) -> Any:
    return image_message(np.full((size[1], size[0], 3), 90, np.uint8), stamp_ns, "cam", default_message)


def info(size: tuple[int, int] = (64, 48)) -> Any:
    return camera_info_message(K, size, 0, "cam", default_message)


def filled(assembler: FrameAssembler, frames: int = 5) -> list[Any]:
    out = []
    for k in range(1, frames + 1):
        assembler.add_image("front", picture(k * PERIOD), k * PERIOD)
        assembler.add_points(cloud(k * PERIOD), k * PERIOD)
        out += assembler.poll(k * PERIOD)
    return out + assembler.flush()


def test_points_and_cameras_are_placed_in_base_link() -> None:
    assembler = FrameAssembler(cameras=["front"])
    assembler.add_transforms(tf(), static=True)
    assembler.add_camera_info("front", info())
    frames = filled(assembler)
    assert [frame.stamp_ns for frame in frames] == [k * PERIOD for k in range(1, 6)]
    frame = frames[0]
    expected = transform_points(T_BASE_LIDAR, POINTS[:2, :3].astype(float))
    np.testing.assert_allclose(frame.lidar.points[:, :3], expected, atol=1e-5)
    np.testing.assert_allclose(frame.lidar.points[:, 3], POINTS[:2, 3])
    camera = frame.cameras["front"]
    np.testing.assert_allclose(camera.T_base_camera, T_BASE_CAMERA, atol=1e-12)
    # A point straight ahead of the camera is seen at the principal point.
    ahead = transform_points(invert_pose(camera.T_base_camera), np.array([[8.0, 0.2, 1.5]]))
    np.testing.assert_allclose(project_points(ahead, camera.intrinsics)[0], [[32, 24]], atol=1e-9)
    for name in ("lidar", "front"):
        assert assembler.input_counters[name].as_dict() == {"received": 5, "used": 5, "dropped": {}}


def test_a_message_waits_for_its_transform_and_calibration() -> None:
    assembler = FrameAssembler(cameras=["front"])
    assembler.add_points(cloud(PERIOD), PERIOD)
    assembler.add_image("front", picture(PERIOD), PERIOD)
    assert assembler.poll(PERIOD) == []
    assembler.add_transforms(tf(), static=True)
    assembler.add_camera_info("front", info())
    frames = assembler.poll(PERIOD + 1000) + assembler.flush()
    assert len(frames) == 1
    assert frames[0].lidar is not None
    assert frames[0].cameras["front"] is not None


def test_what_waits_too_long_is_dropped_for_its_reason() -> None:
    assembler = FrameAssembler(SensingSettings(calibration_wait=0.2), cameras=["front"])
    assembler.add_points(cloud(PERIOD, frame="nowhere"), PERIOD)
    assembler.add_transforms(tf(), static=True)
    assembler.add_image("front", picture(PERIOD), PERIOD)
    assert assembler.poll(10 * SECOND) == []
    assert assembler.input_counters["lidar"].dropped == {"missing_transform": 1}
    assert assembler.input_counters["front"].dropped == {"no_camera_info": 1}
    assert assembler.counters.as_dict() == {"received": 1, "used": 0, "dropped": {"missing_transform": 1}}


def test_malformed_messages_are_counted_and_nothing_else_is_lost() -> None:
    assembler = FrameAssembler(cameras=["front"])
    assembler.add_transforms(tf(), static=True)
    assembler.add_camera_info("front", info())
    short = cloud(PERIOD)
    short.data = short.data[:-5]
    assembler.add_points(short, PERIOD)
    torn = compressed_image_message(np.zeros((48, 64, 3), np.uint8), PERIOD, "cam", default_message)
    torn.data = torn.data[: len(torn.data) // 2]
    assembler.add_image("front", torn, PERIOD)
    absurd = cloud(PERIOD)
    absurd.header.stamp.sec = -5
    assembler.add_points(absurd, PERIOD)
    good = filled(assembler)
    assert len(good) == 5
    lidar, front = (assembler.input_counters[name].as_dict() for name in ("lidar", "front"))
    assert lidar["received"] == 7
    assert lidar["dropped"] == {"absurd_stamp": 1, "malformed_points": 1}
    assert front["received"] == 6
    assert front["dropped"] == {"truncated_image": 1}


def test_an_image_of_another_shape_than_its_calibration_is_dropped() -> None:
    assembler = FrameAssembler(cameras=["front"], lidar=False)
    assembler.add_transforms(tf(), static=True)
    assembler.add_camera_info("front", info())
    assembler.add_image("front", picture(PERIOD, (64, 30)), PERIOD)
    assembler.add_image("front", picture(2 * PERIOD, (128, 96)), 2 * PERIOD)
    frames = assembler.poll(2 * PERIOD) + assembler.flush()
    assert len(frames) == 1, "twice the size of its calibration is a resized image, another aspect is not"
    np.testing.assert_allclose(frames[0].cameras["front"].intrinsics[0, 0], 100.0)
    assert sum(assembler.counters.dropped.values()) == 1


def test_a_missing_camera_is_none_and_the_frame_still_comes() -> None:
    assembler = FrameAssembler(cameras=["front", "rear"])
    assembler.add_transforms(tf(), static=True)
    assembler.add_camera_info("front", info())
    frames = filled(assembler)
    assert len(frames) == 5
    assert all(frame.cameras["rear"] is None and frame.cameras["front"] is not None for frame in frames)


def test_a_rig_without_sensors_is_refused() -> None:
    with pytest.raises(InvalidInput, match="a lidar or a camera"):
        FrameAssembler(lidar=False)
