"""People: walking and standing, with what they carry and push. Groups are several of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np

from karp_perception.core import ObjectClass
from karp_perception.world.geometry.materials import Material
from karp_perception.world.models.colors import GOODS, TOPS, TROUSERS, pick
from karp_perception.world.models.family import Family, Size, Sizes
from karp_perception.world.models.figure import Gait, Look, Posture, figure, standing
from karp_perception.world.models.model import Model
from karp_perception.world.models.sculptor import Sculptor

Carry = Callable[[Sculptor, Look, Posture], Posture]
"""Adds a thing to a sculpture and returns the posture of who carries it."""


def draw_walker(
    name: str, things: Callable[[np.random.Generator], Carry], rng: np.random.Generator, size: Size
) -> Model:
    """Somebody who walks (see `gait`; at phase 0 the feet are side by side), in a box of a size (m)."""
    look = Look.draw(rng, 0.97 * size[2] if name != "umbrella_walker" else 0.85 * size[2])
    stride = rng.uniform(0.38, 0.46) * look.height
    lean = rng.uniform(0.0, 0.08)
    carry = things(rng)

    def build(phase: float) -> Sculptor:
        b = Sculptor()
        posture = carry(b, look, standing(look.height, stride, phase, lean))
        return figure(b, look, posture)

    gait = Gait(build, size)
    return Model(name, ObjectClass.PEDESTRIAN, size, gait(0.0), pick(TOPS, rng), pick(TROUSERS, rng), gait=gait)


def draw_still(
    name: str, pose: Callable[[np.random.Generator, Look, Sculptor], Posture], rng: np.random.Generator, size: Size
) -> Model:
    """Somebody who stays, in a box of a size (m)."""
    share = {"sitting_person": 0.76, "bending_person": 0.66, "wheelchair_user": 0.78}.get(name, 1.0)
    look = Look.draw(rng, size[2] / share)
    b = Sculptor()
    posture = pose(rng, look, b)
    figure(b, look, posture)
    return Model(name, ObjectClass.PEDESTRIAN, size, b.fitted(size), pick(TOPS, rng), pick(TROUSERS, rng))


def _nothing(rng: np.random.Generator) -> Carry:
    return lambda b, look, posture: posture


def _backpack(rng: np.random.Generator) -> Carry:
    color, deep = pick(GOODS, rng), rng.uniform(0.1, 0.2)

    def carry(b: Sculptor, look: Look, posture: Posture) -> Posture:
        h, back = look.height, posture.pelvis[0] - 0.06 * look.height
        b.slab((back - deep, back + 0.03), (-0.1 * h, 0.1 * h), (0.56 * h, 0.81 * h), Material.CLOTH, color=color)
        return posture

    return carry


def _suitcase(rng: np.random.Generator) -> Carry:
    color, tall = pick(GOODS, rng), rng.uniform(0.5, 0.72)

    def carry(b: Sculptor, look: Look, posture: Posture) -> Posture:
        h = look.height
        hand = (-0.22 * h, -0.19 * h, 0.47 * h)
        x = -0.36 * h
        b.slab((x - 0.13, x + 0.13), (hand[1] - 0.2, hand[1] + 0.2), (0.05, tall), Material.PLASTIC, color=color)
        b.slab((x - 0.1, x + 0.1), (hand[1] - 0.18, hand[1] + 0.18), (0.0, 0.08), Material.RUBBER)
        b.strut((x + 0.1, hand[1], tall), hand, 0.015, Material.METAL)
        return replace(posture, hands=(posture.hands[0], hand))

    return carry


def _umbrella(rng: np.random.Generator) -> Carry:
    color, radius = pick(GOODS + TOPS, rng), rng.uniform(0.46, 0.6)

    def carry(b: Sculptor, look: Look, posture: Posture) -> Posture:
        h = look.height
        hand = (0.12 * h, 0.1 * h, 0.68 * h)
        top = 1.18 * h
        b.cylinder((hand[0] - 0.05, 0.05, top - 0.11), radius, 0.2, Material.CLOTH, taper=0.85, color=color)
        b.strut(hand, (hand[0] - 0.03, 0.06 * h, top), 0.012, Material.METAL)
        return replace(posture, hands=(hand, posture.hands[1]))

    return carry


def _pram(rng: np.random.Generator) -> Carry:
    color = pick(TOPS, rng)

    def carry(b: Sculptor, look: Look, posture: Posture) -> Posture:
        h = look.height
        x, grip = 0.62, (0.26 * h, 0.14 * h, 0.6 * h)
        b.prow((x - 0.28, x + 0.42), (-0.22, 0.22), (0.45, 0.75), Material.CLOTH, bottom=0.12, color=color)
        b.ellipsoid((x - 0.1, 0, 0.78), (0.5, 0.46, 0.62), Material.CLOTH, color=color)
        for wheel in (x - 0.22, x + 0.36):
            b.pair((wheel - 0.02, wheel + 0.02), (0.2, 0.23), (0.2, 0.5), Material.METAL)
            for y in (0.24, -0.24):
                b.cylinder((wheel, y, 0.14), 0.14, 0.05, Material.RUBBER, axis="y")
        b.beam((x - 0.2, 0, 0.5), (grip[0], 0, grip[2]), (0.03, 0.4), Material.MESH)
        return replace(posture, hands=(grip, (grip[0], -grip[1], grip[2])))

    return carry


def _standing(rng: np.random.Generator, look: Look, b: Sculptor) -> Posture:
    h, wide = look.height, rng.uniform(1.0, 2.2)
    posture = standing(h)
    feet = tuple((x + rng.uniform(-0.08, 0.08), y * wide, z) for x, y, z in posture.feet)
    kind = rng.integers(3)
    hands = posture.hands
    if kind == 1:  # hands on the hips, or in pockets
        hands = ((0.04 * h, 0.14 * h, 0.56 * h), (0.04 * h, -0.14 * h, 0.56 * h))
    elif kind == 2:  # arms folded
        hands = ((0.11 * h, -0.06 * h, 0.68 * h), (0.12 * h, 0.06 * h, 0.7 * h))
    return replace(posture, feet=feet, hands=hands, lean=rng.uniform(-0.04, 0.1))


def _phone(rng: np.random.Generator, look: Look, b: Sculptor) -> Posture:
    h, posture = look.height, standing(look.height)
    if rng.random() < 0.5:
        hand, gaze = (0.06 * h, -0.09 * h, 0.9 * h), 0.0
    else:
        hand, gaze = (0.2 * h, -0.04 * h, 0.72 * h), 0.35
    b.slab(
        (hand[0] - 0.01, hand[0] + 0.01), (hand[1] - 0.04, hand[1] + 0.04), (hand[2], hand[2] + 0.14), Material.PLASTIC
    )
    return replace(posture, hands=(posture.hands[0], hand), gaze=gaze)


def _waving(rng: np.random.Generator, look: Look, b: Sculptor) -> Posture:
    h, posture = look.height, standing(look.height)
    out = (0.04 * h, 0.42 * h, rng.uniform(0.72, 0.9) * h)
    other = (out[0], -out[1], out[2]) if rng.random() < 0.5 else posture.hands[1]
    return replace(posture, hands=(out, other))


def _bending(rng: np.random.Generator, look: Look, b: Sculptor) -> Posture:
    h, posture = look.height, standing(look.height)
    lean = rng.uniform(1.0, 1.4)
    hands = ((0.34 * h, 0.1 * h, 0.22 * h), (0.34 * h, -0.1 * h, 0.25 * h))
    return replace(posture, pelvis=(-0.06 * h, 0, 0.5 * h), hands=hands, lean=lean, gaze=-0.2)


def _sitting(rng: np.random.Generator, look: Look, b: Sculptor) -> Posture:
    h = look.height
    posture = _seated(h, 0.29 * h)
    if rng.random() < 0.6:  # on a box or a stool
        b.slab((-0.14 * h, 0.1 * h), (-0.13 * h, 0.13 * h), (0, 0.245 * h), Material.WOOD)
    return posture


def _seated(h: float, seat: float) -> Posture:
    knee = 0.2 * h
    feet = ((knee + 0.04 * h, 0.07 * h, 0.05 * h), (knee + 0.04 * h, -0.07 * h, 0.05 * h))
    hands = ((knee - 0.02 * h, 0.08 * h, seat + 0.06 * h), (knee - 0.02 * h, -0.08 * h, seat + 0.06 * h))
    return Posture((0, 0, seat), feet, hands, 0.06)


def _wheelchair(rng: np.random.Generator, look: Look, b: Sculptor) -> Posture:
    h = look.height
    for y in (0.28, -0.28):
        b.cylinder((-0.05, y, 0.3), 0.3, 0.035, Material.MESH, axis="y", color=(40, 40, 44))
        b.cylinder((-0.05, y, 0.3), 0.07, 0.05, Material.METAL, axis="y")
        b.cylinder((0.42, 0.8 * y, 0.09), 0.09, 0.04, Material.RUBBER, axis="y")
        b.slab((-0.28, 0.2), (y - 0.02, y + 0.02), (0.6, 0.66), Material.PLASTIC)
    b.slab((-0.25, 0.22), (-0.24, 0.24), (0.42, 0.5), Material.SEAT)
    b.slab((-0.3, -0.24), (-0.24, 0.24), (0.45, 0.95), Material.SEAT)
    posture = _seated(h, 0.33 * h)
    feet = tuple((0.42, y, 0.12) for _, y, _ in posture.feet)
    return replace(posture, pelvis=(-0.1, 0, 0.33 * h), feet=feet)


def _walking(name: str, things: Callable[[np.random.Generator], Carry], sizes: Sizes) -> Family:
    return Family(name, ObjectClass.PEDESTRIAN, sizes, partial(draw_walker, name, things))


def _staying(name: str, pose: Callable[..., Posture], sizes: Sizes) -> Family:
    return Family(name, ObjectClass.PEDESTRIAN, sizes, partial(draw_still, name, pose))


# Heights of adults: 1.71 +- 0.09 m without shoes (NCD-RisC 2016, both sexes of Europe), boxes a little higher.
PEOPLE: tuple[Family, ...] = (
    _walking("pedestrian", _nothing, Sizes((0.84, 0.60, 1.74), (0.10, 0.06, 0.09))),
    _walking("child", _nothing, Sizes((0.58, 0.45, 1.22), (0.08, 0.05, 0.16), 0.7)),
    _walking("umbrella_walker", _umbrella, Sizes((1.08, 1.05, 2.02), (0.08, 0.08, 0.1))),
    _walking("backpack_walker", _backpack, Sizes((0.90, 0.62, 1.76), (0.10, 0.06, 0.08))),
    _walking("suitcase_walker", _suitcase, Sizes((1.10, 0.82, 1.73), (0.10, 0.06, 0.09))),
    _walking("pram_pusher", _pram, Sizes((1.55, 0.62, 1.70), (0.10, 0.05, 0.08))),
    _staying("wheelchair_user", _wheelchair, Sizes((1.05, 0.66, 1.33), (0.06, 0.04, 0.05))),
    _staying("standing_person", _standing, Sizes((0.48, 0.62, 1.74), (0.06, 0.06, 0.09))),
    _staying("phone_person", _phone, Sizes((0.50, 0.58, 1.73), (0.05, 0.05, 0.09))),
    _staying("waving_person", _waving, Sizes((0.44, 1.12, 1.74), (0.05, 0.16, 0.08))),
    _staying("bending_person", _bending, Sizes((0.95, 0.60, 1.12), (0.08, 0.06, 0.08))),
    _staying("sitting_person", _sitting, Sizes((0.78, 0.55, 1.30), (0.06, 0.05, 0.07))),
)
