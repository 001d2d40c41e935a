"""The light that each pixel of a camera sends to its sensor, from what it shows."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from karp_perception.core.compiled import PER_PIXEL, PER_ROW, njit
from karp_perception.world.geometry.ground import SURFACES, Surface
from karp_perception.world.geometry.materials import SPECULAR, TEXTURE, Material
from karp_perception.world.geometry.primitives import canonical_normal, hash3
from karp_perception.world.geometry.scene import BRAKE, HEAD, LEFT, RIGHT, SIGNAL_GREEN, SIGNAL_RED, SIGNAL_YELLOW
from karp_perception.world.sensors.ground_cast import height_at, raster_for, surface_in
from karp_perception.world.sensors.image_cast import KERB_FACE
from karp_perception.world.sensors.shadows import Vector, sky_hidden, sun_reaching
from karp_perception.world.sensors.sky import mirrored, sky_color
from karp_perception.world.sensors.textures import ground_texture, noise_at, pane, wall_texture


class Beam(NamedTuple):
    """The head lamps of the vehicle that carries the camera."""

    place: Vector  # m, in the world's frame, between the lamps
    forward: Vector  # unit vectors
    left: Vector


def linear(color: np.ndarray) -> np.ndarray:
    """Linear light 0..1 of sRGB colours 0..255 (IEC 61966-2-1)."""
    c = np.clip(np.asarray(color, float) / 255.0, 0.0, 1.0)
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


_PACK = 3000.0  # a share of light as a number of 16 bits, with room to add up a pixel's
_LOOKS = np.array([(*linear(np.array(SURFACES[s].color)), SURFACES[s].specular) for s in Surface])
_PACKED = ((_PACK * _LOOKS).astype(np.int64) << np.array([0, 16, 32, 48])).sum(axis=1)
"""Red, green, blue and gloss of each surface in one number, so that a pixel's are added at once."""
_PUDDLE, _MARKING, _GRASS = int(Surface.PUDDLE), int(Surface.MARKING), int(Surface.GRASS)
_HEAD_LAMP, _TAIL_LAMP = int(Material.HEAD_LAMP), int(Material.TAIL_LAMP)
_INDICATOR, _GLASS, _WINDOW = int(Material.INDICATOR), int(Material.GLASS), int(Material.WINDOW)
_LEAVES, _METAL, _SKIN, _PAINT = int(Material.LEAVES), int(Material.METAL), int(Material.SKIN), int(Material.PAINT)
_RED, _YELLOW, _GREEN = int(Material.SIGNAL_RED), int(Material.SIGNAL_YELLOW), int(Material.SIGNAL_GREEN)
_PLATE, _SIGN, _STEAM = int(Material.PLATE), int(Material.SIGN), int(Material.STEAM)
_REFLECTIVE = int(Material.REFLECTIVE)
_TAPS, _MOST_TAPS = 4, 8  # of the ground in a pixel
_ASIDE = (0.618034 * np.arange(_MOST_TAPS)) % 1.0 - 0.5  # of a pixel: spread evenly (golden ratio)
_LAMP = 3.0  # light of a lamp that is on, where a white surface in the sun is 1
_BEAM = 14.0  # light on a white surface 1 m before head lamps
_GLASS_TINT = 0.55  # share of light that a vehicle's glass lets through, there and back


