"""Large messages over ROS between processes: what is lost, and what our own code adds to the inference.

    python benchmarks/ros_transport.py [--frames 300] [--rate 10] [--model nano|none] [--json FILE]

A publisher process sends an image of 1280x720 and a sweep of 120,000 points with sensor QoS; the `stack` node runs in a
process of its own. Its /diagnostics is where the numbers come from: of the frames, received = used + dropped; of the
inputs, what was lost in transport. `own overhead` is reading and synchronising messages (`intake`) plus building and
publishing the results (`publishing`), beside `network` and `obstacles`, the inference.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

WIDTH, HEIGHT, POINTS = 1280, 720, 120_000
NODE = "stack"


def publish(frames: int, rate: float) -> None:
    """The publisher's process: wait for the stack, send the frames, print how long it really took."""
    from karp_perception.ros import messages
    from karp_perception.ros.messages import create_ros_message as create
    from karp_perception.ros.transport import make_room_for_large_messages

    make_room_for_large_messages()
    import rclpy
    from rclpy.qos import DurabilityPolicy, QoSProfile, qos_profile_sensor_data

    rclpy.init()
    node = rclpy.create_node("sensors")
    latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)

    def publisher(type_name: str, topic: str, qos: QoSProfile):
        return node.create_publisher(messages.message_class(type_name), topic, qos)

    images = publisher("sensor_msgs/msg/Image", f"/{NODE}/input/image0", qos_profile_sensor_data)
    infos = publisher("sensor_msgs/msg/CameraInfo", f"/{NODE}/input/camera_info0", qos_profile_sensor_data)
    points = publisher("sensor_msgs/msg/PointCloud2", f"/{NODE}/input/points", qos_profile_sensor_data)
    static = publisher("tf2_msgs/msg/TFMessage", "/tf_static", latched)
    camera = np.array([[0, 0, 1, 0.5], [-1, 0, 0, 0], [0, -1, 0, 1.5], [0, 0, 0, 1]], float)
    lidar = np.eye(4)
    lidar[2, 3] = 1.8
    frames_of = [("base_link", "camera", camera), ("base_link", "lidar", lidar)]
    static.publish(messages.transforms_message(frames_of, 1, create))
    intrinsics = np.array([[900.0, 0, WIDTH / 2], [0, 900, HEIGHT / 2], [0, 0, 1]])
    random = np.random.default_rng(0)
    picture = random.integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
    cloud = street(random)
    while not all(p.get_subscription_count() for p in (images, infos, points, static)):
        time.sleep(0.05)
    time.sleep(1.0)
    start = time.monotonic()
    for i in range(frames):
        time.sleep(max(0.0, start + i / rate - time.monotonic()))
        stamp = time.time_ns()
        infos.publish(messages.camera_info_message(intrinsics, (WIDTH, HEIGHT), stamp, "camera", create))
        images.publish(messages.image_message(picture, stamp, "camera", create))
        points.publish(messages.pointcloud_message(cloud, stamp, "lidar", create))
    print(f"{time.monotonic() - start:.2f}")
    time.sleep(1.0)
    rclpy.shutdown()


