"""What lies beside a road: fronts of an old town, gardens of a suburb, works yards, blocks of flats, parks, fields."""

from __future__ import annotations

import math
from collections.abc import Callable

from karp_perception.world.geometry.ground import Surface
from karp_perception.world.layout import ParkingSpace
from karp_perception.world.layouts.edge import ON_PAVEMENT, Edge
from karp_perception.world.layouts.site import SPACE

_FRAGMENTS = ("wall_fragment", "facade_fragment", "house_corner", "ragged_vegetation")


def surround(edge: Edge, style: str, begin: float = 0.0, end: float = math.inf) -> None:
    """Fill the land beyond an edge from `begin` to `end` m along it in one of `STYLES`."""
    end = min(end, edge.length)
    STYLES[style](edge, begin, end)
    backdrop(edge, style, begin, end)


def backdrop(edge: Edge, style: str, begin: float, end: float) -> None:
    """What shows over and between what stands in front: the next street's houses, tall trees, a tower block."""
    built = {"old_town": 0.75, "suburb": 0.45, "blocks": 0.6, "industrial": 0.4, "park": 0.2, "countryside": 0.05}[
        style
    ]
    for out, step in ((26.0, 15.0), (46.0, 24.0)):
        s = begin + edge.uniform(0.0, step)
        while s < end:
            away = out + edge.uniform(-4.0, 8.0)
            if edge.chance(built):
                size = (edge.uniform(10.0, 18.0), edge.uniform(9.0, 13.0), edge.uniform(8.0, 22.0))
                edge.put("building", s, away, edge.front, size=size, sink=0.5)
            else:
                height = edge.uniform(9.0, 18.0)
                spread = round(0.55 * height)
                edge.put(edge.pick("tree", "tree", "conifer"), s, away, size=(spread, spread, height))
            s += step * edge.uniform(0.6, 1.3)


def mixed(edge: Edge, styles: tuple[str, ...], begin: float = 0.0) -> None:
    """Fill the land beyond an edge with stretches of some styles, the first of them the most frequent."""
    while begin < edge.length - 5.0:
        end = begin + edge.uniform(60.0, 160.0)
        if edge.length - end < 40.0:
            end = edge.length
        surround(edge, styles[0] if edge.chance(0.6) else edge.pick(*styles), begin, end)
        begin = end


def old_town(edge: Edge, begin: float, end: float) -> None:
    """Houses wall to wall with alleys between; tables, stalls and planters in front."""
    edge.land(Surface.COBBLE if edge.chance(0.5) else Surface.PAVEMENT, begin, end, -0.2, 16.0)
    s = begin
    while s < end - 4.0:
        width = min(edge.uniform(7.0, 17.0), end - s)
        depth, height = edge.uniform(9.0, 14.0), edge.uniform(7.0, 17.0)
        middle, back = s + 0.5 * width, edge.uniform(0.1, 0.5)
        if edge.chance(0.1) and width < 12.0:  # a gap closed by a wall or gate, with something behind
            edge.row(edge.pick("wall", "fence"), s, s + width, 0.5, 0.3, edge.uniform(1.6, 2.6))
            edge.put("tree", middle, edge.uniform(4.0, 8.0))
            edge.put(edge.pick("dumpster", "bin"), middle + 2.0, edge.uniform(3.0, 6.0), edge.to_road)
        elif not edge.put(
            "building", middle, back + 0.5 * depth, edge.front, size=(width, depth, height), sink=0.4, joined=True
        ):
            edge.put(edge.pick(*_FRAGMENTS), middle, 2.0, edge.front)
        elif edge.chance(0.07):
            edge.put("scaffolding", middle, -0.8, edge.front, forbidden=ON_PAVEMENT)
        for _ in range(2):
            thing = edge.pick("cafe_table", "cafe_table", "planter", "planter", "market_stall", "bench", "bin", "sign")
            if edge.chance(0.35):
                edge.put(thing, s + edge.uniform(0.1, 0.9) * width, -edge.uniform(0.5, 1.6), edge.to_road,
                         forbidden=ON_PAVEMENT)  # fmt: skip
        s += width
        if edge.chance(0.22):
            s += edge.uniform(1.5, 5.0)  # an alley
            if edge.chance(0.4):
                edge.put(edge.pick("bin", "dumpster", "pallet_pile"), s - 1.2, edge.uniform(2.0, 6.0), edge.to_road)


