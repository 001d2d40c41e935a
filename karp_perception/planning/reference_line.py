"""The line a plan follows, and positions relative to it: distance along and offset to the left (Frenet coordinates)."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy.ndimage import gaussian_filter1d

from karp_perception.planning.projection import project

_SMOOTHING = 2.0
"""Standard deviation of the smoothing of routes, m: a right angle becomes a bend of about 2 m radius."""

_AGAINST = 5.0
"""m that a part of a route counts as farther away where it leads back."""

_AWAY_FROM_LAST = 0.05
"""m that it counts as farther away per m along the route from where the vehicle was."""


@dataclass(frozen=True)
class ReferenceLine:
    """A smooth line of M >= 2 points at an even step, in any planar frame.

    Attributes:
        points: (M, 2) m.
        start: distance along the line of the first point, m (negative where the line begins behind the vehicle).
        step: m between points.
        end: distance along the line where it really ends (a route's goal), m; infinity where it is open.
        heading: (M,) rad, continuous; curvature: (M,) 1/m, positive to the left. Both follow from the points.
    """

    points: np.ndarray
    start: float
    step: float
    end: float = float("inf")
    heading: np.ndarray = field(init=False, repr=False)
    curvature: np.ndarray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        ahead = np.diff(self.points, axis=0)
        ahead = np.concatenate([ahead, ahead[-1:]])
        heading = np.unwrap(np.arctan2(ahead[:, 1], ahead[:, 0]))
        if len(heading) > 2:  # a vertex looks along the mean of its two segments
            heading[1:-1] = 0.5 * (heading[:-2] + heading[1:-1])
        set_field = object.__setattr__
        set_field(self, "heading", heading)
        set_field(self, "curvature", np.gradient(heading, self.step))

    @classmethod
    def arc(cls, curvature: float, behind: float, ahead: float, most_turn: float, step: float = 0.5) -> ReferenceLine:
        """A circle from the origin along x with a curvature (1/m); straight behind, and after `most_turn` rad."""
        s = np.arange(-np.ceil(behind / step), np.ceil(ahead / step) + 1) * step
        turning = np.clip(s, 0.0, most_turn / max(abs(curvature), 1e-9))
        bend = curvature * turning
        # Chord of the arc (sinc keeps it exact for a vanishing curvature), then the straight rest.
        chord = turning * np.sinc(bend / (2 * np.pi))
        rest = s - turning
        x = chord * np.cos(bend / 2) + rest * np.cos(bend)
        y = chord * np.sin(bend / 2) + rest * np.sin(bend)
        return cls(np.column_stack([x, y]), float(s[0]), step)

    @classmethod
    def from_polyline(
        cls, points: np.ndarray, origin: float, behind: float, ahead: float, step: float = 0.5
    ) -> ReferenceLine:
        """The part of a polyline around the vehicle, resampled and smoothed; distance 0 is nearest to (0, 0).

        Args:
            points: (N, 2) m, N >= 2, consecutive ones distinct.
            origin: distance along the polyline where the vehicle is, from `nearest_distance`, m.
            behind, ahead: how much of it to keep, m. What is missing behind is continued straight.
        """
        along = polyline_distance(points)
        # Smoothing reaches beyond the window, so a little more than asked is resampled; then an even step once more.
        low, high = max(origin - behind - 10.0, 0.0), min(origin + ahead + 10.0, along[-1])
        count = max(int(np.ceil((high - low) / step)), 2)
        s = np.linspace(low, high, count + 1)
        line = polyline_at(points, along, s)
        line = _smoothed(line, sigma=_SMOOTHING / step)
        s = np.r_[0.0, np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))]
        real_end = s[-1] if high >= along[-1] else float("inf")
        heading = line[1] - line[0]
        heading = heading / max(np.linalg.norm(heading), 1e-9)
        line = np.concatenate([line[:1] - heading * (behind + 10.0), line])
        s = np.r_[-(behind + 10.0), s]
        last = line[-1] - line[-2]
        last = last / max(np.linalg.norm(last), 1e-9)
        line = np.concatenate([line, line[-1:] + last * 30.0])  # something to project on beyond a goal
        s = np.r_[s, s[-1] + 30.0]
        zero = nearest_distance(line, s - s[0], origin - low - s[0])[0] + s[0]
        even = zero + step * np.arange(-np.ceil(behind / step), np.ceil(min(ahead, s[-1] - zero) / step) + 1)
        even = even[(even >= s[0]) & (even <= s[-1])]
        line = polyline_at(line, s, even)
        return cls(line, float(even[0] - zero), step, float(real_end - zero))

    @property
    def distance(self) -> np.ndarray:
        """(M,) distance along the line of its points, m."""
        return self.start + self.step * np.arange(len(self.points))

    def at(self, distance: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Points (K, 2), heading (K,) and curvature (K,) at distances (K,); beyond an end the line goes straight on."""
        s = self.distance
        inside = np.clip(distance, s[0], s[-1])
        point = polyline_at(self.points, s, inside)
        heading = np.interp(inside, s, self.heading)
        beyond = (distance - inside)[:, None]
        point = point + beyond * np.column_stack([np.cos(heading), np.sin(heading)])
        return point, heading, np.where(beyond[:, 0] == 0, np.interp(inside, s, self.curvature), 0.0)

    def project(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Distance along (P,) and offset to the left (P,) of points (P, 2); the ends are continued straight."""
        return project(np.ascontiguousarray(points, np.float64), self.points, self.start, self.step)


def polyline_distance(points: np.ndarray) -> np.ndarray:
    """(N,) distance along a polyline (N, 2) of its vertices, m."""
    return np.r_[0.0, np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))]


def polyline_at(points: np.ndarray, along: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """(K, 2) points at distances (K,) of a polyline (N, 2) with vertices at `along` (N,), m; the ends hold beyond."""
    return np.column_stack([np.interp(distance, along, points[:, axis]) for axis in (0, 1)])


def nearest_distance(points: np.ndarray, along: np.ndarray, near: float | None) -> tuple[float, float]:
    """Where a polyline (N, 2) with vertices at `along` (N,) comes nearest to (0, 0): distance along it, distance to it.

    A route that crosses itself, turns back beside itself or is driven several times comes near more than once. Then
    parts that lead along x, where the vehicle looks, count before others. With `near`, where it was before, only what
    comes within 5 m from 10 m before to 50 m behind that counts, and what is farther along than needs be counts as
    farther away: the vehicle does not jump along its route. Without, the earliest of those that are as near to within
    1 m.
    """
    a, direction = points[:-1], np.diff(points, axis=0)
    squared = np.maximum(np.einsum("ni,ni->n", direction, direction), 1e-18)
    fraction = np.clip(-np.einsum("ni,ni->n", a, direction) / squared, 0.0, 1.0)
    away = np.linalg.norm(a + fraction[:, None] * direction, axis=1)
    distance = along[:-1] + fraction * np.diff(along)
    # Where it comes no nearer before and behind.
    padded = np.r_[np.inf, away, np.inf]
    passes = np.flatnonzero((away <= padded[:-2]) & (away <= padded[2:]))
    cost = away[passes] + _AGAINST * (direction[passes, 0] < 0.0)
    if near is not None:
        change = distance[passes] - near
        close = (change >= -10.0) & (change <= 50.0) & (away[passes] < 5.0)
        if close.any():
            passes, cost = passes[close], (cost + _AWAY_FROM_LAST * np.abs(change))[close]
            best = passes[np.argmin(cost)]
            return float(distance[best]), float(away[best])
    best = passes[np.flatnonzero(cost <= cost.min() + 1.0)[0]]
    return float(distance[best]), float(away[best])


def _smoothed(line: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian smoothing that leaves straight lines and both ends where they are (mirrored through a point)."""
    pad = int(np.ceil(4 * sigma))
    padded = np.pad(line, ((pad, pad), (0, 0)), mode="reflect", reflect_type="odd")
    return gaussian_filter1d(padded, sigma, axis=0, radius=pad)[pad : pad + len(line)]
