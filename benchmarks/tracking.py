"""Frames a second of the tracker by the number of objects, and against a plain loop over tracks in the same run.

    taskset -c 0 python benchmarks/tracking.py
    python benchmarks/tracking.py --objects 20 50 100 200 500 --json tracking.json --plot tracking.png

The scene: objects on a grid, half of them moving, measured with noise and in a random order. The loop is the textbook
way to write the same core, one constant-velocity Kalman filter a track and one Hungarian assignment over the full
matrix of Mahalanobis distances; it does less (one motion hypothesis, no sizes, yaws or visibility, no predicted paths).
`obstacles` measures visible parts without a class instead of detections. The least of several runs counts.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import cv2
import numpy as np
from scipy.optimize import linear_sum_assignment

from karp_perception.core import Boxes, EgoState
from karp_perception.tracking.tracker import Tracker
from karp_perception.view.palette import CLASS_COLORS, MUTED
from karp_perception.view.plot import Plot, canvas, legend

STEP_NS = 100_000_000
FRAMES = 20
STANDING = [EgoState(k * STEP_NS, np.eye(4), np.zeros(2)) for k in range(FRAMES)]


def scene(count: int, label: int) -> list[Boxes]:
    """FRAMES measurements of `count` objects."""
    rng = np.random.default_rng(0)
    side = int(np.ceil(np.sqrt(count)))
    start = 8.0 * np.column_stack(np.divmod(np.arange(count), side)) - 4.0 * side
    velocity = np.where(rng.random((count, 1)) < 0.5, rng.normal(0, 5, (count, 2)), 0.0)
    size = rng.uniform((1, 0.5, 1), (5, 2, 2), (count, 3))
    yaw = np.arctan2(velocity[:, 1], velocity[:, 0])
    frames = []
    for k in range(FRAMES):
        center = np.column_stack([start + 0.1 * k * velocity + rng.normal(0, 0.1, (count, 2)), np.full(count, 0.8)])
        order = rng.permutation(count)
        unknown = np.full((count, 2), np.nan)
        frames.append(Boxes(center, size, yaw, unknown, np.full(count, label), np.full(count, 0.8))[order])
    return frames


def run_tracker(frames: list[Boxes], as_obstacles: bool) -> int:
    """One tracker over all frames; the number of objects at the end."""
    tracker = Tracker()
    for k, (boxes, ego) in enumerate(zip(frames, STANDING, strict=True)):
        inputs = (Boxes.empty(), boxes) if as_obstacles else (boxes, Boxes.empty())
        objects = tracker.step(k * STEP_NS, *inputs, ego)
    return len(objects)


def run_loop(frames: list[Boxes]) -> int:
    """The same core, a track at a time."""
    F, H = np.eye(4) + 0.1 * np.eye(4, k=2), np.eye(2, 4)
    block = np.array([[0.1**4 / 4, 0.1**3 / 2], [0.1**3 / 2, 0.1**2]])
    Q, R = 4.0 * np.kron(block, np.eye(2)), 0.09 * np.eye(2)
    tracks: list[tuple[np.ndarray, np.ndarray]] = []
    for boxes in frames:
        tracks = [(F @ x, F @ P @ F.T + Q) for x, P in tracks]
        measured = boxes.center[:, :2]
        cost = np.full((len(tracks), len(measured)), 1e6)
        for i, (x, P) in enumerate(tracks):
            inverse = np.linalg.inv(H @ P @ H.T + R)
            for j, z in enumerate(measured):
                apart = z - x[:2]
                if abs(apart[0]) < 10 and abs(apart[1]) < 10:
                    cost[i, j] = apart @ inverse @ apart
        free = set(range(len(measured)))
        for i, j in zip(*linear_sum_assignment(cost), strict=True):
            if cost[i, j] < 16:
                x, P = tracks[i]
                gain = P @ H.T @ np.linalg.inv(H @ P @ H.T + R)
                tracks[i] = (x + gain @ (measured[j] - x[:2]), (np.eye(4) - gain @ H) @ P)
                free.discard(int(j))
        tracks += [(np.r_[measured[j], 0, 0], np.diag([0.09, 0.09, 100.0, 100.0])) for j in sorted(free)]
    return len(tracks)


def frames_per_second(run: Callable[[], int], repeat: int) -> float:
    """Of the least disturbed run."""
    best = float("inf")
    for _ in range(repeat):
        start = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - start)
    return FRAMES / best


def plot(rows: list[dict[str, float]], file: Path) -> None:
    """Milliseconds a frame over the number of objects, both axes in logarithms: twice as many, twice as far."""
    series = {
        "detections": ("detections_fps", CLASS_COLORS[0]),
        "visible parts": ("obstacles_fps", CLASS_COLORS[5]),
        "a loop over tracks": ("loop_fps", MUTED),
    }
    count = np.array([row["objects"] for row in rows], float)
    times = {name: np.array([1000 / row[key] for row in rows]) for name, (key, _) in series.items()}
    low = 10 ** np.floor(np.log10(min(t.min() for t in times.values())))
    high = 10 ** np.ceil(np.log10(max(t.max() for t in times.values())))
    image = canvas(900, 520)
    ends = (float(np.log10(count.min())) - 0.05, float(np.log10(count.max())) + 0.05)
    axes = Plot(
        image, (80, 80, 660, 450), ends, (float(np.log10(low)), float(np.log10(high))),
        title="The tracker on one core", x_label="objects in a frame", y_label="ms a frame",
    )  # fmt: skip
    axes.x_ticks({float(np.log10(n)): f"{n:.0f}" for n in count})
    axes.y_ticks({float(e): f"{10.0**e:g}" for e in range(int(np.log10(low)), int(np.log10(high)) + 1)})
    for name, (_, color) in series.items():
        axes.line(np.log10(count), np.log10(times[name]), color)
        for n, t in zip(count, times[name], strict=True):
            axes.dot(float(np.log10(n)), float(np.log10(t)), color)
    legend(image, [(name, color) for name, (_, color) in series.items()], (690, 100))
    cv2.imwrite(str(file), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))


def main() -> None:
    """Prints a table and writes JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", type=int, nargs="+", default=[20, 50, 100, 200, 500])
    parser.add_argument("--repeat", type=int, default=15)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path, help="PNG of the time a frame takes over the number of objects")
    arguments = parser.parse_args()
    rows = []
    for count in arguments.objects:
        cars, parts = scene(count, label=0), scene(count, label=-1)
        row = {
            "objects": count,
            "tracked": run_tracker(cars, False),
            "detections_fps": frames_per_second(partial(run_tracker, cars, False), arguments.repeat),
            "obstacles_fps": frames_per_second(partial(run_tracker, parts, True), arguments.repeat),
            "loop_fps": frames_per_second(partial(run_loop, cars), 2),
        }
        row["speedup_over_loop"] = row["detections_fps"] / row["loop_fps"]
        rows.append({key: round(value, 2) for key, value in row.items()})
    print(json.dumps({"tracking": rows}, indent=2))
    if arguments.json:
        arguments.json.write_text(json.dumps({"tracking": rows}, indent=2) + "\n")
    if arguments.plot:
        plot(rows, arguments.plot)


if __name__ == "__main__":
    main()
