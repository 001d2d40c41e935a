"""Machines of building sites and yards."""

from __future__ import annotations

from functools import partial

import numpy as np

from karp_perception.core import ObjectClass
from karp_perception.world.geometry.materials import Material
from karp_perception.world.geometry.shape import FIRST
from karp_perception.world.models.colors import MACHINE_PAINT, pick
from karp_perception.world.models.family import Family, Size, Sizes
from karp_perception.world.models.heavy_parts import cab, frame, rear_end
from karp_perception.world.models.model import Model
from karp_perception.world.models.sculptor import Sculptor, Span

PAINT = {"tint": FIRST}


def _cage(b: Sculptor, x: Span, y: Span, z: Span, rake: float = 0.1) -> None:
    """An operator's cabin: glass above a painted part, a roof, four posts, a seat."""
    sill = z[0] + 0.35 * (z[1] - z[0])
    b.slab(x, y, (z[0], sill), Material.PAINT, **PAINT)
    b.slab(x, y, (sill, z[1] - 0.08), Material.GLASS, taper=(0, rake, 0.02, 0.02))
    b.slab((x[0], x[1] - rake + 0.04), y, (z[1] - 0.08, z[1]), Material.PLASTIC)
    for side in y:
        b.post((x[0] + 0.03, side, sill), (x[0] + 0.03, side, z[1] - 0.08), (0.08, 0.08), Material.PLASTIC)
        b.post((x[1] - 0.03, side, sill), (x[1] - 0.03 - rake, side, z[1] - 0.08), (0.08, 0.08), Material.PLASTIC)
    middle, seat = 0.5 * (y[0] + y[1]), 0.6 * x[0] + 0.4 * x[1]
    b.slab(
        (seat - 0.1, seat + 0.1),
        (middle - 0.25, middle + 0.25),
        (sill - 0.1, sill + 0.45 * (z[1] - sill)),
        Material.SEAT,
    )


def _tracks(b: Sculptor, length: float, width: float, height: float, tread: float) -> None:
    r = 0.5 * height
    for side in (1, -1):
        y = side * 0.5 * (width - tread)
        b.slab((r - 0.5 * length, 0.5 * length - r), (y - 0.5 * tread, y + 0.5 * tread), (0, height), Material.RUBBER)
        for x in (r - 0.5 * length, 0.5 * length - r):
            b.cylinder((x, y, r), r, tread, Material.RUBBER, axis="y")
    b.slab(
        (-0.2 * length, 0.2 * length), (0.1 - 0.5 * width, 0.5 * width - 0.1), (0.5 * height, height), Material.PLASTIC
    )


def draw_excavator(rng: np.random.Generator, size: Size) -> Model:
    """On tracks or wheels, its boom ahead, its bucket near the ground."""
    L, W, H = size
    deck = 0.3 * H
    house, swing = -0.5 * L + 0.42 * L, -0.5 * L
    b = Sculptor()
    base = 0.47 * L
    under = Sculptor() if rng.random() < 0.3 else None
    if under is None:
        _tracks(b, base, W, 0.78 * deck, 0.23 * W)
    else:
        frame(b, (-0.4 * base, 0.4 * base), (0.4 * deck, 0.8 * deck))
        for x in (-0.32 * base, 0.36 * base):
            b.axle(x, W, 0.45 * deck, 0.5)
    b.cylinder((swing + 0.27 * L, 0, 0.86 * deck), 0.25 * W, 0.35 * deck, Material.METAL)
    b.slab(
        (swing + 0.1, house + 0.02 * L),
        (0.04 - 0.5 * W, 0.5 * W - 0.04),
        (deck, deck + 0.14 * H),
        Material.PAINT,
        **PAINT,
    )
    b.prow(
        (swing + 0.12 * L, swing),
        (0.06 - 0.5 * W, 0.5 * W - 0.06),
        (deck, deck + 0.33 * H),
        Material.PAINT,
        top=0.1,
        side=0.2,
        **PAINT,
    )
    b.slab(
        (swing + 0.1 * L, swing + 0.26 * L),
        (0.1 - 0.5 * W, 0.5 * W - 0.1),
        (deck + 0.1 * H, deck + 0.3 * H),
        Material.PAINT,
        **PAINT,
    )
    _cage(b, (house - 0.15 * L, house + 0.04 * L), (0.04 * W, 0.46 * W), (deck + 0.1 * H, min(0.97 * H, deck + 1.75)))
    lift, reach = rng.uniform(0.82, 1.0) * H, 0.5 * L
    elbow = (house + rng.uniform(0.3, 0.36) * (reach - house) + 0.1 * L, -0.12 * W, lift - 0.15)
    wrist = (reach - 0.25, -0.12 * W, rng.uniform(0.14, 0.3) * H)
    b.beam((house - 0.06 * L, -0.12 * W, deck + 0.12 * H), elbow, (0.42, 0.34), Material.PAINT, **PAINT)
    b.beam(elbow, wrist, (0.32, 0.28), Material.PAINT, **PAINT)
    b.strut(
        (house, -0.12 * W, deck + 0.1 * H),
        (0.5 * (house + elbow[0]) + 0.3, -0.12 * W, 0.72 * elbow[2]),
        0.06,
        Material.METAL,
    )
    b.slab(
        (reach - 0.75, reach),
        (-0.12 * W - 0.45, 0.45 - 0.12 * W),
        (max(wrist[2] - 0.6, 0.05), wrist[2] + 0.15),
        Material.METAL,
        taper=(0.1, 0.45, 0, 0),
    )
    b.slab(
        (elbow[0] - 0.35, elbow[0] + 0.25),
        (-0.12 * W - 0.14, 0.14 - 0.12 * W),
        (elbow[2] - 0.4, elbow[2] + 0.15),
        Material.PAINT,
        taper=(0.15, 0.2, 0, 0),
        **PAINT,
    )
    return _machine("excavator", b, rng, size)


