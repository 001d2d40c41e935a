"""What grows: trees, hedges, bushes, tufts, ragged strips of all of it; and rocks."""

from __future__ import annotations

import math

import numpy as np

from karp_perception.world.geometry.materials import Material
from karp_perception.world.geometry.shape import FIRST, SECOND
from karp_perception.world.models.colors import LEAVES, pick
from karp_perception.world.models.family import Family, Size, Sizes
from karp_perception.world.models.model import Model
from karp_perception.world.models.sculptor import Point, Sculptor

DENSE, THIN = 4.0, 1.4
"""Hits per metre inside of leaves: a clipped hedge, and a crown in autumn."""


def _clump(b: Sculptor, rng: np.random.Generator, center: Point, size: Point, density: float) -> None:
    tint = FIRST if rng.random() < 0.6 else SECOND
    turn = (0.0, rng.uniform(-0.3, 0.3), rng.uniform(-1.5, 1.5))
    b.ellipsoid(center, size, Material.LEAVES, rotation=turn, tint=tint, density=density * rng.uniform(0.7, 1.4))


def draw_tree(rng: np.random.Generator, size: Size) -> Model:
    """A broad-leaved tree: trunk, boughs, and a crown of several clumps."""
    L, W, H = size
    fork = H * rng.uniform(0.24, 0.4)
    radius = rng.uniform(0.018, 0.028) * H
    density = rng.uniform(THIN, 3.0)
    b = Sculptor()
    b.strut((0, 0, 0), (rng.uniform(-0.1, 0.1), rng.uniform(-0.1, 0.1), fork + 0.1), radius, Material.BARK, taper=0.3)
    turn = rng.uniform(0, 2 * math.pi)
    count = int(rng.integers(4, 7))
    _clump(b, rng, (0, 0, 0.72 * H), (0.6 * L, 0.6 * W, 0.52 * H), density)
    for k in range(count - 1):
        a = turn + 2 * math.pi * k / (count - 1) + rng.uniform(-0.3, 0.3)
        x, y = 0.25 * L * math.cos(a), 0.25 * W * math.sin(a)
        z = rng.uniform(0.5, 0.7) * H
        if k < 3:
            b.strut((0, 0, fork), (0.8 * x, 0.8 * y, z), 0.5 * radius, Material.BARK, taper=0.5)
        _clump(
            b,
            rng,
            (x, y, z),
            (rng.uniform(0.4, 0.6) * L, rng.uniform(0.4, 0.6) * W, rng.uniform(0.28, 0.4) * H),
            density,
        )
    return _plant("tree", b, rng, size)


def draw_conifer(rng: np.random.Generator, size: Size) -> Model:
    """A spruce or the like: tiers of cones around a trunk."""
    L, W, H = size
    foot = rng.uniform(0.06, 0.2) * H
    tiers = int(rng.integers(3, 5))
    b = Sculptor()
    b.cylinder((0, 0, 0.4 * H), 0.018 * H, 0.8 * H, Material.BARK, taper=0.6)
    for k in range(tiers):
        low = foot + (H - foot) * k / (tiers + 0.6)
        high = min(H, low + (H - foot) * 1.7 / (tiers + 0.6)) if k < tiers - 1 else H
        share = 1 - 0.75 * k / tiers
        b.cylinder(
            (0, 0, 0.5 * (low + high)),
            (0.5 * share * L, 0.5 * share * W),
            high - low,
            Material.LEAVES,
            taper=0.88,
            tint=FIRST,
            density=rng.uniform(2.5, 5.0),
        )
    dark = tuple(0.8 * c for c in pick(LEAVES[:2], rng))
    return Model("conifer", None, size, b.fitted(size), dark, dark)


def draw_young_tree(rng: np.random.Generator, size: Size) -> Model:
    """A street tree tied to its stakes."""
    L, W, H = size
    crown = rng.uniform(0.42, 0.55) * H
    b = Sculptor()
    b.cylinder((0, 0, 0.35 * H), 0.04, 0.7 * H, Material.BARK, taper=0.3)
    for y in (0.3, -0.3):
        b.cylinder((0, y, 0.2 * H), 0.035, 0.4 * H, Material.WOOD)
    b.slab((-0.01, 0.01), (-0.3, 0.3), (0.36 * H, 0.38 * H), Material.WOOD)
    density = rng.uniform(THIN, 3.0)
    _clump(b, rng, (0, 0, 0.5 * (H + crown)), (0.8 * L, 0.8 * W, H - crown), density)
    for side in (1, -1):
        _clump(
            b, rng, (side * 0.2 * L, side * 0.2 * W, rng.uniform(0.55, 0.75) * H), (0.6 * L, 0.6 * W, 0.3 * H), density
        )
    return _plant("young_tree", b, rng, size)


def draw_bush(rng: np.random.Generator, size: Size) -> Model:
    """A few clumps."""
    return _thicket("bush", rng, size, int(rng.integers(3, 6)), DENSE)


def draw_ragged_vegetation(rng: np.random.Generator, size: Size) -> Model:
    """A strip of growth of every height along x, with gaps, saplings and dead wood."""
    return _thicket("ragged_vegetation", rng, size, max(6, min(12, round(1.6 * size[0]))), 2.4)