def suburb(edge: Edge, begin: float, end: float) -> None:
    """Houses in gardens behind hedges, fences and walls, with drives, trees and bushes."""
    s = begin
    while s < end - 8.0:
        width = min(edge.uniform(13.0, 24.0), end - s)
        back, depth, length = edge.uniform(3.5, 9.0), edge.uniform(8.0, 11.5), min(edge.uniform(8.0, 15.0), width - 3.0)
        drive, drive_width = s + width - 2.6, 3.2
        house = s + 0.5 * (width - drive_width)
        if edge.chance(0.08):  # an empty plot grown wild
            for _ in range(8):
                plant = edge.pick("ragged_vegetation", "bush", "rock", "young_tree", "grass_tuft", "pile")
                along, out = s + edge.uniform(0.1, 0.9) * width, edge.uniform(0.5, 12.0)
                edge.put(plant, along, out, edge.uniform(0.0, 6.0))
            s += width
            continue
        drive_surface = Surface.GRAVEL if edge.chance(0.3) else Surface.COBBLE if edge.chance(0.5) else Surface.CONCRETE
        edge.land(drive_surface, drive - 0.5 * drive_width, drive + 0.5 * drive_width, -0.3, back + 5.0)
        size = (length, depth, edge.uniform(5.5, 10.0))
        edge.put("house", house, back + 0.5 * depth, edge.front + edge.uniform(-0.05, 0.05), size, sink=0.4)
        if edge.chance(0.5):
            garage = (drive_width, 6.0, edge.uniform(2.4, 3.0))
            edge.put("house", drive, back + 8.5, edge.front, size=garage, sink=0.2)
        if edge.chance(0.6) and back > 5.2:
            _park(edge, drive, 2.9)
        _garden_front(edge, s + 0.2, drive - 0.5 * drive_width - 0.1)
        for _ in range(int(edge.uniform(3.0, 9.0))):
            plant = edge.pick("tree", "bush", "bush", "young_tree", "conifer", "ragged_vegetation", "grass_tuft")
            edge.put(plant, s + edge.uniform(0.05, 0.8) * width, edge.uniform(1.4, back + 2.0), edge.uniform(0.0, 6.0))
        if edge.chance(0.6):
            edge.put("bin", drive + 1.9, edge.uniform(0.5, 1.2), edge.to_road)
        if edge.chance(0.35):
            edge.put("tree", house + edge.uniform(-5.0, 5.0), back + depth + edge.uniform(3.0, 8.0))
        if edge.chance(0.12):
            edge.put(edge.pick(*_FRAGMENTS), s + edge.uniform(0.1, 0.7) * width, edge.uniform(0.8, 3.0), edge.front)
        s += width


def _garden_front(edge: Edge, begin: float, end: float) -> None:
    """What parts a garden from the pavement."""
    kind = edge.rng.random()
    gate = edge.uniform(begin + 1.0, max(end - 2.0, begin + 1.5))
    for a, b in ((begin, gate), (gate + 1.1, end)):
        if b - a < 1.0:
            continue
        if kind < 0.32:
            edge.row("hedge", a, b, 0.75, edge.uniform(0.6, 1.1), edge.uniform(0.9, 2.0), 6.0)
        elif kind < 0.6:
            edge.row(edge.pick("fence", "picket_fence"), a, b, 0.4, 0.12, edge.uniform(0.8, 1.5), 6.0)
        elif kind < 0.82:
            edge.row("wall", a, b, 0.45, 0.3, edge.uniform(0.5, 1.6), 8.0)
        elif kind < 0.9:
            for k in range(int((b - a) / 2.2)):
                edge.put("bush", a + 1.1 + 2.2 * k, 1.1, edge.uniform(0.0, 6.0))


