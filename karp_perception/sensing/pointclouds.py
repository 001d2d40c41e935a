"""sensor_msgs/PointCloud2 -> (N, 4) float32, by field offset, whatever the layout.

**Intensity** comes from the first field there is of INTENSITY_FIELDS and is what the message says, number for number:
drivers disagree about its scale (0..1 in KITTI, 0..255 from Velodyne and in nuScenes, photon counts from Ouster), and
no single cloud tells which one is meant. Whoever knows the sensor names its full scale, and gets 0..1. A missing
field, and an intensity that is not finite, become 0: the point itself is good, and dropping an obstacle would be
worse.

**Time** comes from the first field there is of TIME_FIELDS and is brought to seconds after the header's stamp:
- Absolute, where the values lie within 10 s of the stamp when read as s, ms, us or ns since the epoch (Hesai,
  RoboSense and Livox write float64 of these kinds).
- Otherwise the unit follows from how long the sweep would last. Floats: the first of s (Velodyne), ms, us, ns that
  makes it 2 s at most. Integers: ns (Ouster, Livox, Autoware), or us where that makes a sweep of 10 ms to 2 s.
- Values near 0 are relative to the stamp as they stand; others come from a clock of the sensor's own that is not the
  header's, and count from their smallest, as if the stamp were the beginning of the sweep.
- No time (None) where all values are equal, or come as absolute float32, which steps by 128 s.

InvalidInput is raised with the reason `malformed_points`, `empty_points` (no point at all: a lidar that says nothing
has not seen a free road) or `absurd_stamp`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from karp_perception.core.errors import InvalidInput
from karp_perception.sensing.messages import attribute, byte_array, flag, header_stamp_ns, integer

INTENSITY_FIELDS = ("intensity", "intensities", "i", "reflectivity", "reflectance", "remission", "remissions")
"""Names under which drivers send intensity, in order of preference."""

TIME_FIELDS = (
    "t",
    "time",
    "timestamp",
    "time_stamp",
    "timestamps",
    "offset_time",
    "time_offset",
    "point_time_offset",
    "t_offset",
)
"""Names under which drivers send the time of a point, in order of preference."""

_KNOWN_FIELDS = frozenset(("x", "y", "z", *INTENSITY_FIELDS, *TIME_FIELDS))
_SUBJECT = "PointCloud2"
_MALFORMED = "malformed_points"
# sensor_msgs/PointField datatype (less 1) -> numpy type, for little and big endian.
_NUMBERS = ("i1", "u1", "i2", "u2", "i4", "u4", "f4", "f8")
_DATATYPES = {order: tuple(np.dtype(order + number) for number in _NUMBERS) for order in "<>"}
_NATIVE_FLOAT = np.dtype(np.float32)
_XYZ_FLAGS = np.array([True, True, True, False]).view(np.uint32)[0]
_PART = 1 << 14  # points
_US_PER_S, _NS_PER_S = 10**6, 10**9
_UNITS_PER_S = (1, 10**3, _US_PER_S, _NS_PER_S)
_SHORTEST_SWEEP_S, _LONGEST_SWEEP_S = 0.01, 2.0
_SAME_CLOCK_S = 10.0


@dataclass(frozen=True)
class PointCloud:
    """A decoded point cloud in the frame of its sensor.

    Attributes:
        points: (N, 4) float32, x y z in m and intensity, all finite. Read-only: it may be the message's own memory.
        time: (N,) float32 s relative to the header's stamp, or None where the message does not tell.
        received: points in the message, before those without a finite position were removed.
    """

    points: np.ndarray
    time: np.ndarray | None
    received: int


class _Column(NamedTuple):
    """Where one number of every point lies."""

    name: str
    offset: int
    dtype: np.dtype
    end: int


def decode_pointcloud(message: Any, *, intensity_full_scale: float | None = None) -> PointCloud:
    """Points of a sensor_msgs/PointCloud2 in row-major order, without those whose x, y or z is not finite.

    Args:
        message: of rclpy or rosbags, organised or not, any datatypes, byte order and padding of points and rows.
        intensity_full_scale: what the sensor writes for full intensity: values are divided by it and limited to 0..1.
            None leaves them as they are.

    Raises InvalidInput where the message contradicts itself (see the head of this file for the reasons).
    """
    stamp_ns = header_stamp_ns(message, _SUBJECT)
    data, count, step = _geometry(message)
    columns = _columns(message, step)
    intensity, time_column = _first(columns, INTENSITY_FIELDS), _first(columns, TIME_FIELDS)
    points = _points(data, count, step, [columns[name] for name in ("x", "y", "z")], intensity)
    values = None if time_column is None else _view(data, count, step, time_column)

    if not _all_finite(points):
        points, values = _without_invalid(points, values)
    if intensity_full_scale is not None:
        points = _with_unit_intensity(points, intensity_full_scale)
    points.flags.writeable = False
    return PointCloud(points, None if values is None else _relative_time(values, stamp_ns), count)


def _geometry(message: Any) -> tuple[np.ndarray, int, int]:
    """The points' bytes without padding of rows, their number, and the bytes from one to the next."""
    height, width, step, row_step = (
        integer(message, name, _SUBJECT, _MALFORMED) for name in ("height", "width", "point_step", "row_step")
    )
    data = byte_array(message, _SUBJECT, _MALFORMED)
    if height * width == 0:
        advice = "look whether the sensor or a filter before this node delivers points"
        raise InvalidInput(_SUBJECT, "at least one point", f"{height} x {width}", advice, reason="empty_points")
    if step == 0 or row_step < width * step:
        expected = f"a row_step of at least width * point_step = {width * step}, point_step above 0"
        raise InvalidInput(_SUBJECT, expected, f"row_step {row_step}, point_step {step}", reason=_MALFORMED)
    if len(data) != height * row_step:
        expected = f"height * row_step = {height * row_step} bytes of data"
        raise InvalidInput(_SUBJECT, expected, len(data), reason=_MALFORMED)
    if height > 1 and row_step != width * step:
        data = np.ascontiguousarray(data.reshape(height, row_step)[:, : width * step]).reshape(-1)
    return data, height * width, step


