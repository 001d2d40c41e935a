"""Lanelet2 files written here, against places known in closed form."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from karp_perception.core import BackendUnavailable, ConfigurationError, InvalidInput, Road, StopKind
from karp_perception.maps.files import MapSettings, read_map
from karp_perception.maps.routes import route_between

pytest.importorskip("lanelet2", reason="needs the lanelet2 package: pip install 'karp_perception[lanelet2]'")

LATITUDE, LONGITUDE = 49.0, 8.4
RADIUS = 20.0


class Osm:
    """Writes lanelet2's XML. Points are in m, with the tags local_x and local_y beside latitude and longitude."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._next = 0
        self._relations: list[str] = []

    def line(self, points: Sequence[tuple[float, float]] | np.ndarray, **tags: str) -> int:
        numbers = [self.point(x, y) for x, y in points]
        return self.join(numbers, **tags)

    def join(self, numbers: Sequence[int], **tags: str) -> int:
        nodes = "".join(f'<nd ref="{n}"/>' for n in numbers)
        number = self._number()
        self._parts.append(f'<way id="{number}">{nodes}{_tags(tags)}</way>')
        return number

    def lanelet(self, left: int, right: int, rules: Sequence[int] = (), **tags: str) -> int:
        given = {"type": "lanelet", "subtype": "road", "location": "urban", "one_way": "yes"} | tags
        return self.relation([("way", left, "left"), ("way", right, "right")], rules, **given)

    def relation(self, members: Sequence[tuple[str, int, str]], rules: Sequence[int] = (), **tags: str) -> int:
        members = [*members, *(("relation", rule, "regulatory_element") for rule in rules)]
        number = self._number()
        self._relations.append(f'<relation id="{number}">{_members(members)}{_tags(tags)}</relation>')
        return number

    def text(self) -> str:
        # Nodes first, then ways, then relations, as the format has it.
        order = sorted(self._parts, key=lambda part: ("<node", "<way").index(part.split()[0]))
        return f'<?xml version="1.0"?><osm version="0.6">{"".join(order)}{"".join(self._relations)}</osm>'

    def _number(self) -> int:
        self._next += 1
        return self._next

    def point(self, x: float, y: float) -> int:
        x, y = float(x), float(y)
        number = self._number()
        # On the ellipsoid WGS 84, for places near the origin.
        e2, a, phi = 0.00669437999014, 6378137.0, math.radians(LATITUDE)
        north = a * (1 - e2) / (1 - e2 * math.sin(phi) ** 2) ** 1.5
        east = a / math.sqrt(1 - e2 * math.sin(phi) ** 2) * math.cos(phi)
        latitude, longitude = LATITUDE + math.degrees(y / north), LONGITUDE + math.degrees(x / east)
        tags = _tags({"local_x": repr(x), "local_y": repr(y), "ele": "0"})
        self._parts.append(f'<node id="{number}" lat="{latitude!r}" lon="{longitude!r}">{tags}</node>')
        return number


def _tags(tags: dict[str, str]) -> str:
    return "".join(f'<tag k="{key}" v="{value}"/>' for key, value in tags.items())


def _members(members: Sequence[tuple[str, int, str]]) -> str:
    return "".join(f'<member type="{kind}" ref="{number}" role="{role}"/>' for kind, number, role in members)


def arc(radius: float, count: int = 40) -> list[tuple[float, float]]:
    """From (50, 0) to the left around (50, 20), a quarter of a circle; radius 20 is its middle."""
    angle = np.linspace(0.0, math.pi / 2, count)
    return list(zip(50.0 + radius * np.sin(angle), RADIUS - radius * np.cos(angle), strict=True))


