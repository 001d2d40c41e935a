"""Publishers of the nodes: each builds a message only when somebody listens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from karp_perception.core import Boxes, Command, EgoState, InvalidInput, MotionSource, Objects, Plan, Vehicle
from karp_perception.ros import messages
from karp_perception.ros.primitives import create_ros_message as create

if TYPE_CHECKING:
    from karp_perception.ros.node import PerceptionNode

PERCEPTION = {
    "odometry": "nav_msgs/msg/Odometry",
    "obstacles": "vision_msgs/msg/Detection3DArray",
    "detections": "vision_msgs/msg/Detection3DArray",
}
TRACKING = {
    "objects": "autoware_perception_msgs/msg/PredictedObjects",
    "tracks": "vision_msgs/msg/Detection3DArray",
}
PLANNING = {
    "path": "nav_msgs/msg/Path",
    "trajectory": "autoware_planning_msgs/msg/Trajectory",
    "decision": "diagnostic_msgs/msg/DiagnosticStatus",
    "command": "ackermann_msgs/msg/AckermannDriveStamped",
    "drive": "ackermann_msgs/msg/AckermannDrive",
    "twist": "geometry_msgs/msg/Twist",
}
OUTPUTS = {**PERCEPTION, **TRACKING, **PLANNING, "markers": "visualization_msgs/msg/MarkerArray"}
"""Message type of each topic under `~/output`."""


class Outputs:
    """The topics under `~/output` of a node.

    Frames: everything is in the configured base frame, odometry and path in the odom frame; `base_link` is what the
    core calls the base frame, whatever its name in ROS.
    """

    def __init__(self, node: PerceptionNode, topics: dict[str, str]) -> None:
        self._base = node.settings.sensing.base_frame
        self._odom = node.node_settings.odom_frame
        self._publishers = {
            name: node.publisher(type_name, f"~/output/{name}")
            for name, type_name in {**topics, "markers": OUTPUTS["markers"]}.items()
        }

    def perception(self, stamp_ns: int, ego: EgoState, detections: Boxes, obstacles: Boxes) -> None:
        """Detections and obstacles, and the odometry where it was made here from the lidar.

        The order is that in which a tracker needs them.
        """
        if ego.source is MotionSource.LIDAR:
            self._publish("odometry", lambda: messages.odometry_message(ego, create, self._odom, self._base))
        for name, boxes in (("obstacles", obstacles), ("detections", detections)):
            boxes = replace(boxes, frame=self._base)
            self._publish(name, lambda boxes=boxes: messages.detections_bytes(boxes, stamp_ns))

    def tracking(self, stamp_ns: int, objects: Objects) -> None:
        """Objects in both forms."""
        objects = replace(objects, boxes=replace(objects.boxes, frame=self._base))
        self._publish("objects", lambda: messages.objects_bytes(objects, stamp_ns))
        self._publish("tracks", lambda: messages.tracks_bytes(objects, stamp_ns))

    def planning(self, plan: Plan, command: Command, ego: EgoState | None, vehicle: Vehicle) -> None:
        """The plan in all its forms, and what the vehicle is to do; `ego` is its motion at the plan's stamp."""
        stamp_ns, wheelbase = plan.stamp_ns, vehicle.wheelbase
        moves = ego is not None and ego.source is not MotionSource.NONE
        at, frame = (ego, self._odom) if moves else (None, self._base)
        self._publish("decision", lambda: messages.decision_message(plan, create))
        self._publish("command", lambda: messages.ackermann_message(command, stamp_ns, create, self._base))
        self._publish("drive", lambda: messages.ackermann_message(command, stamp_ns, create, self._base).drive)
        self._publish("twist", lambda: messages.twist_message(command, wheelbase, create))
        self._publish("trajectory", lambda: messages.trajectory_bytes(plan, wheelbase, self._base))
        self._publish("path", lambda: messages.path_bytes(plan, at, frame))

    def markers(self, stamp_ns: int, draw: Callable[[messages.MarkerDrawing], Any]) -> None:
        """Drawings for RViz and Foxglove."""

        def build() -> bytes:
            drawing = messages.MarkerDrawing(stamp_ns, self._base)
            draw(drawing)
            return drawing.message

        self._publish("markers", build)

    def _publish(self, name: str, build: Callable[[], Any]) -> None:
        publisher = self._publishers[name]
        if publisher.get_subscription_count():
            publisher.publish(build())


def boxes_in_base(message: Any, base_frame: str) -> Boxes:
    """Boxes of a vision_msgs/Detection3DArray in the base frame, under the name that the core has for it.

    Raises InvalidInput for those of another frame.
    """
    boxes = messages.boxes_from_detections(message)
    return replace(boxes, frame=_checked(boxes.frame, base_frame))


def objects_in_base(message: Any, base_frame: str) -> Objects:
    """The same for objects of an autoware_perception_msgs/PredictedObjects."""
    objects = messages.objects_from_message(message)
    return replace(objects, boxes=replace(objects.boxes, frame=_checked(objects.boxes.frame, base_frame)))


def _checked(frame: str, base_frame: str) -> str:
    if frame != base_frame:
        raise InvalidInput("boxes", f"the frame {base_frame!r}", repr(frame), reason="wrong_frame")
    return "base_link"
