"""Where each pixel of a camera meets the ground: terrain, and the steps by which pavements rise above roads.

Roughness of a few millimetres is left out; the image's texture shows it.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from karp_perception.core.compiled import PER_PIXEL, PER_ROW, njit
from karp_perception.world.geometry.ground import Ground, GroundRays, terrain_height
from karp_perception.world.sensors.image_cast import GROUND, KERB_FACE

_NEAR_CELL, _NEAR_SIZE = 0.03, 1280  # m, cells of the raster around the camera
_SNAP = 8.0  # m between the middles of two such rasters
_STEP = 0.05  # growth of a march's steps with distance: finer than any terrain that cameras look along
_KERB_STEP, _KERB_STEPS = 0.25, 5  # m between places at which a ray low over the ground looks for a kerb; at most
_FLAT = 1e-6  # m per m
_PIXELS_APART = 8
_AS_GOOD, _PER_METRE = 0.005, 0.0006  # m of height, and more for each m of distance: a fraction of a pixel
ROWS_TOGETHER = 32
"""Rows that share what they found of the terrain: threads take whole groups of them, so that results never differ."""

height_at = njit(**PER_PIXEL)(terrain_height.py_func)
"""`terrain_height` within the loop that asks for it."""


Corner = tuple[float, float, float]
"""Of a raster: x and y of its corner, m, and cells per m."""


class Relief(NamedTuple):
    """The terrain alone, which is less to hand from function to function; see GroundRays."""

    terrain: np.ndarray
    terrain_x: float
    terrain_y: float
    terrain_cell: float
    steepest: float
    highest: float  # m


class GroundView(NamedTuple):
    """The ground for cameras: GroundRays and three rasters of Surface numbers, (n, n) uint8 each."""

    rays: GroundRays
    near: np.ndarray
    near_at: Corner
    fine: np.ndarray
    fine_at: Corner
    coarse: np.ndarray
    coarse_at: Corner
    relief: Relief


def ground_view(rays: GroundRays, x: float, y: float, ground: Ground | None = None) -> GroundView:
    """What cameras around (x, y), m, need of the ground; without `ground`, edges near by are those of `rays.fine`."""
    fine = (rays.fine, (rays.fine_x, rays.fine_y, 1.0 / rays.fine_cell))
    coarse = (rays.coarse, (rays.coarse_x, rays.coarse_y, 1.0 / rays.coarse_cell))
    relief = Relief(*rays[:6])
    if ground is None:
        return GroundView(rays, *fine, *fine, *coarse, relief)
    half = 0.5 * _NEAR_CELL * _NEAR_SIZE
    left, low = (_SNAP * math.floor(at / _SNAP + 0.5) - half for at in (x, y))
    near = ground.window(left, low, _NEAR_CELL, _NEAR_SIZE)
    return GroundView(rays, near, (left, low, 1.0 / _NEAR_CELL), *fine, *coarse, relief)


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

    Every few pixels the terrain is searched for; between them 1 / distance is interpolated where that is as good.
    `begin` is a multiple of ROWS_TOGETHER. Nothing is met beyond `reach` m. `found` (W,): room to work in.
    """
    width = view.dx.shape[1]
    steepest = g.rays.steepest
    flat = steepest < _FLAT
    below = view.origin[2] - height_at(g.rays, view.origin[0], view.origin[1])
    top = 0.0
    for k in range(len(g.rays.rise)):
        top = max(top, g.rays.rise[k])
    for y in range(end - 1, begin - 1, -1):
        if (y + 1) % ROWS_TOGETHER == 0:
            found[:] = 0.0  # m, where the rays of the row below met the terrain
        last, t1, rising1 = -1, 0.0, 0.0
        for x0 in range(0, width, _PIXELS_APART):
            stop = min(x0 + _PIXELS_APART, width)
            needed = False
            for x in range(x0, stop):
                dz = _world(view, 2, y, x)
                seen = w[y, x]
                limit = min(reach, 1.0 / seen) if seen > 0.0 else reach
                needed = needed or ((steepest - dz) * limit > below - top and dz + 1e-6 < steepest)
            if not needed:
                continue
            smooth, t0, rising0, x1 = True, 0.0, 0.0, min(stop, width - 1)
            if not flat:
                t0, rising0 = (t1, rising1) if last == x0 else _of_pixel(g, view, y, x0, reach, found)
                t1, rising1 = _of_pixel(g, view, y, x1, reach, found)
                last = x1
                middle = (x0 + x1) // 2
                t, rising = _of_pixel(g, view, y, middle, reach, found)
                if t0 <= 0.0 and t1 <= 0.0 and t <= 0.0:
                    continue
                smooth = t0 > 0.0 and t1 > 0.0 and t > 0.0
                if smooth:
                    f = (middle - x0) / max(x1 - x0, 1)
                    fall = max(rising - _world(view, 2, y, middle), 0.01)
                    smooth = abs(t - t0 * t1 / (t1 + f * (t0 - t1))) * fall < _AS_GOOD + _PER_METRE * t
            for x in range(x0, stop):
                dx, dy, dz = _world(view, 0, y, x), _world(view, 1, y, x), _world(view, 2, y, x)
                if dx == 0.0 and dy == 0.0 and dz == 0.0:
                    continue
                if flat:
                    t, rising = below / -dz if dz < -1e-6 else 0.0, 0.0
                elif smooth:
                    f = (x - x0) / max(x1 - x0, 1)
                    t, rising = t0 * t1 / (t1 + f * (t0 - t1)), rising0 + f * (rising1 - rising0)
                else:
                    t, rising = _of_pixel(g, view, y, x, reach, found)
                seen = w[y, x]
                limit = min(reach, 1.0 / seen) if seen > 0.0 else reach
                fall = max(rising - dz, 0.01)
                if t <= 0.0 or t - top / fall > limit:
                    continue
                t, face = _step_up(g, view.origin[0], view.origin[1], dx, dy, t, fall, top)
                if 0.0 < t < limit:
                    w[y, x] = 1.0 / t
                    hit[y, x] = KERB_FACE if face else GROUND


