"""What the outputs of 2D detectors say, as rectangles in the image.

Queries without NMS, in the three ways of the DETR line: logits for a sigmoid, of which the best pairs of query and
class count (Deformable DETR, RT-DETR, D-FINE, RF-DETR); logits for a softmax whose last one stands for nothing (DETR);
or boxes that the network has decoded itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from karp_perception.core.image_boxes import ImageBoxes, overlaps
from karp_perception.detection.image_detectors.layout import Layout

_SAME = 0.85  # of their union shared: two rectangles around one object
_LEAST_PX = 2.0  # a smaller rectangle is nothing that could be placed


@dataclass(frozen=True)
class Candidates:
    """N candidates of one image, best first.

    Attributes:
        corners: (N, 4) left, top, right, bottom as shares of the input's width and height.
        number: (N,) of the class, as the file counts. score: (N,).
    """

    corners: np.ndarray
    number: np.ndarray
    score: np.ndarray


def candidates(outputs: Mapping[str, np.ndarray], row: int, layout: Layout) -> Candidates:
    """All candidates of the image in a row of the batch; what is not finite is left out."""
    arrays = [outputs[name][row] for name in layout.outputs]
    if len(arrays) == 3:
        labels, boxes, score = arrays
        number, score = labels.astype(np.int64), score.astype(np.float64)
        query = np.argsort(-score, kind="stable")
        number, score = number[query], score[query]
    else:
        boxes, logits = (arrays[0][:, :4], arrays[0][:, 4:]) if len(arrays) == 1 else (arrays[1], arrays[0])
        query, number, score = _best(logits.astype(np.float64), layout.activation)
    corners = _corners(boxes.astype(np.float64)[query], layout)
    right = np.isfinite(corners).all(axis=1) & np.isfinite(score)
    return Candidates(corners[right], number[right], np.clip(score[right], 0.0, 1.0))


def image_boxes(
    found: Candidates, filled: np.ndarray, size: tuple[int, int], layout: Layout, threshold: float
) -> ImageBoxes:
    """Candidates of our classes, with at least a score, in pixels of the image and within it.

    Of several around one and the same object the best one stays: an answer for each class of a query, or queries that
    agree.

    Args:
        found: of one image.
        filled: (2,) shares of the input's width and height that the image fills.
        size: width and height of the image, px.
    """
    known = (found.number >= 0) & (found.number < len(layout.classes))
    label = np.where(known, layout.classes[np.where(known, found.number, 0)], -1)
    width, height = size
    # Shares run from edge to edge; in our pixels the first one's middle is 0.
    corners = found.corners / np.tile(filled, 2) * (width, height, width, height) - 0.5
    corners = np.clip(corners, -0.5, (width - 0.5, height - 0.5) * 2)
    wide = (corners[:, 2:] - corners[:, :2] >= _LEAST_PX).all(axis=1)
    rows = np.flatnonzero((label >= 0) & (found.score >= threshold) & wide)
    return one_an_object(ImageBoxes(corners[rows], label[rows], found.score[rows]))


def one_an_object(boxes: ImageBoxes) -> ImageBoxes:
    """Of rectangles (best first) that nearly coincide, the best one."""
    shared, own, _ = overlaps(boxes.corners, boxes.corners)
    union = own[:, None] + own[None, :] - shared
    same = shared > _SAME * union
    keep = np.ones(len(boxes), bool)
    for row in range(len(boxes)):
        keep[row] = not (same[row, :row] & keep[:row]).any()
    return boxes[keep]


def _best(logits: np.ndarray, activation: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Query, class and score of the candidates that logits (Q, C) name, best first, at most Q."""
    if activation == "softmax":
        shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
        share = (shifted / shifted.sum(axis=1, keepdims=True))[:, :-1]
        number = share.argmax(axis=1)
        score = share[np.arange(len(share)), number]
        query = np.argsort(-score, kind="stable")
        return query, number[query], score[query]
    flat = logits.reshape(-1)
    flat = np.where(np.isnan(flat), -np.inf, flat)
    order = np.argsort(-flat, kind="stable")[: len(logits)]
    score = flat[order] if activation == "none" else 1.0 / (1.0 + np.exp(-np.clip(flat[order], -500, 500)))
    return order // logits.shape[1], order % logits.shape[1], score


def _corners(boxes: np.ndarray, layout: Layout) -> np.ndarray:
    """(N, 4) corners as shares of the input."""
    boxes = boxes * (layout.box_scale * 2)
    if layout.box_format == "xyxy":
        return boxes
    half = 0.5 * boxes[:, 2:]
    return np.concatenate([boxes[:, :2] - half, boxes[:, :2] + half], axis=1)
