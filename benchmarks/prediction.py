"""How long paths take: straight on, by manoeuvres, and the whole predictor with its network.

    OMP_NUM_THREADS=1 .venv/bin/python benchmarks/prediction.py

Random cars, people and two-wheelers that all move, a route; the best of several rounds, in ms of processor time.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from karp_perception.core import Boxes, EgoState, Objects, Route
from karp_perception.core.memory import keep_freed_memory
from karp_perception.prediction.constant_velocity import constant_velocity_paths
from karp_perception.prediction.kinematic import kinematic_paths
from karp_perception.prediction.predictor import Predictor
from karp_perception.prediction.settings import PredictionSettings
from karp_perception.prediction.state import MotionState

COUNTS = (20, 50, 200)
ROUNDS, CALLS = 5, 20
STEP_NS = 100_000_000


def best_ms(call: Callable[[], object]) -> float:
    """Processor time of a call, ms."""
    call()
    rounds = []
    for _ in range(ROUNDS):
        start = time.process_time()
        for _ in range(CALLS):
            call()
        rounds.append((time.process_time() - start) / CALLS)
    return 1e3 * min(rounds)


def moving(count: int) -> Objects:
    """So many objects within 60 m."""
    rng = np.random.default_rng(0)
    velocity = rng.normal(size=(count, 2)) * 5
    boxes = Boxes(
        np.column_stack([rng.uniform(-60, 60, (count, 2)), np.zeros(count)]), np.tile([4.5, 1.9, 1.6], (count, 1)),
        np.arctan2(velocity[:, 1], velocity[:, 0]), velocity, rng.integers(0, 8, count), np.ones(count),
    )  # fmt: skip
    paths, probability = constant_velocity_paths(boxes.center[:, :2], boxes.yaw, velocity, PredictionSettings())
    zeros = np.zeros(count)
    return Objects(boxes, 1 + np.arange(count), np.tile(np.eye(6), (count, 1, 1)), zeros, zeros, paths, probability)


def main() -> None:
    """Print a line for each number of objects."""
    keep_freed_memory()
    settings, ego = PredictionSettings(most=max(COUNTS)), EgoState(0, np.eye(4), np.array([10.0, 0.0]))
    route = Route(np.column_stack([np.arange(-50.0, 200.0), np.zeros(250)]))
    for count in COUNTS:
        objects = moving(count)
        boxes = objects.boxes
        straight = best_ms(
            lambda b=boxes: constant_velocity_paths(b.center[:, :2], b.yaw, b.velocity, settings)  # type: ignore[misc]
        )
        manoeuvres = best_ms(lambda b=boxes: kinematic_paths(MotionState.of(b), settings))  # type: ignore[misc]
        predictor, stamps = Predictor(replace(settings)), iter(range(0, 10**18, STEP_NS))
        whole = best_ms(lambda p=predictor, o=objects, s=stamps: p.step(next(s), o, ego, route))  # type: ignore[misc]
        print(f"{count} objects: straight {straight:.3f}, manoeuvres {manoeuvres:.3f}, predictor {whole:.2f} ms")


if __name__ == "__main__":
    main()
