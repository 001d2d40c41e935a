"""Time of the obstacle channel on one core, beside Euclidean clustering with scipy's k-d tree. JSON, one line a sweep.

    taskset -c 0 python benchmarks/obstacles.py

The reference is what point cloud libraries call Euclidean cluster extraction: all pairs of points above the ground that
are less than 0.5 m apart, then connected components. It is given the points above the ground and fits no boxes.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "test")]

from lidar_scenes import as_sweep, boxes, car, scan  # noqa: E402

from karp_perception.core.blas import use_one_blas_thread  # noqa: E402
from karp_perception.core.frames import LidarSweep  # noqa: E402
from karp_perception.core.vehicle import Vehicle  # noqa: E402
from karp_perception.detection.obstacles import ObstacleDetector  # noqa: E402

LINK = 0.5  # m, of the reference
REPEATS = 30


def street() -> LidarSweep:
    """120,000 points of a street: parked cars, facades, poles, people."""
    cars = [car(x, side * 4.5, x % 7) for x in range(-40, 60, 8) for side in (-1, 1)]
    walls = boxes((10, 14, 0, 90, 0.4, 9, 1), (10, -13, 0, 90, 0.4, 7, -1))
    poles = boxes(*((x, side * 7.5, 0, 0.25, 0.25, 6, 0) for x in range(-40, 60, 12) for side in (-1, 1)))
    people = boxes(*((x, 6.3, 0, 0.5, 0.6, 1.7, 20) for x in range(-20, 40, 9)))
    points = scan([*cars, walls, poles, people], beams=64, step_deg=360 / 2048).points
    return as_sweep(points[np.linspace(0, len(points) - 1, min(120_000, len(points))).astype(int), :3])


def recorded() -> Iterator[tuple[str, LidarSweep]]:
    """Every tenth sweep of the recorded drive, where there is one."""
    folder = Path(os.environ.get("KARP_DATA") or ROOT.parent / "shared" / "data") / "kitti_drive"
    if not folder.is_dir():
        return
    from rosbags.highlevel import AnyReader

    with AnyReader([folder]) as reader:
        connections = [c for c in reader.connections if c.topic == "/lidar/points"]
        for number, (connection, _, raw) in enumerate(reader.messages(connections)):
            if number % 10 == 0:
                message = reader.deserialize(raw, connection.msgtype)
                points = np.frombuffer(message.data, "<f4").reshape(-1, message.point_step // 4)[:, :3].copy()
                points[:, 2] += 1.73  # height of the lidar above base_link
                yield f"kitti_drive {number}", as_sweep(points)


def euclidean_clusters(points: np.ndarray) -> int:
    """Number of clusters of (N, 3) points."""
    pairs = cKDTree(points).query_pairs(LINK, output_type="ndarray")
    ones = np.ones(len(pairs), np.int8)
    graph = coo_array((ones, (pairs[:, 0], pairs[:, 1])), shape=(len(points), len(points)))
    return int(connected_components(graph, directed=False)[0])


def milliseconds(work: Callable[[], object], repeats: int) -> tuple[float, float]:
    """(median, fastest) of the repeats."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append((time.perf_counter() - start) * 1e3)
    return float(np.median(times)), float(np.min(times))


def main() -> None:
    use_one_blas_thread()
    cv2.setNumThreads(1)
    detector, vehicle = ObstacleDetector(), Vehicle()
    for name, sweep in [("generated street", street()), *recorded()]:
        found, is_ground = detector.detect_with_ground(sweep)
        median, fastest = milliseconds(lambda sweep=sweep: detector.detect(sweep), REPEATS)
        z = sweep.points[:, 2]
        solid = sweep.points[~is_ground & (z > 0) & (z < vehicle.height + detector.settings.headroom), :3]
        reference, _ = milliseconds(lambda solid=solid: euclidean_clusters(solid), 1)
        row = {
            "sweep": name,
            "points": len(sweep.points),
            "points_above_ground": len(solid),
            "obstacles": len(found),
            "median_ms": round(median, 2),
            "fastest_ms": round(fastest, 2),
            "euclidean_clustering_scipy_ms": round(reference, 1),
            "times_as_fast": round(reference / median, 1),
        }
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
