"""The last resort: whatever drivers misjudge, no vehicle moves into another's place.

Lanes say where middles go, not what long vehicles sweep in tight bends; where two of them meet there, one stands until
the other has gone.
"""

from __future__ import annotations

import math

from numba import njit

from karp_perception.world.traffic.fleet import move


@njit(cache=True, nogil=True)
def move_apart(fleet, roads, obstacles, i, dt):
    """Moves vehicle i by `dt` s, or leaves it standing where its body would come to overlap something with wheels."""
    f = fleet
    q, d, swing = f.q[i], f.d[i], f.swing[i]
    rear_x, rear_y, yaw = f.rear_x[i], f.rear_y[i], f.yaw[i]
    trailer_x, trailer_y, trailer_yaw = f.trailer_x[i], f.trailer_y[i], f.trailer_yaw[i]
    own = -1
    for j in range(obstacles.count[0]):
        if obstacles.owner[j] == i:
            own = j
            break
    move(fleet, roads, i, dt)
    stands = False
    for part in range(2 if f.trailer[i] > 0.0 else 1):
        x, y, ux, uy = _middle(f, i, part)
        half_length = f.trailer_half_length[i] if part else f.half_length[i]
        half_width = f.trailer_half_width[i] if part else f.half_width[i]
        if not part and f.trailer[i] > 0.0:
            half_width = min(half_width, obstacles.half_width[own])
        row = own + part
        for j in range(obstacles.count[0]):
            if obstacles.owner[j] == i or obstacles.thing[j] == 2:
                continue
            if not touches(obstacles, j, x, y, ux, uy, half_length, half_width):
                continue
            was = touches(
                obstacles, j, obstacles.x[row], obstacles.y[row], obstacles.ux[row], obstacles.uy[row],
                half_length, half_width,
            )  # fmt: skip
            if not was:
                stands = True
    if stands:
        f.q[i], f.d[i], f.w[i], f.swing[i], f.v[i], f.a[i] = q, d, 0.0, swing, 0.0, 0.0
        f.rear_x[i], f.rear_y[i], f.yaw[i], f.yaw_rate[i], f.rear_v[i] = rear_x, rear_y, yaw, 0.0, 0.0
        f.trailer_x[i], f.trailer_y[i], f.trailer_yaw[i] = trailer_x, trailer_y, trailer_yaw
        f.trailer_yaw_rate[i], f.trailer_v[i] = 0.0, 0.0
        f.waited[i] += dt
        return
    for part in range(2 if f.trailer[i] > 0.0 else 1):
        row = own + part
        obstacles.x[row], obstacles.y[row], obstacles.ux[row], obstacles.uy[row] = _middle(f, i, part)


@njit(cache=True, nogil=True)
def _middle(fleet, i, part):
    """Middle and direction of a vehicle's body (0) or its trailer (1)."""
    if part:
        c, s = math.cos(fleet.trailer_yaw[i]), math.sin(fleet.trailer_yaw[i])
        ahead = fleet.trailer_middle[i]
        return fleet.trailer_x[i] + ahead * c, fleet.trailer_y[i] + ahead * s, c, s
    c, s = math.cos(fleet.yaw[i]), math.sin(fleet.yaw[i])
    return fleet.rear_x[i] + fleet.middle[i] * c, fleet.rear_y[i] + fleet.middle[i] * s, c, s


@njit(cache=True, nogil=True)
def touches(obstacles, j, x, y, ux, uy, half_length, half_width):
    """Whether a rectangle overlaps an obstacle (separating axes)."""
    o = obstacles
    dx, dy = o.x[j] - x, o.y[j] - y
    reach = half_length + half_width + o.half_length[j] + o.half_width[j]
    if dx * dx + dy * dy > reach * reach:
        return False
    c, s = abs(ux * o.ux[j] + uy * o.uy[j]), abs(ux * o.uy[j] - uy * o.ux[j])
    if abs(dx * ux + dy * uy) > half_length + c * o.half_length[j] + s * o.half_width[j]:
        return False
    if abs(dy * ux - dx * uy) > half_width + s * o.half_length[j] + c * o.half_width[j]:
        return False
    if abs(dx * o.ux[j] + dy * o.uy[j]) > o.half_length[j] + c * half_length + s * half_width:
        return False
    return abs(dy * o.ux[j] - dx * o.uy[j]) <= o.half_width[j] + s * half_length + c * half_width
