"""Shares of the clean score under corruption, with detectors whose weakness is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from known_truth import Knowing, boxes, labelled, street

from karp_perception.core import Boxes, SensorFrame
from karp_perception.evaluation.detection import run_detector
from karp_perception.evaluation.evaluation_frame import EvaluationFrame
from karp_perception.evaluation.robustness import corruption_variants, robustness_table, strengths_of, variant_name
from karp_perception.evaluation.sensor_subsets import figures
from karp_perception.sensing.corruptions import CORRUPTIONS
from karp_perception.sensing.delays import with_late_images


def rows_of(items: list[EvaluationFrame], detector: Knowing, *names: str) -> dict[tuple[str, int | None], dict]:
    frames = run_detector(items, detector, lambda item: corruption_variants(item, names))
    return {(row["corruption"], row["strength"]): row for row in robustness_table(frames, names)["rows"]}


def test_every_corruption_runs_at_each_strength_that_differs() -> None:
    variants = corruption_variants(street(0))
    wanted = {variant_name(name, strength) for name in CORRUPTIONS for strength in strengths_of(name)}
    assert set(variants) == wanted
    assert strengths_of("no_lidar") == (1,)
    assert strengths_of("fog") == (1, 2, 3)


def test_corruptions_of_sensors_that_are_not_there_are_left_out() -> None:
    no_camera = corruption_variants(street(0, cameras={}))
    assert not any(name.startswith(("no_camera", "one_camera", "low_light")) for name in no_camera)
    assert "few_beams 2" in no_camera
    assert "one_camera 1" not in corruption_variants(street(0, cameras={"front": 0.0}))


def test_who_does_not_look_at_the_images_keeps_everything_but_without_a_lidar_nothing() -> None:
    items = [street(k) for k in range(4)]

    class Lidar(Knowing):
        def detect(self, frame: SensorFrame, stopwatch=None) -> Boxes:
            return super().detect(SensorFrame(frame.stamp_ns, {}, frame.lidar), stopwatch)

    rows = rows_of(items, Lidar(items), "no_camera", "low_light", "miscalibration", "no_lidar")
    for name, strength in rows:
        if name != "no_lidar":
            assert rows[name, strength]["nds_kept"] == 1.0
    assert rows["no_lidar", None]["mean_ap_kept"] == 0.0
    assert rows["no_lidar", None]["nds_kept"] == 0.0


def test_in_view_tells_what_cameras_alone_keep_where_they_look() -> None:
    items = [street(k, cameras={"front": 0.0}) for k in range(4)]
    row = rows_of(items, Knowing(items), "no_lidar")["no_lidar", None]
    assert row["mean_ap_kept"] < 0.6, "all around, most lies behind the camera's view"
    assert row["in_view"]["mean_ap_kept"] == 1.0
    assert row["in_view"]["nds_kept"] == 1.0


def test_labels_count_by_the_clean_frame_however_few_points_are_left() -> None:
    items = [street(k, cameras={}) for k in range(4)]

    class Counting(Knowing):
        def detect(self, frame: SensorFrame, stopwatch=None) -> Boxes:
            truth = self.truth[frame.stamp_ns].labels
            hit = truth.contains(frame.lidar.points).any(axis=1)
            return super().detect(frame, stopwatch)[hit]

    rows = rows_of(items, Counting(items), "point_dropout")
    kept = [rows["point_dropout", strength]["mean_ap_kept"] for strength in (1, 2, 3)]
    assert kept[0] == 1.0, "of 12 points a few are left in each box"
    assert kept[2] < 1.0, "boxes without a point left still are there to be found"


def test_where_labels_move_they_are_scored_where_they_are_then() -> None:
    labels = boxes([(15.0, 5.0, 0), (20.0, -5.0, 0)], speed=20.0)
    items = [EvaluationFrame(0, "fast", "", labelled(labels, cameras={"front": 0.0}, visibility=[1.0, 1.0]))]

    class Points(Knowing):
        """Finds a car at the middle of the points around it."""

        def detect(self, frame: SensorFrame, stopwatch=None) -> Boxes:
            points = frame.lidar.points[frame.lidar.points[:, 2] < 4.0].astype(float)
            left = points[points[:, 1] > 0].mean(axis=0), points[points[:, 1] < 0].mean(axis=0)
            return replace(labels, center=np.array([p[:3] for p in left]))

    moved = run_detector(items, Points(items), {"later": lambda item: with_late_images(item.frame, 0.2)})
    later = moved[0].scored("later")
    np.testing.assert_allclose(later.truth.center[:, 0] - labels.center[:, 0], 20.0 * 0.2, atol=1e-9)
    assert figures(moved, "later")["mean_ap"] == pytest.approx(1.0), "who follows the points loses nothing"

    rows = rows_of(items, Points(items), "delay")
    kept = [rows["delay", strength]["mean_ap_kept"] for strength in (1, 2, 3)]
    assert kept[0] > kept[1] > 0.1 > kept[2], "points late by 0.05, 0.1 and 0.2 s are 1, 2 and 4 m off"


def test_chance_depends_on_the_frame_and_not_on_when_it_comes() -> None:
    items = [street(k) for k in range(2)]

    def points(item: EvaluationFrame) -> np.ndarray:
        return corruption_variants(item)["lidar_noise 2"](item).sensors.lidar.points

    again = [points(item) for item in items[::-1]][::-1]
    for item, late in zip(items, again, strict=True):
        np.testing.assert_array_equal(points(item), late)
    assert not np.array_equal(points(items[0])[:5], points(replace(items[0], index=7))[:5])
