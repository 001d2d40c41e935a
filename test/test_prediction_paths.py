"""Paths from manoeuvres: the motion model against fine steps, what bodies allow, lanes, history."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from karp_perception.core import Boxes, ConfigurationError, EgoState, InvalidInput, Lane, ObjectClass, Objects, Road
from karp_perception.core.geometry import wrap_angle
from karp_perception.prediction.constant_velocity import constant_velocity_paths
from karp_perception.prediction.history import LAGS_S, History
from karp_perception.prediction.kinematic import kinematic_paths
from karp_perception.prediction.lanes import Lanes, ways_ahead
from karp_perception.prediction.manoeuvres import COUNT, Manoeuvres, load_manoeuvres, row_names, row_of
from karp_perception.prediction.predictor import Predictor
from karp_perception.prediction.rollout import SEGMENT_S, dense_paths, roll_out, speeds
from karp_perception.prediction.settings import PredictionSettings
from karp_perception.prediction.state import GROUPS, MotionState

SETTINGS = PredictionSettings()
CAR, WALKER, BICYCLE = int(ObjectClass.CAR), int(ObjectClass.PEDESTRIAN), int(ObjectClass.BICYCLE)
finite = st.floats(-30.0, 30.0)


def one(speed: float, label: int = CAR, yaw: float = 0.0, at: tuple[float, float] = (0.0, 0.0)) -> MotionState:
    velocity = speed * np.array([[np.cos(yaw), np.sin(yaw)]])
    return MotionState.moving(np.array([at]), np.array([yaw]), velocity, np.array([label]))


def driven(state: MotionState, acceleration: list[float], turn_rate: list[float]) -> np.ndarray:
    """(S + 1, 3) knots of one thing and path."""
    return roll_out(state, np.array(acceleration)[None, None], np.array(turn_rate)[None, None])[:, 0, 0].T


@given(st.floats(0.0, 20.0), st.lists(st.floats(-6.0, 6.0), min_size=1, max_size=10))
def test_speeds_are_those_of_a_loop_that_stops_at_standstill(start: float, acceleration: list[float]) -> None:
    expected, v = [start], start
    for a in acceleration:
        v = max(0.0, v + SEGMENT_S * a)
        expected.append(v)
    np.testing.assert_allclose(speeds(np.array(start), np.array(acceleration)), expected, atol=1e-9)


def test_a_path_is_that_of_fine_steps() -> None:
    acceleration, turn = [1.0, 0.5, -1.0, -2.0], [0.1, 0.2, 0.0, -0.15]
    found = driven(one(8.0, yaw=0.4, at=(3.0, -2.0)), acceleration, turn)
    x, y, heading, v, dt = 3.0, -2.0, 0.4, 8.0, 1e-4
    for segment, (a, w) in enumerate(zip(acceleration, turn, strict=True)):
        for _ in range(round(SEGMENT_S / dt)):
            x, y = x + dt * v * np.cos(heading), y + dt * v * np.sin(heading)
            v, heading = v + dt * a, heading + dt * w
        np.testing.assert_allclose(found[segment + 1, :2], (x, y), atol=0.01)
        np.testing.assert_allclose(found[segment + 1, 2], heading - 0.4, atol=1e-6)


def test_a_circle_closes() -> None:
    period = 20 * SEGMENT_S
    found = driven(one(5.0), [0.0] * 20, [2 * np.pi / period] * 20)
    np.testing.assert_allclose(found[-1, :2], (0.0, 0.0), atol=1e-9)
    radius = 5.0 * period / (2 * np.pi)
    np.testing.assert_allclose(np.hypot(found[:, 0], found[:, 1] - radius), radius, atol=1e-9)


@settings(max_examples=50, deadline=None)
@given(
    st.floats(0.0, 25.0),
    st.sampled_from([int(c) for c in ObjectClass]),
    st.lists(st.tuples(st.floats(-6.0, 3.0), st.floats(-3.0, 3.0)), min_size=10, max_size=10),
)
def test_no_body_does_what_it_cannot(speed: float, label: int, wanted: list[tuple[float, float]]) -> None:
    state = one(speed, label)
    acceleration, turn = np.array(wanted).T[:, None, None]
    knots = roll_out(state, acceleration, turn)[:, 0, 0]
    v = speeds(state.speed[:, None], acceleration)[0, 0]
    middle = 0.5 * (v[1:] + v[:-1])
    rate = np.diff(knots[2]) / SEGMENT_S
    curvature, lateral = state.limits[0]
    assert (np.abs(rate) <= curvature * middle + 1e-9).all()
    assert (np.abs(rate) * middle <= lateral + 1e-9).all()
    assert (np.hypot(*np.diff(knots[:2])) <= middle * SEGMENT_S + 1e-9).all()


def test_nothing_that_stands_turns() -> None:
    found = driven(one(0.0), [0.0] * 6, [1.0] * 6)
    np.testing.assert_array_equal(found, 0.0)


@given(finite, finite, finite, finite, st.floats(-3.1, 3.1))
def test_going_on_is_constant_velocity_at_every_point(x: float, y: float, vx: float, vy: float, yaw: float) -> None:
    velocity = np.array([[vx, vy]])
    straight, _ = constant_velocity_paths(np.array([[x, y]]), np.array([yaw]), velocity, SETTINGS)
    state = MotionState.moving(np.array([[x, y]]), np.array([yaw]), velocity, np.array([CAR]))
    paths = dense_paths(state, roll_out(state, np.zeros((1, 1, 10)), np.zeros((1, 1, 10))), SETTINGS)
    assert paths.shape == (1, 1, 50, 3)
    if np.hypot(vx, vy) > 1.0:  # slower things move along their body
        np.testing.assert_allclose(paths, straight, atol=1e-6)
        np.testing.assert_allclose(paths[0, 0, 0, :2], (x + 0.1 * vx, y + 0.1 * vy), atol=1e-7)


def test_points_between_knots_lie_on_the_arc() -> None:
    state = one(10.0)
    paths = dense_paths(state, roll_out(state, np.zeros((1, 1, 10)), np.full((1, 1, 10), 0.3)), SETTINGS)[0, 0]
    t = 0.1 * np.arange(1, 51)
    radius = 10.0 / 0.3
    np.testing.assert_allclose(paths[:, 0], radius * np.sin(0.3 * t), atol=0.03)
    np.testing.assert_allclose(paths[:, 1], radius * (1 - np.cos(0.3 * t)), atol=0.03)
    np.testing.assert_allclose(paths[:, 2], 0.3 * t, atol=1e-9)


@pytest.mark.parametrize("given_settings", [PredictionSettings(horizon=0.1), PredictionSettings(horizon=7.3, step=0.2)])
def test_other_horizons(given_settings: PredictionSettings) -> None:
    paths, probability = kinematic_paths(one(6.0), given_settings)
    assert paths.shape == (1, COUNT, given_settings.count, 3)
    assert np.isfinite(paths).all()
    np.testing.assert_allclose(probability.sum(axis=1), 1.0)


def test_what_rolls_back_keeps_its_front_where_it_is() -> None:
    state = MotionState.moving(np.zeros((1, 2)), np.zeros(1), np.array([[-0.8, 0.0]]), np.array([CAR]))
    assert state.speed[0] == pytest.approx(0.8)
    assert abs(wrap_angle(state.heading[0] - np.pi)) < 1e-9
    paths = dense_paths(state, roll_out(state, np.zeros((1, 1, 10)), np.zeros((1, 1, 10))), SETTINGS)
    np.testing.assert_allclose(paths[0, 0, -1], (-4.0, 0.0, 0.0), atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(st.floats(-3.0, 3.0), finite, finite, st.integers(0, 2**31))
def test_paths_turn_and_move_with_the_things(turn: float, x: float, y: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = 6
    position, yaw = rng.normal(size=(n, 2)) * 20, rng.uniform(-3, 3, n)
    velocity, label = rng.normal(size=(n, 2)) * 6, rng.integers(-1, 10, n)
    rate = rng.normal(size=n) * 0.1
    way = np.cumsum(rng.uniform(1, 3, (30, 2)), axis=0) - 25
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    state = MotionState.moving(position, yaw, velocity, label, rate)
    moved = MotionState.moving(position @ rotation.T + (x, y), yaw + turn, velocity @ rotation.T, label, rate)
    lanes, moved_lanes = Lanes.of([way]), Lanes.of([way @ rotation.T + (x, y)])
    paths, probability = kinematic_paths(state, SETTINGS, lanes)
    again, likewise = kinematic_paths(moved, SETTINGS, moved_lanes)
    np.testing.assert_allclose(again[..., :2], paths[..., :2] @ rotation.T + (x, y), atol=1e-6)
    np.testing.assert_allclose(np.sin(again[..., 2]), np.sin(paths[..., 2] + turn), atol=1e-6)
    np.testing.assert_array_equal(likewise, probability)


def test_nobody_is_no_problem() -> None:
    none = MotionState.moving(np.zeros((0, 2)), np.zeros(0), np.zeros((0, 2)), np.zeros(0, int))
    paths, probability = kinematic_paths(none, SETTINGS, Lanes.of([np.array([[0.0, 0.0], [50.0, 0.0]])]))
    assert paths.shape == (0, COUNT, 50, 3)
    assert probability.shape == (0, COUNT)


@pytest.mark.parametrize("label", [ObjectClass.TRAFFIC_CONE, ObjectClass.BARRIER, ObjectClass.UNKNOWN])
def test_what_has_no_will_goes_on_as_it_is(label: ObjectClass) -> None:
    for speed in (0.0, 2.0):
        paths, probability = kinematic_paths(one(speed, int(label)), SETTINGS)
        best = paths[0, probability[0].argmax()]
        assert probability.max() == pytest.approx(1.0)
        np.testing.assert_allclose(best[-1, :2], (5.0 * speed, 0.0), atol=1e-6)


def test_something_stands_most_probably_where_it_stood() -> None:
    for label in (CAR, WALKER, BICYCLE):
        paths, probability = kinematic_paths(one(0.0, label), SETTINGS)
        assert np.abs(paths[0, probability[0].argmax(), :, :2]).max() < 1e-6


def test_a_car_in_a_lane_follows_it_and_a_walker_does_not() -> None:
    s = np.linspace(0.0, 90.0, 200)
    radius = 30.0
    way = np.stack([radius * np.sin(s / radius), radius * (1 - np.cos(s / radius))], axis=1)
    lanes = Lanes.of([way])
    car = one(6.0)
    paths, probability = kinematic_paths(car, SETTINGS, lanes)
    best = paths[0, probability[0].argmax(), :, :2]
    np.testing.assert_allclose(np.hypot(best[:, 0], best[:, 1] - radius), radius, atol=0.35)
    assert np.hypot(*np.diff(best, axis=0).T).sum() == pytest.approx(6.0 * 4.9, rel=0.02)
    walker = one(1.4, WALKER)
    without, _ = kinematic_paths(walker, SETTINGS)
    with_lanes, _ = kinematic_paths(walker, SETTINGS, lanes)
    np.testing.assert_array_equal(without, with_lanes)


def test_who_is_beside_a_lane_or_goes_another_way_is_not_on_it() -> None:
    lanes = Lanes.of([np.array([[0.0, 0.0], [100.0, 0.0]])])
    rows = [one(8.0, at=(30.0, 1.5)), one(8.0, at=(30.0, 4.0)), one(8.0, yaw=np.pi, at=(30.0, 0.0)), one(8.0, yaw=1.2)]
    assert [lanes.joined(state)[0] >= 0 for state in rows] == [True, False, False, False]


def test_beyond_its_end_a_lane_goes_straight_on() -> None:
    lanes = Lanes.of([np.array([[0.0, 0.0], [20.0, 0.0]]), np.array([[0.0, 50.0], [20.0, 50.0]])])
    index = np.array([3])
    np.testing.assert_allclose(lanes.at(index, np.array([40.0])), [[46.0, 0.0]], atol=1e-9)
    np.testing.assert_allclose(lanes.at(index, np.array([5.0])), [[11.0, 0.0]], atol=1e-9)


@pytest.mark.parametrize("way", [np.zeros((1, 2)), np.zeros((3, 3)), np.array([[0.0, 0.0], [np.nan, 1.0]])])
def test_what_is_no_way_is_refused(way: np.ndarray) -> None:
    with pytest.raises(InvalidInput):
        Lanes.of([way])


def test_a_point_is_a_way_of_no_length() -> None:
    assert len(Lanes.of([np.array([[1.0, 1.0], [1.0, 1.5]])])) == 0


def test_every_class_and_pace_has_a_row() -> None:
    labels = np.array([int(c) for c in ObjectClass])
    seen = set()
    for speed in (0.0, 0.8, 2.0, 9.0):
        state = MotionState.moving(
            np.zeros((len(labels), 2)), np.zeros(len(labels)), np.tile([speed, 0.0], (len(labels), 1)), labels
        )
        for on_lane in (False, True):
            rows = row_of(state, np.full(len(labels), on_lane))
            names = [row_names()[r].split() for r in rows]
            assert [n[0] for n in names] == [GROUPS[g] for g in state.group]
            seen.update(rows.tolist())
    assert seen == set(range(len(row_names())))


def test_the_table_that_comes_with_the_package_is_one() -> None:
    table = load_manoeuvres()
    assert table.probability.shape == (len(row_names()), COUNT)
    np.testing.assert_allclose(table.probability.sum(axis=1), 1.0, atol=1e-9)
    assert (np.diff(table.probability, axis=1) <= 1e-9).all()
    assert set(np.unique(table.follows)) <= {0.0, 1.0}


@pytest.mark.parametrize(
    "text", ["", "manoeuvres: {}", "manoeuvres: [1, 2]", "manoeuvres:\n  vehicle: nonsense", ": :"]
)
def test_a_file_that_is_no_table_is_refused(text: str, tmp_path: Path) -> None:
    file = tmp_path / "table.yaml"
    file.write_text(text)
    with pytest.raises(ConfigurationError, match="table"):
        load_manoeuvres(file)


def test_probabilities_that_are_none_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "table.yaml"
    row = [[0.0, 0.0, 0.0, 0.0, 0.5]] * COUNT
    file.write_text("manoeuvres:\n" + "".join(f"  {name}: {row}\n" for name in row_names()))
    with pytest.raises(ConfigurationError, match="sum to 1"):
        load_manoeuvres(file)


def test_a_table_of_ones_own_is_used() -> None:
    rows = np.zeros((len(row_names()), COUNT, 5))
    rows[:, 0] = (-2.0, 0.0, 0.0, 0.0, 1.0)
    paths, _ = kinematic_paths(one(4.0), SETTINGS, table=Manoeuvres.of(rows))
    # 4 m/s, braking at 2 m/s²: it stands after 4 m.
    np.testing.assert_allclose(paths[0, 0, 25:, 0], 4.0, atol=0.05)


def circled(rate: float, noise: float, rng: np.random.Generator) -> float:
    """The turn rate that a history tells of somebody at 8 m/s on a circle."""
    history, state = History(), None
    for k in range(20):
        heading = 0.1 * k * rate + noise * rng.normal()
        state = one(8.0, yaw=heading)
        history.add(0.1 * k, np.array([7]), state)
    return float(history.past(np.array([7])).turn_rate(state)[0])


def test_history_tells_turning_from_noise() -> None:
    rng = np.random.default_rng(0)
    assert circled(0.4, 0.0, rng) == pytest.approx(0.4, rel=0.05)
    assert circled(-0.4, 0.0, rng) == pytest.approx(-0.4, rel=0.05)
    straight = [abs(circled(0.0, 0.03, rng)) for _ in range(50)]
    assert np.mean(straight) < 0.03


def test_history_knows_things_by_id_whatever_their_order() -> None:
    rng = np.random.default_rng(1)
    history = History()
    ids = np.array([9, 2, 5])
    for k in range(18):
        order = rng.permutation(3)
        states = MotionState.moving(
            np.column_stack([10.0 * ids + 0.1 * k, np.zeros(3)]),
            np.zeros(3),
            np.tile([1.5, 0.0], (3, 1)),
            np.full(3, CAR),
        )
        history.add(0.1 * k, ids[order], states.take(order))
    past = history.past(np.array([5, 9, 77]))
    assert past.known[:2].all()
    assert not past.known[2].any()
    for lag, column in zip(LAGS_S, past.position[:2, :, 0].T, strict=True):
        np.testing.assert_allclose(column, np.array([50.0, 90.0]) + 1.7 - lag, atol=1e-9)


def test_history_starts_anew_when_time_goes_back() -> None:
    history = History()
    for k in range(10):
        history.add(10.0 + 0.1 * k, np.array([1]), one(5.0))
    assert history.past(np.array([1])).known.any()
    history.add(3.0, np.array([1]), one(5.0))
    assert not history.past(np.array([1])).known.any()


def test_history_without_anything() -> None:
    history = History()
    assert not history.past(np.array([1, 2])).known.any()
    history.add(0.0, np.zeros(0, int), one(1.0).take(np.zeros(0, int)))
    history.add(0.2, np.array([3]), one(1.0))
    past = history.past(np.array([3]))
    assert not past.known.any()
    assert past.turn_rate(replace(one(5.0))) == 0.0


def test_ways_of_a_map_go_on_straight_where_lanes_part() -> None:
    """Of the lanes that follow, the straightest; a way begins with every lane, also with the one that turns off."""
    straight = Lane(np.array([[50.0, 0.0], [150.0, 0.0]]), 3.5)
    angle = np.linspace(0.0, np.pi / 2, 12)
    turning = Lane(np.column_stack([50.0 + 15 * np.sin(angle), 15 - 15 * np.cos(angle)]), 3.5)
    first = Lane(np.array([[0.0, 0.0], [50.0, 0.0]]), 3.5, successors=(2, 1))
    ways = ways_ahead((first, straight, turning))
    np.testing.assert_allclose(ways[0][[0, -1]], [[0.0, 0.0], [150.0, 0.0]])
    np.testing.assert_allclose(ways[2][-1], [65.0, 15.0])
    assert len(ways_ahead(())) == 0


def test_oncoming_traffic_keeps_to_its_lane_of_the_map_through_a_bend() -> None:
    angle = np.linspace(0.0, 1.2, 60)
    back = np.column_stack([60.0 - 40 * np.sin(angle), 3.5 + 40 - 40 * np.cos(angle)])
    road = Road((Lane(back, 3.5),))
    box = Boxes(np.array([[60.0, 3.5, 0.8]]), np.array([[4.4, 1.8, 1.5]]), np.array([np.pi]), np.array([[-8.0, 0.0]]),
                np.array([ObjectClass.CAR]), np.array([0.9]))  # fmt: skip
    alone = PredictionSettings(network="none")
    paths, probability = constant_velocity_paths(box.center[:, :2], box.yaw, box.velocity, alone)
    known = Objects(box, np.array([1]), np.eye(6)[None] * 0.01, np.ones(1), np.zeros(1), paths, probability)
    for road_known, away in ((None, 4.0), (road, 1.0)):
        found = Predictor(alone).step(0, known, EgoState.standing(0), None, road_known)
        likeliest = found.predicted[0, found.predicted_probability[0].argmax(), 29, :2]
        nearest = np.hypot(*(back - likeliest).T).min()
        assert (nearest < away) if road_known else (nearest > away / 2)
