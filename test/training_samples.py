"""Made-up frames for tests of the training: boxes of points on a plane, seen by a camera."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from small_model import camera

from karp_perception.core import Boxes, LidarSweep, SensorFrame
from karp_perception.detection.training.augmentation.paste_bank import PasteBank
from karp_perception.detection.training.samples import Sample
from karp_perception.sensing.labelled_frame import LabelledFrame


def made_up_frame(seed: int) -> LabelledFrame:
    """A few cars and pedestrians on flat ground, a sweep that shows them, and a camera with noise."""
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 5))
    center = np.column_stack([rng.uniform(3, 18, count), rng.uniform(-10, 10, count), np.full(count, 0.8)])
    label = rng.choice([0, 5], count)
    size = np.where(label[:, None] == 0, (4.2, 1.8, 1.6), (0.6, 0.6, 1.7))
    boxes = Boxes(center, size, rng.uniform(-3, 3, count), rng.normal(size=(count, 2)), label, np.ones(count))
    on = boxes.corners().reshape(-1, 3)
    inside = np.concatenate([center[i] + 0.3 * size[i] * rng.uniform(-1, 1, (60, 3)) for i in range(count)])
    ground = np.column_stack([rng.uniform(-6, 19, 800), rng.uniform(-12, 12, 800), np.zeros(800)])
    points = np.concatenate([on, inside, ground])
    points = np.column_stack([points, rng.random(len(points))]).astype(np.float32)
    sensors = SensorFrame(seed, {"front": camera(rng, 0.0, (48, 96))}, LidarSweep(points, seed))
    held = boxes.contains(points.astype(np.float64)).sum(axis=1)
    return LabelledFrame(sensors, boxes, held, np.zeros((0, 3)), sector=False, visibility=np.ones(count))


@dataclass(frozen=True)
class MadeUpSamples:
    """Samples that cost nothing: sample n of a reader is a frame of that number."""

    def samples(self, reader: int, readers: int, first: int) -> Iterator[Sample]:
        number = reader + readers * first
        while True:
            yield Sample(made_up_frame(number), PasteBank())
            number += readers
