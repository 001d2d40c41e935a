"""Time of one planning step, by what is around and by how many proposals are judged, on one core.

    python benchmarks/planning.py                     # 50 objects on 6 paths each, 7 proposals, 4 s at 0.1 s
    python benchmarks/planning.py --plot planning.png --json planning.json

The scene is a street: half of the objects drive along it, a quarter cross it, the others stand beside it; each has
measured parts. Growth with objects and proposals is the exponent of a power law fitted to the medians. `allocated` is
what Python's heap gained over an hour of simulated driving (`--hour`).
"""

from __future__ import annotations

import argparse
import gc
import json
import time
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from karp_perception.core import Boxes, EgoState, Lane, ObjectClass, Objects, Road, Route
from karp_perception.core.blas import use_one_blas_thread
from karp_perception.core.geometry import pose_from_xy_yaw
from karp_perception.planning.planner import Planner, PlannerSettings
from karp_perception.planning.proposals import ProposalSettings
from karp_perception.view.palette import CLASS_COLORS
from karp_perception.view.plot import Plot, canvas, legend

_STEP_NS = 100_000_000
_SPEED = 12.0  # m/s
_SIZE, _PANEL, _LEFT, _TOP = (1160, 480), (480, 290), 66, 70  # px
_TICKS_MS = (1, 2, 5, 10, 20, 50, 100, 200, 500)
_LINES = {"p50_ms": CLASS_COLORS[ObjectClass.CAR], "p99_ms": CLASS_COLORS[ObjectClass.TRAFFIC_CONE]}


def scene(count: int, paths: int, seed: int = 0) -> tuple[Objects, Boxes]:
    """Objects around a street along x, and measured parts of each; none in the way right before the vehicle."""
    rng = np.random.default_rng(seed)
    x, side = rng.uniform(12.0, 90.0, count), rng.choice([-1.0, 1.0], count)
    kind = rng.choice(3, count, p=[0.5, 0.25, 0.25])
    y = side * np.where(kind == 0, 3.5, np.where(kind == 1, rng.uniform(5, 15, count), rng.uniform(3.2, 6.0, count)))
    yaw = np.where(kind == 1, -side * np.pi / 2, np.where(side > 0, np.pi, 0.0))
    speed = np.where(kind == 0, rng.uniform(5, 14, count), np.where(kind == 1, rng.uniform(0.8, 1.6, count), 0.0))
    size = np.where(kind[:, None] == 1, [0.6, 0.6, 1.7], [4.4, 1.8, 1.5])
    velocity = speed[:, None] * np.column_stack([np.cos(yaw), np.sin(yaw)])
    label = np.where(kind == 1, 5, 0)
    boxes = Boxes(np.column_stack([x, y, np.full(count, 0.8)]), size, yaw, velocity, label, np.full(count, 0.9))
    ahead = 0.1 * np.arange(1, 51)
    turn = rng.normal(0.0, 0.1, (count, paths, 1)) * (speed[:, None, None] > 0)
    heading = yaw[:, None, None] + turn * ahead
    way = np.cumsum(0.1 * speed[:, None, None] * np.stack([np.cos(heading), np.sin(heading)]), axis=-1)
    predicted = np.stack([x[:, None, None] + way[0], y[:, None, None] + way[1], heading], axis=-1)
    objects = Objects(
        boxes, np.arange(1, count + 1), np.tile(0.01 * np.eye(6), (count, 1, 1)), np.full(count, 2.0), np.zeros(count),
        predicted, np.full((count, paths), 1.0 / paths), 0.1, np.arange(count),
    )  # fmt: skip
    parts = replace(boxes, label=np.full(count, -1), velocity=np.full((count, 2), np.nan))
    return objects, parts


def street() -> tuple[Route, Road]:
    """Two lanes along x and one back."""
    x = np.arange(-50.0, 5000.0, 5.0)
    lanes = [np.column_stack([x, np.full(len(x), y)]) for y in (0.0, -3.5)]
    back = np.column_stack([x[::-1], np.full(len(x), 3.5)])
    road = Road((Lane(lanes[0], 3.5, 14.0, right=1), Lane(lanes[1], 3.5, 14.0, left=0), Lane(back, 3.5, 14.0)))
    return Route(lanes[0]), road


