"""`karp demo`: a car drives through a street and stops for what crosses it, through the ROS 2 nodes, for all to watch.

`world` -> `stack` -> the command back to `world`, each in its own process over DDS, and a `recorder` that hears all of
it. Frames wait for their command, so a slow machine drives as well as a fast one. Where there is no ROS, the same loop
goes through the same pipeline without nodes, and the output says so.
"""

from __future__ import annotations

import importlib.util
import json
import os
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from karp_perception.core import EgoState, SensorFrame
from karp_perception.core.resources import resource
from karp_perception.pipeline import PipelineSettings, Result
from karp_perception.recorded_drive import RecordedDrive, account, read_recording
from karp_perception.records import atomic_file, json_line, latency_summary, result_record, versions, write_json
from karp_perception.replay import BagFrames
from karp_perception.ros.node_processes import NodeProcess, check_running, check_succeeded, node_process, wait_for
from karp_perception.sensing.bags import BagReader

Progress = Callable[[float, str], None]

_RIG = "demo"
_SENSORS = {
    "image0": "/camera/front/image_raw/compressed",
    "camera_info0": "/camera/front/camera_info",
    "points": "/lidar/points",
    "odometry": "/odometry",
}
_STACK_INPUTS = {**_SENSORS, "route": "/route", "speed_limit": "/speed_limit", "signals": "/signals"}
_RECORDED = [
    *_STACK_INPUTS.values(), "/tf", "/tf_static", "/world/truth/*", "/stack/output/*", "/diagnostics",
]  # fmt: skip
_READY_S = 600.0  # for the nodes to come up; where nothing is compiled yet the world takes minutes
_WAIT_FOR_COMMAND_S = 5.0  # far longer than an answer takes: what comes later than that does not come
_INPUT_TIMEOUT_S = 30.0  # between two frames: the stack's own clock runs on while the world computes
_QUIET_S = 1.5  # for the last frames to come through after the world is done
_RATE_HZ = 10.0  # of the world's ticks, for the video
_KMH = 3.6  # km/h in a m/s
_SHARES = (0.05, 0.8, 1.0)  # of the progress bar: nodes up, driven, drawn


def demo(out: Path, seconds: float, config: Sequence[Path], progress: Progress) -> dict[str, Any]:
    """Drive, and write `frames.jsonl`, `summary.json`, `replay.mcap`, `drive.mp4` into `out`; print what happened.

    Args:
        out: a directory; made where it is missing.
        seconds: length of the drive.
        config: parameter files for the nodes, of which later ones have the last word.
        progress: called with the share that is done, 0 to 1, and what is being done.

    Returns what `summary.json` holds. Raises NodeFailed where a node ends early; its log is in `out`.
    """
    settings = PipelineSettings.from_yaml(*config)
    out.mkdir(parents=True, exist_ok=True)
    recording = out / "replay.mcap"
    recording.unlink(missing_ok=True)
    if importlib.util.find_spec("rclpy") is None:
        print("ROS 2 (rclpy) is not installed here: the loop goes through the pipeline without nodes")
        summary = _drive_without_ros(out, seconds, settings, progress)
    else:
        _drive_over_ros(recording, out, seconds, config, progress)
        recorded = read_recording(recording, settings.vehicle.wheelbase)
        summary = _write_results(recording, out, settings, recorded, progress)
    print_table(summary)
    return summary


def _drive_over_ros(recording: Path, out: Path, seconds: float, config: Sequence[Path], progress: Progress) -> None:
    """Start stack, recorder and world, wait for the end of the drive, stop them."""
    # A domain of our own: no other robot on this network is to hear the demo, nor a second demo on this machine.
    environment = {**os.environ, "ROS_DOMAIN_ID": str(random.SystemRandom().randint(1, 100))}
    parameters = [item for file in config for item in ("--params-file", str(file))]
    remaps = [item for name, topic in _STACK_INPUTS.items() for item in ("-r", f"~/input/{name}:={topic}")]
    # The world waits for the stack: a slow machine is no reason to take silence for a lost sensor.
    patience = ["-p", f"input_timeout:={_INPUT_TIMEOUT_S}"]
    stack_arguments = ["-p", "use_sim_time:=true", *parameters, *patience, *remaps]
    recorder_arguments = [
        "-p",
        f"out:={recording}",
        "-p",
        "use_sim_time:=true",
        "-p",
        f"topics:={json.dumps(_RECORDED)}",
    ]
    world_arguments = [
        *parameters, "-r", "~/input/command:=/stack/output/command", "-p", f"duration:={float(seconds)}",
        *(item for name, value in _world_parameters().items() for item in ("-p", f"{name}:={value}")),
        "-p", "real_time_factor:=0.0", "-p", f"wait_for_command:={_WAIT_FOR_COMMAND_S}",
        "-p", f"wait_for:={json.dumps(list(_SENSORS.values()))}", "-p", "subscribers:=2",
        "-p", f"wait_limit:={_READY_S}", "-p", "diagnostics_period:=0.2",
    ]  # fmt: skip
    with (
        node_process("stack", stack_arguments, out, environment) as stack,
        node_process("recorder", recorder_arguments, out, environment) as recorder,
    ):
        progress(0.0, "starting the nodes")
        # The recorder must hear the outputs before the first frame goes in: it says so in its log, once for all topics.
        wait_for(lambda: "recording /" in recorder.output, _READY_S, [stack, recorder])
        with node_process("world", world_arguments, out, environment) as world:
            _watch(world, [stack, recorder], seconds, progress)
        time.sleep(_QUIET_S)


