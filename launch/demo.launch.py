"""A closed loop: a world to drive in, perception and planning, and the command back to the world.

    ros2 launch karp_perception demo.launch.py
    ros2 launch karp_perception demo.launch.py scenario:=random:intersection:7

Everything ends with the drive (`duration`), or with Ctrl-C. Frames wait for their command, so that a slow machine
drives as well as a fast one, only later: `wait_for_command:=0.0` drives in real time instead, come what may.
"""

from __future__ import annotations

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

from karp_perception.core.resources import parameter_file, resource
from karp_perception.world.rig import make_rig
from launch import LaunchContext, LaunchDescription

_INPUT_TIMEOUT = "30.0"  # s of wall time between two frames
_LAST_FRAMES = 1.0  # s for what is still in the pipeline when the drive ends

# launch leaves Ctrl-C to the terminal, which gives it to every process. Where only launch got it (from a supervisor),
# it sends SIGTERM after this many seconds: the nodes end on either.
_PATIENCE = "1.5"

ARGUMENTS = {
    "world": ("embedded", "embedded or carla"),
    "suite": (str(resource("config", "demo_drive.yaml")), "scenarios: all, the name of a group, or a file"),
    "scenario": ("street", "one of them, or random:FAMILY:SEED"),
    "seed": ("0", "of place, traffic, weather and noise"),
    "rig": ("demo", "set of sensors: nano, demo, surround, ..."),
    "duration": ("0.0", "s of the world's time, 0 for no end"),
    "real_time_factor": ("1.0", "speed: 1 real time, 0 as fast as possible"),
    "wait_for_command": ("2.0", "s that each frame waits for its command at most, 0 never waits"),
    "record": ("", "recording to write, sensors, truth and outputs; empty for none"),
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
    rig = make_rig(given["rig"])
    cameras = [camera.name for camera in rig.cameras]
    images = [f"/camera/{name}/image_raw/compressed" for name in cameras]
    points = "/lidar/points" if rig.lidar is not None else ""
    perception = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(resource("launch", "perception.launch.py"))),
        launch_arguments={
            "cameras": ",".join(cameras),
            "images": ",".join(images),
            "camera_infos": ",".join(f"/camera/{name}/camera_info" for name in cameras),
            "points": points,
            "lidar": str(rig.lidar is not None),
            "odometry": "/odometry",
            "route": "/route",
            "speed_limit": "/speed_limit",
            "signals": "/signals",
            "composed": given["composed"],
            "config": given["config"],
            "vehicle": given["vehicle"],
            "use_sim_time": "true",
            # Where the world waits for commands, a slow machine is no reason to take silence for a lost sensor.
            "input_timeout": "" if float(given["wait_for_command"]) <= 0 else _INPUT_TIMEOUT,
        }.items(),
    )
    decider = "stack" if given["composed"].lower() == "true" else "planner"
    anchor = [points] if points else images[:1]
    world = Node(
        package="karp_perception",
        executable="world",
        name="world",
        output="screen",
        sigterm_timeout=_PATIENCE,
        parameters=[
            given["config"],
            *([str(parameter_file(given["vehicle"]))] if given["vehicle"] else []),
            {
                **{name: given[name] for name in ("world", "suite", "scenario", "rig")},
                "seed": int(given["seed"]),
                **{name: float(given[name]) for name in ("duration", "real_time_factor", "wait_for_command")},
                "wait_for": [*anchor, "/odometry"],
                "subscribers": 2 if given["record"] else 1,
            },
        ],
        remappings=[("~/input/command", f"/{decider}/output/command")],
    )
    ending = TimerAction(period=_LAST_FRAMES, actions=[EmitEvent(event=Shutdown(reason="the drive is over"))])
    at_end = RegisterEventHandler(OnProcessExit(target_action=world, on_exit=[ending]))
    topics = ["/camera/*", "/lidar/*", "/odometry", "/route", "/signals", "/tf", "/tf_static", "/world/*"]
    outputs = ["/diagnostics", "/stack/output/*", "/detector/output/*", "/tracker/output/*", "/planner/output/*"]
    recorder = Node(
        package="karp_perception",
        executable="recorder",
        name="recorder",
        output="screen",
        sigterm_timeout=_PATIENCE,
        parameters=[{"out": given["record"], "topics": [*topics, *outputs], "use_sim_time": True}],
    )
    return [perception, world, at_end, *([recorder] if given["record"] else [])]
