"""Speed over time behind what is ahead, and the trajectory that it gives along a line."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from karp_perception.core import Trajectory, Vehicle
from karp_perception.core.compiled import njit
from karp_perception.core.settings import Settings, setting
from karp_perception.planning.corridor import Sideways
from karp_perception.planning.hazards import Hazard
from karp_perception.planning.idm import Idm, IdmSettings, free_acceleration, interaction
from karp_perception.planning.reference_line import ReferenceLine

_SOON = 0.3  # s over which a falling bound of the speed is looked at


@dataclass(frozen=True)
class MotionLimits(Settings):
    """Horizon and comfort of the planned motion (bounds of nuPlan's comfort metric)."""

    horizon: float = setting(8.0, "length of the trajectory", unit="s", low=1.0, high=20.0)
    step: float = setting(0.1, "between its points", unit="s", low=0.02, high=0.5)
    jerk: float = setting(2.5, "most change of acceleration", unit="m/s3", low=0.1, high=50.0)
    urgent_jerk: float = setting(8.0, "the same for braking beyond comfort", unit="m/s3", low=0.1, high=100.0)
    emergency_jerk: float = setting(40.0, "the same in an emergency", unit="m/s3", low=1.0, high=200.0)
    deceleration: float = setting(4.0, "hardest braking outside an emergency", unit="m/s2", low=0.5, high=10.0)
    calm_deceleration: float = setting(1.5, "braking before a bend or down to a limit", unit="m/s2", low=0.1, high=5.0)
    lateral_acceleration: float = setting(2.0, "in a bend", unit="m/s2", low=0.1, high=8.0)


@dataclass(frozen=True)
class SpeedProfile:
    """Motion along the line at even times: distance (m), speed (m/s), acceleration (m/s²), each (T,).

    Attributes:
        cause: (T,) index of the hazard that holds the vehicle back most at that time, -1 for none.
        held: (T,) what that hazard takes from the free acceleration, m/s².
    """

    time: np.ndarray
    distance: np.ndarray
    speed: np.ndarray
    acceleration: np.ndarray
    cause: np.ndarray
    held: np.ndarray


def speed_bound(
    line: ReferenceLine, approach: Sideways, speed: float, limit: float, limits: MotionLimits
) -> np.ndarray:
    """(M,) highest speed at the points of the line: the limit, and bends with calm braking before them.

    Who is faster than the limit comes down to it as calmly.
    """
    above = np.sqrt(np.maximum(speed**2 - 2 * limits.calm_deceleration * np.maximum(line.distance, 0.0), 0.0))
    bend = np.abs(line.curvature + approach.offset_at(line.distance)[2])
    bound = np.minimum(np.maximum(limit, above), np.sqrt(limits.lateral_acceleration / np.maximum(bend, 1e-6)))
    # v(s)² <= v(s')² + 2 b (s' - s) for every s' ahead: a running minimum from the far end.
    gain = 2 * limits.calm_deceleration * line.distance
    return np.sqrt(np.minimum.accumulate((bound**2 + gain)[::-1])[::-1] - gain)


def follow(
    speed: float,
    acceleration: float,
    hazards: list[Hazard],
    line: ReferenceLine,
    bound: np.ndarray,
    idm: IdmSettings,
    limits: MotionLimits,
    most: np.ndarray | None = None,
) -> SpeedProfile:
    """Drives on by IDM behind every hazard at once, from `speed` and `acceleration` now.

    A hazard moves on at its speed along the path; a crossing one stands at its gap until it has left the corridor.
    `most` (steps + 1,), m/s², is what is accelerated by at most at each time; None for as IDM likes.
    """
    binding = _binding(hazards)
    column = np.array(
        [(i, h.gap - h.berth, h.speed, h.occupied[1] if h.crossing else np.inf) for i, h in binding], float
    )
    steps = round(limits.horizon / limits.step)
    most = np.full(steps + 1, np.inf) if most is None else most
    rows = _followed(
        max(speed, 0.0), acceleration, column.reshape(-1, 4), bound, most, line.start, line.step, steps, limits.step,
        limits.jerk, limits.urgent_jerk, limits.deceleration, idm.model,
    )  # fmt: skip
    return SpeedProfile(*rows[:4], rows[4].astype(np.int64), rows[5])


@njit(cache=True, nogil=True, error_model="numpy")
def _followed(
    v: float,
    a: float,
    hazards: np.ndarray,
    bound: np.ndarray,
    most: np.ndarray,
    line_start: float,
    line_step: float,
    steps: int,
    dt: float,
    jerk: float,
    urgent_jerk: float,
    deceleration: float,
    idm: Idm,
) -> np.ndarray:
    """(6, steps + 1) time, distance, speed, acceleration, index of what holds back most, and by how much.

    Args:
        hazards: (H, 4) index, gap (m), speed (m/s), time until which it counts (s).
    """
    found = np.empty((6, steps + 1))
    x = 0.0
    for k in range(steps + 1):
        t = k * dt
        place = min(max(int((x - line_start) / line_step), 0), len(bound) - 1)
        free = free_acceleration(v, bound[place], idm)
        # Where the bound falls, its own braking begins now: who only kept to it here would brake a step late, always.
        soon = max(int(_SOON * v / line_step), 1)
        ahead = bound[min(place + soon, len(bound) - 1)]
        if ahead < v:
            free = min(free, max(0.5 * (ahead * ahead - v * v) / (soon * line_step), -idm.deceleration))
        cause, held, least, pressing = -1.0, 0.0, free, 0.0
        for h in range(len(hazards)):
            other = hazards[h, 2]
            if t > hazards[h, 3]:
                continue
            gap = hazards[h, 1] + other * t - x
            taken = interaction(v, gap, other, idm)
            target = free - taken
            needed = needed_deceleration(gap, v - other)
            pressing = max(pressing, needed)
            if v > other and needed > idm.deceleration:
                target = min(target, -needed)
            if taken > held:
                cause, held = hazards[h, 0], taken
            least = min(least, target)
        least = max(min(least, most[k]), -deceleration)
        # What is left of an emergency is let go at once.
        down = urgent_jerk if pressing > idm.deceleration else jerk
        a = min(max(least, a - down * dt), max(a, -deceleration) + jerk * dt)
        if v <= 0.0 and a < 0.0:
            a = 0.0
        found[0, k], found[1, k], found[2, k], found[3, k], found[4, k], found[5, k] = t, x, v, a, cause, held
        x, v, a = _forward(x, v, a, dt)
    return found


def _binding(hazards: list[Hazard]) -> list[tuple[int, Hazard]]:
    """Those that can matter, with their index: one behind a nearer one that is no faster never does."""
    slowest, found = float("inf"), []
    for i in sorted(range(len(hazards)), key=lambda i: hazards[i].order()):
        hazard = hazards[i]
        if hazard.crossing:
            found.append((i, hazard))
        elif hazard.speed < slowest:
            slowest = hazard.speed
            found.append((i, hazard))
    return found


def brake(speed: float, acceleration: float, deceleration: float, jerk: float, limits: MotionLimits) -> SpeedProfile:
    """Comes to a stop with a deceleration (m/s²) that is built up with `jerk` (m/s³)."""
    steps = round(limits.horizon / limits.step)
    rows = _braked(max(speed, 0.0), acceleration, deceleration, jerk, steps, limits.step)
    return SpeedProfile(*rows, np.full(steps + 1, -1), np.zeros(steps + 1))


@njit(cache=True, nogil=True, error_model="numpy")
def _braked(v: float, a: float, deceleration: float, jerk: float, steps: int, dt: float) -> np.ndarray:
    """(4, steps + 1) time, distance, speed, acceleration."""
    found = np.empty((4, steps + 1))
    x = 0.0
    for k in range(steps + 1):
        a = min(max(-deceleration, a - jerk * dt), a + jerk * dt)
        a = 0.0 if v <= 0.0 and a < 0.0 else a
        found[0, k], found[1, k], found[2, k], found[3, k] = k * dt, x, v, a
        x, v, a = _forward(x, v, a, dt)
    return found


@njit(cache=True, nogil=True, error_model="numpy")
def _forward(x: float, v: float, a: float, dt: float) -> tuple[float, float, float]:
    """Distance, speed and acceleration after dt; a vehicle that comes to stand stays."""
    if v + a * dt > 0:
        return x + v * dt + 0.5 * a * dt * dt, v + a * dt, a
    return x + (0.5 * v * v / -a if a < 0 else 0.0), 0.0, 0.0


@njit(cache=True, nogil=True, error_model="numpy")
def needed_deceleration(gap: float, closing: float, reserve: float = 0.3) -> float:
    """Constant deceleration (m/s²) that takes a closing speed (m/s) off within a gap (m), less a reserve (m)."""
    return 0.5 * closing * closing / max(gap - reserve, 0.05) if closing > 0 else 0.0


def along_line(profile: SpeedProfile, line: ReferenceLine, approach: Sideways, vehicle: Vehicle) -> Trajectory:
    """The profile driven along the line, from where the vehicle is, in the frame of the line.

    `yaw` is that of the vehicle, `curvature` that of the way of `base_link`.
    """
    point, heading, bend = line.at(profile.distance)
    offset, slope, second = approach.offset_at(profile.distance)
    point = point + offset[:, None] * np.column_stack([-np.sin(heading), np.cos(heading)])
    point = point - point[0]  # the vehicle is the origin; what is left are millimetres of interpolation
    most = vehicle.largest_curvature()
    curvature = np.clip(bend + second, -most, most)
    return Trajectory(
        time=profile.time,
        x=point[:, 0],
        y=point[:, 1],
        # Where a path bends, a vehicle that turns about its rear axle points inwards of the way of what is before it.
        yaw=heading + np.arctan(slope) - np.arcsin(np.clip(vehicle.axle * curvature, -1.0, 1.0)),
        speed=profile.speed,
        acceleration=profile.acceleration,
        curvature=curvature,
    )
