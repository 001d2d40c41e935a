"""Where the ground is: a surface estimated outwards from the vehicle, and the height of every point above it.

A tilted plane is fitted to the lowest points near the vehicle. From there one Kalman filter a sector walks outwards
ring by ring; its state is the height and the radial slope of the ground relative to that plane, its gate decides
whether the lowest points of a ring can be ground. Slopes and undulation are followed as fast as roads bend; a kerb
passes the gate, the foot of an obstacle does not. Where something hides the ground, the variance grows and the
neighbouring sectors fill the gap. Nothing flows inwards, so what lies far away never changes the ground nearby.

The polar walk is that of Himmelsbach et al., "Fast segmentation of 3D point clouds for ground vehicles" (IV 2010); the
filter in place of line fits gives each ring a variance.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from karp_perception.core.settings import Settings, setting

# Candidates for ground within a bin, as quantiles of height: the lowest that is not far below the surface is tried.
# The first leaves noise out, the others serve bins whose lowest points are reflections from below the ground.
_CANDIDATES = (0.1, 0.35, 0.6)
_SPREAD_QUANTILE = 0.9
_SUPPORT_SECTORS = (4, 5, 6)  # ground goes on to both sides, beyond the width of a car at middle range
_LOWEST_Z = -30.0  # m; with the 16 bits below: heights are sorted in steps of 1 mm
_Z_STEP = 0.001
_OUT_OF_REACH = 1e4  # m, a height that no ground has
_RING_STEP = 0.1  # m, resolution of ring borders


@dataclass(frozen=True)
class GroundSettings(Settings):
    """What is known about roads and about how well `base_link` lies on them."""

    max_range: float = setting(80.0, "points farther away are left out", unit="m", low=10.0, high=250.0)
    sectors: int = setting(180, "directions the surface is estimated in", low=36, high=720)
    ring_length: float = setting(0.5, "radial length of a bin close by", unit="m", low=0.2, high=2.0)
    ring_growth: float = setting(0.07, "radial length of a bin far away, by its range", low=0.0, high=0.2)
    seed_range: float = setting(
        15.0, "the plane is fitted to the ground within this range", unit="m", low=5.0, high=40.0
    )
    height_sigma: float = setting(0.1, "error of the height of base_link above ground", unit="m", low=0.01, high=1.0)
    tilt_sigma: float = setting(0.03, "error of the tilt of base_link, as a slope", low=0.001, high=0.2)
    grade_sigma: float = setting(0.02, "change of slope along 1 m, growing with the square root", low=0.001, high=0.2)
    cross_sigma: float = setting(0.05, "change of height from sector to sector, as a slope", low=0.001, high=0.5)
    roughness: float = setting(0.06, "deviation of the ground from a smooth surface", unit="m", low=0.01, high=0.3)
    step: float = setting(
        0.12, "step up that is still ground (kerbs), beyond the deviations", unit="m", low=0.0, high=0.3
    )
    gate: float = setting(2.5, "gate of the filter", unit="sigma", low=1.0, high=6.0)
    max_slope: float = setting(0.3, "slope against the plane near the vehicle", low=0.05, high=1.0)
    support_slope: float = setting(0.08, "slope across at which ground still goes on to both sides", low=0.0, high=0.5)
    flat: float = setting(0.35, "height of what a bin of plain ground holds", unit="m", low=0.1, high=1.0)


class PolarGrid:
    """Bins of the ground estimate: sectors of equal angle, rings that grow with range."""

    def __init__(self, settings: GroundSettings) -> None:
        edges = [0.0]
        while edges[-1] < settings.max_range:
            length = max(settings.ring_length, settings.ring_growth * edges[-1])
            edges.append(edges[-1] + max(1, round(length / _RING_STEP)) * _RING_STEP)
        self.sectors, self.rings = settings.sectors, len(edges) - 1
        self.edges = np.asarray(edges)
        self.middle = 0.5 * (self.edges[1:] + self.edges[:-1])
        angle = (np.arange(self.sectors) + 0.5) * (2 * np.pi / self.sectors)
        self.cos, self.sin = np.cos(angle), np.sin(angle)
        steps = (np.arange(int(np.ceil(edges[-1] / _RING_STEP)) + 2) + 0.5) * _RING_STEP
        self._ring_of_step = np.minimum(np.searchsorted(self.edges, steps) - 1, self.rings - 1).astype(np.int32)

    def locate(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(bin, range in m) of points within reach, at (N,) float32 x, y; bin = ring * sectors + sector."""
        if not len(x):
            return np.zeros(0, np.int64), np.zeros(0, np.float32)
        distance, angle = (column.reshape(-1) for column in cv2.cartToPolar(x, y))
        sector = (angle * np.float32(self.sectors / (2 * np.pi))).astype(np.int32)
        np.minimum(sector, self.sectors - 1, out=sector)
        ring = self._ring_of_step[(distance * np.float32(1 / _RING_STEP)).astype(np.int32)]
        return (ring * self.sectors + sector).astype(np.int64), distance


