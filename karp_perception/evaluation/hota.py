"""HOTA: how well objects are found and kept apart, in one figure (Luiten et al., IJCV 2021), as TrackEval defines it.

For each overlap alpha of 0.05, 0.1, ... 0.95: DetA = TP / (TP + FN + FP); AssA is the mean over the TP of
TPA / (TPA + FNA + FPA), where TPA are the TP that have the same truth and the same track; HOTA = sqrt(DetA AssA). Pairs
are those that make the product of overlap and of how much the two trajectories overlap altogether largest, in each
frame. The figures are means over alpha.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from karp_perception.evaluation.track_pairs import Pairs, numbered
from karp_perception.tracking.association import assign

ALPHAS = np.arange(0.05, 0.99, 0.05)

_EPS = np.finfo(float).eps


@dataclass(frozen=True)
class Hota:
    """HOTA and its parts, means over ALPHAS; `by_alpha` (19,) is HOTA at each."""

    hota: float
    deta: float
    assa: float
    loca: float
    by_alpha: np.ndarray


def hota(trajectory: np.ndarray, track: np.ndarray, pairs: Pairs) -> Hota:
    """Of truths and results of all frames.

    Args:
        trajectory: (N,) int identity of each truth, the same number in no two sequences.
        track: (M,) int identity of each result, alike.
        pairs: of one frame each, similarity in (0, 1]; those that are missing are 0.
    """
    truths, results = len(trajectory), len(track)
    if truths == 0 or results == 0:
        nothing = np.zeros(len(ALPHAS))
        return Hota(0.0, 0.0, 0.0, 1.0, nothing)
    truth, found, similarity = pairs.truth, pairs.found, pairs.similarity
    of_truth, of_found = (np.bincount(rows, similarity, size) for rows, size in ((truth, truths), (found, results)))
    joint = of_truth[truth] + of_found[found] - similarity
    both = numbered(trajectory[truth], track[found])
    potential = np.bincount(both, similarity / np.maximum(joint, _EPS))
    length = np.bincount(trajectory)[trajectory[truth]] + np.bincount(track)[track[found]]
    aligned = (potential[both] if len(both) else np.zeros(0)) / np.maximum(length - potential[both], _EPS)
    score = aligned * similarity
    taken = assign(truth, found, -score, 0.0)
    matched, both, length = similarity[taken], both[taken], length[taken]
    deta, assa, loca = (np.zeros(len(ALPHAS)) for _ in range(3))
    for k, alpha in enumerate(ALPHAS):
        good = matched >= alpha - _EPS
        hits = int(good.sum())
        deta[k] = hits / max(truths + results - hits, 1)
        times = np.bincount(both[good], minlength=int(both.max(initial=0)) + 1)[both[good]]
        assa[k] = (times / (length[good] - times)).sum() / max(hits, 1)
        loca[k] = max(matched[good].sum(), 1e-10) / max(hits, 1e-10)
    by_alpha = np.sqrt(deta * assa)
    return Hota(float(by_alpha.mean()), float(deta.mean()), float(assa.mean()), float(loca.mean()), by_alpha)
