"""The road around the vehicle as a map file and the signals of the moment tell it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from rclpy.qos import QoSProfile, ReliabilityPolicy

from karp_perception.core import EgoState, InvalidInput, Lane, MissingTransform, Road, StopKind, StopLine
from karp_perception.core.counters import Counters
from karp_perception.core.geometry import invert_pose
from karp_perception.maps.files import read_map
from karp_perception.ros.placement import T_odom_from
from karp_perception.ros.primitives import get_stamp
from karp_perception.ros.signal_messages import SIGNALS, stops_from_signals
from karp_perception.sensing.transforms import TransformBuffer

if TYPE_CHECKING:
    from karp_perception.ros.inputs import Subscriptions
    from karp_perception.ros.node import PerceptionNode

log = logging.getLogger(__name__)

_ANY = QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT)
_SAME_PLACE = 0.1  # m that the map around the vehicle may move before it is placed anew
_MOVED = 0.25  # of the reach: so far the vehicle goes before the map around it is looked at anew


class RoadInput:
    """The map of the parameters `map.*` and what comes on `~/input/signals`; `counters` say what became of messages.

    A signal with the number of one of the map's lights gives that its colour; others are stop lines of their own.

    Args:
        node: it belongs to.
        transforms: that place the map and the signals.
        motion: the vehicle's state at a time, None where it is not known.

    Raises KarpError where the map cannot be read.
    """

    def __init__(
        self, node: PerceptionNode, transforms: TransformBuffer, motion: Callable[[int], EgoState | None]
    ) -> None:
        self._settings = node.node_settings.map
        self._frames = (node.settings.sensing.base_frame, node.node_settings.odom_frame)
        self._timeout_ns = round(node.node_settings.signal_timeout * 1e9)
        self._transforms, self._motion = transforms, motion
        self._map = read_map(self._settings)
        self._near: tuple[np.ndarray, np.ndarray, Road] | None = None  # T_odom_map, (2,) m in the map, the Road
        self._heard_last: tuple[int, Any] | None = None
        self._signals: tuple[int, tuple[StopLine, ...]] | None = None  # their time, in odom
        self.counters = {"signals": Counters()}
        if self._map is not None:
            log.info("map %s: %d lanes, %d stop lines", self._settings.file, len(self._map.lanes), len(self._map.stops))

    def subscribe(self, subscriptions: Subscriptions) -> None:
        """Hear `~/input/signals`."""
        subscriptions.add(SIGNALS, "~/input/signals", self._heard, _ANY, "signals")

    def at(self, ego: EgoState | None) -> Road | None:
        """The road around the vehicle in the frame of `ego.T_odom_base`; None where nothing is known of it yet."""
        if ego is None:
            return None
        self._place_signals()
        road = self._around(ego)
        if self._signals is None:
            return road
        stamp_ns, signals = self._signals
        if abs(ego.stamp_ns - stamp_ns) > self._timeout_ns:
            # Where one stops is still known, but not what lights show.
            signals = Road((), signals).with_colors({}).stops
        if road is None:
            return Road((), signals)
        colors = {stop.number: stop.color for stop in signals if stop.kind is StopKind.LIGHT and stop.color is not None}
        road = road.with_colors(colors)
        known = {stop.number for stop in road.stops}
        return road.with_stops((*road.stops, *(stop for stop in signals if stop.number not in known)))

    @property
    def lanes(self) -> tuple[Lane, ...]:
        """All lanes of the map, in its own frame; none without one."""
        return () if self._map is None else self._map.lanes

    def T_odom_map(self, ego: EgoState) -> np.ndarray | None:
        """(4, 4) pose of the map in the frame of `ego.T_odom_base`, None where there is none or it is not known yet."""
        if self._map is None:
            return None
        try:
            return T_odom_from(self._settings.frame, ego, self._transforms, *self._frames)
        except MissingTransform as error:
            log.warning("the map cannot be used yet: %s", error)
            return None

    def _around(self, ego: EgoState) -> Road | None:
        """The map around the vehicle: the same Road as long as neither has moved far."""
        T = self.T_odom_map(ego)
        if self._map is None or T is None:
            return None
        place = (invert_pose(T) @ ego.T_odom_base)[:2, 3]
        if self._near is not None:
            before, center, road = self._near
            corners = np.array([[dx, dy, 0.0, 1.0] for dx in (-50.0, 50.0) for dy in (-50.0, 50.0)])
            corners[:, :2] += place
            still = np.abs((corners @ (T - before).T)[:, :2]).max() < _SAME_PLACE
            if still and np.hypot(*(place - center)) < _MOVED * self._settings.reach:
                return road
        road = self._map.around(place, self._settings.reach).transformed(T)
        self._near = (T, place, road)
        return road

    def _heard(self, message: Any) -> None:
        try:
            stamp_ns = get_stamp(message.header.stamp)
            stops_from_signals(message)
        except InvalidInput as error:
            log.warning("signals: dropped: %s", error)
            self.counters["signals"].drop(error.reason)
            return
        self._heard_last = (stamp_ns, message)
        self.counters["signals"].use()

    def _place_signals(self) -> None:
        """Bring the newest message into odom, once the vehicle's place at its time is known."""
        heard = self._heard_last
        if heard is None:
            return
        stamp_ns, message = heard
        try:
            T = T_odom_from(message.header.frame_id, self._motion(stamp_ns), self._transforms, *self._frames)
        except MissingTransform as error:
            log.warning("signals cannot be used yet: %s", error)
            return
        self._signals = (stamp_ns, stops_from_signals(message, T))
        if self._heard_last is heard:
            self._heard_last = None
