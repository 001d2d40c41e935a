"""PointCloud2 decoding: every layout against numpy's structured arrays and sensor_msgs_py, times, what is refused."""

from __future__ import annotations

import array
import os
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sensor_message_builders import DATATYPES, STAMP_NS, TYPES, cloud_message

from karp_perception.core.errors import InvalidInput
from karp_perception.sensing.pointclouds import INTENSITY_FIELDS, TIME_FIELDS, decode_pointcloud

RNG = np.random.default_rng(3)


def xyzi(count: int = 50, dtype: str = "f4") -> dict[str, np.ndarray]:
    return {name: RNG.uniform(0, 100, count).astype(dtype) for name in ("x", "y", "z", "intensity")}


def stacked(columns: dict[str, np.ndarray]) -> np.ndarray:
    return np.stack([columns[name].astype(np.float32) for name in ("x", "y", "z", "intensity")], axis=1)


def reason_of(message: Any) -> str:
    with pytest.raises(InvalidInput) as caught:
        decode_pointcloud(message)
    return caught.value.reason


@pytest.mark.parametrize("big_endian", [False, True])
@pytest.mark.parametrize(
    ("offsets", "step"),
    [([0, 4, 8, 12], 16), ([0, 4, 8, 12], 22), ([0, 4, 8, 16], 32), ([0, 4, 8, 16], 48), ([5, 1, 13, 9], 19)],
)
def test_layouts_of_floats(offsets: list[int], step: int, big_endian: bool) -> None:
    columns = xyzi()
    cloud = decode_pointcloud(cloud_message(columns, offsets, step, big_endian=big_endian))
    np.testing.assert_array_equal(cloud.points, stacked(columns))
    assert cloud.points.dtype == np.float32
    assert cloud.points.flags.c_contiguous
    assert (cloud.received, cloud.time) == (50, None)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_layout_equals_its_columns(data: st.DataObject) -> None:
    """Any datatypes, order, gaps, rows, padding and byte order; extra fields that nobody reads lie in between."""
    names = ["x", "y", "z", "intensity", *data.draw(st.lists(st.sampled_from(["ring", "rgb", "_"]), unique=True))]
    names = data.draw(st.permutations(names))
    height, width = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 9))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    columns, offsets, end = {}, [], 0
    for name in names:
        dtype = np.dtype(data.draw(st.sampled_from(sorted(DATATYPES))))
        columns[name] = rng.integers(0, 120, height * width).astype(dtype)
        offsets.append(end + data.draw(st.integers(0, 3)))
        end = offsets[-1] + dtype.itemsize
    message = cloud_message(
        columns,
        offsets,
        end + data.draw(st.integers(0, 5)),
        height=height,
        row_padding=data.draw(st.integers(0, 7)),
        big_endian=data.draw(st.booleans()),
    )
    cloud = decode_pointcloud(message)
    np.testing.assert_array_equal(cloud.points, stacked(columns))
    assert cloud.received == height * width


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, lambda b: array.array("B", b), "unaligned"])
def test_containers_of_data(kind: Any) -> None:
    """rclpy gives array.array, rosbags a numpy array that may begin anywhere in the file's bytes."""
    columns = xyzi()
    message = cloud_message(columns)
    content = message.data.tobytes()
    message.data = np.frombuffer(b"?" + content, np.uint8)[1:] if kind == "unaligned" else kind(content)
    points = decode_pointcloud(message).points
    np.testing.assert_array_equal(points, stacked(columns))
    assert not points.flags.writeable


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("offsets", [[0, 4, 8, 12, 16], [0, 4, 8, 16, 20], [3, 8, 12, 16, 20]])
def test_points_without_finite_position_are_removed_and_counted(bad: float, offsets: list[int]) -> None:
    columns = {**xyzi(20_000), "time": np.linspace(0, 0.1, 20_000).astype("f4")}
    gone = RNG.random(20_000) < 0.3
    for name in ("x", "y", "z"):
        columns[name][gone & (RNG.random(20_000) < 0.7)] = bad
    finite = np.isfinite(stacked(columns)[:, :3]).all(axis=1)
    cloud = decode_pointcloud(cloud_message(columns, offsets, 24))
    np.testing.assert_array_equal(cloud.points, stacked(columns)[finite])
    np.testing.assert_array_equal(cloud.time, columns["time"][finite])
    assert 0 < len(cloud.points) < cloud.received == 20_000


