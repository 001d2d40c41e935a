"""Riders: COCO tells of a person and of a bicycle, the ten classes of one two-wheeler with its rider."""

from __future__ import annotations

import numpy as np

from karp_perception.core.classes import TWO_WHEELERS, ObjectClass
from karp_perception.core.image_boxes import ImageBoxes

_BESIDE = 0.6  # of a rider's width, above the two-wheeler
_ASTRIDE = 0.25  # of the two-wheeler's height, that the rider reaches down at least
_BELOW = 0.05  # of it, that feet may be lower than wheels


def with_riders(boxes: ImageBoxes) -> ImageBoxes:
    """The same of one image, with each person who sits on a two-wheeler taken into its rectangle."""
    corners, keep = boxes.corners.copy(), np.ones(len(boxes), bool)
    people = np.flatnonzero(boxes.label == ObjectClass.PEDESTRIAN)
    for machine in np.flatnonzero(np.isin(boxes.label, list(TWO_WHEELERS))):
        left, top, right, bottom = boxes.corners[machine]
        free = people[keep[people]]
        x0, y0, x1, y1 = boxes.corners[free].T
        beside = np.minimum(x1, right) - np.maximum(x0, left) >= _BESIDE * (x1 - x0)
        height = bottom - top
        astride = (y0 < top) & (y1 >= top + _ASTRIDE * height) & (y1 <= bottom + _BELOW * height)
        riders = free[beside & astride]
        if len(riders):
            off = np.abs(boxes.corners[riders][:, [0, 2]].mean(axis=1) - 0.5 * (left + right))
            rider = riders[np.argmin(off)]
            corners[machine, :2] = np.minimum(corners[machine, :2], boxes.corners[rider, :2])
            corners[machine, 2:] = np.maximum(corners[machine, 2:], boxes.corners[rider, 2:])
            keep[rider] = False
    return ImageBoxes(corners[keep], boxes.label[keep], boxes.score[keep])
