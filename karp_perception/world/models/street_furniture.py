"""What stands on pavements for people: benches, bins, shelters, boxes. Fronts look along +x."""

from __future__ import annotations

import numpy as np

from karp_perception.world.geometry.materials import Material
from karp_perception.world.geometry.shape import FIRST
from karp_perception.world.models.colors import GOODS, LEAVES, TOPS, pick
from karp_perception.world.models.family import Family, Size, Sizes
from karp_perception.world.models.model import Model
from karp_perception.world.models.sculptor import Sculptor


def draw_bench(rng: np.random.Generator, size: Size) -> Model:
    """Planks on two feet, with a back or without."""
    L, W, H = size
    seat = min(0.46, 0.6 * H)
    material = Material.WOOD if rng.random() < 0.75 else Material.METAL
    b = Sculptor()
    b.slab((-0.3 * L, 0.5 * L), (-0.5 * W, 0.5 * W), (seat - 0.06, seat), material)
    b.pair((-0.3 * L, 0.45 * L), (0.36 * W, 0.42 * W), (0, seat - 0.05), Material.METAL)
    for z in (seat + 0.12, H - 0.12):
        b.slab((-0.5 * L, 0.06 - 0.5 * L), (-0.5 * W, 0.5 * W), (z, z + 0.12), material)
    b.pair((0.02 - 0.5 * L, 0.1 - 0.5 * L), (0.36 * W, 0.42 * W), (0, H - 0.02), Material.METAL)
    return Model("bench", None, size, b.fitted(size))


def draw_bin(rng: np.random.Generator, size: Size) -> Model:
    """A litter bin on a post, a round one, or a wheeled one with its lid."""
    L, W, H = size
    color = ((60.0, 90.0, 66.0), (50.0, 52.0, 56.0), (214.0, 120.0, 36.0), (40.0, 74.0, 130.0), (206.0, 180.0, 50.0))[
        rng.integers(5)
    ]
    b = Sculptor()
    kind = rng.integers(3)
    if kind == 0:
        b.slab(
            (-0.5 * L, 0.42 * L),
            (-0.5 * W, 0.5 * W),
            (0.08, 0.9 * H),
            Material.PLASTIC,
            taper=(-0.04, -0.04, -0.03, -0.03),
            tint=FIRST,
        )
        b.slab(
            (-0.5 * L, 0.5 * L),
            (-0.5 * W, 0.5 * W),
            (0.9 * H, H),
            Material.PLASTIC,
            taper=(0.08, 0.02, 0.03, 0.03),
            tint=FIRST,
        )
        b.cylinder((-0.4 * L, 0, 0.1), 0.1, 0.9 * W, Material.RUBBER, axis="y")
        b.slab((0.2 * L, 0.4 * L), (-0.3 * W, 0.3 * W), (0, 0.1), Material.PLASTIC)
    elif kind == 1:
        b.cylinder((0, 0, 0.44 * H), (0.46 * L, 0.46 * W), 0.88 * H, Material.METAL, tint=FIRST)
        b.cylinder((0, 0, 0.94 * H), (0.5 * L, 0.5 * W), 0.12 * H, Material.METAL, taper=0.5, tint=FIRST)
    else:
        b.cylinder((-0.4 * L, 0, 0.5 * H), 0.04, H, Material.METAL)
        b.slab(
            (-0.3 * L, 0.5 * L),
            (-0.5 * W, 0.5 * W),
            (0.35 * H, 0.92 * H),
            Material.PLASTIC,
            taper=(0, 0.04, 0, 0),
            tint=FIRST,
        )
    return Model("bin", None, size, b.fitted(size), color)


def draw_dumpster(rng: np.random.Generator, size: Size) -> Model:
    """A rubbish container with its lid and wheels, or a bank of bottles."""
    L, W, H = size
    color = ((70.0, 84.0, 90.0), (52.0, 96.0, 66.0), (120.0, 120.0, 120.0), (180.0, 150.0, 40.0))[rng.integers(4)]
    b = Sculptor()
    b.slab(
        (-0.46 * L, 0.46 * L),
        (-0.5 * W, 0.5 * W),
        (0.16, 0.82 * H),
        Material.METAL,
        taper=(-0.04 * L, -0.04 * L, 0, 0),
        tint=FIRST,
    )
    b.slab(
        (-0.5 * L, 0.5 * L), (-0.5 * W, 0.5 * W), (0.8 * H, H), Material.PLASTIC, taper=(0.25 * L, 0.12 * L, 0.02, 0.02)
    )
    for x in (-0.34 * L, 0.34 * L):
        b.pair((x - 0.08, x + 0.08), (0.36 * W, 0.42 * W), (0, 0.18), Material.RUBBER)
    for y in (-0.25 * W, 0.25 * W):
        b.slab((0.44 * L, 0.5 * L), (y - 0.04, y + 0.04), (0.2, 0.75 * H), Material.METAL, tint=FIRST)
    return Model("dumpster", None, size, b.fitted(size), color)


