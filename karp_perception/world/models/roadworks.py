"""Cones and barriers. A barrier's length (x) is its thickness and its width (y) its extent, as in nuScenes."""

from __future__ import annotations

from functools import partial

import numpy as np

from karp_perception.core import ObjectClass
from karp_perception.world.geometry.materials import Material
from karp_perception.world.geometry.shape import FIRST, SECOND
from karp_perception.world.models.family import Family, Size, Sizes
from karp_perception.world.models.model import RGB, Model
from karp_perception.world.models.sculptor import Sculptor

_RED: RGB = (200.0, 36.0, 32.0)
_WHITE: RGB = (232.0, 232.0, 230.0)


def _cone_part(
    b: Sculptor, z: tuple[float, float], top: float, foot: float, tip: float, base: float, band: bool
) -> None:
    """The part of a cone (radius `foot` at z = base, `tip` at z = top) between two z, a band a little proud of it."""
    r0, r1 = (foot + (tip - foot) * (at - base) / (top - base) + (0.004 if band else 0.0) for at in z)
    material, how = (Material.REFLECTIVE, {}) if band else (Material.ORANGE, {"tint": FIRST})
    b.cylinder((0, 0, 0.5 * (z[0] + z[1])), r0, z[1] - z[0], material, taper=1 - r1 / r0, **how)


def draw_cone(name: str, rng: np.random.Generator, size: Size) -> Model:
    """A cone on its square foot with one or two reflecting bands; tall ones are slim."""
    L, W, H = size
    b = Sculptor()
    base = 0.035
    foot, tip = (0.37 * W, 0.07 * W) if name == "traffic_cone" else (0.3 * W, 0.12 * W)
    b.slab(
        (-0.5 * L, 0.5 * L), (-0.5 * W, 0.5 * W), (0, base), Material.RUBBER if rng.random() < 0.6 else Material.ORANGE
    )
    _cone_part(b, (base, H), H, foot, tip, base, band=False)
    bands = ((0.45, 0.7),) if H < 0.6 else ((0.34, 0.5), (0.64, 0.8))
    for low, high in bands:
        _cone_part(b, (low * H, high * H), H, foot, tip, base, band=True)
    if name == "tall_cone" and rng.random() < 0.3:
        b.cylinder((0, 0, H + 0.04), 0.07, 0.08, Material.INDICATOR)
    orange = (228.0, 92.0, 28.0) if rng.random() < 0.75 else _RED
    return Model(name, ObjectClass.TRAFFIC_CONE, size, b.fitted(size), orange)


def draw_drum(rng: np.random.Generator, size: Size) -> Model:
    """A drum with bands, as American roadworks have them."""
    L, _, H = size
    b = Sculptor()
    b.cylinder((0, 0, 0.04), 0.5 * L, 0.08, Material.RUBBER)
    r = 0.42 * L
    b.cylinder((0, 0, 0.5 * H), r, H - 0.1, Material.ORANGE, taper=0.2, tint=FIRST)
    for low, high in ((0.3, 0.43), (0.58, 0.71), (0.84, 0.95)):
        wide = r * (1 - 0.2 * (low * H - 0.05) / (H - 0.1)) + 0.005
        b.cylinder((0, 0, 0.5 * (low + high) * H), wide, (high - low) * H, Material.REFLECTIVE, taper=0.02)
    b.slab((-0.1 * L, 0.1 * L), (-0.3 * L, 0.3 * L), (H - 0.06, H), Material.PLASTIC)
    return Model("road_drum", ObjectClass.TRAFFIC_CONE, size, b.fitted(size), (228.0, 92.0, 28.0))


def draw_water_barrier(rng: np.random.Generator, size: Size) -> Model:
    """Plastic elements filled with water, red and white in turn."""
    L, W, H = size
    b = Sculptor()
    count = max(1, round(W / 1.25))
    for k in range(count):
        y = (-0.5 * W + k * W / count + 0.01, -0.5 * W + (k + 1) * W / count - 0.01)
        tint = FIRST if k % 2 == 0 else SECOND
        b.slab((-0.5 * L, 0.5 * L), y, (0.05, 0.45 * H), Material.ORANGE, taper=(0.28 * L, 0.28 * L, 0, 0), tint=tint)
        b.slab((-0.22 * L, 0.22 * L), y, (0.45 * H, H), Material.ORANGE, taper=(0.06 * L, 0.06 * L, 0, 0), tint=tint)
        for x in (-0.35 * L, 0.35 * L):
            b.slab((x - 0.06, x + 0.06), (y[0] + 0.15, y[1] - 0.15), (0, 0.06), Material.ORANGE, tint=tint)
    colors = [(_RED, _WHITE), ((228.0, 92.0, 28.0), _WHITE), ((226.0, 190.0, 40.0), (40.0, 40.0, 44.0))][
        rng.integers(3)
    ]
    return Model("water_barrier", ObjectClass.BARRIER, size, b.fitted(size), *colors)


