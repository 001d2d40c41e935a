"""Precision and recall of what is let through at one score threshold, class by class: what a user of the boxes gets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from karp_perception.core import CLASS_NAMES
from karp_perception.evaluation.matching import NO_MATCH, match_by_distance
from karp_perception.evaluation.nuscenes_config import CVPR_2019, NuscenesConfig, counted_tables
from karp_perception.evaluation.scored_frames import ScoredFrame, Table


def operating_point(
    frames: Sequence[ScoredFrame], threshold: float, config: NuscenesConfig = CVPR_2019
) -> dict[str, Any]:
    """Hits at `config.tp_distance`, within the class ranges.

    Returns `threshold`, `distance_m`, `false_alarms_per_frame`, and `labels`, `found`, `hits`, `false_alarms`,
    `precision`, `recall` and `f1` of all classes together (matched class by class) and under `classes` of each that
    occurs. Shares are None where there is nothing to have a share of.
    """
    detections, truth, _ = counted_tables(frames, config)
    detections = detections[detections.boxes.score >= threshold]
    classes = {}
    for name in config.class_range:
        label = CLASS_NAMES.index(name)
        mine, there = (table[table.boxes.label == label] for table in (detections, truth))
        if len(mine) or len(there):
            classes[name] = _row(len(there), _hits(mine, there, config.tp_distance), len(mine))
    labels, hits, found = (sum(row[key] for row in classes.values()) for key in ("labels", "hits", "found"))
    whole = _row(labels, hits, found)
    return {
        "threshold": threshold,
        "distance_m": config.tp_distance,
        "false_alarms_per_frame": round(whole["false_alarms"] / len(frames), 3) if frames else None,
        **whole,
        "classes": classes,
    }


def _hits(detections: Table, truth: Table, distance: float) -> int:
    score = detections.boxes.score
    matched = match_by_distance(detections.xy, detections.frame, score, truth.xy, truth.frame, (distance,))
    return int(np.count_nonzero(matched[0] != NO_MATCH))


def _row(labels: int, hits: int, found: int) -> dict[str, Any]:
    return {
        "labels": labels,
        "found": found,
        "hits": hits,
        "false_alarms": found - hits,
        "precision": round(hits / found, 4) if found else None,
        "recall": round(hits / labels, 4) if labels else None,
        "f1": round(2 * hits / (labels + found), 4) if labels + found else None,
    }
