"""Rectangles of all cameras -> boxes in `base_link`, each object once.

Per camera: points above the ground that fall into a rectangle -> the object's own ones (own_points.py), nearer objects
first, whose points the farther ones then no longer have -> a box around them (from_points.py), or where there are none
by ground and size (from_ground.py). What several cameras see is told of once (merging.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from karp_perception.core import Boxes, SensorFrame
from karp_perception.core.geometry import wrap_angle
from karp_perception.core.image_boxes import ImageBoxes, overlaps
from karp_perception.core.settings import Settings, nested, setting
from karp_perception.detection.ground import GroundEstimator
from karp_perception.detection.lifting.above_ground import AboveGround, flat_ground
from karp_perception.detection.lifting.from_ground import GroundLiftSettings, box_from_ground
from karp_perception.detection.lifting.from_points import box_from_points
from karp_perception.detection.lifting.hypotheses import Weighed
from karp_perception.detection.lifting.merging import merged
from karp_perception.detection.lifting.own_points import OwnPointSettings, beyond_the_border, own_points
from karp_perception.detection.lifting.size_priors import size_prior
from karp_perception.detection.lifting.view import View

_HIDDEN = 0.5  # of an edge's length, covered by a nearer rectangle: what is behind it may go on
_WITHIN = 0.7  # of its area covered: a rectangle within another one, of what stands before it
_TURNED = np.pi**2 / 12  # variance of a direction of which nothing is known but the half circle


@dataclass(frozen=True)
class LiftSettings(Settings):
    """How rectangles become boxes."""

    own: OwnPointSettings = nested(OwnPointSettings)
    without_points: GroundLiftSettings = nested(GroundLiftSettings)
    place_sigma: float = setting(
        0.12, "error of a place by the lidar, beyond what sizes leave open", unit="m", low=0.01, high=1.0
    )
    yaw_sigma: float = setting(4.0, "error of a direction by the lidar, likewise", unit="deg", low=0.1, high=45.0)


class Lifter:
    """Lifts rectangles. Keeps nothing between calls."""

    def __init__(self, settings: LiftSettings | None = None) -> None:
        self.settings = settings or LiftSettings()
        self._ground = GroundEstimator()

    def lift(self, frame: SensorFrame, found: Mapping[str, ImageBoxes]) -> Boxes:
        """Boxes in `base_link`, best first, velocity unknown, with variances.

        Which end of an object is its front is not seen: yaw points ahead of the vehicle rather than back, and its
        variance is that of the axis.

        Args:
            frame: sensors; images rectified.
            found: rectangles by camera, with one of our labels each.
        """
        above = None
        if frame.lidar is not None and len(frame.lidar.points):
            above = AboveGround.of(frame.lidar, self._ground)
        parts, owners = [], []
        for number, (name, rectangles) in enumerate(found.items()):
            camera = frame.cameras.get(name)
            if camera is None or not len(rectangles):
                continue
            boxes, complete = self._camera(View.of(camera), rectangles, above)
            parts.append(boxes)
            owners += [(number, whole) for whole in complete.tolist()]
        if not parts:
            return Boxes.empty()
        cameras, whole = np.array(owners).T
        return merged(Boxes.concatenate(parts), cameras.astype(np.int64), whole)

    def _camera(self, view: View, rectangles: ImageBoxes, above: AboveGround | None) -> tuple[Boxes, np.ndarray]:
        """Boxes of one camera's rectangles, and how much (0..1) was seen of each."""
        cut = view.cut(rectangles.corners)
        seen = _Seen.of(view, above) if above is not None else None
        order = self._order(view, rectangles, cut, seen)
        weighed: list[Weighed | None] = [None] * len(rectangles)
        by_points = np.zeros(len(rectangles), bool)
        for place, i in enumerate(order.tolist()):
            hidden = cut[i] | _hidden_edges(rectangles.corners[i], rectangles.corners[order[:place]])
            prior, corners = size_prior(int(rectangles.label[i])), rectangles.corners[i]
            rows = np.zeros(0, np.int64) if seen is None else self._own(seen, view, rectangles, i, cut[i])
            if seen is not None and above is not None and len(rows):
                seen.free[rows] = False
                xyz = seen.xyz[rows]
                if cut[i].any():
                    xyz = beyond_the_border(xyz, seen.outside, prior, self.settings.own)
                ground = float(above.ground_at(np.median(xyz[:, :2], axis=0, keepdims=True))[0])
                weighed[i] = box_from_points(xyz, view, corners, hidden, prior, ground)
                by_points[i] = True
            else:
                ground_at = flat_ground if above is None else above.ground_at
                weighed[i] = box_from_ground(view, corners, hidden, prior, ground_at, self.settings.without_points)
        whole = 0.25 * (~cut).sum(axis=1) + by_points
        return self._boxes(rectangles, [w for w in weighed if w is not None], by_points), whole

    def _own(self, seen: _Seen, view: View, rectangles: ImageBoxes, i: int, cut: np.ndarray) -> np.ndarray:
        """Rows of `seen` that are the object's."""
        corners, prior = rectangles.corners[i], size_prior(int(rectangles.label[i]))
        margin = np.tile(self.settings.own.margin * (corners[2:] - corners[:2]) + 1.0, 2) * (-1, -1, 1, 1)
        inside = np.flatnonzero(seen.within(corners + margin))
        usual = None
        if not (cut[1] or cut[3]):
            height = corners[3] - corners[1]
            usual = (view.focal[1] * prior.size[2] / height, float(np.hypot(1.3 * prior.spread[2], 4.0 / height)))
        rows = own_points(
            seen.xyz[inside], seen.pixels[inside], seen.depth[inside], corners, prior, usual, self.settings.own
        )
        return inside[rows]

    def _order(self, view: View, rectangles: ImageBoxes, cut: np.ndarray, seen: _Seen | None) -> np.ndarray:
        """Rectangles in the order in which they may take points: nearest first."""
        claims = [np.zeros(0, np.int64)] * len(rectangles)
        if seen is not None:
            claims = [self._own(seen, view, rectangles, i, cut[i]) for i in range(len(rectangles))]
        usual = np.array([size_prior(label).size[2] for label in rectangles.label.tolist()])
        depth = view.focal[1] * usual / rectangles.size[:, 1]
        if seen is not None:
            depth = np.array([np.median(seen.depth[c]) if len(c) else d for c, d in zip(claims, depth, strict=True)])
        shared, own, _ = overlaps(rectangles.corners, rectangles.corners)
        order = np.argsort(depth, kind="stable")
        for i in order.tolist():
            # Where two want the same points, and neither is within the other, they belong to the one with more of them.
            for j in np.flatnonzero((shared[i] > 0) & (shared[i] < _WITHIN * own[i])).tolist():
                common = len(np.intersect1d(claims[i], claims[j], assume_unique=True))
                if common > 0.5 * len(claims[i]) and len(claims[j]) > len(claims[i]):
                    depth[i] = max(depth[i], np.nextafter(depth[j], np.inf))
        return np.argsort(depth, kind="stable")

    def _boxes(self, rectangles: ImageBoxes, weighed: list[Weighed], by_points: np.ndarray) -> Boxes:
        s, n = self.settings, len(weighed)
        size = np.array([w.size for w in weighed])
        bottom = np.array([w.bottom for w in weighed])
        yaw = np.array([w.yaw for w in weighed])
        yaw = wrap_angle(2 * yaw) / 2  # of both ends the one that points ahead
        variance = np.zeros((n, 9))
        variance[:, :7] = [w.variance for w in weighed]
        variance[~by_points, :7] *= s.without_points.doubt**2
        variance[:, :3] += s.place_sigma**2
        variance[:, 3:6] += np.square(0.06 * size)
        variance[:, 6] += np.radians(s.yaw_sigma) ** 2
        directed = np.array([size_prior(int(label)).directed for label in rectangles.label])
        variance[~directed, 6] = _TURNED
        variance[:, 7:] = 0.0
        center = np.column_stack([[w.xy for w in weighed], bottom + 0.5 * size[:, 2]])
        return Boxes(center, size, yaw, np.full((n, 2), np.nan), rectangles.label, rectangles.score, variance)


