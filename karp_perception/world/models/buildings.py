"""Buildings: storeys of windows one can look into, doors, balconies, roofs. They fill the box that the place gives."""

from __future__ import annotations

import numpy as np

from karp_perception.world.geometry.materials import Material
from karp_perception.world.geometry.shape import FIRST, SECOND
from karp_perception.world.models.colors import BRICK, PLASTER, ROOF, pick
from karp_perception.world.models.family import Family, Size, Sizes
from karp_perception.world.models.model import RGB, Model
from karp_perception.world.models.sculptor import Sculptor

MAX_BAYS = 9
PANE = 0.14
"""m by which windows lie behind the facade."""


def _roof(b: Sculptor, rng: np.random.Generator, L: float, W: float, z: float, H: float, kind: str) -> None:
    """A roof from the eaves at z to H over a plan of L by W: flat, gable (its ridge along x), hip or mansard."""
    if kind == "flat":
        b.slab((-0.5 * L, 0.5 * L), (-0.5 * W, 0.5 * W), (z, H - 0.02), Material.CONCRETE)
        x = rng.uniform(-0.3, 0.2) * L
        b.slab((x, x + 0.15 * L), (-0.2 * W, 0.2 * W), (z, H), Material.METAL)
        return
    half = 0.5 * W
    if kind == "gable":
        b.slab(
            (-0.5 * L, 0.5 * L),
            (-half, half),
            (z, H - 0.25),
            Material.BRICK,
            taper=(0, 0, half - 0.1, half - 0.1),
            tint=SECOND,
        )
    elif kind == "hip":
        end = min(half, 0.4 * L)
        b.slab(
            (-0.5 * L, 0.5 * L),
            (-half, half),
            (z, H - 0.25),
            Material.BRICK,
            taper=(end, end, half - 0.1, half - 0.1),
            tint=SECOND,
        )
    else:
        low = z + 0.72 * (H - z)
        b.slab(
            (-0.5 * L, 0.5 * L), (-half, half), (z, low), Material.BRICK, taper=(0, 0, 0.12 * W, 0.12 * W), tint=SECOND
        )
        b.slab(
            (-0.5 * L, 0.5 * L),
            (-0.38 * W, 0.38 * W),
            (low, H - 0.25),
            Material.BRICK,
            taper=(0, 0, 0.3 * W, 0.3 * W),
            tint=SECOND,
        )
        for k in range(max(1, min(3, int(L / 4)))):  # dormers
            x = (-0.5 + (k + 0.5) / max(1, min(3, int(L / 4)))) * L
            b.slab((x - 0.6, x + 0.6), (0.08 - half, half - 0.08), (z + 0.1, low), Material.PLASTER, tint=FIRST)
            b.slab((x - 0.4, x + 0.4), (0.05 - half, half - 0.05), (z + 0.3, low - 0.2), Material.WINDOW)
    x = rng.uniform(-0.35, 0.35) * L
    b.slab((x - 0.35, x + 0.35), (-0.3, 0.3), (z, H), Material.BRICK)


