"""Traffic: following against its formula, right of way, lights, people, trailers; nobody in anybody else's place."""

from __future__ import annotations

import hashlib
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from traffic_places import box_model, junction, line, place, ring_road, roundabout, two_lane_road

from karp_perception.core import Command, LightColor, ObjectClass
from karp_perception.core.errors import ConfigurationError
from karp_perception.world.actors import Actor
from karp_perception.world.layout import Crossing, Layout, ParkingSpace
from karp_perception.world.layouts.families import FAMILIES, make_layout
from karp_perception.world.traffic.fleet import Kind, drag
from karp_perception.world.traffic.following import equilibrium_gap
from karp_perception.world.traffic.population import Mix, Unit, mix_of
from karp_perception.world.traffic.script import ScriptedActor, Step, Trigger
from karp_perception.world.traffic.settings import DriverSettings, TrafficSettings
from karp_perception.world.traffic.traffic import Traffic
from karp_perception.world.vehicle import DrivenVehicle

ALIKE = DriverSettings(speed_spread=0.0, spread=0.0, wander=0.0)
NOBODY = TrafficSettings(density=0.0, pedestrians=0.0, parking=0.0, roadworks=0.0, driver=ALIKE)
STEP = 0.05


def traffic(layout: Layout, seed: int = 0, settings: TrafficSettings = TrafficSettings(), **more: object) -> Traffic:
    return Traffic(layout, seed, settings, draw=box_model, **more)  # type: ignore[arg-type]


def corners(actor: Actor) -> np.ndarray:
    c, s = math.cos(actor.yaw), math.sin(actor.yaw)
    half = 0.5 * np.array(actor.model.size[:2])
    local = half * [(1, 1), (-1, 1), (-1, -1), (1, -1)]
    return local @ np.array([[c, s], [-s, c]]) + actor.position[:2]


def overlap(a: Actor, b: Actor) -> bool:
    """Separating axes of two rectangles."""
    p, q = corners(a), corners(b)
    for rectangle in (p, q):
        for edge in (rectangle[1] - rectangle[0], rectangle[2] - rectangle[1]):
            u, v = p @ edge, q @ edge
            if u.max() < v.min() or v.max() < u.min():
                return False
    return True


def coupled(a: Actor, b: Actor) -> bool:
    rear = ("_rear", "_trailer", "low_loader", "caravan")
    return abs(a.number - b.number) == 1 and any(m.model.family.endswith(rear) for m in (a, b))


def collisions(world: Traffic) -> list[tuple[str, str]]:
    """Pairs of vehicles, or of a vehicle and somebody on foot, in one place."""
    found = []
    actors = world.moving()
    for k, a in enumerate(actors):
        for b in [*actors[k + 1 :], *world.standing()]:
            people = (a.model.label == ObjectClass.PEDESTRIAN) + (b.model.label == ObjectClass.PEDESTRIAN)
            reach = 0.5 * (math.hypot(*a.model.size[:2]) + math.hypot(*b.model.size[:2]))
            if people < 2 and math.dist(a.position[:2], b.position[:2]) < reach and not coupled(a, b) and overlap(a, b):
                found.append((f"{a.model.family} {a.number}", f"{b.model.family} {b.number}"))
    return [pair for pair in found if not all("walker" in name or "person" in name for name in pair)]


def test_a_richer_mix_has_more_of_the_uncommon_and_still_some_cars() -> None:
    town = mix_of("straight")
    rich, richest = town.enriched(3.0), town.enriched(20.0)
    assert town.enriched(1.0) == town
    for name in ("heavy", "buses", "two_wheelers"):
        assert getattr(rich, name) == pytest.approx(3 * getattr(town, name))
    assert richest.heavy + richest.buses + richest.two_wheelers == pytest.approx(0.75)
    assert richest.heavy / richest.buses == pytest.approx(town.heavy / town.buses)
    assert sum(richest.families().values()) == pytest.approx(1.0)
    assert town.cyclists < rich.cyclists <= richest.cyclists == 0.4
    assert Mix(heavy=0.9, buses=0.05, two_wheelers=0.0).enriched(2.0).heavy == 0.9
    assert town.enriched(0.0).heavy == 0.0


