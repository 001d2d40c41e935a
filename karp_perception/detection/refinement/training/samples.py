"""What a refiner learns from: boxes of the detector in frames of the world, and what they should have been."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from karp_perception.core import Boxes
from karp_perception.detection.detector import NO_REFINER, Detector, DetectorSettings
from karp_perception.detection.model.weights import find_model
from karp_perception.detection.refinement.network import FEWEST_POINTS
from karp_perception.detection.refinement.training.settings import RefinerTrainSettings
from karp_perception.detection.refinement.views import BoxViews, change_between
from karp_perception.detection.training.augmentation.augment import AugmentationSettings, augment
from karp_perception.detection.training.samples import WorldSamples
from karp_perception.detection.training.world_frames import WorldDrives
from karp_perception.sensing.labelled_frame import LabelledFrame
from karp_perception.sensing.point_index import PointIndex
from karp_perception.small_network.training.samples import KeptSamples, as_text

_MATCH_M = 2.0  # between the middles of a box and what it stands for, and half its width beyond
_MOST_TURN = 0.8  # rad between a box and its truth: beyond, the detector has taken a side for the front


@dataclass(frozen=True)
class Samples(KeptSamples):
    """N boxes: columns of `BoxViews`, and `change` (N, 7), which puts them right."""

    size: np.ndarray
    label: np.ndarray
    sensor: np.ndarray
    points: np.ndarray
    known: np.ndarray
    count: np.ndarray
    change: np.ndarray

    @property
    def views(self) -> BoxViews:
        """The boxes as they are seen."""
        return BoxViews(*self.columns()[:-1])


def made_from(settings: RefinerTrainSettings) -> str:
    """What samples depend on, as text."""
    about = as_text(settings, ("seed", "frames", "least_score"))
    return f"{about}, detector {find_model(settings.model).digest}"


def world_samples(
    settings: RefinerTrainSettings, progress: Callable[[int, int], None] = lambda done, of: None
) -> Samples:
    """The samples of all frames. Raises ConfigurationError for a detector that does not exist."""
    parts: list[Samples] = []
    detector = Detector(
        DetectorSettings(model=settings.model, score_threshold=settings.least_score, refiner=NO_REFINER)
    )
    for number, frame in enumerate(_frames(settings)):
        if frame.sensors.lidar is not None and len(frame.sensors.lidar.points):
            found = samples_of(frame, detector.detect(frame.sensors))
            parts.append(found.with_floats(np.float16))  # tens of thousands of them lie in memory
        progress(number + 1, settings.frames)
    return Samples.concatenate(parts)


def samples_of(frame: LabelledFrame, boxes: Boxes) -> Samples:
    """Of the boxes of a frame those that stand for a label, each label once."""
    assert frame.sensors.lidar is not None
    found, truth = matched(boxes, frame.labels)
    found, truth = boxes[found], frame.labels[truth]
    views = BoxViews.of(found, PointIndex(frame.sensors.lidar.points))
    change = change_between(found, truth)
    good = np.flatnonzero((views.count >= FEWEST_POINTS) & (abs(change[:, 6]) < _MOST_TURN))
    return Samples(*views.take(good).columns(), change[good])


def matched(boxes: Boxes, labels: Boxes) -> tuple[np.ndarray, np.ndarray]:
    """Rows of boxes, best first, and of the labels that they stand for: the nearest of their class that is left."""
    free = np.ones(len(labels), bool)
    pairs = []
    for row in np.argsort(-boxes.score, kind="stable"):
        away = np.hypot(*(labels.center[:, :2] - boxes.center[row, :2]).T)
        near = away < _MATCH_M + 0.5 * boxes.size[row, 1]
        possible = np.flatnonzero(free & near & (labels.label == boxes.label[row]))
        if len(possible):
            label = possible[np.argmin(away[possible])]
            free[label] = False
            pairs.append((row, label))
    found = np.array(pairs, int).reshape(-1, 2)
    return found[:, 0], found[:, 1]


def _frames(settings: RefinerTrainSettings) -> Iterator[LabelledFrame]:
    """Frames of the world, changed at random as for the detector, all their sensors left."""
    seed = int.from_bytes(hashlib.sha256(f"refiner {settings.seed}".encode()).digest()[:2], "little")
    samples = WorldSamples(WorldDrives(seed)).samples(0, 1, 0)
    for number in range(settings.frames):
        sample = next(samples)
        yield augment(sample.frame, np.random.default_rng([seed, number, 11]), AugmentationSettings(), sample.bank)