def _storeys(
    b: Sculptor,
    rng: np.random.Generator,
    L: float,
    W: float,
    eaves: float,
    material: Material,
    shop: bool,
    balconies: bool,
    floor: float,
) -> None:
    """Bands and piers around panes with rooms behind them, over a plan of L by W up to the eaves, m."""
    half = 0.5 * W
    count = max(1, round(eaves / floor))
    tall = eaves / count
    bays = max(1, min(MAX_BAYS, round(L / rng.uniform(2.4, 3.6))))
    wide = L / bays
    paint = {"tint": FIRST}
    # Beams that pass a pane end in a room: at its back wall, or out at the other side.
    b.slab((PANE - 0.5 * L, 0.5 * L - PANE), (PANE - half, half - PANE), (0.0, eaves - 0.05), Material.WINDOW)
    room = min(3.0, 0.3 * W)
    b.slab(
        (0.3 - 0.5 * L, 0.5 * L - 0.3),
        (room - half, half - room),
        (0.0, eaves - 0.1),
        Material.PLASTER,
        color=(92, 86, 80),
    )
    door = int(rng.integers(bays))
    for k in range(count + 1):
        sill = 0.0 if k == 0 else (0.28 if shop and k == 1 else 0.12)
        low = 0.0 if k == 0 else k * tall - sill * tall
        high = eaves if k == count else k * tall + (0.12 if shop and k == 0 else 0.3) * tall
        if k == 0:  # the ground floor has a doorway, with the door set back
            left, right = -0.5 * L + (door + 0.25) * wide, -0.5 * L + (door + 0.75) * wide
            b.slab((-0.5 * L, left), (-half, half), (0, high), material, **paint)
            b.slab((right, 0.5 * L), (-half, half), (0, high), material, **paint)
            b.slab((left, right), (0.35 - half, half - 0.35), (0, 0.72 * tall), Material.WOOD)
        else:
            b.slab((-0.5 * L, 0.5 * L), (-half, half), (low, high), material, **paint)
    pier = rng.uniform(0.18, 0.3)
    for k in range(bays + 1):
        at, thick = -0.5 * L + k * wide, pier * wide if 0 < k < bays else 0.5 * wide * pier + 0.2
        b.slab((max(-0.5 * L, at - thick), min(0.5 * L, at + thick)), (-half, half), (0, eaves), material, **paint)
    if balconies:
        for k in range(1, min(count, 4)):
            x = -0.5 * L + (int(rng.integers(bays)) + 0.5) * wide
            for y in ((-half - 1.0, -half + 0.02), (half - 0.02, half + 1.0)):
                b.slab((x - 0.45 * wide, x + 0.45 * wide), y, (k * tall - 0.1, k * tall + 0.05), Material.CONCRETE)
                b.slab((x - 0.45 * wide, x + 0.45 * wide), y, (k * tall + 0.05, k * tall + 1.0), Material.MESH)
    if shop:
        x = -0.5 * L + rng.uniform(0.05, 0.4) * L
        b.slab(
            (x, x + rng.uniform(0.3, 0.5) * L),
            (-half - 0.02, half + 0.02),
            (0.88 * tall, 1.1 * tall),
            Material.SIGN if rng.random() < 0.3 else Material.PLASTIC,
            color=tuple(rng.uniform(30, 220, 3)),
        )


def _facade(rng: np.random.Generator) -> tuple[Material, RGB]:
    if rng.random() < 0.35:
        return Material.BRICK, pick(BRICK, rng)
    return (Material.PLASTER, pick(PLASTER, rng)) if rng.random() < 0.8 else (Material.CONCRETE, (158.0, 156.0, 150.0))


def draw_building(rng: np.random.Generator, size: Size) -> Model:
    """A town building along a street: shops or flats, sometimes with balconies (its facade stands 1 m behind them)."""
    L, W, H = size
    material, color = _facade(rng)
    kind = str(rng.choice(["flat", "gable", "hip", "mansard"], p=[0.4, 0.3, 0.12, 0.18])) if H > 5.5 else "flat"
    rise = {"flat": 0.45, "mansard": min(3.0, 0.3 * H)}.get(kind, min(0.35 * W, 0.32 * H))
    eaves = max(H - rise, 0.5 * H)
    balconies = bool(rng.random() < 0.3 and H > 6 and W > 7)
    b = Sculptor()
    plan = W - (2.0 if balconies else 0.0)
    _storeys(b, rng, L, plan - 0.04, eaves, material, bool(rng.random() < 0.4), balconies, rng.uniform(2.8, 3.6))
    _roof(b, rng, L, plan, eaves - 0.02, H, kind)
    return Model("building", None, size, b.fitted(size), color, pick(ROOF, rng))


