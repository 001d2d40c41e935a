"""Everything that drives in lanes, as arrays for compiled code; one row a vehicle, row 0 the vehicle under test."""

from __future__ import annotations

import math
from enum import IntEnum
from typing import NamedTuple

import numpy as np

from karp_perception.core.compiled import njit
from karp_perception.world.traffic.network import curvature_on, place_on

MAX_PATH = 24  # lanes that a vehicle knows of its way
_WIDEST = 0.9  # m that a driver goes wide in a bend
EGO = 0  # row of the vehicle under test


class Kind(IntEnum):
    """What a driver may do."""

    CAR = 0
    HEAVY = 1
    MOTORCYCLE = 2
    BICYCLE = 3


class Fleet(NamedTuple):
    """N rows. Places along a vehicle's own way (`q`, `start`, `grant`) are m from the beginning of its first lane.

    A vehicle is where the middle of its front axle is; the axles behind are dragged along, trailers too.
    """

    alive: np.ndarray  # (N,) 1 where the row is in use
    driven: np.ndarray  # 1 where something else moves it (row 0)
    kind: np.ndarray  # a Kind
    q: np.ndarray  # m, front axle along its way
    v: np.ndarray  # m/s
    a: np.ndarray  # m/s²
    d: np.ndarray  # m to the left of the lane's middle
    w: np.ndarray  # m/s, how fast that changes
    line: np.ndarray  # m, the lateral place that it keeps to when nothing is in the way
    goal: np.ndarray  # m, the lateral place that it steers for now
    swing: np.ndarray  # m by which it drives wide in a bend, for its rear to come round
    phase: np.ndarray  # rad, of its wander
    drift: np.ndarray  # m of wander
    nose: np.ndarray  # m from the front axle to the front bumper
    tail: np.ndarray  # m from the front bumper to the very end, trailer included
    half_width: np.ndarray  # m, the widest part
    half_length: np.ndarray  # m, of the (pulling) body
    wheelbase: np.ndarray  # m
    middle: np.ndarray  # m from the rear axle forward to the body's middle
    trailer: np.ndarray  # m from king pin to the trailer's axle, 0 for none
    coupling: np.ndarray  # m from the rear axle forward to the coupling (negative behind it)
    trailer_middle: np.ndarray  # m from the trailer's axle forward to its middle
    trailer_half_length: np.ndarray
    trailer_half_width: np.ndarray
    rear_x: np.ndarray  # m, rear axle
    rear_y: np.ndarray
    rear_v: np.ndarray  # m/s of the rear axle, along its heading
    yaw: np.ndarray  # rad
    yaw_rate: np.ndarray
    trailer_x: np.ndarray  # m, trailer's axle
    trailer_y: np.ndarray
    trailer_v: np.ndarray
    trailer_yaw: np.ndarray
    trailer_yaw_rate: np.ndarray
    eagerness: np.ndarray  # wanted speed over speed limit
    top_speed: np.ndarray  # m/s
    headway: np.ndarray  # s
    min_gap: np.ndarray  # m
    strength: np.ndarray  # m/s², acceleration
    comfort: np.ndarray  # m/s², deceleration
    grip: np.ndarray  # m/s², lateral
    path: np.ndarray  # (N, MAX_PATH) lanes of its way
    start: np.ndarray  # (N, MAX_PATH + 1) m, where each begins
    count: np.ndarray  # lanes in `path`
    grant: np.ndarray  # m, as far as it may cross other lanes' ways
    waited: np.ndarray  # s that it has stood
    since: np.ndarray  # s since its last change of lane
    gap: np.ndarray  # m to what is ahead of its bumper, inf for nothing
    gap_speed: np.ndarray  # m/s of that, along the way
    lead: np.ndarray  # row of what that is in `Obstacles`
    blinker: np.ndarray  # 1 left, -1 right, 0 off
    passing: np.ndarray  # 1 while it overtakes something within its lane
    barrier: np.ndarray  # m along its way to the first light or crossing at which it has to stop, inf for none
    hold: np.ndarray  # m along its way to where it waits for others to cross, inf where it need not


_WHOLE = {"alive", "driven", "kind", "path", "count", "lead", "blinker", "passing"}


