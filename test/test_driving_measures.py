"""Measures of drives against closed forms and brute force."""

import numpy as np
import pytest
from driving_records import DT, FRONT, actor, record, straight
from hypothesis import given, settings
from hypothesis import strategies as st

from karp_perception.core import InvalidInput
from karp_perception.evaluation.checks import check_names, run_check
from karp_perception.evaluation.drive_record import DriveRecord, project
from karp_perception.evaluation.driving import (
    acceleration,
    braking_harder_than,
    contacts,
    gaps,
    jerk,
    lateral_acceleration,
    times_to_collision,
)
from karp_perception.evaluation.footprints import distance, rectangles, separation, time_to_contact


def random_rectangles(rng, n, spread=6.0):
    return (
        rng.uniform(-spread, spread, (n, 2)),
        rng.uniform(-np.pi, np.pi, n),
        rng.uniform(0.5, 6.0, n),
        rng.uniform(0.4, 2.5, n),
    )


def border(corners, count=400):
    """(4 * count, 2) points on the outline."""
    share = np.linspace(0.0, 1.0, count, endpoint=False)[None, :, None]
    return (corners[:, None] + share * (np.roll(corners, -1, axis=0) - corners)[:, None]).reshape(-1, 2)


def inside(points, corners):
    edge = np.roll(corners, -1, axis=0) - corners
    offset = points[:, None] - corners[None]
    return (edge[None, :, 0] * offset[..., 1] - edge[None, :, 1] * offset[..., 0] >= 0).all(axis=1)


def test_overlap_agrees_with_sampling():
    rng = np.random.default_rng(0)
    a, b = rectangles(*random_rectangles(rng, 300, 3.0)), rectangles(*random_rectangles(rng, 300, 3.0))
    touching = separation(a, b)[0] <= 0
    share = np.linspace(0.0, 1.0, 60)
    for k in range(300):
        u, v = np.meshgrid(share, share)
        grid = a[k, 1] + u.reshape(-1, 1) * (a[k, 0] - a[k, 1]) + v.reshape(-1, 1) * (a[k, 2] - a[k, 1])
        found = inside(np.concatenate([grid, border(a[k])]), b[k]).any() or inside(border(b[k]), a[k]).any()
        assert found == touching[k] or abs(separation(a[[k]], b[[k]])[0][0]) < 0.03
    assert 50 < touching.sum() < 250


def test_distance_agrees_with_sampling():
    rng = np.random.default_rng(1)
    a, b = rectangles(*random_rectangles(rng, 60, 8.0)), rectangles(*random_rectangles(rng, 60, 8.0))
    found = distance(a, b)
    for k in range(60):
        p, q = border(a[k], 200), border(b[k], 200)
        sampled = np.sqrt(((p[:, None] - q[None]) ** 2).sum(axis=2).min())
        if found[k] > 0:
            assert sampled - 0.04 <= found[k] <= sampled + 1e-9


def test_separation_is_the_distance_side_by_side_and_its_axis_points_from_a_to_b():
    a = rectangles(np.zeros((1, 2)), np.zeros(1), np.array([4.0]), np.array([2.0]))
    b = rectangles(np.array([[6.0, 0.3]]), np.zeros(1), np.array([4.0]), np.array([2.0]))
    apart, normal = separation(a, b)
    assert apart[0] == pytest.approx(2.0)
    np.testing.assert_allclose(normal[0], (1.0, 0.0), atol=1e-12)
    np.testing.assert_allclose(separation(b, a)[1][0], (-1.0, 0.0), atol=1e-12)


def test_time_to_contact_agrees_with_stepping():
    rng = np.random.default_rng(2)
    n = 150
    a, b = rectangles(*random_rectangles(rng, n, 12.0)), rectangles(*random_rectangles(rng, n, 12.0))
    va, vb = rng.uniform(-6, 6, (n, 2)), rng.uniform(-6, 6, (n, 2))
    exact = time_to_contact(a, va, b, vb)
    times = np.arange(0.0, 6.0, 0.01)
    stepped = np.full(n, np.inf)
    for t in times[::-1]:
        touching = separation(a + t * va[:, None], b + t * vb[:, None])[0] <= 0
        stepped[touching] = t
    soon = exact < 5.9
    grazing = np.isinf(stepped) & soon
    assert grazing.sum() <= 3  # touches shorter than a step
    np.testing.assert_allclose(exact[soon & ~grazing], stepped[soon & ~grazing], atol=0.011)
    assert np.isinf(stepped[np.isinf(exact)]).all()


@pytest.mark.parametrize(("speed", "lead"), [(10.0, 0.0), (13.9, 5.5), (25.0, 12.0), (60.0, 0.0)])
def test_rear_end_contact_is_at_the_moment_and_speed_of_the_formula(speed, lead):
    gap = 20.0
    drive = record(straight(speed), {3: actor(gap + FRONT + 2.0, 0.2, 0.0, lead)})
    (contact,) = contacts(drive)
    assert contact.time == pytest.approx(gap / (speed - lead), abs=1e-6)
    assert contact.speed == pytest.approx(speed - lead, abs=1e-9)
    assert (contact.side, contact.at_fault, contact.actor_id) == ("front", True, 3)


