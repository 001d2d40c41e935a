"""Recordings: written ones are read back equal by rosbags and mcap, and damaged, odd or foreign ones are coped with."""

from __future__ import annotations

import array
import logging
import shutil
import sqlite3
from importlib import import_module
from pathlib import Path

import mcap.reader
import numpy as np
import pytest
import yaml
from mcap.writer import Writer as McapWriter
from rosbags.highlevel import AnyReader
from rosbags.rosbag1 import Writer as Ros1Writer
from rosbags.rosbag2 import Reader, StoragePlugin, Writer
from rosbags.rosbag2.enums import CompressionFormat, CompressionMode
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from karp_perception.core.errors import BagError, InvalidInput
from karp_perception.sensing.bags import LATCHED, BagReader, BagWriter, Qos, default_message, typestore

MS = 1_000_000
START = 1_700_000_000_000 * MS


def cloud(i: int) -> object:
    message = default_message("sensor_msgs/PointCloud2")
    message.header.frame_id = "velodyne"
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(START + i * 100 * MS, 1_000_000_000)
    points = np.random.default_rng(i).normal(size=(500, 4)).astype(np.float32)
    message.height, message.width, message.point_step, message.row_step = 1, 500, 16, 8000
    for name, offset in zip(("x", "y", "z", "intensity"), (0, 4, 8, 12), strict=True):
        field = default_message("sensor_msgs/PointField")
        field.name, field.offset, field.datatype, field.count = name, offset, 7, 1
        message.fields.append(field)
    message.data = points.view(np.uint8).ravel()
    return message


def static_transform() -> object:
    message = default_message("tf2_msgs/TFMessage")
    stamped = default_message("geometry_msgs/TransformStamped")
    stamped.header.frame_id, stamped.child_frame_id = "base_link", "velodyne"
    stamped.transform.translation.z = 1.7
    message.transforms.append(stamped)
    return message


def write_drive(path: Path, count: int = 10, **options: str) -> Path:
    with BagWriter(path, **options) as bag:
        bag.write("/tf_static", "tf2_msgs/TFMessage", START, static_transform(), qos=LATCHED)
        for i in range(count):
            bag.write("/lidar/points", "sensor_msgs/msg/PointCloud2", START + i * 100 * MS, cloud(i))
    return path


def equal(ours: object, theirs: object) -> bool:
    store = typestore()
    name = ours.__msgtype__  # type: ignore[attr-defined]
    return bytes(store.serialize_cdr(ours, name)) == bytes(store.serialize_cdr(theirs, name))


FORMS = [("drive.mcap", {}), ("drive", {}), ("drive", {"storage": "sqlite3"})]


@pytest.mark.parametrize(("name", "options"), FORMS)
def test_what_is_written_is_read_back_equal_here_and_by_rosbags(tmp_path, name, options):
    path = write_drive(tmp_path / name, **options)
    with BagReader(path) as bag:
        assert {t.name: (t.type, t.count) for t in bag.topics.values()} == {
            "/lidar/points": ("sensor_msgs/msg/PointCloud2", 10), "/tf_static": ("tf2_msgs/msg/TFMessage", 1),
        }  # fmt: skip
        assert bag.topics["/tf_static"].qos == (Qos("reliable", "transient_local", "keep_last", 1),)
        assert bag.topics["/lidar/points"].qos == (Qos("reliable", "volatile", "keep_last", 10),)
        assert (bag.start_ns, bag.end_ns, bag.duration_s, bag.message_count) == (START, START + 900 * MS, 0.9, 11)
        clouds = list(bag.messages(["/lidar/points"]))
        assert [m.log_ns for m in clouds] == [START + i * 100 * MS for i in range(10)]
        assert all(equal(cloud(i), m.message) for i, m in enumerate(clouds))
        assert bag.counters["/lidar/points"].as_dict() == {"received": 10, "used": 10, "dropped": {}}
        raw = [m.data for m in bag.raw_messages(["/tf_static"])]
        assert raw == [bytes(typestore().serialize_cdr(static_transform(), "tf2_msgs/msg/TFMessage"))]
        assert bag.damage == []
    with AnyReader([path]) as peer:  # also checks the type hashes of a directory
        theirs = [peer.deserialize(raw, c.msgtype) for c, _, raw in peer.messages() if c.topic == "/lidar/points"]
    assert len(theirs) == 10
    assert all(np.array_equal(theirs[i].data, cloud(i).data) for i in range(10))


