"""Frames to be scored: what was detected in each and what there was, and all of them as one table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from karp_perception.core import Boxes, InvalidInput
from karp_perception.core.validation import as_array


@dataclass(frozen=True)
class ScoredFrame:
    """Detections of a frame beside its truth.

    Attributes:
        detections: in `base_link`, velocity over ground, NaN where unknown.
        truth: likewise; scores are not read.
        points_inside: (N,) int, lidar (and radar) points in each truth. Official scores leave out those without any.
    """

    detections: Boxes
    truth: Boxes
    points_inside: np.ndarray

    def __post_init__(self) -> None:
        points = as_array("ScoredFrame.points_inside", self.points_inside, (len(self.truth),), np.int64)
        object.__setattr__(self, "points_inside", points)
        if self.detections.frame != self.truth.frame:
            got = f"{self.detections.frame} and {self.truth.frame}"
            raise InvalidInput("ScoredFrame", "detections and truth in one frame", got, "transform one of them")


@dataclass(frozen=True)
class Table:
    """Boxes of all frames below each other.

    Attributes:
        boxes: N of them.
        frame: (N,) int, index of the frame that each belongs to, rising.
    """

    boxes: Boxes
    frame: np.ndarray

    def __getitem__(self, rows: np.ndarray) -> Table:
        return Table(self.boxes[rows], self.frame[rows])

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def xy(self) -> np.ndarray:
        """(N, 2) centres, m."""
        return self.boxes.center[:, :2]

    @property
    def distance(self) -> np.ndarray:
        """(N,) of the centres from the origin of `base_link`, along the ground, m."""
        return np.sqrt((self.xy**2).sum(axis=1))


def tabulate(parts: Sequence[Boxes]) -> Table:
    """The boxes of frames 0, 1, 2, ... in one table."""
    frame = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    return Table(Boxes.concatenate(parts), frame.astype(int))


def tables(frames: Sequence[ScoredFrame]) -> tuple[Table, Table, np.ndarray]:
    """Detections, truth, and (T,) the points in each truth, of all frames."""
    points = [frame.points_inside for frame in frames]
    inside = np.concatenate(points) if points else np.zeros(0, np.int64)
    return tabulate([frame.detections for frame in frames]), tabulate([frame.truth for frame in frames]), inside


def mean_known(values: Sequence[float] | np.ndarray) -> float:
    """Mean of what is not NaN; NaN where nothing is."""
    known = np.asarray(values, float)
    known = known[~np.isnan(known)]
    return float(known.mean()) if len(known) else np.nan


def plain(value: Any) -> Any:
    """Dicts, lists and arrays with nothing in them but what JSON knows: keys as text, plain numbers, None for NaN."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [plain(item) for item in value]
    if isinstance(value, (float, np.floating)):
        return float(value) if np.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else value
