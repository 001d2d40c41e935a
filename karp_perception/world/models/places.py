"""What stands about where people trade, load and build: stalls, stacks, containers, scaffolds; and steam."""

from __future__ import annotations

import math

import numpy as np

from karp_perception.world.geometry.materials import Material
from karp_perception.world.geometry.shape import FIRST, SECOND
from karp_perception.world.models.colors import CARGO, GOODS, PLASTER, pick
from karp_perception.world.models.family import Family, Size, Sizes
from karp_perception.world.models.model import Model
from karp_perception.world.models.sculptor import Sculptor


def draw_kiosk(rng: np.random.Generator, size: Size) -> Model:
    """A booth with its counter and shutter along +x, goods inside."""
    L, W, H = size
    half_x, half_y = 0.42 * L, 0.5 * W
    b = Sculptor()
    b.slab((-half_x, half_x), (0.06 - half_y, half_y - 0.06), (0, 1.0), Material.PLASTER, tint=FIRST)
    b.slab((-half_x, 0.1), (0.06 - half_y, half_y - 0.06), (1.0, H - 0.3), Material.PLASTER, tint=FIRST)
    b.slab((0.1, half_x), (0.06 - half_y, half_y - 0.06), (1.0, H - 0.3), Material.WINDOW)
    for y in (0.12 - half_y, half_y - 0.12):
        b.slab((half_x - 0.1, half_x), (y - 0.06, y + 0.06), (1.0, H - 0.3), Material.METAL)
    b.slab((-0.5 * L, half_x), (-half_y, half_y), (H - 0.32, H), Material.METAL, tint=SECOND)
    b.slab((half_x - 0.05, 0.5 * L), (-0.4 * W, 0.4 * W), (H - 0.42, H - 0.32), Material.CLOTH, tint=SECOND)
    b.slab((half_x - 0.02, half_x + 0.1 * L), (-0.4 * W, 0.4 * W), (0.95, 1.02), Material.WOOD)
    return Model("kiosk", None, size, b.fitted(size), pick(PLASTER, rng), pick(GOODS, rng))


def draw_market_stall(rng: np.random.Generator, size: Size) -> Model:
    """A canopy on four posts, a table, goods in crates."""
    L, W, H = size
    b = Sculptor()
    eaves = H - rng.uniform(0.3, 0.6)
    ridge = min(0.45 * L, 0.6)
    b.slab(
        (-0.5 * L, 0.5 * L),
        (-0.5 * W, 0.5 * W),
        (eaves, H),
        Material.TARPAULIN,
        taper=(ridge, ridge, 0.1, 0.1),
        tint=FIRST,
    )
    b.slab((-0.5 * L, 0.5 * L), (-0.5 * W, 0.5 * W), (eaves - 0.15, eaves), Material.TARPAULIN, tint=SECOND)
    for x in (0.06 - 0.46 * L, 0.46 * L - 0.06):
        for y in (0.06 - 0.46 * W, 0.46 * W - 0.06):
            b.slab((x - 0.025, x + 0.025), (y - 0.025, y + 0.025), (0, eaves), Material.METAL)
    b.slab((-0.1 * L, 0.4 * L), (-0.44 * W, 0.44 * W), (0.72, 0.78), Material.WOOD)
    if rng.random() < 0.5:
        b.slab((0.38 * L, 0.4 * L), (-0.44 * W, 0.44 * W), (0.05, 0.75), Material.CLOTH, tint=SECOND)
    count = int(rng.integers(4, 7))
    for k in range(count):
        y = (-0.42 + 0.84 * k / count) * W
        b.slab(
            (-0.05 * L, rng.uniform(0.2, 0.38) * L),
            (y, y + 0.7 * 0.84 * W / count),
            (0.78, 0.78 + rng.uniform(0.1, 0.35)),
            Material.WOOD,
            color=pick(GOODS, rng),
        )
    b.slab((-0.44 * L, -0.3 * L), (-0.3 * W, rng.uniform(-0.1, 0.3) * W), (0, rng.uniform(0.3, 0.9)), Material.WOOD)
    return Model("market_stall", None, size, b.fitted(size), pick(GOODS, rng), pick(GOODS, rng))