def test_a_lone_file_is_an_indexed_mcap_of_the_ros2_profile(tmp_path):
    path = write_drive(tmp_path / "drive.mcap")
    with path.open("rb") as stream:
        reader = mcap.reader.make_reader(stream, validate_crcs=True)
        assert reader.get_header().profile == "ros2"
        summary = reader.get_summary()
        assert summary.statistics.message_count == 11
        assert summary.chunk_indexes[0].compression == "zstd"
        assert {(s.name, s.encoding) for s in summary.schemas.values()} == {
            ("sensor_msgs/msg/PointCloud2", "ros2msg"), ("tf2_msgs/msg/TFMessage", "ros2msg"),
        }  # fmt: skip
        data = [m.data for _, c, m in reader.iter_messages() if c.topic == "/lidar/points"]
        qos = {c.topic: yaml.safe_load(c.metadata["offered_qos_profiles"])[0] for c in summary.channels.values()}
    assert data[3] == bytes(typestore().serialize_cdr(cloud(3), "sensor_msgs/msg/PointCloud2"))
    assert qos["/tf_static"]["durability"] == 1
    assert qos["/tf_static"]["reliability"] == 1
    with Reader(path) as reader2:
        (connection,) = [c for c in reader2.connections if c.topic == "/tf_static"]
        assert connection.ext.offered_qos_profiles[0].durability.name == "TRANSIENT_LOCAL"


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_metadata_of_a_directory_offers_tf_static_as_transient_local(tmp_path, storage):
    path = write_drive(tmp_path / "drive", storage=storage)
    information = yaml.safe_load((path / "metadata.yaml").read_text())["rosbag2_bagfile_information"]
    topics = {t["topic_metadata"]["name"]: t["topic_metadata"] for t in information["topics_with_message_count"]}
    (profile,) = yaml.safe_load(topics["/tf_static"]["offered_qos_profiles"])
    assert (profile["durability"], profile["reliability"], profile["depth"]) == (1, 1, 1)
    assert information["storage_identifier"] == storage
    assert information["message_count"] == 11


@pytest.mark.parametrize("plugin", [StoragePlugin.MCAP, StoragePlugin.SQLITE3])
@pytest.mark.parametrize("mode", [CompressionMode.MESSAGE, CompressionMode.FILE])
@pytest.mark.parametrize("form", ["directory", "without metadata", "lone file"])
def test_compressed_recordings_are_read(tmp_path, plugin, mode, form):
    writer = Writer(tmp_path / "bag", version=8, storage_plugin=plugin)
    writer.set_compression(mode, CompressionFormat.ZSTD)
    with writer:
        connection = writer.add_connection("/lidar/points", "sensor_msgs/msg/PointCloud2", typestore=typestore())
        for i in range(5):
            writer.write(connection, START + i, typestore().serialize_cdr(cloud(i), connection.msgtype))
    path = tmp_path / "bag"
    if form != "directory":
        (path / "metadata.yaml").unlink()
    if form == "lone file":
        (path,) = path.iterdir()
    with BagReader(path) as bag:
        assert all(equal(cloud(i), m.message) for i, m in enumerate(bag.messages()))
        assert bag.counters["/lidar/points"].used == 5


