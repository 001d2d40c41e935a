"""`karp demo`: a synthetic drive through the ROS 2 nodes, each in its own process, and what came of it.

bag -> `player` -> `stack` -> `recorder`, over DDS. Where there is no ROS, the same bag goes through the same pipeline
without nodes, and the output says so.
"""

from __future__ import annotations

import importlib.util
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from karp_perception.core import Boxes, KarpError, Objects, Plan, SensorFrame, Trajectory
from karp_perception.core.frames import EgoState
from karp_perception.pipeline import PipelineSettings, Result
from karp_perception.records import atomic_file, json_line, result_record, write_json
from karp_perception.replay import BagFrames, ReplayOptions, replay
from karp_perception.sensing.bags import BagReader

Progress = Callable[[float, str], None]

_TOPICS = {
    "image0": "/camera/front/image_raw/compressed",
    "camera_info0": "/camera/front/camera_info",
    "points": "/lidar/points",
    "odometry": "/odometry",
    "route": "/route",
}
_OUTPUT = "/stack/output"
_GRACE_S = 20.0  # for a node to end after it was asked to
_QUIET_S = 1.5  # for the last frames to come through after the player is done
_SHARES = (0.15, 0.75, 1.0)  # of the progress bar: bag written, played, drawn


class DemoFailed(KarpError):
    """A process of the demo ended before its work was done; the message has the end of its output."""


def demo(out: Path, seconds: float, config: Path | None, progress: Progress) -> dict[str, Any]:
    """Make the drive, play it through the nodes, and write `drive/`, `frames.jsonl`, `summary.json`, `replay.mcap`,
    `drive.mp4` into `out`; print a table. Returns what `summary.json` holds.

    Args:
        out: a directory; made where it is missing.
        seconds: length of the drive.
        config: parameter file for the nodes, None for the defaults.
        progress: called with the share that is done, 0 to 1, and what is being done.

    Raises DemoFailed where a node ends early; its log is in `out`.
    """
    settings = PipelineSettings() if config is None else PipelineSettings.from_yaml(config)
    from karp_perception.world.drive_bag import write_bag
    from karp_perception.world.synthetic_drive import SyntheticDrive

    out.mkdir(parents=True, exist_ok=True)
    bag = out / "drive"
    shutil.rmtree(bag, ignore_errors=True)
    drive = SyntheticDrive(duration_s=seconds)
    write_bag(bag, drive, lambda done, of: progress(_SHARES[0] * done / of, "making a drive"))
    if importlib.util.find_spec("rclpy") is None:
        print("ROS 2 (rclpy) is not installed here: the drive goes through the pipeline without nodes")
        summary = replay(bag, out, settings, ReplayOptions(), lambda share: progress(share, "driving"))
        print_table(summary)
        return summary
    recording = out / "replay.mcap"
    recording.unlink(missing_ok=True)
    _drive_over_ros(bag, recording, out, seconds, config, lambda share: progress(share, "driving over ROS 2"))
    recorded = read_recording(recording, settings.vehicle.wheelbase)
    summary = _write_results(bag, out, settings, recorded, lambda share: progress(share, "drawing the video"))
    print_table(summary)
    return summary


# Driving


def _drive_over_ros(
    bag: Path, recording: Path, out: Path, seconds: float, config: Path | None, progress: Callable[[float], None]
) -> None:
    """Start stack, recorder and player, wait for the end, stop them."""
    # A domain of our own: no other robot on this network is to hear the demo, nor a second demo on this machine.
    environment = {**os.environ, "ROS_DOMAIN_ID": str(random.SystemRandom().randint(1, 100))}
    remaps = [item for name, topic in _TOPICS.items() for item in ("-r", f"~/input/{name}:={topic}")]
    parameters = [] if config is None else ["--params-file", str(config)]
    sensors = [_TOPICS["image0"], _TOPICS["points"]]
    with (
        _node("stack", ["-p", "use_sim_time:=true", *parameters, *remaps], out, environment) as stack,
        _node("recorder", ["-p", f"out:={recording}", "-p", "use_sim_time:=true"], out, environment) as recorder,
    ):
        # The recorder must hear the outputs before the first frame goes in: it says so in its log, once for all topics.
        _until(lambda: "recording /" in recorder.output(), 60.0, [stack, recorder])
        player = ["-p", f"bag:={bag}", "-p", f"wait_for:={json.dumps(sensors)}"]
        with _node("player", player, out, environment) as playing:
            started = time.monotonic()
            while playing.process.poll() is None:
                share = min(1.0, (time.monotonic() - started) / seconds)
                progress(_SHARES[0] + (_SHARES[1] - _SHARES[0]) * share)
                _check([stack, recorder])
                time.sleep(0.1)
            _check_ended(playing)
        time.sleep(_QUIET_S)


