"""Where in an image a primitive can be: rows, and in each row columns, around the box that holds it."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from karp_perception.core.compiled import PER_PIXEL, PER_ROW, njit
from karp_perception.world.geometry.primitives import Kind

_BLOCK = int(Kind.BLOCK)
_NEAR_PLANE = 0.05  # m before the camera, nothing nearer is drawn
_FISHEYE_LIMIT = 2.6  # rad off the axis from which on an outline may run around the back of the camera
_EDGES = np.array(
    [(0, 1), (1, 3), (3, 2), (2, 0), (4, 5), (5, 7), (7, 6), (6, 4), (0, 4), (1, 5), (2, 6), (3, 7)], np.int64
)  # of a box whose corners are numbered z y x
_FISHEYE_SAMPLES = 5  # points per edge


class View(NamedTuple):
    """A camera at a place, for compiled code."""

    origin: np.ndarray  # (3,) m, in the world's frame
    rotation: np.ndarray  # (3, 3) from the optical frame into the world's
    focal_x: float  # px
    focal_y: float
    center_x: float  # px
    center_y: float
    fisheye: bool
    lens: np.ndarray  # (4,) k1..k4 of an equidistant lens
    widest: float  # rad, largest angle between a pixel's ray and the axis
    dx: np.ndarray  # (H, W) float32: unit vectors along the pixels' rays in the optical frame; 0 where no light falls
    dy: np.ndarray
    dz: np.ndarray


@njit(**PER_ROW)
def project(view, x, y, z):
    """Pixel (u, v) of a point of the optical frame; z > 0 for a pinhole."""
    if not view.fisheye:
        return view.focal_x * x / z + view.center_x, view.focal_y * y / z + view.center_y
    r = math.sqrt(x * x + y * y)
    angle = math.atan2(r, z)
    s, k = angle * angle, view.lens
    scale = angle * (1.0 + s * (k[0] + s * (k[1] + s * (k[2] + s * k[3])))) / max(r, 1e-12)
    return view.focal_x * scale * x + view.center_x, view.focal_y * scale * y + view.center_y


@njit(**PER_PIXEL)
def canonical(A, point):
    """A point in the canonical space of a primitive with the affine map A."""
    x, y, z = point[0], point[1], point[2]
    return (
        A[0, 0] * x + A[0, 1] * y + A[0, 2] * z + A[0, 3],
        A[1, 0] * x + A[1, 1] * y + A[1, 2] * z + A[1, 3],
        A[2, 0] * x + A[2, 1] * y + A[2, 2] * z + A[2, 3],
    )


@njit(**PER_PIXEL)
def inverse(a, b, c, d, e, f, g, h, k):
    """Of a 3x3 matrix, row by row. Shapes that were fitted to a size are sheared: a transpose would not do."""
    p, q, r = e * k - f * h, f * g - d * k, d * h - e * g
    s = 1.0 / (a * p + b * q + c * r)
    return (
        p * s, (c * h - b * k) * s, (b * f - c * e) * s,
        q * s, (a * k - c * g) * s, (c * d - a * f) * s,
        r * s, (b * g - a * h) * s, (a * e - b * d) * s,
    )  # fmt: skip


@njit(**PER_ROW)
def outline(view, A, taper, kind, corner, left, right):
    """First and last row of the box around a primitive in the image; `left`, `right`: its columns in each of them.

    A little too much is harmless. Returns (0, -1) for what is outside.
    """
    height, width = view.dx.shape
    R, o = view.rotation, view.origin
    lowest, highest = 1e30, -1e30  # depth
    px, py, pz = canonical(A, o)
    a, b, c, d, e, f, g, h, k = inverse(
        A[0, 0], A[0, 1], A[0, 2], A[1, 0], A[1, 1], A[1, 2], A[2, 0], A[2, 1], A[2, 2]
    )  # fmt: skip
    for n in range(8):
        upper = (n >> 2) & 1
        cx, cy, cz = 2.0 * (n & 1) - 1.0, 2.0 * ((n >> 1) & 1) - 1.0, 2.0 * upper - 1.0
        if upper and kind == _BLOCK:
            cx += taper[0] if cx < 0 else -taper[1]
            cy += taper[2] if cy < 0 else -taper[3]
        cx, cy, cz = cx - px, cy - py, cz - pz
        x, y, z = a * cx + b * cy + c * cz, d * cx + e * cy + f * cz, g * cx + h * cy + k * cz
        for i in range(3):
            corner[n, i] = R[0, i] * x + R[1, i] * y + R[2, i] * z
        lowest, highest = min(lowest, corner[n, 2]), max(highest, corner[n, 2])
    if view.fisheye:
        return _fisheye_outline(view, corner, left, right)
    if highest < _NEAR_PLANE:
        return 0, -1
    if lowest < _NEAR_PLANE:
        return _clipped_outline(view, corner, left, right)
    u_low, u_high, v_low, v_high = 1e30, -1e30, 1e30, -1e30
    for k in range(8):
        u, v = project(view, corner[k, 0], corner[k, 1], corner[k, 2])
        corner[k, 0], corner[k, 1] = u, v
        u_low, u_high, v_low, v_high = min(u_low, u), max(u_high, u), min(v_low, v), max(v_high, v)
    if u_high < 0 or u_low > width - 1 or v_high < 0 or v_low > height - 1:
        return 0, -1
    top, bottom = math.ceil(max(v_low, 0.0)), math.floor(min(v_high, height - 1.0))
    for y in range(top, bottom + 1):
        left[y], right[y] = width, -1
    for e in range(12):
        i, j = _EDGES[e, 0], _EDGES[e, 1]
        if corner[i, 1] > corner[j, 1]:
            i, j = j, i
        u, v, across, down = corner[i, 0], corner[i, 1], corner[j, 0] - corner[i, 0], corner[j, 1] - corner[i, 1]
        first, last = max(math.ceil(max(v, -1.0)), top), min(math.floor(min(v + down, height)), bottom)
        slope = across / down if down > 1e-9 else 0.0
        for y in range(first, last + 1):
            at = min(max(u + slope * (y - v), -1.0), width)
            left[y] = min(left[y], math.floor(at))
            right[y] = max(right[y], math.ceil(at))
    return top, bottom


@njit(**PER_ROW)
def _clipped_outline(view, corner, left, right):
    """Rectangle around what is before the near plane of a box that reaches behind it."""
    u_low, u_high, v_low, v_high = 1e30, -1e30, 1e30, -1e30
    for e in range(12):
        i, j = _EDGES[e, 0], _EDGES[e, 1]
        for k, m in ((i, j), (j, i)):
            x, y, z = corner[k, 0], corner[k, 1], corner[k, 2]
            if z < _NEAR_PLANE:
                if corner[m, 2] <= _NEAR_PLANE:
                    continue
                f = (_NEAR_PLANE - z) / (corner[m, 2] - z)
                x, y, z = x + f * (corner[m, 0] - x), y + f * (corner[m, 1] - y), _NEAR_PLANE
            u, v = project(view, x, y, z)
            u_low, u_high, v_low, v_high = min(u_low, u), max(u_high, u), min(v_low, v), max(v_high, v)
    return _rectangle(view, u_low, u_high, v_low, v_high, left, right)


@njit(**PER_ROW)
def _fisheye_outline(view, corner, left, right):
    """Rectangle around the bent edges of a box, or the whole image for one that reaches behind the camera."""
    u_low, u_high, v_low, v_high = 1e30, -1e30, 1e30, -1e30
    nearest, farthest = 10.0, 0.0
    for e in range(12):
        i, j = _EDGES[e, 0], _EDGES[e, 1]
        for k in range(_FISHEYE_SAMPLES):
            f = k / (_FISHEYE_SAMPLES - 1.0)
            x = corner[i, 0] + f * (corner[j, 0] - corner[i, 0])
            y = corner[i, 1] + f * (corner[j, 1] - corner[i, 1])
            z = corner[i, 2] + f * (corner[j, 2] - corner[i, 2])
            angle = math.atan2(math.sqrt(x * x + y * y), z)
            nearest, farthest = min(nearest, angle), max(farthest, angle)
            u, v = project(view, x, y, z)
            u_low, u_high, v_low, v_high = min(u_low, u), max(u_high, u), min(v_low, v), max(v_high, v)
    if farthest > _FISHEYE_LIMIT:
        height, width = view.dx.shape
        return _rectangle(view, 0.0, width - 1.0, 0.0, height - 1.0, left, right)
    # Between two samples an edge bulges by less than a sixteenth of the whole.
    u_more, v_more = 0.06 * (u_high - u_low) + 2.0, 0.06 * (v_high - v_low) + 2.0
    return _rectangle(view, u_low - u_more, u_high + u_more, v_low - v_more, v_high + v_more, left, right)


@njit(**PER_ROW)
def _rectangle(view, u_low, u_high, v_low, v_high, left, right):
    height, width = view.dx.shape
    if u_high < 0 or u_low > width - 1 or v_high < 0 or v_low > height - 1:
        return 0, -1
    top, bottom = math.floor(max(v_low, 0.0)), math.ceil(min(v_high, height - 1.0))
    first, last = math.floor(max(u_low, 0.0)), math.ceil(min(u_high, width - 1.0))
    for y in range(top, bottom + 1):
        left[y], right[y] = first, last
    return top, bottom
