"""Subscriptions: sensors into the frame assembler, transforms, odometry, route. Callbacks only hand messages over."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from rclpy.clock import Clock, ClockType
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

from karp_perception.core import EgoState, InvalidInput, MissingTransform, Route
from karp_perception.core.counters import Counters
from karp_perception.ros.motion_messages import route_from_path
from karp_perception.ros.placement import T_odom_from
from karp_perception.ros.primitives import get_stamp, message_class
from karp_perception.sensing.assembler import LIDAR, FrameAssembler
from karp_perception.sensing.topics import CameraTopics
from karp_perception.sensing.transforms import TransformBuffer

try:
    from rclpy.event_handler import SubscriptionEventCallbacks, UnsupportedEventTypeError
except ModuleNotFoundError:  # Humble
    from rclpy.qos_event import SubscriptionEventCallbacks, UnsupportedEventTypeError

if TYPE_CHECKING:
    from karp_perception.ros.node import PerceptionNode

log = logging.getLogger(__name__)

IMAGE_TYPES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")

_LOOK_PERIOD = 0.2  # s between two looks at who publishes an image, until somebody does
_PATIENCE = 5.0  # s without a publisher before the log says so

_SAME_PLACE = 0.01  # m and, for rotations, per metre
_ANY = QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT)
_MOVING = QoSProfile(depth=100, reliability=ReliabilityPolicy.BEST_EFFORT)
_LATCHED = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)
_RELIABLE = QoSProfile(depth=10)


class Losses:
    """Messages of one subscription that were lost on the way, or overwritten in the middleware before they were taken.

    The middleware numbers a publisher's messages: a gap is what is missing. Where it does not, its own count of losses
    stands in. With several publishers the numbers tell nothing, and only that count is left.
    """

    def __init__(self, lost: dict[str, int], name: str) -> None:
        self._lost, self._name = lost, name
        self._last: int | None = None
        self._one_publisher = True
        lost.setdefault(name, 0)

    def note(self, number: int | None) -> None:
        """A message came with this number of its publisher."""
        last, self._last = self._last, number
        if number is None or last is None:
            return
        if number <= last:
            # Restarted by chance, or two publishers taking turns: the numbers cannot be relied upon.
            self._one_publisher = False
        elif self._one_publisher:
            self._lost[self._name] += number - last - 1

    def told(self, event: Any) -> None:
        """The middleware says how many it lost."""
        if not self._one_publisher or self._last is None:
            self._lost[self._name] = max(self._lost[self._name], event.total_count)


class Subscriptions:
    """A node's subscriptions, which begin and end together; those that depend on their publishers begin with them."""

    def __init__(self, node: PerceptionNode) -> None:
        self._node = node
        self._made: list[Any] = []
        self._pending: list[Callable[[], bool]] = []
        # Steady, as simulated time may stand still until somebody subscribes.
        self._clock = Clock(clock_type=ClockType.STEADY_TIME)
        self._timer: Any = None

    def add(self, type_name: str, topic: str, callback: Callable[[Any], None], qos: QoSProfile, name: str) -> None:
        """Subscribe; messages that never got here are counted under `name` in the diagnostics."""
        losses = Losses(self._node.report.lost, name)

        def heard(message: Any, info: Any) -> None:
            losses.note(info.get("publication_sequence_number") if isinstance(info, dict) else None)
            callback(message)

        subscribe = partial(self._node.create_subscription, message_class(type_name), topic, heard, qos)
        try:
            made = subscribe(event_callbacks=SubscriptionEventCallbacks(message_lost=losses.told))
        except UnsupportedEventTypeError:
            made = subscribe()
        self._made.append(made)

    def latched(self, type_name: str, topic: str, callback: Callable[[Any], None], qos: QoSProfile, name: str) -> None:
        """Subscribe with `qos`, and once more where a publisher offers the other durability.

        A transient_local subscription does not hear volatile publishers, and a volatile one misses what was latched
        before it. What both hear is the same.
        """
        self.add(type_name, topic, callback, qos, name)
        volatile = qos.durability != DurabilityPolicy.TRANSIENT_LOCAL
        other = _LATCHED if volatile else _ANY

        def look() -> bool:
            offers = self._node.get_publishers_info_by_topic(topic)
            wanted = any((o.qos_profile.durability == DurabilityPolicy.TRANSIENT_LOCAL) == volatile for o in offers)
            if wanted:
                self.add(type_name, topic, callback, other, name)
            return wanted

        self.when(look)

    def when(self, look: Callable[[], bool]) -> None:
        """Call `look` now and then, until it returns True."""
        if look():
            return
        self._pending.append(look)
        if self._timer is None:
            self._timer = self._node.create_timer(_LOOK_PERIOD, self._look, clock=self._clock)

    def close(self) -> None:
        """End all of them."""
        if self._timer is not None:
            self._node.destroy_timer(self._timer)
            self._timer = None
        for subscription in self._made:
            self._node.destroy_subscription(subscription)
        self._made.clear()
        self._pending.clear()

    def _look(self) -> None:
        self._pending = [look for look in self._pending if not look()]


