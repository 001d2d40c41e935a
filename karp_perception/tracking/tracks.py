"""The table of tracks: everything a tracker knows of N things, as arrays with one row a track."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from scipy.special import expit

from karp_perception.core import CLASS_NAMES, Boxes, ObjectClass
from karp_perception.core.classes import TWO_WHEELERS, VEHICLES
from karp_perception.core.geometry import wrap_angle
from karp_perception.tracking.motion import Motion

_ROLLS = np.array([label in VEHICLES or label in TWO_WHEELERS for label in [*range(len(CLASS_NAMES)), -1]])
"""By class, UNKNOWN last."""


@dataclass
class Tracks:
    """N tracks in the `odom` frame.

    Attributes:
        motion: position and velocity of the centres.
        track_id: (N,).
        z: (N,) height of the centres, m, and z_variance (N,), m².
        size: (N, 3) m.
        yaw: (N,) rad, and yaw_variance (N,), rad².
        against: (N,) recent share of detections that point the other way, in [0, 1].
        evidence: (N, 10) recent detection scores by class.
        existence: (N,) log odds that the thing exists.
        confirmed: (N,) whether it was ever sure enough to report.
        whole: (N,) whether a detection has given the whole box (True) or only visible parts are known.
        sightings: (N,) how many detections gave the whole box.
        origin: (N, 2) m where the track was born, or stood last.
        age, unseen: (N,) s.
        detection: (N,) row of the detection that updated the track in this frame, -1 for none.
    """

    motion: Motion
    track_id: np.ndarray
    z: np.ndarray
    z_variance: np.ndarray
    size: np.ndarray
    yaw: np.ndarray
    yaw_variance: np.ndarray
    against: np.ndarray
    evidence: np.ndarray
    existence: np.ndarray
    confirmed: np.ndarray
    whole: np.ndarray
    sightings: np.ndarray
    origin: np.ndarray
    age: np.ndarray
    unseen: np.ndarray
    detection: np.ndarray

    @classmethod
    def empty(cls) -> Tracks:
        """No tracks."""
        none = np.zeros(0)
        motion = Motion.born(np.zeros((0, 2)), np.zeros((0, 2, 2)), none, none)
        return cls.born(Boxes.empty("odom"), motion, np.zeros(0, np.int64), none, none, none)

    @classmethod
    def born(
        cls,
        boxes: Boxes,
        motion: Motion,
        track_id: np.ndarray,
        z_variance: np.ndarray,
        yaw_variance: np.ndarray,
        existence: np.ndarray,
    ) -> Tracks:
        """New tracks of measured boxes (N rows, `odom`)."""
        n = len(boxes)
        evidence = np.zeros((n, len(CLASS_NAMES)))
        classed = np.flatnonzero(boxes.label >= 0)
        evidence[classed, boxes.label[classed]] = boxes.score[classed]
        return cls(
            motion=motion,
            track_id=track_id,
            z=boxes.center[:, 2].copy(),
            z_variance=z_variance.copy(),
            size=boxes.size.copy(),
            yaw=boxes.yaw.copy(),
            yaw_variance=yaw_variance.copy(),
            against=np.zeros(n),
            evidence=evidence,
            existence=existence.copy(),
            confirmed=np.zeros(n, bool),
            whole=boxes.label >= 0,
            sightings=np.ones(n),
            origin=boxes.center[:, :2].copy(),
            age=np.zeros(n),
            unseen=np.zeros(n),
            detection=np.full(n, -1),
        )

    def __len__(self) -> int:
        return len(self.track_id)

    def take(self, rows: np.ndarray) -> Tracks:
        """Those rows alone (mask or index)."""
        rows = np.flatnonzero(rows) if rows.dtype == bool else rows
        columns = {f.name: getattr(self, f.name) for f in fields(self)}
        return Tracks(**{n: c.take(rows) if isinstance(c, Motion) else c[rows] for n, c in columns.items()})

    def joined(self, other: Tracks) -> Tracks:
        """These rows and then those of `other`."""
        columns = {}
        for f in fields(self):
            a, b = getattr(self, f.name), getattr(other, f.name)
            columns[f.name] = a.joined(b) if isinstance(a, Motion) else np.concatenate([a, b])
        return Tracks(**columns)

    @property
    def label(self) -> np.ndarray:
        """(N,) the class with most evidence; UNKNOWN without any."""
        if len(self) == 0:
            return np.zeros(0, np.int64)
        return np.where(self.evidence.max(axis=1) > 0, self.evidence.argmax(axis=1), ObjectClass.UNKNOWN)

    @staticmethod
    def turns(label: np.ndarray) -> np.ndarray:
        """(N,) whether things of classes (N,) roll on wheels, so that they go where they point."""
        return _ROLLS[label]

    @property
    def probability(self) -> np.ndarray:
        """(N,) that the thing exists."""
        return expit(self.existence)

    def planar(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean (N, 4) and covariance (N, 4, 4) of x, y, vx, vy as they are to be believed.

        Parts without a class (a hedge, a wall) are cut differently from frame to frame, which looks like motion but
        never gets far that way. Until such a track has left its place of birth, or where it last stood, by half its
        size in the direction in which it seems to move, it may as well stand.
        """
        mean, covariance = self.motion.mixed()
        half = 0.5 * np.hypot(self.size[:, 0], self.size[:, 1])
        speed = np.maximum(np.hypot(mean[:, 2], mean[:, 3]), 1e-9)
        way = np.einsum("ni,ni->n", mean[:, :2] - self.origin, mean[:, 2:]) / speed
        left = np.clip(way / np.maximum(half, 1e-9), 0.0, 1.0)
        doubt = np.where(self.whole, 0.0, 1 - left)[:, None, None]
        covariance = covariance.copy()
        covariance[:, 2:, 2:] += doubt * mean[:, 2:, None] * mean[:, None, 2:]
        return mean, covariance

    def settle(self, age: float, moving: float) -> None:
        """Tracks older than `age` s that move with a probability below `moving` stand: they have to leave here."""
        stand = (self.age > age) & (self.motion.moving < moving)
        self.origin[stand] = self.motion.mixed()[0][stand, :2]

    def join_height(self, rows: np.ndarray, z: np.ndarray, variance: np.ndarray) -> None:
        """Joins measured heights (M,) m with variances (M,) m² to the tracks `rows`."""
        gain = self.z_variance[rows] / (self.z_variance[rows] + variance)
        self.z[rows] += gain * (z - self.z[rows])
        self.z_variance[rows] *= 1 - gain

    def boxes(self) -> Boxes:
        """The tracks as boxes in `odom`, score = probability that they exist."""
        mean, _ = self.motion.mixed()
        return Boxes.trusted(
            "odom", center=np.column_stack([mean[:, :2], self.z]), size=self.size.copy(), yaw=wrap_angle(self.yaw),
            velocity=mean[:, 2:], label=self.label, score=self.probability,
        )  # fmt: skip