def draw_bus_shelter(rng: np.random.Generator, size: Size) -> Model:
    """Panes on posts, a roof, a bench, an illuminated poster at one end; open along +x."""
    L, W, H = size
    back, half = -0.5 * L, 0.5 * W
    b = Sculptor()
    b.slab((back, 0.5 * L), (-half, half), (H - 0.12, H), Material.METAL)
    b.slab((back + 0.06, back + 0.08), (0.1 - half, half - 0.1), (0.2, H - 0.2), Material.WINDOW)
    b.slab((back + 0.1, 0.5 * L - 0.4), (half - 0.06, half - 0.04), (0.2, H - 0.3), Material.WINDOW)
    b.slab(
        (back + 0.1, 0.5 * L - 0.3),
        (0.02 - half, 0.2 - half),
        (0.3, H - 0.3),
        Material.PLASTIC,
        color=pick(GOODS, rng, 25),
    )
    for x in (back + 0.07, 0.5 * L - 0.35):
        for y in (0.06 - half, half - 0.06):
            b.slab((x - 0.05, x + 0.05), (y - 0.05, y + 0.05), (0, H - 0.1), Material.METAL)
    b.slab((back + 0.2, back + 0.6), (-0.3 * W, 0.35 * W), (0.42, 0.48), Material.WOOD)
    b.pair((back + 0.35, back + 0.45), (0.2 * W, 0.24 * W), (0, 0.42), Material.METAL)
    return Model("bus_shelter", None, size, b.fitted(size))


def draw_post_box(rng: np.random.Generator, size: Size) -> Model:
    """A box on a foot, or a pillar."""
    L, W, H = size
    color = ((222.0, 180.0, 36.0), (190.0, 32.0, 34.0), (36.0, 72.0, 140.0))[rng.integers(3)]
    b = Sculptor()
    if rng.random() < 0.5:
        b.slab((-0.5 * L, 0.5 * L), (-0.5 * W, 0.5 * W), (0.4 * H, 0.94 * H), Material.PAINT, tint=FIRST)
        b.slab(
            (-0.5 * L, 0.5 * L),
            (-0.5 * W, 0.5 * W),
            (0.93 * H, H),
            Material.PAINT,
            taper=(0.1 * L, 0.1 * L, 0.1 * W, 0.1 * W),
            tint=FIRST,
        )
        b.slab((-0.12 * L, 0.12 * L), (-0.12 * W, 0.12 * W), (0, 0.42 * H), Material.METAL)
        b.slab((0.47 * L, 0.505 * L), (-0.3 * W, 0.3 * W), (0.78 * H, 0.82 * H), Material.PLASTIC)
    else:
        b.cylinder((0, 0, 0.46 * H), (0.46 * L, 0.46 * W), 0.92 * H, Material.PAINT, tint=FIRST)
        b.cylinder((0, 0, 0.93 * H), (0.5 * L, 0.5 * W), 0.14 * H, Material.PAINT, taper=0.45, tint=FIRST)
        b.slab((0.4 * L, 0.47 * L), (-0.25 * W, 0.25 * W), (0.76 * H, 0.8 * H), Material.PLASTIC)
    return Model("post_box", None, size, b.fitted(size), color)


def draw_phone_box(rng: np.random.Generator, size: Size) -> Model:
    """Panes in a frame with a roof, the telephone inside."""
    L, W, H = size
    color = ((186.0, 34.0, 36.0), (196.0, 60.0, 120.0), (110.0, 114.0, 118.0))[rng.integers(3)]
    b = Sculptor()
    b.slab((-0.46 * L, 0.46 * L), (-0.46 * W, 0.46 * W), (0.2, H - 0.25), Material.WINDOW)
    b.slab(
        (-0.5 * L, 0.5 * L),
        (-0.5 * W, 0.5 * W),
        (H - 0.3, H),
        Material.PAINT,
        taper=(0.08, 0.08, 0.08, 0.08),
        tint=FIRST,
    )
    b.slab((-0.5 * L, 0.5 * L), (-0.5 * W, 0.5 * W), (0, 0.22), Material.PAINT, tint=FIRST)
    for x in (0.05 - 0.5 * L, 0.5 * L - 0.05):
        for y in (0.05 - 0.5 * W, 0.5 * W - 0.05):
            b.slab((x - 0.05, x + 0.05), (y - 0.05, y + 0.05), (0.2, H - 0.28), Material.PAINT, tint=FIRST)
    b.slab((0.06 - 0.5 * L, 0.3 - 0.5 * L), (-0.2 * W, 0.2 * W), (0.9, 1.7), Material.PLASTIC)
    return Model("phone_box", None, size, b.fitted(size), color)


