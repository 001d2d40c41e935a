"""What surfaces are made of: how much of a laser comes back from each, and what a camera sees."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np


class Material(IntEnum):
    """Index into `MATERIALS`."""

    PAINT = 0
    GLASS = 1
    RUBBER = 2
    PLASTIC = 3
    METAL = 4
    HEAD_LAMP = 5
    TAIL_LAMP = 6
    INDICATOR = 7
    PLATE = 8
    SEAT = 9
    SKIN = 10
    CLOTH = 11
    HAIR = 12
    BARK = 13
    LEAVES = 14
    CONCRETE = 15
    BRICK = 16
    PLASTER = 17
    WINDOW = 18
    STONE = 19
    WOOD = 20
    MESH = 21
    SIGN = 22
    REFLECTIVE = 23
    ORANGE = 24
    TARPAULIN = 25
    SIGNAL_RED = 26
    SIGNAL_YELLOW = 27
    SIGNAL_GREEN = 28
    STEAM = 29


@dataclass(frozen=True)
class MaterialProperties:
    """How a material looks.

    Attributes:
        reflectivity: share of a laser's light that comes back at normal incidence, on the scale of sensors that
            calibrate theirs (0..1; 1 for what is made to reflect).
        passes: share of laser beams that go through.
        specular: share of light that mirrors away instead of coming back at a slant; for cameras the gloss.
        color: RGB, what it has where no paint is given.
        texture: strength of its own pattern in an image, 0 (smooth) to 1.
    """

    reflectivity: float
    passes: float
    specular: float
    color: tuple[int, int, int]
    texture: float


MATERIALS: dict[Material, MaterialProperties] = {
    Material.PAINT: MaterialProperties(0.30, 0.0, 0.5, (128, 128, 132), 0.02),
    Material.GLASS: MaterialProperties(0.02, 0.5, 0.9, (34, 42, 48), 0.0),
    Material.RUBBER: MaterialProperties(0.06, 0.0, 0.1, (26, 26, 28), 0.1),
    Material.PLASTIC: MaterialProperties(0.12, 0.0, 0.3, (44, 45, 48), 0.05),
    Material.METAL: MaterialProperties(0.30, 0.0, 0.6, (150, 152, 156), 0.1),
    Material.HEAD_LAMP: MaterialProperties(0.35, 0.3, 0.6, (214, 218, 222), 0.0),
    Material.TAIL_LAMP: MaterialProperties(0.75, 0.0, 0.3, (140, 16, 18), 0.0),
    Material.INDICATOR: MaterialProperties(0.60, 0.0, 0.3, (196, 110, 20), 0.0),
    Material.PLATE: MaterialProperties(0.95, 0.0, 0.1, (226, 226, 220), 0.1),
    Material.SEAT: MaterialProperties(0.15, 0.0, 0.0, (46, 44, 44), 0.1),
    Material.SKIN: MaterialProperties(0.40, 0.0, 0.0, (196, 154, 126), 0.05),
    Material.CLOTH: MaterialProperties(0.34, 0.0, 0.0, (92, 92, 104), 0.15),
    Material.HAIR: MaterialProperties(0.15, 0.0, 0.0, (54, 42, 34), 0.2),
    Material.BARK: MaterialProperties(0.16, 0.0, 0.0, (86, 72, 58), 0.5),
    Material.LEAVES: MaterialProperties(0.22, 0.0, 0.0, (70, 96, 44), 0.8),
    Material.CONCRETE: MaterialProperties(0.20, 0.0, 0.0, (158, 154, 146), 0.3),
    Material.BRICK: MaterialProperties(0.20, 0.0, 0.0, (142, 84, 66), 0.6),
    Material.PLASTER: MaterialProperties(0.28, 0.0, 0.0, (206, 194, 172), 0.2),
    Material.WINDOW: MaterialProperties(0.04, 0.4, 0.9, (58, 70, 82), 0.1),
    Material.STONE: MaterialProperties(0.20, 0.0, 0.0, (138, 132, 124), 0.5),
    Material.WOOD: MaterialProperties(0.20, 0.0, 0.0, (134, 104, 72), 0.4),
    Material.MESH: MaterialProperties(0.2, 0.72, 0.2, (120, 124, 122), 0.5),
    Material.SIGN: MaterialProperties(0.95, 0.0, 0.1, (210, 212, 214), 0.2),
    Material.REFLECTIVE: MaterialProperties(0.95, 0.0, 0.1, (236, 236, 234), 0.0),
    Material.ORANGE: MaterialProperties(0.35, 0.0, 0.2, (228, 92, 28), 0.05),
    Material.TARPAULIN: MaterialProperties(0.35, 0.0, 0.1, (166, 170, 176), 0.15),
    Material.SIGNAL_RED: MaterialProperties(0.20, 0.0, 0.3, (60, 14, 12), 0.0),
    Material.SIGNAL_YELLOW: MaterialProperties(0.20, 0.0, 0.3, (60, 48, 10), 0.0),
    Material.SIGNAL_GREEN: MaterialProperties(0.20, 0.0, 0.3, (10, 50, 26), 0.0),
    Material.STEAM: MaterialProperties(0.12, 0.0, 0.0, (206, 208, 210), 0.1),
}

REFLECTIVITY = np.array([MATERIALS[m].reflectivity for m in Material])
PASSES = np.array([MATERIALS[m].passes for m in Material])
SPECULAR = np.array([MATERIALS[m].specular for m in Material])
COLOR = np.array([MATERIALS[m].color for m in Material], np.float64)
TEXTURE = np.array([MATERIALS[m].texture for m in Material])
