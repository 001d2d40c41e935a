"""Who goes first: lights, crossings, and the places where lanes cross and join.

A vehicle may enter the places where others cross its way once they are granted to it, all of those at once between
which it could not wait without standing in one. What is granted to one is closed to whoever would cross it, until
its rear has left: whatever drivers misjudge, two are never in one place. Whom to let go first when nothing is granted
yet: the lane that has the right of way, as far as its next vehicle comes in time; else whoever is there first.
"""

from __future__ import annotations

import math

from karp_perception.core.compiled import njit
from karp_perception.world.traffic.fleet import lane_at

GREEN, YELLOW, RED = 0, 1, 2
MAX_USERS = 48  # vehicles whose way leads over one lane
_YELLOW_BRAKING = 3.0  # m/s²: harder than that nobody brakes for a yellow light
_CROSSING_BRAKING = 4.5  # m/s²: harder than that only for somebody who is in the way already
_LINE = 0.7  # m before a line at which one stops
_HOLD = 1.2  # m before the way of others
_MARGIN = 1.2  # s between oneself and one who has the right of way
_PATIENCE = 2.0  # s after which one goes before somebody who has the right of way and stands


@njit(cache=True, nogil=True)
def list_users(fleet, roads, users, place, count):
    """Whose way leads over each lane soon, or whose vehicle is still in it: rows and indices into their paths."""
    count[:] = 0
    for i in range(len(fleet.alive)):
        if not fleet.alive[i]:
            continue
        front = fleet.q[i] + fleet.nose[i]
        for k in range(fleet.count[i]):
            if fleet.start[i, k + 1] < front - fleet.tail[i] - 1.0:
                continue
            if fleet.start[i, k] > front + max(60.0, 5.0 * fleet.v[i]):
                break
            lane = fleet.path[i, k]
            if count[lane] < MAX_USERS:
                users[lane, count[lane]], place[lane, count[lane]] = i, k
                count[lane] += 1


@njit(cache=True, nogil=True)
def find_barriers(fleet, roads, obstacles, lights, people):
    """Sets `barrier`: the first line at which each vehicle has to stop, for a light or for people who cross.

    `lights`: (S,) GREEN, YELLOW or RED. `people`: (C,) 1 where vehicles are to wait for people who want to cross, 2
    where some are crossing.
    """
    for i in range(len(fleet.alive)):
        fleet.barrier[i] = math.inf
        if not fleet.alive[i]:
            continue
        front, v = fleet.q[i] + fleet.nose[i], fleet.v[i]
        horizon = 0.5 * v * v / 1.5 + 20.0
        lead = fleet.lead[i]  # of the step before, as are its rows: an obstacle that drives my way
        ahead = obstacles.ux[lead] * math.cos(fleet.yaw[i]) + obstacles.uy[lead] * math.sin(fleet.yaw[i])
        queue = lead >= 0 and obstacles.thing[lead] == 0 and ahead > 0.3
        for k in range(fleet.count[i]):
            if fleet.start[i, k + 1] < front - 8.0:
                continue
            if fleet.start[i, k] > front + horizon:
                break
            lane = fleet.path[i, k]
            for c in range(roads.crossing_first[lane], roads.crossing_first[lane + 1]):
                asked = people[roads.crossing[c]]
                line = fleet.start[i, k] + roads.crossing_stop[c] - 0.3
                if front > line + 0.4:
                    continue
                braking = 0.5 * v * v / max(line - front, 0.1)
                beyond = fleet.start[i, k] + roads.crossing_end[c] + fleet.tail[i] + 1.0
                if fleet.gap_speed[i] < 1.0 and front + fleet.gap[i] < beyond and braking <= 3.0 and queue:
                    fleet.barrier[i] = min(fleet.barrier[i], line)  # no room behind it: one does not stand on it
                if asked == 0:
                    continue
                if braking <= _CROSSING_BRAKING or (asked == 2 and braking < 9.0):
                    fleet.barrier[i] = min(fleet.barrier[i], line)
            signal = roads.signal[lane]
            if signal >= 0:
                line = fleet.start[i, k + 1]
                if front <= line + 0.2 and (
                    lights[signal] == RED
                    or (lights[signal] == YELLOW and 0.5 * v * v / max(line - _LINE - front, 0.1) <= _YELLOW_BRAKING)
                ):
                    fleet.barrier[i] = min(fleet.barrier[i], line - _LINE)


