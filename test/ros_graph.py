"""A peer in a ROS graph for tests: starts our nodes as processes, publishes to them, listens, and ends them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from karp_perception.ros import messages
from karp_perception.ros.messages import create_ros_message as create
from karp_perception.ros.transport import make_room_for_large_messages

ROOT = Path(__file__).resolve().parents[1]
PATIENCE = 40.0  # s for a node to start on a busy machine
ASK_AGAIN = 5.0  # s without an answer
T_BASE_CAMERA = np.array([[0, 0, 1, 0.5], [-1, 0, 0, 0], [0, -1, 0, 1.5], [0, 0, 0, 1]], float)
T_BASE_LIDAR = np.array([[1, 0, 0, 0.5], [0, 1, 0, 0], [0, 0, 1, 1.8], [0, 0, 0, 1]], float)
INTRINSICS = np.array([[700.0, 0, 640], [0, 700, 360], [0, 0, 1]])
QUICK = ["-p", "detector.model:=none", "-p", "odometry.enabled:=false"]


class NodeProcess:
    """One of the package's nodes as a process of its own."""

    def __init__(self, name: str, *arguments: str, env: dict[str, str] | None = None) -> None:
        ros = ["--ros-args", *arguments] if arguments else []
        path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        self._process = subprocess.Popen(
            [sys.executable, str(ROOT / "executables" / name), *ros],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={
                **os.environ,
                **(env or {}),
                "PYTHONPATH": path,
            },
        )
        self.output = ""
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        for line in self._process.stdout:
            self.output += line

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def end(self, number: int = signal.SIGINT, timeout: float = PATIENCE) -> tuple[int, float]:
        """Send a signal; the exit code and how long the end took, s."""
        start = time.monotonic()
        self._process.send_signal(number)
        return self.wait(timeout), time.monotonic() - start

    def wait(self, timeout: float = PATIENCE) -> int:
        try:
            code = self._process.wait(timeout)
        finally:
            if self.running:
                self._process.kill()
            self._reader.join()
        return code


class Peer:
    """A node in the test's own process, spun in a thread."""

    def __init__(self) -> None:
        make_room_for_large_messages()
        import rclpy
        from rclpy.executors import SingleThreadedExecutor

        self.context = rclpy.Context()
        rclpy.init(context=self.context)
        self.node = rclpy.create_node("test_peer", context=self.context)
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(self.node)
        self._stopping = False
        self._thread = threading.Thread(target=self._spin)
        self._thread.start()

    def _spin(self) -> None:
        while not self._stopping:
            self._executor.spin_once(timeout_sec=0.05)

    def close(self) -> None:
        self._stopping = True
        self._thread.join()
        self._executor.shutdown()
        self.node.destroy_node()
        self.context.try_shutdown()

    def publisher(self, type_name: str, topic: str, qos: Any = 10) -> Any:
        return self.node.create_publisher(messages.message_class(type_name), topic, qos)

    def heard(self, type_name: str, topic: str, qos: Any = 50) -> list[Any]:
        """A list that fills with the messages of a topic."""
        received: list[Any] = []
        self.node.create_subscription(messages.message_class(type_name), topic, received.append, qos)
        return received

    def call(self, type_name: str, service: str, request: Any, repeatable: bool = False) -> Any:
        """What a service answers. A repeatable request is made again and again until it does.

        A service is seen before it sees whoever asks: what it answers by then goes nowhere.
        """
        import importlib

        package, _, name = type_name.split("/")
        kind = getattr(importlib.import_module(f"{package}.srv"), name)
        client = self.node.create_client(kind, service)
        assert client.wait_for_service(PATIENCE), f"no service {service}"
        filled = kind.Request()
        request(filled)
        asked = [client.call_async(filled)]

        def answer() -> Any:
            if repeatable and time.monotonic() - since > ASK_AGAIN * len(asked):
                asked.append(client.call_async(filled))
            return next((future for future in asked if future.done()), None)

        since = time.monotonic()
        future = wait_until(answer, f"an answer of {service}")
        self.node.destroy_client(client)
        return future.result()

    def state(self, node: str) -> str:
        answer = self.call("lifecycle_msgs/srv/GetState", f"/{node}/get_state", lambda request: None, repeatable=True)
        return answer.current_state.label


class SensorRig:
    """Publishes a camera, a lidar and their calibration, with sensor QoS."""

    def __init__(self, peer: Peer, node: str) -> None:
        from rclpy.qos import DurabilityPolicy, QoSProfile, qos_profile_sensor_data

        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self.images = peer.publisher("sensor_msgs/msg/Image", f"/{node}/input/image0", qos_profile_sensor_data)
        self.infos = peer.publisher("sensor_msgs/msg/CameraInfo", f"/{node}/input/camera_info0")
        self.points = peer.publisher("sensor_msgs/msg/PointCloud2", f"/{node}/input/points", qos_profile_sensor_data)
        self._static = peer.publisher("tf2_msgs/msg/TFMessage", "/tf_static", latched)
        frames = [("base_link", "camera", T_BASE_CAMERA), ("base_link", "lidar", T_BASE_LIDAR)]
        self._static.publish(messages.transforms_message(frames, 1, create))
        random = np.random.default_rng(0)
        ground = np.column_stack([random.uniform(-40, 40, (119_000, 2)), np.full(119_000, -1.8), np.ones(119_000)])
        car = np.column_stack([np.full(1000, 12.0), random.uniform(-0.9, 0.9, 1000), random.uniform(-1.6, -0.4, 1000)])
        self._cloud = np.concatenate([ground, np.column_stack([car, np.ones(1000)])]).astype(np.float32)
        self._picture = random.integers(0, 255, (720, 1280, 3), np.uint8)

    def connected(self) -> bool:
        return all(p.get_subscription_count() for p in (self.images, self.points, self.infos, self._static))

    def cloud(self, stamp_ns: int) -> Any:
        return messages.pointcloud_message(self._cloud, stamp_ns, "lidar", create)

    def image(self, stamp_ns: int) -> Any:
        return messages.image_message(self._picture, stamp_ns, "camera", create)

    def info(self, stamp_ns: int) -> Any:
        return messages.camera_info_message(INTRINSICS, (1280, 720), stamp_ns, "camera", create)

    def send(self, stamp_ns: int) -> None:
        self.infos.publish(self.info(stamp_ns))
        self.images.publish(self.image(stamp_ns))
        self.points.publish(self.cloud(stamp_ns))


def wait_until(condition: Callable[[], Any], what: str, timeout: float = PATIENCE) -> Any:
    """The condition's first true value; AssertionError, naming `what`, when it does not come."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited {timeout} s for {what}"
        time.sleep(0.02)
    return value


def counts(diagnostics: list[Any], status: str) -> dict[str, float]:
    """The newest numbers of a status of /diagnostics; empty before the first."""
    for array in reversed(diagnostics):
        for item in array.status:
            if item.name == status:
                return {pair.key: float(pair.value) for pair in item.values}
    return {}
