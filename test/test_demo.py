"""What the demo reads back from its recording is what the stack had to say."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from karp_perception.core import (
    Boxes,
    Decision,
    DecisionKind,
    EgoState,
    LidarSweep,
    MotionSource,
    Objects,
    Plan,
    SensorFrame,
    Trajectory,
)
from karp_perception.core.counters import Counters
from karp_perception.demo import _result, read_recording
from karp_perception.pipeline import Result
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
            publish.planning(result.plan, WHEELBASE)
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
        return _result(found, SensorFrame(stamp_ns, {}, LidarSweep(np.zeros((1, 4), np.float32), stamp_ns)))

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


@pytest.mark.ros
def test_the_demo_drives_end_to_end_over_ros(tmp_path: Path) -> None:
    """bag -> player -> stack -> recorder in processes of their own, then the table, the records and the video."""
    config = tmp_path / "config.yaml"
    config.write_text("/**:\n  ros__parameters:\n    detector:\n      model: none\n")
    out = tmp_path / "demo"
    command = [sys.executable, "-m", "karp_perception.cli", "demo", "--out", str(out), "--seconds", "3"]
    run = subprocess.run([*command, "--config", str(config)], capture_output=True, text=True, timeout=240, check=False)
    assert run.returncode == 0, run.stderr
    summary = json.loads((out / "summary.json").read_text())
    frames = summary["frames"]
    assert frames["sent"] == 30
    assert frames["received"] == frames["used"] + sum(frames["dropped"].values())
    assert frames["answered"] > 5, "a busy machine may drop frames, not all of them"
    assert summary["decisions_over_time"]
    assert {"obstacles", "tracking", "planning", "total"} <= set(summary["latency_ms"])
    lines = (out / "frames.jsonl").read_text().splitlines()
    assert len(lines) == frames["answered"]
    assert any(json.loads(line)["objects"] for line in lines)
    for name in ("drive.mp4", "replay.mcap", "stack.log"):
        assert (out / name).stat().st_size > 0
    assert "frames:" in run.stdout
