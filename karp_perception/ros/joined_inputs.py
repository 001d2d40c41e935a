"""Subscriptions of the nodes behind the detector: messages of several topics that belong to one stamp."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from rclpy.qos import QoSProfile

from karp_perception.core import KarpError
from karp_perception.core.counters import Counters
from karp_perception.ros.primitives import get_stamp
from karp_perception.sensing.synchronizer import Bundle, Synchronizer, SynchronizerSettings

if TYPE_CHECKING:
    from karp_perception.ros.inputs import Subscriptions
    from karp_perception.ros.node import PerceptionNode

log = logging.getLogger(__name__)

_RELIABLE = QoSProfile(depth=10)
_SAME = 1e-3  # s: stamps are copied from message to message, so they are equal or another frame's
_WAIT = 0.1  # s for the others of a bundle
_LONGEST_WAIT = 0.3  # s for what completes it: without odometry, everything around would seem to jump


class JoinedInputs:
    """Messages of several topics that belong to the same stamp, decoded; for nodes that follow the detector.

    Args:
        node: whose intake reads them.
        anchor: topic under ~/input whose messages each make one frame.
        decoders: of every topic, its type and `decode(message) -> value`.
        complete: asked of a bundle's stamp, whether what is not joined by stamp (odometry) is there as well; a bundle
            waits for that a moment.
    """

    def __init__(
        self,
        node: PerceptionNode,
        anchor: str,
        decoders: dict[str, tuple[str, Callable[[Any], Any]]],
        complete: Callable[[int], bool],
    ) -> None:
        self._held: deque[tuple[Bundle, int]] = deque()
        self._complete = complete
        self._node, self._decoders = node, decoders
        others = [name for name in decoders if name != anchor]
        self._synchronizer = Synchronizer(anchor, others, SynchronizerSettings(tolerance=_SAME, time_limit=_WAIT))
        self.counters: dict[str, Counters] = self._synchronizer.counters

    def poll(self, now_ns: int) -> Iterator[Bundle]:
        """Bundles that are complete, or have waited long enough, in order."""
        self._held.extend((bundle, now_ns) for bundle in self._synchronizer.poll(now_ns))
        while self._held:
            bundle, since = self._held[0]
            if not self._complete(bundle.stamp_ns) and now_ns - since < _LONGEST_WAIT * 1e9:
                return
            self._held.popleft()
            yield bundle

    def subscribe(self, subscriptions: Subscriptions) -> None:
        """Hear all of them, reliably: what they carry is small."""
        for name, (type_name, decode) in self._decoders.items():
            read = self._node.handed_over(self.counters[name], partial(self._read, name, decode), name)
            subscriptions.add(type_name, f"~/input/{name}", read, _RELIABLE, name)

    def _read(self, name: str, decode: Callable[[Any], Any], message: Any, arrival_ns: int) -> None:
        try:
            self._synchronizer.add(name, get_stamp(message.header.stamp), decode(message), arrival_ns)
        except KarpError as error:
            log.warning("%s: dropped: %s", name, error)
            self.counters[name].drop(getattr(error, "reason", "invalid_input"))
