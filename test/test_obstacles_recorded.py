"""The obstacle channel on recorded sweeps of four sensors, against the positions and labels that came with them."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from recorded_truth import LEAD_REAR_M

from karp_perception.core.boxes import Boxes
from karp_perception.core.frames import LidarSweep
from karp_perception.detection.obstacles import ObstacleDetector

pytestmark = pytest.mark.data

SENSOR_HEIGHT = 1.73  # m, of the drive's lidar above base_link; the axes are the same


@pytest.fixture(scope="module")
def drive(recorded_data: Path) -> list[Boxes]:
    """Obstacles in the 30 sweeps of the drive."""
    rosbags = pytest.importorskip("rosbags.highlevel")
    detector, found = ObstacleDetector(), []
    with rosbags.AnyReader([recorded_data / "kitti_drive"]) as reader:
        connections = [c for c in reader.connections if c.topic == "/lidar/points"]
        for connection, _, raw in reader.messages(connections):
            message = reader.deserialize(raw, connection.msgtype)
            rows = np.frombuffer(message.data, np.uint8).reshape(-1, message.point_step)
            offsets = [
                next(f.offset for f in message.fields if f.name == name) for name in ("x", "y", "z", "intensity")
            ]
            points = np.column_stack([rows[:, o : o + 4].copy().view("<f4") for o in offsets])
            points[:, 2] += SENSOR_HEIGHT
            found.append(detector.detect(LidarSweep(points, 0)))
    return found


def test_the_car_ahead_is_one_box_with_its_rear_where_it_is(drive: list[Boxes]) -> None:
    assert len(drive) == 30
    errors, widths = [], []
    for frame, boxes in enumerate(drive):
        ahead = boxes[(np.abs(boxes.center[:, 1]) < 0.8) & (boxes.center[:, 0] > 3.5)]
        nearest = ahead[[int(np.argmin(ahead.footprint()[:, :, 0].min(axis=1)))]]
        errors.append(
            nearest.footprint()[0, :, 0].min() - np.interp(frame, list(LEAD_REAR_M), list(LEAD_REAR_M.values()))
        )
        widths.append(np.ptp(nearest.footprint()[0, :, 1]))
    assert (np.abs(errors) < 0.3).all(), np.round(errors, 2)
    assert np.median(np.abs(errors)) < 0.1
    assert np.ptp(widths) < 0.6, "the same box from frame to frame"
    assert np.median(widths) == pytest.approx(1.7, abs=0.2)


def test_the_lane_up_to_it_is_free_and_the_trucks_beside_are_not(drive: list[Boxes]) -> None:
    for frame, boxes in enumerate(drive):
        rear = np.interp(frame, list(LEAD_REAR_M), list(LEAD_REAR_M.values()))
        assert not any(_reaches(boxes, i, (3.0, rear - 0.3), (-1.2, 1.2)) for i in range(len(boxes))), frame
        assert any(_reaches(boxes, i, (-3.0, 20.0), (1.2, 6.0)) for i in range(len(boxes))), frame
        assert any(_reaches(boxes, i, (-3.0, 12.0), (-6.0, -1.2)) for i in range(len(boxes))), frame


@pytest.mark.parametrize(
    "name", ["kitti_000008", "nuscenes_n015", "sustech_000965", "sustech_000970", "sustech_000975"]
)
def test_what_is_labelled_is_an_obstacle(recorded_data: Path, name: str) -> None:
    folder = recorded_data / "labelled" / name
    labels = json.loads((folder / "frame.json").read_text())["boxes"]
    points = np.fromfile(folder / "points.bin", "<f4").reshape(-1, 4)
    boxes = ObstacleDetector().detect(LidarSweep(points[np.isfinite(points).all(axis=1)], 0))
    near = [b for b in labels if b["points_inside"] >= 10 and np.hypot(*b["center"][:2]) < 40]
    assert len(near) >= 5
    missed = []
    for label in near:
        (x, y, _), (length, width, _) = label["center"], label["size"]
        truth = ((x, y), (length, width), float(np.degrees(label["yaw"])))
        if not any(cv2.rotatedRectangleIntersection(truth, _rectangle(boxes, i))[0] for i in range(len(boxes))):
            missed.append((label["label"], label["center"]))
    assert not missed


def _rectangle(boxes: Boxes, i: int) -> tuple[tuple[float, float], tuple[float, float], float]:
    (x, y, _), (length, width, _) = boxes.center[i].tolist(), boxes.size[i].tolist()
    return (x, y), (length, width), float(np.degrees(boxes.yaw[i]))


def _reaches(boxes: Boxes, i: int, x: tuple[float, float], y: tuple[float, float]) -> bool:
    """Does the footprint of box i reach into a rectangle along the axes."""
    region = ((sum(x) / 2, sum(y) / 2), (x[1] - x[0], y[1] - y[0]), 0.0)
    return cv2.rotatedRectangleIntersection(region, _rectangle(boxes, i))[0] != cv2.INTERSECT_NONE
