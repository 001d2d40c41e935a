"""What one set of weights for all sensors costs: beside specialists, trained further for one subset of them alone.

    python benchmarks/specialists.py                                  # from the shipped nano, 300 steps for each subset
    python benchmarks/specialists.py --steps 3000 --subsets cameras --out runs/specialists --json specialists.json

Specialists start from the same weights and see as many frames more, without the other sensors (the quarter of drives
that have no camera stay as they are). So that they are not merely trained longer, the general weights are trained
further for as many steps, too. All are scored on the same held-out frames, with the sensors of the subset and on the
labels that these can show. It can be stopped and goes on.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import torch

from karp_perception.cli_progress import ProgressBar
from karp_perception.detection.detector import DetectorSettings
from karp_perception.detection.model.weights import find_model
from karp_perception.detection.training.augmentation.augment import AugmentationSettings
from karp_perception.detection.training.augmentation.settings import DropSettings
from karp_perception.detection.training.samples import WorldSamples
from karp_perception.detection.training.settings import TrainSettings
from karp_perception.detection.training.trainer import train
from karp_perception.detection.training.world_frames import WorldDrives
from karp_perception.evaluation.detection import open_detector, run_detector
from karp_perception.evaluation.detection_run import world_source
from karp_perception.evaluation.sensor_subsets import SensorSubset, figures, subset_variants
from karp_perception.world.layouts.families import FAMILIES

SUBSETS = {
    "all": DropSettings(),
    "lidar": DropSettings(no_images=1.0, no_lidar=0.0, camera=0.0),
    "cameras": DropSettings(no_images=0.0, no_lidar=1.0, camera=0.0),
    "both": DropSettings(no_images=0.0, no_lidar=0.0, camera=0.0),
}
"""What each training leaves out; "all" are the general weights."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--subsets", nargs="+", default=["lidar", "cameras", "both"], choices=list(SUBSETS)[1:])
    parser.add_argument("--frames", type=int, default=96, help="held-out frames")
    parser.add_argument("--frames-dir", type=Path, help="keep them here")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("runs/specialists"))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    start = find_model(options.model)
    settings = TrainSettings(steps=options.steps, learning_rate=options.learning_rate, warm_up=20, average=0.99, seed=2)
    scores: dict[str, dict[str, dict[str, float]]] = {}
    for name in ("all", *options.subsets):
        augmentation = replace(AugmentationSettings(), drop=SUBSETS[name])
        samples = WorldSamples(WorldDrives(settings.seed), settings.echo, settings.pool)
        with ProgressBar(f"training with {name}") as bar:
            weights = train(
                start.config, samples, options.out / name, settings, init=start, augmentation=augmentation,
                progress=lambda p, bar=bar: bar(p.step / p.steps),
            )  # fmt: skip
        scores[name] = scored(weights, options)
    rows = []
    print(f"{'sensors':10}{'general mAP':>14}{'NDS':>8}{'specialist mAP':>18}{'NDS':>8}")
    for name in options.subsets:
        general, special = scores["all"][name], scores[name][name]
        rows.append({"sensors": name, "general": general, "specialist": special, "steps": options.steps})
        print(
            f"{name:10}{general['mean_ap']:14.3f}{general['nds']:8.3f}{special['mean_ap']:18.3f}{special['nds']:8.3f}"
        )
    if options.json is not None:
        options.json.write_text(json.dumps(rows, indent=1))


def scored(weights: Path, options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """mAP and NDS of weights by subset of the sensors, on held-out frames."""
    source = world_source(0, options.frames, FAMILIES, "nano", options.frames_dir, 1)
    detector = open_detector(DetectorSettings(model=str(weights), threads=options.threads), cameras=1)
    frames = run_detector(source.frames, detector, subset_variants)
    (camera,) = frames[0].cameras
    found = {}
    for name, subset in (("lidar", SensorSubset((), True)), ("cameras", SensorSubset((camera,), False))):
        found[name] = figures(frames, subset.name((camera,)), subset.cameras or None)
    return {**found, "both": figures(frames, "all sensors")}


if __name__ == "__main__":
    main()
