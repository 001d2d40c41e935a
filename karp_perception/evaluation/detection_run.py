"""`karp evaluate world|kitti|nuscenes|bag|frames`: frames through a detector, figures and pictures out."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from karp_perception.core import ConfigurationError, SensorFrame
from karp_perception.evaluation.detection import (
    DetectedFrame,
    Variant,
    peak_memory_mib,
    repeated_latency,
    run_detector,
    scored_frames,
)
from karp_perception.evaluation.detection_report import detection_report
from karp_perception.evaluation.evaluation_frame import EvaluationFrame
from karp_perception.records import latency_summary, versions, write_json
from karp_perception.sensing.labelled_frame import LabelledFrame, load_labelled_frame
from karp_perception.sensing.rectified import rectified

if TYPE_CHECKING:
    from karp_perception.pipeline import Detecting

_TIMED_FRAMES = 4  # that are detected again for the latency, when nothing else is at work
_TIMED_RUNS, _TIMED_S = 60, 3.0  # whichever comes first


@dataclass(frozen=True)
class EvaluationOptions:
    """What is measured and written.

    Attributes:
        threshold: score at which precision and recall are told.
        subsets: run on every subset of the sensors.
        robustness: run on every corruption at three strengths.
        robustness_frames: number of frames that this is done for, the first ones.
        every_class: means over all ten classes, as the nuScenes benchmark takes them, instead of those that occur.
        kitti: folder of the KITTI benchmark that the frames are from, in its order: add the benchmark's measures.
        held_out: kind of frames that is reported apart because no training saw it.
        calibrated: weight file to write, with variances put right by these frames, and scores where they are the
            network's own and no refiner's.
        json: file for the figures. out: folder for pictures (and `evaluation.json`). None: not written.
    """

    threshold: float = 0.3
    subsets: bool = False
    robustness: bool = False
    robustness_frames: int = 200
    every_class: bool = False
    kitti: Path | None = None
    held_out: str | None = None
    calibrated: Path | None = None
    json: Path | None = None
    out: Path | None = None


@dataclass(frozen=True)
class Source:
    """Where frames come from.

    Attributes:
        frames: in any order. count: how many. about: of them, for the report.
    """

    frames: Iterable[EvaluationFrame]
    count: int
    about: Mapping[str, Any]


def evaluate(
    source: Source,
    detector: Detecting,
    options: EvaluationOptions = EvaluationOptions(),
    progress: Callable[[float, str], None] = lambda share, what: None,
) -> dict[str, Any]:
    """Run a detector over frames and tell how good it is.

    Returns what is written as JSON: `source`, the figures of `detection_report`, `subsets` and `robustness` where asked
    for, `latency_ms` (by stage, p50, p95, p99; measured when nothing else is at work), `peak_memory_mib` of the process
    that detects, `model`, `backend`, `versions`.

    Raises ConfigurationError for files that cannot be written; where weights are to be calibrated, for untrained ones
    at once, and for too few frames when everything else is written.
    """
    if options.calibrated is not None:
        from karp_perception.evaluation.calibrated_weights import calibrate_weights, trained_source

        weights = trained_source(detector.info)  # what cannot be is told before hours of work
    for place in (options.out, *(file.parent for file in (options.json, options.calibrated) if file)):
        if place is not None:
            _made(place)
    timed: list[SensorFrame] = []
    done = 0

    def stepped() -> None:
        nonlocal done
        done += 1
        progress(done / source.count, f"{done} of {source.count} frames")

    with ExitStack() as stack:
        if isinstance(source.frames, Generator):
            stack.enter_context(closing(source.frames))
        kept = _keeping(source.frames, timed)
        frames = run_detector(kept, detector, _variants(options), stepped)
    memory = peak_memory_mib()
    latency = repeated_latency(timed, detector, _TIMED_RUNS, _TIMED_S)
    content = {"source": dict(source.about), **_figures(frames, detector, options)}
    content |= {
        "latency_ms": latency_summary(latency),
        "peak_memory_mib": round(memory, 1),
        "model": detector.info,
        "backend": detector.info.get("backend"),
        "versions": versions(),
    }
    if options.json is not None:
        write_json(options.json, content)
    if options.out is not None:
        from karp_perception.view.metric_curves import write_pictures

        write_json(options.out / "evaluation.json", content)
        write_pictures(content, options.out)
    if options.calibrated is not None:
        about = ", ".join(f"{name} {value}" for name, value in source.about.items())
        judged = detector.info.get("refiner") is not None
        calibrate_weights(weights, scored_frames(frames), options.calibrated, about, scores=not judged)
    return content


def folder_source(folders: Sequence[Path]) -> Source:
    """Labelled frames: each folder holds one (frame.json), or several in folders of its own.

    Raises ConfigurationError for a folder that does not exist, or in which there are none.
    """
    found: list[Path] = []
    for folder in map(Path, folders):
        if not folder.is_dir():
            raise ConfigurationError(f"{folder}: expected a folder with frame.json, or of such folders; there is none")
        inside = [folder] if (folder / "frame.json").exists() else sorted(f.parent for f in folder.glob("*/frame.json"))
        if not inside:
            raise ConfigurationError(f"{folder}: expected frame.json in it or in its folders, found none")
        found += inside
    return Source(
        (EvaluationFrame(k, place.name, _kind(place), load_labelled_frame(place)) for k, place in enumerate(found)),
        len(found),
        {"kind": "frames", "folders": [str(folder) for folder in folders], "frames": len(found)},
    )


def dataset_source(path: Path, form: str, max_frames: int | None = None) -> Source:
    """A data set in a format that `sensing.datasets` knows: kitti, nuscenes, bag.

    Raises what `open_dataset` does, and ConfigurationError for one without frames.
    """
    from karp_perception.sensing.datasets import open_dataset

    dataset: Sequence[LabelledFrame] = open_dataset(Path(path), form)
    count = len(dataset) if max_frames is None else min(len(dataset), max_frames)
    if count == 0:
        raise ConfigurationError(f"{path}: expected labelled frames ({form}), found none")

    def frames() -> Iterator[EvaluationFrame]:
        for k in range(count):
            yield EvaluationFrame(k, f"{k:06d}", form, dataset[k])

    return Source(frames(), count, {"kind": form, "path": str(path), "frames": count})


def world_source(
    seed: int,
    frames: int,
    families: Sequence[str],
    rig: str = "nano",
    folder: Path | None = None,
    workers: int | None = None,
) -> Source:
    """Held-out frames of the embedded world; see `held_out_frames`."""
    from karp_perception.evaluation.held_out_frames import HeldOutFrames
    from karp_perception.world.rig import make_rig

    make_rig(rig)  # one that does not exist is told here, not by a worker
    plan = HeldOutFrames(seed, frames, tuple(families), rig, folder)
    about = {"kind": "world", "seed": seed, "frames": frames, "families": list(families), "rig": rig}
    return Source(plan.stream(workers), frames, about)


def _figures(frames: Sequence[DetectedFrame], detector: Detecting, options: EvaluationOptions) -> dict[str, Any]:
    content = detection_report(
        frames,
        options.threshold,
        every_class=options.every_class,
        held_out=options.held_out,
        reach=getattr(detector, "config", None),
    )
    if options.kitti is not None:
        from karp_perception.evaluation.kitti_folder import kitti_scores

        content["kitti"] = kitti_scores(frames, options.kitti)
    if options.subsets:
        from karp_perception.evaluation.sensor_subsets import subset_table

        content["subsets"] = subset_table(frames)
    if options.robustness:
        from karp_perception.evaluation.robustness import robustness_table

        content["robustness"] = robustness_table([frame for frame in frames if frame.index < options.robustness_frames])
    return content


def _variants(options: EvaluationOptions) -> Callable[[EvaluationFrame], Mapping[str, Variant]]:
    def of(item: EvaluationFrame) -> Mapping[str, Variant]:
        found: dict[str, Variant] = {}
        if options.subsets:
            from karp_perception.evaluation.sensor_subsets import subset_variants

            found |= subset_variants(item)
        if options.robustness and item.index < options.robustness_frames:
            from karp_perception.evaluation.robustness import corruption_variants

            found |= corruption_variants(item)
        return found

    return of


def _keeping(frames: Iterable[EvaluationFrame], timed: list[SensorFrame]) -> Iterator[EvaluationFrame]:
    """The frames; sensors of the first few are kept."""
    for frame in frames:
        if len(timed) < _TIMED_FRAMES:
            timed.append(rectified(frame.frame).sensors)
        yield frame


def _made(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"{folder}: cannot be written: {error}") from None


def _kind(folder: Path) -> str:
    """Which recording a frame is from, by the source that it names."""
    from karp_perception.evaluation.realism import SOURCES

    try:
        source = str(json.loads((folder / "frame.json").read_text()).get("source", "")).lower()
    except (OSError, ValueError, AttributeError):
        return "other"  # what is wrong with it is told when it is read
    return next((name for name in SOURCES if name in source), "world" if "embedded world" in source else "other")
