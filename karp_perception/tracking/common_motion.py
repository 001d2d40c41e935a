"""How the vehicle moved, told by the objects around: for recordings without odometry.

What stands moves alike in the sensor's frame, whatever it is, and so does the part of every motion that is the
vehicle's own. From one frame to the next the rigid motion in the plane is taken that brings the most measured boxes to
where their tracks are expected: a robust fit (iteratively reweighted least squares with Geman and McClure's weights,
1985), pulled towards the motion that the last frames showed. Objects that move in a way of their own do not fit and
lose their say.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from karp_perception.core import Boxes, EgoState, MotionSource
from karp_perception.core.geometry import invert_pose, pose_from_xy_yaw, wrap_angle
from karp_perception.core.settings import Settings, setting

_NO_CHANGE = 1e-4  # m and rad, from which a fit has come to its end


@dataclass(frozen=True)
class CommonMotionSettings(Settings):
    """What is known of a vehicle's motion beforehand, and how well boxes show it."""

    box_deviation: float = setting(0.25, "of a measured box's centre", unit="m", low=0.01, high=5.0)
    yaw_deviation: float = setting(0.1, "of its yaw", unit="rad", low=0.005, high=1.5)
    inlier: float = setting(3.0, "residual, in deviations, at which a box has a quarter of its weight", low=0.5)
    acceleration: float = setting(3.0, "how hard the vehicle changes its speed", unit="m/s2", low=0.1, high=20.0)
    turn: float = setting(0.6, "how fast its yaw rate changes", unit="rad/s2", low=0.01, high=10.0)
    straightens: float = setting(2.0, "how long a turn lasts that nothing confirms", unit="s", low=0.1, high=100.0)
    first_speed: float = setting(12.0, "deviation of the speed before anything is known", unit="m/s", low=0.1)
    first_yaw_rate: float = setting(0.2, "the same of the yaw rate", unit="rad/s", low=0.01, high=3.0)
    sideways: float = setting(0.4, "deviation of the speed sideways", unit="m/s", low=0.01, high=5.0)
    search_step: float = setting(
        0.25, "between the ways ahead that are tried while the speed is open", unit="m", low=0.01
    )
    iterations: int = setting(6, "of the fit, at most", low=1, high=50)
    fewest: int = setting(3, "boxes that have to agree on a speed before any is known", low=2, high=50)


