"""What the demo reads back from its recording is what the stack had to say."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest

from karp_perception.core import (
    Boxes,
    Command,
    Decision,
    DecisionKind,
    EgoState,
    LidarSweep,
    MotionSource,
    Objects,
    Plan,
    SensorFrame,
    Trajectory,
    Vehicle,
)
from karp_perception.core.counters import Counters
from karp_perception.demo import demo
from karp_perception.pipeline import Result
from karp_perception.recorded_drive import RecordedDrive, account, read_recording
from karp_perception.ros import outputs
from karp_perception.ros.diagnostics import DiagnosticsReport
from karp_perception.sensing.bags import BagReader, BagWriter
from karp_perception.sensing.message_types import default_message

STAMP = 1_700_000_000_123_456_789
WHEELBASE = 2.8


def a_result(stamp_ns: int) -> Result:
    random = np.random.default_rng(stamp_ns % 1000)
    detections = Boxes([[10, 1, 0.8]], [[4, 1.8, 1.5]], [0.2], [[3, 0]], [0], [0.75], np.ones((1, 9)))
    velocity = np.full((3, 2), np.nan)
    obstacles = Boxes(
        random.normal(size=(3, 3)), random.uniform(0.1, 2, (3, 3)), np.zeros(3), velocity, -np.ones(3), np.ones(3)
    )
    tracked = Boxes([[10, 1, 0.8]], [[4, 1.8, 1.5]], [0.2], [[3, 0.5]], [0], [0.75])
    covariance = np.diag([1, 2, 3, 4, 5, 5.0])[None]
    predicted = random.normal(size=(1, 2, 4, 3))
    objects = Objects(tracked, [7], covariance, [0], [0], predicted, [[0.75, 0.25]], 0.5)
    t = 0.1 * np.arange(6)
    way = Trajectory(t, 5 * t, 0.1 * t, 0.02 * t, 5 - t, -np.ones(6), np.full(6, 0.01))
    decision = Decision(DecisionKind.FOLLOW, "FOLLOW car 7, 12.3 m ahead", 7, 12.3, 4.56)
    ego = EgoState(stamp_ns, np.eye(4), np.array([5.0, 0.0]), 0.1, MotionSource.LIDAR)
    return Result(stamp_ns, ego, detections, obstacles, objects, Plan(stamp_ns, way, decision), {"total": 12.5})


class Recording:
    """Stands in for a node whose every publisher is heard by a recorder."""

    def __init__(self, writer: BagWriter) -> None:
        self._writer = writer
        self.settings = SimpleNamespace(sensing=SimpleNamespace(base_frame="base_link"))
        self.node_settings = SimpleNamespace(odom_frame="odom")

    def publisher(self, type_name: str, topic: str) -> Any:
        name = topic.replace("~", "/stack")
        write = lambda message: self._writer.write(name, type_name, STAMP, message)  # noqa: E731
        return SimpleNamespace(get_subscription_count=lambda: 1, publish=write)


@pytest.fixture
def recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, list[Result]]:
    """Two results as the stack publishes them, and its diagnostics."""
    monkeypatch.setattr(outputs, "create", default_message)  # the same on the wire, without ROS
    path, results = tmp_path / "replay.mcap", [a_result(STAMP), a_result(STAMP + 100_000_000)]
    with BagWriter(path) as writer:
        publish = outputs.Outputs(Recording(writer), outputs.OUTPUTS)
        frames = Counters()
        for result in results:
            publish.planning(result.plan, Command(0.0, 5.0, -1.0), result.ego, Vehicle())
            publish.tracking(result.stamp_ns, result.objects)
            publish.perception(result.stamp_ns, result.ego, result.detections, result.obstacles)
            publish.markers(result.stamp_ns, lambda d: d.objects(results[0].objects).plan(results[0].plan))
            frames.use()
        frames.drop("superseded")
        report = DiagnosticsReport("stack", frames, {"lidar": frames})
        writer.write(
            "/diagnostics", "diagnostic_msgs/msg/DiagnosticArray", STAMP, report.message(STAMP, default_message)
        )
    return path, results


def test_a_recording_gives_back_what_the_stack_published(recorded: tuple[Path, list[Result]]) -> None:
    path, results = recorded
    found = read_recording(path, WHEELBASE)
    stamps = {result.stamp_ns for result in results}
    assert set(found.plans) == set(found.detections) == set(found.obstacles) == set(found.objects) == stamps
    for result in results:
        for got, said in (
            (found.detections[result.stamp_ns], result.detections),
            (found.obstacles[result.stamp_ns], result.obstacles),
            (found.objects[result.stamp_ns].boxes, result.objects.boxes),
        ):
            for name in ("center", "size", "yaw", "velocity", "label", "score"):
                np.testing.assert_allclose(getattr(got, name), getattr(said, name), atol=1e-12, err_msg=name)
        np.testing.assert_array_equal(found.detections[result.stamp_ns].variance, result.detections.variance)
        objects = found.objects[result.stamp_ns]
        np.testing.assert_array_equal(objects.track_id, result.objects.track_id)
        np.testing.assert_allclose(objects.predicted[..., :2], result.objects.predicted[..., :2])
        np.testing.assert_allclose(found.trajectories[result.stamp_ns].x, result.plan.trajectory.x)
        assert found.plans[result.stamp_ns].decision == result.plan.decision
    counts = found.diagnostics["stack: frames"]
    assert (counts["used"], counts["dropped.superseded"], counts["received"]) == ("2", "1", "3")
    assert "stack: input lidar" in found.diagnostics


def test_a_frame_gets_its_own_answer_or_none(recorded: tuple[Path, list[Result]]) -> None:
    path, results = recorded
    found = read_recording(path, WHEELBASE)

    def answer(stamp_ns: int) -> Result | None:
        return found.result(SensorFrame(stamp_ns, {}, LidarSweep(np.zeros((1, 4), np.float32), stamp_ns)))

    for result in results:
        got = answer(result.stamp_ns)
        np.testing.assert_array_equal(got.obstacles.center, result.obstacles.center)
        assert got.plan.decision == result.plan.decision
        np.testing.assert_allclose(got.plan.trajectory.speed, result.plan.trajectory.speed)
    assert answer(STAMP + 50_000_000) is None


def test_every_output_is_recorded_once_for_each_frame(recorded: tuple[Path, list[Result]]) -> None:
    path, results = recorded
    with BagReader(path) as bag:
        counts = Counter(item.topic for item in bag.messages())
    expected = {f"/stack/output/{name}": len(results) for name in outputs.OUTPUTS}
    assert counts == {**expected, "/diagnostics": 1}


def a_drive(speed: float) -> RecordedDrive:
    """Answers to a drive along x; a pedestrian stands at 20 m, 1 m beside the vehicle's side; a car far away."""
    drive = RecordedDrive(route=np.array([[0.0, 0.0], [100.0, 0.0]]))
    places = np.array([[20.0, 0.95 + 1.0 + 0.3, 0.9], [80.0, 10.0, 0.8]])
    for ego in egos(speed):
        boxes = Boxes(places, [[0.6, 0.6, 1.8], [4, 2, 1.6]], [0, 0], np.zeros((2, 2)), [5, 0], [1, 1], frame="odom")
        T = np.linalg.inv(ego.T_odom_base)
        drive.truth[ego.stamp_ns] = (boxes.transformed(T, "base_link"), np.array([4, 9]))
        decision = Decision(DecisionKind.STOP if ego.speed < 3 else DecisionKind.CRUISE, f"at {ego.speed:.0f} m/s")
        drive.plans[ego.stamp_ns] = Plan(ego.stamp_ns, Trajectory.empty(), decision)
    return drive


