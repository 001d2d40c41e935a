"""Real lidars in numbers: beams, turning, ranges, noise, and what their intensity means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from karp_perception.core.errors import ConfigurationError
from karp_perception.world.sensors import beam_tables


@dataclass(frozen=True)
class LidarModel:
    """A turning lidar. Ranges and noise are those of its data sheet.

    Attributes:
        name: as it is asked for.
        elevations: deg above the sensor's horizon by ring, the lowest first.
        azimuth_offsets: deg clockwise by ring, where a ring's beam points beside the head's azimuth.
        columns: firings in a turn.
        rate: turns a second. All of these turn clockwise seen from above.
        stamp_at: part of the turn after which the sweep is stamped: 0 first, 1 last firing.
        min_range, max_range: m; returns outside are left out, those of the own roof among them.
        noise: m, standard deviation of a range. noise_per_m: what it grows by a metre.
        range_step: m, resolution of a range.
        divergence: rad, full angle of a beam across the direction of turning.
        pulse_length: m in range below which two surfaces in one beam merge into one return.
        reach_at_10: m at which half the pulses that meet a surface of 10 % reflectivity squarely come back.
        fading: standard deviation of the logarithm of received power (speckle, texture of surfaces).
        beam_spread: the same, of each ring's sensitivity against the others'.
        missing: share of returns lost for no reason that is modelled.
        intensity_scale, intensity_gamma: intensity = scale * reflectivity ** gamma, 0..1. Velodyne's calibrated
            reflectivity is linear, 100 of 255 for a white surface, retroreflectors above; others bend it.
        intensity_floor: above 0, intensity = scale * log(reflectivity / floor) instead, 0 below the floor: raw
            amplitudes of sensors without calibration, whose darkest returns all say 0.
        intensity_noise: standard deviation of the logarithm of intensity.
        roof: m, what it stands on: how far that lies below the beams' origin and reaches ahead, behind and to either
            side. Beams that meet it return nothing that drivers keep. None for nothing in the way.
        intensity_steps: how many values it has between 0 and 1.
    """

    name: str
    elevations: tuple[float, ...]
    azimuth_offsets: tuple[float, ...]
    columns: int
    rate: float = 10.0
    stamp_at: float = 0.5
    min_range: float = 1.0
    max_range: float = 100.0
    noise: float = 0.02
    noise_per_m: float = 0.0
    range_step: float = 0.002
    divergence: float = 0.003
    pulse_length: float = 0.9
    reach_at_10: float = 60.0
    fading: float = 0.35
    beam_spread: float = 0.1
    missing: float = 0.005
    intensity_scale: float = 0.4
    intensity_gamma: float = 1.0
    intensity_floor: float = 0.0
    intensity_noise: float = 0.3
    intensity_steps: int = 255
    roof: tuple[float, float, float, float] | None = None

    def __post_init__(self) -> None:
        beams = len(self.elevations)
        if not beams or len(self.azimuth_offsets) != beams:
            raise ConfigurationError(
                f"lidar {self.name}: expected as many azimuth offsets as elevations, at least one, "
                f"got {len(self.azimuth_offsets)} and {beams}"
            )
        if self.columns < 1 or self.rate <= 0 or not 0 <= self.min_range < self.max_range or self.reach_at_10 <= 0:
            raise ConfigurationError(
                f"lidar {self.name}: expected columns, rate and ranges above 0, got {self.columns} columns, "
                f"{self.rate} Hz, {self.min_range} to {self.max_range} m"
            )

    @property
    def beams(self) -> int:
        """Number of rings."""
        return len(self.elevations)

    @property
    def sweep_s(self) -> float:
        """Duration of a turn, s."""
        return 1.0 / self.rate

    @cached_property
    def sensitivity(self) -> np.ndarray:
        """(beams,) factor on received power of each ring: no two lasers of a unit are alike."""
        rng = np.random.default_rng([128, self.beams])
        return np.exp(rng.normal(0.0, self.beam_spread, self.beams))

    def with_columns(self, columns: int) -> LidarModel:
        """The same sensor with another azimuth resolution."""
        return replace(self, columns=columns)


# Roofs below roof lidars: of KITTI's estate car, and of nuScenes' small car, whose lidar stands far ahead on it.
_ESTATE = (0.25, 0.6, 0.85, 0.55)
_SMALL_CAR = (0.35, 0.65, 1.1, 0.5)


def lidar_named(name: str) -> LidarModel:
    """A model of LIDARS; BEAMSxCOLUMNS such as "64x1024" gives that many columns of the model for so many beams.

    Raises ConfigurationError for a name that is neither.
    """
    if name in LIDARS:
        return LIDARS[name]
    beams, _, columns = name.partition("x")
    if beams in _BY_BEAMS and columns.isdecimal() and 1 <= int(columns) <= 10000:
        return replace(LIDARS[_BY_BEAMS[beams]], name=name, columns=int(columns))
    raise ConfigurationError(
        f"lidar {name!r}: there are {', '.join(sorted(LIDARS))}, and BEAMSxCOLUMNS for {', '.join(_BY_BEAMS)} beams"
    )


def _models() -> dict[str, LidarModel]:
    models = (
        # KITTI's sensor: 0.1728 deg a firing at 10 Hz, stamped as it faces ahead; 50 m on pavement (10 %), 120 m on
        # cars and leaves (80 %); noise below 2 cm; its intensity is not calibrated.
        LidarModel(
            "hdl64e", *beam_tables.hdl64e(), columns=2083, min_range=1.8, max_range=80.0, noise=0.015,
            divergence=0.002, reach_at_10=50.0, missing=0.01,
            intensity_scale=0.145, intensity_floor=0.015, intensity_noise=0.5, intensity_steps=100,
            roof=_ESTATE,
        ),
        # nuScenes' sensor: 46.08 us a firing at 20 Hz, stamped at the end of the turn; 80 to 100 m.
        LidarModel(
            "hdl32e", *beam_tables.hdl32e(), columns=1085, rate=20.0, stamp_at=1.0, min_range=1.0, max_range=100.0,
            noise=0.02, divergence=0.00279, reach_at_10=55.0, intensity_scale=0.55, intensity_gamma=1.1,
            intensity_noise=0.5, roof=_SMALL_CAR,
        ),
        # 55.296 us a firing at 10 Hz; 100 m; 3 cm typical.
        LidarModel(
            "vlp16", *beam_tables.vlp16(), columns=1808, stamp_at=1.0, min_range=0.9, max_range=100.0, noise=0.02,
            divergence=0.003, reach_at_10=60.0, intensity_scale=0.4,
        ),
        # 53.3 us a firing at 10 Hz; 220 m at 10 %.
        LidarModel(
            "vls128", *beam_tables.vls128(), columns=1876, stamp_at=1.0, min_range=1.0, max_range=220.0, noise=0.02,
            divergence=0.002, reach_at_10=200.0, intensity_scale=0.4,
        ),
        # 2048 columns at 10 Hz; 90 m at 10 %; stamped at the first column; intensity is calibrated since firmware 2.4.
        LidarModel(
            "os128", *beam_tables.os1_128(), columns=2048, stamp_at=0.0, min_range=0.5, max_range=170.0, noise=0.01,
            noise_per_m=0.0003, range_step=0.001, divergence=0.00314, reach_at_10=90.0, intensity_scale=0.35,
        ),
        # 0.2 deg at 10 Hz; 200 m at 20 %; 2 cm.
        LidarModel(
            "pandar40", *beam_tables.pandar40(), columns=1800, stamp_at=1.0, min_range=1.0, max_range=200.0,
            noise=0.02, range_step=0.004, divergence=0.0016, reach_at_10=110.0, intensity_scale=0.34,
            intensity_gamma=1.1, intensity_noise=0.4, roof=_ESTATE,
        ),
        # 0.2 deg at 10 Hz; 200 m at 10 %; 2 cm.
        LidarModel(
            "pandar64", *beam_tables.pandar64(), columns=1800, stamp_at=1.0, min_range=1.0, max_range=200.0,
            noise=0.02, range_step=0.004, divergence=0.0016, reach_at_10=200.0, intensity_scale=0.35,
            intensity_gamma=1.1,
        ),
    )  # fmt: skip
    named = {model.name: model for model in models}
    # As many columns as projects that train on range images use.
    named["64x1024"] = replace(named["hdl64e"], name="64x1024", columns=1024)
    return named


LIDARS: Mapping[str, LidarModel] = _models()
"""By name."""

_BY_BEAMS = {"16": "vlp16", "32": "hdl32e", "64": "hdl64e", "128": "os128"}
