"""What an evaluation of a detector says: one dict for JSON, and tables for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from karp_perception.core import Boxes
from karp_perception.detection.model.config import ModelConfig
from karp_perception.evaluation.detection import DetectedFrame, scored_frames
from karp_perception.evaluation.group_precision import by_frame, group_precision
from karp_perception.evaluation.metric_breakdown import by_distance, by_points
from karp_perception.evaluation.nuscenes_config import CVPR_2019, NuscenesConfig
from karp_perception.evaluation.nuscenes_metrics import NuscenesResult, nuscenes_metrics, present_classes
from karp_perception.evaluation.operating_point import operating_point
from karp_perception.evaluation.scored_frames import ScoredFrame, plain

if TYPE_CHECKING:
    from rich.table import Table

_MANY_KINDS = 4  # beyond it their groups are in the JSON only
_MANY_FRAMES = 100  # beyond it nobody reads a row for each


def detection_report(
    frames: Sequence[DetectedFrame],
    threshold: float,
    *,
    every_class: bool = False,
    held_out: str | None = None,
    reach: ModelConfig | None = None,
) -> dict[str, Any]:
    """The figures of a run.

    At the top: `mean_ap`, `nds`, `ap` by class, `tp_errors` and whatever `NuscenesResult.to_json` has; `classes` (those
    they are means over: the ones that occur, or with `every_class` all ten, as the nuScenes benchmark counts) and
    `all_classes` {mean_ap, nds} over all ten. Then `frames`, `operating_point` (at `threshold`), `by_distance`,
    `by_points`, `calibration`, `groups` (see `group_precision`), `kinds` (figures of each kind of frames, with
    `groups`), `held_out_family` (of the kind `held_out`, and `others` beside it), `within_reach` (on what lies in the
    area that the network looks at) and, for few frames, `by_frame`.
    """
    scored = scored_frames(frames)
    config = CVPR_2019 if every_class else _of_present(scored)
    result = nuscenes_metrics(scored, config)
    official = result if every_class else nuscenes_metrics(scored)
    content: dict[str, Any] = {
        **result.to_json(),
        "classes": list(config.class_range),
        "all_classes": _brief(official),
        "frames": len(frames),
        "operating_point": operating_point(scored, threshold, config),
        "by_distance": by_distance(scored, config=config).to_json(),
        "by_points": by_points(scored, config=config).to_json(),
        "groups": group_precision(frames, threshold),
        "kinds": {kind: _of_kind(frames, kind, threshold) for kind in dict.fromkeys(frame.kind for frame in frames)},
    }
    if held_out is not None and held_out in content["kinds"]:
        content["held_out_family"] = _held_out(frames, held_out)
    if reach is not None:
        content["within_reach"] = _within_reach(scored, reach)
    if len(frames) <= _MANY_FRAMES:
        content["by_frame"] = by_frame(frames, threshold)
    return content


def _of_present(scored: Sequence[ScoredFrame]) -> NuscenesConfig:
    """The official configuration for the classes that occur; for all of them where none does."""
    present = present_classes(scored)
    return CVPR_2019.for_classes(present) if present else CVPR_2019


def _brief(result: NuscenesResult) -> dict[str, Any]:
    return plain({"mean_ap": result.mean_ap, "nds": result.nds})


def _of_kind(frames: Sequence[DetectedFrame], kind: str, threshold: float) -> dict[str, Any]:
    chosen = [frame for frame in frames if frame.kind == kind]
    scored = scored_frames(chosen)
    result = nuscenes_metrics(scored, _of_present(scored))
    return {"frames": len(chosen), **_brief(result), "groups": group_precision(chosen, threshold)}


def _held_out(frames: Sequence[DetectedFrame], kind: str) -> dict[str, Any]:
    """Figures of a kind of places that no training saw, and of all the others, over the classes that occur in each."""
    inside, others = (
        scored_frames([frame for frame in frames if (frame.kind == kind) is wanted]) for wanted in (True, False)
    )
    result = nuscenes_metrics(inside, _of_present(inside)).to_json(curves=False)
    rest = _brief(nuscenes_metrics(others, _of_present(others))) if others else None
    return {"family": kind, "frames": len(inside), **result, "others": rest}


def _within_reach(scored: Sequence[ScoredFrame], reach: ModelConfig) -> dict[str, Any]:
    """mAP and NDS on what lies in the network's canvas: beyond it, nothing can be found by the lidar."""

    def inside(boxes: Boxes) -> np.ndarray:
        x, y = boxes.center[:, 0], boxes.center[:, 1]
        (x0, x1), (y0, y1) = reach.x_range_m, reach.y_range_m
        return (x >= x0) & (x < x1) & (y >= y0) & (y < y1)

    cut = []
    for frame in scored:
        rows = inside(frame.truth)
        detections = frame.detections[inside(frame.detections)]
        cut.append(ScoredFrame(detections, frame.truth[rows], frame.points_inside[rows]))
    area = {"x_range_m": list(reach.x_range_m), "y_range_m": list(reach.y_range_m)}
    return {**_brief(nuscenes_metrics(cut, _of_present(cut))), **area}


