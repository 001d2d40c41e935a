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
from karp_perception.ros.primitives import (
    Create,
    Message,
    get_position,
    get_yaw,
    set_header,
    set_position,
    set_yaw,
)

VELOCITY, SIZE = "velocity", "size"

_HYPOTHESIS = "vision_msgs/msg/ObjectHypothesisWithPose"

# Diagonal of a row-major 6x6 covariance over x y z roll pitch yaw.
_DIAGONAL = np.arange(0, 36, 7)
_XYZ_YAW = _DIAGONAL[[0, 1, 2, 5]]


def detections_message(boxes: Boxes, stamp_ns: int, create: Create, ids: np.ndarray | None = None) -> Message:
    """vision_msgs/Detection3DArray of boxes.

    Args:
        boxes: N boxes; their frame goes into the headers.
        stamp_ns: time of the sensor data.
        create: makes empty messages.
        ids: (N,) numbers for `Detection3D.id`; without them the ids stay empty.
    """
    message = create("vision_msgs/msg/Detection3DArray")
    set_header(message.header, stamp_ns, boxes.frame)
    message.detections = [_detection(boxes, i, message.header, create) for i in range(len(boxes))]
    for detection, number in zip(message.detections, () if ids is None else ids, strict=False):
        detection.id = str(int(number))
    return message


def _detection(boxes: Boxes, i: int, header: Message, create: Create) -> Message:
    detection = create("vision_msgs/msg/Detection3D")
    detection.header = header
    set_position(detection.bbox.center.position, boxes.center[i])
    set_yaw(detection.bbox.center.orientation, boxes.yaw[i])
    set_position(detection.bbox.size, boxes.size[i])

    variance = None if boxes.variance is None else boxes.variance[i]
    main = create(_HYPOTHESIS)
    main.hypothesis.class_id = class_name(int(boxes.label[i]))
    main.hypothesis.score = float(boxes.score[i])
    main.pose.pose = detection.bbox.center
    detection.results = [main]
    if variance is not None:
        main.pose.covariance = _covariance(_XYZ_YAW, variance[[0, 1, 2, 6]])

    velocity = boxes.velocity[i]
    if np.isfinite(velocity).all():
        entry = create(_HYPOTHESIS)
        entry.hypothesis.class_id = VELOCITY
        set_position(entry.pose.pose.position, velocity)
        if variance is not None:
            entry.pose.covariance = _covariance(_DIAGONAL[:2], variance[7:])
        detection.results.append(entry)
    if variance is not None:
        entry = create(_HYPOTHESIS)
        entry.hypothesis.class_id = SIZE
        set_position(entry.pose.pose.position, boxes.size[i])
        entry.pose.covariance = _covariance(_DIAGONAL[:3], variance[3:6])
        detection.results.append(entry)
    return detection


def _covariance(places: np.ndarray, values: np.ndarray) -> np.ndarray:
    covariance = np.zeros(36)
    covariance[places] = values
    return covariance


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