@dataclass(frozen=True)
class GroundSurface:
    """Ground by bin of a PolarGrid.

    Attributes:
        grid: the bins.
        plane: (3,) a, b, c of z = a x + b y + c, the ground near the vehicle.
        height: (rings, sectors) m above the plane in the middle of each bin.
        slope: (rings, sectors) radial slope against the plane.
        sigma: (rings, sectors) m, standard deviation of `height`.
    """

    grid: PolarGrid
    plane: np.ndarray
    height: np.ndarray
    slope: np.ndarray
    sigma: np.ndarray

    def height_at(self, x: np.ndarray, y: np.ndarray, where: tuple[np.ndarray, np.ndarray] | None = None) -> np.ndarray:
        """(N,) float32 height of the ground under points (m); `where`: their bin and range, if they are known."""
        bins, distance = self.grid.locate(x, y) if where is None else where
        # What is constant in a bin goes into tables: plane offset and height at range 0, and slope.
        constant = self.height - self.slope * self.grid.middle[:, None] + self.plane[2]
        ground = constant.astype(np.float32).reshape(-1)[bins]
        ground += self.slope.astype(np.float32).reshape(-1)[bins] * distance
        ground += np.float32(self.plane[0]) * x
        ground += np.float32(self.plane[1]) * y
        return ground


