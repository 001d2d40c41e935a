"""The compiled message packages are, on the wire and by their hashes, those of ROS 2; and they talk over real DDS."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

ROOT = Path(__file__).resolve().parents[1]
HERE = Path(__file__).parent
INTERFACES = ROOT / "interfaces"
FIELD_LISTS = sorted([*INTERFACES.glob("*/msg/*.msg"), *INTERFACES.glob("*/srv/*.srv")])
# Hashes that ROS 2 Jazzy's own packages carry.
PUBLISHED = {
    "tf2_msgs/msg/TFMessage": "RIHS01_e369d0f05a23ae52508854b66f6aa0437f3449d652e8cbf22d5abe85d020f087",
}


def type_name(path: Path) -> str:
    return f"{path.parents[1].name}/{path.parent.name}/{path.stem}"


@pytest.fixture(scope="module")
def from_field_lists():
    """rosbags' types of ROS 2 Jazzy and, read from our field lists by rosbags' own parser, those of `interfaces/`.

    Nothing of rosidl takes part, so that the hashes are computed twice, by two independent programs.
    """
    store = get_typestore(Stores.ROS2_JAZZY)
    types = {}
    for path in FIELD_LISTS:
        parts = path.read_text().split("---\n")
        names = (
            [type_name(path)] if path.suffix == ".msg" else [f"{type_name(path)}_{s}" for s in ("Request", "Response")]
        )
        for name, text in zip(names, parts, strict=True):
            ((parsed_name, fields),) = get_types_from_msg(text, name).items()
            types[parsed_name.replace("/srv/msg/", "/srv/")] = fields  # rosbags takes every name for a message's
    for name in set(types) & set(store.fielddefs):
        del store.fielddefs[name]  # ours take their place: compared with the originals in a test of its own
    store.register(types)
    return store


@pytest.fixture(scope="module")
def share() -> Path:
    """The `share` folder of the prefix that the compiled packages lie in."""
    folder = Path(sys.prefix) / "share"
    if not (folder / "vision_msgs" / "msg").is_dir():
        pytest.skip("the message packages are not installed from wheels here")
    return folder


@pytest.mark.ros
@pytest.mark.parametrize("path", FIELD_LISTS, ids=type_name)
def test_hashes_of_compiled_types_equal_those_computed_from_the_field_lists(path, share, from_field_lists):
    description = json.loads((share / path.parents[1].name / path.parent.name / f"{path.stem}.json").read_text())
    hashes = {entry["type_name"]: entry["hash_string"] for entry in description["type_hashes"]}
    # A service and its event wrap request and response, and rosbags computes another hash for a `char[]`, which of all
    # these types the event's header alone has.
    wrappers = {type_name(path), f"{type_name(path)}_Event", "service_msgs/msg/ServiceEventInfo"}
    without_field_list = wrappers if path.suffix == ".srv" else set()
    assert type_name(path) in hashes
    assert {name: text for name, text in hashes.items() if name not in without_field_list} == {
        name: from_field_lists.hash_rihs01(name) for name in hashes if name not in without_field_list
    }


def test_field_lists_equal_those_rosbags_has_of_ros_2_jazzy(from_field_lists):
    jazzy = get_typestore(Stores.ROS2_JAZZY)
    shared = [name for name in from_field_lists.fielddefs if name in jazzy.fielddefs and name.startswith("tf2_msgs")]
    assert "tf2_msgs/msg/TFMessage" in shared
    assert {n: from_field_lists.hash_rihs01(n) for n in shared} == {n: jazzy.hash_rihs01(n) for n in shared}
    assert {n: from_field_lists.hash_rihs01(n) for n in PUBLISHED} == PUBLISHED


@pytest.mark.ros
@pytest.mark.parametrize("path", FIELD_LISTS, ids=type_name)
def test_compiled_types_load_their_type_support_and_carry_the_fields_in_order(path, from_field_lists):
    package, kind, name = type_name(path).split("/")
    compiled = getattr(importlib.import_module(f"{package}.{kind}"), name)
    compiled.__class__.__import_type_support__()
    assert compiled.__class__._TYPE_SUPPORT is not None
    if path.suffix == ".msg":
        fields = [field for field, _ in from_field_lists.fielddefs[type_name(path)][1]]
        assert list(compiled.get_fields_and_field_types()) == (fields or ["structure_needs_at_least_one_member"])


@pytest.mark.ros
def test_a_cloud_and_compiled_messages_cross_from_process_to_process():
    publisher = subprocess.Popen([sys.executable, HERE / "dds_peer.py", "publish"], stderr=subprocess.PIPE, text=True)
    try:
        subscriber = subprocess.run(
            [sys.executable, HERE / "dds_peer.py", "subscribe"], capture_output=True, text=True, timeout=60, check=False
        )
    finally:
        publisher.send_signal(signal.SIGKILL)
        _, publisher_errors = publisher.communicate(timeout=10)
    assert subscriber.returncode == 0, subscriber.stderr + publisher_errors
    received = json.loads(subscriber.stdout)
    assert received["cloud"] == ["lidar", 1000, 4000 * 3999 / 2]
    assert received["detection"] == ["7", 4.5, "car", [float(number) for number in range(36)]]
    assert received["covariance_type"] == "ndarray float64 (36,)"


TALKER = """\
#!/bin/sh
exec {python} -c '
import rclpy
from std_msgs.msg import String
rclpy.init()
node = rclpy.create_node("talker")
node.declare_parameter("text", "")
print("said:", node.get_fully_qualified_name(), node.get_parameter("text").value, flush=True)
' "$@"
"""
LAUNCH_FILE = """\
from launch import LaunchDescription
from launch.actions import LogInfo
from launch_ros.actions import Node
from launch_ros.substitutions import ExecutableInPackage


