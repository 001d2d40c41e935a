"""Lines and line coordinates against circles and straight lines, where everything is known."""

from __future__ import annotations

import numpy as np
import pytest

from karp_perception.core import Boxes, Vehicle
from karp_perception.planning.corridor import Approach, Corridor
from karp_perception.planning.reference_line import ReferenceLine, nearest_distance, polyline_distance
from karp_perception.planning.surroundings import outlines


@pytest.mark.parametrize("curvature", [0.0, 0.02, -0.1, 1e-12])
def test_an_arc_is_a_circle_and_then_straight(curvature: float) -> None:
    line = ReferenceLine.arc(curvature, 5.0, 60.0, most_turn=0.8)
    s = np.array([0.0, 3.0, 6.5])
    point, heading, bend = line.at(s)
    if abs(curvature) > 1e-9:
        expected = np.column_stack([np.sin(curvature * s), 1 - np.cos(curvature * s)]) / curvature
    else:
        expected = np.column_stack([s, 0 * s])
    np.testing.assert_allclose(point, expected, atol=2e-3)
    np.testing.assert_allclose(heading, curvature * s, atol=0.03)
    np.testing.assert_allclose(bend[1:], curvature, atol=1e-3)
    assert np.abs(line.heading).max() <= 0.8 + 1e-6
    assert line.at(np.array([-5.0]))[0][0] == pytest.approx((-5, 0), abs=1e-6)


def test_line_coordinates_and_back() -> None:
    line = ReferenceLine.arc(0.05, 10.0, 60.0, most_turn=3.0)
    rng = np.random.default_rng(0)
    s, d = rng.uniform(0, 45, 200), rng.uniform(-4, 4, 200)
    point, heading, _ = line.at(s)
    point = point + d[:, None] * np.column_stack([-np.sin(heading), np.cos(heading)])
    s1, d1 = line.project(point)
    np.testing.assert_allclose(d1, d, atol=0.01)
    np.testing.assert_allclose(s1, s, atol=0.06)


def test_beyond_its_ends_a_line_goes_straight_on() -> None:
    line = ReferenceLine.arc(0.0, 2.0, 10.0, most_turn=1.0)
    s, d = line.project(np.array([[-50.0, 3.0], [80.0, -2.0]]))
    np.testing.assert_allclose(s, (-50, 80))
    np.testing.assert_allclose(d, (3, -2))
    np.testing.assert_allclose(line.at(np.array([80.0]))[0][0], (80, 0))


def test_a_route_is_resampled_evenly_smoothed_and_starts_beside_the_vehicle() -> None:
    route = np.array([[-30.0, 1.0], [20.0, 1.0], [20.0, 60.0]])  # a right angle to the left
    line = ReferenceLine.from_polyline(route, nearest_distance(route, polyline_distance(route), None)[0], 10.0, 60.0)
    steps = np.linalg.norm(np.diff(line.points, axis=0), axis=1)
    assert steps.max() <= line.step + 1e-6
    s, d = line.project(np.zeros((1, 2)))
    assert s[0] == pytest.approx(0, abs=0.05)
    assert d[0] == pytest.approx(-1.0, abs=0.02)
    assert np.abs(line.curvature).max() < 0.5  # a corner that a car can follow, roughly
    assert line.heading[-1] == pytest.approx(np.pi / 2, abs=0.02)


def test_a_straight_route_stays_straight_and_ends_where_it_ends() -> None:
    route = np.array([[0.0, 0.0], [7.0, 0.0], [7.1, 0.0], [25.0, 0.0]])
    line = ReferenceLine.from_polyline(route, 0.0, 10.0, 80.0)
    np.testing.assert_allclose(line.points[:, 1], 0, atol=1e-9)
    assert line.end == pytest.approx(25.0, abs=0.1)
    assert ReferenceLine.from_polyline(route * 100, 0.0, 10.0, 80.0).end == np.inf


