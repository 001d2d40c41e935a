"""CPU time of a frame's outputs, beside that of rclpy's serialiser on the same messages.

    python benchmarks/ros_publishing.py [--objects 160] [--obstacles 140] [--repeat 20] [--json FILE]

`ours_ms` is from the core's types to bytes. `rclpy_ms` is `serialize_message` alone, of messages that are there already
as Python objects: what a node that fills messages pays on top of filling them. Both take turns; medians.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from karp_perception.core import Boxes, Decision, DecisionKind, Objects, Plan, Trajectory  # noqa: E402
from karp_perception.ros import messages  # noqa: E402
from karp_perception.ros.outputs import OUTPUTS  # noqa: E402

MODES, STEPS = 1, 50  # predicted paths of an object, points of each


def made_up(count: int, random: np.random.Generator, moving: bool) -> Boxes:
    """Boxes of which a fifth has a class, and a fifth of the tracked ones a speed."""
    velocity = (
        random.normal(0, 5, (count, 2)) * (random.random((count, 1)) < 0.2) if moving else np.full((count, 2), np.nan)
    )
    label = np.where(random.random(count) < 0.2, 0, -1) if moving else np.full(count, -1)
    size, yaw = random.uniform(0.3, 5, (count, 3)), random.uniform(-3, 3, count)
    center, variance = random.normal(0, 30, (count, 3)), np.ones((count, 9))
    return Boxes(center, size, yaw, velocity, label, random.random(count), variance if moving else None)


def outputs(objects: int, obstacles: int) -> dict[str, Callable[[], bytes]]:
    """What writes each of the large outputs, for a made-up frame."""
    random = np.random.default_rng(0)
    around, boxes = made_up(obstacles, random, False), made_up(objects, random, True)
    paths, probability = random.normal(0, 20, (objects, MODES, STEPS, 3)), np.full((objects, MODES), 1 / MODES)
    covariance, zeros = np.tile(np.eye(6), (objects, 1, 1)), np.zeros(objects)
    tracks = Objects(boxes, 1 + np.arange(objects), covariance, zeros, zeros, paths, probability)
    t = 0.1 * np.arange(81)
    way = Trajectory(t, 5 * t, 0.1 * t, 0.02 * t, 5 - 0.1 * t, -np.ones(81), np.full(81, 0.01))
    plan = Plan(1, way, Decision(DecisionKind.FOLLOW, "FOLLOW car 7, 12.3 m ahead", 7, 12.3, 4.56))

    def markers() -> bytes:
        drawing = messages.MarkerDrawing(1, "base_link").perception(boxes[:0], around)
        return drawing.objects(tracks).plan(plan).message

    return {
        "obstacles": lambda: messages.detections_bytes(around, 1),
        "detections": lambda: messages.detections_bytes(boxes, 1),
        "tracks": lambda: messages.tracks_bytes(tracks, 1),
        "objects": lambda: messages.objects_bytes(tracks, 1),
        "markers": markers,
        "path": lambda: messages.path_bytes(plan),
        "trajectory": lambda: messages.trajectory_bytes(plan, 2.8),
    }


def cpu_ms(work: Callable[[], object]) -> float:
    """CPU time of one call."""
    start = time.process_time()
    work()
    return (time.process_time() - start) * 1e3


def measure(objects: int, obstacles: int, repeat: int) -> dict[str, dict[str, float]]:
    """Times and bytes of each output, and of all."""
    from rclpy.serialization import deserialize_message, serialize_message

    result: dict[str, dict[str, float]] = {}
    for name, write in outputs(objects, obstacles).items():
        data = write()
        message = deserialize_message(data, messages.message_class(OUTPUTS[name]))
        times = [(cpu_ms(write), cpu_ms(lambda message=message: serialize_message(message))) for _ in range(repeat)]
        ours, rclpy = np.median(times, axis=0)
        result[name] = {"bytes": len(data), "ours_ms": ours, "rclpy_ms": rclpy, "rclpy_over_ours": rclpy / ours}
    total = {key: sum(row[key] for row in result.values()) for key in ("bytes", "ours_ms", "rclpy_ms")}
    result["all"] = {**total, "rclpy_over_ours": total["rclpy_ms"] / total["ours_ms"]}
    return {name: {key: round(float(value), 3) for key, value in row.items()} for name, row in result.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--objects", type=int, default=160)
    parser.add_argument("--obstacles", type=int, default=140)
    parser.add_argument("--repeat", type=int, default=20)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    text = json.dumps(measure(arguments.objects, arguments.obstacles, arguments.repeat), indent=2)
    print(text)
    if arguments.json:
        arguments.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
