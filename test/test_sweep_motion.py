"""How fast detections move, from two sweeps: against made-up surfaces, the world's truth and a recorded drive."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from recorded_truth import LEAD_REAR_M

from karp_perception.core import Boxes, EgoState, LidarSweep, MotionSource, ObjectClass
from karp_perception.core.geometry import invert_pose, pose_from_xy_yaw
from karp_perception.detection.detector import NO_MODEL, DetectorSettings
from karp_perception.detection.sweep_motion import SweepMotion, SweepMotionSettings
from karp_perception.pipeline import Perceiver, PipelineSettings
from karp_perception.replay.bag_frames import BagFrames
from karp_perception.sensing.bags import BagReader
from karp_perception.tracking.tracker import Tracker
from karp_perception.world.layouts.families import FAMILIES
from karp_perception.world.world_frames import WorldFrames

CAR, PEDESTRIAN = ObjectClass.CAR, ObjectClass.PEDESTRIAN
STEP_S, STEP_NS = 0.1, 100_000_000
GUESS = 3.0  # m/s, least deviation of what was not measured


def boxes_of(places: list[tuple[float, float, float]], label: int = CAR) -> Boxes:
    """Boxes at x, y, yaw, of which a network guesses that they go sideways at 7 m/s, and is sure of it."""
    n, person = len(places), label == PEDESTRIAN
    size = (0.7, 0.7, 1.7) if person else (4.4, 1.8, 1.5)
    variance = np.full((n, 9), 0.04)
    x, y, yaw = np.array(places).reshape(-1, 3).T
    center = np.column_stack([x, y, np.full(n, 0.5 * size[2])])
    return Boxes(center, np.tile(size, (n, 1)), yaw, np.tile([0.0, 7.0], (n, 1)), np.full(n, label), np.full(n, 0.9),
                 variance)  # fmt: skip


def surface(boxes: Boxes, rng: np.random.Generator, count: int = 300, noise: float = 0.02) -> np.ndarray:
    """(M, 4) points on the sides of boxes that face the origin, in rings."""
    points = []
    for box in range(len(boxes)):
        length, width, height = boxes.size[box]
        along, up = rng.uniform(-0.5, 0.5, count), np.round(rng.uniform(0.05, 0.95, count) * 8) / 8
        on_side = rng.random(count) < 0.6
        c, s = np.cos(boxes.yaw[box]), np.sin(boxes.yaw[box])
        x, y = boxes.center[box, :2]
        ahead, left = -(c * x + s * y), s * x - c * y  # of the origin, in the box's axes
        u = np.where(on_side, along * length, 0.5 * length * np.sign(ahead) + 0 * along)
        v = np.where(on_side, 0.5 * width * np.sign(left), along * width)
        local = np.column_stack([u, v, up * height]) + rng.normal(0, noise, (count, 3))
        points.append(np.column_stack([c * local[:, 0] - s * local[:, 1] + x, s * local[:, 0] + c * local[:, 1] + y,
                                       local[:, 2]]))  # fmt: skip
    ground = np.column_stack([rng.uniform(-40, 40, (2000, 2)), rng.normal(0, 0.02, 2000)])
    cloud = np.concatenate([*points, ground])
    return np.column_stack([cloud, np.full(len(cloud), 0.3)]).astype(np.float32)


def ego_at(k: int, speed: float = 0.0, yaw_rate: float = 0.0) -> EgoState:
    """A vehicle on a circle."""
    yaw = yaw_rate * STEP_S * k
    x, y = speed * STEP_S * k, 0.0
    if yaw_rate:
        x, y = speed / yaw_rate * np.sin(yaw), speed / yaw_rate * (1 - np.cos(yaw))
    return EgoState(k * STEP_NS, pose_from_xy_yaw(x, y, yaw), np.array([speed, 0.0]), yaw_rate)


def seen_from(ego: EgoState, odom: Boxes) -> Boxes:
    """The boxes in `base_link`, with the velocity that a network guesses."""
    here = replace(odom, frame="odom").transformed(invert_pose(ego.T_odom_base), "base_link")
    return replace(here, velocity=odom.velocity)


def deviation(boxes: Boxes) -> np.ndarray:
    """(N, 2) of the velocities, m/s."""
    assert boxes.variance is not None
    return np.sqrt(boxes.variance[:, 7:])


@pytest.mark.parametrize("yaw_rate", [0.0, 0.3])
@pytest.mark.parametrize("speed", [0.0, 2.0, 14.0])
def test_speeds_over_ground_are_what_surfaces_show_while_the_vehicle_drives_and_turns(
    speed: float, yaw_rate: float
) -> None:
    rng, motion = np.random.default_rng(0), SweepMotion()
    start = np.array([(14.0, 4.0, 0.0), (22.0, -5.0, np.pi), (9.0, -7.0, 0.5)])
    velocity = speed * np.column_stack([np.cos(start[:, 2]), np.sin(start[:, 2])])
    for k in range(4):
        places = start + np.column_stack([velocity, np.zeros(3)]) * STEP_S * k
        ego = ego_at(k, 8.0, yaw_rate)
        seen = seen_from(ego, boxes_of([tuple(p) for p in places]))
        jitter = rng.normal(0, 0.15, (3, 3)) * [1, 1, 0]
        told = motion.step(
            replace(seen, center=seen.center + jitter), LidarSweep(surface(seen, rng), ego.stamp_ns), ego
        )
        if k == 0:
            continue
        turn = ego.T_odom_base[:2, :2]
        np.testing.assert_allclose(told.velocity @ turn.T, velocity, atol=0.45)
        assert (deviation(told) < 0.6).all()
    np.testing.assert_array_equal(told.size, seen.size)


def test_a_person_who_walks_has_no_heading_to_keep_to() -> None:
    rng, motion = np.random.default_rng(1), SweepMotion()
    for k in range(3):
        seen = boxes_of([(8.0, 0.14 * k - 2, 0.0)], PEDESTRIAN)
        told = motion.step(seen, LidarSweep(surface(seen, rng, 80), k * STEP_NS), ego_at(k))
    np.testing.assert_allclose(told.velocity, [[0.0, 1.4]], atol=0.35)


def test_points_know_their_own_time() -> None:
    """Who comes towards a lidar that turns is seen earlier in the next turn, or later: that is no speed."""
    rng, velocity = np.random.default_rng(2), np.array([-25.0, 0.0])
    told = {}
    for timed in (True, False):
        motion = SweepMotion()
        for k, late in enumerate((0.01, 0.03)):  # s after the stamp
            ego = ego_at(k, 20.0)
            moment = k * STEP_S + late
            place = (
                np.array([60.0, 4.0]) + velocity * moment - [20.0 * moment, 0.0]
            )  # relative to where base_link is then
            seen = boxes_of([(*place, np.pi)])
            points = surface(seen, rng)
            sweep = LidarSweep(points, ego.stamp_ns, np.full(len(points), late, np.float32) if timed else None)
            told[timed] = motion.step(seen, sweep, ego).velocity[0]
    np.testing.assert_allclose(told[True], velocity, atol=0.4)
    assert told[False][0] == pytest.approx(-34.0, abs=0.5)  # 45 m/s apart, for a fifth longer than it looks


def test_a_wall_that_goes_past_does_not_tell_how_fast() -> None:
    """Of a side without ends one sees no motion along it."""
    rng, motion = np.random.default_rng(3), SweepMotion()
    for k in range(2):
        seen = boxes_of([(0.0, 6.0, 0.0)])
        side = np.column_stack(
            [rng.uniform(-2.3, 2.3, 400), np.full(400, 5.1), rng.uniform(0.4, 1.4, 400), np.zeros(400)]
        )
        told = motion.step(seen, LidarSweep(side.astype(np.float32), k * STEP_NS), ego_at(k))
    assert deviation(told)[0, 0] >= GUESS
    np.testing.assert_array_equal(told.velocity, seen.velocity)


@pytest.mark.parametrize(
    "why", ["first", "gap", "back", "source", "no sweep before", "few points", "alone", "other kind"]
)
def test_what_cannot_be_measured_stays_a_guess(why: str) -> None:
    rng, motion = np.random.default_rng(4), SweepMotion()
    before = boxes_of([(12.0, 2.0, 0.0)], PEDESTRIAN if why == "other kind" else CAR)
    if why == "alone":
        before = boxes_of([(-30.0, 2.0, 0.0)])
    now, few = boxes_of([(12.0, 2.0, 0.0)]), 6 if why == "few points" else 300
    stamp = {"gap": 5 * STEP_NS, "back": -STEP_NS}.get(why, STEP_NS)
    source = MotionSource.LIDAR if why == "source" else MotionSource.ODOMETRY
    if why != "first":
        motion.step(before, LidarSweep(surface(before, rng, few), 10 * STEP_NS), ego_at(10))
    if why == "no sweep before":
        motion.step(now, None, ego_at(10))
    ego = replace(ego_at(10), stamp_ns=10 * STEP_NS + stamp, source=source)
    told = motion.step(now, LidarSweep(surface(now, rng, few), ego.stamp_ns), ego)
    np.testing.assert_array_equal(told.velocity, now.velocity)
    np.testing.assert_allclose(deviation(told), GUESS)


def test_what_only_cameras_see_is_a_guess() -> None:
    seen = boxes_of([(12.0, 3.0, 0.0)])
    for sweep in (None, LidarSweep(np.zeros((0, 4), np.float32), 0)):
        told = SweepMotion().step(seen, sweep, ego_at(0))
        np.testing.assert_array_equal(told.velocity, seen.velocity)
        np.testing.assert_allclose(deviation(told), GUESS)


def test_a_thing_seen_twice_within_no_time_tells_no_speed() -> None:
    """At the end of one turn of the lidar and at the beginning of the next, by clocks that are not quite right."""
    rng, motion = np.random.default_rng(8), SweepMotion()
    seen = boxes_of([(-12.0, 0.0, 0.0)])
    for k, late in enumerate((STEP_S + 0.03, 0.0)):
        points = surface(seen, rng)
        sweep = LidarSweep(points, k * STEP_NS, np.full(len(points), late, np.float32))
        told = motion.step(seen, sweep, ego_at(k))
    np.testing.assert_array_equal(told.velocity, seen.velocity)
    np.testing.assert_allclose(deviation(told), GUESS)


def test_without_variances_velocities_are_measured_all_the_same() -> None:
    rng, motion = np.random.default_rng(5), SweepMotion()
    for k in range(2):
        seen = replace(boxes_of([(12.0 + 0.3 * k, 3.0, 0.0)]), variance=None)
        told = motion.step(seen, LidarSweep(surface(seen, rng), k * STEP_NS), ego_at(k))
    assert told.variance is None
    np.testing.assert_allclose(told.velocity, [[3.0, 0.0]], atol=0.4)


def test_nothing_is_changed_where_it_is_switched_off_and_nothing_comes_of_nothing() -> None:
    rng = np.random.default_rng(6)
    seen = boxes_of([(12.0, 3.0, 0.0)])
    off = SweepMotion(SweepMotionSettings(enabled=False))
    assert off.step(seen, LidarSweep(surface(seen, rng), 0), ego_at(0)) is seen
    motion = SweepMotion()
    for k, boxes in enumerate((seen, Boxes.empty(), Boxes.empty(), seen)):
        assert len(motion.step(boxes, LidarSweep(surface(seen, rng), k * STEP_NS), ego_at(k))) == len(boxes)
    assert len(motion.step(Boxes.empty(), LidarSweep(np.zeros((0, 4), np.float32), 4 * STEP_NS), ego_at(4))) == 0


def test_the_order_of_boxes_does_not_matter() -> None:
    rng = np.random.default_rng(7)
    places = [(10.0 + 7 * i, 4.0 * (-1) ** i, 0.3 * i) for i in range(4)]
    frames = [(boxes_of(places), surface(boxes_of(places), rng)) for _ in range(2)]
    order, results = np.array([2, 0, 3, 1]), []
    for rows in (np.arange(4), order):
        motion = SweepMotion()
        for k, (boxes, points) in enumerate(frames):
            told = motion.step(boxes[rows], LidarSweep(points, k * STEP_NS), ego_at(k))
        results.append(told)
    np.testing.assert_allclose(results[1].velocity, results[0].velocity[order], atol=1e-6)


def test_in_the_world_most_things_are_measured_and_measured_right() -> None:
    """True boxes, off by 0.1 m, as detections: what is found by a network is left out of this."""
    families = [name for name in FAMILIES if name != "motorway"]
    frames, rng = WorldFrames(5, families, per_drive=4, spacing=STEP_S), np.random.default_rng(0)
    error, z, many, measured = [], [], [], []
    for drive in range(4):
        motion = SweepMotion()
        for k, (sensors, truth) in enumerate(frames.drive(drive)):
            real = truth.boxes
            shifted = real.center + rng.normal(0, 0.1, real.center.shape) * [1, 1, 0.3]
            told = motion.step(
                replace(real, center=shifted, velocity=np.full((len(real), 2), 50.0), variance=np.ones((len(real), 9))),
                sensors.lidar, sensors.ego,
            )  # fmt: skip
            if k == 0:
                continue
            known = deviation(told)[:, 0] < GUESS
            off = np.hypot(*(told.velocity - real.velocity)[known].T)
            error.extend(off)
            z.extend(off / np.hypot(*deviation(told)[known].T))
            many.extend(known[truth.points_inside >= 60])
            measured.extend(known)
    assert len(error) > 60
    assert np.mean(many) > 0.7
    assert np.median(error) < 0.2
    assert np.quantile(error, 0.9) < 0.8
    assert np.quantile(z, 0.9) < 2.0


@pytest.mark.data
def test_a_recorded_car_ahead_is_measured_to_close_in_as_it_does(recorded_data: Path) -> None:
    settings = PipelineSettings(detector=DetectorSettings(model=NO_MODEL))
    motion, closing = SweepMotion(), []
    with BagReader(recorded_data / "kitti_drive") as bag, Perceiver(settings) as perceiver:
        before = np.eye(4)
        for k, (frame, _) in enumerate(BagFrames(bag, settings)):
            ego = perceiver.step(frame).ego
            rear = np.interp(k, list(LEAD_REAR_M), list(LEAD_REAR_M.values()))
            told = motion.step(boxes_of([(rear + 2.2, -0.3, 0.0)]), frame.lidar, ego)
            if k:
                assert deviation(told)[0, 0] < 0.5
                own = (invert_pose(before) @ ego.T_odom_base)[0, 3] / STEP_S
                closing.append(told.velocity[0, 0] - own)
            before = ego.T_odom_base
    assert len(closing) == 29
    for first, last in pairwise(LEAD_REAR_M):
        expected = (LEAD_REAR_M[last] - LEAD_REAR_M[first]) / ((last - first) * STEP_S)
        assert np.mean(closing[first:last]) == pytest.approx(expected, abs=0.2)  # the hand was right to 5 cm


def test_a_tracker_believes_measured_speeds_and_no_guesses() -> None:
    for told, expected in ((0.15, 9.0), (3.0, 0.0)):
        tracker = Tracker()
        for k in range(2):
            seen = boxes_of([(20.0, 0.0, 0.0)])
            variance = seen.variance.copy()
            variance[:, 7:] = told**2
            seen = replace(seen, velocity=np.array([[9.0, 0.0]]), variance=variance)
            objects = tracker.step(k * STEP_NS, seen, Boxes.empty(), ego_at(k))
        assert objects.boxes.velocity[0, 0] == pytest.approx(expected, abs=3.0)


def test_one_wild_speed_does_not_carry_a_track_away() -> None:
    tracker = Tracker()
    for k in range(20):
        seen = boxes_of([(20.0 + 0.5 * k, 0.0, 0.0)])
        variance = seen.variance.copy()
        variance[:, 7:] = 0.04
        seen = replace(seen, velocity=np.array([[-20.0 if k == 15 else 5.0, 0.0]]), variance=variance)
        objects = tracker.step(k * STEP_NS, seen, Boxes.empty(), ego_at(k))
        if k >= 10:
            assert objects.boxes.velocity[0, 0] == pytest.approx(5.0, abs=1.5)
