"""Traffic without sensors: drives through the embedded world of which only the motion of everything is kept.

What a predictor is trained and measured on: a second of it takes a few hundredths of a second to make.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from karp_perception.core.errors import ConfigurationError
from karp_perception.world.embedded import EmbeddedWorld, Setup, WorldSettings
from karp_perception.world.layout import Layout
from karp_perception.world.rig import Rig, mounted
from karp_perception.world.route_driver import RouteDriver
from karp_perception.world.sensors.camera import CameraModel
from karp_perception.world.world_frames import Beginning, WorldFrames, surroundings

_WAY = 90.0  # m: how far ways along lanes are followed through junctions
_MOST_BRANCHES = 4  # ways that begin in one lane
_SETTINGS = {"threads": 1, "traffic": {"pedestrians": 1.5, "uncommon": 2.5, "clear": 15.0}}
"""More of what is seldom seen, and nearer, than streets have."""


@dataclass(frozen=True)
class TrafficDrive:
    """T moments of a drive, `step` apart, and A things; all in `odom`.

    Attributes:
        family: of the place. seed: of place and traffic.
        step: s.
        label: (A,). size: (A, 3) m.
        alive: (A,) whether it is one of those that drive or walk; the others are parked or stand about.
        present: (T, A) whether it is there.
        position: (T, A, 2) m, middle. yaw: (T, A) rad. velocity: (T, A, 2) m/s. Where it is not there, 0.
        ego: (T, 5) x, y, yaw, vx, vy of the vehicle that drives along the route.
        route: (M, 2) m. ways: polylines (N, 2) along lanes and through junctions, each branch one of its own.
    """

    family: str
    seed: int
    step: float
    label: np.ndarray
    size: np.ndarray
    alive: np.ndarray
    present: np.ndarray
    position: np.ndarray
    yaw: np.ndarray
    velocity: np.ndarray
    ego: np.ndarray
    route: np.ndarray
    ways: tuple[np.ndarray, ...]


class TrafficDrives:
    """Drives by number: each the same whoever asks for it.

    Args:
        seed: of all places.
        families: of layouts, drawn evenly.
        duration: s of each drive.
    """

    def __init__(self, seed: int, families: Sequence[str], duration: float = 15.0) -> None:
        if not duration > 0:
            raise ConfigurationError(f"traffic drives: expected a duration above 0 s, got {duration}")
        self._frames = WorldFrames(seed, families, open_world=self._open)
        self.duration = duration
        self._world: EmbeddedWorld | None = None

    def drive(self, number: int) -> TrafficDrive:
        """Drive that number."""
        beginning = self._frames.beginning(number)
        world = self._open(beginning)
        driver = RouteDriver(world.route)
        # Those that stand never move: they are read once.
        standing = [_row(a) for a in world.traffic.standing() if a.model.label is not None]
        moments, ego = [], []
        for _ in range(round(self.duration / world.step_s)):
            state, boxes = surroundings(world)
            world.apply(driver.command(state, boxes))
            moments.append([_row(a) for a in world.traffic.moving() if a.model.label is not None])
            pose, (vx, vy) = world.vehicle.pose, world.vehicle.velocity
            ego.append((pose[0, 3], pose[1, 3], np.arctan2(pose[1, 0], pose[0, 0]), vx, vy))
            world.tick()
        return _drive(world, beginning, moments, standing, np.array(ego))

    def __iter__(self) -> Iterator[TrafficDrive]:
        """Drives 0, 1, ... without end."""
        number = 0
        while True:
            yield self.drive(number)
            number += 1

    def _open(self, beginning: Beginning) -> EmbeddedWorld:
        setup = Setup(beginning.family, start=beginning.start, lateral=beginning.lateral, speed=beginning.speed)
        if self._world is None:
            # A world has to have eyes; nobody looks through these.
            eye = CameraModel.pinhole("eye", 16, 16, 60.0, (0.0, 0.0, 1.5), 0.0)
            rig = Rig("blind", None, mounted(0.0, 0.0, 0.0), (eye,))
            self._world = EmbeddedWorld(setup, rig, WorldSettings.from_mapping(_SETTINGS), beginning.seed)
        else:
            self._world.begin(setup, beginning.seed)
        return self._world


def reversed_sides(drive: TrafficDrive) -> TrafficDrive:
    """The drive in a mirror (y turned round): left is right."""
    flip = np.array([1.0, -1.0])
    ego = drive.ego * (1.0, -1.0, -1.0, 1.0, -1.0)
    return replace(
        drive, position=drive.position * flip, velocity=drive.velocity * flip, yaw=-drive.yaw, ego=ego,
        route=drive.route * flip, ways=tuple(way * flip for way in drive.ways),
    )  # fmt: skip


def ways_of(layout: Layout) -> tuple[np.ndarray, ...]:
    """Polylines (N, 2) m from the beginning of every lane on through what follows it, up to `_WAY`; every branch."""
    found = []
    for number in layout.lanes:
        open_ways = [([number], layout.lanes[number].length)]
        branches = 0
        while open_ways and branches < _MOST_BRANCHES:
            lanes, length = open_ways.pop()
            after = layout.lanes[lanes[-1]].successors
            if not after or length >= _WAY:
                pieces = [layout.lanes[n].center[:, :2] for n in lanes]
                points = np.concatenate([pieces[0], *(piece[1:] for piece in pieces[1:])])
                found.append(points)
                branches += 1
                continue
            open_ways += [([*lanes, n], length + layout.lanes[n].length) for n in after]
    return tuple(found)


def _row(actor) -> tuple[float, ...]:
    x, y, _ = actor.position
    return (actor.number, actor.model.label, *actor.model.size, x, y, actor.yaw, *actor.velocity)


def _drive(
    world: EmbeddedWorld,
    beginning: Beginning,
    moments: Sequence[list[tuple[float, ...]]],
    standing: list[tuple[float, ...]],
    ego: np.ndarray,
) -> TrafficDrive:
    tables = [np.array([*rows, *standing], float).reshape(-1, 10) for rows in moments]
    every = np.concatenate(tables)
    numbers, first = np.unique(every[:, 0], return_index=True)
    count, length = len(numbers), len(tables)
    state, present = np.zeros((length, count, 5)), np.zeros((length, count), bool)
    for t, table in enumerate(tables):
        column = np.searchsorted(numbers, table[:, 0])
        state[t, column], present[t, column] = table[:, 5:], True
    alive = ~np.isin(numbers, [row[0] for row in standing])
    return TrafficDrive(
        beginning.family,
        beginning.seed,
        world.step_s,
        every[first, 1].astype(np.int64),
        every[first, 2:5],
        alive,
        present,
        state[..., :2],
        state[..., 2],
        state[..., 3:],
        ego,
        world.route.points.copy(),
        ways_of(world.layout),
    )
