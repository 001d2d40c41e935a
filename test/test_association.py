"""Assignment against brute force; what a partly seen box says of a track, in cases with a known answer."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from karp_perception.core import Boxes
from karp_perception.tracking.association import assign, visible_pairs, whole_pairs
from karp_perception.tracking.visibility import Skyline, near_pairs, own_ends


def _boxes(rows: list[tuple[float, float, float, float, float]]) -> Boxes:
    """Boxes from x, y, length, width, yaw."""
    a = np.array(rows, float).reshape(-1, 5)
    n = len(a)
    center, size = np.column_stack([a[:, :2], np.full(n, 0.8)]), np.column_stack([a[:, 2:4], np.full(n, 1.6)])
    return Boxes(center, size, a[:, 4], np.full((n, 2), np.nan), np.full(n, -1), np.full(n, 0.5))


def _best_by_hand(cost: np.ndarray, miss: float) -> float:
    """Least total over every way to give tracks (rows) different boxes (columns) or none; NaN pairs are forbidden."""
    tracks, boxes = cost.shape
    best = np.inf
    for choice in itertools.product(range(-1, boxes), repeat=tracks):
        used = [c for c in choice if c >= 0]
        if len(used) == len(set(used)):
            total = sum(
                miss if c < 0 else (cost[i, c] if np.isfinite(cost[i, c]) else np.inf) for i, c in enumerate(choice)
            )
            best = min(best, total)
    return best


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 4), st.integers(1, 4), st.integers(0, 10_000))
def test_assignment_costs_no_more_than_brute_force(tracks: int, boxes: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    cost = rng.normal(0, 3, (tracks, boxes))
    cost[rng.random(cost.shape) < 0.4] = np.nan
    i, j = np.nonzero(np.isfinite(cost))
    miss = 2.0
    taken = assign(i, j, cost[i, j], miss)
    assert len(set(i[taken])) == len(taken) == len(set(j[taken]))
    total = cost[i, j][taken].sum() + miss * (tracks - len(taken))
    assert total == pytest.approx(_best_by_hand(cost, miss))


def test_nothing_to_assign_and_nothing_good_enough() -> None:
    none = np.zeros(0, np.int64)
    assert len(assign(none, none, np.zeros(0), 1.0)) == 0
    assert len(assign(np.array([0]), np.array([0]), np.array([5.0]), 1.0)) == 0


def test_many_small_groups_and_one_large_one() -> None:
    rng = np.random.default_rng(0)
    i, j = np.divmod(np.arange(40 * 40), 40)  # everybody wants everything
    i = np.concatenate([i, 100 + np.arange(500)])
    j = np.concatenate([j, 100 + np.arange(500)])
    cost = np.concatenate([rng.random(1600), np.zeros(500)])
    taken = assign(i, j, cost, 10.0)
    assert len(taken) == 540


@pytest.mark.parametrize("visible", [0.3, 1.0, 2.5, 4.4])
@pytest.mark.parametrize("yaw", [0.0, np.pi / 2, np.pi, -0.7])
def test_a_car_seen_from_behind_stays_where_it_is_however_much_of_its_length_is_seen(
    visible: float, yaw: float
) -> None:
    """Rear face at 10 m in the car's own direction from the sensor; only the visible length differs."""
    u = np.array([np.cos(yaw), np.sin(yaw)])
    track = _boxes([(*(11.5 * u), 3.0, 1.8, yaw)])
    part = _boxes([(*((10 + visible / 2) * u), visible, 1.8, yaw)])
    first = np.zeros(1, np.int64)
    pairs = visible_pairs(first, first, track, part, np.ones((1, 4), bool), np.zeros(2), (0.1, 0.2, 0.5))
    np.testing.assert_allclose(pairs.position[0], track.center[0, :2], atol=1e-9)
    assert pairs.overlap[0] == pytest.approx(1.0)


