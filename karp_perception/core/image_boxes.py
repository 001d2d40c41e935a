"""ImageBoxes: what was found in one image, before it has a place in space."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from karp_perception.core.classes import ObjectClass
from karp_perception.core.errors import InvalidInput
from karp_perception.core.validation import as_array


@dataclass(frozen=True)
class ImageBoxes:
    """N upright rectangles in an image, best first. Indexing with a mask, slice or index array gives those rows.

    Attributes:
        corners: (N, 4) left, top, right, bottom, px; whole numbers are the middles of pixels, as in OpenCV.
        label: (N,) index into CLASS_NAMES, or ObjectClass.UNKNOWN.
        score: (N,) in [0, 1].
    """

    corners: np.ndarray
    label: np.ndarray
    score: np.ndarray

    def __post_init__(self) -> None:
        n, set_field = len(self.corners), object.__setattr__
        set_field(self, "corners", as_array("ImageBoxes.corners", self.corners, (n, 4)))
        set_field(self, "label", as_array("ImageBoxes.label", self.label, (n,), np.int64))
        set_field(self, "score", as_array("ImageBoxes.score", self.score, (n,)))
        if n == 0:
            return
        if (self.corners[:, 2:] <= self.corners[:, :2]).any():
            raise InvalidInput("ImageBoxes.corners", "left < right and top < bottom", self.corners.tolist())
        if self.score.min() < 0 or self.score.max() > 1:
            raise InvalidInput("ImageBoxes.score", "values in [0, 1]", f"{self.score.min()} to {self.score.max()}")
        if self.label.min() < ObjectClass.UNKNOWN or self.label.max() > max(ObjectClass):
            raise InvalidInput("ImageBoxes.label", "-1 to 9", f"{self.label.min()} to {self.label.max()}")

    @classmethod
    @cache
    def empty(cls) -> ImageBoxes:
        """None at all."""
        return cls(np.zeros((0, 4)), np.zeros(0, np.int64), np.zeros(0))

    def __len__(self) -> int:
        return len(self.corners)

    def __getitem__(self, rows: np.ndarray | slice | list[int]) -> ImageBoxes:
        return ImageBoxes(self.corners[rows], self.label[rows], self.score[rows])

    @property
    def size(self) -> np.ndarray:
        """(N, 2) width and height, px."""
        return self.corners[:, 2:] - self.corners[:, :2]


def overlaps(one: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Shared areas (N, M) of rectangles (N, 4) and (M, 4), and both sets' own areas (N,), (M,)."""
    low = np.maximum(one[:, None, :2], other[None, :, :2])
    high = np.minimum(one[:, None, 2:], other[None, :, 2:])
    shared = np.prod(np.maximum(high - low, 0.0), axis=-1)
    return shared, np.prod(one[:, 2:] - one[:, :2], axis=-1), np.prod(other[:, 2:] - other[:, :2], axis=-1)
