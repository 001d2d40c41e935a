"""Which primitive each pixel of a camera shows: every pixel's ray, tested only against what can lie in its way.

All along a ray, w = 1 / distance is kept instead of the distance. Where a ray with direction d from the camera meets a
plane, w is g . d with a vector g that is the same for all pixels, and where it meets a quadric, w solves a quadratic
equation whose coefficients are polynomials of d. A convex body is entered at the smallest w of the planes that face
the camera and left at the largest of the others. No pixel needs a division or a branch, and fisheyes are as exact as
pinholes. Primitives are taken one by one; the outline of the box around each says which rows and columns to try.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from karp_perception.core.compiled import PER_PIXEL, PER_ROW, njit
from karp_perception.world.geometry.materials import PASSES, Material
from karp_perception.world.geometry.primitives import Kind, hash3
from karp_perception.world.sensors.outline import canonical, outline

NOTHING, GROUND, KERB_FACE = -2, -1, -3
"""What a pixel shows that shows no primitive: sky, ground, the upright side of raised ground."""

_BLOCK, _CYLINDER = int(Kind.BLOCK), int(Kind.CYLINDER)
_GLASS, _MESH = int(Material.GLASS), int(Material.MESH)
_ZERO, _ONE, _BIG = np.float32(0.0), np.float32(1.0), np.float32(1e9)
_LEAF_SAMPLES = 4  # places along a ray at which leaves may be met
_LEAF_CELL = 0.09  # m, of a leaf or a tuft of them
_MESH_CELL = 0.06  # m between wires


class Layers(NamedTuple):
    """What a camera's pixels show, (H, W) each."""

    w: np.ndarray  # float32, 1 / m along the ray, 0 for nothing; glass left out
    hit: np.ndarray  # int32, row of SceneRays, GROUND, KERB_FACE or NOTHING
    glass_w: np.ndarray  # the nearest glass, 0 for none
    glass_hit: np.ndarray
    stamp: np.ndarray  # int32, the body that last covered the pixel, hidden or not


def new_layers(height: int, width: int) -> Layers:
    """Layers with room for an image; `clear` comes first."""
    w, hit, glass_w, glass_hit, stamp = (np.empty((height, width), kind) for kind in ("f4", "i4", "f4", "i4", "i4"))
    return Layers(w, hit, glass_w, glass_hit, stamp)


@njit(**PER_ROW)
def clear(layers, begin, end):
    """Let rows begin..end show nothing."""
    for y in range(begin, end):
        for x in range(layers.w.shape[1]):
            layers.w[y, x], layers.glass_w[y, x] = _ZERO, _ZERO
            layers.hit[y, x], layers.glass_hit[y, x], layers.stamp[y, x] = NOTHING, NOTHING, -1


@njit(**PER_ROW)
def summarise(layers, body, owner, mask, depth, shown):
    """Fill `mask` with the owner of what each pixel shows, `depth` with m; add up the pixels `shown` (B,) of bodies.

    `body` (P,), `owner` (B,): of SceneRays.
    """
    for y in range(mask.shape[0]):
        for x in range(mask.shape[1]):
            w = layers.w[y, x]
            p = layers.glass_hit[y, x] if layers.glass_w[y, x] > w else layers.hit[y, x]
            mask[y, x] = 0
            if p >= 0:
                b = body[p]
                mask[y, x] = owner[b]
                shown[b] += 1
            depth[y, x] = _ONE / w if w > _ZERO else np.float32(np.inf)