def test_a_route_that_comes_back_does_not_make_the_vehicle_jump() -> None:
    angle = np.linspace(-np.pi / 2, 3.4 * np.pi, 300)  # nearly two turns of a spiral through the origin
    route = (20 + 0.02 * np.arange(300))[:, None] * np.column_stack([np.cos(angle), np.sin(angle)]) + (0, 20)
    along = polyline_distance(route)
    first, _ = nearest_distance(route, along, 0.0)
    again, _ = nearest_distance(route, along, 130.0)
    assert first == pytest.approx(0, abs=1.0)
    assert again == pytest.approx(2 * np.pi * 22, abs=10.0)


def test_the_way_back_to_the_line_starts_where_the_vehicle_is_and_ends_on_it() -> None:
    approach = Approach(offset=1.2, slope=-0.1, length=20.0)
    s = np.linspace(0, 25, 2501)
    value, slope, bend = approach.offset_at(s)
    assert value[0] == pytest.approx(1.2)
    assert slope[0] == pytest.approx(-0.1)
    assert bend[0] == pytest.approx(0)
    np.testing.assert_allclose(value[s >= 20], 0, atol=1e-12)
    np.testing.assert_allclose(np.gradient(value, s)[5:-5], slope[5:-5], atol=1e-4)
    np.testing.assert_allclose(np.gradient(slope, s)[5:-5], bend[5:-5], atol=1e-3)


def _corridor(curvature: float = 0.0, margin: float = 0.25) -> Corridor:
    line = ReferenceLine.arc(curvature, 15.0, 100.0, most_turn=3.0)
    return Corridor(line, Vehicle(), margin, 100.0, Approach())


def _free(corridor: Corridor, box: Boxes) -> np.ndarray:
    return corridor.free_distance(*outlines(box, corridor.line))


def _box(x: float, y: float, length: float, width: float, yaw: float = 0.0) -> Boxes:
    return Boxes(np.array([[x, y, 0.8]]), np.array([[length, width, 1.5]]), np.array([yaw]), np.zeros((1, 2)),
                 np.array([-1]), np.array([0.5]))  # fmt: skip


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((12.0, 0.0, 4.0, 1.8), 10 - 2.9),  # straight ahead
        ((12.0, 0.0, 4.0, 40.0), 10 - 2.9),  # across the whole road: no corner in the strip
        ((12.0, 2.15, 4.0, 1.8), np.inf),  # 5 cm beside the strip (1.2 m to a side)
        ((12.0, 2.05, 4.0, 1.8), 10 - 2.9),  # 5 cm into it
        ((-8.0, 0.0, 4.0, 1.8), np.inf),  # behind
        ((2.0, 2.0, 8.0, 1.8), np.inf),  # alongside, in the margin but not in the vehicle's width
        ((200.0, 0.0, 4.0, 1.8), np.inf),  # too far
        ((20.0, 0.0, np.sqrt(2), np.sqrt(2), np.pi / 4), 19 - 2.9),  # a diamond, corner first
        ((20.0, 10.0, 30.0, 0.2, -np.pi / 4), 28.8 - 0.14 - 2.9),  # a long wall that comes in at 45 degrees
    ],
)
def test_free_distance(box: tuple[float, ...], expected: float) -> None:
    assert _free(_corridor(), _box(*box))[0] == pytest.approx(expected, abs=0.02)


def test_free_distance_is_mirrored_with_the_scene() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        x, y, length, width, yaw = rng.uniform((3, -6, 0.3, 0.3, -3), (60, 6, 8, 3, 3))
        curvature = rng.uniform(-0.05, 0.05)
        a = _free(_corridor(curvature), _box(x, y, length, width, yaw))
        b = _free(_corridor(-curvature), _box(x, -y, length, width, -yaw))
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_in_a_bend_what_lies_straight_ahead_is_not_in_the_way() -> None:
    assert np.isinf(_free(_corridor(0.05), _box(25, 0, 2, 2)))[0]
    angle = 0.05 * 20
    on_it = (np.sin(angle) / 0.05, (1 - np.cos(angle)) / 0.05)
    assert _free(_corridor(0.05), _box(*on_it, 2, 1.5, angle))[0] == pytest.approx(19 - 2.9, abs=0.3)
