"""Bicycles and motorcycles, ridden and parked. A box holds the rider too."""

from __future__ import annotations

import math
from functools import partial

import numpy as np

from karp_perception.core import ObjectClass
from karp_perception.world.geometry.materials import Material
from karp_perception.world.geometry.shape import FIRST
from karp_perception.world.models.colors import CAR_PAINT, GOODS, TOPS, TROUSERS, pick
from karp_perception.world.models.family import Family, Size, Sizes
from karp_perception.world.models.figure import Gait, Look, Posture, figure
from karp_perception.world.models.model import RGB, Model
from karp_perception.world.models.sculptor import Point, Sculptor

WHEEL = 0.34
"""m, radius of a 28 inch bicycle wheel with its tyre."""
_RIM_SIDES = 6


def _spoked_wheel(b: Sculptor, x: float, radius: float) -> None:
    """A disc of spokes that most beams pass, within a rim of straight pieces."""
    b.cylinder((x, 0, radius), radius, 0.025, Material.MESH, axis="y", color=(60, 60, 62))
    r = radius - 0.02
    for k in range(_RIM_SIDES):
        a, c = (2 * math.pi * (k + i) / _RIM_SIDES for i in (0.5, 1.5))
        b.strut(
            (x + r * math.cos(a), 0, radius + r * math.sin(a)),
            (x + r * math.cos(c), 0, radius + r * math.sin(c)),
            0.02,
            Material.RUBBER,
        )


def _bicycle(b: Sculptor, color: RGB, rear: float, front: float, bar: float, kind: int) -> None:
    """Frame and wheels; the bottom bracket at x = 0, z = 0.29. `kind`: 0 diamond, 1 step-through, 2 racing."""
    _spoked_wheel(b, rear, WHEEL)
    _spoked_wheel(b, front, WHEEL)
    saddle, head = (-0.2, 0, 0.93), (front - 0.22, 0, bar - 0.1)
    crank = (0.0, 0, 0.29)
    paint = {"color": color}
    b.strut(crank, saddle, 0.018, Material.PAINT, **paint)
    b.strut(crank, (head[0] + 0.02, 0, head[2] - 0.12), 0.022, Material.PAINT, **paint)
    if kind != 1:
        b.strut((-0.17, 0, 0.8), head, 0.018, Material.PAINT, **paint)
    else:
        b.strut((-0.1, 0, 0.55), (head[0] + 0.01, 0, head[2] - 0.04), 0.018, Material.PAINT, **paint)
    b.strut((rear, 0, WHEEL), (-0.15, 0, 0.75), 0.014, Material.PAINT, **paint)
    b.strut((rear, 0, WHEEL), crank, 0.014, Material.PAINT, **paint)
    b.strut((front, 0, WHEEL), (head[0] - 0.02, 0, bar), 0.018, Material.METAL)
    b.slab((saddle[0] - 0.16, saddle[0] + 0.12), (-0.07, 0.07), (0.91, 0.97), Material.SEAT, taper=(0, 0.05, 0, 0))
    b.cylinder((head[0] - 0.04, 0, bar + 0.01), 0.016, 0.56 if kind != 2 else 0.42, Material.METAL, axis="y")
    b.cylinder((0, 0, 0.29), 0.1, 0.03, Material.METAL, axis="y")
    if kind == 1:
        b.slab((rear - 0.15, rear + 0.3), (-0.06, 0.06), (0.72, 0.75), Material.METAL)
    b.slab((-0.24, -0.2), (-0.03, 0.03), (0.8, 0.86), Material.TAIL_LAMP)