@njit(cache=True, nogil=True)
def _arrival(distance, v, top, strength):
    """s to cover a distance (m) when accelerating to `top` m/s."""
    if distance <= 0.0:
        return 0.0
    top = max(top, v, 0.5)
    until = 0.5 * (top * top - v * v) / strength
    if distance < until:
        return (math.sqrt(v * v + 2.0 * strength * distance) - v) / strength
    return (top - v) / strength + (distance - until) / top


@njit(cache=True, nogil=True)
def _pace(fleet, roads, i, lane):
    """m/s at which vehicle i takes a lane when free."""
    bend = math.sqrt(fleet.grip[i] / max(roads.bend[lane], 1e-5))
    return min(bend, roads.limit[lane] * fleet.eagerness[i], fleet.top_speed[i])


@njit(cache=True, nogil=True)
def _may_cross(fleet, roads, users, place, count, i, k, c):
    """Whether vehicle i may have the conflict c of the lane that is k-th on its way."""
    lane, other = fleet.path[i, k], roads.conflict_lane[c]
    begin, end = fleet.start[i, k] + roads.conflict_from[c], fleet.start[i, k] + roads.conflict_to[c]
    front, merge = fleet.q[i] + fleet.nose[i], roads.conflict_kind[c] == 1
    top = _pace(fleet, roads, i, lane)
    until = end + (0.6 if merge else 1.0) * fleet.tail[i] - front
    clear = _arrival(until, fleet.v[i], top, 0.8 * fleet.strength[i])
    for u in range(count[other]):
        j, kj = users[other, u], place[other, u]
        if j == i:
            continue
        front_j = fleet.q[j] + fleet.nose[j]
        begin_j = fleet.start[j, kj] + roads.other_from[c]
        end_j = fleet.start[j, kj] + roads.other_to[c]
        if front_j - fleet.tail[j] > end_j:
            continue
        if fleet.grant[j] > begin_j or front_j > begin_j:
            if merge and (end - front) - (end_j - front_j) - fleet.tail[j] > 1.0:
                continue  # it goes first and can be followed
            return False
        if fleet.barrier[j] < begin_j:
            continue
        coming = _arrival(begin_j - front_j, fleet.v[j], _pace(fleet, roads, j, other) + 1.0, fleet.strength[j])
        stuck = fleet.waited[j] > _PATIENCE and fleet.waited[i] > 0.5 * _PATIENCE and not fleet.driven[j]
        rank = roads.conflict_rank[c]
        if rank > 0 or (stuck and (rank == 0 or fleet.waited[j] > 2.0 * _PATIENCE)):
            continue
        slower = max(0.0, fleet.v[j] - max(top, fleet.v[i])) / 2.5 if merge else 0.0
        margin = max(_MARGIN - 0.05 * fleet.waited[i], 0.2)
        if coming > clear + margin + slower:
            continue
        if rank == 0:
            mine = _arrival(begin - front, fleet.v[i], top, fleet.strength[i]) - fleet.waited[i]
            theirs = coming - fleet.waited[j]
            if mine < theirs - 1e-6 or (abs(mine - theirs) <= 1e-6 and i < j):
                continue
        return False
    return True


@njit(cache=True, nogil=True)
def _room_beyond(fleet, obstacles, i, begin, end):
    """Whether vehicle i finds room behind what stands beyond the places that it is about to cross.

    Whoever is still before those places, ahead of it in its own queue, goes first.
    """
    if fleet.lead[i] < 0:
        return True
    rear = fleet.q[i] + fleet.nose[i] + fleet.gap[i]
    owner = obstacles.owner[fleet.lead[i]]
    if rear < begin and owner >= 0:
        return fleet.gap_speed[i] > 1.0 and fleet.hold[owner] == math.inf and fleet.barrier[owner] == math.inf
    if fleet.gap_speed[i] > 2.5:
        return True
    return rear > end + fleet.tail[i] + fleet.min_gap[i] or fleet.waited[i] > 25.0


@njit(cache=True, nogil=True)
def _before_crossings(fleet, roads, i, front, hold):
    """Where to wait instead of a place at which one would stand on a crossing for people."""
    for k in range(lane_at(fleet, i, front), fleet.count[i]):
        if fleet.start[i, k] > hold:
            break
        lane = fleet.path[i, k]
        for c in range(roads.crossing_first[lane], roads.crossing_first[lane + 1]):
            line = fleet.start[i, k] + roads.crossing_stop[c] - 0.3
            if front <= line + 0.2 and line < hold < fleet.start[i, k] + roads.crossing_end[c] + fleet.tail[i]:
                return line
    return hold


