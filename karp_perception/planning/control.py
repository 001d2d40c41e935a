"""Plan -> Command: what the actuators are to do now."""

from __future__ import annotations

import math

import numpy as np

from karp_perception.core import Command, Plan


def command_of(plan: Plan, wheelbase: float, ahead: float = 0.1) -> Command:
    """The command that follows a plan, of the moment `ahead` s from its stamp.

    The front wheels' angle is that of the bicycle model for a wheelbase in m. An empty plan asks for standing still.
    """
    way = plan.trajectory
    if not len(way):
        return Command(0.0, 0.0, 0.0)
    speed, acceleration, curvature = (
        float(np.interp(ahead, way.time, column)) for column in (way.speed, way.acceleration, way.curvature)
    )
    return Command(math.atan(wheelbase * curvature), speed, acceleration)
