"""Shadows: maps of what the sun sees first, and of what lies so low over the ground that no sky gets under it.

A map looks along a direction: texel (i, j) holds how far up along it the highest thing is. Where planes bound a
primitive, that is a linear function of the texel, so that a map costs far less than an image.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import cv2
import numpy as np

from karp_perception.core.compiled import PER_PIXEL, njit
from karp_perception.world.geometry.ground import GroundRays, terrain_height
from karp_perception.world.geometry.materials import PASSES, Material
from karp_perception.world.geometry.primitives import Kind, hash3
from karp_perception.world.geometry.scene import SceneRays
from karp_perception.world.sensors.outline import inverse

_BLOCK, _CYLINDER = int(Kind.BLOCK), int(Kind.CYLINDER)
_GLASS, _STEAM = int(Material.GLASS), int(Material.STEAM)
_NEAR_CELL, _FAR_CELL, _SIZE = 0.07, 0.32, 512  # m, m, texels of the two maps of the sun
_CONTACT_CELL, _CONTACT_SIZE = 0.1, 400
_CONTACT_REACH = 0.45  # m of clearance at which a body hides a third of the sky
_CONTACT_BLUR = 2.5  # texels
_NOTHING = np.float32(-1e9)
_DOWN = (0.0, 0.0, -1.0)


Vector = tuple[float, float, float]


class ShadowMap(NamedTuple):
    """What one direction sees first."""

    across: Vector  # unit vector of its columns
    along: Vector  # of its rows
    toward: Vector  # of its direction
    column: float  # number of the first column and row: coordinates divided by `cell`
    row: float
    cell: float  # m
    height: np.ndarray  # (n, n) float32 m along `toward`, -1e9 for nothing


class Shadows(NamedTuple):
    """The shadows around a place. `contact` (n, n) float32: share of the sky that bodies hide from the ground."""

    near: ShadowMap
    far: ShadowMap
    contact: np.ndarray
    contact_x: float  # m, corner
    contact_y: float
    contact_cell: float


def cast_shadows(scene: SceneRays, ground: GroundRays, center: np.ndarray, sun: Vector, shining: bool) -> Shadows:
    """Shadows around `center` (3,) m.

    Args:
        scene, ground: of `Scene.rays`.
        center: (3,) m, in the world's frame.
        sun: unit vector towards the sun.
        shining: whether it casts shadows at all.
    """
    size = _SIZE if shining else 1
    near = _map(scene, center, sun, _NEAR_CELL, size)
    far = _map(scene, center, sun, _FAR_CELL, size)
    under = _map(scene, center, _DOWN, _CONTACT_CELL, _CONTACT_SIZE)
    hidden = _hidden_sky(under, ground)
    hidden = cv2.GaussianBlur(hidden, (0, 0), _CONTACT_BLUR)
    # Columns of a map that looks down run along x, its rows along y.
    return Shadows(near, far, hidden, under.column * under.cell, under.row * under.cell, under.cell)


def _map(scene: SceneRays, center: np.ndarray, toward: Vector, cell: float, size: int) -> ShadowMap:
    if abs(toward[2]) > 0.999:
        across, along = np.array([1.0, 0.0, 0.0]), np.array([0.0, 1.0, 0.0])
    else:
        across = np.array([-toward[1], toward[0], 0.0]) / math.hypot(toward[0], toward[1])
        along = np.cross(np.asarray(toward), across)
    # Whole texels: a shadow's edge does not crawl while the camera moves.
    column = math.floor(float(across @ center) / cell) - size // 2
    row = math.floor(float(along @ center) / cell) - size // 2
    height = np.full((size, size), _NOTHING, np.float32)
    axes = (tuple(float(c) for c in axis) for axis in (across, along, toward))
    found = ShadowMap(*axes, float(column), float(row), cell, height)
    if size > 1:
        _draw(scene, found)
    return found


@njit(cache=True, nogil=True)
def _draw(scene, m):
    n = m.height.shape[0]
    reach = n * m.cell
    u0, v0 = m.column * m.cell, m.row * m.cell
    U, V, S = m.across, m.along, m.toward
    coefficient = np.empty((8, 3), np.float32)
    top, bottom = np.empty(n, np.float32), np.empty(n, np.float32)
    for b in range(len(scene.owner)):
        mx, my, mz = scene.middle[b, 0], scene.middle[b, 1], 0.5 * (scene.top[b] + scene.bottom[b])
        tall = 0.5 * (scene.top[b] - scene.bottom[b])
        ball = math.sqrt(scene.reach[b] * scene.reach[b] + tall * tall)
        u = U[0] * mx + U[1] * my + U[2] * mz - u0
        v = V[0] * mx + V[1] * my + V[2] * mz - v0
        if u < -ball or u > reach + ball or v < -ball or v > reach + ball:
            continue
        for p in range(scene.first[b], scene.first[b + 1]):
            A, kind, taper = scene.affine[p], scene.kind[p], scene.taper[p]
            if scene.material[p] == _STEAM:
                continue
            # Canonical point of a texel at height h: o + i u + j v + h s.
            i0, i1, i2 = _turn(A, U)
            j0, j1, j2 = _turn(A, V)
            s0, s1, s2 = _turn(A, S)
            x0, y0, w0 = u0 + 0.5 * m.cell, v0 + 0.5 * m.cell, 0.0
            o0 = A[0, 3] + i0 * x0 + j0 * y0 + s0 * w0
            o1 = A[1, 3] + i1 * x0 + j1 * y0 + s1 * w0
            o2 = A[2, 3] + i2 * x0 + j2 * y0 + s2 * w0
            # Rectangle around it: the extent of its canonical cube, whose top may overhang.
            a, b1, c, d, e, f, _, _, _ = inverse(i0, j0, s0, i1, j1, s1, i2, j2, s2)
            e0, e1 = 1.0, 1.0
            if kind == _BLOCK:
                e0 = max(1.0, 1.0 - taper[0], 1.0 - taper[1])
                e1 = max(1.0, 1.0 - taper[2], 1.0 - taper[3])
            cu, cv = -(a * o0 + b1 * o1 + c * o2), -(d * o0 + e * o1 + f * o2)
            eu, ev = e0 * abs(a) + e1 * abs(b1) + abs(c), e0 * abs(d) + e1 * abs(e) + abs(f)
            first, last = math.ceil((cu - eu) / m.cell), math.floor((cu + eu) / m.cell)
            low, high = math.ceil((cv - ev) / m.cell), math.floor((cv + ev) / m.cell)
            first, last, low, high = max(first, 0), min(last, n - 1), max(low, 0), min(high, n - 1)
            count = last - first + 1
            if count <= 0 or low > high:
                continue
            through = 0.0 if scene.material[p] == _GLASS else PASSES[scene.material[p]]
            i0, i1, i2, j0, j1, j2 = i0 * m.cell, i1 * m.cell, i2 * m.cell, j0 * m.cell, j1 * m.cell, j2 * m.cell
            planes = 6 if kind == _BLOCK else (2 if kind == _CYLINDER else 0)
            ups, downs = 0, 7
            for k in range(planes):
                nx, ny, nz, g = 0.0, 0.0, 1.0, -1.0
                if k == 1:
                    nz = -1.0
                elif k > 1:
                    nz = 0.5 * taper[k - 2]
                    g += nz
                    nx = -1.0 if k == 2 else (1.0 if k == 3 else 0.0)
                    ny = -1.0 if k == 4 else (1.0 if k == 5 else 0.0)
                rate = nx * s0 + ny * s1 + nz * s2
                rate = rate if abs(rate) > 1e-6 else 1e-6
                row = ups if rate > 0.0 else downs
                coefficient[row, 0] = -(nx * o0 + ny * o1 + nz * o2 + g) / rate
                coefficient[row, 1] = -(nx * i0 + ny * i1 + nz * i2) / rate
                coefficient[row, 2] = -(nx * j0 + ny * j1 + nz * j2) / rate
                if rate > 0.0:
                    ups += 1
                else:
                    downs -= 1
            for y in range(low, high + 1):
                top[:count], bottom[:count] = np.float32(1e9), _NOTHING
                if kind != _BLOCK:
                    _round_row(
                        kind, taper[0], o0 + y * j0 + first * i0, o1 + y * j1 + first * i1, o2 + y * j2 + first * i2,
                        i0, i1, i2, s0, s1, s2, count, top, bottom,
                    )  # fmt: skip
                for k in range(8):
                    if k < ups or k > downs:
                        start = np.float32(coefficient[k, 0] + coefficient[k, 2] * y + coefficient[k, 1] * first)
                        _bound_row(start, coefficient[k, 1], k < ups, count, top, bottom)
                if scene.density[p] > 0.0 or through > 0.0:
                    for x in range(count):
                        length = max(top[x] - bottom[x], 0.0)
                        passed = math.exp(-scene.density[p] * length) if scene.density[p] > 0.0 else through
                        if hash3(int(m.column) + first + x, int(m.row) + y, 77) < passed:
                            top[x] = _NOTHING
                kept = m.height[y, first : last + 1]
                for x in range(count):
                    better = top[x] > bottom[x] and top[x] > kept[x]
                    kept[x] = top[x] if better else kept[x]


@njit(cache=True, nogil=True, inline="always")
def _turn(A, d):
    return (
        A[0, 0] * d[0] + A[0, 1] * d[1] + A[0, 2] * d[2],
        A[1, 0] * d[0] + A[1, 1] * d[1] + A[1, 2] * d[2],
        A[2, 0] * d[0] + A[2, 1] * d[1] + A[2, 2] * d[2],
    )


@njit(cache=True, nogil=True)
def _bound_row(start, rate, upper, count, top, bottom):
    if upper:
        for x in range(count):
            value = start + rate * np.float32(x)
            top[x] = value if value < top[x] else top[x]
    else:
        for x in range(count):
            value = start + rate * np.float32(x)
            bottom[x] = value if value > bottom[x] else bottom[x]


@njit(cache=True, nogil=True)
def _round_row(kind, taper, o0, o1, o2, i0, i1, i2, s0, s1, s2, count, top, bottom):
    r1 = -0.5 * taper if kind == _CYLINDER else 0.0
    for x in range(count):
        a0, a1, a2 = o0 + x * i0, o1 + x * i1, o2 + x * i2
        if kind == _CYLINDER:
            r, dr = 1.0 + r1 + r1 * a2, r1 * s2
            a = s0 * s0 + s1 * s1 - dr * dr
            b = a0 * s0 + a1 * s1 - r * dr
            c = a0 * a0 + a1 * a1 - r * r
        else:
            a = s0 * s0 + s1 * s1 + s2 * s2
            b = a0 * s0 + a1 * s1 + a2 * s2
            c = a0 * a0 + a1 * a1 + a2 * a2 - 1.0
        square = b * b - a * c
        if abs(a) < 1e-12:  # along a cylinder's own axis: its ends bound it
            if c > 0.0:
                top[x] = _NOTHING
        elif a < 0.0:  # steeper than the cone: inside below its side, for ever
            if square > 0.0 and s2 > 0.0:
                top[x] = (math.sqrt(square) - b) / a
            elif square > 0.0:
                bottom[x] = (-math.sqrt(square) - b) / a
        elif square <= 0.0:
            top[x] = _NOTHING
        else:
            root = math.sqrt(square)
            top[x], bottom[x] = (root - b) / a, (-root - b) / a


@njit(cache=True, nogil=True)
def _hidden_sky(under, ground):
    n = under.height.shape[0]
    hidden = np.zeros((n, n), np.float32)
    for i in range(n):
        y = (under.row + i + 0.5) * under.cell
        for j in range(n):
            if under.height[i, j] > -1e8:
                x = (under.column + j + 0.5) * under.cell
                clearance = -under.height[i, j] - terrain_height(ground, x, y)
                if clearance < 4.0 * _CONTACT_REACH:
                    hidden[i, j] = math.exp(-max(clearance, 0.0) / _CONTACT_REACH)
    return hidden


@njit(**PER_PIXEL)
def _lit(m, x, y, z, lift):
    """Share of the sun that comes to a place, by four texels; -1 outside the map."""
    n = m.height.shape[0]
    u = (m.across[0] * x + m.across[1] * y + m.across[2] * z) / m.cell - m.column - 0.5
    v = (m.along[0] * x + m.along[1] * y + m.along[2] * z) / m.cell - m.row - 0.5
    j, i = math.floor(u), math.floor(v)
    if i < 0 or j < 0 or i >= n - 1 or j >= n - 1:
        return -1.0
    h = m.toward[0] * x + m.toward[1] * y + m.toward[2] * z + lift
    a, b = int(i), int(j)
    f, g = u - j, v - i
    low = (1.0 - f) * (m.height[a, b] < h) + f * (m.height[a, b + 1] < h)
    high = (1.0 - f) * (m.height[a + 1, b] < h) + f * (m.height[a + 1, b + 1] < h)
    return low + g * (high - low)


@njit(**PER_PIXEL)
def sun_reaching(shadows, x, y, z, nx, ny, nz):
    """Share 0..1 of the sun's light that reaches a place on a body with that normal; (0, 0, 0) on the ground."""
    # A little off a body's surface, so that it does not shade itself; the ground is in no map.
    near = shadows.near
    own = nx * nx + ny * ny + nz * nz
    off = 1.2 * near.cell
    lit = _lit(near, x + off * nx, y + off * ny, z + off * nz, 0.04 * own)
    if lit < 0.0:
        off = 1.2 * shadows.far.cell
        lit = _lit(shadows.far, x + off * nx, y + off * ny, z + off * nz, 0.15 * own)
    return lit if lit >= 0.0 else 1.0


@njit(**PER_PIXEL)
def sky_hidden(shadows, x, y):
    """Share 0..1 of the sky that bodies hide from the ground at a place."""
    n = shadows.contact.shape[0]
    u = (x - shadows.contact_x) / shadows.contact_cell - 0.5
    v = (y - shadows.contact_y) / shadows.contact_cell - 0.5
    j, i = math.floor(u), math.floor(v)
    if i < 0 or j < 0 or i >= n - 1 or j >= n - 1:
        return 0.0
    a, b = int(i), int(j)
    f, g = u - j, v - i
    c = shadows.contact
    low = c[a, b] + f * (c[a, b + 1] - c[a, b])
    high = c[a + 1, b] + f * (c[a + 1, b + 1] - c[a + 1, b])
    return low + g * (high - low)
