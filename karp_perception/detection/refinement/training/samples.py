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
from karp_perception.detection.refinement.views import CHANGE, BoxViews, change_between
from karp_perception.detection.training.augmentation.augment import AugmentationSettings, augment
from karp_perception.detection.training.samples import WorldSamples
from karp_perception.detection.training.world_frames import WorldDrives
from karp_perception.sensing.labelled_frame import LabelledFrame
from karp_perception.sensing.point_index import PointIndex
from karp_perception.small_network.training.samples import KeptSamples, as_text

_MATCH_M = 2.0  # between the middles of a box and what it stands for, and half its width beyond
_MOST_TURN = 0.8  # rad between a box and its truth: beyond, the detector has taken a side for the front


@dataclass(frozen=True)
class Samples(BoxViews, KeptSamples):
    """N boxes as they are seen.

    Attributes:
        change: (N, 7) puts them right, where they stand for something.
        truth: (N,) class of what they stand for, -1 for nothing.
        enriched: (N,) whether they are from a world with more of what is seldom seen than streets have.
    """

    change: np.ndarray
    truth: np.ndarray
    enriched: np.ndarray

    @property
    def views(self) -> BoxViews:
        """The boxes alone."""
        return BoxViews(*(getattr(self, name) for name in BoxViews.names()))


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
    for number, (frame, enriched) in enumerate(_frames(settings)):
        if frame.sensors.lidar is not None and len(frame.sensors.lidar.points):
            found = samples_of(frame, detector.detect(frame.sensors), enriched)
            parts.append(found.with_floats(np.float16))  # tens of thousands of them lie in memory
        progress(number + 1, settings.frames)
    return Samples.concatenate(parts)


def samples_of(frame: LabelledFrame, boxes: Boxes, enriched: bool) -> Samples:
    """Of the boxes of a frame: what each stands for, each label once, or that it stands for nothing."""
    assert frame.sensors.lidar is not None
    views = BoxViews.of(boxes, PointIndex(frame.sensors.lidar.points))
    change, truth = np.zeros((len(boxes), len(CHANGE))), np.full(len(boxes), -1)
    found, label = matched(boxes, frame.labels)
    change[found] = change_between(boxes[found], frame.labels[label])
    truth[found] = frame.labels.label[label]
    good = np.flatnonzero((views.count >= FEWEST_POINTS) & (abs(change[:, 6]) < _MOST_TURN))
    return Samples(*views.take(good).columns(), change[good], truth[good], np.full(len(good), enriched))


def matched(boxes: Boxes, labels: Boxes) -> tuple[np.ndarray, np.ndarray]:
    """Rows of boxes, and of the labels that they stand for.

    The best box takes the nearest label of its class, and so on; what is left then takes what is left of other classes.
    """
    free = np.ones(len(labels), bool)
    pairs: dict[int, int] = {}
    order = np.argsort(-boxes.score, kind="stable").tolist()
    for own in (True, False):
        for row in order:
            if row in pairs:
                continue
            away = np.hypot(*(labels.center[:, :2] - boxes.center[row, :2]).T)
            near = away < _MATCH_M + 0.5 * boxes.size[row, 1]
            possible = np.flatnonzero(free & near & ((labels.label == boxes.label[row]) == own) & (labels.label >= 0))
            if len(possible):
                pairs[row] = int(possible[np.argmin(away[possible])])
                free[pairs[row]] = False
    return np.array(list(pairs), int), np.array(list(pairs.values()), int)


def _frames(settings: RefinerTrainSettings) -> Iterator[tuple[LabelledFrame, bool]]:
    """Frames of the world, changed at random as for the detector, all their sensors left, and whether their world is
    enriched: every other one is, and then objects are pasted into it as well."""
    seed = int.from_bytes(hashlib.sha256(f"refiner {settings.seed}".encode()).digest()[:2], "little")
    sources = [WorldSamples(WorldDrives(seed, enriched=enriched)).samples(0, 1, 0) for enriched in (False, True)]
    for number in range(settings.frames):
        enriched = bool(number % 2)
        sample, rng = next(sources[enriched]), np.random.default_rng([seed, number, 11])
        yield augment(sample.frame, rng, AugmentationSettings(), sample.bank if enriched else None), enriched
