"""Boxes <-> vision_msgs/Detection3DArray, without loss.

A vision_msgs/Detection3D has room for a pose with covariance, a size, hypotheses and an id. What else a box knows
travels in further entries of `results`, with score 0 so that readers which take the first or the best one are not
misled:

- `results[0]`, always: `hypothesis` is the class name ("unknown" for geometric obstacles) with its score; `pose`
  equals `bbox.center`, the variances of x y z and yaw on the diagonal of its covariance (zeros: unknown).
- `"velocity"`, where it was measured: `pose.position` x y is m/s over ground along the axes of the header's frame,
  covariance [0] and [7] their variances.
- `"size"`, where variances are known: covariance [0], [7], [14] are those of length, width and height.

`bbox.size` x y z is length, width, height.
"""

from __future__ import annotations

import numpy as np

from karp_perception.core import Boxes, class_from_name, class_name
from karp_perception.ros.cdr import Cdr, header_bytes, pose_rows, rows, string_bytes
from karp_perception.ros.primitives import Message, get_position, get_yaw

VELOCITY, SIZE = "velocity", "size"
_VELOCITY_BYTES, _SIZE_BYTES = string_bytes(VELOCITY), string_bytes(SIZE)

# Diagonal of a row-major 6x6 covariance over x y z roll pitch yaw.
_DIAGONAL = np.arange(0, 36, 7)
_XYZ_YAW = _DIAGONAL[[0, 1, 2, 5]]


def detections_bytes(boxes: Boxes, stamp_ns: int, ids: np.ndarray | None = None) -> bytes:
    """Serialised vision_msgs/Detection3DArray of boxes.

    Args:
        boxes: N boxes; their frame goes into the headers.
        stamp_ns: time of the sensor data.
        ids: (N,) numbers for `Detection3D.id`; without them the ids stay empty.
    """
    n, variance = len(boxes), boxes.variance
    header = header_bytes(stamp_ns, boxes.frame)
    poses = pose_rows(boxes.center, boxes.yaw)
    moving = np.isfinite(boxes.velocity).all(axis=1).tolist()
    names = [class_name(label) for label in boxes.label.tolist()]
    numbers = [""] * n if ids is None else [str(number) for number in np.asarray(ids).tolist()]
    known = variance is not None
    main = _entries(boxes.score, poses, _XYZ_YAW, variance[:, [0, 1, 2, 6]] if known else None)
    velocity = _unturned(boxes.velocity, _DIAGONAL[:2], variance[:, 7:] if known else None)
    size = _unturned(boxes.size, _DIAGONAL[:3], variance[:, 3:6]) if known else []
    bounds = rows(np.column_stack([poses, boxes.size]))

    cdr = Cdr()
    cdr.aligned(4, header)
    cdr.put("I", n)
    for i in range(n):
        cdr.aligned(4, header)
        cdr.put("I", 1 + moving[i] + known)
        cdr.string(names[i])
        cdr.aligned(8, main[i])
        if moving[i]:
            cdr.aligned(4, _VELOCITY_BYTES)
            cdr.aligned(8, velocity[i])
        if known:
            cdr.aligned(4, _SIZE_BYTES)
            cdr.aligned(8, size[i])
        cdr.aligned(8, bounds[i])
        cdr.string(numbers[i])
    return cdr.message()


def _unturned(values: np.ndarray, places: np.ndarray, variance: np.ndarray | None) -> list[memoryview]:
    """Entries of score 0 that hold values (N, 2 or 3) in their position."""
    poses = pose_rows(values, np.zeros(len(values)))
    return _entries(np.zeros(len(values)), poses, places, variance)


def _entries(score: np.ndarray, poses: np.ndarray, places: np.ndarray, variance: np.ndarray | None) -> list[memoryview]:
    """Of vision_msgs/ObjectHypothesisWithPose, what follows its class: score, pose, covariance with some `places`."""
    fields = np.zeros((len(poses), 1 + 7 + 36))
    fields[:, 0], fields[:, 1:8] = score, poses
    if variance is not None:
        fields[:, 8 + places] = variance
    return rows(fields)


def boxes_from_detections(message: Message) -> Boxes:
    """Boxes of a vision_msgs/Detection3DArray from this package or another.

    A detection without hypotheses is of unknown class with score 1; otherwise the entry with the best score counts.
    Where one box has no velocity, that row is NaN; variances are kept only if every box has them. Raises
    InvalidInput for boxes that cannot be (negative sizes, numbers that are not finite, scores outside 0 to 1).
    """
    n = len(message.detections)
    center, size, yaw = np.zeros((n, 3)), np.zeros((n, 3)), np.zeros(n)
    velocity, variance = np.full((n, 2), np.nan), np.full((n, 9), np.nan)
    label, score = np.full(n, -1), np.ones(n)
    for i, detection in enumerate(message.detections):
        box = detection.bbox
        center[i], size[i] = get_position(box.center.position), get_position(box.size)
        yaw[i] = get_yaw(box.center.orientation)
        entries = {entry.hypothesis.class_id: entry.pose for entry in detection.results[1:]}
        if VELOCITY in entries:
            velocity[i] = get_position(entries[VELOCITY].pose.position)[:2]
        named = [entry for entry in detection.results if entry.hypothesis.class_id not in (VELOCITY, SIZE)]
        if not named:
            continue
        best = max(named, key=lambda entry: entry.hypothesis.score)
        label[i], score[i] = class_from_name(best.hypothesis.class_id), best.hypothesis.score
        if SIZE in entries:
            moving = np.asarray(entries[VELOCITY].covariance)[_DIAGONAL[:2]] if VELOCITY in entries else 0.0
            at = np.asarray(best.pose.covariance)[_XYZ_YAW]
            variance[i, :3], variance[i, 6], variance[i, 7:] = at[:3], at[3], moving
            variance[i, 3:6] = np.asarray(entries[SIZE].covariance)[_DIAGONAL[:3]]
    known = n > 0 and np.isfinite(variance).all()
    return Boxes(center, size, yaw, velocity, label, score, variance if known else None, frame=message.header.frame_id)
