"""KITTI's metrics: against the official evaluation written out in loops, and cases worked out by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kitti_reference import evaluate

from karp_perception.core import InvalidInput
from karp_perception.evaluation.kitti_matching import recall_thresholds
from karp_perception.evaluation.kitti_metrics import KittiFrame, KittiObjects, kitti_metrics

LEVELS = ("easy", "moderate", "hard")
TYPES = ("Car", "Van", "Pedestrian", "Person_sitting", "Cyclist", "Truck", "DontCare")


def objects(kinds: Sequence[str], **columns) -> KittiObjects:
    """Objects of a car's size side by side, 10 m ahead, in full view; columns replace what they name."""
    n = len(kinds)
    x = 5.0 * np.arange(n)
    values = {
        "truncated": np.zeros(n),
        "occluded": np.zeros(n),
        "alpha": np.zeros(n),
        "bbox2d": np.stack([100.0 * np.arange(n), np.zeros(n), 100.0 * np.arange(n) + 90, np.full(n, 60.0)], axis=1),
        "size": np.tile([1.5, 1.6, 4.0], (n, 1)),
        "location": np.stack([x, np.full(n, 1.6), np.full(n, 10.0)], axis=1),
        "rotation_y": np.zeros(n),
        "score": np.linspace(0.9, 0.5, n),
    } | columns
    return KittiObjects(np.array(kinds, str), **values)


def picked(of: KittiObjects, rows: Sequence[int] | np.ndarray) -> KittiObjects:
    names = KittiObjects.__dataclass_fields__
    return KittiObjects(**{name: getattr(of, name)[np.asarray(rows, int)] for name in names})


def joined(*parts: KittiObjects) -> KittiObjects:
    names = KittiObjects.__dataclass_fields__
    return KittiObjects(**{name: np.concatenate([getattr(p, name) for p in parts]) for name in names})


def random_frames(seed: int, frames: int = 8, steps: int = 0, noise: float = 0.1) -> list[KittiFrame]:
    """Objects, some found, some twice, some under another name; `steps` > 0 makes scores and boxes coincide."""
    rng = np.random.default_rng(seed)

    def some(n: int) -> KittiObjects:
        corner, extent = rng.uniform(0, 600, (n, 2)), rng.uniform(15, 120, (n, 2))
        kinds = rng.choice(TYPES, n, p=[0.4, 0.1, 0.15, 0.05, 0.15, 0.05, 0.1])
        location = np.column_stack([rng.uniform(-15, 15, n), rng.uniform(1, 2, n), rng.uniform(5, 40, n)])
        size = rng.uniform([1.4, 0.8, 2.0], [1.8, 2.0, 4.5], (n, 3))
        ignored = kinds == "DontCare"
        location[ignored], size[ignored] = -1000, -1
        return KittiObjects(
            kinds,
            rng.choice([0, 0.1, 0.2, 0.4, 0.8], n),
            rng.integers(0, 4, n),
            rng.uniform(-3, 3, n),
            np.concatenate([corner, corner + extent], axis=1),
            size,
            location,
            rng.uniform(-3, 3, n),
            rng.uniform(size=n),
        )

    out = []
    for _ in range(frames):
        truth = some(rng.integers(0, 14))
        rows = np.flatnonzero(rng.uniform(size=2 * len(truth)) < 0.7) % max(len(truth), 1)
        seen = picked(truth, rows)
        n, shift = len(seen), 0.0 if steps else noise
        kinds = np.where(rng.uniform(size=n) < 0.8, seen.type, rng.choice(TYPES[:5], n))
        kinds[kinds == "dontcare"] = "car"
        seen = replace(
            seen,
            type=kinds,
            alpha=seen.alpha + rng.normal(size=n),
            bbox2d=seen.bbox2d + rng.normal(scale=20 * shift, size=(n, 4)),
            size=np.abs(seen.size) * rng.uniform(1 - shift, 1 + shift, (n, 3)),
            location=seen.location + rng.normal(scale=shift, size=(n, 3)),
            rotation_y=seen.rotation_y + rng.normal(scale=shift, size=n),
            score=rng.uniform(size=n),
        )
        other = some(rng.integers(0, 6))
        other = picked(other, np.flatnonzero(other.type != "dontcare"))
        found = joined(seen, other)
        if steps:
            found = replace(found, score=np.ceil(found.score * steps) / steps)
        out.append(KittiFrame(picked(found, rng.permutation(len(found))), truth))
    return out


