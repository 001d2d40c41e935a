"""The `detector` node: cameras and lidar in, detections, geometric obstacles and, where it makes it, odometry out."""

from __future__ import annotations

import time

from karp_perception.core import SensorFrame
from karp_perception.core.stopwatch import Stopwatch
from karp_perception.pipeline import Perceiver
from karp_perception.ros.image_outputs import ImageOutputs
from karp_perception.ros.inputs import SensorInputs
from karp_perception.ros.node import PerceptionNode
from karp_perception.ros.outputs import PERCEPTION, Outputs
from karp_perception.ros.process import run
from karp_perception.warm_up import warm_up_pipeline


class DetectorNode(PerceptionNode):
    """SensorFrame -> Perception over ROS."""

    sections = ("vehicle", "sensing", "odometry", "detector", "lifting", "obstacles", "sweep_motion")

    def __init__(self) -> None:
        super().__init__("detector")

    def build(self) -> None:
        """The sensors' assembler, the network (warm) and the geometric channel."""
        self.sensors = SensorInputs(self)
        self.perceiver = Perceiver(self.settings.for_cameras(len(self.node_settings.camera_names)))
        self.outputs = Outputs(self, PERCEPTION)
        self.image_outputs = ImageOutputs.of(self, self.perceiver.detector, self.sensors.assembler)
        self.perceiver.detector.warm_up()
        warm_up_pipeline(self.settings)

    def open(self) -> None:
        """Threads first, then the subscriptions that feed them."""
        self.note_untrained(self.perceiver.detector)
        self.start_threads(self.sensors.assembler.poll, self.work)
        self.sensors.open()

    def close(self) -> None:
        """End the subscriptions."""
        self.sensors.close()

    def discard(self) -> None:
        """Free the network."""
        self.perceiver.close()

    def work(self, frame: SensorFrame) -> None:
        """One frame: perceive, publish."""
        stopwatch = Stopwatch()
        with stopwatch("total"):
            seen = self.perceiver.step(frame, stopwatch)
        start = time.perf_counter()
        self.outputs.perception(frame.stamp_ns, seen.ego, seen.detections, seen.obstacles)
        if self.image_outputs is not None:
            self.image_outputs.publish(frame)
        self.outputs.markers(frame.stamp_ns, lambda drawing: drawing.perception(seen.detections, seen.obstacles))
        self.done(frame.stamp_ns, stopwatch.milliseconds, start)


def main() -> int:
    """Run it as a process."""
    return run(DetectorNode)