def draw_wheel_loader(rng: np.random.Generator, size: Size) -> Model:
    """With its shovel ahead, raised or near the ground."""
    L, W, H = size
    radius, rear = 0.24 * H, -0.5 * L
    lift = rng.uniform(0.05, 0.35) * H
    b = Sculptor()
    front_axle, rear_axle = 0.14 * L, rear + 0.22 * L
    b.axle(front_axle, 0.92 * W, radius, 0.23 * W)
    b.axle(rear_axle, 0.92 * W, radius, 0.23 * W)
    b.slab((rear + 0.02 * L, -0.02 * L), (-0.28 * W, 0.28 * W), (0.8 * radius, 2 * radius), Material.PAINT, **PAINT)
    b.prow(
        (-0.12 * L, rear),
        (-0.3 * W, 0.3 * W),
        (1.5 * radius, 2.75 * radius),
        Material.PAINT,
        top=0.15,
        side=0.08,
        **PAINT,
    )
    b.pair(
        (rear_axle - radius, rear_axle + radius),
        (0.26 * W, 0.46 * W),
        (2.05 * radius, 2.15 * radius),
        Material.PAINT,
        **PAINT,
    )
    _cage(b, (-0.16 * L, 0.05 * L), (-0.26 * W, 0.26 * W), (2 * radius, H))
    b.slab((-0.02 * L, 0.2 * L), (-0.2 * W, 0.2 * W), (0.8 * radius, 2.1 * radius), Material.PAINT, **PAINT)
    for y in (-0.15 * W, 0.15 * W):
        b.beam((0.06 * L, y, 2.2 * radius), (0.5 * L - 0.7, y, lift + 0.45), (0.28, 0.16), Material.PAINT, **PAINT)
    # The shovel: a floor, a back and two cheeks.
    b.slab((0.5 * L - 0.85, 0.5 * L), (-0.5 * W, 0.5 * W), (lift, lift + 0.12), Material.METAL)
    b.slab((0.5 * L - 0.9, 0.5 * L - 0.75), (-0.5 * W, 0.5 * W), (lift, lift + 0.95), Material.METAL)
    b.pair(
        (0.5 * L - 0.85, 0.5 * L - 0.05),
        (0.5 * W - 0.06, 0.5 * W),
        (lift, lift + 0.9),
        Material.METAL,
        taper=(0, 0.5, 0, 0),
    )
    rear_end(b, rear, 0.6 * W, 1.6 * radius)
    return _machine("wheel_loader", b, rng, size, front_axle - rear_axle, rear_axle)


def draw_dump_truck(rng: np.random.Generator, size: Size) -> Model:
    """An articulated or rigid dumper with its high skip."""
    L, W, H = size
    radius, rear, half = 0.23 * H, -0.5 * L, 0.5 * W
    b = Sculptor()
    axles = (0.26 * L, rear + 0.2 * L, rear + 0.4 * L)
    for x in axles:
        b.axle(x, 0.98 * W, radius, 0.24 * W)
    frame(b, (rear + 0.1 * L, 0.42 * L), (radius, 2 * radius))
    b.prow(
        (0.3 * L, 0.5 * L),
        (-0.36 * W, 0.36 * W),
        (1.1 * radius, 2.9 * radius),
        Material.PAINT,
        top=0.35,
        side=0.12,
        **PAINT,
    )
    _cage(b, (0.17 * L, 0.33 * L), (-0.3 * W, 0.3 * W), (2 * radius, H))
    floor, top = 2.15 * radius, 0.9 * H
    b.slab(
        (rear + 0.1 * L, 0.12 * L),
        (0.2 - half, half - 0.2),
        (floor, floor + 0.3),
        Material.PAINT,
        taper=(-0.08 * L, -0.02 * L, -0.12, -0.12),
        **PAINT,
    )
    b.pair(
        (rear + 0.02 * L, 0.14 * L),
        (half - 0.16, half),
        (floor + 0.2, top),
        Material.PAINT,
        taper=(-0.02 * L, -0.01 * L, 0, 0),
        **PAINT,
    )
    b.slab((0.12 * L, 0.15 * L), (-half, half), (floor + 0.2, top), Material.PAINT, **PAINT)
    b.slab((0.13 * L, 0.3 * L), (-half, half), (top - 0.1, top), Material.PAINT, **PAINT)
    if rng.random() < 0.6:
        b.ellipsoid((rear + 0.29 * L, 0, top - 0.25), (0.46 * L, 0.9 * W, 0.9), Material.STONE, color=(142, 118, 90))
    rear_end(b, rear, 0.6 * W, 1.9 * radius)
    return _machine("dump_truck", b, rng, size, axles[0] - axles[1], axles[1])


