"""Where the beams of real lidars point: elevations and azimuth offsets, degrees, the lowest beam first.

Sources: user manuals of Velodyne (HDL-64E S2 63-HDL64ES2, HDL-32E 63-9113, VLP-16 63-9243, VLS-128 63-9483), Ouster
(OS1 datasheet, Rev 7) and Hesai (Pandar40, Pandar64 user manuals). Azimuth offsets are positive clockwise seen from
above, as these sensors count azimuth.
"""

from __future__ import annotations

import numpy as np

Table = tuple[tuple[float, ...], tuple[float, ...]]


def hdl64e() -> Table:
    """HDL-64E S2: an upper block of 32 beams 1/3 deg apart, a lower one of 32 beams 1/2 deg apart.

    Every unit leaves the factory a little different: its calibration file puts each beam a few hundredths of a degree
    from the table and, as the lasers of a block stand in four columns, several degrees to the side. The values here
    are those of no unit in particular.
    """
    rng = np.random.default_rng([64, 2])
    upper, lower = np.linspace(2.0, -8.33, 32), np.linspace(-8.83, -24.33, 32)
    elevation = np.concatenate([upper, lower]) + rng.normal(0.0, 0.03, 64)
    side = np.tile([-5.3, -3.1, 3.1, 5.3], 16) + np.repeat([0.0, 2.2], 32) * np.tile([1.0, 1.0, -1.0, -1.0], 16)
    return _sorted(elevation, side + rng.normal(0.0, 0.3, 64))


def hdl32e() -> Table:
    """HDL-32E: 32 beams 4/3 deg apart, fired one after the other every 1.152 us while the head turns at 20 Hz."""
    order = np.arange(32)
    # The manual's firing order takes beams from the lower and the upper half in turns.
    elevation = -92.0 / 3 + 4.0 / 3 * np.where(order % 2 == 0, order // 2, 16 + order // 2)
    return _sorted(elevation, order * 1.152e-6 * 20.0 * 360.0)


def vlp16() -> Table:
    """VLP-16: 16 beams 2 deg apart, fired every 2.304 us while the head turns at 10 Hz."""
    order = np.arange(16)
    elevation = np.where(order % 2 == 0, -15.0 + order, order)
    return _sorted(elevation, order * 2.304e-6 * 10.0 * 360.0)


def vls128() -> Table:
    """VLS-128 (Alpha Prime): 128 beams, 0.11 deg apart around the horizon, few far below and above."""
    side = np.tile([-6.354, -4.548, -2.732, -0.911, 0.911, 2.732, 4.548, 6.354], 16)
    # Eight lasers at a time, every 2.665 us.
    return _sorted(np.array(_VLS128), side + np.repeat(np.arange(16), 8) * 2.665e-6 * 10.0 * 360.0)


def os1_128() -> Table:
    """OS1-128 (Rev 7): 128 beams evenly over 42.4 deg, all fired at once, in four columns 2.1 deg apart."""
    return _sorted(np.linspace(-21.2, 21.2, 128), np.tile([-3.16, -1.05, 1.05, 3.16], 32))


def pandar40() -> Table:
    """Pandar40: 40 beams from -16 to 7 deg, 1/3 deg apart from -6 to 2 deg, else 1 deg, in columns 2.5 deg apart."""
    elevation = np.concatenate([np.arange(-16.0, -6.0), np.linspace(-6.0, 2.0, 25), np.arange(3.0, 8.0)])
    side = np.zeros(40)
    side[10:34] = np.tile([-5.0, -2.5, 0.0, 2.5, 5.0, 0.0], 4)
    return _sorted(elevation, side)


def pandar64() -> Table:
    """Pandar64: 64 beams, 1/6 deg apart from -6 to 2 deg, wider elsewhere."""
    side = np.full(64, -1.042)
    side[6:54] = np.tile([1.042, 3.125, 5.208, -5.208, -3.125, -1.042], 8)
    return _sorted(np.array(_PANDAR64), side)


def even(beams: int, lowest: float, highest: float) -> Table:
    """Beams at equal distances, for sensors of which no table is known."""
    return tuple(np.linspace(lowest, highest, beams).tolist()), (0.0,) * beams


def _sorted(elevation: np.ndarray, side: np.ndarray) -> Table:
    order = np.argsort(elevation, kind="stable")
    return tuple(elevation[order].tolist()), tuple(side[order].tolist())


_VLS128 = (
    -11.742, -1.99, 3.4, -5.29, -0.78, 4.61, -4.08, 1.31, -6.5, -1.11, 4.28, -4.41, 0.1, 6.48, -3.2, 2.19,
    -3.86, 1.53, -9.244, -1.77, 2.74, -5.95, -0.56, 4.83, -2.98, 2.41, -6.28, -0.89, 3.62, -5.07, 0.32, 7.58,
    -0.34, 5.18, -3.64, 1.75, -25.0, -2.43, 2.96, -5.73, 0.54, 9.7, -2.76, 2.63, -7.65, -1.55, 3.84, -4.85,
    3.18, -5.51, -0.12, 5.73, -4.3, 1.09, -16.042, -2.21, 4.06, -4.63, 0.76, 15.0, -3.42, 1.97, -6.85, -1.33,
    -5.62, -0.23, 5.43, -3.53, 0.98, -19.582, -2.32, 3.07, -4.74, 0.65, 11.75, -2.65, 1.86, -7.15, -1.44, 3.95,
    -2.1, 3.29, -5.4, -0.01, 4.5, -4.19, 1.2, -13.565, -1.22, 4.17, -4.52, 0.87, 6.08, -3.31, 2.08, -6.65,
    1.42, -10.346, -1.88, 3.51, -6.06, -0.67, 4.72, -3.97, 2.3, -6.39, -1.0, 4.39, -5.18, 0.21, 6.98, -3.09,
    4.98, -3.75, 1.64, -8.352, -2.54, 2.85, -5.84, -0.45, 8.43, -2.87, 2.52, -6.17, -1.66, 3.73, -4.96, 0.43,
)  # fmt: skip

_PANDAR64 = (
    14.882, 11.032, 8.059, 5.057, 3.04, 2.028, 1.86, 1.688, 1.522, 1.351, 1.184, 1.013, 0.846, 0.675, 0.508, 0.337,
    0.169, 0.0, -0.169, -0.337, -0.508, -0.675, -0.845, -1.013, -1.184, -1.351, -1.522, -1.688, -1.86, -2.028, -2.198,
    -2.365, -2.536, -2.7, -2.873, -3.04, -3.21, -3.375, -3.548, -3.712, -3.884, -4.05, -4.221, -4.385, -4.558, -4.72,
    -4.892, -5.057, -5.229, -5.391, -5.565, -5.726, -5.898, -6.061, -7.063, -8.059, -9.06, -9.885, -11.032, -12.006,
    -12.974, -13.93, -18.889, -24.897,
)  # fmt: skip
