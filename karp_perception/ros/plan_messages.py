"""Plan -> nav_msgs/Path, autoware_planning_msgs/Trajectory, diagnostic_msgs/DiagnosticStatus and commands; back where
a program that reads them needs it.

The decision is a diagnostic_msgs/DiagnosticStatus named `planner: decision`, `message` being the reason. Its level says
what to do with it: OK go (CRUISE, FOLLOW), WARN slow or yield (SLOW, YIELD), ERROR stop (STOP, EMERGENCY_STOP), STALE
no input (NO_INPUT). Its keys, each left out where it has no value:

| key | value |
|---|---|
| `stamp_ns` | time of the sensor data that was decided on, ns |
| `decision` | CRUISE, FOLLOW, SLOW, YIELD, STOP, EMERGENCY_STOP or NO_INPUT |
| `reason` | the sentence |
| `target_id` | track id of the object that decided |
| `distance_m` | free distance from the bumper to it along the path |
| `ttc_s` | time to collision at the present closing speed |
| `speed_m_s` | speed that is asked for next |
| `acceleration_m_s2` | acceleration that is asked for next |
| `proposal` | name of the proposal that was chosen, such as `lane 100%` |
| `score` | its score, 0 to 1 |
| `notes` | what the safety layer found or changed, sentences with ` | ` between them |
"""

from __future__ import annotations

import math

import numpy as np

from karp_perception.core import Command, Decision, DecisionKind, EgoState, Plan, Trajectory
from karp_perception.core.geometry import transform_points, yaw_of
from karp_perception.planning.control import planned
from karp_perception.ros.cdr import Cdr, header_bytes, pose_rows, rows, stamp_bytes
from karp_perception.ros.motion_messages import poses_bytes
from karp_perception.ros.primitives import (
    NANOSECONDS,
    Create,
    Message,
    get_stamp,
    get_yaw,
    set_byte,
    set_header,
)

OK, WARN, ERROR, STALE = 0, 1, 2, 3
"""Levels of diagnostic_msgs/DiagnosticStatus."""

_STANDING = 0.01  # m/s: below it a turn rate says nothing about the wheels
_SPACING = 0.1  # m between the poses of a path: no coarser than the costmaps of those who follow it need

LEVELS = {
    DecisionKind.CRUISE: OK,
    DecisionKind.FOLLOW: OK,
    DecisionKind.SLOW: WARN,
    DecisionKind.YIELD: WARN,
    DecisionKind.STOP: ERROR,
    DecisionKind.EMERGENCY_STOP: ERROR,
    DecisionKind.NO_INPUT: STALE,
}


def path_bytes(plan: Plan, ego: EgoState | None = None, frame: str = "base_link") -> bytes:
    """Serialised nav_msgs/Path of the planned way, as nav2's controllers take it.

    They ask for a path in a frame that the vehicle moves in, of poses about as dense as their costmap, each with its
    heading, and no empty one: the way is evenly resampled, and a plan that stands is the one pose where it does.

    Args:
        plan: a plan.
        ego: motion at its stamp, which takes the way to `odom`; None leaves it in `base_link`.
        frame: ROS name of that frame.
    """
    way = plan.trajectory
    points, yaw = (
        _even(np.column_stack([way.x, way.y]), np.unwrap(way.yaw)) if len(way) else (np.zeros((0, 2)), way.yaw)
    )
    if ego is not None:
        T = ego.T_odom_base
        points = transform_points(T, np.column_stack([points, np.zeros(len(points))]))[:, :2]
        yaw = yaw + yaw_of(T)
    return poses_bytes(points, yaw, plan.stamp_ns, frame)