def _watch(world: NodeProcess, others: list[NodeProcess], seconds: float, progress: Progress) -> None:
    """Until the world has ended: keep an eye on all, and show how far it is."""
    ready, driven, _ = _SHARES
    while not world.ended:
        check_running(others)
        progress(ready + (driven - ready) * _share_driven(world, seconds), "driving over ROS 2")
        time.sleep(0.2)
    check_succeeded(world)


def _share_driven(world: NodeProcess, seconds: float) -> float:
    """How far the drive is, by what the world says now and then."""
    told = re.findall(r"(\d+) s driven", world.output)
    return min(1.0, float(told[-1]) / seconds) if told else 0.0


def _world_parameters() -> dict[str, Any]:
    """What decides the drive."""
    return {"suite": str(resource("config", "demo_drive.yaml")), "scenario": "street", "seed": 1, "rig": _RIG}


def _write_results(
    recording: Path, out: Path, settings: PipelineSettings, recorded: RecordedDrive, progress: Progress
) -> dict[str, Any]:
    _, driven, _ = _SHARES
    with BagReader(recording) as reader, _Writer(out, settings) as writer:
        frames = BagFrames(reader, settings)
        for frame, _ in frames:
            writer.add(frame, recorded.result(frame))
            share = (frame.stamp_ns - reader.start_ns) * 1e-9 / max(reader.duration_s, 1e-3)
            progress(driven + (1 - driven) * min(max(share, 0.0), 1.0), "drawing the video")
    counts = recorded.diagnostics.get("stack: frames", {})
    dropped = {k.removeprefix("dropped."): int(v) for k, v in counts.items() if k.startswith("dropped.")}
    return writer.summary(
        recorded,
        {"received": int(counts.get("received", 0)), "used": int(counts.get("used", 0)), "dropped": dropped},
        {
            "inputs": {k.split("input ")[1]: v for k, v in recorded.diagnostics.items() if "stack: input" in k},
            "latency_ms": _stages(recorded.diagnostics.get("stack: latency", {})),
            "world": recorded.diagnostics.get("world: drive", {}),
        },
    )


def _drive_without_ros(out: Path, seconds: float, settings: PipelineSettings, progress: Progress) -> dict[str, Any]:
    """The same loop in this process; `replay.mcap` is what `karp replay` writes."""
    from karp_perception.pipeline import Pipeline
    from karp_perception.planning.control import Controller
    from karp_perception.ros.world_settings import WorldNodeSettings, make_world
    from karp_perception.view.drive_log import DriveLog

    recorded, latencies, controller = RecordedDrive(), [], Controller(settings.control, settings.vehicle)
    world_settings = WorldNodeSettings(**_world_parameters(), vehicle=settings.vehicle)
    with (
        make_world(world_settings) as world,
        Pipeline(settings) as pipeline,
        DriveLog(out / "replay.mcap") as log,
        _Writer(out, settings) as writer,
    ):
        recorded.route = world.route.points
        pipeline.detector.warm_up()
        count = max(1, round(seconds / world.step_s))
        for k in range(count):
            frame, truth = world.sensors(), world.truth()
            result = pipeline.step(frame, world.route, world.route.speed_limit, world.road)
            recorded.truth[frame.stamp_ns] = (truth.boxes, truth.object_id)
            recorded.plans[frame.stamp_ns] = result.plan
            latencies.append(result.latency_ms)
            log.add(frame, result)
            writer.add(frame, result)
            world.apply(controller.step(result.plan, result.ego, frame.stamp_ns))
            world.tick()
            progress((k + 1) / count, "driving")
    counts = {"received": count, "used": count, "dropped": {}}
    return writer.summary(recorded, counts, {"latency_ms": latency_summary(latencies)})


