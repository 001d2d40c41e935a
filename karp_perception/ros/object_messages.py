"""Objects <-> autoware_perception_msgs/PredictedObjects, and vision_msgs/Detection3DArray with track ids.

As Autoware has it: twists in the object's own frame (x along its heading), predicted paths that begin at the present
pose, UUIDs for identities, and eight classes (a construction vehicle becomes TRUCK; cones and barriers UNKNOWN). Not
carried by the message: `age`, `unseen`, `obstacle_index`, and the correlation of position with velocity.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from karp_perception.core import Boxes, InvalidInput, Objects
from karp_perception.core.classes import autoware_label, class_from_autoware
from karp_perception.ros.box_messages import detections_message
from karp_perception.ros.primitives import (
    Create,
    Message,
    get_position,
    get_stamp,
    get_yaw,
    set_header,
    set_position,
    set_stamp,
    set_yaw,
)

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


def objects_message(objects: Objects, stamp_ns: int, create: Create) -> Message:
    """autoware_perception_msgs/PredictedObjects of tracked objects."""
    message = create("autoware_perception_msgs/msg/PredictedObjects")
    set_header(message.header, stamp_ns, objects.boxes.frame)
    message.objects = [_object(objects, i, create) for i in range(len(objects))]
    return message


def _object(objects: Objects, i: int, create: Create) -> Message:
    boxes = objects.boxes
    message = create("autoware_perception_msgs/msg/PredictedObject")
    message.object_id.uuid = track_uuid(objects.track_id[i])
    message.existence_probability = float(boxes.score[i])
    classification = create("autoware_perception_msgs/msg/ObjectClassification")
    classification.label, classification.probability = autoware_label(int(boxes.label[i])), 1.0
    message.classification = [classification]
    message.shape.type = BOUNDING_BOX
    set_position(message.shape.dimensions, boxes.size[i])

    kinematics = message.kinematics
    pose = kinematics.initial_pose_with_covariance
    set_position(pose.pose.position, boxes.center[i])
    set_yaw(pose.pose.orientation, boxes.yaw[i])
    pose.covariance = pose_covariance(objects, i)
    twist = kinematics.initial_twist_with_covariance
    velocity, twist.covariance = twist_in_object_frame(objects, i)
    set_position(twist.twist.linear, velocity)

    kinematics.predicted_paths = [
        _path(objects, i, k, pose.pose, create) for k in range(objects.predicted.shape[1])
    ]  # fmt: skip
    return message


def pose_covariance(objects: Objects, i: int) -> np.ndarray:
    """(36,) covariance of the pose of object i, as in geometry_msgs/PoseWithCovariance."""
    full = np.zeros((6, 6))
    full[_POSE] = objects.covariance[i, :4, :4]
    return full.ravel()


def twist_in_object_frame(objects: Objects, i: int) -> tuple[np.ndarray, np.ndarray]:
    """(2,) velocity m/s of object i along its own axes, and (36,) as in geometry_msgs/TwistWithCovariance."""
    turn = _rotation(objects.boxes.yaw[i])
    full = np.zeros((6, 6))
    full[_TWIST] = turn.T @ objects.covariance[i, 4:, 4:] @ turn
    return turn.T @ objects.boxes.velocity[i], full.ravel()


def _path(objects: Objects, i: int, k: int, present: Message, create: Create) -> Message:
    path = create("autoware_perception_msgs/msg/PredictedPath")
    path.confidence = float(objects.predicted_probability[i, k])
    set_stamp(path.time_step, round(objects.prediction_step * 1e9))
    points, z = objects.predicted[i, k], present.position.z
    half = 0.5 * points[:, 2]
    path.path = [present]
    for x, y, sin, cos in np.column_stack([points[:, :2], np.sin(half), np.cos(half)]).tolist():
        pose = create("geometry_msgs/msg/Pose")
        position, orientation = pose.position, pose.orientation
        position.x, position.y, position.z = x, y, z
        orientation.z, orientation.w = sin, cos
        path.path.append(pose)
    return path


def objects_from_message(message: Message) -> Objects:
    """Objects of an autoware_perception_msgs/PredictedObjects from this package or another.

    Ages and times unseen are 0. Where objects have different numbers of paths or points, the shorter ones are filled
    up (a path of probability 0; the last pose repeated). Raises InvalidInput for what cannot be, or for predicted
    paths of different time steps.
    """
    n = len(message.objects)
    center, size, yaw = np.zeros((n, 3)), np.zeros((n, 3)), np.zeros(n)
    velocity, label, score = np.zeros((n, 2)), np.full(n, -1), np.zeros(n)
    ids, covariance = np.zeros(n, np.int64), np.zeros((n, 6, 6))
    for i, item in enumerate(message.objects):
        pose, twist = item.kinematics.initial_pose_with_covariance, item.kinematics.initial_twist_with_covariance
        ids[i], score[i] = track_id_of(item.object_id.uuid), item.existence_probability
        yaw[i] = get_yaw(pose.pose.orientation)
        turn = _rotation(yaw[i])
        size[i], shift = _dimensions(item.shape)
        center[i] = get_position(pose.pose.position)
        center[i, :2] += turn @ shift
        velocity[i] = turn @ get_position(twist.twist.linear)[:2]
        covariance[i, :4, :4] = np.reshape(pose.covariance, (6, 6))[_POSE]
        covariance[i, 4:, 4:] = turn @ np.reshape(twist.covariance, (6, 6))[_TWIST] @ turn.T
        if item.classification:
            label[i] = class_from_autoware(max(item.classification, key=lambda c: c.probability).label)
    boxes = Boxes(center, size, yaw, velocity, label, score, frame=message.header.frame_id)
    predicted, probability, step = _paths(message, boxes)
    return Objects(boxes, ids, covariance, np.zeros(n), np.zeros(n), predicted, probability, step)


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


def tracks_message(objects: Objects, stamp_ns: int, create: Create) -> Message:
    """vision_msgs/Detection3DArray of tracked objects, `id` being the track id, with the track's own variances."""
    variance = np.zeros((len(objects), 9)) if objects.boxes.variance is None else objects.boxes.variance.copy()
    variance[:, [0, 1, 2, 6, 7, 8]] = np.maximum(np.diagonal(objects.covariance, axis1=1, axis2=2), 0)
    return detections_message(replace(objects.boxes, variance=variance), stamp_ns, create, objects.track_id)


def _rotation(yaw: float) -> np.ndarray:
    c, s = np.cos(yaw), np.sin(yaw)
    return np.array([[c, -s], [s, c]])