def subscribe_transforms(subscriptions: Subscriptions, add: Callable[[Any, bool], None]) -> None:
    """Hear /tf and /tf_static; `add(message, static)` takes them."""
    kind = "tf2_msgs/msg/TFMessage"
    subscriptions.latched(kind, "/tf_static", lambda message: add(message, True), _LATCHED, "tf_static")
    subscriptions.add(kind, "/tf", lambda message: add(message, False), _MOVING, "tf")


class SensorInputs:
    """The topics of cameras, lidar, calibration, transforms and odometry, and the FrameAssembler they feed.

    Its counters become the node's.
    """

    def __init__(self, node: PerceptionNode) -> None:
        settings = node.node_settings
        topics = {name: f"~/input/image{i}" for i, name in enumerate(settings.camera_names)}
        cameras = {name: CameraTopics(node.resolve_topic_name(topic), None).rectified for name, topic in topics.items()}
        self.assembler = FrameAssembler(node.settings.sensing, cameras, settings.lidar)
        node.frames, node.inputs = self.assembler.counters, self.assembler.input_counters
        self.node = node
        self._subscriptions = Subscriptions(node)

    def open(self) -> None:
        """Subscribe to all; images as soon as somebody publishes them and their type is known."""
        settings, assembler = self.node.node_settings, self.assembler
        reliable = settings.input_reliability == "reliable"
        reliability = ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT
        self._qos = QoSProfile(depth=settings.input_depth, reliability=reliability)
        subscribe_transforms(self._subscriptions, assembler.add_transforms)
        odometry = "nav_msgs/msg/Odometry"
        self._subscriptions.add(odometry, "~/input/odometry", assembler.add_odometry, _ANY, "odometry")
        if settings.lidar:
            read = self.node.handed_over(assembler.input_counters[LIDAR], assembler.add_points, LIDAR)
            self._subscriptions.add("sensor_msgs/msg/PointCloud2", "~/input/points", read, self._qos, LIDAR)
        since = time.monotonic()
        for i, name in enumerate(settings.camera_names):
            info, add_info = f"~/input/camera_info{i}", partial(assembler.add_camera_info, name)
            self._subscriptions.latched("sensor_msgs/msg/CameraInfo", info, add_info, _ANY, f"{name} camera_info")
            self._subscriptions.when(_ImageSearch(self, name, f"~/input/image{i}", since).look)

    def close(self) -> None:
        """End the subscriptions."""
        self._subscriptions.close()

    def subscribe_image(self, name: str, kind: str, topic: str) -> None:
        """Hear a camera whose type is known."""
        add = partial(self.assembler.add_image, name)
        read = self.node.handed_over(self.assembler.input_counters[name], add, name)
        self._subscriptions.add(kind, topic, read, self._qos, name)
        log.info("camera %s: %s of type %s", name, self.node.resolve_topic_name(topic), kind)


