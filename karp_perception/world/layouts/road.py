"""A road: a curve with lanes, bicycle lanes, parked rows, kerbs and pavements on either side of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from karp_perception.world.geometry.ground import Surface
from karp_perception.world.layout import ParkingSpace
from karp_perception.world.layouts import markings
from karp_perception.world.layouts.curves import distances, offset, piece, spots
from karp_perception.world.layouts.plan import Layer, Plan

KERB = 0.16  # m, width of a kerbstone
PARKING_DEPTH = {"": 0.0, "parallel": 2.2, "perpendicular": 5.0, "angled": 5.7}  # m across the road
_PITCH = {"parallel": 6.0, "perpendicular": 2.5, "angled": 2.95}  # m along the road
_ANGLE = {"parallel": 0.0, "perpendicular": 0.5 * np.pi, "angled": np.radians(60.0)}
_SPACE = {"parallel": (5.6, 2.1), "perpendicular": (5.0, 2.4), "angled": (5.0, 2.4)}  # m


@dataclass(frozen=True)
class Side:
    """One side of a road, from its middle outwards; m.

    Attributes:
        lanes: how many.
        lane_width: of each.
        bicycle: width of a bicycle lane, 0 for none.
        parking: "", "parallel", "perpendicular" or "angled".
        shoulder: asphalt beside the last lane.
        verge: strip of grass behind the kerb.
        pavement: 0 for none; the road then has no kerb.
    """

    lanes: int = 1
    lane_width: float = 3.25
    bicycle: float = 0.0
    parking: str = ""
    shoulder: float = 0.2
    verge: float = 0.0
    pavement: float = 0.0

    @property
    def driven(self) -> float:
        """Width of its lanes."""
        return self.lanes * self.lane_width

    @property
    def carriageway(self) -> float:
        """From its innermost lane to its kerb."""
        return self.driven + self.bicycle + self.shoulder + PARKING_DEPTH[self.parking]

    @property
    def kerb(self) -> float:
        """Width of its kerb."""
        return KERB if self.pavement else 0.0


@dataclass
class Section:
    """Lanes of a stretch of road, from its middle outwards."""

    right: list[int] = field(default_factory=list)
    left: list[int] = field(default_factory=list)
    right_bicycle: int | None = None
    left_bicycle: int | None = None


@dataclass(frozen=True)
class Road:
    """A curve and its two sides. Lanes on the right follow it, those on the left come against it.

    Attributes:
        points: (N, 2) m.
        right, left: its sides.
        median: m between the lanes of the two directions.
        speed_limit: m/s.
    """

    points: np.ndarray
    right: Side
    left: Side
    median: float = 0.0
    speed_limit: float = 13.9

    @property
    def length(self) -> float:
        """In m."""
        return float(distances(self.points)[-1])

    def edge(self, sign: float) -> float:
        """Offset of the edge of its asphalt: sign -1 right, 1 left; m to the left of its curve."""
        side = self.right if sign < 0 else self.left
        return sign * (0.5 * self.median + side.carriageway)

    def border(self, sign: float) -> float:
        """Offset of where its pavement ends, or its asphalt where it has none."""
        side = self.right if sign < 0 else self.left
        return self.edge(sign) + sign * (side.kerb + side.verge + side.pavement)

    def lane_offset(self, sign: float, index: int) -> float:
        """Offset of the middle of a lane, counted from the middle of the road."""
        side = self.right if sign < 0 else self.left
        return sign * (0.5 * self.median + (index + 0.5) * side.lane_width)

    def add_lanes(self, plan: Plan, cuts: Sequence[float] = ()) -> list[Section]:
        """Lanes along the whole road, in sections between `cuts` (m along it); joined, with their neighbours."""
        at = [0.0, *cuts, self.length]
        sections = [self._section(plan, piece(self.points, a, b)) for a, b in pairwise(at)]
        for before, after in pairwise(sections):
            for here, there in zip(before.right, after.right, strict=True):
                plan.follow(here, there)
            for here, there in zip(before.left, after.left, strict=True):
                plan.follow(there, here)
            if before.right_bicycle and after.right_bicycle:
                plan.follow(before.right_bicycle, after.right_bicycle)
            if before.left_bicycle and after.left_bicycle:
                plan.follow(after.left_bicycle, before.left_bicycle)
        return sections

    def _section(self, plan: Plan, points: np.ndarray) -> Section:
        section = Section()
        for sign, side, numbers in ((-1.0, self.right, section.right), (1.0, self.left, section.left)):
            direction = -int(sign)
            for index in range(side.lanes):
                middle = offset(points, self.lane_offset(sign, index))[::direction]
                numbers.append(plan.lane(middle, side.lane_width, self.speed_limit))
            for inner, outer in pairwise(numbers):
                plan.beside(outer, inner)
            if side.bicycle:
                away = sign * (0.5 * self.median + side.driven + 0.5 * side.bicycle)
                number = plan.lane(offset(points, away)[::direction], side.bicycle, 6.0, bicycles=True)
                if sign < 0:
                    section.right_bicycle = number
                else:
                    section.left_bicycle = number
        return section

    def pave(self, plan: Plan, surface: Surface = Surface.ASPHALT, pavement: Surface = Surface.PAVEMENT) -> None:
        """Paint pavements, kerbs and asphalt."""
        right, left = self.edge(-1.0), self.edge(1.0)
        for sign, side in ((-1.0, self.right), (1.0, self.left)):
            edge = self.edge(sign)
            if side.pavement:
                inner, outer = sorted((0.0, self.border(sign)))
                plan.strip(Layer.PAVEMENT, pavement, self.points, inner, outer)
                inner, outer = sorted((0.0, edge + sign * side.kerb))
                plan.strip(Layer.KERB, Surface.KERB, self.points, inner, outer)
            if side.verge:
                inner, outer = sorted((0.0, edge + sign * (side.kerb + side.verge)))
                plan.strip(Layer.VERGE, Surface.GRASS, self.points, inner, outer)
        plan.strip(Layer.ROAD, surface, self.points, right, left)
        plan.roads.append((self.points, 0.5 * (left - right)))

    def ways_on_foot(self, plan: Plan, begin: float = 0.0, end: float = np.inf) -> None:
        """Walkways along its pavements, the part nearer the houses."""
        points = piece(self.points, begin, end)
        for sign, side in ((-1.0, self.right), (1.0, self.left)):
            if side.pavement:
                plan.walkways.append(offset(points, self.way_offset(sign))[:: -int(sign)])

    def way_offset(self, sign: float) -> float:
        """Offset of the walkway on a side that has a pavement."""
        side = self.right if sign < 0 else self.left
        return self.edge(sign) + sign * (
            side.kerb + side.verge + min(side.pavement - 0.75, max(0.9, 0.6 * side.pavement))
        )

    def lines(
        self, plan: Plan, begin: float = 0.0, end: float = np.inf, dash: tuple[float, float] = (3.0, 6.0)
    ) -> None:
        """Lines between lanes, in the middle of the road and along bicycle lanes."""
        points = piece(self.points, begin, end)
        for sign, side in ((-1.0, self.right), (1.0, self.left)):
            for index in range(1, side.lanes):
                markings.dashed(plan, points, sign * (0.5 * self.median + index * side.lane_width), *dash)
            if side.bicycle:
                away = sign * (0.5 * self.median + side.driven)
                if side.parking:
                    markings.dashed(plan, points, away, 1.0, 1.0, markings.LINE)
                else:
                    markings.solid(plan, points, away, markings.WIDE_LINE)
        if self.right.lanes and self.left.lanes and not self.median:
            if max(self.right.lanes, self.left.lanes) > 1:
                markings.solid(plan, points, -0.12)
                markings.solid(plan, points, 0.12)
            else:
                markings.dashed(plan, points, 0.0, *dash)

    def edge_lines(self, plan: Plan, width: float = markings.LINE, begin: float = 0.0, end: float = np.inf) -> None:
        """Solid lines along the outer and the inner edges of its lanes."""
        points = piece(self.points, begin, end)
        for sign, side in ((-1.0, self.right), (1.0, self.left)):
            if side.lanes:
                markings.solid(plan, points, sign * (0.5 * self.median + side.driven + 0.5 * width), width)
            if self.median > 1.0:
                markings.solid(plan, points, sign * (0.5 * self.median - 0.5 * width), width)

    def park(
        self, plan: Plan, rng: np.random.Generator, sign: float, free: Sequence[tuple[float, float]] = (),
        painted: bool = True,
    ) -> None:  # fmt: skip
        """Parking spaces along a side, in rows broken now and then and by `free`, stretches (m) without any."""
        side = self.right if sign < 0 else self.left
        if not side.parking:
            return
        pitch, depth = _PITCH[side.parking], PARKING_DEPTH[side.parking]
        at = np.arange(8.0 + 0.5 * pitch, self.length - 8.0 - 0.5 * pitch, pitch)
        at = at + rng.uniform(0.0, 0.5 * pitch)
        keep = np.ones(len(at), bool)
        for begin, end in free:
            keep &= (at + 0.5 * pitch < begin) | (at - 0.5 * pitch > end)
        for gap in rng.uniform(0.0, self.length, int(self.length / 45.0)):
            keep &= np.abs(at - gap) > 0.5 * pitch + 1.5
        at = at[keep]
        inner = sign * (0.5 * self.median + side.driven + side.bicycle)
        place, heading = spots(offset(self.points, inner + sign * 0.5 * depth), at)
        # Cars on the right stand along the traffic or nose to the kerb; those on the left the other way round.
        turn = (0.0 if sign < 0 else np.pi) - _ANGLE[side.parking]
        length, width = _SPACE[side.parking]
        for (x, y), yaw in zip(place.tolist(), (heading + turn).tolist(), strict=True):
            plan.parking.append(ParkingSpace(x, y, float(np.arctan2(np.sin(yaw), np.cos(yaw))), length, width))
        if not painted or not len(at):
            return
        ends = np.unique(np.round(np.concatenate([at - 0.5 * pitch, at + 0.5 * pitch]), 2))
        ends = ends[np.concatenate([[True], np.diff(ends) > 0.2])]
        low, high = spots(offset(self.points, inner), ends)[0], spots(offset(self.points, inner + sign * depth), ends)
        slant = 0.0 if side.parking != "angled" else depth / np.tan(_ANGLE["angled"])
        forward = -sign * np.stack([np.cos(high[1]), np.sin(high[1])], axis=1)
        low, far = low - 0.5 * slant * forward, high[0] + 0.5 * slant * forward
        step = 0.05 * np.stack([np.cos(high[1]), np.sin(high[1])], axis=1)
        for quad in np.stack([low - step, low + step, far + step, far - step], axis=1):
            plan.patch(Layer.MARKING, Surface.MARKING, quad)
