"""What holds for the tracker whatever comes in: order, ids, time, size of the input."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from karp_perception.core import Boxes, EgoState, InvalidInput, Objects
from karp_perception.core.geometry import pose_from_xy_yaw
from karp_perception.tracking.tracker import Tracker


def random_boxes(rng: np.random.Generator, count: int, spread: float, unknown: bool) -> Boxes:
    center = np.column_stack([rng.uniform(-spread, spread, (count, 2)), rng.uniform(0, 1, count)])
    label = np.full(count, -1) if unknown else rng.integers(0, 10, count)
    velocity = np.full((count, 2), np.nan)
    if not unknown:
        velocity[rng.random(count) < 0.5] = 1.0
    size = rng.uniform(0.2, 6, (count, 3))
    return Boxes(center, size, rng.uniform(-4, 4, count), velocity, label, rng.uniform(0, 1, count))


def standing(stamp_ns: int) -> EgoState:
    return EgoState(stamp_ns, np.eye(4), np.zeros(2))


def same(a: Objects, b: Objects) -> bool:
    arrays = [
        (x.boxes.center, x.boxes.velocity, x.boxes.yaw, x.track_id, x.covariance, x.age, x.predicted) for x in (a, b)
    ]
    return all(np.array_equal(p, q) for p, q in zip(*arrays, strict=True))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 12), st.integers(0, 25))
def test_the_order_of_the_boxes_never_matters(seed: int, whole: int, parts: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = Tracker(), Tracker()
    base, base_parts = random_boxes(rng, whole, 15, False), random_boxes(rng, parts, 15, True)
    for k in range(5):
        moved = pose_from_xy_yaw(*rng.normal(0, 0.3, 2), 0.01)
        seen, pieces = base.transformed(moved, "base_link"), base_parts.transformed(moved, "base_link")
        p, q = rng.permutation(whole), rng.permutation(parts)
        first = a.step(k * 100_000_000, seen, pieces, standing(k * 100_000_000))
        second = b.step(k * 100_000_000, seen[p], pieces[q], standing(k * 100_000_000))
        assert same(first, second)
        known = second.obstacle_index >= 0
        np.testing.assert_array_equal(first.obstacle_index >= 0, known)
        if parts:
            np.testing.assert_array_equal(q[second.obstacle_index[known]], first.obstacle_index[known])


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 10_000),
    st.lists(
        st.sampled_from([0, 1, 50_000_000, 100_000_000, -100_000_000, 1_500_000_000, 3_600_000_000_000]), max_size=12
    ),
)
def test_any_input_at_any_time_gives_valid_objects_and_new_ids(seed: int, gaps: list[int]) -> None:
    rng, tracker, stamp = np.random.default_rng(seed), Tracker(), 10**15
    gone: set[int] = set()
    alive: set[int] = set()
    for gap in gaps:
        stamp += gap
        ego = EgoState(stamp, pose_from_xy_yaw(*rng.normal(0, 5, 3)), rng.normal(0, 5, 2), float(rng.normal()))
        seen = random_boxes(rng, int(rng.integers(0, 10)), 10 ** rng.uniform(0, 5), False)
        parts = random_boxes(rng, int(rng.integers(0, 20)), 10 ** rng.uniform(0, 5), True)
        objects = tracker.step(stamp, seen, parts, ego)
        # Those that are doubtful for a moment are not told of, and then are again, as themselves.
        now = set(tracker._tracks.track_id.tolist())
        assert set(objects.track_id.tolist()) <= now
        assert not now & gone
        gone |= alive - now if gap != -100_000_000 else set()
        alive = now
        for covariance in objects.covariance:
            np.testing.assert_allclose(covariance, covariance.T, atol=1e-6)
            assert np.linalg.eigvalsh(covariance).min() > -1e-9
        assert ((objects.obstacle_index >= -1) & (objects.obstacle_index < len(parts))).all()


def test_time_standing_still_joins_and_older_frames_are_not_used() -> None:
    tracker = Tracker()
    rng = np.random.default_rng(0)
    boxes = random_boxes(rng, 5, 30, True)
    for k in range(5):
        last = tracker.step(k * 100_000_000, Boxes.empty(), boxes, standing(0))
    again = tracker.step(400_000_000, Boxes.empty(), boxes, standing(0))
    np.testing.assert_array_equal(again.track_id, last.track_id)
    elsewhere = random_boxes(rng, 5, 30, True)
    late = tracker.step(300_000_000, Boxes.empty(), elsewhere, standing(0))
    np.testing.assert_array_equal(late.track_id, last.track_id)
    assert (late.obstacle_index == -1).all()
    after = tracker.step(500_000_000, Boxes.empty(), boxes, standing(0))
    np.testing.assert_array_equal(after.track_id, last.track_id)


@pytest.mark.parametrize("jump", [3600, -3600])
def test_a_jump_of_an_hour_starts_anew_with_a_line_and_new_ids(jump: int, caplog: pytest.LogCaptureFixture) -> None:
    tracker, boxes, stamp = Tracker(), random_boxes(np.random.default_rng(0), 5, 30, True), 10**13
    for k in range(5):
        before = tracker.step(stamp + k * 100_000_000, Boxes.empty(), boxes, standing(0))
    assert len(before)
    stamp += jump * 10**9
    with caplog.at_level(logging.WARNING):
        assert len(tracker.step(stamp, Boxes.empty(), boxes, standing(0))) == 0
    assert "time jumped" in caplog.text
    for k in range(1, 5):
        after = tracker.step(stamp + k * 100_000_000, Boxes.empty(), boxes, standing(0))
    assert len(after) == len(before)
    assert after.track_id.min() > before.track_id.max()
    tracker.reset()
    for k in range(5):
        third = tracker.step(k * 100_000_000, Boxes.empty(), boxes, standing(0))
    assert third.track_id.min() > after.track_id.max()


@pytest.mark.parametrize("period_ms", [50, 100, 200])
def test_the_rate_of_frames_does_not_change_the_velocity(period_ms: int) -> None:
    tracker, rng = Tracker(), np.random.default_rng(5)
    for k in range(int(3000 / period_ms)):
        t = k * period_ms * 1e-3
        place = np.array([10 + 6 * t, 2.0]) + rng.normal(0, 0.1, 2)
        box = Boxes(np.array([[*place, 0.8]]), np.array([[4.5, 1.8, 1.5]]), np.zeros(1), np.full((1, 2), np.nan),
                    np.zeros(1, int), np.array([0.8]))  # fmt: skip
        objects = tracker.step(k * period_ms * 1_000_000, box, Boxes.empty(), standing(0))
    assert objects.track_id.tolist() == [1]
    np.testing.assert_allclose(objects.boxes.velocity[0], (6, 0), atol=0.6)


@pytest.mark.parametrize("unknown", [True, False])
def test_five_thousand_boxes_in_a_frame(unknown: bool) -> None:
    tracker, rng, none = Tracker(), np.random.default_rng(6), Boxes.empty()
    boxes = random_boxes(rng, 5000, 150, unknown)
    for k in range(3):
        inputs = (none, boxes) if unknown else (boxes, none)
        objects = tracker.step(k * 100_000_000, *inputs, standing(0))
    assert 0 < len(objects) <= 5000
    assert len(np.unique(objects.track_id)) == len(objects)


def test_what_is_not_a_number_does_not_get_as_far_as_the_tracker() -> None:
    """Places that are NaN are no boxes; velocities that are NaN are unknown ones."""
    good = random_boxes(np.random.default_rng(0), 3, 20, False)
    center = good.center.copy()
    center[1, 0] = np.nan
    with pytest.raises(InvalidInput, match="finite"):
        replace(good, center=center)
    objects = Objects.empty()
    for k in range(4):
        unknown = replace(good, velocity=np.full((3, 2), np.nan), score=np.full(3, 0.9))
        objects = Tracker().step(k, unknown, Boxes.empty(), standing(k))
    assert np.isfinite(objects.boxes.velocity).all()
    assert np.isfinite(objects.covariance).all()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_indices_name_the_rows_that_came_in(seed: int) -> None:
    rng, tracker = np.random.default_rng(seed), Tracker()
    base = replace(random_boxes(rng, 8, 40, False), score=np.full(8, 0.9))
    for k in range(4):
        order = rng.permutation(8)
        objects = tracker.step(k * 100_000_000, base[order], Boxes.empty(), standing(0))
        seen = objects.detection_index >= 0
        taken = objects.detection_index[seen]
        assert len(np.unique(taken)) == len(taken)
        apart = base.center[order][taken] - objects.boxes.center[seen]
        assert np.linalg.norm(apart[:, :2], axis=1).max(initial=0.0) < 2.0
