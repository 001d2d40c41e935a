"""KITTI's object detection metrics: average precision in 3D, bird's eye and the image, and orientation similarity.

Definitions: Geiger, Lenz, Urtasun, "Are we ready for autonomous driving? The KITTI vision benchmark suite", CVPR 2012,
as the benchmark's `evaluate_object.cpp` computes them, with 40 recall points (Simonelli et al., "Disentangling
monocular 3D object detection", ICCV 2019; the benchmark's own since October 2019) and with the 11 of before.

Peculiarities of the official evaluation that are kept, because numbers are to be comparable:
- Recall points are steps of 1/40 of the truth that is found. With fewer than about 40 objects they are not all
  reached, and even perfect detections score below 1: a set of ten cars at most 9/40.
- A truth takes the overlapping detection with the highest score when thresholds are chosen, and the one with the
  greatest overlap when precision is counted.
- Detections of any class that are lower in the image than the least height may be taken by a truth that is then neither
  found nor missed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from karp_perception.core import InvalidInput
from karp_perception.core.validation import as_array
from karp_perception.evaluation.kitti_matching import Candidates, assign, recall_thresholds
from karp_perception.evaluation.rotated_iou import intersection_area

CLASSES = ("Car", "Pedestrian", "Cyclist")
MIN_OVERLAP: Mapping[str, float] = {"Car": 0.7, "Pedestrian": 0.5, "Cyclist": 0.5}
"""Intersection over union above which a detection is right, in the image, in bird's eye and in 3D."""

_NEIGHBOURS = {"Car": "van", "Pedestrian": "person_sitting"}  # taken for the class by many: neither hit nor miss
_NO_ALPHA = -10.0
_RECALL_POINTS = 41


@dataclass(frozen=True)
class Difficulty:
    """Which truth counts: lower in the image, more hidden or more cut off than this is ignored."""

    name: str
    min_height_px: float
    max_occlusion: int
    max_truncation: float


DIFFICULTIES = (
    Difficulty("easy", 40, 0, 0.15),
    Difficulty("moderate", 25, 1, 0.30),
    Difficulty("hard", 25, 2, 0.50),
)


@dataclass(frozen=True)
class KittiObjects:
    """N objects as in a line each of KITTI's label or result files.

    Attributes:
        type: (N,) str: Car, Pedestrian, Cyclist, Van, Person_sitting, DontCare, ...
        truncated: (N,) 0..1; of detections it is not read.
        occluded: (N,) int 0..3; likewise.
        alpha: (N,) rad, observation angle; -10 where unknown.
        bbox2d: (N, 4) left, top, right, bottom, px; None for detections that have none. Without them no detection is
            ignored for its height in the image.
        size: (N, 3) height, width, length, m.
        location: (N, 3) x, y, z of the middle of the bottom face in camera coordinates, m (y points down); -1000 where
            unknown.
        rotation_y: (N,) rad about the camera's y axis.
        score: (N,); of truth it is not read.
    """

    type: np.ndarray
    truncated: np.ndarray
    occluded: np.ndarray
    alpha: np.ndarray
    bbox2d: np.ndarray | None
    size: np.ndarray
    location: np.ndarray
    rotation_y: np.ndarray
    score: np.ndarray

    def __post_init__(self) -> None:
        n = len(self.type)
        object.__setattr__(self, "type", np.char.lower(np.asarray(self.type, str)))
        shapes: dict[str, tuple[int, ...]] = {"size": (n, 3), "location": (n, 3), "bbox2d": (n, 4)}
        for name in ("truncated", "occluded", "alpha", "bbox2d", "size", "location", "rotation_y", "score"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, as_array(f"KittiObjects.{name}", value, shapes.get(name, (n,))))

    def __len__(self) -> int:
        return len(self.type)


@dataclass(frozen=True)
class KittiFrame:
    """Detections of an image beside its truth."""

    detections: KittiObjects
    truth: KittiObjects

    def __post_init__(self) -> None:
        if self.truth.bbox2d is None:
            raise InvalidInput("KittiFrame.truth", "2D boxes, whose heights decide what counts", "None")


