"""Changing lanes, and passing bicycles within a lane.

MOBIL: Kesting, Treiber, Helbing: General lane-changing model MOBIL for car-following models, Transportation Research
Record 1999 (2007).
"""

from __future__ import annotations

import math

from karp_perception.core.compiled import njit
from karp_perception.world.traffic.fleet import lane_at
from karp_perception.world.traffic.following import following_acceleration
from karp_perception.world.traffic.network import project_on
from karp_perception.world.traffic.sight import first_ahead, on_way

_REST = 5.0  # s between two changes
_SLOWEST = 2.0  # m/s, below which one only changes where the lane ends
_KEEP_CLEAR = 45.0  # m before the end of a lane that goes on, within which nobody changes
_ENDING = 250.0  # m before the end of a lane that does not go on, from where its drivers want to leave it
_KEEP_RIGHT = 0.15  # m/s² by which the right lane is preferred
_PASSING_ROOM = 0.9  # m between a bicycle and whoever passes it
_FIXED_ROOM = 0.3  # m between what stands and whoever passes it
_BEFORE_STOPS = 15.0  # m that one is back in line before whatever one may have to stop for
_OVERFLOW = 0.9  # m by which one may leave one's lane to pass a bicycle
_NEAR, _STEP_OVER = 6.0, 2.2  # m, s of its speed: how far ahead a bicycle is when one pulls out


@njit(cache=True, nogil=True)
def lane_ends(roads, lane):
    """Whether a lane stops while the one beside it goes on."""
    if roads.next_first[lane + 1] > roads.next_first[lane]:
        return False
    for beside in (roads.left[lane], roads.right[lane]):
        if beside >= 0 and roads.next_first[beside + 1] > roads.next_first[beside]:
            return True
    return False


@njit(cache=True, nogil=True)
def _acceleration(fleet, roads, i, lane, gap, speed):
    wanted = min(roads.limit[lane] * fleet.eagerness[i], fleet.top_speed[i])
    return following_acceleration(
        fleet.v[i], wanted, gap, speed, fleet.headway[i], fleet.min_gap[i], fleet.strength[i], fleet.comfort[i]
    )


@njit(cache=True, nogil=True)
def _neighbours(fleet, users, place, count, lane, front, rear, i):
    """Rows of who is ahead of `front` and behind `rear` (m along a lane), -1 for nobody, with their gaps (m).

    A gap below zero: somebody is alongside.
    """
    ahead, behind, gap_ahead, gap_behind = -1, -1, math.inf, math.inf
    middle = 0.5 * (front + rear)
    for u in range(count[lane]):
        j, kj = users[lane, u], place[lane, u]
        if j == i:
            continue
        front_j = fleet.q[j] + fleet.nose[j] - fleet.start[j, kj]
        rear_j = front_j - fleet.tail[j]
        if 0.5 * (front_j + rear_j) >= middle:
            if rear_j - front < gap_ahead:
                ahead, gap_ahead = j, rear_j - front
        elif rear - front_j < gap_behind:
            behind, gap_behind = j, rear - front_j
    return ahead, behind, gap_ahead, gap_behind


@njit(cache=True, nogil=True)
def _beside_free(fleet, roads, obstacles, i, lane, s):
    """Whether nothing at all stands or drives in a lane beside vehicle i, some metres before and behind it too."""
    o = obstacles
    for j in range(o.count[0]):
        if o.owner[j] == i:
            continue
        radius = math.sqrt(o.half_length[j] ** 2 + o.half_width[j] ** 2)
        dx, dy = o.x[j] - fleet.rear_x[i], o.y[j] - fleet.rear_y[i]
        if math.sqrt(dx * dx + dy * dy) > radius + fleet.tail[i] + 25.0:
            continue
        sj, dj = project_on(roads, lane, o.x[j], o.y[j])
        if abs(dj) - o.half_width[j] > 0.5 * roads.width[lane]:
            continue
        front = s + fleet.nose[i] + 3.0
        if sj + o.half_length[j] > front - fleet.tail[i] - 6.0 and sj - o.half_length[j] < front:
            return False
    return True


@njit(cache=True, nogil=True)
def _clear_of_crossing_ways(fleet, roads, i, lane, s):
    """Whether neither its body nor the next metres of a lane lie where other ways cross."""
    reach = max(25.0, 3.0 * fleet.v[i])
    for c in range(roads.conflict_first[lane], roads.conflict_first[lane + 1]):
        if roads.conflict_to[c] > s - fleet.tail[i] and roads.conflict_from[c] < s + reach:
            return False
    return True


