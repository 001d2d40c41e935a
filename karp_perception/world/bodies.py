"""Bodies: cars, trucks, people and what stands beside a street, as lists of parts in their own frames."""

from __future__ import annotations

import numpy as np

from karp_perception.world.solids import Material, Part

Color = tuple[int, int, int]
CAR_COLORS: tuple[Color, ...] = (
    (196, 200, 204), (44, 48, 54), (150, 32, 34), (38, 72, 128), (222, 222, 218), (92, 98, 104), (54, 92, 74),
)  # fmt: skip
FACADES: tuple[Color, ...] = ((188, 170, 146), (172, 124, 98), (198, 194, 184), (150, 156, 160), (204, 182, 142))
_GLASS, _DARK, _RED, _LAMP, _PLATE = (44, 54, 64), (26, 27, 30), (210, 34, 30), (248, 244, 226), (236, 232, 206)
_BRAKING = (255, 70, 50)


def car(size: tuple[float, float, float], color: Color, braking: bool = False) -> list[Part]:
    """A car that fills `size` (length, width, height, m): a body with air beneath, a glass cabin, wheels, lights."""
    length, width, height = size
    floor, waist = 0.20 * height, 0.58 * height
    cabin_length, roof = 0.62 * length, 0.05
    shoulder = 0.96 * width
    parts = _wheels(length, width, 0.64)
    parts += [
        Part((0, 0, (floor + waist) / 2), (length, width, waist - floor), color, Material.PAINT, (0.03, 0.06)),
        Part(
            (-0.06 * length, 0, (waist + height - roof) / 2), (cabin_length, shoulder, height - roof - waist), _GLASS,
            Material.GLASS, (0.36, 0.2),
        ),
        Part(
            (-0.06 * length, 0, height - roof / 2), (0.64 * cabin_length, 0.8 * shoulder, roof), color, Material.PAINT
        ),
    ]  # fmt: skip
    return parts + _lights(length, width, 0.5 * (floor + waist), braking)


def van(size: tuple[float, float, float], color: Color, braking: bool = False) -> list[Part]:
    """A van or a bus: one tall body with a windscreen band."""
    length, width, height = size
    floor = 0.16 * height
    parts = _wheels(length, width, 0.72)
    parts += [
        Part((0, 0, (floor + height) / 2), (length, width, height - floor), color, Material.PAINT, (0.05, 0.06)),
        Part(
            (0.47 * length, 0, 0.72 * height),
            (0.04 * length, 0.84 * width, 0.24 * height),
            _GLASS,
            Material.GLASS,
            facing=(1, 0),
        ),
        Part(
            (-0.487 * length, 0, 0.76 * height),
            (0.01, 0.7 * width, 0.2 * height),
            _GLASS,
            Material.GLASS,
            facing=(-1, 0),
        ),
    ]
    for side in (1, -1):
        place = (0.22 * length, side * 0.48 * width, 0.74 * height)
        parts.append(Part(place, (0.18 * length, 0.03, 0.2 * height), _GLASS, Material.GLASS, facing=(0, side)))
    return parts + _lights(length, width, 0.3 * height, braking)


def pedestrian(size: tuple[float, float, float], color: Color, walked: float) -> list[Part]:
    """A person whose legs swing with the way walked (m): legs, trunk, arms, head."""
    length, width, height = size
    swing = 0.5 * (length - 0.25) * np.sin(2 * np.pi * walked / 1.4)
    hip, neck = 0.48 * height, 0.84 * height
    parts = [Part((0, 0, 0.005), (0.5, 0.5, 0.01), (58, 59, 62), Material.DRAWN)]
    for side in (1.0, -1.0):
        leg, arm = side * swing, -side * swing
        parts.append(Part((0.5 * leg, side * 0.1, 0.5 * hip), (0.17, 0.15, hip), (48, 52, 64), Material.CLOTH))
        # Half a width out, less half an arm: the arms close the box of the body.
        out = side * (0.5 * width - 0.05)
        parts.append(Part((0.6 * arm, out, 0.64 * height), (0.12, 0.1, 0.34 * height), color, Material.CLOTH))
    parts.append(Part((0, 0, (hip + neck) / 2), (0.26, width - 0.2, neck - hip), color, Material.CLOTH, (0.1, 0.15)))
    parts.append(Part((0, 0, 0.92 * height), (0.2, 0.17, 0.16 * height), (206, 164, 138), Material.CLOTH, (0.2, 0.2)))
    return parts


