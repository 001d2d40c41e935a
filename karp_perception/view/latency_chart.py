"""A picture of a latency measurement: stages of every engine as bars, and how many frames are missed at which rate.

Drawn from what `karp bench` writes, so that it can be drawn again from the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from karp_perception.core import ObjectClass
from karp_perception.view.palette import CLASS_COLORS, FAINT, MUTED, TEXT
from karp_perception.view.plot import Plot, canvas, legend, widest

_WIDTH, _ROW, _GAP, _TOP, _BELOW = 960, 34, 10, 90, 90  # px
_LEGEND = 170  # px right of the axes
_COLORS = (
    ObjectClass.MOTORCYCLE,
    ObjectClass.BICYCLE,
    ObjectClass.PEDESTRIAN,
    ObjectClass.CAR,
    ObjectClass.TRAFFIC_CONE,
    ObjectClass.BUS,
)
_TICKS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)  # ms between lines
_MOST_TICKS = 8
_NO_STAGES = ("total", "cpu", "network_cpu")


def write_latency_chart(content: Mapping[str, Any], file: Path) -> None:
    """Draw a measurement as a PNG."""
    cv2.imwrite(str(file), cv2.cvtColor(latency_chart(content), cv2.COLOR_RGB2BGR))


def latency_chart(content: Mapping[str, Any]) -> np.ndarray:
    """(H, W, 3) uint8 RGB: medians of the stages, one bar an engine, with p99 of the whole as a mark."""
    rows = [row for row in content["engines"] if "stages_ms" in row]
    stages = list(dict.fromkeys(s for row in rows for s in row["stages_ms"] if s not in _NO_STAGES))
    colors = {stage: CLASS_COLORS[_COLORS[number % len(_COLORS)]] for number, stage in enumerate(stages)}
    colors["other"] = FAINT
    names = [_name(row) for row in rows]
    left, bottom = widest(names) + 28, _TOP + (_ROW + _GAP) * len(rows)
    image = canvas(_WIDTH, bottom + _BELOW)
    longest = 1.12 * max(max(row["stages_ms"]["total"]["p99"], _sum(row, stages)) for row in rows)
    given = content["input"]
    sensors = f"cameras: {given['cameras']}, points: {max(given['points'])}"
    title = f"{content['model']['name']}, from messages to boxes ({sensors})"
    label = (
        f"ms, medians; the mark: p99.  {content['machine']['cpu']}, {content['options']['threads'] or 'all'} threads"
    )
    box = (left, _TOP, _WIDTH - _LEGEND, bottom)
    plot = Plot(image, box, (0.0, longest), (len(rows), 0.0), title=title, x_label=label)
    step = next((tick for tick in _TICKS if longest / tick <= _MOST_TICKS), _TICKS[-1])
    plot.x_ticks({float(v): str(v) for v in range(0, int(longest) + 1, step)})
    plot.y_ticks({k + 0.5: name for k, name in enumerate(names)}, grid=False, color=MUTED)
    pad = 0.5 * _GAP / (_ROW + _GAP)
    for k, row in enumerate(rows):
        start, ms = 0.0, row["stages_ms"]
        for stage in stages:
            length = ms[stage]["p50"] if stage in ms else 0.0
            plot.bar((start, k + pad), (start + length, k + 1 - pad), colors[stage], 0.9)
            start += length
        p99 = ms["total"]["p99"]
        plot.line(np.full(2, p99), np.array([k + pad, k + 1 - pad]), TEXT, 2)
        plot.text(max(start, p99), k + 0.5, f"{ms['total']['p50']:.1f}", TEXT, "left", (8, 4))
    legend(image, [(stage, colors[stage]) for stage in stages], (_WIDTH - _LEGEND + 24, _TOP + 10))
    return image


def _name(row: Mapping[str, Any]) -> str:
    return f"{row['backend']} {row['precision']}"


def _sum(row: Mapping[str, Any], stages: list[str]) -> float:
    return sum(row["stages_ms"][stage]["p50"] for stage in stages if stage in row["stages_ms"])
