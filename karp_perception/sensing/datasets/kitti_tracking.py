"""Files of the KITTI tracking benchmark (Geiger et al. 2012): labels, results, and detections as AB3DMOT releases them.

A line of a label or result file: frame, track id, type, truncated, occluded, alpha, rectangle in the image (left, top,
right, bottom, px), height, width, length (m), middle of the box's bottom x y z (m), rotation_y, and for results a
score; separated by blanks. A line of a detection file (Weng et al. 2020, "3D Multi-Object Tracking: A Baseline and New
Evaluation Metrics"): frame, type number, rectangle, score, height, width, length, x, y, z, rotation_y, alpha; separated
by commas. All places are in the rectified camera's frame: x right, y down, z forward.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from karp_perception.core import Boxes, class_from_name
from karp_perception.core.errors import InvalidInput
from karp_perception.core.geometry import wrap_angle
from karp_perception.core.validation import as_array

FRAME_NS = 100_000_000
"""Between two frames: the benchmark's recordings have ten a second."""

NO_TRACK = -1
"""Track id of areas marked DontCare, and of detections."""

DETECTED_TYPES = {1: "Pedestrian", 2: "Car", 3: "Cyclist"}
"""Type numbers of detection files."""

_LABEL_WORDS, _RESULT_WORDS, _DETECTION_WORDS = 17, 18, 15
_LEFT_OUT = -1.0  # score of labels


@dataclass(frozen=True)
class KittiRows:
    """N boxes of one sequence, as they stand in a file.

    Attributes:
        frame: (N,) int, from 0.
        track_id: (N,) int; NO_TRACK where there is none.
        kind: (N,) names, as written.
        truncated, occluded: (N,) int.
        alpha: (N,) rad, angle at which the camera sees the object.
        rectangle: (N, 4) left, top, right, bottom, px.
        size: (N, 3) height, width, length, m.
        bottom: (N, 3) x, y, z of the middle of the box's bottom, m.
        rotation_y: (N,) rad.
        score: (N,), -1 for labels.
    """

    frame: np.ndarray
    track_id: np.ndarray
    kind: np.ndarray
    truncated: np.ndarray
    occluded: np.ndarray
    alpha: np.ndarray
    rectangle: np.ndarray
    size: np.ndarray
    bottom: np.ndarray
    rotation_y: np.ndarray
    score: np.ndarray

    def __post_init__(self) -> None:
        n = len(self.frame)
        for name in ("frame", "track_id", "truncated", "occluded"):
            object.__setattr__(self, name, as_array(f"KittiRows.{name}", getattr(self, name), (n,), np.int64))
        for name in ("alpha", "rotation_y", "score"):
            object.__setattr__(self, name, as_array(f"KittiRows.{name}", getattr(self, name), (n,)))
        for name, width in (("rectangle", 4), ("size", 3), ("bottom", 3)):
            object.__setattr__(self, name, as_array(f"KittiRows.{name}", getattr(self, name), (n, width)))
        object.__setattr__(self, "kind", np.asarray(self.kind, dtype=str).reshape(n))
        if n and self.frame.min() < 0:
            raise InvalidInput("KittiRows.frame", "numbers from 0", int(self.frame.min()))

    @classmethod
    def of(cls, n: int = 0, **columns: object) -> KittiRows:
        """N rows with the given columns; the others say that nothing is known, as the benchmark has it."""
        unknown = {
            "frame": np.zeros(n, int), "track_id": np.full(n, NO_TRACK), "kind": np.full(n, "", "<U16"),
            "truncated": np.full(n, -1), "occluded": np.full(n, -1), "alpha": np.full(n, -10.0),
            "rectangle": np.full((n, 4), -1.0), "size": np.full((n, 3), -1.0), "bottom": np.full((n, 3), -1000.0),
            "rotation_y": np.full(n, -10.0), "score": np.full(n, _LEFT_OUT),
        }  # fmt: skip
        return cls(**(unknown | columns))

    @classmethod
    def concatenate(cls, parts: Sequence[KittiRows]) -> KittiRows:
        """All rows of several."""
        if not parts:
            return cls.of(0)
        return cls(**{f.name: np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(cls)})

    def __len__(self) -> int:
        return len(self.frame)

    def __getitem__(self, rows: np.ndarray | slice) -> KittiRows:
        return KittiRows(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})

    def ground(self) -> np.ndarray:
        """(N, 5) x, y, length, width, yaw of the footprints in upright axes: x forward, y left, m and rad."""
        turn = wrap_angle(-self.rotation_y - 0.5 * np.pi)
        return np.column_stack([self.bottom[:, 2], -self.bottom[:, 0], self.size[:, 2], self.size[:, 1], turn])

    def heights(self) -> np.ndarray:
        """(N, 2) bottom and top of the boxes, m above the camera."""
        return np.column_stack([-self.bottom[:, 1], self.size[:, 0] - self.bottom[:, 1]])


