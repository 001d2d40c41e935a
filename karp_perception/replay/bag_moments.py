"""Any moment of a recording by its number: the sensor frame that replaying it gives, without reading all before it."""

from __future__ import annotations

import heapq
import struct
import weakref
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from karp_perception.core import InvalidInput, SensorFrame
from karp_perception.pipeline import PipelineSettings
from karp_perception.replay.bag_frames import BagFrames
from karp_perception.sensing.bags import BagMessage, BagReader, Topic
from karp_perception.sensing.topics import Inputs
from karp_perception.sensing.transforms import TransformBuffer

_BESIDE_S = 0.3  # log time around a sweep within which its images lie
_MOTION_S = 1.0  # and transforms and odometry that join its moment
_FIRST_SWEEPS = 10  # in which intensities are looked for: not every lidar gives any
_NS = 1_000_000_000
_STAMP_END = 12  # of a CDR message that begins with a std_msgs/Header: 4 bytes of encapsulation, seconds, nanoseconds


class BagMoments:
    """The moments of a recording: one for each message of the anchor (the lidar, or the first camera).

    Opening it reads the recording once for the stamps of its anchor. Can be pickled; files are opened again then.

    Args:
        path: of the recording.
        settings: of sensing.
        also: further topics whose stamps are wanted (messages that begin with a header).

    Attributes:
        inputs: topics that frames are made of.
        stamps_ns: (M,) of the anchor's messages, in order of time.
        also_ns: for each further topic, (K, 2) stamps and log times in order of log time.

    Raises BagError for what is no recording or has no sensors.
    """

    def __init__(
        self, path: Path | str, settings: PipelineSettings = PipelineSettings(), also: Collection[str] = ()
    ) -> None:
        self.path, self.settings = Path(path), settings
        self._reader: BagReader | None = None
        self._latched: list[BagMessage] = []
        self._full_scale = settings.sensing.intensity_full_scale
        self._scale_sought = bool(self._full_scale)
        bag = self._open()
        self.inputs: Inputs = BagFrames(bag, settings).inputs
        self._anchor = self.inputs.points or next(iter(self.inputs.cameras.values())).image
        times: dict[str, list[tuple[int, int]]] = {topic: [] for topic in (self._anchor, *also)}
        for message in bag.raw_messages(list(times)):
            stamp = _header_stamp(message.data)
            if stamp is not None:
                times[message.topic].append((stamp, message.log_ns))
        self.also_ns = {topic: np.reshape(np.array(times[topic], np.int64), (-1, 2)) for topic in also}
        anchors = sorted(times[self._anchor])
        self.stamps_ns = np.array([stamp for stamp, _ in anchors], np.int64)
        self._logs = [log for _, log in anchors]

    def __len__(self) -> int:
        return len(self.stamps_ns)

    def frame(self, i: int) -> tuple[SensorFrame, TransformBuffer]:
        """Frame number `i`, and the transforms around its time.

        Raises InvalidInput for a moment from which no frame can be made; the log says what was dropped and why.
        """
        self._find_full_scale()
        frames, transforms = self._assembled(i)
        stamp = int(self.stamps_ns[i])
        frame = next((frame for frame in frames if frame.stamp_ns == stamp), None)
        if frame is None:
            raise InvalidInput(
                f"{self.path} at {stamp / _NS:.3f} s", f"a frame from {self._anchor}", "none",
                f"`karp doctor {self.path}` says why",
            )  # fmt: skip
        return frame, transforms

    def messages(self, topic: str, log_ns: int) -> Iterator[BagMessage]:
        """The messages of a topic that were recorded at a time."""
        return self._open().messages([topic], start_ns=log_ns, stop_ns=log_ns + 1)

    def close(self) -> None:
        """Closes the files, until they are needed again."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_reader": None, "_latched": []}

    def _find_full_scale(self) -> None:
        """The first sweep with intensities decides what full intensity is, whatever frame is asked for first."""
        if self._scale_sought or self.inputs.points is None:
            return
        self._scale_sought = True
        for first in range(min(len(self), _FIRST_SWEEPS)):
            if self._full_scale:
                return
            self._assembled(first)

    def _assembled(self, i: int) -> tuple[list[SensorFrame], TransformBuffer]:
        excerpt = _Excerpt(
            self._open(), self._anchor, self._logs[max(0, i - 1) : i + 2], self._logs[i], self._constant()
        )
        sensing = replace(self.settings.sensing, intensity_full_scale=self._full_scale)
        frames = BagFrames(excerpt, replace(self.settings, sensing=sensing), self.inputs)  # type: ignore[arg-type]
        assembled = [frame for frame, _ in frames]
        self._full_scale = frames.assembler.intensity_full_scale
        return assembled, frames.assembler.transforms

    def _open(self) -> BagReader:
        if self._reader is None:
            self._reader = BagReader(self.path)
            weakref.finalize(self, self._reader.close)
        return self._reader

    def _constant(self) -> list[BagMessage]:
        """What holds throughout: static transforms, and the first calibration of each camera."""
        if not self._latched:
            bag = self._open()
            infos = {camera.camera_info for camera in self.inputs.cameras.values()} - {None}
            for topic in self.inputs.transforms:
                if topic.endswith("static"):
                    self._latched += bag.messages([topic])
            self._latched += [
                m for info in sorted(filter(None, infos)) for m in [next(bag.messages([info]), None)] if m
            ]
        return self._latched


class _Excerpt:
    """A piece of a recording around one moment, as BagFrames reads recordings."""

    def __init__(
        self, bag: BagReader, anchor: str, anchor_logs: list[int], log_ns: int, constant: list[BagMessage]
    ) -> None:
        self._bag, self._anchor, self._logs, self._log_ns, self._constant = bag, anchor, anchor_logs, log_ns, constant
        self.path = bag.path
        self.topics: dict[str, Topic] = bag.topics

    def messages(self, topics: Collection[str]) -> Iterator[BagMessage]:
        """Messages in log-time order, those that hold throughout first, as if they had just been recorded."""
        motion = {topic for topic in topics if self.topics[topic].type not in _HEAVY} - {
            m.topic for m in self._constant
        }
        beside = set(topics) - motion - {self._anchor} - {m.topic for m in self._constant if m.topic.endswith("static")}
        start, stop = min(self._logs), max(self._logs)
        before = max(0, start - round(_MOTION_S * _NS))
        yield from (replace(message, log_ns=before) for message in self._constant)
        streams = [self._bag.messages([self._anchor], start_ns=log, stop_ns=log + 1) for log in sorted(set(self._logs))]
        for chosen, seconds in ((motion, _MOTION_S), (beside, _BESIDE_S)):
            if chosen:
                margin = round(seconds * _NS)
                first, last = max(0, min(start, self._log_ns - margin)), max(stop, self._log_ns + margin)
                streams.append(self._bag.messages(chosen, start_ns=first, stop_ns=last + 1))
        yield from heapq.merge(*streams, key=lambda message: message.log_ns)


_HEAVY = {
    "sensor_msgs/msg/PointCloud2", "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage",
    "sensor_msgs/msg/CameraInfo",
}  # fmt: skip


def _header_stamp(data: bytes) -> int | None:
    """ns of the header that a CDR message begins with; None where there is none."""
    if len(data) < _STAMP_END:
        return None
    seconds, nanoseconds = struct.unpack_from("<iI" if data[1] & 1 else ">iI", data, 4)
    return seconds * _NS + nanoseconds if seconds >= 0 and nanoseconds < _NS else None
