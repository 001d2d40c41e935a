"""Objects of earlier frames, kept to be pasted into later ones: rare classes as often as frequent ones, nearly."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from karp_perception.core import CLASS_NAMES, Boxes
from karp_perception.detection.training.augmentation.patches import Patch
from karp_perception.sensing.beams import DEFAULT_ORIGIN
from karp_perception.sensing.labelled_frame import LabelledFrame
from karp_perception.sensing.point_index import PointIndex

_FEWEST_POINTS = 8
_FEWEST_PIXELS = 12
_LEAST_VISIBLE, _LEAST_WEIGHT = 0.8, 0.8  # of objects that are kept
_NEAREST_M, _FARTHEST_M = 4.0, 50.0
_MARGIN_M = 0.1  # around a box: mirrors, noise
_GROUND_M = 0.1  # over the lower face, below which points are the ground's


@dataclass(frozen=True)
class StoredObject:
    """One object as it was seen.

    Attributes:
        box: one row, in `base_link` of its frame.
        points: (P, 4) float32, there.
        origin: (3,) m, where the lidar's beams started.
        visibility: 0..1.
        patches: by camera, of the cameras that showed it; empty where nobody knows its pixels.
    """

    box: Boxes
    points: np.ndarray
    origin: np.ndarray
    visibility: float
    patches: Mapping[str, Patch]


class PasteBank:
    """At most `capacity` objects of each class, every one that was offered as likely to be among them.

    What it holds depends on the frames and on the generator that it was given, and on nothing else.
    """

    def __init__(self, capacity: int = 60) -> None:
        self._capacity = capacity
        self._objects: list[list[StoredObject]] = [[] for _ in CLASS_NAMES]
        self._offered = np.zeros(len(CLASS_NAMES), np.int64)

    @classmethod
    def of(
        cls,
        frames: Iterable[LabelledFrame],
        seed: int,
        *,
        capacity: int = 60,
        lidar_origin: np.ndarray | None = None,
    ) -> PasteBank:
        """A bank filled once from some frames: what is drawn then depends on no later frame."""
        bank, rng = cls(capacity), np.random.default_rng(seed)
        for frame in frames:
            bank.add(frame, rng, lidar_origin=lidar_origin)
        return bank

    def __len__(self) -> int:
        return sum(map(len, self._objects))

    def add(
        self, frame: LabelledFrame, rng: np.random.Generator, *, lidar_origin: np.ndarray | None = None, most: int = 4
    ) -> None:
        """Offers the frame's objects that are seen well, at most so many of them, those of rare classes first.

        Copies what it keeps. A frame without points offers nothing.
        """
        lidar, labels = frame.sensors.lidar, frame.labels
        if lidar is None or not len(labels):
            return
        distance = np.hypot(*labels.center[:, :2].T)
        good = (labels.label >= 0) & (frame.points_inside >= _FEWEST_POINTS)
        good &= (distance > _NEAREST_M) & (distance < _FARTHEST_M)
        if frame.visibility is not None:
            good &= frame.visibility >= _LEAST_VISIBLE
        if frame.weight is not None:
            good &= frame.weight >= _LEAST_WEIGHT
        rows = np.flatnonzero(good)
        rarity = 1.0 / np.sqrt(1.0 + self._offered[labels.label[rows]])
        rows = rows[np.argsort(-rarity * rng.random(len(rows)), kind="stable")][:most]
        if not len(rows):
            return
        origin = np.asarray(DEFAULT_ORIGIN if lidar_origin is None else lidar_origin, np.float64)
        owner, point = PointIndex(lidar.points).inside(labels[rows], _MARGIN_M)
        for place, row in enumerate(rows):
            kind = int(labels.label[row])
            self._offered[kind] += 1
            stored, slot = self._objects[kind], int(rng.integers(self._offered[kind]))
            # Reservoir sampling (Vitter 1985).
            if len(stored) >= self._capacity and slot >= self._capacity:
                continue
            taken = _taken(frame, int(row), lidar.points[point[owner == place]], origin)
            if taken is None:
                continue
            if len(stored) < self._capacity:
                stored.append(taken)
            else:
                stored[slot] = taken

    def draw(self, rng: np.random.Generator) -> StoredObject | None:
        """One object, each class that there is as likely as any other; None of an empty bank."""
        weight = np.array([len(objects) > 0 for objects in self._objects], float)
        if not weight.any():
            return None
        of_class = self._objects[int(rng.choice(len(weight), p=weight / weight.sum()))]
        return of_class[int(rng.integers(len(of_class)))]


def _taken(frame: LabelledFrame, row: int, points: np.ndarray, origin: np.ndarray) -> StoredObject | None:
    box = frame.labels[[row]]
    bottom = box.center[0, 2] - 0.5 * box.size[0, 2]
    points = points[points[:, 2] > bottom + _GROUND_M]
    if len(points) < _FEWEST_POINTS:
        return None
    patches: dict[str, Patch] = {}
    if frame.object_id is not None:
        for name, mask in frame.masks.items():
            camera = frame.sensors.cameras.get(name)
            patch = None if camera is None else Patch.cut(camera, mask, int(frame.object_id[row]), _FEWEST_PIXELS)
            if patch is not None:
                patches[name] = patch
    visibility = 1.0 if frame.visibility is None else float(frame.visibility[row])
    return StoredObject(box, points.copy(), origin, visibility, patches)
