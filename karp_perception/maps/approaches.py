"""The ways on which traffic comes to a lane."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

APPROACH = 80.0
"""m before a lane from which on traffic counts as about to enter it."""

_MOST_WAYS = 16  # that lead into one lane; a map with more of them within the approach is no road


def predecessors(successors: Iterable[tuple[int, Sequence[int]]]) -> dict[int, list[int]]:
    """By lane: those that lead into it, of (lane, its successors)."""
    before: dict[int, list[int]] = {}
    for number, following in successors:
        for other in following:
            before.setdefault(other, []).append(number)
    return before


def ways_into(
    centers: Mapping[int, np.ndarray] | Sequence[np.ndarray], before: Mapping[int, Sequence[int]], number: int
) -> list[np.ndarray]:
    """A lane together with each way that leads into it: polylines (N, 2) m that begin about 80 m before it.

    Args:
        centers: (N, 2) m by lane.
        before: by lane, those that lead into it.
        number: the lane.
    """
    ways: list[np.ndarray] = []
    open_ways = [((number,), 0.0)]
    while open_ways:
        way, length = open_ways.pop()
        earlier = [n for n in before.get(way[0], ()) if n not in way] if length < APPROACH else []
        if not earlier or len(ways) + len(open_ways) >= _MOST_WAYS:
            points = np.concatenate([centers[n] for n in way])
            step = np.linalg.norm(np.diff(points, axis=0), axis=1)
            ways.append(points[np.concatenate([[True], step > 1e-3])])
            continue
        open_ways += [((n, *way), length + _length(centers[n])) for n in earlier]
    return ways


def _length(points: np.ndarray) -> float:
    return float(np.linalg.norm(np.diff(points, axis=0), axis=1).sum())
