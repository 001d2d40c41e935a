"""The odometry subscription of nodes that have no frame assembler."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from rclpy.qos import QoSProfile, ReliabilityPolicy

from karp_perception.core import InvalidInput
from karp_perception.core.counters import Counters
from karp_perception.sensing.ego_motion import EgoMotion, decode_odometry

if TYPE_CHECKING:
    from karp_perception.ros.inputs import Subscriptions
    from karp_perception.ros.node import PerceptionNode

log = logging.getLogger(__name__)

_ANY = QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT)


class OdometryInput:
    """`~/input/odometry` as EgoMotion."""

    def __init__(self, node: PerceptionNode) -> None:
        sensing = node.settings.sensing
        self.motion = EgoMotion(sensing.transform_history, sensing.odometry_gap)
        self.counters = Counters()
        self._newest: int | None = None

    def subscribe(self, subscriptions: Subscriptions) -> None:
        """Hear it, from publishers of either reliability."""
        subscriptions.add("nav_msgs/msg/Odometry", "~/input/odometry", self._heard, _ANY, "odometry")

    def reaches(self, stamp_ns: int) -> bool:
        """Whether what has come covers this moment, or nothing ever came: then there is nothing to wait for."""
        return self._newest is None or self._newest >= stamp_ns

    def _heard(self, message: Any) -> None:
        try:
            state = decode_odometry(message)
            self.motion.add(state)
            self._newest = state.stamp_ns
            self.counters.use()
        except InvalidInput as error:
            log.warning("odometry: dropped: %s", error)
            self.counters.drop(error.reason)
