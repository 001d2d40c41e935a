"""What is left standing beside the road: where it stands, what it is, and that nothing else changes without it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from test_world_traffic import overlap

from karp_perception.core import ObjectClass
from karp_perception.world.actors import Actor
from karp_perception.world.layout import Layout
from karp_perception.world.layouts.families import make_layout
from karp_perception.world.models.catalogue import FAMILIES as MODELS
from karp_perception.world.models.catalogue import draw
from karp_perception.world.traffic.halted import halted
from karp_perception.world.traffic.parked import Placed, standing_actors
from karp_perception.world.traffic.population import Population, mix_of
from karp_perception.world.traffic.settings import TrafficSettings
from karp_perception.world.traffic.traffic import Traffic

FAMILIES = ("straight", "rural", "yard", "motorway", "parking")


def left_standing(layout: Layout, seed: int, count: int = 20) -> list[Placed]:
    rng = np.random.default_rng(seed)
    return halted(layout, Population(mix_of(layout.family), rng, draw, 4), rng, count, [])


def actors(placed: list[Placed], layout: Layout) -> tuple[Actor, ...]:
    return standing_actors(placed, layout.ground, 1)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_left_standing_keeps_off_lanes_and_each_other(family: str) -> None:
    layout = make_layout(family, 11)
    standing = actors(left_standing(layout, 3), layout)
    assert len(standing) > 5
    for lane in layout.lanes.values():
        for actor in standing:
            local = lane.center[:, :2] - actor.position[:2]
            c, s = np.cos(actor.yaw), np.sin(actor.yaw)
            outside = np.abs(local @ [[c, -s], [s, c]]) - 0.5 * np.array(actor.model.size[:2])
            assert (np.hypot(*np.maximum(outside, 0.0).T) >= 0.5 * lane.width).all()
    for a, b in itertools.combinations(standing, 2):
        beside = {a.model.label, b.model.label}  # an owner beside a two-wheeler, a trailer on its tractor
        if ObjectClass.PEDESTRIAN not in beside and beside != {ObjectClass.TRUCK, ObjectClass.TRAILER}:
            assert not overlap(a, b)


def test_all_that_is_rare_is_among_it() -> None:
    layout = make_layout("rural", 11)
    labels = {model.label for seed in range(6) for model, *_ in left_standing(layout, seed)}
    assert labels >= {
        ObjectClass.TRUCK, ObjectClass.BUS, ObjectClass.TRAILER, ObjectClass.CONSTRUCTION_VEHICLE,
        ObjectClass.MOTORCYCLE, ObjectClass.BICYCLE, ObjectClass.PEDESTRIAN,
    }  # fmt: skip


def test_a_box_van_is_among_it_and_is_a_lorry_with_a_bonnet() -> None:
    layout = make_layout("rural", 11)
    vans = [model for seed in range(12) for model, *_ in left_standing(layout, seed) if model.family == "box_van"]
    assert vans
    for van in vans:
        assert van.label == ObjectClass.TRUCK
        assert 4.0 < van.size[0] < 6.5
        assert van.rear_axle < 0.0 < van.rear_axle + van.wheelbase < 0.5 * van.size[0]


def test_a_trailer_hangs_on_its_tractor() -> None:
    layout = make_layout("yard", 2)
    pairs = [
        (a, b)
        for seed in range(8)
        for a, b in itertools.pairwise(left_standing(layout, seed))
        if a[0].family == "semi_tractor"
    ]
    assert pairs
    for (tractor, x, y, yaw), (trailer, tx, ty, turn) in pairs:
        hitch = np.array([x, y]) + tractor.hitch * np.array([np.cos(yaw), np.sin(yaw)])
        king_pin = np.array([tx, ty]) + trailer.king_pin * np.array([np.cos(turn), np.sin(turn)])
        np.testing.assert_allclose(hitch, king_pin, atol=1e-9)


def test_none_is_asked_for_and_no_chance_is_used() -> None:
    layout = make_layout("straight", 1)
    rng, untouched = np.random.default_rng(5), np.random.default_rng(5)
    assert halted(layout, Population(mix_of("straight"), rng, draw, 4), rng, 0, []) == []
    assert rng.random() == untouched.random()


def test_sizes_spread_as_widely_as_traffic_is_asked_for() -> None:
    """Parked cars beside the means of their families."""
    layout = make_layout("parking", 4)

    def lengths(sizes: float) -> np.ndarray:
        settings = TrafficSettings(density=0.0, pedestrians=0.0, roadworks=0.0, sizes=sizes)
        standing = Traffic(layout, 2, settings).standing()
        return np.array(
            [a.model.size[0] - MODELS[a.model.family].sizes.mean[0] for a in standing if a.model.label == 0]
        )

    alike, usual, wide = lengths(0.0), lengths(1.0), lengths(1.8)
    assert len(alike) > 10
    np.testing.assert_allclose(alike, 0.0, atol=1e-9)
    assert usual.std() > 0.1
    assert wide.std() > 1.3 * usual.std()
