"""How large things usually are: means and spreads of the ten classes, rounded from public statistics of nuScenes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from karp_perception.core.classes import TWO_WHEELERS, VEHICLES, ObjectClass


@dataclass(frozen=True)
class SizePrior:
    """Of one class.

    Attributes:
        size: (3,) usual length, width, height, m.
        spread: (3,) standard deviation of their logarithms.
        link: gap in its points, m, over which they still belong together.
        directed: whether its direction shows in its shape; of a pedestrian it does not.
        together: correlation of the logarithms of length and width: narrow cars are short ones.
    """

    size: tuple[float, float, float]
    spread: tuple[float, float, float]
    link: float
    directed: bool = True
    together: float = 0.0


_PRIORS: dict[int, SizePrior] = {
    ObjectClass.CAR: SizePrior((4.3, 1.8, 1.6), (0.13, 0.09, 0.12), 0.7, together=0.6),
    ObjectClass.TRUCK: SizePrior((6.9, 2.5, 2.9), (0.3, 0.12, 0.22), 0.9),
    ObjectClass.BUS: SizePrior((11.2, 2.9, 3.4), (0.2, 0.07, 0.1), 0.9),
    ObjectClass.TRAILER: SizePrior((12.2, 2.9, 3.9), (0.3, 0.1, 0.15), 0.9),
    ObjectClass.CONSTRUCTION_VEHICLE: SizePrior((6.4, 2.8, 3.2), (0.3, 0.2, 0.25), 0.9),
    ObjectClass.PEDESTRIAN: SizePrior((0.75, 0.68, 1.76), (0.25, 0.2, 0.09), 0.35, directed=False),
    ObjectClass.MOTORCYCLE: SizePrior((2.1, 0.8, 1.5), (0.12, 0.2, 0.15), 0.5),
    ObjectClass.BICYCLE: SizePrior((1.75, 0.62, 1.5), (0.12, 0.2, 0.2), 0.5),
    ObjectClass.TRAFFIC_CONE: SizePrior((0.42, 0.41, 1.0), (0.25, 0.25, 0.25), 0.3, directed=False),
    ObjectClass.BARRIER: SizePrior((0.5, 2.5, 1.0), (0.4, 0.3, 0.15), 0.4),
}


def size_prior(label: int) -> SizePrior:
    """Of one of the ten classes."""
    return _PRIORS[label]


def kind(labels: np.ndarray) -> np.ndarray:
    """(N,) the same number for classes that a detector takes for each other: vehicles, and two-wheelers."""
    vehicles = np.isin(labels, list(VEHICLES))
    return np.where(vehicles, 100, np.where(np.isin(labels, list(TWO_WHEELERS)), 101, labels))