def boxes_of(rows: KittiRows, score: np.ndarray | None = None) -> Boxes:
    """The rows as Boxes in the camera's place with upright axes (x forward, y left, z up; origin at the camera).

    Args:
        rows: N of them.
        score: (N,) in [0, 1] to take instead of 1.
    """
    n = len(rows)
    label = [int(class_from_name(kind)) for kind in rows.kind.tolist()]
    ground, heights = rows.ground(), rows.heights()
    center = np.column_stack([ground[:, :2], heights.mean(axis=1)])
    size = rows.size[:, [2, 1, 0]]
    return Boxes(center, size, ground[:, 4], np.full((n, 2), np.nan), label, np.ones(n) if score is None else score)


def rows_of(boxes: Boxes) -> dict[str, np.ndarray]:
    """The columns `size`, `bottom`, `rotation_y` and `alpha` of boxes in the axes of `boxes_of`."""
    x, y, z = boxes.center.T
    rotation_y = wrap_angle(-boxes.yaw - 0.5 * np.pi)
    return {
        "size": boxes.size[:, [2, 1, 0]],
        "bottom": np.column_stack([-y, 0.5 * boxes.size[:, 2] - z, x]),
        "rotation_y": rotation_y,
        "alpha": wrap_angle(rotation_y - np.arctan2(-y, x)),
    }


def read_tracks(file: Path) -> KittiRows:
    """A label or result file. Raises InvalidInput, naming file and line, for one that cannot be read."""
    kinds, numbers = [], []
    for number, line in enumerate(_lines(file), 1):
        words = line.split()
        if not words:
            continue
        if len(words) not in (_LABEL_WORDS, _RESULT_WORDS):
            raise InvalidInput(f"{file} line {number}", f"{_LABEL_WORDS} or {_RESULT_WORDS} words", len(words))
        kinds.append(words[2])
        numbers.append(_numbers(file, number, [*words[:2], *words[3:]], _RESULT_WORDS - 1))
    table = np.reshape(np.array(numbers, float), (-1, _RESULT_WORDS - 1))
    frame, track_id, truncated, occluded = table[:, :4].T.astype(int)
    return KittiRows(
        frame, track_id, np.array(kinds, str), truncated, occluded, table[:, 4], table[:, 5:9], table[:, 9:12],
        table[:, 12:15], table[:, 15], table[:, 16],
    )  # fmt: skip


def read_detections(file: Path) -> KittiRows:
    """A detection file. Raises InvalidInput, naming file and line, for one that cannot be read."""
    numbers = []
    for number, line in enumerate(_lines(file), 1):
        if not line.strip():
            continue
        words = line.split(",")
        if len(words) != _DETECTION_WORDS:
            raise InvalidInput(f"{file} line {number}", f"{_DETECTION_WORDS} numbers between commas", len(words))
        values = _numbers(file, number, words, _DETECTION_WORDS)
        if values[1] not in DETECTED_TYPES:
            raise InvalidInput(f"{file} line {number}", f"a type of {DETECTED_TYPES}", words[1])
        if min(values[7:10]) <= 0:
            raise InvalidInput(f"{file} line {number}", "height, width and length above 0", words[7:10])
        numbers.append(values)
    table = np.reshape(np.array(numbers, float), (-1, _DETECTION_WORDS))
    kind = np.array([DETECTED_TYPES[int(value)] for value in table[:, 1]], "<U16")
    return KittiRows.of(
        len(table), frame=table[:, 0].astype(int), kind=kind, rectangle=table[:, 2:6], score=table[:, 6],
        size=table[:, 7:10], bottom=table[:, 10:13], rotation_y=table[:, 13], alpha=table[:, 14],
    )  # fmt: skip


def write_tracks(file: Path, rows: KittiRows) -> None:
    """A result file, rows by frame; its folder is made where missing."""
    order = np.lexsort((rows.track_id, rows.frame))
    lines = []
    for i in order.tolist():
        values = (rows.alpha[i], *rows.rectangle[i], *rows.size[i], *rows.bottom[i], rows.rotation_y[i], rows.score[i])
        head = (
            f"{rows.frame[i]} {rows.track_id[i]} {rows.kind[i]} {max(rows.truncated[i], 0)} {max(rows.occluded[i], 0)}"
        )
        lines.append(f"{head} {' '.join(f'{value:.6f}' for value in values)}\n")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(lines))


def _numbers(file: Path, number: int, words: list[str], width: int) -> list[float]:
    """The words as finite numbers, filled up to `width` with what labels lack."""
    try:
        values = [float(word) for word in words]
    except ValueError as error:
        raise InvalidInput(f"{file} line {number}", "numbers", error) from None
    if not np.isfinite(values).all():
        raise InvalidInput(f"{file} line {number}", "finite numbers", " ".join(words)[:80])
    return values + [_LEFT_OUT] * (width - len(values))


def _lines(file: Path) -> list[str]:
    try:
        return Path(file).read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(str(file), "a text file", f"{type(error).__name__}", "is it there and whole?") from None
