"""The geometric obstacle channel: boxes around everything that stands on the ground, found without learning.

It knows no classes and needs no training, so it stays beside the network as the check that does not share its faults:
what returns laser light above the ground and below the vehicle's height is an obstacle. A box covers what was measured,
standing on the ground: of a car seen from behind it holds the rear face and what the beams reached behind it, and no
guess at the rest. Its side towards the sensor is therefore where the object begins.

Points -> reach and own body cut away -> ground (ground.py) -> linked cells, cut where boxes would cover free space
(clusters.py) -> rectangles (box_fit.py) -> Boxes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from karp_perception.core.boxes import Boxes
from karp_perception.core.classes import ObjectClass
from karp_perception.core.frames import LidarSweep
from karp_perception.core.settings import Settings, nested, setting
from karp_perception.core.vehicle import Vehicle
from karp_perception.detection.box_fit import BoxFitSettings, bounding_rectangles
from karp_perception.detection.clusters import CellGrid, Cells, ClusterSettings
from karp_perception.detection.columns import Columns
from karp_perception.detection.ground import GroundEstimator, GroundSettings, GroundSurface
from karp_perception.detection.splitting import FreeSpace, SplitSettings, split

_MAX_HEIGHT = 30.0  # m above and below base_link; beyond is no road


@dataclass(frozen=True)
class ObstacleSettings(Settings):
    """What counts as an obstacle, and how it is found."""

    clearance: float = setting(
        0.18, "points higher than this above ground may be obstacles", unit="m", low=0.05, high=1.0
    )
    uncertainty: float = setting(
        1.0, "added to the clearance, of the ground's deviation", unit="sigma", low=0.0, high=5.0
    )
    max_uncertainty: float = setting(0.3, "most that is added to the clearance", unit="m", low=0.0, high=2.0)
    min_height: float = setting(
        0.22, "an obstacle's top is at least this high above ground", unit="m", low=0.05, high=1.0
    )
    headroom: float = setting(
        0.3, "above the vehicle's height, what is higher is overhead", unit="m", low=0.0, high=3.0
    )
    end_margin: float = setting(0.1, "before and behind the own body, points are its own", unit="m", low=0.0, high=1.0)
    side_margin: float = setting(
        0.4, "beside the own body, points are its own: mirrors, and echoes of roof rails", unit="m", low=0.0, high=1.0
    )
    points_at_10m: float = setting(5.0, "points that make an obstacle at 10 m, falling with range", low=1.0, high=100.0)
    min_points: int = setting(3, "points that make an obstacle at any range", low=1, high=100)
    max_points: int = setting(8, "points that always make an obstacle", low=1, high=1000)
    columns_per_stray: int = setting(
        50, "of so many columns of points one may stick out of each side", low=10, high=10000
    )
    max_strays: int = setting(2, "most columns of points that may stick out of each side", low=0, high=20)
    min_size: float = setting(0.1, "smallest length, width and height of a box", unit="m", low=0.01, high=1.0)
    ground: GroundSettings = nested(GroundSettings)
    clusters: ClusterSettings = nested(ClusterSettings)
    split: SplitSettings = nested(SplitSettings)
    fit: BoxFitSettings = nested(BoxFitSettings)


class ObstacleDetector:
    """Obstacles in single lidar sweeps. Keeps nothing between calls: the same sweep always gives the same boxes."""

    def __init__(self, settings: ObstacleSettings | None = None, vehicle: Vehicle | None = None) -> None:
        self.settings = settings or ObstacleSettings()
        self.vehicle = vehicle or Vehicle()
        self._ground = GroundEstimator(self.settings.ground)
        self._grid = CellGrid(self.settings.clusters, self.settings.ground.max_range)

    def detect(self, sweep: LidarSweep) -> Boxes:
        """Obstacles of one sweep, nearest first: label UNKNOWN, velocity NaN, score by how much was measured of it."""
        return self.detect_with_ground(sweep)[0]

    def detect_with_ground(self, sweep: LidarSweep) -> tuple[Boxes, np.ndarray]:
        """(obstacles, (N,) bool mask of the sweep's points that are ground)."""
        s = self.settings
        ground_mask = np.zeros(len(sweep.points), bool)
        x, y, z = np.ascontiguousarray(sweep.points[:, :3].T)
        used = self._in_reach(x, y, z)
        if not used.any():
            return Boxes.empty(), ground_mask
        x, y, z = x[used], y[used], z[used]
        where = self._ground.grid.locate(x, y)
        surface = self._ground.estimate(z, *where)
        above = z - surface.height_at(x, y, where)
        unsure = np.minimum(s.uncertainty * surface.sigma, s.max_uncertainty)
        clearance = (s.clearance + unsure).astype(np.float32).reshape(-1)[where[0]]
        ground_mask[used] = np.abs(above) <= clearance
        highest = self.vehicle.height + s.headroom
        solid = (above > clearance) & (above <= highest)
        if not solid.any():
            return Boxes.empty(), ground_mask
        columns = Columns.of(x[solid], y[solid], above[solid], s.clusters.directions, s.clusters.column_depth, highest)
        return self._boxes(columns, surface), ground_mask

    def _in_reach(self, x: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        """(N,) points that are close enough and not on the own vehicle."""
        v, s, reach = self.vehicle, self.settings, np.float32(self.settings.ground.max_range)
        with np.errstate(over="ignore"):
            inside = x * x + y * y < reach * reach
        inside &= np.abs(z) < _MAX_HEIGHT
        body = (x > -v.rear - s.end_margin) & (x < v.front + s.end_margin)
        body &= np.abs(y) < 0.5 * v.width + s.side_margin
        inside &= ~(body & (z < v.height + s.headroom))
        return inside

    def _boxes(self, columns: Columns, surface: GroundSurface) -> Boxes:
        """Boxes of what stands above the ground, at least one column."""
        s = self.settings
        cells = self._kept(self._grid.link(columns))
        if not len(cells.group):
            return Boxes.empty()
        solid = np.zeros(len(columns.count), bool)
        solid[cells.columns.in_order()] = True
        free = FreeSpace(columns, s.clusters.directions, solid)
        cells, direction = split(cells, columns.xy[cells.outline.in_order()], s.clusters.cell**2, free, s.split, s.fit)
        first = cells.group_starts
        count = np.add.reduceat(cells.count, first)
        length = np.add.reduceat(cells.columns.count, first)
        strays = np.minimum(length // s.columns_per_stray, s.max_strays)
        xy = columns.xy.take(cells.columns.in_order(), axis=0)
        rectangles = bounding_rectangles(xy, np.cumsum(length) - length, direction, strays)
        middle = rectangles.center.astype(np.float32)
        ground = surface.height_at(np.ascontiguousarray(middle[:, 0]), np.ascontiguousarray(middle[:, 1]))
        height = np.maximum(np.maximum.reduceat(cells.top, first), s.min_size)
        size = np.column_stack([np.maximum(rectangles.size, s.min_size), height])
        center = np.column_stack([rectangles.center, ground + 0.5 * height])
        score = self._score(count, rectangles.center, height)
        velocity = np.full((len(first), 2), np.nan)
        label = np.full(len(first), int(ObjectClass.UNKNOWN))
        order = np.lexsort((center[:, 1], center[:, 0], np.hypot(center[:, 0], center[:, 1])))
        return Boxes(center[order], size[order], rectangles.yaw[order], velocity, label, score[order])

    def _kept(self, cells: Cells) -> Cells:
        """Cells of the groups that have enough points for their range and are high enough."""
        first = cells.group_starts
        count = np.add.reduceat(cells.count, first)
        distance = np.minimum.reduceat(np.hypot(cells.xy[:, 0], cells.xy[:, 1]), first)
        top = np.maximum.reduceat(cells.top, first)
        keep = (count >= self._needed(distance)) & (top >= self.settings.min_height)
        return cells.regrouped(np.where(keep[cells.group], cells.group, -1))

    def _needed(self, distance: np.ndarray) -> np.ndarray:
        """(M,) points an obstacle must have at these distances, m: rain and dust return single ones, mostly near."""
        s = self.settings
        return np.clip(np.ceil(s.points_at_10m * 10.0 / np.maximum(distance, 0.1)), s.min_points, s.max_points)

    def _score(self, count: np.ndarray, center: np.ndarray, height: np.ndarray) -> np.ndarray:
        """(M,) confidence in [0, 1]: nearly 1 for a full-grown object with many returns, 0.3 for what just suffices."""
        needed = self._needed(np.hypot(center[:, 0], center[:, 1]))
        returns = 1.0 - np.exp(-0.7 * count / needed)
        return np.clip(returns * (0.6 + 0.4 * np.minimum(height / 0.6, 1.0)), 0.0, 1.0)
