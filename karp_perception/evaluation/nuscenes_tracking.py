"""AMOTA and AMOTP as the nuScenes tracking benchmark defines them (Caesar et al., CVPR 2020, and its devkit).

A result hits a truth of its frame that is nearer than 2 m on the ground. A pair that held before holds on while it
stays that near; the others are paired so that as many as possible are, at the least sum of distances. MOTAR at recall r
is 1 - (misses + false alarms + switches - (1 - r) truths) / (r truths), at least 0; AMOTA is its mean over 40 recalls
from 0.1 to 1, those that are not reached counting 0. AMOTP is the mean distance of pairs, 2 m where not reached.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from karp_perception.evaluation.track_pairs import Pairs, same_moment
from karp_perception.tracking.association import assign

RADIUS_M = 2.0
LOWEST_RECALL, RECALLS = 0.1, 40

_APART = 1e4


@dataclass(frozen=True)
class NuscenesScores:
    """AMOTA in [0, 1], AMOTP in m, the best MOTA and the switches there; all NaN without truth."""

    amota: float
    amotp: float
    mota: float
    switches: float


@dataclass(frozen=True)
class _Run:
    matches: np.ndarray  # results that go on with their truth, or are its first
    misses: int
    false_alarms: int
    switches: int
    distance: float  # mean of all pairs


class NuscenesTracking:
    """Truth and results of one class over all scenes.

    Args:
        moment, trajectory: (N,) int of each truth: its frame, and who it is; no two scenes share numbers.
        center: (N, 2) m.
        found_moment, track: (M,) int of each result. found_center: (M, 2) m. score: (M,) of each box.
    """

    def __init__(
        self,
        moment: np.ndarray,
        trajectory: np.ndarray,
        center: np.ndarray,
        found_moment: np.ndarray,
        track: np.ndarray,
        found_center: np.ndarray,
        score: np.ndarray,
    ) -> None:
        self.moment, self.trajectory, self.track = moment, trajectory, track
        _, group = np.unique(track, return_inverse=True)
        mean = np.bincount(group, score) / np.maximum(np.bincount(group), 1) if len(track) else score
        self.score = mean[group] if len(track) else score
        i, j = same_moment(moment, found_moment)
        distance = np.hypot(*(center[i] - found_center[j]).T)
        near = distance < RADIUS_M
        order = np.argsort(moment[i[near]], kind="stable")
        self.pairs = Pairs(i[near][order], j[near][order], distance[near][order])

    def run(self, threshold: float = -np.inf) -> _Run:
        """Frame by frame, with the tracks whose score is at least `threshold`."""
        kept = self.score >= threshold
        pairs = self.pairs.take(kept[self.pairs.found])
        moments = self.moment[pairs.truth]
        bounds = np.flatnonzero(np.r_[True, moments[1:] != moments[:-1], True]) if len(moments) else np.zeros(1, int)
        last: dict[int, int] = {}
        matches, switches, total, count = [], 0, 0.0, 0
        for begin, end in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
            truth, found, distance = (a[begin:end] for a in (pairs.truth, pairs.found, pairs.similarity))
            before = np.array([last.get(who, -1) for who in self.trajectory[truth].tolist()])
            old = np.flatnonzero(before == self.track[found])
            old = old[np.argsort(truth[old], kind="stable")]
            old = old[np.unique(found[old], return_index=True)[1]]  # of two that want it, the earlier truth
            free = np.flatnonzero(~np.isin(truth, truth[old]) & ~np.isin(found, found[old]))
            new = free[assign(truth[free], found[free], distance[free], _APART)]
            switched = (before[new] != -1) & (before[new] != self.track[found[new]])
            switches += int(switched.sum())
            matches += [found[old], found[new[~switched]]]
            taken = np.r_[old, new]
            total, count = total + float(distance[taken].sum()), count + len(taken)
            last.update(zip(self.trajectory[truth[taken]].tolist(), self.track[found[taken]].tolist(), strict=True))
        mean = total / count if count else np.nan
        matched = np.concatenate([np.zeros(0, int), *matches])
        return _Run(matched, len(self.moment) - count, int(kept.sum()) - count, switches, mean)


def nuscenes_scores(tracking: NuscenesTracking) -> NuscenesScores:
    """The averages over recall."""
    truths = len(tracking.moment)
    if truths == 0:
        return NuscenesScores(np.nan, np.nan, np.nan, np.nan)
    scores = np.sort(tracking.score[tracking.run().matches])[::-1]
    reached = np.arange(1, len(scores) + 1) / truths
    recalls = np.linspace(LOWEST_RECALL, 1.0, RECALLS).round(12)
    recalls = recalls[recalls <= reached.max(initial=0.0)]
    if len(recalls) == 0:
        return NuscenesScores(0.0, RADIUS_M, 0.0, 0.0)
    runs = [tracking.run(threshold) for threshold in np.interp(recalls, reached, scores, right=0)]
    errors = np.array([run.misses + run.false_alarms + run.switches for run in runs])
    recall = np.array([len(run.matches) for run in runs]) / truths
    motar = np.maximum(1 - (errors - (1 - recall) * truths) / np.maximum(recall * truths, 1e-12), 0.0)
    amotp = sum(run.distance for run in runs) + RADIUS_M * (RECALLS - len(runs))
    best = int(np.argmin(errors))
    mota = max(1 - errors[best] / truths, 0.0)
    return NuscenesScores(float(motar.sum() / RECALLS), amotp / RECALLS, float(mota), float(runs[best].switches))
