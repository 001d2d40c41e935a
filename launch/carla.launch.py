"""Perception and planning in CARLA, by one of three interfaces.

    ros2 launch karp_perception carla.launch.py                     our own client, in step with the server
    ros2 launch karp_perception carla.launch.py interface:=bridge   topics of carla_ros_bridge
    ros2 launch karp_perception carla.launch.py interface:=native   topics of a server started with --ros2

`client` needs the carla package and a server, and spawns vehicle, sensors and traffic itself; everything ends with the
drive. With `bridge` and `native` somebody else has spawned them: name the vehicle's role and its sensors.
"""

from __future__ import annotations

from typing import Any

from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, OpaqueFunction
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration

from karp_perception.core.resources import resource
from karp_perception.world.carla.ros_topics import INTERFACES
from launch import LaunchContext, LaunchDescription

ARGUMENTS = {
    "interface": ("client", "client, bridge or native"),
    "config": ("", "parameter file; empty for carla_<interface>.yaml"),
    "composed": ("true", "one process (`stack`); false starts `detector`, `tracker` and `planner`"),
    "role": ("", "bridge, native: role of the vehicle; empty for ego_vehicle or hero"),
    "cameras": ("rgb_front", "bridge, native: names of the cameras, with commas between; empty for none"),
    "lidar": ("lidar", "bridge, native: name of the lidar; empty for none"),
    "rig": ("demo", "client: set of sensors, nano, demo, surround, ..."),
    "seed": ("0", "client: of places, traffic and weather"),
    "duration": ("0.0", "client: s of CARLA's time, 0 for no end"),
    "real_time_factor": ("0.0", "client: speed, 1 real time, 0 as fast as possible"),
    "wait_for_command": ("2.0", "client: s that each frame waits for its command at most, 0 never waits"),
    "record": ("", "client: recording to write; empty for none"),
}
_OF_THE_DRIVE = ("rig", "seed", "duration", "real_time_factor", "wait_for_command", "record")


def generate_launch_description() -> LaunchDescription:
    """What `ros2 launch` starts."""
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=text)
        for name, (default, text) in ARGUMENTS.items()
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=_actions)])


def _actions(context: LaunchContext) -> list[Any]:
    given = {name: LaunchConfiguration(name).perform(context).strip() for name in ARGUMENTS}
    interface = given["interface"]
    if interface != "client" and interface not in INTERFACES:
        raise ValueError(f"interface: expected client, {' or '.join(INTERFACES)}, got {interface!r}")
    config = given["config"] or str(resource("config", f"carla_{interface}.yaml"))
    common = {"config": config, "composed": given["composed"]}
    if interface == "client":
        return [_included("demo", {**common, "world": "carla", **{name: given[name] for name in _OF_THE_DRIVE}})]
    cameras = [name.strip() for name in given["cameras"].split(",") if name.strip()]
    role = {"role": given["role"]} if given["role"] else {}
    topics = INTERFACES[interface](**role, cameras=cameras, lidar=given["lidar"])
    return [_included("perception", {**topics.launch_arguments(), **common})]


def _included(name: str, arguments: dict[str, str]) -> IncludeLaunchDescription:
    return IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(resource("launch", f"{name}.launch.py"))),
        launch_arguments=arguments.items(),
    )