def draw_cyclist(rng: np.random.Generator, size: Size) -> Model:
    """Somebody on a bicycle: upright, sporty or racing; a turn of the pedals is a turn of the gait's phase."""
    kind = int(rng.integers(3))
    color, look = pick(CAR_PAINT, rng), Look.draw(rng, rng.normal(1.74, 0.07), helmet=0.45)
    front, rear, bar = 0.6, -0.46, (0.98, 1.08, 0.92)[kind]
    lean = (rng.uniform(0.4, 0.55), rng.uniform(0.1, 0.25), rng.uniform(0.75, 0.95))[kind]
    bag = rng.random() < 0.3
    load = pick(GOODS, rng)
    grip = (front - (0.26, 0.36, 0.18)[kind], (0.27, 0.26, 0.2)[kind], bar + 0.03)

    def build(phase: float) -> Sculptor:
        b = Sculptor()
        _bicycle(b, color, rear, front, bar, kind)
        figure(b, look, _riding((-0.2, 0, 1.02), (0.0, 0.29), 0.165, phase, grip, lean))
        if bag:
            b.slab((-0.34, -0.18), (-0.15, 0.15), (1.12, 1.5), Material.CLOTH, color=load)
        return b

    gait = Gait(build, size)
    return Model(
        "cyclist", ObjectClass.BICYCLE, size, gait(0.0), pick(TOPS, rng), pick(TROUSERS, rng), gait, front - rear, rear
    )


def _riding(pelvis: Point, crank: tuple[float, float], arm: float, phase: float, grip: Point, lean: float) -> Posture:
    dx, dz = arm * math.cos(phase), -arm * math.sin(phase)
    feet = ((crank[0] + dx - 0.06, 0.12, crank[1] + dz + 0.08), (crank[0] - dx - 0.06, -0.12, crank[1] - dz + 0.08))
    return Posture(pelvis, feet, (grip, (grip[0], -grip[1], grip[2])), lean, -0.3 * lean)


def draw_cargo_bike(rng: np.random.Generator, size: Size) -> Model:
    """With a long box ahead of the rider."""
    color, look = pick(CAR_PAINT, rng), Look.draw(rng, rng.normal(1.74, 0.07), helmet=0.4)
    load, hood = pick(GOODS, rng), rng.random() < 0.4

    def build(phase: float) -> Sculptor:
        b = Sculptor()
        _spoked_wheel(b, -0.46, WHEEL)
        b.cylinder((1.55, 0, 0.25), 0.25, 0.05, Material.RUBBER, axis="y")
        b.cylinder((1.55, 0, 0.25), 0.18, 0.06, Material.METAL, axis="y")
        b.strut((0, 0, 0.29), (-0.2, 0, 0.95), 0.02, Material.PAINT, color=color)
        b.strut((-0.46, 0, WHEEL), (0, 0, 0.29), 0.018, Material.PAINT, color=color)
        b.strut((0, 0, 0.29), (1.3, 0, 0.3), 0.03, Material.PAINT, color=color)
        b.strut((0.05, 0, 0.35), (0.36, 0, 1.05), 0.02, Material.PAINT, color=color)
        b.cylinder((0.33, 0, 1.08), 0.016, 0.6, Material.METAL, axis="y")
        b.slab((-0.36, -0.08), (-0.08, 0.08), (0.91, 0.98), Material.SEAT)
        b.slab((0.5, 1.35), (-0.28, 0.28), (0.28, 0.85), Material.WOOD, taper=(-0.08, -0.05, -0.05, -0.05))
        if hood:
            b.ellipsoid((0.92, 0, 0.85), (0.95, 0.62, 0.9), Material.TARPAULIN, color=load)
        return figure(b, look, _riding((-0.2, 0, 1.02), (0.0, 0.29), 0.165, phase, (0.32, 0.27, 1.1), 0.15))

    gait = Gait(build, size)
    return Model(
        "cargo_bike", ObjectClass.BICYCLE, size, gait(0.0), pick(TOPS, rng), pick(TROUSERS, rng), gait, 2.0, -0.46
    )


