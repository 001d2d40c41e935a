"""Compiled: where points lie along and beside a line of even steps."""

from __future__ import annotations

import numpy as np

from karp_perception.core.compiled import njit

_COARSE = 8  # vertices between two that are looked at first


@njit(cache=True, nogil=True, error_model="numpy")
def project(points: np.ndarray, line: np.ndarray, start: float, step: float) -> tuple[np.ndarray, np.ndarray]:
    """Distance along (P,) and offset to the left (P,) of points (P, 2); the ends are continued straight.

    Every `_COARSE`th vertex is looked at, then those around the nearest of them: exact for lines that do not turn
    back within as many vertices, which smoothed routes do not.

    Args:
        points: m. Not finite ones give not finite results.
        line: (M, 2) m, M >= 2, vertices `step` m apart; the first lies at distance `start`.
    """
    count, vertices = len(points), len(line)
    s, d = np.empty(count), np.empty(count)
    for p in range(count):
        x, y = points[p, 0], points[p, 1]
        nearest, least = 0, np.inf
        for v in range(0, vertices, _COARSE):
            dx, dy = x - line[v, 0], y - line[v, 1]
            away = dx * dx + dy * dy
            if away < least:
                nearest, least = v, away
        coarse = nearest
        for v in range(max(coarse - _COARSE + 1, 0), min(coarse + _COARSE, vertices)):
            dx, dy = x - line[v, 0], y - line[v, 1]
            away = dx * dx + dy * dy
            if away < least:
                nearest, least = v, away
        best = np.inf
        s[p], d[p] = np.nan, np.nan
        for segment in range(max(nearest - 1, 0), min(nearest, vertices - 2) + 1):
            dx, dy = line[segment + 1, 0] - line[segment, 0], line[segment + 1, 1] - line[segment, 1]
            length = np.sqrt(dx * dx + dy * dy)
            dx, dy = dx / length, dy / length
            ox, oy = x - line[segment, 0], y - line[segment, 1]
            along, left = ox * dx + oy * dy, dx * oy - dy * ox
            inside = along
            if segment > 0 and inside < 0.0:
                inside = 0.0
            if segment < vertices - 2 and inside > length:
                inside = length
            away = np.hypot(left, along - inside)
            if away < best:
                best = away
                s[p] = start + step * segment + inside
                d[p] = away if left >= 0.0 else -away
    return s, d
