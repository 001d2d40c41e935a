"""Colours of every drawing, RGB 0..255: one for each class and each decision, so that pictures need no legend."""

from __future__ import annotations

from karp_perception.core import DecisionKind, ObjectClass

Color = tuple[int, int, int]

BACKGROUND: Color = (17, 20, 26)
PANEL: Color = (24, 28, 36)
GRID: Color = (46, 53, 66)
TEXT: Color = (232, 236, 242)
MUTED: Color = (138, 148, 164)
FAINT: Color = (92, 101, 117)
EGO: Color = (232, 236, 242)
OBSTACLE: Color = (104, 114, 132)
TARGET: Color = (255, 72, 66)
RULED_OUT: Color = (128, 48, 50)
POOR: Color = (84, 88, 128)
GOOD: Color = (166, 255, 214)

CLASS_COLORS: dict[int, Color] = {
    ObjectClass.UNKNOWN: (176, 184, 196),
    ObjectClass.CAR: (86, 180, 255),
    ObjectClass.TRUCK: (160, 140, 255),
    ObjectClass.BUS: (196, 130, 240),
    ObjectClass.TRAILER: (140, 152, 236),
    ObjectClass.CONSTRUCTION_VEHICLE: (226, 176, 92),
    ObjectClass.PEDESTRIAN: (255, 196, 84),
    ObjectClass.MOTORCYCLE: (82, 222, 196),
    ObjectClass.BICYCLE: (120, 226, 140),
    ObjectClass.TRAFFIC_CONE: (255, 150, 90),
    ObjectClass.BARRIER: (190, 160, 130),
}

DECISION_COLORS: dict[DecisionKind, Color] = {
    DecisionKind.CRUISE: (46, 182, 106),
    DecisionKind.FOLLOW: (232, 164, 40),
    DecisionKind.SLOW: (232, 164, 40),
    DecisionKind.YIELD: (232, 164, 40),
    DecisionKind.STOP: (222, 58, 54),
    DecisionKind.EMERGENCY_STOP: (255, 32, 40),
    DecisionKind.NO_INPUT: (112, 120, 134),
}


def readable_on(color: Color) -> Color:
    """Dark or white, whichever reads better on a colour (its luminance, ITU-R BT.601)."""
    return BACKGROUND if 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2] > 145 else (255, 255, 255)


def class_color(label: int) -> Color:
    """Colour of a class; that of UNKNOWN for anything else."""
    return CLASS_COLORS.get(int(label), CLASS_COLORS[ObjectClass.UNKNOWN])


def score_color(score: float) -> Color:
    """Colour of a proposal of a score in 0..1: brighter and greener where better, dark red where ruled out (0)."""
    return RULED_OUT if score <= 0.0 else mixed(POOR, GOOD, score**2)  # most that is not ruled out scores over 0.5


def mixed(a: Color, b: Color, share: float) -> Color:
    """`a` with `share` (0..1) of `b`."""
    return tuple(round(x + (y - x) * share) for x, y in zip(a, b, strict=True))
