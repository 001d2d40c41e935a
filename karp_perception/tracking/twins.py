"""Things that are there twice: two boxes, or two tracks, of one thing.

A detector without suppression answers twice where it is unsure which class or which length a thing has. Two things of
one kind do not lie on each other: of boxes that do, only the surest is kept, and of tracks the one that is known best.
"""

from __future__ import annotations

import numpy as np

from karp_perception.core import Boxes
from karp_perception.core.classes import KIND
from karp_perception.tracking.association import whole_pairs
from karp_perception.tracking.visibility import near_pairs

_KIND = np.array([*KIND, -1])  # by label, UNKNOWN last


def twins(boxes: Boxes, rank: np.ndarray, overlap: float) -> np.ndarray:
    """(N,) which of N boxes lie on one of the same kind that ranks before them and is no twin itself.

    Args:
        boxes: with classes; those without one have no twins.
        rank: (N,) the lowest is kept; no two alike.
        overlap: common area, as part of the smaller footprint, from which two boxes are one thing.
    """
    twin = np.zeros(len(boxes), bool)
    i, j = near_pairs(boxes, boxes, 0.0)
    alike = (rank[i] < rank[j]) & (_KIND[boxes.label[i]] == _KIND[boxes.label[j]]) & (boxes.label[i] >= 0)
    i, j = i[alike], j[alike]
    if len(i) == 0:
        return twin
    pairs = whole_pairs(i, j, boxes, boxes, np.zeros((len(boxes), 2, 2)))
    rows = np.flatnonzero(pairs.overlap > overlap)
    for k in rows[np.argsort(rank[pairs.track[rows]], kind="stable")]:
        twin[pairs.box[k]] |= not twin[pairs.track[k]]
    return twin
