"""How tracked things move: two hypotheses a track, "it stands" and "it moves as its class does".

Most of what a lidar sees stands, and its measured boxes jitter. A single filter with a birth speed wide enough for
oncoming traffic turns that jitter into speeds; one with a narrow birth speed is late for real traffic. So each track
carries a position-only filter and one of motion, and the odds between them, from how well each foretold the
measurements: an interacting multiple model filter of two models (Blom and Bar-Shalom, 1988).

The model of motion is an extended Kalman filter of the coordinated turn (Li and Jilkov, "Survey of maneuvering target
tracking, part I", 2003), whose fifth state says how the velocity turns. Of vehicles it is the yaw rate (constant turn
rate and velocity); of two-wheelers the curvature of their path, as the steering of a bicycle sets it, so that what
stands cannot turn on the spot; pedestrians and things without a class have none (constant velocity).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from karp_perception.core import ObjectClass
from karp_perception.core.settings import Settings, setting
from karp_perception.tracking import kalman

_POSITION = np.eye(2, 5)
_VELOCITY = np.eye(2, 5, k=2)
_EYE = np.eye(2)
_SLOW = 1e-3  # m/s, below which a velocity has no direction


@dataclass(frozen=True)
class MotionSettings(Settings):
    """What is known of motion before anything is measured."""

    vehicle_speed: float = setting(10.0, "standard deviation of a vehicle's speed at birth", unit="m/s", low=0.1)
    two_wheeler_speed: float = setting(5.0, "the same of a two-wheeler", unit="m/s", low=0.1)
    pedestrian_speed: float = setting(1.5, "the same of a pedestrian", unit="m/s", low=0.1)
    unknown_speed: float = setting(8.0, "the same of an obstacle without a class", unit="m/s", low=0.1)
    vehicle_acceleration: float = setting(1.5, "how hard a vehicle changes its velocity", unit="m/s2", low=0.01)
    pedestrian_acceleration: float = setting(0.8, "how hard a pedestrian does", unit="m/s2", low=0.01)
    moving_vehicle: float = setting(0.5, "probability that a vehicle moves when first seen", low=0.0, high=1.0)
    moving_pedestrian: float = setting(0.7, "the same of pedestrians and two-wheelers", low=0.0, high=1.0)
    moving_unknown: float = setting(0.1, "the same of an obstacle without a class", low=0.0, high=1.0)
    moving_part: float = setting(0.8, "the same of what appears in a moving body", low=0.0, high=1.0)
    starts: float = setting(0.05, "how often a standing thing starts to move", unit="1/s", low=0.0, high=5.0)
    stops: float = setting(0.1, "how often a moving thing comes to stand", unit="1/s", low=0.0, high=5.0)
    start_speed: float = setting(2.0, "standard deviation of the speed of what just started", unit="m/s", low=0.1)
    evidence: float = setting(2.0, "most log odds for or against moving from one measurement", low=0.1, high=50.0)
    creep: float = setting(0.1, "drift that still counts as standing, odometry's included", unit="m/sqrt(s)", low=0.001)
    yaw_rate: float = setting(0.2, "standard deviation of a vehicle's yaw rate", unit="rad/s", low=0.001, high=3.0)
    curvature: float = setting(
        0.1, "the same of the curvature of a two-wheeler's path", unit="1/m", low=0.001, high=1.0
    )
    steering: float = setting(0.5, "how quickly either changes by its deviation", unit="1/sqrt(s)", low=0.0, high=10.0)
    sideways: float = setting(0.3, "speed across its heading of what has wheels", unit="m/s", low=0.01)

    def by_class(self) -> np.ndarray:
        """(11, 6) birth speed, acceleration, probability of moving at birth, start rate, deviation of the turn, and
        whether the turn is a curvature (0 or 1). UNKNOWN is the last row.
        """
        vehicle = (self.vehicle_speed, self.vehicle_acceleration, self.moving_vehicle, self.starts, self.yaw_rate, 0)
        person = (self.pedestrian_speed, self.pedestrian_acceleration, self.moving_pedestrian, self.starts, 0.0, 0)
        rider = (
            self.two_wheeler_speed,
            self.vehicle_acceleration,
            self.moving_pedestrian,
            self.starts,
            self.curvature,
            1,
        )
        fixed = (0.1, 0.01, 0.0, 0.0, 0.0, 0)
        unknown = (self.unknown_speed, self.vehicle_acceleration, self.moving_unknown, self.starts, 0.0, 0)
        table = np.array([vehicle] * 5 + [person] + [rider] * 2 + [fixed] * 2 + [unknown])
        if len(table) != len(ObjectClass):
            raise AssertionError("one row a class")
        return table


@dataclass
class Motion:
    """State of N tracks in a fixed plane.

    Attributes:
        mean: (N, 5) x, y (m), vx, vy (m/s) and turn (rad/s or 1/m) if the thing moves.
        covariance: (N, 5, 5).
        still_mean: (N, 2) x, y if it stands.
        still_covariance: (N, 2, 2).
        moving: (N,) probability that it moves.
    """

    mean: np.ndarray
    covariance: np.ndarray
    still_mean: np.ndarray
    still_covariance: np.ndarray
    moving: np.ndarray

    @classmethod
    def born(
        cls,
        position: np.ndarray,
        covariance: np.ndarray,
        speed: np.ndarray,
        moving: np.ndarray,
        velocity: np.ndarray | None = None,
        turn: np.ndarray | None = None,
    ) -> Motion:
        """New tracks at `position` (N, 2) with covariance (N, 2, 2), speed deviation (N,) and odds to move (N,).

        `velocity` (N, 2) is what is to be expected of those that move, none by default; `turn` (N,) the deviation of
        their turn, by default 0: they go straight.
        """
        n = len(position)
        mean, full = np.zeros((n, 5)), np.zeros((n, 5, 5))
        mean[:, :2] = position
        full[:, :2, :2] = covariance
        full[:, 2:4, 2:4] = speed[:, None, None] ** 2 * _EYE
        if velocity is not None:
            mean[:, 2:4] = velocity
        if turn is not None:
            full[:, 4, 4] = turn**2
        return cls(mean, full, position.copy(), covariance.copy(), moving.copy())

    def __len__(self) -> int:
        return len(self.mean)

    def take(self, rows: np.ndarray) -> Motion:
        """Those rows alone."""
        return Motion(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))

    def joined(self, other: Motion) -> Motion:
        """These rows and then those of `other`."""
        names = self.__dataclass_fields__
        return Motion(*(np.concatenate([getattr(self, name), getattr(other, name)]) for name in names))

    def predict(self, dt: float, prior: np.ndarray, settings: MotionSettings) -> np.ndarray:
        """Forward by dt > 0 s, for the tracks' rows (N, 6) of `MotionSettings.by_class`; the hypotheses mix first.

        Returns (N,) rad by which each, if it moves, turned.
        """
        starts, deviation = prior[:, 3], prior[:, 4]
        begin = 1 - np.exp(-starts * dt)
        end = 1 - np.exp(-settings.stops * dt)
        still, moving = 1 - self.moving, self.moving
        to_moving = moving * (1 - end) + still * begin
        to_still = moving * end + still * (1 - begin)
        from_still = still * begin / np.maximum(to_moving, 1e-12)
        self._mix(from_still, moving * end / np.maximum(to_still, 1e-12), deviation, settings)
        self.moving = to_moving
        turned, transition = self._turned(dt, prior[:, 5])
        noise = np.zeros_like(self.covariance)
        q = prior[:, 1] ** 2  # white acceleration, constant over the step
        for axis in (0, 1):
            noise[:, axis, axis] = q * (dt**4 / 4)
            noise[:, axis, 2 + axis] = noise[:, 2 + axis, axis] = q * (dt**3 / 2)
            noise[:, 2 + axis, 2 + axis] = q * dt**2
        noise[:, 4, 4] = (deviation * settings.steering) ** 2 * dt
        self.covariance = transition @ self.covariance @ transition.transpose(0, 2, 1) + noise
        self._settle_turn(dt, deviation, settings)
        self.still_covariance = self.still_covariance + settings.creep**2 * dt * _EYE
        return turned

    def _turned(self, dt: float, curves: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Moves the means on by a coordinated turn; (N,) angle of it and (N, 5, 5) the step's Jacobian."""
        x, y, vx, vy, turn = self.mean.T
        speed = np.maximum(np.hypot(vx, vy), _SLOW)
        each = np.where(curves > 0, speed, 1.0)  # of the turn in the yaw rate
        angle = np.clip(turn * each * dt, -1.0, 1.0)
        c, s = np.cos(angle), np.sin(angle)
        # sin(a) / a and (1 - cos(a)) / a, smooth at 0
        along, across = dt * np.sinc(angle / np.pi), dt * np.sinc(0.5 * angle / np.pi) * np.sin(0.5 * angle)
        new_vx, new_vy = c * vx - s * vy, s * vx + c * vy
        self.mean = np.stack([x + along * vx - across * vy, y + across * vx + along * vy, new_vx, new_vy, turn], axis=1)
        # How both change with the angle, by their series where it is small.
        small = np.abs(angle) < 1e-3
        a = np.where(small, 1.0, angle)
        d_along = dt * np.where(small, -angle / 3, (a * c - s) / (a * a))
        d_across = dt * np.where(small, 0.5, (a * s - (1 - c)) / (a * a))
        by_angle = np.stack([d_along * vx - d_across * vy, d_across * vx + d_along * vy, -new_vy, new_vx])
        faster = curves * turn * dt / speed
        F = np.zeros((5, 5, len(self)))
        F[0, 0] = F[1, 1] = F[4, 4] = 1.0
        F[:4, 4] = by_angle * (each * dt)
        F[:4, 2], F[:4, 3] = by_angle * (faster * vx), by_angle * (faster * vy)
        F[:4, 2] += np.stack([along, across, c, s])
        F[:4, 3] += np.stack([-across, along, -s, c])
        F = np.ascontiguousarray(F.transpose(2, 0, 1))
        return angle, F

    def _settle_turn(self, dt: float, deviation: np.ndarray, settings: MotionSettings) -> None:
        """Turns fade, so that their deviation stays at its own size: nobody turns for ever."""
        keep = np.exp(-0.5 * settings.steering**2 * dt) * np.ones(len(deviation))
        self.mean[:, 4] *= keep
        self.covariance[:, 4, :] *= keep[:, None]
        self.covariance[:, :, 4] *= keep[:, None]

    def _mix(self, from_still: np.ndarray, from_moving: np.ndarray, turn: np.ndarray, settings: MotionSettings) -> None:
        """Each hypothesis takes over its share of the other one, moments matched."""
        started = np.zeros_like(self.mean)
        started[:, :2] = self.still_mean
        started_covariance = np.zeros_like(self.covariance)
        started_covariance[:, :2, :2] = self.still_covariance
        started_covariance[:, 2:4, 2:4] = settings.start_speed**2 * _EYE
        started_covariance[:, 4, 4] = turn**2
        stopped, stopped_covariance = self.mean[:, :2], self.covariance[:, :2, :2]
        moving = _mixed(self.mean, self.covariance, started, started_covariance, from_still)
        still = _mixed(self.still_mean, self.still_covariance, stopped, stopped_covariance, from_moving)
        self.mean, self.covariance = moving
        self.still_mean, self.still_covariance = still

    def update(self, rows: np.ndarray, position: np.ndarray, noise: np.ndarray, evidence: float) -> None:
        """Joins measured positions (M, 2) with covariances (M, 2, 2) to the tracks `rows` (M,).

        `evidence` bounds what one measurement says about moving (log odds): boxes have outliers that no normal
        distribution expects, and one of them must not make a standing thing move.
        """
        if len(rows) == 0:
            return
        mean, covariance, moved = kalman.update(self.mean[rows], self.covariance[rows], position, noise, _POSITION)
        still_mean, still_covariance, stood = kalman.update(
            self.still_mean[rows], self.still_covariance[rows], position, noise, _EYE
        )
        self.mean[rows], self.covariance[rows] = mean, covariance
        self.still_mean[rows], self.still_covariance[rows] = still_mean, still_covariance
        self._weigh(rows, moved - stood, evidence)

    def update_velocity(
        self, rows: np.ndarray, velocity: np.ndarray, noise: np.ndarray, evidence: float, outlier: float
    ) -> None:
        """Joins measured velocities (M, 2) with covariances (M, 2, 2) to the tracks `rows` (M,), as `update`.

        One that is more than `outlier` deviations from what is expected counts as one that is as much less sure.
        """
        if len(rows) == 0:
            return
        away = velocity - self.mean[rows, 2:4]
        expected = kalman.inverse(self.covariance[rows, 2:4, 2:4] + noise)
        squared = np.einsum("ni,nij,nj->n", away, expected, away)
        noise = noise * np.maximum(1.0, squared / outlier**2)[:, None, None]
        mean, covariance, moved = kalman.update(self.mean[rows], self.covariance[rows], velocity, noise, _VELOCITY)
        self.mean[rows], self.covariance[rows] = mean, covariance
        self._weigh(rows, moved - kalman.log_density(velocity, noise), evidence)

    def update_heading(self, rows: np.ndarray, yaw: np.ndarray, yaw_variance: np.ndarray, sideways: float) -> None:
        """What has wheels goes where it points, forth or back: no velocity across `yaw` (M,) rad, if it moves at all.

        Joined as a measurement of 0 m/s with the deviation `sideways` m/s and what the yaw's variance (M,) adds. It
        says nothing about whether the thing moves.
        """
        if len(rows) == 0:
            return
        mean, covariance = self.mean[rows], self.covariance[rows]
        across = np.zeros((len(rows), 5))
        across[:, 2], across[:, 3] = -np.sin(yaw), np.cos(yaw)
        along = mean[:, 2] * np.cos(yaw) + mean[:, 3] * np.sin(yaw)
        moved = (covariance @ across[:, :, None])[:, :, 0]
        variance = (across * moved).sum(axis=1) + sideways**2 + along**2 * yaw_variance
        gain = moved / variance[:, None]
        self.mean[rows] = mean - gain * (mean[:, 2:4] * across[:, 2:4]).sum(axis=1)[:, None]
        self.covariance[rows] = covariance - gain[:, :, None] * moved[:, None, :]

    def _weigh(self, rows: np.ndarray, odds: np.ndarray, evidence: float) -> None:
        """Bayes' rule on the two hypotheses, for log odds (M,) of moving."""
        prior = self.moving[rows]
        advantage = np.exp(np.clip(odds, -evidence, evidence)) * prior
        self.moving[rows] = advantage / (advantage + (1 - prior))

    def log_likelihood(self, rows: np.ndarray, position: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """(M,) log density of positions (M, 2) under both hypotheses of the tracks `rows`, before any update."""
        moved = kalman.log_density(position - self.mean[rows, :2], self.covariance[rows, :2, :2] + noise)
        stood = kalman.log_density(position - self.still_mean[rows], self.still_covariance[rows] + noise)
        moving = np.clip(self.moving[rows], 1e-12, 1 - 1e-12)
        return np.logaddexp(np.log(moving) + moved, np.log1p(-moving) + stood)

    def mixed(self) -> tuple[np.ndarray, np.ndarray]:
        """The state that stands for both hypotheses: mean (N, 4) and covariance (N, 4, 4) of x, y, vx, vy."""
        still = np.zeros((len(self), 4))
        still[:, :2] = self.still_mean
        still_covariance = np.zeros((len(self), 4, 4))
        still_covariance[:, :2, :2] = self.still_covariance
        return _mixed(still, still_covariance, self.mean[:, :4], self.covariance[:, :4, :4], self.moving)

    def shift(self, rows: np.ndarray, by: np.ndarray) -> None:
        """Moves the point that is tracked by (M, 2) m without saying that the thing moved."""
        self.mean[rows, :2] += by
        self.still_mean[rows] += by

    def place(self, rows: np.ndarray, position: np.ndarray, covariance: np.ndarray) -> None:
        """Puts tracks at (M, 2) with covariance (M, 2, 2); velocity is kept, as now independent of the position."""
        self.mean[rows, :2] = position
        full = self.covariance[rows]
        full[:, :2, 2:] = full[:, 2:, :2] = 0.0
        full[:, :2, :2] = covariance
        self.covariance[rows] = full
        self.still_mean[rows], self.still_covariance[rows] = position, covariance

    def moved_frame(self, rotation: np.ndarray, translation: np.ndarray, velocity: np.ndarray) -> None:
        """The same tracks in another fixed frame: rotation (2, 2), translation (2,), added velocity (2,)."""
        turn = np.eye(5)
        turn[:2, :2] = turn[2:4, 2:4] = rotation
        self.mean = self.mean @ turn.T + np.r_[translation, velocity, 0.0]
        self.covariance = turn @ self.covariance @ turn.T
        self.still_mean = self.still_mean @ rotation.T + translation
        self.still_covariance = rotation @ self.still_covariance @ rotation.T


def _mixed(
    mean: np.ndarray, covariance: np.ndarray, other: np.ndarray, other_covariance: np.ndarray, weight: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of a mixture: (1 - weight) of the first normal, `weight` (N,) of the other."""
    w = weight[:, None, None]
    apart = other - mean
    spread = (w * (1 - w)) * apart[:, :, None] * apart[:, None, :]
    return mean + weight[:, None] * apart, (1 - w) * covariance + w * other_covariance + spread