@njit(cache=True, nogil=True)
def change_lane(fleet, roads, obstacles, users, place, count, i, safe_braking, politeness, gain):
    """Lets vehicle i change lanes where that gains it something and costs nobody too much; True when it does."""
    if fleet.kind[i] == 3 or fleet.since[i] < _REST or fleet.passing[i] or abs(fleet.d[i] - fleet.line[i]) > 0.4:
        return False
    k = lane_at(fleet, i, fleet.q[i])
    lane = fleet.path[i, k]
    s = fleet.q[i] - fleet.start[i, k]
    rest = roads.length[lane] - s
    ending = lane_ends(roads, lane)
    if (not ending and (rest < _KEEP_CLEAR or fleet.v[i] < _SLOWEST)) or s < fleet.tail[i] + 2.0:
        return False
    urge = 4.0 * max(0.0, 1.0 - rest / _ENDING) if ending else 0.0
    now = _acceleration(fleet, roads, i, lane, fleet.gap[i], fleet.gap_speed[i])
    best, best_lane = gain, -1
    for side in range(2):
        beside = roads.left[lane] if side == 0 else roads.right[lane]
        if beside < 0 or roads.bike[beside] or lane_ends(roads, beside):
            continue
        if fleet.kind[i] == 1 and side == 0 and roads.left[beside] < 0 and roads.right[lane] >= 0 and not ending:
            continue  # heavy ones keep out of the leftmost of three
        x, y, _, _ = on_way(fleet, roads, i, fleet.q[i], fleet.d[i])
        t, _ = project_on(roads, beside, x, y)
        if t < fleet.tail[i] or t > roads.length[beside] - 5.0:
            continue
        if not _clear_of_crossing_ways(fleet, roads, i, beside, t):
            continue
        front, rear = t + fleet.nose[i], t + fleet.nose[i] - fleet.tail[i]
        ahead, behind, gap_ahead, gap_behind = _neighbours(fleet, users, place, count, beside, front, rear, i)
        if gap_ahead < fleet.min_gap[i] or gap_behind < 2.0 + 0.3 * (fleet.v[behind] if behind >= 0 else 0.0):
            continue
        mine = _acceleration(fleet, roads, i, beside, gap_ahead, fleet.v[ahead] if ahead >= 0 else 0.0)
        theirs = 0.0
        if behind >= 0:
            after = _acceleration(fleet, roads, behind, beside, gap_behind, fleet.v[i])
            if after < -(safe_braking + 0.5 * urge):
                continue
            if gap_ahead < math.inf:
                free = gap_ahead + fleet.tail[i] + gap_behind
                theirs = after - _acceleration(fleet, roads, behind, beside, free, fleet.v[ahead])
            else:
                theirs = after - _acceleration(fleet, roads, behind, beside, math.inf, 0.0)
        if mine < -(safe_braking + 0.5 * urge):
            continue
        won = (
            mine - now + (0.0 if ending else politeness) * theirs + urge + (_KEEP_RIGHT if side == 1 else -_KEEP_RIGHT)
        )
        if won > best and _beside_free(fleet, roads, obstacles, i, beside, t):
            best, best_lane = won, beside
    if best_lane < 0:
        return False
    x, y, _, _ = on_way(fleet, roads, i, fleet.q[i], fleet.d[i])
    t, d = project_on(roads, best_lane, x, y)
    fleet.blinker[i] = 1 if best_lane == roads.left[lane] else -1
    fleet.path[i, 0], fleet.count[i] = best_lane, 1
    fleet.start[i, 0], fleet.start[i, 1] = 0.0, roads.length[best_lane]
    fleet.q[i], fleet.d[i], fleet.goal[i] = t, d, fleet.line[i]
    fleet.grant[i], fleet.since[i], fleet.passing[i] = t + fleet.nose[i], 0.0, 0
    return True


@njit(cache=True, nogil=True)
def courtesy_gap(fleet, roads, users, place, count, i):
    """Gap (m) and speed (m/s) of whoever has to leave the lane beside that ends, and is ahead; inf for nobody."""
    k = lane_at(fleet, i, fleet.q[i])
    lane = fleet.path[i, k]
    best, speed = math.inf, 0.0
    for side in range(2):
        beside = roads.left[lane] if side == 0 else roads.right[lane]
        if beside < 0 or not lane_ends(roads, beside) or count[beside] == 0:
            continue
        x, y, _, _ = on_way(fleet, roads, i, fleet.q[i], fleet.d[i])
        s, _ = project_on(roads, beside, x, y)
        front = s + fleet.nose[i]
        for u in range(count[beside]):
            j, kj = users[beside, u], place[beside, u]
            front_j = fleet.q[j] + fleet.nose[j] - fleet.start[j, kj]
            gap = front_j - fleet.tail[j] - front
            near = -0.5 * fleet.tail[j] < gap < min(best, 80.0) and front_j > 0.0
            if near and roads.length[beside] - front_j < _ENDING:
                best, speed = max(gap, 1.0), fleet.v[j]
    return best, speed


