"""Compiled: where points lie along and beside a line of even steps."""

from __future__ import annotations

import numpy as np

from karp_perception.core.compiled import njit

_BLOCK = 8  # vertices that are looked at together


@njit(cache=True, nogil=True, error_model="numpy")
def project(points: np.ndarray, line: np.ndarray, start: float, step: float) -> tuple[np.ndarray, np.ndarray]:
    """Distance along (P,) and offset to the left (P,) of points (P, 2); the ends are continued straight.

    The nearest vertex is found exactly, wherever the line leads: of blocks of eight vertices those are left out whose
    nearest would be farther than what is found already, as none is farther from the block's middle than the way along
    the line. The nearer of the two segments that meet there counts; where a line crosses itself, or lies as near
    twice to within half a step, either way may.

    Args:
        points: m. Not finite ones give not finite results.
        line: (M, 2) m, M >= 2, vertices at most `step` m apart; the first lies at distance `start`.
    """
    count, vertices = len(points), len(line)
    s, d = np.empty(count), np.empty(count)
    half, reach = _BLOCK // 2, (_BLOCK // 2) * step
    for p in range(count):
        x, y = points[p, 0], points[p, 1]
        nearest, least = 0, np.inf
        for v in range(half, vertices + half, _BLOCK):
            v = min(v, vertices - 1)
            dx, dy = x - line[v, 0], y - line[v, 1]
            away = dx * dx + dy * dy
            if away < least:
                nearest, least = v, away
        bound = (np.sqrt(least) + reach) ** 2
        for middle in range(half, vertices + half, _BLOCK):
            v = min(middle, vertices - 1)
            dx, dy = x - line[v, 0], y - line[v, 1]
            if dx * dx + dy * dy <= bound:
                for v in range(middle - half, min(middle + half, vertices)):
                    dx, dy = x - line[v, 0], y - line[v, 1]
                    away = dx * dx + dy * dy
                    if away < least:
                        nearest, least = v, away
        best = np.inf
        s[p], d[p] = np.nan, np.nan
        for segment in range(max(nearest - 1, 0), min(nearest, vertices - 2) + 1):
            dx, dy = line[segment + 1, 0] - line[segment, 0], line[segment + 1, 1] - line[segment, 1]
            length = np.sqrt(dx * dx + dy * dy)
            if length < 1e-9:  # where a line turns back on itself
                continue
            dx, dy = dx / length, dy / length
            ox, oy = x - line[segment, 0], y - line[segment, 1]
            along, left = ox * dx + oy * dy, dx * oy - dy * ox
            inside = along
            if segment > 0 and inside < 0.0:
                inside = 0.0
            if segment < vertices - 2 and inside > length:
                inside = length
            beyond = along - inside
            away = np.sqrt(left * left + beyond * beyond)
            if away < best:
                best = away
                # In a bend the chord is shorter than the step.
                way = inside * (step / length) if 0.0 <= inside <= length else inside
                if inside > length:
                    way = inside + step - length
                s[p] = start + step * segment + way
                d[p] = away if left >= 0.0 else -away
    return s, d
