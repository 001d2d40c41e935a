"""What rain, fog and wet roads do to a laser."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from karp_perception.world.sensors.weather import Weather

_BACKSCATTER = 0.046  # backscattering coefficient of fog x its optical range (Rasshofer 2011, Hahner 2021)
_PULSE_S = 20e-9  # s, half-power width of a pulse (Hahner et al. 2021)
_LIGHT = 299792458.0  # m/s
_BLIND, _FULL = 0.9, 1.0  # m, where the receiver begins to see its own beam, and where it sees all of it (ibid.)
_HEARD = (
    0.025  # share of a soft echo that counts as a pulse: a wall in 50 m fog is lost beyond 25 m (Bijelic et al. 2018)
)
_FOG_RANGE = 4000.0  # m, optical range beyond which nobody speaks of fog
_DROPS = 2e-3  # share of pulses that a drop within the first metres answers, at 1 mm/h


@dataclass(frozen=True)
class LaserWeather:
    """Weather as a laser of 905 nm meets it.

    Attributes:
        loss: 1/m, what is lost of received power both ways, in its exponent.
        range_noise: m per m, more standard deviation of a range.
        soft_power, soft_range: received power of the air itself (as reflectivity / m2) and where it peaks, m.
        drops: share of pulses that meet a drop close by.
        wetness: of the ground, 0..1.
    """

    loss: float = 2 * math.log(20.0) / 20000.0
    range_noise: float = 0.0
    soft_power: float = 0.0
    soft_range: float = 0.0
    drops: float = 0.0
    wetness: float = 0.0

    @classmethod
    def of(cls, weather: Weather | None) -> LaserWeather:
        """The same weather for a laser; None is a clear day.

        Extinction is that of light (fog by Koschmieder, rain by ITU-R P.1814). Rain blurs ranges as in Goodin et al.,
        "Predicting the influence of rain on lidar in ADAS" (2019), but a tenth as much: theirs is 20 cm at 10 m. Fog
        sends a part of the pulse back on its way, after Hahner et al., "Fog simulation on real lidar point clouds"
        (ICCV 2021).
        """
        if weather is None:
            return cls()
        rain = weather.rain
        power, place = soft_target(weather.visibility) if weather.visibility < _FOG_RANGE else (0.0, 0.0)
        return cls(
            2 * weather.extinction, 0.002 * (1 - math.exp(-rain)) ** 2, power, place,
            min(_DROPS * rain**0.6, 0.5), max(weather.wetness, min(rain / 5.0, 1.0)),
        )  # fmt: skip


@lru_cache(maxsize=64)
def soft_target(visibility: float) -> tuple[float, float]:
    """Peak of what fog of an optical range (m) sends back, and its range, m.

    The power is that of a surface: a reflectivity r at z m gives r / z^2 without loss (its backscatter is r / pi).
    """
    extinction, backscatter = math.log(20.0) / visibility, _BACKSCATTER / visibility
    step = 0.02
    z = np.arange(_BLIND + step, 40.0, step)
    crossover = np.clip((z - _BLIND) / (_FULL - _BLIND), 0.0, 1.0)
    response = backscatter * crossover / z**2 * np.exp(-2 * extinction * z)
    length = _LIGHT * _PULSE_S  # m in range of a whole sin^2 pulse, twice its half-power width
    pulse = np.sin(np.pi * np.arange(step, length, step) / length) ** 2
    received = np.convolve(response, pulse)[: len(z)] * step
    peak = int(np.argmax(received))
    return float(_HEARD * np.pi * received[peak]), float(z[peak])