class _ImageSearch:
    """Finds out whether a topic carries Image or CompressedImage, by who publishes it."""

    def __init__(self, inputs: SensorInputs, name: str, topic: str, since: float) -> None:
        self._inputs, self._name, self._topic, self._since = inputs, name, topic, since

    def look(self) -> bool:
        """Subscribe if there is a publisher by now."""
        node = self._inputs.node
        kinds = {info.topic_type for info in node.get_publishers_info_by_topic(self._topic)}
        kind = next((kind for kind in IMAGE_TYPES if kind in kinds), None)
        if kind is not None:
            self._inputs.subscribe_image(self._name, kind, self._topic)
            return True
        if time.monotonic() - self._since > _PATIENCE:
            self._since = math.inf  # said once
            resolved = node.resolve_topic_name(self._topic)
            what = f"its publishers send {', '.join(sorted(kinds))}" if kinds else "nobody publishes it yet"
            log.warning("camera %s: still waiting for an image on %s: %s", self._name, resolved, what)
        return False


class RouteInput:
    """The route and the speed limit as they were last heard; `counters` says what became of each message."""

    def __init__(self, node: PerceptionNode, transforms: TransformBuffer) -> None:
        self._node, self._transforms = node, transforms
        self._message: Any = None
        self._fixed: Route | None = None
        self._placed: tuple[np.ndarray, Route] | None = None
        self.speed_limit: float | None = None
        self.counters = {"route": Counters(), "speed_limit": Counters()}

    def subscribe(self, subscriptions: Subscriptions) -> None:
        """Hear `~/input/route` (latched or not) and `~/input/speed_limit`."""
        subscriptions.latched("nav_msgs/msg/Path", "~/input/route", self._heard, _RELIABLE, "route")
        limit = "std_msgs/msg/Float32"
        subscriptions.add(limit, "~/input/speed_limit", self._heard_limit, _RELIABLE, "speed_limit")

    def at(self, ego: EgoState | None) -> Route | None:
        """The route in the frame of `ego.T_odom_base`, or None where there is none or its frame is not known yet."""
        message = self._message
        if message is None or self._fixed is not None:
            return self._fixed
        base, odom = self._node.settings.sensing.base_frame, self._node.node_settings.odom_frame
        frame = message.header.frame_id
        in_odom = frame in ("", odom)
        if ego is None and not in_odom:
            return None
        try:
            T_odom_frame = T_odom_from(frame, ego, self._transforms, base, odom)
        except MissingTransform as error:
            log.warning("the route cannot be used yet: %s", error)
            return None
        if in_odom or frame == base:
            # What is given from the vehicle belongs to where that was, and must not travel with it.
            self._fixed = route_from_path(message, T_odom_frame)
            return self._fixed
        # The same Route as long as the frames have not moved against each other, so that progress along it is kept.
        if self._placed is None or not np.allclose(self._placed[0], T_odom_frame, atol=_SAME_PLACE):
            self._placed = T_odom_frame, route_from_path(message, T_odom_frame)
        return self._placed[1]

    def _heard(self, message: Any) -> None:
        try:
            if message.poses:
                get_stamp(message.header.stamp)
                route_from_path(message)
        except InvalidInput as error:
            log.warning("route: dropped: %s", error)
            self.counters["route"].drop(error.reason)
            return
        same = self._message is not None and message == self._message
        if not same:
            self._message = message if message.poses else None
            self._fixed = self._placed = None
            self.counters["route"].use()

    def _heard_limit(self, message: Any) -> None:
        if not (np.isfinite(message.data) and message.data >= 0):
            log.warning("speed limit: expected m/s of at least 0, got %s", message.data)
            self.counters["speed_limit"].drop("invalid_input")
            return
        self.speed_limit = float(message.data)
        self.counters["speed_limit"].use()
