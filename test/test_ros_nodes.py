"""The nodes over real DDS, each as a process: faults, accounting, lifecycle, parameters, the end."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs rclpy: `make setup` installs it, or source a ROS 2 installation")

from ros_graph import QUICK, NodeProcess, Peer, SensorRig, counts, wait_until

from karp_perception.core import Boxes, Objects
from karp_perception.ros import messages
from karp_perception.ros.messages import create_ros_message as create

pytestmark = pytest.mark.ros

SECOND = 10**9
PERIOD = SECOND // 10


@pytest.fixture(scope="module")
def peer() -> Iterator[Peer]:
    made = Peer()
    yield made
    made.close()


def dropped(numbers: dict[str, float]) -> dict[str, float]:
    return {key.removeprefix("dropped."): value for key, value in numbers.items() if key.startswith("dropped.")}


def test_bad_messages_are_counted_by_reason_and_the_detector_stays_active(peer: Peer) -> None:
    diagnostics = peer.heard("diagnostic_msgs/msg/DiagnosticArray", "/diagnostics")
    obstacles = peer.heard("vision_msgs/msg/Detection3DArray", "/detector/output/obstacles")
    rig = SensorRig(peer, "detector")
    node = NodeProcess("detector", *QUICK, "-p", "diagnostics_period:=0.2", "-p", "input_depth:=10")
    try:
        wait_until(rig.connected, "the detector to subscribe")
        now = 1000 * SECOND
        wide, short, early, torn = rig.image(now), rig.cloud(now), rig.cloud(now), rig.cloud(now + 1)
        wide.width = 0
        short.data = short.data[: len(short.data) // 2]
        early.header.stamp.sec = -5
        torn.point_step = 3
        rig.infos.publish(rig.info(now))
        rig.images.publish(wide)
        for bad in (short, early, torn):
            rig.points.publish(bad)
        good = 3
        for i in range(1, good + 1):
            rig.send(now + i * PERIOD)
            time.sleep(0.3)
        wait_until(lambda: len(obstacles) >= 1 and counts(diagnostics, "detector: input lidar"), "results")

        def settled() -> bool:
            lidar = counts(diagnostics, "detector: input lidar")
            return lidar["received"] + lidar["lost_in_transport"] >= 3 + good

        wait_until(settled, "everything to be counted")
        lidar = counts(diagnostics, "detector: input lidar")
        assert lidar["received"] == lidar["used"] + sum(dropped(lidar).values())
        assert dropped(lidar)["absurd_stamp"] == 1
        assert sum(dropped(lidar).values()) >= 3
        assert dropped(counts(diagnostics, "detector: input front"))
        frames = counts(diagnostics, "detector: frames")
        assert frames["received"] == frames["used"] + sum(dropped(frames).values())
        assert peer.state("detector") == "active"
        found = messages.boxes_from_detections(obstacles[-1])
        near = found.center[np.abs(found.center[:, 1]) < 1.5]
        assert len(near), "the box 12.5 m ahead is among the obstacles"
        assert np.abs(near[:, 0] - 12.5).min() < 1.0
    finally:
        code, _ = node.end()
    assert code == 0, node.output
    assert "Traceback" not in node.output, node.output


def test_every_large_message_is_accounted_for_between_processes(peer: Peer) -> None:
    """15 images of 1280x720 and sweeps of 120,000 points at 10 Hz, best effort, into the whole stack."""
    diagnostics = peer.heard("diagnostic_msgs/msg/DiagnosticArray", "/diagnostics")
    decisions = peer.heard("diagnostic_msgs/msg/DiagnosticStatus", "/stack/output/decision")
    rig = SensorRig(peer, "stack")
    arguments = [*QUICK, "-p", "diagnostics_period:=0.2", "-p", "input_depth:=10", "-p", "input_timeout:=60.0"]
    node = NodeProcess("stack", *arguments)
    try:
        wait_until(rig.connected, "the stack to subscribe")
        sent = 15
        for i in range(sent):
            rig.send((2000 * SECOND) + i * PERIOD)
            time.sleep(0.1)

        def all_counted() -> bool:
            frames, lidar = (counts(diagnostics, f"stack: {name}") for name in ("frames", "input lidar"))
            return bool(lidar) and frames["received"] + lidar["lost_in_transport"] >= sent

        wait_until(all_counted, "all frames to be counted")
        frames = counts(diagnostics, "stack: frames")
        assert frames["received"] == frames["used"] + sum(dropped(frames).values())
        assert frames["used"] > 0
        for name in ("lidar", "front"):
            seen = counts(diagnostics, f"stack: input {name}")
            assert seen["received"] == seen["used"] + sum(dropped(seen).values())
            # The last image may still wait for another sweep.
            assert sent - 1 <= seen["received"] + seen["lost_in_transport"] <= sent
        times = counts(diagnostics, "stack: latency")
        assert {"total.p50_ms", "intake.p50_ms", "publishing.p99_ms", "pipeline.p50_ms"} <= set(times)
        assert decisions
    finally:
        code, _ = node.end()
    assert code == 0, node.output


def test_a_lifecycle_manager_can_take_over(peer: Peer) -> None:
    node = NodeProcess("tracker", "-p", "autostart:=false")
    try:
        assert peer.state("tracker") == "unconfigured"

        def change(label: str) -> bool:
            service = "/tracker/change_state"
            fill = lambda request: setattr(request.transition, "label", label)  # noqa: E731
            return peer.call("lifecycle_msgs/srv/ChangeState", service, fill).success

        def confirm_set_to(value: float) -> tuple[bool, str]:
            from rclpy.parameter import Parameter

            parameter = Parameter("tracker.confirm", value=value).to_parameter_msg()
            fill = lambda request: setattr(request, "parameters", [parameter])  # noqa: E731
            result = peer.call("rcl_interfaces/srv/SetParameters", "/tracker/set_parameters", fill).results[0]
            return result.successful, result.reason

        assert confirm_set_to(0.6)[0]
        assert not confirm_set_to(6.0)[0], "outside its range"
        for label, state in (("configure", "inactive"), ("activate", "active")):
            assert change(label)
            assert peer.state("tracker") == state
        taken, why = confirm_set_to(0.5)
        assert not taken
        assert "configured" in why
        for label, state in (("deactivate", "inactive"), ("cleanup", "unconfigured"), ("configure", "inactive")):
            assert change(label), node.output
            assert peer.state("tracker") == state
    finally:
        code, _ = node.end()
    assert code == 0, node.output


def test_parameters_describe_themselves(peer: Peer) -> None:
    node = NodeProcess("planner", "-p", "autostart:=false")
    try:
        fill = lambda request: setattr(request, "names", ["vehicle.front", "input_reliability"])  # noqa: E731
        answer = peer.call("rcl_interfaces/srv/DescribeParameters", "/planner/describe_parameters", fill)
        front, reliability = answer.descriptors
        assert front.description == "from base_link to the front bumper [m]"
        bounds = front.floating_point_range[0]
        assert (bounds.from_value, bounds.to_value) == (0.0, 20.0)
        assert reliability.additional_constraints == "one of: best_effort, reliable"
    finally:
        node.end()


@pytest.mark.parametrize(
    ("name", "argument", "expected"),
    [
        ("tracker", "tracker.confirm:=5.0", "tracker.confirm"),
        ("planner", "vehicle.front:=long", "vehicle.front"),
        ("player", "bag:=/nowhere/at_all.mcap", "/nowhere/at_all.mcap"),
    ],
)
def test_a_wrong_parameter_ends_the_process_with_one_clear_line(name: str, argument: str, expected: str) -> None:
    node = NodeProcess(name, "-p", argument)
    assert node.wait() == 1
    assert "Traceback" not in node.output, node.output
    assert expected in node.output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_sigterm_end_every_node_cleanly(peer: Peer, number: int) -> None:
    sensing = ("stack", "detector")
    nodes = {name: NodeProcess(name, *(QUICK if name in sensing else ())) for name in (*sensing, "tracker", "planner")}
    try:
        for name in nodes:
            wait_until(lambda name=name: peer.state(name) == "active", f"{name} to be active")
    finally:
        ends = {name: node.end(number) for name, node in nodes.items()}
    for name, (code, seconds) in ends.items():
        print(f"{name} ended after {seconds:.2f} s")
        assert code == 0, nodes[name].output
        assert "Traceback" not in nodes[name].output, nodes[name].output


def test_the_planner_says_so_when_objects_stop_coming(peer: Peer) -> None:
    decisions = peer.heard("diagnostic_msgs/msg/DiagnosticStatus", "/planner/output/decision")
    objects = peer.publisher("autoware_perception_msgs/msg/PredictedObjects", "/planner/input/objects")
    obstacles = peer.publisher("vision_msgs/msg/Detection3DArray", "/planner/input/obstacles")
    odometry = peer.publisher("nav_msgs/msg/Odometry", "/planner/input/odometry")
    node = NodeProcess("planner", "-p", "input_timeout:=0.4")
    try:
        wait_until(lambda: all(p.get_subscription_count() for p in (objects, obstacles, odometry)), "the planner")

        def kinds() -> list[str]:
            return [messages.decision_from_status(status)[1].kind.value for status in decisions]

        wait_until(lambda: "NO_INPUT" in kinds(), "NO_INPUT before the first input")
        assert "no input has come yet" in decisions[-1].message

        def feed() -> bool:
            feed.stamp += PERIOD
            state = create("nav_msgs/msg/Odometry")
            state.header.stamp.sec, state.header.stamp.nanosec = divmod(feed.stamp, SECOND)
            state.twist.twist.linear.x = 5.0
            odometry.publish(state)
            obstacles.publish(messages.detections_bytes(Boxes.empty(), feed.stamp))
            objects.publish(messages.objects_bytes(Objects.empty(), feed.stamp))
            time.sleep(0.1)
            return "CRUISE" in kinds()

        feed.stamp = 3000 * SECOND
        wait_until(feed, "a free road to be cruised")
        count = len(decisions)
        wait_until(lambda: "NO_INPUT" in kinds()[count:], "NO_INPUT after the last input")
        assert "nothing new for" in decisions[-1].message
    finally:
        node.end()


def test_messages_in_another_frame_are_dropped_and_counted(peer: Peer) -> None:
    diagnostics = peer.heard("diagnostic_msgs/msg/DiagnosticArray", "/diagnostics")
    detections = peer.publisher("vision_msgs/msg/Detection3DArray", "/tracker/input/detections")
    node = NodeProcess("tracker", "-p", "diagnostics_period:=0.2")
    try:
        wait_until(detections.get_subscription_count, "the tracker")
        detections.publish(messages.detections_bytes(Boxes.empty("map"), 5 * SECOND))
        reason = "wrong_frame"
        wait_until(lambda: reason in dropped(counts(diagnostics, "tracker: input detections")), "the count")
    finally:
        node.end()