def _even(points: np.ndarray, yaw: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points (N, 2) and headings (N,) of a way at even steps along it, its first and last point included."""
    along = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(points, axis=0).T))])
    at = np.linspace(0.0, along[-1], math.ceil(along[-1] / _SPACING - 1e-9) + 1)
    return np.stack([np.interp(at, along, points[:, axis]) for axis in (0, 1)], axis=1), np.interp(at, along, yaw)


def trajectory_bytes(plan: Plan, wheelbase: float, frame: str = "base_link") -> bytes:
    """Serialised autoware_planning_msgs/Trajectory; front wheel angles by the bicycle model, for a wheelbase in m."""
    way = plan.trajectory
    poses = rows(pose_rows(np.column_stack([way.x, way.y]), way.yaw))
    unknown = np.zeros(len(way))  # lateral speed, rear wheels
    turning = way.speed * way.curvature, np.arctan(wheelbase * way.curvature)
    motion = rows(np.column_stack([way.speed, unknown, way.acceleration, *turning, unknown]).astype(np.float32))
    cdr = Cdr()
    cdr.aligned(4, header_bytes(plan.stamp_ns, frame))
    cdr.put("I", len(way))
    for time, pose, moving in zip(way.time.tolist(), poses, motion, strict=True):
        cdr.aligned(4, stamp_bytes(round(time * NANOSECONDS)))
        cdr.aligned(8, pose)
        cdr.aligned(4, moving)
    return cdr.message()


def trajectory_from_message(message: Message, wheelbase: float) -> Trajectory:
    """Trajectory of an autoware_planning_msgs/Trajectory (its speeds and angles are float32)."""
    rows = [
        (
            get_stamp(p.time_from_start) * 1e-9,
            p.pose.position.x,
            p.pose.position.y,
            get_yaw(p.pose.orientation),
            p.longitudinal_velocity_mps,
            p.acceleration_mps2,
            np.tan(p.front_wheel_angle_rad) / wheelbase,
        )
        for p in message.points
    ]
    return Trajectory(*np.array(rows).reshape(-1, 7).T)


def decision_message(plan: Plan, create: Create) -> Message:
    """diagnostic_msgs/DiagnosticStatus of a decision; the module's text lists the keys."""
    decision, way, told = plan.decision, plan.trajectory, plan.proposals
    message = create("diagnostic_msgs/msg/DiagnosticStatus")
    set_byte(message, "level", LEVELS[decision.kind])
    message.name, message.message = "planner: decision", decision.reason
    speed, acceleration, _ = planned(plan)
    values = {
        "stamp_ns": plan.stamp_ns,
        "decision": decision.kind.value,
        "reason": decision.reason,
        "target_id": decision.target_id,
        "distance_m": decision.distance_m,
        "ttc_s": decision.ttc_s,
        "speed_m_s": speed if len(way) else None,
        "acceleration_m_s2": acceleration if len(way) else None,
        "proposal": told.names[told.chosen] if told else None,
        "score": float(told.score[told.chosen]) if told else None,
        "notes": " | ".join(plan.notes) or None,
    }
    message.values = key_values({key: value for key, value in values.items() if value is not None}, create)
    return message


def decision_from_status(message: Message) -> tuple[int, Decision]:
    """Stamp (ns) and decision of the `~/output/decision` topic. Raises ValueError for another node's status."""
    values = {item.key: item.value for item in message.values}
    numbers = {key: float(values[key]) for key in ("distance_m", "ttc_s") if key in values}
    target = int(values["target_id"]) if "target_id" in values else None
    kind = DecisionKind(values.get("decision"))
    return int(values["stamp_ns"]), Decision(kind, values["reason"], target, **numbers)


def key_values(values: dict[str, object], create: Create) -> list[Message]:
    """diagnostic_msgs/KeyValue of each entry; a float is written with the digits that bring back the same number."""
    messages = []
    for key, value in values.items():
        item = create("diagnostic_msgs/msg/KeyValue")
        item.key, item.value = key, repr(float(value)) if isinstance(value, float) else str(value)
        messages.append(item)
    return messages


def ackermann_message(command: Command, stamp_ns: int, create: Create, frame: str = "base_link") -> Message:
    """ackermann_msgs/AckermannDriveStamped: what a vehicle interface is to do, of the moment that was decided on."""
    message = create("ackermann_msgs/msg/AckermannDriveStamped")
    set_header(message.header, stamp_ns, frame)
    message.drive.speed, message.drive.acceleration = command.speed, command.acceleration
    message.drive.steering_angle = command.steering_angle
    return message


def command_from_ackermann(message: Message) -> Command:
    """Command of an ackermann_msgs/AckermannDrive."""
    return Command(message.steering_angle, message.speed, message.acceleration)


def twist_message(command: Command, wheelbase: float, create: Create) -> Message:
    """geometry_msgs/Twist of the same for a base that takes speed and turn rate: a bicycle's, for a wheelbase in m."""
    message = create("geometry_msgs/msg/Twist")
    message.linear.x, message.angular.z = command.speed, command.speed * math.tan(command.steering_angle) / wheelbase
    return message


def command_from_twist(message: Message, wheelbase: float) -> Command:
    """Command of a geometry_msgs/Twist, for a wheelbase in m; turning on the spot is none that a Command can say."""
    speed, turn = message.linear.x, message.angular.z
    angle = math.atan(wheelbase * turn / speed) if abs(speed) > _STANDING else 0.0
    return Command(angle, speed, 0.0)