def assert_as_defined(frames: Sequence[KittiFrame]) -> float:
    result, wanted = kitti_metrics(frames), evaluate(frames)
    for name in result:
        for measure in ("2d", "bev", "3d", "aos"):
            for kind in ("ap40", "ap11"):
                found = [result[name][measure][kind][level] for level in LEVELS]
                assert found == pytest.approx(wanted[name.lower()][measure][kind], abs=1e-9), (name, measure, kind)
    return max(result[name][m]["ap11"]["hard"] for name in result for m in ("2d", "bev", "3d"))


@pytest.mark.parametrize("seed", range(4))
def test_random_images_score_as_the_official_evaluation_says(seed: int) -> None:
    assert assert_as_defined(random_frames(seed, frames=12)) > 0.05


def test_many_objects_reach_all_recall_points_as_the_official_evaluation_says() -> None:
    assert assert_as_defined(random_frames(50, frames=40, noise=0.03)) > 0.3


@pytest.mark.parametrize("steps", [1, 4])
def test_equal_scores_and_overlaps_are_resolved_as_the_official_evaluation_says(steps: int) -> None:
    assert_as_defined(random_frames(9, frames=12, steps=steps))


EMPTY = objects([])


@pytest.mark.parametrize(
    "frames",
    [
        [],
        [KittiFrame(EMPTY, EMPTY)],
        [KittiFrame(objects(["Car"]), EMPTY)],
        [KittiFrame(EMPTY, objects(["Car"]))],
        [KittiFrame(EMPTY, EMPTY), KittiFrame(objects(["Car"]), objects(["Car"]))],
        [KittiFrame(objects(["Car"]), objects(["DontCare"]))],
        [KittiFrame(objects(["Car"]), objects(["Van"]))],
        [KittiFrame(objects(["Car"]), objects(["Car"], occluded=[3.0]))],
        [KittiFrame(objects(["Car"], score=[-3.0]), objects(["Car"]))],
    ],
    ids=[
        "nothing",
        "empty",
        "no truth",
        "nothing found",
        "one empty",
        "do not care",
        "van",
        "hidden",
        "negative score",
    ],
)
def test_degenerate_input_scores_as_the_official_evaluation_says(frames: list[KittiFrame]) -> None:
    assert_as_defined(frames)


def test_few_objects_cannot_reach_full_marks() -> None:
    found = objects(["Car"] * 10)
    scores = kitti_metrics([KittiFrame(found, found)])["Car"]
    assert scores["truths"] == {"easy": 10, "moderate": 10, "hard": 10}
    assert scores["3d"]["ap40"]["easy"] == pytest.approx(9 / 40)
    assert scores["3d"]["ap11"]["easy"] == pytest.approx(3 / 11)  # at recall points 0, 4 and 8


@pytest.mark.parametrize("measure", ["2d", "bev", "3d", "aos"])
def test_many_perfect_detections_have_full_marks(measure: str) -> None:
    frames = [KittiFrame(objects([name] * 20), objects([name] * 20)) for name in ("Car", "Pedestrian", "Cyclist") * 5]
    for name, scores in kitti_metrics(frames).items():
        for kind in ("ap40", "ap11"):
            assert scores[measure][kind] == pytest.approx(dict.fromkeys(LEVELS, 1.0)), name


def test_what_counts_depends_on_height_occlusion_and_truncation() -> None:
    truth = objects(["Car"] * 7, occluded=[0, 1, 2, 3, 0, 0, 0], truncated=[0.0, 0, 0, 0, 0.2, 0.4, 0])
    boxes = truth.bbox2d.copy()
    boxes[6, 3] = 40.0
    truths = kitti_metrics([KittiFrame(truth, replace(truth, bbox2d=boxes))])["Car"]["truths"]
    assert truths == {"easy": 1, "moderate": 4, "hard": 6}