@njit(cache=True, nogil=True, error_model="numpy")
def rasterise(scene, view, begin, end, layers, covered):
    """Fill rows begin..end of `layers` with the bodies of a scene (SceneRays).

    `covered` (B,): pixels that each body with an owner would show if nothing hid it are added to it.
    """
    height, width = view.dx.shape
    left, right = np.empty(height, np.int64), np.empty(height, np.int64)
    near, far = np.empty(width, np.float32), np.empty(width, np.float32)
    corner = np.empty((8, 3))
    plane = np.empty((8, 3), np.float32)
    into = np.empty((3, 3))
    axis = view.rotation[:, 2]
    for b in range(len(scene.owner)):
        # Is the ball around the body inside the cone of view at all?
        mx = scene.middle[b, 0] - view.origin[0]
        my = scene.middle[b, 1] - view.origin[1]
        mz = 0.5 * (scene.bottom[b] + scene.top[b]) - view.origin[2]
        tall = 0.5 * (scene.top[b] - scene.bottom[b])
        ball = math.sqrt(scene.reach[b] * scene.reach[b] + tall * tall)
        distance = math.sqrt(mx * mx + my * my + mz * mz)
        if distance > ball:
            off = math.acos(min(max((mx * axis[0] + my * axis[1] + mz * axis[2]) / distance, -1.0), 1.0))
            if off - math.asin(ball / distance) > view.widest:
                continue
        owned = scene.owner[b] > 0
        for p in range(scene.first[b], scene.first[b + 1]):
            A, kind = scene.affine[p], scene.kind[p]
            top, bottom = outline(view, A, scene.taper[p], kind, corner, left, right)
            top, bottom = max(top, begin), min(bottom, end - 1)
            if top > bottom:
                continue
            # The camera in the primitive's canonical space, and the map of its rays into it.
            ox, oy, oz = canonical(A, view.origin)
            for i in range(3):
                for j in range(3):
                    into[i, j] = (
                        A[i, 0] * view.rotation[0, j] + A[i, 1] * view.rotation[1, j] + A[i, 2] * view.rotation[2, j]
                    )
            if kind == _BLOCK:
                if not _block_planes(scene.taper[p], ox, oy, oz, into, plane):
                    continue  # the camera is inside: it sees out
            else:
                r1 = -0.5 * scene.taper[p, 0] if kind == _CYLINDER else 0.0
                r = 1.0 + r1 + r1 * oz
                c = ox * ox + oy * oy - r * r if kind == _CYLINDER else ox * ox + oy * oy + oz * oz - 1.0
                if c <= 0.0 and (kind != _CYLINDER or (abs(oz) <= 1.0 and r > 0.0)):
                    continue
            special = scene.density[p] > 0.0 or scene.material[p] == _MESH
            glass = scene.material[p] == _GLASS
            for y in range(top, bottom + 1):
                a = max(left[y], 0)
                n = min(right[y], width - 1) - a + 1
                if n <= 0:
                    continue
                dx, dy, dz = view.dx[y, a : a + n], view.dy[y, a : a + n], view.dz[y, a : a + n]
                if kind == _BLOCK:
                    _block_row(plane, dx, dy, dz, near, far)
                elif kind == _CYLINDER:
                    _cylinder_row(ox, oy, oz, r, r1, c, into, dx, dy, dz, near, far)
                else:
                    _ellipsoid_row(ox, oy, oz, c, into, dx, dy, dz, near, far)
                if special:
                    if not owned:
                        _drop_hidden(near, layers.w[y, a : a + n])
                    _thin_row(scene, p, ox, oy, oz, into, view.focal_x, dx, dy, dz, near, far)
                if owned:
                    covered[b] += _cover_row(b, near, layers.stamp[y, a : a + n])
                if glass:
                    _keep_row(p, near, layers.glass_w[y, a : a + n], layers.glass_hit[y, a : a + n])
                else:
                    _keep_row(p, near, layers.w[y, a : a + n], layers.hit[y, a : a + n])


@njit(**PER_ROW)
def _block_planes(taper, ox, oy, oz, into, plane):
    """Vectors g of the faces of a block: up to three that face the camera, then up to five that do not.

    Places that are left over repeat others. False where the camera is inside.
    """
    entered, left = 0, 3
    for k in range(6):
        nx, ny, nz, m = 0.0, 0.0, 0.0, -1.0
        if k == 0:
            nz = 1.0
        elif k == 1:
            nz = -1.0
        else:
            nz = 0.5 * taper[k - 2]
            m += nz
            if k == 2:
                nx = -1.0
            elif k == 3:
                nx = 1.0
            elif k == 4:
                ny = -1.0
            else:
                ny = 1.0
        value = nx * ox + ny * oy + nz * oz + m
        if value > 0.0:
            if entered == 3:
                continue  # a fourth face is met only where tapers cross: the others bound it
            row, value = entered, max(value, 1e-7)
            entered += 1
        else:
            if left == 8:
                continue
            row, value = left, min(value, -1e-7)
            left += 1
        for j in range(3):
            plane[row, j] = -(nx * into[0, j] + ny * into[1, j] + nz * into[2, j]) / value
    for j in range(3):
        for row in range(entered, 3):
            plane[row, j] = plane[0, j]
        for row in range(left, 8):
            plane[row, j] = plane[3, j]
    return entered > 0


