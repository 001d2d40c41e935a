"""Objects: tracked boxes with identity, uncertainty and where each may go."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from karp_perception.core.boxes import Boxes
from karp_perception.core.errors import InvalidInput
from karp_perception.core.validation import as_array

STATE = ("x", "y", "z", "yaw", "vx", "vy")
"""Rows and columns of `Objects.covariance` (m, rad, m/s), in the frame of the boxes."""


@dataclass(frozen=True)
class Objects:
    """N tracked objects at one moment.

    Attributes:
        boxes: where they are; `score` is the probability that the object exists; velocity is always known.
        track_id: (N,) positive, never reused within a run.
        covariance: (N, 6, 6) over STATE.
        age: (N,) s since the track was born.
        unseen: (N,) s since it was last measured; 0 in this frame.
        predicted: (N, K, T, 3) x, y (m), yaw (rad) of K possible paths in the frame of the boxes; the first
            point is one `prediction_step` ahead.
        predicted_probability: (N, K), summing to 1 for each object where K > 0.
        prediction_step: s between two points of a path.
        obstacle_index: (N,) row of the geometric obstacle that updated the track in this frame, -1 for none.
        detection_index: (N,) row of the detection that did, -1 for none.
    """

    boxes: Boxes
    track_id: np.ndarray
    covariance: np.ndarray
    age: np.ndarray
    unseen: np.ndarray
    predicted: np.ndarray
    predicted_probability: np.ndarray
    prediction_step: float = 0.1
    obstacle_index: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    detection_index: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))

    def __post_init__(self) -> None:
        n = len(self.boxes)
        set_field = object.__setattr__
        set_field(self, "track_id", as_array("Objects.track_id", self.track_id, (n,), np.int64))
        set_field(self, "covariance", as_array("Objects.covariance", self.covariance, (n, 6, 6)))
        set_field(self, "age", as_array("Objects.age", self.age, (n,)))
        set_field(self, "unseen", as_array("Objects.unseen", self.unseen, (n,)))
        predicted = as_array("Objects.predicted", self.predicted, (n, None, None, 3))
        set_field(self, "predicted", predicted)
        probability = as_array("Objects.predicted_probability", self.predicted_probability, (n, predicted.shape[1]))
        set_field(self, "predicted_probability", probability)
        for name in ("obstacle_index", "detection_index"):
            index = getattr(self, name)
            index = np.full(n, -1) if len(index) == 0 else index
            set_field(self, name, as_array(f"Objects.{name}", index, (n,), np.int64))
        if n and (len(np.unique(self.track_id)) < n or self.track_id.min() <= 0):
            raise InvalidInput("Objects.track_id", "positive and different ids", self.track_id.tolist())
        if not np.isfinite(self.boxes.velocity).all():
            raise InvalidInput("Objects.boxes.velocity", "known velocities", "NaN")
        if self.prediction_step <= 0:
            raise InvalidInput("Objects.prediction_step", "a time above 0 s", self.prediction_step)

    @classmethod
    def empty(cls) -> Objects:
        """No objects."""
        zeros = np.zeros
        ids = zeros(0, np.int64)
        return cls(Boxes.empty(), ids, zeros((0, 6, 6)), zeros(0), zeros(0), zeros((0, 0, 0, 3)), zeros((0, 0)))

    def __len__(self) -> int:
        return len(self.boxes)
