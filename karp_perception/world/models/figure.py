"""The human figure: a body hung between where its pelvis, feet and hands are, and its gaits."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from karp_perception.world.geometry.materials import Material
from karp_perception.world.geometry.shape import FIRST, SECOND, Shape
from karp_perception.world.models.colors import HAIR, SKIN, pick
from karp_perception.world.models.family import Size
from karp_perception.world.models.model import RGB
from karp_perception.world.models.sculptor import Point, Sculptor, fit

PHASES = 8
"""Shapes kept of a gait."""

# Lengths of body parts as shares of the standing height (Drillis and Contini 1966, as in Winter 2009, figure 4.1).
HIP, THIGH, SHIN, FOOT = 0.530, 0.245, 0.246, 0.152
TRUNK, UPPER_ARM, FOREARM, SHOULDER, PELVIS = 0.288, 0.186, 0.200, 0.129, 0.080


@dataclass(frozen=True)
class Look:
    """What a person looks like, apart from posture.

    Attributes:
        height: standing, m. bulk: breadth relative to the average.
        skin, hair: RGB. sleeves: whether the forearms are covered. legs: whether the shins are.
        helmet: RGB of a helmet, None for bare hair.
        skirt: whether a skirt or coat hides the thighs.
    """

    height: float
    bulk: float = 1.0
    skin: RGB = (216.0, 176.0, 148.0)
    hair: RGB = (60.0, 46.0, 36.0)
    sleeves: bool = True
    legs: bool = True
    helmet: RGB | None = None
    skirt: bool = False

    @classmethod
    def draw(cls, rng: np.random.Generator, height: float, helmet: float = 0.0) -> Look:
        """Somebody; `helmet`: chance of wearing one."""
        shell = tuple(float(c) for c in rng.choice([(235, 235, 235), (30, 30, 34), (180, 30, 30), (230, 200, 40)]))
        return cls(
            height,
            rng.uniform(0.88, 1.22),
            pick(SKIN, rng),
            pick(HAIR, rng),
            bool(rng.random() < 0.65),
            bool(rng.random() < 0.85),
            shell if rng.random() < helmet else None,
            bool(rng.random() < 0.15),
        )


@dataclass(frozen=True)
class Posture:
    """Where a figure's parts are, in the frame of what it is built into, m; left before right.

    Attributes:
        pelvis: middle between its hips.
        lean: of the trunk forward, rad.
        feet, hands: ankles and wrists; those out of reach are reached for.
        gaze: of the head forward, rad, beyond the lean.
    """

    pelvis: Point
    feet: tuple[Point, Point]
    hands: tuple[Point, Point]
    lean: float = 0.03
    gaze: float = 0.0


def standing(height: float, stride: float = 0.0, phase: float = 0.0, lean: float = 0.03) -> Posture:
    """Standing for a stride of 0, walking otherwise: m from one foot to the other at the longest, phase in rad."""
    s = math.sin(phase)
    reach, swing = 0.5 * stride * s, 0.42 * stride * s
    # The hips sink by what the slanting legs lack.
    pelvis = HIP * height - 0.35 * reach**2
    foot, lift, hand = 0.055 * height, 0.045 * height, 0.455 * height
    feet = (
        (reach, foot, 0.045 * height + lift * max(0.0, -s)),
        (-reach, -foot, 0.045 * height + lift * max(0.0, s)),
    )
    rise = 0.25 * abs(swing)
    side = (SHOULDER + 0.025) * height
    hands = ((-swing + 0.03, side, hand + rise), (swing + 0.03, -side, hand + rise))
    return Posture((0.0, 0.0, pelvis), feet, hands, lean)


def figure(b: Sculptor, look: Look, posture: Posture) -> Sculptor:
    """Adds 14 primitives: legs and feet, trunk, arms, head, hair. FIRST: colour of the top, SECOND: of the trousers."""
    h, k = look.height, look.bulk
    px, py, pz = posture.pelvis
    dx, dz = math.sin(posture.lean), math.cos(posture.lean)
    neck = (px + TRUNK * h * dx, py, pz + TRUNK * h * dz)
    for side, foot in ((1, posture.feet[0]), (-1, posture.feet[1])):
        hip = (px, py + side * 0.048 * h, pz)
        knee = bend(hip, foot, THIGH * h, SHIN * h, (1.0, 0.15 * side, 0.0))
        shin = (
            {"material": Material.CLOTH, "tint": SECOND}
            if look.legs
            else {"material": Material.SKIN, "color": look.skin}
        )
        b.strut(hip, knee, 0.046 * h * k, Material.CLOTH, taper=0.25, tint=SECOND)
        b.strut(knee, foot, 0.032 * h * k, taper=0.25, **shin)
        b.slab(
            (foot[0] - 0.035 * h, foot[0] + 0.11 * h),
            (foot[1] - 0.026 * h, foot[1] + 0.026 * h),
            (foot[2] - 0.045 * h, foot[2] + 0.005 * h),
            Material.RUBBER,
            taper=(0, 0.06 * h, 0, 0),
        )
    b.strut(
        neck,
        (px - 0.02 * h * dx, py, pz - 0.035 * h),
        (0.066 * h * k, 0.112 * h * k),
        Material.CLOTH,
        taper=0.17,
        tint=FIRST,
    )
    if look.skirt:
        b.cylinder((px, py, pz - 0.1 * h), 0.105 * h * k, 0.26 * h, Material.CLOTH, taper=0.35, tint=SECOND)
    for side, hand in ((1, posture.hands[0]), (-1, posture.hands[1])):
        shoulder = (neck[0] - 0.01 * h * dx, py + side * 0.106 * h * k, neck[2] - 0.03 * h)
        elbow = bend(shoulder, hand, UPPER_ARM * h, (FOREARM - 0.02) * h, (-1.0, 0.5 * side, -0.4))
        sleeve = (
            {"material": Material.CLOTH, "tint": FIRST}
            if look.sleeves
            else {"material": Material.SKIN, "color": look.skin}
        )
        b.strut(shoulder, elbow, 0.029 * h * k, Material.CLOTH, taper=0.15, tint=FIRST)
        b.strut(elbow, hand, 0.023 * h * k, taper=0.2, **sleeve)
    tilt = posture.lean * 0.4 + posture.gaze
    head = (neck[0] + 0.085 * h * math.sin(tilt) + 0.01, py, neck[2] + 0.095 * h * math.cos(tilt))
    b.ellipsoid(head, (0.105 * h, 0.086 * h, 0.15 * h), Material.SKIN, color=look.skin)
    cap = (head[0] - 0.015 * h, py, head[2] + 0.022 * h)
    if look.helmet is None:
        b.ellipsoid(cap, (0.108 * h, 0.1 * h, 0.115 * h), Material.HAIR, color=look.hair)
    else:
        b.ellipsoid(
            (head[0] - 0.005 * h, py, head[2] + 0.02 * h),
            (0.15 * h, 0.125 * h, 0.13 * h),
            Material.PAINT,
            color=look.helmet,
        )
    return b


def bend(start: Point, end: Point, first: float, second: float, toward: Point) -> Point:
    """The joint between two bones of given lengths (m) from start to end, on the side of the vector `toward`.

    Where the end is out of reach the joint lies on the straight line, and the bones are drawn long.
    """
    a, c, pole = np.asarray(start, float), np.asarray(end, float), np.asarray(toward, float)
    d = c - a
    length = float(np.linalg.norm(d))
    along = d / max(length, 1e-9)
    share = (first**2 - second**2 + length**2) / (2 * max(length, 1e-9))
    share = min(max(share, -first), first) if length < first + second else length * first / (first + second)
    height = math.sqrt(max(first**2 - share**2, 0.0)) if length < first + second else 0.0
    aside = pole - along * float(pole @ along)
    aside /= max(float(np.linalg.norm(aside)), 1e-9)
    x, y, z = a + share * along + height * aside
    return float(x), float(y), float(z)


@dataclass
class Gait:
    """Shapes at the phases of a gait, fitted into one box that all of them fill together.

    Attributes:
        build: makes the sculpture at a phase, rad.
        size: of the box, m.
    """

    build: Callable[[float], Sculptor]
    size: Size
    _shapes: dict[int, Shape] = field(default_factory=dict, repr=False)
    _box: tuple[np.ndarray, np.ndarray] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        extremes = [self.build(2 * math.pi * k / 4).build() for k in range(4)]
        self._box = np.min([s.lower for s in extremes], axis=0), np.max([s.upper for s in extremes], axis=0)

    def __call__(self, phase: float) -> Shape:
        """The shape at the nearest of PHASES phases to `phase`, rad."""
        k = round(phase / (2 * math.pi) * PHASES) % PHASES
        if k not in self._shapes:
            self._shapes[k] = fit(self.build(2 * math.pi * k / PHASES).build(), *self._box, self.size)
        return self._shapes[k]