@njit(**PER_ROW)
def _block_row(plane, dx, dy, dz, near, far):
    a0, a1, a2 = plane[0, 0], plane[0, 1], plane[0, 2]
    b0, b1, b2 = plane[1, 0], plane[1, 1], plane[1, 2]
    c0, c1, c2 = plane[2, 0], plane[2, 1], plane[2, 2]
    d0, d1, d2 = plane[3, 0], plane[3, 1], plane[3, 2]
    e0, e1, e2 = plane[4, 0], plane[4, 1], plane[4, 2]
    f0, f1, f2 = plane[5, 0], plane[5, 1], plane[5, 2]
    g0, g1, g2 = plane[6, 0], plane[6, 1], plane[6, 2]
    h0, h1, h2 = plane[7, 0], plane[7, 1], plane[7, 2]
    for i in range(len(dx)):
        x, y, z = dx[i], dy[i], dz[i]
        enter = a0 * x + a1 * y + a2 * z
        other = b0 * x + b1 * y + b2 * z
        enter = other if other < enter else enter
        other = c0 * x + c1 * y + c2 * z
        enter = other if other < enter else enter
        leave = d0 * x + d1 * y + d2 * z
        leave = leave if leave > _ZERO else _ZERO
        other = e0 * x + e1 * y + e2 * z
        leave = other if other > leave else leave
        other = f0 * x + f1 * y + f2 * z
        leave = other if other > leave else leave
        other = g0 * x + g1 * y + g2 * z
        leave = other if other > leave else leave
        other = h0 * x + h1 * y + h2 * z
        leave = other if other > leave else leave
        near[i] = enter if enter > leave else _ZERO
        far[i] = leave


@njit(**PER_ROW)
def _ellipsoid_row(ox, oy, oz, c, into, dx, dy, dz, near, far):
    i00, i01, i02 = np.float32(into[0, 0]), np.float32(into[0, 1]), np.float32(into[0, 2])
    i10, i11, i12 = np.float32(into[1, 0]), np.float32(into[1, 1]), np.float32(into[1, 2])
    i20, i21, i22 = np.float32(into[2, 0]), np.float32(into[2, 1]), np.float32(into[2, 2])
    # Lengths in units of the camera's distance keep the numbers small: c = 1.
    scale = 1.0 / math.sqrt(c)
    fx, fy, fz = np.float32(ox * scale), np.float32(oy * scale), np.float32(oz * scale)
    back = np.float32(scale)
    for i in range(len(dx)):
        x = i00 * dx[i] + i01 * dy[i] + i02 * dz[i]
        y = i10 * dx[i] + i11 * dy[i] + i12 * dz[i]
        z = i20 * dx[i] + i21 * dy[i] + i22 * dz[i]
        b = fx * x + fy * y + fz * z
        # b² - a c, with a = x² + y² + z² and the unit vector f0 along f: |f|² = 1 + scale².
        square = b * b - (x * x + y * y + z * z)
        root = math.sqrt(square if square > _ZERO else _ZERO)
        enter, leave = (root - b) * back, (-root - b) * back
        leave = leave if leave > _ZERO else _ZERO
        near[i] = enter if (square > _ZERO and enter > _ZERO) else _ZERO
        far[i] = leave


@njit(**PER_ROW)
def _cylinder_row(ox, oy, oz, r, r1, c, into, dx, dy, dz, near, far):
    i00, i01, i02 = np.float32(into[0, 0]), np.float32(into[0, 1]), np.float32(into[0, 2])
    i10, i11, i12 = np.float32(into[1, 0]), np.float32(into[1, 1]), np.float32(into[1, 2])
    i20, i21, i22 = np.float32(into[2, 0]), np.float32(into[2, 1]), np.float32(into[2, 2])
    if abs(c) < 1e-6:
        c = 1e-6
    fx, fy, fr, taper = np.float32(ox), np.float32(oy), np.float32(r * r1), np.float32(r1)
    constant, back = np.float32(c), np.float32(1.0 / c)
    outside, mirrored = c > 0.0, c < 0.0 and r < 0.0
    # One end at most faces the camera; w at each end is z of the ray over its distance from the camera.
    over, under = oz - 1.0, oz + 1.0
    to_top = np.float32(-1.0 / (over if abs(over) > 1e-7 else math.copysign(1e-7, over)))
    to_bottom = np.float32(-1.0 / (under if abs(under) > 1e-7 else math.copysign(1e-7, under)))
    enters_top, enters_bottom = over > 0.0, under < 0.0
    for i in range(len(dx)):
        x = i00 * dx[i] + i01 * dy[i] + i02 * dz[i]
        y = i10 * dx[i] + i11 * dy[i] + i12 * dz[i]
        z = i20 * dx[i] + i21 * dy[i] + i22 * dz[i]
        a = x * x + y * y - taper * taper * z * z
        b = fx * x + fy * y - fr * z
        square = b * b - a * constant
        met = square > _ZERO
        root = math.sqrt(square if met else _ZERO)
        plus, minus = (root - b) * back, (-root - b) * back
        if outside:
            enter, leave = plus, minus
        elif mirrored:
            enter, leave = plus, -_BIG
        else:
            enter, leave, met = _BIG, minus, True
        up, down = to_top * z, to_bottom * z
        if enters_top:
            enter = up if up < enter else enter
        else:
            leave = up if up > leave else leave
        if enters_bottom:
            enter = down if down < enter else enter
        else:
            leave = down if down > leave else leave
        leave = leave if leave > _ZERO else _ZERO
        near[i] = enter if (met and enter > leave) else _ZERO
        far[i] = leave


