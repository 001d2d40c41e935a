"""Drives of the planner through the world with perfect perception, and the moments in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from karp_perception.core import Route, SensorFrame
from karp_perception.core.geometry import invert_pose, yaw_of
from karp_perception.detection.training.world_frames import TRAINING_FAMILIES
from karp_perception.drive.cases import make_world, names_of, sight
from karp_perception.drive.drivers import TruthDriver
from karp_perception.drive.faults import SensorFaults
from karp_perception.drive.loop import Setting, drive
from karp_perception.evaluation.drive_record import DriveRecord
from karp_perception.pipeline import PipelineSettings, Result
from karp_perception.planning.collision import Things
from karp_perception.planning.planner import Planner
from karp_perception.planning.proposals import Idea, Moment, Proposer
from karp_perception.world.interface import World
from karp_perception.world.scenarios.case import Case
from karp_perception.world.scenarios.staging import stage
from karp_perception.world.scenarios.suite import random_case

_FIRST_SEED = 500_000_000  # evaluation draws its places from seeds far below
_SPREAD = 10_000  # numbers that a seed has for itself
_MARGIN = 0.1  # m around true boxes
_REACH = 120.0  # m: who is farther away now is met by nobody


def training_case(seed: int, number: int, duration: float) -> Case:
    """The drive of that number: a place of the families that are not held out, in turn."""
    family = TRAINING_FAMILIES[number % len(TRAINING_FAMILIES)]
    return replace(random_case(f"random:{family}:{_FIRST_SEED + seed * _SPREAD + number}"), duration=duration)


def watched_drive(
    case: Case, proposer: Proposer | None, every: float, settings: PipelineSettings = PipelineSettings()
) -> tuple[DriveRecord, list[tuple[int, Moment]]]:
    """Drives a case; the record, and moments with their ticks, `every` s apart.

    Args:
        proposer: whose ideas join the planner's; None for none.
    """
    staged, rig = stage(case, settings.vehicle), sight()
    with make_world(staged, rig, settings=settings) as world:
        driver = _Watching(settings, proposer, max(1, round(every / world.step_s)))
        setting = Setting(staged.limit, names_of(staged), staged.places)
        record = drive(world, driver, settings.vehicle, case.duration, setting, None, settings.control)
    return record, driver.moments


class _Watching(TruthDriver):
    """Keeps what the planner plans from, now and then."""

    def __init__(self, settings: PipelineSettings, proposer: Proposer | None, every: int) -> None:
        super().__init__(settings, SensorFaults((), 0, float(sight().T_base_lidar[2, 3])))
        self._planner = Planner(settings.planner, settings.vehicle, self)
        self._proposer, self._every, self._tick = proposer, every, -1
        self.moments: list[tuple[int, Moment]] = []

    def step(self, world: World, t: float, route: Route, limit: float | None) -> tuple[SensorFrame, Result] | None:
        """See Driver."""
        self._tick += 1
        return super().step(world, t, route, limit)

    def propose(self, moment: Moment) -> Sequence[Idea]:
        """See Proposer."""
        if self._tick % self._every == 0:
            self.moments.append((self._tick, moment))
        return self._proposer.propose(moment) if self._proposer else ()


@dataclass(frozen=True)
class Futures:
    """Where everything really went in a drive of T ticks; A things, in `odom`.

    Attributes:
        pose: (T, A, 3) x, y (m), yaw (rad); where a thing is not there, as it would have gone on.
        present: (T, A) whether it is there. size: (A, 2) m.
    """

    pose: np.ndarray
    present: np.ndarray
    size: np.ndarray
    velocity: np.ndarray

    @classmethod
    def of(cls, record: DriveRecord) -> Futures:
        """Of a drive."""
        ids, column = np.unique(record.actor_id, return_inverse=True)
        ticks, count = len(record), len(ids)
        pose, velocity = np.zeros((ticks, count, 3)), np.zeros((ticks, count, 2))
        present, size = np.zeros((ticks, count), bool), np.zeros((count, 2))
        at = (record.actor_tick, column)
        pose[at] = np.column_stack([record.actor_x, record.actor_y, record.actor_yaw])
        velocity[at] = np.column_stack([record.actor_vx, record.actor_vy])
        present[at] = True
        size[column] = np.column_stack([record.actor_length, record.actor_width])
        for t in range(1, ticks):
            gone = ~present[t]
            velocity[t, gone] = velocity[t - 1, gone]
            pose[t, gone] = pose[t - 1, gone]
            pose[t, gone, :2] += record.step * velocity[t, gone]
        return cls(pose, present, size, velocity)

    def things(self, tick: int, T_odom_base: np.ndarray, steps: int, step: float) -> Things:
        """What could be touched from a tick on, for so many steps (s), each on its true path, in `base_link`.

        After the end of the drive everything goes on as it last did.
        """
        here = self.present[tick] & (np.hypot(*(self.pose[tick, :, :2] - T_odom_base[:2, 3]).T) < _REACH)
        rows = np.flatnonzero(here)
        at = np.arange(tick, tick + steps + 1)
        inside = np.minimum(at, len(self.pose) - 1)
        pose = self.pose[inside][:, rows].copy()
        pose[..., :2] += step * (at - inside)[:, None, None] * self.velocity[inside][:, rows]
        T = invert_pose(T_odom_base)
        pose[..., :2] = pose[..., :2] @ T[:2, :2].T + T[:2, 3]
        pose[..., 2] -= yaw_of(T_odom_base)
        n = len(rows)
        box = np.column_stack([pose[0], 0.5 * self.size[rows], np.full(n, _MARGIN)])
        paths = np.ascontiguousarray(pose[1:].transpose(1, 0, 2)[:, None])
        return Things(box, np.arange(n), pose[0].copy(), paths, np.ones((n, 1)), np.ones(n, bool))
