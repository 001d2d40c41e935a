"""Pictures of an evaluation: precision over recall, calibration, AP by distance and points, robustness, sensors.

All are drawn from what `karp evaluate --json` writes, so that they can be drawn again from the file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from karp_perception.core import CLASS_NAMES
from karp_perception.view.palette import BACKGROUND as BEHIND
from karp_perception.view.palette import CLASS_COLORS, FAINT, GRID, MUTED, TEXT, Color, class_color, mixed
from karp_perception.view.plot import Plot, canvas, legend, widest

_SIZE = (900, 560)
_BOX = (70, 80, 650, 490)  # of the axes, px; right of them is the legend
_LEGEND = (680, 96)
_FIFTHS = {v: f"{v:.1f}" for v in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)}
_MEAN: Color = TEXT
_ROW, _THIN_ROW = 22, 14  # px a bar, and one of several
_STRENGTH_COLORS: tuple[Color, ...] = ((70, 168, 140), (226, 176, 92), (222, 92, 86))  # mild, plain, severe
_BAR: Color = CLASS_COLORS[0]


def write_pictures(content: Mapping[str, Any], folder: Path) -> list[Path]:
    """Every picture that the figures of an evaluation allow, as PNG; returns the files."""
    pictures = {"precision_recall": precision_recall(content)}
    for key, title, unit in (
        ("by_distance", "Average precision by distance", "m from the vehicle"),
        ("by_points", "Average precision by lidar points", "points in an object"),
    ):
        if key in content:
            pictures[f"ap_{key}"] = broken_down(content[key], title, unit)
    if "calibration" in content:
        pictures["reliability"] = reliability(content["calibration"])
    if content.get("robustness", {}).get("rows"):
        pictures["robustness"] = robustness(content["robustness"])
    if content.get("subsets"):
        pictures["sensors"] = sensors(content["subsets"])
    files = []
    for name, image in pictures.items():
        file = folder / f"{name}.png"
        cv2.imwrite(str(file), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        files.append(file)
    return files


def precision_recall(content: Mapping[str, Any], distance_m: float = 2.0) -> np.ndarray:
    """Precision over recall of each class that occurs, at one matching distance; (H, W, 3) uint8 RGB."""
    image = canvas(*_SIZE)
    title = f"Precision over recall at {distance_m:g} m: mAP {content['mean_ap']:.3f}, NDS {content['nds']:.3f}"
    plot = Plot(image, _BOX, (0.0, 1.0), title=title, x_label="recall", y_label="precision")
    plot.x_ticks(_FIFTHS)
    plot.y_ticks(_FIFTHS)
    recall = np.array(content["recall"])
    entries = []
    for name in (name for name in CLASS_NAMES if content["truths"].get(name)):
        curve, color = content["curves"][name][str(distance_m)], class_color(CLASS_NAMES.index(name))
        reached = np.array(curve["confidence"]) > 0
        plot.line(recall, np.where(reached, np.array(curve["precision"], float), np.nan), color)
        entries.append((f"{_spoken(name)}  {content['ap'][name]:.2f}", color))
    point = content.get("operating_point", {})
    for name, row in point.get("classes", {}).items():
        if row["recall"] is not None and row["precision"] is not None:
            plot.dot(row["recall"], row["precision"], class_color(CLASS_NAMES.index(name)), 5)
    legend(image, entries, _LEGEND)
    if point:
        note = (f"dots: at score {point['threshold']:g}", MUTED)
        legend(image, [note], (_LEGEND[0], _LEGEND[1] + 22 * len(entries) + 16))
    return image


def broken_down(table: Mapping[str, Any], title: str, unit: str) -> np.ndarray:
    """AP in bins: a bar for the mean, a line for each class. `table` as `Breakdown.to_json`; (H, W, 3) uint8 RGB."""
    image = canvas(*_SIZE)
    bins = len(table["mean_ap"])
    plot = Plot(image, _BOX, (0.0, bins), title=title, x_label=unit, y_label="AP")
    plot.y_ticks(_FIFTHS)
    counts = np.sum([table["truths"][name] for name in table["truths"]], axis=0)
    edges = table["edges"]
    names = {k + 0.5: _bin_name(edges[k], edges[k + 1]) for k in range(bins)}
    plot.x_ticks(names, grid=False)
    middle = np.arange(bins) + 0.5
    for k, mean in enumerate(table["mean_ap"]):
        if mean is not None:
            plot.bar((k + 0.14, 0.0), (k + 0.86, mean), _MEAN, 0.22)
            plot.text(k + 0.5, 1.0, f"{mean:.2f}", TEXT, shift=(0, -6))
        plot.text(k + 0.5, 0.0, f"{counts[k]}", MUTED, shift=(0, -6))
    entries: list[tuple[str, Color]] = [("mean of classes", mixed(BEHIND, _MEAN, 0.3))]
    for name, values in table["ap"].items():
        ap = np.array([np.nan if value is None else value for value in values])
        if np.isfinite(ap).any():
            color = class_color(CLASS_NAMES.index(name))
            plot.line(middle, ap, color)
            for x, y in zip(middle, ap, strict=True):
                if np.isfinite(y):
                    plot.dot(x, y, color)
            entries.append((_spoken(name), color))
    legend(image, entries, _LEGEND)
    notes = [("above: the mean", MUTED), ("below: labels", MUTED)]
    legend(image, notes, (_LEGEND[0], _LEGEND[1] + 22 * len(entries) + 16))
    return image


def reliability(calibration: Mapping[str, Any]) -> np.ndarray:
    """How often detections are right over the score they had, with the diagonal that a calibrated one follows.

    Below, how many detections each bin of scores holds. `calibration` as in `detection_report`; (H, W, 3) uint8 RGB.
    """
    bins = calibration["reliability"]
    edges, count = np.array(bins["edges"]), np.array(bins["count"])
    image = canvas(_BOX[2] + 40, 690)
    title = f"Calibration of scores: error {calibration['error']:.3f}"
    plot = Plot(image, _BOX, (0.0, 1.0), title=title, y_label="share that is right")
    plot.x_ticks(_FIFTHS)
    plot.y_ticks(_FIFTHS)
    for k in np.flatnonzero(count):
        plot.bar((edges[k], 0.0), (edges[k + 1], bins["right"][k]), _BAR, 0.35)
    plot.line(np.array([0.0, 1.0]), np.array([0.0, 1.0]), FAINT, 2)
    for k in np.flatnonzero(count):
        plot.line(np.full(2, bins["score"][k]), np.array([bins["score"][k], bins["right"][k]]), _STRENGTH_COLORS[2], 2)
        plot.dot(bins["score"][k], bins["right"][k], TEXT)
    low = (_BOX[0], _BOX[3] + 60, _BOX[2], 640)
    top = np.log10(max(10, int(count.max(initial=0))))
    below = Plot(image, low, (0.0, 1.0), (0.0, top), x_label="score", y_label="detections")
    below.y_ticks({e: f"{10**e:g}" for e in range(int(top) + 1)})
    for k in np.flatnonzero(count):
        below.bar((edges[k], 0.0), (edges[k + 1], float(np.log10(count[k]))), _BAR, 0.6)
    return image


def robustness(content: Mapping[str, Any]) -> np.ndarray:
    """Share of the clean NDS that each corruption leaves, three bars each; (H, W, 3) uint8 RGB."""
    by_name: dict[str, list[Mapping[str, Any]]] = {}
    for row in content["rows"]:
        by_name.setdefault(row["corruption"], []).append(row)
    names = [_spoken(name) for name in by_name]
    groups = [[(row["nds_kept"], _strength_color(row["strength"]), None) for row in rows] for rows in by_name.values()]
    title = f"NDS kept under corruption (clean: {content['clean']['nds']:.3f})"
    image = _bars(names, groups, title, "share of the clean NDS", least=3)
    steps = zip(("mild", "plain", "severe"), _STRENGTH_COLORS, strict=True)
    legend(image, list(steps), (image.shape[1] - 96, 96))
    return image


def sensors(rows: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """NDS of every subset of the sensors, and what all sensors reach on the same labels; (H, W, 3) uint8 RGB."""
    names = [f"{row['sensors']}, {row['labels']}" for row in rows]
    groups = [[(row["nds"], _BAR, row["all_sensors"]["nds"])] for row in rows]
    image = _bars(names, groups, "NDS by sensors, the same weights", "NDS; the mark: all sensors on the same labels")
    return image


Bar = tuple[float | None, Color, float | None]
"""Length, colour, and where a mark stands."""


def _bars(names: Sequence[str], groups: Sequence[Sequence[Bar]], title: str, label: str, least: int = 1) -> np.ndarray:
    """Bars to the right in groups with names."""
    per_group = max(least, *(len(group) for group in groups))
    thick = _ROW if per_group == 1 else _THIN_ROW
    pitch = per_group * thick + 12
    left, top = widest(names) + 28, 80
    width = max(_SIZE[0], left + 560)
    bottom = top + pitch * len(groups)
    image = canvas(width, bottom + 70)
    longest = max([1.0, *(v for group in groups for value, _, mark in group for v in (value, mark) if v is not None)])
    plot = Plot(image, (left, top, width - 150, bottom), (0.0, longest), (len(groups), 0.0), title=title, x_label=label)
    plot.x_ticks(_FIFTHS)
    plot.y_ticks({k + 0.5: name for k, name in enumerate(names)}, grid=False, color=MUTED)
    for k, group in enumerate(groups):
        first = 0.5 * (pitch - thick * len(group))  # px from the group's upper end
        for j, (value, color, mark) in enumerate(group):
            y, below = ((k + (first + j * thick + px) / pitch) for px in (0, thick - 2))
            middle = 0.5 * (y + below)
            if value is None:
                plot.text(0.0, middle, "-", FAINT, "left", (8, 4))
                continue
            plot.bar((0.0, y), (value, below), color, 0.85)
            plot.text(max(value, mark or 0.0), middle, f"{value:.2f}", TEXT, "left", (8, 4))
            if mark is not None:
                plot.line(np.full(2, mark), np.array([y - 2 / pitch, below + 2 / pitch]), TEXT, 2)
    plot.line(np.zeros(2), np.array([0.0, len(groups)]), GRID, 2)
    return image


def _strength_color(strength: int | None) -> Color:
    return MUTED if strength is None else _STRENGTH_COLORS[strength - 1]


def _bin_name(low: float | None, high: float | None) -> str:
    if high is None:
        return f"from {low:g}"
    return f"{low:g}-{high:g}"


def _spoken(name: str) -> str:
    return name.replace("_", " ")
