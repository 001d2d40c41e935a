"""What is in the way: tracked objects and obstacles that touch the corridor, now or by their predicted paths."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from karp_perception.core import Boxes, ObjectClass, Objects, class_name
from karp_perception.core.settings import Settings, nested, setting
from karp_perception.planning.corridor import Corridor
from karp_perception.tracking.association import whole_pairs
from karp_perception.tracking.bodies import BodySettings, moving_bodies, parts_of_bodies
from karp_perception.tracking.visibility import near_pairs

_CORE = 0.5
"""A time counts if it is no less likely than this share of the likeliest that a thing is in the way then: of the paths
of a thing that surely crosses the first may be early and the last late, but not both are to be waited for."""

_SAME = 0.3
"""How far beyond its box a measured part may still be of an object, m: boxes are known about as well."""


@dataclass(frozen=True)
class HazardSettings(Settings):
    """What counts as in the way, and as moving."""

    bodies: BodySettings = nested(BodySettings)
    speed_significance: float = setting(2.5, "speed in its deviations from which a thing moves", low=0.0, high=10.0)
    slowest: float = setting(0.3, "slower things stand", unit="m/s", low=0.0, high=5.0)
    crossing_speed: float = setting(0.4, "sideways speed from which a thing crosses", unit="m/s", low=0.0, high=5.0)
    least_probability: float = setting(
        0.15, "things less likely to come into the way, by all their paths together, do not count", low=0.0, high=1.0
    )
    settled: float = setting(0.5, "age from which an unclassed track's motion is believed", unit="s", low=0.0, high=5.0)
    look_ahead: float = setting(5.0, "how far ahead predicted paths count", unit="s", low=0.0, high=30.0)
    unclassed_look_ahead: float = setting(2.0, "the same for things without a class", unit="s", low=0.0, high=30.0)
    same_place: float = setting(1.5, "two frames' hazards closer than this are one", unit="m", low=0.0, high=20.0)
    confirm_frames: int = setting(2, "frames until a new hazard counts, if waiting is harmless", low=1, high=10)
    confirm_time: float = setting(0.4, "the same for doubtful hazards, and to know that they stand", unit="s", low=0.0)
    known_deviation: float = setting(
        1.0, "speed and its deviation below which a thing stands", unit="m/s", low=0.1, high=10.0
    )
    hold: float = setting(0.3, "how long a hazard that vanished still counts", unit="s", low=0.0, high=3.0)
    range: float = setting(200.0, "farther things are not looked at", unit="m", low=10.0, high=1000.0)


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

    @property
    def guessed(self) -> bool:
        """Whether only the motion of a part without a class, which may be none, would bring it into the way."""
        return self.crossing and self.label == ObjectClass.UNKNOWN and self.occupied[0] > 0

    @property
    def crossing(self) -> bool:
        """Whether it goes across the path rather than along it."""
        return bool(self.side)

    def order(self) -> tuple[float, int, tuple[float, float]]:
        """Sorts hazards, the nearest first."""
        return self.gap, self.track_id or 0, self.place

    @property
    def name(self) -> str:
        """How a person would call it."""
        if self.track_id is None:
            return self.title or "an obstacle"
        return f"{class_name(self.label) if self.label >= 0 else 'obstacle'} {self.track_id}"


def find_hazards(objects: Objects, obstacles: Boxes, corridor: Corridor, settings: HazardSettings) -> list[Hazard]:
    """Everything that is in the corridor or will be, nearest first. All inputs in `base_link`.

    An obstacle that updated an object, or lies on one, is that object: the distance is that of the measured part, and
    the name the object's. What appears in the body of something that moves, and does not surely move otherwise, is of
    that too. The rest of the obstacles stand for themselves.
    """
    obstacle_rows = np.flatnonzero(_in_range(obstacles, settings.range))
    parts, boxes = obstacles[obstacle_rows], objects.boxes
    owner = _owners(objects, obstacles)[obstacle_rows]
    measured = np.zeros(len(boxes), bool)
    measured[owner[owner >= 0]] = True
    # A part without a class that is not seen now says little of where anything is; the memory holds it for a moment.
    current = (boxes.label >= 0) | measured | (objects.unseen == 0)
    rows = np.flatnonzero(_in_range(boxes, settings.range) & current)
    part_gap = corridor.free_distance(parts)
    expected = np.full(len(boxes), np.inf)
    expected[rows] = corridor.free_distance(boxes[rows])
    # Only the filtered box of an unclassed object reaches in, not what is measured of it: the measurement is right.
    gap = np.where(measured & (boxes.label == ObjectClass.UNKNOWN), np.inf, expected)
    part_of, owner = _joined_to_bodies(objects, parts, owner, np.isfinite(part_gap), settings)
    rows = rows[part_of[rows] < 0]
    np.minimum.at(gap, owner[owner >= 0], part_gap[owner >= 0])
    hazards = _tracked(objects, gap, np.isfinite(expected), rows, corridor, settings)
    for k in np.flatnonzero((owner < 0) & np.isfinite(part_gap)):
        place = (float(parts.center[k, 0]), float(parts.center[k, 1]))
        gap_k = float(part_gap[k])
        hazards.append(Hazard(gap_k, 0.0, None, ObjectClass.UNKNOWN, place=place, known=False, firm=False))
    return sorted(hazards, key=Hazard.order)


def _joined_to_bodies(
    objects: Objects, parts: Boxes, owner: np.ndarray, inside: np.ndarray, settings: HazardSettings
) -> tuple[np.ndarray, np.ndarray]:
    """(N,) object that each object is a part of, or -1, and the owners of `parts` (in the corridor: `inside`) then."""
    at = np.array([0, 1, 4, 5])
    covariance = objects.covariance[:, at[:, None], at]
    whole = objects.boxes.label >= 0
    bodies = moving_bodies(objects.boxes, covariance, whole, np.zeros(2), settings.bodies)
    bodies = bodies.take((whole | (objects.unseen <= settings.hold))[bodies.row])
    part_of = parts_of_bodies(objects.boxes, covariance, whole, bodies, settings.bodies)
    owner = np.where((owner >= 0) & (part_of[owner] >= 0), part_of[owner], owner) if len(objects) else owner.copy()
    lone = np.flatnonzero((owner < 0) & inside)
    body = bodies.around(parts[lone])
    owner[lone[body >= 0]] = bodies.row[body[body >= 0]]
    return part_of, owner


def _tracked(
    objects: Objects,
    gap: np.ndarray,
    expected: np.ndarray,
    rows: np.ndarray,
    corridor: Corridor,
    settings: HazardSettings,
) -> list[Hazard]:
    """Hazards of the objects `rows`, at free distances `gap` (N,); `expected` (N,): so are filtered boxes."""
    if len(rows) == 0:
        return []
    boxes = objects.boxes
    velocity = np.clip(boxes.velocity, -100.0, 100.0)
    covariance = objects.covariance[:, 4:6, 4:6]
    s, _ = corridor.line.project(boxes.center[:, :2])
    heading = corridor.line.at(s)[1]
    u = np.column_stack([np.cos(heading), np.sin(heading)])
    left = np.column_stack([-u[:, 1], u[:, 0]])
    along, across = (velocity * u).sum(axis=1), (velocity * left).sum(axis=1)
    along_deviation = np.sqrt(np.maximum(np.einsum("ni,nij,nj->n", u, covariance, u), 1e-6))
    across_deviation = np.sqrt(np.maximum(np.einsum("ni,nij,nj->n", left, covariance, left), 1e-6))
    least = settings.speed_significance
    stands = np.abs(along) + along_deviation < settings.known_deviation
    along = np.where(np.abs(along) > np.maximum(least * along_deviation, settings.slowest), along, 0.0)
    settled = (boxes.label >= 0) | ((objects.age >= settings.settled) & (objects.unseen == 0))
    moves_across = settled & (np.abs(across) > np.maximum(least * across_deviation, settings.crossing_speed))
    crosses = moves_across & (np.abs(across) > np.abs(along))
    found = []
    for i in rows:
        identity = (int(objects.track_id[i]), int(boxes.label[i]))
        place = (float(boxes.center[i, 0]), float(boxes.center[i, 1]))
        inside = bool(np.isfinite(gap[i]))
        if inside and not crosses[i]:
            known = bool(along[i] != 0.0 or stands[i])
            hazard = Hazard(float(gap[i]), float(along[i]), *identity, place=place, known=known, firm=bool(expected[i]))
            found.append(hazard)
        elif moves_across[i]:
            side = "left" if across[i] < 0 else "right"
            hazard = _coming(objects, int(i), corridor, settings, side) if s[i] > 0 or inside else None
            if hazard is None and inside:
                hazard = Hazard(float(gap[i]), 0.0, *identity, side, (0.0, 0.5), float(gap[i]) + 1.0, place)
            if hazard is None:
                continue
            if inside:
                hazard = replace(hazard, gap=min(hazard.gap, float(gap[i])), occupied=(0.0, hazard.occupied[1]))
            if not crosses[i]:  # it comes into the lane and goes on along it
                if along[i] <= 0 or hazard.occupied[0] > 1.5:
                    continue
                ahead = max(float(s[i]) - 0.5 * float(boxes.size[i, 0]) - corridor.vehicle.front, 0.0)
                hazard = Hazard(ahead, float(along[i]), *identity, place=place)
            found.append(hazard)
    return found


def _coming(objects: Objects, i: int, corridor: Corridor, settings: HazardSettings, side: str) -> Hazard | None:
    """When and where object i will be in the corridor, by its predicted paths; None if never."""
    step, boxes = objects.prediction_step, objects.boxes
    ahead = settings.look_ahead if boxes.label[i] >= 0 else settings.unclassed_look_ahead
    count = min(objects.predicted.shape[2], int(ahead / step))
    possible = objects.predicted_probability[i] > 0.0
    probability = objects.predicted_probability[i, possible]
    paths = np.clip(objects.predicted[i, possible, :count], -1e4, 1e4)
    if paths.size == 0:
        return None
    k, t, _ = paths.shape
    s, d = (a.reshape(k, t) for a in corridor.line.project(paths[..., :2].reshape(-1, 2)))
    turn = paths[..., 2] - corridor.line.at(s.ravel())[1].reshape(k, t)
    length, width = 0.5 * boxes.size[i, 0], 0.5 * boxes.size[i, 1]
    half_s = length * np.abs(np.cos(turn)) + width * np.abs(np.sin(turn))
    half_d = length * np.abs(np.sin(turn)) + width * np.abs(np.cos(turn))
    right, left = (a.reshape(k, t) for a in corridor.reach(s.ravel(), corridor.margin))
    front = corridor.vehicle.front
    inside = (d - half_d < left) & (d + half_d > right) & (s > front) & (s - half_s < corridor.length)
    # One path of several that are all likely must not stop the vehicle, nor may many that agree be overlooked.
    if probability @ inside.any(axis=1) < max(settings.least_probability, 1e-9):
        return None
    there = probability @ inside
    likely = there >= _CORE * there.max()
    inside &= likely
    when = np.flatnonzero(likely)
    gap = max(float((s - half_s)[inside].min()) - front, 0.0)
    far = float((s + half_s)[inside].max()) - front
    place = (float(boxes.center[i, 0]), float(boxes.center[i, 1]))
    occupied = (float(when[0] * step), float((when[-1] + 1) * step))
    return Hazard(gap, 0.0, int(objects.track_id[i]), int(boxes.label[i]), side, occupied, far, place)


def _in_range(boxes: Boxes, distance: float) -> np.ndarray:
    """(N,) mask of boxes near enough, and small enough, to be things on a road."""
    near = np.abs(boxes.center[:, :2]).max(axis=1, initial=0.0) < distance
    return near & (boxes.size[:, :2].max(axis=1, initial=0.0) < 2 * distance)


def _owners(objects: Objects, obstacles: Boxes) -> np.ndarray:
    """(len(obstacles),) row of the object that each obstacle is, or -1."""
    owner = np.full(len(obstacles), -1)
    if len(objects) == 0 or len(obstacles) == 0:
        return owner
    grown = replace(objects.boxes, size=objects.boxes.size + np.array([2 * _SAME, 2 * _SAME, 0.0]))
    i, j = near_pairs(grown, obstacles, 0.0)
    pairs = whole_pairs(i, j, grown, obstacles, np.zeros((len(obstacles), 2, 2)))
    area = obstacles.size[pairs.box, 0] * obstacles.size[pairs.box, 1]
    whole = grown.size[pairs.track, 0] * grown.size[pairs.track, 1]
    on_it = pairs.overlap * np.minimum(area, whole) > 0.5 * area
    order = np.lexsort((-pairs.track[on_it], pairs.overlap[on_it]))
    owner[pairs.box[on_it][order]] = pairs.track[on_it][order]  # the largest overlap is written last
    known = (objects.obstacle_index >= 0) & (objects.obstacle_index < len(obstacles))
    owner[objects.obstacle_index[known]] = np.flatnonzero(known)
    return owner
