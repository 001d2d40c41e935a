"""Sun, sky and air: what lights the world, and what is seen where there is nothing. Light is linear RGB.

The unit of light is what a white surface facing the sun of a clear day sends back.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from karp_perception.core.compiled import PER_PIXEL, PER_ROW, njit
from karp_perception.world.sensors.textures import NOISE_SIZE, noise_at
from karp_perception.world.sensors.weather import Weather

RGB = tuple[float, float, float]


class Light(NamedTuple):
    """The light of a moment, for compiled code."""

    sun: RGB  # direction towards the sun
    sunlight: RGB  # what a white surface facing the sun sends back of it
    skylight: RGB  # what a white level surface sends back of the whole sky
    bounce: RGB  # what one facing down sends back of the ground
    zenith: RGB  # radiance of the sky overhead
    horizon: RGB  # and low down: also the colour of haze
    cloud: RGB  # of a bright cloud
    cloudiness: float
    drift: float  # m, moves the clouds' pattern
    extinction: float  # 1 / m
    wetness: float
    lamps: float  # 1 where head lamps light the road
    rain: float  # mm/h
    exposure: float  # gain that makes the scene's mean a middle grey


_GREY = 0.16  # share of full scale that the mean of a scene is exposed to
_MEAN_ALBEDO = 0.20


def light_of(weather: Weather) -> Light:
    """The light of that weather."""
    elevation = math.degrees(weather.sun_elevation)
    # Day is 1, deep twilight 0; a low sun has lost its blue and much of its strength to the air.
    day = 1.0 / (1.0 + math.exp(-(elevation + 1.0) / 1.8))
    height = min(max(elevation / 25.0, 0.0), 1.0)
    warm = np.array([1.0, 0.62 + 0.36 * math.sqrt(height), 0.30 + 0.60 * math.sqrt(height)])
    sunlight = weather.sunshine * (0.35 + 0.65 * height) * warm
    overcast = min(max((weather.cloudiness - 0.5) / 0.4, 0.0), 1.0)
    fog = min(max(1.0 - math.log10(weather.visibility / 60.0) / 1.6, 0.0), 1.0)
    veil = max(overcast, fog)
    clear_zenith, grey = np.array([0.10, 0.22, 0.48]), np.array([0.33, 0.35, 0.37])
    clear_horizon = np.array([0.50, 0.58, 0.68]) * (0.5 + 0.5 * height) + (1 - height) * np.array([0.30, 0.17, 0.06])
    night = np.array([0.0022, 0.0024, 0.0036])
    dim = day * (0.25 + 0.75 * math.sqrt(max(height, 0.0)))
    thick = 1.0 - 0.35 * min(weather.rain / 10.0, 1.0)  # clouds that rain are dark
    zenith = dim * ((1 - veil) * clear_zenith + veil * thick * grey) + night
    horizon = max(dim, 0.35 * day) * ((1 - veil) * clear_horizon + veil * thick * 1.05 * grey) + 1.5 * night
    skylight = 0.95 * (0.55 * zenith + 0.45 * horizon)
    up = math.sin(max(weather.sun_elevation, 0.0))
    bounce = 0.16 * (skylight + 0.6 * up * sunlight)
    cloud = dim * (0.25 + 0.6 * weather.sunshine) * (0.4 + 0.6 * warm) + night
    level = float(np.mean(skylight) + 0.6 * up * np.mean(sunlight)) * _MEAN_ALBEDO
    exposure = _GREY / (
        0.5 * level + 0.5 * _MEAN_ALBEDO * float(np.mean(horizon)) + 0.012
    )  # no camera makes day of night
    colors = (weather.sun_direction, sunlight, skylight, bounce, zenith, horizon, cloud)
    return Light(
        *(tuple(float(c) for c in color) for color in colors), float(weather.cloudiness),
        1000.0 * math.sin(7.0 * weather.sun_azimuth), weather.extinction, float(weather.wetness),
        1.0 if weather.night else 0.0, float(weather.rain), float(exposure),
    )  # fmt: skip


@njit(**PER_PIXEL)
def sky_color(light, tile, dx, dy, dz, sharp):
    """Radiance of the sky along a direction of unit length; `sharp`: with clouds' edges and the sun's disc."""
    low = 1.0 - max(dz, 0.0)
    low = low * low * low
    r = light.zenith[0] + low * (light.horizon[0] - light.zenith[0])
    g = light.zenith[1] + low * (light.horizon[1] - light.zenith[1])
    b = light.zenith[2] + low * (light.horizon[2] - light.zenith[2])
    if sharp and dz > 0.0 and light.cloudiness > 0.02:
        # A layer of clouds at a height: far ones are small and drown in haze.
        k = 1.0 / (dz + 0.12)
        n = 1.15 * noise_at(tile, 11.0 * dx * k + light.drift, 11.0 * dy * k, NOISE_SIZE)
        cover = (n + 1.25 * (2.4 * light.cloudiness - 1.4)) * 0.9
        cover = min(max(cover, 0.0), 1.0) * min(dz * 9.0, 1.0)
        body = 1.0 - 0.28 * min(max(n, 0.0), 1.6)
        r += cover * (body * light.cloud[0] - r) * 0.9
        g += cover * (body * light.cloud[1] - g) * 0.9
        b += cover * (body * light.cloud[2] - b) * 0.9
    s = dx * light.sun[0] + dy * light.sun[1] + dz * light.sun[2]
    if s > 0.0:
        s8 = s * s * s * s
        s8 *= s8
        glow = 0.5 * s8 * s8 * s8
        if sharp and s > 0.98:
            glow += 12.0 * math.sqrt((s - 0.9994) / 0.0006) if s > 0.9994 else 0.8 * math.exp(400.0 * (s - 1.0))
        r += glow * light.sunlight[0]
        g += glow * light.sunlight[1]
        b += glow * light.sunlight[2]
    # Fog closes in from the horizon: the way through it is longest there.
    clear = math.exp(-light.extinction * 400.0 / (max(dz, 0.0) + 0.06))
    return (
        light.horizon[0] + clear * (r - light.horizon[0]),
        light.horizon[1] + clear * (g - light.horizon[1]),
        light.horizon[2] + clear * (b - light.horizon[2]),
    )


@njit(**PER_ROW)
def mirrored(light, tile, dx, dy, dz):
    """Radiance of the surroundings along the direction of a reflection: sky above, ground below, houses between."""
    if dz <= 0.0:
        return 0.9 * light.bounce[0], 0.9 * light.bounce[1], 0.9 * light.bounce[2]
    r, g, b = sky_color(light, tile, dx, dy, dz, False)
    if dz < 0.22:
        k = 0.45 + 0.55 * dz / 0.22
        return k * r, k * g, k * b
    return r, g, b
