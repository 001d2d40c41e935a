"""Moments of a drive as a predictor meets them, with what came then."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from karp_perception.core.vehicle import Vehicle
from karp_perception.prediction.history import EGO_ID, History, Past
from karp_perception.prediction.state import MotionState, is_movable
from karp_perception.world.traffic_drives import TrafficDrive

_RANGE = 70.0  # m around the vehicle within which things are tracked


@dataclass(frozen=True)
class Moment:
    """What is known at a moment of a drive, in `odom`, and what came then.

    Attributes:
        time: s. ids: (N,) of things; the first is the vehicle itself, EGO_ID.
        state: N things as perceived, turn rates as their past tells. past: of them. size: (N, 3) m.
        alive: (N,) see TrafficDrive.
        future: (N, T, 2) m, where they truly were every step from the next one on. there: (N, T) whether they were.
    """

    time: float
    ids: np.ndarray
    state: MotionState
    past: Past
    size: np.ndarray
    alive: np.ndarray
    future: np.ndarray
    there: np.ndarray


def moments(truth: TrafficDrive, told: TrafficDrive, horizon: float, every: float) -> Iterator[Moment]:
    """Moments of a drive, `every` s, as long as at least half of `horizon` follows.

    Args:
        truth: what happened. told: the same as a tracker told it.
    """
    history, vehicle = History(), Vehicle()
    count = round(horizon / truth.step)
    stride = max(1, round(every / truth.step))
    for t in range(len(truth.ego) - count // 2):
        x, y, yaw, vx, vy = truth.ego[t]
        near = np.hypot(told.position[t, :, 0] - x, told.position[t, :, 1] - y) < _RANGE
        rows = np.flatnonzero(truth.present[t] & near & is_movable(truth.label))
        middle = 0.5 * (vehicle.front - vehicle.rear)
        own = (x + middle * np.cos(yaw), y + middle * np.sin(yaw))
        state = MotionState.moving(
            np.vstack([own, told.position[t, rows]]),
            np.r_[yaw, told.yaw[t, rows]],
            np.vstack([(vx, vy), told.velocity[t, rows]]),
            np.r_[0, truth.label[rows]],
        )
        ids = np.r_[EGO_ID, 1 + rows]
        history.add(t * truth.step, ids, state)
        if t % stride:
            continue
        future, there = np.zeros((len(ids), count, 2)), np.zeros((len(ids), count), bool)
        until = min(count, len(truth.ego) - 1 - t)
        future[1:, :until] = truth.position[t + 1 : t + 1 + until, rows].swapaxes(0, 1)
        there[1:, :until] = np.logical_and.accumulate(truth.present[t + 1 : t + 1 + until, rows], axis=0).T
        size = np.vstack([(vehicle.front + vehicle.rear, vehicle.width, vehicle.height), truth.size[rows]])
        alive = np.r_[False, truth.alive[rows]]
        past = history.past(ids)
        turning = replace(state, turn_rate=past.turn_rate(state))
        yield Moment(t * truth.step, ids, turning, past, size, alive, future, there)
