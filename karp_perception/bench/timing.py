"""Percentiles, jitter and throughput of times that were measured frame by frame."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np

from karp_perception.core.stopwatch import Stopwatch

PERCENTILES = (50, 95, 99)

CPU = ("cpu", "network_cpu")
"""Beside the stages of a row: CPU time of all the process's threads, ms, of the whole and of the network. On a machine
that is busy it hardly changes where the clock on the wall does; waiting threads that spin count as well."""


class TwoClocks(Stopwatch):
    """A stopwatch that takes the process's CPU time as well."""

    def __init__(self) -> None:
        super().__init__()
        self.cpu_milliseconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """See `Stopwatch`."""
        start = time.process_time()
        with super().__call__(stage):
            yield
        spent = (time.process_time() - start) * 1e3
        self.cpu_milliseconds[stage] = self.cpu_milliseconds.get(stage, 0.0) + spent


def summary(times_ms: Sequence[float]) -> dict[str, float]:
    """`p50`, `p95`, `p99`, `min`, `max`, `mean` and `jitter` (mean change from one frame to the next), all in ms."""
    times = np.asarray(times_ms, np.float64)
    found = {f"p{p}": value for p, value in zip(PERCENTILES, np.percentile(times, PERCENTILES), strict=True)}
    jitter = np.abs(np.diff(times)).mean() if len(times) > 1 else 0.0
    found |= {"min": times.min(), "max": times.max(), "mean": times.mean(), "jitter": jitter}
    return {name: round(float(value), 3) for name, value in found.items()}


def stage_summary(rows: Sequence[Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """`summary` of each stage, in the order of the first row."""
    return {stage: summary([row[stage] for row in rows]) for stage in rows[0]}


def with_rest(stages: Mapping[str, float], total_ms: float) -> dict[str, float]:
    """The stages of one frame, `other` (what lies between them: copies, waiting, Python) and `total`."""
    return {**stages, "other": max(0.0, total_ms - sum(stages.values())), "total": total_ms}
