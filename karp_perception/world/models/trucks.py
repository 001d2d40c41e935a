"""Lorries: a cab on a frame and what they carry; and tractors of semi-trailers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from karp_perception.core import ObjectClass
from karp_perception.world.geometry.materials import Material
from karp_perception.world.geometry.shape import FIRST, SECOND
from karp_perception.world.models.colors import CARGO, LORRY_PAINT, pick
from karp_perception.world.models.family import Family, Size, Sizes
from karp_perception.world.models.heavy_parts import TYRE_RADIUS, cab, frame, mirrors, rear_end
from karp_perception.world.models.model import Model
from karp_perception.world.models.sculptor import Sculptor

Load = Callable[[Sculptor, np.random.Generator, tuple[float, float], float, tuple[float, float]], None]
"""Puts what a lorry carries between two x on its frame, for a width, between two z."""


def draw_truck(
    name: str, load: Load, cab_share: float, cab_length: float, rng: np.random.Generator, size: Size
) -> Model:
    """A rigid lorry in a box of a size (m): its cab is `cab_share` of its height and about `cab_length` m long."""
    L, W, H = size
    radius = min(TYRE_RADIUS, 0.165 * H)
    front_end, rear = 0.5 * L, -0.5 * L
    long = cab_length * rng.uniform(0.95, 1.1)
    bed = 2 * radius + 0.12
    back = front_end - long
    b = Sculptor()
    frame(b, (rear + 0.1, front_end - 0.4), (radius, bed - 0.04))
    cab(
        b,
        (back, front_end),
        0.96 * W,
        (0.75 * radius, cab_share * H),
        belt=rng.uniform(0.5, 0.56),
        sleeper=0.35 if long > 1.7 else 0.0,
    )
    front_axle = front_end - min(0.55 * long, 1.3)
    rear_axle = rear + max(0.24 * (L - long), radius + 0.35)
    b.axle(front_axle, 0.95 * W, radius, 0.3)
    b.axle(rear_axle, 0.97 * W, radius, 0.55, rim=0.5)
    tandem = L > 8.2
    if tandem:
        b.axle(rear_axle + 2 * radius + 0.3, 0.97 * W, radius, 0.55, rim=0.5)
    if rng.random() < 0.8:
        b.pair(
            (rear_axle + (3.2 if tandem else 1) * radius + 0.4, front_axle - radius - 0.25),
            (0.46 * W, 0.47 * W),
            (0.45, bed - 0.15),
            Material.METAL,
        )
    load(b, rng, (rear, back - 0.08), W, (bed, H))
    rear_end(b, rear, W, bed - 0.12)
    mirrors(b, front_end - 0.25, 0.96 * W, (0.55 * cab_share * H, 0.78 * cab_share * H))
    base = front_axle - rear_axle
    return Model(
        name,
        ObjectClass.TRUCK,
        size,
        b.fitted(size),
        pick(LORRY_PAINT, rng),
        pick(CARGO, rng),
        wheelbase=base,
        rear_axle=rear_axle,
    )


def _box(b: Sculptor, rng: np.random.Generator, x: tuple[float, float], width: float, z: tuple[float, float]) -> None:
    half = 0.5 * width
    material = Material.TARPAULIN if rng.random() < 0.3 else Material.PAINT
    b.slab((x[0] + 0.03, x[1]), (-half, half), z, material, tint=SECOND)
    b.slab((x[0], x[0] + 0.05), (0.06 - half, -0.02), (z[0] + 0.05, z[1] - 0.1), Material.METAL)
    b.slab((x[0], x[0] + 0.05), (0.02, half - 0.06), (z[0] + 0.05, z[1] - 0.1), Material.METAL)
    if rng.random() < 0.5:  # a stripe or a name along the sides
        b.slab(
            (x[0] + 0.5, x[1] - 0.4),
            (-half - 0.004, half + 0.004),
            (z[0] + 0.5, z[0] + 1.0),
            Material.PAINT,
            tint=FIRST,
        )


def _flatbed(
    b: Sculptor, rng: np.random.Generator, x: tuple[float, float], width: float, z: tuple[float, float]
) -> None:
    half, floor = 0.5 * width, z[0] + 0.12
    board = floor + rng.uniform(0.3, 0.5)
    b.slab(x, (-half, half), (z[0], floor), Material.WOOD)
    b.pair(x, (half - 0.04, half), (floor, board), Material.METAL)
    b.slab((x[0], x[0] + 0.04), (-half, half), (floor, board), Material.METAL)
    b.slab((x[1] - 0.06, x[1]), (-half, half), (floor, max(z[1] - 0.1, board + 0.2)), Material.MESH)
    kind = rng.integers(4)
    middle, long = 0.5 * (x[0] + x[1]), x[1] - x[0]
    if kind == 0:
        for k in range(3):
            b.cylinder((middle, (k - 1) * 0.3 * width, floor + 0.2), 0.2, 0.9 * long, Material.METAL, axis="x")
    elif kind == 1:
        for at in (0.25, 0.65):
            b.slab(
                (x[0] + (at - 0.16) * long, x[0] + (at + 0.16) * long),
                (0.25 - half, half - 0.25),
                (floor, floor + rng.uniform(0.5, 1.1)),
                Material.WOOD,
            )
    elif kind == 2:
        b.ellipsoid((middle, 0, floor + 0.15), (0.8 * long, 0.85 * width, 0.9), Material.STONE, color=(150, 130, 100))


def _tipper(
    b: Sculptor, rng: np.random.Generator, x: tuple[float, float], width: float, z: tuple[float, float]
) -> None:
    half, top = 0.5 * width, z[1] - 0.12
    b.slab(
        (x[0] + 0.1, x[1]),
        (0.15 - half, half - 0.15),
        (z[0], z[0] + 0.35),
        Material.PAINT,
        taper=(-0.05, -0.05, -0.1, -0.1),
        tint=SECOND,
    )
    b.pair((x[0] + 0.05, x[1]), (half - 0.12, half), (z[0] + 0.3, top), Material.PAINT, tint=SECOND)
    b.slab((x[0], x[0] + 0.1), (-half, half), (z[0] + 0.1, top), Material.PAINT, tint=SECOND)
    b.slab((x[1] - 0.1, x[1]), (-half, half), (z[0] + 0.1, z[1]), Material.PAINT, tint=SECOND)
    for at in (0.25, 0.5, 0.75):
        at_x = x[0] + at * (x[1] - x[0])
        b.slab(
            (at_x - 0.05, at_x + 0.05),
            (-half - 0.01, half + 0.01),
            (z[0] + 0.3, z[0] + 0.36),
            Material.PAINT,
            tint=SECOND,
        )
    if rng.random() < 0.6:
        b.ellipsoid(
            (0.5 * (x[0] + x[1]), 0, top - 0.45),
            (0.95 * (x[1] - x[0]), 0.95 * width, rng.uniform(0.5, 1.1)),
            Material.STONE,
            color=(146, 122, 92),
        )


def _tank(b: Sculptor, rng: np.random.Generator, x: tuple[float, float], width: float, z: tuple[float, float]) -> None:
    radius = min(0.5 * width, 0.5 * (z[1] - z[0]) - 0.05)
    middle, long = 0.5 * (x[0] + x[1]), x[1] - x[0]
    material, tint = (Material.METAL, 0) if rng.random() < 0.5 else (Material.PAINT, SECOND)
    b.cylinder((middle, 0, z[0] + radius + 0.02), (radius, 0.5 * width), long - 0.36, material, axis="x", tint=tint)
    for end in (x[0] + 0.2, x[1] - 0.2):
        b.ellipsoid((end, 0, z[0] + radius + 0.02), (0.4, width, 2 * radius), material, tint=tint)
    b.slab((middle - 0.3 * long, middle + 0.3 * long), (-0.25, 0.25), (z[1] - 0.16, z[1]), Material.METAL)
    b.slab((x[0] + 0.3, x[1] - 0.3), (0.05 - 0.5 * width, 0.5 * width - 0.05), (z[0], z[0] + 0.2), Material.PLASTIC)


def _garbage(
    b: Sculptor, rng: np.random.Generator, x: tuple[float, float], width: float, z: tuple[float, float]
) -> None:
    half, hopper = 0.5 * width, x[0] + 1.5
    b.slab((hopper, x[1]), (-half, half), (z[0], z[1]), Material.PAINT, taper=(0, 0.1, 0.12, 0.12), tint=SECOND)
    b.prow(
        (hopper + 0.02, x[0]),
        (0.04 - half, half - 0.04),
        (z[0] - 0.25, z[1] - 0.05),
        Material.PAINT,
        top=0.75,
        bottom=0.2,
        tint=SECOND,
    )
    b.slab((x[0] + 0.0, x[0] + 0.3), (0.25 - half, half - 0.25), (z[0] + 0.1, z[0] + 0.75), Material.PLASTIC)
    b.pair((x[0], x[0] + 0.1), (half - 0.2, half - 0.08), (z[0] + 0.9, z[0] + 1.2), Material.REFLECTIVE)


def draw_tractor(rng: np.random.Generator, size: Size) -> Model:
    """A tractor of semi-trailers, with its coupling above the rear axle."""
    L, W, H = size
    radius, long = TYRE_RADIUS, rng.uniform(2.1, 2.4)
    front, rear = 0.5 * L, -0.5 * L
    b = Sculptor()
    frame(b, (rear + 0.05, front - 0.5), (0.55, 0.98))
    cab(b, (front - long, front), W, (0.38, 0.86 * H), belt=rng.uniform(0.5, 0.56), sleeper=0.75)
    b.prow(
        (front - 0.75, front - long + 0.1), (0.15 - 0.5 * W, 0.5 * W - 0.15), (0.84 * H, H), Material.PAINT, tint=FIRST
    )
    front_axle, rear_axle = front - 1.4, rear + radius + 0.55
    b.axle(front_axle, 0.97 * W, radius, 0.32)
    b.axle(rear_axle, 0.98 * W, radius, 0.58, rim=0.5)
    if L > 6.6:
        b.axle(rear_axle + 2 * radius + 0.25, 0.98 * W, radius, 0.58, rim=0.5)
    b.cylinder((rear_axle + 0.35, 0, 1.06), 0.45, 0.14, Material.METAL)
    b.pair(
        (rear_axle + radius + (1.6 if L > 6.6 else 0.35), front_axle - radius - 0.15),
        (0.3 * W, 0.48 * W),
        (0.45, 0.95),
        Material.METAL,
    )
    rear_end(b, rear, 0.9 * W, 0.75)
    mirrors(b, front - 0.3, W, (0.5 * H, 0.72 * H))
    return Model(
        "semi_tractor",
        ObjectClass.TRUCK,
        size,
        b.fitted(size),
        pick(LORRY_PAINT, rng),
        pick(CARGO, rng),
        wheelbase=front_axle - rear_axle,
        rear_axle=rear_axle,
        hitch=rear_axle + 0.35,
    )


def _rigid(name: str, load: Load, cab_share: float, cab_length: float, sizes: Sizes) -> Family:
    return Family(name, ObjectClass.TRUCK, sizes, partial(draw_truck, name, load, cab_share, cab_length))


TRUCKS: tuple[Family, ...] = (
    _rigid("box_truck", _box, 0.80, 1.75, Sizes((7.6, 2.48, 3.35), (0.9, 0.08, 0.25))),
    _rigid("rigid_truck", _box, 0.86, 1.6, Sizes((5.9, 2.15, 2.75), (0.5, 0.1, 0.2))),
    _rigid("flatbed", _flatbed, 1.0, 1.6, Sizes((6.2, 2.25, 2.5), (0.7, 0.12, 0.2))),
    _rigid("tipper", _tipper, 0.95, 1.75, Sizes((6.9, 2.45, 3.0), (0.7, 0.08, 0.2))),
    _rigid("tanker_truck", _tank, 0.93, 1.75, Sizes((7.8, 2.48, 3.1), (0.7, 0.06, 0.2))),
    _rigid("garbage_truck", _garbage, 0.84, 1.8, Sizes((8.0, 2.5, 3.35), (0.7, 0.06, 0.2))),
    _rigid("light_truck", _box, 0.88, 1.35, Sizes((5.0, 1.75, 2.25), (0.4, 0.1, 0.2))),
    _rigid("light_flatbed", _flatbed, 1.0, 1.35, Sizes((4.9, 1.75, 2.05), (0.4, 0.1, 0.12))),
    Family("semi_tractor", ObjectClass.TRUCK, Sizes((6.1, 2.5, 3.65), (0.35, 0.05, 0.2)), draw_tractor),
)
