"""What an evaluation of a detector says, as tables for a console."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

_MANY_KINDS, _MANY_FRAMES = 4, 12  # beyond it their groups are in the JSON only


def report_tables(content: Mapping[str, Any]) -> list[Table]:
    """The figures for a console: classes, kinds, groups, and what else was measured."""
    tables = [_classes(content), _groups(content)]
    if len(content["kinds"]) > 1:
        tables.append(_kinds(content))
    if 1 < len(content.get("by_frame", ())) <= _MANY_FRAMES:
        tables.append(_by_frame(content["by_frame"]))
    if content.get("kitti"):
        tables.append(_kitti(content["kitti"]))
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
    table.add_row("calibration error", "", _text(content["calibration"]["error"]), "", "")
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


def _by_frame(rows: Sequence[Mapping[str, Any]]) -> Table:
    table = _grid(("frame", "labels", "AP at 2 m", "precision", "recall", "false alarms"), "groups, frame by frame")
    for row in rows:
        for name in ("vehicles", "vulnerable"):
            if row[name]["labels"] or row[name]["false_alarms"]:
                table.add_row(f"{row['frame']}, {name}", *_group_cells(row[name]))
    return table


def _kinds(content: Mapping[str, Any]) -> Table:
    table = _grid(("frames of", "frames", "mAP", "NDS"), "by kind of place or source")
    held_out = content.get("held_out_family", {}).get("family")
    for kind, row in content["kinds"].items():
        name = f"{kind} (never trained on)" if kind == held_out else kind
        table.add_row(name, str(row["frames"]), _text(row["mean_ap"]), _text(row["nds"]))
    return table


def _kitti(content: Mapping[str, Any]) -> Table:
    table = _grid(("KITTI AP40", "easy", "moderate", "hard"), "IoU 0.7 for cars, 0.5 for others")
    for name, row in content.items():
        for measure in (key for key in ("3d", "bev", "2d") if key in row):
            table.add_row(
                f"{name}, {measure}", *(_text(row[measure]["ap40"][key]) for key in ("easy", "moderate", "hard"))
            )
    return table


def _subsets(rows: Sequence[Mapping[str, Any]]) -> Table:
    table = _grid(("sensors", "labels", "mAP", "NDS", "of all sensors'", ""), "the same weights, fewer sensors")
    for row in rows:
        figures = (_text(row[key]) for key in ("mean_ap", "nds", "share_of_mean_ap", "share_of_nds"))
        table.add_row(row["sensors"], row["labels"], *figures)
    return table


def _robustness(content: Mapping[str, Any]) -> Table:
    columns = ("corruption", "NDS kept, mild", "plain", "severe", "in view: mild", "plain", "severe")
    table = _grid(columns, f"share of the clean NDS ({_text(content['clean']['nds'])}) that is kept")
    by_name: dict[str, list[Mapping[str, Any]]] = {}
    for row in content["rows"]:
        by_name.setdefault(row["corruption"], []).append(row)
    for name, rows in by_name.items():
        cells = []
        for parts in (rows, [row.get("in_view", {}) for row in rows]):
            shares = [_text(part.get("nds_kept")) for part in parts]
            cells += shares + [""] * (3 - len(shares))
        table.add_row(name, *cells)
    return table


def _latency(content: Mapping[str, Any]) -> Table:
    table = _grid(("stage", "p50 ms", "p95 ms", "p99 ms"), f"peak memory {content['peak_memory_mib']:.0f} MiB")
    for stage, p in content["latency_ms"].items():
        table.add_row(stage, *(f"{p[key]:.1f}" for key in ("p50", "p95", "p99")))
    return table


def _grid(columns: Sequence[str], title: str, caption: str | None = None) -> Table:
    from rich.table import Table

    grid = Table(*columns, title=title, caption=caption)
    grid.columns[0].no_wrap = True
    for column in grid.columns[1:]:
        column.justify = "right"
    return grid


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
