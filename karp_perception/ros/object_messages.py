"""Objects <-> autoware_perception_msgs/PredictedObjects, and vision_msgs/Detection3DArray with track ids.

As Autoware has it: twists in the object's own frame (x along its heading), predicted paths that begin at the present
pose, UUIDs for identities, and eight classes (a construction vehicle becomes TRUCK; cones and barriers UNKNOWN). Not
carried by the message: `age`, `unseen`, `obstacle_index`, and the correlation of position with velocity.
"""

from __future__ import annotations

import struct
from dataclasses import replace
from itertools import islice

import numpy as np

from karp_perception.core import Boxes, InvalidInput, Objects
from karp_perception.core.classes import autoware_label, class_from_autoware
from karp_perception.ros.box_messages import detections_bytes
from karp_perception.ros.cdr import Cdr, header_bytes, pose_rows, rows
from karp_perception.ros.primitives import NANOSECONDS, Message, get_position, get_stamp, get_yaw

BOUNDING_BOX, CYLINDER, POLYGON = 0, 1, 2
"""autoware_perception_msgs/Shape types."""

_ID_MASK = (1 << 63) - 1

# Where x y z yaw (of Objects.covariance) and vx vy lie in a 6x6 ROS covariance.
_POSE = np.ix_([0, 1, 2, 5], [0, 1, 2, 5])
_TWIST = np.ix_([0, 1], [0, 1])


def track_uuid(track_id: int) -> np.ndarray:
    """(16,) uint8 of a UUID that holds a track id as a big-endian number."""
    return np.frombuffer(int(track_id).to_bytes(16, "big"), np.uint8).copy()


def track_id_of(uuid: np.ndarray) -> int:
    """The track id in a UUID; for another tracker's random UUID a positive number made of its last 63 bits."""
    return (int.from_bytes(bytes(bytearray(uuid)), "big") & _ID_MASK) or 1


# Parts of a PredictedObject and a PredictedPath in which every gap is known: they start at multiples of 4.
_EXISTENCE = np.dtype(
    [("probability", "<f4"), ("classes", "<u4"), ("label", "u1"), ("gap", "V3"), ("class_probability", "<f4")]
)
_PATH_END = np.dtype([("seconds", "<i4"), ("nanoseconds", "<u4"), ("probability", "<f4")])
_SHAPE = struct.pack("<B3xI", BOUNDING_BOX, 0)  # no footprint


def objects_bytes(objects: Objects, stamp_ns: int) -> bytes:
    """Serialised autoware_perception_msgs/PredictedObjects of tracked objects."""
    boxes, n, points = objects.boxes, len(objects), objects.predicted.shape[2]
    # Most things stand and have one path: what fills up the others' places is not sent.
    possible = objects.predicted_probability > 0.0
    uuids = [track_uuid(number).tobytes() for number in objects.track_id.tolist()]
    existence = np.zeros(n, _EXISTENCE)
    existence["probability"], existence["classes"], existence["class_probability"] = boxes.score, 1, 1.0
    existence["label"] = [autoware_label(label) for label in boxes.label.tolist()]
    ends = np.zeros(int(possible.sum()), _PATH_END)
    ends["seconds"], ends["nanoseconds"] = divmod(round(objects.prediction_step * NANOSECONDS), NANOSECONDS)
    ends["probability"] = objects.predicted_probability[possible]
    counts = possible.sum(axis=1).tolist()
    columns = zip(uuids, rows(existence), rows(_kinematics(objects)), rows(boxes.size), counts, strict=True)
    paths = iter(zip(rows(_paths_from_present(objects, possible)), rows(ends), strict=True))

    cdr = Cdr()
    cdr.aligned(4, header_bytes(stamp_ns, boxes.frame))
    cdr.put("I", n)
    for uuid, exists, kinematics, size, k in columns:
        cdr.aligned(1, uuid)
        cdr.aligned(4, exists)
        cdr.aligned(8, kinematics)
        cdr.put("I", k)
        for poses, end in islice(paths, k):
            cdr.put("I", points + 1)
            cdr.aligned(8, poses)
            cdr.aligned(4, end)
        cdr.aligned(4, _SHAPE)
        cdr.aligned(8, size)
    return cdr.message()


def _paths_from_present(objects: Objects, chosen: np.ndarray) -> np.ndarray:
    """(M, 1 + T, 7) poses of the M predicted paths that are `chosen` (N, K); they begin where the object is now."""
    boxes, predicted, owner = objects.boxes, objects.predicted[chosen], np.nonzero(chosen)[0]
    course = np.empty((len(owner), 1 + predicted.shape[1], 4))  # x y z yaw
    course[:, 0, :2], course[:, 0, 3] = boxes.center[owner, :2], boxes.yaw[owner]
    course[..., 2] = boxes.center[owner, 2, None]
    course[:, 1:, [0, 1, 3]] = predicted
    return pose_rows(course[..., :3], course[..., 3])


def _kinematics(objects: Objects) -> np.ndarray:
    """(N, 127) pose, twist and acceleration (unknown: 0), each followed by its covariance."""
    n = len(objects)
    pose_covariance, twist_covariance = np.zeros((n, 6, 6)), np.zeros((n, 6, 6))
    pose_covariance[:, _POSE[0], _POSE[1]] = objects.covariance[:, :4, :4]
    turn = _rotation(objects.boxes.yaw)
    twist_covariance[:, :2, :2] = turn.transpose(0, 2, 1) @ objects.covariance[:, 4:, 4:] @ turn
    twist = np.zeros((n, 6))
    twist[:, :2] = np.einsum("nji,nj->ni", turn, objects.boxes.velocity)
    present, acceleration = pose_rows(objects.boxes.center, objects.boxes.yaw), np.zeros((n, 6 + 36))
    return np.column_stack(
        [present, pose_covariance.reshape(n, 36), twist, twist_covariance.reshape(n, 36), acceleration]
    )


