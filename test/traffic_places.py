"""Small places and boxes on wheels for the tests of traffic: what happens there can be worked out by hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from karp_perception.core import LightColor, ObjectClass
from karp_perception.world.geometry.ground import Ground
from karp_perception.world.geometry.materials import Material
from karp_perception.world.geometry.shape import FIRST, ShapeBuilder
from karp_perception.world.layout import Crossing, Lane, Layout, ParkingSpace, Signal
from karp_perception.world.models.model import Model
from karp_perception.world.traffic.population import BUSES, CAR_TRAILERS, CARS, SEMI_TRAILERS, TRUCKS

CLASS_OF = {
    **dict.fromkeys(CARS, (ObjectClass.CAR, (4.5, 1.85, 1.5))),
    **dict.fromkeys(TRUCKS, (ObjectClass.TRUCK, (8.0, 2.5, 3.3))),
    **dict.fromkeys(BUSES, (ObjectClass.BUS, (12.0, 2.55, 3.1))),
    **dict.fromkeys(SEMI_TRAILERS, (ObjectClass.TRAILER, (13.5, 2.55, 3.9))),
    **dict.fromkeys(CAR_TRAILERS, (ObjectClass.TRAILER, (4.0, 1.9, 1.5))),
    "semi_tractor": (ObjectClass.TRUCK, (6.0, 2.5, 3.6)),
    "articulated_bus": (ObjectClass.BUS, (10.5, 2.55, 3.1)),
    "articulated_bus_rear": (ObjectClass.BUS, (7.9, 2.55, 3.1)),
    "cyclist": (ObjectClass.BICYCLE, (1.75, 0.6, 1.75)),
    "bicycle": (ObjectClass.BICYCLE, (1.75, 0.5, 1.1)),
    "motorcyclist": (ObjectClass.MOTORCYCLE, (2.1, 0.8, 1.7)),
    "scooter_rider": (ObjectClass.MOTORCYCLE, (1.9, 0.7, 1.7)),
    "motorcycle": (ObjectClass.MOTORCYCLE, (2.1, 0.8, 1.2)),
    "adult": (ObjectClass.PEDESTRIAN, (0.6, 0.55, 1.75)),
    "child": (ObjectClass.PEDESTRIAN, (0.45, 0.4, 1.2)),
    "cone": (ObjectClass.TRAFFIC_CONE, (0.4, 0.4, 0.75)),
    "barrier": (ObjectClass.BARRIER, (2.0, 0.6, 1.0)),
    "excavator": (ObjectClass.CONSTRUCTION_VEHICLE, (6.5, 2.5, 3.0)),
    "wheel_loader": (ObjectClass.CONSTRUCTION_VEHICLE, (7.0, 2.6, 3.2)),
}


def box_model(family: str, seed: int) -> Model:
    """A plain box of the family's class and size, with the axles and couplings that it would have."""
    label, size = CLASS_OF.get(family, (ObjectClass.PEDESTRIAN, (0.6, 0.55, 1.75)))
    length, _, height = size
    shape = ShapeBuilder().block((0, 0, 0.5 * height), size, Material.PAINT, tint=FIRST).build()
    wheelbase = 0.6 * length if label in (ObjectClass.CAR, ObjectClass.TRUCK, ObjectClass.BUS) else None
    hitch = {
        ObjectClass.CAR: -0.5 * length - 0.1,
        ObjectClass.TRUCK: -1.8 if family == "semi_tractor" else None,
        ObjectClass.BUS: -0.5 * length + 0.3 if family == "articulated_bus" else None,
    }
    pin = 0.5 * length - 1.0 if family in SEMI_TRAILERS else 0.5 * length + 1.0
    if family == "articulated_bus_rear":
        pin = 0.5 * length - 0.3
    return Model(
        family, label, size, shape, wheelbase=wheelbase, rear_axle=-0.3 * length,
        hitch=hitch.get(label), king_pin=pin if label == ObjectClass.TRAILER or family.endswith("_rear") else None,
    )  # fmt: skip


def line(
    number: int, start: Sequence[float], end: Sequence[float], width: float = 3.5, limit: float = 13.9, **more: object
) -> Lane:
    """A straight lane."""
    a, b = np.array([*start, 0.0]), np.array([*end, 0.0])
    count = int(np.ceil(np.linalg.norm(b - a))) + 1
    return Lane(number, a + np.linspace(0, 1, count)[:, None] * (b - a), width, limit, **more)


def arc(
    number: int,
    center: Sequence[float],
    radius: float,
    begin: float,
    end: float,
    width: float = 3.5,
    limit: float = 13.9,
    **more: object,
) -> Lane:
    """A lane on a circle from the angle `begin` to `end` (rad)."""
    t = np.linspace(begin, end, max(3, int(np.ceil(abs(end - begin) * radius * 2))))
    xyz = np.column_stack([center[0] + radius * np.cos(t), center[1] + radius * np.sin(t), np.zeros(len(t))])
    return Lane(number, xyz, width, limit, **more)