@njit(**PER_ROW)
def shade(scene, look, ground, view, layers, light, shadows, beam, tile, begin, end, out, wet):
    """Light of the pixels of rows begin..end, into `out` (H, W, 3) float32, in the unit of `sky`.

    `wet` (H, W) float32, or (0, 0) on a dry day, becomes the share of light that standing water mirrors (see `rain`).
    `look` (P, 6): of each primitive of `scene` the linear light that it sends back, and its half sizes, m.
    """
    width = view.dx.shape[1]
    R = view.rotation
    for y in range(begin, end):
        for x in range(width):
            a, b, c = view.dx[y, x], view.dy[y, x], view.dz[y, x]
            if a == 0.0 and b == 0.0 and c == 0.0:
                out[y, x, 0] = out[y, x, 1] = out[y, x, 2] = 0.0
                continue
            dx = R[0, 0] * a + R[0, 1] * b + R[0, 2] * c
            dy = R[1, 0] * a + R[1, 1] * b + R[1, 2] * c
            dz = R[2, 0] * a + R[2, 1] * b + R[2, 2] * c
            w, p = layers.w[y, x], layers.hit[y, x]
            if w <= 0.0:
                r, g, e = sky_color(light, tile, dx, dy, dz, True)
            else:
                if p >= 0:
                    r, g, e = _body(scene, look, p, ground, view, light, shadows, beam, tile, 1.0 / w, dx, dy, dz)
                else:
                    r, g, e, film = _ground(
                        ground, view, light, shadows, beam, tile, 1.0 / w, p == KERB_FACE, dx, dy, dz
                    )
                    if light.wetness > 0.0:
                        wet[y, x] = film
                r, g, e = _air(light, 1.0 / w, r, g, e)
            w, p = layers.glass_w[y, x], layers.glass_hit[y, x]
            if w > layers.w[y, x]:
                r, g, e = _through(scene, look, p, view, light, shadows, tile, 1.0 / w, dx, dy, dz, r, g, e)
            out[y, x, 0], out[y, x, 1], out[y, x, 2] = r, g, e


@njit(**PER_PIXEL)
def _air(light, t, r, g, b):
    """Haze between: what is lost on the way and what comes in from the side (Koschmieder)."""
    clear = math.exp(-light.extinction * t)
    return (
        light.horizon[0] + clear * (r - light.horizon[0]),
        light.horizon[1] + clear * (g - light.horizon[1]),
        light.horizon[2] + clear * (b - light.horizon[2]),
    )


@njit(**PER_PIXEL)
def _fresnel(straight, slant):
    """Share of light that is mirrored (Schlick 1994): `straight` where the cosine `slant` is 1, all of it at 0."""
    rest = (1.0 - slant) * (1.0 - slant)
    return straight + (1.0 - straight) * rest * rest * (1.0 - slant)


@njit(**PER_PIXEL)
def _falling(light, lit, open_sky, nx, ny, nz):
    """Light falling on a surface with that normal: sun, sky and what the ground throws back."""
    s = max(nx * light.sun[0] + ny * light.sun[1] + nz * light.sun[2], 0.0) * lit
    up = (0.5 + 0.5 * nz) * open_sky
    down = (0.5 - 0.5 * nz) * (0.35 + 0.65 * open_sky)
    return (
        s * light.sunlight[0] + up * light.skylight[0] + down * light.bounce[0],
        s * light.sunlight[1] + up * light.skylight[1] + down * light.bounce[1],
        s * light.sunlight[2] + up * light.skylight[2] + down * light.bounce[2],
    )


@njit(**PER_PIXEL)
def _beam(light, beam, x, y, z, nx, ny, nz):
    """Light of the own head lamps on a surface, dipped: sharply less above the lamps' height."""
    if light.lamps <= 0.0:
        return 0.0
    px, py, pz = x - beam.place[0], y - beam.place[1], z - beam.place[2]
    ahead = px * beam.forward[0] + py * beam.forward[1] + pz * beam.forward[2]
    if ahead < 0.3:
        return 0.0
    aside = (px * beam.left[0] + py * beam.left[1] + pz * beam.left[2]) / ahead
    squared = px * px + py * py + pz * pz
    level = pz / ahead
    cut = 1.0 if level < 0.0 else max(0.08, 1.0 - 25.0 * level)
    facing = max(-(nx * px + ny * py + nz * pz) / math.sqrt(squared), 0.0)
    # Dipped beams throw most of their light far ahead, so that the road is lit more evenly than by 1 / r².
    return _BEAM * cut * facing * math.exp(-2.2 * aside * aside) / (12.0 + 0.45 * squared)


