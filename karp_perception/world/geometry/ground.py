"""The ground: smooth terrain, painted with surfaces that lie a little higher or lower and are rougher or smoother."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cached_property, lru_cache
from typing import NamedTuple

import cv2
import numpy as np

from karp_perception.core.compiled import PER_ROW, njit
from karp_perception.core.errors import ConfigurationError
from karp_perception.world.geometry.primitives import hash3


class Surface(IntEnum):
    """What the ground is covered with; index into `SURFACES`."""

    ASPHALT = 0
    MARKING = 1
    PAVEMENT = 2
    KERB = 3
    GRASS = 4
    GRAVEL = 5
    SOIL = 6
    COBBLE = 7
    MANHOLE = 8
    PUDDLE = 9
    ASPHALT_OLD = 10
    CONCRETE = 11


@dataclass(frozen=True)
class SurfaceProperties:
    """How a surface lies and looks.

    Attributes:
        rise: m above the terrain.
        roughness: m, standard deviation of its height from one hand's breadth to the next.
        reflectivity: as in MaterialProperties.
        specular: share of light that mirrors away at a slant.
        color: RGB.
        texture: strength of its pattern in an image.
    """

    rise: float
    roughness: float
    reflectivity: float
    specular: float
    color: tuple[int, int, int]
    texture: float


SURFACES: dict[Surface, SurfaceProperties] = {
    Surface.ASPHALT: SurfaceProperties(0.0, 0.006, 0.12, 0.15, (92, 92, 94), 0.25),
    Surface.MARKING: SurfaceProperties(0.003, 0.004, 0.55, 0.1, (214, 214, 208), 0.15),
    Surface.PAVEMENT: SurfaceProperties(0.12, 0.006, 0.26, 0.1, (150, 147, 140), 0.3),
    Surface.KERB: SurfaceProperties(0.12, 0.004, 0.30, 0.1, (168, 166, 160), 0.2),
    Surface.GRASS: SurfaceProperties(0.05, 0.024, 0.34, 0.0, (92, 110, 58), 0.8),
    Surface.GRAVEL: SurfaceProperties(0.02, 0.018, 0.25, 0.0, (146, 138, 124), 0.7),
    Surface.SOIL: SurfaceProperties(0.03, 0.022, 0.22, 0.0, (122, 100, 76), 0.6),
    Surface.COBBLE: SurfaceProperties(0.0, 0.012, 0.24, 0.1, (118, 114, 110), 0.6),
    Surface.MANHOLE: SurfaceProperties(0.004, 0.004, 0.10, 0.3, (60, 60, 62), 0.4),
    Surface.PUDDLE: SurfaceProperties(0.002, 0.0, 0.02, 0.95, (84, 90, 98), 0.0),
    Surface.ASPHALT_OLD: SurfaceProperties(0.0, 0.010, 0.16, 0.1, (112, 110, 106), 0.4),
    Surface.CONCRETE: SurfaceProperties(0.0, 0.005, 0.30, 0.1, (162, 160, 154), 0.25),
}

_RISE = np.array([SURFACES[s].rise for s in Surface])
_ROUGHNESS = np.array([SURFACES[s].roughness for s in Surface])
_FINE_CELL, _FINE_SIZE = 0.1, 1280  # m, cells: what is near
_COARSE_CELL, _COARSE_SIZE = 0.5, 1024  # m, cells: the rest
_SNAP = 16.0  # m between the middles of two windows: they are drawn anew only so often
_SHIFT = 4  # bits below a pixel in OpenCV's polygon filling


@dataclass(frozen=True)
class Patch:
    """A polygon of one surface; later patches lie over earlier ones.

    Attributes:
        surface: what it is.
        polygon: (N, 2) m in the world's frame, N >= 3, in order around it.
    """

    surface: Surface
    polygon: np.ndarray


class GroundRays(NamedTuple):
    """What compiled code needs of the ground around a place. Rasters hold Surface numbers, row = y, column = x."""

    terrain: np.ndarray  # (H, W) float64, m at the nodes of a grid
    terrain_x: float  # m, place of node (0, 0)
    terrain_y: float
    terrain_cell: float  # m
    steepest: float  # m per m, bound of the terrain's slope
    highest: float  # m, of the terrain
    fine: np.ndarray  # (n, n) uint8
    fine_x: float  # m, corner of the raster
    fine_y: float
    fine_cell: float
    coarse: np.ndarray  # (m, m) uint8
    coarse_x: float
    coarse_y: float
    coarse_cell: float
    rise: np.ndarray  # by surface, m
    roughness: np.ndarray  # by surface, m


@dataclass(frozen=True)
class Ground:
    """Terrain and patches. What no patch covers is `base`.

    Attributes:
        terrain: (H, W) heights at the nodes of a square grid, m; beyond its edges it goes on level.
        origin: (2,) m, the place of node (0, 0).
        cell: m between nodes.
        patches: painted in order.
        base: surface of the rest.
    """

    terrain: np.ndarray
    origin: tuple[float, float]
    cell: float
    patches: Sequence[Patch] = ()
    base: Surface = Surface.GRASS
    _boxes: np.ndarray = field(init=False, repr=False)
    _windows: dict[tuple[float, float, float], np.ndarray] = field(init=False, repr=False, default_factory=dict)

    def __post_init__(self) -> None:
        terrain = np.ascontiguousarray(self.terrain, np.float64)
        if terrain.ndim != 2 or min(terrain.shape) < 2 or not np.isfinite(terrain).all() or self.cell <= 0:
            raise ConfigurationError(f"Ground: expected (H, W) finite heights, H, W >= 2, got {terrain.shape}")
        object.__setattr__(self, "terrain", terrain)
        boxes = [(*p.polygon.min(axis=0), *p.polygon.max(axis=0)) for p in self.patches]
        object.__setattr__(self, "_boxes", np.array(boxes, float).reshape(-1, 4))

    @classmethod
    def flat(cls, patches: Sequence[Patch] = (), base: Surface = Surface.ASPHALT) -> Ground:
        """Level ground at height 0."""
        return cls(np.zeros((2, 2)), (-1000.0, -1000.0), 2000.0, patches, base)

    def rays(self, x: float, y: float) -> GroundRays:
        """The ground around (x, y), m, for the compiled kernels; the same for all places of one `_SNAP` square."""
        x, y = _SNAP * math.floor(x / _SNAP + 0.5), _SNAP * math.floor(y / _SNAP + 0.5)
        near, far = 0.5 * _FINE_CELL * _FINE_SIZE, 0.5 * _COARSE_CELL * _COARSE_SIZE
        return GroundRays(
            self.terrain, float(self.origin[0]), float(self.origin[1]), float(self.cell), *self._bounds,
            self.window(x - near, y - near, _FINE_CELL, _FINE_SIZE), x - near, y - near, _FINE_CELL,
            self.window(x - far, y - far, _COARSE_CELL, _COARSE_SIZE), x - far, y - far, _COARSE_CELL,
            _RISE, _ROUGHNESS,
        )  # fmt: skip

    @cached_property
    def _bounds(self) -> tuple[float, float]:
        """The terrain's steepest slope, m per m, and its highest place, m."""
        rows, columns = np.diff(self.terrain, axis=0), np.diff(self.terrain, axis=1)
        steepest = max(float(np.abs(rows).max()), float(np.abs(columns).max())) / self.cell * math.sqrt(2.0)
        return steepest, float(self.terrain.max())

    def window(self, x: float, y: float, cell: float, size: int) -> np.ndarray:
        """(size, size) uint8 raster of surfaces whose corner is at (x, y): cells of `cell` m, row = y, column = x.

        The last few windows are kept.
        """
        key = (x, y, cell)
        found = self._windows.get(key)
        if found is not None and len(found) == size:
            return found
        raster = np.full((size, size), int(self.base), np.uint8)
        reach = cell * size
        low, high = self._boxes[:, :2], self._boxes[:, 2:]
        seen = (low < (x + reach, y + reach)).all(axis=1) & (high > (x, y)).all(axis=1)
        scale = (1 << _SHIFT) / cell
        for i in np.flatnonzero(seen):
            # OpenCV's pixel (0, 0) has its middle at 0, ours half a cell inside.
            pixels = np.round((self.patches[i].polygon - (x + 0.5 * cell, y + 0.5 * cell)) * scale).astype(np.int32)
            cv2.fillPoly(raster, [pixels], int(self.patches[i].surface), lineType=cv2.LINE_8, shift=_SHIFT)
        if len(self._windows) >= 6:
            self._windows.pop(next(iter(self._windows)))
        self._windows[key] = raster
        return raster

    def height(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Height of the terrain (m) without what its surfaces add; x, y of any shape."""
        x, y = np.broadcast_arrays(np.asarray(x, float), np.asarray(y, float))
        g = self._terrain_only()
        return _terrain_heights(g, x.ravel(), y.ravel()).reshape(x.shape)

    def surface_height(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Height of what one stands on (m): terrain and the rise of its surface, without roughness."""
        x, y = np.broadcast_arrays(np.asarray(x, float), np.asarray(y, float))
        return self.height(x, y) + _RISE[self.surface(x, y)]

    def surface(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Surface numbers at places of any shape, by exact point-in-polygon tests."""
        x, y = np.broadcast_arrays(np.asarray(x, float), np.asarray(y, float))
        found = np.full(x.shape, int(self.base), np.int64)
        for patch, box in zip(self.patches, self._boxes, strict=True):
            inside = (x >= box[0]) & (x <= box[2]) & (y >= box[1]) & (y <= box[3])
            polygon = patch.polygon.astype(np.float32)
            for index in zip(*np.nonzero(inside), strict=True) if x.ndim else ([()] if inside else []):
                if cv2.pointPolygonTest(polygon, (float(x[index]), float(y[index])), False) >= 0:
                    found[index] = int(patch.surface)
        return found

    def _terrain_only(self) -> GroundRays:
        nothing = _nothing()
        return GroundRays(
            self.terrain, float(self.origin[0]), float(self.origin[1]), float(self.cell), 0.0, 0.0,
            nothing, 0.0, 0.0, 1.0, nothing, 0.0, 0.0, 1.0, _RISE, _ROUGHNESS,
        )  # fmt: skip


@lru_cache(maxsize=1)
def _nothing() -> np.ndarray:
    return np.zeros((1, 1), np.uint8)


@njit(**PER_ROW)
def terrain_height(g, x, y):
    """Height of the terrain at a place, m: bilinear, level beyond the grid."""
    rows, columns = g.terrain.shape
    u = min(max((x - g.terrain_x) / g.terrain_cell, 0.0), columns - 1.0)
    v = min(max((y - g.terrain_y) / g.terrain_cell, 0.0), rows - 1.0)
    j, i = min(int(u), columns - 2), min(int(v), rows - 2)
    u, v = u - j, v - i
    low = g.terrain[i, j] * (1.0 - u) + g.terrain[i, j + 1] * u
    high = g.terrain[i + 1, j] * (1.0 - u) + g.terrain[i + 1, j + 1] * u
    return low * (1.0 - v) + high * v


@njit(**PER_ROW)
def surface_at(g, x, y):
    """Number of the surface at a place; beyond both windows that of the nearest edge."""
    n = g.fine.shape[0]
    j, i = math.floor((x - g.fine_x) / g.fine_cell), math.floor((y - g.fine_y) / g.fine_cell)
    if 0 <= i < n and 0 <= j < n:
        return int(g.fine[int(i), int(j)])
    n = g.coarse.shape[0]
    j, i = math.floor((x - g.coarse_x) / g.coarse_cell), math.floor((y - g.coarse_y) / g.coarse_cell)
    return int(g.coarse[int(min(max(i, 0), n - 1)), int(min(max(j, 0), n - 1))])


def surfaces(ground: Ground, points: np.ndarray) -> np.ndarray:
    """Surface numbers (N,) at places (N, 2) m, near each other, to the width of a raster's cell."""
    points = np.asarray(points, float).reshape(-1, 2)
    return _surfaces(ground.rays(*points.mean(axis=0)), points)


@njit(cache=True)
def _surfaces(g, points):
    found = np.empty(len(points), np.int64)
    for k in range(len(points)):
        found[k] = surface_at(g, points[k, 0], points[k, 1])
    return found


@njit(**PER_ROW)
def terrain_slope(g, x, y):
    """Slope of the terrain at a place along x and y, m per m; 0 beyond the grid."""
    rows, columns = g.terrain.shape
    u, v = (x - g.terrain_x) / g.terrain_cell, (y - g.terrain_y) / g.terrain_cell
    if u < 0.0 or v < 0.0 or u > columns - 1.0 or v > rows - 1.0:
        return 0.0, 0.0
    j, i = min(int(u), columns - 2), min(int(v), rows - 2)
    u, v = u - j, v - i
    a, b, c, d = g.terrain[i, j], g.terrain[i, j + 1], g.terrain[i + 1, j], g.terrain[i + 1, j + 1]
    return ((b - a) * (1.0 - v) + (d - c) * v) / g.terrain_cell, ((c - a) * (1.0 - u) + (d - b) * u) / g.terrain_cell


@njit(**PER_ROW)
def roughness_at(g, surface, x, y):
    """What a surface's roughness adds to its height at a place, m: always the same there."""
    # Cells of two sizes make clumps; each number is uniform with a standard deviation of 0.29.
    grain = hash3(math.floor(x * 9.0), math.floor(y * 9.0), 1) + hash3(math.floor(x * 3.1), math.floor(y * 3.1), 2)
    return g.roughness[surface] * 2.4 * (grain - 1.0)


@njit(**PER_ROW)
def ground_hit(g, ox, oy, oz, dx, dy, dz, reach):
    """Where a ray (direction of unit length) meets the ground: its parameter, infinity beyond `reach` m, and the
    surface there.

    Marches by steps that the terrain's slope cannot overtake, then closes in on the surface itself.
    """
    falling = -dz + g.steepest * math.sqrt(dx * dx + dy * dy)
    if falling <= 1e-9:
        return math.inf, 0
    t = 0.0
    over = oz - g.highest - 0.15
    if over > 0.0:  # nothing can be met before the ray comes down to the highest place
        if dz > -1e-6:
            return math.inf, 0
        t = over / -dz
        if t > reach:
            return math.inf, 0
    gap = oz + t * dz - terrain_height(g, ox + t * dx, oy + t * dy)
    for _ in range(64):
        if gap < 0.25:
            break
        t += max((gap - 0.15) / falling, 0.05)
        if t > reach:
            return math.inf, 0
        gap = oz + t * dz - terrain_height(g, ox + t * dx, oy + t * dy)
    # Newton's steps from a little above; where surfaces of two heights meet, halving between above and below.
    fall = max(-dz, 0.02)
    above, below = -1.0, math.inf
    surface, surface_above, surface_below = 0, -1, -1
    for _ in range(9):
        x, y = ox + t * dx, oy + t * dy
        surface = surface_at(g, x, y)
        gap = oz + t * dz - terrain_height(g, x, y) - g.rise[surface]
        if abs(gap) < 1e-3:
            break
        if gap > 0.0:
            above, surface_above = t, surface
        else:
            below, surface_below = t, surface
        step = t + min(max(gap / fall, -2.0), 2.0)
        edge = surface_above >= 0 and surface_below >= 0 and surface_above != surface_below
        t = 0.5 * (above + below) if edge or not above < step < below else step
    t -= min(max(roughness_at(g, surface, ox + t * dx, oy + t * dy) / fall, -1.0), 1.0)
    return (t, surface) if 0.0 < t <= reach else (math.inf, 0)


@njit(cache=True)
def _terrain_heights(g, x, y):
    found = np.empty(len(x))
    for i in range(len(x)):
        found[i] = terrain_height(g, x[i], y[i])
    return found
