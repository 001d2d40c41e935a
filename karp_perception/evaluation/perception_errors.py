"""What perception got wrong at the moment that decided a drive: something missed, something that is not, a speed."""

from __future__ import annotations

import numpy as np

from karp_perception.core import class_name
from karp_perception.evaluation.drive_record import DriveRecord, project
from karp_perception.evaluation.reaction import SEEN

_BEFORE_CONTACT = 3.0  # s before a contact in which it could have been avoided
_TOO_LATE = 0.5  # s before it in which it could not any more
_BEFORE_BRAKING = 0.5  # s before a braking in which its reason appeared
_MATCH = 2.0  # m between the middles of an object and what it is taken for, at least
_MISSED = 0.5  # share of the ticks without a match from which something was missed
_SPEED = 1.5  # m/s by which a velocity has to be wrong to matter
_BESIDE = 1.0  # m by which a place across the route has to be wrong to matter
_WAY = 2.5  # m beside the route within which something is in the way


def what_perception_got_wrong(record: DriveRecord, time: float, actor_id: int | None = None) -> str | None:
    """One sentence; None where the record has no perception in it, which then was perfect.

    Args:
        record: of the drive.
        time: s, of the contact, or of the beginning of a needless braking.
        actor_id: who was touched; None for a braking.
    """
    if not len(record.seen_tick):
        return None
    if actor_id is not None:
        return _before_contact(record, time, actor_id)
    return _before_braking(record, time)


def _before_contact(record: DriveRecord, time: float, actor_id: int) -> str:
    name = _name(record, actor_id)
    rows = np.flatnonzero(record.actor_id == actor_id)
    when = record.time[record.actor_tick[rows]]
    rows = rows[(when >= time - _BEFORE_CONTACT) & (when <= time - _TOO_LATE) & (record.visibility[rows] > SEEN)]
    if not len(rows):
        return f"{name} was in sight too late: what sensors could see of it came less than {_TOO_LATE} s before"
    match = np.array([_matched(record, int(row)) for row in rows])
    share = float((match < 0).mean())
    if share >= _MISSED:
        first = record.time[record.actor_tick[rows[0]]]
        known = rows[match >= 0]
        seen = (
            "never" if not len(known) else f"only from {time - record.time[record.actor_tick[known[0]]]:.1f} s before"
        )
        return (
            f"missed: {name}, in sight {time - first:.1f} s before contact, was seen {seen} ({share:.0%} of the time)"
        )
    own, other = rows[match >= 0], match[match >= 0]
    wrong = np.hypot(record.seen_vx[other] - record.actor_vx[own], record.seen_vy[other] - record.actor_vy[own])
    k = int(np.argsort(wrong)[len(wrong) // 2])
    if wrong[k] > _SPEED:
        taken = np.hypot(record.seen_vx[other[k]], record.seen_vy[other[k]])
        true, before = np.hypot(*record.actor_velocity[own[k]]), time - record.time[record.actor_tick[own[k]]]
        return (
            f"wrong speed: {name} was taken to move at {taken:.1f} m/s, truly {true:.1f} m/s, {before:.1f} s before "
            "contact"
        )
    place = _offset(record, record.seen_x[other], record.seen_y[other]) - _offset(
        record, record.actor_x[own], record.actor_y[own]
    )
    aside = float(np.median(place))
    if abs(aside) > _BESIDE:
        return f"wrong place: {name} was taken to be {abs(aside):.1f} m farther {'left' if aside > 0 else 'right'}"
    return f"perception knew of {name} in time: where it was and how it moved"


def _before_braking(record: DriveRecord, time: float) -> str:
    first = int(np.searchsorted(record.time, time - _BEFORE_BRAKING))
    last = int(np.searchsorted(record.time, time, side="right"))
    ticks = range(first, max(last, first + 1))
    rows = [row for tick in ticks if (row := _reason(record, tick)) is not None]
    if not rows:
        return "perception saw nothing in the way"
    row = rows[-1]
    what, tick = class_name(int(record.seen_label[row])), int(record.seen_tick[row])
    ahead = float(np.hypot(record.seen_x[row] - record.x[tick], record.seen_y[row] - record.y[tick]))
    there = np.flatnonzero(record.actor_tick == tick)
    away = np.hypot(record.actor_x[there] - record.seen_x[row], record.actor_y[there] - record.seen_y[row])
    reach = np.maximum(_MATCH, 0.5 * record.actor_length[there])
    near = np.flatnonzero(away < reach)
    if not len(near):
        return f"phantom: a {what} was seen {ahead:.0f} m ahead where nothing is"
    true = there[near[np.argmin(away[near])]]
    name = _name(record, int(record.actor_id[true]))
    seen = np.array([record.seen_vx[row], record.seen_vy[row]])
    if np.hypot(*(seen - record.actor_velocity[true])) > _SPEED:
        return (
            f"wrong speed: {name}, {ahead:.0f} m ahead, was taken to move at {np.hypot(*seen):.1f} m/s, truly "
            f"{np.hypot(*record.actor_velocity[true]):.1f} m/s"
        )
    aside = _offset(record, record.seen_x[[row]], record.seen_y[[row]]) - _offset(
        record, record.actor_x[[true]], record.actor_y[[true]]
    )
    if abs(float(aside[0])) > _BESIDE:
        return f"wrong place: {name} was taken to be {abs(float(aside[0])):.1f} m nearer to the way"
    return f"perception was right about {name}, {ahead:.0f} m ahead"


def _reason(record: DriveRecord, tick: int) -> int | None:
    """Row of what the planner named, else of the nearest thing seen in the way ahead."""
    rows = np.flatnonzero(record.seen_tick == tick)
    named = rows[record.seen_id[rows] == record.target[tick]]
    if len(named):
        return int(named[0])
    offset = np.abs(_offset(record, record.seen_x[rows], record.seen_y[rows]))
    away = np.stack([record.seen_x[rows] - record.x[tick], record.seen_y[rows] - record.y[tick]], axis=1)
    ahead = away @ (np.cos(record.yaw[tick]), np.sin(record.yaw[tick]))
    rows, ahead = rows[(offset < _WAY) & (ahead > 0)], ahead[(offset < _WAY) & (ahead > 0)]
    return int(rows[np.argmin(ahead)]) if len(rows) else None


def _matched(record: DriveRecord, row: int) -> int:
    """Row of what perception took an actor's row for, -1 for nothing near it in that tick."""
    seen = np.flatnonzero(record.seen_tick == record.actor_tick[row])
    if not len(seen):
        return -1
    away = np.hypot(record.seen_x[seen] - record.actor_x[row], record.seen_y[seen] - record.actor_y[row])
    k = int(away.argmin())
    return int(seen[k]) if away[k] < max(_MATCH, 0.5 * record.actor_length[row]) else -1


def _offset(record: DriveRecord, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(N,) m to the left of the route."""
    return project(record.route, np.stack([x, y], axis=1))[1]


def _name(record: DriveRecord, number: int) -> str:
    named = {identity: name for name, identity in record.names.items()}
    rows = np.flatnonzero(record.actor_id == number)
    kind = class_name(int(record.actor_label[rows[0]])) if len(rows) else "actor"
    return f"{kind} {named.get(number, number)}"