def _columns(message: Any, step: int) -> dict[str, _Column]:
    """The fields that are read here, by name, each checked to lie inside a point and apart from the others."""
    order = ">" if flag(message, "is_bigendian", _SUBJECT, _MALFORMED) else "<"
    fields = attribute(message, "fields", _SUBJECT, _MALFORMED)
    columns: dict[str, _Column] = {}
    try:
        fields = list(fields)
    except TypeError:
        raise InvalidInput(f"{_SUBJECT} fields", "a sequence", type(fields).__name__, reason=_MALFORMED) from None
    for field in fields:
        name = attribute(field, "name", f"{_SUBJECT} field", _MALFORMED)
        if not isinstance(name, str) or name not in _KNOWN_FIELDS:
            continue
        subject = f"{_SUBJECT} field {name!r}"
        if name in columns:
            raise InvalidInput(subject, "one field of that name", "two or more", reason=_MALFORMED)
        columns[name] = _column(field, name, order, step, subject)
    missing = [name for name in ("x", "y", "z") if name not in columns]
    if missing:
        names = ", ".join(str(getattr(field, "name", "?")) for field in fields[:20]) or "none"
        raise InvalidInput(f"{_SUBJECT} fields", "x, y and z", names, reason=_MALFORMED)
    used = [columns["x"], columns["y"], columns["z"]]
    used += [c for c in (_first(columns, INTENSITY_FIELDS), _first(columns, TIME_FIELDS)) if c is not None]
    used.sort(key=lambda column: column.offset)
    for before, after in pairwise(used):
        if before.end > after.offset:
            subject = f"{_SUBJECT} field {after.name!r}"
            got = f"offset {after.offset}, inside {before.name!r}"
            raise InvalidInput(subject, f"an offset of {before.end} or more", got, reason=_MALFORMED)
    return columns


def _column(field: Any, name: str, order: str, step: int, subject: str) -> _Column:
    datatype = integer(field, "datatype", subject, _MALFORMED)
    if not 1 <= datatype <= len(_NUMBERS):
        raise InvalidInput(subject, "a datatype from 1 (INT8) to 8 (FLOAT64)", datatype, reason=_MALFORMED)
    # Some publishers leave the count at 0; PCL takes that for 1 as well.
    count = integer(field, "count", subject, _MALFORMED)
    if count > 1:
        raise InvalidInput(subject, "a count of 1", count, reason=_MALFORMED)
    dtype = _DATATYPES[order][datatype - 1]
    offset = integer(field, "offset", subject, _MALFORMED)
    end = offset + dtype.itemsize
    if end > step:
        raise InvalidInput(subject, f"to end within point_step = {step}", f"end {end}", reason=_MALFORMED)
    return _Column(name, offset, dtype, end)


def _first(columns: Mapping[str, _Column], names: tuple[str, ...]) -> _Column | None:
    return next((columns[name] for name in names if name in columns), None)


def _view(data: np.ndarray, count: int, step: int, column: _Column) -> np.ndarray:
    """(N,) numbers of one field, over the message's memory."""
    return np.ndarray((count,), column.dtype, data, column.offset, (step,))


def _points(data: np.ndarray, count: int, step: int, xyz: list[_Column], intensity: _Column | None) -> np.ndarray:
    """(N, 4) float32 x y z intensity. As few passes over memory as the layout allows."""
    start = xyz[0].offset
    in_a_row = all(c.dtype == _NATIVE_FLOAT and c.offset == start + 4 * k for k, c in enumerate(xyz))
    if in_a_row and start + 16 <= step:
        # The four numbers from x on move as one block of 16 bytes. Where the fourth is not the intensity, it is
        # written over afterwards.
        blocks = np.ndarray((count,), "V16", data, start, (step,))
        complete = intensity is not None and intensity.dtype == _NATIVE_FLOAT and intensity.offset == start + 12
        if complete and step == 16 and data.ctypes.data % 4 == 0:
            return data.view(np.float32).reshape(count, 4)
        points = blocks.copy().view(np.float32).reshape(count, 4)
        if complete:
            return points
    else:
        points = np.empty((count, 4), np.float32)
        with np.errstate(over="ignore", invalid="ignore"):  # beyond float32 becomes infinite, and is removed
            for k, column in enumerate(xyz):
                points[:, k] = _view(data, count, step, column)
    with np.errstate(over="ignore", invalid="ignore"):
        points[:, 3] = 0.0 if intensity is None else _view(data, count, step, intensity)
    return points