def test_a_wall_beside_whose_ends_are_cut_elsewhere_did_not_move_and_its_ends_are_not_trusted() -> None:
    track, part = _boxes([(0, 5, 4, 0.3, 0)]), _boxes([(1.5, 5.1, 4, 0.3, 0)])
    first = np.zeros(1, np.int64)
    pairs = visible_pairs(
        first, first, track, part, np.array([[False, True, False, True]]), np.zeros(2), (0.1, 0.2, 0.5)
    )
    assert pairs.position[0, 1] == pytest.approx(5.1)  # the face that looks at the sensor counts
    assert np.sqrt(pairs.noise[0, 0, 0]) >= 2.0
    assert np.sqrt(pairs.noise[0, 1, 1]) == pytest.approx(0.1, abs=0.01)


def test_an_end_that_only_came_into_view_is_no_motion() -> None:
    track, part = _boxes([(0, 5, 4, 1.8, 0)]), _boxes([(1.0, 5, 6, 1.8, 0)])  # rear end where it was, front end further
    first = np.zeros(1, np.int64)
    pairs = visible_pairs(first, first, track, part, np.ones((1, 4), bool), np.zeros(2), (0.1, 0.2, 0.5))
    assert pairs.position[0, 0] == pytest.approx(0.0)


def test_whole_boxes_compare_centres_and_do_not_mind_quarter_turns() -> None:
    track, box = _boxes([(0, 0, 4, 2, 0)]), _boxes([(1, 0.5, 2, 4, np.pi / 2 + 0.1)])
    first = np.zeros(1, np.int64)
    pairs = whole_pairs(first, first, track, box, np.eye(2)[None])
    np.testing.assert_allclose(pairs.position[0], (1, 0.5))
    np.testing.assert_allclose(pairs.extent[0], (4, 2))
    assert pairs.turn[0] == pytest.approx(0.1)
    assert pairs.overlap[0] == pytest.approx(3 * 1.5 / 8)


def test_near_pairs_equal_the_full_table_of_distances() -> None:
    rng = np.random.default_rng(1)
    a = _boxes([(*rng.uniform(-20, 20, 2), *rng.uniform(0.3, 8, 2), rng.uniform(-3, 3)) for _ in range(40)])
    b = _boxes([(*rng.uniform(-20, 20, 2), *rng.uniform(0.3, 8, 2), rng.uniform(-3, 3)) for _ in range(50)])
    reach = rng.uniform(0, 3, 40)
    away = np.linalg.norm(a.center[:, None, :2] - b.center[None, :, :2], axis=-1)
    radius = 0.5 * np.hypot(a.size[:, :1], a.size[:, 1:2]) + reach[:, None] + 0.5 * np.hypot(b.size[:, 0], b.size[:, 1])
    np.testing.assert_array_equal(np.column_stack(near_pairs(a, b, reach)), np.argwhere(away <= radius))


def test_what_stands_behind_something_is_hidden_and_nothing_else() -> None:
    skyline = Skyline(_boxes([(10, 0, 1, 4, 0), (-10, 0, 1, 4, 0)]), np.zeros(2))
    points = np.array([[20, 0], [20, 3.5], [8, 0], [0, 20], [20, 6], [-20, 0.5], [10.2, 0]])
    np.testing.assert_array_equal(skyline.hides(points), [True, True, False, False, False, True, False])


def test_ends_at_a_neighbour_or_in_a_shadow_are_not_the_things_own() -> None:
    scene = _boxes(
        [(2, 8, 4, 0.3, 0), (6, 8, 4, 0.3, 0), (5.2, 5, 0.6, 0.6, 0)]
    )  # two pieces of a wall; a post before it
    own = own_ends(scene, Skyline(scene, np.zeros(2)))
    front, left, rear, right = range(4)
    assert not own[0, front]
    assert not own[1, rear]
    assert own[0, rear]
    assert own[0, right]
    assert not own[1, front]  # at (8.4, 8) in the post's shadow
    assert own[2].sum() >= 3
    assert left == 1