class GroundEstimator:
    """Estimates a GroundSurface from the points of one sweep; keeps nothing from one to the next."""

    def __init__(self, settings: GroundSettings | None = None) -> None:
        self.settings = settings or GroundSettings()
        self.grid = PolarGrid(self.settings)
        d = np.diff(self.grid.middle, prepend=0.0)
        self._transition = np.array([_transition(step, self.settings.grade_sigma**2) for step in d])
        self._cross_variance = (self.settings.cross_sigma * self.grid.middle * (2 * np.pi / self.grid.sectors)) ** 2

    def estimate(self, z: np.ndarray, bins: np.ndarray, distance: np.ndarray) -> GroundSurface:
        """The ground below points of `base_link`: (N,) float32 z in m, bins and ranges as `grid.locate` gives them."""
        z, at, count, spread = self._candidates(z, bins, distance)
        plane = self._plane(z[0], at[0], count, spread)
        along = plane[0] * self.grid.cos + plane[1] * self.grid.sin
        residual = z - (along * at + plane[2])
        return self._walk(residual, at, count, spread, plane)

    def _candidates(self, z: np.ndarray, bins: np.ndarray, distance: np.ndarray) -> tuple[np.ndarray, ...]:
        """Per bin: z and range of the candidates (C, rings, sectors), number of points, and spread of z (m)."""
        grid, shape = self.grid, (self.grid.rings, self.grid.sectors)
        z_steps = (z - np.float32(_LOWEST_Z)) * np.float32(1 / _Z_STEP)
        z_steps = np.minimum(np.maximum(z_steps, 0), 65535).astype(np.int64)
        # Bin, height and range in one number: sorting values alone is several times as fast as sorting indices, and
        # the outcome cannot depend on the order of the points.
        range_steps = np.minimum(distance * np.float32(1 / _RING_STEP) * 16, 65535).astype(np.int64)
        keys = (bins << 32) | (z_steps << 16) | range_steps
        keys.sort()
        count = np.bincount(bins, minlength=grid.rings * grid.sectors)
        start = np.cumsum(count) - count
        last = np.maximum(count - 1, 0)
        quantiles = np.array([*_CANDIDATES, _SPREAD_QUANTILE])[:, None]
        rank = start + (quantiles * last).astype(np.int64)
        picked = keys[np.minimum(rank, max(len(keys) - 1, 0))] if len(keys) else np.zeros(rank.shape, np.int64)
        height = ((picked >> 16) & 0xFFFF) * _Z_STEP + _LOWEST_Z
        at = ((picked & 0xFFFF) + 0.5) * (_RING_STEP / 16)
        spread = (height[-1] - height[0]).reshape(shape)
        n = len(_CANDIDATES)
        return height[:n].reshape(n, *shape), at[:n].reshape(n, *shape), count.reshape(shape), spread

    def _plane(self, z: np.ndarray, at: np.ndarray, count: np.ndarray, spread: np.ndarray) -> np.ndarray:
        """Plane a, b, c through the ground close by: least squares reweighted from wide to narrow (Cauchy weights).

        The prior is z = 0, what `base_link` promises; without points it is the answer.
        """
        s = self.settings
        near = (count > 0) & (spread < s.flat) & (self.grid.middle < s.seed_range)[:, None]
        ring, sector = np.nonzero(near)
        r, height = at[ring, sector], z[ring, sector]
        likely = np.abs(height) < s.gate * np.hypot(s.height_sigma, s.tilt_sigma * r) + s.step
        sector, r, height = sector[likely], r[likely], height[likely]
        A = np.stack([r * self.grid.cos[sector], r * self.grid.sin[sector], np.ones_like(r)], axis=1)
        prior = 1.0 / np.array([s.tilt_sigma, s.tilt_sigma, s.height_sigma]) ** 2
        plane = np.zeros(3)
        # Bins of one sector err together: a kerb, a ditch. All of them are worth this many independent ones.
        worth = min(1.0, self.grid.sectors / max(len(r), 1))
        for width in (8.0, 4.0, 2.0, 2.0):
            error = height - A @ plane
            weight = worth / s.roughness**2 / (1.0 + (error / (width * s.roughness)) ** 2)
            plane = np.linalg.solve((A * weight[:, None]).T @ A + np.diag(prior), A.T @ (weight * height))
        return plane

    def _walk(
        self, residual: np.ndarray, at: np.ndarray, count: np.ndarray, spread: np.ndarray, plane: np.ndarray
    ) -> GroundSurface:
        """Kalman filters with states height h and slope g against the plane, one a sector, from ring to ring."""
        s, grid = self.settings, self.grid
        noise = s.roughness**2
        tall = spread > s.flat + 0.2 * np.diff(grid.edges)[:, None]
        occupied = count > 0
        any_point = occupied.any(axis=1)
        # A bin that holds something tall or ends at its sides must agree with what is known; others may teach.
        trust = np.where(tall | ~self._supported(residual[0], occupied), 0.2, 1.0)
        doubt = np.where(tall, 4.0, 1.0) * noise
        # Of every candidate: height (where there is none, nothing is within reach) and place along the bin.
        measured = np.empty((grid.rings, len(at), 2, grid.sectors))
        measured[:, :, 0] = np.where(occupied, residual, _OUT_OF_REACH).swapaxes(0, 1)
        measured[:, :, 1] = (at - grid.middle[:, None]).swapaxes(0, 1)
        # Rows: height h, slope g, their covariances hh, hg, gg, and 1, with which states are averaged.
        state = np.zeros((6, grid.sectors))
        state[2], state[4], state[5] = s.height_sigma**2 / 4, s.tilt_sigma**2, 1.0
        states = np.empty((grid.rings, *state.shape))
        for k in range(grid.rings):
            state = self._transition[k] @ state
            if any_point[k]:
                reach = s.gate * np.sqrt(state[2] + noise)
                candidates = measured[k]
                candidates[:, 0] -= state[0] + candidates[:, 1] * state[1]
                e, o = _lowest_above(-2 * s.step - reach, candidates)
                ground = e <= s.step + trust[k] * reach
                cross = state[2:4] + o * state[3:5]
                gain = cross * (ground / (cross[0] + o * cross[1] + doubt[k]))
                state[:2] += gain * e
                np.minimum(np.maximum(state[1], -s.max_slope), s.max_slope, out=state[1])
                state[2:4] -= gain[0] * cross
                state[4] -= gain[1] * cross[1]
            state = _shared(state, self._cross_variance[k], out=states[k])
        return GroundSurface(grid, plane, states[:, 0], states[:, 1], np.sqrt(states[:, 2]))

    def _supported(self, residual: np.ndarray, occupied: np.ndarray) -> np.ndarray:
        """(rings, sectors) bins whose lowest points go on to both sides at about the same height, as ground does.

        A single beam that meets a car far away looks as flat as ground, but it ends where the car ends.
        """
        height = np.where(occupied, residual, np.inf).astype(np.float32)
        across = self.grid.middle[:, None] * (np.mean(_SUPPORT_SECTORS) * 2 * np.pi / self.grid.sectors)
        tolerance = (2 * self.settings.step + self.settings.support_slope * across).astype(np.float32)
        low, high = height - tolerance, height + tolerance
        padded = np.pad(height, ((1, 1), (0, 0)), constant_values=np.inf)
        sides = []
        for sign in (-1, 1):
            close = np.zeros(height.shape, bool)
            for offset in _SUPPORT_SECTORS:
                turned = np.roll(padded, sign * offset, axis=1)
                for ring in range(3):
                    other = turned[ring : ring + len(height)]
                    close |= (other < high) & (other > low)
            sides.append(close)
        return sides[0] & sides[1]


