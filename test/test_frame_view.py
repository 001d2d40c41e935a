"""The picture of a single frame: what was found is drawn where it is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from small_model import camera, sweep

from karp_perception.core import Boxes, SensorFrame
from karp_perception.view.frame_view import draw_frame
from karp_perception.view.palette import class_color

RNG = np.random.default_rng(0)
CAR = Boxes([[12.0, 0.0, 0.8]], [[4.0, 1.8, 1.6]], [0.0], [[0.0, 0.0]], [0], [0.9])
NONE = Boxes.empty()


def count(image: np.ndarray, color: tuple[int, int, int]) -> int:
    return int((np.abs(image.astype(int) - color).max(axis=2) <= 2).sum())


def frame(cameras: int = 1, lidar: bool = True) -> SensorFrame:
    dark = {str(k): camera(RNG, 0.0) for k in range(cameras)}
    dark = {name: replace(c, image=np.zeros_like(c.image)) for name, c in dark.items()}
    return SensorFrame(0, dark, sweep(RNG) if lidar else None)


def test_detections_appear_in_image_and_from_above() -> None:
    with_car, without = (draw_frame(frame(lidar=False), boxes, NONE, NONE) for boxes in (CAR, NONE))
    assert with_car.shape == (720, 1280, 3)
    changed = (with_car != without).any(axis=2)
    assert count(with_car, class_color(0)) > 100 > count(without, class_color(0))
    assert changed[:, 840:].any()
    assert changed[40:, :832].any()
    # From above the car is ahead of the vehicle, that is higher up than its origin, in the middle.
    rows, columns = np.nonzero(changed[40:, 840:])
    scale = (720 - 36) / 80
    assert abs(columns.mean() - 220) < 4
    assert abs((rows.mean() + 4) - (50 - 12) * scale) < 6


def test_labels_are_white_outlines_from_above_only() -> None:
    with_label, without = (draw_frame(frame(lidar=False), NONE, NONE, labels) for labels in (CAR, NONE))
    changed = (with_label != without).any(axis=2)
    assert changed[40:, 840:].any()
    assert not changed[40:, :832].any()
    drawn = changed.copy()
    drawn[:, :840] = False
    assert with_label[drawn].mean() > without[drawn].mean() + 50
    assert np.ptp(with_label[drawn].astype(int), axis=1).max() < 30  # no colour of a class


def test_any_subset_of_sensors_can_be_drawn() -> None:
    for cameras in (0, 1, 2, 3, 6):
        for lidar in (True, False):
            image = draw_frame(frame(cameras, lidar), CAR, CAR, CAR)
            assert image.dtype == np.uint8
            assert image.std() > 5
