"""The launch files with the real launch and launch_ros: nodes reach active, Ctrl-C ends all of them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs rclpy: `make setup` installs it, or source a ROS 2 installation")

from ros_graph import PATIENCE, ROOT, Peer, wait_until

from karp_perception.ros import messages
from karp_perception.sensing.bags import LATCHED, BagReader, BagWriter
from karp_perception.sensing.message_types import default_message

pytestmark = pytest.mark.ros

FRAMES = 15  # of the drive that is replayed: it starts over farther back than what counts as messages out of order
HANGING = 20.0  # s: what took this long would never have ended
COMPILING = 600.0  # s: on a fresh machine, the world compiles itself first

# `ros2 launch` itself is not in the pure Python packages: this is what it does with a file and its arguments.
LAUNCH = """
import sys
from launch import LaunchDescription, LaunchService
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource

file, *given = sys.argv[1:]
arguments = [argument.split(":=", 1) for argument in given]
service = LaunchService()
source = PythonLaunchDescriptionSource(file)
service.include_launch_description(LaunchDescription([IncludeLaunchDescription(source, launch_arguments=arguments)]))
sys.exit(service.run())
"""


class Launch:
    """A launch file in a process of its own."""

    def __init__(self, site: Path, file: str, *arguments: str) -> None:
        prefix = os.environ.get("AMENT_PREFIX_PATH") or sys.prefix
        path = os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH")]))
        self._process = subprocess.Popen(
            [sys.executable, "-c", LAUNCH, str(ROOT / "launch" / file), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": path, "AMENT_PREFIX_PATH": prefix},
        )
        self.output = ""
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        for line in self._process.stdout:
            self.output += line

    def interrupt(self, *, terminal: bool = True) -> float:
        """Ctrl-C in a terminal, which reaches every process, or SIGINT to launch alone; s until all had ended."""
        start = time.monotonic()
        if terminal:
            os.killpg(self._process.pid, signal.SIGINT)
        else:
            self._process.send_signal(signal.SIGINT)
        assert self.wait(HANGING) == 0, self.output
        return time.monotonic() - start

    def wait(self, timeout: float = PATIENCE) -> int:
        try:
            return self._process.wait(timeout)
        finally:
            if self._process.poll() is None:
                os.killpg(self._process.pid, signal.SIGKILL)
            self._reader.join()

    def check_clean(self, count: int) -> None:
        """All processes ended with exit code 0, none was killed, no traceback."""
        assert self.output.count("process has finished cleanly") == count, self.output
        for bad in ("Traceback", "process has died", "SIGKILL"):
            assert bad not in self.output, self.output


@pytest.fixture
def quick(tmp_path: Path) -> str:
    """A parameter file without a network, so that nothing has to be compiled."""
    file = tmp_path / "quick.yaml"
    file.write_text("/**: {ros__parameters: {detector: {model: none}}}\n")
    return f"config:={file}"


@pytest.mark.parametrize("terminal", [True, False], ids=["terminal", "supervisor"])
@pytest.mark.parametrize(("composed", "names"), [("true", ["stack"]), ("false", ["detector", "tracker", "planner"])])
def test_perception_reaches_active_and_ends_with_ctrl_c(
    ros_launch_site: Path, quick: str, composed: str, names: list[str], terminal: bool
) -> None:
    launch = Launch(ros_launch_site, "perception.launch.py", quick, f"composed:={composed}")
    peer = Peer()
    try:
        for name in names:
            wait_until(lambda name=name: peer.state(name) == "active", f"{name} to be active")
    finally:
        peer.close()
        seconds = launch.interrupt(terminal=terminal)
    print(f"composed:={composed} ended {seconds:.2f} s after Ctrl-C")
    launch.check_clean(len(names))


@pytest.fixture
def short_drive(tmp_path: Path) -> Path:
    """A lidar and a camera at 10 Hz that stand before a wall, under names of their own."""
    path = tmp_path / "short.mcap"
    random = np.random.default_rng(0)
    ground = np.column_stack([random.uniform(-20, 20, (5000, 2)), np.full(5000, -1.8), np.ones(5000)])
    wall = np.column_stack([np.full(500, 12.0), random.uniform(-1, 1, 500), random.uniform(-1.6, 0, 500), np.ones(500)])
    points, image = np.concatenate([ground, wall]), np.zeros((90, 160, 3), np.uint8)
    K = np.array([[100.0, 0, 80], [0, 100, 45], [0, 0, 1]])
    lidar, camera = np.eye(4), np.array([[0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 1.5], [0, 0, 0, 1]], float)
    lidar[2, 3] = 1.8
    start, create = 1_300_000_000 * 10**9, default_message
    with BagWriter(path) as writer:
        frames = [("base_link", "velodyne", lidar), ("base_link", "eye", camera)]
        static = messages.transforms_message(frames, start, create)
        writer.write("/tf_static", "tf2_msgs/msg/TFMessage", start, static, qos=LATCHED)
        for i in range(FRAMES):
            stamp = start + i * 10**8
            for topic, message in {
                "/left/camera_info": messages.camera_info_message(K, (160, 90), stamp, "eye", create),
                "/left/image_raw": messages.image_message(image, stamp, "eye", create),
                "/velodyne_points": messages.pointcloud_message(points, stamp, "velodyne", create),
            }.items():
                writer.write(topic, message.__msgtype__, stamp, message)
    return path


@pytest.mark.parametrize("composed", ["true", "false"])
def test_replay_finds_its_topics_and_ends_with_the_recording(
    ros_launch_site: Path, quick: str, short_drive: Path, tmp_path: Path, composed: str
) -> None:
    out = tmp_path / "out.mcap"
    arguments = [f"bag:={short_drive}", f"record:={out}", f"composed:={composed}", quick]
    launch = Launch(ros_launch_site, "replay.launch.py", *arguments)
    assert launch.wait(2 * PATIENCE) == 0, launch.output
    nodes = 1 if composed == "true" else 3
    launch.check_clean(nodes + 2)
    played = re.search(r"(\d+) messages played", launch.output)
    assert played is not None, launch.output
    assert int(played[1]) == 3 * FRAMES + 1
    with BagReader(out) as recorded:
        suffix = "stack" if composed == "true" else "planner"
        decisions = [
            messages.decision_from_status(item.message)
            for item in recorded.messages([f"/{suffix}/output/decision"])
        ]  # fmt: skip
    stamps = {stamp for stamp, decision in decisions if decision.kind.value != "NO_INPUT"}
    assert stamps, launch.output
    assert all(1_300_000_000 <= stamp / 10**9 < 1_300_000_000 + FRAMES for stamp in stamps)


def test_a_looping_replay_is_used_again_and_ctrl_c_ends_it(
    ros_launch_site: Path, quick: str, short_drive: Path
) -> None:
    peer = Peer()
    launch = Launch(ros_launch_site, "replay.launch.py", f"bag:={short_drive}", "loop:=true", quick)
    try:
        decisions = peer.heard("diagnostic_msgs/msg/DiagnosticStatus", "/stack/output/decision")

        def used_again() -> bool:
            read = [messages.decision_from_status(status) for status in decisions]
            stamps = [stamp for stamp, decision in read if decision.kind.value != "NO_INPUT"]
            return bool((np.diff(stamps) < 0).any())

        wait_until(used_again, "a decision on the second round")
    finally:
        peer.close()
        seconds = launch.interrupt()
    print(f"a looping replay ended {seconds:.2f} s after Ctrl-C")
    launch.check_clean(2)


def test_the_demo_drives_in_a_closed_loop_and_ends_with_the_drive(
    ros_launch_site: Path, quick: str, tmp_path: Path
) -> None:
    out = tmp_path / "drive.mcap"
    arguments = [quick, "rig:=nano", "duration:=1.0", "real_time_factor:=0.0", "wait_for_command:=20.0"]
    launch = Launch(ros_launch_site, "demo.launch.py", *arguments, f"record:={out}")
    assert launch.wait(COMPILING) == 0, launch.output
    launch.check_clean(3)
    with BagReader(out) as recorded:
        counts = {topic.name: topic.count for topic in recorded.topics.values()}
        stamps = {messages.get_stamp(m.message.header.stamp) for m in recorded.messages(["/stack/output/command"])}
        frames = {messages.get_stamp(m.message.header.stamp) for m in recorded.messages(["/lidar/points"])}
    assert counts["/lidar/points"] == counts["/world/truth/objects"] == 10
    assert len(frames & stamps) == 10, "every frame was answered"
