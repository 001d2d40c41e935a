"""What is seen of a box: the lidar's points in and around it, in the box's own axes; and what is to be put right."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.special import logit

from karp_perception.core import CLASS_NAMES, Boxes
from karp_perception.core.columns import Columns
from karp_perception.sensing.point_index import PointIndex

MOST_POINTS = 48
"""Of a box: a car 20 m away has about as many from 64 beams; of more, as many are taken evenly."""

MARGIN_M, MARGIN = 0.4, 0.05
"""To each side of a box, m and share of the side, within which points count: what a detector is wrong by at most."""

BOX_WIDTH = 8 + len(CLASS_NAMES)
POINT_WIDTH = 9

CHANGE = ("along", "across", "up", "length", "width", "height", "yaw")
"""What is to be put right: m along the box's axes, logarithms of sizes, rad."""

_UNIT_M, _FARTHEST_M = 4.0, 3.0  # of places in the box; from its faces, beyond which it is all the same
_DISTANCE_M = 50.0
_LOG_ODDS = (-7.0, 7.0)  # of scores: beyond, it is all the same


@dataclass(frozen=True)
class BoxViews(Columns):
    """N boxes as they are seen.

    Attributes:
        size: (N, 3) length, width, height, m.
        label: (N,) class, and score (N,) of it, 0..1.
        sensor: (N, 2) where `base_link` is, m along the box's axes from its middle.
        points: (N, P, 3) m along the box's axes from its middle; zeros where there are fewer.
        known: (N, P) which of them there are.
        count: (N,) points in the box and its margin, of which P were taken.
    """

    size: np.ndarray
    label: np.ndarray
    score: np.ndarray
    sensor: np.ndarray
    points: np.ndarray
    known: np.ndarray
    count: np.ndarray

    @classmethod
    def of(cls, boxes: Boxes, index: PointIndex) -> BoxViews:
        """Of boxes in `base_link`."""
        n = len(boxes)
        owner, row = index.inside(replace(boxes, size=(1.0 + 2.0 * MARGIN) * boxes.size + 2.0 * MARGIN_M))
        count = np.bincount(owner, minlength=n)
        taken = np.minimum(count, MOST_POINTS)
        known = np.arange(MOST_POINTS) < taken[:, None]
        step = np.arange(MOST_POINTS) * count[:, None] // np.maximum(taken, 1)[:, None]
        chosen = (np.cumsum(count) - count)[:, None] + step
        points = np.zeros((n, MOST_POINTS, 3), np.float32)
        which = np.nonzero(known)[0]
        away = index.points[row[chosen[known]], :3] - boxes.center[which]
        points[known] = _turned(away, -boxes.yaw[which])
        sensor = _turned(-boxes.center, -boxes.yaw)[:, :2]
        return cls(boxes.size, boxes.label, boxes.score, sensor, points, known, count)

    def changed(self, change: np.ndarray) -> BoxViews:
        """The same points seen from boxes that are other by `change` (N, 7), see CHANGE."""
        away = self.points - change[:, None, :3]
        sensor = np.concatenate([self.sensor, np.zeros((len(self), 1))], axis=1) - change[:, :3]
        return BoxViews(
            self.size * np.exp(change[:, 3:6]),
            self.label,
            self.score,
            _turned(sensor, -change[:, 6])[:, :2],
            np.where(self.known[..., None], _turned(away, -change[:, 6, None]), 0.0).astype(np.float32),
            self.known,
            self.count,
        )

    def mirrored(self, rows: np.ndarray) -> BoxViews:
        """With left and right exchanged in some rows (a mask)."""
        side = np.where(rows, -1.0, 1.0)
        points, sensor = self.points.copy(), self.sensor.copy()
        points[..., 1] *= side[:, None].astype(points.dtype)
        sensor[:, 1] *= side
        return BoxViews(self.size, self.label, self.score, sensor, points, self.known, self.count)

    @property
    def log_odds(self) -> np.ndarray:
        """(N,) of the scores."""
        with np.errstate(divide="ignore"):
            return logit(self.score.astype(float)).clip(*_LOG_ODDS)

    def tables(self) -> tuple[np.ndarray, np.ndarray]:
        """(N, BOX_WIDTH) and (N, P, POINT_WIDTH), float32: what the network takes."""
        distance = np.hypot(*self.sensor.T)
        box = np.concatenate(
            [
                np.log(self.size),
                self.sensor / np.maximum(distance, 1e-6)[:, None],
                distance[:, None] / _DISTANCE_M,
                np.log1p(self.count)[:, None] / 4.0,
                self.log_odds[:, None] / 4.0,
                self.label[:, None] == np.arange(len(CLASS_NAMES)),
            ],
            axis=1,
        )
        half = 0.5 * self.size[:, None]
        faces = [side * self.points - half for side in (1.0, -1.0)]
        point = np.concatenate([self.points / _UNIT_M, *faces], axis=2).clip(-_FARTHEST_M, _FARTHEST_M)
        return box.astype(np.float32), point.astype(np.float32)


def with_change(boxes: Boxes, change: np.ndarray) -> Boxes:
    """The boxes put right by `change` (N, 7), see CHANGE."""
    return replace(
        boxes,
        center=boxes.center + _turned(change[:, :3], boxes.yaw),
        size=boxes.size * np.exp(change[:, 3:6]),
        yaw=boxes.yaw + change[:, 6],
    )


def change_between(boxes: Boxes, truth: Boxes) -> np.ndarray:
    """(N, 7) that puts boxes right, see CHANGE; front and back stay as they are."""
    away = _turned(truth.center - boxes.center, -boxes.yaw)
    turn = (truth.yaw - boxes.yaw + 0.5 * np.pi) % np.pi - 0.5 * np.pi
    return np.concatenate([away, np.log(truth.size / boxes.size), turn[:, None]], axis=1)


def _turned(vectors: np.ndarray, yaw: np.ndarray) -> np.ndarray:
    """(..., 3) turned by (...) rad about z."""
    c, s = np.cos(yaw), np.sin(yaw)
    x, y = vectors[..., 0], vectors[..., 1]
    return np.stack([c * x - s * y, s * x + c * y, vectors[..., 2]], axis=-1)
