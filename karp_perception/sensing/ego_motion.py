"""The vehicle's own motion at any moment, from odometry messages or, where a drive has none, from the lidar."""

from __future__ import annotations

import bisect
import logging
import threading
from collections import deque
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from karp_perception.core import EgoState, InvalidInput, MotionSource, Settings, setting
from karp_perception.core.geometry import (
    interpolate_pose,
    invert_pose,
    pose_from_quaternion,
    pose_from_rotation,
    pose_from_xy_yaw,
    yaw_of,
)

log = logging.getLogger(__name__)


def decode_odometry(message: Any) -> EgoState:
    """nav_msgs/Odometry -> EgoState: pose of the child frame in the header's frame, twist in the child frame.

    Raises InvalidInput with reason `malformed_odometry`, and passes on what EgoState says of numbers that are not
    finite.
    """
    p, q = message.pose.pose.position, message.pose.pose.orientation
    v, w = message.twist.twist.linear, message.twist.twist.angular
    stamp_ns = message.header.stamp.sec * 1_000_000_000 + message.header.stamp.nanosec
    try:
        pose = pose_from_quaternion((p.x, p.y, p.z), (q.x, q.y, q.z, q.w))
        return EgoState(stamp_ns, pose, np.array([v.x, v.y]), w.z)
    except InvalidInput as error:
        reason = error.reason if error.reason == "absurd_stamp" else "malformed_odometry"
        raise InvalidInput(
            f"nav_msgs/Odometry: {error.subject}", error.expected, error.got, error.advice, reason=reason
        ) from None


class EgoMotion:
    """The last seconds of odometry, asked for any stamp. Thread-safe.

    Between two states the pose is interpolated; up to `max_gap_s` past the newest it is carried on with its velocity
    and yaw rate; otherwise nothing is known. A stamp far in the past of the newest (a bag that starts again) clears
    the history.
    """

    def __init__(self, history_s: float = 10.0, max_gap_s: float = 0.3) -> None:
        self._history_ns, self._max_gap_ns = int(history_s * 1e9), int(max_gap_s * 1e9)
        self._states: deque[EgoState] = deque()
        self._lock = threading.Lock()

    def add(self, state: EgoState) -> None:
        """One more state; those older than the history are forgotten."""
        with self._lock:
            states = self._states
            if states and state.stamp_ns < states[-1].stamp_ns - self._history_ns:
                log.warning("odometry jumped back in time by more than its history: starting again")
                states.clear()
            if states and state.stamp_ns <= states[-1].stamp_ns:
                stamps = [s.stamp_ns for s in states]
                at = bisect.bisect_left(stamps, state.stamp_ns)
                if stamps[at] == state.stamp_ns:
                    states[at] = state
                else:
                    states.insert(at, state)
            else:
                states.append(state)
            while states[-1].stamp_ns - states[0].stamp_ns > self._history_ns:
                states.popleft()

    def at(self, stamp_ns: int) -> EgoState | None:
        """The motion at a stamp, or None where too little is known."""
        with self._lock:
            states = list(self._states)
        if not states:
            return None
        at = bisect.bisect_left([s.stamp_ns for s in states], stamp_ns)
        if at == len(states):
            return self._carried(states[-1], stamp_ns)
        if at == 0:
            return states[0] if states[0].stamp_ns == stamp_ns else self._carried(states[0], stamp_ns)
        before, after = states[at - 1], states[at]
        if after.stamp_ns - before.stamp_ns > 2 * self._max_gap_ns:
            return self._carried(before, stamp_ns)
        f = (stamp_ns - before.stamp_ns) / (after.stamp_ns - before.stamp_ns)
        return EgoState(
            stamp_ns,
            interpolate_pose(before.T_odom_base, after.T_odom_base, f),
            (1 - f) * before.velocity + f * after.velocity,
            (1 - f) * before.yaw_rate + f * after.yaw_rate,
            before.source,
        )

    def _carried(self, state: EgoState, stamp_ns: int) -> EgoState | None:
        """`state` moved on (or back) to a stamp nearby with its own velocity and yaw rate."""
        gap_ns = stamp_ns - state.stamp_ns
        if abs(gap_ns) > self._max_gap_ns:
            return None
        dt = gap_ns * 1e-9
        turn = state.yaw_rate * dt
        # The chord of an arc points along half its turn.
        c, s = np.cos(turn / 2), np.sin(turn / 2)
        dx, dy = dt * (np.array([[c, -s], [s, c]]) @ state.velocity)
        return replace(state, stamp_ns=stamp_ns, T_odom_base=state.T_odom_base @ pose_from_xy_yaw(dx, dy, turn))


