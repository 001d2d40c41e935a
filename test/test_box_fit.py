"""Rectangles around groups of points: direction, extent, independence of the other groups."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from karp_perception.detection.box_fit import BoxFitSettings, bounding_rectangles, fit_directions

SETTINGS = BoxFitSettings()


def l_shape(yaw_deg: float, length: float = 4.5, width: float = 1.8, seed: int = 0) -> np.ndarray:
    """Points along two sides of a rectangle, as a lidar sees a car's rear and left."""
    rng = np.random.default_rng(seed)
    side = np.column_stack([np.linspace(0, length, 60), np.zeros(60)])
    rear = np.column_stack([np.zeros(25), np.linspace(0, width, 25)])
    xy = np.concatenate([side, rear]) + rng.normal(0, 0.01, (85, 2))
    c, s = np.cos(np.radians(yaw_deg)), np.sin(np.radians(yaw_deg))
    return xy @ np.array([[c, s], [-s, c]]) + (12.0, -5.0)


def off_by(direction: float, yaw_deg: float) -> float:
    """Angle between directions in degrees, where quarter turns make no difference."""
    return abs((np.degrees(direction) - yaw_deg + 45) % 90 - 45)


@pytest.mark.parametrize("yaw_deg", range(-90, 91, 9))
def test_two_sides_of_a_car_give_its_direction_and_size(yaw_deg: int) -> None:
    xy = l_shape(yaw_deg)
    direction = fit_directions(xy, np.array([0]), SETTINGS)
    assert off_by(direction[0], yaw_deg) < 1.5
    box = bounding_rectangles(xy, np.array([0]), direction)
    assert box.size[0] == pytest.approx([4.5, 1.8], abs=0.2)
    assert abs((np.degrees(box.yaw[0]) - yaw_deg + 90) % 180 - 90) < 1.5


@pytest.mark.parametrize("yaw_deg", [0, 17, 45, 80])
def test_a_full_rectangle_agrees_with_opencvs_smallest_one(yaw_deg: int) -> None:
    rng = np.random.default_rng(3)
    xy = rng.uniform((-3.0, -1.0), (3.0, 1.0), (600, 2)).astype(np.float32)
    c, s = np.cos(np.radians(yaw_deg)), np.sin(np.radians(yaw_deg))
    xy = (xy @ np.array([[c, s], [-s, c]])).astype(np.float32)
    box = bounding_rectangles(xy, np.array([0]), fit_directions(xy, np.array([0]), SETTINGS))
    center, size, _ = cv2.minAreaRect(xy)
    assert box.center[0] == pytest.approx(center, abs=0.05)
    assert sorted(box.size[0]) == pytest.approx(sorted(size), abs=0.15)


def test_a_line_of_points_lies_along_the_box() -> None:
    xy = np.column_stack([np.linspace(0, 10, 50), np.linspace(0, 5, 50)])
    box = bounding_rectangles(xy, np.array([0]), fit_directions(xy, np.array([0]), SETTINGS))
    assert off_by(box.yaw[0], np.degrees(np.arctan2(5, 10))) < 1.0
    assert box.size[0, 0] == pytest.approx(np.hypot(10, 5), abs=0.01)
    assert box.size[0, 1] < 0.2


def test_groups_do_not_influence_one_another() -> None:
    groups = [l_shape(angle, 2 + angle / 30, 1 + angle / 90, seed=angle) for angle in (0, 13, 40, 77)]
    starts = np.cumsum([0, *(len(g) for g in groups[:-1])])
    together = fit_directions(np.concatenate(groups), starts, SETTINGS)
    boxes = bounding_rectangles(np.concatenate(groups), starts, together)
    for i, group in enumerate(groups):
        alone = fit_directions(group, np.array([0]), SETTINGS)
        assert alone[0] == together[i]
        box = bounding_rectangles(group, np.array([0]), alone)
        np.testing.assert_array_equal(box.center[0], boxes.center[i])
        np.testing.assert_array_equal(box.size[0], boxes.size[i])


def test_every_point_is_inside_its_rectangle() -> None:
    xy = np.random.default_rng(1).normal((30, 40), 2, (200, 2))
    box = bounding_rectangles(xy, np.array([0]), np.array([0.7]))
    offset = xy - box.center[0]
    c, s = np.cos(box.yaw[0]), np.sin(box.yaw[0])
    along, across = offset @ (c, s), offset @ (-s, c)
    assert np.abs(along).max() == pytest.approx(box.size[0, 0] / 2, abs=1e-9)
    assert np.abs(across).max() == pytest.approx(box.size[0, 1] / 2, abs=1e-9)


def test_strays_may_stick_out_and_nothing_else() -> None:
    xy = np.concatenate([l_shape(0), [[10.5, -5.0], [9.8, -4.0]]])
    strict = bounding_rectangles(xy, np.array([0]), np.zeros(1))
    lenient = bounding_rectangles(xy, np.array([0]), np.zeros(1), np.array([2]))
    assert strict.center[0, 0] - strict.size[0, 0] / 2 == pytest.approx(9.8)
    assert lenient.center[0, 0] - lenient.size[0, 0] / 2 == pytest.approx(12.0, abs=0.05)
    assert lenient.size[0] == pytest.approx([4.5, 1.8], abs=0.2)


def test_no_groups_and_single_points() -> None:
    assert len(fit_directions(np.zeros((0, 2)), np.zeros(0, int), SETTINGS)) == 0
    assert len(bounding_rectangles(np.zeros((0, 2)), np.zeros(0, int), np.zeros(0)).yaw) == 0
    xy = np.array([[1.0, 2.0], [3.0, 4.0]])
    box = bounding_rectangles(xy, np.array([0, 1]), fit_directions(xy, np.array([0, 1]), SETTINGS))
    np.testing.assert_allclose(box.center, xy)
    np.testing.assert_array_equal(box.size, 0)
