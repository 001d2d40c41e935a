"""Conversion between the core's types and ROS messages, each way once, with and without a ROS installation.

A `..._message` builder takes `create(type_name) -> message`, which makes an empty message: `create_ros_message` for
rclpy's classes, `sensing.message_types.default_message` for rosbags' ones. Both give the same messages on the wire.
What has many parts is written straight to its bytes by a `..._bytes` function, for publishers of rclpy and BagWriter.
"""

from karp_perception.ros.box_messages import boxes_from_detections, detections_bytes
from karp_perception.ros.markers import MarkerDrawing
from karp_perception.ros.motion_messages import odometry_message, route_bytes, route_from_path
from karp_perception.ros.object_messages import objects_bytes, objects_from_message, tracks_bytes
from karp_perception.ros.plan_messages import (
    ackermann_message,
    command_from_ackermann,
    command_from_twist,
    decision_from_status,
    decision_message,
    path_bytes,
    trajectory_bytes,
    trajectory_from_message,
    twist_message,
)
from karp_perception.ros.primitives import Create, Message, create_ros_message, get_stamp, message_class
from karp_perception.ros.sensor_messages import (
    camera_info_message,
    compressed_image_message,
    image_message,
    pointcloud_message,
    transforms_message,
)

__all__ = [
    "Create", "MarkerDrawing", "Message", "ackermann_message", "boxes_from_detections", "camera_info_message",
    "command_from_ackermann", "command_from_twist",
    "compressed_image_message", "create_ros_message", "decision_from_status", "decision_message", "detections_bytes",
    "get_stamp", "image_message", "message_class", "objects_bytes", "objects_from_message", "odometry_message",
    "path_bytes", "pointcloud_message", "route_bytes", "route_from_path", "tracks_bytes", "trajectory_bytes",
    "trajectory_from_message", "transforms_message", "twist_message",
]  # fmt: skip
