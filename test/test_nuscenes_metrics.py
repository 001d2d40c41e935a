"""The nuScenes metrics: against the definition written out in loops, cases worked out by hand, and what must hold."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nuscenes_reference import evaluate

from karp_perception.core import CLASS_NAMES, Boxes, ConfigurationError, InvalidInput
from karp_perception.evaluation.metric_breakdown import by_distance, by_points, ranked_average_precision
from karp_perception.evaluation.nuscenes_config import CVPR_2019, NuscenesConfig, present_classes
from karp_perception.evaluation.nuscenes_metrics import ATTRIBUTES, attribute_of, nuscenes_metrics
from karp_perception.evaluation.scored_frames import ScoredFrame

CAR, BUS, PEDESTRIAN, BICYCLE, CONE, BARRIER = 0, 2, 5, 7, 8, 9


def boxes(
    *rows: tuple[float, float, int, float],
    yaw: float = 0.0,
    velocity: tuple[float, float] = (0, 0),
    size: tuple[float, float, float] = (4, 2, 1.5),
) -> Boxes:
    """x, y, label, score of boxes."""
    n = len(rows)
    x, y, label, score = np.array(rows, float).reshape(n, 4).T
    center = np.stack([x, y, np.zeros(n)], axis=1)
    sizes, speeds = np.tile(np.array(size, float), (n, 1)), np.tile(np.array(velocity, float), (n, 1))
    return Boxes(center, sizes, np.full(n, yaw), speeds, label.astype(int), score)


def frame(detections: Boxes, truth: Boxes, points: Sequence[int] | None = None) -> ScoredFrame:
    return ScoredFrame(detections, truth, np.full(len(truth), 10) if points is None else np.array(points))


def random_frames(
    seed: int, frames: int = 6, classes: int = 10, steps: int = 0, unknown: float = 0.2, shift: float = 1.0
) -> list[ScoredFrame]:
    """Frames in which some objects are found, some twice, some not; `steps` > 0 makes scores and places coincide."""
    rng = np.random.default_rng(seed)

    def some(n: int) -> Boxes:
        center = np.concatenate([rng.uniform(-40, 40, (n, 2)), rng.normal(size=(n, 1))], axis=1)
        velocity = rng.normal(scale=2, size=(n, 2)) * (rng.uniform(size=(n, 1)) < 0.7)
        velocity[rng.uniform(size=n) < unknown] = np.nan
        label = rng.integers(-1 if classes == 10 else 0, classes, n)
        return Boxes(center, rng.uniform(0.5, 4, (n, 3)), rng.uniform(-3, 3, n), velocity, label, rng.uniform(size=n))

    out = []
    for _ in range(frames):
        truth = some(rng.integers(0, 25))
        again = np.flatnonzero(rng.uniform(size=2 * len(truth)) < 0.6) % max(len(truth), 1)
        seen = truth[again]
        n = len(seen)
        seen = replace(
            seen,
            center=seen.center + rng.normal(scale=shift, size=(n, 3)),
            size=seen.size * rng.uniform(0.7, 1.4, (n, 3)),
            yaw=seen.yaw + rng.normal(size=n),
            velocity=seen.velocity + rng.normal(scale=0.3, size=(n, 2)),
            score=rng.uniform(size=n),
        )
        found = Boxes.concatenate([seen, some(rng.integers(0, 12))])
        if steps:
            found = replace(found, score=np.round(found.score * steps) / steps, center=np.round(found.center))
            truth = replace(truth, center=np.round(truth.center))
        out.append(ScoredFrame(found[rng.permutation(len(found))], truth, rng.integers(0, 4, len(truth))))
    return out


def assert_as_defined(frames: Sequence[ScoredFrame]) -> None:
    result, wanted = nuscenes_metrics(frames), evaluate(frames)
    for name in CLASS_NAMES:
        for limit, ap in wanted["ap"][name].items():
            assert result.ap_by_distance_threshold[name][limit] == pytest.approx(ap, abs=1e-9), (name, limit)
        for error, value in wanted["class_tp_errors"][name].items():
            assert result.class_tp_errors[name][error] == pytest.approx(value, abs=1e-9, nan_ok=True), (name, error)
    assert result.tp_errors == pytest.approx(wanted["tp_errors"], abs=1e-9)
    assert result.mean_ap == pytest.approx(wanted["mean_ap"], abs=1e-9)
    assert result.nds == pytest.approx(wanted["nds"], abs=1e-9)


@pytest.mark.parametrize("seed", range(6))
def test_random_frames_score_as_the_definition_says(seed: int) -> None:
    assert_as_defined(random_frames(seed))


@pytest.mark.parametrize("seed", range(3))
def test_one_crowded_class_scores_as_the_definition_says(seed: int) -> None:
    frames = random_frames(100 + seed, frames=12, classes=1)
    assert nuscenes_metrics(frames).ap["car"] > 0.05
    assert_as_defined(frames)


@pytest.mark.parametrize("steps", [1, 3, 10])
def test_equal_scores_and_equal_distances_are_resolved_as_the_definition_says(steps: int) -> None:
    assert_as_defined(random_frames(7, frames=8, classes=2, steps=steps))


def test_of_two_truths_equally_near_the_first_is_taken() -> None:
    ahead, behind = boxes((11, 0, CAR, 1), yaw=0.3), boxes((9, 0, CAR, 1))
    found = boxes((10, 0, CAR, 0.9))
    for truth, error in (((ahead, behind), 0.3), ((behind, ahead), 0.0)):
        frames = [frame(found, Boxes.concatenate(truth))]
        assert nuscenes_metrics(frames).class_tp_errors["car"]["orient_err"] == pytest.approx(error)
        assert_as_defined(frames)


def test_scores_of_zero_count_as_recall_that_is_not_reached() -> None:
    truth = boxes(*[(3.0 * k, 0, CAR, 1) for k in range(10)])
    assert_as_defined([frame(boxes(*[(3.0 * k, 0, CAR, 0 if k > 3 else 0.5) for k in range(10)]), truth)])


@pytest.mark.parametrize(
    "frames",
    [
        [],
        [frame(Boxes.empty(), Boxes.empty())],
        [frame(boxes((1, 1, CAR, 0.5)), Boxes.empty())],
        [frame(Boxes.empty(), boxes((1, 1, CAR, 1)))],
        [frame(boxes((30, 1, CAR, 0.5)), boxes((1, 1, CAR, 1)))],
        [frame(Boxes.empty(), Boxes.empty()), frame(boxes((1, 1, CAR, 0.5)), boxes((1, 1, CAR, 1)))],
        [frame(boxes((1, 1, CAR, 0.5)), boxes((1, 1, CAR, 1)), [0])],
        [frame(boxes((1, 1, CONE, 0.5)), boxes((1, 1, CONE, 1)))],
        [frame(boxes((1, 1, CAR, 0.5), velocity=(np.nan, np.nan)), boxes((1, 1, CAR, 1)))],
        [frame(boxes((1, 1, CAR, 0.5)), boxes((1, 1, CAR, 1), velocity=(np.nan, np.nan)))],
        [frame(boxes((1, 1, -1, 0.5)), boxes((1, 1, -1, 1)))],
    ],
    ids=[
        "no frames",
        "an empty frame",
        "no truth",
        "no detections",
        "no match",
        "one frame empty",
        "no points",
        "cones only",
        "velocity not detected",
        "velocity not labelled",
        "no known class",
    ],
)
def test_degenerate_input_scores_as_the_definition_says(frames: list[ScoredFrame]) -> None:
    assert_as_defined(frames)


def test_average_precision_by_hand() -> None:
    # 4 cars; found: hit, phantom, hit. Recall 0.25 at precision 1, 0.25 at 1/2, 0.5 at 2/3.
    truth = boxes((5, 0, CAR, 1), (10, 0, CAR, 1), (15, 0, CAR, 1), (20, 0, CAR, 1))
    found = boxes((5, 0, CAR, 0.9), (40, 0, CAR, 0.8), (10.1, 0, CAR, 0.7))
    result = nuscenes_metrics([frame(found, truth)])
    # From recall 0.11 to 0.24: 1. At 0.25 the last point of that recall, 1/2; from there a line to 2/3 at 0.5.
    precision = [1.0] * 14 + [0.5 + (2 / 3 - 0.5) * k / 25 for k in range(26)] + [0.0] * 50
    wanted = sum(max(p - 0.1, 0) for p in precision) / 90 / 0.9
    assert result.ap["car"] == pytest.approx(wanted)
    assert result.ap_by_distance_threshold["car"] == pytest.approx(dict.fromkeys(CVPR_2019.distances, wanted))
    assert result.mean_ap == pytest.approx(wanted / 10), "classes that are nowhere count as found nowhere"
    assert (result.truths["car"], result.detections["car"]) == (4, 3)


def test_true_positive_errors_by_hand() -> None:
    truth = boxes((5, 0, CAR, 1), velocity=(3, 0))
    found = boxes((5.3, 0.4, CAR, 0.9), yaw=0.2, velocity=(0, 4), size=(4, 2, 3))
    errors = nuscenes_metrics([frame(found, truth)]).class_tp_errors["car"]
    wanted = {"trans_err": 0.5, "scale_err": 0.5, "orient_err": 0.2, "vel_err": 5.0, "attr_err": 0.0}
    assert errors == pytest.approx(wanted)


def test_barriers_look_the_same_from_behind_and_cars_do_not() -> None:
    def error(label: int) -> float:
        found, truth = boxes((5, 0, label, 0.9), yaw=np.pi - 0.1), boxes((5, 0, label, 1))
        return nuscenes_metrics([frame(found, truth)]).class_tp_errors[CLASS_NAMES[label]]["orient_err"]

    assert error(BARRIER) == pytest.approx(0.1)
    assert error(CAR) == pytest.approx(np.pi - 0.1)


def test_cones_and_barriers_have_no_velocity_and_cones_no_yaw() -> None:
    truth = boxes((5, 0, CONE, 1), (10, 0, BARRIER, 1))
    errors = nuscenes_metrics([frame(truth, truth)]).class_tp_errors
    undefined = {name: {e for e, value in errors[name].items() if np.isnan(value)} for name in errors}
    assert undefined["traffic_cone"] == {"orient_err", "vel_err", "attr_err"}
    assert undefined["barrier"] == {"vel_err", "attr_err"}
    assert undefined["car"] == set()


def test_boxes_beyond_the_range_of_their_class_do_not_count() -> None:
    far = boxes((45, 0, CAR, 0.9), (45, 5, PEDESTRIAN, 0.9), (35, 10, CONE, 0.9), (51, 0, CAR, 0.9))
    result = nuscenes_metrics([frame(far, far)])
    assert {name: n for name, n in result.truths.items() if n} == {"car": 1}
    assert {name: n for name, n in result.detections.items() if n} == {"car": 1}


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.booleans())
def test_perfect_detections_score_one_without_errors(seed: int, turned: bool) -> None:
    frames = [replace(f, detections=f.truth[f.points_inside > 0]) for f in random_frames(seed, frames=3, unknown=0)]
    present = present_classes(frames)
    if not present:
        return
    result = nuscenes_metrics(frames[::-1] if turned else frames, CVPR_2019.for_classes(present))
    assert result.mean_ap == pytest.approx(1.0)
    assert [error for error in result.tp_errors.values() if error > 1e-12] == []
    wanted = sum(not np.isnan(error) for error in result.tp_errors.values())
    assert result.nds == pytest.approx((5 + wanted) / 10), "an error that no class has scores nothing"


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.floats(-40, 40), st.floats(-40, 40))
def test_a_false_alarm_below_all_scores_never_helps(seed: int, x: float, y: float) -> None:
    frames = random_frames(seed, frames=3, classes=2)
    # In a frame without truth it is a false alarm wherever it lies. (NDS may rise by a hair: errors are interpolated
    # over scores.)
    phantom = boxes((x, y, CAR, 0.0))
    before = nuscenes_metrics([*frames, frame(Boxes.empty(), Boxes.empty())])
    after = nuscenes_metrics([*frames, frame(phantom, Boxes.empty())])
    assert after.detections["car"] == before.detections["car"] + (np.hypot(x, y) < 50)
    for name, ap in after.ap.items():
        assert ap <= before.ap[name] + 1e-12


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6))
def test_order_of_frames_and_boxes_does_not_matter_where_no_scores_are_equal(seed: int) -> None:
    frames = random_frames(seed, frames=4, classes=3)
    rng = np.random.default_rng(seed)
    shuffled = []
    for k in rng.permutation(len(frames)):
        p, q = rng.permutation(len(frames[k].detections)), rng.permutation(len(frames[k].truth))
        shuffled.append(ScoredFrame(frames[k].detections[p], frames[k].truth[q], frames[k].points_inside[q]))
    one, other = nuscenes_metrics(frames), nuscenes_metrics(shuffled)
    assert one.nds == pytest.approx(other.nds, abs=1e-12)
    assert one.ap == pytest.approx(other.ap, abs=1e-12)


def test_attributes_follow_from_class_and_speed() -> None:
    still = boxes((0, 0, CAR, 1), (0, 0, BUS, 1), (0, 0, PEDESTRIAN, 1), (0, 0, BICYCLE, 1), (0, 0, CONE, 1))

    def named(velocity: tuple[float, float]) -> list[str | None]:
        numbers = attribute_of(replace(still, velocity=np.tile(velocity, (5, 1))))
        return [ATTRIBUTES[k] if k >= 0 else None for k in numbers]

    standing = ["vehicle.parked", "vehicle.stopped", "pedestrian.standing", "cycle.without_rider", None]
    assert named((0.1, 0.1)) == standing
    assert named((3, 0)) == ["vehicle.moving", "vehicle.moving", "pedestrian.moving", "cycle.with_rider", None]
    assert named((np.nan, np.nan)) == [None] * 5


def test_a_result_is_plain_json() -> None:
    result = nuscenes_metrics(random_frames(3))
    content = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert content["mean_ap"] == result.mean_ap
    assert content["tp_errors"]["vel_err"] == result.tp_errors["vel_err"]
    assert content["class_tp_errors"]["traffic_cone"]["vel_err"] is None
    assert content["ap_by_distance_threshold"]["car"]["0.5"] == result.ap_by_distance_threshold["car"][0.5]
    assert len(content["curves"]["car"]["2.0"]["precision"]) == len(content["recall"]) == 101
    assert "curves" not in result.to_json(curves=False)


def test_impossible_input_is_refused_with_what_to_do() -> None:
    crowd = boxes(*[(5, 0, CAR, 0.5)] * 501)
    with pytest.raises(InvalidInput, match=r"at most 500, got 501 in frame 1; keep the best"):
        nuscenes_metrics([frame(Boxes.empty(), Boxes.empty()), frame(crowd, Boxes.empty())])
    with pytest.raises(InvalidInput, match="points_inside"):
        frame(Boxes.empty(), boxes((1, 1, CAR, 1)), [1, 2])
    with pytest.raises(InvalidInput, match="one frame"):
        frame(Boxes.empty("odom"), Boxes.empty())
    with pytest.raises(ConfigurationError, match="tram"):
        NuscenesConfig({"tram": 50.0})
    with pytest.raises(ConfigurationError, match="tp_distance"):
        NuscenesConfig({"car": 50.0}, distances=(1.0,))
    with pytest.raises(InvalidInput, match="rising"):
        by_distance([], (0, 20, 10))


def test_one_bin_for_all_is_the_whole_score() -> None:
    frames = random_frames(11)
    config = CVPR_2019.for_classes(present_classes(frames))
    whole = nuscenes_metrics(frames, config)
    for part in (by_distance(frames, (0, 1000), config), by_points(frames, (1, np.inf), config)):
        assert part.mean_ap == pytest.approx([whole.mean_ap])
        assert {name: ap[0] for name, ap in part.ap.items()} == pytest.approx(whole.ap)
        assert {name: int(n[0]) for name, n in part.truths.items()} == whole.truths


def test_bins_by_distance_are_scored_apart_and_lose_nothing_at_their_edges() -> None:
    truth = boxes((9.9, 0, CAR, 1), (20, 0, CAR, 1))
    found = boxes((10.1, 0, CAR, 0.9), (25, 0, CAR, 0.8), (20, 0, CAR, 0.7))
    part = by_distance([frame(found, truth)], (0, 10, 30, 60))
    assert part.truths["car"].tolist() == [1, 1, 0]
    assert part.ap["car"][0] == pytest.approx(1.0), "the detection beyond the edge belongs to the car before it"
    alone = nuscenes_metrics([frame(found[[1, 2]], truth[[1]])]).ap["car"]
    assert 0 < alone < 1
    assert part.ap["car"][1] == pytest.approx(alone), "the phantom lies in the second bin"
    assert np.isnan(part.ap["car"][2])
    assert np.isnan(part.mean_ap[2])
    assert part.to_json()["mean_ap"][2] is None


def test_bins_by_points_share_out_the_false_alarms() -> None:
    # The two phantoms come first; a quarter of the cars has few points, so their bin bears half a phantom.
    truth = boxes(*[(4.0 * k, 0, CAR, 1) for k in range(4)])
    found = Boxes.concatenate([boxes((0, 30, CAR, 0.9), (5, 30, CAR, 0.9)), replace(truth, score=np.full(4, 0.5))])
    part = by_points([frame(found, truth, [2, 50, 50, 50])], (1, 10, np.inf))
    assert part.truths["car"].tolist() == [1, 3]
    recall = np.linspace(0.11, 1, 90)
    few = np.interp(recall, [0, 1], [0, 1 / 1.5])
    many = np.interp(recall, [0, 1 / 3, 2 / 3, 1], [0, 1 / 2.5, 2 / 3.5, 3 / 4.5])
    wanted = [np.maximum(precision - 0.1, 0).mean() / 0.9 for precision in (few, many)]
    assert part.ap["car"] == pytest.approx(wanted), "precision 4 / 6 at full recall in both"


def test_area_under_the_whole_curve_can_be_asked_for() -> None:
    # One of two found, behind a phantom: precision 1/2 up to half the recall.
    whole = ranked_average_precision(np.array([0.5, 0.9]), np.array([True, False]), 2, 0.0, 0.0)
    rising = [0.5 * k / 50 for k in range(1, 51)]  # the line from precision 0 at recall 0, as the devkit draws it
    assert whole == pytest.approx(sum(rising) / 100)
    assert np.isnan(ranked_average_precision(np.array([0.5]), np.array([False]), 0))