def _thicket(name: str, rng: np.random.Generator, size: Size, count: int, density: float) -> Model:
    L, W, H = size
    wide = min(1.0, 2.6 / count)
    b = Sculptor()
    for k in range(count):
        x = (-0.5 + (k + 0.5) / count) * 0.9 * L + rng.normal(0, 0.03 * L)
        y = rng.uniform(-0.25, 0.25) * W
        tall = H * (rng.uniform(0.35, 1.0) if k != count // 2 else 1.0)
        long = wide * L * rng.uniform(0.6, 1.2)
        lift = rng.uniform(0.0, 0.25) * tall if name == "ragged_vegetation" else 0.0
        _clump(b, rng, (x, y, 0.5 * (tall + lift)), (long, W * rng.uniform(0.45, 0.85), tall - lift), density)
        if rng.random() < 0.35:
            b.strut(
                (x, y, 0),
                (x + rng.uniform(-0.3, 0.3), y + rng.uniform(-0.2, 0.2), rng.uniform(0.5, 0.95) * tall),
                0.025,
                Material.BARK,
            )
    return _plant(name, b, rng, size)


def draw_hedge(rng: np.random.Generator, size: Size) -> Model:
    """Clipped, with uneven pieces, a gap now and then."""
    L, W, H = size
    count = max(1, min(10, round(L / 2.2)))
    b = Sculptor()
    density = rng.uniform(0.8, 1.5) * DENSE
    for k in range(count):
        if 0 < k < count - 1 and rng.random() < 0.07:
            continue
        x = (-0.5 * L + k * L / count, -0.5 * L + (k + 1) * L / count)
        edge = rng.uniform(0.0, 0.08) * W if 0 < k < count - 1 else 0.0
        top = H * (rng.uniform(0.9, 1.0) if k else 1.0)
        b.slab(
            x,
            (edge - 0.5 * W, 0.5 * W - edge),
            (0, top),
            Material.LEAVES,
            taper=(0, 0, 0.06 * W, 0.06 * W),
            tint=FIRST,
            density=density,
        )
        if rng.random() < 0.5:
            _clump(b, rng, (0.5 * (x[0] + x[1]), 0, 0.75 * top), (0.8 * (x[1] - x[0]), 0.9 * W, 0.5 * top), density)
    return _plant("hedge", b, rng, size)


def draw_grass_tuft(rng: np.random.Generator, size: Size) -> Model:
    """High grass and weeds."""
    L, W, H = size
    b = Sculptor()
    for _ in range(int(rng.integers(2, 5))):
        x, y = rng.uniform(-0.25, 0.25) * L, rng.uniform(-0.25, 0.25) * W
        tall = H * rng.uniform(0.6, 1.0)
        b.cylinder(
            (x, y, 0.5 * tall),
            (rng.uniform(0.2, 0.3) * L, rng.uniform(0.2, 0.3) * W),
            tall,
            Material.LEAVES,
            taper=-0.25,
            tint=FIRST,
            density=rng.uniform(1.5, 4.0),
        )
    color = pick(((0.6, (112, 118, 58)), (0.4, (160, 146, 92))), rng)
    return Model("grass_tuft", None, size, b.fitted(size), color, color)


def draw_rock(rng: np.random.Generator, size: Size) -> Model:
    """One to three boulders, each of two faceted halves."""
    L, W, H = size
    b = Sculptor()
    for k in range(int(rng.integers(1, 4))):
        share = 1.0 if k == 0 else rng.uniform(0.4, 0.7)
        x, y = (0.0, 0.0) if k == 0 else (rng.uniform(-0.3, 0.3) * L, rng.uniform(-0.3, 0.3) * W)
        long, wide, tall = 0.8 * share * L, 0.8 * share * W, share * H
        waist, turn = rng.uniform(0.25, 0.5) * tall, (0.0, 0.0, rng.uniform(-0.6, 0.6))
        out = -rng.uniform(0.05, 0.12)
        foot = (1 + 2 * out) * long, (1 + 2 * out) * wide
        taper = (out * long, out * long, out * wide, out * wide)
        b.block((x, y, 0.5 * waist), (*foot, waist), Material.STONE, taper=taper, rotation=turn)
        taper = tuple(rng.uniform(0.12, 0.38) * s for s in (long, long, wide, wide))
        b.block((x, y, 0.5 * (waist + tall)), (long, wide, tall - waist), Material.STONE, taper=taper, rotation=turn)
    return Model("rock", None, size, b.fitted(size))


def _plant(name: str, b: Sculptor, rng: np.random.Generator, size: Size) -> Model:
    green = pick(LEAVES, rng)
    other = tuple(float(np.clip(c * rng.uniform(0.8, 1.2), 5, 250)) for c in green)
    return Model(name, None, size, b.fitted(size), green, other)


VEGETATION: tuple[Family, ...] = (
    Family("tree", None, Sizes((6.0, 6.0, 8.5), (1.5, 1.5, 2.2), 0.8), draw_tree),
    Family("conifer", None, Sizes((3.6, 3.6, 8.0), (0.9, 0.9, 2.4), 0.85), draw_conifer),
    Family("young_tree", None, Sizes((2.1, 2.1, 4.4), (0.4, 0.4, 0.7), 0.7), draw_young_tree),
    Family("bush", None, Sizes((1.9, 1.6, 1.3), (0.6, 0.5, 0.45), 0.6), draw_bush),
    Family("ragged_vegetation", None, Sizes((6.0, 1.8, 2.0), (2.0, 0.5, 0.7), 0.4), draw_ragged_vegetation),
    Family("hedge", None, Sizes((9.0, 0.8, 1.5), (3.5, 0.2, 0.4), 0.3), draw_hedge),
    Family("grass_tuft", None, Sizes((0.8, 0.7, 0.5), (0.25, 0.2, 0.15), 0.5), draw_grass_tuft),
    Family("rock", None, Sizes((1.1, 0.9, 0.7), (0.35, 0.3, 0.25), 0.7), draw_rock),
)
