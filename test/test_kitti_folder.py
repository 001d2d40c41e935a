"""The benchmark's measures through a whole evaluation of a folder as KITTI has it on disk."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from known_truth import Knowing

from karp_perception.core import Boxes
from karp_perception.evaluation.detection import run_detector
from karp_perception.evaluation.detection_run import EvaluationOptions, Source, dataset_source, evaluate
from karp_perception.evaluation.detection_tables import report_tables
from karp_perception.evaluation.evaluation_frame import EvaluationFrame
from karp_perception.evaluation.kitti_folder import kitti_scores
from karp_perception.sensing.datasets import open_dataset

SIZE = (1242, 375)
FOCAL, CX, CY = 721.5, 609.6, 172.9
FRAMES, CARS = 8, 9


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Frames with cars ahead and a lidar that is tilted a little against the camera."""
    root = tmp_path_factory.mktemp("kitti") / "training"
    for part in ("velodyne", "image_2", "calib", "label_2"):
        (root / part).mkdir(parents=True)
    tilt = cv2.Rodrigues(np.array([0.004, -0.003, 0.002]))[0]
    R_cam_velo = tilt @ np.array([[0.0, -1, 0], [0, 0, -1], [1, 0, 0]])
    t_cam_velo = np.array([0.02, -0.06, -0.33])
    P = np.array([[FOCAL, 0, CX, 44.9], [0, FOCAL, CY, 0.2], [0, 0, 1, 0.003]])
    rng = np.random.default_rng(4)
    for k in range(FRAMES):
        lines = ["DontCare -1 -1 -10 500 160 520 180 -1 -1 -1 -1000 -1000 -1000 -10"]
        points = [rng.uniform(-20, 20, (50, 3))]
        for i in range(CARS):
            h, w, length = rng.uniform((1.4, 1.6, 3.6), (1.7, 1.9, 4.6))
            x, z, turn = (i % 3 - 1) * 5.0 + rng.uniform(-0.5, 0.5), 12.0 + 9.0 * (i // 3), rng.uniform(-3.1, 3.1)
            bottom = np.array([x, 1.65, z])
            corners = bottom + np.array([[a, b, c] for a in (-1, 1) for b in (-h, 0) for c in (-1, 1)])
            u, v = FOCAL * corners[:, 0] / corners[:, 2] + CX, FOCAL * corners[:, 1] / corners[:, 2] + CY
            rectangle = " ".join(f"{value:.2f}" for value in (u.min(), v.min(), u.max(), v.max()))
            place = f"{x:.2f} {bottom[1]:.2f} {z:.2f} {turn:.2f}"
            lines.append(f"Car 0.00 0 0.0 {rectangle} {h:.2f} {w:.2f} {length:.2f} {place}")
            inside = bottom + rng.uniform((-0.5, -1.2, -0.5), (0.5, -0.3, 0.5), (15, 3))
            points.append((inside - t_cam_velo) @ R_cam_velo)
        name = f"{k:06d}"
        (root / "label_2" / f"{name}.txt").write_text("\n".join(lines) + "\n")
        cloud = np.vstack(points)
        np.column_stack([cloud, np.full(len(cloud), 0.3)]).astype("<f4").tofile(root / "velodyne" / f"{name}.bin")
        cv2.imwrite(str(root / "image_2" / f"{name}.png"), np.full((SIZE[1], SIZE[0], 3), 90, np.uint8))
        numbers = {"P2": P, "R0_rect": np.eye(3), "Tr_velo_to_cam": np.column_stack([R_cam_velo, t_cam_velo])}
        text = [f"{key}: {' '.join(f'{value:.9e}' for value in matrix.ravel())}" for key, matrix in numbers.items()]
        (root / "calib" / f"{name}.txt").write_text("\n".join(text) + "\n")
    return root.parent


class ByPoints(Knowing):
    """Knows frames by their points, for KITTI's have no stamps; is off by as many metres to the left as it is told."""

    def __init__(self, items: list[EvaluationFrame], off: float = 0.0) -> None:
        super().__init__([])
        self.truth = {item.frame.sensors.lidar.points.tobytes(): item.frame.labels for item in items}
        self._off = np.array([0.0, off, 0.0])

    def detect(self, frame, stopwatch=None) -> Boxes:
        boxes = self.truth[frame.lidar.points.tobytes()]
        still, score = np.zeros((len(boxes), 2)), boxes.score * 0.9
        return Boxes(boxes.center + self._off, boxes.size, boxes.yaw, still, boxes.label, score)


def frames_of(folder: Path) -> list[EvaluationFrame]:
    dataset = open_dataset(folder, "kitti")
    return [EvaluationFrame(k, str(k), "kitti", dataset[k]) for k in range(len(dataset))]


def test_perfect_detections_score_one_and_those_half_a_car_off_nothing(folder: Path) -> None:
    items = frames_of(folder)
    good = kitti_scores(run_detector(items, ByPoints(items)), folder)["Car"]
    bad = kitti_scores(run_detector(items, ByPoints(items, 0.9)), folder)["Car"]
    # 72 cars are more than there are recall points: all of them are reached.
    assert good["truths"]["hard"] == FRAMES * CARS
    for measure in ("3d", "bev"):
        assert good[measure]["ap40"]["hard"] == pytest.approx(1.0, abs=0.03)
        assert bad[measure]["ap40"]["hard"] < 0.05


def test_an_evaluation_of_the_folder_has_both_kinds_of_measures(folder: Path, tmp_path: Path) -> None:
    detector = ByPoints(frames_of(folder))
    options = EvaluationOptions(kitti=folder, out=tmp_path)
    content = evaluate(dataset_source(folder, "kitti", 5), detector, options)
    assert content["frames"] == 5
    assert content["source"] == {"kind": "kitti", "path": str(folder), "frames": 5}
    assert content["ap"] == {"car": pytest.approx(1.0)}
    assert content["kitti"]["Car"]["truths"]["hard"] == 5 * CARS
    assert (tmp_path / "evaluation.json").exists()


def test_without_images_there_are_no_measures_of_the_benchmark_and_no_table_of_them(
    folder: Path, tmp_path: Path
) -> None:
    for part in ("velodyne", "calib", "label_2"):
        shutil.copytree(folder / "training" / part, tmp_path / "training" / part)
    items = frames_of(tmp_path)[:2]
    content = evaluate(Source(items, 2, {}), ByPoints(items), EvaluationOptions(kitti=tmp_path))
    assert content["kitti"] == {}
    assert content["truths"] == {"car": 2 * CARS}
    assert not any("KITTI" in str(table.columns[0].header) for table in report_tables(content))