def test_points_without_finite_intensity_stay_with_zero() -> None:
    columns = xyzi()
    columns["intensity"][7] = np.nan
    message = cloud_message(columns)
    before = message.data.copy()
    expected = stacked(columns)
    expected[7, 3] = 0
    np.testing.assert_array_equal(decode_pointcloud(message).points, expected)
    np.testing.assert_array_equal(message.data, before)


def test_all_points_invalid_is_an_empty_result_not_an_error() -> None:
    columns = {**xyzi(8), "time": np.linspace(0, 0.1, 8).astype("f4")}
    columns["x"][:] = np.nan
    cloud = decode_pointcloud(cloud_message(columns))
    assert (cloud.points.shape, cloud.time, cloud.received) == ((0, 4), None, 8)


def test_doubles_beyond_float32_are_not_points() -> None:
    columns = xyzi(dtype="f8")
    columns["y"][3] = 1e300
    np.testing.assert_array_equal(
        decode_pointcloud(cloud_message(columns)).points, np.delete(stacked_f8(columns), 3, axis=0)
    )


def stacked_f8(columns: dict[str, np.ndarray]) -> np.ndarray:
    with np.errstate(over="ignore"):
        return stacked(columns)


def test_finite_numbers_whose_squares_overflow_stay() -> None:
    columns = xyzi()
    columns["intensity"][:] = 3e38
    np.testing.assert_array_equal(decode_pointcloud(cloud_message(columns)).points, stacked(columns))


def test_missing_intensity_is_zero() -> None:
    columns = {name: column for name, column in xyzi().items() if name != "intensity"}
    points = decode_pointcloud(cloud_message(columns, [0, 4, 8], 16)).points
    assert (points[:, 3] == 0).all()


def test_intensity_names_in_order_of_preference() -> None:
    columns = xyzi(5)
    base = {name: columns[name] for name in ("x", "y", "z")}
    for k, name in enumerate(INTENSITY_FIELDS):
        others = {other: np.full(5, 99, "u2") for other in INTENSITY_FIELDS[k + 1 :]}
        message = cloud_message({**base, **others, name: np.arange(5, dtype="u1")})
        np.testing.assert_array_equal(decode_pointcloud(message).points[:, 3], np.arange(5))


def test_intensity_scale_is_the_messages_own_or_the_one_named() -> None:
    columns = {**xyzi(4), "intensity": np.array([0, 51, 255, 400], "u2")}
    message = cloud_message(columns)
    np.testing.assert_array_equal(decode_pointcloud(message).points[:, 3], [0, 51, 255, 400])
    unit = decode_pointcloud(message, intensity_full_scale=255).points
    np.testing.assert_allclose(unit[:, 3], [0, 0.2, 1, 1], rtol=1e-6)
    np.testing.assert_array_equal(unit[:, :3], stacked(columns)[:, :3])
    with pytest.raises(InvalidInput):
        decode_pointcloud(message, intensity_full_scale=0)


TRUE_TIME = np.linspace(0.0, 0.0999, 64)
STAMP_S = STAMP_NS // 10**9  # whole seconds: what is added below stays exact
STAMP_REST = STAMP_NS * 1e-9 - STAMP_S


