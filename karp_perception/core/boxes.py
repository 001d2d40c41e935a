"""Boxes: N oriented boxes as a structure of arrays, the one type for detections, obstacles and labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np

from karp_perception.core.classes import ObjectClass
from karp_perception.core.errors import InvalidInput
from karp_perception.core.geometry import transform_points, wrap_angle, yaw_of
from karp_perception.core.validation import as_array

VARIANCE_OF = ("x", "y", "z", "length", "width", "height", "yaw", "vx", "vy")
"""What the nine columns of `Boxes.variance` belong to (squares of m, rad, m/s)."""

_COLUMNS = ("center", "size", "yaw", "velocity", "label", "score", "variance")

# Corner signs: the four of the bottom face counter-clockwise seen from above, from front left; then the top face.
_CORNERS = np.array(
    [[1, 1, -1], [-1, 1, -1], [-1, -1, -1], [1, -1, -1], [1, 1, 1], [-1, 1, 1], [-1, -1, 1], [1, -1, 1]]
)


@dataclass(frozen=True)
class Boxes:
    """N upright boxes. Indexing with a mask, slice or index array gives the Boxes of those rows.

    Attributes:
        center: (N, 3) middle of the box, m.
        size: (N, 3) length (along yaw), width, height, m, all positive.
        yaw: (N,) rad about z, in [-pi, pi).
        velocity: (N, 2) m/s over ground, along the axes of `frame`; NaN where it was not measured.
        label: (N,) index into CLASS_NAMES, or ObjectClass.UNKNOWN (-1).
        score: (N,) in [0, 1].
        variance: (N, 9) in the order of VARIANCE_OF, or None where nothing is known of it.
        frame: the coordinate frame, `base_link` unless said otherwise.
    """

    center: np.ndarray
    size: np.ndarray
    yaw: np.ndarray
    velocity: np.ndarray
    label: np.ndarray
    score: np.ndarray
    variance: np.ndarray | None = None
    frame: str = field(default="base_link", kw_only=True)

    def __post_init__(self) -> None:
        n = len(self.center)
        set_field = object.__setattr__
        set_field(self, "center", as_array("Boxes.center", self.center, (n, 3)))
        set_field(self, "size", as_array("Boxes.size", self.size, (n, 3)))
        set_field(self, "yaw", wrap_angle(as_array("Boxes.yaw", self.yaw, (n,))))
        velocity = as_array("Boxes.velocity", self.velocity, (n, 2), finite=False)
        set_field(self, "velocity", velocity)
        set_field(self, "label", as_array("Boxes.label", self.label, (n,), np.int64))
        set_field(self, "score", as_array("Boxes.score", self.score, (n,)))
        if self.variance is not None:
            set_field(self, "variance", as_array("Boxes.variance", self.variance, (n, 9)))
        if n == 0:
            return
        if self.size.min() <= 0:
            raise InvalidInput("Boxes.size", "positive lengths in m", self.size.min())
        if np.isinf(velocity).any():
            raise InvalidInput("Boxes.velocity", "finite numbers, or NaN for unknown", "infinity")
        if self.score.min() < 0 or self.score.max() > 1:
            raise InvalidInput("Boxes.score", "values in [0, 1]", f"{self.score.min()} to {self.score.max()}")
        if self.label.min() < ObjectClass.UNKNOWN or self.label.max() > max(ObjectClass):
            raise InvalidInput("Boxes.label", "-1 to 9", f"{self.label.min()} to {self.label.max()}")
        if self.variance is not None and self.variance.min() < 0:
            raise InvalidInput("Boxes.variance", "values of at least 0", self.variance.min())

    @classmethod
    @cache
    def empty(cls, frame: str = "base_link") -> Boxes:
        """No boxes at all."""
        none = np.zeros
        return cls(none((0, 3)), none((0, 3)), none(0), none((0, 2)), none(0, np.int64), none(0), frame=frame)

    @classmethod
    def concatenate(cls, parts: Sequence[Boxes]) -> Boxes:
        """All rows of several Boxes of one frame; variances are kept only where every part has them."""
        if not parts:
            return cls.empty()
        frames = {part.frame for part in parts}
        if len(frames) > 1:
            raise InvalidInput("Boxes.concatenate", "one frame", sorted(frames), "transform them first")
        columns = [np.concatenate([getattr(part, name) for part in parts]) for name in _COLUMNS[:-1]]
        variances = [part.variance for part in parts]
        known = [v for v in variances if v is not None]
        variance = np.concatenate(known) if len(known) == len(parts) else None
        return cls(*columns, variance, frame=parts[0].frame)

    def __len__(self) -> int:
        return len(self.center)

    def __getitem__(self, rows: np.ndarray | slice | list[int]) -> Boxes:
        if isinstance(rows, (int, np.integer)):
            raise InvalidInput("rows of Boxes", "a mask, a slice or a list of indices", rows, f"boxes[[{rows}]] is one")
        columns = {name: getattr(self, name) for name in _COLUMNS}
        return Boxes.trusted(
            self.frame, **{name: None if column is None else column[rows] for name, column in columns.items()}
        )

    @classmethod
    def trusted(cls, frame: str, **columns: np.ndarray | None) -> Boxes:
        """Boxes of columns that are known to be right, such as rows of valid boxes; they become read-only.

        Checking them again would take longer than all else that is done with a few boxes. Each column has to be an
        array of its own, of the type that Boxes keeps; `yaw` within [-pi, pi).
        """
        boxes = object.__new__(cls)
        for name in _COLUMNS:
            column = columns.get(name)
            if column is not None:
                column.flags.writeable = False
            object.__setattr__(boxes, name, column)
        object.__setattr__(boxes, "frame", frame)
        return boxes

    def transformed(self, T: np.ndarray, frame: str) -> Boxes:
        """The same boxes in another frame, for T = T_new_old (4, 4) with z axes (nearly) parallel."""
        turn = yaw_of(T)
        c, s = np.cos(turn), np.sin(turn)
        velocity = self.velocity @ np.array([[c, s], [-s, c]])
        variance = self.variance
        if variance is not None:
            variance = variance.copy()
            # A diagonal stays a diagonal: rotated, without the new cross terms.
            for i, j in ((0, 1), (7, 8)):
                a, b = variance[:, i].copy(), variance[:, j].copy()
                variance[:, i], variance[:, j] = c * c * a + s * s * b, s * s * a + c * c * b
        center, yaw = transform_points(T, self.center), wrap_angle(self.yaw + turn)
        if not np.isfinite(center).all():
            raise InvalidInput("Boxes.transformed", "a finite transform", T.tolist())
        return Boxes.trusted(
            frame, center=center, size=self.size, yaw=yaw, velocity=velocity, label=self.label, score=self.score,
            variance=variance,
        )  # fmt: skip

    def corners(self) -> np.ndarray:
        """(N, 8, 3) corners: bottom face counter-clockwise from front left, then the top face alike."""
        local = 0.5 * self.size[:, None, :] * _CORNERS
        c, s = np.cos(self.yaw)[:, None], np.sin(self.yaw)[:, None]
        x, y = local[..., 0], local[..., 1]
        rotated = np.stack([c * x - s * y, s * x + c * y, local[..., 2]], axis=-1)
        return rotated + self.center[:, None, :]

    def footprint(self) -> np.ndarray:
        """(N, 4, 2) corners of the ground rectangle, counter-clockwise from front left."""
        return self.corners()[:, :4, :2]

    def contains(self, points: np.ndarray, margin: float = 0.0) -> np.ndarray:
        """(N, M) mask: is point j (of (M, 3) or more columns, m) inside box i grown by `margin` m on each side."""
        offset = points[None, :, :3] - self.center[:, None, :]
        c, s = np.cos(self.yaw)[:, None], np.sin(self.yaw)[:, None]
        along = c * offset[..., 0] + s * offset[..., 1]
        across = -s * offset[..., 0] + c * offset[..., 1]
        half = 0.5 * self.size[:, None, :] + margin
        inside = (np.abs(along) <= half[..., 0]) & (np.abs(across) <= half[..., 1])
        return inside & (np.abs(offset[..., 2]) <= half[..., 2])
