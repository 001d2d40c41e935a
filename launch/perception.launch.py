"""Perception and planning on live topics: the stack, or its three nodes one by one.

    ros2 launch karp_perception perception.launch.py points:=/lidar/points cameras:=front images:=/camera/image_raw

Outputs are under /stack/output, or /detector/output, /tracker/output and /planner/output with composed:=false.
Where one node ends, all end: half a stack is worse than none.
"""

from __future__ import annotations

from launch.actions import DeclareLaunchArgument, OpaqueFunction, Shutdown
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from karp_perception.core.resources import parameter_file, resource
from launch import LaunchContext, LaunchDescription

# launch leaves Ctrl-C to the terminal, which gives it to every process. Where only launch got it (from a supervisor),
# it sends SIGTERM after this many seconds: the nodes end on either.
_PATIENCE = "1.5"

ARGUMENTS = {
    "composed": ("true", "one process (`stack`); false starts `detector`, `tracker` and `planner`"),
    "config": (str(resource("config", "karp.yaml")), "parameter file"),
    "vehicle": ("", "car, shuttle, robot or a parameter file over `config`; empty for the vehicle of `config`"),
    "cameras": ("front", "names of the cameras, with commas between; empty for none"),
    "images": ("", "their image topics, raw or compressed; without, ~/input/image0, 1, ..."),
    "camera_infos": ("", "their camera_info topics; without, ~/input/camera_info0, 1, ..."),
    "points": ("", "topic of the lidar; without, ~/input/points"),
    "lidar": ("true", "whether there is a lidar"),
    "odometry": ("", "odometry topic; without, ~/input/odometry, and the lidar's own odometry while nothing comes"),
    "route": ("", "nav_msgs/Path to follow; without, ~/input/route"),
    "speed_limit": ("", "std_msgs/Float32 topic, m/s; without, ~/input/speed_limit"),
    "goal": ("", "geometry_msgs/PoseStamped to go to along the lanes of `map`; without, ~/input/goal"),
    "signals": ("", "vision_msgs/Detection3DArray of stop lines and what lights show; without, ~/input/signals"),
    "map": ("", "OpenDRIVE (.xodr) or lanelet2 (.osm) file of the road; without, that of the parameter file"),
    "command": ("", "AckermannDriveStamped topic for the commands; without, ~/output/command"),
    "drive": ("", "AckermannDrive topic for the same without a stamp; without, ~/output/drive"),
    "base_frame": ("", "frame of the vehicle; without, that of the parameter file"),
    "odom_frame": ("", "fixed frame of odometry and route; without, that of the parameter file"),
    "tf": ("/tf", "topic of moving transforms"),
    "tf_static": ("/tf_static", "topic of static transforms"),
    "input_timeout": ("", "s without new data until NO_INPUT; without, that of the parameter file"),
    "use_sim_time": ("false", "take the time from /clock"),
}


def generate_launch_description() -> LaunchDescription:
    """What `ros2 launch` starts."""
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=text)
        for name, (default, text) in ARGUMENTS.items()
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=_nodes)])


def _nodes(context: LaunchContext) -> list[Node]:
    given = {name: LaunchConfiguration(name).perform(context).strip() for name in ARGUMENTS}
    cameras = _listed(given["cameras"])
    parameters = {
        "use_sim_time": _truth(given["use_sim_time"]),
        "lidar": _truth(given["lidar"]),
        "cameras": cameras or [""],
    }
    named = {"sensing.base_frame": given["base_frame"], "odom_frame": given["odom_frame"], "map.file": given["map"]}
    parameters |= {name: value for name, value in named.items() if value}
    if given["input_timeout"]:
        parameters["input_timeout"] = float(given["input_timeout"])
    sensors = [("~/input/points", given["points"])]
    for kind, argument in (("image", "images"), ("camera_info", "camera_infos")):
        topics = _listed(given[argument])
        if topics and len(topics) != len(cameras):
            raise ValueError(f"{argument}: expected one topic for each of {cameras}, got {topics}")
        sensors += [(f"~/input/{kind}{i}", topic) for i, topic in enumerate(topics)]
    frames = [(f"/{name}", given[name]) for name in ("tf", "tf_static")]
    odometry = [("~/input/odometry", given["odometry"])]
    route = [(f"~/input/{name}", given[name]) for name in ("route", "goal", "speed_limit", "signals")]

    vehicle = [str(parameter_file(given["vehicle"]))] if given["vehicle"] else []
    driving = [(f"~/output/{name}", given[name]) for name in ("command", "drive")]

    def node(name: str, remappings: list[tuple[str, str]]) -> Node:
        return Node(
            package="karp_perception",
            executable=name,
            name=name,
            output="screen",
            sigterm_timeout=_PATIENCE,
            on_exit=[Shutdown(reason=f"{name} has ended")],
            parameters=[given["config"], *vehicle, parameters],
            remappings=[(inner, outer) for inner, outer in remappings if outer],
        )

    if _truth(given["composed"]):
        return [node("stack", [*sensors, *frames, *odometry, *route, *driving])]
    # Where no odometry is given, the followers take what the detector makes of the lidar.
    followed = odometry if given["odometry"] else [("~/input/odometry", "/detector/output/odometry")]
    from_detector = [(f"~/input/{name}", f"/detector/output/{name}") for name in ("detections", "obstacles")]
    objects = [("~/input/objects", "/tracker/output/objects")]
    return [
        node("detector", [*sensors, *frames, *odometry]),
        node("tracker", [*followed, *from_detector]),
        node("planner", [*followed, *from_detector, *objects, *frames, *route, *driving]),
    ]


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _truth(text: str) -> bool:
    return text.lower() in ("true", "1", "yes", "on")
