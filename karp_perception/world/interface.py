"""What a world to drive in is to its users: sensors and truth out, a command in, one fixed step at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np

from karp_perception.core import Boxes, Command, EgoState, LightColor, Road, Route, SensorFrame
from karp_perception.core.errors import InvalidInput
from karp_perception.core.validation import as_array


@dataclass(frozen=True)
class TrafficLight:
    """A light as it stands now: its number, where it stops traffic ((2,) m, `base_link`), and what it shows."""

    number: int
    stop: np.ndarray
    color: LightColor


@dataclass(frozen=True)
class Truth:
    """What is true at a moment.

    Attributes:
        stamp_ns: ns.
        ego: exact; `odom` is the world's frame.
        boxes: every actor in range, hidden or not, in `base_link`; velocities over ground, scores 1.
        object_id: (N,) positive, the same for an actor throughout.
        visibility: (N,) share of an actor that is not hidden behind something, 0..1: the larger of what cameras and
            lidar see of it; 0 where no sensor looks that way.
        points_inside: (N,) lidar points in each box.
        lights: traffic lights in range.
        lanes: (N, 2) polylines in `base_link` of the middles of lanes in range.
        route: where to go, in `odom`.
        masks: by camera: (H, W) int32, the object_id that each pixel shows, 0 for the rest.
    """

    stamp_ns: int
    ego: EgoState
    boxes: Boxes
    object_id: np.ndarray
    visibility: np.ndarray
    points_inside: np.ndarray
    lights: tuple[TrafficLight, ...] = ()
    lanes: tuple[np.ndarray, ...] = ()
    route: Route | None = None
    masks: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n = len(self.boxes)
        for name, dtype in (("object_id", np.int64), ("visibility", np.float64), ("points_inside", np.int64)):
            object.__setattr__(self, name, as_array(f"Truth.{name}", getattr(self, name), (n,), dtype))
        if n and self.object_id.min() <= 0:
            raise InvalidInput("Truth.object_id", "positive numbers", int(self.object_id.min()))


@runtime_checkable
class World(Protocol):
    """A world with a vehicle in it. `reset` comes first; after that sensors and truth belong to the same moment.

    The state changes in `tick` alone. The same seed and commands give the same sensors, bit by bit.
    """

    @property
    def step_s(self) -> float:
        """Length of a tick, s."""

    @property
    def stamp_ns(self) -> int:
        """Time of the present state, ns."""

    @property
    def route(self) -> Route:
        """Where to go, in `odom`."""

    @property
    def road(self) -> Road:
        """What a map says, in `odom`, with what the lights show now; the same `lanes` from tick to tick."""

    def reset(self, seed: int = 0) -> None:
        """Begin again, from this seed."""

    def sensors(self) -> SensorFrame:
        """What the sensors say now; the same object until the next tick."""

    def truth(self) -> Truth:
        """What is true now."""

    def apply(self, command: Command, delay: float = 0.0) -> None:
        """What the vehicle is to do from `delay` s on, within the coming tick; a later one is given after an earlier.

        It reaches the wheels after the actuators' delay.
        """

    def tick(self) -> None:
        """One step of time."""

    def close(self) -> None:
        """Give back everything; harmless a second time."""

    def __enter__(self) -> World:
        """Itself: closed at the end of the block, whatever happens in it."""

    def __exit__(self, *_: object) -> None:
        """See `close`."""
