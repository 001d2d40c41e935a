"""Tracking measured as AB3DMOT's evaluation does: CLEAR MOT by 3D overlap, averaged over recall.

Weng, Wang, Held, Kitani, "3D Multi-Object Tracking: A Baseline and New Evaluation Metrics", IROS 2020, whose script is
derived from KITTI's (Geiger et al. 2012). Per frame the largest number of pairs with a 3D IoU of at least 0.25 is
taken, of those the ones that overlap most. Truth that is hidden (occluded > 2) or cut (truncated > 0) or of a
neighbouring class (Van, Person_sitting) is neither hit nor miss; results beside no truth are no false alarms where they
are at most 25 px tall or lie by more than half in an area marked DontCare. The score of a track is the mean of what its
boxes say; a threshold takes whole tracks. sMOTA at recall r is MOTA over what r asks for, within [0, 1]; sAMOTA, AMOTA
and AMOTP are means over the recalls 1/40, 2/40, ... 1, those that are not reached counting 0.

In one point the script depends on the order of its runs: a result that was matched once is never ignored again. Here
every threshold stands for itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from karp_perception.core.errors import InvalidInput
from karp_perception.evaluation.kitti_matching import recall_thresholds
from karp_perception.evaluation.track_pairs import Pairs, iou_3d_pairs, numbered, same_moment
from karp_perception.sensing.datasets.kitti_tracking import KittiRows
from karp_perception.tracking.association import assign

NEIGHBOURS = {"Car": "van", "Pedestrian": "person_sitting", "Cyclist": ""}
"""Classes that are measured, and for each the one that is neither hit nor miss."""

MIN_IOU = 0.25
RECALLS = 40

_MAX_OCCLUSION, _MAX_TRUNCATION, _MIN_HEIGHT_PX, _DONT_CARE_SHARE = 2, 0, 25.0, 0.5
_NOBODY = -1
_APART = 1e3  # costs more than all overlaps of a frame: as many pairs as possible come first
_FRAMES = 1 << 32  # more than any sequence has


@dataclass(frozen=True)
class Counts:
    """What one run over all frames counted, at one threshold.

    Attributes:
        truths: truth boxes that count. hits: pairs, those with ignored truth included. misses, false_alarms, switches,
        fragmentations: as they say. overlap: sum of the pairs' IoU. mostly_tracked, mostly_lost, trajectories: truth
        trajectories tracked in more than 80 %, in less than 20 % of their frames, and all.
    """

    truths: int
    hits: int
    misses: int
    false_alarms: int
    switches: int
    fragmentations: int
    overlap: float
    mostly_tracked: int
    mostly_lost: int
    trajectories: int

    @property
    def errors(self) -> int:
        """Misses, false alarms and switches."""
        return self.misses + self.false_alarms + self.switches

    @property
    def mota(self) -> float:
        """1 - errors / truths; -inf without truth."""
        return 1.0 - self.errors / self.truths if self.truths else -np.inf

    @property
    def motp(self) -> float:
        """Mean IoU of the pairs."""
        return self.overlap / self.hits if self.hits else 0.0

    def smota(self, recall: float) -> float:
        """MOTA in relation to what `recall` in (0, 1] asks for."""
        if not self.truths:
            return -np.inf
        return float(np.clip(1.0 - (self.errors - (1 - recall) * self.truths) / (recall * self.truths), 0.0, 1.0))


class KittiTracking:
    """Truth and results of all sequences for one class, ready to be counted at any threshold.

    Args:
        truth: labels of each sequence.
        results: of the same sequences, in the same order; the names of types as in labels.
        kind: a key of NEIGHBOURS.

    Raises InvalidInput for sequences that do not correspond, or a track that is twice in a frame.
    """

    def __init__(self, truth: Sequence[KittiRows], results: Sequence[KittiRows], kind: str) -> None:
        if len(truth) != len(results):
            raise InvalidInput("sequences", f"results of {len(truth)} sequences", len(results))
        label, label_sequence = _joined(truth)
        found, found_sequence = _joined(results)
        labelled = np.char.lower(label.kind)
        names = [kind.lower(), NEIGHBOURS[kind]] if NEIGHBOURS[kind] else [kind.lower()]
        mine = np.isin(labelled, names) & (label.track_id >= 0)
        self.truth = label[mine]
        self.moment = _moment(label_sequence, label.frame)[mine]
        self.trajectory = numbered(label_sequence[mine], self.truth.track_id)
        named = np.isin(np.char.lower(found.kind), names)
        self.found, found_sequence = found[named], found_sequence[named]
        self.found_moment = _moment(found_sequence, self.found.frame)
        self.track = numbered(found_sequence, self.found.track_id)
        if len(np.unique(np.column_stack([self.found_moment, self.track]), axis=0)) < len(self.track):
            raise InvalidInput("results", "each track once a frame", "one that is there twice")
        hard = (self.truth.occluded > _MAX_OCCLUSION) | (self.truth.truncated > _MAX_TRUNCATION)
        self.ignored = hard | (np.char.lower(self.truth.kind) != kind.lower())
        self.score = _mean_by(self.track, self.found.score)[self.track] if len(self.track) else np.zeros(0)
        areas = labelled == "dontcare"
        small = np.abs(self.found.rectangle[:, 3] - self.found.rectangle[:, 1]) <= _MIN_HEIGHT_PX
        neighbour = np.char.lower(self.found.kind) != kind.lower()
        self.excused = small | neighbour | self._in_areas(label[areas], _moment(label_sequence, label.frame)[areas])
        sides = ((rows.ground(), rows.heights()) for rows in (self.truth, self.found))
        self.overlaps = iou_3d_pairs(self.moment, next(sides), self.found_moment, next(sides))
        self.pairs = self.overlaps.take(self.overlaps.similarity >= MIN_IOU)
        self._order = np.lexsort((self.truth.frame, self.trajectory))

    def _in_areas(self, areas: KittiRows, moment: np.ndarray) -> np.ndarray:
        """(M,) whether more than half of a result's rectangle lies in one area of its frame."""
        i, j = same_moment(self.found_moment, moment)
        a, b = self.found.rectangle[i], areas.rectangle[j]
        common = np.maximum(np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2]), 0.0).prod(axis=1)
        area = np.maximum((a[:, 2:] - a[:, :2]).prod(axis=1), 1e-12)
        inside = np.zeros(len(self.found), bool)
        inside[i[common / area > _DONT_CARE_SHARE]] = True
        return inside

    def matched(self, threshold: float = -np.inf) -> tuple[np.ndarray, np.ndarray]:
        """(N,) row of the result that each truth takes or -1, and (N,) their overlap, of tracks from `threshold` on."""
        pairs = self.pairs.take(self.score[self.pairs.found] >= threshold)
        taken = pairs.take(assign(pairs.truth, pairs.found, 1.0 - pairs.similarity, _APART))
        found, overlap = np.full(len(self.truth), _NOBODY), np.zeros(len(self.truth))
        found[taken.truth], overlap[taken.truth] = taken.found, taken.similarity
        return found, overlap

    def counts(self, threshold: float = -np.inf) -> Counts:
        """CLEAR MOT with the tracks whose score is at least `threshold`."""
        found, overlap = self.matched(threshold)
        hit = found != _NOBODY
        free = (self.score >= threshold) & ~self.excused
        free[found[hit]] = False
        track = np.where(hit, self.track[found] if len(self.track) else _NOBODY, _NOBODY)
        switches, fragmentations = _changes(track[self._order], self.ignored[self._order], self.trajectory[self._order])
        mostly = _mostly(hit[self._order], self.ignored[self._order], self.trajectory[self._order])
        return Counts(
            int((~self.ignored).sum()), int(hit.sum()), int((~hit & ~self.ignored).sum()), int(free.sum()),
            switches, fragmentations, float(overlap.sum()), *mostly,
        )  # fmt: skip

    def counted(self, threshold: float = -np.inf) -> tuple[np.ndarray, np.ndarray]:
        """(N,) truths and (M,) results that count: not ignored, nor taken by what is, nor excused beside all truth."""
        found, _ = self.matched(threshold)
        hit = found != _NOBODY
        keep = (self.score >= threshold) & ~self.excused
        keep[found[hit]] = ~self.ignored[hit]
        return ~self.ignored, keep

    def similarities(self) -> Pairs:
        """All pairs that touch, by rows of truth and results, with their 3D IoU."""
        return self.overlaps


