"""Scoring of what was found in a labelled frame against its labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from karp_perception.core import Boxes, ObjectClass
from karp_perception.core.classes import TWO_WHEELERS, VEHICLES
from karp_perception.evaluation.camera_view import seen_by
from karp_perception.sensing.labelled_frame import LabelledFrame

_MATCH_M = 2.0  # between centres in bird's eye, up to which a detection hits a label


@dataclass(frozen=True)
class Group:
    """Classes that are scored together, within a range."""

    labels: frozenset[int]
    max_distance: float
    min_points: int = 10


GROUPS: Mapping[str, Group] = {
    "vehicles": Group(VEHICLES, 40.0),
    "pedestrians": Group(frozenset({int(ObjectClass.PEDESTRIAN)}), 30.0),
    "two_wheelers": Group(frozenset(TWO_WHEELERS), 30.0),
}


def score_labelled_frame(frame: LabelledFrame, detections: Boxes, obstacles: Boxes) -> dict[str, Any]:
    """How well detections and obstacles fit the labels.

    For each group, over its labels with enough lidar points in range (and in view, where labels cover only that): hits
    are detections of a class of the group within 2 m of a label in bird's eye, each label taken once, best score
    first; other detections in range are false alarms, unless they lie on a label that does not count or on an
    unlabelled object. `obstacles.covered` is the share of all counted labels that touch an obstacle, which has no
    class.
    """
    result: dict[str, Any] = {}
    counted_any = np.zeros(len(frame.labels), bool)
    for name, group in GROUPS.items():
        counted_any |= counted_labels(frame, group)
        matches = match_group(frame, detections, group)
        result[name] = hit_figures(matches.labels, matches.hit, matches.error)
    covered = _covered(frame.labels[counted_any], obstacles)
    share = round(float(covered.mean()), 4) if len(covered) else None
    result["obstacles"] = {"labels": len(covered), "covered": share, "count": len(obstacles)}
    return result


@dataclass(frozen=True)
class Matches:
    """Detections of a group in one frame, best score first, beside the labels that count.

    Attributes:
        labels: number of labels that count.
        score: (D,) of the detections in range, but for those on something that does not count.
        hit: (D,) whether each took a label.
        error: (D,) m between the centres in bird's eye, NaN for false alarms.
    """

    labels: int
    score: np.ndarray
    hit: np.ndarray
    error: np.ndarray


def match_group(frame: LabelledFrame, detections: Boxes, group: Group) -> Matches:
    """Match detections of a group with the labels that count of it, as `score_labelled_frame` says."""
    of_group = list(group.labels)
    found = detections[np.isin(detections.label, of_group)]
    found = found[in_scope(frame, found.center, group.max_distance)]
    return _match(frame, counted_labels(frame, group), found)


def counted_labels(frame: LabelledFrame, group: Group) -> np.ndarray:
    """(N,) mask of the labels of a group that count: in range, in view, with enough points."""
    counted = np.isin(frame.labels.label, list(group.labels)) & (frame.points_inside >= group.min_points)
    return counted & in_scope(frame, frame.labels.center, group.max_distance)


def _match(frame: LabelledFrame, counted: np.ndarray, found: Boxes) -> Matches:
    labels = frame.labels
    free = np.ones(len(labels), bool)
    order = np.argsort(-found.score, kind="stable")
    error, excused = np.full(len(found), np.nan), np.zeros(len(found), bool)
    for row, i in enumerate(order):
        distance = np.linalg.norm(labels.center[:, :2] - found.center[i, :2], axis=1)
        candidates = np.where(counted & free, distance, np.inf)
        best = int(np.argmin(candidates)) if len(candidates) else -1
        if best >= 0 and candidates[best] <= _MATCH_M:
            free[best] = False
            error[row] = distance[best]
        else:
            near = np.linalg.norm(frame.unlabelled[:, :2] - found.center[i, :2], axis=1) <= frame.unlabelled[:, 2]
            excused[row] = (distance[~counted] <= _MATCH_M).any() or near.any()
    kept = ~excused
    return Matches(int(counted.sum()), found.score[order][kept], np.isfinite(error[kept]), error[kept])


def hit_figures(labels: int, hit: np.ndarray, error: np.ndarray) -> dict[str, Any]:
    """What detections, hits or not (D,), with their errors (D,) in m, come to beside so many labels that count.

    Returns `labels`, `hits`, `false_alarms`, `recall`, `precision` and the median `center_error_m`, None where there is
    nothing to tell it of.
    """
    hits, found = int(hit.sum()), len(hit)
    return {
        "labels": labels,
        "hits": hits,
        "false_alarms": found - hits,
        "recall": round(hits / labels, 4) if labels else None,
        "precision": round(hits / found, 4) if found else None,
        "center_error_m": round(float(np.median(error[hit])), 4) if hits else None,
    }


def in_scope(frame: LabelledFrame, centers: np.ndarray, max_distance: float) -> np.ndarray:
    """(N,) mask: within range, and in the view of a camera where labels end there."""
    near = np.linalg.norm(centers[:, :2], axis=1) <= max_distance
    return near & seen_by(frame.sensors.cameras.values(), centers) if frame.sector else near


def _covered(labels: Boxes, obstacles: Boxes) -> np.ndarray:
    """(N,) mask: does the footprint of a label touch that of an obstacle (by OpenCV's rotated rectangles)."""
    covered = np.zeros(len(labels), bool)
    rectangles = [_rectangle(obstacles, j) for j in range(len(obstacles))]
    for i in range(len(labels)):
        reach = 0.5 * np.linalg.norm(labels.size[i, :2]) + 0.5 * np.linalg.norm(obstacles.size[:, :2], axis=1)
        close = np.linalg.norm(obstacles.center[:, :2] - labels.center[i, :2], axis=1) <= reach
        label = _rectangle(labels, i)
        covered[i] = any(cv2.rotatedRectangleIntersection(label, rectangles[j])[0] for j in np.flatnonzero(close))
    return covered


def _rectangle(boxes: Boxes, i: int) -> tuple[tuple[float, float], tuple[float, float], float]:
    x, y = map(float, boxes.center[i, :2])
    length, width = map(float, boxes.size[i, :2])
    return (x, y), (length, width), float(np.degrees(boxes.yaw[i]))