def draw_cafe_table(rng: np.random.Generator, size: Size) -> Model:
    """A table with chairs, under a parasol most of the time."""
    L, W, H = size
    b = Sculptor()
    b.cylinder((0, 0, 0.73), 0.38, 0.03, Material.WOOD)
    if H > 1.6:
        b.cylinder((0, 0, 0.5 * H), 0.025, H - 0.05, Material.METAL)
        b.cylinder((0, 0, H - 0.25), (0.5 * L, 0.5 * W), 0.5, Material.CLOTH, taper=0.9, tint=FIRST)
        b.cylinder((0, 0, 0.05), 0.3, 0.1, Material.CONCRETE)
    else:
        b.cylinder((0, 0, 0.37), 0.03, 0.7, Material.METAL)
    turn, chairs = rng.uniform(0, 6.28), int(rng.integers(2, 5))
    for k in range(chairs):
        a = turn + 2 * math.pi * k / chairs
        x, y = 0.3 * L * math.cos(a), 0.3 * W * math.sin(a)
        b.block((x, y, 0.44), (0.4, 0.4, 0.05), Material.WOOD, rotation=(0, 0, a))
        b.block(
            (x + 0.19 * math.cos(a), y + 0.19 * math.sin(a), 0.66), (0.04, 0.4, 0.42), Material.WOOD, rotation=(0, 0, a)
        )
        b.block((x, y, 0.21), (0.32, 0.32, 0.42), Material.MESH, rotation=(0, 0, a))
    return Model("cafe_table", None, size, b.fitted(size), pick(GOODS, rng))


def draw_shopping_cart(rng: np.random.Generator, size: Size) -> Model:
    """One or a row of them: baskets of wire, handles, wheels."""
    L, W, H = size
    b = Sculptor()
    b.prow(
        (-0.3 * L, 0.5 * L), (-0.45 * W, 0.45 * W), (0.45 * H, 0.95 * H), Material.MESH, bottom=0.08, top=0.1, side=0.06
    )
    b.slab((-0.35 * L, 0.45 * L), (-0.4 * W, 0.4 * W), (0.2 * H, 0.26 * H), Material.MESH)
    b.cylinder((-0.47 * L, 0, 0.97 * H), 0.02, W, Material.PLASTIC, axis="y", color=pick(GOODS, rng))
    for y in (-0.4 * W, 0.4 * W):
        b.strut((-0.3 * L, y, 0.2 * H), (-0.47 * L, y, 0.97 * H), 0.012, Material.METAL)
        for x in (-0.3 * L, 0.42 * L):
            b.cylinder((x, y, 0.06), 0.06, 0.03, Material.RUBBER, axis="y")
    return Model("shopping_cart", None, size, b.fitted(size))


def draw_pallet_pile(rng: np.random.Generator, size: Size) -> Model:
    """Pallets in stacks, crates and bales on them, some under a tarpaulin."""
    L, W, H = size
    b = Sculptor()
    layers = max(2, min(7, round(rng.uniform(0.3, 1.0) * H / 0.15)))
    top = 0.0
    for k in range(layers):
        dx, dy = rng.uniform(-0.03, 0.03) * L, rng.uniform(-0.03, 0.03) * W
        b.slab((dx - 0.46 * L, dx + 0.46 * L), (dy - 0.46 * W, dy + 0.46 * W), (top + 0.09, top + 0.14), Material.WOOD)
        for y in (-0.38 * W, 0.0, 0.38 * W):
            if k < 3:
                b.slab((dx - 0.46 * L, dx + 0.46 * L), (dy + y - 0.05, dy + y + 0.05), (top, top + 0.09), Material.WOOD)
        top += 0.14
    if top < H - 0.2:
        material = Material.TARPAULIN if rng.random() < 0.4 else Material.WOOD
        b.slab(
            (-0.5 * L, 0.4 * L),
            (-0.5 * W, 0.5 * W),
            (top, H),
            material,
            taper=(0.03, 0.05, 0.04, 0.04),
            color=pick(CARGO, rng),
        )
    return Model("pallet_pile", None, size, b.fitted(size))