def draw_parked_bicycle(rng: np.random.Generator, size: Size) -> Model:
    """Without a rider, sometimes with a basket."""
    b = Sculptor()
    kind = int(rng.integers(3))
    _bicycle(b, pick(CAR_PAINT, rng), -0.46, 0.6, (0.98, 1.08, 0.92)[kind], kind)
    b.strut((-0.1, 0.0, 0.3), (-0.16, 0.16, 0.0), 0.012, Material.METAL)
    if rng.random() < 0.35:
        b.slab((0.5, 0.78), (-0.16, 0.16), (0.82, 1.05), Material.MESH, taper=(-0.03, -0.03, -0.03, -0.03))
    if rng.random() < 0.35:
        b.slab((-0.7, -0.4), (-0.18, 0.18), (0.5, 0.78), Material.CLOTH, color=pick(GOODS, rng))
    return Model("parked_bicycle", ObjectClass.BICYCLE, size, b.fitted(size))


def _motorcycle(b: Sculptor, kind: int) -> None:
    """`kind`: 0 naked, 1 fairing, 2 tourer with cases; wheels at x = -0.7 and 0.72."""
    for x, wide in ((-0.7, 0.17), (0.72, 0.12)):
        b.cylinder((x, 0, 0.31), 0.31, wide, Material.RUBBER, axis="y")
        b.cylinder((x, 0, 0.31), 0.2, wide + 0.02, Material.METAL, axis="y")
    b.slab((-0.28, 0.36), (-0.19, 0.19), (0.26, 0.62), Material.METAL, color=(70, 70, 74))
    b.ellipsoid((0.12, 0, 0.8), (0.62, 0.36, 0.36), Material.PAINT, tint=FIRST)
    b.prow((-0.1, -0.78), (-0.14, 0.14), (0.68, 0.82), Material.SEAT, bottom=-0.04, top=-0.04)
    b.slab((-0.88, -0.66), (-0.12, 0.12), (0.66, 0.8), Material.PAINT, tint=FIRST)
    for y in (0.1, -0.1):
        b.strut((0.72, y, 0.31), (0.46, 0.9 * y, 0.98), 0.03, Material.METAL)
        b.strut((-0.7, 1.2 * y, 0.31), (-0.15, 1.2 * y, 0.4), 0.035, Material.METAL)
    b.cylinder((0.44, 0, 1.02), 0.02, 0.72, Material.METAL, axis="y")
    b.ellipsoid((0.6, 0, 0.88), (0.16, 0.2, 0.2), Material.HEAD_LAMP)
    b.slab((-0.92, -0.88), (-0.08, 0.08), (0.7, 0.78), Material.TAIL_LAMP)
    b.slab((-0.95, -0.92), (-0.1, 0.1), (0.45, 0.62), Material.PLATE)
    b.cylinder((-0.35, -0.18, 0.36), 0.05, 0.7, Material.METAL, axis="x")
    if kind:
        b.prow((0.25, 0.66), (-0.22, 0.22), (0.5, 1.0), Material.PAINT, side=0.12, top=0.12, bottom=0.1, tint=FIRST)
        b.slab((0.46, 0.52), (-0.17, 0.17), (1.0, 1.25), Material.GLASS, taper=(0.12, -0.12, 0.04, 0.04))
    if kind == 2:
        b.pair((-0.95, -0.45), (0.18, 0.42), (0.48, 0.86), Material.PLASTIC)
        b.slab((-0.98, -0.62), (-0.22, 0.22), (0.84, 1.14), Material.PLASTIC)