def town() -> str:
    """Two lanes 3 m wide to the east, of which the right one turns left on an arc; a side road gives way to them.

    The left lane: y = 1.5 to 4.5; the right one: y = -1.5 to 1.5. Between them a dashed line. People cross at x = 30; a
    light stands at x = 45 over the right lane. The side road comes from the south along x = 48 and joins the arc.
    """
    osm = Osm()
    p = [osm.point(x, y) for y in (4.5, 1.5, -1.5) for x in (0.0, 50.0)]
    top = osm.join(p[0:2], type="line_thin", subtype="solid")
    middle = osm.join(p[2:4], type="line_thin", subtype="dashed")
    bottom = osm.join(p[4:6], type="line_thin", subtype="solid")
    inner, outer = ([osm.point(x, y) for x, y in arc(RADIUS + off)[1:]] for off in (-1.5, 1.5))
    stop = osm.line([(45.0, -1.5), (45.0, 1.5)], type="stop_line")
    lamp = osm.line([(52.0, 2.0), (52.5, 2.0)], type="traffic_light", subtype="red_yellow_green")
    light = osm.relation(
        [("way", lamp, "refers"), ("way", stop, "ref_line")], type="regulatory_element", subtype="traffic_light"
    )
    side = [osm.line([(x, -40.0), (x, -3.0)], type="line_thin", subtype="solid") for x in (46.5, 49.5)]
    line = osm.line([(46.5, -5.0), (49.5, -5.0)], type="stop_line")
    osm.lanelet(top, middle)
    right = osm._number() + 2  # numbers of what comes next are known, as relations name each other
    yields, rule = right + 1, right + 2
    osm._next = right - 1
    assert osm.lanelet(middle, bottom, [light], speed_limit="30 km/h") == right
    assert osm.lanelet(*side, rules=[rule]) == yields
    members = [("relation", yields, "yield"), ("relation", right, "right_of_way"), ("way", line, "ref_line")]
    assert osm.relation(members, type="regulatory_element", subtype="right_of_way") == rule
    bend = osm.join([p[3], *inner], type="line_thin", subtype="solid")
    osm.lanelet(bend, osm.join([p[5], *outer], type="line_thin", subtype="solid"), location="nonurban")
    zebra = [osm.line([(x, -3.0), (x, 6.0)], type="zebra_marking") for x in (28.5, 31.5)]
    osm.lanelet(*zebra, subtype="crosswalk", one_way="no")
    osm.lanelet(*(osm.line([(0.0, y), (50.0, y)], type="curbstone") for y in (9.0, 7.0)), subtype="walkway")
    return osm.text()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("maps") / "town.osm"
    path.write_text(town())
    return path


def read(file: Path, **settings: object) -> Road:
    road = read_map(MapSettings(file=str(file), **settings))
    assert road is not None
    return road


@pytest.fixture(scope="module")
def road(file: Path) -> Road:
    return read(file, projection="local")


LEFT, RIGHT, SIDE, BEND = range(4)  # in order of their numbers


def test_lanes_for_cars_lie_where_the_file_puts_them(road: Road) -> None:
    assert len(road.lanes) == 4
    np.testing.assert_allclose(road.lanes[LEFT].center[:, 1], 3.0, atol=1e-6)
    np.testing.assert_allclose(road.lanes[RIGHT].center[:, 1], 0.0, atol=1e-6)
    np.testing.assert_allclose(road.lanes[RIGHT].center[[0, -1], 0], [0.0, 50.0], atol=1e-6)
    np.testing.assert_allclose(road.lanes[SIDE].center[:, 0], 48.0, atol=1e-6)
    bend = road.lanes[BEND]
    np.testing.assert_allclose(np.hypot(bend.center[:, 0] - 50.0, bend.center[:, 1] - RADIUS), RADIUS, atol=0.05)
    np.testing.assert_allclose(bend.center[-1], [50.0 + RADIUS, RADIUS], atol=0.05)
    np.testing.assert_allclose([lane.width for lane in road.lanes], 3.0, atol=0.02)


def test_lanes_know_what_follows_what_is_beside_them_and_how_fast(road: Road) -> None:
    left, right, side, bend = road.lanes
    assert (left.left, left.right, left.successors) == (None, RIGHT, ())
    assert (right.left, right.right, right.successors) == (LEFT, None, (BEND,))
    assert side.successors == ()
    assert bend.successors == ()
    assert right.speed_limit == pytest.approx(30 / 3.6)
    assert left.speed_limit == pytest.approx(50 / 3.6)  # in town
    assert bend.speed_limit == pytest.approx(100 / 3.6)  # out of it


def test_lights_right_of_way_and_crossings_have_their_stop_lines(road: Road) -> None:
    by_kind = {kind: [stop for stop in road.stops if stop.kind is kind] for kind in StopKind}
    (light,) = by_kind[StopKind.LIGHT]
    assert light.lane == RIGHT
    np.testing.assert_allclose(light.point, [45.0, 0.0], atol=0.06)
    (gives_way,) = by_kind[StopKind.YIELD]
    assert gives_way.lane == SIDE
    np.testing.assert_allclose(gives_way.point, [48.0, -5.0], atol=0.06)
    (first,) = gives_way.first
    np.testing.assert_allclose(first, road.lanes[RIGHT].center, atol=1e-6)
    crossings = {stop.lane: stop for stop in by_kind[StopKind.CROSSING]}
    assert set(crossings) == {LEFT, RIGHT}
    np.testing.assert_allclose(crossings[RIGHT].point, [27.5, 0.0], atol=0.26)
    (way,) = crossings[RIGHT].first
    np.testing.assert_allclose(np.sort(way[:, 1]), [-3.0, 6.0], atol=1e-6)
    np.testing.assert_allclose(way[:, 0], 30.0, atol=1e-6)
    assert not by_kind[StopKind.STOP]
    numbers = [stop.number for stop in road.stops]
    assert len(set(numbers)) == len(numbers)


