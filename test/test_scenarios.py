"""Scenario files: what they hold, how they expand, where they put things, and what is said of wrong ones."""

import copy
import math
import re
from collections import Counter

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from karp_perception.core import ConfigurationError, ObjectClass
from karp_perception.world.layouts.families import FAMILIES
from karp_perception.world.scenarios.avoidable import BestBraking, avoids_lead, avoids_standing, stopping_distance
from karp_perception.world.scenarios.case import Kind
from karp_perception.world.scenarios.expressions import evaluated
from karp_perception.world.scenarios.places import RouteLine
from karp_perception.world.scenarios.staging import stage
from karp_perception.world.scenarios.suite import (
    SUITES,
    find_cases,
    load_file,
    load_suite,
    random_case,
    random_cases,
    suite_names,
)


@pytest.fixture(scope="module")
def scenarios():
    return load_suite()


@pytest.fixture(scope="module")
def staged(scenarios):
    """One of each scenario's cases (the last one) in its place."""
    return [stage(scenario.cases[-1]) for scenario in scenarios]


def written(tmp_path, content, name="mine.yaml"):
    path = tmp_path / name
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return path


def minimal(**more):
    return {
        "name": "one",
        "sentence": "A car stands.",
        "kind": "conflict",
        "layout": {"family": "straight", "seed": 1, "bare": True},
        "ego": {"speed_kmh": 30},
        "duration_s": 5,
        "checks": ["no_contact"],
        **more,
    }


# What there is


def test_there_are_as_many_scenarios_as_promised(scenarios):
    kinds = Counter(scenario.kind for scenario in scenarios)
    assert len(scenarios) >= 60
    assert kinds[Kind.CLEAR] >= 25
    assert kinds[Kind.CONFLICT] >= 30
    assert kinds[Kind.FAULT] >= 8
    assert len({case.name for scenario in scenarios for case in scenario.cases}) == sum(len(s.cases) for s in scenarios)


def test_every_scenario_says_what_it_is_in_a_sentence(scenarios):
    for scenario in scenarios:
        for case in scenario.cases:
            assert re.fullmatch(r"[A-Z\d-].{10,}\.", case.sentence, re.DOTALL), (case.name, case.sentence)
            assert "{" not in case.sentence


def test_the_euro_ncap_grid_is_complete(scenarios):
    by_name = {scenario.name: scenario for scenario in scenarios}

    def values(name, key):
        return sorted({case.parameters[key] for case in by_name[name].cases})

    assert values("ccrs", "speed") == [10, 20, 30, 40, 50]
    assert values("ccrs", "overlap") == [-75, -50, 50, 75, 100]
    assert len(by_name["ccrs"].cases) == 25
    assert values("ccrm", "speed") == [30, 40, 50, 60, 70, 80]
    assert (values("ccrb", "headway"), values("ccrb", "braking")) == ([12, 40], [2, 6])
    assert (values("cpna", "speed"), values("cpna", "share")) == ([10, 20, 30, 40, 50, 60], [25, 75])
    for name in ("cpfa", "cpnco"):
        assert values(name, "speed") == [10, 20, 30, 40, 50, 60]
    assert {"cpla", "cbna", "cbla"} <= set(by_name)


def test_clear_scenarios_forbid_hard_braking_and_conflicts_contact(scenarios):
    for scenario in scenarios:
        names = {check.name for check in scenario.cases[0].checks}
        wanted = "no_braking_harder_than" if scenario.kind == Kind.CLEAR else "no_contact"
        assert wanted in names or "obeys_lights" in names, scenario.name


def test_suites_go_by_the_names_of_their_files():
    assert set(suite_names()) == {"all", *(path.stem for path in SUITES.glob("*.yaml"))}
    assert {s.name for s in load_suite("faults")} <= {s.name for s in load_suite()}


# In their places


@pytest.mark.slow
def test_every_case_fits_into_its_place(scenarios):
    for scenario in scenarios:
        for case in scenario.cases:
            stage(case)


