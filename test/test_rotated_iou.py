"""Areas that rotated rectangles share: against OpenCV, against counting, and cases with a known answer."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kitti_reference import shared_area

from karp_perception.evaluation.rotated_iou import intersection_area


def random_boxes(rng: np.random.Generator, n: int, spread: float = 3.0) -> np.ndarray:
    place = rng.uniform(-spread, spread, (n, 2))
    return np.column_stack([place, rng.uniform(0.3, 6, n), rng.uniform(0.3, 3, n), rng.uniform(-4, 4, n)])


def opencv_area(a: np.ndarray, b: np.ndarray) -> float:
    rectangles = [((r[0], r[1]), (r[2], r[3]), float(np.degrees(r[4]))) for r in (a, b)]
    kind, corners = cv2.rotatedRectangleIntersection(*rectangles)
    return 0.0 if kind == cv2.INTERSECT_NONE else float(cv2.contourArea(cv2.convexHull(corners)))


def test_areas_are_those_of_opencv() -> None:
    rng = np.random.default_rng(0)
    a, b = random_boxes(rng, 2000), random_boxes(rng, 2000)
    wanted = np.array([opencv_area(*pair) for pair in zip(a, b, strict=True)])
    assert (wanted > 0).sum() > 500
    assert (wanted == 0).sum() > 200
    np.testing.assert_allclose(intersection_area(a, b), wanted, atol=5e-3)  # OpenCV works in float32


def test_areas_are_those_of_the_hull_of_all_corners_and_crossings() -> None:
    rng = np.random.default_rng(2)
    a, b = random_boxes(rng, 500), random_boxes(rng, 500)
    b[::5, 4] = a[::5, 4]  # parallel
    b[::10] = a[::10]  # the same
    wanted = [shared_area(*pair) for pair in zip(a, b, strict=True)]
    np.testing.assert_allclose(intersection_area(a, b), wanted, atol=1e-9)


def test_areas_are_the_share_of_points_in_both() -> None:
    rng = np.random.default_rng(1)
    a, b = random_boxes(rng, 30, spread=1.5), random_boxes(rng, 30, spread=1.5)
    side = np.linspace(-6, 6, 301)
    x, y = (v.ravel() for v in np.meshgrid(side, side))

    def inside(box: np.ndarray) -> np.ndarray:
        c, s = np.cos(box[4]), np.sin(box[4])
        along, across = c * (x - box[0]) + s * (y - box[1]), -s * (x - box[0]) + c * (y - box[1])
        return (np.abs(along) <= box[2] / 2) & (np.abs(across) <= box[3] / 2)

    counted = np.array([(inside(p) & inside(q)).sum() for p, q in zip(a, b, strict=True)]) * 0.04**2
    np.testing.assert_allclose(intersection_area(a, b), counted, atol=0.15)


@pytest.mark.parametrize(
    ("a", "b", "area"),
    [
        ((0, 0, 4, 2, 0), (0, 0, 4, 2, 0), 8.0),
        ((0, 0, 4, 2, 0.3), (0, 0, 4, 2, 0.3 + np.pi), 8.0),
        ((0, 0, 4, 2, 0), (0, 0, 4, 2, np.pi / 2), 4.0),
        ((0, 0, 4, 2, 0), (1, 0.5, 4, 2, 0), 4.5),
        ((0, 0, 10, 10, 0.7), (1, 1, 1, 2, 0.1), 2.0),
        ((0, 0, 2, 2, 0), (0, 0, 2, 2, np.pi / 4), 8 * (np.sqrt(2) - 1)),
        ((0, 0, 2, 2, 0), (2, 0, 2, 2, 0), 0.0),
        ((0, 0, 2, 2, 0), (1.9, 1.9, 2, 2, 0), 0.01),
        ((0, 0, 2, 2, 0), (2.2, 0, 2, 2, np.pi / 4), (np.sqrt(2) - 1.2) ** 2),
        ((0, 0, 4, 2, 0), (50, 0, 4, 2, 0), 0.0),
        ((0, 0, 0, 2, 0), (0, 0, 4, 2, 0), 0.0),
    ],
    ids=[
        "same",
        "turned round",
        "crossed",
        "shifted",
        "inside",
        "octagon",
        "touching",
        "corners",
        "tip",
        "far",
        "flat",
    ],
)
def test_known_areas(a: tuple, b: tuple, area: float) -> None:
    assert intersection_area(np.array([a]), np.array([b]))[0] == pytest.approx(area, abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.floats(-1e4, 1e4), st.floats(-4, 4))
def test_areas_do_not_depend_on_order_or_place(seed: int, shift: float, turn: float) -> None:
    rng = np.random.default_rng(seed)
    a, b = random_boxes(rng, 20), random_boxes(rng, 20)
    area = intersection_area(a, b)
    np.testing.assert_allclose(intersection_area(b, a), area, atol=1e-9)
    c, s = np.cos(turn), np.sin(turn)

    def moved(boxes: np.ndarray) -> np.ndarray:
        place = boxes[:, :2] @ np.array([[c, s], [-s, c]]) + shift
        return np.column_stack([place, boxes[:, 2:4], boxes[:, 4] + turn])

    np.testing.assert_allclose(intersection_area(moved(a), moved(b)), area, atol=1e-9)
    smaller = np.minimum(a[:, 2] * a[:, 3], b[:, 2] * b[:, 3])
    assert ((area >= 0) & (area <= smaller + 1e-9)).all()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.floats(-1e-9, 1e-9))
def test_boxes_that_are_all_but_the_same_overlap_fully(seed: int, noise: float) -> None:
    boxes = random_boxes(np.random.default_rng(seed), 20)
    area = boxes[:, 2] * boxes[:, 3]
    np.testing.assert_allclose(intersection_area(boxes, boxes + noise), area, rtol=1e-6)


def test_overlap_of_nothing() -> None:
    assert intersection_area(np.zeros((0, 5)), np.zeros((0, 5))).shape == (0,)
    flat = np.array([[0, 0, 0, 0, 0.0]])
    assert intersection_area(flat, flat).tolist() == [0.0]
