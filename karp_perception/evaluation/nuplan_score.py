"""nuPlan's closed-loop score of a drive.

The definitions are those of nuplan-devkit 1.2 (github.com/motional/nuplan-devkit, `nuplan/planning/metrics`, its
configuration `simulation_closed_loop_reactive_agents` and the weighted average of the same name; Karnchanachari et al.,
ICRA 2024): gates times a weighted mean. What differs, because a DriveRecord has no map of polygons and no expert's log:

- The expert is `drive.expert`'s driver on the same route and traffic; progress is compared at the drive's last tick.
- A place is an intersection where two lanes overlap; a lane is a strip of its width.
- Other vehicles go on with their true velocity, not with their speed along their heading (one that reverses does not
  come forwards), and the accelerations of the vehicle's middle are differences of speed and heading.
- The speed limit is that of the record at each tick, not that of the lane the vehicle was found in.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

import numpy as np
from scipy.signal import savgol_filter

from karp_perception.core import ObjectClass
from karp_perception.evaluation.drive_record import OFF_ROAD, DriveRecord, route_progress
from karp_perception.evaluation.footprints import contact_interval, separation
from karp_perception.evaluation.lane_occupancy import LaneOccupancy, lanes_of

VERSION = "nuplan-devkit 1.2"


@dataclass(frozen=True)
class NuplanRules:
    """Thresholds and weights of the devkit's configuration.

    Attributes:
        stopped: m/s, of the vehicle or another, up to which it stands. crawling: m/s, up to which no time to collision
            is asked for.
        ahead, behind: rad from straight ahead of the rear axle, within and beyond which another is ahead or behind.
        objects_allowed: at-fault contacts with things, the number from which on less than half is left.
        against_allowed, against_most: m driven against a lane within `against_time` s, for 1, and for 0.5.
        least_progress: ratio. least_way: m, ways shorter than it count as such.
        ttc_step, ttc_horizon, least_ttc: s.
        overspeed: m/s, which over the whole drive gives 0.
        deceleration, acceleration, lateral, yaw_rate, yaw_acceleration, jerk, jerk_magnitude: bounds of comfort, SI.
    """

    stopped: float = 0.05
    crawling: float = 0.005
    ahead: float = math.radians(30.0)
    behind: float = math.radians(150.0)
    objects_allowed: int = 1
    against_time: float = 1.0
    against_allowed: float = 2.0
    against_most: float = 6.0
    least_progress: float = 0.2
    least_way: float = 2.0
    ttc_step: float = 0.1
    ttc_horizon: float = 3.0
    least_ttc: float = 0.95
    overspeed: float = 2.23
    deceleration: float = 4.05
    acceleration: float = 2.40
    lateral: float = 4.89
    yaw_rate: float = 0.95
    yaw_acceleration: float = 1.93
    jerk: float = 4.13
    jerk_magnitude: float = 8.37
    weight_progress: float = 5.0
    weight_ttc: float = 5.0
    weight_speed_limit: float = 4.0
    weight_comfort: float = 2.0


class ContactKind(str, Enum):
    """How the vehicle and another came together, by the devkit's names."""

    STOPPED_EGO = "stopped_ego"
    STOPPED_TRACK = "stopped_track"
    ACTIVE_FRONT = "active_front"
    ACTIVE_REAR = "active_rear"
    ACTIVE_LATERAL = "active_lateral"


@dataclass(frozen=True)
class NuplanContact:
    """The first tick in which the vehicle overlaps another: which tick, whom, how, and whose fault it is."""

    tick: int
    actor_id: int
    label: int
    kind: ContactKind
    at_fault: bool


