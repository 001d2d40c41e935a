"""What a refiner learns from: boxes of the detector in frames of the world, and what they should have been."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial

import numpy as np

from karp_perception.core import Boxes, ObjectClass
from karp_perception.core.classes import TWO_WHEELERS
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
from karp_perception.world.workers import job_results

_PARTS = 4  # that the frames are made in, whatever the number of processes
_MATCH_M = 2.0  # between the middles of a box and what it stands for, and half its width beyond
_NARROW = [ObjectClass.PEDESTRIAN, *TWO_WHEELERS]
_NARROW_MATCH_M = 0.8  # of those, who stand close: as far as the network is wrong about them
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
    """The samples of all frames, made by as many processes as there are cores.

    Raises ConfigurationError for a detector that does not exist, WorkerFailed where a process ends early.
    """
    find_model(settings.model)  # what cannot be is told here, not by a process
    parts: dict[int, list[Samples]] = {part: [] for part in range(_PARTS)}
    done = 0
    with closing(job_results(partial(_Maker, settings), list(parts), os.cpu_count() or 1)) as results:
        for part, samples in results:
            done += 1
            progress(done, settings.frames)
            if samples is not None:
                parts[part].append(samples)
    return Samples.concatenate([samples for part in parts.values() for samples in part])


class _Maker:
    """Makes the samples of a part of the frames in a process of its own, frame by frame; None where it has no sweep."""

    def __init__(self, settings: RefinerTrainSettings) -> None:
        self._settings = settings
        least = settings.least_score
        self._detector = Detector(
            DetectorSettings(model=settings.model, score_threshold=least, refiner=NO_REFINER, threads=1)
        )

    def __call__(self, part: int) -> Generator[Samples | None, None, None]:
        for frame, enriched in _frames(self._settings, part):
            if frame.sensors.lidar is None or not len(frame.sensors.lidar.points):
                yield None
                continue
            found = samples_of(frame, self._detector.detect(frame.sensors), enriched)
            yield found.with_floats(np.float16)  # tens of thousands of them lie in memory


def samples_of(frame: LabelledFrame, boxes: Boxes, enriched: bool) -> Samples:
    """Of the boxes of a frame: what each stands for, or that it stands for nothing, see `matched`."""
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
    Of people and two-wheelers every box near one stands for it: which of several queries is the right one cannot be
    seen in a box's points, but where somebody stands can, and the best of the boxes that come to one place is kept
    (`decoding.said_once`).
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
    narrow = np.isin(labels.label, _NARROW)
    for row in np.flatnonzero(np.isin(boxes.label, _NARROW)).tolist():
        away = np.where(narrow, np.hypot(*(labels.center[:, :2] - boxes.center[row, :2]).T), np.inf)
        if away.min(initial=np.inf) < _NARROW_MATCH_M:
            pairs[row] = int(np.argmin(away))
        elif row in pairs and narrow[pairs[row]]:
            del pairs[row]
    return np.array(list(pairs), int), np.array(list(pairs.values()), int)


def _frames(settings: RefinerTrainSettings, part: int) -> Iterator[tuple[LabelledFrame, bool]]:
    """Frames of the world, changed at random as for the detector, all their sensors left, and whether their world is
    enriched: every other one is, and then objects are pasted into it as well."""
    seed = int.from_bytes(hashlib.sha256(f"refiner {settings.seed}".encode()).digest()[:2], "little")
    sources = [
        WorldSamples(WorldDrives(seed, enriched=enriched)).samples(part, _PARTS, 0) for enriched in (False, True)
    ]
    for number in range(part, settings.frames, _PARTS):
        enriched = bool(number // _PARTS % 2)
        sample, rng = next(sources[enriched]), np.random.default_rng([seed, number, 11])
        yield augment(sample.frame, rng, AugmentationSettings(), sample.bank if enriched else None), enriched