@pytest.mark.parametrize("projection", ["utm", "local_cartesian"])
def test_latitude_and_longitude_become_metres_east_and_north_of_the_origin(file: Path, projection: str) -> None:
    road = read(file, projection=projection, latitude=LATITUDE, longitude=LONGITUDE)
    # UTM's grid is turned against north by 0.45 degrees here, and shrinks by 0.04 %.
    np.testing.assert_allclose(road.lanes[RIGHT].center[-1], [50.0, 0.0], atol=0.5)
    np.testing.assert_allclose(road.lanes[BEND].center[-1], [70.0, 20.0], atol=0.6)
    assert road.lanes[BEND].length == pytest.approx(RADIUS * math.pi / 2, rel=2e-3)


def test_a_map_is_moved_and_turned_as_the_settings_say(file: Path, road: Road) -> None:
    moved = read(file, projection="local", x=100.0, y=-7.0, yaw=math.pi / 2)
    for before, after in zip(road.lanes, moved.lanes, strict=True):
        expected = np.column_stack([100.0 - before.center[:, 1], -7.0 + before.center[:, 0]])
        np.testing.assert_allclose(after.center, expected, atol=1e-9)
    np.testing.assert_allclose(moved.stops[0].point, [100.0 - road.stops[0].point[1], -7.0 + road.stops[0].point[0]])


def test_a_route_through_the_file_turns_where_it_turns(road: Road) -> None:
    route = route_between(road.lanes, np.array([5.0, 3.1]), np.array([70.0, 19.0]), yaw=0.0)
    np.testing.assert_allclose(route.points[0], [5.0, 3.0], atol=0.01)
    np.testing.assert_allclose(route.points[-1], [70.0, 19.0], atol=0.2)
    assert route.speed_limit == pytest.approx(50 / 3.6)


def test_what_is_no_map_gets_one_clear_line(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failure(kind: type[Exception], name: str, text: str | None, **settings: object) -> str:
        path = tmp_path / name
        if text is not None:
            path.write_text(text)
        with pytest.raises(kind) as raised:
            read(path, **settings)
        assert "\n" not in str(raised.value)
        return str(raised.value)

    assert "file that exists" in failure(InvalidInput, "none.osm", None)
    assert "ends in .xodr or .osm" in failure(ConfigurationError, "map.txt", "")
    assert "readable lanelet2 file" in failure(InvalidInput, "bad.osm", "<nonsense")
    assert "cars may drive on" in failure(InvalidInput, "empty.osm", '<osm version="0.6"></osm>')
    missing = town().replace('k="local_x"', 'k="other"', 1)
    assert "local_x and local_y" in failure(InvalidInput, "tags.osm", missing, projection="local")
    assert read_map(MapSettings()) is None
    monkeypatch.setitem(__import__("sys").modules, "lanelet2.core", None)
    with pytest.raises(BackendUnavailable, match=r"pip install 'karp_perception\[lanelet2\]'"):
        read(file)


def test_stop_signs_and_all_way_stops_are_stops(tmp_path: Path) -> None:
    osm = Osm()

    def bounds(y: float) -> list[int]:
        return [osm.line([(0.0, y + dy), (40.0, y + dy)], type="line_thin") for dy in (1.5, -1.5)]

    sign = osm.line([(40.0, -3.0), (40.5, -3.0)], type="traffic_sign", subtype="de206")
    rule = osm.relation([("way", sign, "refers")], type="regulatory_element", subtype="traffic_sign")
    osm.lanelet(*bounds(0.0), rules=[rule])
    line = osm.line([(35.0, 18.5), (35.0, 21.5)], type="stop_line")
    left, right = bounds(20.0)
    number = osm._number() + 1
    osm._next = number - 1
    assert osm.lanelet(left, right, [number + 1]) == number
    members = [("relation", number, "yield"), ("way", line, "ref_line")]
    osm.relation(members, type="regulatory_element", subtype="all_way_stop")
    path = tmp_path / "stops.osm"
    path.write_text(osm.text())
    road = read(path, projection="local")
    assert [(stop.kind, stop.lane) for stop in road.stops] == [(StopKind.STOP, 0), (StopKind.STOP, 1)]
    np.testing.assert_allclose([stop.point for stop in road.stops], [[40.0, 0.0], [35.0, 20.0]], atol=0.06)
