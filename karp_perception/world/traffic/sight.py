"""What drivers see ahead: the first thing in the strip of road that their vehicle is about to sweep."""

from __future__ import annotations

import math
from enum import IntEnum
from typing import NamedTuple

import numpy as np

from karp_perception.core.compiled import njit
from karp_perception.world.traffic.fleet import lane_at, off_tracking, sweep
from karp_perception.world.traffic.network import curvature_on, place_on

_SIDE = 0.3  # m kept beside a vehicle, on either side
_PASSING_SIDE, _PARALLEL = 0.1, 0.97  # m kept beside a vehicle that points along the way; cosine of that
_LONG = 8.0  # m² of `sweep`: a lorry
_MOST_SWEPT = 1.6  # m
_PERSON_SIDE = 0.6  # m kept beside a person
_FIXED_SIDE = 0.1  # m kept beside what stands along the road


class Thing(IntEnum):
    """What an obstacle is to a driver."""

    VEHICLE = 0
    BICYCLE = 1
    PERSON = 2
    STANDING = 3


class Obstacles(NamedTuple):
    """M rectangles on the ground."""

    x: np.ndarray  # (M,) m, middle
    y: np.ndarray
    ux: np.ndarray  # direction of its length, of unit length
    uy: np.ndarray
    half_length: np.ndarray  # m
    half_width: np.ndarray
    vx: np.ndarray  # m/s
    vy: np.ndarray
    owner: np.ndarray  # row in the fleet, -1 for none
    thing: np.ndarray  # a Thing
    count: np.ndarray  # (1,) rows in use


def room_for(rows: int) -> Obstacles:
    """Room for so many obstacles."""
    floats = [np.zeros(rows) for _ in range(8)]
    return Obstacles(*floats, np.zeros(rows, np.int64), np.zeros(rows, np.int64), np.zeros(1, np.int64))


@njit(cache=True, nogil=True)
def gather(obstacles, fleet, others):
    """Writes the fleet's bodies and `others` ((K, 9): the columns x to vy, then the Thing) into `obstacles`."""
    o, n = obstacles, 0
    for i in range(len(fleet.alive)):
        if not fleet.alive[i]:
            continue
        c, s = math.cos(fleet.yaw[i]), math.sin(fleet.yaw[i])
        slip = fleet.middle[i] * fleet.yaw_rate[i]
        o.x[n], o.y[n] = fleet.rear_x[i] + fleet.middle[i] * c, fleet.rear_y[i] + fleet.middle[i] * s
        o.ux[n], o.uy[n], o.half_length[n], o.half_width[n] = c, s, fleet.half_length[i], fleet.half_width[i]
        o.vx[n], o.vy[n] = fleet.rear_v[i] * c - slip * s, fleet.rear_v[i] * s + slip * c
        o.owner[n], o.thing[n] = i, 1 if fleet.kind[i] == 3 else 0
        n += 1
        if fleet.trailer[i] > 0.0:
            c, s = math.cos(fleet.trailer_yaw[i]), math.sin(fleet.trailer_yaw[i])
            o.x[n] = fleet.trailer_x[i] + fleet.trailer_middle[i] * c
            o.y[n] = fleet.trailer_y[i] + fleet.trailer_middle[i] * s
            o.ux[n], o.uy[n] = c, s
            o.half_length[n], o.half_width[n] = fleet.trailer_half_length[i], fleet.trailer_half_width[i]
            o.vx[n], o.vy[n], o.owner[n], o.thing[n] = fleet.trailer_v[i] * c, fleet.trailer_v[i] * s, i, 0
            n += 1
    for k in range(len(others)):
        o.x[n], o.y[n], o.ux[n], o.uy[n] = others[k, 0], others[k, 1], others[k, 2], others[k, 3]
        o.half_length[n], o.half_width[n], o.vx[n], o.vy[n] = others[k, 4], others[k, 5], others[k, 6], others[k, 7]
        o.owner[n], o.thing[n] = -1, int(others[k, 8])
        n += 1
    o.count[0] = n


@njit(cache=True, nogil=True)
def on_way(fleet, roads, i, q, d):
    """x, y and direction of a place q m along a vehicle's way and d m to the left of the lane's middle."""
    k = lane_at(fleet, i, q)
    return place_on(roads, fleet.path[i, k], q - fleet.start[i, k], d)


