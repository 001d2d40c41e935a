"""What the network's heads say, as Boxes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from karp_perception.core import Boxes

MAX_POSITION_M = 1000.0
LOG_SIZE = (np.log(0.05), np.log(50.0))  # m: from a cone's tip to the longest lorry, with room
MAX_SPEED = 100.0  # m/s
LOG_VARIANCE = (-12.0, 12.0)
VEHICLE_CLASSES = 5  # the first of all: larger than a token of the canvas
NEVER = -100.0  # logit of a query that is masked: it stands for nothing, whatever the threshold


def decode(outputs: Mapping[str, np.ndarray], score_threshold: float, max_detections: int) -> Boxes:
    """Boxes of one frame, best first; see `decode_rows`."""
    return decode_rows(outputs, score_threshold, max_detections)[0]


def decode_rows(
    outputs: Mapping[str, np.ndarray], score_threshold: float, max_detections: int
) -> tuple[Boxes, np.ndarray]:
    """Boxes of one frame, best first, and the queries that they come from.

    A query's score is its best class's; each query gives one box at most. What two of them say of one vehicle is said
    once, see `said_once`. Numbers that no object
    can have (an untrained or broken network) are brought into a wide range; a query with anything not finite is left
    out, and so is one that is masked. Ties keep the queries' order, so the result depends on the numbers alone.

    Args:
        outputs: by name as in `Prediction`, with a batch of one: logits (1, N, 10), center (1, N, 3) m, log_size
            (1, N, 3), direction (1, N, 2) sine and cosine, velocity (1, N, 2) m/s, log_variance (1, N, 9).
        score_threshold: least score, 0..1.
        max_detections: most boxes.

    Returns:
        M boxes, and (M,) the row of the outputs that each was made of.
    """
    logits = outputs["logits"][0].astype(np.float64)
    finite = np.logical_and.reduce([np.isfinite(values[0]).all(axis=-1) for values in outputs.values()])
    logits = np.where(finite[:, None], logits, NEVER)
    label = logits.argmax(axis=1)
    best = np.clip(logits.max(axis=1), NEVER, -NEVER)
    score = 1.0 / (1.0 + np.exp(-best))
    rows = np.argsort(-score, kind="stable")
    rows = rows[(score[rows] >= score_threshold) & (best[rows] > NEVER)]
    if len(rows) == 0:
        return Boxes.empty(), rows

    def of(name: str) -> np.ndarray:
        return outputs[name][0][rows].astype(np.float64)

    size = np.exp(np.clip(of("log_size"), *LOG_SIZE))
    direction = of("direction")
    variance = np.exp(np.clip(of("log_variance"), *LOG_VARIANCE))
    # The network speaks of log sizes: d(size) = size * d(log size).
    variance[:, 3:6] *= size**2
    boxes = Boxes(
        center=np.clip(of("center"), -MAX_POSITION_M, MAX_POSITION_M),
        size=size,
        yaw=np.arctan2(direction[:, 0], direction[:, 1]),
        velocity=np.clip(of("velocity"), -MAX_SPEED, MAX_SPEED),
        label=label[rows],
        score=score[rows],
        variance=variance,
    )
    once = best_rows(boxes, score_threshold, max_detections)
    return boxes[once], rows[once]


def best_rows(boxes: Boxes, score_threshold: float, max_detections: int, classes: int = VEHICLE_CLASSES) -> np.ndarray:
    """Rows of the boxes that are sure enough, best first, each thing of the first `classes` once; ties keep their
    order."""
    rows = np.argsort(-boxes.score, kind="stable")
    rows = rows[boxes.score[rows] >= score_threshold]
    return rows[np.flatnonzero(said_once(boxes[rows], classes))[:max_detections]]


def said_once(boxes: Boxes, classes: int = VEHICLE_CLASSES) -> np.ndarray:
    """(N,) mask of boxes, best first, without those that stand where a better one of their class stands already.

    That is where two middles are closer than half the narrower one's width: no two things can be. Queries learn to
    leave each other's objects alone, and mostly do.

    Args:
        boxes: best first.
        classes: of which this is asked, the first so many. Of people, whose places the network knows to a few
            decimetres, only boxes that were fitted to points can be told apart in this way.
    """
    thing = boxes.label < classes
    away = np.linalg.norm(boxes.center[:, None, :2] - boxes.center[:, :2], axis=-1)
    narrower = np.minimum(boxes.size[:, None, 1], boxes.size[:, 1])
    same = (away < 0.5 * narrower) & (boxes.label[:, None] == boxes.label) & thing
    kept = np.ones(len(boxes), bool)
    for row in np.flatnonzero(np.tril(same, -1).any(axis=1)):
        kept[row] = not (same[row, :row] & kept[:row]).any()
    return kept
