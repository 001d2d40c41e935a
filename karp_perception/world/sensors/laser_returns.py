"""From the nearest hits of a sweep's rays to what a lidar reports: received power, noise, dropout, intensity."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from karp_perception.world.geometry.cast import GROUND, NOTHING
from karp_perception.world.geometry.ground import SURFACES, Surface
from karp_perception.world.geometry.materials import REFLECTIVITY, SPECULAR, Material

AIR = -1
"""Surface of a return from fog or rain."""

_RETRO_GAIN = 60.0  # more power than a white surface: signs and plates (Velodyne: retroreflectors lie above 100 %)
_RETRO_FADES = 0.5  # cosine of the angle up to which they work
_EDGE = 0.15  # m between neighbouring ranges from which on they are two surfaces
_LOBE = 12.0  # exponent of the shine of what is glossy

GROUND_REFLECTIVITY = np.array([SURFACES[s].reflectivity for s in Surface])
GROUND_SPECULAR = np.array([SURFACES[s].specular for s in Surface])
RETRO = np.array([m in (Material.SIGN, Material.REFLECTIVE, Material.PLATE) for m in Material])
SURFACE_TABLES = (REFLECTIVITY, SPECULAR, RETRO, GROUND_REFLECTIVITY, GROUND_SPECULAR)


@njit(cache=True, inline="always")
def _number(ray, seed, stream):
    """Uniform in (0, 1): SplitMix64 of a counter (Steele, Lea, Flood 2014)."""
    z = np.uint64(ray) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(seed) * np.uint64(0xD1342543DE82EF95)
    z += np.uint64(stream) * np.uint64(0x2545F4914F6CDD1D)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return (float(z >> np.uint64(11)) + 0.5) / 9007199254740992.0


@njit(cache=True)
def _normals(ray, seed, stream):
    """Two independent standard normal numbers (Box, Muller 1958)."""
    radius = math.sqrt(-2.0 * math.log(_number(ray, seed, stream)))
    angle = 2.0 * math.pi * _number(ray, seed, stream + 1)
    return radius * math.cos(angle), radius * math.sin(angle)


@njit(cache=True)
def backscatter(reflectivity, specular, cosine):
    """Share of light that a surface sends straight back, `reflectivity` at normal incidence.

    Rough part: Oren and Nayar (1994) seen from the light, cos (A + B sin tan) with a roughness of 30 deg, which falls
    with the angle of incidence more slowly than Lambert's cosine. The glossy part shines around the normal alone.
    """
    square = cosine * cosine
    rough = (0.7732 * cosine + 0.3389 * (1.0 - square)) / 0.7732
    return reflectivity * ((1.0 - specular) * rough * math.sqrt(cosine) + specular * cosine**_LOBE)


@njit(cache=True, inline="always")
def _echo(hit_ground, surface, cosine, wetness, tables):
    """(reflectivity towards the sensor on the calibrated scale, gain of its power) of a surface."""
    reflectivity, specular, retro, ground_reflectivity, ground_specular = tables
    if hit_ground:
        r, s = ground_reflectivity[surface], ground_specular[surface]
        # A film of water darkens a road in the near infrared and mirrors most of the rest away.
        r *= 1.0 - 0.5 * wetness
        s += (0.8 - s) * wetness if s < 0.8 else 0.0
        return backscatter(r, s, cosine), 1.0
    if retro[surface]:
        working = min(cosine / _RETRO_FADES, 1.0)
        return reflectivity[surface] * max(working, 0.3), 1.0 + _RETRO_GAIN * working
    return backscatter(reflectivity[surface], specular[surface], cosine), 1.0


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
    distance, primitive, surface, incidence, beams, sensor, sensitivity, weather, tables, seed, begin, end,
    reported, intensity, kind,
):  # fmt: skip
    """What the sensor reports of rays begin..end, column by column of `beams` rays.

    Args:
        distance, primitive, surface, incidence: (N,) of `Hits`.
        sensor: see `sensor_numbers`. weather: loss, range noise, soft power and range, drops, wetness.
        reported: (N,) out, m, 0 for no return. intensity: (N,) out, 0..1.
        kind: (N,) out, ray whose hit it is (itself, or its neighbour at an edge), -1 for none, -2 for the air.
    """
    (nearest, farthest, noise, noise_per_m, step, half_beam, pulse, threshold, fading, missing,
     scale, gamma, shade_noise, shades) = sensor  # fmt: skip
    loss, rain_noise, soft_power, soft_range, drops, wetness = weather
    n = len(distance)
    for i in range(begin, end):
        reported[i], kind[i] = 0.0, -1
        sensed = sensitivity[i % beams]
        r, power, shade, of = distance[i], 0.0, 0.0, i
        if primitive[i] != NOTHING:
            shade, gain = _echo(primitive[i] == GROUND, surface[i], incidence[i], wetness, tables)
            power = shade * gain / (r * r)
        # Where the next column meets something else, an edge lies between the two: perhaps within this beam.
        j, share = i + beams, 0.0
        if j < n and abs(distance[j] - r) > _EDGE:
            share = half_beam - _number(i, seed, 0)
        elif i >= beams and abs(distance[i - beams] - r) > _EDGE:
            j = i - beams
            share = half_beam - 1.0 + _number(j, seed, 0)
        if share > 0.0:
            share *= 0.5 / half_beam
            power *= 1.0 - share
            if primitive[j] != NOTHING:
                other, gain = _echo(primitive[j] == GROUND, surface[j], incidence[j], wetness, tables)
                beside = share * other * gain / (distance[j] * distance[j])
                if abs(distance[j] - r) < pulse:
                    r = (power * r + beside * distance[j]) / max(power + beside, 1e-30)
                    shade = max(shade, other)
                    power += beside
                elif beside > power:
                    r, power, shade, of = distance[j], beside, other, j
        if r < 1e9:
            power *= math.exp(-loss * r)
        near, spread = _normals(i, seed, 1)
        if soft_power > 0.0:
            # The fog's own echo, uneven from shot to shot.
            soft = soft_power * math.exp(0.6 * _normals(i, seed, 7)[0])
            if soft > power:
                r, power, of = soft_range * (0.75 + 1.5 * _number(i, seed, 5) ** 2), soft, -2
                shade = soft * r * r
        if drops > 0.0 and _number(i, seed, 6) < drops:
            # One drop in the beam answers if nothing solid is nearer; the nearer it is, the likelier.
            drop = nearest + 12.0 * _number(i, seed, 5) ** 2
            if drop < r:
                r, power, shade, of = drop, 4.0 * threshold, 0.004, -2
        if power * sensed * math.exp(fading * spread) < threshold or r >= 1e9:
            continue
        if _number(i, seed, 3) < missing:
            continue
        r += near * math.sqrt((noise + noise_per_m * r) ** 2 + (rain_noise * r) ** 2)
        if r < nearest or r > farthest:
            continue
        reported[i] = math.floor(r / step + 0.5) * step
        kind[i] = of
        level = scale * shade**gamma * math.exp(shade_noise * _normals(i, seed, 9)[0])
        intensity[i] = min(math.floor(level * shades + 0.5) / shades, 1.0)
