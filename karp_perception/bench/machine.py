"""The machine that was measured, by name."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

from karp_perception.detection.runtime.backend import BackendOptions
from karp_perception.detection.runtime.gpus import gpus

_CPU_INFO, _MEMORY_INFO, _STATUS = Path("/proc/cpuinfo"), Path("/proc/meminfo"), Path("/proc/self/status")


def machine() -> dict[str, Any]:
    """CPU, cores that this process may use, memory, GPUs and the load while it is asked: a busy machine is slower."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {
        "cpu": _field(_CPU_INFO, "model name") or platform.processor() or platform.machine(),
        "cores": BackendOptions().thread_count,
        "memory_gib": _kib(_MEMORY_INFO, "MemTotal", 2**20),
        "gpus": [
            {"name": gpu.name, "compute_capability": gpu.compute_capability, "cuda": gpu.driver} for gpu in gpus()
        ],
        "system": f"{platform.system()} {platform.machine()}",
        "load": None if load is None else round(load, 2),
    }


def peak_resident_mib() -> float:
    """Most memory that this process has had resident since its program began, MiB.

    Linux' own figure: what getrusage says of a child is at least what its parent had when it was started.
    """
    told = _kib(_STATUS, "VmHWM", 2**10)
    if told is not None:
        return told
    from karp_perception.evaluation.detection import peak_memory_mib

    return round(peak_memory_mib(), 1)


def _kib(file: Path, name: str, divisor: int) -> float | None:
    text = _field(file, name)
    return None if text is None else round(float(text.split()[0]) / divisor, 1)


def _field(file: Path, name: str) -> str | None:
    """The value behind `name:` in one of Linux' files; None elsewhere."""
    try:
        lines = file.read_text().splitlines()
    except OSError:
        return None
    return next((line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == name), None)
