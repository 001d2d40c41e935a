"""The building blocks of clustering, against numpy's and scipy's own."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from karp_perception.detection.clusters import Contents, _joined
from karp_perception.detection.columns import Columns, run_lengths, run_starts, stable_order


@pytest.mark.parametrize("pairs", [0, 1, 40, 150, 400])
@pytest.mark.parametrize("seed", range(3))
def test_joined_numbers_are_scipys_connected_components(pairs: int, seed: int) -> None:
    n = 200
    one, other = np.random.default_rng(seed).integers(0, n, (2, pairs))
    least = _joined(one, other, n)
    graph = coo_array((np.ones(pairs), (one, other)), shape=(n, n))
    count, component = connected_components(graph, directed=False)
    assert len(np.unique(least)) == count
    for label in range(count):
        members = np.flatnonzero(component == label)
        np.testing.assert_array_equal(least[members], members[0])


def test_a_long_chain_is_one() -> None:
    numbers = np.random.default_rng(0).permutation(1000)
    np.testing.assert_array_equal(_joined(numbers[1:], numbers[:-1], 1000), 0)


def test_stable_order_is_numpys() -> None:
    keys = np.random.default_rng(1).integers(-3, 50, 5000)
    np.testing.assert_array_equal(stable_order(keys), np.argsort(keys, kind="stable"))


def test_runs_end_where_any_key_changes() -> None:
    a, b = np.array([1, 1, 1, 2, 2, 1]), np.array([5, 5, 6, 6, 6, 6])
    np.testing.assert_array_equal(run_starts(a), [0, 3, 5])
    np.testing.assert_array_equal(run_starts(a, b), [0, 2, 3, 5])
    np.testing.assert_array_equal(run_lengths(run_starts(a, b), 6), [2, 1, 2, 1])


def test_contents_follow_their_cells() -> None:
    contents = Contents(np.arange(10, 16), np.array([0, 2, 2, 5]), np.array([2, 0, 3, 1]))
    np.testing.assert_array_equal(contents.in_order(), np.arange(10, 16))
    np.testing.assert_array_equal(contents.of_cells(np.array([3, 0, 2])).in_order(), [15, 10, 11, 12, 13, 14])


def test_a_column_has_the_mean_the_top_and_the_number_of_its_points() -> None:
    rng = np.random.default_rng(2)
    angle, distance = rng.uniform(-np.pi, np.pi, 4000), rng.uniform(5, 6, 4000)
    x, y = (distance * np.cos(angle)).astype(np.float32), (distance * np.sin(angle)).astype(np.float32)
    above = rng.uniform(0.2, 2.0, 4000).astype(np.float32)
    columns = Columns.of(x, y, above, directions=90, depth=0.25, highest=2.3)
    cell = np.stack([np.floor(angle / (2 * np.pi) * 90) % 90, np.floor(np.hypot(x, y) / 0.25)], axis=1).astype(int)
    expected, member, count = np.unique(cell, axis=0, return_inverse=True, return_counts=True)
    member = member.reshape(-1)
    np.testing.assert_array_equal(columns.direction, expected[:, 0])
    np.testing.assert_allclose(columns.distance, (expected[:, 1] + 0.5) * 0.25)
    np.testing.assert_array_equal(columns.count, count)
    for k in range(len(count)):
        np.testing.assert_allclose(columns.xy[k], [x[member == k].mean(), y[member == k].mean()], atol=2e-4)
        assert columns.top[k] == pytest.approx(above[member == k].max(), abs=1e-3)
