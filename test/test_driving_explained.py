"""Reaction times, what perception got wrong, and clips, on drives made by hand."""

from dataclasses import replace

import av
import numpy as np
import pytest
from driving_records import FRONT, actor, record, straight

from karp_perception.evaluation.drive_record import DriveRecord, route_progress
from karp_perception.evaluation.perception_errors import what_perception_got_wrong
from karp_perception.evaluation.reaction import NEED, reaction
from karp_perception.view.drive_clip import draw_tick, write_clip

GAP = 60.0
AHEAD = GAP + FRONT + 2.0  # m, the middle of a car of 4 m that stands so far ahead


def braking_from(time, speed=10.0, n=100, deceleration=4.0):
    """Full speed until a time (s), then braking."""
    t = 0.1 * np.arange(n)
    braked = np.clip(t - time, 0.0, speed / deceleration)
    x = speed * np.minimum(t, time) + speed * braked - 0.5 * deceleration * braked**2
    return np.column_stack([x, np.zeros(n), speed - deceleration * braked])


# Reaction


def test_a_conflict_begins_where_comfortable_braking_ends_and_is_answered_by_braking():
    drive = record(braking_from(4.5), {7: actor(AHEAD, 0.0, 0.0, 0.0, 100)}, names={"car": 7})
    found = reaction(drive)
    # Speed v at a distance d needs v / (2 d / v) > NEED: from d < v² / 2 NEED on.
    assert found.time == pytest.approx((GAP - 10.0**2 / (2 * NEED)) / 10.0, abs=0.11)
    assert found.actor_id == 7
    assert found.delay == pytest.approx(4.5 - found.time, abs=0.25)


def test_who_brakes_before_reacts_at_once_and_who_never_does_not_at_all():
    early = record(braking_from(0.5, deceleration=1.5), {7: actor(AHEAD - 25.0, 0, 0, 0, 100)}, names={"car": 7})
    assert reaction(early).delay == 0.0
    never = record(straight(10.0), {7: actor(AHEAD - 30.0, 0.0, 0.0, 0.0)}, names={"car": 7})
    assert reaction(never).delay is None


def test_what_is_hidden_or_passes_by_is_no_conflict():
    drive = record(braking_from(4.5), {7: actor(AHEAD, 0.0, 0.0, 0.0, 100)}, names={"car": 7})
    hidden = replace(drive, visibility=np.where(drive.actor_tick < 45, 0.0, 1.0))
    assert reaction(hidden).time == pytest.approx(4.5)
    beside = record(straight(10.0), {7: actor(40.0, 3.5, 0.0, 0.0)}, names={"car": 7})
    assert reaction(beside) is None
    assert reaction(record(straight(10.0), {7: actor(AHEAD, 0.0, 0.0, 0.0)})) is None  # nobody's own actor


# Perception


def seen_as(drive, rows, number=50, **other):
    """The drive with perception that takes these rows of actors for what they are, but for `other` columns (shifts)."""
    columns = {name: getattr(drive, f"actor_{name}")[rows] for name in ("x", "y", "yaw", "length", "width", "vx", "vy")}
    columns = {f"seen_{name}": values + other.get(name, 0.0) for name, values in columns.items()}
    ticks = drive.actor_tick[rows]
    if not len(rows):  # something is seen, elsewhere
        ticks, columns = np.zeros(1, int), {name: np.full(1, 300.0) for name in columns}
    count = len(ticks)
    return replace(drive, seen_tick=ticks, seen_id=np.full(count, number), seen_label=np.zeros(count, int), **columns)


@pytest.fixture
def crash():
    """A car that stands 40 m ahead is hit at 4 s."""
    return record(straight(10.0), {7: actor(40.0 + FRONT + 2.0, 0.0, 0.0, 0.0)}, names={"car": 7})


def test_perfect_perception_is_blamed_for_nothing(crash):
    assert what_perception_got_wrong(crash, 4.0, 7) is None


def test_who_is_never_seen_is_missed(crash):
    assert "missed: car car" in what_perception_got_wrong(seen_as(crash, np.zeros(0, int)), 4.0, 7)
    late = seen_as(crash, np.flatnonzero(crash.actor_tick > 30))
    assert "only from 0.9 s before" in what_perception_got_wrong(late, 4.0, 7)


def test_wrong_speeds_and_places_are_named(crash):
    every = np.arange(len(crash.actor_tick))
    assert "wrong speed" in what_perception_got_wrong(seen_as(crash, every, vx=6.0), 4.0, 7)
    assert "1.6 m farther left" in what_perception_got_wrong(seen_as(crash, every, y=1.6), 4.0, 7)
    assert "knew of car car" in what_perception_got_wrong(seen_as(crash, every), 4.0, 7)


def test_what_nobody_could_see_is_not_missed(crash):
    hidden = replace(crash, visibility=np.zeros(len(crash.visibility)))
    assert "in sight too late" in what_perception_got_wrong(seen_as(hidden, np.arange(60)), 4.0, 7)


def test_needless_braking_is_for_phantoms_or_wrong_speeds():
    drive = record(straight(10.0), {7: actor(60.0, 3.5, 0.0, 8.0)}, names={"car": 7})
    every = np.arange(60)
    assert "phantom: a car" in what_perception_got_wrong(seen_as(drive, every, y=-3.5, x=-20.0), 2.0)
    assert "wrong place: car car" in what_perception_got_wrong(seen_as(drive, every, y=-1.8), 2.0)
    stopped = replace(seen_as(drive, every, vx=-8.0), target=np.full(60, 50))
    assert "wrong speed: car car" in what_perception_got_wrong(stopped, 2.0)
    assert "saw nothing" in what_perception_got_wrong(seen_as(drive, np.zeros(0, int)), 2.0)


# Records and clips


def test_progress_follows_a_route_that_crosses_itself():
    t = np.linspace(0.0, 2.0 * np.pi, 400)
    eight = 40.0 * np.column_stack([np.sin(t), np.sin(t) * np.cos(t)])
    length = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(eight, axis=0).T))])
    at = np.linspace(0.0, length[-1], 150)
    points = np.column_stack([np.interp(at, length, eight[:, k]) for k in (0, 1)])
    np.testing.assert_allclose(route_progress(eight, points), at, atol=0.05)


def test_what_is_seen_survives_the_file(tmp_path, crash):
    drive = seen_as(crash, np.arange(20))
    drive.save(tmp_path / "a.npz")
    again = DriveRecord.load(tmp_path / "a.npz")
    np.testing.assert_array_equal(again.seen_corners, drive.seen_corners)
    np.testing.assert_array_equal(again.off_road, drive.off_road)
    assert again.lanes == drive.lanes


def test_a_clip_shows_the_seconds_around_the_moment(tmp_path, crash):
    write_clip(seen_as(crash, np.arange(60)), tmp_path / "a.mp4")
    with av.open(str(tmp_path / "a.mp4")) as file:
        frames = [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]
    assert len(frames) == 40 + 15 + 1
    assert np.abs(frames[0].astype(int) - frames[-1]).mean() > 0.5


def test_who_is_touched_stands_out(crash):
    before, after = draw_tick(crash, 40), draw_tick(crash, 40, {7})
    assert (before != after).any(axis=2).sum() > 500
