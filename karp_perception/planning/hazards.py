"""What is in the way: tracked objects and obstacles that touch the corridor, now or by their predicted paths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from karp_perception.core import ObjectClass, class_name
from karp_perception.core.compiled import njit
from karp_perception.core.settings import Settings, nested, setting
from karp_perception.planning.corridor import Corridor, between
from karp_perception.planning.reference_line import ReferenceLine
from karp_perception.planning.surroundings import Identity, Surroundings, SurroundingsSettings, place_of

_CORE = 0.5
"""A time counts if it is no less likely than this share of the likeliest that a thing is in the way then: of the paths
of a thing that surely crosses the first may be early and the last late, but not both are to be waited for."""

_TOGETHER = 8.0
"""m along the corridor that a thing goes on within it, from which it joins rather than crosses."""

GOAL = "the end of the route"
"""Title of the hazard that stands there."""


@dataclass(frozen=True)
class HazardSettings(Settings):
    """What counts as in the way, and for how long."""

    around: SurroundingsSettings = nested(SurroundingsSettings)
    least_probability: float = setting(
        0.15, "things less likely to come into the way, by all their paths together, do not count", low=0.0, high=1.0
    )
    same_place: float = setting(1.5, "two frames' hazards closer than this are one", unit="m", low=0.0, high=20.0)
    confirm_frames: int = setting(2, "frames until a new hazard counts, if waiting is harmless", low=1, high=10)
    confirm_time: float = setting(0.4, "the same for doubtful hazards, and to know that they stand", unit="s", low=0.0)


@dataclass(frozen=True)
class Hazard:
    """One thing in the way.

    Attributes:
        gap: from the front bumper to its nearest point in the corridor, along the path, m.
        speed: along the path, m/s; negative where it comes towards the vehicle.
        track_id: of the object; None for an obstacle without a track.
        label: its class, UNKNOWN for obstacles.
        side: "left" or "right", where a crossing thing comes from; empty for what stands or moves along the path.
        occupied: s from now from when to when it is in the corridor.
        far: m from the front bumper to where the part of the path that a crossing thing occupies ends.
        place: (2,) in `base_link`, to recognise it in the next frame.
        title: what it is called, where it is neither object nor obstacle.
        known: whether the speed was measured; where not, it is taken for standing.
        firm: whether what is measured and what was known of it before agree that it is in the way.
        joins: whether what crosses goes on along the path: then who is there first leads.
        berth: m that are kept before it beside the usual, to be able to drive around it.
    """

    gap: float
    speed: float
    track_id: int | None
    label: int
    side: str = ""
    occupied: tuple[float, float] = (0.0, float("inf"))
    far: float = float("inf")
    place: tuple[float, float] = (0.0, 0.0)
    title: str = ""
    known: bool = True
    firm: bool = True
    joins: bool = False
    berth: float = 0.0

    @property
    def guessed(self) -> bool:
        """Whether only the motion of a part without a class, which may be none, would bring it into the way."""
        return self.crossing and self.label == ObjectClass.UNKNOWN and self.occupied[0] > 0

    @property
    def crossing(self) -> bool:
        """Whether it goes across the path rather than along it."""
        return bool(self.side)

    @property
    def identity(self) -> Identity:
        """What tells it from other hazards of a frame."""
        return self.track_id, self.place

    def order(self) -> tuple[float, int, tuple[float, float]]:
        """Sorts hazards, the nearest first."""
        return self.gap, self.track_id or 0, self.place

    @property
    def name(self) -> str:
        """How a person would call it."""
        if self.track_id is None:
            return self.title or "an obstacle"
        return f"{class_name(self.label) if self.label >= 0 else 'obstacle'} {self.track_id}"


def find_hazards(around: Surroundings, corridor: Corridor, settings: HazardSettings) -> list[Hazard]:
    """Everything that is in the corridor or will be, nearest first.

    The distance of an object is that of its nearest measured part, or of its box, and the name the object's. Parts
    that are nobody's stand for themselves.
    """
    boxes, owner = around.objects.boxes, around.owner
    part_gap = corridor.free_distance(around.part_s, around.part_d)
    expected = np.full(len(boxes), np.inf)
    expected[around.row] = corridor.free_distance(around.box_s[around.row], around.box_d[around.row])
    # Only the filtered box of an unclassed object reaches in, not what is measured of it: the measurement is right.
    gap = np.where(around.measured & (boxes.label == ObjectClass.UNKNOWN), np.inf, expected)
    np.minimum.at(gap, owner[owner >= 0], part_gap[owner >= 0])
    hazards = _tracked(around, gap, np.isfinite(expected), corridor, settings)
    for k in around.lone[np.isfinite(part_gap[around.lone])]:
        place, gap_k = place_of(around.parts, k), float(part_gap[k])
        hazards.append(Hazard(gap_k, 0.0, None, ObjectClass.UNKNOWN, place=place, known=False, firm=False))
    return sorted(hazards, key=Hazard.order)


def goal_of(line: ReferenceLine, room: float) -> list[Hazard]:
    """The end of the route as something to stop `room` m before, such that the vehicle's origin gets there."""
    if not np.isfinite(line.end):
        return []
    return [Hazard(max(line.end, 0.0) + room, 0.0, None, -1, title=GOAL)]


