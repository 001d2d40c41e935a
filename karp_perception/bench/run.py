"""`karp bench`: messages in, boxes out, stage by stage, for every engine in turn; what it takes, and how good it is."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from karp_perception.bench.accuracy import accuracy_of
from karp_perception.bench.engines import Detecting, Engine, EngineName, engine_names, open_engine, slots
from karp_perception.bench.feed import Feed, feed_of, with_cameras, with_points
from karp_perception.bench.frames import input_frames
from karp_perception.bench.fresh_process import needs_of
from karp_perception.bench.gpu import PowerMeter
from karp_perception.bench.machine import machine
from karp_perception.bench.options import RIGS, BenchOptions
from karp_perception.bench.pacing import highest_rate, paced_run
from karp_perception.bench.reception import Turns
from karp_perception.bench.timing import CPU, TwoClocks, stage_summary, with_rest
from karp_perception.core import BackendUnavailable, ConfigurationError
from karp_perception.detection.detector import NO_MODEL, DetectorSettings
from karp_perception.detection.model.weights import ModelSource, find_model
from karp_perception.detection.runtime.artefacts import Artefacts
from karp_perception.detection.runtime.backend import BACKENDS
from karp_perception.records import versions, write_json

SCHEMA = "karp-bench/1"

_FRAMES = 4  # of a drive, fed in turn
_WARM = 3  # frames of each engine before its times count
_SHARES = {"frames": 0.1, "opening": 0.25, "timing": 0.25, "pacing": 0.2, "memory": 0.1, "accuracy": 0.1}

_COMPARED = ("network", "network_cpu", "total")

Progress = Callable[[float, str], None]


def bench(options: BenchOptions, progress: Progress = lambda share, what: None) -> dict[str, Any]:
    """Measure.

    Returns what is written as bench.json: `schema`, `machine`, `versions`, `model` (with the hashes of weights and
    ONNX that all engines come from), `input`, `options`, `engines` (a row each, see `_row`; one that cannot be used
    here has `unavailable` with the reason) and `comparisons` (ratios of medians, above 1: the engine is faster).

    Raises ConfigurationError for a model, backend, rig or folder that does not exist, and where no engine can be used.
    """
    if options.model == NO_MODEL:
        raise ConfigurationError("bench of model 'none': there is nothing to measure; name a model or a file")
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
    steps = _Steps(progress)
    steps.begin("frames", "making frames", 1)
    feed, source = _feed(options)
    names = engine_names(options.backends, options.precisions, BACKENDS)
    against = [name for name in _checked(options.compared()) if name not in names]
    settings = DetectorSettings(options.model, source.config.cameras, threads=options.threads)
    steps.begin("opening", "opening engines", len(names) + len(against))
    engines: dict[EngineName, Engine] = {}
    for name in (*names, *against):
        steps.say(f"opening {name}")
        engines[name] = open_engine(name, settings, options.device())
        steps.step()
    usable = _usable(engines)
    if not usable:
        reasons = "; ".join(f"{engine.name}: {engine.unavailable}" for engine in engines.values())
        raise BackendUnavailable(f"no engine can be measured here; {reasons}")
    steps.begin("timing", "taking turns", options.repeat)
    times = take_turns(usable, feed, options.repeat, steps.step)
    rows = {
        name: _row(name, engines[name], times.get(name))
        for name in engines
        if name in usable or engines[name].unavailable
    }
    measured = {name: detector for name, detector in usable.items() if name in names}
    steps.begin("pacing", "feeding in real time", len(measured) * len(options.rates_hz))
    for name, detector in measured.items():
        rows[name]["highest_rate_hz"] = highest_rate([row["total"] / 1e3 for row in times[name]])
        rows[name]["paced"] = _paced(name, detector, feed, options, steps)
    steps.begin("memory", "measuring memory", len(measured) if options.memory else 0)
    for name in measured if options.memory else ():
        rows[name] |= needs_of(name, settings, options.device(), feed)
        steps.step()
    steps.begin("accuracy", "evaluating", len(measured) * options.accuracy)
    if options.accuracy:
        for name, found in accuracy_of(list(measured), settings, options.accuracy, steps.step).items():
            rows[name]["accuracy"] = found
    content = {
        "schema": SCHEMA,
        "machine": machine(),
        "versions": versions(),
        "model": _model(source),
        "input": feed.about,
        "options": {**asdict(options), "out": None, "against": [str(name) for name in against]},
        "engines": list(rows.values()),
        "comparisons": compare(
            {str(engines[name]): times[name] for name in measured},
            {str(engines[name]): times[name] for name in usable if name not in measured},
        ),
    }
    if options.out is not None:
        from karp_perception.view.latency_chart import write_latency_chart

        write_json(options.out / "bench.json", content)
        write_latency_chart(content, options.out / "latency.png")
    progress(1.0, "done")
    return content


Rows = list[dict[str, float]]


def take_turns(
    detectors: Mapping[EngineName, Detecting], feed: Feed, repeat: int, stepped: Callable[[], None] = lambda: None
) -> dict[EngineName, Rows]:
    """Times by stage, ms, of `repeat` frames of each: all see one frame before the next one comes.

    A machine that is busy for a while is so for all of them. Beside the stages there is CPU time, see `timing.CPU`.
    """
    turns = {name: Turns(feed) for name in detectors}
    rows: dict[EngineName, Rows] = {name: [] for name in detectors}
    for number in range(-_WARM, repeat):
        for name, detector in detectors.items():
            messages, stamp_ns = turns[name].messages()
            stopwatch = TwoClocks()
            start, cpu = time.perf_counter(), time.process_time()
            frame = turns[name].frame(messages, stamp_ns, stopwatch)
            detector.detect(frame, stopwatch)
            total = (time.perf_counter() - start) * 1e3
            if number >= 0:
                spent = ((time.process_time() - cpu) * 1e3, stopwatch.cpu_milliseconds.get("network", 0.0))
                rows[name].append({**with_rest(stopwatch.milliseconds, total), **dict(zip(CPU, spent, strict=True))})
        if number >= 0:
            stepped()
    return rows


def compare(measured: Mapping[str, Rows], others: Mapping[str, Rows]) -> list[dict[str, Any]]:
    """For each of the first and each other one, how many times as fast the first is.

    `network` and `total` (from messages to boxes) by medians, `network_least` by the least disturbed frame of each,
    `network_cpu` by medians of CPU time (None where the CPU has no part in it).
    """
    found: list[dict[str, Any]] = []
    for name, rows in measured.items():
        ours = stage_summary(rows)
        for other, their_rows in others.items():
            theirs = stage_summary(their_rows)
            ratios = {stage: _ratio(theirs[stage]["p50"], ours[stage]["p50"]) for stage in _COMPARED}
            least = _ratio(theirs["network"]["min"], ours["network"]["min"])
            found.append({"engine": name, "against": other, **ratios, "network_least": least})
    return found


def _ratio(theirs: float, ours: float) -> float | None:
    return round(theirs / ours, 2) if ours > 0 else None


class _Steps:
    """Progress through the phases of a measurement, each with a share of the whole."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._from = self._share = 0.0
        self._count, self._done = 1, 0

    def begin(self, phase: str, what: str, count: int) -> None:
        self._from, self._share = self._from + self._share, _SHARES[phase]
        self._count, self._done = max(1, count), 0
        self.say(what)

    def say(self, what: str) -> None:
        self._progress(self._from + self._share * self._done / self._count, what)
        self._what = what

    def step(self) -> None:
        self._done = min(self._done + 1, self._count)
        self.say(self._what)


