"""What belongs to the road: poles, lamps, signs, gantries, lights. What looks somewhere looks along +x."""

from __future__ import annotations

import math

import numpy as np

from karp_perception.world.geometry.materials import Material
from karp_perception.world.models.colors import GOODS, pick
from karp_perception.world.models.family import Family, Size, Sizes
from karp_perception.world.models.model import RGB, Model
from karp_perception.world.models.sculptor import Sculptor

_RED: RGB = (190.0, 30.0, 34.0)
_BLUE: RGB = (28.0, 76.0, 160.0)
_WHITE: RGB = (228.0, 228.0, 226.0)
_YELLOW: RGB = (224.0, 180.0, 40.0)
_GREEN: RGB = (28.0, 110.0, 64.0)
_POLE = 0.04
"""m, radius of a sign's post (76 mm)."""


def draw_pole(rng: np.random.Generator, size: Size) -> Model:
    """For wires: wood or concrete, with a cross-arm now and then; or a plain post of steel."""
    L, W, H = size
    b = Sculptor()
    radius = 0.5 * L
    kind = rng.integers(3)
    material = (Material.WOOD, Material.CONCRETE, Material.METAL)[kind]
    b.cylinder((0, 0, 0.5 * H), (radius, 0.5 * W), H, material, taper=rng.uniform(0.15, 0.5))
    if kind == 0 and H > 6:
        b.slab((-0.4 * L, 0.4 * L), (-0.5 * W, 0.5 * W), (0.8 * H, 0.8 * H + 0.4), Material.METAL)
    elif rng.random() < 0.4:
        b.slab((-0.45 * L, 0.45 * L), (-0.45 * W, 0.45 * W), (0.7, 1.1), Material.PLASTIC)
    return Model("pole", None, size, b.fitted(size))


def draw_lamp_post(rng: np.random.Generator, size: Size) -> Model:
    """With an arm over the road (+x), two arms, or a lantern on top; its foot is at the origin."""
    H = size[2]
    half_x, half_y = 0.5 * size[0], 0.5 * size[1]
    b = Sculptor()
    b.cylinder((0, 0, 0.45), 0.1, 0.9, Material.METAL)
    if H < 5.5:
        b.cylinder((0, 0, 0.5 * H), 0.055, H - 0.4, Material.METAL)
        b.cylinder((0, 0, H - 0.3), min(half_x, half_y), 0.4, Material.HEAD_LAMP, taper=-0.2)
        b.cylinder((0, 0, H - 0.06), min(half_x, half_y), 0.12, Material.METAL, taper=0.6)
        return Model("lamp_post", None, size, b.fitted(size))
    b.cylinder((0, 0, 0.5 * H), 0.08, H - 0.1, Material.METAL, taper=0.4)
    for side in (1, -1) if rng.random() < 0.15 else (1,):
        b.strut((0, 0, H - 0.35), (side * (half_x - 0.4), 0, H - 0.06), 0.035, Material.METAL)
        b.slab(sorted((side * (half_x - 0.6), side * half_x)), (-half_y, half_y), (H - 0.12, H), Material.METAL)
        b.slab(
            sorted((side * (half_x - 0.5), side * (half_x - 0.1))),
            (-0.8 * half_y, 0.8 * half_y),
            (H - 0.14, H - 0.1),
            Material.HEAD_LAMP,
        )
    return _upright("lamp_post", b, size)


def _upright(name: str, b: Sculptor, size: Size, **colors: RGB) -> Model:
    """What stands on the origin whatever it reaches over: its shape is not moved, and its box is around both."""
    shape = b.build()
    reach = np.maximum(-shape.lower, shape.upper)
    return Model(name, None, (2 * float(reach[0]), 2 * float(reach[1]), float(shape.upper[2])), shape, **colors)


