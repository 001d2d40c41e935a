"""A recorded drive through the pipeline, without a ROS graph: bag -> frames.jsonl, summary.json, replay.mcap,
drive.mp4.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from karp_perception.core import BagError, InvalidInput, Route, SensorFrame
from karp_perception.core.geometry import invert_pose
from karp_perception.pipeline import Pipeline, PipelineSettings, Result
from karp_perception.records import atomic_file, json_line, latency_summary, result_record, versions, write_json
from karp_perception.ros.messages import route_from_path
from karp_perception.sensing.assembler import FrameAssembler
from karp_perception.sensing.bags import BagReader
from karp_perception.sensing.topics import Inputs, find_inputs

log = logging.getLogger(__name__)

_PREFETCH = 3  # frames decoded ahead: enough to keep both threads busy, little enough to stay small in memory


@dataclass(frozen=True)
class ReplayOptions:
    """What a replay writes beside the records."""

    video: bool = True
    mcap: bool = True
    max_frames: int | None = None


class BagFrames:
    """The sensor frames of a bag, assembled as the nodes would. Iterate once; then `route` and `counters` are known."""

    def __init__(self, bag: BagReader, settings: PipelineSettings, inputs: Inputs | None = None) -> None:
        self.bag = bag
        self.inputs = inputs or find_inputs(bag.topics)
        if self.inputs.points is None and not self.inputs.cameras:
            raise BagError(
                f"{bag.path}: expected a PointCloud2, Image or CompressedImage topic, got "
                f"{', '.join(sorted(bag.topics)) or 'no topics'}"
            )
        rectified = {name: camera.rectified for name, camera in self.inputs.cameras.items()}
        self.assembler = FrameAssembler(settings.sensing, rectified, lidar=self.inputs.points is not None)
        self.route: Route | None = None

    @property
    def rate_hz(self) -> float:
        """Frames a second, by the anchor's messages; 10 where a recording is too short to tell."""
        anchor = self.inputs.points or next(iter(self.inputs.cameras.values())).image
        count, duration = self.bag.topics[anchor].count, self.bag.duration_s
        return (count - 1) / duration if count > 1 and duration > 0 else 10.0

    def __iter__(self) -> Iterator[SensorFrame]:
        handlers = self._handlers()
        for message in self.bag.messages(handlers.keys()):
            handlers[message.topic](message.message, message.log_ns)
            yield from self.assembler.poll(message.log_ns)
        yield from self.assembler.flush()

    def _handlers(self) -> dict[str, Callable[[Any, int], None]]:
        """topic -> what to do with its messages (message, log time in ns)."""
        inputs, assembler = self.inputs, self.assembler
        handlers: dict[str, Callable[[Any, int], None]] = {}
        for topic in inputs.transforms:
            static = topic.endswith("static")
            handlers[topic] = lambda message, _, static=static: assembler.add_transforms(message, static)
        if inputs.points is not None:
            handlers[inputs.points] = assembler.add_points
        for name, camera in inputs.cameras.items():
            handlers[camera.image] = lambda message, log_ns, name=name: assembler.add_image(name, message, log_ns)
            if camera.camera_info is not None:
                handlers[camera.camera_info] = lambda message, _, name=name: assembler.add_camera_info(name, message)
        if inputs.odometry is not None:
            handlers[inputs.odometry] = lambda message, _: assembler.add_odometry(message)
        if inputs.route is not None:
            handlers[inputs.route] = lambda message, _: self._set_route(message)
        return handlers

    def _set_route(self, message: Any) -> None:
        try:
            self.route = route_from_path(message)
        except InvalidInput as error:
            log.warning("%s: %s", self.inputs.route, error)


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
    results = _Travelled()
    with ExitStack() as stack:
        reader = stack.enter_context(BagReader(bag))
        frames = BagFrames(reader, settings)
        pipeline = stack.enter_context(Pipeline(settings))
        pipeline.detector.warm_up()
        lines = stack.enter_context(atomic_file(out / "frames.jsonl"))
        views = _Views(out, settings, options, frames, pipeline, stack)
        started = time.perf_counter()
        for index, frame in enumerate(_prefetched(frames, stack)):
            result = pipeline.step(frame, frames.route)
            frames.assembler.counters.use()
            absent = [name for name, camera in frame.cameras.items() if camera is None]
            absent += ["lidar"] if frame.lidar is None and frames.inputs.points else []
            missing.update(absent)
            record = result_record(result, index, absent)
            lines.write(json_line(record))
            records.append(record["latency_ms"])
            decisions[record["plan"]["decision"]] += 1
            results.add(result)
            views.add(frame, result)
            progress((frame.stamp_ns - reader.start_ns) / max(1, reader.end_ns - reader.start_ns))
            if options.max_frames is not None and index + 1 >= options.max_frames:
                break
        wall_s = time.perf_counter() - started - views.video_s
        info = pipeline.detector.info
    progress(1.0)
    summary = {
        "bag": str(bag),
        "frames": frames.assembler.counters.as_dict(),
        "inputs": {name: counters.as_dict() for name, counters in frames.assembler.input_counters.items()},
        "missing": dict(sorted(missing.items())),
        "undecodable": {topic: counters.dropped for topic, counters in reader.counters.items() if counters.dropped},
        "duration_s": round(results.duration_s, 3),
        "wall_s": round(wall_s, 3),
        "video_s": round(views.video_s, 3),
        "realtime_factor": round(results.duration_s / wall_s, 3) if wall_s > 0 else None,
        "latency_ms": latency_summary(records),
        "decisions": dict(sorted(decisions.items())),
        "ego": {"source": results.source, "distance_m": round(results.distance_m, 3)},
        "model": info,
        "backend": info["backend"],
        "versions": versions(),
    }
    write_json(out / "summary.json", summary)
    return summary