def hazard_of(thing: int, around: Surroundings, hazards: Sequence[Hazard], front: float) -> Hazard | None:
    """One of the things around (see `Surroundings.things`): the hazard that it is, or else that it may become.

    None for -1, no thing. `front` is that of the vehicle, m.
    """
    if thing < 0:
        return None
    if thing >= len(around.row):
        part = around.lone[thing - len(around.row)]
        track_id, label, along, s = None, -1, 0.0, around.part_s[part]
        found = [h for h in hazards if h.identity == (None, place_of(around.parts, part))]
    else:
        row = around.row[thing]
        track_id, label = int(around.objects.track_id[row]), int(around.objects.boxes.label[row])
        along, s = float(around.along[row]), around.box_s[row]
        found = [h for h in hazards if h.track_id == track_id]
    return found[0] if found else Hazard(max(float(s.min()) - front, 0.0), along, track_id, label)


def _tracked(
    around: Surroundings, gap: np.ndarray, expected: np.ndarray, corridor: Corridor, settings: HazardSettings
) -> list[Hazard]:
    """Hazards of the objects, at free distances `gap` (N,); `expected` (N,): so are filtered boxes."""
    objects, boxes = around.objects, around.objects.boxes
    coming = _coming(around, corridor, settings.least_probability)
    found = []
    for i in around.row:
        inside = bool(np.isfinite(gap[i]))
        if not inside and not around.moves_across[i]:
            continue
        identity = (int(objects.track_id[i]), int(boxes.label[i]))
        place = place_of(boxes, i)
        along = float(around.along[i])
        if inside and not around.crosses[i]:
            known = along != 0.0 or bool(around.stands[i])
            hazard = Hazard(float(gap[i]), along, *identity, place=place, known=known, firm=bool(expected[i]))
            found.append(hazard)
        elif around.moves_across[i]:
            side = "left" if around.across[i] < 0 else "right"
            near, far, begin, end, joins = coming[i]
            hazard = None
            if (around.distance[i] > 0 or inside) and end > 0.0:
                when = (float(begin), float(end))
                hazard = Hazard(float(near), 0.0, *identity, side, when, float(far), place, joins=bool(joins))
            if hazard is None and inside:
                hazard = Hazard(float(gap[i]), 0.0, *identity, side, (0.0, 0.5), float(gap[i]) + 1.0, place)
            if hazard is None:
                continue
            if inside:
                hazard = replace(hazard, gap=min(hazard.gap, float(gap[i])), occupied=(0.0, hazard.occupied[1]))
            if not around.crosses[i]:  # it comes into the lane and goes on along it
                if along <= 0 or hazard.occupied[0] > 1.5:
                    continue
                ahead = max(float(around.distance[i] - 0.5 * boxes.size[i, 0]) - corridor.vehicle.front, 0.0)
                hazard = Hazard(ahead, along, *identity, place=place)
            found.append(hazard)
    return found


def _coming(around: Surroundings, corridor: Corridor, least_probability: float) -> np.ndarray:
    """(N, 5) of each object that moves across, by its predicted paths: m from the front bumper to where the part of the
    corridor begins that it will be in, and to where that ends; s from now from when to when, the second 0 for never;
    1 where it goes on along the corridor, away from the vehicle.
    """
    right, left = corridor.sides
    line = corridor.line
    return np.asarray(
        _occupied(
            around.path_s, around.path_d, around.half_s, around.half_d, around.probability, around.step,
            right - corridor.margin, left + corridor.margin, line.start, line.step, corridor.vehicle.front,
            corridor.length, max(least_probability, 1e-9),
        )
    )  # fmt: skip


@njit(cache=True, nogil=True, error_model="numpy")
def _occupied(
    s: np.ndarray,
    d: np.ndarray,
    half_s: np.ndarray,
    half_d: np.ndarray,
    probability: np.ndarray,
    step: float,
    right: np.ndarray,
    left: np.ndarray,
    start: float,
    line_step: float,
    front: float,
    length: float,
    least: float,
) -> np.ndarray:
    """See `_coming`. One path of several that are all likely must not stop the vehicle, nor may many that agree be
    overlooked: it is their probabilities together that count.
    """
    objects, paths, times = s.shape
    found = np.zeros((objects, 5))
    inside = np.zeros((paths, times), np.bool_)
    for n in range(objects):
        ever, most = 0.0, 0.0
        there = np.zeros(times)
        for k in range(paths):
            any_time = False
            for t in range(times):
                inside[k, t] = False
                if not s[n, k, t] > front or probability[n, k] <= 0.0:  # NaN: not looked at
                    continue
                at = (s[n, k, t] - start) / line_step
                if (
                    d[n, k, t] - half_d[n, k, t] < between(left, at)
                    and d[n, k, t] + half_d[n, k, t] > between(right, at)
                    and s[n, k, t] - half_s[n, k, t] < length
                ):
                    inside[k, t] = True
                    any_time = True
                    there[t] += probability[n, k]
            if any_time:
                ever += probability[n, k]
        if ever < least:
            continue
        for t in range(times):
            most = max(most, there[t])
        near, far, begin, end = np.inf, -np.inf, -1, -1
        entered, left_at = 0.0, 0.0
        for t in range(times):
            if there[t] <= 0.0 or there[t] < _CORE * most:
                continue
            first = begin < 0
            begin = t if first else begin
            end = t
            mean = 0.0
            for k in range(paths):
                if inside[k, t]:
                    mean += s[n, k, t] * probability[n, k] / there[t]
                    near = min(near, s[n, k, t] - half_s[n, k, t])
                    far = max(far, s[n, k, t] + half_s[n, k, t])
            entered = mean if first else entered
            left_at = mean
        found[n, 4] = 1.0 if left_at - entered > _TOGETHER else 0.0
        found[n, 0], found[n, 1] = max(near - front, 0.0), far - front
        found[n, 2], found[n, 3] = begin * step, (end + 1) * step
    return found
