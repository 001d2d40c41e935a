"""The strip of road the vehicle is going to sweep, and where boxes touch it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np

from karp_perception.core import Vehicle
from karp_perception.core.compiled import njit
from karp_perception.planning.reference_line import ReferenceLine


class Sideways(Protocol):
    """How far beside a line a way runs."""

    def offset_at(self, s: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Offset to the left (m), slope and second derivative (1/m) at distances (K,) along the line."""


@dataclass(frozen=True)
class Approach:
    """The way from where the vehicle is to an offset from the line: a quintic, then along it.

    Attributes:
        offset, slope: of the vehicle at distance 0 along the line: m to the left, and the tangent of its heading.
        length: m after which the target is reached.
        target: m to the left of the line, where the vehicle is to drive.
        bend: 1/m, by which the vehicle's path bends more to the left than the line, at distance 0.
    """

    offset: float = 0.0
    slope: float = 0.0
    length: float = 10.0
    target: float = 0.0
    bend: float = 0.0

    def offset_at(self, s: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Offset to the left (m), slope and second derivative (1/m) at distances (K,) along the line."""
        u = np.clip(np.asarray(s, float) / self.length, 0.0, 1.0)
        a, b, c = self.offset - self.target, self.slope * self.length, self.bend * self.length**2
        rest = 1 - u
        value = a * (1 - u**3 * (10 - 15 * u + 6 * u**2)) + b * u * (1 - u**2 * (6 - 8 * u + 3 * u**2))
        value = value + 0.5 * c * u**2 * rest**3
        slope = -30 * a * u**2 * rest**2 + b * (1 - u**2 * (18 - 32 * u + 15 * u**2))
        slope = slope + c * u * rest**2 * (1 - 2.5 * u)
        bend = -60 * a * u * (1 - 3 * u + 2 * u**2) + b * u * (-36 + 96 * u - 60 * u**2)
        bend = bend + c * rest * (1 - 8 * u + 10 * u**2)
        return self.target + value, slope / self.length, bend / self.length**2


@dataclass(frozen=True)
class Corridor:
    """What the vehicle sweeps along a line, with a margin on either side.

    Attributes:
        line: in the frame of the boxes that are asked about.
        vehicle: its shape.
        margin: m beside the vehicle's own width.
        length: how far ahead anything counts, m.
        approach: how the vehicle comes to where it drives along the line.
    """

    line: ReferenceLine
    vehicle: Vehicle
    margin: float
    length: float
    approach: Sideways

    @cached_property
    def sides(self) -> tuple[np.ndarray, np.ndarray]:
        """How far to the right and to the left of the line the bare vehicle comes at the line's points, (M,) m each.

        With sign. In a bend the front corner swings out by front²·curvature/2 (first order of the circle it describes).
        """
        half, bend = 0.5 * self.vehicle.width, self.line.curvature
        swing = np.minimum(0.5 * self.vehicle.front**2 * np.abs(bend), 1.0)
        middle = self.approach.offset_at(self.line.distance)[0]
        return middle - half - swing * (bend > 0), middle + half + swing * (bend < 0)

    def free_distance(self, s: np.ndarray, d: np.ndarray) -> np.ndarray:
        """(N,) way from the front bumper to where outlines enter the strip, m; infinity where they do not.

        An outline that already lies beside the vehicle counts only where it is in the way of the bare width: what is
        passed closely is no reason to stop half-way.

        Args:
            s, d: (N, V) distance along the line and offset from it of closed outlines, in order.
        """
        right, left = self.sides
        line = self.line
        return np.asarray(
            _free_distance(s, d, right, left, line.start, line.step, self.margin, self.vehicle.front, self.length)
        )


@njit(cache=True, nogil=True, error_model="numpy")
def between(values: np.ndarray, position: float) -> float:
    """Linear interpolation at a fractional index; the ends hold beyond. `np.interp` at even steps."""
    last = len(values) - 1
    if not position > 0.0:
        return values[0]
    if position >= last:
        return values[last]
    low = int(position)
    share = position - low
    return values[low] * (1.0 - share) + values[low + 1] * share


@njit(cache=True, nogil=True, error_model="numpy")
def _free_distance(
    s: np.ndarray,
    d: np.ndarray,
    right: np.ndarray,
    left: np.ndarray,
    start: float,
    step: float,
    margin: float,
    front: float,
    length: float,
) -> np.ndarray:
    """Cuts each piece of each outline at both sides of the strip (Liang and Barsky 1984)."""
    count, vertices = s.shape
    free = np.full(count, np.inf)
    for n in range(count):
        first = np.inf
        for v in range(vertices):
            first = min(first, s[n, v])
        beside = margin if first > front else 0.0
        for v in range(vertices):
            w = v + 1 if v + 1 < vertices else 0
            s0, s1 = s[n, v], s[n, w]
            low, high = 0.0, 1.0
            for side in range(2):
                if side == 0:
                    inside = d[n, v] - between(right, (s0 - start) / step) + beside
                    after = d[n, w] - between(right, (s1 - start) / step) + beside
                else:
                    inside = between(left, (s0 - start) / step) + beside - d[n, v]
                    after = between(left, (s1 - start) / step) + beside - d[n, w]
                if inside < 0.0 and after < 0.0:
                    high = -1.0
                elif inside < 0.0 and after > inside:
                    low = max(low, -inside / (after - inside))
                elif after < 0.0 and after < inside:
                    high = min(high, -inside / (after - inside))
            if low > high:
                continue
            one, two = s0 + low * (s1 - s0), s0 + high * (s1 - s0)
            near, far = min(one, two), max(one, two)
            if far > front and near < length:
                free[n] = min(free[n], max(near - front, 0.0))
    return free
