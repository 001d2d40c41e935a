"""How well tracks are kept: KITTI tracking sequences, by the measures of AB3DMOT, HOTA and nuScenes."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from karp_perception.core.errors import InvalidInput
from karp_perception.evaluation.hota import hota
from karp_perception.evaluation.kitti_tracking import NEIGHBOURS, KittiTracking, kitti_scores
from karp_perception.evaluation.nuscenes_tracking import NuscenesTracking, nuscenes_scores
from karp_perception.sensing.datasets.kitti_tracking import KittiRows, read_detections, read_tracks, write_tracks
from karp_perception.tracking.recorded import RecordedSettings, track_kitti


@dataclass(frozen=True)
class Sequence3D:
    """A recorded sequence: its name, labels, and detections of all classes."""

    name: str
    truth: KittiRows
    detections: KittiRows


def read_sequences(folder: Path) -> list[Sequence3D]:
    """The sequences of a folder with `labels/SSSS.txt` and `detections/SSSS_<class>.txt`, in order of their names.

    Raises InvalidInput for a folder without either.
    """
    labels = sorted((folder / "labels").glob("*.txt"))
    if not labels:
        raise InvalidInput(str(folder), "label files labels/SSSS.txt", "none")
    sequences = []
    for file in labels:
        found = sorted((folder / "detections").glob(f"{file.stem}_*.txt"))
        sequences.append(Sequence3D(file.stem, read_tracks(file), read_all_detections(found)))
    return sequences


def read_all_detections(files: Sequence[Path]) -> KittiRows:
    """The detections of several files of one sequence, a class each."""
    return KittiRows.concatenate([read_detections(file) for file in files])


def evaluate_tracking(
    folder: Path, results: Path | None = None, out: Path | None = None, settings: RecordedSettings | None = None
) -> dict[str, Any]:
    """Tracks the sequences of a folder, or takes results that are there, and measures them.

    Args:
        folder: see `read_sequences`.
        results: a folder with `SSSS.txt` in the KITTI tracking format to measure instead of tracking.
        out: where to write what was tracked.
        settings: of the tracker.

    Returns:
        `classes`: figures by class; `sequences`: their names; where it tracked, `frames_per_second`.
    """
    sequences = read_sequences(folder)
    content: dict[str, Any] = {"folder": str(folder), "sequences": [sequence.name for sequence in sequences]}
    if results is None:
        start = time.perf_counter()
        tracks = [track_kitti(sequence.detections, settings) for sequence in sequences]
        frames = sum(int(sequence.detections.frame.max(initial=-1)) + 1 for sequence in sequences)
        content["frames_per_second"] = round(frames / (time.perf_counter() - start), 1)
        if out is not None:
            for sequence, rows in zip(sequences, tracks, strict=True):
                write_tracks(out / f"{sequence.name}.txt", rows)
    else:
        tracks = [read_tracks(results / f"{sequence.name}.txt") for sequence in sequences]
    truth = [sequence.truth for sequence in sequences]
    content["classes"] = {kind: measures(truth, tracks, kind) for kind in NEIGHBOURS}
    return content


def measures(truth: Sequence[KittiRows], tracks: Sequence[KittiRows], kind: str) -> dict[str, float]:
    """All figures of one class, of labels and results of the same sequences.

    sAMOTA, AMOTA, AMOTP, and MOTA, MOTP and what they count where MOTA is best, as AB3DMOT's evaluation has them; HOTA
    and its parts at that threshold; AMOTA and AMOTP (m) of nuScenes.
    """
    tracking = KittiTracking(truth, tracks, kind)
    scores = kitti_scores(tracking)
    best = scores.best
    counts, kept = tracking.counted(scores.threshold)
    parts = _hota(tracking, counts, kept)
    every = tracking.counted()[1]
    nuscenes = nuscenes_scores(
        NuscenesTracking(
            tracking.moment[counts],
            tracking.trajectory[counts],
            tracking.truth.ground()[counts, :2],
            tracking.found_moment[every],
            tracking.track[every],
            tracking.found.ground()[every, :2],
            tracking.score[every],
        )
    )
    return {
        "samota": scores.samota, "amota": scores.amota, "amotp": scores.amotp, "mota": best.mota, "motp": best.motp,
        "switches": best.switches, "fragmentations": best.fragmentations, "hits": best.hits, "misses": best.misses,
        "false_alarms": best.false_alarms, "truths": best.truths, "mostly_tracked": best.mostly_tracked,
        "mostly_lost": best.mostly_lost, "trajectories": best.trajectories, "threshold": scores.threshold,
        **parts, "nuscenes_amota": nuscenes.amota, "nuscenes_amotp": nuscenes.amotp,
    }  # fmt: skip


def _hota(tracking: KittiTracking, counts: np.ndarray, kept: np.ndarray) -> dict[str, float]:
    """HOTA of the truths and results that count."""
    pairs = tracking.similarities()
    pairs = pairs.take(counts[pairs.truth] & kept[pairs.found])
    row, column = np.cumsum(counts) - 1, np.cumsum(kept) - 1
    pairs = type(pairs)(row[pairs.truth], column[pairs.found], pairs.similarity)
    found = hota(tracking.trajectory[counts], tracking.track[kept], pairs)
    return {"hota": found.hota, "deta": found.deta, "assa": found.assa, "loca": found.loca}


def write_json(content: Mapping[str, Any], file: Path) -> None:
    """The figures as JSON; what is not a number becomes null."""

    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: plain(inner) for key, inner in value.items()}
        return None if isinstance(value, float) and not np.isfinite(value) else value

    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(plain(content), indent=2) + "\n")
