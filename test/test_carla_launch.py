"""carla.launch.py: its topics and parameters, and the stack behind topics as CARLA publishes them."""

from __future__ import annotations

import re
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from karp_perception.core.errors import ConfigurationError
from karp_perception.core.resources import resource
from karp_perception.pipeline import PipelineSettings
from karp_perception.sensing.bags import Topic
from karp_perception.sensing.pointclouds import decode_pointcloud
from karp_perception.sensing.topics import find_inputs
from karp_perception.world.carla.ros_topics import INTERFACES, bridge_topics, native_topics


def test_topics_are_those_that_the_bridge_and_the_server_publish() -> None:
    bridge, native = bridge_topics(), native_topics(cameras=["left", "right"], lidar="")
    assert bridge.images == ("/carla/ego_vehicle/rgb_front/image",)
    assert bridge.camera_infos == ("/carla/ego_vehicle/rgb_front/camera_info",)
    assert bridge.points == "/carla/ego_vehicle/lidar"
    assert (bridge.drive, bridge.command) == ("/carla/ego_vehicle/ackermann_cmd", "")
    assert native.images == ("/carla/hero/left/image", "/carla/hero/right/image")
    assert (native.points, native.drive) == ("", "")
    assert native.command == "/carla/hero/ackermann_control_cmd"
    arguments = bridge_topics("car7", ["front/rgb"]).launch_arguments()
    assert (arguments["base_frame"], arguments["cameras"]) == ("car7", "front_rgb")
    assert arguments["images"] == "/carla/car7/front/rgb/image"


def test_a_recording_of_the_bridge_is_understood_without_being_told() -> None:
    topics = bridge_topics()
    kinds = {
        topics.images[0]: "sensor_msgs/msg/Image",
        topics.camera_infos[0]: "sensor_msgs/msg/CameraInfo",
        topics.points: "sensor_msgs/msg/PointCloud2",
        "/carla/ego_vehicle/radar_front": "sensor_msgs/msg/PointCloud2",
        "/carla/ego_vehicle/semantic_segmentation_front/image": "sensor_msgs/msg/Image",
        topics.odometry: "nav_msgs/msg/Odometry",
    }
    found = find_inputs([Topic(name, kind, 1) for name, kind in kinds.items()])
    assert (found.points, found.odometry) == (topics.points, topics.odometry)
    assert {camera.image: camera.camera_info for camera in found.cameras.values()} == {
        topics.images[0]: topics.camera_infos[0]
    }


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"role": "my car"}, "fit for ROS, got 'my car'"),
        ({"cameras": ["a", "7"]}, "fit for ROS, got '7'"),
        ({"cameras": [], "lidar": ""}, "a lidar or a camera"),
    ],
)
def test_names_that_cannot_be_get_one_clear_line(values: dict, expected: str) -> None:
    with pytest.raises(ConfigurationError, match=expected):
        bridge_topics(**values)


@pytest.mark.parametrize("interface", INTERFACES)
def test_parameter_files_hold_settings_that_exist(interface: str) -> None:
    import yaml

    topics = INTERFACES[interface]()
    file = resource("config", topics.parameters)
    values = yaml.safe_load(file.read_text())["/**"]["ros__parameters"]
    assert values.pop("odom_frame", "odom") == topics.odom_frame
    settings = PipelineSettings.from_mapping(values)
    assert settings.sensing.base_frame == topics.role
    assert (settings.sensing.camera_frames, settings.sensing.camera_info) == {
        "bridge": ("optical", "trust"), "native": ("auto", "mend")
    }[interface]  # fmt: skip


def test_the_clients_parameter_file_holds_settings_that_exist() -> None:
    import yaml

    from karp_perception.core.vehicle import Vehicle
    from karp_perception.world.carla.settings import CarlaSettings

    values = yaml.safe_load(resource("config", "carla_client.yaml").read_text())["/**"]["ros__parameters"]
    assert CarlaSettings.from_mapping(values.pop("carla")) == CarlaSettings()
    Vehicle.from_mapping(values.pop("vehicle"))
    assert values == {}


