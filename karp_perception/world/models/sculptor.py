"""A shape builder with the gestures that models share: slabs, prows, posts, struts, axles, and a fit to a given box."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from karp_perception.world.geometry.materials import Material
from karp_perception.world.geometry.shape import Shape, ShapeBuilder

Point = tuple[float, float, float]
Span = tuple[float, float]


class Sculptor(ShapeBuilder):
    """Lengths in m, x forward, y left, z up; spans are (from, to) along an axis. Every call returns the sculptor."""

    def __init__(self) -> None:
        super().__init__()
        self._box: tuple[np.ndarray, np.ndarray] | None = None

    def slab(self, x: Span, y: Span, z: Span, material: Material, **how: Any) -> Sculptor:
        """A block by its spans; `how` as in `block`."""
        center = (0.5 * (x[0] + x[1]), 0.5 * (y[0] + y[1]), 0.5 * (z[0] + z[1]))
        self.block(center, (abs(x[1] - x[0]), abs(y[1] - y[0]), abs(z[1] - z[0])), material, **how)
        return self

    def pair(
        self, x: Span, y: Span, z: Span, material: Material, *, taper: Sequence[float] = (0, 0, 0, 0), **how: Any
    ) -> Sculptor:
        """A slab on the left (y from inside to outside, both positive) and its mirror image on the right."""
        back, front, inner, outer = taper
        self.slab(x, y, z, material, taper=(back, front, inner, outer), **how)
        return self.slab(x, (-y[0], -y[1]), z, material, taper=(back, front, outer, inner), **how)

    def prow(
        self,
        x: Span,
        y: Span,
        z: Span,
        material: Material,
        *,
        top: float = 0.0,
        bottom: float = 0.0,
        side: float = 0.0,
        **how: Any,
    ) -> Sculptor:
        """A block from x[0] to its end at x[1] (ahead or behind), at which it is drawn in on top, below and aside."""
        ahead = x[1] > x[0]
        center = (0.5 * (x[0] + x[1]), 0.5 * (y[0] + y[1]), 0.5 * (z[0] + z[1]))
        size = (z[1] - z[0], y[1] - y[0], abs(x[1] - x[0]))
        taper = (top, bottom, side, side) if ahead else (bottom, top, side, side)
        turn = (0.0, 0.5 * math.pi if ahead else -0.5 * math.pi, 0.0)
        self.block(center, size, material, taper=taper, rotation=turn, **how)
        return self

    def post(self, foot: Point, head: Point, size: Span, material: Material, **how: Any) -> Sculptor:
        """A leaning post of a level cross-section (m along x, m along y) from the middle of its foot to its head's."""
        dx, dy, dz = (h - f for f, h in zip(foot, head, strict=True))
        center = (foot[0], foot[1], foot[2] + 0.5 * dz)
        self.block(center, (size[0], size[1], dz), material, taper=(dx, -dx, dy, -dy), **how)
        return self

    def strut(self, start: Point, end: Point, radius: float | Span, material: Material, **how: Any) -> Sculptor:
        """A cylinder between two points; a `taper` draws in its end."""
        d = [e - s for s, e in zip(start, end, strict=True)]
        length = math.sqrt(d[0] ** 2 + d[1] ** 2 + d[2] ** 2)
        turn = (0.0, math.acos(max(-1.0, min(1.0, d[2] / length))), math.atan2(d[1], d[0]))
        center = tuple(0.5 * (s + e) for s, e in zip(start, end, strict=True))
        self.cylinder(center, radius, length, material, rotation=turn, **how)
        return self

    def beam(self, start: Point, end: Point, size: Span, material: Material, **how: Any) -> Sculptor:
        """A bar of a square cross-section (m across the plane y = const, m along y) between two points of one y."""
        dx, dz = end[0] - start[0], end[2] - start[2]
        length = math.hypot(dx, dz)
        center = tuple(0.5 * (s + e) for s, e in zip(start, end, strict=True))
        turn = (0.0, math.atan2(dx, dz), 0.0)
        self.block(center, (size[0], size[1], length), material, rotation=turn, **how)
        return self

    def axle(self, x: float, width: float, radius: float, tyre: float, rim: float = 0.62) -> Sculptor:
        """Two tyres whose outsides are `width` apart, and one bar that shows as their rims (`rim`: share of radius)."""
        for y in (0.5 * (width - tyre), -0.5 * (width - tyre)):
            self.cylinder((x, y, radius), radius, tyre, Material.RUBBER, axis="y")
        self.cylinder((x, 0.0, radius), rim * radius, width + 0.012, Material.METAL, axis="y")
        return self

    def outside(self) -> Sculptor:
        """What comes from here on (mirrors) does not count for the box."""
        shape = super().build()
        self._box = (shape.lower, shape.upper)
        return self

    def fitted(self, size: Point) -> Shape:
        """The shape stretched onto the box of a size, whose bottom's middle is the origin."""
        shape = self.build()
        lower, upper = (shape.lower, shape.upper) if self._box is None else self._box
        return fit(shape, lower, upper, size)


def fit(shape: Shape, lower: np.ndarray, upper: np.ndarray, size: Point) -> Shape:
    """The shape stretched so that the box from `lower` to `upper` (m) becomes one of `size` upon the origin."""
    scale = np.asarray(size, float) / (upper - lower)
    middle = 0.5 * (lower + upper) * (1, 1, 0) + lower * (0, 0, 1)
    affine = shape.affine.copy()
    affine[:, :, 3] += affine[:, :, :3] @ middle
    affine[:, :, :3] /= scale
    return replace(shape, affine=affine, lower=(shape.lower - middle) * scale, upper=(shape.upper - middle) * scale)