def empty_fleet(rows: int) -> Fleet:
    """Room for so many vehicles, none there."""
    shape = {"path": (rows, MAX_PATH), "start": (rows, MAX_PATH + 1)}
    columns = {
        name: np.zeros(shape.get(name, rows), np.int64 if name in _WHOLE else np.float64) for name in Fleet._fields
    }
    return Fleet(**columns)


@njit(cache=True, nogil=True)
def lane_at(fleet, i, q):
    """Which of a vehicle's lanes holds the place q m along its way: an index into its path."""
    k = 0
    while k + 1 < fleet.count[i] and q >= fleet.start[i, k + 1]:
        k += 1
    return k


@njit(cache=True, nogil=True)
def put(fleet, roads, i):
    """Sets a vehicle down where its way says, axles in line with the lane."""
    k = lane_at(fleet, i, fleet.q[i])
    x, y, _, _ = place_on(roads, fleet.path[i, k], fleet.q[i] - fleet.start[i, k], fleet.d[i])
    # The rear axle where the way was, as far as the way is known.
    back = fleet.q[i] - fleet.wheelbase[i]
    k = lane_at(fleet, i, back)
    bx, by, _, _ = place_on(roads, fleet.path[i, k], back - fleet.start[i, k], fleet.d[i])
    fleet.yaw[i] = math.atan2(y - by, x - bx)
    fleet.rear_x[i] = x - fleet.wheelbase[i] * math.cos(fleet.yaw[i])
    fleet.rear_y[i] = y - fleet.wheelbase[i] * math.sin(fleet.yaw[i])
    fleet.yaw_rate[i], fleet.rear_v[i], fleet.trailer_v[i] = 0.0, fleet.v[i], fleet.v[i]
    if fleet.trailer[i] > 0.0:
        hx = fleet.rear_x[i] + fleet.coupling[i] * math.cos(fleet.yaw[i])
        hy = fleet.rear_y[i] + fleet.coupling[i] * math.sin(fleet.yaw[i])
        back = fleet.q[i] - fleet.wheelbase[i] + fleet.coupling[i] - fleet.trailer[i]
        k = lane_at(fleet, i, back)
        bx, by, _, _ = place_on(roads, fleet.path[i, k], back - fleet.start[i, k], fleet.d[i])
        fleet.trailer_yaw[i] = math.atan2(hy - by, hx - bx)
        fleet.trailer_x[i] = hx - fleet.trailer[i] * math.cos(fleet.trailer_yaw[i])
        fleet.trailer_y[i] = hy - fleet.trailer[i] * math.sin(fleet.trailer_yaw[i])
        fleet.trailer_yaw_rate[i] = 0.0


@njit(cache=True, nogil=True)
def drag(x, y, yaw, length, coupling_x, coupling_y):
    """A wheeled axle at (x, y) on a bar of `length` m whose other end moves to the coupling: its new x, y and yaw.

    The axle moves along its own heading only; the way of the coupling is divided into steps that are short against
    the bar, within which the heading is solved by its mean (second order).
    """
    ox, oy = x + length * math.cos(yaw), y + length * math.sin(yaw)
    way = math.sqrt((coupling_x - ox) ** 2 + (coupling_y - oy) ** 2)
    steps = 1 + int(way / (0.1 * length))
    mx, my = (coupling_x - ox) / steps, (coupling_y - oy) / steps
    for _ in range(steps):
        c, s = math.cos(yaw), math.sin(yaw)
        half = yaw + 0.5 * (c * my - s * mx) / length
        c, s = math.cos(half), math.sin(half)
        yaw += (c * my - s * mx) / length
    return coupling_x - length * math.cos(yaw), coupling_y - length * math.sin(yaw), yaw