def test_who_drives_along_begins_in_a_lane_of_that_direction(staged):
    checked = 0
    for one in staged:
        lanes = [lane.center[:, :2] for lane in one.layout.lanes.values()]
        route = RouteLine(one.layout, one.start)
        for part, actor in zip(one.case.actors, one.scripted, strict=True):
            if part.way.kind not in ("along", "against") or part.family in ("walker", "child") or not part.speed:
                continue
            points = np.array(actor.points)
            steps = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
            here = np.array([np.interp(actor.along, steps, points[:, k]) for k in (0, 1)])
            k = int(np.searchsorted(steps, actor.along).clip(1, len(points) - 1))
            heading = points[k] - points[k - 1]
            sign = 1 if part.way.kind == "along" else -1
            _, offset = route.project(here)
            assert offset[0] == pytest.approx(part.place.lateral, abs=0.05)
            s = route.project(here)[0][0]
            assert np.cos(np.arctan2(heading[1], heading[0]) - route.at(s).yaw) * sign > 0.99
            away = min(np.hypot(*(lane - here).T).min() for lane in lanes)
            assert away < 2.3, (one.case.name, part.name, away)
            checked += 1
    assert checked > 30


def test_nobody_begins_inside_the_vehicle_or_somebody_else(staged):
    from karp_perception.evaluation.footprints import rectangles, separation
    from karp_perception.world.models.catalogue import draw

    for one in staged:
        route = RouteLine(one.layout, one.start)
        ego = route.at(one.start)
        boxes, names = [(ego.x + 0.5 * math.cos(ego.yaw), ego.y + 0.5 * math.sin(ego.yaw), ego.yaw, 4.8, 1.9)], ["ego"]
        for part, actor in zip(one.case.actors, one.scripted, strict=True):
            if not actor.visible:
                continue
            points = np.array(actor.points)
            steps = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
            x, y = (np.interp(actor.along, steps, points[:, k]) for k in (0, 1))
            k = int(np.searchsorted(steps, actor.along + 1e-6).clip(1, len(points) - 1))
            yaw = np.arctan2(*(points[k] - points[k - 1])[::-1])
            boxes.append((x, y, yaw, *draw(actor.family, actor.seed, actor.size).size[:2]))
            names.append(part.name)
        columns = np.array(boxes).T
        corners = rectangles(columns[:2].T, columns[2], columns[3], columns[4])
        for i in range(len(corners)):
            for j in range(i + 1, len(corners)):
                assert separation(corners[[i]], corners[[j]])[0][0] > 0, (one.case.name, names[i], names[j])


def test_actors_have_labels_and_scenery_has_none(staged):
    from karp_perception.world.models.catalogue import draw

    for one in staged:
        for actor in one.scripted:
            assert draw(actor.family, actor.seed, actor.size).label in set(ObjectClass), actor.family
        for placement in one.scenery:
            assert draw(placement.family, placement.seed, placement.size).label is None, placement.family


@pytest.mark.parametrize("speed", [20, 50])
def test_the_walker_is_met_where_the_protocol_says(speed):
    """Both keep their speeds: when the front is at the walker's line, the walker is at 25 % of the width."""
    (case,) = find_cases([f"cpna,speed={speed},share=25"], load_suite("vulnerable"))
    one = stage(case)
    (actor,) = one.scripted
    v, walk = case.speed, 5 / 3.6
    starts = (actor.steps[0].when.ego_at - one.start) / v
    route = RouteLine(one.layout, one.start)
    along, offset = route.project(np.array(actor.points[:1]))
    arrives = (along[0] - one.start - 2.9 - 0.3) / v  # front bumper at the near edge of a walker of 0.6 m or so
    assert offset[0] + walk * (arrives - starts) == pytest.approx(-0.95 + 0.25 * 1.9, abs=0.15)


@pytest.mark.parametrize("side", ["left", "right"])
def test_lane_ways_come_from_the_side_that_they_are_named_after(side):
    (case,) = find_cases([f"crossing_car_runs_red,side={side}"], load_suite("junctions"))
    one = stage(case)
    route = RouteLine(one.layout, one.start)
    points = np.array(one.scripted[0].points)
    _, offset = route.project(points[:1])
    assert (offset[0] > 0) == (side == "left")
    _, far = route.project(points[-1:])
    assert (far[0] > 0) != (side == "left")


