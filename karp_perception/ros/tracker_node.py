"""The `tracker` node: detections, obstacles and odometry in, objects with identity and predicted paths out."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

from karp_perception.core import Boxes, EgoState
from karp_perception.core.stopwatch import Stopwatch
from karp_perception.prediction.predictor import Predictor
from karp_perception.ros.inputs import Subscriptions
from karp_perception.ros.joined_inputs import JoinedInputs
from karp_perception.ros.motion_input import OdometryInput
from karp_perception.ros.node import PerceptionNode
from karp_perception.ros.outputs import PERCEPTION, TRACKING, Outputs, boxes_in_base
from karp_perception.ros.process import run
from karp_perception.ros.trails import Trails
from karp_perception.tracking.tracker import Tracker


class TrackerNode(PerceptionNode):
    """Detections -> Objects over ROS."""

    sections = ("vehicle", "sensing", "tracker")

    def __init__(self) -> None:
        super().__init__("tracker")

    def build(self) -> None:
        """The tracker and its joined inputs."""
        self.tracker = Tracker(self.settings.tracker)
        self.trails = Trails()
        self.predictor = Predictor(self.settings.tracker.prediction, self.settings.vehicle)
        self.odometry = OdometryInput(self)
        decode = partial(boxes_in_base, base_frame=self.settings.sensing.base_frame)
        kinds = {name: (PERCEPTION[name], decode) for name in ("obstacles", "detections")}
        self.joined = JoinedInputs(self, "detections", kinds, self.odometry.reaches)
        self.count(self.joined.counters["detections"], {**self.joined.counters, "odometry": self.odometry.counters})
        self.outputs = Outputs(self, TRACKING)
        self.heard = Subscriptions(self)

    def open(self) -> None:
        """Threads first, then the subscriptions that feed them; odometry before what needs it."""
        self.start_threads(self.joined.poll, self.work)
        self.odometry.subscribe(self.heard)
        self.joined.subscribe(self.heard)

    def close(self) -> None:
        """End the subscriptions."""
        self.heard.close()

    def work(self, bundle: Any) -> None:
        """One moment: track, publish."""
        stopwatch, stamp_ns = Stopwatch(), bundle.stamp_ns
        ego = self.odometry.motion.at(stamp_ns) or EgoState.standing(stamp_ns)
        obstacles = bundle.payloads["obstacles"] or Boxes.empty()
        with stopwatch("tracking"):
            objects = self.tracker.step(stamp_ns, bundle.payloads["detections"], obstacles, ego)
        with stopwatch("prediction"):
            objects = self.predictor.step(stamp_ns, objects, ego)
        start = time.perf_counter()
        self.outputs.tracking(stamp_ns, objects)
        trails = self.trails.step(stamp_ns, objects, ego)
        self.outputs.markers(stamp_ns, lambda drawing: drawing.objects(objects).trails(trails))
        self.done(stamp_ns, stopwatch.milliseconds, start)


def main() -> int:
    """Run it as a process."""
    return run(TrackerNode)
