"""Solids: what a simulated scene is built of, boxes whose top face may be smaller than the bottom one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import NamedTuple

import numpy as np

from karp_perception.core.geometry import wrap_angle


class Material(IntEnum):
    """What a surface is made of. Rows of MATERIALS."""

    PAINT = 0
    GLASS = 1
    RUBBER = 2
    RETROREFLECTOR = 3
    WALL = 4
    METAL = 5
    FOLIAGE = 6
    CLOTH = 7
    ASPHALT = 8
    MARKING = 9
    PAVEMENT = 10
    DRAWN = 11  # shadows, windows flush with a wall: cameras see them, lidars do not tell them from what is behind


class MaterialProperties(NamedTuple):
    """How a lidar sees a material: mean intensity (0..1), share of rays that pass, whether hits lie inside the body."""

    intensity: float
    passes: float = 0.0
    hit_inside: bool = False


MATERIALS: dict[Material, MaterialProperties] = {
    Material.PAINT: MaterialProperties(0.35),
    Material.GLASS: MaterialProperties(0.08, passes=0.55),
    Material.RUBBER: MaterialProperties(0.06),
    Material.RETROREFLECTOR: MaterialProperties(0.95),
    Material.WALL: MaterialProperties(0.30),
    Material.METAL: MaterialProperties(0.25),
    Material.FOLIAGE: MaterialProperties(0.22, passes=0.45, hit_inside=True),
    Material.CLOTH: MaterialProperties(0.28),
    Material.ASPHALT: MaterialProperties(0.10),
    Material.MARKING: MaterialProperties(0.55),
    Material.PAVEMENT: MaterialProperties(0.22),
    Material.DRAWN: MaterialProperties(0.0, passes=1.0),
}


class Part(NamedTuple):
    """One solid of a body, in the body's frame (x forward, y left, z up from its foot): m and RGB."""

    center: tuple[float, float, float]
    size: tuple[float, float, float]
    color: tuple[int, int, int]
    material: Material
    taper: tuple[float, float] = (0.0, 0.0)  # how much shorter and narrower the top face is than the bottom, 0..1
    facing: tuple[float, float] = (0.0, 0.0)  # outward, for what is fixed to the outside of the parts before it


@dataclass(frozen=True)
class Solids:
    """N solids as a structure of arrays, all in one frame.

    Attributes:
        center: (N, 3) m.
        size: (N, 3) m of the bottom face and the height.
        yaw: (N,) rad.
        taper: (N, 2) share by which the top face is shorter and narrower.
        material: (N,) of Material.
        color: (N, 3) RGB, 0..255.
        owner: (N,) number of the body a solid belongs to: positive for what moves or could, negative for scenery.
        facing: (N, 2) outward direction of lamps, windows and the like; zeros for the bodies themselves.
        layer: (N,) bodies of a lower layer never hide those of a higher one (houses stand behind cars).
    """

    center: np.ndarray
    size: np.ndarray
    yaw: np.ndarray
    taper: np.ndarray
    material: np.ndarray
    color: np.ndarray
    owner: np.ndarray
    facing: np.ndarray
    layer: np.ndarray

    def __len__(self) -> int:
        return len(self.yaw)

    def __getitem__(self, rows: np.ndarray) -> Solids:
        return Solids(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))

    @classmethod
    def of_parts(cls, parts: Iterable[Part], owner: int, layer: int = 0) -> Solids:
        """The parts of a body, in the body's own frame."""
        parts = list(parts)
        n = len(parts)
        return cls(
            np.array([p.center for p in parts], float).reshape(n, 3),
            np.array([p.size for p in parts], float).reshape(n, 3),
            np.zeros(n),
            np.array([p.taper for p in parts], float).reshape(n, 2),
            np.array([p.material for p in parts], int),
            np.array([p.color for p in parts], float).reshape(n, 3),
            np.full(n, owner),
            np.array([p.facing for p in parts], float).reshape(n, 2),
            np.full(n, layer),
        )

    @classmethod
    def concatenate(cls, groups: Iterable[Solids]) -> Solids:
        """All solids of several groups of one frame."""
        groups = list(groups)
        return cls(*(np.concatenate([getattr(g, name) for g in groups]) for name in cls.__dataclass_fields__))

    def placed(self, x: float, y: float, z: float, yaw: float) -> Solids:
        """The same solids after turning by yaw (rad) about the origin and moving by x, y, z (m)."""
        c, s = np.cos(yaw), np.sin(yaw)
        px, py, pz = self.center.T
        center = np.stack([c * px - s * py + x, s * px + c * py + y, pz + z], axis=1)
        turned = wrap_angle(self.yaw + yaw)
        fx, fy = self.facing.T
        facing = np.stack([c * fx - s * fy, s * fx + c * fy], axis=1)
        return Solids(center, self.size, turned, self.taper, self.material, self.color, self.owner, facing, self.layer)

    def moved(self, offset: np.ndarray) -> Solids:
        """The same solids moved by (3,) m."""
        return replace(self, center=self.center + offset)

    def corners(self) -> np.ndarray:
        """(N, 8, 3) corners: bottom face counter-clockwise from front left, then the top face alike."""
        half = 0.5 * self.size
        top = half[:, :2] * (1 - self.taper)
        sign = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]])
        flat = np.concatenate([half[:, None, :2] * sign, top[:, None] * sign], axis=1)
        z = np.repeat([-1.0, 1.0], 4) * half[:, 2:]
        c, s = np.cos(self.yaw)[:, None], np.sin(self.yaw)[:, None]
        x, y = flat[..., 0], flat[..., 1]
        return np.stack([c * x - s * y, s * x + c * y, z], axis=-1) + self.center[:, None]