def draw_sign(rng: np.random.Generator, size: Size) -> Model:
    """Round, triangular, square or octagonal plates, direction boards and chevrons, one or two on a post."""
    H = size[2]
    b = Sculptor()
    if rng.random() < 0.12:  # a chevron or a keep-right beacon near the ground
        b.slab((0.0, 0.03), (-0.3, 0.3), (0.35, 1.0), Material.SIGN, color=_RED if rng.random() < 0.5 else _BLUE)
        b.slab((0.02, 0.036), (-0.12, 0.12), (0.4, 0.95), Material.SIGN, color=_WHITE)
        b.cylinder((-0.02, 0, 0.3), _POLE, 0.6, Material.METAL)
        return _upright("sign", b, size)
    b.cylinder((0, 0, 0.5 * H), _POLE, H, Material.METAL)
    x, top = _POLE + 0.015, H - 0.04
    for _ in range(2 if rng.random() < 0.3 else 1):
        top -= _plate(b, rng, x, top)
        if top < 1.4:
            break
    if rng.random() < 0.15:
        b.slab((-0.15, 0.15), (-0.15, 0.15), (0, 0.06), Material.CONCRETE)
    return _upright("sign", b, size)


def _plate(b: Sculptor, rng: np.random.Generator, x: float, top: float) -> float:
    """A plate below `top`; returns m of post that it takes."""
    kind = rng.integers(7)
    r = rng.uniform(0.29, 0.36)
    z = top - r
    if kind in (0, 1):  # round: prohibitions red and white, or blue
        b.cylinder((x, 0, z), r, 0.02, Material.SIGN, axis="x", color=_RED if kind == 0 else _BLUE)
        b.cylinder((x + 0.006, 0, z), 0.78 * r if kind == 0 else 0.3 * r, 0.02, Material.SIGN, axis="x", color=_WHITE)
        return 2 * r + 0.06
    if kind in (2, 3):  # a triangle: a warning, or upside down: give way
        side, tall = 0.9, 0.78
        taper = (0, 0, 0.5 * side - 0.02, 0.5 * side - 0.02)
        turn = (0.0, 0.0, 0.0) if kind == 2 else (math.pi, 0.0, 0.0)
        middle = top - 0.5 * tall
        b.block((x, 0, middle), (0.02, side, tall), Material.SIGN, taper=taper, rotation=turn, color=_RED)
        shift = -0.04 if kind == 2 else 0.04
        b.block(
            (x + 0.008, 0, middle + shift),
            (0.016, 0.66 * side, 0.62 * tall),
            Material.SIGN,
            taper=(0, 0, 0.33 * side - 0.02, 0.33 * side - 0.02),
            rotation=turn,
            color=_WHITE,
        )
        return tall + 0.06
    if kind == 4:  # stop: an octagon of two blocks
        for part in (1, -1):
            turn = (0.0, 0.0, 0.0) if part > 0 else (math.pi, 0.0, 0.0)
            b.block(
                (x, 0, z + part * 0.5 * r),
                (0.02, 2 * r, r),
                Material.SIGN,
                taper=(0, 0, 0.5 * r, 0.5 * r),
                rotation=turn,
                color=_RED,
            )
        b.slab((x, x + 0.014), (-0.7 * r, 0.7 * r), (z - 0.18 * r, z + 0.18 * r), Material.SIGN, color=_WHITE)
        return 2 * r + 0.06
    if kind == 5:  # square: parking, crossing
        b.slab(
            (x - 0.01, x + 0.01), (-r, r), (z - r, z + r), Material.SIGN, color=_BLUE if rng.random() < 0.7 else _YELLOW
        )
        b.slab((x, x + 0.014), (-0.45 * r, 0.45 * r), (z - 0.6 * r, z + 0.6 * r), Material.SIGN, color=_WHITE)
        return 2 * r + 0.06
    wide, tall = rng.uniform(0.8, 1.5), rng.uniform(0.25, 0.5)
    b.slab(
        (x - 0.01, x + 0.01),
        (-0.5 * wide, 0.5 * wide),
        (top - tall, top),
        Material.SIGN,
        color=(_WHITE, _BLUE, _GREEN, _YELLOW)[rng.integers(4)],
    )
    b.slab(
        (x, x + 0.014),
        (-0.38 * wide, 0.38 * wide),
        (top - 0.65 * tall, top - 0.35 * tall),
        Material.SIGN,
        color=(40.0, 40.0, 44.0),
    )
    return tall + 0.06


