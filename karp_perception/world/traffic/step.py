"""One step of all drivers: look, decide, accelerate."""

from __future__ import annotations

import math

from karp_perception.core.compiled import njit
from karp_perception.world.traffic.fleet import lane_at
from karp_perception.world.traffic.following import HARDEST, following_acceleration, stopping_acceleration
from karp_perception.world.traffic.guard import move_apart
from karp_perception.world.traffic.lane_changes import change_lane, courtesy_gap, lane_ends, pass_within_lane
from karp_perception.world.traffic.right_of_way import find_barriers, grant_ways, joining_gap, list_users
from karp_perception.world.traffic.sight import bend_speed, first_ahead, gather

_COURTESY = 1.5  # m/s², the most one brakes to let somebody in
_JERK = 12.0  # m/s³ by which drivers change their acceleration, brakes in need aside


@njit(cache=True, nogil=True)
def _accelerate(fleet, roads, users, place, count, i, dt):
    v, front = fleet.v[i], fleet.q[i] + fleet.nose[i]
    horizon = 0.5 * v * v / 1.2 + 12.0
    wanted = max(bend_speed(fleet, roads, i, horizon), 0.5)
    headway, least, strength, comfort = fleet.headway[i], fleet.min_gap[i], fleet.strength[i], fleet.comfort[i]
    a = following_acceleration(v, wanted, fleet.gap[i], fleet.gap_speed[i], headway, least, strength, comfort)
    gap, speed = joining_gap(fleet, roads, users, place, count, i)
    if gap < math.inf:
        a = min(a, following_acceleration(v, wanted, gap, speed, headway, least, strength, comfort))
    gap, speed = courtesy_gap(fleet, roads, users, place, count, i)
    if gap < math.inf:
        a = min(a, max(following_acceleration(v, wanted, gap, speed, headway, least, strength, comfort), -_COURTESY))
    a = min(a, stopping_acceleration(v, fleet.barrier[i] - front, comfort))
    a = min(a, stopping_acceleration(v, fleet.hold[i] - front, comfort))
    last = fleet.count[i] - 1
    if lane_ends(roads, fleet.path[i, last]):
        a = min(a, stopping_acceleration(v, fleet.start[i, last + 1] - 2.0 - front, comfort))
    a = max(a, -HARDEST)
    if a > -comfort:
        a = min(max(a, fleet.a[i] - _JERK * dt), fleet.a[i] + _JERK * dt)
    fleet.a[i] = a


@njit(cache=True, nogil=True)
def step_fleet(
    fleet, roads, obstacles, others, lights, people, users, place, count, turn, safe_braking, politeness, gain, dt
):
    """Moves all vehicles by `dt` s; `turn` counts the calls, so that each driver thinks of changing now and then."""
    gather(obstacles, fleet, others)
    list_users(fleet, roads, users, place, count)
    find_barriers(fleet, roads, obstacles, lights, people)
    every = max(1, round(0.5 / dt))
    for i in range(len(fleet.alive)):
        if not fleet.alive[i] or fleet.driven[i]:
            continue
        horizon = 0.5 * fleet.v[i] ** 2 / 1.5 + 3.0 * fleet.v[i] + 15.0
        gap, speed, lead, _ = first_ahead(fleet, roads, obstacles, i, fleet.goal[i], horizon, -1)
        fleet.gap[i], fleet.gap_speed[i], fleet.lead[i] = gap, speed, lead
    grant_ways(fleet, roads, obstacles, users, place, count)
    for i in range(len(fleet.alive)):
        if not fleet.alive[i] or fleet.driven[i]:
            continue
        if (turn + i) % every == 0 or fleet.passing[i]:
            pass_within_lane(fleet, roads, obstacles, i)
        if (turn + i) % every == 0 and change_lane(
            fleet, roads, obstacles, users, place, count, i, safe_braking, politeness, gain
        ):
            list_users(fleet, roads, users, place, count)
        _accelerate(fleet, roads, users, place, count, i, dt)
        _signal(fleet, roads, i)
    for i in range(len(fleet.alive)):
        if fleet.alive[i] and not fleet.driven[i]:
            move_apart(fleet, roads, obstacles, i, dt)


@njit(cache=True, nogil=True)
def _signal(fleet, roads, i):
    """Indicators: while changing lanes, and before and in a turn."""
    if fleet.since[i] < 4.0 and abs(fleet.d[i] - fleet.goal[i]) > 0.4 and fleet.blinker[i] != 0:
        return
    fleet.blinker[i] = 0
    if fleet.passing[i]:
        fleet.blinker[i] = 1 if fleet.goal[i] - fleet.d[i] > 0.3 else 0
    k = lane_at(fleet, i, fleet.q[i])
    for m in range(k, min(k + 2, fleet.count[i])):
        if (
            fleet.start[i, m] - fleet.q[i] < 35.0
            and abs(roads.turn[fleet.path[i, m]]) > 0.6
            and roads.length[fleet.path[i, m]] < 45.0
        ):
            fleet.blinker[i] = 1 if roads.turn[fleet.path[i, m]] > 0 else -1
            return
