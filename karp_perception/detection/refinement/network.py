"""The refiner: one query a box looks at the lidar's points in and around it, and says how the box is to be changed.

A second stage on raw points (PointRCNN, Shi et al., 2019), with attention instead of pooling. It changes no score and
drops no box: what is there the detector says, the refiner where its faces are.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from karp_perception.core import Boxes, LidarSweep
from karp_perception.detection.refinement.config import RefinerConfig
from karp_perception.detection.refinement.views import BOX_WIDTH, CHANGE, POINT_WIDTH, BoxViews, with_change
from karp_perception.sensing.point_index import PointIndex
from karp_perception.small_network.network import SmallNetwork

MOST_CHANGE = np.array([1.5, 1.0, 0.5, 0.5, 0.3, 0.3, 0.6])
"""Of each of CHANGE, either way."""

FEWEST_POINTS = 3
"""With fewer points a box stays as it is."""


def fitted(refiner: RefinerNetwork | None, boxes: Boxes, sweep: LidarSweep | None) -> Boxes:
    """`RefinerNetwork.refined`; the boxes as they are where there is no refiner, or nothing to fit them to."""
    if refiner is None or sweep is None or not len(sweep.points):
        return boxes
    return refiner.refined(boxes, sweep)


class RefinerNetwork(SmallNetwork[RefinerConfig]):
    """Weights and how to apply them, see SmallNetwork; in torch it is `training.net.RefinerNet`."""

    configuration = RefinerConfig
    inputs: ClassVar = {"box": BOX_WIDTH, "points": POINT_WIDTH}

    @classmethod
    def outputs(cls, config: RefinerConfig) -> dict[str, int]:
        """The change of a box."""
        return {"change": len(CHANGE)}

    def refined(self, boxes: Boxes, sweep: LidarSweep) -> Boxes:
        """The boxes, in the same order, fitted to a sweep; both in `base_link`.

        Scores, classes, velocities and variances stay, and so do boxes with fewer than FEWEST_POINTS points.
        """
        if not len(boxes):
            return boxes
        views = BoxViews.of(boxes, PointIndex(sweep.points))
        rows = np.flatnonzero(views.count >= FEWEST_POINTS)
        change = np.zeros((len(boxes), len(CHANGE)))
        if len(rows):
            change[rows] = self.run(views.take(rows))
        return with_change(boxes, change)

    @classmethod
    def of(cls, name: str) -> RefinerNetwork | None:
        """See `open`."""
        return cls.open(name, "boxes are not fitted to the lidar's points")

    def run(self, views: BoxViews) -> np.ndarray:
        """(N, 7) changes of boxes, see `views.CHANGE`."""
        layers = self._layers
        box, points = views.tables()
        answers = self._answers(layers.embedded("box", box), {"points": (points, views.known)})[:, 0]
        return MOST_CHANGE * np.tanh(layers.linear("change", answers)).astype(float)
