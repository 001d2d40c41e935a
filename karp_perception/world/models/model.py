"""A model: one drawn example of a family of things, with its shape, its label and its colours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from karp_perception.core import ObjectClass
from karp_perception.world.geometry.shape import Shape

RGB = tuple[float, float, float]


@dataclass(frozen=True)
class Model:
    """One car, one tree.

    Attributes:
        family: the family's name.
        label: its class; None for scenery, which carries no label.
        size: length, width, height (m) of its box, whose middle lies above the origin and whose bottom is at z = 0.
        shape: its primitives, standing still.
        first, second: RGB 0..255 of its tinted primitives.
        gait: shape at a phase (rad, 2 pi = two steps or a turn of the pedals) of what moves its limbs, None for
            rigid things. A few phases are built and kept.
        wheelbase: m between its axles, None where it has none. rear_axle: x of the rear one, m.
        hitch: x (m, negative) of the coupling that pulls a trailer, None for none. king_pin: x (m) of the coupling
            of a trailer itself.
    """

    family: str
    label: ObjectClass | None
    size: tuple[float, float, float]
    shape: Shape
    first: RGB = (128.0, 128.0, 132.0)
    second: RGB = (60.0, 60.0, 70.0)
    gait: Callable[[float], Shape] | None = None
    wheelbase: float | None = None
    rear_axle: float = 0.0
    hitch: float | None = None
    king_pin: float | None = None

    def shape_at(self, phase: float) -> Shape:
        """The shape at a phase of its gait, rad."""
        return self.shape if self.gait is None else self.gait(phase)
