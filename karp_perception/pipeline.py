"""The way of one sensor frame through the package: detection, tracking, planning."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from karp_perception.core import (
    Boxes,
    EgoState,
    MotionSource,
    Objects,
    Plan,
    Road,
    Route,
    SensorFrame,
    Settings,
    Vehicle,
    nested,
)
from karp_perception.core.stopwatch import Stopwatch
from karp_perception.detection.detector import Detector, DetectorSettings
from karp_perception.detection.lifted_detector import LiftedDetector, is_image_model
from karp_perception.detection.lifting.lifter import LiftSettings
from karp_perception.detection.obstacles import ObstacleDetector, ObstacleSettings
from karp_perception.detection.runtime.backend import BackendOptions
from karp_perception.detection.sweep_motion import SweepMotion, SweepMotionSettings
from karp_perception.planning.control import ControlSettings
from karp_perception.planning.planner import Planner, PlannerSettings
from karp_perception.prediction.predictor import Predictor
from karp_perception.sensing.assembler import SensingSettings
from karp_perception.sensing.ego_motion import LidarOdometry, LidarOdometrySettings
from karp_perception.tracking.tracker import Tracker, TrackerSettings

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PipelineSettings(Settings):
    """Settings of every part, as they stand in a parameter file."""

    vehicle: Vehicle = nested(Vehicle)
    sensing: SensingSettings = nested(SensingSettings)
    odometry: LidarOdometrySettings = nested(LidarOdometrySettings)
    detector: DetectorSettings = nested(DetectorSettings)
    lifting: LiftSettings = nested(LiftSettings)
    obstacles: ObstacleSettings = nested(ObstacleSettings)
    sweep_motion: SweepMotionSettings = nested(SweepMotionSettings)
    tracker: TrackerSettings = nested(TrackerSettings)
    planner: PlannerSettings = nested(PlannerSettings)
    control: ControlSettings = nested(ControlSettings)

    def for_cameras(self, count: int) -> PipelineSettings:
        """With as many camera slots in the network as a rig has cameras, unless a number was set."""
        if self.detector.cameras:
            return self
        return replace(self, detector=replace(self.detector, cameras=max(1, min(count, 16))))


@dataclass(frozen=True)
class Perception:
    """What is known of one sensor frame before tracking, in `base_link`.

    Attributes:
        ego: the motion that is used; its `source` says where it came from.
        detections: of the network, best first, with the speeds that the sweep before shows; none while it is
            untrained.
        obstacles: of the geometric channel.
    """

    ego: EgoState
    detections: Boxes
    obstacles: Boxes


@dataclass(frozen=True)
class Result:
    """Everything the pipeline says about one sensor frame, in `base_link`.

    Attributes:
        stamp_ns: the frame's stamp.
        ego, detections, obstacles: see Perception.
        objects: tracked.
        plan: trajectory and decision.
        latency_ms: wall-clock time by stage; some stages run side by side, `total` is from frame to plan.
    """

    stamp_ns: int
    ego: EgoState
    detections: Boxes
    obstacles: Boxes
    objects: Objects
    plan: Plan
    latency_ms: Mapping[str, float]


class Planning(Protocol):
    """What makes a plan of a moment: the Planner, or something simple to compare it with."""

    def step(
        self,
        stamp_ns: int,
        objects: Objects | None,
        obstacles: Boxes | None,
        ego: EgoState | None,
        route: Route | None = None,
        speed_limit: float | None = None,
        road: Road | None = None,
        now_ns: int | None = None,
    ) -> Plan:
        """See `Planner.step`."""


class Detecting(Protocol):
    """What finds objects in a frame: the Detector, or one that ran elsewhere."""

    @property
    def trained(self) -> bool:
        """Whether what it says means anything."""

    @property
    def info(self) -> dict[str, Any]:
        """What it is: at least `model`, `trained`, `backend`."""

    def detect(self, frame: SensorFrame, stopwatch: Stopwatch | None = None) -> Boxes:
        """Boxes in `base_link`, best first."""

    def warm_up(self) -> None:
        """Get everything slow over with before the first frame."""


def make_detector(settings: DetectorSettings, lifting: LiftSettings = LiftSettings()) -> Detector | LiftedDetector:
    """The network with all cores but one: the geometric channel and the odometry run beside it.

    A model in an ONNX file is one of somebody else's for images, whose answers are lifted.
    """
    beside = max(1, BackendOptions(settings.threads).thread_count - 1)
    settings = replace(settings, threads=settings.threads or beside)
    return LiftedDetector(settings, lifting) if is_image_model(settings.model) else Detector(settings)


class Perceiver:
    """SensorFrame -> Perception: the network beside the geometric channel and the lidar odometry."""

    def __init__(self, settings: PipelineSettings = PipelineSettings(), detector: Detecting | None = None) -> None:
        self.detector: Detecting = detector or make_detector(settings.detector, settings.lifting)
        self.obstacles = ObstacleDetector(settings.obstacles, settings.vehicle)
        self.odometry = LidarOdometry(settings.odometry) if settings.odometry.enabled else None
        self.motion = SweepMotion(settings.sweep_motion)
        self._odometry_came = False
        self._beside = ThreadPoolExecutor(1, thread_name_prefix="network")

    def step(self, frame: SensorFrame, stopwatch: Stopwatch | None = None) -> Perception:
        """One frame.

        Stages: `network` parts, `obstacles`, `odometry` (only where a frame has no ego state) and `motion`.
        """
        stopwatch = stopwatch or Stopwatch()
        network = self._beside.submit(self.detector.detect, frame, stopwatch)
        obstacles, ego = Boxes.empty(), frame.ego
        ground = np.zeros(0, bool)
        if frame.lidar is not None:
            with stopwatch("obstacles"):
                obstacles, ground = self.obstacles.detect_with_ground(frame.lidar)
        self._odometry_came = self._odometry_came or ego is not None
        if ego is None:
            with stopwatch("odometry"):
                ego = self._ego_without_odometry(frame, ground)
        found = network.result()
        # What an untrained network says must not reach tracking, planning or anybody's records.
        detections = found if self.detector.trained else Boxes.empty()
        with stopwatch("motion"):
            detections = self.motion.step(detections, frame.lidar, ego)
        return Perception(ego, detections, obstacles)

    def close(self) -> None:
        """End the worker thread."""
        self._beside.shutdown()

    def __enter__(self) -> Perceiver:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ego_without_odometry(self, frame: SensorFrame, ground: np.ndarray) -> EgoState:
        # Once odometry has come, its frame is what tracks live in: the lidar's own would be another.
        if frame.lidar is None or self.odometry is None or self._odometry_came:
            return EgoState.standing(frame.stamp_ns)
        return self.odometry.step(frame.lidar.points, frame.stamp_ns, ground, frame.lidar.time)


class Pipeline:
    """SensorFrame -> Result, the data flow of the package in one place. Nodes, replay and evaluation call it or its
    parts.

    Not thread-safe: frames go through in order, one at a time.

    Args:
        settings: of all parts.
        detector: finds objects; made from the settings by default.
        planner: another one than that of the settings.
    """

    def __init__(
        self,
        settings: PipelineSettings = PipelineSettings(),
        detector: Detecting | None = None,
        planner: Planning | None = None,
    ) -> None:
        self.settings = settings
        self.perceiver = Perceiver(settings, detector)
        self.tracker = Tracker(settings.tracker)
        self.predictor = Predictor(settings.tracker.prediction, settings.vehicle)
        self.planner: Planning = planner or Planner(settings.planner, settings.vehicle)
        self._motion_source: MotionSource | None = None

    @property
    def detector(self) -> Detecting:
        """What finds objects."""
        return self.perceiver.detector

    def step(
        self,
        frame: SensorFrame,
        route: Route | None = None,
        speed_limit: float | None = None,
        road: Road | None = None,
        now_ns: int | None = None,
    ) -> Result:
        """One frame through all of it.

        Args:
            frame: stamps must not go back; a jump restarts the tracks.
            route: where to go, in `odom`; None follows the path the vehicle is on.
            speed_limit: m/s; None takes the route's or the settings' one.
            road: what a map says, in `odom`, with what lights show now.
            now_ns: on the clock of the stamp, when the frame arrived; None: at its stamp.
        """
        stopwatch = Stopwatch()
        with stopwatch("total"):
            seen = self.perceiver.step(frame, stopwatch)
            if self._motion_source not in (None, seen.ego.source):
                log.warning("ego motion now comes from %s: tracks start again", seen.ego.source.value)
                self.tracker.reset()
                self.predictor.reset()
            self._motion_source = seen.ego.source
            with stopwatch("tracking"):
                objects = self.tracker.step(frame.stamp_ns, seen.detections, seen.obstacles, seen.ego)
            with stopwatch("prediction"):
                objects = self.predictor.step(frame.stamp_ns, objects, seen.ego, route, road)
            # What no sensor could see is not known, rather than not there.
            sighted = frame.lidar is not None or any(camera is not None for camera in frame.cameras.values())
            obstacles = seen.obstacles if frame.lidar is not None else None
            with stopwatch("planning"):
                plan = self.planner.step(
                    frame.stamp_ns, objects if sighted else None, obstacles, seen.ego, route, speed_limit, road, now_ns
                )
        return Result(
            frame.stamp_ns, seen.ego, seen.detections, seen.obstacles, objects, plan, dict(stopwatch.milliseconds)
        )

    def close(self) -> None:
        """End the worker thread."""
        self.perceiver.close()

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
