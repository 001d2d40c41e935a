"""How right the speeds are that two sweeps show, and what they cost, against one thing after another.

    python benchmarks/sweep_motion.py
    python benchmarks/sweep_motion.py --drives 12 --json sweep_motion.json

Drives through places of the embedded world, 10 sweeps a second; detections are the shipped network's, and each that
lies within 1.5 m of a true box of its kind is compared with that box's speed over ground. `guess` is what the network
says of the same things from one sweep. The loop gives the same code one box at a time. Times are medians of frames, one
thread.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from karp_perception.core import Boxes, SensorFrame
from karp_perception.core.classes import KIND
from karp_perception.detection.detector import Detector
from karp_perception.detection.sweep_motion import SweepMotion, SweepMotionSettings
from karp_perception.world.interface import Truth
from karp_perception.world.layouts.families import FAMILIES
from karp_perception.world.world_frames import WorldFrames

STEP_S = 0.1
SAME_M = 1.5
KINDS = np.array(KIND)
NAMES = ("vehicles", "people and two-wheelers")
Moment = tuple[SensorFrame, Boxes, Truth]


def moments(drives: int, frames: int, seed: int) -> list[list[Moment]]:
    """Drives of frames, what the network finds in them, and the truth."""
    detector, world = Detector(), WorldFrames(seed, tuple(FAMILIES), per_drive=frames, spacing=STEP_S)
    found = []
    for drive in range(drives):
        found.append([(sensors, detector.detect(sensors), truth) for sensors, truth in world.drive(drive)])
        print(f"drive {drive + 1} of {drives}: {world.beginning(drive).family}", flush=True)
    return found


def compared(drive: list[Moment]) -> list[tuple[int, bool, bool, float, float]]:
    """Of each detection of a true thing: kind, whether it moves, was measured; errors of the measure, of the guess."""
    motion, rows = SweepMotion(SweepMotionSettings(guess_deviation=100.0)), []
    for number, (sensors, boxes, truth) in enumerate(drive):
        assert sensors.ego is not None
        told, real = motion.step(boxes, sensors.lidar, sensors.ego), truth.boxes
        if number == 0 or not len(real):
            continue
        assert told.variance is not None
        away = np.hypot(*(told.center[:, None, :2] - real.center[:, :2]).transpose(2, 0, 1))
        away[KINDS[told.label][:, None] != KINDS[real.label]] = np.inf
        for row in np.flatnonzero(away.min(axis=1) <= SAME_M):
            speed = real.velocity[away[row].argmin()]
            errors = (float(np.hypot(*(v[row] - speed))) for v in (told.velocity, boxes.velocity))
            known = bool(told.variance[row, 7] < 100.0**2)
            rows.append((int(KINDS[told.label[row]]), bool(np.hypot(*speed) > 0.3), known, *errors))
    return rows


def milliseconds(drives: list[list[Moment]], alone: bool) -> float:
    """Median time of a frame; `alone`: one box at a time."""
    times = []
    for drive in drives:
        most = max(len(boxes) for _, boxes, _ in drive) if alone else 1
        motions = [SweepMotion() for _ in range(most)]
        for sensors, boxes, _ in drive:
            assert sensors.ego is not None
            begin = time.perf_counter()
            for number in range(len(boxes) if alone else 1):
                part = boxes[[number]] if alone else boxes
                motions[number].step(part, sensors.lidar, sensors.ego)
            times.append(1e3 * (time.perf_counter() - begin))
    return float(np.median(times))


def main() -> None:
    """See the top of the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--drives", type=int, default=12)
    parser.add_argument("--frames", type=int, default=12)
    parser.add_argument("--seed", type=int, default=77)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    drives = moments(options.drives, options.frames, options.seed)
    rows = np.array([row for drive in drives for row in compared(drive)], float)
    result: dict[str, object] = {}
    for kind, name in enumerate(NAMES):
        for moves, state in ((1, "moving"), (0, "standing")):
            some = rows[(rows[:, 0] == kind) & (rows[:, 1] == moves)]
            known = some[some[:, 2] == 1]
            if not len(known):
                continue
            p50, p90 = np.quantile(known[:, 3], (0.5, 0.9))
            g50, g90 = np.quantile(known[:, 4], (0.5, 0.9))
            share = len(known) / len(some)
            print(f"{name}, {state}: {len(some)}, {share:.0%} measured; error {p50:.2f} m/s (p90 {p90:.2f}); "
                  f"guess {g50:.2f} (p90 {g90:.2f})")  # fmt: skip
            result[f"{name} {state}"] = {
                "count": len(some),
                "measured": share,
                "error": [p50, p90],
                "guess": [g50, g90],
            }
    together, one = milliseconds(drives, alone=False), milliseconds(drives, alone=True)
    boxes = float(np.mean([len(b) for drive in drives for _, b, _ in drive]))
    print(f"{together:.1f} ms a frame of {boxes:.0f} boxes; a loop over boxes takes {one / together:.1f} times as long")
    result |= {"milliseconds": together, "loop_ratio": one / together, "boxes": boxes}
    if options.json:
        options.json.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
