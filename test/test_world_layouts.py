"""Layouts: lanes that join, lights that do not clash, nothing in the way, the same for the same seed."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from functools import lru_cache
from itertools import pairwise

import numpy as np
import pytest

from karp_perception.core import LightColor
from karp_perception.core.errors import ConfigurationError
from karp_perception.world.geometry.ground import Surface
from karp_perception.world.layout import Lane, Layout
from karp_perception.world.layouts import curves
from karp_perception.world.layouts.check import check_layout, problems
from karp_perception.world.layouts.families import FAMILIES, make_layout, parameters_of
from karp_perception.world.layouts.footprint import footprint
from karp_perception.world.models.catalogue import FAMILIES as MODELS

SEEDS = range(8)
LEAST_ROUTE = {"motorway": 800.0, "parking": 250.0, "yard": 230.0, "roundabout": 230.0}


@lru_cache(maxsize=128)
def layout_of(family: str, seed: int) -> Layout:
    return make_layout(family, seed)


def every() -> list[tuple[str, int]]:
    return [(family, seed) for family in FAMILIES for seed in SEEDS]


def digest(layout: Layout) -> str:
    h = hashlib.sha256()
    for lane in layout.lanes.values():
        h.update(lane.center.tobytes())
        h.update(repr((lane.successors, lane.left, lane.right, lane.signal, lane.yields_to, lane.crossings)).encode())
    h.update(layout.ground.terrain.tobytes())
    for patch in layout.ground.patches:
        h.update(bytes([int(patch.surface)]) + patch.polygon.tobytes())
    h.update(repr([*layout.scenery, *layout.parking, layout.signals, layout.route, layout.start]).encode())
    return h.hexdigest()


def outside(points: np.ndarray, x: float, y: float, yaw: float, length: float, width: float) -> np.ndarray:
    """Distance (m) of points (N, 2) from a rectangle, 0 inside."""
    d = points - (x, y)
    along = np.abs(d @ (np.cos(yaw), np.sin(yaw))) - 0.5 * length
    beside = np.abs(d @ (-np.sin(yaw), np.cos(yaw))) - 0.5 * width
    return np.hypot(np.maximum(along, 0.0), np.maximum(beside, 0.0))


@pytest.mark.parametrize("family", FAMILIES)
def test_every_layout_is_whole(family: str) -> None:
    for seed in range(20):
        layout = layout_of(family, seed) if seed in SEEDS else make_layout(family, seed)
        check_layout(layout)
        points = layout.route_points
        length = float(np.linalg.norm(np.diff(points[:, :2], axis=0), axis=1).sum())
        assert length > LEAST_ROUTE.get(family, 250.0), (seed, length)
        assert len(layout.ground.patches) < 1500


@pytest.mark.parametrize("family", FAMILIES)
def test_families_vary_with_the_seed(family: str) -> None:
    found = [layout_of(family, seed) for seed in SEEDS]
    assert len({digest(layout) for layout in found}) == len(found)
    assert len({round(layout.lanes[layout.route[0]].width, 2) for layout in found}) > (family not in ("yard",))
    assert len({thing.family for layout in found for thing in layout.scenery}) >= 12


def test_the_same_in_another_process() -> None:
    code = (
        "import sys; sys.path.insert(0, 'test'); from test_world_layouts import digest, FAMILIES, make_layout;"
        "print(' '.join(digest(make_layout(f, 5)) for f in FAMILIES))"
    )
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert there == [digest(make_layout(family, 5)) for family in FAMILIES]


@pytest.mark.parametrize(("family", "seed"), every())
def test_nothing_stands_in_the_way(family: str, seed: int) -> None:
    layout = layout_of(family, seed)
    lanes = np.concatenate([lane.center[:, :2] for lane in layout.lanes.values()])
    half = np.concatenate([np.full(len(lane.center), 0.5 * lane.width) for lane in layout.lanes.values()])
    walks = np.concatenate([curves.resample(np.asarray(w), 0.7) for w in layout.walkways] or [np.zeros((0, 2))])
    for thing in layout.scenery:
        assert thing.family in MODELS
        if thing.family == "sign_gantry":
            continue  # it spans the lanes overhead
        size = footprint(thing.family, thing.seed) if thing.size is None else thing.size[:2]
        place = (thing.x, thing.y, thing.yaw, *size)
        near = np.hypot(*(lanes - (thing.x, thing.y)).T) < 0.5 * np.hypot(*size) + 4.0
        assert (outside(lanes[near], *place) > half[near]).all(), thing
        if family not in ("yard",) and len(walks) and thing.family != "traffic_light":
            assert outside(walks, *place).min() > 0.4, thing
    for space in layout.parking:
        near = np.hypot(*(lanes - (space.x, space.y)).T) < 8.0
        place = (space.x, space.y, space.yaw, space.length, space.width)
        # Bicycle lanes run right beside parked cars.
        assert (outside(lanes[near], *place) > half[near] - 0.06).all(), space


@pytest.mark.parametrize(("family", "seed"), every())
def test_lanes_lie_on_what_one_drives_on(family: str, seed: int) -> None:
    layout = layout_of(family, seed)
    points = np.concatenate([lane.center[2:-2:3, :2] for lane in layout.lanes.values()])
    cell, low = 0.25, points.min(axis=0) - 1.0
    raster = layout.ground.window(low[0], low[1], cell, int(np.ptp(points, axis=0).max() / cell) + 9)
    column, row = ((points - low) / cell).astype(int).T
    found = raster[row, column]
    not_driven = [Surface.PAVEMENT, Surface.KERB, Surface.GRASS]
    if family != "yard":
        not_driven.append(Surface.SOIL)
    wrong = np.isin(found, not_driven)
    assert wrong.mean() < (0.02 if family == "yard" else 1e-9), points[wrong][:3]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_ground_is_neither_flat_nor_steep(family: str) -> None:
    for seed in SEEDS:
        layout = layout_of(family, seed)
        assert 0.02 < layout.ground.terrain.std() < 12.0
        for lane in layout.lanes.values():
            rise = np.gradient(lane.center[:, 2], lane.along)
            assert np.abs(rise).max() < 0.13, (seed, lane.number)


def test_rural_slopes_reach_what_was_asked_for() -> None:
    for slope in (0.0, 0.04, 0.08):
        lane = make_layout("rural", 3, slope=slope).lanes[1]
        smooth = np.convolve(lane.center[:, 2], np.ones(15) / 15, "valid")
        steepest = np.abs(np.gradient(smooth, lane.along[7:-7])).max()
        assert slope - 0.015 < steepest < slope + 0.045


def clashes(layout: Layout) -> list[tuple[Lane, Lane]]:
    """Pairs of connecting lanes of different sources that come within 1.5 m of each other."""
    source = {n: lane for lane in layout.lanes.values() for n in lane.successors if lane.signal is not None}
    lanes = [layout.lanes[n] for n in source]
    return [
        (a, b)
        for i, a in enumerate(lanes)
        for b in lanes[i + 1 :]
        if source[a.number] is not source[b.number]
        and np.hypot(*(a.center[:, None, :2] - b.center[None, :, :2]).transpose(2, 0, 1)).min() < 1.5
    ]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("arms", [3, 4])
def test_lights_do_not_clash(seed: int, arms: int) -> None:
    layout = make_layout("intersection", seed, arms=arms, lights=True, crossings=True)
    assert layout.signals
    before = {n: lane for lane in layout.lanes.values() for n in lane.successors if lane.signal is not None}
    cycles = {sum(s for _, s in light.phases) for light in layout.signals.values()}
    assert np.ptp(list(cycles)) < 1e-9
    times = np.arange(0.0, max(cycles), 0.5)
    shown = {n: [light.color(t) for t in times] for n, light in layout.signals.items()}
    go = {n: np.array([c != LightColor.RED for c in colors]) for n, colors in shown.items()}
    for a, b in clashes(layout):
        both = go[before[a.number].signal] & go[before[b.number].signal]
        assert not both.any() or (b.number in a.yields_to) != (a.number in b.yields_to)
    for colors in shown.values():  # green, then yellow where there is any, then red
        for now, then in pairwise(colors):
            assert (now, then) not in {(LightColor.YELLOW, LightColor.GREEN), (LightColor.RED, LightColor.YELLOW)}
    for crossing in layout.crossings.values():  # people do not walk while the lane they cross may go
        stopping = [lane for lane in layout.lanes.values() if lane.signal and crossing.number in dict(lane.crossings)]
        assert stopping
        for lane in stopping:
            assert not (go[lane.signal] & go[crossing.signal]).any()
    heads = {thing.signal for thing in layout.scenery if thing.family == "traffic_light"}
    assert heads >= {lane.signal for lane in layout.lanes.values() if lane.signal is not None}


@pytest.mark.parametrize("seed", SEEDS)
def test_signs_settle_every_clash(seed: int) -> None:
    layout = make_layout("intersection", seed, lights=False)
    before = {n: lane.number for lane in layout.lanes.values() for n in lane.successors if len(lane.successors) > 0}
    joining = [lane for lane in layout.lanes.values() if lane.yields_to]
    assert joining
    for lane in joining:
        for other in lane.yields_to:
            assert lane.number not in layout.lanes[other].yields_to
            assert before[other] != before[lane.number]


def test_a_square_intersection_is_the_same_from_every_side() -> None:
    layout = make_layout("intersection", 2, arms=4, square=True, lights=False, lanes=1, pocket=False, heading=0.0)
    turns = [lane for lane in layout.lanes.values() if len(lane.center) > 4 and lane.length < 45.0]
    middles = np.array([lane.center[len(lane.center) // 2, :2] for lane in turns])
    lengths = np.sort([lane.length for lane in turns])
    quarter = middles @ np.array([[0.0, 1.0], [-1.0, 0.0]])
    gap = np.hypot(*(middles[:, None] - quarter[None]).transpose(2, 0, 1)).min(axis=1)
    assert len(turns) >= 12
    assert gap.max() < 0.6
    assert len(np.unique(lengths.round(1))) <= 6


def test_traffic_goes_around_counterclockwise_and_first() -> None:
    layout = make_layout("roundabout", 4, arms=4, radius=16.0)
    ring = [lane for lane in layout.lanes.values() if np.abs(np.hypot(*lane.center[:, :2].T) - 16.0).max() < 0.05]
    assert len(ring) == 8
    for lane in ring:
        x, y = lane.center[:, 0], lane.center[:, 1]
        assert (x[:-1] * y[1:] - y[:-1] * x[1:] > 0.0).all()
        assert not lane.yields_to
    numbers = {lane.number for lane in ring}
    entries = [lane for lane in layout.lanes.values() if lane.number not in numbers and numbers & set(lane.successors)]
    assert len(entries) == 4
    assert all(set(lane.yields_to) & numbers for lane in entries)


@pytest.mark.parametrize(("family", "seed"), every())
def test_one_stops_before_a_crossing(family: str, seed: int) -> None:
    layout = layout_of(family, seed)
    for lane in layout.lanes.values():
        for number, at in lane.crossings:
            crossing = layout.crossings[number]
            stop = np.array([np.interp(at, lane.along, lane.center[:, k]) for k in (0, 1)])
            along = (crossing.end - crossing.start) / np.linalg.norm(crossing.end - crossing.start)
            away = abs(float((stop - crossing.start) @ (-along[1], along[0])))
            assert 0.5 * crossing.width + 0.3 < away < 0.5 * crossing.width + 9.0, (lane.number, number)


def test_given_parameters_are_kept() -> None:
    street = make_layout(
        "straight", 1, lanes=3, lane_width=3.1, length=222.0, parked="right", speed_limit=11.0, median=0.0
    )
    driven = [lane for n, lane in street.lanes.items() if n not in street.bikeways]
    assert {round(lane.width, 6) for lane in driven} == {3.1}
    assert {lane.speed_limit for lane in driven} == {11.0}
    assert len(driven) in (3, 6)
    assert street.lanes[street.route[0]].length == pytest.approx(222.0, abs=0.1)
    bare = make_layout("straight", 1, bare=True)
    assert not bare.scenery
    assert not bare.parking
    assert np.ptp(bare.ground.terrain) == 0.0
    assert abs(bare.route_points[-1, 1] - bare.route_points[0, 1]) < 0.01
    lane = max(
        make_layout("curve", 3, radius=50.0, lanes=1, median=0.0, bare=True).lanes.values(), key=lambda n: n.number
    )
    bend = np.gradient(curves.headings(lane.center[:, :2]), lane.along)
    assert np.abs(bend).max() == pytest.approx(1 / 50.0, rel=0.08)
    assert len(make_layout("roundabout", 1, arms=5).signals) == 0
    assert len(make_layout("motorway", 1, lanes=4, merge=False).lanes) == 8


@pytest.mark.parametrize("family", FAMILIES)
def test_both_ends_of_every_range_work(family: str) -> None:
    for name, parameter in parameters_of(family).items():
        if parameter.kind is bool:
            values: tuple[object, ...] = (True, False)
        elif parameter.kind is str:
            values = parameter.options
        else:
            values = (parameter.kind(parameter.low), parameter.kind(parameter.high))
        for value in values:
            assert not list(problems(make_layout(family, 11, **{name: value}))), (name, value)


@pytest.mark.parametrize(
    ("family", "seed", "parameters", "says"),
    [
        ("strait", 0, {}, "straight, curve"),
        ("straight", 0, {"lane": 2}, "did you mean 'lanes'"),
        ("straight", 0, {"lanes": 4}, "from 1 to 3"),
        ("straight", 0, {"lanes": 1.5}, "whole number"),
        ("straight", 0, {"lane_width": float("nan")}, "from 2.6 to 4"),
        ("straight", 0, {"bare": 1}, "true or false"),
        ("intersection", 0, {"turn": "back"}, "left, straight, right"),
        ("straight", -1, {}, "seed"),
        ("straight", True, {}, "seed"),
    ],
)
def test_bad_requests_get_one_clear_line(family: str, seed: int, parameters: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says) as error:
        make_layout(family, seed, **parameters)
    assert "\n" not in str(error.value)


def test_turns_are_tangent_arcs() -> None:
    path = curves.turn(curves.Spot(0.0, 0.0, 0.0), curves.Spot(20.0, 15.0, 0.5 * np.pi), 8.0)
    angle = curves.headings(path)
    bend = np.gradient(angle, curves.distances(path))
    assert angle[0] == pytest.approx(0.0, abs=1e-6)
    assert angle[-1] == pytest.approx(0.5 * np.pi, abs=1e-6)
    assert bend.max() == pytest.approx(1 / 8.0, rel=0.02)
    assert curves.distances(path)[-1] == pytest.approx(12.0 + 7.0 + 4.0 * np.pi, abs=0.02)


def test_clothoids_turn_by_the_area_under_their_curvature() -> None:
    knots = [(0.0, 0.0), (30.0, 0.02), (60.0, 0.02), (90.0, 0.0)]
    path = curves.from_curvature(knots, curves.Spot(1.0, 2.0, 0.3))
    assert curves.headings(path)[-1] - 0.3 == pytest.approx(1.2, abs=2e-3)
    assert curves.distances(path)[-1] == pytest.approx(90.0, abs=0.02)
