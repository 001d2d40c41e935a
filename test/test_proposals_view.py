"""What was chosen from, as lines, as words, and in the records: pixels where a proposal lies, terms that explain it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from karp_perception.core import (
    Boxes,
    Decision,
    DecisionKind,
    EgoState,
    Objects,
    Plan,
    Route,
    ScoredProposals,
    SensorFrame,
    Trajectory,
    Vehicle,
)
from karp_perception.core.geometry import pose_from_xy_yaw
from karp_perception.pipeline import Result
from karp_perception.planning.planner import Planner
from karp_perception.planning.scoring import ScoringSettings
from karp_perception.records import plan_record
from karp_perception.view import proposals as view
from karp_perception.view.birdseye import BirdsEye
from karp_perception.view.drive_view import DriveView
from karp_perception.view.palette import RULED_OUT, score_color

VEHICLE = Vehicle()
TERMS = ("collision", "drivable", "direction", *ScoringSettings().weights)


def told(
    sideways: dict[str, float], scores: dict[str, float], lacks: dict[str, dict[str, float]], speed: float = 10.0
) -> ScoredProposals:
    """Proposals straight ahead, each at its own place to the side (m); the first is taken."""
    names, time = tuple(sideways), 0.1 * np.arange(41)
    x, y = np.tile(speed * time, (len(names), 1)), np.array(list(sideways.values()))[:, None] + np.zeros(len(time))
    terms = {term: np.array([lacks.get(name, {}).get(term, 1.0) for name in names]) for term in TERMS}
    score = np.array([scores[name] for name in names])
    ways = tuple(name.rsplit(" ", 1)[0] for name in names)
    weights = ScoringSettings().weights
    return ScoredProposals(names, ways, time, x, y, 0 * x, speed + 0 * x, score, terms, weights, 0)


def three() -> ScoredProposals:
    places = {"lane 100%": 0.0, "left lane 100%": 6.0, "right lane 100%": -6.0}
    scores = {"lane 100%": 0.97, "left lane 100%": 0.7, "right lane 100%": 0.0}
    lacks = {"left lane 100%": {"steady": 0.0, "progress": 0.6}, "right lane 100%": {"collision": 0.0, "pace": 0.2}}
    return told(places, scores, lacks)


def plan_of(proposals: ScoredProposals | None, notes: tuple[str, ...] = ()) -> Plan:
    decision = Decision(DecisionKind.CRUISE, "CRUISE, path free")
    return Plan(10**9, Trajectory.empty(), decision, notes, proposals)


def drawn(plan: Plan) -> np.ndarray:
    return BirdsEye(VEHICLE, (400, 640)).draw(points=np.zeros((0, 4), np.float32), plan=plan)


def changed(proposals: ScoredProposals) -> np.ndarray:
    """(H, W) where the picture differs from one without proposals."""
    return (drawn(plan_of(proposals)) != drawn(plan_of(None))).any(axis=-1)


def test_a_line_lies_where_its_proposal_does_from_the_bumper_on_and_nowhere_else() -> None:
    eye, proposals = BirdsEye(VEHICLE, (400, 640)), three()
    mask = changed(proposals)
    table = np.zeros_like(mask)
    table[-110:, :230] = True
    for y in (0.0, 6.0, -6.0):
        for x in np.linspace(VEHICLE.front, 33.0, 100):
            u, v = np.round(eye.pixels(np.array([x, y]))).astype(int)
            assert mask[v - 1 : v + 2, u - 1 : u + 2].any() or x < VEHICLE.front + 0.5, (x, y)  # beneath the nose
            table[v - 4 : v + 5, u - 6 : u + 7] = True
    ends = eye.pixels(np.array([[40.0 + VEHICLE.front, y] for y in (0.0, 6.0, -6.0)]))
    for u, v in np.round(ends).astype(int):
        assert mask[v, u]
    lines = mask & ~table
    lines[: round(eye.pixels(np.array([32.0, 0.0]))[1])] = False  # beyond are the ends
    assert lines.sum() == 0


def test_colours_say_the_score_and_the_chosen_line_is_bold() -> None:
    eye, image = BirdsEye(VEHICLE, (400, 640)), drawn(plan_of(three())).astype(int)

    def across(y: float) -> np.ndarray:
        u, v = np.round(eye.pixels(np.array([25.0, y]))).astype(int)
        return image[v, u - 4 : u + 5]

    found = [np.abs(across(y) - score_color(s)).sum(axis=1).min() for y, s in ((0.0, 0.97), (6.0, 0.7), (-6.0, 0.0))]
    assert max(found) < 60
    blank = drawn(plan_of(None)).astype(int)[20, -20]  # the background
    chosen, other = (
        np.abs(across(y) - blank).sum() / np.abs(np.subtract(score_color(s), blank)).sum()
        for y, s in ((0.0, 0.97), (6.0, 0.7))
    )
    assert chosen > 1.5 * other  # px of full colour


def test_better_scores_are_brighter_and_what_is_ruled_out_is_the_only_red() -> None:
    brightness = [sum(score_color(score)) for score in np.linspace(0.01, 1.0, 30)]
    assert brightness == sorted(brightness)
    assert score_color(0.0) == RULED_OUT
    assert all(score_color(s)[0] <= score_color(s)[1] for s in np.linspace(0.01, 1.0, 30))


def test_a_mirrored_scene_is_drawn_mirrored() -> None:
    proposals = three()
    proposals = replace(proposals, y=proposals.y + 0.05 * proposals.x, yaw=proposals.yaw + 0.05)
    image, mirrored = np.zeros((640, 401, 3), np.uint8), np.zeros((640, 401, 3), np.uint8)

    def pixels(points: np.ndarray) -> np.ndarray:
        return np.stack([200 - 10 * points[..., 1], 500 - 10 * points[..., 0]], axis=-1)

    view.draw_lines(image, proposals, VEHICLE, pixels)
    view.draw_lines(mirrored, replace(proposals, y=-proposals.y, yaw=-proposals.yaw), VEHICLE, pixels)
    assert image.any()
    assert np.abs(image.astype(int) - mirrored[:, ::-1]).mean() < 0.05


def test_what_stands_has_no_line_and_a_plan_without_choice_is_drawn_as_it_was() -> None:
    still = told({"lane stop": 0.0}, {"lane stop": 0.4}, {}, speed=0.0)
    mask = changed(still)
    assert mask[-110:, :230].any()
    mask[-110:, :230] = False
    assert not mask.any()


def test_the_table_names_the_chosen_first_then_the_best_of_each_way_and_what_costs_them() -> None:
    rows = view.remarks(three())
    assert [(row.name, row.score, row.lacks) for row in rows] == [
        ("lane 100%", 0.97, ""),
        ("left lane 100%", 0.7, "progress"),  # 5 of 18.5 times 0.4, more than 0.5 of it
        ("right lane 100%", 0.0, "collision"),
    ]
    nearly = told({"lane 100%": 0.0}, {"lane 100%": 0.997}, {"lane 100%": {"middle": 0.95}})
    assert view.remarks(nearly) == [view.Remark("lane 100%", 0.997, "")]
    assert view.summary(three()) == "1 of 3 ruled out: collision"
    places = {f"lane {k}%": 0.0 for k in (100, 80, 60, 40, 20)} | {"left lane 100%": 4.0, "left lane 80%": 4.0}
    scores = dict(zip(places, (0.9, 0.8, 0.7, 0.6, 0.5, 0.3, 0.2), strict=True))
    rows = view.remarks(told(places, scores, {}))
    assert [row.name for row in rows] == ["lane 100%", "lane 80%", "lane 60%", "left lane 100%"]
    assert view.summary(told(places, scores, {})) == "7 proposals"


@given(st.lists(st.floats(0.0, 1.0), min_size=len(TERMS), max_size=len(TERMS)))
def test_the_first_shortcoming_is_the_one_without_which_the_score_would_be_highest(values: list[float]) -> None:
    names = dict(zip(TERMS, values, strict=True))
    proposals = told({"lane 100%": 0.0}, {"lane 100%": 0.5}, {"lane 100%": names})
    found = proposals.shortcomings(0)
    assert found == {name: value for name, value in names.items() if value < 1.0}
    weights = proposals.weights
    cost = [(1.0 - v) * (weights[n] / sum(weights.values()) if n in weights else 1.0) for n, v in found.items()]
    assert cost == pytest.approx(sorted(cost, reverse=True))


def test_moments_are_even_and_hold_the_first_and_the_last() -> None:
    proposals = three()
    for count in (2, 7, 12, 41, 100):
        shown = proposals.moments(count)
        assert (shown[0], shown[-1]) == (0, 40)
        assert len(shown) == min(count, 41)
        assert np.ptp(np.diff(shown)) <= 1


def test_records_tell_notes_scores_and_only_the_terms_below_one() -> None:
    record = plan_record(plan_of(three(), ("limits: too fast",)))
    assert record["notes"] == ["limits: too fast"]
    assert record["chosen"] == 0
    assert record["proposals"] == [
        {"name": "lane 100%", "score": 0.97, "terms": {}},
        {"name": "left lane 100%", "score": 0.7, "terms": {"progress": 0.6, "steady": 0.0}},
        {"name": "right lane 100%", "score": 0.0, "terms": {"collision": 0.0, "pace": 0.2}},
    ]
    nothing = plan_record(plan_of(None))
    assert (nothing["notes"], nothing["proposals"], nothing["chosen"]) == ([], [], None)


def test_scores_of_a_real_plan_are_what_its_terms_and_weights_say() -> None:
    x = np.arange(0.0, 200.0, 5.0)
    boxes = Boxes(np.array([[30.0, 1.0, 0.8]]), np.array([[0.6, 0.6, 1.7]]), np.zeros(1), np.array([[0.0, -1.2]]),
                  np.array([5]), np.ones(1))  # fmt: skip
    nothing = (np.zeros((1, 0, 0, 3)), np.zeros((1, 0)))
    objects = Objects(boxes, np.array([1]), np.tile(0.01 * np.eye(6), (1, 1, 1)), np.ones(1), np.zeros(1), *nothing)
    ego = EgoState(10**9, pose_from_xy_yaw(0.0, 0.0, 0.0), np.array([10.0, 0.0]))
    plan = Planner().step(10**9, objects, boxes, ego, Route(np.column_stack([x, 0 * x])))
    proposals = plan.proposals
    assert proposals is not None
    assert {name for name in proposals.terms if name not in proposals.weights} == {"collision", "drivable", "direction"}
    total = sum(proposals.weights.values())
    for i, name in enumerate(proposals.names):
        value = {term: values[i] for term, values in proposals.terms.items()}
        mean = sum(weight * value[term] for term, weight in proposals.weights.items()) / total
        wish = ScoringSettings().stop_share if "stop" in name else 1.0
        gates = value["collision"] * value["drivable"] * value["direction"]
        assert proposals.score[i] == pytest.approx(gates * mean * wish)
    assert set(proposals.ways) == {"lane"}
    assert proposals.score[proposals.chosen] == proposals.score.max()


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_what_the_safety_layer_says_stands_in_the_status(count: int) -> None:
    notes = tuple(f"limits: number {k}" for k in range(count))
    standing = EgoState(10**9, np.eye(4), np.zeros(2))

    def picture(plan: Plan) -> np.ndarray:
        result = Result(10**9, standing, Boxes.empty(), Boxes.empty(), Objects.empty(), plan, {})
        return DriveView(VEHICLE).draw(SensorFrame(10**9), result)

    def amber(image: np.ndarray) -> int:
        return int((np.abs(image.astype(int) - (232, 184, 92)).sum(axis=-1) < 60).sum())

    image, without = picture(plan_of(None, notes)), picture(plan_of(None))
    assert (amber(image) > amber(without) + 20) == (count > 0)
    assert (image == without).all() == (count == 0)
    assert (image[:540] == without[:540]).all()  # only the panel
