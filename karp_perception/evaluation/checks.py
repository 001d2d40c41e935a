"""What a scenario may demand of a drive: named checks with parameters, each a function of the drive's record."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from karp_perception.core.errors import ConfigurationError
from karp_perception.evaluation.drive_record import DriveRecord, project
from karp_perception.evaluation.driving import (
    Comfort,
    acceleration,
    braking_harder_than,
    contacts,
    gaps,
    jerk,
    lateral_acceleration,
    red_lights_passed,
    times_to_collision,
)

_KMH = 3.6  # km/h in a m/s
_STANDS = 0.3  # m/s


@dataclass(frozen=True)
class Outcome:
    """Whether a check holds, and in words what was found."""

    name: str
    passed: bool
    found: str


CheckFunction = Callable[..., tuple[bool, str]]
_CHECKS: dict[str, CheckFunction] = {}


def check(function: CheckFunction) -> CheckFunction:
    """Register a check under its function's name."""
    _CHECKS[function.__name__] = function
    return function


def check_names() -> tuple[str, ...]:
    """All there are."""
    return tuple(sorted(_CHECKS))


def check_parameters(name: str) -> dict[str, inspect.Parameter]:
    """The parameters of a check, by name. Raises ConfigurationError for one that does not exist."""
    if name not in _CHECKS:
        raise ConfigurationError(f"expected one of the checks {', '.join(check_names())}, got {name!r}")
    return dict(list(inspect.signature(_CHECKS[name]).parameters.items())[1:])


def run_check(record: DriveRecord, name: str, parameters: Mapping[str, Any]) -> Outcome:
    """What a check says of a drive."""
    passed, found = _CHECKS[name](record, **parameters)
    return Outcome(name, bool(passed), found)


@check
def no_contact(record: DriveRecord) -> tuple[bool, str]:
    """The vehicle drives into nothing; being run into by others is counted apart."""
    found = contacts(record)
    guilty = [c for c in found if c.at_fault]
    if guilty:
        first = guilty[0]
        return False, f"{first.side} contact at {first.time:.1f} s with {first.speed * _KMH:.0f} km/h"
    return True, "was run into" if found else "none"


@check
def contact_speed_below(record: DriveRecord, kmh: float) -> tuple[bool, str]:
    """Where contact cannot be avoided, it is at least slow."""
    speed = max((c.speed for c in contacts(record) if c.at_fault), default=0.0) * _KMH
    return speed < kmh, f"{speed:.0f} km/h"


@check
def min_gap_at_least(record: DriveRecord, m: float, to: str = "") -> tuple[bool, str]:
    """The least distance between the outlines of the vehicle and an actor (of all without `to`)."""
    gap = gaps(record)
    least = float(gap[record.rows_of(to)].min(initial=np.inf)) if to else float(gap.min(initial=np.inf))
    return least >= m, f"{least:.2f} m"


@check
def ttc_at_least(record: DriveRecord, s: float, to: str = "") -> tuple[bool, str]:
    """The least time to collision at the speeds of the moment (nuPlan's bound is 0.95 s)."""
    ttc = times_to_collision(record)
    least = float((ttc[record.rows_of(to)] if to else ttc).min(initial=np.inf))
    return least >= s, "none within 3 s" if np.isinf(least) else f"{least:.2f} s"


@check
def no_braking_harder_than(record: DriveRecord, mps2: float) -> tuple[bool, str]:
    """No deceleration above a bound: where braking is wrong, others behind do not expect it."""
    most = float(-acceleration(record).min())
    hard = braking_harder_than(record, mps2)
    if not hard:
        return True, f"{max(most, 0.0):.1f} m/s²"
    k = int(np.searchsorted(record.time, hard[0].begin))
    return False, f"{most:.1f} m/s² at {hard[0].begin:.1f} s: {record.reason[k]}"


@check
def keeps_going(record: DriveRecord, kmh: float) -> tuple[bool, str]:
    """Never slower than so much."""
    slowest = float(record.speed.min()) * _KMH
    return slowest >= kmh, f"{slowest:.0f} km/h"


@check
def comes_to_stand(record: DriveRecord, by_s: float = 1e9) -> tuple[bool, str]:
    """The vehicle stands at some time, not later than `by_s`."""
    standing = np.flatnonzero(record.speed < _STANDS)
    if not len(standing):
        return False, f"slowest {record.speed.min() * _KMH:.0f} km/h"
    return record.time[standing[0]] <= by_s, f"at {record.time[standing[0]]:.1f} s"


@check
def drives_on(record: DriveRecord, kmh: float = 5.0) -> tuple[bool, str]:
    """At the end of the drive the vehicle moves again."""
    last = float(record.speed[-1]) * _KMH
    return last >= kmh, f"{last:.0f} km/h at the end"