@dataclass(frozen=True)
class _Seen:
    """Points above the ground that one camera sees.

    Attributes:
        xyz: (N, 3) m. pixels: (N, 2). depth: (N,) m. free: (N,) that belong to no object yet.
        outside: (M, 3) m, points beside what it sees.
    """

    xyz: np.ndarray
    pixels: np.ndarray
    depth: np.ndarray
    free: np.ndarray
    outside: np.ndarray

    @classmethod
    def of(cls, view: View, above: AboveGround) -> _Seen:
        pixels, depth = view.pixels(above.xyz)
        width, height = view.size
        inside = (depth > 0.3) & (pixels >= -0.5).all(axis=1) & (pixels < (width - 0.5, height - 0.5)).all(axis=1)
        return cls(
            above.xyz[inside], pixels[inside], depth[inside], np.ones(int(inside.sum()), bool), above.xyz[~inside]
        )

    def within(self, corners: np.ndarray) -> np.ndarray:
        """(N,) free points in a rectangle."""
        return self.free & (self.pixels >= corners[:2]).all(axis=1) & (self.pixels <= corners[2:]).all(axis=1)


def _hidden_edges(corners: np.ndarray, nearer: np.ndarray) -> np.ndarray:
    """(4,) edges of a rectangle that nearer ones (M, 4) cover."""
    if not len(nearer):
        return np.zeros(4, bool)
    x0, y0, x1, y1 = corners
    edges = np.array([[x0, y0, x0 + 1, y1], [x0, y0, x1, y0 + 1], [x1 - 1, y0, x1, y1], [x0, y1 - 1, x1, y1]])
    shared, own, _ = overlaps(edges, nearer)
    return (shared.max(axis=1) / np.maximum(own, 1e-6)) > _HIDDEN