@njit(**PER_ROW)
def _keep_row(p, near, w, hit):
    for i in range(len(w)):
        closer = near[i] > w[i]
        w[i] = near[i] if closer else w[i]
        hit[i] = p if closer else hit[i]


@njit(**PER_ROW)
def _drop_hidden(near, w):
    for i in range(len(w)):
        near[i] = near[i] if near[i] > w[i] else _ZERO


@njit(**PER_ROW)
def _cover_row(b, near, stamp):
    count = 0
    for i in range(len(stamp)):
        if near[i] > _ZERO and stamp[i] != b:
            stamp[i] = b
            count += 1
    return count


@njit(**PER_ROW)
def _thin_row(scene, p, ox, oy, oz, into, focal, dx, dy, dz, near, far):
    """Leaves room between leaves and wires: `near` becomes where one is met, or 0. The same places at every moment."""
    A, density = scene.affine[p], scene.density[p]
    hx = 1.0 / math.sqrt(A[0, 0] ** 2 + A[0, 1] ** 2 + A[0, 2] ** 2)
    hy = 1.0 / math.sqrt(A[1, 0] ** 2 + A[1, 1] ** 2 + A[1, 2] ** 2)
    hz = 1.0 / math.sqrt(A[2, 0] ** 2 + A[2, 1] ** 2 + A[2, 2] ** 2)
    solid = 1.0 - PASSES[scene.material[p]]
    for i in range(len(dx)):
        if near[i] <= _ZERO:
            continue
        x = (into[0, 0] * dx[i] + into[0, 1] * dy[i] + into[0, 2] * dz[i]) * hx
        y = (into[1, 0] * dx[i] + into[1, 1] * dy[i] + into[1, 2] * dz[i]) * hy
        z = (into[2, 0] * dx[i] + into[2, 1] * dy[i] + into[2, 2] * dz[i]) * hz
        enter = 1.0 / near[i]
        pixel = 1.5 * enter / focal  # m
        if density <= 0.0:
            u, v, k = ox * hx + enter * x, oy * hy + enter * y, oz * hz + enter * z
            if pixel < 0.4 * _MESH_CELL:
                wide = hx > hy
                s = ((u if wide else v) / _MESH_CELL) % 1.0
                t = (k / _MESH_CELL) % 1.0
                thick = max(0.12, 0.7 * pixel / _MESH_CELL)
                if s > thick and t > thick:
                    near[i] = _ZERO
            else:
                cell = _MESH_CELL * 2.0 ** math.ceil(math.log2(max(pixel / _MESH_CELL, 1.0)))
                if _cell_hash(u, v, k, cell) > solid:
                    near[i] = _ZERO
            continue
        cell = _LEAF_CELL
        if pixel > cell:
            cell *= 2.0 ** math.ceil(math.log2(pixel / cell))
        length = (1.0 / far[i] if far[i] > 1e-6 else 1e6) - enter
        step = min(length, 6.0 / density) / _LEAF_SAMPLES
        chance = 1.0 - math.exp(-density * step)
        at = 0.0
        for k in range(_LEAF_SAMPLES):
            t = enter + (k + 0.5) * step
            if _cell_hash(ox * hx + t * x, oy * hy + t * y, oz * hz + t * z, cell) < chance:
                at = 1.0 / t
                break
        near[i] = at


@njit(**PER_PIXEL)
def _cell_hash(x, y, z, cell):
    per = 1.0 / cell
    i, j, k = math.floor(x * per), math.floor(y * per), math.floor(z * per)
    return hash3(int(i) + 7919 * int(k), int(j), int(k))