@pytest.mark.parametrize(
    ("name", "values", "tolerance"),
    [
        ("t", np.rint(TRUE_TIME * 1e9).astype("u4"), 1e-8),  # Ouster
        ("offset_time", np.rint(TRUE_TIME * 1e9).astype("u4"), 1e-8),  # Livox
        ("time_stamp", np.rint(TRUE_TIME * 1e9).astype("i4"), 1e-8),  # Autoware
        ("t", np.rint(TRUE_TIME * 1e6).astype("u4"), 1e-6),
        ("time", TRUE_TIME.astype("f4"), 1e-8),  # Velodyne
        ("time", (TRUE_TIME * 1e3).astype("f4"), 1e-7),
        ("time", (TRUE_TIME * 1e6).astype("f4"), 1e-7),
        ("timestamp", TRUE_TIME * 1e9, 1e-8),
        ("timestamp", TRUE_TIME + STAMP_REST + STAMP_S, 1e-6),  # Hesai, RoboSense
        ("timestamp", (TRUE_TIME + STAMP_REST) * 1e6 + STAMP_S * 1e6, 1e-6),
        ("timestamp", (TRUE_TIME + STAMP_REST) * 1e9 + STAMP_S * 1e9, 1e-6),  # Livox
        ("timestamp", TRUE_TIME + 3453.25, 1e-6),  # a clock since power-up: from its smallest on
    ],
)
def test_time_of_points_in_every_unit_and_origin(name: str, values: np.ndarray, tolerance: float) -> None:
    cloud = decode_pointcloud(cloud_message({**xyzi(64), name: values}))
    assert cloud.time is not None
    assert cloud.time.dtype == np.float32
    np.testing.assert_allclose(cloud.time, TRUE_TIME, atol=tolerance)


def test_time_before_the_stamp_is_negative() -> None:
    """Drivers that stamp the end of the sweep: relative floats, and absolute doubles in big-endian."""
    early = -TRUE_TIME[::-1]
    cloud = decode_pointcloud(cloud_message({**xyzi(64), "time": early.astype("f4")}))
    np.testing.assert_allclose(cloud.time, early, atol=1e-8)
    message = cloud_message({**xyzi(64), "timestamp": early + STAMP_REST + STAMP_S}, big_endian=True)
    np.testing.assert_allclose(decode_pointcloud(message).time, early, atol=1e-6)


def test_time_of_points_without_return_does_not_upset_the_others() -> None:
    values = TRUE_TIME + STAMP_REST + STAMP_S
    values[5] = 0.0
    values[9] = np.nan
    time = decode_pointcloud(cloud_message({**xyzi(64), "timestamp": values})).time
    assert time[5] == time[9] == 0.0
    others = np.delete(np.arange(64), [5, 9])
    np.testing.assert_allclose(time[others], TRUE_TIME[others], atol=1e-6)


@pytest.mark.parametrize(
    "values", [np.zeros(64, "f4"), np.full(64, 7, "u4"), (TRUE_TIME + STAMP_S).astype("f4"), np.zeros(64)]
)
def test_time_that_says_nothing_is_none(values: np.ndarray) -> None:
    assert decode_pointcloud(cloud_message({**xyzi(64), "timestamp": values})).time is None