def draw_road_roller(rng: np.random.Generator, size: Size) -> Model:
    """Two drums, or a drum ahead and wheels behind."""
    L, W, H = size
    drum, rear, front = 0.21 * H, -0.5 * L, 0.5 * L
    wheels = rng.random() < 0.5
    b = Sculptor()
    b.cylinder((front - drum - 0.05, 0, drum), drum, 0.84 * W, Material.METAL, axis="y")
    b.pair((front - 2 * drum - 0.05, front), (0.43 * W, 0.5 * W), (0.8 * drum, 1.5 * drum), Material.PAINT, **PAINT)
    b.slab(
        (front - 2 * drum - 0.3, front - 0.5 * drum),
        (-0.44 * W, 0.44 * W),
        (2.05 * drum, 2.6 * drum),
        Material.PAINT,
        **PAINT,
    )
    if wheels:
        b.axle(rear + drum + 0.15, 0.95 * W, drum * 1.05, 0.28 * W)
    else:
        b.cylinder((rear + drum + 0.05, 0, drum), drum, 0.84 * W, Material.METAL, axis="y")
        b.pair((rear + 0.05, rear + 2 * drum), (0.43 * W, 0.5 * W), (0.8 * drum, 1.5 * drum), Material.PAINT, **PAINT)
    b.prow(
        (-0.05 * L, rear), (-0.42 * W, 0.42 * W), (1.5 * drum, 2.9 * drum), Material.PAINT, top=0.2, side=0.1, **PAINT
    )
    b.slab((-0.1 * L, 0.2 * L), (-0.3 * W, 0.3 * W), (0.8 * drum, 2.2 * drum), Material.PAINT, **PAINT)
    if rng.random() < 0.5:
        _cage(b, (-0.12 * L, 0.16 * L), (-0.38 * W, 0.38 * W), (2.1 * drum, H))
    else:
        b.slab((-0.16 * L, 0.18 * L), (-0.42 * W, 0.42 * W), (H - 0.08, H), Material.PAINT, **PAINT)
        for x in (-0.14 * L, 0.16 * L):
            b.pair((x - 0.03, x + 0.03), (0.38 * W, 0.42 * W), (2.1 * drum, H - 0.08), Material.METAL)
        b.slab((-0.08 * L, 0.02 * L), (-0.25, 0.25), (2.2 * drum, 3.2 * drum), Material.SEAT)
    b.slab((rear, rear + 0.05), (-0.3 * W, 0.3 * W), (1.7 * drum, 2.0 * drum), Material.TAIL_LAMP)
    return _machine("road_roller", b, rng, size, 0.6 * L, -0.3 * L)


