"""Speed over time behind what is ahead, and the trajectory that it gives along a line."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from karp_perception.core import Trajectory, Vehicle
from karp_perception.core.settings import Settings, setting
from karp_perception.planning.corridor import Approach
from karp_perception.planning.hazards import Hazard
from karp_perception.planning.idm import IdmSettings, free_acceleration, interaction
from karp_perception.planning.reference_line import ReferenceLine


@dataclass(frozen=True)
class MotionLimits(Settings):
    """Horizon and comfort of the planned motion (bounds of nuPlan's comfort metric)."""

    horizon: float = setting(8.0, "length of the trajectory", unit="s", low=1.0, high=20.0)
    step: float = setting(0.1, "between its points", unit="s", low=0.02, high=0.5)
    jerk: float = setting(4.0, "most change of acceleration", unit="m/s3", low=0.1, high=50.0)
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
    line: ReferenceLine, approach: Approach, speed: float, limit: float, limits: MotionLimits
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
) -> SpeedProfile:
    """Drives on by IDM behind every hazard at once, from `speed` and `acceleration` now.

    A hazard moves on at its speed along the path; a crossing one stands at its gap until it has left the corridor.
    """
    dt, steps = limits.step, round(limits.horizon / limits.step)
    v, a, x = max(speed, 0.0), acceleration, 0.0
    rows, binding = [], _binding(hazards)
    for k in range(steps + 1):
        t = k * dt
        wanted = bound[min(max(int((x - line.start) / line.step), 0), len(bound) - 1)]
        free = free_acceleration(v, float(wanted), idm)
        cause, held, least = -1, 0.0, free
        for i, hazard in binding:
            if hazard.crossing and t > hazard.occupied[1]:
                continue
            gap = hazard.gap + hazard.speed * t - x
            taken = interaction(v, gap, hazard.speed, idm)
            target = free - taken
            if v > hazard.speed and (needed := needed_deceleration(gap, v - hazard.speed)) > idm.deceleration:
                target = min(target, -needed)
            if taken > held:
                cause, held = i, taken
            least = min(least, target)
        least = max(least, -limits.deceleration)
        a = min(max(least, a - limits.jerk * dt), a + limits.jerk * dt)
        if v <= 0 and a < 0:
            a = 0.0
        rows.append((t, x, v, a, cause, held))
        x, v, a = _forward(x, v, a, dt)
    columns = np.array(rows).T
    return SpeedProfile(*columns[:4], columns[4].astype(np.int64), columns[5])


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
    dt, steps = limits.step, round(limits.horizon / limits.step)
    v, a, x = max(speed, 0.0), acceleration, 0.0
    rows = []
    for k in range(steps + 1):
        a = min(max(-deceleration, a - jerk * dt), a + jerk * dt)
        a = 0.0 if v <= 0 and a < 0 else a
        rows.append((k * dt, x, v, a))
        x, v, a = _forward(x, v, a, dt)
    return SpeedProfile(*np.array(rows).T, np.full(steps + 1, -1), np.zeros(steps + 1))


def _forward(x: float, v: float, a: float, dt: float) -> tuple[float, float, float]:
    """Distance, speed and acceleration after dt; a vehicle that comes to stand stays."""
    if v + a * dt > 0:
        return x + v * dt + 0.5 * a * dt * dt, v + a * dt, a
    return x + (0.5 * v * v / -a if a < 0 else 0.0), 0.0, 0.0


def needed_deceleration(gap: float, closing: float, reserve: float = 0.3) -> float:
    """Constant deceleration (m/s²) that takes a closing speed (m/s) off within a gap (m), less a reserve (m)."""
    return 0.5 * closing * closing / max(gap - reserve, 0.05) if closing > 0 else 0.0


def along_line(profile: SpeedProfile, line: ReferenceLine, approach: Approach, vehicle: Vehicle) -> Trajectory:
    """The profile driven along the line, from where the vehicle is, in the frame of the line."""
    point, heading, bend = line.at(profile.distance)
    offset, slope, second = approach.offset_at(profile.distance)
    point = point + offset[:, None] * np.column_stack([-np.sin(heading), np.cos(heading)])
    point = point - point[0]  # the vehicle is the origin; what is left are millimetres of interpolation
    most = np.tan(vehicle.max_steering_angle) / vehicle.wheelbase
    return Trajectory(
        time=profile.time,
        x=point[:, 0],
        y=point[:, 1],
        yaw=heading + np.arctan(slope),
        speed=profile.speed,
        acceleration=profile.acceleration,
        curvature=np.clip(bend + second, -most, most),
    )
