"""Conversion between the core's types and ROS messages, each way once, with and without a ROS installation.

Every builder takes `create(type_name) -> message`, which makes an empty message: `create_ros_message` for rclpy's
classes, `sensing.message_types.default_message` for rosbags' ones. Both give the same messages on the wire.
"""

from karp_perception.ros.box_messages import boxes_from_detections, detections_message
from karp_perception.ros.markers import MarkerDrawing, boxes_markers, objects_markers, plan_markers
from karp_perception.ros.motion_messages import odometry_message, route_from_path, route_message
from karp_perception.ros.object_messages import objects_from_message, objects_message, tracks_message
from karp_perception.ros.plan_messages import (
    ackermann_message,
    decision_from_status,
    decision_message,
    path_message,
    trajectory_from_message,
    trajectory_message,
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
    "Create", "MarkerDrawing", "Message", "ackermann_message", "boxes_from_detections", "boxes_markers",
    "camera_info_message", "compressed_image_message", "create_ros_message", "decision_from_status",
    "decision_message", "detections_message", "get_stamp", "image_message", "message_class", "objects_from_message",
    "objects_markers", "objects_message", "odometry_message", "path_message", "plan_markers", "pointcloud_message",
    "route_from_path", "route_message", "tracks_message", "trajectory_from_message", "trajectory_message",
    "transforms_message", "twist_message",
]  # fmt: skip