@dataclass(frozen=True)
class KittiScores:
    """The averages over recall, and the counts at the threshold of the best MOTA."""

    samota: float
    amota: float
    amotp: float
    threshold: float
    best: Counts


def kitti_scores(tracking: KittiTracking) -> KittiScores:
    """sAMOTA, AMOTA, AMOTP, and everything at the threshold where MOTA is best."""
    everything = tracking.counts()
    found, _ = tracking.matched()
    positives = everything.hits + everything.misses
    if positives == 0 or everything.hits == 0:
        return KittiScores(0.0, 0.0, 0.0, -np.inf, everything)
    thresholds = recall_thresholds(tracking.score[found[found != _NOBODY]], positives, RECALLS + 1)[1:]
    runs = [tracking.counts(threshold) for threshold in thresholds]
    smota = sum(run.smota((k + 1) / RECALLS) for k, run in enumerate(runs)) / RECALLS
    best, threshold = everything, -np.inf
    highest = 0.0
    for run, at in zip(runs, thresholds.tolist(), strict=True):
        if run.mota > highest:
            highest, best, threshold = run.mota, run, at
    amota, amotp = (sum(getattr(run, name) for run in runs) / RECALLS for name in ("mota", "motp"))
    return KittiScores(smota, amota, amotp, threshold, best)


