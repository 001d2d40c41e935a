"""Trailers: behind tractors, and behind cars. Each says where its coupling is."""

from __future__ import annotations

from functools import partial

import numpy as np

from karp_perception.core import ObjectClass
from karp_perception.world.geometry.materials import Material
from karp_perception.world.geometry.shape import FIRST, SECOND
from karp_perception.world.models.colors import CAR_PAINT, CARGO, pick
from karp_perception.world.models.family import Family, Size, Sizes
from karp_perception.world.models.heavy_parts import TYRE_RADIUS, frame, rear_end
from karp_perception.world.models.model import Model
from karp_perception.world.models.sculptor import Sculptor

KING_PIN = 1.0
"""m from the front of a semi-trailer to its king pin (ISO 1726 asks for at most 2.04 m to the corners)."""


def draw_semi_trailer(kind: str, rng: np.random.Generator, size: Size) -> Model:
    """A semi-trailer: a box of steel or tarpaulin, a container, a tank, or a low deck with a load."""
    L, W, H = size
    front, rear, half, radius = 0.5 * L, -0.5 * L, 0.5 * W, TYRE_RADIUS
    floor = 1.2
    b = Sculptor()
    axles = [rear + 1.6 + k * 1.31 for k in range(3 if L > 10 else 2)]
    if kind == "low_loader":
        _low_deck(b, rng, size)
        radius = 0.4
    else:
        frame(b, (rear + 0.1, front - 0.3), (floor - 0.3, floor), 1.0)
        if kind == "tank_trailer":
            r = 0.5 * (H - floor) - 0.04
            metal = rng.random() < 0.6
            how = {"tint": 0 if metal else FIRST}
            material = Material.METAL if metal else Material.PAINT
            b.cylinder((0, 0, floor + r), (r, half), L - 0.5, material, axis="x", **how)
            for x in (rear + 0.3, front - 0.3):
                b.ellipsoid((x, 0, floor + r), (0.6, W, 2 * r), material, **how)
            b.slab((rear + 1.5, front - 1.5), (-0.3, 0.3), (H - 0.15, H), Material.METAL)
        else:
            material = Material.TARPAULIN if kind == "curtain_trailer" else Material.PAINT
            b.slab((rear + 0.04, front), (-half, half), (floor, H), material, tint=FIRST)
            b.pair((rear, rear + 0.06), (0.03, half - 0.06), (floor + 0.05, H - 0.08), Material.METAL)
            if kind == "curtain_trailer":
                b.slab((rear, front), (-half - 0.006, half + 0.006), (floor, floor + 0.12), Material.METAL)
                b.slab((rear, front), (-half - 0.006, half + 0.006), (H - 0.1, H), Material.METAL)
            elif kind == "container_trailer":
                for k in range(6):  # the ribs of its corrugated steel
                    x = rear + 0.4 + k * (L - 0.8) / 5
                    b.slab(
                        (x - 0.12, x + 0.12),
                        (-half - 0.02, half + 0.02),
                        (floor + 0.1, H - 0.1),
                        Material.PAINT,
                        tint=FIRST,
                    )
            elif rng.random() < 0.6:
                b.slab(
                    (rear + 1, front - 1),
                    (-half - 0.004, half + 0.004),
                    (floor + 0.6, floor + 1.5),
                    Material.PAINT,
                    tint=SECOND,
                )
        b.pair((front - 3.0, front - 2.85), (0.3 * W, 0.36 * W), (0.25, floor - 0.2), Material.METAL)  # landing legs
        if rng.random() < 0.8:
            b.pair((axles[-1] + 0.7, front - 3.2), (half - 0.06, half - 0.02), (0.5, 0.95), Material.METAL)
    for x in axles:
        b.axle(x, 0.98 * W, radius, 0.4, rim=0.5)
    rear_end(b, rear, W, 0.95 if kind != "low_loader" else 0.7)
    paint = pick(CARGO, rng)
    middle = float(np.mean(axles))
    return Model(
        kind,
        ObjectClass.TRAILER,
        size,
        b.fitted(size),
        paint,
        pick(CARGO, rng),
        wheelbase=front - KING_PIN - middle,
        rear_axle=middle,
        king_pin=front - KING_PIN,
    )


def _low_deck(b: Sculptor, rng: np.random.Generator, size: Size) -> None:
    L, W, H = size
    front, rear, half = 0.5 * L, -0.5 * L, 0.5 * W
    b.slab((rear, front - 3.0), (-half, half), (0.75, 0.92), Material.PAINT, tint=FIRST)
    b.prow((front - 3.4, front - 2.6), (-half, half), (0.75, 1.4), Material.PAINT, bottom=0.3, tint=FIRST)
    b.slab((front - 2.8, front), (-half, half), (1.12, 1.4), Material.PAINT, tint=FIRST)
    if rng.random() < 0.5:  # a digger folded up on it
        b.pair((rear + 1.5, rear + 4.5), (half - 0.6, half - 0.05), (0.92, 1.6), Material.RUBBER)
        b.slab(
            (rear + 1.3, rear + 4.2), (0.1 - half, half - 0.1), (1.6, 0.72 * H), Material.PAINT, color=(218, 162, 30)
        )
        b.slab((rear + 3.0, rear + 4.2), (0.1, half - 0.1), (0.72 * H, H), Material.GLASS)
        b.beam(
            (rear + 4.0, -0.2, 0.6 * H), (rear + 6.6, -0.2, 0.85 * H), (0.4, 0.35), Material.PAINT, color=(218, 162, 30)
        )
        b.beam((rear + 6.5, -0.2, 0.85 * H), (rear + 7.4, -0.2, 1.1), (0.35, 0.3), Material.PAINT, color=(218, 162, 30))
    else:
        b.slab(
            (rear + 1.0, front - 4.0), (0.3 - half, half - 0.3), (0.92, rng.uniform(0.6, 0.8) * H), Material.CONCRETE
        )
        b.slab((rear + 2.0, front - 5.5), (0.5 - half, half - 0.5), (0.5 * H, H), Material.CONCRETE)


