"""Vans with a box: a car in front and a lorry behind its seats, as small firms drive."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from karp_perception.core import ObjectClass
from karp_perception.world.geometry.materials import Material
from karp_perception.world.geometry.shape import SECOND
from karp_perception.world.models.cars import VAN, assemble
from karp_perception.world.models.colors import CAR_PAINT, CARGO, pick
from karp_perception.world.models.family import Family, Size, Sizes
from karp_perception.world.models.model import Model
from karp_perception.world.models.sculptor import Sculptor

_LOW_CAB = 0.88  # share of the height below which a box may reach over the cab


def draw_box_van(rng: np.random.Generator, size: Size) -> Model:
    """A van's front, bonnet and all, with a box behind its seats, in a box of a size (m): a lorry to annotators."""
    L, W, H = size
    style = replace(
        VAN,
        bonnet=rng.uniform(0.14, 0.24),
        windscreen=rng.uniform(0.07, 0.13),
        bed=rng.uniform(0.48, 0.58),
        belt=rng.uniform(0.56, 0.64),
        nose=rng.uniform(0.46, 0.56),
    )
    roof = rng.uniform(0.76, 0.96) * H
    b = Sculptor()
    front, rear, belt = assemble(b, style, (L, 0.95 * W, roof), 0.155 * roof, rng)
    half, floor, back = 0.5 * W, rng.uniform(0.45, 0.75), (style.bed - 0.5) * L
    material = Material.TARPAULIN if rng.random() < 0.25 else Material.PAINT
    b.slab((-0.5 * L, back - 0.03), (-half, half), (floor, H), material, tint=SECOND)
    if roof < _LOW_CAB * H:
        b.slab((back - 0.05, back + rng.uniform(0.0, 0.35)), (-half, half), (roof + 0.01, H), material, tint=SECOND)
    cowl = (0.5 - style.bonnet) * L
    b.outside()
    b.pair((cowl - 0.3, cowl - 0.14), (half - 0.02, half + 0.13), (belt, belt + 0.2), Material.PLASTIC)
    return Model(
        "box_van",
        ObjectClass.TRUCK,
        size,
        b.fitted(size),
        pick(CAR_PAINT, rng),
        pick(CARGO, rng),
        wheelbase=front - rear,
        rear_axle=rear,
    )


BOX_VANS: tuple[Family, ...] = (
    Family("box_van", ObjectClass.TRUCK, Sizes((5.2, 1.82, 2.4), (0.5, 0.12, 0.22)), draw_box_van),
)
