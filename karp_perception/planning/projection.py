"""Compiled: where points lie along and beside a line of even steps."""

from __future__ import annotations

import numpy as np

from karp_perception.core.compiled import njit

_BLOCK = 8  # segments that are looked at together


@njit(cache=True, nogil=True, error_model="numpy")
def project(points: np.ndarray, line: np.ndarray, start: float, step: float) -> tuple[np.ndarray, np.ndarray]:
    """Distance along (P,) and offset to the left (P,) of points (P, 2); the ends are continued straight.

    Exact: of the segments in blocks of eight, those are left out of which even the nearest point would be farther than
    what is found already, as no point of a block is farther from its middle vertex than the way along the line. Where
    a line crosses itself both ways are as near as each other, and the earlier one counts.

    Args:
        points: m. Not finite ones give not finite results.
        line: (M, 2) m, M >= 2, vertices at most `step` m apart; the first lies at distance `start`.
    """
    count, segments = len(points), len(line) - 1
    s, d = np.empty(count), np.empty(count)
    blocks = (segments + _BLOCK - 1) // _BLOCK
    reach = 0.5 * _BLOCK * step
    for p in range(count):
        x, y = points[p, 0], points[p, 1]
        s[p], d[p] = np.nan, np.nan
        nearest, least = 0, np.inf
        for block in range(blocks):
            middle = min(block * _BLOCK + _BLOCK // 2, segments)
            dx, dy = x - line[middle, 0], y - line[middle, 1]
            away = dx * dx + dy * dy
            if away < least:
                nearest, least = block, away
        best = np.inf
        for k in range(-1, blocks):
            block = nearest if k < 0 else k
            if k >= 0:
                middle = min(block * _BLOCK + _BLOCK // 2, segments)
                dx, dy = x - line[middle, 0], y - line[middle, 1]
                # At its ends the line goes on: their blocks reach farther.
                bound = best + reach if 0 < block < blocks - 1 else np.inf
                if block == nearest or dx * dx + dy * dy > bound * bound:
                    continue
            for segment in range(block * _BLOCK, min((block + 1) * _BLOCK, segments)):
                dx, dy = line[segment + 1, 0] - line[segment, 0], line[segment + 1, 1] - line[segment, 1]
                length = np.sqrt(dx * dx + dy * dy)
                if length < 1e-9:
                    continue
                dx, dy = dx / length, dy / length
                ox, oy = x - line[segment, 0], y - line[segment, 1]
                along, left = ox * dx + oy * dy, dx * oy - dy * ox
                inside = along
                if segment > 0 and inside < 0.0:
                    inside = 0.0
                if segment < segments - 1 and inside > length:
                    inside = length
                beyond = along - inside
                away = np.sqrt(left * left + beyond * beyond)
                share = inside / length if 0.0 <= inside <= length else inside / step
                if inside > length:
                    share = 1.0 + (inside - length) / step
                distance = start + step * (segment + share)
                if away < best - 1e-9 or (away < best + 1e-9 and distance < s[p]):
                    best = min(away, best)
                    s[p] = distance
                    d[p] = away if left >= 0.0 else -away
    return s, d