@njit(cache=True, nogil=True)
def _nothing_to_stop_for(fleet, roads, i, k, reach):
    """Whether no light, crossing or other lane's way lies on the next `reach` m of a way, from its k-th lane on."""
    front, rear = fleet.q[i] + reach, fleet.q[i] + fleet.nose[i] - fleet.tail[i]
    for m in range(k, fleet.count[i]):
        start, lane = fleet.start[i, m], fleet.path[i, m]
        if start > front:
            break
        if roads.signal[lane] >= 0 and fleet.start[i, m + 1] < front:
            return False
        for c in range(roads.crossing_first[lane], roads.crossing_first[lane + 1]):
            if rear < start + roads.crossing_stop[c] < front:
                return False
        for c in range(roads.conflict_first[lane], roads.conflict_first[lane + 1]):
            if start + roads.conflict_from[c] < front and start + roads.conflict_to[c] > rear:
                return False
    return True


@njit(cache=True, nogil=True)
def pass_within_lane(fleet, roads, obstacles, i):
    """Decides whether vehicle i goes round the bicycle (or standing thing) ahead by leaving its line; sets its goal.

    It does where the room between it and the far edge of its lane suffices and whatever comes towards it is far enough,
    and goes back when it has all of them behind it.
    """
    o = obstacles
    if fleet.passing[i]:
        # What would be ahead if it went back, then what is beside it: seen along the lane, not along its own heading.
        reach = _NEAR + 5.0 + (_STEP_OVER + 0.3) * fleet.v[i]
        _, _, ahead, _ = first_ahead(fleet, roads, o, i, fleet.line[i], reach, -1)
        if ahead >= 0 and (o.thing[ahead] == 1 or o.thing[ahead] == 3):
            return
        fx, fy, c, s = on_way(fleet, roads, i, fleet.q[i], fleet.d[i])
        shift = fleet.line[i] - fleet.d[i]
        for j in range(o.count[0]):
            if o.owner[j] == i or o.thing[j] == 0 or o.thing[j] == 2:
                continue
            dx, dy = o.x[j] - fx, o.y[j] - fy
            along, across = dx * c + dy * s, dy * c - dx * s
            back = fleet.nose[i] - fleet.tail[i] - 2.0 - o.half_length[j]
            room = fleet.half_width[i] + o.half_width[j] + (0.6 if o.thing[j] == 1 else 0.25)
            if back < along < fleet.nose[i] + 11.0 + o.half_length[j] and abs(across - shift) < room:
                return
        fleet.passing[i], fleet.goal[i], fleet.since[i] = 0, fleet.line[i], 0.0
        return
    lead = fleet.lead[i]
    if lead < 0 or fleet.since[i] < 3.0:
        return
    thing = o.thing[lead]
    if (
        (thing != 1 and thing != 3)
        or (fleet.kind[i] == 3 and thing != 3)
        or fleet.gap[i] > _NEAR + _STEP_OVER * fleet.v[i]
    ):
        return
    k = lane_at(fleet, i, fleet.q[i])
    lane = fleet.path[i, k]
    wanted = min(roads.limit[lane] * fleet.eagerness[i], fleet.top_speed[i])
    if fleet.gap_speed[i] > 0.75 * wanted or abs(fleet.d[i] - fleet.line[i]) > 0.5:
        return
    time = (max(fleet.gap[i], 0.0) + fleet.tail[i] + 14.0) / max(wanted - fleet.gap_speed[i], 2.0)
    needed = fleet.gap[i] + max(fleet.gap_speed[i], 0.0) * time + fleet.tail[i] + 12.0
    if fleet.q[i] + fleet.nose[i] + needed > min(fleet.barrier[i], fleet.hold[i], fleet.start[i, fleet.count[i]]):
        return
    if not _nothing_to_stop_for(fleet, roads, i, k, needed + _BEFORE_STOPS):
        return
    _, _, _, side = first_ahead(fleet, roads, o, i, fleet.line[i], fleet.gap[i] + 5.0, -1)
    goal = side + o.half_width[lead] + fleet.half_width[i] + (_PASSING_ROOM if thing == 1 else _FIXED_ROOM)
    goal = max(goal, fleet.line[i])
    edge = 0.5 * roads.width[lane]
    over = goal + fleet.half_width[i] - edge
    if over > _OVERFLOW and roads.left[lane] < 0:
        return
    if over > 0.1 and thing == 1 and fleet.gap_speed[i] < 1.0:
        return  # it waits for something: so does one behind it, rather than in the way of others
    if over > edge:
        return
    gap, speed, _, _ = first_ahead(fleet, roads, o, i, goal, needed + time * 25.0, lead)
    if gap < math.inf:
        towards = max(0.0, -speed) * time
        if gap < needed + towards + 10.0 - max(0.0, speed) * time:
            return
    if (
        over > 0.1
        and roads.left[lane] >= 0
        and not _beside_free(fleet, roads, o, i, roads.left[lane], fleet.q[i] - fleet.start[i, k])
    ):
        return
    fleet.passing[i], fleet.goal[i] = 1, goal
