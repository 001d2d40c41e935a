"""The detection metrics of nuScenes: average precision, the five true-positive errors and the detection score (NDS).

Definitions: Caesar et al., "nuScenes: a multimodal dataset for autonomous driving", CVPR 2020, as the detection part of
the devkit computes them with its configuration `detection_cvpr_2019`, to the last digit. Two things differ from a run
of the devkit: attributes follow from class and speed (`attribute_of`), and bicycles in racks are not left out, since
labels here mark no racks. As there, a class without truth counts as one of which nothing was found;
`nuscenes_config.of_present_classes` scores the others alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from karp_perception.core import CLASS_NAMES, Boxes, InvalidInput, ObjectClass
from karp_perception.core.classes import TWO_WHEELERS, VEHICLES
from karp_perception.evaluation.matching import NO_MATCH, match_by_distance, score_order
from karp_perception.evaluation.nuscenes_config import CVPR_2019, NuscenesConfig, counted_tables
from karp_perception.evaluation.recall_curve import RECALL, RecallCurve, recall_curve
from karp_perception.evaluation.scored_frames import ScoredFrame, Table, mean_known, plain

TP_ERRORS = ("trans_err", "scale_err", "orient_err", "vel_err", "attr_err")
"""Of centres (m, along the ground), sizes (1 - IoU when aligned), yaw (rad), velocity (m/s), attributes (share)."""

ATTRIBUTES = (
    "vehicle.moving",
    "vehicle.stopped",
    "vehicle.parked",
    "pedestrian.moving",
    "pedestrian.standing",
    "cycle.with_rider",
    "cycle.without_rider",
)
"""The attributes that `attribute_of` knows, by its numbers."""

MOVING_ABOVE = 0.2
"""m/s over ground: what is faster moves."""

# Errors that mean nothing for a class: cones look the same from everywhere, neither they nor barriers move.
_UNDEFINED: Mapping[str, tuple[str, ...]] = {
    "traffic_cone": ("orient_err", "vel_err", "attr_err"),
    "barrier": ("vel_err", "attr_err"),
}


@dataclass(frozen=True)
class NuscenesResult:
    """The scores of a detector.

    Attributes:
        mean_ap: mAP, over classes and distances.
        nds: nuScenes detection score.
        ap: by class, mean over the distances.
        ap_by_distance_threshold: by class, then by distance (m).
        tp_errors: by TP_ERRORS, mean over the classes for which it is defined.
        class_tp_errors: by class, then by TP_ERRORS; NaN where it is not defined.
        curves: by class, then by distance; errors with those of `tp_distance`.
        truths: by class, how many there were to find.
        detections: by class, how many lay in range.
        config: what they were scored with.
    """

    mean_ap: float
    nds: float
    ap: dict[str, float]
    ap_by_distance_threshold: dict[str, dict[float, float]]
    tp_errors: dict[str, float]
    class_tp_errors: dict[str, dict[str, float]]
    curves: dict[str, dict[float, RecallCurve]] = field(repr=False)
    truths: dict[str, int]
    detections: dict[str, int]
    config: NuscenesConfig = field(default=CVPR_2019, repr=False)

    def to_json(self, curves: bool = True) -> dict[str, Any]:
        """The same in dicts, lists and plain floats, None for NaN; curves rounded, and only if asked for."""
        content: dict[str, Any] = {
            "mean_ap": self.mean_ap,
            "nds": self.nds,
            "ap": self.ap,
            "tp_errors": self.tp_errors,
            "ap_by_distance_threshold": self.ap_by_distance_threshold,
            "class_tp_errors": self.class_tp_errors,
            "truths": self.truths,
            "detections": self.detections,
        }
        if curves:
            content["curves"] = {
                name: {distance: _curve_record(curve) for distance, curve in by_distance.items()}
                for name, by_distance in self.curves.items()
            }
            content["recall"] = RECALL.round(2)
        return plain(content)


def nuscenes_metrics(frames: Sequence[ScoredFrame], config: NuscenesConfig = CVPR_2019) -> NuscenesResult:
    """Score detections of any number of frames. Raises InvalidInput for a frame with more than `config.max_boxes`."""
    for k, frame in enumerate(frames):
        if len(frame.detections) > config.max_boxes:
            got = f"{len(frame.detections)} in frame {k}"
            raise InvalidInput("ScoredFrame.detections", f"at most {config.max_boxes}", got, "keep the best scores")
    detections, truth, _ = counted_tables(frames, config)
    curves: dict[str, dict[float, RecallCurve]] = {}
    class_errors: dict[str, dict[str, float]] = {}
    truths, found = {}, {}
    for name in config.class_range:
        label = CLASS_NAMES.index(name)
        mine, there = detections[detections.boxes.label == label], truth[truth.boxes.label == label]
        truths[name], found[name] = len(there), len(mine)
        curves[name] = _curves(mine, there, label, config)
        at_tp, undefined = curves[name][config.tp_distance], _UNDEFINED.get(name, ())
        class_errors[name] = {
            error: np.nan if error in undefined else at_tp.mean_error(error, config.min_recall) for error in TP_ERRORS
        }
    by_threshold = {
        name: {d: c.average_precision(config.min_recall, config.min_precision) for d, c in by_distance.items()}
        for name, by_distance in curves.items()
    }
    ap = {name: float(np.mean(list(values.values()))) for name, values in by_threshold.items()}
    mean_ap = float(np.mean(list(ap.values())))
    errors = {error: mean_known([class_errors[name][error] for name in class_errors]) for error in TP_ERRORS}
    # An error that is defined for none of the classes scores nothing.
    scores = [0.0 if np.isnan(e) else max(0.0, 1.0 - e) for e in errors.values()]
    nds = (config.mean_ap_weight * mean_ap + sum(scores)) / (config.mean_ap_weight + len(scores))
    return NuscenesResult(mean_ap, float(nds), ap, by_threshold, errors, class_errors, curves, truths, found, config)


def attribute_of(boxes: Boxes) -> np.ndarray:
    """(N,) indices into ATTRIBUTES, -1 where velocity is unknown or the class has no attributes.

    A rule, for detections and truth alike, because Boxes carry no attributes: what is faster than MOVING_ABOVE is a
    moving vehicle, a moving pedestrian or a cycle with a rider; the rest is a parked vehicle (a bus: stopped), a
    standing pedestrian or a cycle without a rider. So the attribute error says how often it was seen whether something
    moves.
    """
    with np.errstate(invalid="ignore"):
        moving = np.hypot(boxes.velocity[:, 0], boxes.velocity[:, 1]) > MOVING_ABOVE
    attribute = np.full(len(boxes), -1)
    for labels, fast, slow in (
        (VEHICLES, "vehicle.moving", "vehicle.parked"),
        ({int(ObjectClass.BUS)}, "vehicle.moving", "vehicle.stopped"),
        ({int(ObjectClass.PEDESTRIAN)}, "pedestrian.moving", "pedestrian.standing"),
        (TWO_WHEELERS, "cycle.with_rider", "cycle.without_rider"),
    ):
        of_these = np.isin(boxes.label, list(labels))
        attribute[of_these] = np.where(moving[of_these], ATTRIBUTES.index(fast), ATTRIBUTES.index(slow))
    attribute[np.isnan(boxes.velocity).any(axis=1)] = -1
    return attribute


def true_positive_errors(found: Boxes, truth: Boxes, period: float = 2 * np.pi) -> dict[str, np.ndarray]:
    """By TP_ERRORS: (N,) error of each of N boxes found against the truth in the same row.

    `period` is the angle (rad) after which a class looks the same. Velocity errors are NaN where one is unknown,
    attribute errors where the truth has none.
    """
    overlap = np.minimum(found.size, truth.size).prod(axis=1)
    union = found.size.prod(axis=1) + truth.size.prod(axis=1) - overlap
    turn = (truth.yaw - found.yaw + period / 2) % period - period / 2
    turn = np.where(turn > np.pi, turn - 2 * np.pi, turn)
    attribute = attribute_of(truth)
    wrong = (attribute != attribute_of(found)).astype(float)
    return {
        "trans_err": np.sqrt(((found.center - truth.center)[:, :2] ** 2).sum(axis=1)),
        "scale_err": 1.0 - overlap / union,
        "orient_err": np.abs(turn),
        "vel_err": np.sqrt(((found.velocity - truth.velocity) ** 2).sum(axis=1)),
        "attr_err": np.where(attribute < 0, np.nan, wrong),
    }


def _curves(detections: Table, truth: Table, label: int, config: NuscenesConfig) -> dict[float, RecallCurve]:
    """The curves of one class by distance."""
    score = detections.boxes.score
    matched = match_by_distance(detections.xy, detections.frame, score, truth.xy, truth.frame, config.distances)
    order = score_order(score)
    period = np.pi if label == ObjectClass.BARRIER else 2 * np.pi
    curves = {}
    for distance, taken in zip(config.distances, matched, strict=True):
        errors = {name: np.full(len(detections), np.nan) for name in TP_ERRORS}
        if distance == config.tp_distance:
            hit = np.flatnonzero(taken != NO_MATCH)
            for name, values in true_positive_errors(detections.boxes[hit], truth.boxes[taken[hit]], period).items():
                errors[name][hit] = values
        else:
            errors = {}
        in_order = {name: values[order] for name, values in errors.items()}
        curves[distance] = recall_curve(score[order], taken[order] != NO_MATCH, len(truth), in_order)
    return curves


def _curve_record(curve: RecallCurve) -> dict[str, Any]:
    return {"precision": curve.precision.round(6), "confidence": curve.confidence.round(6)}
