"""visualization_msgs/MarkerArray for RViz and Foxglove: boxes, objects with where they may go, the plan.

Each array begins with a marker that deletes the ones before it, so that nothing stale stays on screen.
"""

from __future__ import annotations

import numpy as np

from karp_perception.core import Boxes, DecisionKind, Objects, Plan, class_name
from karp_perception.ros.primitives import Create, Message, set_header, set_position, set_yaw

_ARROW, _CUBE, _LINE_STRIP, _TEXT = 0, 1, 4, 9  # Marker.type
_DELETE_ALL = 3  # Marker.action

_LINE_WIDTH, _TEXT_HEIGHT, _ARROW_WIDTH = 0.15, 0.7, 0.2  # m
_ARROW_SECONDS, _ARROW_SPEED = 1.0, 0.3  # an arrow is the way of one second, from this speed (m/s) on

_PATH_POINTS = 12  # at most, of a predicted path: enough for the eye

_OBSTACLE = (0.55, 0.55, 0.6)
_BY_LABEL = {
    **dict.fromkeys((0, 1, 2, 3, 4), (0.20, 0.55, 0.95)),
    5: (0.95, 0.35, 0.30),
    **dict.fromkeys((6, 7), (0.95, 0.65, 0.15)),
}
_BY_DECISION = {
    DecisionKind.CRUISE: (0.20, 0.80, 0.35),
    DecisionKind.FOLLOW: (0.20, 0.80, 0.35),
    DecisionKind.SLOW: (0.95, 0.75, 0.15),
    DecisionKind.YIELD: (0.95, 0.75, 0.15),
    DecisionKind.STOP: (0.95, 0.25, 0.20),
    DecisionKind.EMERGENCY_STOP: (0.95, 0.25, 0.20),
    DecisionKind.NO_INPUT: (0.60, 0.60, 0.60),
}


class MarkerDrawing:
    """Collects the markers of one moment; `message` is the array."""

    def __init__(self, stamp_ns: int, frame: str, create: Create) -> None:
        self._stamp_ns, self._frame, self._create = stamp_ns, frame, create
        self.message = create("visualization_msgs/msg/MarkerArray")
        self._marker("", _ARROW, (0, 0, 0)).action = _DELETE_ALL

    def perception(self, detections: Boxes, obstacles: Boxes) -> MarkerDrawing:
        """Detections with class and score, and geometric obstacles in grey."""
        self._boxes("detections", detections, 0.5)
        for i in range(len(detections)):
            text = f"{class_name(int(detections.label[i]))} {detections.score[i]:.2f}"
            self._text("detection_names", text, _above(detections, i), _color(detections, i))
        self._boxes("obstacles", obstacles, 0.4)
        return self

    def objects(self, objects: Objects) -> MarkerDrawing:
        """Tracked objects with class, id and speed, and their predicted paths (paler where less likely)."""
        boxes = objects.boxes
        self._boxes("objects", boxes, 0.5)
        for i in range(len(objects)):
            name, speed = class_name(int(boxes.label[i])), np.hypot(*boxes.velocity[i])
            self._text(
                "object_names", f"{name} {objects.track_id[i]}: {speed:.1f} m/s", _above(boxes, i), _color(boxes, i)
            )
            for path, probability in zip(objects.predicted[i], objects.predicted_probability[i], strict=True):
                if len(path) and np.ptp(path[:, :2], axis=0).max() > _LINE_WIDTH:
                    path = path[:: -(-len(path) // _PATH_POINTS)]
                    height = np.full(len(path), boxes.center[i, 2])
                    points = np.column_stack([path[:, :2], height])
                    self._line("predictions", points, _color(boxes, i), 0.2 + 0.8 * float(probability))
        return self

    def plan(self, plan: Plan) -> MarkerDrawing:
        """The planned way in the colour of the decision, and the decision with its reason."""
        color, way = _BY_DECISION[plan.decision.kind], plan.trajectory
        if len(way):
            self._line("trajectory", np.column_stack([way.x, way.y, np.full(len(way), _LINE_WIDTH)]), color)
        text = f"{plan.decision.kind.value}: {plan.decision.reason}"
        self._text("decision", text, np.array([0.0, 0.0, 3.0]), color)
        return self

    def _marker(self, namespace: str, kind: int, color: tuple[float, float, float], alpha: float = 1.0) -> Message:
        marker = self._create("visualization_msgs/msg/Marker")
        set_header(marker.header, self._stamp_ns, self._frame)
        marker.ns, marker.id, marker.type, marker.action = namespace, len(self.message.markers), kind, 0
        marker.pose.orientation.w = 1.0
        marker.color.r, marker.color.g, marker.color.b = map(float, color)
        marker.color.a = alpha
        self.message.markers.append(marker)
        return marker

    def _line(self, namespace: str, points: np.ndarray, color: tuple[float, float, float], alpha: float = 1.0) -> None:
        marker = self._marker(namespace, _LINE_STRIP, color, alpha)
        marker.scale.x = _LINE_WIDTH
        marker.points = [self._point(p) for p in points]

    def _text(self, namespace: str, text: str, position: np.ndarray, color: tuple[float, float, float]) -> None:
        marker = self._marker(namespace, _TEXT, color)
        set_position(marker.pose.position, position)
        marker.scale.z, marker.text = _TEXT_HEIGHT, text

    def _boxes(self, namespace: str, boxes: Boxes, alpha: float) -> None:
        for i in range(len(boxes)):
            color = _color(boxes, i)
            cube = self._marker(namespace, _CUBE, color, alpha)
            set_position(cube.pose.position, boxes.center[i])
            set_yaw(cube.pose.orientation, boxes.yaw[i])
            set_position(cube.scale, boxes.size[i])
            velocity = boxes.velocity[i]
            if np.hypot(*velocity) > _ARROW_SPEED:  # false for NaN
                arrow = self._marker(f"{namespace}_velocity", _ARROW, color)
                arrow.scale.x, arrow.scale.y = _ARROW_WIDTH, 2 * _ARROW_WIDTH
                tip = boxes.center[i] + _ARROW_SECONDS * np.append(velocity, 0.0)
                arrow.points = [self._point(boxes.center[i]), self._point(tip)]

    def _point(self, values: np.ndarray) -> Message:
        point = self._create("geometry_msgs/msg/Point")
        set_position(point, values)
        return point


def _above(boxes: Boxes, i: int) -> np.ndarray:
    return boxes.center[i] + (0, 0, 0.5 * boxes.size[i, 2] + _TEXT_HEIGHT)


def _color(boxes: Boxes, i: int) -> tuple[float, float, float]:
    return _BY_LABEL.get(int(boxes.label[i]), _OBSTACLE)


def boxes_markers(detections: Boxes, obstacles: Boxes, stamp_ns: int, create: Create) -> Message:
    """An array of detections and obstacles alone."""
    return MarkerDrawing(stamp_ns, detections.frame, create).perception(detections, obstacles).message


def objects_markers(objects: Objects, stamp_ns: int, create: Create) -> Message:
    """An array of objects alone."""
    return MarkerDrawing(stamp_ns, objects.boxes.frame, create).objects(objects).message


def plan_markers(plan: Plan, create: Create, frame: str = "base_link") -> Message:
    """An array of the plan alone."""
    return MarkerDrawing(plan.stamp_ns, frame, create).plan(plan).message