@pytest.mark.parametrize(("name", "before", "there"), [("red_light", "red", "red"), ("yellow_light", "yellow", "red"),
                                                       ("green_light", "green", "green")])  # fmt: skip
def test_lights_show_what_the_sentence_says(name, before, there):
    """At the line after the way at the first speed, and three seconds before that."""
    (case,) = find_cases([name], load_suite())
    one = stage(case)
    arrives = (one.places["stop_line"] - one.start - 2.9) / case.speed
    (signal,) = {lane.signal for lane in map(one.layout.lanes.get, one.layout.route) if lane.signal is not None}
    shown = [one.layout.signals[signal].color(arrives - t).value for t in (3.0, 0.0)]
    assert shown == [before, there]


def test_the_same_case_is_staged_the_same_twice():
    (case,) = find_cases(["cut_out_standing_car,seconds=3"], load_suite())
    assert stage(case).scripted == stage(case).scripted


# Names


def test_cases_are_found_by_scenario_by_name_and_by_part(scenarios):
    assert len(find_cases(["ccrs"], scenarios)) == 25
    assert len(find_cases(["ccrs,speed=30"], scenarios)) == 5
    assert [c.name for c in find_cases(["ccrs,speed=30,overlap=-50"], scenarios)] == ["ccrs,speed=30,overlap=-50"]
    assert len(find_cases(["ccrs", "ccrs,speed=30"], scenarios)) == 25


@pytest.mark.parametrize("name", ["ccr", "ccrs,speed=31", "random:", "random:straight", "random:straight:x", ""])
def test_a_name_that_fits_nothing_is_one_clear_line(name, scenarios):
    with pytest.raises(ConfigurationError) as caught:
        find_cases([name], scenarios)
    assert "\n" not in str(caught.value)
    assert "random:FAMILY:SEED" in str(caught.value)


def test_random_drives_are_drawn_from_family_and_seed():
    case = random_case("random:straight:7")
    assert (case.layout, case.seed, case.kind) == ("straight", 7, Kind.RANDOM)
    one, two = stage(case), stage(random_case("random:straight:8"))
    assert one.layout.route_points.shape != two.layout.route_points.shape
    with pytest.raises(ConfigurationError, match="random:nowhere:1"):
        stage(random_case("random:nowhere:1"))


# Formulas


@settings(max_examples=60, deadline=None)
@given(st.floats(-100, 100), st.floats(0.1, 50))
def test_formulas_agree_with_python(a, b):
    known = {"a": a, "b": b}
    for text in ("a + b * 2", "-a / b", "max(a, b) - min(a, b)", "a if a > b else b", "sqrt(b) * abs(a)", "b ** 2"):
        expected = eval(text, {"sqrt": math.sqrt}, known)
        assert evaluated(f"= {text}", known) == expected
    assert evaluated({"x": ["=a", "b", 3]}, known) == {"x": [a, "b", 3]}


@pytest.mark.parametrize(
    "text",
    ["1 +", "x", "a.b", "().__class__", "__import__('os')", "a[0]", "lambda: 1", "1 / 0", "9.0 ** 999", "'a' * 9",
     "open", "[a for a in (1,)]", "f'{a}'", "a := 1", "sqrt(-1)", "max()", "a and", "'x' + 1", "(" * 100, "1" * 400],
)  # fmt: skip
def test_what_is_no_formula_is_refused(text):
    with pytest.raises(ConfigurationError, match="expected a formula over a"):
        evaluated("=" + text, {"a": 1})