def kitti_metrics(
    frames: Sequence[KittiFrame], min_overlap: Mapping[str, float] = MIN_OVERLAP
) -> dict[str, dict[str, Any]]:
    """AP of any number of images, from 0 to 1.

    Returns:
        By class: `truths` {easy, moderate, hard}: how many count; and by measure (`3d`, `bev`, and where detections
        have 2D boxes `2d`, where they have orientations too `aos`) {`ap40`, `ap11`} of {easy, moderate, hard}. A class
        of which nothing was detected scores 0.
    """
    table = _Table(frames)
    result: dict[str, dict[str, Any]] = {}
    for name in CLASSES:
        limit = min_overlap[name]
        rows: dict[str, Any] = {"truths": {}}
        for difficulty in DIFFICULTIES:
            ignored_truth, ignored_found = table.ignored(name, difficulty)
            rows["truths"][difficulty.name] = int((ignored_truth == 0).sum())
            for measure, overlaps in table.overlaps.items():
                precision, similarity = _curves(table, overlaps, limit, ignored_truth, ignored_found)
                _enter(rows, measure, difficulty.name, precision)
                if measure == "2d" and table.has_alpha:
                    _enter(rows, "aos", difficulty.name, similarity)
        result[name] = rows
    return result


def _enter(rows: dict[str, Any], measure: str, difficulty: str, curve: np.ndarray) -> None:
    """Put the AP of a curve (41,) where it belongs."""
    row = rows.setdefault(measure, {"ap40": {}, "ap11": {}})
    row["ap40"][difficulty] = float(curve[1:].sum() / 40)
    row["ap11"][difficulty] = float(curve[::4].sum() / 11)


@dataclass(frozen=True)
class _Overlaps:
    """Pairs of one measure: (P,) detection, truth and IoU; and (D,) share of a detection that lies on a DontCare."""

    found: np.ndarray
    truth: np.ndarray
    iou: np.ndarray
    on_dont_care: np.ndarray


class _Table:
    """All frames below each other, with the overlaps of all pairs."""

    def __init__(self, frames: Sequence[KittiFrame]) -> None:
        self.found = _joined([frame.detections for frame in frames])
        self.truth = _joined([frame.truth for frame in frames])
        self.frame_of_truth = _frame_numbers([frame.truth for frame in frames])
        frame_of_found = _frame_numbers([frame.detections for frame in frames])
        self.has_boxes = all(frame.detections.bbox2d is not None for frame in frames)
        self.has_alpha = bool((self.found.alpha != _NO_ALPHA).all())
        pairs = _same_frame(frame_of_found, self.frame_of_truth, len(frames))
        bev = _areas(self.found, self.truth, *pairs)
        self.overlaps = {
            "3d": self._overlaps(*pairs, *_volumes(self.found, self.truth, *pairs, bev[0])),
            "bev": self._overlaps(*pairs, *bev),
        }
        if self.has_boxes:
            self.overlaps["2d"] = self._overlaps(*pairs, *_boxes(self.found, self.truth, *pairs))

    def _overlaps(
        self, found: np.ndarray, truth: np.ndarray, shared: np.ndarray, of_found: np.ndarray, of_truth: np.ndarray
    ) -> _Overlaps:
        union = of_found + of_truth - shared
        iou = np.divide(shared, union, out=np.zeros(len(shared)), where=shared > 0)
        covered = np.divide(shared, of_found, out=np.zeros(len(shared)), where=shared > 0)
        on_dont_care = np.zeros(len(self.found))
        of_dont_care = self.truth.type[truth] == "dontcare"
        np.maximum.at(on_dont_care, found[of_dont_care], covered[of_dont_care])
        touching = iou > 0
        return _Overlaps(found[touching], truth[touching], iou[touching], on_dont_care)

    def ignored(self, name: str, difficulty: Difficulty) -> tuple[np.ndarray, np.ndarray]:
        """For each truth and each detection: 0 counts, 1 is neither hit nor miss, -1 has nothing to do with it."""
        truth, found = self.truth, self.found
        assert truth.bbox2d is not None
        of_class = truth.type == name.lower()
        hard = (truth.occluded > difficulty.max_occlusion) | (truth.truncated > difficulty.max_truncation)
        hard |= truth.bbox2d[:, 3] - truth.bbox2d[:, 1] <= difficulty.min_height_px
        neighbour = truth.type == _NEIGHBOURS.get(name, "")
        ignored_truth = np.where(of_class & ~hard, 0, np.where(of_class | neighbour, 1, -1))
        ignored_found = np.where(found.type == name.lower(), 0, -1)
        if self.has_boxes and found.bbox2d is not None:
            height = np.abs(found.bbox2d[:, 1] - found.bbox2d[:, 3])
            ignored_found[height.astype(int) < difficulty.min_height_px] = 1
        return ignored_truth, ignored_found


