"""What CARLA's two ROS interfaces call their topics and frames, for the nodes to listen to.

| | ROS bridge (carla_ros_bridge) | native (`CarlaUE4.sh --ros2`) |
|---|---|---|
| role name | `ego_vehicle` | `hero` |
| image | `/carla/<role>/<camera>/image`, bgra8 | the same |
| camera_info | `/carla/<role>/<camera>/camera_info` | the same; wrong focal length up to 0.9.16 |
| lidar | `/carla/<role>/<lidar>`, x y z intensity | the same |
| odometry | `/carla/<role>/odometry`, in `map` | none up to 0.9.16 |
| route | `/carla/<role>/waypoints` (carla_waypoint_publisher) | none |
| command | `/carla/<role>/ackermann_cmd`, AckermannDrive | `/carla/<role>/ackermann_control_cmd`, ...Stamped |
| frame of a camera | optical | body axes up to 0.9.16 |

Parameters that go with each are in `config/carla_bridge.yaml` and `config/carla_native.yaml`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from karp_perception.core.errors import ConfigurationError

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True)
class RosTopics:
    """Topics and frames of one vehicle; empty where the interface has no such thing.

    Attributes:
        parameters: file in `config/` with what else the nodes need to know.
        role: of the vehicle; its frame has the same name.
        cameras: names of its cameras. lidar: name of its lidar, empty for none.
        odom_frame: fixed frame of its odometry.
        odometry, route: topics.
        command: topic that takes AckermannDriveStamped. drive: topic that takes AckermannDrive.
    """

    parameters: str
    role: str
    cameras: tuple[str, ...]
    lidar: str
    odom_frame: str
    odometry: str
    route: str
    command: str
    drive: str

    def __post_init__(self) -> None:
        for name in (self.role, *self.cameras, *filter(None, [self.lidar])):
            if not all(_NAME.fullmatch(part) for part in name.split("/")):
                raise ConfigurationError(f"name of a CARLA vehicle or sensor: expected one fit for ROS, got {name!r}")
        if not self.cameras and not self.lidar:
            raise ConfigurationError("CARLA's sensors: expected a lidar or a camera, got neither")

    @property
    def images(self) -> tuple[str, ...]:
        """Image topics of the cameras."""
        return tuple(f"/carla/{self.role}/{camera}/image" for camera in self.cameras)

    @property
    def camera_infos(self) -> tuple[str, ...]:
        """camera_info topics of the cameras."""
        return tuple(f"/carla/{self.role}/{camera}/camera_info" for camera in self.cameras)

    @property
    def points(self) -> str:
        """Topic of the lidar."""
        return f"/carla/{self.role}/{self.lidar}" if self.lidar else ""

    def launch_arguments(self) -> dict[str, str]:
        """Arguments of perception.launch.py."""
        return {
            # The nodes' parameters are named after cameras: no slashes.
            "cameras": ",".join(camera.replace("/", "_") for camera in self.cameras),
            "images": ",".join(self.images),
            "camera_infos": ",".join(self.camera_infos),
            "points": self.points,
            "lidar": str(bool(self.lidar)).lower(),
            "odometry": self.odometry,
            "route": self.route,
            "command": self.command,
            "drive": self.drive,
            "base_frame": self.role,
            "odom_frame": self.odom_frame,
            "use_sim_time": "true",
        }


def bridge_topics(
    role: str = "ego_vehicle", cameras: Sequence[str] = ("rgb_front",), lidar: str = "lidar"
) -> RosTopics:
    """Those of carla_ros_bridge 0.9.11 and newer, with the sensors of its example (`objects.json`)."""
    return RosTopics(
        parameters="carla_bridge.yaml", role=role, cameras=tuple(cameras), lidar=lidar, odom_frame="map",
        odometry=f"/carla/{role}/odometry", route=f"/carla/{role}/waypoints", command="",
        drive=f"/carla/{role}/ackermann_cmd",
    )  # fmt: skip


def native_topics(role: str = "hero", cameras: Sequence[str] = ("rgb_front",), lidar: str = "lidar") -> RosTopics:
    """Those of a server with `--ros2`; `role` and the sensors' names are their blueprints' `ros_name`."""
    return RosTopics(
        parameters="carla_native.yaml", role=role, cameras=tuple(cameras), lidar=lidar, odom_frame="odom",
        # Newer releases publish it; where nobody does, the lidar's own odometry stands in.
        odometry=f"/carla/{role}/odometry", route="", command=f"/carla/{role}/ackermann_control_cmd", drive="",
    )  # fmt: skip


INTERFACES = {"bridge": bridge_topics, "native": native_topics}
"""By the name that carla.launch.py has for them."""
