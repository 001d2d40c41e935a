"""Who drives: the whole pipeline on the sensors, or the planner on what is true."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

import numpy as np

from karp_perception.core import Boxes, EgoState, ObjectClass, Objects, Route, SensorFrame
from karp_perception.drive.faults import SensorFaults
from karp_perception.pipeline import Pipeline, PipelineSettings, Result
from karp_perception.planning.planner import Planner
from karp_perception.prediction.constant_velocity import constant_velocity_paths
from karp_perception.prediction.predictor import Predictor
from karp_perception.world.interface import Truth, World

PERCEPTIONS = ("truth", "model")
"""What `karp drive --perception` can be."""

SEEN = 0.02
"""Share of an object that must be in sight for perfect perception to know of it."""

_DEVIATION = 0.05  # m, rad and m/s that perfect perception claims for itself: filters divide by it


class Driver(Protocol):
    """Makes a Result, with its plan, of a moment in a world."""

    def step(self, world: World, t: float, route: Route, limit: float | None) -> tuple[SensorFrame, Result] | None:
        """The frame that was used and what came of it; None where no frame has arrived yet."""

    def close(self) -> None:
        """Give back threads."""


class ModelDriver:
    """The pipeline as it runs in a vehicle: sensors in, plan out."""

    def __init__(self, settings: PipelineSettings, faults: SensorFaults) -> None:
        self._pipeline, self._faults = Pipeline(settings), faults

    def step(self, world: World, t: float, route: Route, limit: float | None) -> tuple[SensorFrame, Result] | None:
        """See Driver."""
        frame = self._faults.frame(t, world.sensors())
        return None if frame is None else (frame, self._pipeline.step(frame, route, limit))

    def close(self) -> None:
        """End the pipeline's thread."""
        self._pipeline.close()


class TruthDriver:
    """The planner behind perfect perception: true boxes of what is in sight, with true velocities.

    What it does wrong is the planner's own fault, or the prediction's. Objects keep their ids; what is hidden from
    every sensor is not known.
    """

    def __init__(self, settings: PipelineSettings, faults: SensorFaults) -> None:
        self._planner = Planner(settings.planner, settings.vehicle)
        self._predictor = Predictor(settings.tracker.prediction, settings.vehicle)
        self._faults = faults
        self._first_ns: dict[int, int] = {}

    def step(self, world: World, t: float, route: Route, limit: float | None) -> tuple[SensorFrame, Result] | None:
        """See Driver. The frame carries no sensors."""
        stamp_ns, ego, truth = self._faults.truth(t, world.truth())
        objects = None if truth is None else self.objects(truth, stamp_ns)
        if objects is not None and ego is not None:
            objects = self._predictor.step(stamp_ns, objects, ego, route)
        obstacles = None if objects is None else outlines(objects.boxes)
        plan = self._planner.step(stamp_ns, objects, obstacles, ego, route, limit)
        known = Objects.empty() if objects is None else objects
        shown = EgoState.standing(stamp_ns) if ego is None else ego
        none = Boxes.empty() if obstacles is None else obstacles
        result = Result(stamp_ns, shown, known.boxes, none, known, plan, {})
        return SensorFrame(stamp_ns, ego=ego), result

    def objects(self, truth: Truth, stamp_ns: int) -> Objects:
        """What is in sight as tracked objects."""
        rows = np.flatnonzero(truth.visibility > SEEN)
        boxes, ids = truth.boxes[rows], truth.object_id[rows]
        for number in ids.tolist():
            self._first_ns.setdefault(number, stamp_ns)
        n, settings = len(rows), self._predictor.settings
        paths, probability = constant_velocity_paths(boxes.center[:, :2], boxes.yaw, boxes.velocity, settings)
        return Objects(
            boxes,
            ids,
            np.tile(np.eye(6) * _DEVIATION**2, (n, 1, 1)),
            np.array([max(0, stamp_ns - self._first_ns[i]) * 1e-9 for i in ids.tolist()]),
            np.zeros(n),
            paths,
            probability,
            settings.step,
            np.arange(n),
        )

    def close(self) -> None:
        """Nothing is held."""


def outlines(boxes: Boxes) -> Boxes:
    """What a perfect geometric channel would say of them: where they are, without class and motion."""
    n = len(boxes)
    return replace(boxes, label=np.full(n, ObjectClass.UNKNOWN), velocity=np.full((n, 2), np.nan))


def make_driver(perception: str, settings: PipelineSettings, faults: SensorFaults) -> Driver:
    """The driver for one of PERCEPTIONS."""
    return TruthDriver(settings, faults) if perception == "truth" else ModelDriver(settings, faults)
