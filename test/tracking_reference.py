"""The definitions of tracking measures written as loops over frames, to compare the package's own with."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from scipy.optimize import linear_sum_assignment

from karp_perception.evaluation.kitti_tracking import MIN_IOU
from karp_perception.sensing.datasets.kitti_tracking import KittiRows


def overlap_3d(a: np.ndarray, b: np.ndarray) -> float:
    """IoU of two boxes x, y, z of the middle, length, width, height that lie along the axes."""
    low, high = np.maximum(a[:3] - a[3:] / 2, b[:3] - b[3:] / 2), np.minimum(a[:3] + a[3:] / 2, b[:3] + b[3:] / 2)
    common = np.prod(np.maximum(high - low, 0))
    return float(common / (np.prod(a[3:]) + np.prod(b[3:]) - common))


def upright(rows: KittiRows) -> np.ndarray:
    """(N, 6) middle and size of rows whose yaw is 0 in upright axes."""
    (x, y, z), (height, width, length) = rows.bottom.T, rows.size.T
    return np.column_stack([z, -x, 0.5 * height - y, length, width, height])


def clear_mot(truth: list[KittiRows], results: list[KittiRows], neighbour: str, threshold: float) -> dict[str, float]:
    """Counts as in KITTI's script, one sequence, frame and trajectory after the other."""
    total = dict.fromkeys(("truths", "hits", "misses", "false_alarms", "switches", "fragmentations", "overlap"), 0.0)
    scores: list[float] = []
    for labels, found in zip(truth, results, strict=True):
        mean = {i: found.score[found.track_id == i].mean() for i in set(found.track_id.tolist())}
        story: dict[int, list[int]] = defaultdict(list)
        forgiven: dict[int, list[bool]] = defaultdict(list)
        boxes, others = upright(labels), upright(found)
        for frame in range(int(max(labels.frame.max(initial=0), found.frame.max(initial=0))) + 1):
            mine = [i for i in np.flatnonzero(labels.frame == frame) if labels.kind[i] != "DontCare"]
            areas = [i for i in np.flatnonzero(labels.frame == frame) if labels.kind[i] == "DontCare"]
            there = [j for j in np.flatnonzero(found.frame == frame) if mean[found.track_id[j]] >= threshold]
            iou = np.array([[overlap_3d(boxes[i], others[j]) for j in there] for i in mine]).reshape(
                len(mine), len(there)
            )
            rows, columns = linear_sum_assignment(np.where(iou >= MIN_IOU, 1 - iou, 1e6))
            taken = {int(a): int(b) for a, b in zip(rows, columns, strict=True) if iou[a, b] >= MIN_IOU}
            for a, i in enumerate(mine):
                ignored = labels.occluded[i] > 2 or labels.truncated[i] > 0 or labels.kind[i].lower() == neighbour
                total["truths"] += not ignored
                total["misses"] += a not in taken and not ignored
                if a in taken:
                    total["hits"] += 1
                    total["overlap"] += iou[a, taken[a]]
                    scores.append(mean[found.track_id[there[taken[a]]]])
                who = labels.track_id[i]
                story[who].append(int(found.track_id[there[taken[a]]]) if a in taken else -1)
                forgiven[who].append(bool(ignored))
            for b, j in enumerate(there):
                left, top, right, bottom = found.rectangle[j]
                excused = abs(bottom - top) <= 25 or found.kind[j].lower() == neighbour
                for k in areas:
                    x1, y1, x2, y2 = labels.rectangle[k]
                    width, height = min(right, x2) - max(left, x1), min(bottom, y2) - max(top, y1)
                    inside = max(width, 0) * max(height, 0) / ((right - left) * (bottom - top))
                    excused = excused or inside > 0.5
                total["false_alarms"] += b not in taken.values() and not excused
        for who, ids in story.items():
            a, b = _changes(ids, forgiven[who])
            total["switches"] += a
            total["fragmentations"] += b
    return {**total, "scores": scores}


def _changes(ids: list[int], ignored: list[bool]) -> tuple[int, int]:
    switches = fragmentations = 0
    if all(ignored) or all(i == -1 for i in ids):
        return 0, 0
    last = ids[0]
    for f in range(1, len(ids)):
        if ignored[f]:
            last = -1
            continue
        if last not in (ids[f], -1) and ids[f] != -1 and ids[f - 1] != -1:
            switches += 1
        if f < len(ids) - 1 and ids[f - 1] != ids[f] and last != -1 and ids[f] != -1 and ids[f + 1] != -1:
            fragmentations += 1
        if ids[f] != -1:
            last = ids[f]
    if len(ids) > 1 and ids[-2] != ids[-1] and last != -1 and ids[-1] != -1 and not ignored[-1]:
        fragmentations += 1
    return switches, fragmentations


def hota_at(
    moment: np.ndarray, who: np.ndarray, found_moment: np.ndarray, track: np.ndarray, iou: np.ndarray, alpha: float
) -> tuple[float, float]:
    """DetA and AssA at one alpha, for a full table of overlaps (N, M), 0 between frames."""
    potential = np.zeros((who.max() + 1, track.max() + 1))
    for t in set(moment.tolist()) & set(found_moment.tolist()):
        a, b = np.flatnonzero(moment == t), np.flatnonzero(found_moment == t)
        here = iou[np.ix_(a, b)]
        joint = here.sum(0)[None] + here.sum(1)[:, None] - here
        for i, j in zip(*np.nonzero(joint > 0), strict=True):
            potential[who[a[i]], track[b[j]]] += here[i, j] / joint[i, j]
    length, other = np.bincount(who)[:, None], np.bincount(track)[None]
    aligned = potential / (length + other - potential)
    both, hits = np.zeros_like(potential), 0
    for t in set(moment.tolist()) & set(found_moment.tolist()):
        a, b = np.flatnonzero(moment == t), np.flatnonzero(found_moment == t)
        here = iou[np.ix_(a, b)]
        for i, j in zip(*linear_sum_assignment(-aligned[np.ix_(who[a], track[b])] * here), strict=True):
            if here[i, j] >= alpha - 1e-12:
                both[who[a[i]], track[b[j]]] += 1
                hits += 1
    ass = (both * both / np.maximum(length + other - both, 1)).sum() / max(hits, 1)
    return hits / max(len(who) + len(track) - hits, 1), ass
