"""What an evaluation of a detector says, as one dict for JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from karp_perception.core import Boxes
from karp_perception.detection.model.config import ModelConfig
from karp_perception.evaluation.detection import DetectedFrame, scored_frames
from karp_perception.evaluation.group_precision import (
    FrameMatches,
    by_frame,
    by_threshold,
    group_matches,
    group_precision,
)
from karp_perception.evaluation.metric_breakdown import by_distance, by_points
from karp_perception.evaluation.nuscenes_config import CVPR_2019, NuscenesConfig, of_present_classes
from karp_perception.evaluation.nuscenes_metrics import NuscenesResult, nuscenes_metrics
from karp_perception.evaluation.operating_point import operating_point
from karp_perception.evaluation.score_calibration import (
    expected_calibration_error,
    outcomes,
    reliability,
    variance_calibration,
)
from karp_perception.evaluation.scored_frames import ScoredFrame, plain

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
    `by_points`, `calibration`, `groups` and `by_threshold` (see `group_precision`), `kinds` (figures of each kind of
    frames, with `groups`), `held_out_family` (of the kind `held_out`, and `others` beside it), `within_reach` (on what
    lies in the area that the network looks at) and, for few frames, `by_frame`.
    """
    scored = scored_frames(frames)
    config = CVPR_2019 if every_class else of_present_classes(scored)
    result = nuscenes_metrics(scored, config)
    matches = group_matches(frames)
    official = result if every_class else nuscenes_metrics(scored)
    content: dict[str, Any] = {
        **result.to_json(),
        "classes": list(config.class_range),
        "all_classes": _brief(official),
        "frames": len(frames),
        "operating_point": operating_point(scored, threshold, config),
        "by_distance": by_distance(scored, config=config).to_json(),
        "by_points": by_points(scored, config=config).to_json(),
        "calibration": _calibration(scored, config, threshold),
        "groups": group_precision(matches, threshold),
        "by_threshold": by_threshold(matches),
        "kinds": _by_kind(frames, matches, threshold),
    }
    if held_out is not None and held_out in content["kinds"]:
        content["held_out_family"] = _held_out(frames, held_out)
    if reach is not None:
        content["within_reach"] = _within_reach(scored, reach)
    if len(frames) <= _MANY_FRAMES:
        content["by_frame"] = by_frame(frames, matches, threshold)
    return content


def _brief(result: NuscenesResult) -> dict[str, Any]:
    return plain({"mean_ap": result.mean_ap, "nds": result.nds})


def _calibration(scored: Sequence[ScoredFrame], config: NuscenesConfig, threshold: float) -> dict[str, Any]:
    """How far scores and variances are from what they say.

    `error` (expected calibration error over all detections, in bins of equal width), `equal_count` (in bins of as many
    detections), `shown` (of those at or above the threshold alone), `reliability` (the bins), and `variance` by
    quantity, of matched detections at or above the threshold, where the detector tells variances.
    """
    found = outcomes(scored, config)
    bins, shown = reliability(found.score, found.right), found.score >= threshold
    content: dict[str, Any] = {
        "error": bins.error,
        "equal_count": expected_calibration_error(found.score, found.right, equal_count=True),
        "shown": expected_calibration_error(found.score[shown], found.right[shown]),
        "reliability": bins.to_json(),
    }
    if all(frame.detections.variance is not None or not len(frame.detections) for frame in scored):
        variance = variance_calibration(scored, config, min_score=threshold)
        content["variance"] = {name: row.to_json() for name, row in variance.items()}
    return plain(content)


def _by_kind(
    frames: Sequence[DetectedFrame], matches: Sequence[FrameMatches], threshold: float
) -> dict[str, dict[str, Any]]:
    found = {}
    for kind in dict.fromkeys(frame.kind for frame in frames):
        rows = [k for k, frame in enumerate(frames) if frame.kind == kind]
        scored = scored_frames([frames[k] for k in rows])
        brief = _brief(nuscenes_metrics(scored, of_present_classes(scored)))
        found[kind] = {"frames": len(rows), **brief, "groups": group_precision([matches[k] for k in rows], threshold)}
    return found


def _held_out(frames: Sequence[DetectedFrame], kind: str) -> dict[str, Any]:
    """Figures of a kind of places that no training saw, and of all the others, over the classes that occur in each."""
    inside, others = (
        scored_frames([frame for frame in frames if (frame.kind == kind) is wanted]) for wanted in (True, False)
    )
    result = nuscenes_metrics(inside, of_present_classes(inside)).to_json(curves=False)
    rest = _brief(nuscenes_metrics(others, of_present_classes(others))) if others else None
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
    return {**_brief(nuscenes_metrics(cut, of_present_classes(cut))), **area}
