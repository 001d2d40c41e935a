"""How fast the embedded world runs, by part: ticks a second for a rig, and fresh scenes a second for training.

    python benchmarks/world.py [--rig surround nano] [--frames 40] [--json FILE]

The ratio beside each rate is against a plain numpy ray caster over the same scene's lidar rays (every ray against the
slabs of every body's box, chunked), measured in the same run: what one writes first.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np

from karp_perception.core.blas import use_one_blas_thread
from karp_perception.world.embedded import EmbeddedWorld, Setup, WorldSettings
from karp_perception.world.geometry.scene import SceneRays
from karp_perception.world.sensors.lidar import Lidar


def numpy_lidar(scene: SceneRays, origin: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """Distances by slab tests of all rays against the upright box around each body."""
    low = np.column_stack([scene.middle[:, :2] - scene.reach[:, None], scene.bottom])
    high = np.column_stack([scene.middle[:, :2] + scene.reach[:, None], scene.top])
    nearest = np.full(len(directions), np.inf)
    with np.errstate(divide="ignore", invalid="ignore"):
        inverse = 1.0 / directions
        for a, b in zip(low, high, strict=True):
            one, other = (a - origin) * inverse, (b - origin) * inverse
            enter, leave = np.minimum(one, other).max(axis=1), np.maximum(one, other).min(axis=1)
            np.minimum(nearest, np.where((enter > 0) & (enter <= leave), enter, np.inf), out=nearest)
    return nearest


def part_times(world: EmbeddedWorld, frames: int) -> dict[str, list[float]]:
    """Seconds of each part of each tick."""
    times: dict[str, list[float]] = {"tick": [], "scene": [], "lidar": [], "cameras": [], "truth": [], "total": []}
    for _ in range(frames):
        marks = [time.perf_counter()]
        world.tick()
        marks.append(time.perf_counter())
        world.scene()
        marks.append(time.perf_counter())
        world.returns()
        marks.append(time.perf_counter())
        world.sensors()
        marks.append(time.perf_counter())
        world.truth()
        marks.append(time.perf_counter())
        for name, seconds in zip(times, np.diff(marks), strict=False):
            times[name].append(float(seconds))
        times["total"].append(marks[-1] - marks[0])
    return times


def fresh_scenes(rig: str, count: int, families: tuple[str, ...], per_drive: int = 4) -> float:
    """Frames a second where each layout gives `per_drive` frames, a second apart."""
    started = time.perf_counter()
    for k in range(max(1, count // per_drive)):
        with EmbeddedWorld(Setup(families[k % len(families)]), rig, seed=1000 + k) as world:
            for _ in range(per_drive):
                for _ in range(10):
                    world.tick()
                world.sensors()
                world.truth()
    return max(1, count // per_drive) * per_drive / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rig", nargs="+", default=["surround", "nano"])
    parser.add_argument("--family", default="intersection")
    parser.add_argument("--frames", type=int, default=40)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    use_one_blas_thread()
    report: dict[str, object] = {}
    for rig in arguments.rig:
        settings = WorldSettings(threads=arguments.threads)
        with EmbeddedWorld(Setup(arguments.family), rig, settings, seed=3) as world:
            part_times(world, 3)  # compiles, and draws what is drawn once
            times = part_times(world, arguments.frames)
            actors = len(world.truth().boxes)
            scene, _ = world.scene()
            directions = Lidar(world.rig.lidar, world.rig.T_base_lidar).directions(0)
            started = time.perf_counter()
            numpy_lidar(scene, world.vehicle.pose[:3, 3] + (0, 0, 1.7), directions)
            plain = time.perf_counter() - started
        milliseconds = {name: 1e3 * float(np.median(values)) for name, values in times.items()}
        rate = 1e3 / milliseconds["total"]
        report[rig] = {"ms": milliseconds, "ticks_per_s": rate, "actors": actors, "bodies": len(scene.reach)}
        parts = ", ".join(f"{name} {value:.1f}" for name, value in milliseconds.items())
        print(f"{rig}: {rate:.1f} ticks/s with {actors} actors, {len(scene.reach)} bodies; ms: {parts}")
        print(f"  lidar: {plain / np.median(times['lidar']):.0f} times as fast as numpy on the boxes alone")
    families = ("straight", "curve", "intersection", "parking")
    rate = fresh_scenes("nano", arguments.frames, families)
    report["fresh_scenes_per_s"] = rate
    print(f"training frames (nano, one process, 4 a layout): {rate:.1f} a second")
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
