"""Compiled: how the vehicle would really move if it were told to drive along ways at given speeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from karp_perception.core import EgoState, Vehicle
from karp_perception.core.compiled import njit
from karp_perception.planning.corridor import between
from karp_perception.planning.proposals import Proposal, Way
from karp_perception.planning.reference_line import ReferenceLine

_LOOK_AHEAD_S, _LEAST_LOOK_AHEAD = 0.8, 1.4  # s, and wheelbases: pure pursuit steers for a point so far ahead
_SPEED_GAIN = 0.5  # m/s² asked for each m/s that is lacking


@dataclass(frozen=True)
class Motions:
    """P simulated motions, T moments `step` s apart, the first is now; in `base_link` of now.

    Attributes:
        pose: (P, T, 3) x, y (m), yaw (rad). speed: (P, T) m/s. acceleration: (P, T) m/s². yaw_rate: (P, T) rad/s.
        distance: (P, T) along the line, m. offset: (P, T) beside it, m to the left.
    """

    step: float
    pose: np.ndarray
    speed: np.ndarray
    acceleration: np.ndarray
    yaw_rate: np.ndarray
    distance: np.ndarray
    offset: np.ndarray

    def __len__(self) -> int:
        return len(self.pose)


def motions_of(
    options: Sequence[Proposal],
    ways: Sequence[Way],
    line: ReferenceLine,
    speed: float,
    acceleration: float,
    ego: EgoState,
    horizon: float,
    step: float,
    vehicle: Vehicle,
) -> Motions:
    """What would come of proposals on their ways within `horizon` s; see `roll_out`."""
    return roll_out(
        line,
        np.array([way.corridor.approach.offset_at(line.distance)[0] for way in ways]),
        np.array([option.way for option in options]),
        np.array([option.profile.speed for option in options]),
        np.array([option.profile.acceleration for option in options]),
        round(horizon / step) + 1,
        step,
        speed,
        acceleration,
        ego.yaw_rate,
        vehicle,
    )


def roll_out(
    line: ReferenceLine,
    offsets: np.ndarray,
    way: np.ndarray,
    planned_speed: np.ndarray,
    planned_acceleration: np.ndarray,
    count: int,
    step: float,
    speed: float,
    acceleration: float,
    yaw_rate: float,
    vehicle: Vehicle,
) -> Motions:
    """Drives P proposals with a bicycle whose wheels and brakes come late.

    Steering by pure pursuit (Coulter 1992) of a point ahead on the way; drive and brakes are asked for what is planned
    for the moment when they will be there, and for what the speed lacks. All follow by a lag of first order with the
    vehicle's delay and lag together as its time constant.

    Args:
        line: in `base_link`.
        offsets: (W, M) m to the left of the line's points, where each way leads.
        way: (P,) index of the way of each proposal.
        planned_speed, planned_acceleration: (P, L) m/s, m/s² at moments `step` s apart, the first is now.
        count: T, moments that are simulated.
        step: s between moments.
        speed, acceleration, yaw_rate: of the vehicle now, m/s, m/s², rad/s.
    """
    steering = np.arctan(vehicle.wheelbase * yaw_rate / speed) if speed > 1.0 else 0.0
    most = vehicle.largest_steering_angle(speed)
    rows = _roll_out(
        line.points, line.heading, line.start, line.step, offsets, way, planned_speed, planned_acceleration, count,
        step, speed,
        acceleration, min(max(steering, -most), most), vehicle.axle, vehicle.wheelbase, most,
        vehicle.largest_steering_rate(), vehicle.steering_delay + vehicle.steering_lag,
        vehicle.acceleration_delay + vehicle.acceleration_lag,
    )  # fmt: skip
    return Motions(step, rows[..., :3], *(rows[..., k] for k in range(3, 8)))


@njit(cache=True, nogil=True, error_model="numpy")
def _roll_out(
    points: np.ndarray,
    heading: np.ndarray,
    start: float,
    line_step: float,
    offsets: np.ndarray,
    way: np.ndarray,
    planned_speed: np.ndarray,
    planned_acceleration: np.ndarray,
    times: int,
    step: float,
    first_speed: float,
    first_acceleration: float,
    first_steering: float,
    axle: float,
    wheelbase: float,
    most: float,
    rate: float,
    steering_lag: float,
    drive_lag: float,
) -> np.ndarray:
    """(P, T, 8) x, y, yaw, speed, acceleration, yaw rate, distance along and offset from the line."""
    count, planned = planned_speed.shape
    found = np.empty((count, times, 8))
    early = int(np.round(drive_lag / step))
    turns = 1.0 - np.exp(-step / max(steering_lag, 1e-3))
    follows = 1.0 - np.exp(-step / max(drive_lag, 1e-3))
    for p in range(count):
        yaw, v, a, steering = 0.0, max(first_speed, 0.0), first_acceleration, first_steering
        x, y, s = -axle, 0.0, 0.0  # of the middle of the rear axle, about which a bicycle turns; of base_link
        beside = offsets[way[p]]
        for t in range(times):
            c, sine = np.cos(yaw), np.sin(yaw)
            bx, by = x + axle * c, y + axle * sine
            here = (s - start) / line_step
            direction = between(heading, here)
            ox, oy = bx - between(points[:, 0], here), by - between(points[:, 1], here)
            off = np.cos(direction) * oy - np.sin(direction) * ox
            s += np.cos(direction) * ox + np.sin(direction) * oy  # what the last step travelled along the line
            bend = np.tan(steering) / wheelbase
            row = found[p, t]
            row[0], row[1], row[2], row[3], row[4], row[5], row[6], row[7] = bx, by, yaw, v, a, v * bend, s, off
            there = (s - axle + max(_LEAST_LOOK_AHEAD * wheelbase, _LOOK_AHEAD_S * v) - start) / line_step
            direction, side = between(heading, there), between(beside, there)
            dx = between(points[:, 0], there) - side * np.sin(direction) - x
            dy = between(points[:, 1], there) + side * np.cos(direction) - y
            goal = np.arctan(wheelbase * 2.0 * (c * dy - sine * dx) / max(dx * dx + dy * dy, 0.01))
            goal = min(max(goal, -most), most)
            change = min(max((goal - steering) * turns, -rate * step), rate * step)
            steering += change
            asked = planned_acceleration[p, min(t + early, planned - 1)] + _SPEED_GAIN * (planned_speed[p, t] - v)
            a += (asked - a) * follows
            after = v + a * step
            if after < 0.0:
                after, a = 0.0, 0.0
            travelled = 0.5 * (v + after) * step
            turn = travelled * np.tan(steering) / wheelbase
            x += travelled * np.cos(yaw + 0.5 * turn)
            y += travelled * np.sin(yaw + 0.5 * turn)
            yaw += turn
            v = after
    return found