@pytest.mark.parametrize(("name", "options"), FORMS)
def test_a_span_of_time_is_read_alone(tmp_path, name, options):
    with BagReader(write_drive(tmp_path / name, **options)) as bag:
        span = {"start_ns": START + 200 * MS, "stop_ns": START + 500 * MS}
        assert [(m.log_ns - START) // MS for m in bag.messages(**span)] == [200, 300, 400]
        assert [(m.log_ns - START) // MS for m in bag.raw_messages(["/lidar/points"], **span)] == [200, 300, 400]
        assert list(bag.messages(start_ns=START + 901 * MS)) == []


def test_split_recordings_are_read_in_order_and_a_missing_part_is_told(tmp_path, caplog):
    folder = tmp_path / "bag"
    folder.mkdir()
    for part in (10, 2, 1):
        with BagWriter(folder / f"bag_{part}.mcap") as bag:
            for i in range(3):
                bag.write("/lidar/points", "sensor_msgs/msg/PointCloud2", START + part * 1000 + i, cloud(i))
    files = [f"bag_{i}.mcap" for i in (0, 1, 2, 10)]
    (folder / "metadata.yaml").write_text(yaml.dump({"rosbag2_bagfile_information": {"relative_file_paths": files}}))
    with BagReader(folder) as bag:
        times = [m.log_ns - START for m in bag.raw_messages()]
        assert bag.topics["/lidar/points"].count == 9
        assert any("bag_0.mcap, which is not there" in line for line in bag.damage)
    assert times == [1000, 1001, 1002, 2000, 2001, 2002, 10000, 10001, 10002]


ODD = """uint8 KIND=3
string name
my_msgs/Part[] parts
float32[3] fixed
================================================================================
MSG: my_msgs/Part
int32 value 7
"""


def test_a_type_that_only_the_recording_defines_is_read(tmp_path):
    store = get_typestore(Stores.ROS2_JAZZY)
    store.register(get_types_from_msg(ODD, "my_msgs/msg/Odd"))
    part = store.types["my_msgs/msg/Part"]
    odd = store.types["my_msgs/msg/Odd"]("x", [part(5), part(6)], np.zeros(3, np.float32))
    with BagWriter(tmp_path / "odd.mcap", store=store) as bag:
        bag.write("/odd", "my_msgs/msg/Odd", START, odd)
        bag.write("/lidar/points", "sensor_msgs/msg/PointCloud2", START + 1, cloud(1))
    with BagReader(tmp_path / "odd.mcap") as bag:
        first, second = bag.messages()
        copied = bag.store
    assert [p.value for p in first.message.parts] == [5, 6]
    assert first.message.name == "x"
    assert equal(cloud(1), second.message)
    with BagWriter(tmp_path / "copy.mcap", store=copied) as bag:
        bag.write("/odd", "my_msgs/msg/Odd", START, first.message)
    assert "my_msgs/msg/Odd" not in typestore().fielddefs  # the shared store stays as it is


def test_a_definition_that_differs_from_ours_is_the_one_that_counts(tmp_path):
    """An older vision_msgs, say: the recording knows what its bytes mean."""
    store = get_typestore(Stores.EMPTY)
    store.register(get_types_from_msg("string name\nint64 extra\n", "vision_msgs/msg/VisionClass"))
    with BagWriter(tmp_path / "old.mcap", store=store) as bag:
        bag.write("/old", "vision_msgs/msg/VisionClass", START, store.types["vision_msgs/msg/VisionClass"]("car", 9))
    with BagReader(tmp_path / "old.mcap") as bag:
        (message,) = bag.messages()
    assert (message.message.name, message.message.extra) == ("car", 9)


def foreign_mcap(path: Path, messages: int = 3) -> None:
    """A file with a JSON topic, one with a schema nobody knows, and a normal one, and no profile."""
    with path.open("wb") as stream:
        writer = McapWriter(stream)
        writer.start(profile="", library="test")
        json = writer.register_channel("/json", "json", writer.register_schema("x", "jsonschema", b"{}"))
        secret = writer.register_channel("/secret", "cdr", writer.register_schema("who/msg/Knows", "", b""))
        definition = typestore().generate_msgdef("std_msgs/msg/String", ros_version=2)[0].encode()
        text = writer.register_channel(
            "/text", "cdr", writer.register_schema("std_msgs/msg/String", "ros2msg", definition)
        )
        message = default_message("std_msgs/String")
        for i in range(messages):
            writer.add_message(json, START + i, b"{}", START)
            writer.add_message(secret, START + i, b"\0\1\0\0\0\0\0\0", START)
            writer.add_message(text, START + i, bytes(typestore().serialize_cdr(message, "std_msgs/msg/String")), START)
        writer.finish()


def test_unknown_types_are_skipped_with_one_line_each(tmp_path, caplog):
    foreign_mcap(tmp_path / "x.mcap")
    with caplog.at_level(logging.WARNING), BagReader(tmp_path / "x.mcap") as bag:
        assert [m.topic for m in bag.messages()] == ["/text"] * 3
        assert set(bag.unknown) == {"/json", "/secret"}
        assert bag.counters["/secret"].as_dict() == {"received": 3, "used": 0, "dropped": {"unknown_type": 3}}
    for topic in ("/json", "/secret"):
        assert sum(topic in record.getMessage() for record in caplog.records) == 1


@pytest.mark.parametrize(
    "bad", [b"", b"\0", b"\0\1\0\0", b"\0\1\0\0" + b"\xff" * 40, b"\x28\xb5\x2f\xfd123", b"\0\1\0\0" + b"\0" * 900]
)
def test_damaged_messages_are_counted_and_skipped(tmp_path, bad):
    with BagWriter(tmp_path / "x.mcap") as bag:
        for i in range(3):
            bag.write("/lidar/points", "sensor_msgs/msg/PointCloud2", START + 2 * i, cloud(i))
            bag.write("/lidar/points", "sensor_msgs/msg/PointCloud2", START + 2 * i + 1, bad)
    with BagReader(tmp_path / "x.mcap") as bag:
        assert len(list(bag.messages())) == 3
        assert bag.counters["/lidar/points"].as_dict() == {"received": 6, "used": 3, "dropped": {"undecodable": 3}}


def chunky(path: Path, count: int = 40) -> list[int]:
    """An MCAP of chunks of three messages; returns where the chunks end in the file."""
    definition = typestore().generate_msgdef("sensor_msgs/msg/PointCloud2", ros_version=2)[0].encode()
    with path.open("wb") as stream:
        writer = McapWriter(stream, chunk_size=20_000)
        writer.start(profile="ros2", library="test")
        channel = writer.register_channel(
            "/p", "cdr", writer.register_schema("sensor_msgs/msg/PointCloud2", "ros2msg", definition)
        )
        for i in range(count):
            writer.add_message(
                channel, START + i, bytes(typestore().serialize_cdr(cloud(i), "sensor_msgs/msg/PointCloud2")), START + i
            )
        writer.finish()
    with path.open("rb") as stream:
        chunks = mcap.reader.make_reader(stream).get_summary().chunk_indexes
    return [c.chunk_start_offset + c.chunk_length for c in chunks]


@pytest.mark.parametrize("keep", [0.3, 0.6, 0.95, 0.9999])
def test_a_recording_that_was_killed_gives_what_is_there(tmp_path, keep, caplog):
    path = tmp_path / "killed.mcap"
    ends = chunky(path)
    size = round(path.stat().st_size * keep)
    whole_chunks = sum(end <= size for end in ends)
    with path.open("r+b") as stream:
        stream.truncate(size)
    with caplog.at_level(logging.WARNING), BagReader(path) as bag:
        messages = list(bag.messages())
        assert bag.damage
        assert bag.topics["/p"].count == len(messages)
    assert len(messages) == min(3 * whole_chunks, 40) > 0
    assert all(equal(cloud(i), m.message) for i, m in enumerate(messages))
    assert sum("can be read" in r.getMessage() for r in caplog.records) == 1


def test_a_directory_of_a_killed_recorder_has_no_metadata_and_is_read(tmp_path):
    path = write_drive(tmp_path / "drive")
    (path / "metadata.yaml").unlink()
    (file,) = path.iterdir()
    with file.open("r+b") as stream:
        stream.truncate(file.stat().st_size - 20)
    with BagReader(path) as bag:
        assert len(list(bag.messages())) == 11
        assert bag.damage


def test_a_chunk_that_is_damaged_in_the_middle_costs_only_itself(tmp_path):
    path = tmp_path / "scratch.mcap"
    ends = chunky(path)
    with path.open("r+b") as stream:
        stream.seek(ends[4] - 500)
        stream.write(b"\xaa" * 200)
    with BagReader(path) as bag:
        got = [m.log_ns - START for m in bag.messages()]
        assert bag.damage
    assert got == [i for i in range(40) if i not in (12, 13, 14)]  # the fifth chunk


def test_messages_of_an_unindexed_file_come_in_order(tmp_path):
    from mcap.writer import IndexType

    path = tmp_path / "plain.mcap"
    with path.open("wb") as stream:
        writer = McapWriter(stream, use_chunking=False, index_types=IndexType.NONE, use_statistics=False)
        writer.start(profile="ros2", library="test")
        definition = typestore().generate_msgdef("std_msgs/msg/String", ros_version=2)[0].encode()
        channel = writer.register_channel(
            "/text", "cdr", writer.register_schema("std_msgs/msg/String", "ros2msg", definition)
        )
        data = bytes(typestore().serialize_cdr(default_message("std_msgs/String"), "std_msgs/msg/String"))
        for i in (3, 1, 2, 0):
            writer.add_message(channel, START + i, data, START + i)
        writer.finish()
    with BagReader(path) as bag:
        assert [m.log_ns - START for m in bag.messages()] == [0, 1, 2, 3]


def test_ros1_bags_are_read_in_their_ros2_form(tmp_path):
    store = get_typestore(Stores.ROS1_NOETIC)
    header = store.types["std_msgs/msg/Header"](7, store.types["builtin_interfaces/msg/Time"](12, 34), "camera")
    region = store.types["sensor_msgs/msg/RegionOfInterest"](0, 0, 0, 0, False)
    K = np.array([500.0, 0, 320, 0, 500, 240, 0, 0, 1])
    info = store.types["sensor_msgs/msg/CameraInfo"](
        header, 480, 640, "plumb_bob", np.arange(5.0), K, np.eye(3).ravel(), np.zeros(12), 0, 0, region
    )
    with Ros1Writer(tmp_path / "old.bag") as writer:
        connection = writer.add_connection("/camera_info", "sensor_msgs/msg/CameraInfo", typestore=store)
        writer.write(connection, START, store.serialize_ros1(info, "sensor_msgs/msg/CameraInfo"))
    with BagReader(tmp_path / "old.bag") as bag:
        (message,) = bag.messages()
        (raw,) = bag.raw_messages()
    assert np.array_equal(message.message.k, K)
    assert np.array_equal(message.message.d, np.arange(5.0))
    assert (message.message.header.stamp.sec, message.message.header.frame_id, message.message.width) == (
        12,
        "camera",
        640,
    )
    assert equal(typestore().deserialize_cdr(raw.data, "sensor_msgs/msg/CameraInfo"), message.message)


def test_what_is_no_recording_is_refused_with_what_was_expected(tmp_path):
    with pytest.raises(BagError, match=r"no such file or directory; expected a bag directory"):
        BagReader(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        BagError, match=r"expected a bag directory \(metadata.yaml and .mcap or .db3 files\), found nothing"
    ):
        BagReader(tmp_path / "empty")
    write_drive(tmp_path / "drives" / "monday")
    with pytest.raises(BagError, match="found bags inside it: monday"):
        BagReader(tmp_path / "drives")
    (tmp_path / "x.txt").write_text("hello")
    with pytest.raises(BagError, match=r"got \.txt"):
        BagReader(tmp_path / "x.txt")
    for name in ("zero.mcap", "zero.db3", "zero.bag"):
        (tmp_path / name).touch()
        with pytest.raises(BagError, match="empty"):
            BagReader(tmp_path / name)
    for name in ("junk.mcap", "junk.db3", "junk.bag", "junk.mcap.zstd"):
        (tmp_path / name).write_bytes(b"this is no recording, whatever its name says " * 50)
        with pytest.raises(BagError, match="junk"):
            BagReader(tmp_path / name)
    (tmp_path / "start.mcap").write_bytes(b"\x89MCAP0\r\n")
    with pytest.raises(BagError, match="without a single topic"):
        BagReader(tmp_path / "start.mcap")


def test_a_damaged_sqlite_recording_gives_what_comes_before_the_damage(tmp_path):
    path = write_drive(tmp_path / "drive", count=60, storage="sqlite3")
    (file,) = path.glob("*.db3")
    with file.open("r+b") as stream:
        stream.seek(round(file.stat().st_size * 0.7))
        stream.write(b"\xff" * 40_000)
    with BagReader(path) as bag:
        count = len(list(bag.messages(["/lidar/points"])))
        used = bag.counters["/lidar/points"].as_dict()
    assert used["used"] == count
    assert bag.damage or used["dropped"]


def test_an_unknown_topic_is_refused_by_name(tmp_path):
    with (
        BagReader(write_drive(tmp_path / "drive.mcap")) as bag,
        pytest.raises(BagError, match="no topic /x; it has /lidar"),
    ):
        next(bag.messages(["/x"]))


def test_a_recording_appears_whole_or_not_at_all(tmp_path):
    for path in (tmp_path / "drive.mcap", tmp_path / "drive"):
        bag = BagWriter(path)
        bag.write("/lidar/points", "sensor_msgs/msg/PointCloud2", START, cloud(0))
        assert not path.exists()
        bag.close()
        bag.close()
        assert path.exists()
        before = sorted(f.stat().st_mtime_ns for f in (path.iterdir() if path.is_dir() else [path]))
        with pytest.raises(RuntimeError, match="stop"), BagWriter(path) as second:  # noqa: PT012
            second.write("/lidar/points", "sensor_msgs/msg/PointCloud2", START, cloud(0))
            raise RuntimeError("stop")
        assert before == sorted(f.stat().st_mtime_ns for f in (path.iterdir() if path.is_dir() else [path]))
        write_drive(path)  # a finished one replaces it
        with BagReader(path) as again:
            assert again.message_count == 11
    assert sorted(f.name for f in tmp_path.iterdir()) == ["drive", "drive.mcap"]


def test_nothing_but_a_recording_is_replaced(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").touch()
    write_drive(tmp_path / "recordings" / "precious.mcap")
    with pytest.raises(BagError, match="other things in it"):
        BagWriter(tmp_path / "recordings")  # a folder of recordings is not a recording
    write_drive(tmp_path / "bag")
    shutil.copy(tmp_path / "recordings" / "precious.mcap", tmp_path / "bag")
    with pytest.raises(BagError, match="other things in it"):
        BagWriter(tmp_path / "bag")
    with pytest.raises(BagError, match="other things in it"):
        BagWriter(tmp_path / "photos")
    (tmp_path / "notes").write_text("x")
    with pytest.raises(BagError, match="is a file"):
        BagWriter(tmp_path / "notes")
    with pytest.raises(BagError, match="expected mcap or sqlite3"):
        BagWriter(tmp_path / "bag", storage="rosbag")


def test_a_writer_refuses_what_it_cannot_write(tmp_path):
    with BagWriter(tmp_path / "x.mcap") as bag:
        with pytest.raises(BagError, match="the type no_msgs/msg/Such is not known"):
            bag.write("/x", "no_msgs/Such", START, cloud(0))
        bag.write("/x", "sensor_msgs/PointCloud2", START, cloud(0))
        with pytest.raises(BagError, match=r"has messages of sensor_msgs/msg/PointCloud2, got one of std_msgs"):
            bag.write("/x", "std_msgs/String", START, default_message("std_msgs/String"))
        wrong = cloud(0)
        wrong.header.stamp.sec = 1 << 40
        with pytest.raises(InvalidInput, match="PointCloud2"):
            bag.write("/x", "sensor_msgs/PointCloud2", START, wrong)
        info = default_message("sensor_msgs/CameraInfo")
        info.k = np.zeros(8)
        with pytest.raises(InvalidInput, match="expected 9 numbers"):
            bag.write("/info", "sensor_msgs/CameraInfo", START, info)
        with pytest.raises(InvalidInput):
            bag.write("/x", "sensor_msgs/PointCloud2", -1, cloud(0))
    with pytest.raises(BagError, match="closed"):
        bag.write("/x", "sensor_msgs/PointCloud2", START, cloud(0))


@pytest.mark.parametrize(
    "data", [b"\1\2\3", [1, 2, 3], array.array("B", [1, 2, 3]), np.array([1, 2, 3]), bytearray(b"\1\2\3")]
)
def test_any_kind_of_array_can_be_assigned_to_a_message(tmp_path, data):
    image = default_message("sensor_msgs/Image")
    image.data = data
    with BagWriter(tmp_path / "x.mcap") as bag:
        bag.write("/image", "sensor_msgs/Image", START, image)
    with BagReader(tmp_path / "x.mcap") as bag:
        (message,) = bag.messages()
    assert message.message.data.tolist() == [1, 2, 3]


def test_default_messages_are_new_each_time_and_complete():
    a, b = (
        default_message("autoware_perception_msgs/PredictedObject"),
        default_message("autoware_perception_msgs/PredictedObject"),
    )
    a.kinematics.initial_pose_with_covariance.pose.orientation.w = 0.5
    a.kinematics.initial_pose_with_covariance.covariance[0] = 3
    assert b.kinematics.initial_pose_with_covariance.pose.orientation.w == 1.0
    assert b.kinematics.initial_pose_with_covariance.covariance.tolist() == [0.0] * 36
    for name in typestore().fielddefs:  # every type can be made and serialised
        message = default_message(name)
        typestore().serialize_cdr(message, name)
    with pytest.raises(InvalidInput, match="'no_msgs/msg/Such'"):
        default_message("no_msgs/Such")


@pytest.mark.ros
def test_default_messages_equal_those_of_rclpy_through_a_recording(tmp_path):
    """Every type both know, serialised by rclpy: decoded here, it is what `default_message` gives."""
    pytest.importorskip("rclpy", reason="no ROS 2 here")
    from rclpy.serialization import serialize_message

    names: list[str] = []
    with BagWriter(tmp_path / "x.mcap") as bag:
        for name in typestore().fielddefs:
            package, kind, cls = name.split("/")
            try:
                real = getattr(import_module(f"{package}.{kind}"), cls)
            except (ImportError, AttributeError):
                continue
            bag.write(f"/t{len(names)}", name, START + len(names), serialize_message(real()))
            names.append(name)
    assert len(names) > 80
    with BagReader(tmp_path / "x.mcap") as bag:
        found = {m.type: m.message for m in bag.messages()}
    assert sorted(found) == sorted(names)
    assert [name for name in names if not equal(default_message(name), found[name])] == []


def test_sqlite_files_written_here_have_the_schema_of_rosbag2(tmp_path):
    (file,) = write_drive(tmp_path / "drive", storage="sqlite3").glob("*.db3")
    copy = shutil.copy(file, tmp_path / "copy.db3")
    with sqlite3.connect(copy) as database:
        topics = database.execute("SELECT name, type FROM topics ORDER BY name").fetchall()
        count = database.execute("SELECT count(*) FROM messages").fetchone()
    assert topics == [("/lidar/points", "sensor_msgs/msg/PointCloud2"), ("/tf_static", "tf2_msgs/msg/TFMessage")]
    assert count == (11,)