@njit(cache=True, nogil=True)
def move(fleet, roads, i, dt):
    """Moves a vehicle by its speed and acceleration over `dt` s, along its way and across it."""
    v, a = fleet.v[i], fleet.a[i]
    if v + a * dt <= 0.0:
        way = 0.5 * v * v / -a if a < 0.0 else 0.0
        fleet.v[i] = 0.0
        if v == 0.0:
            fleet.a[i] = 0.0
    else:
        way = v * dt + 0.5 * a * dt * dt
        fleet.v[i] = v + a * dt
    fleet.q[i] += way
    fleet.waited[i] = fleet.waited[i] + dt if fleet.v[i] < 0.3 else 0.0
    fleet.since[i] += dt
    _steer_across(fleet, i, dt)
    k = lane_at(fleet, i, fleet.q[i])
    ahead = lane_at(fleet, i, fleet.q[i] + 3.0)
    bend = curvature_on(roads, fleet.path[i, ahead], fleet.q[i] + 3.0 - fleet.start[i, ahead])
    fleet.swing[i] += min(way / 4.0, 1.0) * (-off_tracking(fleet, i, bend) - fleet.swing[i])
    x, y, _, _ = place_on(roads, fleet.path[i, k], fleet.q[i] - fleet.start[i, k], fleet.d[i] + fleet.swing[i])
    before, rear_x, rear_y = fleet.yaw[i], fleet.rear_x[i], fleet.rear_y[i]
    fleet.rear_x[i], fleet.rear_y[i], yaw = drag(fleet.rear_x[i], fleet.rear_y[i], before, fleet.wheelbase[i], x, y)
    fleet.rear_v[i] = _along(fleet.rear_x[i] - rear_x, fleet.rear_y[i] - rear_y, before, yaw) / dt
    fleet.yaw_rate[i] = (yaw - before) / dt
    fleet.yaw[i] = (yaw + math.pi) % (2.0 * math.pi) - math.pi
    if fleet.trailer[i] > 0.0:
        hx = fleet.rear_x[i] + fleet.coupling[i] * math.cos(yaw)
        hy = fleet.rear_y[i] + fleet.coupling[i] * math.sin(yaw)
        before, rear_x, rear_y = fleet.trailer_yaw[i], fleet.trailer_x[i], fleet.trailer_y[i]
        fleet.trailer_x[i], fleet.trailer_y[i], yaw = drag(
            fleet.trailer_x[i], fleet.trailer_y[i], before, fleet.trailer[i], hx, hy
        )
        way_x, way_y = fleet.trailer_x[i] - rear_x, fleet.trailer_y[i] - rear_y
        fleet.trailer_v[i] = _along(way_x, way_y, before, yaw) / dt
        fleet.trailer_yaw_rate[i] = (yaw - before) / dt
        fleet.trailer_yaw[i] = (yaw + math.pi) % (2.0 * math.pi) - math.pi


@njit(cache=True, nogil=True)
def _along(x, y, before, after):
    """m moved along the mean of two headings."""
    yaw = 0.5 * (before + after)
    return x * math.cos(yaw) + y * math.sin(yaw)


@njit(cache=True, nogil=True)
def off_tracking(fleet, i, bend):
    """m by which a vehicle drives wide in a bend, for its rear and its nose to stick out alike.

    An axle L m behind another runs L² / 2R further inside; a nose n m before the front axle of a body that stands
    across by L / R swings n L / R + n² / 2R to the outside.
    """
    base, nose = fleet.wheelbase[i], fleet.nose[i]
    inside = 0.5 * (base * base + fleet.trailer[i] ** 2)
    outside = nose * base + 0.5 * nose * nose
    return min(max(0.5 * bend * (inside - outside), -_WIDEST), _WIDEST)


@njit(cache=True, nogil=True)
def sweep(fleet, i):
    """m² by which a vehicle's strip grows to either side, times the curvature of its way."""
    base, nose = fleet.wheelbase[i], fleet.nose[i]
    return 0.25 * (base * base + fleet.trailer[i] ** 2) + 0.5 * nose * base + 0.25 * nose * nose


@njit(cache=True, nogil=True)
def _steer_across(fleet, i, dt):
    """The lateral place goes to its goal as a critically damped spring, no faster than the wheels allow."""
    v = fleet.v[i]
    most = min(1.3, 0.22 * v)
    q, phase = fleet.q[i], fleet.phase[i]
    wander = 0.7 * math.sin(0.031 * q + phase) + 0.5 * math.sin(0.083 * q + 2.0 * phase)
    goal = fleet.goal[i] + fleet.drift[i] * wander
    rate = 1.1 if v > 3.0 else 0.8
    wanted = rate * (goal - fleet.d[i])
    wanted = min(max(wanted, -most), most)
    change = 1.8 * dt
    w = fleet.w[i] + min(max(wanted - fleet.w[i], -change), change)
    w = min(max(w, -most), most)
    fleet.w[i] = w
    fleet.d[i] += w * dt
