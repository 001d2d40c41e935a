"""Ego motion: odometry at any stamp, and lidar odometry against known motion."""

from __future__ import annotations

from types import SimpleNamespace as Ns

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from karp_perception.core import EgoState, InvalidInput, MotionSource
from karp_perception.core.geometry import pose_from_xy_yaw, yaw_of
from karp_perception.sensing.ego_motion import EgoMotion, LidarOdometry, LidarOdometrySettings, decode_odometry

SECOND = 1_000_000_000


def on_a_circle(t: float, radius: float = 20.0, speed: float = 8.0) -> EgoState:
    """Driving to the left round (0, radius), analytically."""
    angle = speed * t / radius
    pose = pose_from_xy_yaw(radius * np.sin(angle), radius * (1 - np.cos(angle)), angle)
    return EgoState(int(t * SECOND), pose, [speed, 0.0], speed / radius)


@given(st.floats(0.0, 2.2))
def test_between_and_shortly_after_states_the_circle_is_met(t: float) -> None:
    motion = EgoMotion()
    for k in range(21):
        motion.add(on_a_circle(k * 0.1))
    at = motion.at(int(t * SECOND))
    expected = on_a_circle(int(t * SECOND) / SECOND)
    assert at is not None
    # Between states 0.1 s apart the chord misses the arc by at most (v dt)^2 / 8r; past the end the arc is exact.
    assert np.linalg.norm(at.T_odom_base[:2, 3] - expected.T_odom_base[:2, 3]) < 0.8**2 / (8 * 20) + 1e-6
    assert yaw_of(at.T_odom_base) == pytest.approx(yaw_of(expected.T_odom_base), abs=1e-6)


def test_beyond_the_gap_nothing_is_known() -> None:
    motion = EgoMotion(max_gap_s=0.3)
    assert motion.at(0) is None
    motion.add(on_a_circle(1.0))
    assert motion.at(int(1.31 * SECOND)) is None
    assert motion.at(int(0.69 * SECOND)) is None
    assert motion.at(int(1.29 * SECOND)) is not None
    motion.add(on_a_circle(3.0))
    assert motion.at(2 * SECOND) is None, "a hole of two seconds is not bridged by a straight line"


def test_late_states_find_their_place_and_old_ones_are_forgotten() -> None:
    ordered, shuffled = EgoMotion(), EgoMotion()
    times = [0.0, 0.1, 0.2, 0.3, 0.4]
    for t in times:
        ordered.add(on_a_circle(t))
    for k in (0, 2, 4, 1, 3):
        shuffled.add(on_a_circle(times[k]))
    stamp = int(0.25 * SECOND)
    np.testing.assert_array_equal(ordered.at(stamp).T_odom_base, shuffled.at(stamp).T_odom_base)
    short = EgoMotion(history_s=1.0)
    for k in range(50):
        short.add(on_a_circle(k * 0.1))
    assert short.at(0) is None
    assert short.at(int(4.5 * SECOND)) is not None


def test_a_bag_that_starts_again_clears_the_history() -> None:
    motion = EgoMotion(history_s=5.0)
    motion.add(on_a_circle(100.0))
    motion.add(on_a_circle(0.0))
    assert motion.at(100 * SECOND) is None
    assert motion.at(0) is not None


def odometry(**changes: float) -> Ns:
    values = {"x": 1.0, "y": 2.0, "qz": 0.0, "qw": 1.0, "vx": 3.0, "wz": 0.1, "sec": 5} | changes
    return Ns(
        header=Ns(stamp=Ns(sec=values["sec"], nanosec=0), frame_id="odom"),
        pose=Ns(
            pose=Ns(
                position=Ns(x=values["x"], y=values["y"], z=0.0),
                orientation=Ns(x=0.0, y=0.0, z=values["qz"], w=values["qw"]),
            )
        ),
        twist=Ns(twist=Ns(linear=Ns(x=values["vx"], y=0.0, z=0.0), angular=Ns(x=0.0, y=0.0, z=values["wz"]))),
    )


