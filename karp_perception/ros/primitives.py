"""The smallest parts of ROS messages: stamps, headers, poses and arrays, for rclpy's and rosbags' classes alike.

Both kinds of classes have the same fields; they differ in what they hold arrays in (rclpy `array.array`, rosbags
`numpy.ndarray`) and in the type of a `byte`. The default value of a field says which of the two a message is, so the
functions here ask it and everything above them is written once.
"""

from __future__ import annotations

import array
import importlib
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from karp_perception.core import InvalidInput
from karp_perception.core.geometry import quaternion_from_matrix
from karp_perception.core.validation import as_stamp

Message = Any
"""A message object of rclpy or of rosbags."""

Create = Callable[[str], Message]
"""Makes an empty message for a type name such as `nav_msgs/msg/Path`."""

NANOSECONDS = 1_000_000_000

# array.array's code for each numpy type a message can hold.
_TYPE_CODES = {"u1": "B", "i1": "b", "u2": "H", "i2": "h", "u4": "I", "i4": "i", "f4": "f", "f8": "d"}


@cache
def message_class(type_name: str) -> type:
    """The rclpy class of a type such as `nav_msgs/msg/Path`. Raises ModuleNotFoundError where it is not installed."""
    package, _, name = type_name.split("/")
    return getattr(importlib.import_module(f"{package}.msg"), name)


def create_ros_message(type_name: str) -> Message:
    """An empty rclpy message, for `create` arguments."""
    return message_class(type_name)()


def set_sequence(message: Message, name: str, values: np.ndarray) -> None:
    """Assign a flat array to a field that is a sequence of numbers, in the container that the message's class uses."""
    if isinstance(getattr(message, name), np.ndarray):
        setattr(message, name, np.ascontiguousarray(values).reshape(-1))
        return
    # frombytes copies at memory speed; assigning the ndarray itself goes through Python numbers one by one.
    sequence = array.array(_TYPE_CODES[values.dtype.str[1:]])
    sequence.frombytes(np.ascontiguousarray(values).tobytes())
    setattr(message, name, sequence)


def set_byte(message: Message, name: str, value: int) -> None:
    """Assign a field of type `byte`: one character in rclpy, a number in rosbags."""
    setattr(message, name, bytes([value]) if isinstance(getattr(message, name), bytes) else value)


def get_byte(value: bytes | int) -> int:
    """The number in a field of type `byte`."""
    return value[0] if isinstance(value, bytes) else int(value)


def set_stamp(time: Message, stamp_ns: int) -> None:
    """Fill a builtin_interfaces/Time or Duration from nanoseconds, exactly."""
    time.sec, time.nanosec = divmod(int(stamp_ns), NANOSECONDS)


def get_stamp(time: Message) -> int:
    """Nanoseconds of a builtin_interfaces/Time. Raises InvalidInput (`absurd_stamp`) for one before 1970."""
    if not 0 <= time.nanosec < NANOSECONDS:
        raise InvalidInput("stamp.nanosec", "0 to 999999999", time.nanosec, reason="absurd_stamp")
    return as_stamp("stamp", time.sec * NANOSECONDS + time.nanosec)


def set_header(header: Message, stamp_ns: int, frame: str) -> None:
    """Fill a std_msgs/Header."""
    set_stamp(header.stamp, stamp_ns)
    header.frame_id = frame


def set_position(point: Message, values: np.ndarray | tuple[float, ...]) -> None:
    """Fill a geometry_msgs/Point or Vector3 from x y z (z may be missing)."""
    point.x, point.y = float(values[0]), float(values[1])
    if len(values) > 2:
        point.z = float(values[2])


def get_position(point: Message) -> tuple[float, float, float]:
    """x y z of a geometry_msgs/Point or Vector3."""
    return point.x, point.y, point.z


def get_yaw(orientation: Message) -> float:
    """Heading of a geometry_msgs/Quaternion (of any length but 0), rad: where its x axis points in the xy plane."""
    x, y, z, w = orientation.x, orientation.y, orientation.z, orientation.w
    if not x * x + y * y + z * z + w * w > 1e-12:  # also true for NaN
        raise InvalidInput("orientation", "a quaternion of length 1", (x, y, z, w), "an unset orientation is 0 0 0 1")
    return float(np.arctan2(2 * (w * z + x * y), w * w + x * x - y * y - z * z))


def set_pose(pose: Message, T: np.ndarray) -> None:
    """Fill a geometry_msgs/Pose from a rigid transform (4, 4)."""
    set_position(pose.position, T[:3, 3])
    set_rotation(pose.orientation, T)


def set_rotation(orientation: Message, T: np.ndarray) -> None:
    """Fill a geometry_msgs/Quaternion from the rotation of a rigid transform (4, 4)."""
    q = quaternion_from_matrix(T[:3, :3])
    orientation.x, orientation.y, orientation.z, orientation.w = map(float, q)