def street(random: np.random.Generator) -> np.ndarray:
    """(POINTS, 4) in the lidar's frame: rings on the ground, twenty boxes beside the road, walls."""
    count = POINTS // 2
    radius, angle = 4 + 60 * random.random(count) ** 2, random.uniform(-np.pi, np.pi, count)
    ground = np.column_stack([radius * np.cos(angle), radius * np.sin(angle), np.full(count, -1.8)])
    ground[:, 2] += random.normal(0, 0.02, count)
    centers = np.column_stack([random.uniform(-40, 40, 20), np.where(random.random(20) < 0.5, -6.0, 6.0)])
    which = random.integers(0, 20, POINTS // 4)
    offset = random.uniform((-2.2, -0.9, -1.6), (2.2, 0.9, -0.2), (len(which), 3))
    side = random.random(len(which)) < 0.5
    offset[side, 0], offset[~side, 1] = -2.2, 0.9
    cars = np.column_stack([centers[which], np.zeros(len(which))]) + offset
    rest = POINTS - count - len(which)
    walls = np.column_stack([random.uniform(-60, 60, rest), np.where(random.random(rest) < 0.5, -14, 14)])
    walls = np.column_stack([walls, random.uniform(-1.8, 4, rest)])
    xyz = np.concatenate([ground, cars, walls])
    return np.column_stack([xyz, random.random(POINTS)]).astype(np.float32)


def measure(frames: int, rate: float, model: str, depth: int) -> dict[str, object]:
    """Run both processes; the numbers of the last /diagnostics."""
    from karp_perception.ros import messages
    from karp_perception.ros.transport import make_room_for_large_messages

    make_room_for_large_messages()
    import rclpy

    rclpy.init()
    listener = rclpy.create_node("listener")
    latest: dict[str, dict[str, float]] = {}
    decisions = [0]

    def hear(array) -> None:
        for status in array.status:
            latest[status.name] = {pair.key: float(pair.value) for pair in status.values}

    def count(_) -> None:
        decisions[0] += 1

    diagnostics = messages.message_class("diagnostic_msgs/msg/DiagnosticArray")
    listener.create_subscription(diagnostics, "/diagnostics", hear, 50)
    # Somebody listens to the main outputs, so that they are built and sent.
    for topic, kind in {
        "objects": "autoware_perception_msgs/msg/PredictedObjects",
        "obstacles": "vision_msgs/msg/Detection3DArray",
        "trajectory": "autoware_planning_msgs/msg/Trajectory",
        "decision": "diagnostic_msgs/msg/DiagnosticStatus",
    }.items():
        listener.create_subscription(messages.message_class(kind), f"/{NODE}/output/{topic}", count, 10)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    parameters = ["-p", f"detector.model:={model}", "-p", f"input_depth:={depth}", "-p", "input_timeout:=60.0"]
    stack = subprocess.Popen(
        [sys.executable, str(ROOT / "executables" / NODE), "--ros-args", *parameters], env=environment
    )
    sender = subprocess.Popen(
        [sys.executable, __file__, "--publish", "--frames", str(frames), "--rate", str(rate)],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        while sender.poll() is None and stack.poll() is None:
            rclpy.spin_once(listener, timeout_sec=0.1)
        deadline = time.monotonic() + 2.5
        while time.monotonic() < deadline:
            rclpy.spin_once(listener, timeout_sec=0.1)
    finally:
        stack.send_signal(signal.SIGINT)
        code = stack.wait(20)
        sender.kill()
        listener.destroy_node()
        rclpy.shutdown()
    frame_counts, times = latest[f"{NODE}: frames"], latest[f"{NODE}: latency"]
    inputs = {name: latest[f"{NODE}: input {name}"] for name in ("lidar", "front")}
    dropped = {k.removeprefix("dropped."): int(v) for k, v in frame_counts.items() if k.startswith("dropped.")}
    inference = {stage: times.get(f"{stage}.p50_ms") for stage in ("network", "obstacles")}
    return {
        "sent": frames,
        "image": [WIDTH, HEIGHT],
        "points": POINTS,
        "rate_hz": rate,
        "input_depth": depth,
        "model": model,
        "frames": {"received": int(frame_counts["received"]), "used": int(frame_counts["used"]), "dropped": dropped},
        "balanced": int(frame_counts["received"]) == int(frame_counts["used"]) + sum(dropped.values()),
        "lost_in_transport": {name: int(seen["lost_in_transport"]) for name, seen in inputs.items()},
        "received": {name: int(seen["received"]) for name, seen in inputs.items()},
        "own_overhead_p50_ms": round(times["intake.p50_ms"] + times["publishing.p50_ms"], 3),
        "inference_p50_ms": inference,
        "latency_ms": times,
        "exit_code": code,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--rate", type=float, default=10.0)
    parser.add_argument("--model", default="nano", help="of the network; none leaves it out")
    parser.add_argument("--depth", type=int, default=5, help="of the sensor subscriptions; 5 is SensorDataQoS")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--publish", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.publish:
        publish(arguments.frames, arguments.rate)
        return
    result = measure(arguments.frames, arguments.rate, arguments.model, arguments.depth)
    text = json.dumps(result, indent=2)
    print(text)
    if arguments.json:
        arguments.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