# Wrong files


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kind": "funny"}, "kind: expected one of clear, conflict"),
        ({"sentence": 3}, "sentence: expected a text, got 3"),
        ({"sentence": "At {speed}."}, "sentence: expected names in braces among"),
        ({"layout": {"seed": 3}}, "layout: expected a key 'family'"),
        ({"layout": {"family": "straight", "seed": -1}}, "seed: expected a number from 0"),
        ({"layout": {"family": "straight", "seed": 1.5}}, "seed: expected a whole number"),
        ({"ego": {}}, "ego: expected a key 'speed_kmh'"),
        ({"ego": {"speed_kmh": "fast"}}, "speed_kmh: expected a number from 0 to 250, got 'fast'"),
        ({"ego": {"speed_kmh": float("nan")}}, "speed_kmh: expected a number"),
        ({"ego": {"speed_kmh": 30, "lateral": 99}}, "lateral: expected a number from -20 to 20, got 99"),
        ({"ego": {"speed_kmh": 30, "sped": 1}}, "ego: sped: expected one of"),
        ({"duration_s": 0}, "duration_s: expected a number from 1"),
        ({"duration": 3}, "duration: expected one of"),
        ({"checks": []}, "checks: expected at least one check"),
        ({"checks": ["no_contakt"]}, "did you mean 'no_contact'"),
        ({"checks": [{"no_braking_harder_than": {}}]}, "expected a parameter 'mps2'"),
        ({"checks": [{"no_braking_harder_than": {"mps2": "2"}}]}, "mps2: expected a number"),
        ({"checks": [{"stops_before": {"at": "moon"}}]}, "at: expected one of start, end"),
        ({"checks": [{"min_gap_at_least": {"m": 1, "to": "nobody"}}]}, "to: expected one of the actors (none)"),
        ({"weather": {"rain": 900}}, "rain: expected 0 to 200 mm/h, got 900"),
        ({"weather": {"snow": 1}}, "weather: snow: no such setting"),
        ({"traffic": {"density": -1}}, "density: expected 0.0 to 5.0"),
        ({"traffic": {"dogs": 1}}, "traffic: dogs: no such setting"),
        ({"faults": [{"sensor": "nose", "kind": "lost"}]}, "sensor: expected for lost one of"),
        ({"faults": [{"sensor": "lidar", "kind": "thinned"}]}, "expected a key 'amount'"),
        ({"faults": [{"sensor": "lidar", "kind": "lost", "from_s": 4, "to_s": 3}]}, "to_s: expected more than from_s"),
        ({"actors": [{"name": "a"}]}, "actors[0] a: expected a key 'model'"),
        ({"actors": [{"name": "a", "model": "sedan", "way": "sideways"}]}, "way: expected one of against, along"),
        ({"actors": [{"name": "a", "model": "sedan", "meets": {}, "way": "along", "speed_kmh": 3}]}, "meets: expected"),
        ({"actors": [{"name": "a", "model": "sedan", "at": {"gap": 3, "along": 2}}]}, "gap: expected no 'along'"),
        ({"actors": [{"name": "a", "model": "sedan", "events": [{"when": {}, "do": {}}]}]}, "when: expected one of"),
        ({"actors": [{"name": "a", "model": "sedan"}, {"name": "a", "model": "sedan"}]}, "got 'a' twice"),
        ({"actors": 3}, "actors: expected a list, got 3"),
        ({"grid": {"speed": []}}, "speed: expected at least one value"),
        ({"grid": {"speed": [[1]]}}, "speed: expected numbers or words"),
        ({"grid": {"speed": [1, 2]}, "skip": True}, "skip: expected at least one combination"),
        ({"name": "No Name"}, "name: expected lower-case letters"),
        ({"duration_s": "=speed"}, "duration_s: expected a formula over no parameters"),
    ],
)
def test_a_wrong_key_is_one_clear_line(tmp_path, change, words):
    path = written(tmp_path, {"scenarios": [minimal(**change)]})
    with pytest.raises(ConfigurationError) as caught:
        load_file(path)
    message = str(caught.value)
    assert words in message
    assert message.startswith("mine.yaml: ")
    assert "\n" not in message


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("scenarios: [", "expected YAML"),
        ("", "expected a mapping"),
        ("- 1", "expected a mapping"),
        ("scenarios: []", "expected at least one scenario"),
        ("scenarios: [3]", "expected a mapping"),
        ("scenario: []", "scenario: expected one of"),
        ("a: !!python/object:os.system x", "expected YAML"),
        ("\x00", "expected YAML"),
    ],
)
def test_a_wrong_file_is_one_clear_line(tmp_path, content, words):
    with pytest.raises(ConfigurationError, match=re.escape(words)) as caught:
        load_file(written(tmp_path, content))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"layout": {"family": "moon"}}, "layout: "),
        ({"layout": {"family": "straight", "lanes": 99}}, "lanes"),
        ({"layout": {"family": "straight", "lane_count": 2}}, "lane_count"),
        ({"ego": {"speed_kmh": 30, "along": 1900}}, "ego: along: expected 0 to"),
        ({"actors": [{"name": "a", "model": "spaceship"}]}, "actors: a: model: "),
        ({"actors": [{"name": "a", "model": "sedan", "at": {"along": 1900}}]}, "along: expected a place on the route"),
        ({"actors": [{"name": "a", "model": "sedan", "at": {"from": "stop_line"}}]}, "this layout has 0 of them"),
        ({"actors": [{"name": "a", "model": "sedan", "way": {"lane": "from_left"}}]}, "expected a layout with a lane"),
        ({"actors": [{"name": "a", "model": "walker", "at": {"along": 5, "lateral": -9, "turn_deg": 90}, "way": "line",
                      "speed_kmh": 3, "meets": {}}]}, "expected the vehicle to start at least"),
        ({"actors": [{"name": "a", "model": "walker", "at": {"along": 50, "lateral": -9}, "way": "line", "speed_kmh": 3,
                      "meets": {}}]}, "expected a way that gets to 0 m beside the route"),
        ({"scenery": [{"model": "spaceship", "at": {}}]}, "scenery: spaceship: model: "),
        ({"checks": [{"stops_before": {"at": "stop_line"}}]}, "at: expected one of start, end"),
    ],
)  # fmt: skip
def test_an_impossible_place_is_one_clear_line(tmp_path, change, words):
    (scenario,) = load_file(written(tmp_path, {"scenarios": [minimal(**change)]}))
    with pytest.raises(ConfigurationError) as caught:
        stage(scenario.cases[0])
    message = str(caught.value)
    assert words in message
    assert message.startswith("mine.yaml: scenario one: ")
    assert "\n" not in message


