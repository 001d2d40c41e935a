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

_KNOTS = np.concatenate([[0.0], STATIONS])
_PIECES = CubicSpline(_KNOTS, np.eye(len(_KNOTS))[:, 1:], bc_type="clamped").c
"""(4, 6, 6) of each piece between two knots, the coefficients that a shift of 1 m at each station gives."""


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
    def _pieces(self) -> np.ndarray:
        """(4, 6) coefficients of the pieces, over spans."""
        return _PIECES @ self.shifts

    def offset_at(self, s: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Offset to the left of the line (m), slope and second derivative (1/m) at distances (K,) along it."""
        place = np.asarray(s, float) / self.span
        inside = np.clip(place, 0.0, _KNOTS[-1])
        piece = np.minimum(np.searchsorted(_KNOTS, inside, side="right") - 1, len(STATIONS) - 1)
        a, b, c, d = self._pieces[:, piece]
        u = inside - _KNOTS[piece]
        within = place == inside
        value, slope, bend = self.base.offset_at(s)
        return (
            value + ((a * u + b) * u + c) * u + d,
            slope + ((3 * a * u + 2 * b) * u + c) * within / self.span,
            bend + (6 * a * u + 2 * b) * within / self.span**2,
        )
