"""A world's sensors and truth as messages: the same on live topics and in recordings.

| topic | message |
|---|---|
| `/camera/<name>/image_raw/compressed` (or `/camera/<name>/image_raw`, rgb8), `/camera/<name>/camera_info` | images |
| `/lidar/points` | sensor_msgs/PointCloud2, x y z intensity and, where the lidar tells, the time of each point |
| `/odometry`, `/tf` | the vehicle's exact motion |
| `/speed_limit` | std_msgs/Float32, m/s, where the route has one |
| `/signals` | vision_msgs/Detection3DArray of the stop lines around and what lights show, see `signal_messages` |
| `/tf_static`, `/route` | once: where the sensors are, where to go |
| `<truth>/objects`, `<truth>/markers` | every actor around the vehicle, hidden or not, with its id, in `base_link` |
| `<truth>/lights` | autoware_perception_msgs/TrafficLightGroupArray, ids as in the layout |
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from karp_perception.core import (
    Boxes,
    CameraFrame,
    EgoState,
    LidarSweep,
    LightColor,
    Route,
    SensorFrame,
    StopLine,
)
from karp_perception.core.geometry import invert_pose, transform_points
from karp_perception.ros.box_messages import detections_bytes
from karp_perception.ros.markers import MarkerDrawing
from karp_perception.ros.motion_messages import odometry_message, route_bytes
from karp_perception.ros.primitives import Create, Message, set_stamp
from karp_perception.ros.sensor_messages import (
    camera_info_message,
    compressed_image_message,
    image_message,
    pointcloud_message,
    transforms_message,
)
from karp_perception.ros.signal_messages import SIGNALS, signals_message
from karp_perception.sensing.qos import LATCHED, Qos
from karp_perception.world.interface import TrafficLight, Truth, World

BASE, ODOM, LIDAR = "base_link", "odom", "lidar"
"""Names of frames; that of a camera is `camera_<name>_optical`."""

SENSOR = Qos(depth=5)
"""Reliable: heard by subscribers of both kinds."""

_STATE = Qos()
_SIGNAL_RANGE = 150.0  # m
_LIGHT_COLORS = {LightColor.RED: 1, LightColor.YELLOW: 2, LightColor.GREEN: 3}  # TrafficLightElement.color
_CIRCLE, _SOLID_ON = 1, 2  # TrafficLightElement.shape and .status


@dataclass(frozen=True)
class Outgoing:
    """A message to be sent; `build` makes it, as an object or as serialised bytes."""

    topic: str
    type_name: str
    build: Callable[[], Any]
    qos: Qos = _STATE


@dataclass(frozen=True)
class WorldMessages:
    """Makes the messages of a world.

    Attributes:
        create: makes an empty message for a type name.
        T_base_lidar: (4, 4) where the lidar is; its points are given in its own frame.
        compressed: JPEG images instead of raw ones, about a tenth of the size.
        jpeg_quality: 0..100.
        truth_prefix: of the topics that tell the truth.
    """

    create: Create
    T_base_lidar: np.ndarray
    compressed: bool = True
    jpeg_quality: int = 92
    truth_prefix: str = "/world/truth"

    def once(self, frame: SensorFrame, route: Route) -> Iterator[Outgoing]:
        """What holds for the whole drive: where the sensors are (by its first frame) and the route."""
        stamp_ns = frame.stamp_ns
        mounts = [(BASE, LIDAR, self.T_base_lidar)] if frame.lidar is not None else []
        cameras = ((name, camera) for name, camera in frame.cameras.items() if camera is not None)
        mounts += [(BASE, optical_frame(name), camera.T_base_camera) for name, camera in cameras]
        yield Outgoing("/tf_static", "tf2_msgs/msg/TFMessage", lambda: self._transforms(mounts, stamp_ns), LATCHED)
        yield Outgoing("/route", "nav_msgs/msg/Path", lambda: route_bytes(route, stamp_ns, ODOM), LATCHED)

    def sensors(
        self, frame: SensorFrame, speed_limit: float | None = None, stops: Sequence[StopLine] = ()
    ) -> Iterator[Outgoing]:
        """What the sensors say, motion first: it is what the rest is placed with.

        Args:
            frame: of the sensors.
            speed_limit: m/s.
            stops: stop lines of the world's road, with what lights show now.
        """
        ego, stamp_ns = frame.ego, frame.stamp_ns
        yield Outgoing("/signals", SIGNALS, lambda: signals_message(_near(stops, ego), stamp_ns, self.create, ODOM))
        if speed_limit is not None:
            yield Outgoing("/speed_limit", "std_msgs/msg/Float32", lambda: self._number(speed_limit))
        if ego is not None:
            moving = [(ODOM, BASE, ego.T_odom_base)]
            yield Outgoing("/tf", "tf2_msgs/msg/TFMessage", lambda: self._transforms(moving, stamp_ns))
            yield Outgoing("/odometry", "nav_msgs/msg/Odometry", lambda: odometry_message(ego, self.create, ODOM, BASE))
        for name, camera in frame.cameras.items():
            if camera is not None:
                yield from self._camera(name, camera)
        if frame.lidar is not None:
            sweep = frame.lidar
            yield Outgoing("/lidar/points", "sensor_msgs/msg/PointCloud2", lambda: self._cloud(sweep), SENSOR)

    def truth(self, truth: Truth) -> Iterator[Outgoing]:
        """What is true."""
        stamp_ns, prefix = truth.stamp_ns, self.truth_prefix
        yield Outgoing(
            f"{prefix}/objects",
            "vision_msgs/msg/Detection3DArray",
            lambda: detections_bytes(truth.boxes, stamp_ns, truth.object_id),
        )
        yield Outgoing(
            f"{prefix}/markers",
            "visualization_msgs/msg/MarkerArray",
            lambda: MarkerDrawing(stamp_ns, BASE).perception(truth.boxes, Boxes.empty()).message,
        )
        yield Outgoing(
            f"{prefix}/lights",
            "autoware_perception_msgs/msg/TrafficLightGroupArray",
            lambda: self._lights(truth.lights, stamp_ns),
        )

    def _camera(self, name: str, camera: CameraFrame) -> Iterator[Outgoing]:
        frame, stamp_ns = optical_frame(name), camera.stamp_ns
        size = (camera.image.shape[1], camera.image.shape[0])
        yield Outgoing(
            f"/camera/{name}/camera_info",
            "sensor_msgs/msg/CameraInfo",
            lambda: camera_info_message(camera.intrinsics, size, stamp_ns, frame, self.create, camera.distortion),
            SENSOR,
        )
        if self.compressed:
            yield Outgoing(
                f"/camera/{name}/image_raw/compressed",
                "sensor_msgs/msg/CompressedImage",
                lambda: compressed_image_message(camera.image, stamp_ns, frame, self.create, self.jpeg_quality),
                SENSOR,
            )
        else:
            yield Outgoing(
                f"/camera/{name}/image_raw",
                "sensor_msgs/msg/Image",
                lambda: image_message(camera.image, stamp_ns, frame, self.create),
                SENSOR,
            )

    def _cloud(self, sweep: LidarSweep) -> Message:
        points = sweep.points.copy()
        points[:, :3] = transform_points(invert_pose(self.T_base_lidar), sweep.points[:, :3].astype(np.float64))
        return pointcloud_message(points, sweep.stamp_ns, LIDAR, self.create, sweep.time)

    def _transforms(self, transforms: list[tuple[str, str, np.ndarray]], stamp_ns: int) -> Message:
        return transforms_message(transforms, stamp_ns, self.create)

    def _number(self, value: float) -> Message:
        message = self.create("std_msgs/msg/Float32")
        message.data = float(value)
        return message

    def _lights(self, lights: tuple[TrafficLight, ...], stamp_ns: int) -> Message:
        message = self.create("autoware_perception_msgs/msg/TrafficLightGroupArray")
        set_stamp(message.stamp, stamp_ns)
        for number, color in {light.number: light.color for light in lights}.items():
            element = self.create("autoware_perception_msgs/msg/TrafficLightElement")
            element.color, element.shape, element.status = _LIGHT_COLORS[color], _CIRCLE, _SOLID_ON
            element.confidence = 1.0
            group = self.create("autoware_perception_msgs/msg/TrafficLightGroup")
            group.traffic_light_group_id = int(number)
            group.elements.append(element)
            message.traffic_light_groups.append(group)
        return message


def _near(stops: Sequence[StopLine], ego: EgoState | None) -> list[StopLine]:
    """Those within the range of signals of the vehicle."""
    if ego is None:
        return list(stops)
    x, y = ego.T_odom_base[:2, 3]
    return [stop for stop in stops if math.hypot(stop.point[0] - x, stop.point[1] - y) <= _SIGNAL_RANGE]


def optical_frame(camera: str) -> str:
    """The frame of a camera's images."""
    return f"camera_{camera}_optical"


def lidar_pose(world: World) -> np.ndarray:
    """(4, 4) pose of a world's lidar in `base_link`: that of its rig; `base_link` itself where it has none."""
    rig = getattr(world, "rig", None)
    return np.eye(4) if rig is None else rig.T_base_lidar