def test_a_radar_of_the_bridge_is_read_by_field_offset() -> None:
    """x y z, then four floats of which the last, ElevationAngle, begins at byte 28 and not at 24."""
    layout = np.dtype(
        {
            "names": ["x", "y", "z", "Range", "Velocity", "AzimuthAngle", "ElevationAngle"],
            "formats": ["<f4"] * 7,
            "offsets": [0, 4, 8, 12, 16, 20, 28],
            "itemsize": 32,
        }
    )
    points = np.zeros(3, layout)
    points["x"], points["y"], points["z"], points["ElevationAngle"] = [1, 2, 3], [4, 5, 6], [7, 8, 9], 0.1
    fields = [
        SimpleNamespace(name=name, offset=layout.fields[name][1], datatype=7, count=1) for name in layout.names
    ]  # fmt: skip
    stamp = SimpleNamespace(sec=1, nanosec=0)
    message = SimpleNamespace(
        header=SimpleNamespace(stamp=stamp, frame_id="ego_vehicle/radar_front"), height=1, width=3, fields=fields,
        is_bigendian=False, point_step=32, row_step=96, data=points.tobytes(), is_dense=True,
    )  # fmt: skip
    np.testing.assert_array_equal(decode_pointcloud(message).points, [[1, 4, 7, 0], [2, 5, 8, 0], [3, 6, 9, 0]])


# With ROS


@pytest.fixture
def quick(tmp_path: Path) -> Path:
    """Parameters without a network, on top of those of an interface."""

    def write(interface: str) -> str:
        import yaml

        values = yaml.safe_load(resource("config", f"carla_{interface}.yaml").read_text())
        values["/**"]["ros__parameters"]["detector"] = {"model": "none"}
        file = tmp_path / f"{interface}.yaml"
        file.write_text(yaml.safe_dump(values))
        return f"config:={file}"

    return write


@pytest.mark.ros
@pytest.mark.parametrize("interface", INTERFACES)
def test_the_stack_drives_on_topics_as_carla_publishes_them(ros_launch_site: Path, quick, interface: str) -> None:
    pytest.importorskip("rclpy", reason="needs rclpy: `make setup` installs it, or source a ROS 2 installation")
    from ros_graph import Peer, wait_until
    from test_launch import Launch

    from karp_perception.core import EgoState
    from karp_perception.ros import messages
    from karp_perception.ros.messages import create_ros_message as create
    from karp_perception.sensing.camera_mending import BODY_FROM_OPTICAL

    topics = INTERFACES[interface]()
    role, native = topics.role, interface == "native"
    camera_frame, lidar_frame = ("rgb_front", "lidar") if native else (f"{role}/rgb_front", f"{role}/lidar")
    mount = np.eye(4)
    mount[:3, 3] = 1.5, 0.0, 1.6
    T_camera = mount if native else mount @ BODY_FROM_OPTICAL
    fx = 320 / (2.0 * np.tan(90.0) * np.pi / 360.0) if native else 160.0
    K = np.array([[fx, 0, 160.0], [0, fx, 90.0], [0, 0, 1]])
    random = np.random.default_rng(0)
    ground = np.column_stack([random.uniform(-20, 20, (5000, 2)), np.full(5000, -1.6), np.full(5000, 0.5)])
    wall = np.column_stack(
        [np.full(500, 10.0), random.uniform(-1, 1, 500), random.uniform(-1.4, 0.5, 500), np.ones(500)]
    )
    points, image = np.concatenate([ground, wall]).astype(np.float32), np.zeros((180, 320, 3), np.uint8)

    launch = Launch(ros_launch_site, "carla.launch.py", f"interface:={interface}", quick(interface))
    peer = Peer()
    try:
        kind = "ackermann_msgs/msg/AckermannDriveStamped" if native else "ackermann_msgs/msg/AckermannDrive"
        commands = peer.heard(kind, topics.command or topics.drive)
        decisions = peer.heard("diagnostic_msgs/msg/DiagnosticStatus", "/stack/output/decision")
        send = {
            topic: peer.publisher(kind, topic)
            for topic, kind in (
                (topics.images[0], "sensor_msgs/msg/Image"),
                (topics.camera_infos[0], "sensor_msgs/msg/CameraInfo"),
                (topics.points, "sensor_msgs/msg/PointCloud2"),
                (topics.odometry, "nav_msgs/msg/Odometry"),
                ("/tf", "tf2_msgs/msg/TFMessage"),
                ("/clock", "rosgraph_msgs/msg/Clock"),
            )
        }
        wait_until(lambda: peer.state("stack") == "active", "the stack to be active")
        start = [1_000 * 10**9]

        def drive_on() -> bool:
            stamp = start[0] = start[0] + 10**8
            clock = create("rosgraph_msgs/msg/Clock")
            clock.clock.sec, clock.clock.nanosec = divmod(stamp, 10**9)
            send["/clock"].publish(clock)
            frames = [(role, camera_frame, T_camera), (role, lidar_frame, mount)]
            send["/tf"].publish(messages.transforms_message(frames, stamp, create))
            send[topics.camera_infos[0]].publish(
                messages.camera_info_message(K, (320, 180), stamp, camera_frame, create)
            )
            picture = messages.image_message(image, stamp, camera_frame, create)
            send[topics.images[0]].publish(picture)
            send[topics.points].publish(messages.pointcloud_message(points, stamp, lidar_frame, create))
            if not native:  # the server itself publishes none: the lidar's own odometry stands in
                ego = EgoState(stamp, np.eye(4), np.zeros(2))
                send[topics.odometry].publish(messages.odometry_message(ego, create, "map", role))
            time.sleep(0.08)
            read = [messages.decision_from_status(status)[1].kind.value for status in decisions]
            seen = "body axes" in launch.output or not native
            return seen and bool(commands) and any(kind != "NO_INPUT" for kind in read)

        wait_until(drive_on, "a decision and a command")
    finally:
        peer.close()
        launch.interrupt()
    launch.check_clean(1)
    assert ("body axes" in launch.output) == native, launch.output
    assert bool(re.search(r"mended to 160\b", launch.output)) == native, launch.output
    assert "dropped" not in launch.output