@check
def reaches(record: DriveRecord, along: float = 0.0, at: str = "") -> tuple[bool, str]:
    """The vehicle gets so many metres further than it began, or so many beyond a place."""
    ahead = record.along_and_offset[0]
    goal = along + (_place(record, at) if at else float(ahead[0]))
    return bool(ahead.max() >= goal), f"{ahead.max() - ahead[0]:.0f} m of {goal - ahead[0]:.0f} m"


@check
def stops_before(record: DriveRecord, at: str, by_s: float = 1e9) -> tuple[bool, str]:
    """The vehicle comes to stand before its front passes a place."""
    front = record.along_and_offset[0] + record.front - _place(record, at)
    standing = (record.speed < _STANDS) & (front <= 0) & (record.time <= by_s)
    if standing.any():
        k = int(standing.argmax())
        return True, f"stands at {record.time[k]:.1f} s, {-front[k]:.1f} m before it"
    passed = np.flatnonzero(front > 0)
    return False, f"passes it at {record.speed[passed[0]] * _KMH:.0f} km/h" if len(passed) else "does not stand"


@check
def passes_slower_than(record: DriveRecord, at: str, kmh: float) -> tuple[bool, str]:
    """Where the front passes a place (if it does), the speed is at most so much."""
    front = record.along_and_offset[0] + record.front - _place(record, at)
    passed = np.flatnonzero(front > 0)
    if not len(passed):
        return True, "does not get there"
    speed = float(record.speed[passed[0]]) * _KMH
    return speed <= kmh, f"{speed:.0f} km/h"


@check
def obeys_lights(record: DriveRecord) -> tuple[bool, str]:
    """The front passes no stop line on the route while its light is red."""
    passed = red_lights_passed(record)
    if passed:
        return False, f"passes red at {passed[0].time:.1f} s with {passed[0].speed * _KMH:.0f} km/h"
    return True, "no red light passed"


@check
def lets_pass(record: DriveRecord, first: str) -> tuple[bool, str]:
    """An actor that crosses the route does so before the vehicle gets there, or while it is still far.

    It fails when the vehicle's outline is on the actor's way before the actor's rear has left the vehicle's way.
    """
    rows = record.rows_of(first)
    along, offset = project(record.route, np.stack([record.actor_x[rows], record.actor_y[rows]], axis=1))
    reach = 0.5 * (record.width + np.maximum(record.actor_width[rows], record.actor_length[rows])) + 0.2
    inside = np.flatnonzero(np.abs(offset) < reach)
    if not len(inside):
        return True, "it does not cross"
    meeting = float(np.median(along[inside]))
    tick = record.actor_tick[rows]
    front = record.along_and_offset[0] + record.front
    half = 0.5 * float(record.actor_width[rows[0]])
    there = np.flatnonzero(front > meeting - half)
    left_at = record.time[tick[inside[-1]]]
    gone = inside[-1] < len(rows) - 1
    if not len(there) or (gone and record.time[there[0]] >= left_at):
        return True, "goes after it"
    return False, f"goes first, at {record.time[there[0]]:.1f} s"


@check
def keeps_lane(record: DriveRecord, m: float = 0.6) -> tuple[bool, str]:
    """How far `base_link` strays from the middle of the route."""
    _, offset = record.along_and_offset
    most = float(np.abs(offset).max())
    return most <= m, f"{most:.2f} m"


@check
def follows(record: DriveRecord, to: str, least_s: float = 0.8, most_s: float = 4.0) -> tuple[bool, str]:
    """In the last quarter of the drive the time gap to an actor ahead (gap by own speed) lies between two bounds."""
    rows = record.rows_of(to)
    rows = rows[record.actor_tick[rows] >= 0.75 * len(record)]
    moving = rows[record.speed[record.actor_tick[rows]] > 1.0]
    if not len(moving):
        return False, "not behind it at the end"
    gap = float(np.median(gaps(record)[moving] / record.speed[record.actor_tick[moving]]))
    return least_s <= gap <= most_s, f"{gap:.1f} s"


@check
def decides(record: DriveRecord, kind: str, from_s: float = 0.0, to_s: float = 1e9) -> tuple[bool, str]:
    """The planner says so at some time in between."""
    when = (record.time >= from_s) & (record.time <= to_s)
    said = sorted({str(d) for d in record.decision[when]})
    return kind in said, ", ".join(said)


@check
def comfort(record: DriveRecord) -> tuple[bool, str]:
    """Within nuPlan's bounds of acceleration, deceleration, sideways acceleration and jerk."""
    bounds, a = Comfort(), acceleration(record)
    found = (-float(a.min()), float(a.max()), float(np.abs(lateral_acceleration(record)).max()))
    shaken = float(np.abs(jerk(record)).max())
    held = found[0] <= bounds.deceleration and found[1] <= bounds.acceleration and found[2] <= bounds.lateral
    return held and shaken <= bounds.jerk, f"braking {found[0]:.1f}, jerk {shaken:.1f}"


def _place(record: DriveRecord, name: str) -> float:
    if name not in record.places:
        raise ConfigurationError(f"the route has no {name!r}, only {', '.join(sorted(record.places)) or 'nothing'}")
    return record.places[name]
