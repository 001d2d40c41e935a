"""The refiner: one query a box looks at the lidar's points in and around it, and says what the box holds and how it is
to be changed.

A second stage on raw points (PointRCNN, Shi et al., 2019), with attention instead of pooling: the detector says where
to look, the refiner what is there, how surely, and where its faces are.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np
from scipy.special import expit

from karp_perception.core import CLASS_NAMES, Boxes, LidarSweep
from karp_perception.detection.refinement.config import RefinerConfig
from karp_perception.detection.refinement.views import BOX_WIDTH, CHANGE, POINT_WIDTH, BoxViews, with_change
from karp_perception.sensing.point_index import PointIndex
from karp_perception.small_network.network import SmallNetwork

MOST_CHANGE = np.array([1.5, 1.0, 0.5, 0.5, 0.3, 0.3, 0.6])
"""Of each of CHANGE, either way."""

FEWEST_POINTS = 3
"""With fewer points a box stays as it is."""


OTHER_LOG_ODDS = -5.0
"""That a box is of another class than the detector says, before its points were looked at."""


class RefinerNetwork(SmallNetwork[RefinerConfig]):
    """Weights and how to apply them, see SmallNetwork; in torch it is `training.net.RefinerNet`."""

    configuration = RefinerConfig
    inputs: ClassVar = {"box": BOX_WIDTH, "points": POINT_WIDTH}

    @classmethod
    def outputs(cls, config: RefinerConfig) -> dict[str, int]:
        """The change of a box, and what speaks for each class."""
        return {"change": len(CHANGE), "classes": len(CLASS_NAMES)}

    def refined(self, boxes: Boxes, sweep: LidarSweep) -> Boxes:
        """The boxes, in the same order, judged and fitted by a sweep; both in `base_link`.

        Velocities and variances stay, and so do boxes with fewer than FEWEST_POINTS points.
        """
        if not len(boxes):
            return boxes
        views = BoxViews.of(boxes, PointIndex(sweep.points))
        rows = np.flatnonzero(views.count >= FEWEST_POINTS)
        change = np.zeros((len(boxes), len(CHANGE)))
        label, score = boxes.label.copy(), boxes.score.copy()
        if len(rows):
            change[rows], log_odds = self.run(views.take(rows))
            label[rows], score[rows] = log_odds.argmax(axis=1), expit(log_odds.max(axis=1))
        return replace(with_change(boxes, change), label=label, score=score)

    @classmethod
    def of(cls, name: str) -> RefinerNetwork | None:
        """See `open`."""
        return cls.open(name, "boxes are not fitted to the lidar's points, nor judged by them")

    def run(self, views: BoxViews) -> tuple[np.ndarray, np.ndarray]:
        """(N, 7) changes of boxes, see `views.CHANGE`, and (N, 10) log odds that they hold something of each class."""
        layers = self._layers
        box, points = views.tables()
        answers = self._answers(layers.embedded("box", box), {"points": (points, views.known)})[:, 0]
        change = MOST_CHANGE * np.tanh(layers.linear("change", answers)).astype(float)
        return change, first_log_odds(views) + layers.linear("classes", answers).astype(float)


def first_log_odds(views: BoxViews) -> np.ndarray:
    """(N, 10) of each class, by what the detector says alone."""
    own = views.label[:, None] == np.arange(len(CLASS_NAMES))
    return np.where(own, views.log_odds[:, None], OTHER_LOG_ODDS)
