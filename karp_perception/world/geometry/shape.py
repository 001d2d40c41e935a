"""A body's shape: convex primitives around its own origin, built piece by piece."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from karp_perception.core.errors import ConfigurationError
from karp_perception.world.geometry.materials import COLOR, Material
from karp_perception.world.geometry.primitives import Kind, ball_around

OWN, FIRST, SECOND = 0, 1, 2
"""Where a primitive's colour comes from: its own, or the first or second colour of the body that has the shape."""

_COLORS = [tuple(color) for color in COLOR]
_CORNERS = np.array(
    [[1, 1, -1], [-1, 1, -1], [-1, -1, -1], [1, -1, -1], [1, 1, 1], [-1, 1, 1], [-1, -1, 1], [1, -1, 1]], float
)

AXES = {"x": (0.0, np.pi / 2, 0.0), "y": (-np.pi / 2, 0.0, 0.0), "z": (0.0, 0.0, 0.0)}


@dataclass(frozen=True)
class Shape:
    """P primitives in a body's own frame: x forward, y left, z up, the origin on the ground below its middle.

    Attributes:
        kind: (P,) int64, a Kind each.
        affine: (P, 3, 4) from the body's frame (m) into canonical space (see `primitives`).
        taper: (P, 4).
        material: (P,) int64, a Material each.
        color: (P, 3) RGB 0..255 of primitives that have a colour of their own.
        tint: (P,) int64: OWN, FIRST or SECOND.
        density: (P,) hits per metre inside of what lasers and looks go into (leaves, steam); 0 for a solid.
        lower, upper: (3,) m, the corners of the box around all of it.
    """

    kind: np.ndarray
    affine: np.ndarray
    taper: np.ndarray
    material: np.ndarray
    color: np.ndarray
    tint: np.ndarray
    density: np.ndarray
    lower: np.ndarray
    upper: np.ndarray

    def __len__(self) -> int:
        return len(self.kind)

    @cached_property
    def ball(self) -> np.ndarray:
        """(P,) squared radius of the canonical ball around each primitive."""
        return ball_around(self.kind, self.taper)

    @property
    def size(self) -> np.ndarray:
        """(3,) m, of the box around it."""
        return self.upper - self.lower