def draw_gantry(rng: np.random.Generator, size: Size) -> Model:
    """Signs above the road: posts at both ends of its width (y), a girder, one board a lane; at least 4.8 m clear."""
    L, W, H = size
    clear = max(0.68 * H, min(4.8, 0.8 * H))
    b = Sculptor()
    for y in (0.2 - 0.5 * W, 0.5 * W - 0.2):
        b.slab((-0.18, 0.18), (y - 0.2, y + 0.2), (0, H - 0.1), Material.METAL)
        b.slab((-0.5 * L, 0.5 * L), (y - 0.2, y + 0.2), (0, 0.6), Material.CONCRETE)
    for z in (clear + 0.35, H - 0.2):
        b.slab((-0.12, 0.12), (0.1 - 0.5 * W, 0.5 * W - 0.1), (z, z + 0.15), Material.METAL)
    b.slab((-0.02, 0.02), (0.2 - 0.5 * W, 0.5 * W - 0.2), (clear + 0.4, H - 0.2), Material.MESH)
    boards = max(1, min(4, round((W - 2) / 4.0)))
    color = (_BLUE, _GREEN, (36.0, 38.0, 42.0))[rng.integers(3)]
    for k in range(boards):
        y = (-0.5 + (k + 0.5) / boards) * (W - 1.2)
        half = min(1.6, 0.4 * W / boards)
        b.slab((0.12, 0.24), (y - half, y + half), (clear, H), Material.SIGN, color=color)
        b.slab(
            (0.2, 0.25),
            (y - 0.7 * half, y + 0.7 * half),
            (0.6 * clear + 0.4 * H, 0.4 * clear + 0.6 * H),
            Material.SIGN,
            color=_WHITE,
        )
    return Model("sign_gantry", None, size, b.fitted(size))


def draw_bridge(rng: np.random.Generator, size: Size) -> Model:
    """A bridge over the road, from one abutment to the other along y; 4.5 m or more clear below its deck."""
    L, W, H = size
    rail = min(1.1, 0.15 * H)
    deck = H - rail - min(1.2, 0.15 * H)
    pier = min(0.12 * W, 1.5)
    b = Sculptor()
    b.slab((-0.5 * L, 0.5 * L), (-0.5 * W, 0.5 * W), (deck, H - rail), Material.CONCRETE)
    b.slab((0.1 - 0.5 * L, 0.5 * L - 0.1), (-0.5 * W, pier - 0.5 * W), (0, deck), Material.CONCRETE)
    b.slab((0.1 - 0.5 * L, 0.5 * L - 0.1), (0.5 * W - pier, 0.5 * W), (0, deck), Material.CONCRETE)
    solid = rng.random() < 0.4
    for x in ((-0.5 * L, 0.08 - 0.5 * L), (0.5 * L - 0.08, 0.5 * L)):
        b.slab(x, (-0.5 * W, 0.5 * W), (H - rail, H), Material.CONCRETE if solid else Material.MESH)
        b.slab(x, (-0.5 * W, 0.5 * W), (H - 0.08, H), Material.METAL)
    return Model("bridge", None, size, b.fitted(size))


