"""The `stack` node: detector, tracker and planner in one process, nothing serialised in between."""

from __future__ import annotations

import time

from karp_perception.core import EgoState, Plan, SensorFrame
from karp_perception.pipeline import Pipeline, PipelineSettings
from karp_perception.ros.driving import Driving
from karp_perception.ros.goal_input import GoalInput
from karp_perception.ros.image_outputs import ImageOutputs
from karp_perception.ros.inputs import RouteInput, SensorInputs, Subscriptions
from karp_perception.ros.messages import MarkerDrawing
from karp_perception.ros.node import PerceptionNode
from karp_perception.ros.outputs import OUTPUTS, Outputs
from karp_perception.ros.process import run
from karp_perception.ros.road_input import RoadInput
from karp_perception.ros.trails import Trails
from karp_perception.ros.watchdog import Silence, Watchdog
from karp_perception.warm_up import warm_up_pipeline


class StackNode(PerceptionNode):
    """SensorFrame -> Result over ROS."""

    sections = tuple(dict.fromkeys(p.name.split(".")[0] for p in PipelineSettings().parameters()))

    def __init__(self) -> None:
        super().__init__("stack")

    def build(self) -> None:
        """The sensors' assembler and the whole pipeline (warm)."""
        self.sensors = SensorInputs(self)
        self.route = RouteInput(self, self.sensors.assembler.transforms)
        self.road = RoadInput(self, self.sensors.assembler.transforms, self.sensors.assembler.ego_motion.at)
        self.goal = GoalInput(self, self.sensors.assembler.transforms, self.road)
        self.inputs |= self.route.counters | self.road.counters | self.goal.counters
        self.pipeline = Pipeline(self.settings.for_cameras(len(self.node_settings.camera_names)))
        self.trails = Trails()
        self.driving = Driving(self, self.sensors.assembler.ego_motion.at)
        self.outputs = Outputs(self, OUTPUTS)
        self.image_outputs = ImageOutputs.of(self, self.pipeline.detector, self.sensors.assembler)
        self.heard = Subscriptions(self)
        self.watchdog = Watchdog(self)
        self.ego: EgoState | None = None
        self.pipeline.detector.warm_up()
        warm_up_pipeline(self.settings)

    def open(self) -> None:
        """Threads first, then the subscriptions that feed them."""
        self.note_untrained(self.pipeline.detector)
        self.start_threads(self.sensors.assembler.poll, self.work)
        self.sensors.open()
        self.route.subscribe(self.heard)
        self.road.subscribe(self.heard)
        self.goal.subscribe(self.heard)
        self.watchdog.start()

    def close(self) -> None:
        """End the subscriptions."""
        self.watchdog.stop()
        self.sensors.close()
        self.heard.close()

    def discard(self) -> None:
        """Free the network."""
        self.pipeline.close()

    def work(self, frame: SensorFrame | Silence) -> None:
        """One frame: through the pipeline, publish."""
        if isinstance(frame, Silence):
            motion = self.sensors.assembler.ego_motion.at(frame.stamp_ns)
            self._publish_plan(frame.plan(self.pipeline.planner, motion), motion)
            return
        self.watchdog.fed(frame.stamp_ns)
        ego = frame.ego or self.ego
        route = self.route.at(ego) or self.goal.at(ego)
        now_ns = self.driving.now_ns(frame.stamp_ns)
        result = self.pipeline.step(frame, route, self.route.speed_limit, self.road.at(ego), now_ns)
        self.ego = result.ego
        start, stamp_ns = time.perf_counter(), result.stamp_ns
        self._publish_plan(result.plan, result.ego)
        self.outputs.tracking(stamp_ns, result.objects)
        self.outputs.perception(stamp_ns, result.ego, result.detections, result.obstacles)
        if self.image_outputs is not None:
            self.image_outputs.publish(frame)
        trails = self.trails.step(stamp_ns, result.objects, result.ego)

        def draw(drawing: MarkerDrawing) -> None:
            drawing.perception(result.detections, result.obstacles)
            drawing.objects(result.objects).trails(trails).plan(result.plan)

        self.outputs.markers(stamp_ns, draw)
        self.done(stamp_ns, result.latency_ms, start)

    def _publish_plan(self, plan: Plan, ego: EgoState | None) -> None:
        self.outputs.planning(plan, self.driving.command(plan, ego), ego, self.settings.vehicle)


def main() -> int:
    """Run it as a process."""
    return run(StackNode)
