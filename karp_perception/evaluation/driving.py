"""How well a drive went: contacts, gaps, times to collision, comfort. Pure functions of its record."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.signal import savgol_filter

from karp_perception.evaluation.drive_record import DriveRecord, project
from karp_perception.evaluation.footprints import distance, rectangles, separation, time_to_contact

_PIECES = 32  # of a tick, in which the moment of contact is looked for before it is bisected
_TOWARDS = 0.3  # m/s: who moves slower towards what it touches was run into
_FRONT, _REAR = 0.7071, -0.7071  # cosines: within 45 degrees of straight ahead, and of straight back
_SLACK = 2.0  # m: what may touch is looked for a little farther off than it could be
_ON_ROUTE = 1.0  # m from the route within which a stop line lies on it
_LATEST_TTC = 3.0  # s: later than this a time to collision is none (nuPlan's metric looks 3 s ahead)

ACCELERATION_WINDOW_S = 0.5
"""Time over which an acceleration is fitted: a line of speed with its curvature (Savitzky, Golay 1964)."""
JERK_WINDOW_S = 0.9
"""The same for the jerk, which differences make noisier."""


@dataclass(frozen=True)
class Comfort:
    """Bounds of nuPlan's comfort metric, taken from people's driving (Karnchanachari et al. 2024)."""

    deceleration: float = 4.05  # m/s²
    acceleration: float = 2.40  # m/s²
    lateral: float = 4.89  # m/s²
    jerk: float = 4.13  # m/s³, longitudinal


@dataclass(frozen=True)
class Contact:
    """The first touch of one actor.

    Attributes:
        time: s. actor_id, label: of what was touched.
        speed: m/s at which the two close along the normal of the contact.
        ego_speed: m/s of the vehicle at that moment.
        side: of the vehicle: front, left, right or rear.
        at_fault: whether the vehicle moved towards what it touched, rather than being run into.
    """

    time: float
    actor_id: int
    label: int
    speed: float
    ego_speed: float
    side: str
    at_fault: bool


@dataclass(frozen=True)
class RedLight:
    """A red light that was passed: when (s), which, and how fast (m/s)."""

    time: float
    number: int
    speed: float


@dataclass(frozen=True)
class Braking:
    """A stretch of time with more deceleration than some bound: from when to when (s), the most of it (m/s²)."""

    begin: float
    end: float
    most: float


def contacts(record: DriveRecord) -> list[Contact]:
    """First contacts, in order of time.

    Within a tick both move evenly from one pose to the next; nothing is so fast that it passes through unnoticed.
    """
    found, seen = [], set()
    before, after = _consecutive(record)
    ego, other = record.ego_corners, record.actor_corners
    tick = record.actor_tick
    close = _close(record)
    touching = np.zeros(len(tick), bool)
    touching[close] = separation(ego[tick[close]], other[close])[0] <= 0
    before, after = (rows[np.isin(before, close)] for rows in (before, after))
    for row in np.flatnonzero(touching & (tick == 0)):
        seen.add(int(record.actor_id[row]))
        found.append(_contact(record, int(row), int(row), 0.0))
    k = tick[before]
    velocity_ego = (ego[k + 1].mean(axis=1) - ego[k].mean(axis=1)) / record.step
    velocity_other = (other[after].mean(axis=1) - other[before].mean(axis=1)) / record.step
    swept = time_to_contact(ego[k], velocity_ego, other[before], velocity_other) <= record.step
    for i in np.flatnonzero(swept | touching[after]):
        number = int(record.actor_id[before[i]])
        if number in seen:
            continue
        share = _moment(record, int(before[i]), int(after[i]))
        if share is not None:
            seen.add(number)
            found.append(_contact(record, int(before[i]), int(after[i]), share))
    return sorted(found, key=lambda c: (c.time, c.actor_id))


def gaps(record: DriveRecord) -> np.ndarray:
    """(M,) m between the vehicle's outline and each actor's, in each tick; 0 where they touch."""
    return distance(record.ego_corners[record.actor_tick], record.actor_corners)


def times_to_collision(record: DriveRecord) -> np.ndarray:
    """(M,) s until vehicle and actor touch if both go on as they do; inf for never or later than 3 s."""
    tick = record.actor_tick
    ttc = time_to_contact(
        record.ego_corners[tick], record.ego_velocity[tick], record.actor_corners, record.actor_velocity
    )
    return np.where(ttc <= _LATEST_TTC, ttc, np.inf)


def acceleration(record: DriveRecord) -> np.ndarray:
    """(T,) m/s² along the way: parabolas fitted to the speed over ACCELERATION_WINDOW_S (Savitzky and Golay)."""
    return _derivative(record.speed, record.step, ACCELERATION_WINDOW_S, 1)


def jerk(record: DriveRecord) -> np.ndarray:
    """(T,) m/s³ along the way: the second derivative of parabolas fitted to the speed over JERK_WINDOW_S."""
    return _derivative(record.speed, record.step, JERK_WINDOW_S, 2)


def lateral_acceleration(record: DriveRecord) -> np.ndarray:
    """(T,) m/s² to the left: speed times the fitted rate of turn."""
    return record.speed * _derivative(np.unwrap(record.yaw), record.step, ACCELERATION_WINDOW_S, 1)


def braking_harder_than(record: DriveRecord, bound: float) -> list[Braking]:
    """The stretches in which the fitted deceleration exceeds `bound` m/s²."""
    over = np.concatenate([[False], -acceleration(record) > bound, [False]])
    edges = np.flatnonzero(np.diff(over.astype(np.int8)))
    values = -acceleration(record)
    return [
        Braking(float(record.time[i]), float(record.time[j - 1]), float(values[i:j].max()))
        for i, j in zip(edges[::2], edges[1::2], strict=True)
    ]


def red_lights_passed(record: DriveRecord) -> list[RedLight]:
    """Stop lines on the route that the front passes while their light is red, in order of time."""
    _, offset = project(record.route, np.stack([record.light_x, record.light_y], axis=1))
    front = record.along_and_offset[0] + record.front
    found = []
    for number in np.unique(record.light_number[np.abs(offset) < _ON_ROUTE]):
        rows = np.flatnonzero((record.light_number == number) & (np.abs(offset) < _ON_ROUTE))
        points = np.stack([record.light_x[rows], record.light_y[rows]], axis=1)
        line, tick = project(record.route, points)[0], record.light_tick[rows]
        crossing = (front[tick[:-1]] <= line[:-1]) & (front[tick[1:]] > line[1:]) & (np.diff(tick) == 1)
        for k in np.flatnonzero(crossing & (record.light_color[rows[1:]] == "red")):
            at = tick[k + 1]
            found.append(RedLight(float(record.time[at]), int(number), float(record.speed[at])))
    return sorted(found, key=lambda light: light.time)


def _derivative(values: np.ndarray, step: float, window: float, order: int) -> np.ndarray:
    """Derivative by parabolas over a window in s, shorter where the drive is shorter than it."""
    count = min(2 * round(0.5 * window / step) + 1, len(values) - 1 + len(values) % 2)
    if count < 3:
        return np.gradient(values, step) if order == 1 else np.zeros(len(values))
    return savgol_filter(values, count, 2, deriv=order, delta=step, mode="interp")


def _close(record: DriveRecord) -> np.ndarray:
    """Rows of actors so near that they could touch the vehicle within a tick."""
    tick = record.actor_tick
    away = np.hypot(*(np.stack([record.actor_x, record.actor_y], axis=1) - record.ego_center[tick]).T)
    reach = 0.5 * np.hypot(record.front + record.rear, record.width)
    reach = reach + 0.5 * np.hypot(record.actor_length, record.actor_width)
    speed = np.hypot(*record.actor_velocity.T) + np.abs(record.speed[tick])
    return np.flatnonzero(away < reach + 2.0 * record.step * speed + _SLACK)


def _consecutive(record: DriveRecord) -> tuple[np.ndarray, np.ndarray]:
    """Rows of an actor in a tick and in the next one, for all that are there in both."""
    order = np.lexsort((record.actor_tick, record.actor_id))
    first, second = order[:-1], order[1:]
    same = record.actor_id[first] == record.actor_id[second]
    next_tick = record.actor_tick[second] == record.actor_tick[first] + 1
    keep = same & next_tick
    chosen = np.argsort(record.actor_tick[first[keep]], kind="stable")
    return first[keep][chosen], second[keep][chosen]


def _between(record: DriveRecord, before: int, after: int, share: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Corners (K, 4, 2) of the vehicle and of an actor at shares (K,) of the time between two of its rows."""
    k, n = record.actor_tick[before], record.actor_tick[after]
    turn = _turn(record.yaw[n] - record.yaw[k])
    x, y = (record_of[k] + share * (record_of[n] - record_of[k]) for record_of in (record.x, record.y))
    yaw, middle = record.yaw[k] + share * turn, 0.5 * (record.front - record.rear)
    center = np.stack([x + middle * np.cos(yaw), y + middle * np.sin(yaw)], axis=-1)
    ego = rectangles(center, yaw, np.asarray(record.front + record.rear), np.asarray(record.width))
    columns = (record.actor_x, record.actor_y)
    center = np.stack([c[before] + share * (c[after] - c[before]) for c in columns], axis=-1)
    yaw = record.actor_yaw[before] + share * _turn(record.actor_yaw[after] - record.actor_yaw[before])
    return ego, rectangles(center, yaw, record.actor_length[before], record.actor_width[before])