@dataclass(frozen=True)
class NuplanScore:
    """The score, 0 to 1, and its terms.

    Attributes:
        score: product of the gates times the weighted mean of the rest.
        no_at_fault_collision: gate, 0, 0.5 or 1. drivable_area: gate. driving_direction: gate, 0, 0.5 or 1.
        making_progress: gate.
        progress: ratio to the expert's. ttc, comfort: 0 or 1. speed_limit: 0 to 1.
    """

    score: float
    no_at_fault_collision: float
    drivable_area: float
    driving_direction: float
    making_progress: float
    progress: float
    ttc: float
    speed_limit: float
    comfort: float

    GATES = ("no_at_fault_collision", "drivable_area", "driving_direction", "making_progress")
    WEIGHTED = ("progress", "ttc", "speed_limit", "comfort")


_VULNERABLE = (ObjectClass.PEDESTRIAN, ObjectClass.BICYCLE, ObjectClass.MOTORCYCLE)  # nuPlan's bicycles include these
_THINGS = (ObjectClass.TRAFFIC_CONE, ObjectClass.BARRIER)


def nuplan_score(
    record: DriveRecord,
    expert: np.ndarray,
    rules: NuplanRules = NuplanRules(),
    lanes: LaneOccupancy | None = None,
) -> NuplanScore:
    """Score a drive.

    Args:
        record: with lanes, speed limits and corners off the road.
        expert: (E,) m along the route of the expert's middle, tick by tick from the same beginning; its last value
            holds on.
        rules: thresholds and weights.
        lanes: of the record, where that is known already.
    """
    lanes = lanes or LaneOccupancy(record)
    one_lane = lanes.in_one_lane()
    touched = nuplan_contacts(record, one_lane, rules)
    ratio = progress_ratio(record, expert, rules)
    gates = (
        _collision_score(touched, rules),
        float(not _leaves_the_road(record, lanes)),
        _direction_score(record, lanes, rules),
        float(ratio >= rules.least_progress),
    )
    ttc = times_to_collision(record, touched, one_lane, lanes.in_junction(), rules)
    terms = (
        ratio,
        float(rules.least_ttc < ttc.min()),
        _speed_limit_score(record, rules),
        float(is_comfortable(record, rules)),
    )
    weights = (rules.weight_progress, rules.weight_ttc, rules.weight_speed_limit, rules.weight_comfort)
    mean = float(np.dot(weights, terms) / sum(weights))
    return NuplanScore(math.prod(gates) * mean, *gates, *terms)


def nuplan_contacts(
    record: DriveRecord, one_lane: np.ndarray, rules: NuplanRules = NuplanRules()
) -> list[NuplanContact]:
    """First overlaps with each actor, in order of time; `one_lane` (T,) tells whether the vehicle kept to a lane.

    At fault are contacts with what stands, those of the front bumper, and, where the vehicle is between lanes or off
    the road, those of its sides; not those while it stands itself, and not from behind.
    """
    tick = record.actor_tick
    near = np.flatnonzero(_within(record, 0.0))
    touching = separation(record.ego_corners[tick[near]], record.actor_corners[near])[0] <= 0
    found, seen = [], set()
    for row in near[touching]:
        number, k = int(record.actor_id[row]), int(tick[row])
        if number in seen:
            continue
        seen.add(number)
        kind = _kind(record, int(row), rules)
        active = kind in (ContactKind.ACTIVE_FRONT, ContactKind.STOPPED_TRACK)
        fault = active or (kind is ContactKind.ACTIVE_LATERAL and not one_lane[k])
        found.append(NuplanContact(k, number, int(record.actor_label[row]), kind, fault))
    return found


def _kind(record: DriveRecord, row: int, rules: NuplanRules) -> ContactKind:
    k = int(record.actor_tick[row])
    thing = record.actor_label[row] in _THINGS
    if abs(record.speed[k]) <= rules.stopped:
        return ContactKind.STOPPED_EGO
    if thing or np.hypot(*record.actor_velocity[row]) <= rules.stopped:
        return ContactKind.STOPPED_TRACK
    if _bearing(record, np.array([row]))[0] > rules.behind:
        return ContactKind.ACTIVE_REAR
    front = record.ego_corners[k][[0, 3]]
    bumper = np.stack([front[0], front[0], front[1], front[1]])
    if _segment_touches(bumper, record.actor_corners[row]):
        return ContactKind.ACTIVE_FRONT
    return ContactKind.ACTIVE_LATERAL


