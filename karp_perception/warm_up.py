"""Everything once before the first real frame: imports, compiled code and first allocations take seconds."""

from __future__ import annotations

import logging
import time
from dataclasses import replace

import numpy as np

from karp_perception.core import LidarSweep, SensorFrame
from karp_perception.detection.detector import NO_MODEL
from karp_perception.pipeline import Pipeline, PipelineSettings

log = logging.getLogger(__name__)

_PERIOD_NS = 100_000_000


def warm_up_pipeline(settings: PipelineSettings) -> None:
    """Put a made-up sweep through parts of their own, so that nothing of it is remembered; without the network."""
    start = time.perf_counter()
    random = np.random.default_rng(0)
    ground = random.uniform((-30, -10, -0.02, 0), (30, 10, 0.02, 1), (20000, 4))
    car = random.uniform((8, -1, 0.3, 0), (8.2, 1, 1.5, 1), (2000, 4))
    points = np.concatenate([ground, car]).astype(np.float32)
    without_network = replace(settings, detector=replace(settings.detector, model=NO_MODEL))
    with Pipeline(without_network) as pipeline:
        for i in range(2):
            pipeline.step(SensorFrame(i * _PERIOD_NS, {}, LidarSweep(points, i * _PERIOD_NS)))
    log.info("warm after %.1f s", time.perf_counter() - start)
