"""A frame whose images and points are not of the same moment."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from karp_perception.core import SensorFrame
from karp_perception.core.geometry import invert_pose, pose_from_xy_yaw, transform_points
from karp_perception.sensing.labelled_frame import LabelledFrame
from karp_perception.sensing.point_index import PointIndex

_OBJECT_MARGIN_M = 0.1  # around a moving object's box: its points move with it
_STRAIGHT_RAD = 1e-6


def with_late_images(frame: LabelledFrame, delay_s: float) -> LabelledFrame:
    """The frame with images that are `delay_s` s older than its points and truth, and do not know it.

    Points, labels, places without label and ego state go on by `delay_s`: the vehicle drives a circle at its speed and
    yaw rate, labelled objects move at their velocity (those whose velocity is unknown stand) and keep their heading.
    Images and the calibration stay. Which points are hidden behind what stays as it was; the delay may be negative.
    """
    sensors, labels = frame.sensors, frame.labels
    T = invert_pose(_way(frame, delay_s))
    step = np.nan_to_num(labels.velocity) * delay_s
    center = labels.center.copy()
    center[:, :2] += step
    boxes = replace(labels, center=center).transformed(T, labels.frame)
    lidar = sensors.lidar
    if lidar is not None:
        points = lidar.points.copy()
        moving = np.flatnonzero(np.abs(step).max(axis=1, initial=0.0) > 0)
        owner, point = PointIndex(points).inside(labels[moving], _OBJECT_MARGIN_M)
        # Where two boxes share a point, it goes with one of them.
        point, first = np.unique(point, return_index=True)
        points[point, :2] += step[moving][owner[first]].astype(np.float32)
        points[:, :3] = transform_points(T, points[:, :3])
        lidar = replace(lidar, points=points)
    ego = sensors.ego
    if ego is not None:
        ego = replace(ego, T_odom_base=ego.T_odom_base @ invert_pose(T))
    places = frame.unlabelled.copy()
    places[:, :2] = places[:, :2] @ T[:2, :2].T + T[:2, 3]
    return replace(
        frame,
        sensors=SensorFrame(sensors.stamp_ns, sensors.cameras, lidar, ego),
        labels=boxes,
        unlabelled=places,
    )


def with_late_points(frame: LabelledFrame, delay_s: float) -> LabelledFrame:
    """The frame with points that are `delay_s` s older than its images and truth, and do not know it.

    Only points change: they lie where `with_late_images` puts them for a time so long ago, in `base_link` of then.
    """
    sensors = frame.sensors
    if sensors.lidar is None:
        return frame
    then = with_late_images(frame, -delay_s).sensors.lidar
    return replace(frame, sensors=SensorFrame(sensors.stamp_ns, sensors.cameras, then, sensors.ego))


def _way(frame: LabelledFrame, seconds: float) -> np.ndarray:
    """(4, 4) pose of `base_link` after some time, in `base_link` now: a circle, or a straight line."""
    ego = frame.sensors.ego
    if ego is None:
        return np.eye(4)
    turn = ego.yaw_rate * seconds
    along, across = ego.velocity * seconds
    # Integral of the turning velocity: sin(a)/a and (1 - cos(a))/a of the angle driven.
    s, c = (np.sin(turn) / turn, (1.0 - np.cos(turn)) / turn) if abs(turn) > _STRAIGHT_RAD else (1.0, 0.5 * turn)
    return pose_from_xy_yaw(s * along - c * across, c * along + s * across, turn)
