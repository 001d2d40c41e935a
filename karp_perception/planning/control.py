"""Plan -> Command: what the actuators are to do now."""

from __future__ import annotations

import math

import numpy as np

from karp_perception.core import Command, Plan

_LEAD = 0.5  # s: a speed nearer than actuators are late is reached before they are up, and never braked for in full


def command_of(plan: Plan, wheelbase: float, ahead: float = 0.1) -> Command:
    """The command that follows a plan, of the moment `ahead` s from its stamp.

    The front wheels' angle is that of the bicycle model for a wheelbase in m. The speed to reach is what the moment's
    acceleration leads to within `_LEAD` s. An empty plan asks for standing still.
    """
    way = plan.trajectory
    if not len(way):
        return Command(0.0, 0.0, 0.0)
    speed, acceleration, curvature = planned(plan, ahead)
    return Command(math.atan(wheelbase * curvature), max(0.0, speed + _LEAD * acceleration), acceleration)


def planned(plan: Plan, ahead: float = 0.1) -> tuple[float, float, float]:
    """Speed (m/s), acceleration (m/s²) and curvature (1/m) of a plan `ahead` s from its stamp; zeros if empty."""
    way = plan.trajectory
    if not len(way):
        return 0.0, 0.0, 0.0
    columns = (way.speed, way.acceleration, way.curvature)
    return tuple(float(np.interp(ahead, way.time, column)) for column in columns)  # type: ignore[return-value]