def objects_from_message(message: Message) -> Objects:
    """Objects of an autoware_perception_msgs/PredictedObjects from this package or another.

    Ages and times unseen are 0. Where objects have different numbers of paths or points, the shorter ones are filled
    up (a path of probability 0; the last pose repeated). Raises InvalidInput for what cannot be, or for predicted
    paths of different time steps.
    """
    boxes = boxes_from_objects(message)
    n, turn = len(boxes), _rotation(boxes.yaw)
    ids, covariance = np.zeros(n, np.int64), np.zeros((n, 6, 6))
    for i, item in enumerate(message.objects):
        pose, twist = item.kinematics.initial_pose_with_covariance, item.kinematics.initial_twist_with_covariance
        ids[i] = track_id_of(item.object_id.uuid)
        covariance[i, :4, :4] = np.reshape(pose.covariance, (6, 6))[_POSE]
        covariance[i, 4:, 4:] = turn[i] @ np.reshape(twist.covariance, (6, 6))[_TWIST] @ turn[i].T
    predicted, probability, step = _paths(message, boxes)
    return Objects(boxes, ids, covariance, np.zeros(n), np.zeros(n), predicted, probability, step)


def boxes_from_objects(message: Message) -> Boxes:
    """Boxes of an autoware_perception_msgs/DetectedObjects, TrackedObjects or PredictedObjects.

    The score is the probability of existence. Velocity is NaN where a detected object has no twist. Raises InvalidInput
    for boxes that cannot be.
    """
    n = len(message.objects)
    center, size, yaw = np.zeros((n, 3)), np.zeros((n, 3)), np.zeros(n)
    velocity, label, score = np.full((n, 2), np.nan), np.full(n, -1), np.zeros(n)
    for i, item in enumerate(message.objects):
        kinematics = item.kinematics
        predicted = hasattr(kinematics, "initial_pose_with_covariance")
        pose = (kinematics.initial_pose_with_covariance if predicted else kinematics.pose_with_covariance).pose
        twist = kinematics.initial_twist_with_covariance if predicted else kinematics.twist_with_covariance
        score[i], yaw[i] = item.existence_probability, get_yaw(pose.orientation)
        turn = _rotation(yaw[i])
        size[i], shift = _dimensions(item.shape)
        center[i] = get_position(pose.position)
        center[i, :2] += turn @ shift
        if getattr(kinematics, "has_twist", True):
            velocity[i] = turn @ get_position(twist.twist.linear)[:2]
        if item.classification:
            label[i] = class_from_autoware(max(item.classification, key=lambda c: c.probability).label)
    return Boxes(center, size, yaw, velocity, label, score, frame=message.header.frame_id)


def _dimensions(shape: Message) -> tuple[np.ndarray, np.ndarray]:
    """Length, width, height and the middle (2,) in the object's frame: a polygon's box need not be centred."""
    size = np.array(get_position(shape.dimensions))
    if shape.type != POLYGON or not len(shape.footprint.points):
        return size, np.zeros(2)
    corners = np.array([(p.x, p.y) for p in shape.footprint.points])
    size[:2] = np.ptp(corners, axis=0)
    return size, 0.5 * (corners.max(axis=0) + corners.min(axis=0))


def _paths(message: Message, boxes: Boxes) -> tuple[np.ndarray, np.ndarray, float]:
    paths = [list(item.kinematics.predicted_paths) for item in message.objects]
    present = [path for of_object in paths for path in of_object]
    n, k = len(paths), max(map(len, paths), default=0)
    length = max((len(path.path) - 1 for path in present), default=0)
    steps = {get_stamp(path.time_step) for path in present}
    if len(steps) > 1 or 0 in steps:
        raise InvalidInput("PredictedPath.time_step", "one time above 0 for all paths", sorted(steps))
    start = np.column_stack([boxes.center[:, :2], boxes.yaw])
    predicted = np.broadcast_to(start[:, None, None, :], (n, k, length, 3)).copy()
    probability = np.zeros((n, k))
    for i, of_object in enumerate(paths):
        for j, path in enumerate(of_object):
            # The first pose is the present one: it is no prediction.
            points = [(p.position.x, p.position.y, get_yaw(p.orientation)) for p in path.path[1:]]
            probability[i, j] = path.confidence
            if points:
                predicted[i, j, : len(points)] = points
                predicted[i, j, len(points) :] = points[-1]
        if k and not of_object:
            probability[i, 0] = 1.0  # nothing said about it: it stays where it is
    return predicted, probability, steps.pop() * 1e-9 if steps else 0.1


def tracks_bytes(objects: Objects, stamp_ns: int) -> bytes:
    """Serialised vision_msgs/Detection3DArray of tracked objects: `id` is the track's, the variances are its own."""
    variance = np.zeros((len(objects), 9)) if objects.boxes.variance is None else objects.boxes.variance.copy()
    variance[:, [0, 1, 2, 6, 7, 8]] = np.maximum(np.diagonal(objects.covariance, axis1=1, axis2=2), 0)
    return detections_bytes(replace(objects.boxes, variance=variance), stamp_ns, objects.track_id)


def _rotation(yaw: np.ndarray) -> np.ndarray:
    """(..., 2, 2) that turns vectors by yaws (...,) rad."""
    c, s = np.cos(yaw), np.sin(yaw)
    return np.stack([np.stack([c, -s], axis=-1), np.stack([s, c], axis=-1)], axis=-2)
