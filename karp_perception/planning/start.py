"""How a plan begins: how the vehicle moves now, and what it was about to do."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from karp_perception.core import EgoState, Plan, Vehicle
from karp_perception.planning.corridor import Approach
from karp_perception.planning.reference_line import ReferenceLine

_FASTEST = 100.0  # m/s
_MOST_BEND = 0.1  # 1/m beside that of the line, with which a way begins


@dataclass(frozen=True)
class Start:
    """The vehicle's motion along its way at the moment of a plan.

    Attributes:
        last: the plan before, as it was given out; None where none is remembered.
        dt: s since then.
        limit: of the speed, m/s.
        speed: m/s; as measured, else as the last plan says.
        acceleration: until now by the last plan, m/s²; each of a plan's values holds for a step.
        curvature: of the way of `base_link` by the last plan, 1/m.
    """

    last: Plan | None
    dt: float
    limit: float
    speed: float = 0.0
    acceleration: float = 0.0
    curvature: float = 0.0

    @classmethod
    def of(cls, last: Plan | None, dt: float, limit: float, ego: EgoState | None) -> Start:
        """From the last plan on; `ego` is None where the vehicle's motion is not known."""
        speed = acceleration = curvature = 0.0
        if last is not None and len(last.trajectory):
            way = last.trajectory
            speed = float(np.interp(dt, way.time, way.speed))
            acceleration = float(way.acceleration[max(np.searchsorted(way.time, dt - 1e-6) - 1, 0)])
            curvature = float(np.interp(dt, way.time, way.curvature))
        if ego is not None:
            speed = float(np.clip(ego.speed, 0.0, _FASTEST))
        return cls(last, dt, limit, speed, acceleration, curvature)

    def beside(self, line: ReferenceLine, vehicle: Vehicle) -> Approach:
        """Where and how the way of `base_link` (the origin) runs beside a line here: offset, slope and bend."""
        (heading,), (bend,) = line.at(np.zeros(1))[1:]
        course = np.arcsin(np.clip(vehicle.axle * self.curvature, -1.0, 1.0))  # it turns about its rear axle
        slope = float(np.clip(np.tan(course - heading), -1.0, 1.0))
        beyond = 0.0 if self.last is None else float(np.clip(self.curvature - bend, -_MOST_BEND, _MOST_BEND))
        return Approach(float(line.project(np.zeros((1, 2)))[1][0]), slope, bend=beyond)