def draw_billboard(rng: np.random.Generator, size: Size) -> Model:
    """A poster on posts, with a frame; it looks along +x."""
    L, W, H = size
    low = H - min(0.7 * H, 0.62 * W)
    b = Sculptor()
    b.slab((-0.1, 0.1), (-0.5 * W, 0.5 * W), (low, H), Material.METAL)
    b.slab(
        (0.09, 0.12), (0.1 - 0.5 * W, 0.5 * W - 0.1), (low + 0.1, H - 0.1), Material.PLASTIC, color=pick(GOODS, rng, 30)
    )
    b.slab(
        (0.1, 0.13),
        (-0.35 * W, rng.uniform(-0.1, 0.3) * W),
        (low + 0.3 * (H - low), low + 0.6 * (H - low)),
        Material.PLASTIC,
        color=_WHITE,
    )
    for y in (-0.3 * W, 0.3 * W):
        b.slab((-0.25, -0.1), (y - 0.08, y + 0.08), (0, 0.9 * H), Material.METAL)
        b.beam((-0.5 * L + 0.05, y, 0.02), (-0.15, y, low + 0.3), (0.07, 0.07), Material.METAL)
    return _upright("billboard", b, size)


def draw_traffic_light(rng: np.random.Generator, size: Size) -> Model:
    """A post with a head of three lamps that look along +x, sometimes a second one on an arm over the road (-y)."""
    H = size[2]
    b = Sculptor()
    b.cylinder((0, 0, 0.5 * H), 0.07, H, Material.METAL)
    heads = [(0.12, 0.0, H - 1.05)]
    if H > 4.2:
        reach = rng.uniform(2.6, 4.5)
        b.strut((0, 0, H - 0.25), (0, -reach, H - 0.1), 0.05, Material.METAL)
        heads = [(0.12, 0.0, 2.3), (0.1, -reach, H - 1.0)]
    elif rng.random() < 0.4:
        b.slab((-0.1, 0.14), (0.08, 0.34), (2.1 if H > 3 else 1.6, (2.1 if H > 3 else 1.6) + 0.55), Material.PLASTIC)
    for x, y, z in heads:
        b.slab((x - 0.06, x + 0.12), (y - 0.16, y + 0.16), (z, z + 0.96), Material.PLASTIC)
        if rng.random() < 0.4:
            b.slab(
                (x - 0.08, x - 0.06),
                (y - 0.32, y + 0.32),
                (z - 0.1, z + 1.06),
                Material.PLASTIC,
                color=(30.0, 30.0, 32.0),
            )
        for k, lamp in enumerate((Material.SIGNAL_GREEN, Material.SIGNAL_YELLOW, Material.SIGNAL_RED)):
            b.cylinder((x + 0.13, y, z + 0.17 + 0.31 * k), 0.105, 0.05, lamp, axis="x")
    b.cylinder((0.1, 0, 1.1), 0.06, 0.25, Material.INDICATOR, color=_YELLOW)
    return _upright("traffic_light", b, size)


def draw_bollard(rng: np.random.Generator, size: Size) -> Model:
    """Steel, stone or a post of the roadside with its reflector."""
    L, W, H = size
    b = Sculptor()
    kind = rng.integers(3)
    if kind == 0:
        b.cylinder((0, 0, 0.5 * H), (0.5 * L, 0.5 * W), H, Material.METAL, color=(60.0, 62.0, 66.0))
        b.cylinder((0, 0, 0.84 * H), (0.52 * L, 0.52 * W), 0.08, Material.REFLECTIVE)
    elif kind == 1:
        b.cylinder((0, 0, 0.45 * H), (0.5 * L, 0.5 * W), 0.9 * H, Material.STONE, taper=0.25)
        b.ellipsoid((0, 0, 0.86 * H), (0.75 * L, 0.75 * W, 0.28 * H), Material.STONE)
    else:
        b.slab(
            (-0.5 * L, 0.5 * L),
            (-0.5 * W, 0.5 * W),
            (0, H),
            Material.PLASTIC,
            taper=(0.1 * L, 0.1 * L, 0.1 * W, 0.1 * W),
            color=_WHITE,
        )
        b.slab((-0.49 * L, 0.49 * L), (-0.3 * W, 0.3 * W), (0.72 * H, 0.86 * H), Material.REFLECTIVE)
    return Model("bollard", None, size, b.fitted(size))