def test_detections_without_2d_boxes_are_scored_on_the_ground_and_in_3d() -> None:
    truth = objects(["Car"] * 50)
    scores = kitti_metrics([KittiFrame(replace(truth, bbox2d=None), truth)])["Car"]
    assert set(scores) == {"truths", "3d", "bev"}
    assert scores["3d"]["ap40"]["hard"] == pytest.approx(1.0)


def test_unknown_orientations_have_no_similarity() -> None:
    truth = objects(["Car"] * 3)
    scores = kitti_metrics([KittiFrame(replace(truth, alpha=np.array([0, -10, 0])), truth)])
    assert "aos" not in scores["Car"]
    assert "2d" in scores["Car"]


def test_boxes_turn_about_the_cameras_downward_axis() -> None:
    # A long box turned by rotation_y = 0.5 points to (cos 0.5, -sin 0.5) in x and z: two halves of it find it there.
    truth = objects(["Car"], rotation_y=[0.5], size=[[1.5, 0.5, 8.0]], location=[[0.0, 1.6, 20.0]])
    ahead = np.array([np.cos(0.5), 0, -np.sin(0.5)])
    near = replace(truth, location=truth.location + 1.0 * ahead)
    aside = replace(truth, location=truth.location + 1.0 * ahead[[2, 1, 0]])
    ap = [kitti_metrics([KittiFrame(found, truth)])["Car"]["bev"]["ap11"]["easy"] for found in (near, aside)]
    assert ap == pytest.approx([1 / 11, 0])  # IoU 7 / 9


def test_height_matters_in_3d_alone() -> None:
    truth = objects(["Car"])
    found = replace(truth, location=truth.location + np.array([0, 0.5, 0]))  # 1 m of 1.5 m shared: IoU 0.5
    scores = kitti_metrics([KittiFrame(found, truth)])["Car"]
    assert scores["bev"]["ap11"]["easy"] == pytest.approx(1 / 11)
    assert scores["3d"]["ap11"]["easy"] == 0
    loose = kitti_metrics([KittiFrame(found, truth)], {"Car": 0.49, "Pedestrian": 0.25, "Cyclist": 0.25})["Car"]
    assert loose["3d"]["ap11"]["easy"] == pytest.approx(1 / 11)


def test_recall_thresholds_by_hand() -> None:
    # 3 recall points (0, 0.5, 1) and 4 objects, all found: the first, the one nearest to half, the last.
    assert recall_thresholds(np.array([0.3, 0.9, 0.5, 0.7]), 4, 3).tolist() == [0.9, 0.7, 0.3]
    assert recall_thresholds(np.array([0.9]), 4, 3).tolist() == [0.9]
    assert len(recall_thresholds(np.array([]), 0, 41)) == 0


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6))
def test_order_of_images_does_not_matter(seed: int) -> None:
    frames = random_frames(seed, frames=4)
    one, other = kitti_metrics(frames), kitti_metrics(frames[::-1])
    for name, measures in one.items():
        for measure in ("2d", "bev", "3d", "aos"):
            for kind, ap in measures[measure].items():
                assert other[name][measure][kind] == pytest.approx(ap), (name, measure, kind)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6))
def test_a_false_alarm_below_all_scores_changes_nothing(seed: int) -> None:
    frames = random_frames(seed, frames=4)
    phantom = objects(["Car"], score=[-1.0], location=[[200.0, 1, 200]], bbox2d=[[2000.0, 0, 2100, 100]])
    worse = [*frames[:-1], replace(frames[-1], detections=joined(frames[-1].detections, phantom))]
    assert kitti_metrics(worse) == kitti_metrics(frames)


def test_impossible_input_is_refused() -> None:
    with pytest.raises(InvalidInput, match="2D boxes"):
        KittiFrame(EMPTY, replace(objects(["Car"]), bbox2d=None))
    with pytest.raises(InvalidInput, match=r"KittiObjects\.location"):
        objects(["Car", "Van"], location=[[0.0, 0, 0]])
