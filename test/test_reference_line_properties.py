"""Line coordinates for any route: bends, loops, crossings, hairpins, and input that is hardly a route."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from karp_perception.core import InvalidInput, Route
from karp_perception.core.geometry import wrap_angle
from karp_perception.planning.reference_line import ReferenceLine, nearest_distance, polyline_distance


def winding(amplitudes: list[float], lengths: list[float], total: float = 150.0) -> np.ndarray:
    """(N, 2) m every 5 cm along a curve whose curvature is a sum of sines, from (0, 0) along x."""
    s = np.arange(0.0, total, 0.05)
    curvature = sum(a * np.sin(2 * math.pi * s / w) for a, w in zip(amplitudes, lengths, strict=True))
    heading = np.cumsum(curvature) * 0.05
    return np.column_stack([np.cumsum(np.cos(heading)), np.cumsum(np.sin(heading))]) * 0.05


curves = st.tuples(
    st.lists(st.floats(-0.04, 0.04), min_size=2, max_size=2), st.lists(st.floats(40.0, 150.0), min_size=2, max_size=2)
)


def by_segments(points: np.ndarray, line: ReferenceLine) -> np.ndarray:
    """(P,) m from points to a line: every segment is looked at. NaN where what goes on beyond an end may be nearest."""
    a, step = line.points[:-1], np.diff(line.points, axis=0)
    share = np.einsum("psi,si->ps", points[:, None] - a, step) / np.einsum("si,si->s", step, step)
    inside = np.clip(share, 0.0, 1.0)
    away = np.hypot(*(a + inside[..., None] * step - points[:, None]).transpose(2, 0, 1))
    best = away.argmin(axis=1)
    straight_on = np.hypot(*(a + share[..., None] * step - points[:, None]).transpose(2, 0, 1))
    beyond = ((best == 0) & (share[:, 0] < 0.0)) | ((best == len(a) - 1) & (share[:, -1] > 1.0))
    beyond |= (share[:, 0] < 0.0) & (straight_on[:, 0] < away.min(axis=1))
    beyond |= (share[:, -1] > 1.0) & (straight_on[:, -1] < away.min(axis=1))
    return np.where(beyond, np.nan, away.min(axis=1))


@given(curve=curves, place=st.floats(15.0, 60.0), spacing=st.floats(0.1, 2.0), side=st.floats(-3.0, 3.0))
@settings(max_examples=40, deadline=None)
def test_there_and_back_along_any_smooth_route(
    curve: tuple[list[float], list[float]], place: float, spacing: float, side: float
) -> None:
    dense = winding(*curve)
    k = round(place / 0.05)
    route = dense[:: max(round(spacing / 0.05), 1)] - dense[k]
    along = polyline_distance(route)
    origin, away = nearest_distance(route, along, None)
    line = ReferenceLine.from_polyline(route, origin, 10.0, 50.0)
    assert away < 0.1
    s = np.linspace(line.start + 0.3, line.distance[-1] - 0.3, 300)
    point, heading, curvature = line.at(s)
    # It is the route, but for what smoothing takes off a bend: about half the variance times the curvature.
    off = np.hypot(*(point[:, None] - (dense - dense[k])[::4]).transpose(2, 0, 1)).min(axis=1)
    assert off[(s > -8) & (s < 48)].max() < 0.25
    assert np.abs(curvature).max() < 0.1
    # On the line, and beside it as far as its bends allow.
    s1, d1 = line.project(point)
    np.testing.assert_allclose(d1, 0.0, atol=1e-9)
    np.testing.assert_allclose(s1, s, atol=1e-6)
    beside = point + side * np.column_stack([-np.sin(heading), np.cos(heading)])
    s2, d2 = line.project(beside)
    np.testing.assert_allclose(d2, side, atol=0.01)
    np.testing.assert_allclose(s2, s, atol=0.05)


@given(curve=curves, yaw=st.floats(-0.5, 0.5), offset=st.floats(-2.0, 2.0))
@settings(max_examples=20, deadline=None)
def test_a_mirrored_route_gives_the_mirrored_line(
    curve: tuple[list[float], list[float]], yaw: float, offset: float
) -> None:
    c, s = math.cos(yaw), math.sin(yaw)
    route = (winding(*curve)[::40] - (40.0, offset)) @ np.array([[c, s], [-s, c]])
    mirrored = route * (1.0, -1.0)
    lines = []
    for points in (route, mirrored):
        origin, _ = nearest_distance(points, polyline_distance(points), None)
        lines.append(ReferenceLine.from_polyline(points, origin, 10.0, 60.0))
    a, b = lines
    np.testing.assert_allclose(a.points, b.points * (1.0, -1.0), atol=1e-9)
    np.testing.assert_allclose(a.curvature, -b.curvature, atol=1e-9)
    assert a.start == pytest.approx(b.start)


@given(points=arrays(float, (30, 2), elements=st.floats(-60.0, 60.0)), curve=curves)
@settings(max_examples=30, deadline=None)
def test_projection_finds_the_nearest_of_all_segments(
    points: np.ndarray, curve: tuple[list[float], list[float]]
) -> None:
    for polyline in (winding(*curve)[::4], hairpin(1.5), hairpin(4.0), winding([0.2, 0.0], [60.0, 60.0])[::4]):
        along = polyline_distance(polyline)
        even = np.arange(0.0, along[-1], 0.2)
        line = ReferenceLine(np.column_stack([np.interp(even, along, polyline[:, k]) for k in (0, 1)]), 0.0, 0.2)
        s, d = line.project(points)
        expected = by_segments(points, line)
        there = np.isfinite(expected)
        # Exact but where two parts of the line are as near to within half a step: 0.1 m here.
        assert (np.abs(d) - expected)[there].max(initial=0.0) < 0.1
        np.testing.assert_allclose(np.abs(d)[there & (expected > 3.0)], expected[there & (expected > 3.0)], atol=0.02)
        assert np.isfinite(s).all()


def figure_eight(radius: float = 15.0) -> np.ndarray:
    """Two circles that touch in the middle: to the left, then to the right."""
    angle = np.linspace(0.0, 2 * math.pi, 120)
    left = radius * np.column_stack([np.sin(angle), 1.0 - np.cos(angle)])
    return np.concatenate([left, left[1:] * (1.0, -1.0)])


def crossing() -> np.ndarray:
    """Straight on, around a block and across itself at right angles, on which it goes on."""
    corners = np.array([(0, 0), (60, 0), (60, 25), (30, 25), (30, -40)], float)
    return np.concatenate([np.linspace(a, b, 30, endpoint=False) for a, b in pairwise(corners)])


def hairpin(gap: float = 4.0) -> np.ndarray:
    """50 m there, a half circle to the left, and back beside it."""
    angle = np.linspace(-math.pi / 2, math.pi / 2, 12)
    bow = 0.5 * gap * np.column_stack([np.cos(angle), 1.0 + np.sin(angle)]) + (50.0, 0.0)
    return np.concatenate([[(0.0, 0.0)], bow, [(0.0, gap)]])


def twice_around(radius: float = 6.0) -> np.ndarray:
    """A small circle, driven two and a half times."""
    angle = np.linspace(0.0, 5 * math.pi, 150)
    return radius * np.column_stack([np.sin(angle), 1.0 - np.cos(angle)])


@pytest.mark.parametrize("beside", [0.0, 1.5, -1.5])
@pytest.mark.parametrize("make", [figure_eight, crossing, hairpin, twice_around])
def test_who_drives_along_a_route_that_crosses_or_meets_itself_never_jumps_on_it(make: object, beside: float) -> None:
    route = make()
    along = polyline_distance(route)
    near, largest = None, 0.0
    rng = np.random.default_rng(0)
    for s in np.arange(0.5, along[-1] - 0.5, 1.0):
        k = min(int(np.searchsorted(along, s)), len(along) - 1)
        ahead = (route[k] - route[k - 1]) / (along[k] - along[k - 1])
        place = route[k - 1] + (s - along[k - 1]) * ahead + beside * np.array([-ahead[1], ahead[0]])
        yaw = math.atan2(ahead[1], ahead[0]) + rng.normal(0.0, 0.1)
        c, sn = math.cos(yaw), math.sin(yaw)
        near, away = nearest_distance((route - place) @ np.array([[c, -sn], [sn, c]]), along, near)
        largest = max(largest, abs(near - s))
        assert away <= abs(beside) + 0.01
    assert largest < 4.5 if make is crossing or make is hairpin else largest < 1.0  # corners are cut


def test_who_begins_where_a_route_begins_and_ends_is_at_its_beginning() -> None:
    route = figure_eight()
    along = polyline_distance(route)
    assert nearest_distance(route - (0.5, 0.2), along, None)[0] == pytest.approx(0.5, abs=0.1)
    # Nearer to the way back, but that leads the other way.
    route = hairpin()
    assert nearest_distance(route - (20.0, 2.2), polyline_distance(route), None)[0] == pytest.approx(20.0, abs=0.1)


@pytest.mark.parametrize("length", [1e-3, 0.05, 0.6, 3.0])
@pytest.mark.parametrize("x", [-6.0, -0.5, 0.0, 0.5, 8.0])
def test_a_very_short_route_before_around_or_behind_the_vehicle(length: float, x: float) -> None:
    route = np.array([[x, 0.3], [x + length, 0.3]])
    origin, _ = nearest_distance(route, polyline_distance(route), None)
    line = ReferenceLine.from_polyline(route, origin, 10.0, 60.0)
    assert np.isfinite(line.points).all()
    np.testing.assert_allclose(line.points[:, 1], 0.3, atol=1e-6)
    np.testing.assert_allclose(line.heading, 0.0, atol=1e-6)
    assert line.end == pytest.approx(x + length, abs=0.02)  # where the route ends: negative behind
    s, d = line.project(np.array([[0.0, 0.0], [2.0, 1.0]]))
    np.testing.assert_allclose(s, [0.0, 2.0], atol=0.02)
    np.testing.assert_allclose(d, [-0.3, 0.7], atol=1e-6)


garbage = arrays(
    float,
    st.tuples(st.integers(2, 12), st.just(2)),
    elements=st.one_of(st.floats(-30, 30), st.floats(-1e6, 1e6), st.sampled_from([0.0, 1.0, -1.0, 10.0])),
)


@given(points=garbage)
@settings(max_examples=80, deadline=None)
def test_whatever_passes_for_a_route_makes_a_line_of_finite_numbers(points: np.ndarray) -> None:
    assume((np.abs(np.diff(points, axis=0)) > 1e-5).any())
    route = Route(points)
    along = polyline_distance(route.points)
    origin, away = nearest_distance(route.points, along, None)
    assert 0.0 <= origin <= along[-1]
    assert away <= np.hypot(*route.points.T).min() + 6.0 + 1e-6  # nearer ones may lead back, or come later
    line = ReferenceLine.from_polyline(route.points, origin, 10.0, 60.0)
    assert len(line.points) >= 2
    assert np.isfinite(line.points).all()
    assert np.isfinite(line.heading).all()
    assert np.isfinite(line.curvature).all()
    assert not math.isnan(line.end)
    at = np.linspace(-30.0, 90.0, 50)
    point, heading, curvature = line.at(at)
    s, d = line.project(point)
    for values in (point, heading, curvature, s, d):
        assert np.isfinite(values).all()
    on_line = (at >= line.start) & (at <= line.distance[-1])
    assert np.abs(d[on_line]).max() <= 0.5 * line.step  # tangled, it is near to itself


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (np.array([[0.0, 0.0], [np.nan, 1.0]]), "finite"),
        (np.array([[0.0, 0.0], [np.inf, 1.0]]), "finite"),
        (np.zeros((5, 2)), "two distinct points"),
        (np.zeros((0, 2)), "two distinct points"),
        (np.zeros((4, 3)), "shape"),
    ],
)
def test_what_is_no_route_is_refused_in_one_clear_line(points: np.ndarray, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        Route(points)


def test_points_that_repeat_change_nothing() -> None:
    corners = np.array([[0.0, 0.0], [20.0, 0.0], [20.0, 30.0]])
    again = np.repeat(corners, [1, 4, 3], axis=0)
    lines = [ReferenceLine.from_polyline(Route(points).points, 5.0, 10.0, 40.0) for points in (corners, again)]
    np.testing.assert_array_equal(lines[0].points, lines[1].points)
    assert float(wrap_angle(lines[0].heading[-1] - math.pi / 2)) == pytest.approx(0.0, abs=1e-6)