class _Writer:
    """`frames.jsonl` and `drive.mp4`, frame by frame, and then `summary.json`."""

    def __init__(self, out: Path, settings: PipelineSettings) -> None:
        from karp_perception.view.drive_view import DriveView

        self._out, self._settings = out, settings
        self._view, self._stack = DriveView(settings.vehicle), ExitStack()
        self._egos: list[EgoState] = []
        self._start_ns: int | None = None
        self._answered = 0
        self._decisions: list[tuple[float, str, str]] = []

    def __enter__(self) -> _Writer:
        from karp_perception.view.video import VideoWriter

        self._lines = self._stack.enter_context(atomic_file(self._out / "frames.jsonl", "wb"))
        video = VideoWriter(self._out / "drive.mp4", _RATE_HZ, self._view.size)
        self._video = self._stack.enter_context(video)
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def add(self, frame: SensorFrame, result: Result | None) -> None:
        """A frame, with the stack's answer where there is one."""
        self._start_ns = frame.stamp_ns if self._start_ns is None else self._start_ns
        if frame.ego is not None:
            self._egos.append(frame.ego)
        if result is None:
            return
        self._lines.write(json_line(result_record(result, self._answered)))
        self._answered += 1
        decision = result.plan.decision
        t = (frame.stamp_ns - self._start_ns) * 1e-9
        self._decisions.append((t, decision.kind.value, decision.reason))
        self._video.write(self._view.draw(frame, result))

    def summary(self, recorded: RecordedDrive, frames: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
        """Write it, and give what it holds."""
        content = {
            "frames": {"sent": len(self._egos), **frames, "answered": self._answered},
            **more,
            "drive": account(recorded.record(self._egos, self._settings.vehicle)),
            "decisions": dict(Counter(kind for _, kind, _ in self._decisions)),
            "decisions_over_time": [
                {"t_s": round(t, 1), "decision": kind, "reason": reason} for t, kind, reason in self._changes()
            ],
            "versions": versions(),
        }
        write_json(self._out / "summary.json", content)
        return content

    def _changes(self) -> list[tuple[float, str, str]]:
        """The first of each run of equal decisions."""
        told = self._decisions
        return [d for i, d in enumerate(told) if i == 0 or d[1] != told[i - 1][1]]


def _stages(values: dict[str, str]) -> dict[str, dict[str, float]]:
    stages: dict[str, dict[str, float]] = {}
    for key, value in values.items():
        stage, dot, percentile = key.removesuffix("_ms").rpartition(".")
        if dot and key.endswith("_ms"):
            stages.setdefault(stage, {})[percentile] = float(value)
    return stages


def print_table(summary: dict[str, Any]) -> None:
    """What happened, for a person."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    frames, drive = summary["frames"], summary["drive"]
    dropped = ", ".join(f"{count} {reason}" for reason, count in frames["dropped"].items()) or "none"
    console.print(f"frames: {frames['received']} in, {frames['used']} used, dropped: {dropped}")
    stages = Table("stage", "p50 ms", "p99 ms")
    for stage, p in summary["latency_ms"].items():
        stages.add_row(stage, f"{p['p50']:.1f}", f"{p['p99']:.1f}")
    console.print(stages)
    decisions = Table("time s", "decision", "why")
    for row in summary["decisions_over_time"]:
        decisions.add_row(f"{row['t_s']:.1f}", row["decision"], row["reason"])
    console.print(decisions)
    top = drive["top_speed_m_s"] * _KMH
    console.print(f"drove {drive['distance_m']:.0f} m in {drive['duration_s']:.1f} s, at most {top:.0f} km/h")
    for stop in drive["stops"]:
        console.print(
            f"stood from {stop['t_s']:.1f} to {stop['until_s']:.1f} s, after {stop['after_m']:.0f} m: {stop['for']}"
        )
    if drive["closest"] is not None:
        closest = drive["closest"]
        console.print(f"closest to anything: {closest['m']:.2f} m, {closest['what']} at {closest['t_s']:.1f} s")
    told = "".join(f"; {c['what']} at {c['t_s']:.1f} s, {c['speed_m_s'] * _KMH:.0f} km/h" for c in drive["contacts"])
    console.print(f"contacts: {len(drive['contacts'])}{told}")