@njit(**PER_PIXEL)
def _ground(ground, view, light, shadows, beam, tile, t, face, dx, dy, dz):
    """Light that comes from the ground t m along a ray, from several places in the pixel; last what water mirrors."""
    across = max(math.sqrt(dx * dx + dy * dy), 1e-6)
    x, y = view.origin[0] + t * dx, view.origin[1] + t * dy
    z = view.origin[2] + t * dz
    nx, ny, nz = 0.0, 0.0, 1.0
    if ground.rays.steepest > 0.0:
        cell = ground.rays.terrain_cell
        nx = (height_at(ground.rays, x - 0.5 * cell, y) - height_at(ground.rays, x + 0.5 * cell, y)) / cell
        ny = (height_at(ground.rays, x, y - 0.5 * cell) - height_at(ground.rays, x, y + 0.5 * cell)) / cell
        nz = 1.0 / math.sqrt(1.0 + nx * nx + ny * ny)
        nx, ny = nx * nz, ny * nz
    wide = t / view.focal_x
    slant = max(-(dx * nx + dy * ny + dz * nz), 0.01)
    ex, ey = dx / across, dy / across
    if face:
        # The side of a kerb, towards the camera.
        nx, ny, nz = -ex, -ey, 0.0
        x, y = x + 0.06 * ex, y + 0.06 * ey
        taps, long = 1, 0.0
    else:
        long = wide / slant
        taps = min(_TAPS + int(long / (4.0 * wide)), _MOST_TAPS)
    raster, at = raster_for(ground, x, y, long + wide + 0.5)
    # Not less than a cell, or the raster's stairs would show.
    cell = 1.0 / at[2]
    step, broad = max(long, cell) / taps, max(wide, cell)
    total, same = 0, True
    first = surface_in(raster, at, x, y)
    f = -0.5 * (taps - 1) * step
    for k in range(taps):
        g = _ASIDE[k] * broad
        surface = surface_in(raster, at, x + f * ex - g * ey, y + f * ey + g * ex)
        total += _PACKED[surface]
        same = same and surface == first
        f += step
    scale = 1.0 / (_PACK * taps)
    red, green, blue = (total & 0xFFFF) * scale, ((total >> 16) & 0xFFFF) * scale, ((total >> 32) & 0xFFFF) * scale
    gloss = (total >> 48) * scale
    pixel = 0.5 * (wide + min(long, 4.0 * wide))
    if same:
        bright, warm = ground_texture(tile, first, x, y, pixel)
    else:
        bright, warm = 1.0 + 0.04 * noise_at(tile, 1.3 * x, 1.3 * y), 0.0
    red, green, blue = red * bright * (1.0 + 1.5 * warm), green * bright, blue * bright * (1.0 - warm)
    hidden = sky_hidden(shadows, x, y)
    lit = sun_reaching(shadows, x, y, z, 0.0, 0.0, 0.0) * (1.0 - 0.4 * hidden)
    r, g, e = _falling(light, lit, 1.0 - 0.85 * hidden, nx, ny, nz)
    lamp = _beam(light, beam, x, y, z, nx, ny, nz)
    wet = light.wetness if first != _GRASS else 0.0
    if wet > 0.0:
        # Water fills the grain and darkens it; in hollows it stands.
        stand = min(max(1.5 * wet - 0.6 + 0.35 * noise_at(tile, 0.4 * x, 0.4 * y), 0.0), 1.0) * wet
        dark = 1.0 - 0.45 * wet
        red, green, blue = red * dark, green * dark, blue * dark
        gloss = max(gloss, 0.12 * wet + 0.88 * stand)
    r, g, e = red * (r + lamp), green * (g + 0.92 * lamp), blue * (e + 0.78 * lamp)
    k = gloss * _fresnel(0.02, slant) * (1.0 - hidden) * (0.25 + 0.75 * wet)
    if k > 0.01:
        mr, mg, mb = mirrored(light, tile, dx - 2.0 * slant * -nx, dy - 2.0 * slant * -ny, dz + 2.0 * slant * nz)
        r, g, e = r + k * (mr - r), g + k * (mg - g), e + k * (mb - e)
    return r, g, e, k


