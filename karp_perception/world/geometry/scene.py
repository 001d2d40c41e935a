"""A scene: bodies, each a shape somewhere, flattened for the compiled kernels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import NamedTuple

import numpy as np

from karp_perception.world.geometry.ground import Ground, GroundRays
from karp_perception.world.geometry.shape import Shape, rotation_matrix

BRAKE, LEFT, RIGHT, HEAD = 1, 2, 4, 8
"""Bits of `Body.lights`: brake lights, indicators, head lights."""
SIGNAL_RED, SIGNAL_YELLOW, SIGNAL_GREEN = 16, 32, 64
"""Bits of `Body.lights` of a traffic light: the lamps that are on."""

_UPPER_CORNERS = np.array([[1.0, 1.0, 1.0], [1.0, -1.0, 1.0], [-1.0, 1.0, 1.0], [-1.0, -1.0, 1.0]])


@dataclass(frozen=True)
class Body:
    """A shape in the world.

    Attributes:
        shape: what it is made of.
        position: (3,) m, where its origin is in the world's frame.
        yaw, pitch, roll: rad.
        owner: id of the actor that it belongs to, 0 for scenery.
        velocity: (3,) m/s. yaw_rate: rad/s.
        first, second: RGB 0..255, the colours of its tinted primitives.
        lights: bits, see BRAKE.
    """

    shape: Shape
    position: tuple[float, float, float]
    yaw: float = 0.0
    pitch: float = 0.0
    roll: float = 0.0
    owner: int = 0
    velocity: tuple[float, float, float] = (0.0, 0.0, 0.0)
    yaw_rate: float = 0.0
    first: tuple[float, float, float] = (128.0, 128.0, 132.0)
    second: tuple[float, float, float] = (60.0, 60.0, 70.0)
    lights: int = 0


class SceneRays(NamedTuple):
    """What compiled code needs of the bodies around a place: B bodies and their P primitives, nearest body first."""

    first: np.ndarray  # (B + 1,) int64, rows of a body's primitives: first[b] to first[b + 1]
    place: np.ndarray  # (B, 3) m, position of its origin
    middle: np.ndarray  # (B, 3) m, middle of the box around it
    reach: np.ndarray  # (B,) m, from there to its farthest corner seen from above
    bottom: np.ndarray  # (B,) m
    top: np.ndarray  # (B,) m
    velocity: np.ndarray  # (B, 3) m/s
    yaw_rate: np.ndarray  # (B,) rad/s
    owner: np.ndarray  # (B,) int64
    lights: np.ndarray  # (B,) int64
    body: np.ndarray  # (P,) int64, the body of each primitive
    kind: np.ndarray  # (P,) int64
    affine: np.ndarray  # (P, 3, 4) from the world into canonical space
    taper: np.ndarray  # (P, 4)
    material: np.ndarray  # (P,) int64
    color: np.ndarray  # (P, 3)
    density: np.ndarray  # (P,)
    ball: np.ndarray  # (P,) squared radius of the canonical ball around each primitive


@dataclass(frozen=True)
class Bodies:
    """Bodies placed in the world, as arrays (see SceneRays), so that those that stand are placed only once."""

    count: np.ndarray
    place: np.ndarray
    middle: np.ndarray
    reach: np.ndarray
    bottom: np.ndarray
    top: np.ndarray
    velocity: np.ndarray
    yaw_rate: np.ndarray
    owner: np.ndarray
    lights: np.ndarray
    kind: np.ndarray
    affine: np.ndarray
    taper: np.ndarray
    material: np.ndarray
    color: np.ndarray
    density: np.ndarray
    ball: np.ndarray
    first: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "first", np.concatenate([[0], np.cumsum(self.count)]).astype(np.int64))

    @classmethod
    def of(cls, bodies: Sequence[Body]) -> Bodies:
        """Those bodies, placed."""
        n = len(bodies)
        R = np.array([rotation_matrix(b.roll, b.pitch, b.yaw) for b in bodies]).reshape(n, 3, 3)
        place = np.array([b.position for b in bodies], float).reshape(n, 3)
        lower = np.array([b.shape.lower for b in bodies]).reshape(n, 3)
        upper = np.array([b.shape.upper for b in bodies]).reshape(n, 3)
        half = 0.5 * (upper - lower)
        middle = place + np.einsum("nij,nj->ni", R, 0.5 * (upper + lower))
        extent = np.einsum("nij,nj->ni", np.abs(R), half)
        corners = np.einsum("nij,kj,nj->nki", R[:, :2], _UPPER_CORNERS, half)  # the lower ones lie opposite
        count = np.array([len(b.shape) for b in bodies], np.int64)

        def stacked(name: str, shape: tuple[int, ...], dtype: type = float) -> np.ndarray:
            if not n:
                return np.zeros((0, *shape), dtype)
            return np.concatenate([getattr(b.shape, name) for b in bodies])

        affine = stacked("affine", (3, 4))
        of = np.repeat(np.arange(n), count)
        # Canonical = A (R' (p - place)) + a for a point p of the world.
        linear = np.einsum("pij,pkj->pik", affine[:, :, :3], R[of])
        offset = affine[:, :, 3] - np.einsum("pij,pj->pi", linear, place[of])
        tint = stacked("tint", (), np.int64)
        paint = np.array([(b.first, b.second) for b in bodies], float).reshape(n, 2, 3)
        color = stacked("color", (3,)).copy()
        tinted = tint > 0
        color[tinted] = paint[of[tinted], tint[tinted] - 1]
        return cls(
            count, place, middle, np.linalg.norm(corners, axis=2).max(axis=1),
            middle[:, 2] - extent[:, 2], middle[:, 2] + extent[:, 2],
            np.array([b.velocity for b in bodies], float).reshape(n, 3), np.array([b.yaw_rate for b in bodies], float),
            np.array([b.owner for b in bodies], np.int64), np.array([b.lights for b in bodies], np.int64),
            stacked("kind", (), np.int64), np.concatenate([linear, offset[:, :, None]], axis=2),
            stacked("taper", (4,)), stacked("material", (), np.int64), color, stacked("density", ()),
            stacked("ball", ()),
        )  # fmt: skip

    @classmethod
    def concatenate(cls, parts: Sequence[Bodies]) -> Bodies:
        """All of them, in order."""
        names = [f.name for f in fields(cls) if f.init]
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))

    def __len__(self) -> int:
        return len(self.count)


@dataclass(frozen=True)
class Scene:
    """Ground, what stands on it for ever, and what moves now."""

    ground: Ground
    standing: Bodies
    moving: Bodies

    def rays(self, x: float, y: float, view: float) -> tuple[SceneRays, GroundRays]:
        """The scene for the kernels: bodies that reach within `view` m of (x, y), nearest first."""
        parts = (self.standing, self.moving)
        distance = [np.hypot(p.middle[:, 0] - x, p.middle[:, 1] - y) - p.reach for p in parts]
        near = [np.flatnonzero(d < view) for d in distance]
        order = np.argsort(np.concatenate([d[k] for d, k in zip(distance, near, strict=True)]), kind="stable")
        rows = [_rows(p.first, k) for p, k in zip(parts, near, strict=True)]

        def of_bodies(name: str) -> np.ndarray:
            return np.concatenate([getattr(p, name)[k] for p, k in zip(parts, near, strict=True)])[order]

        count = np.concatenate([p.count[k] for p, k in zip(parts, near, strict=True)])
        start = np.concatenate([[0], np.cumsum(count)]).astype(np.int64)
        sorted_rows = _rows(start, order)

        def of_primitives(name: str) -> np.ndarray:
            return np.concatenate([getattr(p, name)[r] for p, r in zip(parts, rows, strict=True)])[sorted_rows]

        names = ("place", "middle", "reach", "bottom", "top", "velocity", "yaw_rate", "owner", "lights")
        columns = ("kind", "affine", "taper", "material", "color", "density", "ball")
        first = np.concatenate([[0], np.cumsum(count[order])]).astype(np.int64)
        bodies = SceneRays(
            first,
            *(of_bodies(name) for name in names),
            np.repeat(np.arange(len(order)), count[order]),
            *(of_primitives(name) for name in columns),
        )
        return bodies, self.ground.rays(x, y)


def _rows(first: np.ndarray, bodies: np.ndarray) -> np.ndarray:
    """Rows of the primitives of some bodies, in their order."""
    count = first[bodies + 1] - first[bodies]
    shift = np.repeat(first[bodies] - np.concatenate([[0], np.cumsum(count)[:-1]]), count)
    return np.arange(int(count.sum())) + shift