def test_who_is_run_into_is_not_at_fault():
    behind = record(straight(5.0), {1: actor(-20.0, 0.0, 0.0, 15.0)})
    (contact,) = contacts(behind)
    assert (contact.side, contact.at_fault) == ("rear", False)
    assert contact.speed == pytest.approx(10.0)
    standing = record(straight(0.0), {1: actor(20.0, 0.0, np.pi, 8.0)})
    (contact,) = contacts(standing)
    assert (contact.side, contact.at_fault) == ("front", False)
    assert run_check(behind, "no_contact", {}).passed
    assert contact.speed == pytest.approx(8.0)


def test_a_car_from_the_side_is_its_own_fault_but_driving_into_its_side_is_ours():
    n, speed = 60, 10.0
    meets = DT * 30 * speed
    hit = actor(meets + 0.5, -12.0 * 3.0 - 0.95 - 2.0 + 0.0, np.pi / 2, 12.0, n)
    (contact,) = contacts(record(straight(speed, n), {1: hit}))
    assert (contact.side, contact.at_fault) == ("right", False)
    assert contact.speed == pytest.approx(12.0)
    early = actor(meets + FRONT + 0.9 + 1.0, -12.0 * 3.0, np.pi / 2, 12.0, n)
    (contact,) = contacts(record(straight(speed, n), {1: early}))
    assert (contact.side, contact.at_fault) == ("front", True)
    assert contact.speed == pytest.approx(speed)


def test_nothing_passes_through_within_a_tick():
    # At 80 m/s something of 0.4 m lies on the way for a tick and is never drawn inside the vehicle.
    fast = actor(2.0, -62.0, np.pi / 2, 80.0, 30, length=0.4, width=0.4)
    (contact,) = contacts(record(straight(0.0, 30), {1: fast}))
    assert contact.time == pytest.approx((62.0 - 0.95 - 0.2) / 80.0, abs=1e-5)


def test_a_miss_is_no_contact_and_its_gap_is_the_clearance():
    drive = record(straight(12.0), {1: actor(30.0, 3.5, 0.0, 0.0), 2: actor(90.0, -2.4, np.pi, 9.0)})
    assert contacts(drive) == []
    gap = gaps(drive)
    assert gap[drive.actor_id == 1].min() == pytest.approx(3.5 - 0.95 - 0.9)
    assert gap[drive.actor_id == 2].min() == pytest.approx(2.4 - 0.95 - 0.9)


def test_time_to_collision_closes_linearly():
    drive = record(straight(10.0, 40), {1: actor(40.0 + FRONT + 2.0, 0.0, 0.0, 0.0, 40)})
    ttc = times_to_collision(drive)
    expected = (40.0 - 10.0 * drive.time) / 10.0
    near = expected <= 3.0
    np.testing.assert_allclose(ttc[near], expected[near], atol=1e-9)
    assert np.isinf(ttc[~near & (expected > 3.001)]).all()


@settings(max_examples=30, deadline=None)
@given(st.floats(-3, 3), st.floats(-2, 2), st.floats(5, 20))
def test_acceleration_and_jerk_of_parabolas_are_exact(a, j, v):
    t = DT * np.arange(50)
    speed = v + a * t + 0.5 * j * t**2
    drive = record(np.column_stack([t, np.zeros(50), speed]))
    np.testing.assert_allclose(acceleration(drive), a + j * t, atol=1e-8)
    np.testing.assert_allclose(jerk(drive), j, atol=1e-7)


def test_a_short_drive_still_has_an_acceleration():
    drive = record(np.array([[0.0, 0.0, 5.0], [0.5, 0.0, 4.0]]))
    np.testing.assert_allclose(acceleration(drive), -10.0)
    assert (jerk(drive) == 0).all()


def test_braking_is_found_where_it_is():
    t = DT * np.arange(100)
    slowed = np.clip(t - 3.0, 0.0, 2.0)
    drive = record(np.column_stack([t, np.zeros(100), 15.0 - 3.0 * slowed]))
    (braking,) = braking_harder_than(drive, 2.0)
    assert braking.most == pytest.approx(3.0, abs=0.5)
    assert abs(braking.begin - 3.0) <= 0.2
    assert abs(braking.end - 5.0) <= 0.2
    assert braking_harder_than(drive, 3.6) == []
    assert not run_check(drive, "no_braking_harder_than", {"mps2": 2.0}).passed
    assert run_check(drive, "no_braking_harder_than", {"mps2": 3.6}).passed


def test_sideways_acceleration_on_a_circle_is_speed_squared_by_radius():
    t, v, radius = DT * np.arange(80), 10.0, 40.0
    angle = v * t / radius
    circle = np.column_stack([radius * np.sin(angle), radius * (1 - np.cos(angle)), np.full(80, v)])
    np.testing.assert_allclose(lateral_acceleration(record(circle, yaw=angle)), v * v / radius, rtol=1e-6)