def egos(speed: float) -> list[EgoState]:
    """At a speed for 3 s, then standing for 1 s; frames 0.1 s apart."""
    states = []
    for k in range(40):
        pose = np.eye(4)
        pose[0, 3] = speed * 0.1 * min(k, 30)
        states.append(EgoState(STAMP + k * 10**8, pose, np.array([speed if k < 30 else 0.0, 0.0])))
    return states


def test_the_account_says_how_close_it_came_and_where_it_stopped() -> None:
    told = account(a_drive(8.0).record(egos(8.0), Vehicle()))
    assert told["contacts"] == []
    assert told["closest"]["what"] == "pedestrian 4"
    assert told["closest"]["m"] == pytest.approx(1.0)
    # The front (2.9 m ahead of base_link) passes the nearer side of the pedestrian at 19.7 m.
    assert told["closest"]["t_s"] == pytest.approx((19.7 - 2.9) / 8.0, abs=0.1)
    (stop,) = told["stops"]
    assert (stop["t_s"], stop["until_s"], stop["after_m"]) == (3.0, 3.9, 24.0)
    assert stop["for"] == "at 0 m/s"
    assert told["distance_m"] == pytest.approx(24.0)


def test_the_account_names_a_contact() -> None:
    drive, states = a_drive(12.0), egos(12.0)
    shift = np.eye(4)
    shift[1, 3] = 1.5
    states = [replace(ego, T_odom_base=shift @ ego.T_odom_base) for ego in states]
    for ego in states:
        boxes, ids = drive.truth[ego.stamp_ns]
        drive.truth[ego.stamp_ns] = (replace(boxes, center=boxes.center - [0, 1.5, 0]), ids)
    (contact,) = account(drive.record(states, Vehicle()))["contacts"]
    assert contact["what"] == "pedestrian 4"
    assert contact["speed_m_s"] == pytest.approx(12.0)
    assert contact["t_s"] == pytest.approx((19.7 - 2.9) / 12.0, abs=0.02)


