"""What ground is taken: a raster in which things claim their footprints."""

from __future__ import annotations

import math

import cv2
import numpy as np

from karp_perception.core.compiled import njit

LANE, WALK, PAVED, TAKEN, SPACE = 1, 2, 4, 8, 16
"""Bits of a cell: a lane, a way on foot, any road or pavement, something standing, a parking space."""


class Site:
    """A raster of bits over a place.

    Args:
        lower, upper: (2,) m, corners of the place.
        cell: m.
    """

    def __init__(self, lower: np.ndarray, upper: np.ndarray, cell: float = 0.25) -> None:
        self.cell = cell
        self.x, self.y = float(lower[0]), float(lower[1])
        width, height = np.ceil((np.asarray(upper) - lower) / self.cell).astype(int)
        self.cells = np.zeros((height, width), np.uint8)

    def mark(self, bit: int, polygon: np.ndarray) -> None:
        """Set a bit inside a polygon (N, 2), m."""
        pixels = np.round((polygon - (self.x, self.y)) * (16.0 / self.cell) - 8.0).astype(np.int32)
        low = np.maximum(pixels.min(axis=0) // 16 - 1, 0)
        high = np.minimum(pixels.max(axis=0) // 16 + 2, self.cells.shape[::-1])
        if (high <= low).any():
            return
        window = self.cells[low[1] : high[1], low[0] : high[0]]
        stencil = np.zeros(window.shape, np.uint8)
        cv2.fillPoly(stencil, [pixels - (low * 16).astype(np.int32)], bit, shift=4)
        window |= stencil

    def claim(
        self, x: float, y: float, yaw: float, length: float, width: float, forbidden: int, mark: int = TAKEN
    ) -> bool:
        """Take a rectangle (m, its middle and yaw) unless it meets a forbidden bit or leaves the place."""
        return _claim(
            self.cells, (x - self.x) / self.cell, (y - self.y) / self.cell, math.cos(yaw), math.sin(yaw),
            0.5 * length / self.cell, 0.5 * width / self.cell, forbidden, mark,
        )  # fmt: skip


@njit(cache=True)
def _claim(cells, x, y, c, s, half_length, half_width, forbidden, mark):
    reach_x = abs(c) * half_length + abs(s) * half_width
    reach_y = abs(s) * half_length + abs(c) * half_width
    low_j, high_j = math.floor(x - reach_x), math.floor(x + reach_x)
    low_i, high_i = math.floor(y - reach_y), math.floor(y + reach_y)
    if low_i < 0 or low_j < 0 or high_i >= cells.shape[0] or high_j >= cells.shape[1]:
        return False
    # Cells whose middle lies within half a cell of the rectangle count, so that thin things cannot slip between.
    for i in range(low_i, high_i + 1):
        for j in range(low_j, high_j + 1):
            dx, dy = j + 0.5 - x, i + 0.5 - y
            inside = abs(c * dx + s * dy) <= half_length + 0.5 and abs(c * dy - s * dx) <= half_width + 0.5
            if inside and cells[i, j] & forbidden:
                return False
    for i in range(low_i, high_i + 1):
        for j in range(low_j, high_j + 1):
            dx, dy = j + 0.5 - x, i + 0.5 - y
            if abs(c * dx + s * dy) <= half_length + 0.5 and abs(c * dy - s * dx) <= half_width + 0.5:
                cells[i, j] |= mark
    return True
