"""Lanes and routes of an OpenDRIVE text with a junction; the carla package reads its geometry without a server."""

from __future__ import annotations

import math

import numpy as np
import pytest

from karp_perception.core.errors import KarpError
from karp_perception.core.road import StopKind
from karp_perception.world.carla.road_map import RoadMap, lanes_around, read_road_map


def lane(identifier: int, kind: str = "driving", width: float = 3.5, links: str = "", change: str = "none") -> str:
    return (
        f'<lane id="{identifier}" type="{kind}" level="false"><link>{links}</link>'
        f'<width sOffset="0" a="{width}" b="0" c="0" d="0"/>'
        f'<roadMark sOffset="0" type="broken" weight="standard" color="standard" width="0.1" laneChange="{change}"/>'
        "</lane>"
    )


def road(
    number: int, length: float, geometry: str, right: str, *, left: str = "", links: str = "", junction: int = -1,
    speed: str = "", sign: str = "", start: tuple[float, float, float] = (0.0, 0.0, 0.0), height: str = "",
) -> str:  # fmt: skip
    x, y, heading = start
    types = f'<type s="0" type="town">{speed}</type>' if speed else ""
    signals = f"<signals>{sign}</signals>" if sign else ""
    return f"""<road name="r{number}" length="{length}" id="{number}" junction="{junction}"><link>{links}</link>{types}
<planView><geometry s="0" x="{x}" y="{y}" hdg="{heading}" length="{length}">{geometry}</geometry></planView>
<elevationProfile>{height}</elevationProfile><lateralProfile/>
<lanes><laneSection s="0">{"<left>" + left + "</left>" if left else ""}
<center>{lane(0, "none", 0)}</center><right>{right}</right></laneSection></lanes>{signals}</road>"""


def link(kind: str, number: int) -> str:
    return f'<{kind} id="{number}"/>'


RADIUS = 10.0
QUARTER = RADIUS * math.pi / 2
# Road 1 comes from the west with two lanes; in the junction its right lane goes straight on to road 2 (east) or turns
# right to road 3 (south).
ROADS = "".join(
    [
        road(
            1, 50.0, "<line/>", lane(-1, change="both") + lane(-2, change="both") + lane(-3, "sidewalk", 2.0),
            links='<successor elementType="junction" elementId="100"/>',
            speed='<speed max="50" unit="km/h"/>', height='<elevation s="0" a="1" b="0.02" c="0" d="0"/>',
        ),
        road(
            2, 40.0, "<line/>", lane(-1), start=(70.0, -3.5, 0.0),
            links='<predecessor elementType="junction" elementId="100"/>',
            sign='<signal s="5" t="-4" id="1" name="" dynamic="no" orientation="+" type="274" subtype="30" value="30" '
            'unit="mph" zOffset="0" country="" height="1" width="1"/>',
            height='<elevation s="0" a="2" b="0" c="0" d="0"/>',
        ),
        road(
            3, 30.0, "<line/>", lane(-1), start=(60.0, -13.5, -math.pi / 2),
            links='<predecessor elementType="junction" elementId="100"/>',
            height='<elevation s="0" a="2" b="0" c="0" d="0"/>',
        ),
        road(
            10, 20.0, "<line/>", lane(-1, links=link("predecessor", -2) + link("successor", -1)), junction=100,
            start=(50.0, -3.5, 0.0), height='<elevation s="0" a="2" b="0" c="0" d="0"/>',
            links='<predecessor elementType="road" elementId="1" contactPoint="end"/>'
            '<successor elementType="road" elementId="2" contactPoint="start"/>',
        ),
        road(
            11, QUARTER, f'<arc curvature="{-1 / RADIUS}"/>',
            lane(-1, links=link("predecessor", -2) + link("successor", -1)), junction=100, start=(50.0, -3.5, 0.0),
            height='<elevation s="0" a="2" b="0" c="0" d="0"/>',
            links='<predecessor elementType="road" elementId="1" contactPoint="end"/>'
            '<successor elementType="road" elementId="3" contactPoint="start"/>',
        ),
    ]
)  # fmt: skip
JUNCTION = """<junction id="100" name="j">
<connection id="0" incomingRoad="1" connectingRoad="10" contactPoint="start"><laneLink from="-2" to="-1"/></connection>
<connection id="1" incomingRoad="1" connectingRoad="11" contactPoint="start"><laneLink from="-2" to="-1"/></connection>
</junction>"""
HEADER = '<header revMajor="1" revMinor="4" name="t" version="1" north="0" south="0" east="0" west="0"/>'
XODR = f'<?xml version="1.0"?><OpenDRIVE>{HEADER}{ROADS}{JUNCTION}</OpenDRIVE>'


@pytest.fixture(scope="module")
def road_map() -> RoadMap:
    carla = pytest.importorskip("carla", reason="needs the carla package: pip install 'karp_perception[carla]'")
    return read_road_map(carla, "junction", XODR)


def test_every_driving_lane_is_there_and_no_other(road_map: RoadMap) -> None:
    keys = [(1, 0, -2), (1, 0, -1), (2, 0, -1), (3, 0, -1), (10, 0, -1), (11, 0, -1)]
    assert dict(road_map.number_of) == {key: i for i, key in enumerate(keys, start=1)}
    assert all(number == lane.number for number, lane in road_map.lanes.items())


