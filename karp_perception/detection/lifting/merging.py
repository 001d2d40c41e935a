"""One box an object, where several cameras, or one camera twice, have told of it."""

from __future__ import annotations

import numpy as np

from karp_perception.core import Boxes
from karp_perception.detection.lifting.size_priors import kind

_SIGMAS = 2.0


def merged(boxes: Boxes, camera: np.ndarray, seen: np.ndarray) -> Boxes:
    """The boxes that stay, best first, with the best score of those they stand for.

    Two boxes of classes that are taken for each other are one object where their centres are closer than two things of
    that size can be, or, from different cameras, closer than their errors. The one of which more was seen stays.

    Args:
        boxes: N, with variances.
        camera: (N,) number of the camera that each is from.
        seen: (N,) how much was seen of each, any scale.
    """
    if boxes.variance is None or len(boxes) < 2:
        return boxes
    distance = np.linalg.norm(boxes.center[:, None, :2] - boxes.center[None, :, :2], axis=-1)
    half = 0.5 * np.minimum(boxes.size[:, 0], boxes.size[:, 1])
    apart = np.maximum(half[:, None], half[None])  # of two that stand side by side
    place = boxes.variance[:, :2].sum(axis=1)
    error = np.where(camera[:, None] != camera[None], _SIGMAS * np.sqrt(place[:, None] + place[None]), 0.0)
    alike = kind(boxes.label)
    length = np.maximum(boxes.size[:, 0][:, None], boxes.size[:, 0][None])
    same = (alike[:, None] == alike[None]) & (distance < np.maximum(apart, np.minimum(error, length)))
    order = np.lexsort((-boxes.score, -seen))
    score, taken, kept = boxes.score.copy(), np.zeros(len(boxes), bool), []
    for i in order.tolist():
        if taken[i]:
            continue
        group = np.flatnonzero(same[i] & ~taken)
        taken[group] = True
        score[i] = score[group].max()
        kept.append(i)
    rows = np.array(kept)
    rows = rows[np.argsort(-score[rows], kind="stable")]
    columns = (boxes.center, boxes.size, boxes.yaw, boxes.velocity, boxes.label, score, boxes.variance)
    return Boxes(*(column[rows] for column in columns))