def _park(edge: Edge, s: float, out: float, length: float = 5.0, width: float = 2.3) -> None:
    """A space off the road, nose away from it; nothing else will stand there."""
    at = edge.at(s, out, edge.sign * 0.5 * math.pi)
    if edge.plan.site.claim(at.x, at.y, at.heading, length, width, ON_PAVEMENT, SPACE):
        yaw = math.atan2(math.sin(at.heading), math.cos(at.heading))
        edge.plan.parking.append(ParkingSpace(at.x, at.y, yaw, length, width))


def blocks(edge: Edge, begin: float, end: float) -> None:
    """Blocks of flats on lawns, with trees, bins and bicycles between them."""
    s = begin
    while s < end - 10.0:
        width = min(edge.uniform(18.0, 42.0), end - s)
        back, depth = edge.uniform(4.0, 12.0), edge.uniform(11.0, 15.0)
        turned = edge.chance(0.25)
        length = max(width - 6.0, 8.0)
        size = (
            (depth, min(length + 8.0, 30.0), edge.uniform(10.0, 26.0))
            if turned
            else (length, depth, edge.uniform(9.0, 26.0))
        )
        edge.put("building", s + 0.5 * width, back + 0.5 * size[1], edge.front, size=size, sink=0.5)
        edge.land(Surface.PAVEMENT, s + 0.5 * width - 1.0, s + 0.5 * width + 1.0, -0.2, back)
        if edge.chance(0.4):
            edge.row("hedge", s + 1.0, s + 0.5 * width - 1.6, 0.8, edge.uniform(0.6, 1.0), edge.uniform(0.8, 1.5), 6.0)
        for _ in range(int(width / 4.0)):
            plant = edge.pick("tree", "tree", "bush", "young_tree", "ragged_vegetation")
            edge.put(plant, s + edge.uniform(0.0, 1.0) * width, edge.uniform(1.2, back + 1.0), edge.uniform(0.0, 6.0))
        for thing in ("dumpster", "bike_rack", "bench", "bin", "cabinet"):
            if edge.chance(0.4):
                edge.put(thing, s + edge.uniform(0.0, 1.0) * width, edge.uniform(1.2, back), edge.to_road)
        s += width + edge.uniform(2.0, 14.0)


def industrial(edge: Edge, begin: float, end: float) -> None:
    """Halls behind mesh fences, containers, pallets, billboards and parked rows."""
    s = begin
    while s < end - 15.0:
        width = min(edge.uniform(32.0, 65.0), end - s)
        back = edge.uniform(7.0, 20.0)
        surface = Surface.CONCRETE if edge.chance(0.4) else Surface.ASPHALT_OLD
        edge.land(surface, s + 1.0, s + width - 1.0, 1.2, back + 24.0)
        edge.land(surface, s + 0.4 * width, s + 0.4 * width + 7.0, -0.3, 1.5)
        hall = (width * edge.uniform(0.5, 0.8), edge.uniform(16.0, 26.0), edge.uniform(5.5, 11.0))
        edge.put("hall", s + 0.5 * width, back + 0.5 * hall[1], edge.front, size=hall, sink=0.3)
        if edge.chance(0.7):
            kind, height = edge.pick("fence", "fence", "wall"), edge.uniform(1.6, 2.4)
            edge.row(kind, s + 0.5, s + 0.4 * width - 0.5, 0.8, 0.15 if kind == "fence" else 0.3, height)
            edge.row(kind, s + 0.4 * width + 7.5, s + width - 0.5, 0.8, 0.15 if kind == "fence" else 0.3, height)
        if edge.chance(0.6) and back > 9.0:
            for k in range(int(0.35 * width / 2.6)):
                _park(edge, s + 2.5 + 2.6 * k, 4.2)
        for _ in range(int(width / 3.5)):
            thing = edge.pick(
                "container", "pallet_pile", "pallet_pile", "dumpster", "container", "ragged_vegetation", "bin"
            )
            turn = edge.to_road if edge.chance(0.5) else 0.0
            edge.put(
                thing, s + edge.uniform(0.05, 0.95) * width, edge.uniform(2.0, back), turn + edge.uniform(-0.1, 0.1)
            )
        if edge.chance(0.4):
            edge.put("billboard", s + edge.uniform(0.1, 0.9) * width, 3.2, edge.to_traffic)
        if edge.chance(0.3):
            edge.put(edge.pick("facade_fragment", "wall_fragment"), s + edge.uniform(0.1, 0.9) * width, 4.0)
        s += width