def draw_jersey_barrier(rng: np.random.Generator, size: Size) -> Model:
    """Concrete: a foot, a slope of 55 degrees and a steep upper part (New Jersey profile)."""
    L, W, H = size
    b = Sculptor()
    b.slab((-0.5 * L, 0.5 * L), (-0.5 * W, 0.5 * W), (0, 0.1 * H), Material.CONCRETE)
    b.slab(
        (-0.5 * L, 0.5 * L),
        (-0.5 * W, 0.5 * W),
        (0.1 * H, 0.42 * H),
        Material.CONCRETE,
        taper=(0.28 * L, 0.28 * L, 0, 0),
    )
    b.slab(
        (-0.22 * L, 0.22 * L), (-0.5 * W, 0.5 * W), (0.42 * H, H), Material.CONCRETE, taper=(0.08 * L, 0.08 * L, 0, 0)
    )
    if rng.random() < 0.4:
        b.pair((-0.24 * L, 0.24 * L), (0.2 * W, 0.26 * W), (0.6 * H, 0.75 * H), Material.REFLECTIVE)
    if rng.random() < 0.3:
        b.slab((-0.23 * L, 0.23 * L), (-0.47 * W, 0.47 * W), (0.78 * H, 0.95 * H), Material.PAINT, color=_RED)
    return Model("jersey_barrier", ObjectClass.BARRIER, size, b.fitted(size))


def draw_barricade(rng: np.random.Generator, size: Size) -> Model:
    """Striped boards on two stands, sometimes with lamps."""
    L, W, H = size
    lamps = rng.random() < 0.5
    top = H - (0.22 if lamps else 0.0)
    boards = int(rng.integers(1, 4))
    b = Sculptor()
    for y in (-0.38 * W, 0.38 * W):
        b.slab((-0.5 * L, 0.5 * L), (y - 0.06, y + 0.06), (0, 0.08), Material.RUBBER)
        b.slab((-0.03, 0.03), (y - 0.03, y + 0.03), (0.06, top), Material.METAL)
        if lamps:
            b.cylinder((0, y, H - 0.11), 0.09, 0.08, Material.INDICATOR, axis="x")
            b.slab((-0.05, 0.05), (y - 0.07, y + 0.07), (H - 0.22, H), Material.PLASTIC)
    for k in range(boards):
        z = top - 0.25 - k * 0.36
        if z < 0.1:
            break
        stripes = 5
        for s in range(stripes):
            y = (-0.5 * W + s * W / stripes, -0.5 * W + (s + 1) * W / stripes)
            b.slab((0.03, 0.06), y, (z, z + 0.25), Material.REFLECTIVE, color=_RED if s % 2 == 0 else _WHITE)
    return Model("barricade", ObjectClass.BARRIER, size, b.fitted(size))


def draw_crowd_barrier(rng: np.random.Generator, size: Size) -> Model:
    """A pedestrian fence of steel bars, which beams pass."""
    L, W, H = size
    b = Sculptor()
    for z in (0.16 * H, H - 0.02):
        b.cylinder((0, 0, z), 0.02, W, Material.METAL, axis="y")
    for y in (0.02 - 0.5 * W, 0.5 * W - 0.02):
        b.cylinder((0, y, 0.57 * H), 0.02, 0.85 * H, Material.METAL)
    for y in (-0.35 * W, 0.35 * W):
        b.slab((-0.5 * L, 0.5 * L), (y - 0.03, y + 0.03), (0, 0.04), Material.METAL)
        b.cylinder((0, y, 0.1 * H), 0.02, 0.18 * H, Material.METAL)
    count = max(6, int(W / 0.22))
    for k in range(1, count):
        b.cylinder((0, -0.5 * W + k * W / count, 0.58 * H), 0.01, 0.83 * H, Material.METAL)
    return Model("crowd_barrier", ObjectClass.BARRIER, size, b.fitted(size))


ROADWORKS: tuple[Family, ...] = (
    Family(
        "traffic_cone",
        ObjectClass.TRAFFIC_CONE,
        Sizes((0.37, 0.37, 0.72), (0.05, 0.05, 0.14), 0.85),
        partial(draw_cone, "traffic_cone"),
    ),
    Family(
        "tall_cone",
        ObjectClass.TRAFFIC_CONE,
        Sizes((0.40, 0.40, 1.12), (0.05, 0.05, 0.1), 0.7),
        partial(draw_cone, "tall_cone"),
    ),
    Family("road_drum", ObjectClass.TRAFFIC_CONE, Sizes((0.56, 0.56, 1.05), (0.04, 0.04, 0.06), 0.9), draw_drum),
    Family("water_barrier", ObjectClass.BARRIER, Sizes((0.50, 2.30, 0.95), (0.05, 0.5, 0.1)), draw_water_barrier),
    Family("jersey_barrier", ObjectClass.BARRIER, Sizes((0.60, 3.10, 0.90), (0.05, 0.6, 0.06)), draw_jersey_barrier),
    Family("barricade", ObjectClass.BARRIER, Sizes((0.55, 2.10, 1.15), (0.08, 0.4, 0.12)), draw_barricade),
    Family("crowd_barrier", ObjectClass.BARRIER, Sizes((0.50, 2.35, 1.08), (0.06, 0.15, 0.04)), draw_crowd_barrier),
)