@njit(**PER_PIXEL)
def _world(view, axis, y, x):
    """One coordinate of a pixel's ray in the world's frame."""
    R = view.rotation
    return R[axis, 0] * view.dx[y, x] + R[axis, 1] * view.dy[y, x] + R[axis, 2] * view.dz[y, x]


@njit(**PER_PIXEL)
def _of_pixel(g, view, y, x, reach, found):
    o = view.origin
    dx, dy, dz = _world(view, 0, y, x), _world(view, 1, y, x), _world(view, 2, y, x)
    return _search(g.relief, o[0], o[1], o[2], dx, dy, dz, reach, found, x)


@njit(**PER_ROW)
def _search(relief, ox, oy, oz, dx, dy, dz, reach, found, x):
    """Parameter at which a ray meets the terrain (0: not within reach), and how fast the terrain rises there.

    `found[x]` holds where the ray of the row below did, which is no farther: the search begins there.
    """
    across = math.sqrt(dx * dx + dy * dy)
    falling = -dz + relief.steepest * across
    if falling < 1e-6:
        return 0.0, 0.0
    t = found[x]
    gap = oz + t * dz - height_at(relief, ox + t * dx, oy + t * dy)
    if gap < 0.0:
        t = 0.0
        gap = oz - height_at(relief, ox, oy)
    before, gap_before = t, gap
    least = 0.1 * relief.terrain_cell
    while gap > 0.0:
        if t > reach or (dz >= 0.0 and oz + t * dz > relief.highest):
            found[x] = 0.9 * t
            return 0.0, 0.0
        before, gap_before = t, gap
        t += max(gap / falling, _STEP * t, least)
        gap = oz + t * dz - height_at(relief, ox + t * dx, oy + t * dy)
    # Between `before` and `t` it went below.
    for _ in range(5):
        middle = before + (t - before) * gap_before / max(gap_before - gap, 1e-12)
        at = oz + middle * dz - height_at(relief, ox + middle * dx, oy + middle * dy)
        if at > 0.0:
            before, gap_before = middle, at
        else:
            t, gap = middle, at
        if abs(at) < 1e-4:
            break
    found[x] = 0.9 * t
    beyond = height_at(relief, ox + (t + 0.2) * dx, oy + (t + 0.2) * dy)
    return t, (beyond - height_at(relief, ox + (t - 0.2) * dx, oy + (t - 0.2) * dy)) / 0.4


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