def _scooter(b: Sculptor) -> None:
    for x in (-0.58, 0.62):
        b.cylinder((x, 0, 0.24), 0.24, 0.12, Material.RUBBER, axis="y")
        b.cylinder((x, 0, 0.24), 0.14, 0.14, Material.METAL, axis="y")
    b.prow((-0.1, -0.85), (-0.2, 0.2), (0.38, 0.76), Material.PAINT, bottom=0.22, side=0.08, tint=FIRST)
    b.slab((-0.78, -0.08), (-0.16, 0.16), (0.74, 0.84), Material.SEAT)
    b.slab((-0.2, 0.38), (-0.19, 0.19), (0.24, 0.36), Material.PLASTIC)
    b.slab((0.32, 0.42), (-0.24, 0.24), (0.3, 0.98), Material.PAINT, taper=(-0.06, 0.06, 0.06, 0.06), tint=FIRST)
    b.strut((0.62, 0, 0.24), (0.38, 0, 1.02), 0.035, Material.METAL)
    b.slab((0.5, 0.78), (-0.08, 0.08), (0.44, 0.54), Material.PAINT, tint=FIRST)
    b.cylinder((0.36, 0, 1.06), 0.02, 0.66, Material.METAL, axis="y")
    b.ellipsoid((0.42, 0, 1.0), (0.14, 0.22, 0.18), Material.HEAD_LAMP)
    b.slab((-0.88, -0.84), (-0.1, 0.1), (0.62, 0.7), Material.TAIL_LAMP)
    b.slab((-0.88, -0.86), (-0.09, 0.09), (0.42, 0.58), Material.PLATE)


def draw_motorcycle(name: str, rng: np.random.Generator, size: Size) -> Model:
    """A motorcycle or a scooter, with its rider or parked on its stand."""
    b = Sculptor()
    scooter = "scooter" in name
    if scooter:
        _scooter(b)
        if rng.random() < 0.3:
            b.slab((-0.98, -0.6), (-0.2, 0.2), (0.86, 1.18), Material.PLASTIC)
    else:
        kind = int(rng.integers(3))
        _motorcycle(b, kind)
    if name.startswith("parked"):
        b.strut((-0.05, 0.08, 0.28), (0.0, 0.26, 0.0), 0.015, Material.METAL)
    else:
        look = Look.draw(rng, rng.normal(1.76, 0.06), helmet=1.0)
        if scooter:
            posture = Posture(
                (-0.3, 0, 0.92), ((0.2, 0.13, 0.42), (0.2, -0.13, 0.42)), ((0.32, 0.3, 1.08), (0.32, -0.3, 1.08)), 0.08
            )
        else:
            lean = (0.3, 0.75, 0.2)[kind]
            posture = Posture(
                (-0.25, 0, 0.9),
                ((-0.08, 0.21, 0.36), (-0.08, -0.21, 0.36)),
                ((0.4, 0.33, 1.05), (0.4, -0.33, 1.05)),
                lean,
                -0.3 * lean,
            )
        figure(b, look, posture)
    first = pick(TOPS, rng) if not name.startswith("parked") and rng.random() < 0.4 else pick(CAR_PAINT, rng)
    rear = -0.58 if scooter else -0.7
    base = 1.2 if scooter else 1.42
    return Model(
        name, ObjectClass.MOTORCYCLE, size, b.fitted(size), first, pick(TROUSERS, rng), wheelbase=base, rear_axle=rear
    )


def _motor(name: str, sizes: Sizes) -> Family:
    return Family(name, ObjectClass.MOTORCYCLE, sizes, partial(draw_motorcycle, name))


TWO_WHEELERS: tuple[Family, ...] = (
    Family("cyclist", ObjectClass.BICYCLE, Sizes((1.76, 0.60, 1.74), (0.06, 0.05, 0.07)), draw_cyclist),
    Family("cargo_bike", ObjectClass.BICYCLE, Sizes((2.55, 0.68, 1.76), (0.1, 0.04, 0.06)), draw_cargo_bike),
    Family("parked_bicycle", ObjectClass.BICYCLE, Sizes((1.74, 0.56, 1.06), (0.07, 0.05, 0.04)), draw_parked_bicycle),
    _motor("motorcyclist", Sizes((2.12, 0.80, 1.60), (0.1, 0.06, 0.07))),
    _motor("scooter_rider", Sizes((1.86, 0.72, 1.62), (0.07, 0.05, 0.07))),
    _motor("parked_motorcycle", Sizes((2.12, 0.80, 1.18), (0.1, 0.06, 0.06))),
    _motor("parked_scooter", Sizes((1.84, 0.70, 1.14), (0.06, 0.04, 0.04))),
)