def test_a_platoon_comes_to_the_gap_of_the_formula() -> None:
    world = traffic(ring_road(200.0, limit=20.0), settings=NOBODY)
    driving, cars = world.driving, []
    driving.fleet = type(driving.fleet)(*(np.concatenate([c, c]) for c in driving.fleet))  # room for ten
    for k in range(10):
        cars.append(driving.enter(Unit(box_model("sedan", 0), Kind.CAR), 0, 60.0 + 24.0 * k, v=10.0))
    f = driving.fleet
    f.line[:] = f.d[:] = f.goal[:] = 0.0
    f.top_speed[cars[-1]] = 10.0
    for _ in range(int(200 / STEP)):
        world.step(STEP)
    speed, driver = f.v[cars[0]], ALIKE
    assert np.ptp(f.v[cars]) < 1e-3  # stable: nothing of the beginning is left
    expected = equilibrium_gap(speed, 20.0, driver.headway, driver.min_gap)
    np.testing.assert_allclose(f.gap[cars[:-1]], expected, rtol=0.01)


def test_whoever_stands_before_a_light_leaves_the_gap_that_drivers_keep() -> None:
    world = traffic(junction(signals=True), 3, TrafficSettings(density=2.0, pedestrians=0, driver=ALIKE))
    for _ in range(int(28 / STEP)):
        world.step(STEP)
    f = world.driving.fleet
    queued = [r for r in world.driving.rows() if f.v[r] < 0.01 and f.lead[r] >= 0 and f.kind[r] == Kind.CAR]
    queued = [r for r in queued if f.barrier[r] - f.q[r] - f.nose[r] > f.gap[r]]  # not the first, who is at the line
    assert queued
    np.testing.assert_allclose(f.gap[queued], ALIKE.min_gap, atol=0.8)


@pytest.mark.parametrize("name", ["two_lane_road", "ring_road", "junction", "lit_junction", "roundabout"])
def test_nobody_is_in_anybody_elses_place(name: str) -> None:
    layouts = {
        "two_lane_road": two_lane_road, "ring_road": ring_road, "junction": junction,
        "lit_junction": lambda: junction(True), "roundabout": roundabout,
    }  # fmt: skip
    world = traffic(layouts[name](), 1, TrafficSettings(density=1.5, max_vehicles=25))
    passed, last = set(), {}
    for k in range(int(60 / STEP)):
        world.step(STEP)
        if k % 8 == 0:
            assert collisions(world) == []
        for actor in world.moving() if k % 40 == 0 else ():
            passed.add(actor.number)
            forward = actor.velocity[0] * math.cos(actor.yaw) + actor.velocity[1] * math.sin(actor.yaw)
            assert forward > -1e-9
            last[actor.number] = actor.model
            assert last[actor.number] is actor.model  # a number stays with whom it was given to
    assert world.driving.removed_stuck == 0
    assert len(passed) >= 5


@pytest.mark.parametrize("seed", [pytest.param(seed, marks=[pytest.mark.slow] if seed else []) for seed in range(4)])
@pytest.mark.parametrize("family", FAMILIES)
def test_in_every_family_of_places_all_keep_apart_and_get_on(family: str, seed: int) -> None:
    world = traffic(make_layout(family, seed), seed)
    for k in range(int((80 if seed else 30) / STEP)):
        world.step(STEP)
        if k % 10 == 0:
            assert collisions(world) == []
    f, rows = world.driving.fleet, world.driving.rows()
    assert np.median(f.waited[rows]) < 30.0


def test_nobody_crosses_the_line_of_a_red_light() -> None:
    layout = junction(signals=True)
    world = traffic(layout, 5, TrafficSettings(density=2.0))
    f, driving = world.driving.fleet, world.driving
    crossed = 0
    lit = {driving.row_of_lane[lane.number]: lane for lane in layout.lanes.values() if lane.signal is not None}
    for _ in range(int(120 / STEP)):
        before = {
            (r, int(f.path[r, k])): f.start[r, k + 1] - f.q[r] - f.nose[r]
            for r in driving.rows()
            for k in range(f.count[r])
            if int(f.path[r, k]) in lit
        }
        colors = world.lights()
        world.step(STEP)
        for r in driving.rows():
            for k in range(f.count[r]):
                key = (r, int(f.path[r, k]))
                if key in before and before[key] > 0.0 >= f.start[r, k + 1] - f.q[r] - f.nose[r]:
                    crossed += 1
                    assert colors[lit[key[1]].signal] != LightColor.RED
    assert crossed > 10


def test_the_ring_of_a_roundabout_goes_first() -> None:
    """Those in the ring never stand because of somebody who enters."""
    world = traffic(roundabout(), 2, TrafficSettings(density=1.2, pedestrians=0.0))
    f, driving = world.driving.fleet, world.driving
    ring = {driving.row_of_lane[10 * k + n] for k in range(4) for n in (1, 6)}
    stood = entered = 0
    for _ in range(int(90 / STEP)):
        world.step(STEP)
        for r in driving.rows():
            k = int(np.searchsorted(f.start[r, 1 : f.count[r]], f.q[r], side="right"))
            if int(f.path[r, k]) in ring:
                entered += 1
                stood += f.v[r] < 0.1
    assert entered > 500
    assert stood < 0.02 * entered