def test_the_same_name_twice_is_refused(tmp_path):
    written(tmp_path, {"scenarios": [minimal()]}, "a.yaml")
    written(tmp_path, {"scenarios": [minimal()]}, "b.yaml")
    with pytest.raises(ConfigurationError, match="scenario one: expected different names"):
        load_suite(tmp_path)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats() | st.text(max_size=8) | st.just("=speed"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
FULL = minimal(
    grid={"speed": [10, 20]},
    traffic={"density": 0},
    weather={"rain": 1.0},
    faults=[{"sensor": "lidar", "kind": "thinned", "amount": 0.5, "from_s": 1, "to_s": 2}],
    scenery=[{"model": "tree", "at": {"along": 5}, "size": [1, 1, 2]}],
    actors=[
        {
            "name": "a",
            "model": "sedan",
            "at": {"from": "start", "along": 20, "lateral": 1, "turn_deg": 3},
            "way": {"points": [[0, 1], [5, 2]]},
            "speed_kmh": "=speed",
            "meets": {"lateral": 1.5},
            "events": [{"when": {"time_s": 1}, "do": {"speed_kmh": 0, "acceleration": 2}}],
        }
    ],
)


def _paths(value, path=()):
    yield path
    if isinstance(value, dict):
        for key in value:
            yield from _paths(value[key], (*path, key))
    elif isinstance(value, list):
        for i in range(len(value)):
            yield from _paths(value[i], (*path, i))


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from([p for p in _paths(FULL) if p]), ANYTHING)
def test_whatever_stands_in_a_file_it_is_read_or_refused_in_one_line(tmp_path, path, value):
    content = copy.deepcopy(FULL)
    inner = content
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    file = written(tmp_path, yaml.safe_dump({"scenarios": [content]}, allow_unicode=True))
    said = None
    try:
        (scenario,) = load_file(file)
    except ConfigurationError as error:
        said = str(error)
    assert scenario.cases if said is None else re.match("mine.yaml: .", said) and "\n" not in said


# What can be avoided


@pytest.mark.parametrize("kmh", [10, 30, 50, 80])
def test_stopping_distance_agrees_with_stepping(kmh):
    v, way, t, dt = kmh / 3.6, 0.0, 0.0, 1e-4
    while v > 0:
        way += v * dt
        v -= 8.0 * dt if t >= 0.3 else 0.0
        t += dt
    assert stopping_distance(kmh / 3.6) == pytest.approx(way, abs=0.01)
    assert avoids_standing(kmh / 3.6, way + 0.05)
    assert not avoids_standing(kmh / 3.6, way - 0.05)


