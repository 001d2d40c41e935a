"""What stands on pavements and verges: lamps, trees, signs, bins, benches, shelters and the rest."""

from __future__ import annotations

import math

import numpy as np

from karp_perception.world.geometry.ground import Surface
from karp_perception.world.layouts.curves import Spot
from karp_perception.world.layouts.edge import ON_PAVEMENT, Edge
from karp_perception.world.layouts.plan import Layer, Plan, rectangle
from karp_perception.world.layouts.road import Road

_FRONT = 0.42  # m from the kerb to the middle of a pole


def furnish(plan: Plan, rng: np.random.Generator, road: Road, sign: float, busy: float = 1.0) -> None:
    """Stand things along one side of a road that has a pavement; `busy` scales how many."""
    side = road.right if sign < 0 else road.left
    if not side.pavement:
        return
    edge = Edge(plan, rng, road.points, road.edge(sign) + sign * side.kerb, sign)
    wide = side.pavement + side.verge
    front = _FRONT + 0.5 * side.verge if side.verge else _FRONT
    _lamps(edge, front)
    if side.verge >= 1.2 or (wide >= 2.8 and edge.chance(0.6)):
        _trees(edge, max(front, 0.75), side.verge > 0.0)
    if wide >= 3.2 and edge.chance(0.5 * busy):
        s = edge.uniform(25.0, max(edge.length - 25.0, 26.0))
        edge.put("bus_shelter", s, wide - 1.0 if edge.chance(0.5) else 1.3, edge.to_road, forbidden=ON_PAVEMENT)
        edge.put("bin", s + 3.6, front, edge.to_road, forbidden=ON_PAVEMENT)
        edge.put("sign", s - 4.5, front, edge.to_traffic, forbidden=ON_PAVEMENT)
    if edge.chance(0.25 * busy):  # a row of bollards
        begin, step = edge.uniform(0.0, edge.length), edge.uniform(1.5, 2.6)
        for k in range(int(edge.uniform(4, 14))):
            edge.put("bollard", begin + step * k, 0.3, forbidden=ON_PAVEMENT)
    for _ in range(int(edge.length / 14.0 * busy)):
        _one(edge, edge.uniform(2.0, edge.length - 2.0), front, wide)


def _one(edge: Edge, s: float, front: float, wide: float) -> None:
    kind = edge.pick(
        "sign", "sign", "sign", "pole", "pole", "bin", "bin", "cabinet", "cabinet", "bench", "post_box", "hydrant",
        "planter", "bike_rack", "advertising_column", "kiosk", "ragged_vegetation", "bush",
    )  # fmt: skip
    if kind in ("cabinet", "post_box", "advertising_column", "kiosk", "ragged_vegetation", "bush"):
        depth = {"advertising_column": 1.0, "kiosk": 1.8, "ragged_vegetation": 0.9, "bush": 0.8}.get(kind, 0.45)
        edge.put(kind, s, wide - depth, edge.to_road, forbidden=ON_PAVEMENT)
    elif kind == "bench":
        edge.put(kind, s, wide - 0.5, edge.to_road, forbidden=ON_PAVEMENT)
    elif kind in ("bike_rack", "planter"):
        edge.put(kind, s, 1.0, 0.0, forbidden=ON_PAVEMENT)
    else:
        edge.put(kind, s, front, edge.to_traffic if kind == "sign" else edge.to_road, forbidden=ON_PAVEMENT)


def _lamps(edge: Edge, front: float) -> None:
    step = edge.uniform(24.0, 40.0)
    s = edge.uniform(2.0, step)
    while s < edge.length:
        edge.put("lamp_post", s, front, edge.to_road, forbidden=ON_PAVEMENT)
        s += step


def _trees(edge: Edge, out: float, grass: bool) -> None:
    step = edge.uniform(7.0, 15.0)
    s = edge.uniform(3.0, step)
    young = edge.chance(0.2)
    while s < edge.length:
        planted = edge.chance(0.85) and edge.put(
            "young_tree" if young else "tree", s, out, edge.uniform(0.0, 2.0 * math.pi), forbidden=ON_PAVEMENT
        )
        if planted and not grass:
            pit = rectangle(edge.at(s, out), 1.5, 1.1)
            edge.plan.patch(Layer.VERGE, Surface.SOIL, pit)
        s += step * edge.uniform(0.9, 1.1)


def light(plan: Plan, at: Spot, left: float, signal: int) -> None:
    """A traffic light for those who stop at a spot, `left` m to its left."""
    pole = at.shifted(0.6, left)
    plan.place("traffic_light", pole._replace(heading=at.heading + math.pi), forbidden=0, signal=signal)