def zebra() -> Layout:
    """A road with a zebra crossing between two ways on foot."""
    crossing = Crossing(1, np.array([100.0, -3.5]), np.array([100.0, 3.5]))
    lanes = [
        line(1, (0, -1.75), (200, -1.75), crossings=((1, 96.0),)),
        line(2, (200, 1.75), (0, 1.75), crossings=((1, 96.0),)),
    ]
    ways = [np.array([(60.0, y), (140.0, y)]) for y in (-5.5, 5.5)]
    return place(lanes, crossings=[crossing], walkways=ways)


def test_people_cross_a_zebra_and_are_given_way() -> None:
    world = traffic(zebra(), 4, TrafficSettings(density=3.0, pedestrians=3.0, jaywalking=0.0))
    crossed, nearest = set(), math.inf
    for k in range(int(120 / STEP)):
        world.step(STEP)
        on_road = [w for w in world.people.walkers if abs(w.y) < 3.4]
        crossed |= {w.number for w in on_road}
        for actor in world.moving() if k % 2 == 0 and on_road else ():
            if actor.model.label == ObjectClass.PEDESTRIAN or math.hypot(*actor.velocity) < 1.0:
                continue
            for w in on_road:
                nearest = min(nearest, float(np.linalg.norm(corners(actor) - (w.x, w.y), axis=1).min()))
        assert k % 4 or collisions(world) == []
    assert len(crossed) >= 5
    assert nearest > 0.6


def test_two_processes_make_the_same_traffic() -> None:
    code = (
        "from test_world_traffic import fingerprint; print(fingerprint())"
    )  # fmt: skip
    answer = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parent, capture_output=True, text=True, check=True
    )
    assert answer.stdout.split()[-1] == fingerprint()


def fingerprint() -> str:
    world = traffic(zebra(), 9, TrafficSettings(density=2.0, pedestrians=2.0))
    digest = hashlib.sha256()
    for _ in range(200):
        world.step(STEP)
    for a in world.actors():
        digest.update(repr((a.number, a.model.family, a.position, a.yaw, a.velocity, a.lights)).encode())
    return digest.hexdigest()


def test_a_trailer_settles_at_the_angle_of_its_circle() -> None:
    """An axle L behind a coupling on a circle of radius R: its bar stands at asin(L / R) to the coupling's motion."""
    radius, bar = 12.0, 5.0
    x, y, yaw = radius, -bar, math.pi / 2
    for k in range(1, 2001):
        angle = 0.01 * k
        x, y, yaw = drag(x, y, yaw, bar, radius * math.cos(angle), radius * math.sin(angle))
    assert (angle + math.pi / 2 - yaw) % (2 * math.pi) == pytest.approx(math.asin(bar / radius), abs=1e-4)
    assert math.hypot(x, y) == pytest.approx(math.sqrt(radius**2 - bar**2), abs=1e-3)


def test_speeds_told_of_are_those_driven() -> None:
    world = traffic(roundabout(), 6)
    for _ in range(200):
        world.step(STEP)
    before = {a.number: a for a in world.moving()}
    world.step(0.01)
    off = []
    for a in world.moving():
        if a.number in before and a.model.label != ObjectClass.PEDESTRIAN:
            moved = (np.array(a.position[:2]) - before[a.number].position[:2]) / 0.01
            off.append(np.hypot(*(moved - a.velocity)))
    assert off
    assert max(off) < 0.5
    assert np.median(off) < 0.1


def test_standing_things_are_the_same_tuple_and_never_on_a_lane() -> None:
    spaces = [ParkingSpace(20.0 + 6.0 * k, -5.2, 0.0) for k in range(20)]
    layout = place([line(1, (0, 0), (200, 0))], parking=spaces)
    world = traffic(layout, 0, TrafficSettings(parking=3.0))
    standing = world.standing()
    assert len(standing) >= 10
    for _ in range(20):
        world.step(STEP)
    assert world.standing() is standing
    assert all(corners(actor)[:, 1].max() < -1.75 for actor in standing)
    assert len({a.number for a in world.actors()}) == len(world.actors())


