"""Convex primitives and where a ray enters and leaves each: compiled, in a primitive's own canonical space.

A primitive maps points of the world into its canonical space by an affine map, in which it is one of
- a BLOCK: |z| <= 1, and with u = (z + 1) / 2 (0 at its bottom, 1 at its top)
  -1 + taper[0] u <= x <= 1 - taper[1] u and -1 + taper[2] u <= y <= 1 - taper[3] u;
- a CYLINDER: |z| <= 1, x² + y² <= (1 - taper[0] u)², a cone for taper[0] = 1;
- an ELLIPSOID: the unit ball.
An affine map keeps the parameter of a ray, so that distances found there are those in the world.
"""

from __future__ import annotations

import math
from enum import IntEnum

import numpy as np

from karp_perception.core.compiled import PER_PIXEL, PER_ROW, njit

_PARALLEL = 1e-12


class Kind(IntEnum):
    """What a primitive is in its canonical space."""

    BLOCK = 0
    CYLINDER = 1
    ELLIPSOID = 2


_BLOCK, _CYLINDER = int(Kind.BLOCK), int(Kind.CYLINDER)


def ball_around(kind: np.ndarray, taper: np.ndarray) -> np.ndarray:
    """(P,) squared radius of the ball around each primitive in its canonical space; kind (P,), taper (P, 4)."""
    overhang = np.maximum(1.0 - taper, 1.0)
    wide = 1.0 + np.maximum(overhang[:, 0], overhang[:, 1]) ** 2 + np.maximum(overhang[:, 2], overhang[:, 3]) ** 2
    return np.where(kind == _BLOCK, wide, np.where(kind == _CYLINDER, 1.0 + overhang[:, 0] ** 2, 1.0)) * (1 + 1e-9)


@njit(**PER_PIXEL)
def _clip(near, far, value, rate):
    """The part of [near, far] on which value + t rate <= 0."""
    if rate > _PARALLEL:
        far = min(far, -value / rate)
    elif rate < -_PARALLEL:
        near = max(near, -value / rate)
    elif value > 0.0:
        far = -math.inf
    return near, far


@njit(**PER_PIXEL)
def misses_ball(square, ox, oy, oz, dx, dy, dz):
    """Whether a canonical ray stays outside the ball of that squared radius: a cheap test before the exact one."""
    outside = ox * ox + oy * oy + oz * oz - square
    if outside <= 0.0:
        return False
    along = ox * dx + oy * dy + oz * dz
    return along >= 0.0 or along * along < outside * (dx * dx + dy * dy + dz * dz)


@njit(**PER_ROW)
def enter_and_leave(kind, taper, ox, oy, oz, dx, dy, dz):
    """Ray parameters at which a ray (canonical origin and direction) enters and leaves a primitive.

    A miss is an interval that is empty (entry after exit). Both may be negative: behind the origin.
    """
    near, far = -math.inf, math.inf
    if kind == _BLOCK:
        near, far = _clip(near, far, oz - 1.0, dz)
        near, far = _clip(near, far, -oz - 1.0, -dz)
        k = 0.5 * taper[0]
        near, far = _clip(near, far, -ox - 1.0 + k * (oz + 1.0), -dx + k * dz)
        k = 0.5 * taper[1]
        near, far = _clip(near, far, ox - 1.0 + k * (oz + 1.0), dx + k * dz)
        k = 0.5 * taper[2]
        near, far = _clip(near, far, -oy - 1.0 + k * (oz + 1.0), -dy + k * dz)
        k = 0.5 * taper[3]
        return _clip(near, far, oy - 1.0 + k * (oz + 1.0), dy + k * dz)
    # x² + y² - (r0 + r1 z)² of a cone and x² + y² + z² - 1 of a ball are both a t² + 2 b t + c.
    if kind == _CYLINDER:
        near, far = _clip(near, far, oz - 1.0, dz)
        near, far = _clip(near, far, -oz - 1.0, -dz)
        if near > far:
            return near, far
        r1 = -0.5 * taper[0]
        r, dr = 1.0 + r1 + r1 * oz, r1 * dz
        a = dx * dx + dy * dy - dr * dr
        b = ox * dx + oy * dy - r * dr
        c = ox * ox + oy * oy - r * r
    else:
        r, dr = 1.0, 0.0
        a = dx * dx + dy * dy + dz * dz
        b = ox * dx + oy * dy + oz * dz
        c = ox * ox + oy * oy + oz * oz - 1.0
    if abs(a) < _PARALLEL:
        if abs(b) < _PARALLEL:
            return (near, far) if c <= 0.0 else (math.inf, -math.inf)
        return _clip(near, far, c, 2.0 * b)
    square = b * b - a * c
    if a > 0.0:
        if square < 0.0:
            return math.inf, -math.inf
        root = math.sqrt(square)
        return max(near, (-b - root) / a), min(far, (-b + root) / a)
    # The ray is steeper than the cone: it is inside before the first root or after the second, in one nappe each.
    if square < 0.0:
        return near, far
    root = math.sqrt(square)
    first, second = (-b + root) / a, (-b - root) / a
    if near <= min(far, first) and r + dr * 0.5 * (near + min(far, first)) >= 0.0:
        return near, min(far, first)
    return max(near, second), far


@njit(**PER_ROW)
def canonical_normal(kind, taper, x, y, z):
    """Outward gradient (not of unit length) of a primitive at a canonical point on its surface.

    A normal of the world is the transposed linear part of the affine map times it, normalised.
    """
    if kind == _BLOCK:
        u = 0.5 * (z + 1.0)
        best, nx, ny, nz = abs(z - 1.0), 0.0, 0.0, 1.0
        if abs(z + 1.0) < best:
            best, nz = abs(z + 1.0), -1.0
        gap = abs(x + 1.0 - taper[0] * u)
        if gap < best:
            best, nx, ny, nz = gap, -1.0, 0.0, 0.5 * taper[0]
        gap = abs(1.0 - taper[1] * u - x)
        if gap < best:
            best, nx, ny, nz = gap, 1.0, 0.0, 0.5 * taper[1]
        gap = abs(y + 1.0 - taper[2] * u)
        if gap < best:
            best, nx, ny, nz = gap, 0.0, -1.0, 0.5 * taper[2]
        gap = abs(1.0 - taper[3] * u - y)
        if gap < best:
            nx, ny, nz = 0.0, 1.0, 0.5 * taper[3]
        return nx, ny, nz
    if kind == _CYLINDER:
        r = 1.0 - 0.5 * taper[0] * (z + 1.0)
        if 1.0 - abs(z) < abs(r - math.sqrt(x * x + y * y)):
            return 0.0, 0.0, math.copysign(1.0, z)
        return x, y, 0.5 * taper[0] * r
    return x, y, z


@njit(**PER_PIXEL)
def hash3(a, b, c):
    """A number in [0, 1) from three integers, without pattern for neighbours (mixing of MurmurHash3's finaliser)."""
    h = (a * 73856093) ^ (b * 19349663) ^ (c * 83492791)
    h &= 0xFFFFFFFF
    h ^= h >> 16
    h = (h * 0x85EBCA6B) & 0xFFFFFFFF
    h ^= h >> 13
    h = (h * 0xC2B2AE35) & 0xFFFFFFFF
    h ^= h >> 16
    return h / 4294967296.0
