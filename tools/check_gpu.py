"""On a machine with an NVIDIA GPU: the tests that need one, then what the shipped models do there.

    python tools/check_gpu.py            # or: make gpu

Writes what was measured into models/<model>/bench.json, under the GPU's name, and plots into runs/gpu. Ends with an
error where a test fails; the models are measured nevertheless.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
POINTS, REPEAT, ACCURACY = 120_000, 200, 200
SENSORS = {"nano": ("demo", 1), "tiny": ("nuscenes", 6)}
"""By model: the world's rig, and cameras of it."""


def run(*arguments: str) -> int:
    """A command of this environment; its exit status."""
    print("+", "python", *arguments, flush=True)
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, check=False).returncode


def main() -> int:
    """Exit status: 0 where every test passed and every model could be measured."""
    results = [run("-m", "pytest", "-q", "-m", "gpu")]
    for model, (rig, cameras) in SENSORS.items():
        options = ["--model", model, "--rig", rig, "--cameras", str(cameras), "--points", str(POINTS)]
        options += [part for precision in ("auto", "f32", "f16", "int8") for part in ("--precision", precision)]
        options += [part for rate in (10, 20, 50, 100) for part in ("--rate", str(rate))]
        options += ["--repeat", str(REPEAT), "--accuracy", str(ACCURACY), "--out", f"runs/gpu/{model}"]
        results.append(
            run("-m", "karp_perception.cli", "bench", *options, "--keep", str(ROOT / "models" / model / "bench.json"))
        )
    return max(results)


if __name__ == "__main__":
    raise SystemExit(main())