def check_files(out: Path, said: str) -> dict[str, Any]:
    summary = json.loads((out / "summary.json").read_text())
    frames = summary["frames"]
    assert frames["sent"] == 30
    assert frames["received"] == frames["used"] + sum(frames["dropped"].values())
    assert frames["answered"] > 5, "a busy machine may drop frames, not all of them"
    assert summary["decisions_over_time"]
    assert {"obstacles", "tracking", "planning", "total"} <= set(summary["latency_ms"])
    drive = summary["drive"]
    assert drive["contacts"] == []
    assert drive["duration_s"] == pytest.approx(2.9)
    assert drive["distance_m"] > 5.0
    lines = (out / "frames.jsonl").read_text().splitlines()
    assert len(lines) == frames["answered"]
    assert any(json.loads(line)["objects"] for line in lines)
    with av.open(str(out / "drive.mp4")) as video:
        assert sum(1 for _ in video.decode(video=0)) == frames["answered"]
    assert "contacts: 0" in said
    return summary


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A parameter file without a network."""
    file = tmp_path / "config.yaml"
    file.write_text("/**:\n  ros__parameters:\n    detector:\n      model: none\n")
    return file


@pytest.mark.ros
def test_the_demo_drives_end_to_end_over_ros(config: Path, tmp_path: Path) -> None:
    """world -> stack -> world, and the recorder, in processes of their own; then table, records and video."""
    out = tmp_path / "demo"
    command = [sys.executable, "-m", "karp_perception.cli", "demo", "--out", str(out), "--seconds", "3"]
    run = subprocess.run([*command, "--config", str(config)], capture_output=True, text=True, timeout=300, check=False)
    assert run.returncode == 0, run.stderr
    summary = check_files(out, run.stdout)
    assert float(summary["world"]["braked"]) == 0, "every command reached the world"
    with BagReader(out / "replay.mcap") as bag:
        for topic in ("/lidar/points", "/world/truth/objects", "/stack/output/objects"):
            assert bag.topics[topic].count == 30
    assert (out / "stack.log").stat().st_size > 0


def test_without_ros_the_demo_drives_all_the_same(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "rclpy" else find(name))
    shares: list[float] = []
    demo(tmp_path / "demo", 3.0, [config], lambda share, _: shares.append(share))
    said = capsys.readouterr().out
    assert "without nodes" in said
    check_files(tmp_path / "demo", said)
    assert shares == sorted(shares)
    assert (tmp_path / "demo" / "replay.mcap").stat().st_size > 0
