"""A body's shape: convex primitives around its own origin, built piece by piece."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from karp_perception.core.errors import ConfigurationError
from karp_perception.world.geometry.materials import COLOR, Material
from karp_perception.world.geometry.primitives import Kind

OWN, FIRST, SECOND = 0, 1, 2
"""Where a primitive's colour comes from: its own, or the first or second colour of the body that has the shape."""

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

    @property
    def size(self) -> np.ndarray:
        """(3,) m, of the box around it."""
        return self.upper - self.lower


class ShapeBuilder:
    """Collects primitives. Lengths in m, angles in rad, centres in the body's frame; every call returns the builder.

    Example: ShapeBuilder().block((0, 0, 0.5), (4, 1.8, 1.0), Material.PAINT, tint=FIRST).build()
    """

    def __init__(self) -> None:
        self._rows: list[tuple[Kind, np.ndarray, tuple[float, ...], Material, tuple[float, ...], int, float]] = []
        self._extents: list[tuple[np.ndarray, np.ndarray]] = []

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
        half = 0.5 * np.asarray(size, float)
        inset = tuple(float(t / half[axis]) for t, axis in zip(taper, (0, 0, 1, 1), strict=True))
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
        half = np.array([rx, ry, 0.5 * length], float)
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
        half = 0.5 * np.asarray(size, float)
        return self._add(Kind.ELLIPSOID, center, half, rotation, (0.0,) * 4, material, color, tint, density)

    def build(self) -> Shape:
        """The shape. Raises ConfigurationError where nothing was added."""
        if not self._rows:
            raise ConfigurationError("a shape needs at least one primitive, got none")
        kind, affine, taper, material, color, tint, density = (list(column) for column in zip(*self._rows, strict=True))
        return Shape(
            np.array(kind, np.int64),
            np.array(affine),
            np.array(taper, float),
            np.array(material, np.int64),
            np.array(color, float),
            np.array(tint, np.int64),
            np.array(density, float),
            np.min([low for low, _ in self._extents], axis=0),
            np.max([high for _, high in self._extents], axis=0),
        )

    def _add(
        self,
        kind: Kind,
        center: tuple[float, float, float],
        half: np.ndarray,
        rotation: tuple[float, float, float],
        taper: tuple[float, ...],
        material: Material,
        color: tuple[float, float, float] | None,
        tint: int,
        density: float,
    ) -> ShapeBuilder:
        if not (half > 0).all() or not np.isfinite(half).all():
            raise ConfigurationError(f"{kind.name.lower()}: expected sizes above 0 m, got {(2 * half).tolist()}")
        middle, R = np.asarray(center, float), rotation_matrix(*rotation)
        linear = R.T / half[:, None]
        affine = np.concatenate([linear, -(linear @ middle)[:, None]], axis=1)
        if kind is Kind.BLOCK:
            overhang = np.array([max(1, 1 - taper[0], 1 - taper[1]), max(1, 1 - taper[2], 1 - taper[3]), 1])
            reach = np.abs(R) @ (half * overhang)
        else:
            # The extent of an ellipsoid is exact; a cylinder's is that of its round part plus its half axis.
            reach = np.sqrt(((R * half) ** 2).sum(axis=1))
            if kind is Kind.CYLINDER:
                reach = np.sqrt(((R[:, :2] * half[:2]) ** 2).sum(axis=1)) + np.abs(R[:, 2]) * half[2]
        self._extents.append((middle - reach, middle + reach))
        own = tuple(COLOR[material]) if color is None else tuple(float(c) for c in color)
        self._rows.append((kind, affine, taper, material, own, tint, float(density)))
        return self


def rotation_matrix(roll: float, pitch: float, yaw: float) -> np.ndarray:
    """(3, 3), about x, then y, then z (fixed axes, as REP-103)."""
    cr, sr, cp, sp, cy, sy = np.cos(roll), np.sin(roll), np.cos(pitch), np.sin(pitch), np.cos(yaw), np.sin(yaw)
    return np.array(
        [
            [cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr],
            [sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr],
            [-sp, cp * sr, cp * cr],
        ]
    )
