"""Beams of a turning lidar, found in its points: where they start, and which ring and which column a point belongs to.

A beam sweeps a cone, so that seen from where the beams start all of its points have one elevation. Sweeps do not say
where that is; the height at which elevations fall together tells.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import maximum_filter1d
from scipy.signal import find_peaks

DEFAULT_ORIGIN = (0.0, 0.0, 1.75)
"""m in `base_link`: where the beams of a roof lidar start, about."""

_HEIGHTS_M = np.arange(1.4, 2.5, 0.02)
_NEAR_M, _FAR_M = 3.0, 25.0  # of points that the height is found with: those far away hardly depend on it
_SAMPLE = 3000
_SHARP = 1.25  # by which the elevations at the right height must be sharper than at an average one
_COARSE_RAD, _FINE_RAD = np.radians(0.1), np.radians(0.05)  # bins of elevation
_SPAN_RAD = np.radians(60.0)  # elevations up and down
_NEIGHBOURS_RAD = np.radians(1.6)  # a ring is compared with the strongest within that
_FEWEST = 3.0  # points in a bin of a ring
_BAND_RAD = np.radians(0.4)  # taken for a ring where none can be told apart


@dataclass(frozen=True)
class Beams:
    """What the points (N,) of a sweep look like from where its beams start.

    Attributes:
        origin: (3,) m in `base_link`.
        distance: (N,) float32 m from there.
        elevation, azimuth: (N,) float32 rad.
        ring: (N,) number of the ring, the lowest first.
        ring_elevation: (R,) rad of each ring.
    """

    origin: np.ndarray
    distance: np.ndarray
    elevation: np.ndarray
    azimuth: np.ndarray
    ring: np.ndarray
    ring_elevation: np.ndarray

    def every(self, step: int, first: int = 0) -> np.ndarray:
        """(N,) mask of the points of rings `first`, `first + step`, ..."""
        return self.ring % step == first

    def like(self, elevations: np.ndarray) -> np.ndarray:
        """(N,) mask of the points that a lidar with beams at these elevations (rad) would have.

        For each of its beams the nearest ring stays, if there is one within half of the distance to the next beam.
        """
        wanted = np.sort(np.asarray(elevations, float))
        if not len(self.ring_elevation) or not len(wanted):
            return np.zeros(len(self.ring), bool)
        gap = np.abs(wanted[:, None] - self.ring_elevation[None])
        nearest = gap.argmin(axis=1)
        reach = 0.5 * np.gradient(wanted) if len(wanted) > 1 else np.full(1, _BAND_RAD)
        near = gap[np.arange(len(wanted)), nearest] <= reach + 1e-6
        kept = np.zeros(len(self.ring_elevation), bool)
        kept[nearest[near]] = True
        return kept[self.ring]

    def columns(self) -> np.ndarray:
        """(N,) number of the column that each point was fired in, counted around from azimuth -pi."""
        # Of the fullest ring: most often its next point was fired in the next column.
        fullest = np.flatnonzero(self.ring == np.bincount(self.ring, minlength=1).argmax())
        gaps = np.diff(np.sort(self.azimuth[fullest]))
        gaps = gaps[gaps > 1e-5]
        width = float(np.median(gaps)) if len(gaps) else 2 * np.pi
        return ((self.azimuth + np.float32(np.pi)) * np.float32(1 / width)).astype(np.int32)


def find_beams(points: np.ndarray, origin: np.ndarray | None = None) -> Beams:
    """The beams of a sweep.

    Args:
        points: (N, 3 or more) in `base_link`, m.
        origin: (3,) where the beams start; None to find it above the middle of `base_link`.
    """
    origin = find_origin(points) if origin is None else np.asarray(origin, np.float64)
    offset = points[:, :3] - origin.astype(np.float32)
    level = np.hypot(offset[:, 0], offset[:, 1])
    elevation = np.arctan2(offset[:, 2], level)
    distance = np.hypot(level, offset[:, 2])
    azimuth = np.arctan2(offset[:, 1], offset[:, 0])
    ring, ring_elevation = _rings(elevation)
    return Beams(origin, distance, elevation, azimuth, ring, ring_elevation)


def find_origin(points: np.ndarray) -> np.ndarray:
    """(3,) where the beams of a sweep start, if that is above the middle of `base_link`; else DEFAULT_ORIGIN."""
    level = np.hypot(points[:, 0], points[:, 1])
    near = np.flatnonzero((level > _NEAR_M) & (level < _FAR_M))
    if len(near) < _SAMPLE // 10:
        return np.array(DEFAULT_ORIGIN)
    near = near[:: max(1, len(near) // _SAMPLE)]
    level, z = level[near], points[near, 2]
    bins = round(2 * _SPAN_RAD / _COARSE_RAD)
    sharpness = np.empty(len(_HEIGHTS_M))
    for k, height in enumerate(_HEIGHTS_M.astype(np.float32)):
        elevation = np.arctan2(z - height, level)
        bin_of = ((elevation + _SPAN_RAD) / _COARSE_RAD).clip(0, bins - 1).astype(np.int32)
        sharpness[k] = np.square(np.bincount(bin_of)).sum()
    best = int(sharpness.argmax())
    if sharpness[best] < _SHARP * np.median(sharpness):
        return np.array(DEFAULT_ORIGIN)
    return np.array([0.0, 0.0, _HEIGHTS_M[best]])


def _rings(elevation: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ring of each elevation (N,), and the elevations (R,) of rings: peaks of the histogram, cut halfway between."""
    bins = round(2 * _SPAN_RAD / _FINE_RAD)
    bin_of = ((elevation + np.float32(_SPAN_RAD)) * np.float32(1 / _FINE_RAD)).clip(0, bins - 1).astype(np.int32)
    count = np.convolve(np.bincount(bin_of, minlength=bins), (0.25, 0.5, 0.25), "same")
    strongest = maximum_filter1d(count, round(_NEIGHBOURS_RAD / _FINE_RAD))
    # Roots, so that rings that meet little, above the horizon, count beside those on the ground.
    peaks, _ = find_peaks(np.sqrt(count / np.maximum(strongest, _FEWEST)), height=0.15, prominence=0.2)
    at = (peaks + 0.5) * _FINE_RAD - _SPAN_RAD
    wide = np.flatnonzero(np.diff(at) > 4 * _NEIGHBOURS_RAD)
    if len(at) < 4 or len(wide) > len(at) // 2:
        bands = np.arange(-_SPAN_RAD, _SPAN_RAD, _BAND_RAD)
        ring = ((elevation + np.float32(_SPAN_RAD)) * np.float32(1 / _BAND_RAD)).clip(0, len(bands) - 1)
        return ring.astype(np.int32), bands + 0.5 * _BAND_RAD
    border = np.concatenate([[0], np.ceil(0.5 * (peaks[1:] + peaks[:-1])), [bins]]).astype(int)
    return np.repeat(np.arange(len(peaks), dtype=np.int32), np.diff(border))[bin_of], at