class ShapeBuilder:
    """Collects primitives. Lengths in m, angles in rad, centres in the body's frame; every call returns the builder.

    Example: ShapeBuilder().block((0, 0, 0.5), (4, 1.8, 1.0), Material.PAINT, tint=FIRST).build()
    """

    def __init__(self) -> None:
        self._rows: list[tuple] = []

    def block(
        self,
        center: tuple[float, float, float],
        size: tuple[float, float, float],
        material: Material,
        *,
        taper: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0),
        rotation: tuple[float, float, float] = (0.0, 0.0, 0.0),
        color: tuple[float, float, float] | None = None,
        tint: int = OWN,
        density: float = 0.0,
    ) -> ShapeBuilder:
        """A box; `taper`: m by which its top is drawn in at the back (-x), front (+x), right (-y) and left (+y).

        A negative taper makes the top overhang. `rotation`: roll, pitch, yaw about its centre.
        """
        half = (0.5 * size[0], 0.5 * size[1], 0.5 * size[2])
        if min(half[0], half[1]) <= 0:
            raise ConfigurationError(f"block: expected sizes above 0 m, got {list(size)}")
        inset = (taper[0] / half[0], taper[1] / half[0], taper[2] / half[1], taper[3] / half[1])
        if inset[0] + inset[1] > 2 + 1e-9 or inset[2] + inset[3] > 2 + 1e-9:
            raise ConfigurationError(f"block: its top would be turned inside out, taper {taper} for a size of {size}")
        return self._add(Kind.BLOCK, center, half, rotation, inset, material, color, tint, density)

    def cylinder(
        self,
        center: tuple[float, float, float],
        radius: float | tuple[float, float],
        length: float,
        material: Material,
        *,
        axis: str = "z",
        taper: float = 0.0,
        rotation: tuple[float, float, float] | None = None,
        color: tuple[float, float, float] | None = None,
        tint: int = OWN,
        density: float = 0.0,
    ) -> ShapeBuilder:
        """A (tapered, elliptic) cylinder along an axis, or along z turned by `rotation`; taper 1 makes a cone."""
        rx, ry = (radius, radius) if np.isscalar(radius) else radius
        turn = AXES[axis] if rotation is None else rotation
        half = (rx, ry, 0.5 * length)
        return self._add(Kind.CYLINDER, center, half, turn, (taper, 0.0, 0.0, 0.0), material, color, tint, density)

    def ellipsoid(
        self,
        center: tuple[float, float, float],
        size: tuple[float, float, float],
        material: Material,
        *,
        rotation: tuple[float, float, float] = (0.0, 0.0, 0.0),
        color: tuple[float, float, float] | None = None,
        tint: int = OWN,
        density: float = 0.0,
    ) -> ShapeBuilder:
        """An ellipsoid; `size` are its full axes."""
        half = (0.5 * size[0], 0.5 * size[1], 0.5 * size[2])
        return self._add(Kind.ELLIPSOID, center, half, rotation, (0.0,) * 4, material, color, tint, density)

    def build(self) -> Shape:
        """The shape. Raises ConfigurationError where nothing was added."""
        if not self._rows:
            raise ConfigurationError("a shape needs at least one primitive, got none")
        kind, center, half, turn, taper, material, color, tint, density = (
            np.array(column) for column in zip(*self._rows, strict=True)
        )
        R = rotation_matrix(*turn.astype(float).T)
        linear = np.swapaxes(R, 1, 2) / half[:, :, None]
        affine = np.ascontiguousarray(np.concatenate([linear, -(linear @ center[:, :, None])], axis=2))
        lower, upper = _extents(kind, center, R * half[:, None, :], taper)
        return Shape(
            kind.astype(np.int64), affine, taper.astype(float), material.astype(np.int64), color.astype(float),
            tint.astype(np.int64), density.astype(float), lower.min(axis=0), upper.max(axis=0),
        )  # fmt: skip

    def _add(
        self,
        kind: Kind,
        center: tuple[float, float, float],
        half: tuple[float, float, float],
        rotation: tuple[float, float, float],
        taper: tuple[float, ...],
        material: Material,
        color: tuple[float, float, float] | None,
        tint: int,
        density: float,
    ) -> ShapeBuilder:
        if not (min(half) > 0 and math.isfinite(sum(half))):
            raise ConfigurationError(f"{kind.name.lower()}: expected sizes above 0 m, got {[2 * h for h in half]}")
        own = _COLORS[material] if color is None else tuple(color)
        self._rows.append((int(kind), tuple(center), half, tuple(rotation), taper, int(material), own, tint, density))
        return self


def _extents(kind: np.ndarray, center: np.ndarray, M: np.ndarray, taper: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Exact corners (P, 3) and (P, 3) of the boxes around P primitives; M: (P, 3, 3) out of canonical space."""
    block, cylinder = (kind == Kind.BLOCK)[:, None], (kind == Kind.CYLINDER)[:, None]
    corner = np.repeat(_CORNERS[None], len(kind), axis=0)
    corner[:, 4:, 0] += np.stack([-taper[:, 1], taper[:, 0], taper[:, 0], -taper[:, 1]], axis=1)
    corner[:, 4:, 1] += np.stack([-taper[:, 3], -taper[:, 3], taper[:, 2], taper[:, 2]], axis=1)
    reach = corner @ np.swapaxes(M, 1, 2)
    ball = np.sqrt((M**2).sum(axis=2))
    disc, axis = np.sqrt((M[:, :, :2] ** 2).sum(axis=2)), M[:, :, 2]
    lid = disc * (1 - taper[:, :1])
    lower = np.where(cylinder, np.minimum(-axis - disc, axis - lid), -ball)
    upper = np.where(cylinder, np.maximum(-axis + disc, axis + lid), ball)
    lower = np.where(block, reach.min(axis=1), lower)
    upper = np.where(block, reach.max(axis=1), upper)
    return center + lower, center + upper


def rotation_matrix(roll: float | np.ndarray, pitch: float | np.ndarray, yaw: float | np.ndarray) -> np.ndarray:
    """(..., 3, 3) for angles (...,), rad, about x, then y, then z (fixed axes, as REP-103)."""
    cr, sr, cp, sp, cy, sy = np.cos(roll), np.sin(roll), np.cos(pitch), np.sin(pitch), np.cos(yaw), np.sin(yaw)
    rows = [
        [cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr],
        [sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr],
        [-sp, cp * sr, cp * cr],
    ]
    return np.moveaxis(np.array(rows), (0, 1), (-2, -1))