def draw_light_trailer(kind: str, rng: np.random.Generator, size: Size) -> Model:
    """A small trailer or a caravan with its drawbar."""
    L, W, H = size
    rear, half = -0.5 * L, 0.5 * W
    bar = min(1.2, 0.3 * L)
    front = 0.5 * L - bar
    radius = 0.32 if kind == "caravan" else 0.29
    b = Sculptor()
    axle = 0.5 * (rear + front) - 0.1
    b.slab((front - 0.3, 0.5 * L), (-0.06, 0.06), (0.38, 0.46), Material.METAL)
    b.axle(axle, (0.96 if kind == "caravan" else 1.0) * W, radius, 0.19)
    b.cylinder((0.5 * L - 0.25, 0, 0.2), 0.1, 0.08, Material.RUBBER, axis="y")
    if kind == "caravan":
        low = 0.36
        b.slab((rear, front), (-half, half), (low + 0.35, H), Material.PAINT, taper=(0.18, 0.3, 0.05, 0.05), tint=FIRST)
        b.slab((rear + 0.1, axle - radius - 0.05), (-half, half), (low, low + 0.36), Material.PAINT, tint=FIRST)
        b.slab((axle + radius + 0.05, front - 0.1), (-half, half), (low, low + 0.36), Material.PAINT, tint=FIRST)
        b.slab((rear + 0.5, rear + 1.4), (-half - 0.001, half + 0.001), (1.4, 2.0), Material.GLASS, color=(34, 42, 48))
        b.slab((front - 1.5, front - 0.6), (-half - 0.001, half + 0.001), (1.4, 2.0), Material.GLASS)
        b.slab((front - 0.25, front - 0.1), (0.3 - half, half - 0.3), (1.3, 1.9), Material.PLASTIC)
        b.slab((rear + 0.4, front - 0.4), (-half - 0.002, half + 0.002), (1.05, 1.15), Material.PAINT, tint=SECOND)
    else:
        inner, floor = half - 0.24, 0.5
        rim = min(H, floor + 0.42)
        b.slab((rear, front), (-inner, inner), (floor - 0.08, floor), Material.WOOD)
        b.pair((rear, front), (inner - 0.03, inner), (floor, rim), Material.METAL)
        b.slab((rear, rear + 0.03), (-inner, inner), (floor, rim), Material.METAL)
        b.slab((front - 0.03, front), (-inner, inner), (floor, rim), Material.METAL)
        b.pair((axle - 0.35, axle + 0.35), (inner, half), (2 * radius + 0.02, 2 * radius + 0.06), Material.PLASTIC)
        if rim + 0.15 < H:
            b.slab(
                (rear + 0.01, front - 0.01),
                (0.02 - inner, inner - 0.02),
                (rim, H),
                Material.TARPAULIN,
                taper=(0.15, 0.15, 0.2, 0.2),
                tint=SECOND,
            )
    wide = W - 0.5 if kind == "car_trailer" else W - 0.1
    b.pair((rear - 0.02, rear + 0.04), (0.5 * wide - 0.3, 0.5 * wide - 0.1), (0.42, 0.54), Material.TAIL_LAMP)
    b.pair((rear - 0.02, rear + 0.04), (0.5 * wide - 0.1, 0.5 * wide), (0.42, 0.54), Material.INDICATOR)
    b.slab((rear - 0.02, rear + 0.02), (-0.26, 0.26), (0.43, 0.54), Material.PLATE)
    paint = (226.0, 226.0, 222.0) if kind == "caravan" else pick(CAR_PAINT, rng)
    return Model(
        kind,
        ObjectClass.TRAILER,
        size,
        b.fitted(size),
        paint,
        pick(CARGO, rng),
        wheelbase=0.5 * L - 0.05 - axle,
        rear_axle=axle,
        king_pin=0.5 * L - 0.05,
    )


def _semi(name: str, sizes: Sizes) -> Family:
    return Family(name, ObjectClass.TRAILER, sizes, partial(draw_semi_trailer, name))


TRAILERS: tuple[Family, ...] = (
    _semi("box_trailer", Sizes((13.4, 2.53, 3.95), (0.7, 0.04, 0.1))),
    _semi("curtain_trailer", Sizes((13.6, 2.53, 3.95), (0.4, 0.03, 0.08))),
    _semi("container_trailer", Sizes((12.6, 2.46, 3.9), (0.5, 0.03, 0.15))),
    _semi("tank_trailer", Sizes((11.8, 2.5, 3.6), (0.8, 0.04, 0.15))),
    _semi("low_loader", Sizes((12.8, 2.6, 3.6), (0.8, 0.08, 0.3))),
    Family(
        "car_trailer",
        ObjectClass.TRAILER,
        Sizes((3.3, 1.75, 1.2), (0.4, 0.12, 0.35)),
        partial(draw_light_trailer, "car_trailer"),
    ),
    Family(
        "caravan",
        ObjectClass.TRAILER,
        Sizes((6.8, 2.3, 2.6), (0.7, 0.08, 0.06)),
        partial(draw_light_trailer, "caravan"),
    ),
)
