"""`karp track` beside a plain tracker on KITTI tracking sequences: the same detections, measures and machine.

    python benchmarks/tracking_kitti.py ../shared/data/kitti_tracking --json kitti.json

FOLDER holds `labels/SSSS.txt` and `detections/SSSS_<car|pedestrian|cyclist>.txt`. The plain tracker is written after
AB3DMOT (Weng et al. 2020): a Kalman filter of constant velocity a track in the camera's frame, one Hungarian assignment
on 3D IoU (cars) or distance (others), reported from the third match on and for one frame after a miss, with the score
of the last detection.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
from scipy.optimize import linear_sum_assignment

from karp_perception.evaluation.track_pairs import iou_3d_pairs
from karp_perception.evaluation.tracking import measures, read_sequences
from karp_perception.sensing.datasets.kitti_tracking import KittiRows
from karp_perception.tracking.recorded import track_kitti

HITS, AGE = 3, 2
NEAR_M = {"Pedestrian": 1.0, "Cyclist": 2.0}
_STATE, _MEASURED = 10, 7  # x y z rotation_y h w l, velocity of the place


@dataclass
class PlainTrack:
    """A track of the plain tracker: state (10,), covariance, the row of its last detection."""

    number: int
    mean: np.ndarray
    covariance: np.ndarray = field(default_factory=lambda: np.diag([10.0] * 7 + [1e4] * 3))
    row: int = 0
    hits: int = 1
    missed: int = 0

    def predict(self) -> None:
        """A frame on, at constant velocity."""
        F = np.eye(_STATE)
        F[[0, 1, 2], [7, 8, 9]] = 1
        self.mean = F @ self.mean
        self.covariance = F @ self.covariance @ F.T + np.diag([1.0] * 7 + [0.01] * 3)

    def update(self, measured: np.ndarray, row: int) -> None:
        """Joins a detection (7,), turned by half where it points the other way."""
        H = np.eye(_MEASURED, _STATE)
        turn = (measured[3] - self.mean[3] + np.pi) % (2 * np.pi) - np.pi
        turn = turn - np.pi * np.sign(turn) if abs(turn) > np.pi / 2 else turn
        innovation = measured - self.mean[:7]
        innovation[3] = turn
        gain = self.covariance @ H.T @ np.linalg.inv(H @ self.covariance @ H.T + np.eye(_MEASURED))
        self.mean = self.mean + gain @ innovation
        self.covariance = (np.eye(_STATE) - gain @ H) @ self.covariance
        self.row, self.hits, self.missed = row, self.hits + 1, 0


def plain_tracker(detections: KittiRows, kind: str) -> KittiRows:
    """Results of one sequence and class."""
    tracks: list[PlainTrack] = []
    numbers, told = 0, []
    measured = np.column_stack([detections.bottom, detections.rotation_y, detections.size])
    for frame in range(int(detections.frame.max(initial=-1)) + 1):
        rows = np.flatnonzero(detections.frame == frame)
        for track in tracks:
            track.predict()
        taken = _matches(tracks, detections[rows], kind)
        for i, j in taken:
            tracks[i].update(measured[rows[j]], int(rows[j]))
        matched, used = {i for i, _ in taken}, {j for _, j in taken}
        for i, track in enumerate(tracks):
            track.missed += i not in matched
        for j in sorted(set(range(len(rows))) - used):
            numbers += 1
            tracks.append(PlainTrack(numbers, np.r_[measured[rows[j]], 0, 0, 0], row=int(rows[j])))
        for track in tracks:
            if track.missed < AGE and (track.hits >= HITS or frame < HITS):
                told.append((frame, track.number, track.row, *track.mean[:7]))
        tracks = [track for track in tracks if track.missed < AGE]
    return _rows(told, detections, kind)


def _matches(tracks: list[PlainTrack], boxes: KittiRows, kind: str) -> list[tuple[int, int]]:
    if not tracks or not len(boxes):
        return []
    state = np.array([track.mean[:7] for track in tracks])
    n, m = len(tracks), len(boxes)
    expected = KittiRows.of(n, bottom=state[:, :3], rotation_y=state[:, 3], size=np.maximum(state[:, 4:], 0.01))
    cost, worst = np.full((n, m), 1e3), 1e3
    if kind in NEAR_M:
        cost = np.linalg.norm(expected.bottom[:, None] - boxes.bottom[None], axis=2)
        worst = NEAR_M[kind]
    else:
        sides = ((a.ground(), a.heights()) for a in (expected, boxes))
        pairs = iou_3d_pairs(np.zeros(n, int), next(sides), np.zeros(m, int), next(sides))
        cost[pairs.truth, pairs.found] = 1 - pairs.similarity
        worst = 0.99
    return [(i, j) for i, j in zip(*linear_sum_assignment(cost), strict=True) if cost[i, j] < worst]


def _rows(told: list[tuple[float, ...]], detections: KittiRows, kind: str) -> KittiRows:
    table = np.reshape(np.array(told, float), (-1, 10))
    row = table[:, 2].astype(int)
    return KittiRows.of(
        len(table), frame=table[:, 0].astype(int), track_id=table[:, 1].astype(int), kind=np.full(len(table), kind),
        bottom=table[:, 3:6], rotation_y=table[:, 6], size=table[:, 7:], rectangle=detections.rectangle[row],
        score=detections.score[row],
    )  # fmt: skip


def main() -> None:
    """Both trackers, a class after the other as their detections come; prints JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    sequences = read_sequences(arguments.folder)
    truth, rows = [sequence.truth for sequence in sequences], []
    for kind in ("Car", "Pedestrian", "Cyclist"):
        found = [sequence.detections[sequence.detections.kind == kind] for sequence in sequences]
        frames = sum(int(part.frame.max(initial=-1)) + 1 for part in found)
        for name, run in (("karp", track_kitti), ("plain", partial(plain_tracker, kind=kind))):
            start = time.perf_counter()
            tracks = [run(part) for part in found]
            seconds = time.perf_counter() - start
            row = measures(truth, tracks, kind)
            shown = {key: round(100 * row[key], 2) for key in ("samota", "amota", "amotp", "mota", "hota")}
            counts = {key: row[key] for key in ("switches", "fragmentations", "truths")}
            rows.append(
                {"class": kind, "tracker": name, **shown, **counts, "frames_per_second": round(frames / seconds)}
            )
    text = json.dumps({"tracking_kitti": rows}, indent=2)
    print(text)
    if arguments.json:
        arguments.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