def test_odometry_messages() -> None:
    state = decode_odometry(odometry())
    assert (state.stamp_ns, state.speed, state.yaw_rate) == (5 * SECOND, 3.0, 0.1)
    assert state.T_odom_base[:3, 3].tolist() == [1, 2, 0]
    for bad in ({"vx": np.nan}, {"qw": 0.0}, {"x": np.inf}):
        with pytest.raises(InvalidInput) as caught:
            decode_odometry(odometry(**bad))
        assert caught.value.reason == "malformed_odometry"
    with pytest.raises(InvalidInput) as caught:
        decode_odometry(odometry(sec=-3))
    assert caught.value.reason == "absurd_stamp"


def room(pose: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Points on walls and pillars of a yard, and on the ground around the vehicle; seen from `pose`, with noise."""
    rng = np.random.default_rng(seed)
    n = 6000
    side = rng.integers(0, 4, n)
    along, up = rng.uniform(-40, 40, n), rng.uniform(0.3, 4, n)
    walls = np.select(
        [side[:, None] == k for k in range(4)],
        [
            np.column_stack(columns)
            for columns in (
                (along, np.full(n, 12.0), up),
                (along, np.full(n, -12.0), up),
                (np.full(n, 40.0), along * 0.3, up),
                (np.full(n, -40.0), along * 0.3, up),
            )
        ],
    )
    pillars = np.array([[x, y, 0.0] for x in range(-36, 40, 9) for y in (-8.0, 8.0)])
    angle = rng.uniform(0, 2 * np.pi, (len(pillars), 150))
    shell = np.stack([0.4 * np.cos(angle), 0.4 * np.sin(angle), rng.uniform(0.3, 3, angle.shape)], axis=-1)
    solid = np.concatenate([walls, (pillars[:, None] + shell).reshape(-1, 3)])
    inverse = np.linalg.inv(pose)
    seen = solid @ inverse[:3, :3].T + inverse[:3, 3]
    # The ground is seen as rings around the sensor, wherever it is.
    ring = np.repeat(np.geomspace(4, 30, 20), 400)
    turn = rng.uniform(0, 2 * np.pi, ring.size)
    ground = np.column_stack([ring * np.cos(turn), ring * np.sin(turn), np.zeros(ring.size)])
    points = np.concatenate([seen, ground]) + rng.normal(0, 0.01, (len(seen) + len(ground), 3))
    return points.astype(np.float32), np.arange(len(points)) >= len(seen)


def test_lidar_odometry_follows_a_slow_drive() -> None:
    pytest.importorskip("kiss_icp")
    odometry = LidarOdometry()
    for k in range(25):
        pose = pose_from_xy_yaw(0.1 * k, 0.0, 0.004 * k)
        points, ground = room(pose, k)
        state = odometry.step(points, k * SECOND // 10, ground)
    assert state.source is MotionSource.LIDAR
    assert np.linalg.norm(state.T_odom_base[:2, 3] - pose[:2, 3]) < 0.05 * 2.4
    assert yaw_of(state.T_odom_base) == pytest.approx(0.004 * 24, abs=0.01)
    assert state.speed == pytest.approx(1.0, abs=0.1)
    assert state.yaw_rate == pytest.approx(0.04, abs=0.02)


def test_lidar_odometry_survives_empty_sweeps_equal_times_and_gaps() -> None:
    pytest.importorskip("kiss_icp")
    odometry = LidarOdometry(LidarOdometrySettings(max_gap=0.5))
    none = np.zeros((0, 3), np.float32)
    assert odometry.step(none, 0, np.zeros(0, bool)).speed == 0
    points, ground = room(np.eye(4), 0)
    odometry.step(points, SECOND // 10, ground, np.zeros(len(points), np.float32))
    odometry.step(points, 2 * SECOND // 10, ground, np.linspace(0, 0.1, len(points), dtype=np.float32))
    again = odometry.step(points, 10 * SECOND, ground)
    np.testing.assert_array_equal(again.T_odom_base, np.eye(4))


def test_two_runs_agree_to_the_last_bit() -> None:
    pytest.importorskip("kiss_icp")

    def run() -> bytes:
        odometry = LidarOdometry()
        for k in range(4):
            points, ground = room(pose_from_xy_yaw(0.1 * k, 0, 0), k)
            state = odometry.step(points, k * SECOND // 10, ground)
        return state.T_odom_base.tobytes() + state.velocity.tobytes()

    assert run() == run()