def _all_finite(points: np.ndarray) -> bool:
    """Whether every number is finite. May also say no where numbers beyond 1e16 are among them."""
    # One pass over memory instead of a mask: a sum of squares that is finite has only finite parts.
    flat = points.reshape(-1)
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(np.dot(flat, flat)))


def _without_invalid(points: np.ndarray, values: np.ndarray | None) -> tuple[np.ndarray, np.ndarray | None]:
    """Only the points (and their times) with finite x, y, z; an intensity that is not finite becomes 0."""
    kept = np.empty_like(points)
    times = None if values is None else np.empty(len(values), values.dtype.newbyteorder("="))
    count = 0
    # In parts that fit the cache: large temporaries cost more than the work on them.
    for start in range(0, len(points), _PART):
        part = points[start : start + _PART]
        # The four flags of a point as one number, and rows by index: several times as fast as masks over rows.
        flags = np.isfinite(part).view(np.uint32)[:, 0]
        rows = np.flatnonzero((flags & _XYZ_FLAGS) == _XYZ_FLAGS)
        end = count + len(rows)
        part.take(rows, axis=0, out=kept[count:end], mode="clip")
        if times is not None:
            times[count:end] = values[start : start + _PART].take(rows)
        count = end
    kept = kept[:count]
    if not _all_finite(kept):
        kept[~np.isfinite(kept[:, 3]), 3] = 0.0
    return kept, None if times is None else times[:count]


def _with_unit_intensity(points: np.ndarray, full_scale: float) -> np.ndarray:
    if not (np.isfinite(full_scale) and full_scale > 0):
        raise InvalidInput("intensity_full_scale", "a positive number", full_scale)
    points = points.copy()
    points[:, 3] = np.clip(points[:, 3] / np.float32(full_scale), 0.0, 1.0)
    return points


def _relative_time(values: np.ndarray, stamp_ns: int) -> np.ndarray | None:
    """(N,) float32 s after the stamp, of the numbers of a time field in whatever unit and from whatever origin."""
    if len(values) == 0:
        return None
    values = np.ascontiguousarray(values, values.dtype.newbyteorder("="))  # it is read several times
    low, high = values.min(), values.max()
    if values.dtype.kind == "f" and not (np.isfinite(low) and np.isfinite(high)):
        values = np.where(np.isfinite(values), values, values.dtype.type(0))
        low, high = values.min(), values.max()
    if low == high:
        return None
    unset = None
    if low == 0 and high > 1e3 and values.dtype.kind == "f":
        # Drivers leave 0 where nothing came back, among times of the epoch.
        unset = values == 0
        low = values.max() if unset.all() else values[~unset].min()
    time = _in_seconds(values, float(low), float(high), stamp_ns)
    if time is not None and unset is not None and float(low) > float(high) / 2:
        time[unset] = 0.0
    return time


def _in_seconds(values: np.ndarray, low: float, high: float, stamp_ns: int) -> np.ndarray | None:
    """The times in s after the stamp, for values from `low` to `high` (see the head of this file for the rule)."""
    is_integer = values.dtype.kind != "f"
    stamp_s = stamp_ns * 1e-9
    for per_s in _UNITS_PER_S:
        near = abs(low / per_s - stamp_s) < _SAME_CLOCK_S and abs(high / per_s - stamp_s) < _SAME_CLOCK_S
        # A stamp that is itself close to 0 (simulated time) cannot tell: relative times are far more common.
        if near and stamp_s > 2 * _SAME_CLOCK_S and not is_integer:
            if values.dtype == _NATIVE_FLOAT and np.spacing(np.float32(high)) / per_s > 1e-3:
                return None
            # Whole seconds first: a float64 holds them exactly, and the small difference keeps its digits.
            seconds, nanoseconds = divmod(stamp_ns, _NS_PER_S)
            offset = (values.astype(np.float64) - seconds * per_s) / per_s - nanoseconds * 1e-9
            return offset.astype(np.float32)
    span = high - low
    per_s = next((unit for unit in _UNITS_PER_S if span / unit <= _LONGEST_SWEEP_S), 0)
    if is_integer and per_s < _NS_PER_S:
        per_s = _US_PER_S if span / _US_PER_S >= _SHORTEST_SWEEP_S else _NS_PER_S
    if per_s == 0:
        return None
    own_clock = max(abs(low), abs(high)) / per_s > _LONGEST_SWEEP_S
    if own_clock:
        values = values.astype(np.float64) - low
    return np.multiply(values, np.float32(1.0 / per_s), dtype=np.float32, casting="unsafe")