def test_projection_agrees_with_the_arc():
    angle = np.linspace(0.0, 2.0, 400)
    line = 50.0 * np.column_stack([np.sin(angle), 1 - np.cos(angle)])
    at = np.linspace(0.2, 1.8, 30)
    for offset in (-3.0, 0.0, 2.0):
        points = np.column_stack([np.sin(at), -np.cos(at)]) * (50.0 - offset) + (0.0, 50.0)
        along, left = project(line, points)
        np.testing.assert_allclose(along, 50.0 * at, atol=0.02)
        np.testing.assert_allclose(left, offset, atol=0.01)


def test_a_record_survives_its_file(tmp_path):
    drive = record(straight(9.0), {4: actor(50.0, 3.0, 0.1, 2.0)}, names={"car": 4}, places={"crossing": 60.0})
    drive.save(tmp_path / "drive.npz")
    again = DriveRecord.load(tmp_path / "drive.npz")
    np.testing.assert_array_equal(again.actor_corners, drive.actor_corners)
    np.testing.assert_array_equal(again.ego_corners, drive.ego_corners)
    assert (again.names, again.places, again.reason) == (drive.names, drive.places, drive.reason)
    assert [p.name for p in tmp_path.iterdir()] == ["drive.npz"]


def test_an_impossible_record_is_refused():
    with pytest.raises(InvalidInput, match="two ticks"):
        record(straight(9.0)[:1])
    with pytest.raises(InvalidInput, match="car"):
        record(straight(9.0)).rows_of("car")


def stopping(at, v=10.0, a=3.0, n=150):
    """Comes to stand with its front `at` m along x."""
    way = v * v / (2 * a)
    begin = (at - FRONT - way) / v
    t = DT * np.arange(n)
    braked = np.clip(t - begin, 0.0, v / a)
    x = v * np.minimum(t, begin) + v * braked - 0.5 * a * braked**2
    return np.column_stack([x, np.zeros(n), v - a * braked])


def test_stopping_at_a_line():
    places = {"stop_line": 50.0 + 60.0}  # the route begins at x = -50
    assert run_check(record(stopping(59.0), places=places), "stops_before", {"at": "stop_line"}).passed
    assert not run_check(record(stopping(61.0), places=places), "stops_before", {"at": "stop_line"}).passed
    assert run_check(record(stopping(59.0)), "comes_to_stand", {}).passed
    assert not run_check(record(straight(9.0)), "comes_to_stand", {}).passed
    assert not run_check(record(stopping(59.0)), "drives_on", {}).passed


@pytest.mark.parametrize(("color", "passed"), [("red", False), ("green", True), ("yellow", True)])
def test_red_lights_stop(color, passed):
    n = 100
    drive = record(
        straight(10.0, n),
        light_tick=np.arange(n),
        light_number=np.ones(n, int),
        light_x=np.full(n, 60.0),
        light_y=np.zeros(n),
        light_color=np.full(n, color),
    )
    assert run_check(drive, "obeys_lights", {}).passed == passed
    beside = record(
        straight(10.0, n),
        light_tick=np.arange(n),
        light_number=np.ones(n, int),
        light_x=np.full(n, 60.0),
        light_y=np.full(n, 5.0),
        light_color=np.full(n, "red"),
    )
    assert run_check(beside, "obeys_lights", {}).passed


def test_letting_pass_depends_on_who_is_there_first():
    n = 120
    walker = actor(60.0, -8.0, np.pi / 2, 1.4, n, length=0.5, width=0.5)
    first = record(straight(10.0, n), {1: walker}, names={"walker": 1})
    assert not run_check(first, "lets_pass", {"first": "walker"}).passed
    waits = stopping(55.0, n=n)
    assert run_check(record(waits, {1: walker}, names={"walker": 1}), "lets_pass", {"first": "walker"}).passed


def test_following_is_a_time_gap():
    n = 100
    lead = actor(15.0 + FRONT + 2.0, 0.0, 0.0, 10.0, n)
    drive = record(straight(10.0, n), {1: lead}, names={"lead": 1})
    outcome = run_check(drive, "follows", {"to": "lead"})
    assert outcome.passed
    assert outcome.found == "1.5 s"
    assert not run_check(drive, "follows", {"to": "lead", "least_s": 2.0}).passed


def test_every_check_says_what_it_found():
    drive = record(straight(10.0), {1: actor(80.0, 0.0, 0.0, 8.0)}, names={"a": 1}, places={"end": 400.0})
    parameters = {
        "contact_speed_below": {"kmh": 5.0},
        "min_gap_at_least": {"m": 1.0},
        "ttc_at_least": {"s": 1.0},
        "no_braking_harder_than": {"mps2": 2.0},
        "keeps_going": {"kmh": 20.0},
        "stops_before": {"at": "end"},
        "passes_slower_than": {"at": "end", "kmh": 30.0},
        "lets_pass": {"first": "a"},
        "follows": {"to": "a"},
        "decides": {"kind": "CRUISE"},
    }
    for name in check_names():
        outcome = run_check(drive, name, parameters.get(name, {}))
        assert outcome.found, name