def _turn(angle: float) -> float:
    return float((angle + np.pi) % (2 * np.pi) - np.pi)


def _moment(record: DriveRecord, before: int, after: int) -> float | None:
    """Share of the time between two rows at which they first touch; None where they do not."""
    share = np.linspace(0.0, 1.0, _PIECES + 1)
    touching = separation(*_between(record, before, after, share))[0] <= 0
    if not touching.any():
        return None
    first = int(touching.argmax())
    low, high = share[max(first - 1, 0)], share[first]
    for _ in range(30):
        middle = 0.5 * (low + high)
        if separation(*_between(record, before, after, np.array([middle])))[0][0] <= 0:
            high = middle
        else:
            low = middle
    return float(high)


def _contact(record: DriveRecord, before: int, after: int, share: float) -> Contact:
    k, n = record.actor_tick[before], record.actor_tick[after]
    ego, other = _between(record, before, after, np.array([share]))
    normal = separation(ego, other)[1][0]
    speed = record.speed[k] + share * (record.speed[n] - record.speed[k])
    yaw = record.yaw[k] + share * _turn(record.yaw[n] - record.yaw[k])
    heading = np.array([np.cos(yaw), np.sin(yaw)])
    velocity = record.actor_velocity[before] + share * (record.actor_velocity[after] - record.actor_velocity[before])
    towards = float(speed * heading @ normal)
    ahead, left = float(heading @ normal), float(heading[0] * normal[1] - heading[1] * normal[0])
    side = "front" if ahead > _FRONT else "rear" if ahead < _REAR else "left" if left > 0 else "right"
    return Contact(
        time=float(record.time[k] + share * (record.time[n] - record.time[k])),
        actor_id=int(record.actor_id[before]),
        label=int(record.actor_label[before]),
        speed=float(towards - velocity @ normal),
        ego_speed=float(speed),
        side=side,
        at_fault=towards > _TOWARDS,
    )
