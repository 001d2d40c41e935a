"""Where there is room: for a vehicle to appear, for people to set foot on a road."""

from __future__ import annotations

import math

from karp_perception.core.compiled import njit
from karp_perception.world.traffic.guard import touches
from karp_perception.world.traffic.network import place_on, project_on


@njit(cache=True, nogil=True)
def overlaps(obstacles, x, y, ux, uy, half_length, half_width):
    """Whether a rectangle overlaps any obstacle (separating axes)."""
    for j in range(obstacles.count[0]):  # noqa: SIM110 - compiled code knows no any()
        if touches(obstacles, j, x, y, ux, uy, half_length, half_width):
            return True
    return False


@njit(cache=True, nogil=True)
def lane_of(roads, route, x, y, ux, uy, share):
    """The lane that a place with a heading is in (of the route rather than another), m along it and to the left."""
    best, best_s, best_d, best_off = -1, 0.0, 0.0, math.inf
    for lane in range(len(roads.length)):
        a = roads.first[lane]
        reach = roads.length[lane] + roads.width[lane]
        if abs(roads.x[a] - x) > reach or abs(roads.y[a] - y) > reach:
            continue
        s, d = project_on(roads, lane, x, y)
        if s < 0.0 or s > roads.length[lane] or abs(d) > share * roads.width[lane]:
            continue
        _, _, tx, ty = place_on(roads, lane, s, 0.0)
        if tx * ux + ty * uy < 0.5:
            continue
        off = abs(d) + 1.5 * (1.0 - (tx * ux + ty * uy))
        for r in route:
            if r == lane:
                off -= 1.0
        if off < best_off:
            best, best_s, best_d, best_off = lane, s, d, off
    return best, best_s, best_d


@njit(cache=True, nogil=True)
def crossing_is_clear(fleet, roads, users, place, count, crossing, duration, given_way):
    """Whether people may set foot on a crossing (its row) for `duration` s: none on it, who comes stops or is far.

    `given_way`: they count on those stopping who comfortably can.
    """
    for lane in range(len(roads.length)):
        for c in range(roads.crossing_first[lane], roads.crossing_first[lane + 1]):
            if roads.crossing[c] != crossing:
                continue
            for u in range(count[lane]):
                i, k = users[lane, u], place[lane, u]
                front, v = fleet.q[i] + fleet.nose[i], fleet.v[i]
                line = fleet.start[i, k] + roads.crossing_stop[c] - 0.3
                if front - fleet.tail[i] > fleet.start[i, k] + roads.crossing_end[c]:
                    continue
                if front > line + 0.5:
                    if front < fleet.start[i, k] + roads.crossing_end[c] + 1.0 or v > 0.3:
                        return False
                    continue
                rest = max(line - front, 0.1)
                if fleet.barrier[i] <= line + 0.5 and 0.5 * v * v / rest < 3.0:
                    continue  # it stops
                if v < 0.3 and given_way:
                    continue
                if given_way and 0.5 * v * v / rest < 2.5:
                    continue
                if rest / max(v, 2.0) < duration + 1.5:
                    return False
    return True


@njit(cache=True, nogil=True)
def blocks(obstacles, x, y, ux, uy):
    """A step and a half ahead something with wheels, or something that will be there within half a second."""
    o = obstacles
    for j in range(o.count[0]):
        if o.thing[j] > 1:
            continue
        for k in range(3):
            t = 0.25 * k
            px, py = x + (0.4 + 0.4 * k) * ux, y + (0.4 + 0.4 * k) * uy
            dx, dy = px - o.x[j] - t * o.vx[j], py - o.y[j] - t * o.vy[j]
            along, across = abs(dx * o.ux[j] + dy * o.uy[j]), abs(dy * o.ux[j] - dx * o.uy[j])
            if along < o.half_length[j] + 0.45 and across < o.half_width[j] + 0.45:
                return True
    return False


@njit(cache=True, nogil=True)
def way_is_clear(obstacles, x0, y0, x1, y1, duration):
    """Whether nothing with wheels, going on as it does, comes near who walks from one place to the other."""
    o = obstacles
    for step in range(int(duration / 0.25) + 7):
        t = 0.25 * step
        u = min(t / duration, 1.0)
        x, y = x0 + u * (x1 - x0), y0 + u * (y1 - y0)
        for j in range(o.count[0]):
            if o.thing[j] > 1:
                continue
            dx, dy = x - o.x[j] - t * o.vx[j], y - o.y[j] - t * o.vy[j]
            speed = math.sqrt(o.vx[j] ** 2 + o.vy[j] ** 2)
            along, across = dx * o.ux[j] + dy * o.uy[j], abs(dy * o.ux[j] - dx * o.uy[j])
            if (
                -o.half_length[j] - 1.0 < along < o.half_length[j] + 1.0 + 1.5 * speed
                and across < o.half_width[j] + 1.2
            ):
                return False
    return True