def _segment_touches(segment: np.ndarray, rectangle: np.ndarray) -> bool:
    """Whether the line between a segment's first and last corner meets a rectangle (4, 2): by separating axes."""
    a, b = segment[0], segment[-1]
    edges = [rectangle[0] - rectangle[1], rectangle[1] - rectangle[2]]
    across = np.array([a[1] - b[1], b[0] - a[0]])
    for axis in (*edges, across):
        line, box = np.array([a, b]) @ axis, rectangle @ axis
        if line.max() < box.min() or box.max() < line.min():
            return False
    return True


def _within(record: DriveRecord, seconds: float) -> np.ndarray:
    """(M,) whether vehicle and actor could touch within so many s, whatever their headings."""
    tick = record.actor_tick
    away = np.hypot(*(np.stack([record.actor_x, record.actor_y], axis=1) - record.ego_center[tick]).T)
    reach = 0.5 * np.hypot(record.front + record.rear, record.width)
    reach = reach + 0.5 * np.hypot(record.actor_length, record.actor_width)
    return away <= reach + seconds * (np.hypot(*record.actor_velocity.T) + np.abs(record.speed[tick])) + 1e-6


def _bearing(record: DriveRecord, rows: np.ndarray) -> np.ndarray:
    """(N,) rad between the vehicle's heading and the way from its rear axle to the middles of actors."""
    tick = record.actor_tick[rows]
    away = np.stack([record.actor_x[rows], record.actor_y[rows]], axis=1) - record.rear_axle[tick]
    heading = np.stack([np.cos(record.yaw[tick]), np.sin(record.yaw[tick])], axis=1)
    cosine = np.einsum("ni,ni->n", away, heading) / np.maximum(np.linalg.norm(away, axis=1), 1e-9)
    return np.arccos(np.clip(cosine, -1.0, 1.0))


def _collision_score(touched: list[NuplanContact], rules: NuplanRules) -> float:
    guilty = [c.label for c in touched if c.at_fault]
    things = sum(label in _THINGS for label in guilty)
    if len(guilty) > things:  # people and vehicles: none is allowed
        return 0.0
    return max(0.0, 1.0 - things / (rules.objects_allowed + 1))


def _leaves_the_road(record: DriveRecord, lanes: LaneOccupancy) -> bool:
    """Whether a corner is ever farther from lanes, and from what else one may drive on, than `OFF_ROAD`."""
    outside = ~lanes.corners.any(axis=2) & record.off_road
    tick, corner = np.nonzero(outside)
    if not len(tick):
        return False
    near, _ = lanes_of(record.lanes, record.ego_corners[tick, corner], OFF_ROAD)
    return bool((~near.any(axis=1)).any())


def _direction_score(record: DriveRecord, lanes: LaneOccupancy, rules: NuplanRules) -> float:
    """By the way driven against the direction of lanes in any `against_time`."""
    way, last, before = np.zeros(len(record)), -1, np.nan
    for t, k in enumerate(lanes.lane):
        if k < 0:
            continue
        if k == last:
            here = lanes.along[t, k]
            way[t] = 0.0 if np.isnan(before) else here - before
            before = here
        else:
            last, before = int(k), np.nan if t else lanes.along[t, k]
    count = int(rules.against_time / record.step + 1e-9)
    total = np.concatenate([[0.0], np.cumsum(way)])
    ends = np.arange(1, len(way) + 1)
    worst = abs(float((total[ends] - total[np.maximum(ends - 1 - count, 0)]).min()))
    return 1.0 if worst < rules.against_allowed else 0.5 if worst < rules.against_most else 0.0


