"""Points by place, against the plain test of every point in every box."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from karp_perception.core import Boxes
from karp_perception.sensing.point_index import PointIndex, thinned


def some_boxes(rng: np.random.Generator, n: int) -> Boxes:
    center, size = rng.uniform(-30, 30, (n, 3)) * [1, 1, 0.05], rng.uniform(0.5, 9, (n, 3))
    return Boxes(center, size, rng.uniform(-3, 3, n), np.zeros((n, 2)), np.zeros(n, int), np.ones(n))


@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 200))
def test_of_many_points_as_many_are_looked_at_as_asked_for_and_of_few_all(seed: int, n: int, most: int) -> None:
    rng = np.random.default_rng(seed)
    points = rng.uniform(-35, 35, (rng.integers(0, 3000), 3)) * [1, 1, 0.05]
    boxes = some_boxes(rng, n)
    every, some = (PointIndex(points.astype(np.float32)).inside(boxes, most=limit) for limit in (None, most))
    assert set(zip(*some, strict=True)) <= set(zip(*every, strict=True))
    assert np.bincount(some[0], minlength=n).max(initial=0) <= most
    whole = PointIndex(points.astype(np.float32)).inside(boxes, most=3000)
    assert all(np.array_equal(a, b) for a, b in zip(whole, every, strict=True))


@given(st.lists(st.integers(0, 300), min_size=1, max_size=8), st.integers(1, 400))
def test_thinning_leaves_each_owner_as_many_as_it_may_have_evenly(counts: list[int], most: int) -> None:
    owner = np.repeat(np.arange(len(counts)), counts)
    row = np.arange(len(owner))
    kept_owner, kept = thinned(owner, row, most, len(counts))
    assert np.bincount(kept_owner, minlength=len(counts)).tolist() == [min(count, most) for count in counts]
    assert np.array_equal(owner[kept], kept_owner)
    for number, count in enumerate(counts):
        gaps = np.diff(kept[kept_owner == number])
        if len(gaps):
            assert gaps.max() - gaps.min() <= 1
            assert gaps.max() <= -(-count // most)