def park(edge: Edge, begin: float, end: float) -> None:
    """Trees and bushes on grass behind a hedge or railings, benches, a kiosk now and then."""
    kind = edge.pick("hedge", "fence", "none", "wall")
    if kind != "none":
        s = begin
        while s < end:
            stop = min(s + edge.uniform(12.0, 30.0), end)
            edge.row(kind, s, stop, 0.8, {"hedge": 0.9, "fence": 0.1, "wall": 0.35}[kind], edge.uniform(0.7, 1.3))
            s = stop + edge.uniform(2.5, 9.0)
    if edge.chance(0.6):
        edge.land(Surface.GRAVEL, begin, end, 5.0, 7.5)
    for _ in range(int((end - begin) / 2.6)):
        plant = edge.pick("tree", "tree", "tree", "bush", "conifer", "young_tree", "ragged_vegetation", "rock")
        edge.put(plant, edge.uniform(begin, end), 1.2 + 26.0 * edge.rng.random() ** 1.5, edge.uniform(0.0, 6.0))
    for _ in range(int((end - begin) / 25.0)):
        edge.put(edge.pick("bench", "bench", "bin", "lamp_post"), edge.uniform(begin, end), 4.2, edge.to_road)
    if edge.chance(0.3):
        edge.put("kiosk", edge.uniform(begin, end), edge.uniform(3.0, 6.0), edge.to_road)


def countryside(edge: Edge, begin: float, end: float) -> None:
    """Fields, rows and clumps of trees, wild growth, a farm now and then."""
    s = begin
    while s < end - 5.0:
        stop = min(s + edge.uniform(35.0, 90.0), end)
        kind = edge.rng.random()
        if kind < 0.3:
            edge.land(Surface.SOIL, s, stop, 4.0, 42.0)
        if kind < 0.45:
            if edge.chance(0.4):
                edge.row("fence", s, stop, 2.5, 0.1, edge.uniform(0.9, 1.3))
        elif kind < 0.62:  # an avenue
            step = edge.uniform(8.0, 14.0)
            for k in range(int((stop - s) / step)):
                edge.put("tree", s + k * step, edge.uniform(2.3, 2.8))
        elif kind < 0.85:  # the edge of a wood
            near = edge.uniform(2.5, 8.0)
            for _ in range(int((stop - s) / 2.2)):
                plant = edge.pick("tree", "tree", "conifer", "conifer", "bush", "ragged_vegetation", "young_tree")
                edge.put(plant, edge.uniform(s, stop), near + 20.0 * edge.rng.random() ** 1.4, edge.uniform(0.0, 6.0))
        elif kind < 0.93:
            edge.land(Surface.GRAVEL, s + 4.0, s + 9.0, -1.0, 24.0)
            barn = (edge.uniform(12.0, 24.0), edge.uniform(9.0, 13.0), edge.uniform(5.0, 9.0))
            edge.put("hall", s + 22.0, edge.uniform(10.0, 16.0), edge.front, size=barn, sink=0.6)
            edge.put("pallet_pile", s + 12.0, edge.uniform(8.0, 14.0))
        for _ in range(int((stop - s) / 5.0)):
            plant = edge.pick("ragged_vegetation", "ragged_vegetation", "bush", "bush", "tree", "rock", "young_tree")
            edge.put(plant, edge.uniform(s, stop), edge.uniform(1.3, 12.0), edge.uniform(0.0, 6.0))
        s = stop


STYLES: dict[str, Callable[[Edge, float, float], None]] = {
    "old_town": old_town,
    "suburb": suburb,
    "blocks": blocks,
    "industrial": industrial,
    "park": park,
    "countryside": countryside,
}
"""Ways of filling the land beside a road from one distance along it (m) to another."""