@pytest.mark.ros
def test_the_client_without_a_server_says_what_to_do(ros_launch_site: Path, tmp_path: Path) -> None:
    pytest.importorskip("rclpy", reason="needs rclpy: `make setup` installs it, or source a ROS 2 installation")
    from test_launch import Launch

    config = tmp_path / "client.yaml"
    config.write_text("/**: {ros__parameters: {detector: {model: none}, carla: {port: 65000, timeout: 0.5}}}\n")
    launch = Launch(ros_launch_site, "carla.launch.py", f"config:={config}")
    launch.wait()
    assert "Traceback" not in launch.output
    assert re.search(r"no CARLA server answers on localhost:65000|carla package cannot be imported", launch.output)


# Imported in place of the package by the world node's process.
SHIM = """
import atexit
from carla_stand_in import Blueprint, Location, Rotation, Server, Transform

server = Server()
globals().update(vars(server.module))

def report():
    server.check_untouched()
    ego = next(actor for actor in server.ever if actor.attributes["role_name"] == "ego_vehicle")
    print(f"untouched after {server.calls.count('apply_ackermann_control')} commands, {ego.transform.location.x:.1f} m")

atexit.register(report)
"""


@pytest.mark.slow
@pytest.mark.ros
def test_the_client_drives_a_stand_in_and_leaves_nothing_behind(
    ros_launch_site: Path, quick, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("rclpy", reason="needs rclpy: `make setup` installs it, or source a ROS 2 installation")
    import yaml
    from test_launch import PATIENCE, ROOT, Launch

    config = quick("client").removeprefix("config:=")
    values = yaml.safe_load(Path(config).read_text())
    values["/**"]["ros__parameters"]["carla"] |= {"vehicles": 2, "walkers": 1, "spawn_point": 0, "settle": 2}
    Path(config).write_text(yaml.safe_dump(values))
    (tmp_path / "shim").mkdir()
    (tmp_path / "shim" / "carla.py").write_text(SHIM)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'shim'}:{ROOT / 'test'}:{ROOT}")
    launch = Launch(
        ros_launch_site, "carla.launch.py", f"config:={config}", "rig:=nano", "duration:=3.0", "wait_for_command:=5.0"
    )
    assert launch.wait(2 * PATIENCE) == 0, launch.output
    launch.check_clean(2)
    told = re.search(r"untouched after (\d+) commands, ([\d.]+) m", launch.output)
    assert told is not None, launch.output
    # 30 ticks from x = 20; the stand-in's vehicle drives at the speed that it is told.
    assert int(told[1]) >= 25, launch.output
    assert float(told[2]) > 20.5, launch.output


@pytest.mark.ros
def test_an_unknown_interface_gets_a_clear_line(ros_launch_site: Path) -> None:
    pytest.importorskip("rclpy", reason="needs rclpy: `make setup` installs it, or source a ROS 2 installation")
    from test_launch import Launch

    launch = Launch(ros_launch_site, "carla.launch.py", "interface:=telepathy")
    assert launch.wait() != 0
    assert "interface: expected client, bridge or native, got 'telepathy'" in launch.output