def report_tables(content: Mapping[str, Any]) -> list[Table]:
    """The figures for a console: classes, kinds, groups, and what else was measured."""
    tables = [_classes(content), _groups(content)]
    if len(content["kinds"]) > 1:
        tables.append(_kinds(content))
    if "subsets" in content:
        tables.append(_subsets(content["subsets"]))
    if "robustness" in content:
        tables.append(_robustness(content["robustness"]))
    if content.get("latency_ms"):
        tables.append(_latency(content))
    return tables


def _classes(content: Mapping[str, Any]) -> Table:
    title = f"mAP {_text(content['mean_ap'])}, NDS {_text(content['nds'])} over {content['frames']} frames"
    point = content["operating_point"]
    table = _grid(
        ("class", "labels", "AP", "precision", "recall"),
        title,
        f"precision and recall at score {point['threshold']:g}, {point['distance_m']:g} m",
    )
    for name in content["classes"]:
        at = point["classes"].get(name, {})
        shares = (_text(at.get(key)) for key in ("precision", "recall"))
        table.add_row(name, str(content["truths"][name]), _text(content["ap"][name]), *shares)
    table.add_section()
    table.add_row(
        "all", str(point["labels"]), _text(content["mean_ap"]), _text(point["precision"]), _text(point["recall"])
    )
    for name, value in content["tp_errors"].items():
        table.add_row(name, "", _text(value), "", "")
    return table


def _groups(content: Mapping[str, Any]) -> Table:
    table = _grid(
        ("group", "labels", "AP at 2 m", "precision", "recall", "false alarms"),
        "with at least 10 points, vehicles within 40 m, others within 30 m",
    )
    for name, row in content["groups"].items():
        table.add_row(name, *_group_cells(row))
    if 1 < len(content["kinds"]) <= _MANY_KINDS:
        for kind, figures in content["kinds"].items():
            table.add_section()
            for name in ("vehicles", "vulnerable"):
                table.add_row(f"{name}, {kind}", *_group_cells(figures["groups"][name]))
    return table


def _group_cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    shares = (_text(row[key]) for key in ("ap", "precision", "recall"))
    return str(row["labels"]), *shares, str(row["false_alarms"])


def _kinds(content: Mapping[str, Any]) -> Table:
    table = _grid(("frames of", "frames", "mAP", "NDS"), "by kind of place or source")
    held_out = content.get("held_out_family", {}).get("family")
    for kind, row in content["kinds"].items():
        name = f"{kind} (never trained on)" if kind == held_out else kind
        table.add_row(name, str(row["frames"]), _text(row["mean_ap"]), _text(row["nds"]))
    return table


def _subsets(rows: Sequence[Mapping[str, Any]]) -> Table:
    table = _grid(("sensors", "labels", "mAP", "NDS", "of all sensors'", ""), "the same weights, fewer sensors")
    for row in rows:
        figures = (_text(row[key]) for key in ("mean_ap", "nds", "share_of_mean_ap", "share_of_nds"))
        table.add_row(row["sensors"], row["labels"], *figures)
    return table


def _robustness(content: Mapping[str, Any]) -> Table:
    columns = ("corruption", "NDS kept, mild", "plain", "severe")
    table = _grid(columns, f"share of the clean NDS ({_text(content['clean']['nds'])}) that is kept")
    by_name: dict[str, list[str]] = {}
    for row in content["rows"]:
        by_name.setdefault(row["corruption"], []).append(_text(row["nds_kept"]))
    for name, shares in by_name.items():
        table.add_row(name, *shares)
    return table


def _latency(content: Mapping[str, Any]) -> Table:
    table = _grid(("stage", "p50 ms", "p95 ms", "p99 ms"), f"peak memory {content['peak_memory_mib']:.0f} MiB")
    for stage, p in content["latency_ms"].items():
        table.add_row(stage, *(f"{p[key]:.1f}" for key in ("p50", "p95", "p99")))
    return table


def _grid(columns: Sequence[str], title: str, caption: str | None = None) -> Table:
    from rich.table import Table

    grid = Table(*columns, title=title, caption=caption)
    for column in grid.columns[1:]:
        column.justify = "right"
    return grid


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
