"""The lidar's canvas on a device: what `preprocessing.canvas_of` does, as torch operations.

Nothing here depends on how many points lie where: every point takes part, those that do not count go to a cell or a
bin that is not read. So the whole can be captured as a CUDA graph. Sums are taken in float64, whose rounding vanishes
in float32: the order in which a GPU adds does not show.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from karp_perception.detection.model.config import ModelConfig
from karp_perception.detection.preprocessing import (
    GROUND_HIGH_M,
    GROUND_LOW_M,
    GROUND_NEAR_M,
    GROUND_POINTS,
    GROUND_REACH,
    GROUND_SHARE,
    GROUND_SLOPE,
    GROUND_STEP_M,
    GROUND_SUPPORT,
    MOST_COUNTED,
    coarse_cells,
)

FAR_M = 1e9
"""Coordinate of points that fill a buffer up: outside every canvas."""

_LEVELS = round((GROUND_HIGH_M - GROUND_LOW_M) / GROUND_STEP_M)


class DeviceCanvas:
    """Makes canvases of one shape.

    Args:
        config: range, cell size and height bins.
        device: where it is done.
    """

    def __init__(self, config: ModelConfig, device: torch.device) -> None:
        self._config = config
        nx, ny = config.canvas_cells
        coarse = coarse_cells(config)
        self._squares = (-(-nx // coarse), -(-ny // coarse))
        self._coarse = coarse
        cell = torch.arange(nx * ny, device=device)
        self._row, self._column = cell // ny, cell % ny
        square = (self._row // coarse) * self._squares[1] + self._column // coarse
        # One more square takes the points outside.
        self._square_of = torch.cat([square, square.new_tensor([self._squares[0] * self._squares[1]])])
        self._edges = torch.tensor(config.height_edges_m, dtype=torch.float32, device=device)

    def __call__(self, points: Tensor, time: Tensor) -> Tensor:
        """The canvas of points in `base_link`.

        Args:
            points: (N, 4) float32 x, y, z (m) and intensity; `FAR_M` for x where there is none.
            time: (N,) float32 s relative to the sweep's stamp, zeros where it is not known.

        Returns:
            (channels, X, Y) float32, see `canvas_of`.
        """
        config, bins = self._config, len(self._edges) - 1
        nx, ny = config.canvas_cells
        cells = nx * ny
        across = (points[:, 0] - config.x_range_m[0]) * (1 / config.cell_m)
        along = (points[:, 1] - config.y_range_m[0]) * (1 / config.cell_m)
        inside = (across >= 0) & (across < nx) & (along >= 0) & (along < ny)
        cell = torch.where(inside, across, 0).int() * ny + torch.where(inside, along, 0).int()
        cell = torch.where(inside, cell, cells).long()

        ground = self.ground(cell, points[:, 2]).reshape(-1)
        height = points[:, 2] - functional.pad(ground, (0, 1)).take(cell)
        level = torch.bucketize(height, self._edges, right=True)  # 0 below all bins, bins + 1 above
        counted = inside & (level > 0) & (level <= bins)
        cell = torch.where(counted, cell, cells)

        index = cell * bins + torch.where(counted, level - 1, 0)
        ones = torch.ones_like(index, dtype=torch.int32)
        counts = torch.zeros((cells + 1) * bins, dtype=torch.int32, device=points.device).index_add_(0, index, ones)
        counts = counts.view(cells + 1, bins)[:cells]
        highest = torch.full((cells + 1,), -torch.inf, device=points.device)
        highest.scatter_reduce_(0, cell, height, "amax")
        values = torch.cat([points[:, :3], points[:, 3:].clamp(0.0, 1.0), time.clamp(-1.0, 1.0)[:, None]], dim=1)
        # Points that are not counted may be far away: an infinite sum must not reach others by way of a product.
        values = torch.where(counted[:, None], values, 0.0).double()
        sums = torch.zeros((cells + 1, 5), dtype=torch.float64, device=points.device).index_add_(0, cell, values)
        total = counts.sum(dim=1)
        filled = total > 0
        x, y, z, intensity, seconds = (sums[:cells] / total.clamp(min=1)[:, None]).unbind(dim=1)
        offset_x = 2.0 * ((x - config.x_range_m[0]) / config.cell_m - self._row) - 1.0
        offset_y = 2.0 * ((y - config.y_range_m[0]) / config.cell_m - self._column) - 1.0
        statistics = [
            0.5 * torch.where(filled, highest[:cells], 0.0),
            0.5 * (z - ground),
            0.5 * ground,
            intensity,
            offset_x,
            offset_y,
            10.0 * seconds,
        ]
        logarithms = counts.clamp(max=MOST_COUNTED).float().log1p().T
        canvas = torch.cat([logarithms, torch.stack([values.float() for values in statistics])])
        return torch.where(filled, canvas, 0.0).view(-1, nx, ny)

    def ground(self, cell: Tensor, z: Tensor) -> Tensor:
        """(X, Y) float32 m: see `ground_height`. Cell X * Y is for points outside."""
        mx, my = self._squares
        level = ((z - GROUND_LOW_M) * (1 / GROUND_STEP_M)).clamp(0, _LEVELS - 1).long()
        index = self._square_of.take(cell) * _LEVELS + level
        count = torch.zeros((mx * my + 1) * _LEVELS, dtype=torch.int32, device=z.device)
        count.index_add_(0, index, torch.ones_like(index, dtype=torch.int32))
        running = count.view(-1, _LEVELS)[:-1].cumsum(dim=1)
        total = running[:, -1]
        low = (running > GROUND_SHARE * total[:, None].double()).int().argmax(dim=1)
        lowest = torch.where(total > 0, GROUND_LOW_M + (low + 0.5) * GROUND_STEP_M, torch.inf).view(mx, my)
        config, coarse = self._config, self._coarse
        x0 = int(-config.x_range_m[0] / config.cell_m) // coarse
        y0 = int(-config.y_range_m[0] / config.cell_m) // coarse
        if 0 <= x0 < mx and 0 <= y0 < my:
            lowest[x0, y0].clamp_(max=GROUND_STEP_M / 2)
        rise = GROUND_SLOPE * coarse * config.cell_m
        near = (low + round(GROUND_NEAR_M / GROUND_STEP_M)).clamp(max=_LEVELS - 1)
        support = (GROUND_SUPPORT * total.double()).clamp(min=GROUND_POINTS)
        shared = running.gather(1, near[:, None])[:, 0] >= support
        around = _median_around(lowest)
        reflected = (lowest < around - 2 * rise) & ~shared.view(mx, my)
        surface = torch.where(reflected, around, lowest).clamp(max=GROUND_HIGH_M)
        for _ in range(GROUND_REACH):
            lower = -functional.max_pool2d(-surface[None], 3, stride=1, padding=1)[0]
            surface = torch.minimum(surface, lower + rise)
        fine = functional.interpolate(surface[None, None], scale_factor=coarse, mode="bilinear", align_corners=False)
        nx, ny = config.canvas_cells
        return fine[0, 0, :nx, :ny]


def _median_around(lowest: Tensor) -> Tensor:
    """(X, Y) median of the finite values in 5 x 5 squares; infinite where there are none."""
    padded = functional.pad(lowest, (2, 2, 2, 2), value=torch.inf)
    around = padded.unfold(0, 5, 1).unfold(1, 5, 1).reshape(*lowest.shape, 25)
    ordered = around.sort(dim=-1).values
    middle = (torch.isfinite(ordered).sum(dim=-1) - 1).clamp(min=0) // 2
    return ordered.gather(-1, middle[..., None])[..., 0]
