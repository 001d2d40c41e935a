"""What `karp bench` prints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from karp_perception.bench.timing import CPU

if TYPE_CHECKING:
    from rich.table import Column, Table

_ENGINE_WIDTH = 13
_SHORT = {"deserialise": "read", "preprocess": "prepare"}  # for terminals of 80 columns


def bench_tables(content: Mapping[str, Any]) -> list[Table]:
    """Tables of a measurement: stages, rates, comparisons, and what could not be measured."""
    available = [row for row in content["engines"] if "stages_ms" in row]
    tables = [_stages(content, available), _needs(available), _rates(available), _comparisons(content["comparisons"])]
    missing = [row for row in content["engines"] if "stages_ms" not in row]
    if missing:
        tables.append(_missing(missing))
    return [table for table in tables if table.row_count]


def describe(row: Mapping[str, Any]) -> str:
    """An engine's name, with what auto turned out to be."""
    found = f"{row['backend']} {row['precision']}"
    return f"{found} (auto)" if row["asked"]["precision"] == "auto" else found


def _stages(content: Mapping[str, Any], rows: list[Mapping[str, Any]]) -> Table:
    from rich.table import Column, Table

    given, model = content["input"], content["model"]
    title = f"{model['name']}, {given['cameras']} cameras, {max(given['points'])} points: medians, ms"
    stages = list(dict.fromkeys(stage for row in rows for stage in row["stages_ms"] if stage not in ("total", *CPU)))
    columns = (Column(stage, justify="right") for stage in (*(_SHORT.get(stage, stage) for stage in stages), "total"))
    table = Table(_engine_column(), *columns, title=title)
    for row in rows:
        ms = row["stages_ms"]
        found = [f"{ms[stage]['p50']:.1f}" if stage in ms else "-" for stage in (*stages, "total")]
        table.add_row(describe(row), *found)
    return table


def _needs(rows: list[Mapping[str, Any]]) -> Table:
    from rich.table import Column, Table

    names = ("p50", "p95", "p99", "jitter", "CPU", "MiB", "GPU", "mAP")
    title = "messages to boxes, ms; CPU time; memory of the process and on the GPU, MiB"
    table = Table(_engine_column(), *(Column(name, justify="right") for name in names), title=title)
    for row in rows:
        ms, accuracy = row["stages_ms"], row.get("accuracy")
        found = [f"{ms['total'][key]:.1f}" for key in ("p50", "p95", "p99", "jitter")]
        found += [f"{ms['cpu']['p50']:.1f}", *(_number(row.get(key)) for key in ("peak_rss_mib", "gpu_memory_mib"))]
        found.append(f"{accuracy['mean_ap']:.3f}" if accuracy else "-")
        table.add_row(describe(row), *found)
    return table


def _rates(rows: list[Mapping[str, Any]]) -> Table:
    from rich.table import Column, Table

    names = ("Hz", "frames", "used", "missed", "p50", "p99", "jitter", "W")
    table = Table(_engine_column(), *(Column(name, justify="right") for name in names))
    table.title = "fed in real time: ms from message to boxes"
    for row in rows:
        for run in row.get("paced", ()):
            ms = run["latency_ms"]
            latency = [f"{ms[key]:.1f}" if ms else "-" for key in ("p50", "p99")]
            counts = [str(run[key]) for key in ("received", "used", "missed")]
            rest = [f"{run['interval_jitter_ms']:.1f}", _number(run["power_w"])]
            table.add_row(describe(row), f"{run['rate_hz']:g}", *counts, *latency, *rest)
    return table


def _comparisons(rows: list[Mapping[str, Any]]) -> Table:
    from rich.table import Column, Table

    names = ("network", "its best", "its CPU", "total")
    table = Table("engine", "against", *(Column(name, justify="right") for name in names))
    table.title = "times as fast by medians; network by its least disturbed frame; by CPU time; messages to boxes"
    for row in rows:
        values = (row[key] for key in ("network", "network_least", "network_cpu", "total"))
        table.add_row(row["engine"], row["against"], *("-" if value is None else f"{value:.2f}" for value in values))
    return table


def _missing(rows: list[Mapping[str, Any]]) -> Table:
    from rich.table import Column, Table

    table = Table("engine", Column("why", overflow="fold"), title="not measured here")
    for row in rows:
        table.add_row(row["name"], row["unavailable"])
    return table


def _engine_column() -> Column:
    from rich.table import Column

    return Column("engine", min_width=_ENGINE_WIDTH, overflow="fold")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"
