"""Which way to explain a detection tells the truth: the deletion test for every method, on frames of held-out worlds.

    python benchmarks/explaining.py                                # the shipped nano, 24 frames, attention hidden
    python benchmarks/explaining.py --from-inputs --tokens 32      # pixels and cells emptied instead
    python benchmarks/explaining.py --subset cameras --methods mean gradient --json explaining.json

A row says how much of its score a detection loses without the tokens that counted most for it, and without as many
others of the same sensors: `random` ones, random ones that hold data (`delivered`), and those that counted most for
another detection of the frame (`other`), each with the 95 % interval of the difference, over frames.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, replace
from pathlib import Path

from karp_perception.core import SensorFrame
from karp_perception.detection.detector import DetectorSettings
from karp_perception.detection.explanation import Explainer
from karp_perception.detection.model.attribution import METHODS
from karp_perception.evaluation.held_out_frames import EVALUATION_SEEDS
from karp_perception.evaluation.perturbation import CONTROLS, PerturbationSettings, deletion_test
from karp_perception.evaluation.scored_frames import plain
from karp_perception.world.dataset import families_of
from karp_perception.world.world_frames import WorldFrames


def frames(seed: int, count: int, rig: str, subset: str) -> list[SensorFrame]:
    """The first frame of each of `count` drives, with the sensors of the subset alone."""
    drives = WorldFrames(seed, families_of(None), rig, per_drive=1)
    whole = [next(drives.drive(number))[0] for number in range(count)]
    if subset == "cameras":
        return [replace(frame, lidar=None) for frame in whole]
    return [replace(frame, cameras={}) for frame in whole] if subset == "lidar" else whole


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--frames", type=int, default=24)
    parser.add_argument("--seed", type=int, default=EVALUATION_SEEDS, help="of the worlds; training takes lower ones")
    parser.add_argument("--rig", default="nano")
    parser.add_argument("--subset", default="both", choices=("both", "cameras", "lidar"), help="sensors that are there")
    parser.add_argument("--tokens", type=int, default=16)
    parser.add_argument("--draws", type=int, default=2)
    parser.add_argument("--detections", type=int, default=6, help="most of a frame")
    parser.add_argument("--threshold", type=float, default=0.3, help="least score of a detection")
    parser.add_argument("--from-inputs", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()

    seen = frames(options.seed, options.frames, options.rig, options.subset)
    settings = PerturbationSettings(
        tokens=options.tokens, draws=options.draws, detections=options.detections, from_inputs=options.from_inputs
    )
    rows = []
    print("method    control          detections  attended  control  difference (95 %)          more often   p")
    for method in options.methods:
        explainer = Explainer(DetectorSettings(model=options.model, score_threshold=options.threshold), method)
        found = deletion_test(explainer, seen, settings)
        for control in CONTROLS:
            result = found.compare(control)
            low, high = result.interval
            rows.append({"method": method, "control": control, **asdict(result)})
            print(
                f"{method:9s} {control:16s} {result.detections:10d} {result.attended:9.3f} {result.control:8.3f} "
                f"{result.difference:+11.3f} ({low:+.3f} to {high:+.3f}) {result.more:10.0%}   {result.p_value:.1e}",
                flush=True,
            )
    if options.json:
        options.json.write_text(json.dumps(plain(rows), indent=1, allow_nan=False))


if __name__ == "__main__":
    main()
