"""Sensor messages from the core's types: what players, simulators and recordings send."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from karp_perception.core import Distortion, DistortionModel
from karp_perception.core.validation import as_array
from karp_perception.ros.primitives import Create, Message, set_header, set_position, set_rotation, set_sequence

_FLOAT32 = 7  # sensor_msgs/PointField


def pointcloud_message(
    points: np.ndarray, stamp_ns: int, frame: str, create: Create, time: np.ndarray | None = None
) -> Message:
    """sensor_msgs/PointCloud2 of points (N, 4) float32 x y z intensity, and (N,) s of each where given (`time`)."""
    columns = as_array("points", points, (None, 4), np.float32)
    names = ["x", "y", "z", "intensity"]
    if time is not None:
        columns, names = np.column_stack([columns, time]).astype(np.float32), [*names, "time"]
    message = create("sensor_msgs/msg/PointCloud2")
    set_header(message.header, stamp_ns, frame)
    for i, name in enumerate(names):
        field = create("sensor_msgs/msg/PointField")
        field.name, field.offset, field.datatype, field.count = name, 4 * i, _FLOAT32, 1
        message.fields.append(field)
    message.height, message.width = 1, len(columns)
    message.point_step, message.row_step = 4 * len(names), 4 * len(names) * len(columns)
    message.is_bigendian, message.is_dense = False, True
    set_sequence(message, "data", np.ascontiguousarray(columns, "<f4").view(np.uint8))
    return message


def image_message(image: np.ndarray, stamp_ns: int, frame: str, create: Create) -> Message:
    """sensor_msgs/Image (rgb8) of an image (H, W, 3) uint8."""
    image = as_array("image", image, (None, None, 3), np.uint8)
    message = create("sensor_msgs/msg/Image")
    set_header(message.header, stamp_ns, frame)
    message.height, message.width = image.shape[:2]
    message.encoding, message.is_bigendian, message.step = "rgb8", 0, 3 * image.shape[1]
    set_sequence(message, "data", image)
    return message


def compressed_image_message(
    image: np.ndarray, stamp_ns: int, frame: str, create: Create, quality: int = 90
) -> Message:
    """sensor_msgs/CompressedImage (JPEG) of an RGB image (H, W, 3) uint8."""
    import cv2

    image = as_array("image", image, (None, None, 3), np.uint8)
    _, encoded = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    message = create("sensor_msgs/msg/CompressedImage")
    set_header(message.header, stamp_ns, frame)
    message.format = "rgb8; jpeg compressed bgr8"  # as image_transport writes it
    set_sequence(message, "data", encoded.reshape(-1))
    return message


def camera_info_message(
    intrinsics: np.ndarray,
    size: tuple[int, int],
    stamp_ns: int,
    frame: str,
    create: Create,
    distortion: Distortion | None = None,
) -> Message:
    """sensor_msgs/CameraInfo of intrinsics (3, 3) for a size (width, height), px; no distortion: rectified."""
    K = as_array("intrinsics", intrinsics, (3, 3))
    message = create("sensor_msgs/msg/CameraInfo")
    set_header(message.header, stamp_ns, frame)
    message.width, message.height = size
    plain = distortion is None or distortion.model is DistortionModel.NONE
    message.distortion_model = DistortionModel.PLUMB_BOB.value if plain else distortion.model.value
    set_sequence(message, "d", np.zeros(5) if plain else np.array(distortion.coefficients))
    message.k, message.r = K.ravel().copy(), np.eye(3).ravel()
    message.p = np.column_stack([K, np.zeros(3)]).ravel()
    return message


def transforms_message(transforms: Iterable[tuple[str, str, np.ndarray]], stamp_ns: int, create: Create) -> Message:
    """tf2_msgs/TFMessage of (parent frame, child frame, T_parent_child (4, 4))."""
    message = create("tf2_msgs/msg/TFMessage")
    for parent, child, T in transforms:
        item = create("geometry_msgs/msg/TransformStamped")
        set_header(item.header, stamp_ns, parent)
        item.child_frame_id = child
        set_position(item.transform.translation, T[:3, 3])
        set_rotation(item.transform.rotation, T)
        message.transforms.append(item)
    return message
