"""The strip of road the vehicle is going to sweep, and where boxes touch it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from karp_perception.core import Boxes, Vehicle
from karp_perception.planning.reference_line import ReferenceLine

_PIECES = 8
"""Into how many pieces the edge of a footprint is cut, so that it may bend in line coordinates."""


@dataclass(frozen=True)
class Approach:
    """The way back to the line: a quintic with the vehicle's offset (m) and slope at 0 that ends after `length` m."""

    offset: float = 0.0
    slope: float = 0.0
    length: float = 10.0

    def offset_at(self, s: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Offset to the left (m), slope and second derivative (1/m) at distances (K,) along the line."""
        u = np.clip(np.asarray(s, float) / self.length, 0.0, 1.0)
        a, b = self.offset, self.slope * self.length
        value = a * (1 - u**3 * (10 - 15 * u + 6 * u**2)) + b * u * (1 - u**2 * (6 - 8 * u + 3 * u**2))
        slope = -30 * a * u**2 * (1 - u) ** 2 + b * (1 - u**2 * (18 - 32 * u + 15 * u**2))
        bend = -60 * a * u * (1 - 3 * u + 2 * u**2) + b * u * (-36 + 96 * u - 60 * u**2)
        return value, slope / self.length, bend / self.length**2


@dataclass(frozen=True)
class Corridor:
    """What the vehicle sweeps along a line, with a margin on either side.

    Attributes:
        line: in the frame of the boxes that are asked about.
        vehicle: its shape.
        margin: m beside the vehicle's own width.
        length: how far ahead anything counts, m.
        approach: how the vehicle comes back to the line from where it is.
    """

    line: ReferenceLine
    vehicle: Vehicle
    margin: float
    length: float
    approach: Approach

    def reach(self, s: np.ndarray, margin: float) -> tuple[np.ndarray, np.ndarray]:
        """How far to the right and to the left of the line the vehicle comes at distances (K,), m, both with sign.

        In a bend the front corner swings out by front²·curvature/2 (first order of the circle it describes).
        """
        half = 0.5 * self.vehicle.width + margin
        bend = np.interp(s, self.line.distance, self.line.curvature)
        swing = np.minimum(0.5 * self.vehicle.front**2 * np.abs(bend), 1.0)
        middle = self.approach.offset_at(s)[0]
        return middle - half - swing * (bend > 0), middle + half + swing * (bend < 0)

    def free_distance(self, boxes: Boxes) -> np.ndarray:
        """(N,) way from the front bumper to where each box enters the strip, m; infinity where it does not.

        A box that already lies beside the vehicle counts only where it is in the way of the bare width: what is
        passed closely is no reason to stop half-way.
        """
        free = np.full(len(boxes), np.inf)
        near = np.flatnonzero(self._may_touch(boxes))
        if len(near):
            free[near] = self._free_distance(boxes[near])
        return free

    def _may_touch(self, boxes: Boxes) -> np.ndarray:
        """(N,) mask of the boxes that are near enough to the line for a closer look."""
        _, d = self.line.project(boxes.center[:, :2])
        widest = (
            self.margin + 0.5 * self.vehicle.width + 1.0 + np.abs(self.approach.offset_at(self.line.distance)[0]).max()
        )
        return np.abs(d) < 0.5 * np.hypot(boxes.size[:, 0], boxes.size[:, 1]) + widest

    def _free_distance(self, boxes: Boxes) -> np.ndarray:
        """`free_distance` by clipping the whole outline."""
        s, d = self._outline(boxes)
        front = self.vehicle.front
        margin = np.where(s.min(axis=1) > front, self.margin, 0.0)[:, None]
        right, left = self.reach(s.ravel(), 0.0)
        right, left = right.reshape(s.shape) - margin, left.reshape(s.shape) + margin
        # The piece of each edge that lies in the strip, by clipping it at both sides (Liang and Barsky).
        s1 = np.roll(s, -1, axis=1)
        low, high = np.zeros_like(s), np.ones_like(s)
        for inside in (d - right, left - d):
            inside_next = np.roll(inside, -1, axis=1)
            change = inside_next - inside
            with np.errstate(divide="ignore", invalid="ignore"):
                crossing = -inside / change
            low = np.where((inside < 0) & (change > 0), np.maximum(low, crossing), low)
            high = np.where((inside_next < 0) & (change < 0), np.minimum(high, crossing), high)
            high = np.where((inside < 0) & (inside_next < 0), -1.0, high)
        touches = low <= high
        first, last = s + low * (s1 - s), s + high * (s1 - s)
        near = np.where(touches, np.minimum(first, last), np.inf)
        far = np.where(touches, np.maximum(first, last), -np.inf)
        counts = touches & (far > front) & (near < self.length)
        return np.where(counts, np.maximum(near - front, 0.0), np.inf).min(axis=1)

    def _outline(self, boxes: Boxes) -> tuple[np.ndarray, np.ndarray]:
        """Distance along and offset of the footprints' outlines, (N, 4 * _PIECES) each, in order."""
        corner = boxes.footprint()
        edge = np.roll(corner, -1, axis=1) - corner
        part = np.arange(_PIECES) / _PIECES
        outline = corner[:, :, None, :] + part[None, None, :, None] * edge[:, :, None, :]
        s, d = self.line.project(outline.reshape(-1, 2))
        return s.reshape(len(boxes), -1), d.reshape(len(boxes), -1)
