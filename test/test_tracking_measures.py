"""CLEAR MOT, sAMOTA, HOTA and nuScenes' AMOTA against the definitions as loops, and in cases with a known answer."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tracking_reference import clear_mot, hota_at, overlap_3d, upright

from karp_perception.core.errors import InvalidInput
from karp_perception.evaluation.hota import ALPHAS, hota
from karp_perception.evaluation.kitti_tracking import KittiTracking, kitti_scores
from karp_perception.evaluation.nuscenes_tracking import NuscenesTracking, nuscenes_scores
from karp_perception.evaluation.track_pairs import Pairs
from karp_perception.evaluation.tracking import measures
from karp_perception.sensing.datasets.kitti_tracking import KittiRows

FORWARD = -0.5 * np.pi  # rotation_y of what points along the camera's z


def rows(table: list[tuple[float, ...]], kind: list[str] | str = "Car", **columns: np.ndarray) -> KittiRows:
    """Rows from frame, track, x forward, y left, score; 4 x 2 x 1.5 m, whole in the picture."""
    a = np.reshape(np.array(table, float), (-1, 5))
    n = len(a)
    given = {
        "frame": a[:, 0].astype(int), "track_id": a[:, 1].astype(int), "score": a[:, 4],
        "kind": np.array([kind] * n if isinstance(kind, str) else kind, "<U16"), "rotation_y": np.full(n, FORWARD),
        "size": np.tile((1.5, 2.0, 4.0), (n, 1)), "bottom": np.column_stack([-a[:, 3], np.full(n, 1.6), a[:, 2]]),
        "rectangle": np.tile((100.0, 100.0, 200.0, 200.0), (n, 1)), "truncated": np.zeros(n, int),
        "occluded": np.zeros(n, int),
    }  # fmt: skip
    return KittiRows.of(n, **(given | columns))


def random_scene(seed: int) -> tuple[list[KittiRows], list[KittiRows]]:
    """Two sequences where tracks break, swap, are missed and invented; equal scores happen; so do empty frames."""
    rng = np.random.default_rng(seed)
    truth, results = [], []
    for _ in range(2):
        labels, found = [], []
        for frame in range(8):
            for who in range(4):
                x, y = 10 + 6.0 * who + 0.5 * frame, float(rng.normal(0, 0.1))
                if rng.random() < 0.85:
                    labels.append((frame, who, x, y, 0.0))
                if rng.random() < 0.75:
                    track = who + 10 * int(frame > 4) if rng.random() < 0.9 else (who + 1) % 4
                    score = round(float(rng.choice([0.2, 0.5, 0.8])), 1)
                    found.append((frame, track, x + rng.normal(0, 0.8), y, score))
            if rng.random() < 0.4:
                found.append((frame, 50 + int(rng.integers(3)), 80.0 + rng.normal(), 5.0, 0.3))
        found = list({(row[0], row[1]): row for row in found}.values())
        n, m = len(labels), len(found)
        kinds = rng.choice(["Car", "Van", "DontCare"], n, p=[0.8, 0.15, 0.05])
        id_of = np.array([-1 if k == "DontCare" else int(row[1]) for k, row in zip(kinds, labels, strict=True)], int)
        where = rng.uniform(0, 300, (m, 2)) if m else np.zeros((0, 2))
        size = rng.uniform(10, 80, (m, 2)) if m else np.zeros((0, 2))
        truth.append(
            rows(labels, list(kinds), track_id=id_of, occluded=rng.choice([0, 2, 3], n, p=[0.7, 0.2, 0.1]),
                 truncated=rng.choice([0, 1], n, p=[0.9, 0.1]), rectangle=np.tile((0.0, 0.0, 150.0, 150.0), (n, 1)))
        )  # fmt: skip
        results.append(rows(found, rectangle=np.column_stack([where, where + size])))
    return truth, results


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 100_000), st.sampled_from([-np.inf, 0.3, 0.5]))
def test_counts_are_those_of_kittis_loops(seed: int, threshold: float) -> None:
    truth, results = random_scene(seed)
    expected = clear_mot(truth, results, "van", threshold)
    found = KittiTracking(truth, results, "Car").counts(threshold)
    for name in ("truths", "hits", "misses", "false_alarms", "switches", "fragmentations"):
        assert getattr(found, name) == expected[name], name
    assert found.overlap == pytest.approx(expected["overlap"])


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 100_000))
def test_averages_over_recall_follow_the_definition(seed: int) -> None:
    truth, results = random_scene(seed)
    every = clear_mot(truth, results, "van", -np.inf)
    positives = every["hits"] + every["misses"]
    falling, recall, thresholds = sorted(every["scores"], reverse=True), 0.0, []
    for i, score in enumerate(falling):
        left, right = (i + 1) / positives, (i + 1 + (i < len(falling) - 1)) / positives
        if right - recall < recall - left and i < len(falling) - 1:
            continue
        thresholds.append((score, recall))
        recall += 1 / 40
    samota = amota = 0.0
    best, at = 0.0, -np.inf
    for score, asked in thresholds[1:]:
        run = clear_mot(truth, results, "van", score)
        errors = run["misses"] + run["false_alarms"] + run["switches"]
        mota = 1 - errors / run["truths"]
        amota += mota / 40
        samota += min(1, max(0, 1 - (errors - (1 - asked) * run["truths"]) / (asked * run["truths"]))) / 40
        if mota > best:
            best, at = mota, score
    scores = kitti_scores(KittiTracking(truth, results, "Car"))
    assert scores.samota == pytest.approx(samota)
    assert scores.amota == pytest.approx(amota)
    assert scores.threshold == pytest.approx(at)


def test_perfect_tracks_and_none_at_all() -> None:
    table = [(f, i, 10.0 + 8 * i + f, 0.0, 1.0) for f in range(30) for i in range(3)]  # more hits than recalls
    truth = rows(table)
    row = measures([truth], [truth], "Car")
    for name in ("samota", "amotp", "mota", "motp", "hota", "deta", "assa", "nuscenes_amota"):
        assert row[name] == pytest.approx(1.0, abs=1e-9), name
    assert row["nuscenes_amotp"] == pytest.approx(0.0)
    assert (row["switches"], row["fragmentations"], row["mostly_tracked"], row["trajectories"]) == (0, 0, 3, 3)
    nothing = measures([truth], [rows([])], "Car")
    assert (nothing["samota"], nothing["mota"], nothing["misses"], nothing["hota"]) == (0, 0, 90, 0)
    assert nothing["mostly_lost"] == 3
    without_truth = measures([rows([])], [truth], "Car")
    assert without_truth["false_alarms"] == 90
    assert without_truth["samota"] == 0
    assert measures([rows([])], [rows([])], "Cyclist")["truths"] == 0


def test_a_switch_and_a_gap_by_hand() -> None:
    truth = rows([(f, 0, 10.0 + f, 0, 1) for f in range(12)])
    found = rows([(f, 1 if f < 6 else 2, 10.0 + f, 0, 1) for f in range(12) if f not in (2, 3)])
    counts = KittiTracking([truth], [found], "Car").counts()
    # Frame 4 begins again after a gap, frame 6 with another id.
    assert (counts.switches, counts.fragmentations, counts.misses, counts.hits) == (1, 2, 2, 10)
    assert counts.mota == pytest.approx(1 - 3 / 12)


def test_sequences_do_not_mix_and_what_cannot_be_is_refused() -> None:
    truth = rows([(0, 0, 10.0, 0, 1)])
    elsewhere = KittiTracking([truth, rows([])], [rows([]), truth], "Car").counts()
    assert (elsewhere.hits, elsewhere.misses, elsewhere.false_alarms) == (0, 1, 1)
    with pytest.raises(InvalidInput, match="1 sequences"):
        KittiTracking([truth], [], "Car")
    with pytest.raises(InvalidInput, match="once a frame"):
        KittiTracking([truth], [rows([(0, 3, 10.0, 0, 1), (0, 3, 20.0, 0, 1)])], "Car")


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 100_000))
def test_hota_is_trackevals(seed: int) -> None:
    truth, results = (part[0] for part in random_scene(seed))
    if len(results) == 0:
        return
    a, b = upright(truth), upright(results)
    same = truth.frame[:, None] == results.frame[None]
    iou = np.array([[overlap_3d(p, q) for q in b] for p in a]) * same
    who, track = (np.unique(r.track_id, return_inverse=True)[1] for r in (truth, results))
    i, j = np.nonzero(iou)
    found = hota(who, track, Pairs(i, j, iou[i, j]))
    parts = np.array([hota_at(truth.frame, who, results.frame, track, iou, alpha) for alpha in ALPHAS])
    assert found.deta == pytest.approx(parts[:, 0].mean())
    assert found.assa == pytest.approx(parts[:, 1].mean())
    np.testing.assert_allclose(found.by_alpha, np.sqrt(parts.prod(axis=1)))


def by_loops(truth: KittiRows, found: KittiRows, threshold: float) -> tuple[int, int, int, int]:
    """Matches, misses, false alarms, switches: pairs that held go first, then as many as possible, the nearest."""
    from scipy.optimize import linear_sum_assignment

    mean = {i: found.score[found.track_id == i].mean() for i in set(found.track_id.tolist())}
    last: dict[int, int] = {}
    matches = misses = alarms = switches = 0
    place, other = upright(truth), upright(found)
    for frame in range(20):
        a = [i for i in range(len(truth)) if truth.frame[i] == frame]
        b = [j for j in range(len(found)) if found.frame[j] == frame and mean[found.track_id[j]] >= threshold]
        distance = np.array([[np.hypot(*(place[i, :2] - other[j, :2])) for j in b] for i in a]).reshape(len(a), len(b))
        free_a, free_b = set(range(len(a))), set(range(len(b)))
        for p in sorted(free_a):
            for q in sorted(free_b):
                held = last.get(int(truth.track_id[a[p]])) == found.track_id[b[q]]
                if p in free_a and held and distance[p, q] < 2:
                    matches += 1
                    free_a.discard(p)
                    free_b.discard(q)
        p, q = sorted(free_a), sorted(free_b)
        rest = distance[np.ix_(p, q)]
        for x, y in zip(*linear_sum_assignment(np.where(rest < 2, rest, 1e6)), strict=True):
            if rest[x, y] < 2:
                who, track = int(truth.track_id[a[p[x]]]), int(found.track_id[b[q[y]]])
                switches += who in last
                matches += who not in last
                last[who] = track
                free_a.discard(p[x])
                free_b.discard(q[y])
        misses, alarms = misses + len(free_a), alarms + len(free_b)
    return matches, misses, alarms, switches


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 100_000), st.sampled_from([-np.inf, 0.4]))
def test_nuscenes_counts_are_those_of_loops(seed: int, threshold: float) -> None:
    truth, results = (part[0] for part in random_scene(seed))
    truth = truth[truth.kind != "DontCare"]
    tracking = NuscenesTracking(
        truth.frame, truth.track_id, truth.ground()[:, :2], results.frame, results.track_id,
        results.ground()[:, :2], results.score,
    )  # fmt: skip
    run = tracking.run(threshold)
    expected = by_loops(truth, results, threshold)
    assert (len(run.matches), run.misses, run.false_alarms, run.switches) == expected


def test_amota_of_half_the_truth_by_hand() -> None:
    """Recall 0.5 is reached without any error: MOTAR is 1 for the 18 recalls up to it, 0 for the other 22."""
    frames = np.arange(20)
    center = np.column_stack([frames, np.zeros(20)])
    half = frames < 10
    scores = nuscenes_scores(
        NuscenesTracking(
            frames, np.zeros(20, int), center, frames[half], np.zeros(10, int), center[half] + (0.5, 0), np.ones(10)
        )
    )
    reached = int((np.linspace(0.1, 1, 40) <= 0.5).sum())
    assert scores.amota == pytest.approx(reached / 40)
    assert scores.amotp == pytest.approx((0.5 * reached + 2 * (40 - reached)) / 40)
    assert scores.mota == pytest.approx(0.5)