def draw_forklift(rng: np.random.Generator, size: Size) -> Model:
    """With its mast and forks ahead, sometimes with a load."""
    L, W, H = size
    rear, mast = -0.5 * L, 0.5 * L - 1.05
    b = Sculptor()
    b.axle(mast - 0.32, W, 0.34, 0.28)
    b.axle(rear + 0.42, 0.88 * W, 0.27, 0.22)
    b.prow((mast - 0.15, rear), (-0.46 * W, 0.46 * W), (0.2, 1.05), Material.PAINT, top=0.12, side=0.14, **PAINT)
    b.slab((rear + 0.35, rear + 0.9), (-0.4 * W, 0.4 * W), (1.0, 1.15), Material.SEAT)
    b.slab((rear + 0.42, rear + 0.56), (-0.25, 0.25), (1.1, 1.6), Material.SEAT)
    for x in (rear + 0.2, mast - 0.3):
        b.pair((x - 0.04, x + 0.04), (0.4 * W, 0.45 * W), (1.0, 0.96 * H), Material.METAL)
    b.slab((rear + 0.15, mast - 0.2), (-0.46 * W, 0.46 * W), (0.95 * H, H), Material.MESH)
    b.pair((mast - 0.1, mast + 0.1), (0.22 * W, 0.3 * W), (0.05, H), Material.METAL)
    fork = rng.uniform(0.0, 0.5)
    b.slab((mast + 0.08, mast + 0.14), (-0.45 * W, 0.45 * W), (fork + 0.05, fork + 0.55), Material.METAL)
    b.pair((mast + 0.1, 0.5 * L), (0.16 * W, 0.26 * W), (fork, fork + 0.06), Material.METAL)
    if rng.random() < 0.5:
        b.slab((mast + 0.15, 0.5 * L - 0.02), (-0.45 * W, 0.45 * W), (fork + 0.08, fork + 0.2), Material.WOOD)
        b.slab(
            (mast + 0.18, 0.5 * L - 0.05),
            (-0.42 * W, 0.42 * W),
            (fork + 0.2, fork + rng.uniform(0.6, 1.1)),
            Material.WOOD,
            color=(176, 140, 96),
        )
    b.pair((rear, rear + 0.1), (0.2 * W, 0.3 * W), (0.85, 0.95), Material.TAIL_LAMP)
    return _machine("forklift", b, rng, size, mast - rear - 0.74, rear + 0.42)


def draw_mobile_crane(rng: np.random.Generator, size: Size) -> Model:
    """A crane on a lorry's chassis, its boom laid forward."""
    L, W, H = size
    rear, front, radius = -0.5 * L, 0.5 * L - 0.9, 0.55
    b = Sculptor()
    frame(b, (rear, front - 0.4), (0.7, 1.35), 0.8 * W)
    cab(b, (front - 1.7, front), 0.96 * W, (0.5, 0.72 * H), belt=0.5)
    axles = [rear + 1.3, rear + 2.9, front - 2.6] if L < 9.5 else [rear + 1.3, rear + 2.9, front - 4.2, front - 2.6]
    for x in axles:
        b.axle(x, 0.97 * W, radius, 0.45)
    b.slab((rear + 0.3, -0.02 * L), (-0.42 * W, 0.42 * W), (1.4, 0.74 * H), Material.PAINT, **PAINT)
    b.slab((rear, rear + 0.9), (-0.48 * W, 0.48 * W), (1.4, 0.66 * H), Material.METAL)
    _cage(b, (-0.05 * L, 0.12 * L), (0.1 * W, 0.46 * W), (1.5, 0.86 * H))
    pivot, tip = (rear + 0.25 * L, -0.1 * W, 0.82 * H), (0.5 * L - 0.2, -0.1 * W, 0.9 * H)
    b.beam(pivot, tip, (0.55, 0.6), Material.PAINT, **PAINT)
    b.slab((0.5 * L - 0.35, 0.5 * L), (-0.1 * W - 0.3, 0.3 - 0.1 * W), (0.75 * H, H), Material.METAL)
    b.pair((-0.02 * L, 0.06 * L), (0.4 * W, 0.5 * W), (0.7, 1.3), Material.PAINT, **PAINT)
    b.pair((rear + 0.02, rear + 0.3), (0.4 * W, 0.5 * W), (0.7, 1.3), Material.PAINT, **PAINT)
    rear_end(b, rear, 0.9 * W, 1.0)
    return _machine("mobile_crane", b, rng, size, axles[-1] - axles[0], axles[0])


def _machine(
    name: str, b: Sculptor, rng: np.random.Generator, size: Size, wheelbase: float | None = None, rear_axle: float = 0.0
) -> Model:
    return Model(
        name,
        ObjectClass.CONSTRUCTION_VEHICLE,
        size,
        b.fitted(size),
        pick(MACHINE_PAINT, rng),
        wheelbase=wheelbase,
        rear_axle=rear_axle,
    )


def _family(name: str, make: partial, sizes: Sizes) -> Family:
    return Family(name, ObjectClass.CONSTRUCTION_VEHICLE, sizes, make)


CONSTRUCTION: tuple[Family, ...] = (
    _family("excavator", draw_excavator, Sizes((7.6, 2.75, 3.2), (1.1, 0.25, 0.3))),
    _family("wheel_loader", draw_wheel_loader, Sizes((7.0, 2.6, 3.25), (0.8, 0.2, 0.2))),
    _family("dump_truck", draw_dump_truck, Sizes((8.6, 3.0, 3.5), (0.8, 0.2, 0.2))),
    _family("road_roller", draw_road_roller, Sizes((4.6, 2.0, 2.95), (0.5, 0.2, 0.15))),
    _family("forklift", draw_forklift, Sizes((3.6, 1.3, 2.2), (0.3, 0.1, 0.12))),
    _family("mobile_crane", draw_mobile_crane, Sizes((9.2, 2.6, 3.5), (0.8, 0.08, 0.2))),
)
