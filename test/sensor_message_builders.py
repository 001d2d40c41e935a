"""Sensor messages for tests, of rosbags' types: the same attributes as rclpy's."""

from __future__ import annotations

from typing import Any

import numpy as np
from rosbags.typesys import Stores, get_typestore

TYPES = get_typestore(Stores.ROS2_JAZZY).types
DATATYPES = {"i1": 1, "u1": 2, "i2": 3, "u2": 4, "i4": 5, "u4": 6, "f4": 7, "f8": 8}
STAMP_NS = 1_700_000_000_123_456_789


def header(stamp_ns: int = STAMP_NS, frame_id: str = "sensor") -> Any:
    seconds, nanoseconds = divmod(stamp_ns, 10**9)
    return TYPES["std_msgs/msg/Header"](TYPES["builtin_interfaces/msg/Time"](seconds, nanoseconds), frame_id)


def cloud_message(
    columns: dict[str, np.ndarray],
    offsets: list[int] | None = None,
    step: int | None = None,
    *,
    height: int = 1,
    row_padding: int = 0,
    big_endian: bool = False,
    stamp_ns: int = STAMP_NS,
) -> Any:
    """A PointCloud2 of columns by field name; offsets default to a packed layout. Padding holds 0xEE."""
    order = ">" if big_endian else "<"
    dtypes = [np.asarray(column).dtype.newbyteorder(order) for column in columns.values()]
    ends = np.cumsum([dtype.itemsize for dtype in dtypes])
    offsets = [0, *ends[:-1].tolist()] if offsets is None else offsets
    layout = {"names": list(columns), "offsets": offsets, "formats": dtypes}
    step = max(o + d.itemsize for o, d in zip(offsets, dtypes, strict=True)) if step is None else step
    count = len(next(iter(columns.values())))
    data = np.full(count * step, 0xEE, np.uint8)
    table = data.view(np.dtype({**layout, "itemsize": step}))
    for name, column in columns.items():
        table[name] = column
    width = count // height
    row_step = width * step + row_padding
    rows = np.full((height, row_step), 0xEE, np.uint8)
    rows[:, : width * step] = data.reshape(height, width * step)
    field = TYPES["sensor_msgs/msg/PointField"]
    fields = [
        field(name, offset, DATATYPES[dtype.str[1:]], 1)
        for name, offset, dtype in zip(columns, offsets, dtypes, strict=True)
    ]
    return TYPES["sensor_msgs/msg/PointCloud2"](
        header(stamp_ns), height, width, fields, big_endian, step, row_step, rows.reshape(-1), False
    )


def image_message(
    encoding: str,
    rows: np.ndarray,
    width: int,
    height: int | None = None,
    *,
    padding: int = 0,
    big_endian: bool = False,
) -> Any:
    """An Image of rows (R, bytes or numbers); `padding` bytes of 0xEE follow each of them."""
    if big_endian:
        rows = rows.astype(rows.dtype.newbyteorder(">"))
    content = np.ascontiguousarray(rows).view(np.uint8).reshape(len(rows), -1)
    padded = np.full((len(rows), content.shape[1] + padding), 0xEE, np.uint8)
    padded[:, : content.shape[1]] = content
    image = TYPES["sensor_msgs/msg/Image"]
    return image(header(), len(rows), width, encoding, int(big_endian), padded.shape[1], padded.reshape(-1))


def compressed_message(data: bytes, kind: str = "jpeg") -> Any:
    return TYPES["sensor_msgs/msg/CompressedImage"](header(), kind, np.frombuffer(data, np.uint8))


def camera_info_message(
    width: int = 640,
    height: int = 480,
    k: tuple[float, ...] = (500, 0, 320, 0, 500, 240, 0, 0, 1),
    model: str = "plumb_bob",
    d: tuple[float, ...] = (0, 0, 0, 0, 0),
    p: tuple[float, ...] | None = None,
    r: tuple[float, ...] = (1, 0, 0, 0, 1, 0, 0, 0, 1),
    binning: tuple[int, int] = (0, 0),
    roi: tuple[int, int, int, int] = (0, 0, 0, 0),
) -> Any:
    """A CameraInfo; `roi` is x_offset, y_offset, width, height; P is K where nothing is given."""
    if p is None:
        p = (*k[0:3], 0, *k[3:6], 0, *k[6:9], 0)
    left, top, roi_width, roi_height = roi
    region = TYPES["sensor_msgs/msg/RegionOfInterest"](left, top, roi_height, roi_width, False)
    numbers = (np.array(values, np.float64) for values in (d, k, r, p))
    return TYPES["sensor_msgs/msg/CameraInfo"](header(), height, width, model, *numbers, *binning, region)