def times(objects: int, paths: int, speeds: int, steps: int) -> dict[str, Any]:
    """Milliseconds of `steps` planning steps, and how many proposals each judged."""
    shares = tuple(np.linspace(1.0, 0.2, speeds))
    planner = Planner(PlannerSettings(proposals=ProposalSettings(speeds=shares)))
    route, road = street()
    found, measured, judged = scene(objects, paths), [], 0
    for k in range(steps + 3):
        ego = EgoState(k * _STEP_NS, pose_from_xy_yaw(0.1 * _SPEED * k, 0.0, 0.0), np.array([_SPEED, 0.0]))
        start = time.process_time()
        plan = planner.step(k * _STEP_NS, *found, ego, route, 14.0, road)
        measured.append(1e3 * (time.process_time() - start))
        assert plan.proposals is not None
        judged = len(plan.proposals.names)
    p50, p99 = np.percentile(measured[3:], [50, 99])
    return {"objects": objects, "paths": paths, "proposals": judged, "p50_ms": float(p50), "p99_ms": float(p99)}


def allocated(hours: float) -> float:
    """kB that Python's heap gains between the first and the last tenth of so much simulated driving."""
    planner, (route, road), found = Planner(), street(), scene(30, 6)
    steps = round(hours * 36000)
    sizes = []
    tracemalloc.start()
    for k in range(steps):
        x = 0.1 * _SPEED * (k % 3000)
        ego = EgoState(k * _STEP_NS, pose_from_xy_yaw(x, 0.0, 0.0), np.array([_SPEED, 0.0]))
        planner.step(k * _STEP_NS, *found, ego, route, 14.0, road)
        if k in (steps // 10, steps - 1):
            gc.collect()
            sizes.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    return (sizes[-1] - sizes[0]) / 1e3


def exponent(rows: list[dict[str, Any]], name: str) -> float:
    """Of the power of `name` that the medians grow with."""
    return float(np.polyfit(np.log([row[name] for row in rows]), np.log([row["p50_ms"] for row in rows]), 1)[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--hour", action="store_true", help="drive a simulated hour and tell what memory it gained")
    parser.add_argument("--plot", type=Path, help="draw the growth into this PNG")
    parser.add_argument("--json", type=Path, help="write the report there as well")
    arguments = parser.parse_args()
    use_one_blas_thread()
    steps = arguments.steps
    by_objects = [times(n, 6, 5, steps) for n in (5, 10, 20, 50, 100, 200)]
    by_proposals = [times(50, 6, n, steps) for n in (2, 5, 10, 20, 40)]
    report: dict[str, Any] = {
        "step": times(50, 6, 5, 3 * steps),
        "by_objects": by_objects,
        "by_proposals": by_proposals,
        "exponent_of_objects": exponent(by_objects[2:], "objects"),
        "exponent_of_proposals": exponent(by_proposals[2:], "proposals"),
    }
    if arguments.hour:
        report["allocated_kB"] = allocated(1.0)
    text = json.dumps(report, indent=1)
    print(text)
    if arguments.json:
        arguments.json.write_text(text + "\n")
    if arguments.plot:
        draw(report, arguments.plot)


def draw(report: dict[str, Any], file: Path) -> None:
    """The times over objects and over proposals, both axes logarithmic: a power law is a straight line."""
    image = canvas(*_SIZE)
    step = report["step"]
    slowest = max(row["p99_ms"] for row in report["by_objects"] + report["by_proposals"])
    ticks = [ms for k, ms in enumerate(_TICKS_MS) if k == 0 or _TICKS_MS[k - 1] < slowest]
    for number, (name, rest) in enumerate((("objects", "proposals"), ("proposals", "objects"))):
        rows, power = report[f"by_{name}"], report[f"exponent_of_{name}"]
        left = _LEFT + number * (_PANEL[0] + _LEFT)
        label = f"{name}, of {step['paths']} paths each" if name == "objects" else name
        other = f"{rows[0][rest]} {rest}"
        plot = Plot(
            image, (left, _TOP, left + _PANEL[0], _TOP + _PANEL[1]),
            (np.log(rows[0][name] / 1.2), np.log(rows[-1][name] * 1.2)), (np.log(ticks[0]), np.log(ticks[-1])),
            title=f"{other}: grows as {name} to the {power:.2f}", x_label=label,
            y_label="ms of CPU time",
        )  # fmt: skip
        plot.x_ticks({np.log(row[name]): str(row[name]) for row in rows})
        plot.y_ticks({np.log(ms): str(ms) for ms in ticks})
        at = np.log([row[name] for row in rows])
        for key, color in _LINES.items():
            times = np.log(np.clip([row[key] for row in rows], ticks[0], ticks[-1]))
            plot.line(at, times, color)
            for x, y in zip(at, times, strict=True):
                plot.dot(x, y, color)
    names = [(f"{key[:3]} (of {step['objects']} objects and {step['proposals']} proposals: {step[key]:.0f} ms)", color)
             for key, color in _LINES.items()]  # fmt: skip
    legend(image, names, (_LEFT, _SIZE[1] - 40))
    cv2.imwrite(str(file), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))


if __name__ == "__main__":
    main()
