"""The `player` node: a recording into real topics, with `/clock`; no rosbag2 needed.

Messages are published as the bytes they were recorded as, with the quality of service that the recording offers.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

from karp_perception.core import BagError, Settings, setting
from karp_perception.ros import parameters
from karp_perception.ros.log_bridge import bridge_logging
from karp_perception.ros.primitives import create_ros_message, message_class, set_stamp
from karp_perception.ros.process import run
from karp_perception.ros.subscribers import await_subscribers
from karp_perception.sensing.bags import BagReader, Topic

log = logging.getLogger(__name__)

CLOCK = "/clock"
_LEAST_DEPTH, _LATCHED_DEPTH = 10, 100
_LONGEST_GOODBYE = 2.0  # s for reliable messages that are still under way at the end


@dataclass(frozen=True)
class PlayerSettings(Settings):
    """What to play and how."""

    bag: str = setting("", "recording: a bag directory or an .mcap, .db3 or .bag file")
    rate: float = setting(1.0, "speed, 1 for real time", low=0.01, high=100.0)
    loop: bool = setting(False, "start over at the end, until stopped")
    start_delay: float = setting(0.0, "wait before the first message", unit="s", low=0.0, high=600.0)
    wait_for: tuple = setting(("",), "topics that must have a subscriber before the first message")
    wait_limit: float = setting(60.0, "give up waiting for subscribers after", unit="s", low=0.0, high=3600.0)
    topics: tuple = setting(("",), "topics to play; one empty name for all")
    publish_clock: bool = setting(True, "publish the recording's time on /clock")
    clock_period: float = setting(0.01, "of /clock between messages, wall time", unit="s", low=0.001, high=1.0)
    exit_at_end: bool = setting(True, "end the process after the last message")


class PlayerNode(Node):
    """Plays one recording from a thread of its own."""

    def __init__(self) -> None:
        super().__init__("player")
        bridge_logging(self.get_logger())
        parameters.declare(self, PlayerSettings().parameters())
        self.end_process: Callable[[], None] = lambda: None
        self.published = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._play_all, name="player")

    def begin(self) -> None:
        """Open the recording and begin to play. Raises BagError where there is nothing to play."""
        self.settings = settings = parameters.read(self, PlayerSettings())
        if not settings.bag:
            raise BagError("player: expected the parameter `bag`, as in --ros-args -p bag:=drive.mcap")
        self._reader = BagReader(Path(settings.bag).expanduser())
        chosen = [name for name in settings.topics if name]
        missing = sorted({*chosen, *filter(None, settings.wait_for)} - set(self._reader.topics))
        if missing:
            there = ", ".join(self._reader.topics)
            raise BagError(f"{settings.bag}: no topic {', '.join(missing)}; it has {there}")
        self._publishers_by_topic = {
            topic.name: publisher
            for topic in self._reader.topics.values()
            if topic.name != CLOCK and (not chosen or topic.name in chosen)
            if (publisher := self._publisher(topic)) is not None
        }
        if not self._publishers_by_topic:
            raise BagError(f"{settings.bag}: nothing to play; it has {', '.join(self._reader.topics) or 'no topics'}")
        self._clock_publisher = None
        if settings.publish_clock:
            self._clock_publisher = self.create_publisher(message_class("rosgraph_msgs/msg/Clock"), CLOCK, 10)
        self._thread.start()

    def end(self) -> None:
        """Stop playing."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()
            self._reader.close()

    def _publisher(self, topic: Topic) -> Any:
        if topic.name in self._reader.unknown:
            return None
        try:
            kind = message_class(topic.type)
        except (ImportError, AttributeError):
            log.warning("%s is left out: the package of %s is not installed", topic.name, topic.type)
            return None
        return self.create_publisher(kind, topic.name, _qos(topic))

    def _play_all(self) -> None:
        settings = self.settings
        try:
            self._stop.wait(settings.start_delay)
            missing = await_subscribers(
                self, self._publishers_by_topic, settings.wait_for, 1, settings.wait_limit, self._stop
            )
            if missing and not self._stop.is_set():
                log.warning("nobody listens to %s; playing all the same", ", ".join(missing))
            while not self._stop.is_set():
                self._play_once()
                if not settings.loop:
                    break
        except BagError as error:
            log.error("%s", error)
        if self._stop.is_set():
            return
        for publisher in self._publishers_by_topic.values():
            publisher.wait_for_all_acked(Duration(seconds=_LONGEST_GOODBYE))
        log.info("the end: %d messages played", self.published)
        if settings.exit_at_end:
            self.end_process()

    def _play_once(self) -> None:
        began: tuple[float, int] | None = None
        for raw in self._reader.raw_messages(list(self._publishers_by_topic)):
            began = began or (time.monotonic(), raw.log_ns)
            if not self._wait_until(raw.log_ns, *began):
                return
            self._tell_time(raw.log_ns)
            self._publishers_by_topic[raw.topic].publish(raw.data)
            self.published += 1

    def _wait_until(self, log_ns: int, began: float, first_ns: int) -> bool:
        """Wait for a message's turn, telling the time meanwhile; False when the player is to stop."""
        rate = self.settings.rate
        due = began + (log_ns - first_ns) * 1e-9 / rate
        while (left := due - time.monotonic()) > 0:
            if self._stop.wait(min(left, self.settings.clock_period)):
                return False
            if left > self.settings.clock_period:
                # Never past the message that is due: on a late wake-up the clock would have to go back for it.
                self._tell_time(min(first_ns + int((time.monotonic() - began) * rate * 1e9), log_ns))
        return not self._stop.is_set()

    def _tell_time(self, now_ns: int) -> None:
        if self._clock_publisher is not None:
            message = create_ros_message("rosgraph_msgs/msg/Clock")
            set_stamp(message.clock, now_ns)
            self._clock_publisher.publish(message)


def _qos(topic: Topic) -> QoSProfile:
    """What the recording offers; where it does not say, what every subscriber can hear."""
    offered = topic.qos[0] if topic.qos else None
    latched = topic.name == "/tf_static" or (offered is not None and offered.durability == "transient_local")
    best_effort = offered is not None and offered.reliability == "best_effort"
    return QoSProfile(
        depth=_LATCHED_DEPTH if latched else max(offered.depth if offered else 0, _LEAST_DEPTH),
        reliability=ReliabilityPolicy.BEST_EFFORT if best_effort else ReliabilityPolicy.RELIABLE,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
    )


def main() -> int:
    """Run it as a process."""
    return run(PlayerNode)