def generate_launch_description():
    return LaunchDescription(
        [
            LogInfo(msg=["found: ", ExecutableInPackage("stack", "karp_perception")]),
            Node(
                package="a_users_package",
                executable="talk",
                namespace="there",
                parameters=[{"text": "hello"}],
                output="screen",
            ),
        ]
    )
"""


@pytest.mark.ros
def test_launch_ros_finds_our_nodes_and_those_on_a_users_prefix_path(tmp_path, ros_launch_site):
    """AMENT_PREFIX_PATH as a user has set it is kept, and the prefix of this Python is found beside it."""
    index = tmp_path / "share" / "ament_index" / "resource_index" / "packages"
    index.mkdir(parents=True)
    (index / "a_users_package").touch()
    talker = tmp_path / "lib" / "a_users_package" / "talk"
    talker.parent.mkdir(parents=True)
    talker.write_text(TALKER.format(python=sys.executable))
    talker.chmod(0o755)
    launch_file = tmp_path / "talk.launch.py"
    launch_file.write_text(LAUNCH_FILE)
    program = (
        "import sys, launch\n"
        "from launch.launch_description_sources import PythonLaunchDescriptionSource as Source\n"
        "service = launch.LaunchService()\n"
        "source = launch.actions.IncludeLaunchDescription(Source(sys.argv[1]))\n"
        "service.include_launch_description(launch.LaunchDescription([source]))\n"
        "sys.exit(service.run())\n"
    )
    own = [path for path in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if path and path != sys.prefix]
    environment = {
        **os.environ,
        "AMENT_PREFIX_PATH": os.pathsep.join([str(tmp_path), *own]),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ros_launch_site), os.environ.get("PYTHONPATH")])),
        "ROS_LOG_DIR": str(tmp_path / "log"),
    }
    run = subprocess.run(
        [sys.executable, "-c", program, launch_file],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "said: /there/talker hello" in run.stdout
    assert f"found: {Path(sys.prefix) / 'lib' / 'karp_perception' / 'stack'}" in run.stdout + run.stderr