@dataclass(frozen=True)
class _Node:
    """A running node and its log."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def output(self) -> str:
        return self.log.read_text(errors="replace")


@contextmanager
def _node(name: str, arguments: list[str], out: Path, environment: dict[str, str]) -> Iterator[_Node]:
    """A node process; it is ended with Ctrl-C when the block is left, and killed if that does not help."""
    log = out / f"{name}.log"
    entry = f"from karp_perception.ros.{name}_node import main; raise SystemExit(main())"
    command = [sys.executable, "-c", entry, "--ros-args", *arguments]
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=environment)
    try:
        yield _Node(name, process, log)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        try:
            process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _until(condition: Callable[[], bool], limit_s: float, nodes: list[_Node]) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        _check(nodes)
        if time.monotonic() > deadline:
            raise DemoFailed(f"the nodes were not ready within {limit_s:.0f} s; see {nodes[0].log.parent}/*.log")
        time.sleep(0.05)


def _check(nodes: list[_Node]) -> None:
    for node in nodes:
        if node.process.poll() is not None:
            raise DemoFailed(f"{node.name} ended early ({node.process.returncode}): {node.output()[-800:]}")


def _check_ended(node: _Node) -> None:
    if node.process.returncode != 0:
        raise DemoFailed(f"{node.name} failed ({node.process.returncode}): {node.output()[-800:]}")


# What came over the wire


@dataclass
class Recorded:
    """Outputs of the stack by frame stamp, and the last diagnostics by status name."""

    detections: dict[int, Boxes] = field(default_factory=dict)
    obstacles: dict[int, Boxes] = field(default_factory=dict)
    objects: dict[int, Objects] = field(default_factory=dict)
    trajectories: dict[int, Trajectory] = field(default_factory=dict)
    plans: dict[int, Plan] = field(default_factory=dict)
    diagnostics: dict[str, dict[str, str]] = field(default_factory=dict)


def read_recording(recording: Path, wheelbase: float) -> Recorded:
    """Read back what the recorder wrote, as the core's types."""
    from karp_perception.ros import messages as ros

    found = Recorded()
    with BagReader(recording) as bag:
        for item in bag.messages():
            name, message = item.topic.removeprefix(f"{_OUTPUT}/"), item.message
            if item.topic == "/diagnostics":
                for status in message.status:
                    found.diagnostics[status.name] = {pair.key: pair.value for pair in status.values}
            elif name in ("detections", "obstacles"):
                getattr(found, name)[ros.get_stamp(message.header.stamp)] = ros.boxes_from_detections(message)
            elif name == "objects":
                found.objects[ros.get_stamp(message.header.stamp)] = ros.objects_from_message(message)
            elif name == "trajectory":
                way = ros.trajectory_from_message(message, wheelbase)
                found.trajectories[ros.get_stamp(message.header.stamp)] = way
            elif name == "decision":
                stamp_ns, decision = ros.decision_from_status(message)
                found.plans[stamp_ns] = Plan(stamp_ns, Trajectory.empty(), decision)
    return found


def _result(recorded: Recorded, frame: SensorFrame) -> Result | None:
    """The stack's answer to a frame, or None where none came."""
    stamp_ns = frame.stamp_ns
    plan = recorded.plans.get(stamp_ns)
    if plan is None:
        return None
    plan = replace(plan, trajectory=recorded.trajectories.get(stamp_ns, Trajectory.empty()))
    return Result(
        stamp_ns,
        frame.ego or EgoState.standing(stamp_ns),
        recorded.detections.get(stamp_ns, Boxes.empty()),
        recorded.obstacles.get(stamp_ns, Boxes.empty()),
        recorded.objects.get(stamp_ns, Objects.empty()),
        plan,
        {},
    )


