"""A recording through perception and planning: plays it with /clock, finds its topics by itself.

    ros2 launch karp_perception replay.launch.py bag:=drive.mcap rate:=1.0 loop:=false

Everything ends with the recording, unless it loops or `exit:=false`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    IncludeLaunchDescription,
    OpaqueFunction,
    RegisterEventHandler,
    TimerAction,
)
from launch.event_handlers import OnProcessExit
from launch.events import Shutdown
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from karp_perception.core.resources import resource
from karp_perception.sensing.bags import BagReader
from karp_perception.sensing.topics import find_inputs
from launch import LaunchContext, LaunchDescription

_LAST_FRAMES = 1.0  # s for what is still in the pipeline when the recording ends

# launch leaves Ctrl-C to the terminal, which gives it to every process. Where only launch got it (from a supervisor),
# it sends SIGTERM after this many seconds: the nodes end on either.
_PATIENCE = "1.5"

ARGUMENTS = {
    "bag": (None, "recording: a bag directory or an .mcap, .db3 or .bag file"),
    "rate": ("1.0", "speed, 1 for real time"),
    "loop": ("false", "start over at the end"),
    "exit": ("true", "end everything after the last message"),
    "record": ("", "recording of the outputs to write; empty for none"),
    "composed": ("true", "one process (`stack`); false starts `detector`, `tracker` and `planner`"),
    "config": (str(resource("config", "karp.yaml")), "parameter file"),
    "vehicle": ("", "car, shuttle, robot or a parameter file over `config`; empty for the vehicle of `config`"),
}


def generate_launch_description() -> LaunchDescription:
    """What `ros2 launch` starts."""
    declared = [
        DeclareLaunchArgument(name, default_value=default, description=text)
        for name, (default, text) in ARGUMENTS.items()
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=_actions)])


def _actions(context: LaunchContext) -> list[Any]:
    given = {name: LaunchConfiguration(name).perform(context).strip() for name in ARGUMENTS}
    with BagReader(Path(given["bag"]).expanduser()) as bag:
        inputs = find_inputs(bag.topics)
    cameras = inputs.cameras
    transforms = {"tf": "/tf", "tf_static": "/tf_static"}
    for name in inputs.transforms:
        transforms["tf_static" if name.endswith("static") else "tf"] = name
    found = {
        "cameras": ",".join(cameras),
        "images": ",".join(camera.image for camera in cameras.values()),
        "camera_infos": ",".join(c.camera_info or f"{c.image}/camera_info" for c in cameras.values()),
        "points": inputs.points or "",
        "lidar": str(inputs.points is not None),
        "odometry": inputs.odometry or "",
        "route": inputs.route or "",
        **transforms,
    }
    perception = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(resource("launch", "perception.launch.py"))),
        launch_arguments={
            **found, "composed": given["composed"], "config": given["config"], "vehicle": given["vehicle"],
            "use_sim_time": "true"
        }.items(),
    )  # fmt: skip
    anchor = [inputs.points, *(camera.image for camera in cameras.values())]
    player = Node(
        package="karp_perception",
        executable="player",
        name="player",
        output="screen",
        sigterm_timeout=_PATIENCE,
        parameters=[
            {
                "bag": given["bag"],
                "rate": float(given["rate"]),
                "loop": given["loop"].lower() == "true",
                "exit_at_end": given["exit"].lower() == "true",
                "wait_for": [topic for topic in anchor if topic] or [""],
            }
        ],
    )
    ending = TimerAction(period=_LAST_FRAMES, actions=[EmitEvent(event=Shutdown(reason="the recording is over"))])
    at_end = RegisterEventHandler(OnProcessExit(target_action=player, on_exit=[ending]))
    outputs = ["/stack/output/*", "/detector/output/*", "/tracker/output/*", "/planner/output/*", "/diagnostics"]
    recorder = Node(
        package="karp_perception",
        executable="recorder",
        name="recorder",
        output="screen",
        sigterm_timeout=_PATIENCE,
        parameters=[{"out": given["record"], "topics": outputs, "use_sim_time": True}],
    )
    return [perception, player, at_end, *([recorder] if given["record"] else [])]
