"""What the vehicle is to do: a trajectory, the decision behind it, and the route it follows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

import numpy as np

from karp_perception.core.errors import InvalidInput
from karp_perception.core.validation import as_array, as_stamp


class DecisionKind(str, Enum):
    """What the planner does, from free driving to full braking; NO_INPUT when it has nothing to go by."""

    CRUISE = "CRUISE"
    FOLLOW = "FOLLOW"
    SLOW = "SLOW"
    YIELD = "YIELD"
    STOP = "STOP"
    EMERGENCY_STOP = "EMERGENCY_STOP"
    NO_INPUT = "NO_INPUT"

    @property
    def caution(self) -> int:
        """How careful it is: of two decisions the one with the higher number stands."""
        return _CAUTION.index(self)


_CAUTION = (
    DecisionKind.CRUISE,
    DecisionKind.FOLLOW,
    DecisionKind.SLOW,
    DecisionKind.YIELD,
    DecisionKind.STOP,
    DecisionKind.NO_INPUT,
    DecisionKind.EMERGENCY_STOP,
)


@dataclass(frozen=True)
class Decision:
    """A decision and the reason a person would give.

    Attributes:
        kind: what.
        reason: why, as a sentence that names the object, its distance and time to collision where there is one.
        target_id: track id of the object that decided, None for no object or an untracked obstacle.
        distance_m: free distance from the vehicle's bumper to the target along the path, m.
        ttc_s: time to collision at the current closing speed, s; None where the gap is not closing.
    """

    kind: DecisionKind
    reason: str
    target_id: int | None = None
    distance_m: float | None = None
    ttc_s: float | None = None

    def __post_init__(self) -> None:
        for name in ("distance_m", "ttc_s"):
            value = getattr(self, name)
            if value is not None and not np.isfinite(value):
                raise InvalidInput(f"Decision.{name}", "a finite number or None", value)


@dataclass(frozen=True)
class Trajectory:
    """The way of the origin of `base_link` over time, T points in `base_link` at the plan's stamp.

    Attributes:
        time: (T,) s from the stamp, increasing.
        x, y: (T,) m.
        yaw: (T,) rad.
        speed: (T,) m/s.
        acceleration: (T,) m/s², along the path.
        curvature: (T,) 1/m, positive to the left.
    """

    time: np.ndarray
    x: np.ndarray
    y: np.ndarray
    yaw: np.ndarray
    speed: np.ndarray
    acceleration: np.ndarray
    curvature: np.ndarray

    def __post_init__(self) -> None:
        n = len(self.time)
        for name in ("time", "x", "y", "yaw", "speed", "acceleration", "curvature"):
            object.__setattr__(self, name, as_array(f"Trajectory.{name}", getattr(self, name), (n,)))
        if n > 1 and not (np.diff(self.time) > 0).all():
            raise InvalidInput("Trajectory.time", "increasing times", self.time.tolist())

    @classmethod
    def empty(cls) -> Trajectory:
        """No points: nothing to follow."""
        return cls(*(np.zeros(0) for _ in range(7)))

    def __len__(self) -> int:
        return len(self.time)


@dataclass(frozen=True)
class ScoredProposals:
    """P motions that were thought of at one moment, for drawings and logs; T points in `base_link` at its stamp.

    Attributes:
        names: (P,) such as "lane 80%", each only once.
        ways: (P,) where each leads along, such as "lane"; several share one at different speeds.
        time: (T,) s from the stamp. x, y: (P, T) m. yaw: (P, T) rad. speed: (P, T) m/s.
        score: (P,) 0..1; 0 is ruled out.
        terms: what it is made of, (P,) 0..1 by name: gates that multiply, and those that are weighed.
        weights: of the terms that are weighed, by name.
        chosen: index of the one that was taken.
    """

    names: tuple[str, ...]
    ways: tuple[str, ...]
    time: np.ndarray
    x: np.ndarray
    y: np.ndarray
    yaw: np.ndarray
    speed: np.ndarray
    score: np.ndarray
    terms: Mapping[str, np.ndarray]
    weights: Mapping[str, float]
    chosen: int

    def __len__(self) -> int:
        return len(self.names)

    def moments(self, count: int) -> np.ndarray:
        """Indices of at most `count` (>= 2) of the T moments, evenly spread, the first and the last among them."""
        return np.unique(np.linspace(0, len(self.time) - 1, min(count, len(self.time))).round().astype(int))

    def shortcomings(self, index: int) -> dict[str, float]:
        """The terms of one proposal that are below 1, first the one that costs it most of its score."""
        every = max(sum(self.weights.values()), 1e-9)
        found = {name: float(values[index]) for name, values in self.terms.items() if values[index] < 1.0}
        cost = {name: (1.0 - value) * self.weights.get(name, every) / every for name, value in found.items()}
        return dict(sorted(found.items(), key=lambda item: -cost[item[0]]))


@dataclass(frozen=True)
class Plan:
    """The planner's output for one moment.

    Attributes:
        stamp_ns: the moment, ns.
        trajectory: to be driven from then on.
        decision: what that amounts to, and why.
        notes: what the safety layer found or changed, each a sentence.
        proposals: what it was chosen from; None where there was nothing to choose.
    """

    stamp_ns: int
    trajectory: Trajectory
    decision: Decision
    notes: tuple[str, ...] = ()
    proposals: ScoredProposals | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "stamp_ns", as_stamp("Plan.stamp_ns", self.stamp_ns))


@dataclass(frozen=True)
class Command:
    """What the vehicle's actuators are to do now, as ackermann_msgs/AckermannDrive means it.

    Attributes:
        steering_angle: of the front wheels, rad, positive to the left.
        speed: to reach and keep, m/s.
        acceleration: at which to get there, m/s²; negative brakes.
    """

    steering_angle: float
    speed: float
    acceleration: float

    def __post_init__(self) -> None:
        for name in ("steering_angle", "speed", "acceleration"):
            object.__setattr__(self, name, float(as_array(f"Command.{name}", getattr(self, name), ())))


@dataclass(frozen=True)
class Route:
    """Where to go: a polyline in the `odom` frame.

    Attributes:
        points: (N, 2) m, N >= 2, consecutive points distinct.
        speed_limit: m/s, None where the route does not say.
    """

    points: np.ndarray
    speed_limit: float | None = field(default=None)

    def __post_init__(self) -> None:
        points = as_array("Route.points", self.points, (None, 2))
        if len(points):
            keep = np.r_[True, np.linalg.norm(np.diff(points, axis=0), axis=1) > 1e-6]
            points = as_array("Route.points", points[keep], (None, 2))
        if len(points) < 2:
            raise InvalidInput("Route.points", "at least two distinct points", len(points))
        object.__setattr__(self, "points", points)
        if self.speed_limit is not None and not (np.isfinite(self.speed_limit) and self.speed_limit >= 0):
            raise InvalidInput("Route.speed_limit", "m/s of at least 0, or None", self.speed_limit)