@settings(max_examples=60, deadline=None)
@given(st.floats(3, 30), st.floats(0, 30), st.floats(0, 9), st.floats(0.5, 60))
def test_staying_behind_a_lead_agrees_with_stepping(v, u, b, gap):
    dt = 0.005
    t = np.arange(0.0, 14.0, dt)
    own = np.clip(v - 8.0 * np.maximum(t - 0.3, 0.0), 0.0, None)
    lead = np.clip(u - b * t, 0.0, None)
    least = float((gap + np.concatenate([[0.0], np.cumsum(lead - own)[:-1] * dt])).min())
    if abs(least) > 0.2:
        assert avoids_lead(v, gap, u, b, BestBraking()) == (least > 0)


def test_what_nobody_can_avoid_is_marked(scenarios):
    marked = {case.name for scenario in scenarios for case in scenario.cases if not case.avoidable}
    assert "child_runs_after_a_ball,speed=30" in marked
    assert not any(name.startswith(("ccrs", "ccrm")) for name in marked)
    assert len(marked) < 12


# What grids hold, and what may be asked for in them


@pytest.mark.parametrize(
    ("name", "speeds"),
    [
        ("ccrs", range(10, 60, 10)),
        ("ccrm", range(30, 90, 10)),
        ("cpna", range(10, 70, 10)),
        ("cpfa", range(10, 70, 10)),
        ("cpla", range(20, 70, 10)),
    ],
)
def test_euro_ncap_grids_are_whole(scenarios, name, speeds):
    (scenario,) = (s for s in scenarios if s.name == name)
    assert {case.parameters["speed"] for case in scenario.cases} == set(speeds)
    assert all(case.speed == pytest.approx(case.parameters["speed"] / 3.6) for case in scenario.cases)


def braked(speed, dt=1e-3):
    """m after each ms of a vehicle that begins to brake with 8 m/s² after 0.3 s."""
    t = np.arange(0.0, 10.0, dt)
    v = np.clip(speed - 8.0 * np.maximum(t - 0.3, 0.0), 0.0, None)
    return t, np.cumsum(v) * dt


@pytest.mark.parametrize(("name", "others"), [("ccrs", 0.0), ("ccrm", 20 / 3.6), ("cpla", 5 / 3.6)])
def test_what_is_avoidable_in_line_is_what_braking_avoids(scenarios, name, others):
    (scenario,) = (s for s in scenarios if s.name == name)
    for case in scenario.cases:
        t, way = braked(case.speed)
        gap = case.actors[-1].place.gap
        assert case.avoidable == bool((gap + others * t - way > 0).all()), case.name


@pytest.mark.parametrize(("name", "pace"), [("cpna", 5 / 3.6), ("cpfa", 8 / 3.6)])
def test_what_is_avoidable_across_is_what_braking_stops_before(scenarios, name, pace):
    (scenario,) = (s for s in scenarios if s.name == name)
    for case in scenario.cases:
        walker = case.actors[-1]
        seconds = abs(walker.meets[0] - walker.place.lateral) / pace
        assert case.avoidable == bool(braked(case.speed)[1][-1] < case.speed * seconds), case.name


def test_random_drives_go_through_all_families_and_differ_by_seed():
    first, second = random_cases(16, 0), random_cases(16, 1)
    assert {case.layout for case in first} == set(FAMILIES)
    assert len({case.name for case in (*first, *second)}) == 32
    assert first == random_cases(16, 0)
    with pytest.raises(ConfigurationError, match="drives: expected 1 to"):
        random_cases(0)


def test_every_kind_of_failure_of_the_pipeline_has_a_scenario(scenarios):
    failing = {(fault.sensor, fault.kind) for s in scenarios for case in s.cases for fault in case.faults}
    wanted = {("lidar", "lost"), ("cameras", "lost"), ("detector", "lost"), ("odometry", "frozen"), ("clock", "jump")}
    assert wanted <= failing
    delays = {fault.amount for s in scenarios for case in s.cases for fault in case.faults if fault.kind == "delayed"}
    assert 0.5 in delays
