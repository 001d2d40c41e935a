"""From the nearest hits of a sweep's rays to what a lidar reports: received power, noise, dropout, intensity."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np

from karp_perception.core.compiled import njit
from karp_perception.world.geometry.cast import GROUND, NOTHING
from karp_perception.world.geometry.ground import SURFACES, Surface
from karp_perception.world.geometry.materials import REFLECTIVITY, SPECULAR, Material
from karp_perception.world.geometry.scene import SceneRays

AIR = -1
"""Surface of a return from fog or rain."""

_RETRO_GAIN = 60.0  # more power than a white surface: signs and plates (Velodyne: retroreflectors lie above 100 %)
_RETRO_SHADE = 2.3  # what they add to their reflectivity on the calibrated scale: 255 of 255
_RETRO_FADES = 0.5  # cosine of the angle up to which they work
_SHADES = 0.4  # standard deviation of the logarithm of reflectivity among bodies of one material and colour
_LEAF = 0.2  # least share of a beam that leaves fill
_UNEVEN = 0.6  # standard deviation of the logarithm of the fog's echo
_DROPS_WITHIN = 12.0  # m, beyond which a drop is too faint
_DROP_SHADE = 0.004  # reflectivity that a drop seems to have
_EDGE = 0.15  # m between neighbouring ranges from which on they are two surfaces
_LOBE = 6  # exponent of the shine of what is glossy, of the square of the cosine

_GROUND_TABLES = (
    np.array([SURFACES[s].reflectivity for s in Surface]),
    np.array([SURFACES[s].specular for s in Surface]),
)
_RETRO = np.array([m in (Material.SIGN, Material.REFLECTIVE, Material.PLATE) for m in Material])
_LUMA = np.array([0.2126, 0.7152, 0.0722]) / 255.0  # ITU-R BT.709
_BLACK_PAINT, _WHITE_PAINT = 0.04, 0.62  # reflectivity at 905 nm; between them it goes with the square of brightness
_PANES = (Material.GLASS, Material.WINDOW)
_DUST = 0.1  # share of their reflectivity that comes straight back: the rest is mirrored into some corner
_DYED = (Material.CLOTH, Material.HAIR, Material.PLASTIC, Material.TARPAULIN, Material.PLASTER)
_DYED_LEAST, _DYED_MOST = 0.55, 1.45  # factors on the reflectivity of what dyes darken, which matters less at 905 nm

NORMAL = np.array([NormalDist().inv_cdf((k + 0.5) / 4096.0) for k in range(4096)])
"""Quantiles of the standard normal distribution: one by 12 random bits."""


def echo_tables(scene: SceneRays) -> tuple[np.ndarray, ...]:
    """(P,) reflectivity, gloss, whether it is made to reflect and whether it is loose (leaves), of each primitive; the
    first two of each Surface.

    Black cars give little back and white ones much, which the same material with another paint has to do.
    """
    reflectivity, material = REFLECTIVITY[scene.material], scene.material
    brightness = (scene.color * _LUMA).sum(axis=1)
    painted = _BLACK_PAINT + (_WHITE_PAINT - _BLACK_PAINT) * brightness**2
    reflectivity = np.where(material == Material.PAINT, painted, reflectivity)
    dyed = reflectivity * (_DYED_LEAST + (_DYED_MOST - _DYED_LEAST) * brightness)
    reflectivity = np.where(np.isin(material, _DYED), dyed, reflectivity)
    reflectivity = np.minimum(reflectivity * _own_share(scene)[scene.body], 1.0)
    reflectivity = np.where(np.isin(material, _PANES), _DUST * reflectivity, reflectivity)
    return reflectivity, SPECULAR[material], _RETRO[material], scene.density > 0.0, *_GROUND_TABLES


@njit(cache=True, inline="always")
def _bits(ray, key):
    """64 random bits of a ray: SplitMix64 of a counter (Steele, Lea, Flood 2014)."""
    z = np.uint64(ray) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(key)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@njit(cache=True)
def _own_share(scene):
    """(B,) factor on the reflectivity of each body, always the same: no two walls or trees are of one shade."""
    share = np.empty(len(scene.owner))
    for b in range(len(share)):
        who = np.int64(scene.owner[b])
        if who == 0:
            who = np.int64(math.floor(scene.place[b, 0] * 97.0)) * 8191 + np.int64(math.floor(scene.place[b, 1] * 97.0))
        share[b] = math.exp(_SHADES * NORMAL[_bits(who, 7) & np.uint64(4095)])
    return share


@njit(cache=True, inline="always")
def _uniform(bits, place):
    """A number in (0, 1) from 12 of the bits, the `place`-th dozen."""
    return (((bits >> np.uint64(12 * place)) & np.uint64(4095)) + 0.5) / 4096.0


@njit(cache=True, inline="always")
def _of(table, bits, place):
    """An entry of a table of 4096 by the `place`-th dozen of the bits."""
    return table[(bits >> np.uint64(12 * place)) & np.uint64(4095)]


@njit(cache=True)
def backscatter(reflectivity, specular, cosine):
    """Share of light that a surface sends straight back, `reflectivity` at normal incidence.

    Rough part: Oren and Nayar (1994) seen from the light, cos (A + B sin tan) with a roughness of 30 deg, which falls
    with the angle of incidence more slowly than Lambert's cosine. The glossy part shines around the normal alone.
    """
    square = cosine * cosine
    rough = (0.7732 * cosine + 0.3389 * (1.0 - square)) / 0.7732
    return reflectivity * ((1.0 - specular) * rough + specular * square**_LOBE)


@njit(cache=True, inline="always")
def _echo(primitive, surface, cosine, wetness, tables):
    """(reflectivity towards the sensor on the calibrated scale, gain of its power) of what was hit."""
    reflectivity, specular, retro, _, ground_reflectivity, ground_specular = tables
    if primitive == GROUND:
        r, s = ground_reflectivity[surface], ground_specular[surface]
        # A film of water darkens a road in the near infrared and mirrors most of the rest away.
        r *= 1.0 - 0.5 * wetness
        s += (0.8 - s) * wetness if s < 0.8 else 0.0
        return backscatter(r, s, cosine), 1.0
    if retro[primitive]:
        working = min(cosine / _RETRO_FADES, 1.0)
        return reflectivity[primitive] * (0.3 + _RETRO_SHADE * working), 1.0 + _RETRO_GAIN * working
    return backscatter(reflectivity[primitive], specular[primitive], cosine), 1.0


@njit(cache=True, nogil=True)
def turned(directions, R):
    """(N, 3) directions turned by a (3, 3) matrix; sums in this order everywhere, which BLAS does not promise."""
    out = np.empty_like(directions)
    for i in range(len(directions)):
        x, y, z = directions[i, 0], directions[i, 1], directions[i, 2]
        for k in range(3):
            out[i, k] = R[k, 0] * x + R[k, 1] * y + R[k, 2] * z
    return out


@njit(cache=True, nogil=True)
def packed(reported, intensity, kind, directions, origin, time, beams, owner, surface, primitive):
    """Rays that came back, as columns of `LidarReturns`."""
    count = 0
    for i in range(len(reported)):
        count += reported[i] > 0.0
    points, when = np.empty((count, 4), np.float32), np.empty(count, np.float32)
    owners, surfaces = np.zeros(count, np.int64), np.full(count, AIR, np.int16)
    ring, column, ground = np.empty(count, np.int16), np.empty(count, np.int32), np.zeros(count, np.bool_)
    k = 0
    for i in range(len(reported)):
        r = reported[i]
        if r <= 0.0:
            continue
        for axis in range(3):
            points[k, axis] = origin[axis] + r * directions[i, axis]
        points[k, 3] = intensity[i]
        when[k], ring[k], column[k] = time[i], i % beams, i // beams
        j = kind[i]
        if j >= 0:
            owners[k], surfaces[k], ground[k] = owner[j], surface[j], primitive[j] == GROUND
        k += 1
    return points, when, owners, ring, column, surfaces, ground


@njit(cache=True, nogil=True)
def returns(
    distance, primitive, surface, incidence, beams, sensor, sensitivity, weather, tables, free, key, begin, end,
    reported, intensity, kind,
):  # fmt: skip
    """What the sensor reports of rays begin..end, column by column of `beams` rays.

    Args:
        distance, primitive, surface, incidence: (N,) of `Hits`.
        free: (N,) whether the beam clears the own vehicle.
        sensor: see `sensor_numbers`. weather: loss, range noise, soft power and range, drops, wetness.
        reported: (N,) out, m, 0 for no return. intensity: (N,) out, 0..1.
        kind: (N,) out, ray whose hit it is (itself, or its neighbour at an edge), -1 for none, -2 for the air.
    """
    (nearest, farthest, noise, noise_per_m, step, half_beam, pulse, threshold, missing,
     scale, gamma, floor, shades, normal, fading, shining) = sensor  # fmt: skip
    loss, rain_noise, soft_power, soft_range, drops, wetness = weather
    n = len(distance)
    for i in range(begin, end):
        reported[i], kind[i] = 0.0, -1
        if not free[i]:
            continue
        bits = _bits(i, key)
        r, power, shade, of = distance[i], 0.0, 0.0, i
        if primitive[i] != NOTHING:
            shade, gain = _echo(primitive[i], surface[i], incidence[i], wetness, tables)
            if primitive[i] != GROUND and tables[3][primitive[i]]:
                shade *= _LEAF + (1.0 - _LEAF) * _uniform(bits, 2)  # leaves fill a part of the beam
            power = shade * gain / (r * r)
        # Where the next column meets something else, an edge lies between the two: perhaps within this beam.
        j, share = i + beams, 0.0
        if j < n and abs(distance[j] - r) > _EDGE:
            share = half_beam - _uniform(bits, 0)
        elif i >= beams and abs(distance[i - beams] - r) > _EDGE:
            j = i - beams
            share = half_beam - 1.0 + _uniform(_bits(j, key), 0)
        if share > 0.0:
            share *= 0.5 / half_beam
            power *= 1.0 - share
            if primitive[j] != NOTHING:
                other, gain = _echo(primitive[j], surface[j], incidence[j], wetness, tables)
                beside = share * other * gain / (distance[j] * distance[j])
                if abs(distance[j] - r) < pulse:
                    r = (power * r + beside * distance[j]) / max(power + beside, 1e-30)
                    shade = max(shade, other)
                    power += beside
                elif beside > power:
                    r, power, shade, of = distance[j], beside, other, j
        if power > 0.0:
            power *= math.exp(-loss * r)
        if soft_power > 0.0 or drops > 0.0:
            air = _bits(i, key + 1)
            # The fog's own echo is uneven from pulse to pulse.
            soft = soft_power * math.exp(_UNEVEN * _of(normal, air, 0))
            if soft > power:
                r, power, of = soft_range * (0.75 + 1.5 * _uniform(air, 1) ** 2), soft, -2
                shade = soft * r * r
            if drops > 0.0 and _uniform(air, 2) < drops:
                drop = nearest + _DROPS_WITHIN * _uniform(air, 3) ** 2
                if drop < r:
                    r, power, shade, of = drop, 4.0 * threshold, _DROP_SHADE, -2
        if power * sensitivity[i % beams] * _of(fading, bits, 1) < threshold or _uniform(bits, 2) < missing:
            continue
        r += _of(normal, bits, 3) * math.sqrt((noise + noise_per_m * r) ** 2 + (rain_noise * r) ** 2)
        if r < nearest or r > farthest:
            continue
        reported[i], kind[i] = math.floor(r / step + 0.5) * step, of
        shade *= _of(shining, bits, 4)
        level = scale * math.log(max(shade / floor, 1.0)) if floor > 0.0 else scale * shade**gamma
        intensity[i] = min(math.floor(level * shades + 0.5) / shades, 1.0)
