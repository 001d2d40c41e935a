"""The `planner` node: objects, obstacles, odometry, route and road in; path, trajectory, decision and command out."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

from karp_perception.core import EgoState, Plan
from karp_perception.core.stopwatch import Stopwatch
from karp_perception.planning.planner import Planner
from karp_perception.ros.driving import Driving
from karp_perception.ros.goal_input import GoalInput
from karp_perception.ros.inputs import RouteInput, Subscriptions, subscribe_transforms
from karp_perception.ros.joined_inputs import JoinedInputs
from karp_perception.ros.motion_input import OdometryInput
from karp_perception.ros.node import PerceptionNode
from karp_perception.ros.outputs import PERCEPTION, PLANNING, TRACKING, Outputs, boxes_in_base, objects_in_base
from karp_perception.ros.process import run
from karp_perception.ros.road_input import RoadInput
from karp_perception.ros.watchdog import Silence, Watchdog
from karp_perception.sensing.transforms import TransformBuffer


class PlannerNode(PerceptionNode):
    """Objects -> Plan over ROS."""

    sections = ("vehicle", "sensing", "planner", "control")

    def __init__(self) -> None:
        super().__init__("planner")

    def build(self) -> None:
        """The planner and its joined inputs."""
        self.planner = Planner(self.settings.planner, self.settings.vehicle)
        self.planner.warm_up()
        self.odometry = OdometryInput(self)
        self.transforms = TransformBuffer(self.settings.sensing.transform_history)
        self.route = RouteInput(self, self.transforms)
        self.road = RoadInput(self, self.transforms, self.odometry.motion.at)
        self.goal = GoalInput(self, self.transforms, self.road)
        base = self.settings.sensing.base_frame
        kinds = {
            "obstacles": (PERCEPTION["obstacles"], partial(boxes_in_base, base_frame=base)),
            "objects": (TRACKING["objects"], partial(objects_in_base, base_frame=base)),
        }
        self.joined = JoinedInputs(self, "objects", kinds, self.odometry.reaches)
        counters = {**self.joined.counters, "odometry": self.odometry.counters}
        counters |= self.route.counters | self.road.counters | self.goal.counters
        self.count(self.joined.counters["objects"], counters)
        self.driving = Driving(self, self.odometry.motion.at)
        self.outputs = Outputs(self, PLANNING)
        self.heard = Subscriptions(self)
        self.watchdog = Watchdog(self)

    def open(self) -> None:
        """Threads first, then the subscriptions that feed them; odometry before what needs it."""
        self.start_threads(self.joined.poll, self.work)
        subscribe_transforms(self.heard, self.transforms.add_message)
        self.odometry.subscribe(self.heard)
        self.route.subscribe(self.heard)
        self.road.subscribe(self.heard)
        self.goal.subscribe(self.heard)
        self.joined.subscribe(self.heard)
        self.watchdog.start()

    def close(self) -> None:
        """End the subscriptions."""
        self.watchdog.stop()
        self.heard.close()

    def work(self, bundle: Any) -> None:
        """One moment: plan, publish. A silence is planned for as well."""
        stopwatch, stamp_ns = Stopwatch(), bundle.stamp_ns
        ego = self.odometry.motion.at(stamp_ns)
        if isinstance(bundle, Silence):
            self._publish_plan(bundle.plan(self.planner, ego), ego)
            return
        self.watchdog.fed(stamp_ns)
        objects, obstacles = bundle.payloads["objects"], bundle.payloads["obstacles"]
        with stopwatch("planning"):
            route, limit, road = self.route.at(ego) or self.goal.at(ego), self.route.speed_limit, self.road.at(ego)
            now_ns = self.driving.now_ns(stamp_ns)
            plan = self.planner.step(stamp_ns, objects, obstacles, ego, route, limit, road, now_ns)
        start = time.perf_counter()
        self._publish_plan(plan, ego)
        self.outputs.markers(stamp_ns, lambda drawing: drawing.plan(plan))
        self.done(stamp_ns, stopwatch.milliseconds, start)

    def _publish_plan(self, plan: Plan, ego: EgoState | None) -> None:
        self.outputs.planning(plan, self.driving.command(plan, ego), ego, self.settings.vehicle)


def main() -> int:
    """Run it as a process."""
    return run(PlannerNode)
