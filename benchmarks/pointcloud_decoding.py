"""Decoding of PointCloud2 against sensor_msgs_py.point_cloud2.read_points, stacked to an (N, 4) array.

    python benchmarks/pointcloud_decoding.py [--points N] [--repeat N] [--json FILE]

The same messages for both, in the layouts of real drivers. Where `is_dense` is false, both look for points that are not
finite and remove them. Where a message claims `is_dense`, read_points looks for none and only reads; ours looks all the
same, as drivers claim wrongly. Ours decodes the time of each point as well where the layout has one.

Needs sensor_msgs and sensor_msgs_py: a sourced ROS 2, or the folder of pure-Python ROS packages that
$KARP_ROS_LAUNCH_SITE names. Pin it to a core (taskset -c 0) for figures that repeat.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from karp_perception.sensing.pointclouds import decode_pointcloud

NAMES = ("x", "y", "z", "intensity")
# (name, offset, numpy type) of each field, and bytes a point.
LAYOUTS: dict[str, tuple[list[tuple[str, int, str]], int]] = {
    "16 B: x y z intensity": ([("x", 0, "f4"), ("y", 4, "f4"), ("z", 8, "f4"), ("intensity", 12, "f4")], 16),
    "22 B: velodyne": (
        [
            *[("x", 0, "f4"), ("y", 4, "f4"), ("z", 8, "f4"), ("intensity", 12, "f4")],
            *[("ring", 16, "u2"), ("time", 18, "f4")],
        ],
        22,
    ),
    "32 B: PCL XYZI": ([("x", 0, "f4"), ("y", 4, "f4"), ("z", 8, "f4"), ("intensity", 16, "f4")], 32),
    "48 B: ouster": (
        [
            *[("x", 0, "f4"), ("y", 4, "f4"), ("z", 8, "f4"), ("intensity", 16, "f4"), ("t", 20, "u4")],
            *[("reflectivity", 24, "u2"), ("ring", 26, "u1"), ("ambient", 28, "u2"), ("range", 32, "u4")],
        ],
        48,
    ),
}  # fmt: skip
DATATYPES = {"i1": 1, "u1": 2, "i2": 3, "u2": 4, "i4": 5, "u4": 6, "f4": 7, "f8": 8}


def cloud(fields: list[tuple[str, int, str]], step: int, points: int, invalid: float, dense: bool) -> Any:
    """A sensor_msgs/PointCloud2 of random points, a share of them NaN."""
    from sensor_msgs.msg import PointCloud2, PointField

    rng = np.random.default_rng(1)
    names, offsets, types = zip(*fields, strict=True)
    table = np.zeros(points, np.dtype({"names": names, "offsets": offsets, "formats": types, "itemsize": step}))
    for name in ("x", "y", "z", "intensity"):
        table[name] = rng.uniform(1, 80, points)
    if "time" in names:
        table["time"] = np.linspace(-0.1, 0, points)
    if "t" in names:
        table["t"] = np.linspace(0, 1e8, points)
    gone = rng.random(points) < invalid
    for name in ("x", "y", "z"):
        table[name][gone] = np.nan
    message = PointCloud2(height=1, width=points, point_step=step, row_step=points * step, is_dense=dense)
    message.fields = [PointField(name=n, offset=o, datatype=DATATYPES[t], count=1) for n, o, t in fields]
    message.data.frombytes(table.tobytes())
    return message


def peer(message: Any) -> np.ndarray:
    """The way of sensor_msgs_py."""
    from sensor_msgs_py import point_cloud2

    points = point_cloud2.read_points(message, field_names=NAMES, skip_nans=True)
    return np.stack([points[name] for name in NAMES], axis=-1)


def milliseconds(call: Callable[[], object], repeat: int) -> float:
    """Median after a warm-up."""
    times = []
    for _ in range(repeat + 3):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times[3:]) * 1e3


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=120_000)
    parser.add_argument("--repeat", type=int, default=60)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if site := os.environ.get("KARP_ROS_LAUNCH_SITE"):
        sys.path.append(site)
    try:
        import sensor_msgs_py.point_cloud2  # noqa: F401 (needs sensor_msgs in its turn)
    except ImportError as error:
        print(f"nothing to compare with: {error}; see the head of this file")
        return 0
    rows = []
    print(f"{arguments.points} points, median of {arguments.repeat}, ms")
    print(f"{'layout':24}{'invalid':>8}{'is_dense':>10}{'read_points':>13}{'karp':>8}{'ratio':>8}")
    for name, (fields, step) in LAYOUTS.items():
        for invalid, dense in ((0.0, False), (0.2, False), (0.0, True)):
            message = cloud(fields, step, arguments.points, invalid, dense)
            if not np.array_equal(decode_pointcloud(message).points, peer(message)):
                print(f"{name}: the results differ")
                return 1
            theirs = milliseconds(lambda m=message: peer(m), arguments.repeat)
            ours = milliseconds(lambda m=message: decode_pointcloud(m), arguments.repeat)
            rows.append(
                {"layout": name, "invalid": invalid, "is_dense": dense, "read_points_ms": theirs, "karp_ms": ours}
            )
            print(f"{name:24}{invalid:>8.0%}{dense!s:>10}{theirs:>13.3f}{ours:>8.3f}{theirs / ours:>7.1f}x")
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
