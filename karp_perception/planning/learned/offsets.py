"""Ways beside another way: shifted sideways by so much at so many places."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.interpolate import CubicSpline

from karp_perception.planning.corridor import Sideways

STATIONS = np.array([0.25, 0.5, 0.75, 1.0, 1.5, 2.0])
"""Where shifts are given, in spans."""

_SPAN_S, _LEAST_SPAN = 3.0, 24.0  # s, m


def span_at(speed: float) -> float:
    """m along the line to the station at 1, at a speed in m/s: to move sideways takes time, and way."""
    return max(_LEAST_SPAN, _SPAN_S * speed)


@dataclass(frozen=True)
class Shifted:
    """Leaves a way smoothly, and runs beside it: a cubic spline of shifts at the stations. See `corridor.Sideways`.

    Attributes:
        base: the way.
        span: m, see `span_at`.
        shifts: (6,) m to the left of it at the stations; the last holds on.
    """

    base: Sideways
    span: float
    shifts: np.ndarray

    @cached_property
    def _spline(self) -> CubicSpline:
        places = self.span * np.concatenate([[0.0], STATIONS])
        return CubicSpline(places, np.concatenate([[0.0], self.shifts]), bc_type="clamped")

    def offset_at(self, s: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Offset to the left of the line (m), slope and second derivative (1/m) at distances (K,) along it."""
        s = np.asarray(s, float)
        inside = np.clip(s, 0.0, self.span * STATIONS[-1])
        within = s == inside
        value, slope, bend = self.base.offset_at(s)
        spline = self._spline
        return value + spline(inside), slope + spline(inside, 1) * within, bend + spline(inside, 2) * within
