"""Where each pixel of a camera meets the ground: terrain, and the steps by which pavements rise above roads.

Roughness of a few millimetres is left out; the image's texture shows it.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit

from karp_perception.world.geometry.ground import Ground, GroundRays, terrain_height
from karp_perception.world.sensors.compiled import PER_PIXEL, PER_ROW
from karp_perception.world.sensors.image_cast import GROUND, KERB_FACE

_NEAR_CELL, _NEAR_SIZE = 0.03, 1280  # m, cells of the raster around the camera
_SNAP = 8.0  # m between the middles of two such rasters
_STEP = 0.05  # growth of a march's steps with distance: finer than any terrain that cameras look along
_KERB_STEP, _KERB_STEPS = 0.25, 5  # m between places at which a ray low over the ground looks for a kerb; at most
_FLAT = 1e-6  # m per m
ROWS_TOGETHER = 32
"""Rows that share what they found of the terrain: threads take whole groups of them, so that results never differ."""

height_at = njit(**PER_PIXEL)(terrain_height.py_func)
"""`terrain_height` within the loop that asks for it."""


Corner = tuple[float, float, float]
"""Of a raster: x and y of its corner, m, and cells per m."""


class GroundView(NamedTuple):
    """The ground for cameras: GroundRays and three rasters of Surface numbers, (n, n) uint8 each."""

    rays: GroundRays
    near: np.ndarray
    near_at: Corner
    fine: np.ndarray
    fine_at: Corner
    coarse: np.ndarray
    coarse_at: Corner


def ground_view(rays: GroundRays, x: float, y: float, ground: Ground | None = None) -> GroundView:
    """What cameras around (x, y), m, need of the ground; without `ground`, edges near by are those of `rays.fine`."""
    fine = (rays.fine, (rays.fine_x, rays.fine_y, 1.0 / rays.fine_cell))
    coarse = (rays.coarse, (rays.coarse_x, rays.coarse_y, 1.0 / rays.coarse_cell))
    if ground is None:
        return GroundView(rays, *fine, *fine, *coarse)
    half = 0.5 * _NEAR_CELL * _NEAR_SIZE
    left, low = (_SNAP * math.floor(at / _SNAP + 0.5) - half for at in (x, y))
    near = ground.window(left, low, _NEAR_CELL, _NEAR_SIZE)
    return GroundView(rays, near, (left, low, 1.0 / _NEAR_CELL), *fine, *coarse)


@njit(**PER_PIXEL)
def raster_for(g, x, y, around):
    """The finest raster that has the `around` m around a place, and its corner; the coarsest where none has."""
    raster, at = g.coarse, g.coarse_at
    n = (g.fine.shape[0] - 1) / g.fine_at[2] - 2.0 * around
    if 0.0 <= x - g.fine_at[0] - around <= n and 0.0 <= y - g.fine_at[1] - around <= n:
        raster, at = g.fine, g.fine_at
        n = (g.near.shape[0] - 1) / g.near_at[2] - 2.0 * around
        if 0.0 <= x - g.near_at[0] - around <= n and 0.0 <= y - g.near_at[1] - around <= n:
            raster, at = g.near, g.near_at
    return raster, at


@njit(**PER_PIXEL)
def surface_in(raster, at, x, y):
    """Number of the surface at a place; beyond the raster that of its nearest edge."""
    last = raster.shape[0] - 1
    j, i = int((x - at[0]) * at[2]), int((y - at[1]) * at[2])
    return int(raster[min(max(i, 0), last), min(max(j, 0), last)])


@njit(**PER_ROW)
def meet_ground(g, view, reach, begin, end, w, hit, found):
    """Where the ground is nearer than what `w` (1 / m) and `hit` hold, enter it, in rows begin..end.

    `begin` is a multiple of ROWS_TOGETHER. Nothing is met beyond `reach` m. `found` (W,): room to work in.
    """
    width = view.dx.shape[1]
    R = view.rotation
    ox, oy, oz = view.origin[0], view.origin[1], view.origin[2]
    flat = g.rays.steepest < _FLAT
    below = oz - height_at(g.rays, ox, oy)
    top = 0.0
    for k in range(len(g.rays.rise)):
        top = max(top, g.rays.rise[k])
    for y in range(end - 1, begin - 1, -1):
        if (y + 1) % ROWS_TOGETHER == 0:
            found[:] = 0.0  # m, where the rays of the row below met the terrain
        for x in range(width):
            a, b, c = view.dx[y, x], view.dy[y, x], view.dz[y, x]
            if a == 0.0 and b == 0.0 and c == 0.0:
                continue
            dz = R[2, 0] * a + R[2, 1] * b + R[2, 2] * c
            if dz + 1e-6 >= g.rays.steepest:
                continue
            seen = w[y, x]
            limit = min(reach, 1.0 / seen) if seen > 0.0 else reach
            if -dz * limit < below - top and flat:
                continue  # what the pixel shows, or the end of sight, lies above the ground
            dx = R[0, 0] * a + R[0, 1] * b + R[0, 2] * c
            dy = R[1, 0] * a + R[1, 1] * b + R[1, 2] * c
            if flat:
                t, fall = below / -dz, -dz
            else:
                t, fall = _march(g.rays, ox, oy, oz, dx, dy, dz, found[x], limit + 1.0)
                if t > 0.0:
                    found[x] = 0.9 * t
            if t <= 0.0:
                continue
            t, face = _step_up(g, ox, oy, dx, dy, t, fall, top)
            if 0.0 < t < limit:
                w[y, x] = 1.0 / t
                hit[y, x] = KERB_FACE if face else GROUND


@njit(**PER_PIXEL)
def _march(rays, ox, oy, oz, dx, dy, dz, start, limit):
    """Parameter at which a ray meets the terrain (0: not within `limit`), and how fast it closes in there."""
    t = start
    gap = oz + t * dz - height_at(rays, ox + t * dx, oy + t * dy)
    if gap < 0.0:
        t = 0.0
        gap = oz - height_at(rays, ox, oy)
    across = math.sqrt(dx * dx + dy * dy)
    falling = -dz + rays.steepest * across
    before, gap_before = t, gap
    while gap > 0.0:
        if t > limit:
            return 0.0, 1.0
        before, gap_before = t, gap
        t += max(gap / falling, _STEP * t + 0.02)
        gap = oz + t * dz - height_at(rays, ox + t * dx, oy + t * dy)
    # Between `before` and `t` it went below.
    for _ in range(5):
        middle = before + (t - before) * gap_before / max(gap_before - gap, 1e-12)
        at = oz + middle * dz - height_at(rays, ox + middle * dx, oy + middle * dy)
        if at > 0.0:
            before, gap_before = middle, at
        else:
            t, gap = middle, at
        if abs(at) < 1e-4:
            break
    beyond = height_at(rays, ox + (t + 0.2) * dx, oy + (t + 0.2) * dy)
    rising = (beyond - height_at(rays, ox + (t - 0.2) * dx, oy + (t - 0.2) * dy)) / 0.4
    return t, max(rising - dz, 0.01)


@njit(**PER_PIXEL)
def _step_up(g, ox, oy, dx, dy, t, fall, top):
    """Where the ray that would meet the terrain at t is held up by a surface that lies higher, and whether by its side.

    `fall`: m that the ray comes nearer to the terrain per m of its way.
    """
    first = max(t - top / fall, 0.0)
    raster, at = raster_for(g, ox + first * dx, oy + first * dy, (t - first) * math.sqrt(dx * dx + dy * dy))
    rise = g.rays.rise[surface_in(raster, at, ox + first * dx, oy + first * dy)]
    if rise > 0.8 * top:
        return max(t - rise / fall, 1e-3), False
    across = math.sqrt(dx * dx + dy * dy)
    steps = min(int((t - first) * across / _KERB_STEP) + 1, _KERB_STEPS)
    before = first
    for k in range(1, steps + 1):
        now = first + (t - first) * k / steps
        rise = g.rays.rise[surface_in(raster, at, ox + now * dx, oy + now * dy)]
        if rise > (t - now) * fall + 1e-3:
            if k == steps and rise < 0.3 * top:
                return t - rise / fall, False
            for _ in range(4):
                middle = 0.5 * (before + now)
                held = g.rays.rise[surface_in(raster, at, ox + middle * dx, oy + middle * dy)]
                if held > (t - middle) * fall + 1e-3:
                    now = middle
                else:
                    before = middle
            return now, True
        before = now
    return t, False