class CommonMotion:
    """Follows the vehicle's pose in an `odom` of its own, from boxes and where they were expected."""

    def __init__(self, settings: CommonMotionSettings | None = None) -> None:
        self.settings = settings or CommonMotionSettings()
        self._pose = np.eye(4)
        self._motion = np.zeros(3)  # forward, left (m/s), yaw rate (rad/s)
        s = self.settings
        self._variance = np.array([s.first_speed**2, s.sideways**2, s.first_yaw_rate**2])
        self._stamp_ns: int | None = None

    def step(
        self, stamp_ns: int, expected: Boxes, deviation: np.ndarray, fresh: np.ndarray, measured: Boxes
    ) -> EgoState:
        """The motion at `stamp_ns`.

        Args:
            stamp_ns: later than the one before.
            expected: tracks as they are expected at that time, in `odom`.
            deviation: (N,) m, of their places.
            fresh: (N,) which of them were seen once only: what is not known of their speed is the vehicle's own.
            measured: boxes in `base_link`.
        """
        settings = self.settings
        if self._stamp_ns is None:
            self._stamp_ns = stamp_ns
            return EgoState(stamp_ns, self._pose, self._motion[:2], self._motion[2], MotionSource.LIDAR)
        dt, self._stamp_ns = (stamp_ns - self._stamp_ns) * 1e-9, stamp_ns
        self._variance = self._variance + np.array([settings.acceleration, 0.0, settings.turn]) ** 2 * dt**2
        self._variance[1] = settings.sideways**2
        # Where all that is seen moves, a turn of the vehicle and a turn of everything look alike: then there is none.
        fades = np.exp(-dt / settings.straightens)
        self._motion[2] *= fades
        self._variance[2] = fades**2 * self._variance[2] + (1 - fades**2) * settings.first_yaw_rate**2
        way, variance = self._motion * dt, self._variance * dt**2
        if len(expected) and len(measured):
            here = expected.transformed(invert_pose(self._pose), "base_link")
            way, covariance = self._fit(way, variance, here, deviation, fresh, measured)
            # The fit joined the expectation already: what it says is the estimate.
            self._motion, self._variance = way / dt, np.minimum(np.diag(covariance) / dt**2, self._variance)
        self._motion[1] = 0.0
        self._pose = self._pose @ pose_from_xy_yaw(*way)
        return EgoState(stamp_ns, self._pose, self._motion[:2], float(self._motion[2]), MotionSource.LIDAR)

    def _fit(
        self,
        way: np.ndarray,
        variance: np.ndarray,
        here: Boxes,
        deviation: np.ndarray,
        fresh: np.ndarray,
        measured: Boxes,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Way (3,) x, y, yaw and its covariance (3, 3), from boxes before (`here`) and after, each in its own frame."""
        settings = self.settings
        kind = here.label[:, None] == measured.label[None, :]
        noise = deviation[:, None] ** 2 + settings.box_deviation**2
        if variance[0] > (2 * settings.search_step) ** 2 and min(len(here), len(measured)) >= settings.fewest:
            near = np.where(fresh[:, None], settings.box_deviation**2, noise)
            spread = np.sqrt(variance[0])
            steps = np.arange(-2.5 * spread, 2.5 * spread, settings.search_step)
            agreement = [self._agreement(way + np.array([s, 0, 0]), here, measured, kind, near) for s in steps]
            likely = np.array(agreement) - 0.5 * (steps / spread) ** 2
            if np.max(agreement) >= settings.fewest - 0.5:
                way, noise = way + np.array([steps[int(np.argmax(likely))], 0.0, 0.0]), near
                variance = np.array([settings.search_step**2, *variance[1:]])
        prior, information, information_before = way, np.diag(1 / variance), np.diag(1 / variance)
        for _ in range(settings.iterations):
            c, s = np.cos(way[2]), np.sin(way[2])
            turned = measured.center[:, :2] @ np.array([[c, s], [-s, c]])
            apart = here.center[:, None, :2] - (turned + way[:2])[None]
            squared = np.where(kind, (apart**2).sum(axis=2) / noise, np.inf)
            j = squared.argmin(axis=1)
            i = np.flatnonzero(squared.argmin(axis=0)[j] == np.arange(len(j)))
            j = j[i]
            near = squared[i, j] < (3 * settings.inlier) ** 2
            i, j = i[near], j[near]
            information, pull = information_before.copy(), information_before @ (prior - way)
            if len(i):
                weight = 1 / (1 + squared[i, j] / settings.inlier**2) ** 2
                w = weight / noise[i, 0]
                d, t = apart[i, j], turned[j]
                lever = np.stack([-t[:, 1], t[:, 0]], axis=1)  # change of the place by a turn
                information[:2, :2] += w.sum() * np.eye(2)
                cross = (w[:, None] * lever).sum(axis=0)
                information[:2, 2] += cross
                information[2, :2] += cross
                turn = wrap_angle(2 * (here.yaw[i] - measured.yaw[j] - way[2])) / 2  # up to half turns
                v = weight * np.exp(-0.5 * (turn / (3 * settings.yaw_deviation)) ** 2) / settings.yaw_deviation**2
                information[2, 2] += (w * (lever**2).sum(axis=1)).sum() + v.sum()
                pull[:2] += (w[:, None] * d).sum(axis=0)
                pull[2] += (w * (lever * d).sum(axis=1)).sum() + (v * turn).sum()
            change = np.linalg.solve(information, pull)
            way = way + change
            if np.abs(change).max() < _NO_CHANGE:
                break
        return way, np.linalg.inv(information)

    def _agreement(self, way: np.ndarray, here: Boxes, measured: Boxes, kind: np.ndarray, noise: np.ndarray) -> float:
        """How many boxes lie where one is expected, a near miss counting in part."""
        c, s = np.cos(way[2]), np.sin(way[2])
        place = measured.center[:, :2] @ np.array([[c, s], [-s, c]]) + way[:2]
        squared = ((here.center[:, None, :2] - place[None]) ** 2).sum(axis=2) / noise
        return float(np.where(kind, 1 / (1 + squared / 4), 0.0).max(axis=0).sum())
