"""The `recorder` node: topics into a recording, from the moment somebody publishes them."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any

from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

from karp_perception.core import ConfigurationError, KarpError, Settings, setting
from karp_perception.ros import parameters
from karp_perception.ros.log_bridge import bridge_logging
from karp_perception.ros.primitives import message_class
from karp_perception.ros.process import run
from karp_perception.sensing.bags import BagWriter, Qos

log = logging.getLogger(__name__)

_LOOK_PERIOD = 0.1  # s between two looks at what is published
_DEPTH = 200


@dataclass(frozen=True)
class RecorderSettings(Settings):
    """What to record and where to."""

    out: str = setting("", "recording to write: a name ending in .mcap for one file, else a bag directory")
    topics: tuple = setting(
        ("/stack/output/*", "/diagnostics"), "topics to record; a * at the end takes all that follow"
    )


class RecorderNode(Node):
    """Records as bytes, without decoding; `counts` has the messages of each topic."""

    def __init__(self) -> None:
        super().__init__("recorder")
        bridge_logging(self.get_logger())
        parameters.declare(self, RecorderSettings().parameters())
        self.end_process: Callable[[], None] = lambda: None
        self.counts: Counter[str] = Counter()
        self._heard: dict[str, Any] = {}
        self._writer: BagWriter | None = None
        # An executor takes what waits for it topic by topic: what was sent first may come last. So what came since the
        # last look is put into the order of its sending: (sent ns, topic, type, offered, bytes, arrival ns).
        self._taken: list[tuple[int, str, str, Qos, bytes, int]] = []

    def begin(self) -> None:
        """Open the file, begin to look for topics. Raises KarpError where it cannot be written."""
        self.settings = parameters.read(self, RecorderSettings())
        if not self.settings.out:
            raise ConfigurationError("recorder: expected the parameter `out`, as in --ros-args -p out:=drive.mcap")
        self._writer = BagWriter(Path(self.settings.out).expanduser())
        self._look()
        self.create_timer(_LOOK_PERIOD, self._look, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def end(self) -> None:
        """Finish the file."""
        if self._writer is None:
            return
        self._write_taken()
        self._writer.close()
        for topic, count in sorted(self.counts.items()):
            print(f"{count:7d}  {topic}")

    def _look(self) -> None:
        """Write what has come, and subscribe to what is published by now and not yet recorded."""
        self._write_taken()
        for topic, types in self.get_topic_names_and_types():
            if topic in self._heard or not any(_matches(topic, pattern) for pattern in self.settings.topics):
                continue
            offers = self.get_publishers_info_by_topic(topic)
            if not offers:
                continue
            try:
                kind = message_class(types[0])
            except (ImportError, AttributeError):
                log.warning("%s is left out: the package of %s is not installed", topic, types[0])
                self._heard[topic] = None
                continue
            # What all publishers offer: asking for more would leave some of them unheard.
            profiles = [offer.qos_profile for offer in offers]
            reliable = all(profile.reliability == ReliabilityPolicy.RELIABLE for profile in profiles)
            latched = all(profile.durability == DurabilityPolicy.TRANSIENT_LOCAL for profile in profiles)
            qos = QoSProfile(
                depth=_DEPTH,
                reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
                durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
            )
            offered = Qos(
                "reliable" if reliable else "best_effort", "transient_local" if latched else "volatile", depth=_DEPTH
            )
            take = partial(self._take, topic, types[0], offered)
            self._heard[topic] = self.create_subscription(kind, topic, take, qos, raw=True)
            log.info("recording %s", topic)

    def _take(self, topic: str, type_name: str, offered: Qos, data: bytes, info: dict[str, int]) -> None:
        # The system's clock, as rosbag2 does it, but simulated time where it is used.
        simulated = self.get_parameter("use_sim_time").value
        now_ns = self.get_clock().now().nanoseconds if simulated else time.time_ns()
        self._taken.append((info["source_timestamp"], topic, type_name, offered, data, now_ns))

    def _write_taken(self) -> None:
        taken, self._taken = sorted(self._taken, key=itemgetter(0)), []
        for _, topic, type_name, offered, data, now_ns in taken:
            try:
                self._writer.write(topic, type_name, now_ns, data, qos=offered)
            except KarpError as error:
                log.warning("%s: not recorded: %s", topic, error)
                continue
            self.counts[topic] += 1


def _matches(topic: str, pattern: str) -> bool:
    return topic.startswith(pattern[:-1]) if pattern.endswith("*") else topic == pattern


def main() -> int:
    """Run it as a process."""
    return run(RecorderNode)
