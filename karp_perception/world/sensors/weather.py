"""Light and weather: one description for the cameras, the lidar and whoever else is out in it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from karp_perception.core.settings import Settings, setting

_DARK = math.radians(-4.0)  # sun's elevation at which street lamps have long been on (civil twilight ends at -6)
_MOR_CONTRAST = math.log(20.0)  # extinction x meteorological optical range: 5 % of a beam is left (WMO-No. 8)


@dataclass(frozen=True)
class Weather(Settings):
    """Sun, clouds, rain, fog and how wet the road is. The default is a clear day with a few clouds.

    Azimuths are those of the world's frame: from x (east) towards y (north).
    """

    sun_azimuth: float = setting(-2.2, "direction in which the sun stands", unit="rad", low=-math.pi, high=math.pi)
    sun_elevation: float = setting(0.8, "of the sun above the horizon", unit="rad", low=-0.6, high=0.5 * math.pi)
    cloudiness: float = setting(0.3, "share of the sky behind clouds; from 0.9 on there are no shadows", low=0, high=1)
    rain: float = setting(0.0, "rate of rain: 2.5 is light, 10 heavy, 50 a cloudburst", unit="mm/h", low=0, high=200)
    visibility: float = setting(20000.0, "meteorological optical range: 1000 is fog", unit="m", low=10, high=100000)
    wetness: float = setting(0.0, "of the road: 0 dry, 1 covered by a film of water", low=0, high=1)

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Weather:
        """Weather of a moment as it comes: mostly dry daylight, sometimes rain, fog, dusk or night."""
        sort = rng.random()
        elevation = math.radians(rng.uniform(8.0, 62.0) if sort < 0.88 else rng.uniform(-12.0, 8.0))
        cloudiness = float(np.clip(rng.beta(0.7, 0.7), 0.0, 1.0))
        rain, wetness, visibility = 0.0, 0.0, float(rng.uniform(8e3, 4e4))
        wet = rng.random()
        if wet < 0.12:
            cloudiness, wetness = float(rng.uniform(0.8, 1.0)), float(rng.uniform(0.5, 1.0))
            rain = float(min(rng.lognormal(math.log(2.5), 0.9), 50.0))
        elif wet < 0.2:  # after the rain
            wetness = float(rng.uniform(0.2, 0.9))
        if rng.random() < 0.05:
            visibility, cloudiness = float(np.exp(rng.uniform(math.log(80.0), math.log(1500.0)))), 1.0
        azimuth = float(rng.uniform(-math.pi, math.pi))
        return cls(azimuth, elevation, cloudiness, rain, visibility, wetness)

    @property
    def night(self) -> bool:
        """Whether it is dark: head lamps and street lamps are on."""
        return self.sun_elevation < _DARK

    @property
    def sun_direction(self) -> np.ndarray:
        """(3,) of unit length, in the world's frame, towards the sun."""
        c = math.cos(self.sun_elevation)
        return np.array([c * math.cos(self.sun_azimuth), c * math.sin(self.sun_azimuth), math.sin(self.sun_elevation)])

    @property
    def sunshine(self) -> float:
        """Share of the sun's direct light that comes through the clouds, 0 (no shadows) to 1; 0 below the horizon."""
        through = min(max((0.9 - self.cloudiness) / 0.6, 0.0), 1.0)
        return through * min(max(math.degrees(self.sun_elevation) / 5.0, 0.0), 1.0)

    @property
    def extinction(self) -> float:
        """Share of visible light lost in a metre of air, 1/m: haze or fog (Koschmieder), and rain (ITU-R P.1814)."""
        rain_db_per_km = 1.076 * self.rain**0.67
        return _MOR_CONTRAST / self.visibility + rain_db_per_km * math.log(10.0) / 10e3
