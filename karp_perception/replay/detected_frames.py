"""A recording read and run through the network in a process of its own, frame by frame ahead of the rest.

Python runs one thread at a time: in one process, decoding and the network's preparation would hold up the geometric
channel, tracking and planning, and two cores would do little more than one. Frames cross over in shared memory,
without being copied on this side.
"""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing.connection import Pipe
from pathlib import Path
from types import TracebackType
from typing import Any

from karp_perception.core import BagError, Boxes, KarpError, SensorFrame
from karp_perception.core.stopwatch import Stopwatch
from karp_perception.pipeline import PipelineSettings
from karp_perception.replay.bag_frames import Moment
from karp_perception.replay.frame_ring import FrameRing

_GOODBYE_S = 10.0  # for the process to end by itself


class ReaderFailed(KarpError):
    """The reading process ended without saying why."""


class DetectedFrames:
    """Frames of a bag with what the network found in them.

    Iterate for frames and routes; `detect` gives the boxes of the frame at hand, so that a Pipeline takes this for its
    detector. A frame's arrays are valid until the next one is taken.

    Args:
        bag: a recording.
        settings: of the pipeline.
        max_frames: stop after so many.

    Raises BagError for a bag that cannot be read, and what the Detector raises.
    """

    def __init__(self, bag: Path, settings: PipelineSettings, max_frames: int | None = None) -> None:
        self.accounts: dict[str, Any] = {}
        """`frames`, `inputs`, `undecodable`: complete when the iteration is over."""
        self._ring = FrameRing.create()
        self._connection, theirs = Pipe()
        files = [theirs.fileno(), self._ring.fileno()]
        command = [sys.executable, "-m", "karp_perception.replay.reader", *map(str, files)]
        self._process = subprocess.Popen(command, pass_fds=files)
        theirs.close()
        self._boxes = Boxes.empty()
        self._stages: dict[str, float] = {}
        try:
            self._connection.send((Path(bag), settings, max_frames))
            _, about = self._receive()
        except BaseException:
            self.close()
            raise
        self.start_ns: int = about["start_ns"]
        self.end_ns: int = about["end_ns"]
        self.rate_hz: float = about["rate_hz"]
        self.has_lidar: bool = about["has_lidar"]
        self.info: dict[str, Any] = about["info"]

    def __iter__(self) -> Iterator[Moment]:
        while True:
            kind, content = self._receive()
            if kind == "end":
                self.accounts = content
                return
            header, self._stages = content
            slot, frame, route, self._boxes = self._ring.take(header)
            yield frame, route
            # After the last frame there is nobody left to take the slot back.
            with suppress(BrokenPipeError, ConnectionResetError):
                self._connection.send(slot)

    @property
    def trained(self) -> bool:
        """Whether the network's boxes mean anything."""
        return bool(self.info["trained"])

    def detect(self, frame: SensorFrame, stopwatch: Stopwatch | None = None) -> Boxes:
        """What the network found in the frame that the iteration is at."""
        if stopwatch is not None:
            stopwatch.milliseconds.update(self._stages)
        return self._boxes

    def warm_up(self) -> None:
        """Nothing: the process has done it."""

    def close(self) -> None:
        """End the process."""
        self._connection.close()
        try:
            self._process.wait(_GOODBYE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._ring.close()

    def __enter__(self) -> DetectedFrames:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _receive(self) -> tuple[str, Any]:
        while True:
            try:
                kind, content = self._connection.recv()
            except (EOFError, ConnectionResetError):
                code = self._process.wait(_GOODBYE_S)
                raise ReaderFailed(f"the process that reads the recording ended early, exit code {code}") from None
            if kind == "log":
                name, level, text = content
                logging.getLogger(name).log(level, "%s", text)
            elif kind == "error":
                raise BagError(content)
            else:
                return kind, content