@njit(cache=True, nogil=True)
def first_ahead(fleet, roads, obstacles, i, goal, horizon, ignored):
    """What lies first in the strip that vehicle i sweeps when it steers for the lateral place `goal`.

    Returns the gap from its bumper (m, inf for nothing within `horizon`), the speed of what lies there along the way
    (m/s), its row in `obstacles` (-1) and its lateral place (m to the left of the lane's middle).

    Along the way steps are as long as the distance to the obstacle allows (sphere tracing).
    """
    o = obstacles
    q, d, nose = fleet.q[i], fleet.d[i], fleet.nose[i]
    settle = max(4.0, 1.2 * fleet.v[i])
    last = min(nose + horizon, fleet.start[i, fleet.count[i]] - q)
    half = fleet.half_width[i]
    best, best_speed, best_row, best_side = math.inf, 0.0, -1, 0.0
    here_x, here_y, _, _ = on_way(fleet, roads, i, q, d)
    k = lane_at(fleet, i, q)
    bend = abs(curvature_on(roads, fleet.path[i, k], q - fleet.start[i, k]))
    wide = 0.7 * abs(off_tracking(fleet, i, bend))
    swept = sweep(fleet, i)
    for j in range(o.count[0]):
        if o.owner[j] == i or j == ignored:
            continue
        radius = math.sqrt(o.half_length[j] ** 2 + o.half_width[j] ** 2)
        side = half + wide + (_PERSON_SIDE if o.thing[j] == 2 else _FIXED_SIDE if o.thing[j] == 3 else _SIDE)
        near_side = half + wide + _PASSING_SIDE
        # In bends long vehicles leave room for what comes towards them: of two long ones the one in the later row.
        owner = o.owner[j]
        gives_room = o.thing[j] == 0 and owner >= 0 and swept > _LONG and fleet.v[owner] > 0.5
        gives_room = gives_room and (sweep(fleet, owner) <= _LONG or owner < i)
        most = side + (_MOST_SWEPT if gives_room else 0.0)
        if math.sqrt((o.x[j] - here_x) ** 2 + (o.y[j] - here_y) ** 2) - radius - most > min(last, best + nose):
            continue
        s = nose
        while s < last and s - nose < best:
            lateral = goal + (d - goal) * math.exp(-s / settle)
            x, y, tx, ty = on_way(fleet, roads, i, q + s, lateral)
            dx, dy = o.x[j] - x, o.y[j] - y
            far = math.sqrt(dx * dx + dy * dy) - radius - most
            if far > 0.0:
                s += max(far, 0.5)
                continue
            along = abs(dx * o.ux[j] + dy * o.uy[j]) - o.half_length[j]
            across = abs(dy * o.ux[j] - dx * o.uy[j]) - o.half_width[j]
            off = math.sqrt(max(along, 0.0) ** 2 + max(across, 0.0) ** 2)
            # Closer to those that drive alongside or come the other way: they keep their lane as one does oneself.
            parallel = o.thing[j] == 0 and abs(o.ux[j] * tx + o.uy[j] * ty) > _PARALLEL
            kept = near_side if parallel else side
            if o.thing[j] == 0 and o.ux[j] * tx + o.uy[j] * ty < -0.3:
                kept = half + _PASSING_SIDE
            if gives_room and o.ux[j] * tx + o.uy[j] * ty < -0.7:
                k = lane_at(fleet, i, q + s)
                bent = abs(curvature_on(roads, fleet.path[i, k], q + s - fleet.start[i, k]))
                kept += min(swept * bent, _MOST_SWEPT)
            if off >= kept:
                s += max(off - kept, 0.3)
                continue
            # Its nearest face along the way, seen from here.
            facing = abs(o.ux[j] * tx + o.uy[j] * ty) * o.half_length[j]
            facing += abs(o.uy[j] * tx - o.ux[j] * ty) * o.half_width[j]
            gap = s - nose + max(dx * tx + dy * ty - facing, -1.0)
            # Not what it draws level with or has passed already.
            if gap < best and (s > nose or dx * tx + dy * ty + facing > 0.0):
                best, best_row = gap, j
                best_speed = o.vx[j] * tx + o.vy[j] * ty
                best_side = lateral + dy * tx - dx * ty
            break
    return best, best_speed, best_row, best_side


@njit(cache=True, nogil=True)
def bend_speed(fleet, roads, i, horizon):
    """The most, m/s, at which a vehicle may drive now for the bends and speed limits ahead to be met comfortably."""
    q = fleet.q[i]
    top = fleet.top_speed[i]
    s = 0.0
    while s <= horizon:
        k = lane_at(fleet, i, q + s)
        if q + s > fleet.start[i, fleet.count[i]]:
            break
        lane = fleet.path[i, k]
        limit = roads.limit[lane] * fleet.eagerness[i]
        bend = abs(curvature_on(roads, lane, q + s - fleet.start[i, k]))
        here = min(limit, math.sqrt(fleet.grip[i] / max(bend, 1e-5)))
        top = min(top, math.sqrt(here * here + 2.0 * 0.7 * fleet.comfort[i] * max(s - 2.0, 0.0)))
        s += 2.0
    return top
