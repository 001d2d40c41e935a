"""Pictures of an evaluation: what is drawn stands where its value says."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from known_truth import Knowing, street

from karp_perception.evaluation.detection import run_detector
from karp_perception.evaluation.detection_report import detection_report
from karp_perception.view.metric_curves import broken_down, precision_recall, robustness, sensors, write_pictures
from karp_perception.view.palette import BACKGROUND, class_color
from karp_perception.view.plot import Plot, canvas

RED = (255, 0, 0)


def rows_and_columns(image: np.ndarray, color: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    return np.nonzero((image == color).all(axis=-1))


def test_values_stand_between_the_ends_of_the_axes() -> None:
    plot = Plot(canvas(200, 120), (50, 20, 150, 100), (0.0, 10.0), (0.0, 2.0))
    np.testing.assert_allclose(plot.place(np.array([0.0, 5.0, 10.0]), np.array([0.0, 1.0, 2.0])),
                               [[50, 100], [100, 60], [150, 20]])  # fmt: skip


def test_a_bar_is_as_high_as_its_value_and_a_line_breaks_where_nothing_is_known() -> None:
    image = canvas(200, 120)
    plot = Plot(image, (0, 0, 200, 100), (0.0, 2.0), (0.0, 1.0))
    plot.bar((0.0, 0.0), (1.0, 0.5), RED)
    rows, columns = rows_and_columns(image, RED)
    assert (rows.min(), rows.max()) == pytest.approx((50, 100), abs=1)
    assert (columns.min(), columns.max()) == pytest.approx((0, 100), abs=1)

    image = canvas(200, 120)
    Plot(image, (0, 0, 200, 100), (0.0, 4.0)).line(np.arange(5.0), np.array([0.5, 0.5, np.nan, 0.5, 0.5]), RED, 3)
    _, columns = rows_and_columns(image, RED)
    assert not ((columns > 55) & (columns < 145)).any()
    assert (columns < 50).any()
    assert (columns > 150).any()


def test_perfect_precision_is_a_line_along_the_top() -> None:
    items = [street(k) for k in range(4)]
    report = detection_report(run_detector(items, Knowing(items)), 0.3)
    image = precision_recall(report)
    drawn = np.zeros(image.shape[:2], bool)
    for label in {int(label) for item in items for label in item.frame.labels.label}:
        drawn |= (image == class_color(label)).all(axis=-1)
    assert drawn[79:82, 100:600].any(axis=0).all(), "precision 1 at every recall"
    assert not drawn[100:480, 80:600].any()
    bars = broken_down(report["by_distance"], "AP by distance", "m")
    assert bars.shape == image.shape
    assert (bars != np.array(BACKGROUND)).any(axis=-1).mean() > 0.05


def test_a_bin_without_labels_has_no_bar() -> None:
    table = {
        "edges": [0, 10, 20, None],
        "mean_ap": [0.5, None, 1.0],
        "ap": {"car": [0.5, None, 1.0]},
        "truths": {"car": [3, 0, 2]},
    }
    image = broken_down(table, "AP", "points")
    empty = broken_down({**table, "mean_ap": [None] * 3, "ap": {"car": [None] * 3}}, "AP", "points")
    differs = (image != empty).any(axis=(0, 2))
    left, middle, right = (differs[lo:hi].any() for lo, hi in ((80, 250), (300, 420), (470, 640)))
    assert left
    assert right
    assert not middle


def test_every_corruption_has_its_bars_and_what_is_not_known_a_dash() -> None:
    def row(name: str, strength: int | None, kept: float | None) -> dict:
        return {"corruption": name, "strength": strength, "nds_kept": kept}

    content = {
        "clean": {"nds": 0.6},
        "rows": [row("fog", 1, 0.9), row("fog", 2, 0.7), row("fog", 3, 0.3), row("no_lidar", None, None)],
    }
    image = robustness(content)
    longer = robustness({**content, "rows": [row("fog", 1, 0.9), row("fog", 2, 0.7), row("fog", 3, 0.8)]})
    assert image.shape[0] > longer.shape[0]
    severe = (189, 79, 75)  # nearly: bars are a little translucent
    width = [np.ptp(np.nonzero((np.abs(picture.astype(int) - severe).max(axis=-1) < 14)[90:125])[1])
             for picture in (image, longer)]  # fmt: skip
    assert width[1] / width[0] == pytest.approx(0.8 / 0.3, rel=0.1)


def test_pictures_are_written_for_all_that_was_measured(tmp_path: Path) -> None:
    items = [street(k) for k in range(3)]
    report = detection_report(run_detector(items, Knowing(items, 0.5)), 0.3)
    row = {"sensors": "lidar", "labels": "all around", "nds": 0.4, "all_sensors": {"nds": 0.6}}
    assert sensors([row]).dtype == np.uint8
    files = write_pictures({**report, "subsets": [row, row]}, tmp_path)
    assert {file.name for file in files} >= {
        "precision_recall.png",
        "ap_by_distance.png",
        "ap_by_points.png",
        "sensors.png",
    }
    for file in files:
        assert cv2.imread(str(file)) is not None
    assert "robustness.png" not in {file.name for file in files}
