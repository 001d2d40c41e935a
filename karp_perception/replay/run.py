"""`karp replay`: bag -> frames.jsonl, summary.json, replay.mcap, drive.mp4."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from karp_perception.core import SensorFrame
from karp_perception.core.geometry import invert_pose
from karp_perception.detection.detector import NO_MODEL
from karp_perception.pipeline import Pipeline, PipelineSettings, Result
from karp_perception.records import atomic_file, json_line, latency_summary, result_record, versions, write_json
from karp_perception.replay.detected_frames import DetectedFrames
from karp_perception.warm_up import warm_up_pipeline


@dataclass(frozen=True)
class ReplayOptions:
    """What a replay writes beside the records."""

    video: bool = True
    mcap: bool = True
    max_frames: int | None = None


def replay(
    bag: Path,
    out: Path,
    settings: PipelineSettings = PipelineSettings(),
    options: ReplayOptions = ReplayOptions(),
    progress: Callable[[float], None] = lambda _: None,
) -> dict[str, Any]:
    """Run a bag through the pipeline and write the files of the command `karp replay` into `out`.

    Args:
        bag: a rosbag2 directory, or an .mcap or .db3 file.
        out: a directory; made where it is missing. Each file appears when it is complete.
        settings: of the pipeline.
        options: what to write.
        progress: called with the share of the drive that is done, 0 to 1.

    Returns:
        What `summary.json` holds.

    Raises:
        BagError: a bag that cannot be read, or has no sensor in it.
    """
    out.mkdir(parents=True, exist_ok=True)
    records: list[dict[str, float]] = []
    decisions: Counter[str] = Counter()
    missing: Counter[str] = Counter()
    way = _Way()
    with ExitStack() as stack:
        source = stack.enter_context(DetectedFrames(bag, settings, options.max_frames))
        pipeline = stack.enter_context(Pipeline(settings, source))
        lines = stack.enter_context(atomic_file(out / "frames.jsonl", "wb"))
        views = _Views(out, settings, options, source, stack)
        warm_up_pipeline(settings)
        started = time.perf_counter()
        for index, (frame, route) in enumerate(source):
            result = pipeline.step(frame, route)
            absent = [name for name, camera in frame.cameras.items() if camera is None]
            absent += ["lidar"] if frame.lidar is None and source.has_lidar else []
            missing.update(absent)
            record = result_record(result, index, absent)
            lines.write(json_line(record))
            records.append(record["latency_ms"])
            decisions[record["plan"]["decision"]] += 1
            way.add(result)
            views.add(frame, result)
            progress((frame.stamp_ns - source.start_ns) / max(1, source.end_ns - source.start_ns))
        wall_s = time.perf_counter() - started - views.video_s
    progress(1.0)
    summary = {
        "bag": str(bag),
        **source.accounts,
        "missing": dict(sorted(missing.items())),
        "duration_s": round(way.duration_s, 3),
        "wall_s": round(wall_s, 3),
        "video_s": round(views.video_s, 3),
        "realtime_factor": round(way.duration_s / wall_s, 3) if wall_s > 0 else None,
        "latency_ms": latency_summary(records),
        "decisions": dict(sorted(decisions.items())),
        "ego": {"source": way.source, "distance_m": round(way.distance_m, 3)},
        "model": source.info,
        "backend": source.info["backend"],
        "versions": versions(),
    }
    write_json(out / "summary.json", summary)
    return summary


class _Way:
    """Length of the drive in time and way."""

    def __init__(self) -> None:
        self._first: Result | None = None
        self._last: Result | None = None
        self._frames = 0
        self.distance_m = 0.0

    def add(self, result: Result) -> None:
        if self._last is not None and self._last.ego.source == result.ego.source:
            step = invert_pose(self._last.ego.T_odom_base) @ result.ego.T_odom_base
            self.distance_m += float((step[:2, 3] ** 2).sum() ** 0.5)
        self._first = self._first or result
        self._last = result
        self._frames += 1

    @property
    def duration_s(self) -> float:
        """From the first frame to the end of the last one: n frames last n periods."""
        if self._first is None or self._last is None or self._frames < 2:
            return 0.0
        return (self._last.stamp_ns - self._first.stamp_ns) * 1e-9 * self._frames / (self._frames - 1)

    @property
    def source(self) -> str | None:
        return None if self._last is None else self._last.ego.source.value


class _Views:
    """The pictures of a replay: MCAP for Foxglove, and the video with the time it took."""

    def __init__(
        self, out: Path, settings: PipelineSettings, options: ReplayOptions, source: DetectedFrames, stack: ExitStack
    ) -> None:
        self._notes = {}
        if not source.trained and source.info["model"] != NO_MODEL:
            self._notes = {"network": "untrained: its boxes are not used"}
        self.video_s = 0.0
        self._log = self._view = self._video = None
        if options.mcap:
            from karp_perception.view.drive_log import DriveLog

            self._log = stack.enter_context(DriveLog(out / "replay.mcap"))
        if options.video:
            from karp_perception.view.drive_view import DriveView
            from karp_perception.view.video import VideoWriter

            self._view = DriveView(settings.vehicle)
            self._video = stack.enter_context(VideoWriter(out / "drive.mp4", source.rate_hz, self._view.size))

    def add(self, frame: SensorFrame, result: Result) -> None:
        if self._log is not None:
            self._log.add(frame, result)
        if self._view is not None and self._video is not None:
            start = time.perf_counter()
            self._video.write(self._view.draw(frame, result, self._notes))
            self.video_s += time.perf_counter() - start
