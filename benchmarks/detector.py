"""Latency of the detector by stage and backend, on the same made-up frame in the same run.

    python benchmarks/detector.py                      # nano, two threads
    python benchmarks/detector.py --model tiny --threads 4 --repeat 10 --json detector.json

As many cameras of 1280x720 as there are slots (`--cameras`), and 120,000 points. Backends take turns, so that a busy
machine is busy for all of them; what counts is `speedup_over_torch`, of the least disturbed runs. `total_cpu_ms` is the
CPU time of all threads, `network_gflop` the network's arithmetic, `position_ms` what a new calibration costs.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from karp_perception.core import BackendUnavailable, CameraFrame, LidarSweep, SensorFrame
from karp_perception.core.stopwatch import Stopwatch
from karp_perception.detection.detector import Detector, DetectorSettings
from karp_perception.detection.runtime.backend import BACKENDS, BackendOptions
from karp_perception.detection.runtime.graph import network_inputs

YAWS_RAD = (0.0, 1.0, -1.0, 2.0, -2.0, 3.1)


def made_up_frame(cameras: int, points: int = 120_000) -> SensorFrame:
    """Noise in the images, and points as dense as a spinning lidar's: most of them near."""
    rng = np.random.default_rng(0)
    intrinsics = np.array([[900.0, 0, 640], [0, 900, 360], [0, 0, 1]])
    frames: dict[str, CameraFrame | None] = {}
    for number, yaw in enumerate(YAWS_RAD[:cameras]):
        c, s = np.cos(yaw), np.sin(yaw)
        pose = np.array([[s, 0, c, 0], [-c, 0, s, 0], [0, -1, 0, 1.6], [0, 0, 0, 1]])
        image = rng.integers(0, 256, (720, 1280, 3), dtype=np.uint8)
        frames[f"camera{number}"] = CameraFrame(image, intrinsics, pose, 0)
    distance, angle = 2 + 70 * rng.random(points) ** 2, rng.uniform(-np.pi, np.pi, points)
    z = np.where(rng.random(points) < 0.6, 0.0, rng.uniform(0, 4, points))
    columns = (distance * np.cos(angle), distance * np.sin(angle), z, rng.random(points))
    return SensorFrame(0, frames, LidarSweep(np.column_stack(columns).astype(np.float32), 0))


def gflop(detector: Detector) -> float:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from karp_perception.detection.model.detector_net import DetectorNet

    assert detector.config is not None
    with torch.device("meta"):
        net = DetectorNet(detector.config).eval()
        arguments = [torch.zeros(shape) for shape in network_inputs(detector.config).values()]
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(*arguments)
    return counter.get_total_flops() / 1e9


def measure(model: str, cameras: int, threads: int, repeat: int) -> dict[str, Any]:
    variants = [(backend, "f32") for backend in BACKENDS] + [("openvino", "bf16"), ("openvino", "auto")]
    detectors: dict[str, Detector] = {}
    report: dict[str, Any] = {"model": model, "threads": BackendOptions(threads).thread_count, "backends": {}}
    for backend, precision in variants:
        name = backend if precision == "f32" else f"{backend}_{precision}"
        entry: dict[str, Any] = {}
        start = time.perf_counter()
        try:
            detectors[name] = Detector(
                DetectorSettings(model=model, cameras=cameras, backend=backend, precision=precision, threads=threads)
            )
            detectors[name].warm_up()
        except BackendUnavailable as error:
            entry["unavailable"] = str(error)
        entry["start_s"] = time.perf_counter() - start
        report["backends"][name] = entry
    first = next(iter(detectors.values()))
    assert first.config is not None
    report["network_gflop"] = gflop(first)
    frame = made_up_frame(first.config.cameras)
    watches: dict[str, list[dict[str, float]]] = {name: [] for name in detectors}
    for name, detector in detectors.items():
        start = time.perf_counter()
        detector.detect(frame)
        once = (time.perf_counter() - start) * 1e3
        detector.detect(frame)
        start = time.perf_counter()
        detector.detect(frame)
        report["backends"][name]["position_ms"] = once - (time.perf_counter() - start) * 1e3
    for _ in range(repeat):
        for name, detector in detectors.items():
            stopwatch = Stopwatch()
            start = time.process_time()
            with stopwatch("total"):
                detector.detect(frame, stopwatch)
            watches[name].append({**stopwatch.milliseconds, "total_cpu": (time.process_time() - start) * 1e3})
    for name, rows in watches.items():
        entry = report["backends"][name]
        info = detectors[name].info
        entry.update({"version": info["backend_version"], "precision": info["precision"]})
        if "parity" in info:
            entry["parity"] = info["parity"]
        for stage in rows[0]:
            times = [row[stage] for row in rows]
            entry[f"{stage}_ms"] = {"min": min(times), "p50": float(np.median(times)), "max": max(times)}
    if "torch" in watches:
        reference = report["backends"]["torch"]["network_ms"]["min"]
        for name in watches:
            entry = report["backends"][name]
            entry["speedup_over_torch"] = reference / entry["network_ms"]["min"]
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--cameras", type=int, default=0, help="slots; 0: as many as the model has")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=30)
    parser.add_argument("--json", type=Path, help="write the report there as well")
    arguments = parser.parse_args()
    report = json.dumps(measure(arguments.model, arguments.cameras, arguments.threads, arguments.repeat), indent=1)
    print(report)
    if arguments.json:
        arguments.json.write_text(report + "\n")


if __name__ == "__main__":
    main()
