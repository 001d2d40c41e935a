"""The doctor: a healthy recording has no fault, and each fault gives the line that names it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from karp_perception.doctor import diagnose_bag
from karp_perception.sensing.bags import LATCHED, BagWriter, Qos, default_message

MS = 1_000_000
START = 1_700_000_000_000 * MS
WIDTH, HEIGHT, COUNT = 64, 48, 30
DATA = Path(os.environ.get("KARP_DATA", Path(__file__).parents[2] / "shared" / "data"))


@dataclass
class Drive:
    """A small healthy recording; tests change single things of it before it is written."""

    points: list[tuple[int, Any]] = field(default_factory=list)
    images: list[tuple[int, Any]] = field(default_factory=list)
    infos: list[tuple[int, Any]] = field(default_factory=list)
    transforms: list[tuple[str, str]] = field(
        default_factory=lambda: [("base_link", "velodyne"), ("velodyne", "optical")]
    )
    static_qos: Qos = LATCHED
    image_topic: str = "/camera/front/image_raw"
    info_topic: str = "/camera/front/camera_info"
    image_type: str = "sensor_msgs/Image"
    odometry: bool = True

    def write(self, path: Path) -> Path:
        with BagWriter(path) as bag:
            if self.transforms:
                bag.write("/tf_static", "tf2_msgs/TFMessage", START, self._tf(), qos=self.static_qos)
            rows = [(t, "/lidar/points", "sensor_msgs/PointCloud2", m) for t, m in self.points]
            rows += [(t, self.image_topic, self.image_type, m) for t, m in self.images]
            rows += [(t, self.info_topic, "sensor_msgs/CameraInfo", m) for t, m in self.infos]
            if self.odometry:
                rows += [(START + i * 100 * MS, "/odom", "nav_msgs/Odometry", odometry(i)) for i in range(COUNT)]
            for log_ns, topic, kind, message in sorted(rows, key=lambda row: row[0]):
                bag.write(topic, kind, log_ns, message)
        return path

    def _tf(self) -> Any:
        message = default_message("tf2_msgs/TFMessage")
        for parent, child in self.transforms:
            stamped = default_message("geometry_msgs/TransformStamped")
            stamped.header.frame_id, stamped.child_frame_id = parent, child
            if child == "optical":  # z forward, x right, y down
                q = stamped.transform.rotation
                q.x, q.y, q.z, q.w = -0.5, 0.5, -0.5, 0.5
            message.transforms.append(stamped)
        return message


def stamped(kind: str, stamp: int, frame: str) -> Any:
    message = default_message(kind)
    message.header.frame_id = frame
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp, 1_000_000_000)
    return message


def odometry(i: int) -> Any:
    return stamped("nav_msgs/Odometry", START + i * 100 * MS, "odom")


def cloud(stamp: int, names: tuple[str, ...] = ("x", "y", "z", "intensity", "time")) -> Any:
    message = stamped("sensor_msgs/PointCloud2", stamp, "velodyne")
    points = np.random.default_rng(0).uniform(0.1, 0.9, size=(50, len(names))).astype(np.float32)
    points[:, -1] = np.linspace(0, 0.099, 50)
    message.height, message.width, message.point_step = 1, 50, 4 * len(names)
    message.row_step = 50 * message.point_step
    for i, name in enumerate(names):
        point_field = default_message("sensor_msgs/PointField")
        point_field.name, point_field.offset, point_field.datatype, point_field.count = name, 4 * i, 7, 1
        message.fields.append(point_field)
    message.data = points.view(np.uint8).ravel()
    return message


def image(stamp: int) -> Any:
    message = stamped("sensor_msgs/Image", stamp, "optical")
    message.width, message.height, message.step, message.encoding = WIDTH, HEIGHT, 3 * WIDTH, "rgb8"
    message.data = np.zeros(HEIGHT * WIDTH * 3, np.uint8)
    return message


def info(stamp: int) -> Any:
    message = stamped("sensor_msgs/CameraInfo", stamp, "optical")
    message.width, message.height, message.distortion_model = WIDTH, HEIGHT, "plumb_bob"
    message.k = np.array([60.0, 0, 32, 0, 60, 24, 0, 0, 1])
    message.r = np.eye(3).ravel()
    message.p = np.array([60.0, 0, 32, 0, 0, 60, 24, 0, 0, 0, 1, 0])
    message.d = np.zeros(5)
    return message


@pytest.fixture
def drive() -> Drive:
    times = [START + i * 100 * MS for i in range(COUNT)]
    return Drive(
        [(t + 5 * MS, cloud(t)) for t in times],
        [(t + 9 * MS, image(t + 2 * MS)) for t in times],
        [(t + 9 * MS, info(t + 2 * MS)) for t in times],
    )


def lines(drive: Drive, tmp_path: Path, **options: Any) -> list[str]:
    return [str(f) for f in diagnose_bag(drive.write(tmp_path / "drive.mcap"), **options)]


def test_a_healthy_recording_has_no_fault(drive, tmp_path):
    assert lines(drive, tmp_path) == []


def every(messages: list[tuple[int, Any]], change: Callable[[Any], None]) -> None:
    for _, message in messages:
        change(message)


def shift(messages: list[tuple[int, Any]], ns: int, *, log: bool = False) -> list[tuple[int, Any]]:
    """The same with later stamps, and later log times if asked."""
    out = []
    for log_ns, message in messages:
        stamp = message.header.stamp.sec * 1_000_000_000 + message.header.stamp.nanosec + ns
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp, 1_000_000_000)
        out.append((log_ns + ns if log else log_ns, message))
    return out


def _put(name: str, value: Any) -> Callable[[Any], None]:
    return lambda message: setattr(message, name, value)


def _zero_stamp(message: Any) -> None:
    message.header.stamp.sec = message.header.stamp.nanosec = 0


def _frame(name: str) -> Callable[[Any], None]:
    return lambda message: setattr(message.header, "frame_id", name)


def _no_points(message: Any) -> None:
    message.height = message.width = message.row_step = 0
    message.data = np.zeros(0, np.uint8)


def _nan_points(message: Any) -> None:
    message.data = np.full(50 * 5, np.nan, np.float32).view(np.uint8)


def _swap(messages: list[tuple[int, Any]], i: int) -> None:
    (log_a, a), (log_b, b) = messages[i], messages[i + 1]
    messages[i], messages[i + 1] = (log_a, b), (log_b, a)


def _rename(d: Drive) -> None:
    d.image_topic = "/camera/front/image_rect"
    every(d.infos, _put("d", np.array([-0.3, 0.1, 0, 0, 0])))


def _late(d: Drive, ns: int) -> None:
    d.images, d.infos = shift(d.images, ns), shift(d.infos, ns)


def _later(d: Drive, ns: int) -> None:
    d.images, d.infos = shift(d.images, ns, log=True), shift(d.infos, ns, log=True)


def _irregular(d: Drive) -> None:
    for i, (_, message) in enumerate(d.points):
        message.header.stamp.nanosec += 70 * MS * (i % 2)


FAULTS: dict[str, tuple[Callable[[Drive], Any], str, list[str]]] = {
    "no transforms": (
        lambda d: d.transforms.clear(),
        "error: drive.mcap: no transforms",
        ["/lidar/points in 'velodyne'", "front/image_raw in 'optical'", "record /tf_static"],
    ),
    "another base frame": (
        lambda d: d.transforms.__setitem__(0, ("base_footprint", "velodyne")),
        "error: base_link: there is no such frame",
        ["use --base-frame base_footprint"],
    ),
    "camera not joined": (
        lambda d: d.transforms.__setitem__(1, ("rig", "optical")),
        "error: /camera/front/image_raw: its frame 'optical'",
        ["not joined to base_link", "two trees"],
    ),
    "camera frame unknown": (
        lambda d: d.transforms.pop(1),
        "error: /camera/front/image_raw: its frame 'optical'",
        ["never published"],
    ),
    "camera frame not optical": (
        lambda d: every(d.images + d.infos, _frame("velodyne")),
        "warning: /camera/front/image_raw: its frame 'velodyne'",
        ["looks straight up", "optical"],
    ),
    "empty frame": (
        lambda d: every(d.points, _frame("")),
        "error: /lidar/points: its frame_id is empty",
        ["driver"],
    ),
    "no camera_info": (
        lambda d: d.infos.clear(),
        "error: /camera/front/image_raw: has no camera_info",
        ["record /camera/front/camera_info"],
    ),
    "camera_info elsewhere": (
        lambda d: (setattr(d, "info_topic", "/rear/camera_info"), setattr(d, "image_topic", "/x/y/image_raw")),
        None,
        [],
    ),
    "not calibrated": (
        lambda d: every(d.infos, _put("k", np.zeros(9))),
        "error: /camera/front/camera_info: ",
        ["not calibrated", "calibrate"],
    ),
    "focal length in mm": (
        lambda d: every(d.infos, _put("k", np.array([0.004, 0, 32, 0, 0.004, 24, 0, 0, 1]))),
        "error: /camera/front/camera_info: ",
        ["focal lengths"],
    ),
    "resized image": (
        lambda d: (every(d.infos, _put("width", 128)), every(d.infos, _put("height", 96))),
        "warning: /camera/front/image_raw: images are 64 x 48, camera_info says 128 x 96",
        ["scaled"],
    ),
    "cropped image": (
        lambda d: every(d.infos, _put("height", 64)),
        "error: /camera/front/image_raw: image of optical",
        ["64 x 48"],
    ),
    "encoding": (
        lambda d: every(d.images, _put("encoding", "yuv999")),
        "error: /camera/front/image_raw: 4 of 4 looked at",
        ["yuv999", "rgb8"],
    ),
    "wrong sizes": (
        lambda d: every(d.images, _put("height", 480)),
        "error: /camera/front/image_raw: 4 of 4 looked at",
        ["rows"],
    ),
    "no points": (
        lambda d: every(d.points, _no_points),
        "error: /lidar/points: 4 of 4 looked at",
        ["at least one point"],
    ),
    "NaN points": (
        lambda d: every(d.points, _nan_points),
        "error: /lidar/points: no point has a finite position",
        ["filter"],
    ),
    "no intensity": (
        lambda d: d.points.__setitem__(
            slice(None), [(t, cloud(t - 5 * MS, ("x", "y", "z", "time"))) for t, _ in d.points]
        ),
        "info: /lidar/points: no intensity",
        ["time, x, y, z"],
    ),
    "zero stamps": (
        lambda d: every(d.points, _zero_stamp),
        "error: /lidar/points: all stamps are zero",
        ["header.stamp"],
    ),
    "another clock": (
        lambda d: every(d.points, lambda m: setattr(m.header.stamp, "sec", 1000)),
        "error: /camera/front/image_raw: no overlap in time with /lidar/points",
        ["synchronise the clocks"],
    ),
    "one after the other": (
        lambda d: _later(d, 10_000 * MS),
        "error: /camera/front/image_raw: no overlap in time with /lidar/points",
        ["7.1 s apart"],
    ),
    "backwards": (
        lambda d: _swap(d.points, 10),
        "warning: /lidar/points: stamps go backwards 1 times in 30",
        ["two publishers"],
    ),
    "repeated": (
        lambda d: d.points.insert(5, d.points[5]),
        "warning: /lidar/points: 1 stamps are those of the message before",
        [],
    ),
    "gap": (
        lambda d: d.points.__delitem__(slice(10, 15)),
        "warning: /lidar/points: 1 gaps of up to 0.60 s at 10.0 Hz",
        ["recorder"],
    ),
    "lost": (
        lambda d: [d.points.pop(i) for i in (25, 20, 15, 10, 5)],
        "warning: /lidar/points: about 5 of 30 messages",
        ["10.0 Hz"],
    ),
    "irregular": (_irregular, "warning: /lidar/points: irregular", ["stamp at the sensor"]),
    "ends early": (
        lambda d: d.points.__delitem__(slice(12, None)),
        "warning: /lidar/points: ends 1.8 s before the recording does",
        [],
    ),
    "camera late": (
        lambda d: _late(d, 40 * MS),
        "warning: /camera/front/image_raw: its stamps are 42 ms after those of /lidar/points",
        ["0.042 s"],
    ),
    "volatile tf_static": (
        lambda d: setattr(d, "static_qos", Qos()),
        "warning: /tf_static: was offered volatile",
        ["qos-profile-overrides"],
    ),
    "best-effort tf_static": (
        lambda d: setattr(d, "static_qos", Qos("best_effort", "transient_local")),
        "warning: /tf_static: was offered best-effort",
        ["reliable"],
    ),
    "no odometry": (
        lambda d: setattr(d, "odometry", False),
        "info: drive.mcap: no odometry",
        ["lidar odometry will be used"],
    ),
    "no lidar": (lambda d: d.points.clear(), "warning: drive.mcap: no lidar topic", ["obstacles"]),
    "no camera": (
        lambda d: (d.images.clear(), d.infos.clear()),
        "info: drive.mcap: no camera topic",
        ["lidar is used alone"],
    ),
    "nothing": (
        lambda d: (d.images.clear(), d.infos.clear(), d.points.clear()),
        "error: drive.mcap: no camera and no lidar topic",
        ["there are /odom (Odometry), /tf_static (TFMessage)"],
    ),
    "distortion": (_rename, "info: /camera/front/image_rect: is called rectified", ["rectified: no"]),
    "changing frame": (
        lambda d: every(d.points[5:], _frame("lidar2")),
        "warning: /lidar/points: its frame_id changes: 'velodyne', 'lidar2'",
        [],
    ),
    "frame of camera_info": (
        lambda d: every(d.infos, _frame("other")),
        "warning: /camera/front/image_raw: its frame is 'optical'",
        ["'other'"],
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_gives_exactly_its_line(name, drive, tmp_path):
    break_it, expected, parts = FAULTS[name]
    break_it(drive)
    found = lines(drive, tmp_path)
    if expected is None:  # a lone camera_info belongs to a lone camera, wherever it is
        assert found == []
        return
    matching = [line for line in found if line.startswith(expected)]
    assert len(matching) == 1, found
    assert all(part in matching[0] for part in parts), matching[0]
    assert "\n" not in matching[0]
    worse = [line for line in found if line.startswith("error") and line not in matching]
    assert worse == [], "a single fault must not look like two"


def test_another_base_frame_can_be_asked_for(drive, tmp_path):
    drive.transforms[0] = ("base_footprint", "velodyne")
    assert lines(drive, tmp_path, base_frame="base_footprint") == []


def test_a_compressed_camera_is_looked_at_too(drive, tmp_path):
    _, jpeg = cv2.imencode(".jpg", np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    drive.image_topic, drive.image_type = "/camera/front/image_raw/compressed", "sensor_msgs/CompressedImage"
    whole = []
    for log_ns, message in drive.images:
        stamp = message.header.stamp
        compressed = stamped("sensor_msgs/CompressedImage", stamp.sec * 1_000_000_000 + stamp.nanosec, "optical")
        compressed.format, compressed.data = "rgb8; jpeg compressed bgr8", jpeg.ravel()
        whole.append((log_ns, compressed))
    drive.images = whole
    assert lines(drive, tmp_path) == []
    every(drive.images, _put("data", jpeg.ravel()[: len(jpeg) // 2]))
    (line,) = lines(drive, tmp_path)
    assert line.startswith("error: /camera/front/image_raw/compressed: 4 of 4 looked at")
    assert "JPEG" in line


def test_unreadable_and_damaged_recordings(drive, tmp_path):
    (finding,) = diagnose_bag(tmp_path / "nothing")
    assert finding.severity == "error"
    assert "no such file or directory" in finding.problem
    path = drive.write(tmp_path / "drive.mcap")
    with path.open("r+b") as stream:
        stream.truncate(path.stat().st_size - 30)
    found = [str(f) for f in diagnose_bag(path)]
    assert len(found) == 1
    assert found[0].startswith("warning: drive.mcap: its index is cut off")


def test_messages_that_cannot_be_decoded_are_told(drive, tmp_path):
    path = tmp_path / "drive.mcap"
    with BagWriter(path) as bag:
        for i in range(5):
            bag.write("/lidar/points", "sensor_msgs/PointCloud2", START + i, b"\0\1\0\0\xff\xff\xff\xff")
    found = [str(f) for f in diagnose_bag(path)]
    assert any(
        line.startswith("error: /lidar/points: 5 of 5 messages that were read cannot be decoded") for line in found
    )


def test_an_empty_recording(tmp_path):
    with BagWriter(tmp_path / "bag"):
        pass
    (finding,) = diagnose_bag(tmp_path / "bag")
    assert finding.severity == "error"


@pytest.mark.data
def test_the_recorded_drive_has_no_fault():
    if not (DATA / "kitti_drive").is_dir():
        pytest.skip(f"no recorded drive at {DATA}")
    assert [f for f in diagnose_bag(DATA / "kitti_drive") if f.severity != "info"] == []
