"""Messages to sensor frames as the nodes do it, with the time that it takes."""

from __future__ import annotations

import time
from typing import Any

from karp_perception.bench.feed import Feed, SerialisedMessage
from karp_perception.core import InvalidInput, SensorFrame
from karp_perception.core.stopwatch import Stopwatch
from karp_perception.sensing.assembler import LIDAR, FrameAssembler, SensingSettings
from karp_perception.sensing.message_types import typestore

_ROUNDS = 12  # that teach the synchroniser how often each input comes


class Reception:
    """A FrameAssembler that has heard where sensors are, and the type store that reads the bytes."""

    def __init__(self, feed: Feed) -> None:
        has_lidar = any(message.input == LIDAR for message in feed.moments[0])
        cameras = dict.fromkeys(feed.cameras, True)  # their images are rectified
        self.assembler = FrameAssembler(SensingSettings(), cameras, has_lidar)
        self._store = typestore()
        self.assembler.add_transforms(self._store.deserialize_cdr(feed.transforms, "tf2_msgs/msg/TFMessage"), True)
        for name, data in feed.camera_infos.items():
            self.assembler.add_camera_info(name, self._store.deserialize_cdr(data, "sensor_msgs/msg/CameraInfo"))

    def deserialise(self, message: SerialisedMessage) -> Any:
        """A message of rosbags."""
        return self._store.deserialize_cdr(message.data, message.type_name)

    def add(self, name: str, message: Any, arrival_ns: int) -> None:
        """A message to the assembler."""
        if name == LIDAR:
            self.assembler.add_points(message, arrival_ns)
        else:
            self.assembler.add_image(name, message, arrival_ns)

    def frame(self, messages: tuple[SerialisedMessage, ...], now_ns: int, stopwatch: Stopwatch) -> SensorFrame | None:
        """The frame that these messages complete at `now_ns`; stages: deserialise, assemble."""
        with stopwatch("deserialise"):
            read = [(message.input, self.deserialise(message)) for message in messages]
        with stopwatch("assemble"):
            for name, message in read:
                self.add(name, message, now_ns)
            frames = self.assembler.poll(now_ns)
        return frames[-1] if frames else None


class Turns:
    """Frames of a feed one after another, at a period of their own, however long each takes.

    Raises InvalidInput where the assembler makes no frame of the messages.
    """

    def __init__(self, feed: Feed, period_s: float = 0.1) -> None:
        self.reception = Reception(feed)
        self._feed, self._period_ns = feed, round(period_s * 1e9)
        self._number, self._stamp_ns = 0, time.time_ns()
        for _ in range(_ROUNDS):
            messages, stamp_ns = self.messages()
            self.reception.frame(messages, stamp_ns, Stopwatch())
        self.reception.assembler.poll(self._stamp_ns)

    def messages(self) -> tuple[tuple[SerialisedMessage, ...], int]:
        """The next moment's messages, in fresh memory, and their stamp, ns."""
        self._stamp_ns += self._period_ns
        self._number += 1
        return self._feed.at(self._number, self._stamp_ns), self._stamp_ns

    def frame(self, messages: tuple[SerialisedMessage, ...], stamp_ns: int, stopwatch: Stopwatch) -> SensorFrame:
        """What they become."""
        frame = self.reception.frame(messages, stamp_ns, stopwatch)
        if frame is None or frame.stamp_ns != stamp_ns:
            dropped = {name: counts.dropped for name, counts in self.reception.assembler.input_counters.items()}
            raise InvalidInput("messages to measure with", "a complete frame", f"none; dropped: {dropped}")
        return frame