def _joined(parts: Sequence[KittiRows]) -> tuple[KittiRows, np.ndarray]:
    """All rows, and (N,) the number of the sequence of each."""
    sequence = [np.full(len(part), k) for k, part in enumerate(parts)]
    return KittiRows.concatenate(parts), np.concatenate([np.zeros(0, int), *sequence])


def _moment(sequence: np.ndarray, frame: np.ndarray) -> np.ndarray:
    return sequence * _FRAMES + frame


def _mean_by(group: np.ndarray, value: np.ndarray) -> np.ndarray:
    return np.bincount(group, value) / np.maximum(np.bincount(group), 1)


def _changes(track: np.ndarray, ignored: np.ndarray, trajectory: np.ndarray) -> tuple[int, int]:
    """Switches and fragmentations of truth rows sorted by trajectory and frame.

    A switch: two frames in a row are tracked, by different tracks, and both count. A fragmentation: tracked by another
    track than the frame before, or again after a gap, once more in the next frame; at the end of a trajectory also
    where it is tracked in its last frame only. Ignored frames begin a trajectory anew, but for its first.
    """
    n = len(track)
    if n == 0:
        return 0, 0
    first = np.r_[True, trajectory[1:] != trajectory[:-1]]
    last = np.r_[first[1:], True]
    hit, rows = track != _NOBODY, np.arange(n)
    before, after = np.r_[_NOBODY, track[:-1]], np.r_[track[1:], _NOBODY]
    remembered = ~np.r_[False, (ignored & ~first)[:-1]]  # the frame before counts, or is the first one
    switch = ~first & ~ignored & hit & (before != _NOBODY) & (before != track) & remembered
    start = np.maximum.accumulate(np.where(first, rows, 0))
    forgotten = np.maximum.accumulate(np.where(ignored & ~first, rows, -1))
    seen = np.maximum.accumulate(np.where(hit & (first | ~ignored), rows, -1))
    known = np.r_[-1, seen[:-1]] >= np.maximum(start, np.r_[-1, forgotten[:-1]])
    inside = ~first & ~last & ~ignored & hit & (before != track) & known & (after != _NOBODY)
    at_end = ~first & last & ~ignored & hit & (before != track)
    return int(switch.sum()), int((inside | at_end).sum())


def _mostly(hit: np.ndarray, ignored: np.ndarray, trajectory: np.ndarray) -> tuple[int, int, int]:
    """Trajectories tracked in more than 80 %, in less than 20 % of the frames that count, and all that have any."""
    if len(hit) == 0:
        return 0, 0, 0
    first = np.r_[True, trajectory[1:] != trajectory[:-1]]
    counting = np.bincount(trajectory, ~ignored)
    tracked = np.bincount(trajectory, hit & (first | ~ignored))
    never = np.bincount(trajectory, hit) == 0
    there = counting > 0
    share = tracked / np.maximum(counting, 1)
    return int((there & (share > 0.8)).sum()), int((there & ((share < 0.2) | never)).sum()), int(there.sum())
