"""One side of a talk over DDS, run as a process of its own: `python dds_peer.py publish|subscribe`.

The subscriber prints what arrived as one line of JSON and ends with 0 once it has seen both messages.
"""

from __future__ import annotations

import array
import json
import sys
import time

import numpy as np
import rclpy
from geometry_msgs.msg import PoseWithCovariance
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import PointCloud2, PointField
from vision_msgs.msg import Detection3D, Detection3DArray, ObjectHypothesisWithPose

POINT_COUNT = 1000
DEADLINE_S = 30.0


def point_cloud() -> PointCloud2:
    """POINT_COUNT points x y z intensity, float32, counting up."""
    values = np.arange(POINT_COUNT * 4, dtype="<f4")
    fields = [
        PointField(name=name, offset=4 * number, datatype=PointField.FLOAT32, count=1)
        for number, name in enumerate(("x", "y", "z", "intensity"))
    ]
    cloud = PointCloud2(height=1, width=POINT_COUNT, fields=fields, point_step=16, row_step=16 * POINT_COUNT)
    cloud.header.frame_id = "lidar"
    cloud.data = array.array("B", values.tobytes())
    return cloud


def detections() -> Detection3DArray:
    """One detection whose pose covariance is the numpy array 0, 1, ... 35."""
    result = ObjectHypothesisWithPose(pose=PoseWithCovariance(covariance=np.arange(36.0)))
    result.hypothesis.class_id, result.hypothesis.score = "car", 0.75
    detection = Detection3D(id="7", results=[result])
    detection.bbox.size.x = 4.5
    return Detection3DArray(detections=[detection])


def publish(node: Node) -> None:
    """Publishes both messages until the process is ended."""
    clouds = node.create_publisher(PointCloud2, "points", qos_profile_sensor_data)
    boxes = node.create_publisher(Detection3DArray, "detections", 10)
    node.create_timer(0.05, lambda: (clouds.publish(point_cloud()), boxes.publish(detections())))
    while rclpy.ok():
        rclpy.spin_once(node, timeout_sec=0.1)


def subscribe(node: Node) -> None:
    """Waits for one message of each kind and prints what they hold."""
    received: dict[str, object] = {}

    def on_cloud(cloud: PointCloud2) -> None:
        values = np.frombuffer(cloud.data, "<f4")
        received["cloud"] = [cloud.header.frame_id, cloud.width, float(values.sum(dtype=np.float64))]

    def on_detections(message: Detection3DArray) -> None:
        (detection,) = message.detections
        (result,) = detection.results
        covariance = result.pose.covariance
        received["detection"] = [detection.id, detection.bbox.size.x, result.hypothesis.class_id, list(covariance)]
        received["covariance_type"] = f"{type(covariance).__name__} {covariance.dtype} {covariance.shape}"

    node.create_subscription(PointCloud2, "points", on_cloud, qos_profile_sensor_data)
    node.create_subscription(Detection3DArray, "detections", on_detections, 10)
    end = time.monotonic() + DEADLINE_S
    while len(received) < 3:
        rclpy.spin_once(node, timeout_sec=0.1)
        if time.monotonic() > end:
            sys.exit(f"only {sorted(received)} arrived within {DEADLINE_S} s")
    print(json.dumps(received), flush=True)


if __name__ == "__main__":
    rclpy.init()
    peer = Node(f"peer_{sys.argv[1]}")
    {"publish": publish, "subscribe": subscribe}[sys.argv[1]](peer)
