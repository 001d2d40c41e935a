"""Messages straight to the bytes that go over the wire: CDR (XCDR1), little endian, as rclpy and rosbags write it.

Building a message of hundreds of boxes out of Python objects, and having them walked through once more to be
serialised, takes longer than tracking them. Publishers of rclpy take bytes as they are.

Values of fixed size are laid out by numpy, one row a record; `Cdr` strings the rows together with what varies in
length, and puts in the gaps. In CDR a number starts at a multiple of its size, counted from behind the first four
bytes (OMG CORBA 3.3 part 2, 9.3).
"""

from __future__ import annotations

import struct
from functools import lru_cache

import numpy as np

from karp_perception.ros.primitives import NANOSECONDS

_ENCAPSULATION = b"\x00\x01\x00\x00"  # plain CDR, little endian, no options
_GAPS = tuple(bytes(n) for n in range(8))


class Cdr:
    """Fields of a message in order, each aligned."""

    def __init__(self) -> None:
        self._bytes = bytearray(_ENCAPSULATION)

    def aligned(self, size: int, values: bytes | memoryview) -> None:
        """Bytes of fields that start at a multiple of `size` bytes and have no gaps but their own."""
        data = self._bytes
        data += _GAPS[(len(_ENCAPSULATION) - len(data)) % size]
        data += values

    def put(self, code: str, *values: float) -> None:
        """Numbers of one struct code."""
        self.aligned(struct.calcsize(f"<{code}"), struct.pack(f"<{len(values)}{code}", *values))

    def string(self, text: str) -> None:
        """A string."""
        self.aligned(4, string_bytes(text))

    def array(self, values: np.ndarray) -> None:
        """Numbers of an array in order; without any, not even a gap."""
        if values.size:
            self.aligned(values.itemsize, _little_endian(values))

    def message(self) -> bytes:
        """All of it as a serialised message."""
        return bytes(self._bytes)


def rows(values: np.ndarray) -> list[memoryview]:
    """The bytes of each row of an array (N, ...) of numbers."""
    data = _little_endian(values)
    step = values.itemsize * int(np.prod(values.shape[1:]))
    return [data[i * step : (i + 1) * step] for i in range(len(values))]


def _little_endian(values: np.ndarray) -> memoryview:
    return np.ascontiguousarray(values, values.dtype.newbyteorder("<")).reshape(-1).view(np.uint8).data


def stamp_bytes(stamp_ns: int) -> bytes:
    """A builtin_interfaces/Time or Duration; starts at a multiple of 4."""
    return struct.pack("<iI", *divmod(int(stamp_ns), NANOSECONDS))


@lru_cache(maxsize=256)
def string_bytes(text: str) -> bytes:
    """A string with its length; starts at a multiple of 4."""
    data = text.encode() + b"\0"
    return struct.pack("<I", len(data)) + data


def header_bytes(stamp_ns: int, frame: str) -> bytes:
    """A std_msgs/Header; starts at a multiple of 4."""
    return stamp_bytes(stamp_ns) + string_bytes(frame)


def pose_rows(position: np.ndarray, yaw: np.ndarray) -> np.ndarray:
    """(..., 7) fields of geometry_msgs/Pose for positions (..., 2 or 3) m and yaws (...,) rad; z is 0 where missing."""
    poses, half = np.zeros((*yaw.shape, 7)), 0.5 * yaw
    poses[..., : position.shape[-1]] = position
    poses[..., 5], poses[..., 6] = np.sin(half), np.cos(half)
    return poses