@dataclass(frozen=True)
class LidarOdometrySettings(Settings):
    """Lidar odometry by KISS-ICP (Vizzo et al., RA-L 2023), used where no odometry arrives."""

    enabled: bool = setting(True, "estimate ego motion from the lidar where there is no odometry")
    max_range: float = setting(100.0, "points beyond are not registered", unit="m", low=10.0, high=300.0)
    min_points: int = setting(500, "with fewer points off the ground, ground points help out", low=0, high=100000)
    initial_threshold: float = setting(0.5, "first correspondence threshold", unit="m", low=0.05, high=5.0)
    convergence: float = setting(
        0.001,
        "registration ends with a step below this: a tenth of what a sweep can tell",
        unit="m",
        low=1e-6,
        high=0.1,
    )
    velocity_time_constant: float = setting(0.25, "of the velocity filter", unit="s", low=0.01, high=2.0)
    max_gap: float = setting(1.0, "a longer gap between sweeps starts a new map", unit="s", low=0.1, high=60.0)


class LidarOdometry:
    """Ego motion from sweeps alone.

    Points on the ground are left out of the registration: the rings a lidar draws there travel with the vehicle and
    pull the estimate towards standing still, by several per cent at walking pace.
    """

    def __init__(self, settings: LidarOdometrySettings = LidarOdometrySettings()) -> None:
        self.settings = settings
        self.reset()

    def reset(self) -> None:
        """Start again with an empty map at the origin."""
        from kiss_icp.config import KISSConfig
        from kiss_icp.kiss_icp import KissICP
        from kiss_icp.preprocess import get_preprocessor

        config = KISSConfig()
        config.data.max_range = self.settings.max_range
        config.mapping.voxel_size = self.settings.max_range / 100.0  # the ratio KISS-ICP itself uses
        config.adaptive_threshold.initial_threshold = self.settings.initial_threshold
        config.registration.convergence_criterion = self.settings.convergence
        config.registration.max_num_threads = 1  # sums in a fixed order: two runs agree to the last bit
        config.data.deskew = True
        self._deskewing = get_preprocessor(config)
        config.data.deskew = False
        self._plain = get_preprocessor(config)
        self._icp = KissICP(config)
        self._state: EgoState | None = None

    def step(self, points: np.ndarray, stamp_ns: int, ground: np.ndarray, time: np.ndarray | None = None) -> EgoState:
        """Register one sweep.

        Args:
            points: (N, 3 or more) in `base_link`, m.
            stamp_ns: of the sweep.
            ground: (N,) mask of points on the ground.
            time: (N,) s of each point within the sweep, or None.

        Returns:
            The pose relative to the first sweep and the filtered velocity.
        """
        if self._state is not None:
            gap = (stamp_ns - self._state.stamp_ns) * 1e-9
            if not 0.0 < gap <= self.settings.max_gap:
                log.warning("lidar odometry: %.2f s between sweeps; starting a new map", gap)
                self.reset()
        use = ~ground
        if np.count_nonzero(use) < self.settings.min_points:
            use = np.ones(len(points), bool)
        chosen = points[use, :3].astype(np.float64)
        if len(chosen):
            # Equal times make KISS-ICP's deskewing divide by zero and abort the process.
            spread = time is not None and float(np.ptp(time[use])) > 1e-3
            self._icp.preprocessor = self._deskewing if spread else self._plain
            self._icp.register_frame(chosen, time[use].astype(np.float64) if spread else np.zeros(0))
        self._state = self._filtered(self._icp.last_pose, stamp_ns)
        return self._state

    def _filtered(self, pose: np.ndarray, stamp_ns: int) -> EgoState:
        """EgoState of a registered pose: velocity and yaw rate from the last step, smoothed."""
        # ICP multiplies thousands of rotations: bring the product back onto the group.
        u, _, vt = np.linalg.svd(pose[:3, :3])
        pose = pose_from_rotation(u @ vt, pose[:3, 3])
        last = self._state
        if last is None:
            return EgoState(stamp_ns, pose, np.zeros(2), 0.0, MotionSource.LIDAR)
        dt = (stamp_ns - last.stamp_ns) * 1e-9
        step = invert_pose(last.T_odom_base) @ pose
        measured = np.array([step[0, 3], step[1, 3], yaw_of(step)]) / dt
        previous = np.array([*last.velocity, last.yaw_rate])
        first = not previous.any()
        gain = 1.0 if first else 1.0 - np.exp(-dt / self.settings.velocity_time_constant)
        vx, vy, yaw_rate = previous + gain * (measured - previous)
        return EgoState(stamp_ns, pose, np.array([vx, vy]), float(yaw_rate), MotionSource.LIDAR)