def test_time_names() -> None:
    for name in TIME_FIELDS:
        assert decode_pointcloud(cloud_message({**xyzi(64), name: TRUE_TIME.astype("f4")})).time is not None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"width": 0}, "empty_points"),
        ({"height": 0}, "empty_points"),
        ({"width": 51}, "malformed_points"),
        ({"width": 2**32 - 1, "height": 2**32 - 1}, "malformed_points"),
        ({"width": -1}, "malformed_points"),
        ({"width": 1.5}, "malformed_points"),
        ({"height": None}, "malformed_points"),
        ({"point_step": 0}, "malformed_points"),
        ({"point_step": 15}, "malformed_points"),
        ({"row_step": 799}, "malformed_points"),
        ({"row_step": 801}, "malformed_points"),
        ({"data": np.zeros(799, np.uint8)}, "malformed_points"),
        ({"data": np.zeros(801, np.uint8)}, "malformed_points"),
        ({"data": np.zeros(800, np.float32)}, "malformed_points"),
        ({"data": np.zeros(1600, np.uint8)[::2]}, "malformed_points"),
        ({"data": "text"}, "malformed_points"),
        ({"data": None}, "malformed_points"),
        ({"fields": None}, "malformed_points"),
        ({"fields": []}, "malformed_points"),
        ({"fields": [1, 2, 3]}, "malformed_points"),
        ({"is_bigendian": "no"}, "malformed_points"),
        ({"header": None}, "absurd_stamp"),
    ],
)
def test_contradictions_are_refused(change: dict[str, Any], reason: str) -> None:
    message = cloud_message(xyzi(50))
    for name, value in change.items():
        setattr(message, name, value)
    assert reason_of(message) == reason


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("x", {"datatype": 0}),
        ("x", {"datatype": 9}),
        ("z", {"count": 3}),
        ("y", {"offset": 0}),  # inside x
        ("intensity", {"offset": 13}),  # beyond the point
        ("intensity", {"offset": 2**32 - 2}),
        ("intensity", {"datatype": 8}),
        ("intensity", {"name": "x"}),
        ("z", {"name": "Z"}),
        ("z", {"name": None}),
    ],
)
def test_impossible_fields_are_refused(name: str, change: dict[str, Any]) -> None:
    message = cloud_message(xyzi())
    field = next(field for field in message.fields if field.name == name)
    for key, value in change.items():
        setattr(field, key, value)
    assert reason_of(message) == "malformed_points"


def test_a_count_of_zero_means_one_as_in_pcl() -> None:
    columns = xyzi()
    message = cloud_message(columns)
    for field in message.fields:
        field.count = 0
    np.testing.assert_array_equal(decode_pointcloud(message).points, stacked(columns))


def test_unread_fields_may_be_strange() -> None:
    """Vendors pack whole structures into fields that nobody else knows."""
    columns = xyzi()
    message = cloud_message(columns)
    message.fields.append(TYPES["sensor_msgs/msg/PointField"]("histogram", 0, 99, 33))
    np.testing.assert_array_equal(decode_pointcloud(message).points, stacked(columns))


@pytest.mark.parametrize(("sec", "nanosec"), [(-1, 0), (1, 10**9), (2**31, 0), ("now", 0)])
def test_absurd_stamps_are_refused(sec: Any, nanosec: int) -> None:
    message = cloud_message(xyzi())
    message.header.stamp = TYPES["builtin_interfaces/msg/Time"](sec, nanosec)
    assert reason_of(message) == "absurd_stamp"


@pytest.mark.ros
@pytest.mark.parametrize(("offsets", "step"), [([0, 4, 8, 12], 16), ([0, 4, 8, 12], 22), ([0, 4, 8, 16], 48)])
def test_equals_sensor_msgs_py(offsets: list[int], step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    if site := os.environ.get("KARP_ROS_LAUNCH_SITE"):
        monkeypatch.setattr(sys, "path", [*sys.path, site])
    reason = "needs sensor_msgs and sensor_msgs_py: a sourced ROS 2, or $KARP_ROS_LAUNCH_SITE"
    msg = pytest.importorskip("sensor_msgs.msg", reason=reason)
    peer = pytest.importorskip("sensor_msgs_py.point_cloud2", reason=reason)
    columns = xyzi(5000)
    columns["y"][RNG.random(5000) < 0.2] = np.nan
    built = cloud_message(columns, offsets, step)
    message = msg.PointCloud2(height=1, width=5000, point_step=step, row_step=5000 * step, is_dense=False)
    message.fields = [msg.PointField(name=f.name, offset=f.offset, datatype=7, count=1) for f in built.fields]
    message.data.frombytes(built.data.tobytes())
    theirs = peer.read_points(message, field_names=("x", "y", "z", "intensity"), skip_nans=True)
    expected = np.stack([theirs[name] for name in ("x", "y", "z", "intensity")], axis=1)
    np.testing.assert_array_equal(decode_pointcloud(message).points, expected)
