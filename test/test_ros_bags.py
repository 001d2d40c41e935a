"""The player and the recorder: a recording through real topics and back, unchanged."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs rclpy: `make setup` installs it, or source a ROS 2 installation")

from ros_graph import NodeProcess, Peer, wait_until

from karp_perception.ros import messages
from karp_perception.sensing.bags import LATCHED, BagReader, BagWriter, Qos
from karp_perception.sensing.message_types import default_message

pytestmark = pytest.mark.ros

SECOND = 10**9
START = 1_300_000_000 * SECOND
FRAMES = 8


@pytest.fixture
def small_bag(tmp_path: Path) -> Path:
    """Points best effort, odometry reliable, a latched transform; 8 frames at 20 Hz."""
    path = tmp_path / "small.mcap"
    points = np.random.default_rng(0).normal(size=(100, 4)).astype(np.float32)
    with BagWriter(path) as writer:
        static = messages.transforms_message([("base_link", "lidar", np.eye(4))], START, default_message)
        writer.write("/tf_static", "tf2_msgs/msg/TFMessage", START, static, qos=LATCHED)
        for i in range(FRAMES):
            stamp = START + i * SECOND // 20
            cloud = messages.pointcloud_message(points + i, stamp, "lidar", default_message)
            writer.write("/points", "sensor_msgs/msg/PointCloud2", stamp, cloud, qos=Qos("best_effort"))
            odometry = default_message("nav_msgs/msg/Odometry")
            odometry.header.stamp.sec = i
            writer.write("/odometry", "nav_msgs/msg/Odometry", stamp + 1000, odometry)
    return path


def test_a_recording_goes_through_topics_into_a_recording_byte_by_byte(small_bag: Path, tmp_path: Path) -> None:
    out = tmp_path / "again.mcap"
    topics = "['/points', '/odometry', '/tf_static', '/clock']"
    recorder = NodeProcess("recorder", "-p", f"out:={out}", "-p", f"topics:={topics}")
    try:
        heard = "['/points', '/odometry', '/tf_static']"
        player = NodeProcess("player", "-p", f"bag:={small_bag}", "-p", f"wait_for:={heard}")
        assert player.wait() == 0, player.output
        assert f"{2 * FRAMES + 1} messages played" in player.output
    finally:
        code, _ = recorder.end()
    assert code == 0, recorder.output
    with BagReader(small_bag) as before, BagReader(out) as after:
        for topic in ("/points", "/odometry", "/tf_static"):
            sent, got = ([raw.data for raw in bag.raw_messages([topic])] for bag in (before, after))
            # DDS fills a payload up to a multiple of four bytes.
            assert [data[: len(original)] for data, original in zip(got, sent, strict=True)] == sent, topic
            assert all(len(data) - len(original) < 4 for data, original in zip(got, sent, strict=True))
        assert after.topics["/points"].qos[0].reliability == "best_effort"
        assert after.topics["/tf_static"].qos[0].durability == "transient_local"
        clock = [messages.get_stamp(item.message.clock) for item in after.messages(["/clock"])]
    assert clock == sorted(clock)
    assert clock[0] >= START
    assert clock[-1] == START + (FRAMES - 1) * SECOND // 20 + 1000


def test_a_loop_starts_over_and_ctrl_c_ends_it(small_bag: Path) -> None:
    peer = Peer()
    try:
        odometry = peer.heard("nav_msgs/msg/Odometry", "/odometry")
        arguments = ["-p", f"bag:={small_bag}", "-p", "loop:=true", "-p", "rate:=4.0", "-p", "wait_for:=['/odometry']"]
        player = NodeProcess("player", *arguments)
        wait_until(lambda: max(Counter(m.header.stamp.sec for m in odometry).values(), default=0) >= 3, "three rounds")
        code, _ = player.end()
        assert code == 0, player.output
    finally:
        peer.close()


def test_a_topic_that_is_not_there_is_named(small_bag: Path) -> None:
    player = NodeProcess("player", "-p", f"bag:={small_bag}", "-p", "topics:=['/camera']")
    assert player.wait() == 1
    assert "/camera" in player.output
    assert "/points" in player.output, "what there is"


def test_what_comes_together_is_recorded_in_the_order_of_its_sending(tmp_path: Path) -> None:
    """Odometry that was sent before the points of its frame must not stand behind them."""
    import rclpy
    from rclpy.executors import SingleThreadedExecutor

    from karp_perception.ros.messages import create_ros_message as create
    from karp_perception.ros.recorder_node import RecorderNode

    out = tmp_path / "order.mcap"
    arguments = ["--ros-args", "-p", f"out:={out}", "-p", "topics:=['/order/*']", "-p", "use_sim_time:=true"]
    rclpy.init(args=arguments)
    peer = Peer()
    try:
        senders = {name: peer.publisher("nav_msgs/msg/Odometry", f"/order/{name}") for name in ("a", "m", "z")}
        recorder, executor = RecorderNode(), SingleThreadedExecutor()
        recorder.begin()
        executor.add_node(recorder)

        def matched() -> bool:
            executor.spin_once(timeout_sec=0.05)
            return all(sender.get_subscription_count() for sender in senders.values())

        wait_until(matched, "the recorder to subscribe")
        order = ["z", "a", "m", "z", "m", "a"]
        for name in order:
            senders[name].publish(create("nav_msgs/msg/Odometry"))
        time.sleep(0.5)  # all of them wait for the recorder, which takes them topic by topic

        def taken() -> bool:
            executor.spin_once(timeout_sec=0.05)
            return sum(recorder.counts.values()) == len(order)

        wait_until(taken, "all to be recorded")
        recorder.end()
        executor.shutdown()
        recorder.destroy_node()
    finally:
        peer.close()
        rclpy.try_shutdown()
    with BagReader(out) as bag:
        assert [message.topic for message in bag.raw_messages()] == [f"/order/{name}" for name in order]
