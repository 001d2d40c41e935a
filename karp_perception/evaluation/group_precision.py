"""Average precision over groups of classes at 2 m, as labelled recordings are judged: over all frames and for each.

Hits and false alarms are those of `frame_score`: labels with at least 10 lidar points, vehicles within 40 m, people and
two-wheelers within 30 m, in the view of the camera where labels end there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from karp_perception.core import ObjectClass
from karp_perception.core.classes import TWO_WHEELERS
from karp_perception.evaluation.detection import AS_IT_IS, DetectedFrame
from karp_perception.evaluation.frame_score import GROUPS, Group, Matches, hit_figures, match_group
from karp_perception.evaluation.metric_breakdown import ranked_average_precision

MEASURED: Mapping[str, Group] = {
    **GROUPS,
    "vulnerable": Group(TWO_WHEELERS | {int(ObjectClass.PEDESTRIAN)}, GROUPS["pedestrians"].max_distance),
}
"""The groups of `frame_score`, and people and two-wheelers together."""

THRESHOLDS = tuple(round(0.05 * k, 2) for k in range(1, 19))
"""Scores to choose a threshold among."""


FrameMatches = Mapping[str, Matches]
"""What became of a frame's detections, by group."""


def group_matches(frames: Sequence[DetectedFrame], variant: str = AS_IT_IS) -> list[FrameMatches]:
    """Detections matched with labels, frame by frame: what the other functions take."""
    return [
        {name: match_group(frame.frame, frame.detections[variant], group) for name, group in MEASURED.items()}
        for frame in frames
    ]


def group_precision(matches: Sequence[FrameMatches], threshold: float) -> dict[str, dict[str, Any]]:
    """By group: `labels`, `ap` (the nuScenes way), `area` (all that lies under the curve), and at a score threshold
    `hits`, `false_alarms`, `recall`, `precision` and median `center_error_m`. None where nothing is there to tell.
    """
    return {name: _row([frame[name] for frame in matches], threshold) for name in MEASURED}


def by_frame(
    frames: Sequence[DetectedFrame], matches: Sequence[FrameMatches], threshold: float
) -> list[dict[str, Any]]:
    """`frame`, `kind` and `group_precision` of each frame."""
    return [
        {"frame": frame.name, "kind": frame.kind, **group_precision([mine], threshold)}
        for frame, mine in zip(frames, matches, strict=True)
    ]


def by_threshold(matches: Sequence[FrameMatches], thresholds: Sequence[float] = THRESHOLDS) -> list[dict[str, Any]]:
    """What each of several score thresholds would give: `threshold`, and by group `precision` and `recall`."""
    rows = []
    for threshold in thresholds:
        found = group_precision(matches, threshold)
        shares = {name: {key: row[key] for key in ("precision", "recall")} for name, row in found.items()}
        rows.append({"threshold": threshold, **shares})
    return rows


def _row(matches: Sequence[Matches], threshold: float) -> dict[str, Any]:
    labels = sum(m.labels for m in matches)
    score, hit, error = (
        np.concatenate([getattr(m, name) for m in matches] or [np.zeros(0)]) for name in ("score", "hit", "error")
    )
    hit = hit.astype(bool)
    shipped = score >= threshold
    return {
        "labels": labels,
        "ap": _known(ranked_average_precision(score, hit, labels)),
        "area": _known(ranked_average_precision(score, hit, labels, 0.0, 0.0)),
        **hit_figures(labels, hit[shipped], error[shipped]),
    }


def _known(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 4)