def draw_planter(rng: np.random.Generator, size: Size) -> Model:
    """A trough of concrete or wood with what grows in it."""
    L, W, H = size
    box = rng.uniform(0.4, 0.55) * H
    round_one = rng.random() < 0.3
    b = Sculptor()
    material = Material.CONCRETE if rng.random() < 0.6 else Material.WOOD
    if round_one:
        b.cylinder((0, 0, 0.5 * box), (0.4 * L, 0.4 * W), box, material, taper=-0.25)
    else:
        b.slab((-0.5 * L, 0.5 * L), (-0.5 * W, 0.5 * W), (0, box), material, taper=(-0.02, -0.02, -0.02, -0.02))
    for k in range(2 if L < 0.9 else 3):
        x = rng.uniform(-0.25, 0.25) * L
        top = H if k == 0 else rng.uniform(0.75, 1.0) * H
        b.ellipsoid(
            (x, 0, 0.5 * (top + 0.8 * box)),
            (0.55 * L, 0.85 * W, top - 0.8 * box),
            Material.LEAVES,
            tint=FIRST,
            density=rng.uniform(2.5, 6),
        )
    return Model("planter", None, size, b.fitted(size), pick(LEAVES, rng))


def draw_bike_rack(rng: np.random.Generator, size: Size) -> Model:
    """Hoops of steel pipe side by side along y."""
    L, W, H = size
    b = Sculptor()
    count = max(2, min(6, round(W / 0.75)))
    for k in range(count):
        y = -0.5 * W + 0.03 + k * (W - 0.06) / (count - 1)
        b.cylinder((0.03 - 0.5 * L, y, 0.5 * H), 0.025, H, Material.METAL)
        b.cylinder((0.5 * L - 0.03, y, 0.5 * H), 0.025, H, Material.METAL)
        b.cylinder((0, y, H - 0.025), 0.025, L, Material.METAL, axis="x")
    return Model("bike_rack", None, size, b.fitted(size))


def draw_advertising_column(rng: np.random.Generator, size: Size) -> Model:
    """A round column with posters and a cap."""
    L, W, H = size
    b = Sculptor()
    b.cylinder((0, 0, 0.08 * H), (0.46 * L, 0.46 * W), 0.16 * H, Material.CONCRETE)
    b.cylinder((0, 0, 0.5 * H), (0.44 * L, 0.44 * W), 0.8 * H, Material.PLASTER)
    for low, high in ((0.2, 0.5), (0.55, 0.85)):
        b.slab(
            (0.05 * L, 0.42 * L),
            (-0.26 * W, 0.26 * W),
            (low * H, high * H),
            Material.PLASTIC,
            taper=(0, 0, 0, 0),
            color=pick(TOPS, rng, 30),
        )
    b.cylinder((0, 0, 0.92 * H), (0.5 * L, 0.5 * W), 0.06 * H, Material.METAL)
    b.cylinder((0, 0, 0.97 * H), (0.4 * L, 0.4 * W), 0.06 * H, Material.METAL, taper=0.7)
    return Model("advertising_column", None, size, b.fitted(size))


STREET_FURNITURE: tuple[Family, ...] = (
    Family("bench", None, Sizes((0.62, 1.75, 0.84), (0.05, 0.2, 0.05)), draw_bench),
    Family("bin", None, Sizes((0.55, 0.50, 1.02), (0.08, 0.07, 0.12), 0.7), draw_bin),
    Family("dumpster", None, Sizes((1.05, 1.6, 1.35), (0.15, 0.3, 0.15), 0.7), draw_dumpster),
    Family("bus_shelter", None, Sizes((1.6, 4.1, 2.5), (0.15, 0.4, 0.1)), draw_bus_shelter),
    Family("post_box", None, Sizes((0.42, 0.46, 1.35), (0.05, 0.05, 0.12), 0.6), draw_post_box),
    Family("phone_box", None, Sizes((0.92, 0.92, 2.35), (0.04, 0.04, 0.08), 0.8), draw_phone_box),
    Family("planter", None, Sizes((0.95, 0.7, 0.95), (0.25, 0.1, 0.2), 0.4), draw_planter),
    Family("bike_rack", None, Sizes((0.85, 2.6, 0.8), (0.06, 0.5, 0.05), 0.3), draw_bike_rack),
    Family("advertising_column", None, Sizes((1.3, 1.3, 2.9), (0.08, 0.08, 0.25), 0.95), draw_advertising_column),
)