def draw_hydrant(rng: np.random.Generator, size: Size) -> Model:
    """A pillar hydrant."""
    L, W, H = size
    color = (_RED, _YELLOW, _BLUE)[rng.integers(3)]
    b = Sculptor()
    b.cylinder((0, 0, 0.04 * H), 0.45 * L, 0.08 * H, Material.METAL, color=color)
    b.cylinder((0, 0, 0.45 * H), 0.32 * L, 0.8 * H, Material.METAL, color=color)
    b.ellipsoid((0, 0, 0.86 * H), (0.7 * L, 0.7 * W, 0.28 * H), Material.METAL, color=color)
    b.cylinder((0, 0, 0.6 * H), 0.14 * L, W, Material.METAL, axis="y", color=color)
    b.cylinder((0.2 * L, 0, 0.5 * H), 0.17 * L, 0.6 * L, Material.METAL, axis="x", color=color)
    return Model("hydrant", None, size, b.fitted(size))


def draw_cabinet(rng: np.random.Generator, size: Size) -> Model:
    """Of power or telephone, its doors along +x."""
    L, W, H = size
    color = ((150.0, 154.0, 150.0), (104.0, 118.0, 104.0), (186.0, 184.0, 174.0))[rng.integers(3)]
    b = Sculptor()
    b.slab((-0.46 * L, 0.46 * L), (-0.46 * W, 0.46 * W), (0, 0.12), Material.CONCRETE)
    b.slab((-0.47 * L, 0.46 * L), (-0.48 * W, 0.48 * W), (0.1, H - 0.06), Material.PLASTIC, color=color)
    b.slab(
        (-0.5 * L, 0.5 * L),
        (-0.5 * W, 0.5 * W),
        (H - 0.08, H),
        Material.PLASTIC,
        taper=(0.05, 0.05, 0.05, 0.05),
        color=color,
    )
    for y in (-0.24 * W, 0.24 * W):
        b.slab(
            (0.44 * L, 0.48 * L),
            (y - 0.2 * W, y + 0.2 * W),
            (0.18, H - 0.14),
            Material.PLASTIC,
            color=tuple(0.9 * c for c in color),
        )
    return Model("cabinet", None, size, b.fitted(size))


ROADSIDE: tuple[Family, ...] = (
    Family("pole", None, Sizes((0.26, 0.26, 7.0), (0.05, 0.05, 1.8), 0.7), draw_pole),
    Family("lamp_post", None, Sizes((3.6, 0.34, 7.2), (0.7, 0.04, 1.7), 0.6), draw_lamp_post),
    Family("sign", None, Sizes((0.2, 0.9, 2.7), (0.02, 0.2, 0.3)), draw_sign),
    Family("sign_gantry", None, Sizes((0.8, 16.0, 7.4), (0.1, 3.0, 0.3)), draw_gantry),
    Family("bridge", None, Sizes((5.0, 26.0, 7.0), (1.5, 4.0, 0.4)), draw_bridge),
    Family("billboard", None, Sizes((1.2, 3.8, 3.9), (0.1, 0.6, 0.7)), draw_billboard),
    Family("traffic_light", None, Sizes((0.5, 0.5, 3.8), (0.02, 0.02, 1.0)), draw_traffic_light),
    Family("bollard", None, Sizes((0.16, 0.16, 0.95), (0.03, 0.03, 0.1), 0.8), draw_bollard),
    Family("hydrant", None, Sizes((0.34, 0.40, 0.85), (0.03, 0.03, 0.08)), draw_hydrant),
    Family("cabinet", None, Sizes((0.42, 1.05, 1.25), (0.06, 0.3, 0.18)), draw_cabinet),
)
