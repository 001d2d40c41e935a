"""How tracked things move: two hypotheses a track, "it stands" and "it moves at constant velocity".

Most of what a lidar sees stands, and its measured boxes jitter. A single filter with a birth speed wide enough for
oncoming traffic turns that jitter into speeds; one with a narrow birth speed is late for real traffic. So each track
carries a position-only filter and a constant-velocity filter, and the odds between them, from how well each foretold
the measurements: an interacting multiple model filter of two models (Blom and Bar-Shalom, 1988).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from karp_perception.core import ObjectClass
from karp_perception.core.settings import Settings, setting
from karp_perception.tracking import kalman

_POSITION = np.eye(2, 4)
_VELOCITY = np.eye(2, 4, k=2)
_EYE = np.eye(2)


@dataclass(frozen=True)
class MotionSettings(Settings):
    """What is known of motion before anything is measured."""

    vehicle_speed: float = setting(10.0, "standard deviation of a vehicle's speed at birth", unit="m/s", low=0.1)
    two_wheeler_speed: float = setting(5.0, "the same of a two-wheeler", unit="m/s", low=0.1)
    pedestrian_speed: float = setting(1.5, "the same of a pedestrian", unit="m/s", low=0.1)
    unknown_speed: float = setting(8.0, "the same of an obstacle without a class", unit="m/s", low=0.1)
    vehicle_acceleration: float = setting(2.0, "how hard a vehicle changes its velocity", unit="m/s2", low=0.01)
    pedestrian_acceleration: float = setting(1.0, "how hard a pedestrian does", unit="m/s2", low=0.01)
    moving_vehicle: float = setting(0.5, "probability that a vehicle moves when first seen", low=0.0, high=1.0)
    moving_pedestrian: float = setting(0.7, "the same of pedestrians and two-wheelers", low=0.0, high=1.0)
    moving_unknown: float = setting(0.1, "the same of an obstacle without a class", low=0.0, high=1.0)
    moving_part: float = setting(0.8, "the same of what appears in a moving body", low=0.0, high=1.0)
    starts: float = setting(0.05, "how often a standing thing starts to move", unit="1/s", low=0.0, high=5.0)
    stops: float = setting(0.1, "how often a moving thing comes to stand", unit="1/s", low=0.0, high=5.0)
    start_speed: float = setting(2.0, "standard deviation of the speed of what just started", unit="m/s", low=0.1)
    evidence: float = setting(2.0, "most log odds for or against moving from one measurement", low=0.1, high=50.0)
    creep: float = setting(0.1, "drift that still counts as standing, odometry's included", unit="m/sqrt(s)", low=0.001)

    def by_class(self) -> np.ndarray:
        """(11, 4) birth speed, acceleration, probability of moving at birth, start rate; UNKNOWN is the last row."""
        vehicle = (self.vehicle_speed, self.vehicle_acceleration, self.moving_vehicle, self.starts)
        person = (self.pedestrian_speed, self.pedestrian_acceleration, self.moving_pedestrian, self.starts)
        rider = (self.two_wheeler_speed, self.vehicle_acceleration, self.moving_pedestrian, self.starts)
        fixed = (0.1, 0.01, 0.0, 0.0)
        unknown = (self.unknown_speed, self.vehicle_acceleration, self.moving_unknown, self.starts)
        table = np.array([vehicle] * 5 + [person] + [rider] * 2 + [fixed] * 2 + [unknown])
        if len(table) != len(ObjectClass):
            raise AssertionError("one row a class")
        return table


@dataclass
class Motion:
    """State of N tracks in a fixed plane.

    Attributes:
        mean: (N, 4) x, y (m), vx, vy (m/s) if the thing moves.
        covariance: (N, 4, 4).
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
    ) -> Motion:
        """New tracks at `position` (N, 2) with covariance (N, 2, 2), speed deviation (N,) and odds to move (N,).

        `velocity` (N, 2) is what is to be expected of those that move; none by default.
        """
        n = len(position)
        mean = np.concatenate([position, np.zeros((n, 2)) if velocity is None else velocity], axis=1)
        full = np.zeros((n, 4, 4))
        full[:, :2, :2] = covariance
        full[:, 2:, 2:] = speed[:, None, None] ** 2 * _EYE
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

    def predict(self, dt: float, acceleration: np.ndarray, starts: np.ndarray, settings: MotionSettings) -> None:
        """Forward by dt > 0 s, for accelerations (N,) m/s² and start rates (N,) 1/s; the hypotheses mix first."""
        begin = 1 - np.exp(-starts * dt)
        end = 1 - np.exp(-settings.stops * dt)
        still, moving = 1 - self.moving, self.moving
        to_moving = moving * (1 - end) + still * begin
        to_still = moving * end + still * (1 - begin)
        self._mix(still * begin / np.maximum(to_moving, 1e-12), moving * end / np.maximum(to_still, 1e-12), settings)
        self.moving = to_moving
        transition = np.eye(4) + dt * np.eye(4, k=2)
        block = np.array([[dt**4 / 4, dt**3 / 2], [dt**3 / 2, dt**2]])  # white acceleration, constant over the step
        noise = acceleration[:, None, None] ** 2 * np.kron(block, _EYE)
        self.mean, self.covariance = kalman.predict(self.mean, self.covariance, transition, noise)
        self.still_covariance = self.still_covariance + settings.creep**2 * dt * _EYE

    def _mix(self, from_still: np.ndarray, from_moving: np.ndarray, settings: MotionSettings) -> None:
        """Each hypothesis takes over its share of the other one, moments matched."""
        started = np.zeros_like(self.mean)
        started[:, :2] = self.still_mean
        started_covariance = np.zeros_like(self.covariance)
        started_covariance[:, :2, :2] = self.still_covariance
        started_covariance[:, 2:, 2:] = settings.start_speed**2 * _EYE
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
        mean, covariance, moved = kalman.update(self.mean[rows], self.covariance[rows], position, noise, _POSITION)
        still_mean, still_covariance, stood = kalman.update(
            self.still_mean[rows], self.still_covariance[rows], position, noise, _EYE
        )
        self.mean[rows], self.covariance[rows] = mean, covariance
        self.still_mean[rows], self.still_covariance[rows] = still_mean, still_covariance
        self._weigh(rows, moved - stood, evidence)

    def update_velocity(self, rows: np.ndarray, velocity: np.ndarray, noise: np.ndarray, evidence: float) -> None:
        """Joins measured velocities (M, 2) with covariances (M, 2, 2) to the tracks `rows` (M,), as `update`."""
        if len(rows) == 0:
            return
        mean, covariance, moved = kalman.update(self.mean[rows], self.covariance[rows], velocity, noise, _VELOCITY)
        self.mean[rows], self.covariance[rows] = mean, covariance
        self._weigh(rows, moved - kalman.log_density(velocity, noise), evidence)

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
        """The one state that stands for both hypotheses: mean (N, 4) and covariance (N, 4, 4), moments matched."""
        still = np.zeros_like(self.mean)
        still[:, :2] = self.still_mean
        still_covariance = np.zeros_like(self.covariance)
        still_covariance[:, :2, :2] = self.still_covariance
        return _mixed(still, still_covariance, self.mean, self.covariance, self.moving)

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
        turn = np.zeros((4, 4))
        turn[:2, :2] = turn[2:, 2:] = rotation
        self.mean = self.mean @ turn.T + np.r_[translation, velocity]
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
