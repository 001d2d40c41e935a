"""What a prediction starts from: where things are, which way they move, how fast, and what their bodies allow."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from karp_perception.core import Boxes, ObjectClass
from karp_perception.core.columns import Columns
from karp_perception.core.geometry import wrap_angle

_DIRECTED = 1.0  # m/s: slower things move along their body, whatever the filtered velocity's direction says

GROUPS = ("vehicle", "two_wheeler", "pedestrian", "other")
"""What moves alike. Others are cones, barriers and what has no class: they go on as they are."""

_GROUP = np.array([0, 0, 0, 0, 0, 2, 1, 1, 3, 3, 3])  # by label; the last one is UNKNOWN's

# 1/m: smallest radius that its wheels (or legs) allow. By label; the last row is UNKNOWN's.
_CURVATURE = np.array([0.2, 0.12, 0.1, 0.12, 0.2, 5.0, 0.4, 0.6, 0.0, 0.0, 0.2])
# m/s² to the side: what tyres hold on a wet road; what somebody on foot does without falling.
_LATERAL = np.array([4.5, 3.0, 3.0, 3.0, 3.0, 3.0, 5.0, 4.0, 0.0, 0.0, 4.5])


@dataclass(frozen=True)
class MotionState(Columns):
    """N things at one moment, in any planar frame.

    Attributes:
        position: (N, 2) m.
        yaw: (N,) rad of the body; heading: (N,) rad of the motion, which differs where something rolls back.
        speed: (N,) m/s along the heading, at least 0.
        turn_rate: (N,) rad/s, 0 where unknown.
        label: (N,).
    """

    position: np.ndarray
    yaw: np.ndarray
    heading: np.ndarray
    speed: np.ndarray
    turn_rate: np.ndarray
    label: np.ndarray

    @classmethod
    def of(cls, boxes: Boxes, turn_rate: np.ndarray | None = None) -> MotionState:
        """The state of boxes; unknown velocities count as standing."""
        velocity = np.nan_to_num(boxes.velocity)
        return cls.moving(boxes.center[:, :2], boxes.yaw, velocity, boxes.label, turn_rate)

    @classmethod
    def moving(
        cls,
        position: np.ndarray,
        yaw: np.ndarray,
        velocity: np.ndarray,
        label: np.ndarray,
        turn_rate: np.ndarray | None = None,
    ) -> MotionState:
        """From velocities (N, 2) m/s in the axes of the positions."""
        speed = np.hypot(velocity[:, 0], velocity[:, 1])
        along = velocity[:, 0] * np.cos(yaw) + velocity[:, 1] * np.sin(yaw)
        body = np.where(along < 0, yaw + np.pi, yaw)
        directed = speed > _DIRECTED
        heading = np.where(directed, np.arctan2(velocity[:, 1], velocity[:, 0]), body)
        speed = np.where(directed, speed, np.abs(along))
        rate = np.zeros(len(speed)) if turn_rate is None else turn_rate
        return cls(position, yaw, wrap_angle(heading), speed, rate, label)

    @property
    def group(self) -> np.ndarray:
        """(N,) index into GROUPS."""
        return _GROUP[self.label]

    @property
    def limits(self) -> np.ndarray:
        """(N, 2) largest curvature, 1/m, and acceleration to the side, m/s²."""
        return np.column_stack([_CURVATURE[self.label], _LATERAL[self.label]])


def is_movable(label: np.ndarray) -> np.ndarray:
    """(N,) whether things of a class move by themselves: neither cones, nor barriers, nor what has no class."""
    return (label >= 0) & (label < ObjectClass.TRAFFIC_CONE)