@njit(**PER_PIXEL)
def _body(scene, look, p, ground, view, light, shadows, beam, tile, t, dx, dy, dz):
    """Light that comes from a primitive t m along a ray."""
    A, material, b = scene.affine[p], scene.material[p], scene.body[p]
    x, y, z = view.origin[0] + t * dx, view.origin[1] + t * dy, view.origin[2] + t * dz
    cx = A[0, 0] * x + A[0, 1] * y + A[0, 2] * z + A[0, 3]
    cy = A[1, 0] * x + A[1, 1] * y + A[1, 2] * z + A[1, 3]
    cz = A[2, 0] * x + A[2, 1] * y + A[2, 2] * z + A[2, 3]
    hx, hy, hz = look[p, 3], look[p, 4], look[p, 5]
    r, g, e = look[p, 0], look[p, 1], look[p, 2]
    pixel = t / view.focal_x
    over = z - height_at(ground.rays, x, y)
    if scene.density[p] > 0.0:
        return _leaf(light, shadows, beam, material, r, g, e, x, y, z, cx, cy, cz, hx, hy, hz, over, pixel)
    qx, qy, qz = canonical_normal(scene.kind[p], scene.taper[p], cx, cy, cz)
    nx = A[0, 0] * qx + A[1, 0] * qy + A[2, 0] * qz
    ny = A[0, 1] * qx + A[1, 1] * qy + A[2, 1] * qz
    nz = A[0, 2] * qx + A[1, 2] * qy + A[2, 2] * qz
    k = 1.0 / max(math.sqrt(nx * nx + ny * ny + nz * nz), 1e-12)
    nx, ny, nz = nx * k, ny * k, nz * k
    slant = -(nx * dx + ny * dy + nz * dz)
    if slant < 0.0:
        slant = 0.0
    # Patterns run in metres along the face: round a post, along a wall and up it, flat on a roof.
    ax, ay, az = abs(qx), abs(qy), abs(qz)
    if scene.kind[p] == 1 and az < 0.99 * max(ax, ay):
        u, v = math.atan2(cy, cx) * hx, cz * hz
    elif az >= ax and az >= ay:
        u, v = cx * hx, cy * hy
    elif ax >= ay:
        u, v = cy * hy, cz * hz
    else:
        u, v = cx * hx, cz * hz
    along = pixel / max(slant, 0.15)
    k = wall_texture(tile, material, TEXTURE[material], u, v, along)
    r, g, e = r * k, g * k, e * k
    lit = 0.0
    if light.sunlight[0] > 0.0 and nx * light.sun[0] + ny * light.sun[1] + nz * light.sun[2] > 0.0:
        lit = sun_reaching(shadows, x, y, z, nx, ny, nz)
    # The ground and whatever stands there take the sky away from what is low or faces down.
    open_sky = (0.55 + 0.45 * min(max(over, 0.0) / 0.9, 1.0)) * (1.0 if nz > -0.3 else 0.55)
    if over < 1.2:
        open_sky *= 1.0 - 0.45 * sky_hidden(shadows, x + 0.4 * nx, y + 0.4 * ny) * (1.0 - over / 1.2)
    lr, lg, lb = _falling(light, lit, open_sky, nx, ny, nz)
    lamp = _beam(light, beam, x, y, z, nx, ny, nz)
    if material in (_PLATE, _SIGN, _REFLECTIVE):
        lamp *= 2.5  # made to send it back
    gloss = SPECULAR[material]
    inner = 0.0
    if material == _WINDOW:
        wide = 2.0 * (hy if ax >= ay else hx)
        share, number = pane(u, v, wide, 2.0 * hz, along)
        # A window keeps its lot: what the affine map says of the place is the same at every moment.
        lot = hash3(number + int(3.1 * A[0, 3]), int(3.1 * A[1, 3]), int(3.1 * A[2, 3]))
        if share < 0.5 and lot < 0.3:  # curtains or blinds
            r, g, e = 0.45 + 0.3 * lot, 0.43 + 0.3 * lot, 0.38 + 0.3 * lot
            lr, lg, lb = 0.5 * lr, 0.5 * lg, 0.5 * lb
        if light.lamps > 0.0 and 0.55 < lot < 0.8:
            inner = 0.03 * (lot - 0.45)  # somebody is at home
        r, g, e = r + share * (0.5 - r), g + share * (0.5 - g), e + share * (0.49 - e)
        gloss *= 1.0 - 0.8 * share
    r, g, e = r * (lr + lamp) + inner, g * (lg + lamp) + 0.75 * inner, e * (lb + lamp) + 0.45 * inner
    if gloss > 0.02:
        base = 0.35 if material == _METAL else 0.045
        k = gloss * _fresnel(base, slant)
        rx, ry, rz = dx + 2.0 * slant * nx, dy + 2.0 * slant * ny, dz + 2.0 * slant * nz
        mr, mg, mb = mirrored(light, tile, rx, ry, rz)
        s = rx * light.sun[0] + ry * light.sun[1] + rz * light.sun[2]
        shine = gloss * lit * (3.0 * math.exp(90.0 * (s - 1.0)) if s > 0.9 else 0.0)
        r = r + k * (open_sky * mr - r) + shine * light.sunlight[0]
        g = g + k * (open_sky * mg - g) + shine * light.sunlight[1]
        e = e + k * (open_sky * mb - e) + shine * light.sunlight[2]
    on = _lamp_on(scene, p, b, material, light.lamps)
    if on > 0.0:
        k = _LAMP * on * (0.4 + 0.6 * slant)
        top = max(look[p, 0], look[p, 1], look[p, 2], 0.001)
        r += k * (0.06 + look[p, 0] / top)
        g += k * (0.06 + look[p, 1] / top)
        e += k * (0.06 + look[p, 2] / top)
    return r, g, e