def test_traffic_stops_behind_the_vehicle_under_test() -> None:
    ego = DrivenVehicle(x=60.0, y=0.0)
    ego.apply(Command(0.0, 0.0, 0.0))
    world = traffic(place([line(1, (0, 0), (200, 0))]), settings=NOBODY, ego=ego)
    car = world.driving.enter(Unit(box_model("sedan", 0), Kind.CAR), 0, 10.0, v=8.0)
    for _ in range(int(20 / STEP)):
        ego.step(STEP)
        world.step(STEP, ego)
    f = world.driving.fleet
    assert f.v[car] == pytest.approx(0.0, abs=0.05)
    assert f.q[car] + f.nose[car] == pytest.approx(60.0 - ego.vehicle.rear - ALIKE.min_gap, abs=0.6)


def test_a_car_goes_round_a_bicycle_and_back() -> None:
    layout = place([line(1, (0, -1.75), (500, -1.75)), line(2, (500, 1.75), (0, 1.75))])
    world = traffic(layout, settings=NOBODY)
    driving = world.driving
    bicycle = driving.enter(Unit(box_model("cyclist", 0), Kind.BICYCLE), 0, 60.0, v=4.0)
    car = driving.enter(Unit(box_model("sedan", 0), Kind.CAR), 0, 20.0, v=8.0)
    f, between = driving.fleet, math.inf
    for _ in range(int(25 / STEP)):
        world.step(STEP)
        if abs(f.q[car] - f.q[bicycle]) < 2.0:
            room = abs(f.d[car] - f.d[bicycle]) - f.half_width[car] - f.half_width[bicycle]
            between = min(between, room)
    assert f.q[car] > f.q[bicycle] + 10.0
    assert between > 0.6
    assert abs(f.d[car] - f.line[car]) < 0.2


def test_a_scripted_car_brakes_as_it_was_told() -> None:
    steps = (Step(Trigger(time=2.0), speed=4.0, acceleration=3.0), Step(Trigger(after=4.0), stop_at=90.0))
    actor = ScriptedActor("sedan", lane=1, along=10.0, speed=10.0, steps=steps)
    world = traffic(place([line(1, (0, 0), (200, 0))]), settings=NOBODY, scripted=[actor])
    for _ in range(int(4 / STEP)):
        world.step(STEP)
    (car,) = world.moving()
    # 2 s at 10 m/s, then 2 s at -3 m/s² down to 4 m/s.
    assert car.position[0] == pytest.approx(10 + 20 + 14.0, abs=0.02)
    assert car.velocity[0] == pytest.approx(4.0, abs=1e-6)
    for _ in range(int(30 / STEP)):
        world.step(STEP)
    (car,) = world.moving()
    assert car.position[0] == pytest.approx(90.0, abs=0.05)
    assert car.velocity[0] == 0.0


def test_a_scripted_car_cuts_in_when_the_vehicle_under_test_is_near() -> None:
    ego = DrivenVehicle(x=12.0, y=0.0, speed=15.0)
    steps = (Step(Trigger(ego_distance=12.0), lateral=0.0, duration=2.0),)
    actor = ScriptedActor("sedan", route=((0.0, 0.0),), along=40.0, lateral=3.5, speed=10.0, steps=steps)
    world = traffic(two_lane_road(), settings=NOBODY, scripted=[actor], ego=ego)
    began = None
    for _ in range(int(8 / STEP)):
        world.step(STEP, ego)
        ego.step(STEP)
        (car,) = world.moving()
        gap = car.position[0] - 2.25 - ego.x - ego.vehicle.front
        if began is None and car.position[1] < 3.49:
            began = gap
    assert began == pytest.approx(12.0, abs=1.0)
    assert car.position[1] == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"lane": 1}, "expected a family"),
        ({"family": "sedan"}, "expected one of lane, points or route"),
        ({"family": "sedan", "lane": 1, "speeed": 3}, "no such key"),
        ({"family": "sedan", "lane": 1, "speed": "fast"}, "expected a number"),
        ({"family": "sedan", "points": [[0, 0], [1, "x"]]}, "expected lists of numbers"),
        ({"family": "sedan", "lane": 1, "steps": [{"when": {"tine": 1}}]}, r"steps\[0\].when.tine"),
    ],
)
def test_a_bad_script_gets_one_clear_line(values: dict, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as caught:
        ScriptedActor.from_mapping(values)
    assert "\n" not in str(caught.value)


def test_a_lane_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigurationError, match="expected one of 1, got 7"):
        traffic(place([line(1, (0, 0), (200, 0))]), settings=NOBODY, scripted=[ScriptedActor("sedan", lane=7)])