def _write_results(
    bag: Path, out: Path, settings: PipelineSettings, recorded: Recorded, progress: Callable[[float], None]
) -> dict[str, Any]:
    from karp_perception.view.drive_view import DriveView
    from karp_perception.view.video import VideoWriter

    decisions: list[tuple[float, str, str]] = []
    answered = total = 0
    view, video = DriveView(settings.vehicle), None
    with BagReader(bag) as reader, atomic_file(out / "frames.jsonl", "wb") as lines:
        frames = BagFrames(reader, settings)
        first_ns = None
        try:
            for index, (frame, _) in enumerate(frames):
                total += 1
                first_ns = frame.stamp_ns if first_ns is None else first_ns
                result = _result(recorded, frame)
                if result is None:
                    continue
                answered += 1
                lines.write(json_line(result_record(result, index)))
                decision = result.plan.decision
                decisions.append(((frame.stamp_ns - first_ns) * 1e-9, decision.kind.value, decision.reason))
                picture = view.draw(frame, result)
                if video is None:
                    size = (picture.shape[1], picture.shape[0])
                    video = VideoWriter(out / "drive.mp4", frames.rate_hz, size)
                video.write(picture)
                progress(_SHARES[1] + (1 - _SHARES[1]) * (frame.stamp_ns - reader.start_ns) * 1e-9 / reader.duration_s)
        finally:
            if video is not None:
                video.close()
    counts = recorded.diagnostics.get("stack: frames", {})
    summary = {
        "frames": {
            "sent": total,
            "received": int(counts.get("received", 0)),
            "used": int(counts.get("used", 0)),
            "dropped": {k.removeprefix("dropped."): int(v) for k, v in counts.items() if k.startswith("dropped.")},
            "answered": answered,
        },
        "inputs": {k.split("input ")[1]: v for k, v in recorded.diagnostics.items() if "stack: input" in k},
        "latency_ms": _stages(recorded.diagnostics.get("stack: latency", {})),
        "decisions": dict(Counter(kind for _, kind, _ in decisions)),
        "decisions_over_time": [
            {"t_s": round(t, 1), "decision": kind, "reason": reason} for t, kind, reason in _changes(decisions)
        ],
    }
    write_json(out / "summary.json", summary)
    return summary


def _stages(values: dict[str, str]) -> dict[str, dict[str, float]]:
    stages: dict[str, dict[str, float]] = {}
    for key, value in values.items():
        stage, dot, percentile = key.removesuffix("_ms").rpartition(".")
        if dot and key.endswith("_ms"):
            stages.setdefault(stage, {})[percentile] = float(value)
    return stages


def _changes(decisions: list[tuple[float, str, str]]) -> list[tuple[float, str, str]]:
    """The first of each run of equal decisions."""
    return [d for i, d in enumerate(decisions) if i == 0 or d[1] != decisions[i - 1][1]]


def print_table(summary: dict[str, Any]) -> None:
    """What happened, for a person."""
    from rich.console import Console
    from rich.table import Table

    frames = summary["frames"]
    dropped = ", ".join(f"{count} {reason}" for reason, count in frames["dropped"].items()) or "none"
    console = Console(highlight=False)
    console.print(f"frames: {frames['received']} in, {frames['used']} used, dropped: {dropped}")
    stages = Table("stage", "p50 ms", "p99 ms")
    for stage, p in summary["latency_ms"].items():
        stages.add_row(stage, f"{p['p50']:.1f}", f"{p['p99']:.1f}")
    console.print(stages)
    if "decisions_over_time" in summary:
        table = Table("time s", "decision", "why")
        for row in summary["decisions_over_time"]:
            table.add_row(f"{row['t_s']:.1f}", row["decision"], row["reason"])
        console.print(table)