@njit(cache=True, nogil=True)
def grant_ways(fleet, roads, obstacles, users, place, count):
    """Sets `grant` and `hold` of every vehicle."""
    for i in range(len(fleet.alive)):
        fleet.hold[i] = math.inf
        if not fleet.alive[i]:
            continue
        front, v, tail = fleet.q[i] + fleet.nose[i], fleet.v[i], fleet.tail[i]
        if fleet.driven[i]:
            # Its driver asks nobody: what it can no longer stop before is its own.
            fleet.grant[i] = front + 0.5 * v * v / 4.0 + 0.3 * v
            continue
        if fleet.grant[i] > fleet.barrier[i] >= front - 0.5:
            fleet.grant[i] = max(fleet.barrier[i], front)  # it stops before the rest: that is free again
        begin, end = math.inf, math.inf
        horizon = 0.5 * v * v / fleet.comfort[i] + 1.5 * v + 15.0
        for k in range(lane_at(fleet, i, front - tail), fleet.count[i]):
            if fleet.start[i, k] > min(end + tail + 2.0, front + horizon + 80.0):
                break
            lane = fleet.path[i, k]
            for c in range(roads.conflict_first[lane], roads.conflict_first[lane + 1]):
                z0, z1 = fleet.start[i, k] + roads.conflict_from[c], fleet.start[i, k] + roads.conflict_to[c]
                if z1 <= fleet.grant[i] or z0 <= fleet.grant[i] or z1 < front - tail:
                    continue
                if begin == math.inf:
                    begin, end = z0, z1
                elif z0 < end + tail + 2.0:
                    begin, end = min(begin, z0), max(end, z1)
        if begin > front + horizon:
            continue
        if front > begin:
            fleet.grant[i] = end  # it is there already
            continue
        allowed = fleet.barrier[i] > begin + 1.0 and _room_beyond(fleet, obstacles, i, begin, end)
        k = lane_at(fleet, i, front - tail)
        while allowed and k < fleet.count[i] and fleet.start[i, k] <= end:
            lane = fleet.path[i, k]
            for c in range(roads.conflict_first[lane], roads.conflict_first[lane + 1]):
                z0, z1 = fleet.start[i, k] + roads.conflict_from[c], fleet.start[i, k] + roads.conflict_to[c]
                inside = z0 >= begin - 1e-6 and z1 <= end + 1e-6
                if inside and not _may_cross(fleet, roads, users, place, count, i, k, c):
                    allowed = False
                    break
            k += 1
        if allowed:
            fleet.grant[i] = end
        else:
            fleet.hold[i] = _before_crossings(fleet, roads, i, front, begin - _HOLD)


@njit(cache=True, nogil=True)
def joining_gap(fleet, roads, users, place, count, i):
    """Gap (m) and speed (m/s) of whom vehicle i has to follow where its lane joins another; inf for nobody."""
    front = fleet.q[i] + fleet.nose[i]
    best, speed = math.inf, 0.0
    for k in range(lane_at(fleet, i, front), fleet.count[i]):
        if fleet.start[i, k] > min(fleet.grant[i], front + 80.0):
            break
        lane = fleet.path[i, k]
        for c in range(roads.conflict_first[lane], roads.conflict_first[lane + 1]):
            if roads.conflict_kind[c] != 1:
                continue
            left = fleet.start[i, k] + roads.conflict_to[c] - front
            if left < 0.0 or fleet.start[i, k] + roads.conflict_from[c] > fleet.grant[i]:
                continue
            other = roads.conflict_lane[c]
            for u in range(count[other]):
                j, kj = users[other, u], place[other, u]
                front_j = fleet.q[j] + fleet.nose[j]
                left_j = fleet.start[j, kj] + roads.other_to[c] - front_j
                holds = fleet.grant[j] > fleet.start[j, kj] + roads.other_from[c]
                if j == i or not holds or left_j >= left or left_j < -fleet.tail[j]:
                    continue
                gap = left - left_j - fleet.tail[j]
                if gap < best:
                    best, speed = gap, fleet.v[j]
    return best, speed
