"""Stop lines <-> vision_msgs/Detection3DArray: where to stop, for what, and what lights show.

One Detection3D for each stop line:

- `results[0].hypothesis.class_id`: "red", "yellow" or "green" of a traffic light, "light" of one whose colour is not
  known, or "stop", "yield", "crossing".
- `results[0].pose.pose.position`: where the middle of the lane meets the line; also `bbox.center.position`, but for a
  crossing: its box is the crossing, with x across the way of people, `size.y` from kerb to kerb.
- `id`: an integer, the light's own number where a map knows it; may be empty.

The traffic that goes first at "stop" and "yield" has no place in the message: maps tell of it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from karp_perception.core import InvalidInput, LightColor, StopKind, StopLine
from karp_perception.core.geometry import pose_from_xy_yaw, transform_points
from karp_perception.ros.primitives import Create, Message, get_position, get_yaw, set_header, set_pose, set_position

SIGNALS = "vision_msgs/msg/Detection3DArray"

_UNKNOWN_LIGHT = "light"
_KINDS = {
    **{color.value: (StopKind.LIGHT, color) for color in LightColor},
    _UNKNOWN_LIGHT: (StopKind.LIGHT, None),
    **{kind.value: (kind, None) for kind in (StopKind.STOP, StopKind.YIELD, StopKind.CROSSING)},
}
_CROSSING_WIDTH = 4.0  # m along the road


def signals_message(stops: Sequence[StopLine], stamp_ns: int, create: Create, frame: str = "odom") -> Message:
    """vision_msgs/Detection3DArray of stop lines given in `frame`."""
    message = create(SIGNALS)
    set_header(message.header, stamp_ns, frame)
    for stop in stops:
        detection = create("vision_msgs/msg/Detection3D")
        set_header(detection.header, stamp_ns, frame)
        detection.id = str(stop.number)
        entry = create("vision_msgs/msg/ObjectHypothesisWithPose")
        lit = stop.kind is StopKind.LIGHT and stop.color is not None
        entry.hypothesis.class_id = stop.color.value if lit else stop.kind.value
        entry.hypothesis.score = 1.0
        at = pose_from_xy_yaw(*stop.point, 0.0)
        set_pose(entry.pose.pose, at)
        detection.results.append(entry)
        if stop.kind is StopKind.CROSSING and stop.first:
            a, b = stop.first[0][0], stop.first[0][-1]
            across = b - a
            at = pose_from_xy_yaw(*(0.5 * (a + b)), float(np.arctan2(across[1], across[0])) - 0.5 * np.pi)
            set_position(detection.bbox.size, (_CROSSING_WIDTH, float(np.hypot(*across)), 0.0))
        set_pose(detection.bbox.center, at)
        message.detections.append(detection)
    return message


def stops_from_signals(message: Message, T_odom_frame: np.ndarray | None = None) -> tuple[StopLine, ...]:
    """Stop lines of a vision_msgs/Detection3DArray, for T_odom_frame (4, 4) of its frame (None: it is `odom`).

    Those without an id get negative numbers. Raises InvalidInput for class ids that are none of these, ids that are no
    integers, and numbers that are not finite.
    """
    T = np.eye(4) if T_odom_frame is None else T_odom_frame
    stops = []
    for i, detection in enumerate(message.detections):
        if not detection.results:
            raise InvalidInput(f"signal {i}", "a hypothesis", "none")
        entry = max(detection.results, key=lambda entry: entry.hypothesis.score)
        name = entry.hypothesis.class_id
        if name not in _KINDS:
            raise InvalidInput(f"signal {i}, class_id", "one of " + ", ".join(_KINDS), repr(name))
        kind, color = _KINDS[name]
        box, crossing = detection.bbox, kind is StopKind.CROSSING
        point = get_position(entry.pose.pose.position if crossing else box.center.position)
        first: tuple[np.ndarray, ...] = ()
        if crossing and box.size.y > 0:
            yaw, half = get_yaw(box.center.orientation), 0.5 * box.size.y
            ends = np.array([[s * half * np.sin(yaw), -s * half * np.cos(yaw), 0.0] for s in (1.0, -1.0)])
            first = (transform_points(T, ends + get_position(box.center.position))[:, :2],)
        stops.append(
            StopLine(_number(detection.id, i), transform_points(T, np.array([point]))[0, :2], kind, color, first)
        )
    return tuple(stops)


def _number(text: str, index: int) -> int:
    if not text:
        return -1 - index
    try:
        return int(text)
    except ValueError:
        raise InvalidInput(f"signal {index}, id", "an integer or nothing", repr(text)) from None