def draw_pile(rng: np.random.Generator, size: Size) -> Model:
    """A heap of sand, gravel or rubble, some of it under a sheet."""
    L, W, H = size
    color = ((172.0, 150.0, 112.0), (128.0, 124.0, 118.0), (112.0, 88.0, 66.0))[rng.integers(3)]
    b = Sculptor()
    foot = rng.uniform(0.6, 0.75)
    b.cylinder(
        (0, 0, 0.5 * foot * H), (0.42 * L, 0.5 * W), foot * H, Material.STONE, taper=rng.uniform(0.5, 0.6), color=color
    )
    b.ellipsoid((0, 0, 0.6 * H), (0.55 * L, 0.65 * W, 0.8 * H), Material.STONE, color=color)
    for _ in range(int(rng.integers(1, 4))):
        x, y, share = rng.uniform(-0.25, 0.25) * L, rng.uniform(-0.15, 0.15) * W, rng.uniform(0.4, 0.75)
        b.cylinder(
            (x, y, 0.5 * share * H),
            (0.36 * L * share + 0.1 * L, 0.4 * W * share + 0.08 * W),
            share * H,
            Material.STONE,
            taper=0.8,
            color=color,
        )
    if rng.random() < 0.4:
        b.block((0.2 * L, 0.1 * W, 0.25 * H), (0.3 * L, 0.25 * W, 0.3 * H), Material.CONCRETE, rotation=(0.3, 0.2, 0.6))
    return Model("pile", None, size, b.fitted(size))


def draw_container(rng: np.random.Generator, size: Size) -> Model:
    """A freight container with ribs and door bars, or an open skip."""
    L, W, H = size
    b = Sculptor()
    if H < 2.0:
        b.slab((-0.42 * L, 0.42 * L), (0.06 - 0.5 * W, 0.5 * W - 0.06), (0, 0.1), Material.METAL, tint=FIRST)
        for y in (-0.47 * W, 0.47 * W):
            b.slab(
                (-0.42 * L, 0.42 * L),
                (y - 0.03 * W, y + 0.03 * W),
                (0, H),
                Material.METAL,
                taper=(-0.08 * L, -0.08 * L, 0, 0),
                tint=FIRST,
            )
        for x, lean in ((-0.42 * L, -0.07 * L), (0.42 * L, 0.07 * L)):
            b.post((x, 0, 0), (x + lean, 0, H - 0.05), (0.06, 0.95 * W), Material.METAL, tint=FIRST)
        b.ellipsoid((0, 0, 0.55 * H), (0.75 * L, 0.85 * W, 0.5 * H), Material.STONE)
    else:
        b.slab(
            (0.05 - 0.5 * L, 0.5 * L - 0.03),
            (0.04 - 0.5 * W, 0.5 * W - 0.04),
            (0.05, H - 0.03),
            Material.METAL,
            tint=FIRST,
        )
        for z in (0.08, H - 0.08):
            b.slab((-0.5 * L, 0.5 * L), (-0.5 * W, 0.5 * W), (z - 0.08, z + 0.08), Material.METAL, tint=FIRST)
        count = max(3, round(L / 0.8))
        for k in range(count + 1):
            x = -0.5 * L + 0.08 + k * (L - 0.16) / count
            b.slab((x - 0.08, x + 0.08), (-0.5 * W, 0.5 * W), (0.05, H - 0.05), Material.METAL, tint=FIRST)
        for y in (-0.3 * W, -0.1 * W, 0.1 * W, 0.3 * W):
            b.cylinder((0.015 - 0.5 * L, y, 0.5 * H), 0.015, 0.9 * H, Material.METAL)
    return Model("container", None, size, b.fitted(size), pick(CARGO[1:], rng))