def _transition(d: float, q: float) -> np.ndarray:
    """(6, 6) what d m along a sector make of height, slope, covariances hh, hg, gg and 1; q: slope's variance a m."""
    T = np.eye(6)
    T[0, 1] = T[3, 4] = d
    T[2, 3:5] = 2 * d, d * d
    T[2:5, 5] = q * d**3 / 3, q * d**2 / 2, q * d
    return T


def _lowest_above(down: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """(2, sectors) the first of candidates (C, 2, sectors) whose error, [:, 0], is above `down`.

    _OUT_OF_REACH where there is none.
    """
    possible = candidates[:, 0] > down
    if possible[0].all():
        return candidates[0]
    found = _OUT_OF_REACH
    for i in range(len(candidates) - 1, -1, -1):
        found = np.where(possible[i], candidates[i], found)
    return found


def _shared(state: np.ndarray, cross: float, out: np.ndarray) -> np.ndarray:
    """States (6, sectors) after those sectors that know little have taken over from their neighbours, in `out`.

    A mean of state and covariance: neighbours see the same ground, so their information is averaged, not added. Weights
    fall with the square of the variance, else a neighbour that knows nothing would still blur what is known. `cross`:
    variance of the height from sector to sector, m2.
    """
    far = state[2] + cross
    own, other = 1.0 / np.square(state[2]), 0.25 / np.square(far)
    # Columns one wider on both sides: the last sector is the first one's neighbour.
    wide = np.empty((6, state.shape[1] + 2))
    lent = wide[:, 1:-1]
    np.multiply(state, other, out=lent)
    np.multiply(far, other, out=lent[2])
    wide[:, 0], wide[:, -1] = wide[:, -2], wide[:, 1]
    np.multiply(state, own, out=out)
    out += wide[:, :-2]
    out += wide[:, 2:]
    out /= out[5].copy()  # the sum of the weights
    return out
