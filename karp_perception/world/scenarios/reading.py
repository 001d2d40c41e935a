"""One scenario of a file, its formulas already worked out, read into a Case."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from karp_perception.core import Settings
from karp_perception.core.errors import ConfigurationError
from karp_perception.evaluation.checks import check_names, check_parameters
from karp_perception.world.scenarios.case import (
    ANCHORS,
    ActorPart,
    Case,
    Check,
    Event,
    Fault,
    Kind,
    Place,
    SceneryPart,
    Trigger,
    Way,
)
from karp_perception.world.scenarios.fields import Fields
from karp_perception.world.sensors.weather import Weather
from karp_perception.world.traffic.settings import TrafficSettings

_KMH = 3.6  # km/h in a m/s
_FASTEST = 250.0  # km/h
_FARTHEST = 2000.0  # m along a route
_LONGEST = 600.0  # s
_LANES = ("from_left", "from_right", "oncoming", "joining")
_TRIGGERS = ("time_s", "gap_m", "ego_at", "ego_arrives_s")


@dataclass(frozen=True)
class FaultKind:
    """Which sensors a kind of fault can befall, and the range of its amount; None for a kind that has no amount."""

    sensors: tuple[str, ...]
    amount: tuple[float, float] | None = None


FAULTS: dict[str, FaultKind] = {
    "lost": FaultKind(("lidar", "camera", "cameras", "odometry", "detector")),
    "frozen": FaultKind(("lidar", "camera", "cameras", "odometry")),
    "delayed": FaultKind(("lidar", "cameras", "odometry", "all"), (0.0, 5.0)),  # s
    "thinned": FaultKind(("lidar",), (0.0, 1.0)),  # share of the beams that is left
    "noisy": FaultKind(("lidar", "cameras", "odometry"), (0.0, 10.0)),  # m, or share of the brightness
    "jump": FaultKind(("clock",), (-3600.0, 3600.0)),  # s
}


def read_case(value: Mapping[str, Any], where: str, group: str, name: str, parameters: Mapping[str, Any]) -> Case:
    """The case of one combination of parameters.

    Args:
        value: the scenario's mapping with formulas worked out.
        where: what errors begin with.
        group: the file's stem. name: of the case.
        parameters: that were chosen.

    Raises:
        ConfigurationError: one line for the first thing that is wrong.
    """
    fields = Fields(value, where)
    for key in ("name", "parameters", "grid", "skip"):
        fields.raw(key, None)
    kind = Kind(fields.choice("kind", [k.value for k in Kind]))
    layout = fields.inner("layout")
    family, seed = layout.text("family"), layout.whole("seed", 0, 2**31 - 1, 0)
    layout_parameters = {key: layout.raw(key) for key in layout.names if key not in ("family", "seed")}
    ego = fields.inner("ego")
    speed = ego.number("speed_kmh", 0.0, _FASTEST) / _KMH
    limit = ego.number("limit_kmh", 1.0, _FASTEST, None)
    start, lateral = ego.number("along", 0.0, _FARTHEST, 0.0), ego.number("lateral", -20.0, 20.0, 0.0)
    ego.done()
    actors = tuple(_actor(item, f"{where}: actors[{i}]") for i, item in enumerate(fields.items("actors")))
    names = [actor.name for actor in actors]
    for twice in {n for n in names if names.count(n) > 1}:
        raise ConfigurationError(f"{where}: actors: expected different names, got {twice!r} twice")
    checks = tuple(_check(item, f"{where}: checks[{i}]", names) for i, item in enumerate(fields.items("checks")))
    if not checks:
        raise ConfigurationError(f"{where}: checks: expected at least one check, got none")
    case = Case(
        name=name,
        scenario=fields.text("name"),
        group=group,
        sentence=_sentence(fields, parameters),
        kind=kind,
        parameters=dict(parameters),
        layout=family,
        layout_parameters=layout_parameters,
        seed=seed,
        start=start,
        lateral=lateral,
        speed=speed,
        limit=None if limit is None else limit / _KMH,
        actors=actors,
        scenery=tuple(_scenery(item, f"{where}: scenery[{i}]") for i, item in enumerate(fields.items("scenery"))),
        faults=tuple(_fault(item, f"{where}: faults[{i}]") for i, item in enumerate(fields.items("faults"))),
        traffic=_plain(fields, "traffic", TrafficSettings()),
        weather=_weather(fields),
        duration=fields.number("duration_s", 1.0, _LONGEST),
        avoidable=fields.flag("avoidable", True),
        checks=checks,
        source=where,
    )
    fields.done()
    return case


def _sentence(fields: Fields, parameters: Mapping[str, Any]) -> str:
    text = fields.text("sentence")
    try:
        return str(text.format(**parameters))
    except (KeyError, IndexError, ValueError, AttributeError, TypeError):
        raise fields.wrong("sentence", f"names in braces among {', '.join(parameters) or 'none'}", text) from None


def _plain(fields: Fields, key: str, settings: Settings) -> dict[str, Any]:
    """Settings that differ from the defaults, checked."""
    inner = fields.inner(key, {})
    plain = {name: inner.raw(name) for name in inner.names}
    try:
        settings.with_parameters(plain)
    except ConfigurationError as error:
        raise ConfigurationError(f"{inner.where}: {error}") from None
    return plain


def _weather(fields: Fields) -> dict[str, Any] | None:
    return None if fields.raw("weather", {}) == "any" else _plain(fields, "weather", Weather())


def _place(value: Any, where: str) -> Place:
    fields = Fields(value, where)
    place = Place(
        anchor=fields.choice("from", ANCHORS, "start"),
        index=fields.whole("index", 0, 1000, 0),
        along=fields.number("along", -_FARTHEST, _FARTHEST, 0.0),
        lateral=fields.number("lateral", -200.0, 200.0, 0.0),
        turn=math.radians(fields.number("turn_deg", -360.0, 360.0, 0.0)),
        gap=fields.number("gap", 0.0, _FARTHEST, None),
        after=fields.number("after", 0.0, _FARTHEST, 0.0),
    )
    if place.gap is not None and (place.anchor != "start" or "along" in fields):
        raise fields.wrong("gap", "no 'along' and no other 'from' beside it", place.gap)
    fields.done()
    return place


def _actor(value: Any, where: str) -> ActorPart:
    fields = Fields(value, where)
    name = fields.text("name")
    fields.where = where = f"{where} {name}"
    size = fields.numbers("size", 3, 0.05, 60.0, None)
    meets = None
    if "meets" in fields:
        inner = fields.inner("meets")
        meets = (inner.number("lateral", -20.0, 20.0, 0.0), inner.number("later_s", -60.0, 60.0, 0.0))
        inner.done()
    way = _way(fields)
    if meets is not None and way.kind not in ("line", "points", "lane"):
        raise fields.wrong("meets", "a way across the route (line, points or lane)", way.kind)
    speed = fields.number("speed_kmh", 0.0, _FASTEST, 0.0) / _KMH
    if meets is not None and speed <= 0:
        raise fields.wrong("speed_kmh", "a speed above 0 for an actor that meets the vehicle", speed)
    part = ActorPart(
        name=name,
        family=fields.text("model"),
        seed=fields.whole("seed", 0, 2**31 - 1, 0),
        place=_place(fields.raw("at", {}), f"{where}: at"),
        way=way,
        speed=speed,
        size=size,
        events=tuple(_event(item, f"{where}: events[{i}]") for i, item in enumerate(fields.items("events"))),
        meets=meets,
        backwards=fields.flag("backwards", False),
    )
    fields.done()
    return part


def _way(fields: Fields) -> Way:
    value = fields.raw("way", "stand")
    if isinstance(value, str):
        kind = fields.choice("way", ("stand", "along", "against", "line"), "stand")
        return Way(kind)
    inner = fields.inner("way")
    if "points" in inner:
        points = inner.items("points")
        if len(points) < 2:
            raise inner.wrong("points", "at least two places [along, lateral]", points)
        read = Fields({str(i): point for i, point in enumerate(points)}, f"{inner.where}: points")
        places = tuple(read.numbers(str(i), 2, -_FARTHEST, _FARTHEST) for i in range(len(points)))
        inner.done()
        return Way("points", places)
    way = Way(
        "lane", lane=inner.choice("lane", _LANES), turn=inner.choice("turn", ("straight", "left", "right"), "straight")
    )
    inner.done()
    return way


def _event(value: Any, where: str) -> Event:
    fields = Fields(value, where)
    when = fields.inner("when")
    known = [key for key in _TRIGGERS if key in when]
    if len(known) != 1:
        raise ConfigurationError(f"{when.where}: expected one of {', '.join(_TRIGGERS)}, got {', '.join(when.names)}")
    key = known[0]
    place = _place(when.raw("place", {}), f"{when.where}: place") if key == "ego_arrives_s" else None
    if key == "ego_at":
        trigger = Trigger("ego_at", place=_place(when.raw(key), f"{when.where}: ego_at"))
    else:
        trigger = Trigger(key.removesuffix("_s").removesuffix("_m"), when.number(key, -60.0, _FARTHEST), place)
    when.done()
    do = fields.inner("do")
    event = Event(
        trigger,
        speed=None if "speed_kmh" not in do else do.number("speed_kmh", 0.0, _FASTEST) / _KMH,
        acceleration=do.number("acceleration", 0.1, 15.0, 2.0),
        lateral=do.number("lateral", -20.0, 20.0, None),
        within=do.number("within_s", 0.2, 60.0, 2.5),
    )
    do.done()
    fields.done()
    if event.speed is None and event.lateral is None:
        raise ConfigurationError(f"{do.where}: expected speed_kmh or lateral, got {', '.join(do.names) or 'nothing'}")
    return event


def _scenery(value: Any, where: str) -> SceneryPart:
    fields = Fields(value, where)
    part = SceneryPart(
        family=fields.text("model"),
        seed=fields.whole("seed", 0, 2**31 - 1, 0),
        place=_place(fields.raw("at"), f"{where}: at"),
        size=fields.numbers("size", 3, 0.01, 500.0, None),
        sink=fields.number("sink", -20.0, 20.0, 0.0),
    )
    fields.done()
    return part


def _fault(value: Any, where: str) -> Fault:
    fields = Fields(value, where)
    kind = fields.choice("kind", tuple(FAULTS))
    known = FAULTS[kind]
    sensor = fields.text("sensor")
    if sensor.split(":")[0] not in known.sensors:
        raise fields.wrong("sensor", f"for {kind} one of {', '.join(known.sensors)} (camera:NAME for one)", sensor)
    begin = fields.number("from_s", 0.0, _LONGEST, 0.0)
    end = fields.number("to_s", 0.0, _LONGEST, _LONGEST)
    if end <= begin:
        raise fields.wrong("to_s", f"more than from_s, {begin:g}", end)
    amount = 0.0 if known.amount is None else fields.number("amount", *known.amount)
    fields.done()
    return Fault(sensor, kind, begin, end, amount)


def _check(value: Any, where: str, actors: list[str]) -> Check:
    if isinstance(value, str):
        value = {value: {}}
    fields = Fields(value, where)
    if len(fields.names) != 1:
        raise ConfigurationError(f"{where}: expected one check, got {', '.join(fields.names) or 'none'}")
    name = fields.names[0]
    if name not in check_names():
        raise fields.wrong("check", f"one of {', '.join(check_names())}", name, check_names())
    given = fields.raw(name)
    inner = Fields({} if given is None else given, f"{where} {name}")
    parameters: dict[str, Any] = {}
    for key, parameter in check_parameters(name).items():
        default = parameter.default
        if default is inspect.Parameter.empty and key not in inner:
            raise ConfigurationError(
                f"{inner.where}: expected a parameter {key!r}, got {', '.join(inner.names) or 'none'}"
            )
        if key in inner:
            text = parameter.annotation in ("str", str)
            parameters[key] = inner.text(key) if text else inner.number(key, -1e6, 1e6)
        if key in ("to", "first") and key in inner and parameters[key] not in actors:
            raise inner.wrong(key, f"one of the actors {', '.join(actors) or '(none)'}", parameters[key], actors)
        if key == "at" and key in inner and parameters[key].split(" ")[0] not in ANCHORS:
            raise inner.wrong(key, f"one of {', '.join(ANCHORS)}", parameters[key], ANCHORS)
    inner.done()
    return Check(name, parameters)