def building(size: tuple[float, float, float], color: Color) -> list[Part]:
    """A house with rows of windows on the two long sides and a darker ground floor."""
    length, width, height = size
    parts = [
        Part((0, 0, height / 2), size, color, Material.WALL),
        Part((0, 0, 0.45), (length + 0.06, width + 0.06, 0.9), tuple(int(0.62 * c) for c in color), Material.WALL),
    ]
    across = max(2, int(length / 2.6))
    for floor in range(int(height / 3.0)):
        for k in range(across):
            x = ((k + 0.5) / across - 0.5) * length
            for side in (1.0, -1.0):
                place = (x, side * width / 2, 1.9 + 3.0 * floor)
                parts.append(Part(place, (1.15, 0.08, 1.5), (70, 84, 98), Material.DRAWN, facing=(0, side)))
    return parts


def tree(height: float, spread: float) -> list[Part]:
    """A trunk and a crown that lets part of the light through."""
    trunk = 0.42 * height
    return [
        Part((0, 0, trunk / 2), (0.3, 0.3, trunk), (92, 72, 54), Material.WALL),
        Part((0, 0, 0.52 * height), (spread, spread, 0.34 * height), (66, 108, 58), Material.FOLIAGE, (-0.25, -0.25)),
        Part((0, 0, 0.84 * height), (1.25 * spread, 1.25 * spread, 0.32 * height), (82, 126, 66), Material.FOLIAGE,
             (0.6, 0.6)),
    ]  # fmt: skip


def lamp_post(height: float) -> list[Part]:
    """A pole with an arm over the street to its right."""
    return [
        Part((0, 0, height / 2), (0.16, 0.16, height), (98, 104, 108), Material.METAL, (0.4, 0.4)),
        Part((0, -0.7, height - 0.05), (0.12, 1.5, 0.1), (98, 104, 108), Material.METAL),
    ]


def hedge(length: float) -> list[Part]:
    """A hedge, 1.3 m high."""
    return [Part((0, 0, 0.65), (length, 0.9, 1.3), (70, 104, 56), Material.FOLIAGE, (0.02, 0.2))]


def _wheels(length: float, width: float, diameter: float) -> list[Part]:
    """The shadow on the road, four wheels, and their outer sides, which are painted over the body."""
    shadow = Part((0, 0, 0.005), (1.02 * length, 1.04 * width, 0.01), (50, 51, 54), Material.DRAWN)
    parts = [shadow]
    for side in (1, -1):
        for x in (0.31 * length, -0.31 * length):
            middle = (x, side * (width / 2 - 0.11), diameter / 2)
            parts.append(Part(middle, (diameter, 0.22, diameter), _DARK, Material.RUBBER, (0.3, 0.0)))
            rim = (x, side * (width / 2 - 0.01), diameter / 2)
            parts.append(
                Part(rim, (0.9 * diameter, 0.02, 0.94 * diameter), _DARK, Material.DRAWN, (0.4, 0.0), (0, side))
            )
    return parts


def _lights(length: float, width: float, height: float, braking: bool) -> list[Part]:
    """Lamps and plates, a centimetre proud of the body so that both a painter and a ray meet them."""
    parts = []
    rear = _BRAKING if braking else _RED
    for side in (1, -1):
        y = side * 0.38 * width
        parts.append(
            Part((length / 2 - 0.01, y, height), (0.04, 0.3, 0.13), _LAMP, Material.RETROREFLECTOR, facing=(1, 0))
        )
        parts.append(
            Part(
                (-length / 2 + 0.01, y, height + 0.08),
                (0.04, 0.32, 0.15),
                rear,
                Material.RETROREFLECTOR,
                facing=(-1, 0),
            )
        )
    parts.append(
        Part((-length / 2 + 0.01, 0, height - 0.08), (0.04, 0.5, 0.12), _PLATE, Material.RETROREFLECTOR, facing=(-1, 0))
    )
    return parts
