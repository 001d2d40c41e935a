"""Detections of a recording -> tracks, frame by frame, where nothing but the detections is known.

KITTI's tracking sequences come without the vehicle's motion. It is taken from what the objects have in common
(`common_motion`); in the plane that it spans the tracker works as it does in a vehicle.

What a detector's scores mean is its own: here they become log odds first. A track is worth the mean of the log odds of
its detections, drawn towards doubt while they are few; a frame in which it was only foretold adds nothing. That is the
score of its boxes, and boxes of tracks that are hardly more than clutter are left out.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy.special import expit

from karp_perception.core import Boxes, Objects
from karp_perception.core.settings import Settings, setting
from karp_perception.prediction.settings import PredictionSettings
from karp_perception.sensing.datasets.kitti_tracking import FRAME_NS, KittiRows, boxes_of, rows_of
from karp_perception.tracking.common_motion import CommonMotion, CommonMotionSettings
from karp_perception.tracking.motion import MotionSettings
from karp_perception.tracking.tracker import Tracker
from karp_perception.tracking.tracker_settings import TrackerSettings

_LEAST, _MOST = 1e-3, 1 - 1e-3  # of a probability
_ANY_SPEED = 50.0  # m/s
_NEAR_M = 1.0  # nothing nearer is in the picture
_MOST_OUTSIDE = 0.25  # of the width of what is still in the picture
_FAR_M = 10.0  # boxes from here on are whole in the picture
_FOCAL_PX = 720.0  # of KITTI's camera, where no detection tells it


def _tracker_settings() -> TrackerSettings:
    """As in a vehicle, but for what these detections are: many and weak ones, one class a file, no visible parts.

    Where few objects tell the vehicle's motion, part of it is left in theirs: they accelerate more and do not go where
    they point, and a turn that all of them had would be the vehicle's own.
    """
    return TrackerSettings(
        prediction=PredictionSettings(horizon=0.1),
        motion=MotionSettings(
            vehicle_acceleration=2.5, pedestrian_acceleration=1.5, sideways=_ANY_SPEED, yaw_rate=0.02, curvature=0.002
        ),
        birth_score=0.2, confident=0.5, weak_cost=0.0, weak_existence=0.0, confirm=0.0, report=0.0, forget=0.03,
        missed=5.0, class_weight=20.0, kindred_weight=20.0,
    )  # fmt: skip


@dataclass(frozen=True)
class RecordedSettings(Settings):
    """What PointRCNN's detections in KITTI are worth, and what is told of the tracks.

    The calibration and the deviations were measured on labelled sequences: pairs of Car, Pedestrian, Cyclist.
    """

    tracker: TrackerSettings = field(default_factory=_tracker_settings)
    common_motion: CommonMotionSettings = field(default_factory=CommonMotionSettings)
    slope: tuple[float, ...] = setting((1.0, 1.6, 1.1), "log odds of being real a unit of score", low=0.01)
    even: tuple[float, ...] = setting((2.0, 3.0, 3.7), "score at which a detection is as likely real as not")
    near_deviation: float = setting(0.06, "of a centre at the sensor", unit="m", low=0.001, high=5.0)
    far_deviation: float = setting(0.004, "what each metre of distance adds", unit="m/m", low=0.0, high=1.0)
    size_deviation: float = setting(0.2, "of lengths, widths and heights", unit="m", low=0.001, high=5.0)
    yaw_deviation: tuple[float, ...] = setting((0.03, 0.15, 0.08), "of yaws", unit="rad", low=0.001, high=3.0)
    motion_score: float = setting(
        0.4, "detections from this probability on tell the vehicle's motion", low=0.0, high=1.0
    )
    doubt: float = setting(4.0, "log odds against a track before its first detection", low=0.0, high=20.0)
    doubt_weight: float = setting(3.0, "detections that outweigh it", low=0.0, high=100.0)
    least: float = setting(-3.0, "log odds below which a track is not told of", low=-20.0, high=20.0)
    foretold: float = setting(0.6, "for how long a track is told of without a detection", unit="s", low=0.0, high=10.0)


_KINDS = ("Car", "Pedestrian", "Cyclist")


def track_kitti(detections: KittiRows, settings: RecordedSettings | None = None) -> KittiRows:
    """Tracks of one sequence, all that its detections hold.

    Args:
        detections: rows of any number of classes, in any order.

    Returns:
        rows with ids and scores (log odds), in the order of frames.
    """
    settings = settings or RecordedSettings()
    told = _Told(detections, settings)
    tracker, motion = Tracker(settings.tracker), CommonMotion(settings.common_motion)
    boxes = _with_variance(detections, settings)
    order = np.argsort(detections.frame, kind="stable")
    frames = np.arange(int(detections.frame.max(initial=-1)) + 1)
    bounds = np.searchsorted(detections.frame[order], np.r_[frames, len(frames)])
    parts = []
    for frame, begin, end in zip(frames.tolist(), bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        rows, stamp_ns = order[begin:end], frame * FRAME_NS
        here = boxes[rows]
        expected, deviation, fresh = tracker.expected(stamp_ns)
        ego = motion.step(stamp_ns, expected, deviation, fresh, here[here.score >= settings.motion_score])
        objects = tracker.step(stamp_ns, here, Boxes.empty(), ego)
        parts.append(told.rows(frame, objects, rows))
    return KittiRows.concatenate(parts)


def _one_thing(boxes: Boxes, score: np.ndarray) -> np.ndarray:
    """(N,) False for tracks that lie on a surer one (by `score`) of another class: one thing is not two."""
    label, length = boxes.label, boxes.size[:, 0]
    if len(boxes) == 0 or (label == label[0]).all():
        return np.ones(len(boxes), bool)
    apart = np.hypot(*(boxes.center[:, None, :2] - boxes.center[None, :, :2]).transpose(2, 0, 1))
    rival = (label[:, None] != label) & (score > score[:, None]) & (apart < 0.25 * (length[:, None] + length))
    return ~rival.any(axis=1)


class _Told:
    """What is told of each track: its score, and its rectangle in the image."""

    def __init__(self, detections: KittiRows, settings: RecordedSettings) -> None:
        self.detections, self.settings = detections, settings
        ids = len(detections) + 2  # each track began with a detection
        self._total, self._count = np.zeros(ids), np.zeros(ids)
        self._last = np.zeros(ids, int)  # row of the last detection
        self._log_odds = _log_odds(detections, settings)
        far = detections.bottom[:, 2] > _FAR_M
        height = detections.rectangle[far, 3] - detections.rectangle[far, 1]
        focal = height * detections.bottom[far, 2] / detections.size[far, 0]
        self._focal = float(np.median(focal)) if len(focal) else _FOCAL_PX
        self._right = float(detections.rectangle[:, 2].max(initial=0.0))

    def rows(self, frame: int, objects: Objects, rows: np.ndarray) -> KittiRows:
        """The boxes of one frame; `rows` are those of the detections that `objects.detection_index` counts."""
        settings, found = self.settings, objects.detection_index >= 0
        ids, seen = objects.track_id, objects.track_id[found]
        row = rows[objects.detection_index[found]]
        self._total[seen] += self._log_odds[row]
        self._count[seen] += 1
        self._last[seen] = row
        score = (self._total[ids] - settings.doubt * settings.doubt_weight) / (self._count[ids] + settings.doubt_weight)
        columns = rows_of(objects.boxes)
        rectangle, visible = self._rectangles(columns, self._last[ids], found)
        tell = (score >= settings.least) & visible & (objects.unseen <= settings.foretold + 1e-6)
        tell &= _one_thing(objects.boxes, score)
        n = int(tell.sum())
        return KittiRows.of(
            n, frame=np.full(n, frame), track_id=ids[tell], kind=self.detections.kind[self._last[ids[tell]]],
            rectangle=rectangle[tell], score=score[tell], **{name: column[tell] for name, column in columns.items()},
        )  # fmt: skip

    def _rectangles(
        self, columns: dict[str, np.ndarray], last: np.ndarray, found: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """(N, 4) px and (N,) whether they are in the picture: the detection's, or where the last one moved to."""
        before, rectangle = self.detections.bottom[last], self.detections.rectangle[last]
        x, y, z = columns["bottom"].T
        depth = np.maximum(z, _NEAR_M)
        shift = self._focal * np.column_stack([x / depth - before[:, 0] / before[:, 2], np.zeros(len(x))])
        shift[:, 1] = self._focal * (y / depth - before[:, 1] / before[:, 2])
        middle = 0.5 * (rectangle[:, :2] + rectangle[:, 2:])
        half = 0.5 * (rectangle[:, 2:] - rectangle[:, :2]) * (before[:, 2] / depth)[:, None]
        moved = np.column_stack([middle + shift - half, middle + shift + half])
        out = _MOST_OUTSIDE * 2 * half[:, 0]
        inside = (z > _NEAR_M) & (moved[:, 0] + out > 0) & (moved[:, 2] - out < self._right)
        return np.where(found[:, None], rectangle, moved), found | inside


def _log_odds(detections: KittiRows, settings: RecordedSettings) -> np.ndarray:
    kind = _kind(detections)
    return np.array(settings.slope)[kind] * (detections.score - np.array(settings.even)[kind])


def _with_variance(detections: KittiRows, settings: RecordedSettings) -> Boxes:
    """The detections as Boxes, with scores that are probabilities, and with variances."""
    boxes = boxes_of(detections, np.clip(expit(_log_odds(detections, settings)), _LEAST, _MOST))
    distance = np.hypot(*boxes.center[:, :2].T)
    place = settings.near_deviation**2 + (settings.far_deviation * distance) ** 2
    yaw = np.array(settings.yaw_deviation)[_kind(detections)] ** 2
    size = np.full((len(boxes), 3), settings.size_deviation**2)
    variance = np.column_stack([place, place, place, size, yaw, np.ones((len(boxes), 2))])
    return Boxes(boxes.center, boxes.size, boxes.yaw, boxes.velocity, boxes.label, boxes.score, variance)


def _kind(detections: KittiRows) -> np.ndarray:
    return np.array([_KINDS.index(kind) for kind in detections.kind.tolist()], int)
