"""Who drives: the whole pipeline on the sensors, or a planner on what is true."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any, Protocol

import numpy as np

from karp_perception.core import Boxes, EgoState, ObjectClass, Objects, Route, SensorFrame
from karp_perception.core.stopwatch import Stopwatch
from karp_perception.detection.detector import DetectorSettings
from karp_perception.drive.baselines import make_baseline
from karp_perception.drive.faults import SensorFaults
from karp_perception.evaluation.reaction import SEEN
from karp_perception.pipeline import Detecting, Pipeline, PipelineSettings, Planning, Result, make_detector
from karp_perception.planning.planner import Planner
from karp_perception.prediction.constant_velocity import constant_velocity_paths
from karp_perception.prediction.predictor import Predictor
from karp_perception.world.interface import Truth, World

PERCEPTIONS = ("truth", "model")
"""What `karp drive --perception` can be."""

_DEVIATION = 0.05  # m, rad and m/s that perfect perception claims for itself: filters divide by it


class Driver(Protocol):
    """Makes a Result, with its plan, of a moment in a world."""

    def step(self, world: World, t: float, route: Route, limit: float | None) -> tuple[SensorFrame, Result] | None:
        """The frame that was used and what came of it; None where no frame has arrived yet."""

    def close(self) -> None:
        """Give back threads."""


class ModelDriver:
    """The pipeline as it runs in a vehicle: sensors in, plan out.

    Args:
        settings: of the pipeline.
        faults: what fails on the way.
        planner: one of PLANNERS.
    """

    def __init__(self, settings: PipelineSettings, faults: SensorFaults, planner: str = "karp") -> None:
        self._faults = faults
        self._detector = _Silenced(_detector(settings.detector))
        baseline = None if planner == "karp" else make_baseline(planner, settings.vehicle)
        self._pipeline = Pipeline(settings, self._detector, baseline)

    def step(self, world: World, t: float, route: Route, limit: float | None) -> tuple[SensorFrame, Result] | None:
        """See Driver."""
        self._detector.silent = self._faults.silent(t)
        frame = self._faults.frame(t, world.sensors())
        return None if frame is None else (frame, self._pipeline.step(frame, route, limit, world.road))

    def close(self) -> None:
        """End the pipeline's thread."""
        self._pipeline.close()


@lru_cache(maxsize=1)
def _detector(settings: DetectorSettings) -> Detecting:
    """The network, which remembers nothing of a drive: loaded once for all drives of a process."""
    return make_detector(settings)


class _Silenced:
    """A detector that can be made to say nothing."""

    def __init__(self, detector: Detecting) -> None:
        self._detector, self.silent = detector, False

    @property
    def trained(self) -> bool:
        return self._detector.trained

    @property
    def info(self) -> dict[str, Any]:
        return self._detector.info

    def detect(self, frame: SensorFrame, stopwatch: Stopwatch | None = None) -> Boxes:
        return Boxes.empty() if self.silent else self._detector.detect(frame, stopwatch)

    def warm_up(self) -> None:
        self._detector.warm_up()


class TruthDriver:
    """A planner behind perfect perception: true boxes of what is in sight, with true velocities.

    What it does wrong is the planner's own fault, or the prediction's. Objects keep their ids; what is hidden from
    every sensor is not known.

    Args:
        settings: of the pipeline.
        faults: what fails on the way.
        planner: one of PLANNERS. Baselines get no predicted paths.
    """

    def __init__(self, settings: PipelineSettings, faults: SensorFaults, planner: str = "karp") -> None:
        own = planner == "karp"
        self._planner: Planning = (
            Planner(settings.planner, settings.vehicle) if own else make_baseline(planner, settings.vehicle)
        )
        self._prediction = settings.tracker.prediction
        self._predictor = Predictor(self._prediction, settings.vehicle) if own else None
        self._faults = faults
        self._first_ns: dict[int, int] = {}

    def step(self, world: World, t: float, route: Route, limit: float | None) -> tuple[SensorFrame, Result] | None:
        """See Driver. The frame carries no sensors."""
        stamp_ns, ego, truth = self._faults.truth(t, world.truth())
        objects = None if truth is None else self.objects(truth, stamp_ns)
        obstacles = None if objects is None else outlines(objects.boxes)
        if objects is not None and self._faults.silent(t):
            objects = Objects.empty()
        if objects is not None and ego is not None and self._predictor is not None:
            objects = self._predictor.step(stamp_ns, objects, ego, route, world.road)
        plan = self._planner.step(stamp_ns, objects, obstacles, ego, route, limit, world.road)
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
        n, settings = len(rows), self._prediction
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


def make_driver(perception: str, settings: PipelineSettings, faults: SensorFaults, planner: str = "karp") -> Driver:
    """The driver for one of PERCEPTIONS and one of PLANNERS."""
    return TruthDriver(settings, faults, planner) if perception == "truth" else ModelDriver(settings, faults, planner)
