"""Made-up labelled frames, and detectors that know their truth: doubles for the network where measures are tested."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from small_model import looking

from karp_perception.core import Boxes, CameraFrame, LidarSweep, SensorFrame
from karp_perception.core.stopwatch import Stopwatch
from karp_perception.evaluation.camera_view import seen_by
from karp_perception.evaluation.evaluation_frame import EvaluationFrame
from karp_perception.sensing.labelled_frame import LabelledFrame

IMAGE = (60, 120)  # rows, columns
SIZES = {0: (4.4, 1.8, 1.5), 1: (8.0, 2.5, 3.0), 5: (0.6, 0.6, 1.7), 7: (1.7, 0.6, 1.6)}
POINTS_EACH = 12


def camera(yaw: float, stamp_ns: int = 0) -> CameraFrame:
    """Looks along `yaw`, 90 degrees wide."""
    rows, columns = IMAGE
    intrinsics = np.array([[columns / 2, 0, columns / 2], [0, columns / 2, rows / 2], [0, 0, 1.0]])
    return CameraFrame(np.full((rows, columns, 3), 90, np.uint8), intrinsics, looking(yaw), stamp_ns)


def boxes(rows: Sequence[tuple[float, float, int]], speed: float = 0.0, score: float = 1.0) -> Boxes:
    """x, y, label of boxes that stand on the ground and drive along x."""
    n = len(rows)
    if n == 0:
        return Boxes.empty()
    size = np.array([SIZES[label] for *_, label in rows])
    center = np.array([(x, y, 0.5 * s[2]) for (x, y, _), s in zip(rows, size, strict=True)])
    velocity = np.tile([speed, 0.0], (n, 1))
    return Boxes(center, size, np.zeros(n), velocity, [label for *_, label in rows], np.full(n, score))


def labelled(
    labels: Boxes,
    *,
    stamp_ns: int = 0,
    cameras: Mapping[str, float] | None = None,
    seen_by_lidar: Sequence[bool] | None = None,
    visibility: Sequence[float] | None = None,
    unlabelled: Sequence[tuple[float, float, float]] = (),
    sector: bool = False,
    lidar: bool = True,
) -> LabelledFrame:
    """A frame whose lidar has POINTS_EACH points in every box that it sees (all of them by default), and one beside."""
    n = len(labels)
    seen = np.ones(n, bool) if seen_by_lidar is None else np.array(seen_by_lidar, bool)
    rng = np.random.default_rng(stamp_ns)
    spread = 0.4 * (rng.random((n, POINTS_EACH, 3)) - 0.5) * labels.size[:, None]
    points = (labels.center[:, None] + spread)[seen].reshape(-1, 3)
    points = np.column_stack([np.vstack([points, [60.0, 60.0, 5.0]]), np.full(len(points) + 1, 0.5)])
    sweep = LidarSweep(points.astype(np.float32), stamp_ns) if lidar else None
    views = {name: camera(yaw, stamp_ns) for name, yaw in (cameras or {}).items()}
    places = np.array(unlabelled, float).reshape(-1, 3)
    return LabelledFrame(
        SensorFrame(stamp_ns, views, sweep),
        labels,
        np.where(seen & lidar, POINTS_EACH, 0),
        places,
        sector,
        np.arange(1, n + 1),
        None if visibility is None else np.array(visibility, float),
    )


def street(index: int, kind: str = "street", cameras: Mapping[str, float] | None = None) -> EvaluationFrame:
    """Cars, people and bicycles at least 5 m apart on all sides; its stamp is its index in seconds."""
    rng = np.random.default_rng(index)
    cells = rng.permutation([(x, y) for x in range(-30, 31, 6) for y in range(-30, 31, 6) if max(abs(x), abs(y)) > 5])
    rows = [(float(x), float(y), int(rng.choice([0, 0, 1, 5, 7]))) for x, y in cells[:12]]
    cameras = {"front": 0.0, "back": np.pi} if cameras is None else cameras
    frame = labelled(boxes(rows), stamp_ns=index * 10**9, cameras=cameras, visibility=np.ones(len(rows)))
    return EvaluationFrame(index, f"{kind} {index}", kind, frame)


class Knowing:
    """A detector that finds exactly what the sensors of a frame can see, and knows nothing of the rest.

    Args:
        frames: whose truth it knows, told apart by their stamps.
        noise: m, of centres; scores fall with it.
    """

    trained, config = True, None

    def __init__(self, frames: Sequence[EvaluationFrame], noise: float = 0.0) -> None:
        self.truth = {item.frame.sensors.stamp_ns: item.frame for item in frames}
        self._noise = noise

    @property
    def info(self) -> dict[str, Any]:
        return {"model": "knowing", "trained": True, "backend": "none"}

    def warm_up(self) -> None:
        pass

    def detect(self, frame: SensorFrame, stopwatch: Stopwatch | None = None) -> Boxes:
        with (stopwatch or Stopwatch())("network"):
            truth = self.truth[frame.stamp_ns]
            seen = np.zeros(len(truth.labels), bool)
            if frame.lidar is not None:
                seen |= truth.points_inside > 0
            seen |= seen_by(frame.cameras.values(), truth.labels.center)
            found = truth.labels[seen]
            rng = np.random.default_rng(frame.stamp_ns)
            off = self._noise * rng.standard_normal((len(found), 2))
            center = found.center.copy()
            center[:, :2] += off
            score = np.clip(0.95 - 0.3 * np.hypot(*off.T) + 0.02 * rng.random(len(found)), 0.02, 0.99)
            variance = np.full((len(found), 9), max(self._noise, 0.01) ** 2)
            return Boxes(center, found.size, found.yaw, found.velocity, found.label, score, variance)
