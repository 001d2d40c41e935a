"""Groups cut into parts until a box around each covers only what was measured or hidden.

A sensor sees through free space: where a box reaches in front of the first return of its direction, it covers space
that is known to be free, as the box around two guard rails that meet far ahead would, right across the road. Such
groups are halved along their longer side until every part fits. So are those that are too wide on both sides for any
vehicle, unless they are full of points: what they hide may be free.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from karp_perception.core.settings import Settings, setting
from karp_perception.detection.box_fit import (
    BoxFitSettings,
    Rectangles,
    bounding_rectangles,
    fit_directions,
    group_of_row,
)
from karp_perception.detection.clusters import Cells
from karp_perception.detection.columns import Columns, direction_of, run_lengths, run_starts, stable_order

_MAX_CUTS = 9  # halvings of one group


@dataclass(frozen=True)
class SplitSettings(Settings):
    """When a box covers too much."""

    depth: float = setting(
        0.4, "space is free up to this far in front of the first return", unit="m", low=0.0, high=3.0
    )
    free_area: float = setting(1.0, "free area that a box may cover", unit="m2", low=0.1, high=20.0)
    max_width: float = setting(3.2, "wider on both sides is no vehicle", unit="m", low=1.0, high=10.0)
    min_fill: float = setting(0.5, "unless occupied cells fill this share of the box", low=0.0, high=1.0)
    min_part: float = setting(0.75, "what is shorter than this is not cut", unit="m", low=0.1, high=10.0)


class FreeSpace:
    """How far the sensor sees above the ground in each direction, as seen from `base_link`."""

    def __init__(self, columns: Columns, directions: int, solid: np.ndarray) -> None:
        """`solid`: (K,) by column, does it belong to something (noise hides nothing)."""
        direction, distance = columns.direction[solid], columns.distance[solid]
        first = run_starts(direction)
        reach = np.full(directions, np.inf)
        reach[direction[first]] = distance[first]
        # The nearest of three directions: one beam that slips through a gap shows no free space.
        reach = np.minimum(reach, np.minimum(np.roll(reach, 1), np.roll(reach, -1)))
        # Where nothing came back nothing is known, neither that it is free.
        self.reach = np.where(np.isfinite(reach), reach, 0.0).astype(np.float32)

    def covered_by(self, boxes: Rectangles, depth: float) -> np.ndarray:
        """(M,) area of each box, m2, that lies more than `depth` m in front of the first return of its direction."""
        n = 7
        place = ((np.arange(n) + 0.5) / n - 0.5).astype(np.float32)
        size, yaw, center = (v.astype(np.float32) for v in (boxes.size, boxes.yaw, boxes.center))
        a, b = size[:, :1, None] * place[:, None], size[:, 1:, None] * place
        c, s = np.cos(yaw)[:, None, None], np.sin(yaw)[:, None, None]
        x, y = c * a - s * b + center[:, :1, None], s * a + c * b + center[:, 1:, None]
        seen_through = np.sqrt(x * x + y * y) < self.reach[direction_of(x, y, len(self.reach))] - np.float32(depth)
        return np.count_nonzero(seen_through, axis=(1, 2)) / n**2 * boxes.size.prod(axis=1)


def split(
    cells: Cells, outline: np.ndarray, cell_area: float, free: FreeSpace, settings: SplitSettings, fit: BoxFitSettings
) -> tuple[Cells, np.ndarray]:
    """(cells with groups cut into parts that fit a box, (M,) direction of each part's box in rad).

    Args:
        outline: (O, 2) places of the columns `cells.outline.in_order()`, m.
        cell_area: m2.
    """
    group = cells.group.copy()
    cell_of_outline = np.repeat(np.arange(len(group)), cells.outline.count)
    direction = np.zeros(group[-1] + 1 if len(group) else 0)
    rows = np.arange(len(group))
    for _ in range(_MAX_CUTS):
        if not len(rows):
            break
        rows = rows[stable_order(group[rows])]
        xy = cells.xy.take(rows, axis=0)
        starts = run_starts(group[rows])
        local = group_of_row(starts, len(rows))
        names = group[rows[starts]]
        direction[names] = _outline_directions(names, xy, group[rows], outline, group[cell_of_outline], fit)
        boxes = bounding_rectangles(xy, starts, direction[names])
        area = boxes.size.prod(axis=1)
        filled = run_lengths(starts, len(rows)) * cell_area
        bad = (boxes.size[:, 1] > settings.max_width) & (filled < settings.min_fill * area)
        large = np.flatnonzero(area > settings.free_area)
        bad[large] |= free.covered_by(boxes[large], settings.depth) > settings.free_area
        bad &= boxes.size[:, 0] > settings.min_part
        cut = bad[local]
        rows, local, xy = rows[cut], local[cut], xy[cut]
        along = np.cos(boxes.yaw)[local] * (xy[:, 0] - boxes.center[local, 0])
        along += np.sin(boxes.yaw)[local] * (xy[:, 1] - boxes.center[local, 1])
        fresh = len(direction) + np.cumsum(bad) - 1
        group[rows] = np.where(along > 0, fresh[local], group[rows])
        # Both halves lie along the whole, should there be no cut left to look at them.
        direction = np.concatenate([direction, direction[names[bad]]])
    return cells.regrouped(group), direction


def _outline_directions(
    names: np.ndarray,
    cell_xy: np.ndarray,
    cell_group: np.ndarray,
    outline_xy: np.ndarray,
    outline_group: np.ndarray,
    fit: BoxFitSettings,
) -> np.ndarray:
    """(M,) directions of the rectangles of groups `names`, by what of them faces the sensor.

    Seats and steering wheels say nothing about how a car stands. A part with no outline, behind others, has its cells.
    """
    faces = np.bincount(outline_group, minlength=names[-1] + 1)
    wanted = np.zeros(len(faces), bool)
    wanted[names] = True
    seen, hidden = wanted[outline_group], faces[cell_group] == 0
    group = np.concatenate([outline_group[seen], cell_group[hidden]])
    order = stable_order(group)
    xy = np.concatenate([outline_xy[seen], cell_xy[hidden]])[order]
    return fit_directions(xy, run_starts(group[order]), fit)