def _curves(
    table: _Table, overlaps: _Overlaps, limit: float, ignored_truth: np.ndarray, ignored_found: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(41,) precision and (41,) orientation similarity at the recall points, made to fall."""
    precision, similarity = np.zeros(_RECALL_POINTS), np.zeros(_RECALL_POINTS)
    kept = (overlaps.iou > limit) & (ignored_truth[overlaps.truth] >= 0) & (ignored_found[overlaps.found] >= 0)
    pairs = overlaps.found[kept], overlaps.truth[kept], overlaps.iou[kept]
    score = table.found.score
    candidates = Candidates(*pairs, table.frame_of_truth, score, ignored_truth, ignored_found)
    first = assign(candidates, None)
    hits = first.truth[0] >= 0
    thresholds = recall_thresholds(score[hits], int((ignored_truth == 0).sum()), _RECALL_POINTS)
    if len(thresholds) == 0:
        return precision, similarity
    at = assign(candidates, thresholds)
    alarms = (ignored_found == 0) & (score >= thresholds[:, None]) & ~at.taken & ~(overlaps.on_dont_care > limit)
    hit = at.truth >= 0
    true, false = hit.sum(axis=1), alarms.sum(axis=1)
    row, detection = np.nonzero(hit)
    turn = table.truth.alpha[at.truth[row, detection]] - table.found.alpha[detection]
    alike = np.bincount(row, 0.5 * (1.0 + np.cos(turn)), minlength=len(thresholds))
    # Where all detections above a threshold were taken by what is ignored there is neither: 0 of 0 counts as 0.
    counted = np.maximum(true + false, 1)
    precision[: len(thresholds)], similarity[: len(thresholds)] = true / counted, alike / counted
    return np.maximum.accumulate(precision[::-1])[::-1], np.maximum.accumulate(similarity[::-1])[::-1]


def _areas(
    found: KittiObjects, truth: KittiObjects, i: np.ndarray, k: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(P,) m² on the ground that pairs share, and (P,) that each of them has."""
    a, b = _ground(found)[i], _ground(truth)[k]
    return intersection_area(a, b), np.abs(a[:, 2] * a[:, 3]), np.abs(b[:, 2] * b[:, 3])


def _volumes(
    found: KittiObjects, truth: KittiObjects, i: np.ndarray, k: np.ndarray, ground: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same in 3D, m³, from the areas that pairs share on the ground."""
    bottom = np.minimum(found.location[i, 1], truth.location[k, 1])  # y points down
    top = np.maximum(found.location[i, 1] - found.size[i, 0], truth.location[k, 1] - truth.size[k, 0])
    return ground * np.maximum(bottom - top, 0.0), found.size[i].prod(axis=1), truth.size[k].prod(axis=1)


def _boxes(
    found: KittiObjects, truth: KittiObjects, i: np.ndarray, k: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same in the image, px²."""
    assert found.bbox2d is not None
    assert truth.bbox2d is not None
    a, b = found.bbox2d[i], truth.bbox2d[k]
    extent = np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2])
    shared = np.where((extent > 0).all(axis=1), extent.prod(axis=1), 0.0)
    return shared, (a[:, 2:] - a[:, :2]).prod(axis=1), (b[:, 2:] - b[:, :2]).prod(axis=1)


def _ground(objects: KittiObjects) -> np.ndarray:
    """(N, 5) x, z, length, width and heading in the camera's ground plane: rotation_y turns from x away from z."""
    x, z = objects.location[:, 0], objects.location[:, 2]
    return np.stack([x, z, objects.size[:, 2], objects.size[:, 1], -objects.rotation_y], axis=1)


def _joined(parts: Sequence[KittiObjects]) -> KittiObjects:
    def column(name: str, width: tuple[int, ...] = ()) -> np.ndarray:
        values = [getattr(part, name) for part in parts]
        return np.concatenate([np.zeros((0, *width), "U1" if name == "type" else float), *values])

    with_boxes = all(part.bbox2d is not None for part in parts)
    plain = ("truncated", "occluded", "alpha", "rotation_y", "score")
    columns = {name: column(name) for name in plain}
    columns |= {name: column(name, (3,)) for name in ("size", "location")}
    return KittiObjects(type=column("type"), bbox2d=column("bbox2d", (4,)) if with_boxes else None, **columns)


def _frame_numbers(parts: Sequence[KittiObjects]) -> np.ndarray:
    return np.repeat(np.arange(len(parts)), [len(part) for part in parts]).astype(int)


def _same_frame(a: np.ndarray, b: np.ndarray, frames: int) -> tuple[np.ndarray, np.ndarray]:
    """All pairs of rows of a and rows of b (rising frame numbers) that belong to one frame."""
    number = np.bincount(b, minlength=frames)
    first = np.cumsum(number) - number
    partners = number[a]
    row = np.repeat(np.arange(len(a)), partners)
    within = np.arange(len(row)) - np.repeat(np.cumsum(partners) - partners, partners)
    return row, first[a[row]] + within