@njit(**PER_PIXEL)
def _leaf(light, shadows, beam, material, r, g, e, x, y, z, cx, cy, cz, hx, hy, hz, over, pixel):
    """A tuft of leaves, or a puff of steam: it faces anywhere, its neighbours shade it from within."""
    size = max(0.09, 2.0 * pixel)
    i, j, k = math.floor(cx * hx / size), math.floor(cy * hy / size), math.floor(cz * hz / size)
    lot = hash3(int(i) + 7919 * int(k), int(j), int(k) + 5)
    coarse = hash3(int(i) // 4 + 7919 * (int(k) // 4), int(j) // 4, 9)
    if material == _STEAM:
        lot, coarse = 0.5, 0.5
    deep = min(math.sqrt(cx * cx + cy * cy + cz * cz), 1.0)
    length = max(math.sqrt(cx * cx / (hx * hx) + cy * cy / (hy * hy) + cz * cz / (hz * hz)), 1e-6)
    up = cz / hz / length
    lit = 0.0
    if light.sunlight[0] > 0.0:
        # Half of the shade comes from its own tree, whose depth stands for what the map is too coarse for.
        lit = (0.15 + 0.85 * sun_reaching(shadows, x, y, z + 0.15, 0.0, 0.0, 1.0)) * (0.35 + 0.65 * lot)
    s = lit * (0.3 + 0.5 * max(up * light.sun[2], 0.0) + 0.2 * lot)
    sky = (0.30 + 0.70 * deep * deep) * (0.55 + 0.25 * up + 0.2 * lot)
    lamp = 0.5 * _beam(light, beam, x, y, z, 0.0, 0.0, 0.0)
    k = (0.62 + 0.55 * lot) * (0.8 + 0.4 * coarse)
    yellow = 0.85 + 0.4 * coarse
    return (
        r * k * yellow * (s * light.sunlight[0] + sky * light.skylight[0] + lamp),
        g * k * (s * light.sunlight[1] + sky * light.skylight[1] + lamp),
        e * k * (s * light.sunlight[2] + sky * light.skylight[2] + lamp),
    )


@njit(**PER_PIXEL)
def _through(scene, look, p, view, light, shadows, tile, t, dx, dy, dz, r, g, e):
    """What is behind a vehicle's glass, darker, and what the glass mirrors."""
    A = scene.affine[p]
    x, y, z = view.origin[0] + t * dx, view.origin[1] + t * dy, view.origin[2] + t * dz
    cx = A[0, 0] * x + A[0, 1] * y + A[0, 2] * z + A[0, 3]
    cy = A[1, 0] * x + A[1, 1] * y + A[1, 2] * z + A[1, 3]
    cz = A[2, 0] * x + A[2, 1] * y + A[2, 2] * z + A[2, 3]
    qx, qy, qz = canonical_normal(scene.kind[p], scene.taper[p], cx, cy, cz)
    nx = A[0, 0] * qx + A[1, 0] * qy + A[2, 0] * qz
    ny = A[0, 1] * qx + A[1, 1] * qy + A[2, 1] * qz
    nz = A[0, 2] * qx + A[1, 2] * qy + A[2, 2] * qz
    k = 1.0 / max(math.sqrt(nx * nx + ny * ny + nz * nz), 1e-12)
    nx, ny, nz = nx * k, ny * k, nz * k
    slant = max(-(nx * dx + ny * dy + nz * dz), 0.0)
    fresnel = _fresnel(0.07, slant)
    rx, ry, rz = dx + 2.0 * slant * nx, dy + 2.0 * slant * ny, dz + 2.0 * slant * nz
    mr, mg, mb = mirrored(light, tile, rx, ry, rz)
    pass_on = (1.0 - fresnel) * _GLASS_TINT
    s = rx * light.sun[0] + ry * light.sun[1] + rz * light.sun[2]
    shine = 0.0
    if s > 0.96 and light.sunlight[0] > 0.0:
        shine = 4.0 * math.exp(200.0 * (s - 1.0)) * sun_reaching(shadows, x, y, z, nx, ny, nz)
    return (
        pass_on * (0.8 * r) + fresnel * mr + 0.2 * look[p, 0] * light.skylight[0] + shine * light.sunlight[0],
        pass_on * (0.85 * g) + fresnel * mg + 0.2 * look[p, 1] * light.skylight[1] + shine * light.sunlight[1],
        pass_on * (0.85 * e) + fresnel * mb + 0.2 * look[p, 2] * light.skylight[2] + shine * light.sunlight[2],
    )


@njit(**PER_PIXEL)
def _lamp_on(scene, p, b, material, dark):
    """How brightly a lamp shines, 0..1."""
    lights = scene.lights[b]
    if material == _TAIL_LAMP:
        return 1.0 if lights & BRAKE else (0.3 if lights & HEAD else 0.0)
    if material == _HEAD_LAMP:
        return (0.7 + 0.8 * dark) if lights & HEAD else 0.0
    if material == _RED:
        return 1.0 if lights & SIGNAL_RED else 0.0
    if material == _YELLOW:
        return 1.0 if lights & SIGNAL_YELLOW else 0.0
    if material == _GREEN:
        return 1.0 if lights & SIGNAL_GREEN else 0.0
    if material != _INDICATOR or not lights & (LEFT | RIGHT):
        return 0.0
    if lights & LEFT and lights & RIGHT:
        return 1.0
    # On which side of the body is it? Its own second axis points to the left.
    A = scene.affine[p]
    px, py, pz = scene.place[b, 0], scene.place[b, 1], scene.place[b, 2]
    middle = -(A[1, 0] * px + A[1, 1] * py + A[1, 2] * pz + A[1, 3])
    return 1.0 if (middle > 0.0) == (lights & LEFT > 0) else 0.0