def progress_ratio(record: DriveRecord, expert: np.ndarray, rules: NuplanRules = NuplanRules()) -> float:
    """The vehicle's way along the route over the expert's in the same time, 0 to 1."""
    along = route_progress(record.route, record.ego_center)
    own = float(along[-1] - along[0])
    other = float(expert[min(len(record), len(expert)) - 1] - expert[0])
    if own < -rules.least_way:
        return 0.0
    return min(1.0, max(own, rules.least_way) / max(other, rules.least_way))


def times_to_collision(
    record: DriveRecord,
    touched: list[NuplanContact],
    one_lane: np.ndarray,
    junction: np.ndarray,
    rules: NuplanRules = NuplanRules(),
) -> np.ndarray:
    """(T,) s until the vehicle overlaps another if all go on as they do, in steps of `ttc_step`; inf for none in time.

    Others count that are ahead, and beside the vehicle too where it is between lanes, off the road or in a junction;
    whom it has touched no longer counts. 0 in the tick of an at-fault contact.
    """
    tick = record.actor_tick
    bearing = _bearing(record, np.arange(len(tick)))
    wide = (~one_lane | junction)[tick]
    asked = (bearing < rules.ahead) | (wide & (bearing <= rules.behind))
    asked &= (record.speed[tick] > rules.crawling) & _within(record, rules.ttc_horizon)
    for contact in touched:
        asked &= ~((record.actor_id == contact.actor_id) & (tick >= contact.tick))
    rows = np.flatnonzero(asked)
    of = tick[rows]
    begin, end = contact_interval(
        record.ego_corners[of], record.ego_velocity[of], record.actor_corners[rows], record.actor_velocity[rows]
    )
    with np.errstate(invalid="ignore"):
        steps = np.maximum(np.ceil(begin / rules.ttc_step - 1e-9), 1.0)
        hit = (steps * rules.ttc_step <= end + 1e-9) & (steps * rules.ttc_step < rules.ttc_horizon - 1e-9)
    found = np.full(len(record), np.inf)
    np.minimum.at(found, of[hit], steps[hit] * rules.ttc_step)
    found[[c.tick for c in touched if c.at_fault]] = 0.0
    return found


def _speed_limit_score(record: DriveRecord, rules: NuplanRules) -> float:
    over = np.nan_to_num(np.maximum(record.speed - record.limit, 0.0))
    duration = float(record.time[-1] - record.time[0])
    return max(0.0, 1.0 - float(over.sum()) * record.step / (rules.overspeed * duration))


def is_comfortable(record: DriveRecord, rules: NuplanRules = NuplanRules()) -> bool:
    """Whether accelerations, jerks and turns stay within bounds throughout, smoothed as the devkit does."""
    step, yaw = record.step, np.unwrap(record.yaw)
    along = np.gradient(record.speed, step)
    across = record.speed * np.gradient(yaw, step)
    along_smooth, across_smooth = _smoothed(along), _smoothed(across)
    if along_smooth.min() < -rules.deceleration or along_smooth.max() > rules.acceleration:
        return False
    bounded = (
        (across_smooth, rules.lateral),
        (_derivative(along_smooth, step, 15, 2), rules.jerk),
        (_derivative(_smoothed(np.hypot(along, across)), step, 15, 2), rules.jerk_magnitude),
        (_derivative(yaw, step, 5, 2), rules.yaw_rate),
        (_derivative(yaw, step, 5, 3, 2), rules.yaw_acceleration),
    )
    return all(np.abs(values).max() < bound for values, bound in bounded)


def _smoothed(values: np.ndarray) -> np.ndarray:
    window = min(8, len(values))
    return values if window <= 2 else savgol_filter(values, window, 2)


def _derivative(values: np.ndarray, step: float, window: int, order: int, times: int = 1) -> np.ndarray:
    window = min(window, len(values))
    if window <= order:
        return np.zeros(len(values))
    return savgol_filter(values, window, order, deriv=times, delta=step)