def draw_house(rng: np.random.Generator, size: Size) -> Model:
    """A detached house with a pitched roof, a porch or a bay now and then."""
    L, W, H = size
    material, color = _facade(rng)
    eaves = H - min(0.42 * W, 0.45 * H)
    deep = W - 1.4 if W > 6 else W
    b = Sculptor()
    _storeys(b, rng, L, deep - 0.3, eaves, material, False, False, 2.8)
    _roof(b, rng, L, deep, eaves - 0.05, H, "gable" if rng.random() < 0.7 else "hip")
    if deep < W:  # a porch ahead and a shed behind
        x = rng.uniform(-0.3, 0.1) * L
        b.slab((x, x + 2.0), (-0.5 * W, 0.2 - 0.5 * deep), (2.2, 2.4), Material.WOOD)
        for post in (x + 0.1, x + 1.9):
            b.slab((post - 0.06, post + 0.06), (-0.5 * W, 0.12 - 0.5 * W), (0, 2.2), Material.WOOD)
        b.slab((x, x + 2.0), (-0.5 * W, 0.2 - 0.5 * deep), (0, 0.15), Material.STONE)
        b.slab((0.05 * L, 0.45 * L), (0.5 * deep - 0.2, 0.5 * W), (0, min(2.3, eaves)), Material.WOOD)
    return Model("house", None, size, b.fitted(size), color, pick(ROOF, rng))


def draw_hall(rng: np.random.Generator, size: Size) -> Model:
    """A hall of a yard or an industrial estate: sheet metal, a strip of windows, wide gates."""
    L, W, H = size
    b = Sculptor()
    b.slab((-0.5 * L, 0.5 * L), (0.12 - 0.5 * W, 0.5 * W - 0.12), (0, 0.9 * H), Material.METAL, tint=FIRST)
    b.slab(
        (-0.5 * L, 0.5 * L),
        (-0.5 * W, 0.5 * W),
        (0.88 * H, H),
        Material.METAL,
        taper=(0, 0, 0.4 * W, 0.4 * W),
        tint=SECOND,
    )
    count = max(1, min(8, round(L / 6)))
    for k in range(count + 1):
        x = min(max(-0.5 * L + k * L / count, 0.2 - 0.5 * L), 0.5 * L - 0.2)
        b.slab((x - 0.15, x + 0.15), (-0.5 * W, 0.5 * W), (0, 0.88 * H), Material.METAL, tint=SECOND)
    b.slab((-0.48 * L, 0.48 * L), (0.1 - 0.5 * W, 0.5 * W - 0.1), (0.7 * H, 0.8 * H), Material.WINDOW)
    for k in range(count):
        if rng.random() < 0.5:
            x = -0.5 * L + (k + 0.2) * L / count
            b.slab(
                (x, x + 0.6 * L / count),
                (0.09 - 0.5 * W, 0.5 * W - 0.09),
                (0, min(4.0, 0.6 * H)),
                Material.METAL,
                color=(90, 94, 100),
            )
    b.slab((-0.5 * L, 0.5 * L), (0.06 - 0.5 * W, 0.5 * W - 0.06), (0, 0.5), Material.CONCRETE)
    color = ((176.0, 180.0, 182.0), (132.0, 146.0, 158.0), (196.0, 190.0, 172.0))[rng.integers(3)]
    return Model("hall", None, size, b.fitted(size), color, (104.0, 108.0, 112.0))


BUILDINGS: tuple[Family, ...] = (
    Family("building", None, Sizes((15.0, 11.0, 11.0), (4.0, 2.0, 3.0), 0.3), draw_building),
    Family("house", None, Sizes((10.5, 9.0, 7.5), (1.8, 1.2, 1.0), 0.4), draw_house),
    Family("hall", None, Sizes((32.0, 18.0, 8.0), (8.0, 4.0, 1.5), 0.5), draw_hall),
)