def draw_scaffolding(rng: np.random.Generator, size: Size) -> Model:
    """Standards, ledgers and decks along x, with a net over part of it."""
    L, W, H = size
    b = Sculptor()
    bays, lifts = max(1, min(5, round(L / 2.5))), max(1, min(5, round(H / 2.0)))
    for k in range(bays + 1):
        x = 0.03 - 0.5 * L + k * (L - 0.06) / bays
        for y in (0.03 - 0.5 * W, 0.5 * W - 0.03):
            b.cylinder((x, y, 0.5 * H), 0.025, H, Material.METAL)
    for k in range(1, lifts + 1):
        z = k * (H - 1.0) / lifts
        b.slab((-0.5 * L, 0.5 * L), (0.05 - 0.5 * W, 0.5 * W - 0.05), (z - 0.05, z), Material.WOOD)
        b.slab((-0.5 * L, 0.5 * L), (-0.5 * W, 0.04 - 0.5 * W), (z + 0.95, min(H, z + 1.0)), Material.METAL)
    b.strut(
        (-0.48 * L, 0.02 - 0.5 * W, 0.1), (-0.5 * L + L / bays, 0.02 - 0.5 * W, (H - 1) / lifts), 0.025, Material.METAL
    )
    if rng.random() < 0.5:
        b.slab(
            (-0.5 * L, rng.uniform(-0.2, 0.5) * L),
            (-0.5 * W, 0.01 - 0.5 * W),
            (0.3 * H, H),
            Material.MESH,
            color=(70, 120, 90),
        )
    return Model("scaffolding", None, size, b.fitted(size))


def draw_steam(rng: np.random.Generator, size: Size) -> Model:
    """A cloud over a manhole or behind an exhaust: thin, and nothing to brake for."""
    L, W, H = size
    b = Sculptor()
    count = int(rng.integers(3, 6))
    for k in range(count):
        share = 0.5 + 0.5 * k / (count - 1)
        z = (0.18 + 0.62 * k / (count - 1)) * H
        x, y = rng.uniform(-0.15, 0.15) * L, rng.uniform(-0.15, 0.15) * W
        b.ellipsoid(
            (x, y, z), (0.7 * share * L, 0.7 * share * W, 0.36 * H), Material.STEAM, density=rng.uniform(0.15, 0.7)
        )
    return Model("steam", None, size, b.fitted(size))


PLACES: tuple[Family, ...] = (
    Family("kiosk", None, Sizes((2.6, 2.9, 2.8), (0.3, 0.4, 0.15)), draw_kiosk),
    Family("market_stall", None, Sizes((2.3, 3.1, 2.6), (0.3, 0.4, 0.15)), draw_market_stall),
    Family("cafe_table", None, Sizes((2.3, 2.3, 2.35), (0.2, 0.2, 0.2), 0.8), draw_cafe_table),
    Family("shopping_cart", None, Sizes((1.0, 0.58, 1.02), (0.12, 0.03, 0.03)), draw_shopping_cart),
    Family("pallet_pile", None, Sizes((1.25, 1.0, 1.25), (0.15, 0.12, 0.4)), draw_pallet_pile),
    Family("pile", None, Sizes((3.0, 2.5, 1.2), (0.9, 0.7, 0.35), 0.8), draw_pile),
    Family("container", None, Sizes((5.6, 2.4, 2.35), (0.8, 0.06, 0.35), 0.3), draw_container),
    Family("scaffolding", None, Sizes((7.5, 1.1, 6.0), (1.5, 0.1, 1.4), 0.4), draw_scaffolding),
    Family("steam", None, Sizes((1.6, 1.5, 1.9), (0.4, 0.4, 0.5), 0.7), draw_steam),
)
