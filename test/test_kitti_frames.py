"""Boxes in KITTI's terms: places, turns and rectangles worked out by hand, and KITTI's own labels."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from karp_perception.core import Boxes, CameraFrame
from karp_perception.core.geometry import transform_points
from karp_perception.evaluation.kitti_frames import kitti_frame_of_file, objects_in_view
from karp_perception.evaluation.kitti_metrics import KittiFrame, kitti_metrics

# 1.5 m above the ground, looking ahead: its x is to the right, its y down, its z ahead.
AHEAD = np.array([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 1.5], [0, 0, 0, 1]])
K = np.array([[500.0, 0, 400], [0, 500, 200], [0, 0, 1]])
CAMERA = CameraFrame(np.zeros((400, 800, 3), np.uint8), K, AHEAD, 0)


def boxes(*rows: tuple[float, float, float, int], size: tuple[float, float, float] = (4, 2, 1.5)) -> Boxes:
    """x, y, yaw, label of boxes that stand on the ground."""
    n = len(rows)
    x, y, yaw, label = np.array(rows, float).reshape(n, 4).T
    center = np.stack([x, y, np.full(n, size[2] / 2)], axis=1)
    sizes = np.tile(np.array(size, float), (n, 1))
    return Boxes(center, sizes, yaw, np.zeros((n, 2)), label.astype(int), np.linspace(0.9, 0.5, n))


def test_places_turns_and_rectangles_by_hand() -> None:
    # 20 m ahead, 3 m to the left; pointing ahead, and to the right.
    objects = objects_in_view(boxes((20, 3, 0, 0), (20, 3, -np.pi / 2, 5)), CAMERA, AHEAD)
    assert objects.type.tolist() == ["car", "pedestrian"]
    np.testing.assert_allclose(objects.location, [[-3, 1.5, 20]] * 2, atol=1e-12)
    np.testing.assert_allclose(objects.size, [[1.5, 2, 4]] * 2)
    np.testing.assert_allclose(objects.rotation_y, [-np.pi / 2, 0], atol=1e-12)
    np.testing.assert_allclose(objects.alpha, objects.rotation_y - np.arctan2(-3, 20))
    # The nearest face is 18 m away and 2 m wide; its outer edge is seen on it, its inner one on the face 22 m away.
    wanted = [400 - 500 * 4 / 18, 200 + 0, 400 - 500 * 2 / 22, 200 + 500 * 1.5 / 18]
    np.testing.assert_allclose(objects.bbox2d[0], wanted)
    assert objects.score.tolist() == [0.9, 0.5]


def test_only_what_shows_in_the_image_is_kept_and_cut_at_its_border() -> None:
    # Ahead; behind; far to the side; halfway over the left border; reaching behind the camera.
    found = boxes((20, 0, 0, 0), (-20, 0, 0, 0), (10, 30, 0, 0), (10, 8, 0, 0), (1, 2.5, 0, 0))
    objects = objects_in_view(found, CAMERA, AHEAD)
    assert objects.score.tolist() == found.score[[0, 3, 4]].tolist()
    assert objects.bbox2d[1, 0] == 0
    assert objects.bbox2d[1, 2] == pytest.approx(400 - 500 * 7 / 12)
    assert objects.bbox2d[2].tolist()[:2] == [0, 200]


@settings(max_examples=50, deadline=None)
@given(st.floats(5, 60), st.floats(-30, 30), st.floats(-3, 3), st.floats(0.3, 10), st.floats(0.3, 3))
def test_rectangles_hold_the_projected_corners(x: float, y: float, yaw: float, length: float, width: float) -> None:
    box = boxes((x, y, yaw, 0), size=(length, width, 1.7))
    corners = transform_points(np.linalg.inv(AHEAD), box.corners()[0])
    if corners[:, 2].min() < 0.5:
        return
    pixels = corners[:, :2] / corners[:, 2:] * 500 + [400, 200]
    wanted = np.clip(np.r_[pixels.min(axis=0), pixels.max(axis=0)], 0, [799, 399, 799, 399])
    objects = objects_in_view(box, CAMERA, AHEAD)
    if len(objects):
        np.testing.assert_allclose(objects.bbox2d[0], wanted, atol=1e-6)
    else:
        assert (wanted[2:] <= wanted[:2]).any()


def test_objects_against_themselves_have_full_marks() -> None:
    rng = np.random.default_rng(0)
    frames = []
    for _ in range(30):
        grid = [(x, y, rng.uniform(-3, 3), label) for x in (10, 20, 30) for y, label in ((-4, 0), (0, 5), (4, 7))]
        objects = objects_in_view(boxes(*grid), CAMERA, AHEAD)
        frames.append(KittiFrame(objects, objects))
    for name, scores in kitti_metrics(frames).items():
        assert scores["truths"]["moderate"] > 80
        for measure in ("2d", "bev", "3d", "aos"):
            assert scores[measure]["ap40"]["moderate"] == pytest.approx(1.0), (name, measure)


def test_labels_of_a_file_are_taken_as_they_stand() -> None:
    columns = SimpleNamespace(
        kind=("Car", "Van", "DontCare"),
        truncated=np.array([0.1, 0, -1]),
        occluded=np.array([1.0, 0, -1]),
        rectangle=np.array([[10.0, 150, 60, 220], [100, 100, 200, 200], [300, 100, 400, 200]]),
        size=np.array([[1.5, 2, 4], [2, 2, 5], [-1, -1, -1]]),
        bottom=np.array([[-3.0, 1.5, 20], [3, 1.5, 25], [-1000, -1000, -1000]]),
        rotation_y=np.array([-np.pi / 2, 0.3, -10]),
    )
    frame = kitti_frame_of_file(columns, AHEAD, CAMERA, boxes((20, 3, 0, 0)))
    assert frame.truth.type.tolist() == ["car", "van", "dontcare"]
    np.testing.assert_allclose(frame.detections.location, frame.truth.location[:1], atol=1e-12)
    scores = kitti_metrics([frame])["Car"]
    assert scores["truths"] == {"easy": 0, "moderate": 1, "hard": 1}
    assert scores["3d"]["ap11"]["moderate"] == pytest.approx(1 / 11)


@pytest.mark.data
def test_observation_angles_are_those_in_kittis_labels(recorded_data: Path) -> None:
    rows = [line.split() for line in (recorded_data / "kitti_tracking/labels/0000.txt").read_text().splitlines()]
    table = np.array([row[3:17] for row in rows if row[2] != "DontCare"], float)
    location, rotation_y, alpha = table[:, 10:13], table[:, 13], table[:, 2]
    columns = SimpleNamespace(
        kind=("Car",) * len(table),
        truncated=table[:, 0],
        occluded=table[:, 1],
        rectangle=table[:, 3:7],
        size=table[:, 7:10],
        bottom=location,
        rotation_y=rotation_y,
    )
    found = kitti_frame_of_file(columns, AHEAD, CAMERA, Boxes.empty()).truth.alpha
    turn = np.abs(np.angle(np.exp(1j * (found - alpha))))
    assert np.median(turn) < 0.01
    assert (
        turn[np.hypot(location[:, 0], location[:, 2]) > 8].max() < 0.03
    )  # nearer, it matters where theirs is measured
