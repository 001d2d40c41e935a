"""EgoState -> nav_msgs/Odometry (`sensing.ego_motion.decode_odometry` reads it back), and Route <-> nav_msgs/Path."""

from __future__ import annotations

import numpy as np

from karp_perception.core import EgoState, Route
from karp_perception.core.geometry import transform_points
from karp_perception.ros.cdr import Cdr, header_bytes, pose_rows, rows
from karp_perception.ros.primitives import (
    Create,
    Message,
    get_position,
    set_header,
    set_pose,
    set_position,
)


def odometry_message(ego: EgoState, create: Create, odom_frame: str = "odom", base_frame: str = "base_link") -> Message:
    """nav_msgs/Odometry of a motion state: pose in `odom_frame`, twist in `base_frame`, covariances unknown (0)."""
    message = create("nav_msgs/msg/Odometry")
    set_header(message.header, ego.stamp_ns, odom_frame)
    message.child_frame_id = base_frame
    set_pose(message.pose.pose, ego.T_odom_base)
    set_position(message.twist.twist.linear, ego.velocity)
    message.twist.twist.angular.z = ego.yaw_rate
    return message


def route_from_path(message: Message, T_odom_frame: np.ndarray | None = None) -> Route:
    """Route of a nav_msgs/Path, for T_odom_frame (4, 4) of the path's frame (None: it is given in `odom`)."""
    points = np.array([get_position(item.pose.position) for item in message.poses]).reshape(-1, 3)
    if T_odom_frame is not None:
        points = transform_points(T_odom_frame, points)
    return Route(points[:, :2])


def route_bytes(route: Route, stamp_ns: int, odom_frame: str = "odom") -> bytes:
    """Serialised nav_msgs/Path of a route, each pose heading for the next point."""
    return poses_bytes(route.points, _headings(route.points), stamp_ns, odom_frame)


def poses_bytes(points: np.ndarray, yaw: np.ndarray, stamp_ns: int, frame: str) -> bytes:
    """Serialised nav_msgs/Path of points (T, 2) m and yaws (T,) rad, all with one header."""
    header = header_bytes(stamp_ns, frame)
    cdr = Cdr()
    cdr.aligned(4, header)
    cdr.put("I", len(points))
    for pose in rows(pose_rows(points, yaw)):
        cdr.aligned(4, header)
        cdr.aligned(8, pose)
    return cdr.message()


def _headings(points: np.ndarray) -> np.ndarray:
    steps = np.diff(points, axis=0)
    yaw = np.arctan2(steps[:, 1], steps[:, 0])
    return np.append(yaw, yaw[-1:])
