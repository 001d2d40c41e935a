"""What a run leaves behind: `frames.jsonl`, one line a frame, and `summary.json`.

Field names are a contract with other people's scripts. Everything is in `base_link`; lengths in m, angles in rad,
times in s unless the name says otherwise. Unknown values are null.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import orjson

from karp_perception.core import Boxes, Objects, Plan, ScoredProposals, class_name

if TYPE_CHECKING:
    from karp_perception.pipeline import Result

_DECIMALS = 4  # 0.1 mm: finer than any sensor, and the last bits of floating point stay out of the files
_SCORE_DECIMALS = 3


def boxes_record(boxes: Boxes, track_id: Sequence[int | None] | None = None) -> list[dict[str, Any]]:
    """One dict a box: label, score, center, size, yaw, velocity (null where unknown); with `id` where ids are given."""
    columns = (_rounded(boxes.score), _rounded(boxes.center), _rounded(boxes.size), _rounded(boxes.yaw))
    known, velocity = np.isfinite(boxes.velocity).all(axis=1).tolist(), _rounded(boxes.velocity)
    records = [
        {
            "label": class_name(label),
            "score": score,
            "center": center,
            "size": size,
            "yaw": yaw,
            "velocity": v if is_known else None,
        }
        for label, score, center, size, yaw, v, is_known in zip(
            boxes.label.tolist(), *columns, velocity, known, strict=True
        )
    ]
    if track_id is None:
        return records
    return [{"id": i, **record} for i, record in zip(track_id, records, strict=True)]


def result_record(result: Result, frame_index: int, missing: Sequence[str] = ()) -> dict[str, Any]:
    """The line of `frames.jsonl` for one result. `missing` names sensors that gave nothing for this frame.

    An obstacle carries the `id` of the object that it updated, null where it is not tracked yet.
    """
    ids = obstacle_track_ids(result.objects, len(result.obstacles))
    pose = result.ego.T_odom_base
    return {
        "frame": frame_index,
        "stamp_ns": result.stamp_ns,
        "missing": list(missing),
        "ego": {
            "x": _number(pose[0, 3]),
            "y": _number(pose[1, 3]),
            "yaw": _number(np.arctan2(pose[1, 0], pose[0, 0])),
            "speed": _number(result.ego.speed),
            "yaw_rate": _number(result.ego.yaw_rate),
            "source": result.ego.source.value,
        },
        "detections": boxes_record(result.detections),
        "obstacles": boxes_record(result.obstacles, ids),
        "objects": boxes_record(result.objects.boxes, [int(i) for i in result.objects.track_id]),
        "plan": plan_record(result.plan),
        "latency_ms": {stage: round(ms, 3) for stage, ms in sorted(result.latency_ms.items())},
    }


def plan_record(plan: Plan) -> dict[str, Any]:
    """decision, reason, target_id, distance_m, ttc_s and trajectory [[t, x, y, yaw, speed]]; why it was that one.

    `notes` are of the safety layer. `proposals` [{name, score, terms}] are what was chosen from, `terms` by name those
    that are below 1, first the one that costs most; `chosen` is the index of the one that was taken, null where there
    were none.
    """
    decision, way = plan.decision, plan.trajectory
    points = np.stack([way.time, way.x, way.y, way.yaw, way.speed], axis=1)
    return {
        "decision": decision.kind.value,
        "reason": decision.reason,
        "target_id": decision.target_id,
        "distance_m": None if decision.distance_m is None else _number(decision.distance_m),
        "ttc_s": None if decision.ttc_s is None else _number(decision.ttc_s),
        "trajectory": _rounded(points),
        "notes": list(plan.notes),
        "proposals": [] if plan.proposals is None else proposals_record(plan.proposals),
        "chosen": None if plan.proposals is None else plan.proposals.chosen,
    }


def proposals_record(proposals: ScoredProposals) -> list[dict[str, Any]]:
    """One dict a proposal: name, score, and the terms that are below 1, first the one that costs most."""
    records = []
    for i, (name, score) in enumerate(zip(proposals.names, proposals.score.tolist(), strict=True)):
        terms = {term: round(value, _SCORE_DECIMALS) + 0.0 for term, value in proposals.shortcomings(i).items()}
        below = {term: value for term, value in terms.items() if value < 1.0}
        records.append({"name": name, "score": round(score, _SCORE_DECIMALS) + 0.0, "terms": below})
    return records


def obstacle_track_ids(objects: Objects, n_obstacles: int) -> list[int | None]:
    """Track id of the object each obstacle updated in this frame, None where there is none."""
    ids: list[int | None] = [None] * n_obstacles
    for row, track_id in zip(objects.obstacle_index, objects.track_id, strict=True):
        if row >= 0:
            ids[row] = int(track_id)
    return ids


def latency_summary(records: Sequence[Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """`{stage: {"p50", "p95", "p99"}}` in ms over frames; a stage counts only in the frames it ran in."""
    stages = sorted({stage for record in records for stage in record})
    summary = {}
    for stage in stages:
        values = [record[stage] for record in records if stage in record]
        p50, p95, p99 = np.percentile(values, (50, 95, 99))
        summary[stage] = {"p50": round(float(p50), 3), "p95": round(float(p95), 3), "p99": round(float(p99), 3)}
    return summary


def versions() -> dict[str, str]:
    """Versions of what computed a result."""
    found = {"python": platform.python_version()}
    for package in ("karp_perception", "numpy", "scipy", "opencv-python-headless", "openvino", "kiss-icp", "rosbags"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


@contextmanager
def atomic_file(path: Path, mode: str = "w") -> Iterator[IO[Any]]:
    """A file that appears under its name only when it was written to the end."""
    path = Path(path)
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open(mode) as file:
            yield file
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """A JSON file, indented, written atomically."""
    with atomic_file(path, "wb") as file:
        file.write(orjson.dumps(content, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))


def json_line(record: Mapping[str, Any]) -> bytes:
    """One line of a .jsonl file."""
    return orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE)


def _number(value: float) -> float:
    return round(float(value), _DECIMALS) + 0.0


def _rounded(values: np.ndarray) -> list[Any]:
    """Nested lists of rounded numbers. Adding 0.0 turns -0.0 into 0.0: the same number must look the same."""
    return (np.round(values, _DECIMALS) + 0.0).tolist()
