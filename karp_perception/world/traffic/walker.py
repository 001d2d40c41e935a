"""Somebody on foot."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import IntEnum

from karp_perception.world.models.model import Model
from karp_perception.world.traffic.footways import Passage

_TURNING = 2.6  # rad/s


class Stage(IntEnum):
    """What somebody on foot is about."""

    WALKING = 0
    TO_KERB = 1
    WAITING = 2
    CROSSING = 3
    BEYOND = 4


@dataclass
class Walker:
    """Somebody on foot; `leader` (with an offset ahead and to the left, m) for those who follow in a group."""

    number: int
    model: Model
    pace: float
    way: int
    s: float
    direction: float
    aside: float
    x: float = 0.0
    y: float = 0.0
    yaw: float = 0.0
    v: float = 0.0
    vx: float = 0.0
    vy: float = 0.0
    turning: float = 0.0
    walked: float = 0.0
    leader: Walker | None = None
    offset: tuple[float, float] = (0.0, 0.0)
    size: int = 1
    legs: list[tuple[float, float]] = field(default_factory=list)
    passage: Passage | None = None
    stage: Stage = Stage.WALKING
    waited: float = 0.0
    way_on: int = -1
    last_crossing: int = -2


def beside(leader: Walker, offset: tuple[float, float]) -> tuple[float, float]:
    """The place (m) so far ahead and to the left of a walker."""
    c, s = math.cos(leader.yaw), math.sin(leader.yaw)
    return leader.x + offset[0] * c - offset[1] * s, leader.y + offset[0] * s + offset[1] * c


def face(w: Walker, dx: float, dy: float, dt: float) -> None:
    """Velocity, gait and heading from the way moved in a step."""
    w.vx, w.vy = dx / dt, dy / dt
    moved = math.hypot(dx, dy)
    w.walked += moved
    if w.leader is not None:
        w.v = moved / dt
    before = w.yaw
    if moved > 0.15 * dt:
        w.yaw = turned(w.yaw, math.atan2(dy, dx), dt)
    w.turning = ((w.yaw - before + math.pi) % (2.0 * math.pi) - math.pi) / dt


def turned(yaw: float, goal: float, dt: float) -> float:
    """A heading turned towards another as far as people turn in `dt` s."""
    rest = (goal - yaw + math.pi) % (2.0 * math.pi) - math.pi
    return (yaw + min(max(rest, -_TURNING * dt), _TURNING * dt) + math.pi) % (2.0 * math.pi) - math.pi
