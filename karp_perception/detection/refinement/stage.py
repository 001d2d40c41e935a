"""What comes behind the network: its boxes judged and fitted by their points, and then those that are sure enough."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from karp_perception.core import CLASS_NAMES, Boxes, LidarSweep
from karp_perception.detection.decoding import VEHICLE_CLASSES, best_rows
from karp_perception.detection.refinement.network import RefinerNetwork

if TYPE_CHECKING:
    from karp_perception.detection.detector import DetectorSettings

CANDIDATE_SCORE = 0.02
"""Boxes of which the network is as sure as this are looked at: their points show some of them to be there."""


@dataclass(frozen=True)
class RefinementStage:
    """A refiner, or none, and what is let through.

    Attributes:
        network: None leaves boxes as they are.
        score_threshold: least score. max_detections: most boxes.
    """

    network: RefinerNetwork | None
    score_threshold: float
    max_detections: int

    @classmethod
    def of(cls, settings: DetectorSettings) -> RefinementStage:
        """As the settings say. Raises ConfigurationError for a weight file that cannot be used."""
        return cls(RefinerNetwork.of(settings.refiner), settings.score_threshold, settings.max_detections)

    @property
    def least_score(self) -> float:
        """Of the boxes that it wants to see."""
        return min(CANDIDATE_SCORE, self.score_threshold) if self.network else self.score_threshold

    def __call__(self, boxes: Boxes, sweep: LidarSweep | None) -> tuple[Boxes, np.ndarray]:
        """Boxes of a frame, best first, and the rows of those that were given which they come from.

        Each vehicle is said once, and so is everything else where points told where it stands.
        """
        once = VEHICLE_CLASSES
        if self.network is not None and sweep is not None and len(sweep.points):
            boxes, once = self.network.refined(boxes, sweep), len(CLASS_NAMES)
        rows = best_rows(boxes, self.score_threshold, self.max_detections, once)
        return boxes[rows], rows
