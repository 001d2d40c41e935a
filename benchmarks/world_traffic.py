"""Time that traffic takes for a tick of the world, by family of places, and for beginning a place anew.

    taskset -c 0 python benchmarks/world_traffic.py
    python benchmarks/world_traffic.py --families motorway intersection --seconds 20 --json traffic.json

A tick is 0.1 s in two sub-steps. `standing` things are built once a place; `moving` ones for every tick.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

from karp_perception.world.layouts.families import FAMILIES, make_layout
from karp_perception.world.traffic.traffic import Traffic, TrafficSettings

SUB_STEP = 0.05
TICK = 0.1


def measure(family: str, seconds: float, settings: TrafficSettings) -> dict[str, float]:
    """Medians in ms, and how many are about."""
    layout = make_layout(family, 0)
    Traffic(layout, 0, settings).step(SUB_STEP)  # compiles, draws models
    start = time.perf_counter()
    traffic = Traffic(layout, 0, settings)
    begin = time.perf_counter() - start
    steps, actors = [], []
    for _ in range(round(seconds / TICK)):
        start = time.perf_counter()
        traffic.step(SUB_STEP)
        traffic.step(SUB_STEP)
        steps.append(time.perf_counter() - start)
        start = time.perf_counter()
        traffic.moving()
        actors.append(time.perf_counter() - start)
    return {
        "moving": len(traffic.moving()),
        "standing": len(traffic.standing()),
        "begin_ms": 1e3 * begin,
        "tick_ms": 1e3 * float(np.median(steps)),
        "moving_ms": 1e3 * float(np.median(actors)),
        "real_time_factor": TICK / float(np.median(steps)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--families", nargs="+", default=list(FAMILIES), choices=FAMILIES)
    parser.add_argument("--seconds", type=float, default=10.0, help="of traffic in each place")
    parser.add_argument("--density", type=float, default=1.0)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    settings = TrafficSettings(density=args.density)
    table = {}
    for family in args.families:
        table[family] = row = measure(family, args.seconds, settings)
        print(
            f"{family:12s} {row['moving']:3.0f} moving, {row['standing']:3.0f} still: tick {row['tick_ms']:5.2f} ms, "
            f"actors {row['moving_ms']:5.2f} ms, begin {row['begin_ms']:6.1f} ms",
            flush=True,
        )
    if args.json:
        args.json.write_text(json.dumps(table, indent=2) + "\n")


if __name__ == "__main__":
    main()
