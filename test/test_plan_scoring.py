"""Roll-out, collision check and scores, against slow transcriptions and what can be worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from karp_perception.core import Boxes, Lane, ObjectClass, Vehicle
from karp_perception.core.geometry import pose_from_xy_yaw
from karp_perception.evaluation.footprints import rectangles, separation
from karp_perception.planning.collision import Things, touches
from karp_perception.planning.corridor import Approach, Corridor
from karp_perception.planning.idm import IdmSettings
from karp_perception.planning.proposals import LANE, Proposal, ProposalSettings, Way, proposals
from karp_perception.planning.reference_line import ReferenceLine
from karp_perception.planning.road_raster import RoadRaster
from karp_perception.planning.rollout import Motions, roll_out
from karp_perception.planning.scoring import ScoringSettings, _comfortable, score
from karp_perception.planning.trajectory import MotionLimits, speed_bound

VEHICLE = Vehicle()
LINE = ReferenceLine.arc(0.0, 15.0, 150.0, 1.0)
STEP = 0.1


def things(
    rows: list[tuple[float, ...]], paths: np.ndarray | None = None, probability: np.ndarray | None = None,
    margin: float = 0.0, times: int = 40,
) -> Things:  # fmt: skip
    """Rectangles from x, y, yaw, length, width; they stand where no paths (M, K, T, 3) are given."""
    a = np.array(rows, float).reshape(-1, 5)
    n = len(a)
    box = np.column_stack([a[:, :3], 0.5 * a[:, 3:5], np.full(n, margin)])
    if paths is None:
        paths = np.repeat(a[:, None, None, :3], times, axis=2)
    probability = np.ones((n, 1)) if probability is None else probability
    return Things(box, np.arange(n), a[:, :3], paths, probability, np.ones(n, bool))


def straight(speed: float, offset: float = 0.0, times: int = 41) -> tuple[np.ndarray, np.ndarray]:
    """Pose (1, T, 3) and speed (1, T) of driving along x."""
    t = STEP * np.arange(times)
    pose = np.column_stack([speed * t, np.full(times, offset), np.zeros(times)])
    return pose[None], np.full((1, times), speed)


def touched(speed: float, what: Things, aside: bool = False) -> tuple[float, float, float]:
    found = touches(*straight(speed), STEP, np.array([aside]), what, VEHICLE, 0.95, 3.0)
    return float(found.time.min()), float(found.probability.max()), float(found.ahead.max())


def test_a_standing_thing_ahead_is_touched_when_the_bumper_gets_there() -> None:
    time, probability, _ = touched(10.0, things([(22.0, 0, 0, 4.0, 1.8)]))
    assert time == pytest.approx((20.0 - VEHICLE.front) / 10.0, abs=STEP)
    assert probability == 1.0
    assert touched(10.0, things([(22.0, 2.0, 0, 4.0, 1.8)]))[1] == 0.0
    assert touched(10.0, things([(22.0, 2.0, 0, 4.0, 1.8)], margin=0.2))[1] == 1.0, "0.15 m beside"


def test_what_runs_into_the_rear_is_not_the_vehicles_fault_unless_it_changes_place() -> None:
    t = STEP * np.arange(1, 41)
    behind = np.stack([-12.0 + 14.0 * t, 0 * t, 0 * t], axis=-1)[None, None]
    what = things([(-12.0, 0, 0, 4.0, 1.8)], behind)
    assert touched(8.0, what)[1] == 0.0
    assert touched(8.0, what, aside=True)[1] == 1.0


def test_who_overtakes_has_to_keep_off_the_side_but_who_has_cut_in_is_not_to_be_hit() -> None:
    t = STEP * np.arange(1, 41)
    swerves = np.stack([-12.0 + 9.0 * t, np.clip(-3.5 + 2.0 * (t - 2.5), -3.5, 0.0), 0 * t], axis=-1)[None, None]
    what = things([(-12.0, -3.5, 0, 4.0, 1.8)], swerves)
    assert touched(5.0, what)[1] == 0.0
    assert touched(5.0, what, aside=True)[1] == 1.0
    x = np.where(t < 1.5, -12.0 + 20.0 * t, 18.0)
    cuts_in = np.stack([x, np.where(t < 1.5, -3.5, 0.0), 0 * t], axis=-1)[None, None]
    assert touched(10.0, things([(-12.0, -3.5, 0, 4.0, 1.8)], cuts_in))[1] == 1.0


def test_who_stands_is_not_to_blame_nor_is_anything_for_what_lies_in_the_vehicle_now() -> None:
    t = STEP * np.arange(1, 41)
    crossing = np.stack([np.full(40, 1.0), -8.0 + 4.0 * t, np.full(40, np.pi / 2)], axis=-1)[None, None]
    assert touched(0.0, things([(1.0, -8.0, np.pi / 2, 2.0, 1.0)], crossing))[1] == 0.0
    assert touched(5.0, things([(1.0, 0.2, 0.0, 1.0, 0.5)]))[1] == 0.0


def test_probabilities_of_paths_that_are_hit_add_up() -> None:
    t = STEP * np.arange(1, 41)
    stays = np.column_stack([np.full(40, 30.0), np.full(40, 5.0), np.zeros(40)])
    comes = np.column_stack([np.full(40, 30.0), 5.0 - 2.0 * t, np.zeros(40)])
    what = things([(30.0, 5.0, 0, 1.0, 1.0)], np.stack([stays, comes, comes])[None], np.array([[0.5, 0.3, 0.2]]))
    assert touched(12.0, what)[1] == pytest.approx(0.5)


def test_time_to_collision_looks_ahead_of_each_moment() -> None:
    """Braking hard before a wall: never touched, but too near to it for its speed on the way."""
    wall = things([(30.0, 0, 0, 1.0, 4.0)])
    t = STEP * np.arange(41)
    for deceleration, expected in ((2.2, 0.0), (6.0, 1.0)):
        begin = max(0.0, (29.5 - VEHICLE.front - 0.3 - 10.0**2 / (2 * deceleration)) / 10.0)  # as late as possible
        speed = np.maximum(10.0 - deceleration * np.maximum(t - begin, 0.0), 0.0)
        x = np.concatenate([[0.0], np.cumsum(0.5 * (speed[1:] + speed[:-1]) * STEP)])
        pose = np.column_stack([x, 0 * x, 0 * x])[None]
        found = touches(pose, speed[None], STEP, np.zeros(1, bool), wall, VEHICLE, 0.95, 3.0)
        assert found.probability.max() == 0.0
        assert found.ahead.max() == expected


@given(seed=st.integers(0, 10_000))
@settings(max_examples=15, deadline=None)
def test_collisions_equal_a_slow_check_of_every_pair(seed: int) -> None:
    rng = np.random.default_rng(seed)
    count, times = 6, 21
    start = np.column_stack([rng.uniform(-5, 30, count), rng.uniform(-8, 8, count), rng.uniform(-3, 3, count)])
    size = rng.uniform((0.4, 0.4), (6.0, 2.5), (count, 2))
    velocity = rng.uniform(-8, 8, (count, 2, 2))  # of two paths each
    t = STEP * np.arange(1, times)
    paths = np.repeat(np.repeat(start[:, None, None], 2, axis=1), times - 1, axis=2)
    paths[..., :2] += velocity[:, :, None] * t[:, None]
    paths[..., 2] += 0.2 * t
    what = replace(
        things([(*row, *extent) for row, extent in zip(start, size, strict=True)], paths, np.full((count, 2), 0.5))
    )
    yaw = 0.1 * STEP * np.arange(times)
    pose = np.column_stack([8 * STEP * np.arange(times), 0.3 * np.arange(times) * STEP, yaw])[None]
    speed = np.full((1, times), 8.0)
    found = touches(pose, speed, STEP, np.ones(1, bool), what, VEHICLE, 0.95, 2.0)
    middle = 0.5 * (VEHICLE.front - VEHICLE.rear)
    center = pose[0, :, :2] + middle * np.column_stack([np.cos(yaw), np.sin(yaw)])
    ego = rectangles(center, yaw, np.full(times, VEHICLE.length), np.full(times, VEHICLE.width))
    for m in range(count):
        hits, first = 0.0, np.inf
        for k in range(2):
            way = np.concatenate([start[m][None], paths[m, k]])
            other = rectangles(way[:, :2], way[:, 2], np.full(times, size[m, 0]), np.full(times, size[m, 1]))
            overlap = np.flatnonzero(separation(ego, other)[0] <= 0)
            if len(overlap) and overlap[0] > 0:
                hits, first = hits + 0.5, min(first, overlap[0] * STEP)
        assert found.probability[0, m] == pytest.approx(hits)
        assert found.time[0, m] == pytest.approx(first) or np.isinf(first)


def rolled(speed: float, acceleration: float, offset: float = 0.0, seconds: float = 4.0) -> Motions:
    """Along the line, or to a place beside it, with an acceleration from now on."""
    t = STEP * np.arange(81)
    planned = np.maximum(speed + acceleration * t, 0.0)
    wanted = np.where(planned > 0, acceleration, 0.0)
    side = Approach(0.0, 0.0, 30.0, offset).offset_at(LINE.distance)[0]
    return roll_out(LINE, side[None], np.zeros(1, int), planned[None], wanted[None], round(seconds / STEP) + 1, STEP,
                    speed, 0.0, 0.0, VEHICLE)  # fmt: skip


def test_a_simulated_motion_follows_the_plan_but_for_its_lag() -> None:
    motion = rolled(10.0, -2.0)
    np.testing.assert_allclose(motion.distance[0], motion.pose[0, :, 0], atol=1e-9)
    assert motion.distance[0, -1] == pytest.approx(10 * 4 - 0.5 * 2 * 16, abs=1.5)
    assert motion.speed[0, -1] == pytest.approx(2.0, abs=0.4)
    assert abs(motion.offset).max() < 1e-9
    assert 0.0 <= rolled(3.0, -4.0).speed[0, -1] < 0.2, "to a stop, never backwards"


def test_a_simulated_motion_gets_to_the_place_beside() -> None:
    motion = rolled(10.0, 0.0, offset=0.8)
    assert motion.offset[0, -1] == pytest.approx(0.8, abs=0.1)
    assert abs(motion.yaw_rate).max() < 0.3
    mirrored = rolled(10.0, 0.0, offset=-0.8)
    np.testing.assert_allclose(mirrored.pose[..., 1:], -motion.pose[..., 1:], atol=1e-9)


def test_a_simulated_motion_stays_on_a_bend() -> None:
    line = ReferenceLine.arc(1 / 25, 15.0, 100.0, 3.0)
    planned = np.full((1, 81), 7.0)
    motion = roll_out(line, np.zeros((1, len(line.points))), np.zeros(1, int), planned, 0 * planned, 41, STEP, 7.0, 0.0,
                      7.0 / 25, VEHICLE)  # fmt: skip
    assert abs(motion.offset).max() < 0.5
    assert motion.distance[0, -1] == pytest.approx(28.0, abs=0.6)


def options(speed: float = 10.0, limit: float = 12.0) -> list[Proposal]:
    corridor = Corridor(LINE, VEHICLE, 0.25, 150.0, Approach())
    way = Way(LANE, corridor, speed_bound(LINE, Approach(), speed, limit, MotionLimits()), [])
    return proposals([way], speed, 0.0, limit, None, VEHICLE, ProposalSettings(), IdmSettings(), MotionLimits())


def scored(what: Things, speed: float = 10.0, **more: object) -> tuple[list[Proposal], object]:
    found = options(speed)
    t = round(4.0 / STEP) + 1
    motions = roll_out(LINE, np.zeros((1, len(LINE.points))), np.zeros(len(found), int),
                       np.array([o.profile.speed for o in found]), np.array([o.profile.acceleration for o in found]), t,
                       STEP, speed, 0.0, 0.0, VEHICLE)  # fmt: skip
    arguments = {"raster": None, "T_odom_base": np.eye(4), "last_way": LANE} | more
    return found, score(found, motions, what, VEHICLE, 12.0, settings=ScoringSettings(), **arguments)


def test_an_empty_road_is_driven_at_full_speed_and_a_stop_is_the_last_thing_to_do() -> None:
    found, scores = scored(things([]))
    assert found[scores.best].policy == "100%"
    assert scores.total[scores.best] > 0.99
    stops = [k for k, option in enumerate(found) if option.share == 0.0]
    assert len(stops) == 2
    assert scores.total[stops].max() < min(s for k, s in enumerate(scores.total) if k not in stops)


def test_the_only_motion_that_touches_nothing_is_driven() -> None:
    found, scores = scored(things([(24.0, 0.0, 0.0, 1.0, 3.0)]))
    assert found[scores.best].policy == "hard stop"
    assert scores.terms["collision"][scores.best] == 1.0
    assert scores.culprit[0] == 0
    found, scores = scored(things([(4.5, 0.0, 0.0, 1.0, 3.0)]))
    assert scores.total.max() == 0.0
    assert found[scores.best].share == 0.0, "all touch it, none more slowly than a stop"


def test_who_leaves_the_road_or_drives_against_traffic_is_ruled_out() -> None:
    lanes = (Lane(np.array([[-20.0, 0.0], [22.0, 0.0]]), 3.5, None),)
    _, scores = scored(things([]), raster=RoadRaster(lanes))
    assert scores.terms["drivable"].tolist() == [0.0] * 6 + [1.0]  # only the hard stop ends before the road does
    back = (lanes[0], Lane(np.array([[200.0, 0.0], [22.0, 0.0]]), 3.5, None))
    _, scores = scored(things([]), raster=RoadRaster(back))
    assert scores.terms["drivable"].min() == 1.0
    assert scores.terms["direction"].tolist()[:2] == [0.0, 0.0]


def test_scores_are_the_same_wherever_odom_lies() -> None:
    lanes = (Lane(np.array([[-20.0, 0.0], [15.0, 0.0]]), 3.5, None),)
    T = pose_from_xy_yaw(100.0, -40.0, 0.7)
    moved = (Lane(lanes[0].center @ T[:2, :2].T + T[:2, 3], 3.5, None),)
    _, here = scored(things([]), raster=RoadRaster(lanes))
    _, there = scored(things([]), raster=RoadRaster(moved), T_odom_base=T)
    np.testing.assert_allclose(here.total, there.total, atol=1e-9)


def test_comfort_is_broken_by_hard_braking_alone() -> None:
    found, scores = scored(things([]))
    comfortable = dict(zip((option.policy for option in found), scores.terms["comfort"], strict=True))
    assert comfortable["100%"] == 1.0
    assert comfortable["stop"] == 1.0
    pressed = rolled(10.0, -6.0)
    assert not _comfortable(pressed, ScoringSettings())[0]


def test_surroundings_become_things_that_move_as_predicted() -> None:
    from test_planner import boxes, objects_of

    from karp_perception.planning.surroundings import Surroundings, SurroundingsSettings

    seen = objects_of(boxes([(20.0, 3.0, 4.0, 1.8, 0, 5.0, 0), (30.0, -4.0, 0.6, 0.6, 0, 0, 0)], ObjectClass.CAR))
    lone = boxes([(12.0, -5.0, 0.4, 0.4, 0, np.nan, np.nan)])
    around = Surroundings.of(seen, Boxes.concatenate([lone]), LINE, SurroundingsSettings())
    what = around.things(frozenset({(None, (12.0, -5.0))}), 40)
    assert what.sure.tolist() == [True, True, False]
    np.testing.assert_allclose(what.paths[0, 0, -1, :2], [20.0 + 5.0 * 4.0, 3.0], atol=1e-9)
    np.testing.assert_allclose(what.paths[1, 0, -1, :2], [30.0, -4.0])
    np.testing.assert_allclose(what.paths[2, 0, -1, :2], [12.0, -5.0])
    np.testing.assert_allclose(what.box[0, 3:5], [2.0, 0.9])
    assert (what.probability.sum(axis=1) == 1.0).all()


def test_a_detected_box_that_is_off_by_a_little_does_not_stand_in_the_way_of_what_is_measured_beside_it() -> None:
    """A car stands 0.5 m beside; its detected box lies 0.3 m nearer, what the lidar measures of it does not."""
    from test_planner import boxes, objects_of

    from karp_perception.planning.hazards import HazardSettings, find_hazards
    from karp_perception.planning.surroundings import Surroundings

    edge = 0.5 * VEHICLE.width + 0.5
    seen = boxes([(20.0, edge + 0.9 - 0.3, 4.5, 1.8, 0, 0, 0)], ObjectClass.CAR)
    part = boxes([(20.0, edge + 0.9, 4.5, 1.8, 0, 0, 0)], ObjectClass.UNKNOWN)
    settings = HazardSettings()
    corridor = Corridor(LINE, VEHICLE, 0.25, 80.0, Approach())
    for measured, count in ((Boxes.empty(), 1), (part, 0)):
        around = Surroundings.of(objects_of(seen), measured, LINE, settings.around)
        assert len(find_hazards(around, corridor, settings)) == count
