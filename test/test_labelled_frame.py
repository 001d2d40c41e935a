"""Scoring a labelled frame, against counts made by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from karp_perception.core import Boxes, CameraFrame, LidarSweep, SensorFrame
from karp_perception.evaluation.frame_score import score_labelled_frame
from karp_perception.sensing.labelled_frame import LabelledFrame


def boxes(*rows: tuple[float, float, int, float]) -> Boxes:
    """x, y, label, score of boxes of a car's size."""
    n = len(rows)
    x, y, label, score = np.array(rows, float).reshape(n, 4).T
    center = np.stack([x, y, np.full(n, 0.8)], axis=1)
    size = np.tile([4.0, 1.8, 1.6], (n, 1))
    return Boxes(center, size, np.zeros(n), np.zeros((n, 2)), label.astype(int), score)


def frame(labels: Boxes, points_inside: list[int], unlabelled: list[tuple[float, float, float]] = []) -> LabelledFrame:  # noqa: B006
    sensors = SensorFrame(0, {}, LidarSweep(np.zeros((0, 4), np.float32), 0))
    places = np.array(unlabelled, float).reshape(-1, 3)
    return LabelledFrame(sensors, labels, np.array(points_inside), places, sector=False)


def test_each_label_is_taken_once_and_the_best_score_goes_first() -> None:
    truth = frame(boxes((10, 0, 0, 1), (20, 0, 0, 1)), [50, 50])
    found = boxes((10.5, 0, 0, 0.9), (10.2, 0, 0, 0.5), (30, 5, 0, 0.8))
    score = score_labelled_frame(truth, found, Boxes.empty())["vehicles"]
    assert (score["labels"], score["hits"], score["false_alarms"]) == (2, 1, 2)
    assert score["recall"] == 0.5
    assert score["precision"] == round(1 / 3, 4)
    assert score["center_error_m"] == 0.5


def test_labels_that_do_not_count_and_unlabelled_objects_excuse_detections() -> None:
    truth = frame(boxes((10, 0, 0, 1), (20, 0, 0, 1)), [50, 3], [(0, 30, 4)])
    found = boxes((20, 0, 0, 0.9), (0, 32, 0, 0.8), (39, 0, 0, 0.7), (60, 0, 0, 0.9))
    score = score_labelled_frame(truth, found, Boxes.empty())["vehicles"]
    assert (score["labels"], score["hits"], score["false_alarms"]) == (1, 0, 1)


def test_groups_are_scored_apart() -> None:
    truth = frame(boxes((10, 0, 5, 1), (15, 5, 7, 1)), [50, 50])
    score = score_labelled_frame(truth, boxes((10, 0, 0, 0.9), (15, 5, 6, 0.9)), Boxes.empty())
    assert score["pedestrians"]["hits"] == 0
    assert score["two_wheelers"]["hits"] == 1
    assert score["vehicles"]["false_alarms"] == 0, "the wrong class on a labelled object is a miss, not a phantom"


def test_only_what_the_camera_sees_counts_in_a_sector() -> None:
    ahead = np.array([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 1.5], [0, 0, 0, 1]])
    K = np.array([[100.0, 0, 80], [0, 100, 40], [0, 0, 1]])
    camera = CameraFrame(np.zeros((80, 160, 3), np.uint8), K, ahead, 0)
    truth = frame(boxes((10, 0, 0, 1), (-10, 0, 0, 1)), [50, 50])
    truth = replace(truth, sensors=SensorFrame(0, {"front": camera}), sector=True)
    found = boxes((10, 0, 0, 0.9), (-20, 0, 0, 0.9), (10, 30, 0, 0.9))
    score = score_labelled_frame(truth, found, Boxes.empty())["vehicles"]
    assert (score["labels"], score["hits"], score["false_alarms"]) == (1, 1, 0)
    missing = replace(truth, sensors=SensorFrame(0, {"front": camera, "rear": None}))
    assert score_labelled_frame(missing, found, Boxes.empty())["vehicles"] == score


def test_obstacles_cover_the_labels_they_touch() -> None:
    truth = frame(boxes((10, 0, 0, 1), (20, 0, 0, 1), (30, 0, 5, 1)), [50, 50, 3])
    score = score_labelled_frame(truth, Boxes.empty(), boxes((12.5, 0.5, -1, 1), (26, 0, -1, 1)))["obstacles"]
    assert score == {"labels": 2, "covered": 0.5, "count": 2}


def test_nothing_against_nothing() -> None:
    score = score_labelled_frame(frame(Boxes.empty(), []), Boxes.empty(), Boxes.empty())
    assert score["vehicles"]["recall"] is None
    assert score["vehicles"]["precision"] is None
    assert score["obstacles"] == {"labels": 0, "covered": None, "count": 0}