class _Travelled:
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
        self, out: Path, settings: PipelineSettings, options: ReplayOptions, frames: BagFrames, pipeline: Pipeline,
        stack: ExitStack,
    ) -> None:  # fmt: skip
        self._out, self._options, self._stack, self._frames = out, options, stack, frames
        self._notes = {} if pipeline.detector.trained else {"network": "untrained: its boxes are not used"}
        self._vehicle = settings.vehicle
        self._video: Any = None
        self._log: Any = None
        self.video_s = 0.0

    def add(self, frame: SensorFrame, result: Result) -> None:
        if self._options.mcap:
            if self._log is None:
                from karp_perception.view.drive_log import DriveLog

                self._log = self._stack.enter_context(DriveLog(self._out / "replay.mcap"))
            self._log.add(frame, result)
        if self._options.video:
            start = time.perf_counter()
            if self._video is None:
                from karp_perception.view.drive_view import DriveView
                from karp_perception.view.video import VideoWriter

                self._view = DriveView(self._vehicle)
                first = self._view.draw(frame, result, self._notes)
                size = (first.shape[1], first.shape[0])
                self._video = self._stack.enter_context(
                    VideoWriter(self._out / "drive.mp4", self._frames.rate_hz, size)
                )
            self._video.write(self._view.draw(frame, result, self._notes))
            self.video_s += time.perf_counter() - start


def _prefetched(frames: BagFrames, stack: ExitStack) -> Iterator[SensorFrame]:
    """Frames read and decoded in a thread of their own, a few ahead; an error there is raised here."""
    ready: queue.Queue[SensorFrame | BaseException | None] = queue.Queue(_PREFETCH)
    stopped = threading.Event()

    def put(item: SensorFrame | BaseException | None) -> None:
        while not stopped.is_set():
            try:
                ready.put(item, timeout=0.1)
                return
            except queue.Full:
                continue

    def read() -> None:
        try:
            for frame in frames:
                put(frame)
                if stopped.is_set():
                    return
            put(None)
        except BaseException as error:
            put(error)

    reader = threading.Thread(target=read, name="bag reader", daemon=True)
    reader.start()
    stack.callback(reader.join)
    stack.callback(stopped.set)
    while True:
        item = ready.get()
        if item is None:
            return
        if isinstance(item, BaseException):
            raise item
        yield item
