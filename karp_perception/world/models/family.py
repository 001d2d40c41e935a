"""A family of models: a name, a label, how large its members are, and what draws one of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from karp_perception.core import ObjectClass
from karp_perception.world.models.model import Model

Size = tuple[float, float, float]


@dataclass(frozen=True)
class Sizes:
    """Length, width and height (m) of a family: normal, correlated, and cut off where it stops being plausible.

    Attributes:
        mean, spread: mean and standard deviation of each, m.
        correlation: of any two of the three.
        cut: standard deviations at which they end.
    """

    mean: Size
    spread: Size
    correlation: float = 0.5
    cut: float = 2.2

    def draw(self, rng: np.random.Generator, spread: float = 1.0) -> Size:
        """One size, m; with that many times the usual spread."""
        common, own = rng.normal(), rng.normal(size=3)
        z = np.clip(np.sqrt(self.correlation) * common + np.sqrt(1 - self.correlation) * own, -self.cut, self.cut)
        length, width, height = np.maximum(
            np.asarray(self.mean) + spread * z * self.spread, 0.3 * np.asarray(self.mean)
        )
        return float(length), float(width), float(height)


@dataclass(frozen=True)
class Family:
    """One kind of thing.

    Attributes:
        name: key in the catalogue.
        label: the class of its members, None for scenery.
        sizes: of its members where the place does not decide.
        make: draws a member from a generator and the size of its box, m.
    """

    name: str
    label: ObjectClass | None
    sizes: Sizes
    make: Callable[[np.random.Generator, Size], Model]
