"""Where to go as a goal on the map: the shortest way along its lanes is the route."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np
from rclpy.qos import QoSProfile

from karp_perception.core import EgoState, InvalidInput, MissingTransform, Route
from karp_perception.core.counters import Counters
from karp_perception.core.geometry import invert_pose, pose_from_xy_yaw, transform_points, yaw_of
from karp_perception.maps.routes import NoWay, route_between
from karp_perception.ros.placement import T_odom_from
from karp_perception.ros.primitives import get_position, get_yaw
from karp_perception.ros.road_input import RoadInput
from karp_perception.sensing.transforms import TransformBuffer

if TYPE_CHECKING:
    from karp_perception.ros.inputs import Subscriptions
    from karp_perception.ros.node import PerceptionNode

log = logging.getLogger(__name__)

_RELIABLE = QoSProfile(depth=10)
_SAME_PLACE = 0.01  # m and, for rotations, per metre


class GoalInput:
    """The newest goal on `~/input/goal`, as a route from where the vehicle was when it came; `counters` tell the rest.

    Args:
        node: it belongs to.
        transforms: that place goals.
        road: that holds the map.
    """

    def __init__(self, node: PerceptionNode, transforms: TransformBuffer, road: RoadInput) -> None:
        self._frames = (node.settings.sensing.base_frame, node.node_settings.odom_frame)
        self._transforms, self._road = transforms, road
        self._goal: tuple[str, np.ndarray] | None = None  # its frame, and (4, 4) pose in it
        self._way: Route | None = None  # in the map's frame
        self._placed: tuple[np.ndarray, Route] | None = None
        self.counters = {"goal": Counters()}

    def subscribe(self, subscriptions: Subscriptions) -> None:
        """Hear `~/input/goal`."""
        subscriptions.add("geometry_msgs/msg/PoseStamped", "~/input/goal", self._heard, _RELIABLE, "goal")

    def at(self, ego: EgoState | None) -> Route | None:
        """The route to the goal in the frame of `ego.T_odom_base`; None without a goal, or a way to it."""
        if ego is None:
            return None
        T_odom_map = self._road.T_odom_map(ego)
        if T_odom_map is None:
            return None
        if self._goal is not None:
            self._search(ego, T_odom_map)
        if self._way is None:
            return None
        if self._placed is None or not np.allclose(self._placed[0], T_odom_map, atol=_SAME_PLACE):
            points = np.column_stack([self._way.points, np.zeros(len(self._way.points))])
            self._placed = T_odom_map, Route(transform_points(T_odom_map, points)[:, :2], self._way.speed_limit)
        return self._placed[1]

    def _search(self, ego: EgoState, T_odom_map: np.ndarray) -> None:
        """Find the way to a goal that has come."""
        assert self._goal is not None
        frame, pose = self._goal
        try:
            T_odom_goal = T_odom_from(frame, ego, self._transforms, *self._frames) @ pose
        except MissingTransform as error:
            log.warning("the goal cannot be used yet: %s", error)
            return
        self._goal = self._way = self._placed = None
        T_map_odom = invert_pose(T_odom_map)
        start, goal = T_map_odom @ ego.T_odom_base, T_map_odom @ T_odom_goal
        try:
            self._way = route_between(self._road.lanes, start[:2, 3], goal[:2, 3], yaw_of(start), yaw_of(goal))
        except NoWay as error:
            log.warning("the goal cannot be reached: %s", error)
            self.counters["goal"].drop("no_way")
            return
        self.counters["goal"].use()

    def _heard(self, message: Any) -> None:
        try:
            x, y, _ = get_position(message.pose.position)
            if not np.isfinite([x, y]).all():
                raise InvalidInput("goal", "finite numbers", (x, y))
            self._goal = message.header.frame_id, pose_from_xy_yaw(x, y, get_yaw(message.pose.orientation))
        except InvalidInput as error:
            log.warning("goal: dropped: %s", error)
            self.counters["goal"].drop(error.reason)
            return
        if not self._road.lanes:
            log.warning("goal: dropped: there is no map to find a way on; name one by the parameter map.file")
            self.counters["goal"].drop("no_map")
            self._goal = None
