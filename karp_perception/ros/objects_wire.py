"""autoware_perception_msgs/PredictedObjects straight to its bytes (CDR, little endian), for publishing.

Thousands of poses of predicted paths as Python messages take longer than the tracker itself. The bytes are those of
`objects_message`, serialised.
"""

from __future__ import annotations

import struct

import numpy as np

from karp_perception.core import Objects
from karp_perception.core.classes import autoware_label
from karp_perception.ros.object_messages import BOUNDING_BOX, pose_covariance, track_uuid, twist_in_object_frame
from karp_perception.ros.primitives import NANOSECONDS

_ENCAPSULATION = b"\x00\x01\x00\x00"


class _Cdr:
    """Bytes with CDR's rule that a value starts at a multiple of its size, counted from behind the encapsulation."""

    def __init__(self) -> None:
        self.bytes = bytearray()

    def put(self, code: str, *values: float) -> None:
        """Values of one struct code, each aligned."""
        size = struct.calcsize(code)
        self._align(size)
        self.bytes += struct.pack(f"<{len(values)}{code}", *values)

    def doubles(self, values: np.ndarray) -> None:
        """float64s in order."""
        if values.size:
            self._align(8)
            self.bytes += np.ascontiguousarray(values, "<f8").tobytes()

    def _align(self, size: int) -> None:
        self.bytes += bytes(-len(self.bytes) % size)


def objects_bytes(objects: Objects, stamp_ns: int) -> bytes:
    """The serialised message of tracked objects; `objects_message` says what is in it."""
    cdr = _Cdr()
    cdr.put("i", stamp_ns // NANOSECONDS)
    cdr.put("I", stamp_ns % NANOSECONDS)
    frame = objects.boxes.frame.encode() + b"\0"
    cdr.put("I", len(frame))
    cdr.bytes += frame
    cdr.put("I", len(objects))
    half = 0.5 * objects.predicted[..., 2]
    poses = np.zeros((*objects.predicted.shape[:3], 7))  # x y z, quaternion x y z w
    poses[..., :2] = objects.predicted[..., :2]
    poses[..., 2] = objects.boxes.center[:, 2, None, None]
    poses[..., 5], poses[..., 6] = np.sin(half), np.cos(half)
    for i in range(len(objects)):
        _put_object(cdr, objects, i, poses[i])
    return _ENCAPSULATION + bytes(cdr.bytes)


def _put_object(cdr: _Cdr, objects: Objects, i: int, paths: np.ndarray) -> None:
    boxes = objects.boxes
    cdr.bytes += track_uuid(objects.track_id[i]).tobytes()
    cdr.put("f", boxes.score[i])
    cdr.put("I", 1)
    cdr.put("B", autoware_label(int(boxes.label[i])))
    cdr.put("f", 1.0)

    half = 0.5 * float(boxes.yaw[i])
    present = np.array([*boxes.center[i], 0.0, 0.0, np.sin(half), np.cos(half)])
    velocity, twist_covariance = twist_in_object_frame(objects, i)
    cdr.doubles(np.concatenate([present, pose_covariance(objects, i)]))
    cdr.doubles(np.concatenate([velocity, np.zeros(4), twist_covariance]))
    cdr.doubles(np.zeros(6 + 36))  # acceleration

    step_ns = round(objects.prediction_step * NANOSECONDS)
    cdr.put("I", len(paths))
    for path, probability in zip(paths, objects.predicted_probability[i], strict=True):
        cdr.put("I", len(path) + 1)
        cdr.doubles(np.concatenate([present[None], path]))
        cdr.put("i", step_ns // NANOSECONDS)
        cdr.put("I", step_ns % NANOSECONDS)
        cdr.put("f", probability)

    cdr.put("B", BOUNDING_BOX)
    cdr.put("I", 0)  # footprint
    cdr.doubles(boxes.size[i])