def test_lanes_lie_where_the_text_puts_them(road_map: RoadMap) -> None:
    left, right = (road_map.lanes[road_map.number_of[1, 0, lane]] for lane in (-1, -2))
    # OpenDRIVE and REP-103 are both right-handed: CARLA mirrors in between, and that must cancel out.
    np.testing.assert_allclose(left.center[:, 1], -1.75, atol=1e-4)
    np.testing.assert_allclose(right.center[:, 1], -5.25, atol=1e-4)
    np.testing.assert_allclose(left.center[[0, -1], 0], [0.0, 50.0], atol=0.05)
    np.testing.assert_allclose(left.center[:, 2], 1.0 + 0.02 * left.center[:, 0], atol=1e-3)
    assert left.width == pytest.approx(3.5, abs=1e-3)
    # The turn to the right: an arc around (50, -13.5).
    turn = road_map.lanes[road_map.number_of[11, 0, -1]]
    radius = np.hypot(turn.center[:, 0] - 50.0, turn.center[:, 1] + 13.5)
    np.testing.assert_allclose(radius, RADIUS - 1.75, atol=1e-3)
    assert turn.length == pytest.approx((RADIUS - 1.75) * math.pi / 2, abs=0.1)
    for each in road_map.lanes.values():
        assert np.diff(each.along).max() <= 1.0 + 1e-3


def test_lanes_know_what_follows_what_is_beside_them_and_how_fast(road_map: RoadMap) -> None:
    number, lanes = road_map.number_of, road_map.lanes
    left, right = lanes[number[1, 0, -1]], lanes[number[1, 0, -2]]
    assert right.successors == (number[10, 0, -1], number[11, 0, -1])
    assert left.successors == ()
    assert lanes[number[10, 0, -1]].successors == (number[2, 0, -1],)
    assert lanes[number[11, 0, -1]].successors == (number[3, 0, -1],)
    assert lanes[number[2, 0, -1]].successors == ()
    assert (left.left, left.right) == (None, right.number)
    assert (right.left, right.right) == (left.number, None)  # no changing to the pavement
    assert left.speed_limit == pytest.approx(50 / 3.6)  # of the road
    assert lanes[number[2, 0, -1]].speed_limit == pytest.approx(30 * 0.44704)  # of the sign
    assert lanes[number[3, 0, -1]].speed_limit == pytest.approx(13.9)  # of nobody


def test_lanes_around_are_those_in_reach(road_map: RoadMap) -> None:
    found = {lane.number for lane in lanes_around(road_map.lanes, np.array([0.0, 0.0, 0.0]), 10.0)}
    assert found == {road_map.number_of[1, 0, -1], road_map.number_of[1, 0, -2]}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<nonsense", "not an OpenDRIVE map"),
        ("<OpenDRIVE/>", "without any"),
        (XODR.replace('type="driving"', 'type="sidewalk"'), "without any"),
    ],
    ids=["no XML", "empty", "pavements only"],
)
def test_what_is_no_map_gets_one_clear_line(text: str, expected: str) -> None:
    carla = pytest.importorskip("carla", reason="needs the carla package: pip install 'karp_perception[carla]'")
    with pytest.raises(KarpError, match=expected) as raised:
        read_road_map(carla, "bad", text)
    assert "\n" not in str(raised.value)


def test_signs_and_lights_stop_the_lanes_that_they_hold_for(road_map: RoadMap) -> None:
    carla = pytest.importorskip("carla", reason="needs the carla package: pip install 'karp_perception[carla]'")

    def sign(number: int, s: float, kind: str, rest: str = 'dynamic="no" orientation="+"', inner: str = "") -> str:
        return (
            f'<signal s="{s}" t="-9" id="{number}" name="" {rest} type="{kind}" subtype="-1" value="-1" zOffset="0" '
            f'country="" height="1" width="1">{inner}</signal>'
        )

    # Another road joins from the south, turning left onto road 2; it gives way. A light stops the right lane of road 1.
    more = road(
        4, 30.0, "<line/>", lane(-1), start=(56.5, -50.0, math.pi / 2),
        links='<successor elementType="junction" elementId="100"/>', sign=sign(5, 28.0, "205"),
    ) + road(
        12, 9.75 * math.pi / 2 + 4.75, "<line/>", lane(-1, links=link("predecessor", -1) + link("successor", -1)),
        junction=100, start=(56.5, -20.0, math.pi / 2),
        links='<predecessor elementType="road" elementId="4" contactPoint="end"/>'
        '<successor elementType="road" elementId="2" contactPoint="start"/>',
    )  # fmt: skip
    light = sign(9, 45.0, "1000001", 'dynamic="yes" orientation="+"', '<validity fromLane="-2" toLane="-2"/>')
    wrong_way = sign(8, 20.0, "206", 'dynamic="no" orientation="-"')
    text = XODR.replace(ROADS, ROADS + more).replace(
        "</lanes></road>", f"</lanes><signals>{light}{wrong_way}</signals></road>", 1
    )
    connection = (
        '<connection id="2" incomingRoad="4" connectingRoad="12" contactPoint="start"><laneLink from="-1" to="-1"/>'
        "</connection></junction>"
    )
    found = read_road_map(carla, "signs", text.replace("</junction>", connection))
    road_of_it, index = found.road, {key: number - 1 for key, number in found.number_of.items()}
    lit, yields = sorted(road_of_it.stops, key=lambda stop: stop.kind.value)
    assert (lit.kind, lit.number, lit.lane) == (StopKind.LIGHT, 9, index[1, 0, -2])
    np.testing.assert_allclose(lit.point, [45.0, -5.25], atol=0.03)
    assert (yields.kind, yields.lane) == (StopKind.YIELD, index[12, 0, -1])
    np.testing.assert_allclose(yields.point, [58.25, -22.0], atol=0.03)
    # First goes who comes from road 1, straight on or turning.
    begins = sorted(tuple(way[0].round(1)) for way in yields.first)
    assert begins == [(0.0, -5.2)] * len(begins)
    assert any(np.allclose(way[-1], [70.0, -5.25], atol=0.1) for way in yields.first)
    assert not road_map.road.stops