def _feed(options: BenchOptions) -> tuple[Feed, ModelSource]:
    """Messages to measure with, and the model with as many slots as they have cameras."""
    source = find_model(options.model)
    wanted = min(options.cameras or source.config.cameras, source.config.cameras)
    rig = options.rig or RIGS[min((count for count in RIGS if count >= wanted), default=max(RIGS))]
    if options.rig is None and options.cameras == 0:
        rig = RIGS[1] if source.config.cameras < max(RIGS) else rig
    frames = [with_cameras(frame, wanted) for frame in input_frames(options.input, rig, _FRAMES)]
    if options.points:
        frames = [with_points(frame, options.points) for frame in frames]
    about = f"embedded world, rig {rig}" if options.input == "world" else options.input
    feed = feed_of(frames, compressed=options.compressed, source=about)
    return feed, slots(source, len(feed.cameras))


def _checked(names: Sequence[EngineName]) -> list[EngineName]:
    """The names, if they exist."""
    return [name for each in names for name in engine_names([each.backend], [each.precision], BACKENDS)]


def _usable(engines: Mapping[EngineName, Engine]) -> dict[EngineName, Detecting]:
    """Engines that can be used, one of those that turned out to be the same."""
    found: dict[tuple[Any, ...], EngineName] = {}
    for name, engine in engines.items():
        if engine.detector is not None:
            found.setdefault((engine.about["backend"], engine.about["precision"]), name)
    return {name: detector for name in found.values() if (detector := engines[name].detector) is not None}


def _row(name: EngineName, engine: Engine, times: Rows | None) -> dict[str, Any]:
    """What is known of an engine: `name`, `asked` (as which backend and precision), `open_s`, and
    `unavailable`, or what it is, `stages_ms` and `throughput_hz`."""
    row: dict[str, Any] = {"name": str(name), "asked": asdict(name), "open_s": round(engine.open_s, 2)}
    if times is None:
        return {**row, "unavailable": engine.unavailable}
    stages = stage_summary(times)
    return {**row, **engine.about, "stages_ms": stages, "throughput_hz": round(1e3 / stages["total"]["mean"], 1)}


def _paced(
    name: EngineName, detector: Detecting, feed: Feed, options: BenchOptions, steps: _Steps
) -> list[dict[str, Any]]:
    found = []
    for rate in options.rates_hz:
        steps.say(f"{name} at {rate:g} Hz")
        with PowerMeter() as meter:
            run = paced_run(detector, feed, rate, options.seconds)
        found.append({**asdict(run), "power_w": meter.mean_w})
        steps.step()
    return found


def _model(source: ModelSource) -> dict[str, Any]:
    """What all engines of a run are made from."""
    file = Artefacts(source).network.onnx()
    return {
        "name": source.config.name,
        "trained": source.trained,
        "weights_hash": source.digest,
        "onnx_sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        "cameras": source.config.cameras,
    }