def place(
    lanes: Sequence[Lane],
    route: Sequence[int] = (),
    *,
    family: str = "straight",
    signals: Sequence[Signal] = (),
    crossings: Sequence[Crossing] = (),
    walkways: Sequence[np.ndarray] = (),
    parking: Sequence[ParkingSpace] = (),
    bikeways: Sequence[int] = (),
) -> Layout:
    """A layout on level ground."""
    return Layout(
        family, 0, {lane.number: lane for lane in lanes}, {s.number: s for s in signals},
        {c.number: c for c in crossings}, list(walkways), list(parking), Ground.flat(), (),
        tuple(route) or (lanes[0].number,), bikeways=frozenset(bikeways),
    )  # fmt: skip


def two_lane_road(length: float = 600.0, limit: float = 25.0) -> Layout:
    """Two lanes in one direction, to change between."""
    return place(
        [line(1, (0, 0), (length, 0), limit=limit, left=2), line(2, (0, 3.5), (length, 3.5), limit=limit, right=1)]
    )


def ring_road(radius: float = 60.0, limit: float = 13.9) -> Layout:
    """One lane round a circle, of two halves."""
    return place([
        arc(1, (0, 0), radius, 0, np.pi, limit=limit, successors=(2,)),
        arc(2, (0, 0), radius, np.pi, 2 * np.pi, limit=limit, successors=(1,)),
    ])  # fmt: skip


def junction(signals: bool = False, limit: float = 13.9, arm: float = 120.0) -> Layout:
    """Two roads of two lanes that cross, straight on only; that along x goes first, or lights decide."""
    half, lanes, lights = 12.0, [], []
    phases = ((LightColor.GREEN, 12.0), (LightColor.YELLOW, 3.0), (LightColor.RED, 17.0))
    for k, (ux, uy) in enumerate([(1, 0), (-1, 0), (0, 1), (0, -1)]):
        off = np.array([uy, -ux]) * 1.75
        u = np.array([ux, uy])
        points = [off - (half + arm) * u, off - half * u, off + half * u, off + (half + arm) * u]
        minor = k >= 2
        first = 3 * k + 1
        signal = k // 2 + 1 if signals else None
        yields = (2, 5) if minor and not signals else ()
        lanes += [
            line(first, points[0], points[1], limit=limit, successors=(first + 1,), signal=signal),
            line(first + 1, points[1], points[2], limit=limit, successors=(first + 2,), yields_to=yields),
            line(first + 2, points[2], points[3], limit=limit),
        ]
    if signals:
        lights = [Signal(1, phases), Signal(2, phases, 16.0)]
    return place(lanes, (1, 2, 3), family="intersection", signals=lights)


def roundabout(radius: float = 15.0, limit: float = 11.0) -> Layout:
    """Four arms into a ring driven counter-clockwise; who is in it goes first."""
    lanes = []
    for k in range(4):
        middle = k * np.pi / 2
        quarter, enter, leave, arrive, depart = (10 * k + n for n in (1, 2, 3, 4, 5))
        following = (10 * ((k + 1) % 4)) + 1
        c, s = np.cos(middle), np.sin(middle)
        turn = np.array([[c, -s], [s, c]])
        on = lambda angle: radius * np.array([np.cos(angle), np.sin(angle)])  # noqa: E731
        a0, a1 = middle + 0.45, middle + np.pi / 2 - 0.45
        lanes.append(
            arc(quarter, (0, 0), radius, a0, a1, limit=8.0, successors=(10 * ((k + 1) % 4) + 6, 10 * ((k + 1) % 4) + 3))
        )
        lanes.append(arc(10 * k + 6, (0, 0), radius, middle - 0.45, middle + 0.45, limit=8.0, successors=(quarter,)))
        lanes.append(
            line(arrive, turn @ (radius + 90, 2.5), turn @ (radius + 9, 2.5), limit=limit, successors=(enter,))
        )
        lanes.append(line(depart, turn @ (radius + 9, -2.5), turn @ (radius + 90, -2.5), limit=limit))
        lanes.append(
            _bend(
                enter,
                turn @ (radius + 9, 2.5),
                turn @ (-1.0, 0.0),
                on(middle + 0.45),
                _tangent(middle + 0.45),
                successors=(quarter,),
                yields_to=(10 * k + 6,),
            )
        )
        lanes.append(
            _bend(
                leave,
                on(middle - 0.45),
                _tangent(middle - 0.45),
                turn @ (radius + 9, -2.5),
                turn @ (1.0, 0.0),
                successors=(depart,),
            )
        )
        del following
    return place(lanes, (4, 2, 1), family="roundabout")


def _tangent(angle: float) -> np.ndarray:
    return np.array([-np.sin(angle), np.cos(angle)])


def _bend(number: int, p: np.ndarray, t: np.ndarray, q: np.ndarray, u: np.ndarray, **more: object) -> Lane:
    """A cubic from p in the direction t to q in the direction u."""
    w = np.linspace(0, 1, 25)[:, None]
    size = 1.1 * np.linalg.norm(q - p)
    xy = (
        (2 * w**3 - 3 * w**2 + 1) * p
        + (w**3 - 2 * w**2 + w) * size * t
        + (3 * w**2 - 2 * w**3) * q
        + (w**3 - w**2) * size * u
    )
    return Lane(number, np.column_stack([xy, np.zeros(25)]), 3.5, 8.0, **more)
