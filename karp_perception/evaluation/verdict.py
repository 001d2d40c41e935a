"""What came of a case: its measures and its checks, as a row of the summary."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from karp_perception.evaluation.carla_score import carla_score
from karp_perception.evaluation.checks import run_check
from karp_perception.evaluation.drive_record import DriveRecord
from karp_perception.evaluation.driving import (
    Contact,
    acceleration,
    braking_harder_than,
    contacts,
    gaps,
    jerk,
    times_to_collision,
)
from karp_perception.evaluation.lane_occupancy import LaneOccupancy
from karp_perception.evaluation.nuplan_score import NuplanScore, nuplan_score
from karp_perception.evaluation.perception_errors import what_perception_got_wrong
from karp_perception.evaluation.reaction import reaction

if TYPE_CHECKING:
    from karp_perception.world.scenarios.case import Case

NEEDLESS = 2.0
"""m/s²: harder braking than this in a clear scenario is needless hard braking."""

_KMH = 3.6  # km/h in a m/s
_ABOUT_CONTACT = ("no_contact", "contact_speed_below", "min_gap_at_least", "ttc_at_least", "lets_pass")


def verdict(case: Case, record: DriveRecord, expert: np.ndarray) -> dict[str, Any]:
    """One row.

    Args:
        case: that was driven.
        record: of the drive.
        expert: (E,) m along the route of the middle of the expert's vehicle, tick by tick; see `nuplan_score`.

    The score is 0 where the vehicle drove into something that it could have kept off, else the share of the checks
    that hold. In cases that nobody could get through without contact, contact takes off in proportion to its speed
    (1 at standstill, 0 at the speed of the start), and checks about contact are not asked.
    """
    touched = contacts(record)
    guilty = [c for c in touched if c.at_fault]
    gap, ttc = gaps(record), times_to_collision(record)
    a, clear = acceleration(record), case.kind.value == "clear"
    hard = braking_harder_than(record, NEEDLESS)
    outcomes = [run_check(record, check.name, check.parameters) for check in case.checks]
    asked = [o for o in outcomes if case.avoidable or o.name not in _ABOUT_CONTACT]
    passed = all(o.passed for o in asked)
    score = sum(o.passed for o in asked) / len(asked) if asked else 1.0
    if guilty and case.avoidable:
        score = 0.0
    elif guilty:
        score *= 1.0 - min(guilty[0].speed / max(record.speed[0], 1.0), 1.0)
    nearest = int(gap.argmin()) if len(gap) else -1
    lanes = LaneOccupancy(record)
    nuplan, carla = nuplan_score(record, expert, lanes=lanes), carla_score(record, expert, lanes)
    conflict = reaction(record)
    decisions, counts = np.unique(record.decision, return_counts=True)
    return {
        "case": case.name,
        "scenario": case.scenario,
        "group": case.group,
        "kind": case.kind.value,
        "sentence": case.sentence,
        "avoidable": case.avoidable,
        "passed": bool(passed),
        "score": round(float(score), 4),
        "nuplan_score": _rounded(nuplan.score),
        "nuplan": {name: _rounded(getattr(nuplan, name)) for name in (*NuplanScore.GATES, *NuplanScore.WEIGHTED)},
        "carla_score": _rounded(carla.score),
        "carla": {
            "completion": _rounded(carla.completion),
            "penalty": _rounded(carla.penalty),
            "outside": _rounded(carla.outside),
            "infractions": dict(carla.infractions),
        },
        "comfortable": bool(nuplan.comfort),
        "conflict_s": _rounded(conflict.time) if conflict else None,
        "reaction_s": _rounded(conflict.delay) if conflict and conflict.delay is not None else None,
        "contact": bool(guilty),
        "contact_speed_kmh": _rounded(guilty[0].speed * _KMH) if guilty else None,
        "contact_time_s": _rounded(guilty[0].time) if guilty else None,
        "contact_with": _name(record, guilty[0].actor_id) if guilty else None,
        "contact_side": guilty[0].side if guilty else None,
        "run_into": bool(touched) and not guilty,
        "min_gap_m": _rounded(gap[nearest]) if nearest >= 0 else None,
        "min_gap_to": _name(record, int(record.actor_id[nearest])) if nearest >= 0 else None,
        "min_ttc_s": _rounded(ttc.min()) if len(ttc) and np.isfinite(ttc.min()) else None,
        "max_deceleration": _rounded(max(0.0, float(-a.min()))),
        "max_jerk": _rounded(np.abs(jerk(record)).max()),
        "needless_braking": bool(clear and hard),
        "braking_because": _because(record, hard[0].begin) if hard else None,
        "moment_s": _moment(guilty, hard[0].begin if clear and hard else None),
        "perception_error": _perception_error(record, guilty, hard[0].begin if clear and hard else None),
        "checks": [{"name": o.name, "passed": o.passed, "found": o.found} for o in outcomes],
        "decisions": {str(k): int(n) for k, n in zip(decisions, counts, strict=True)},
        "took_ms": _took(record),
        "start_kmh": _rounded(record.speed[0] * _KMH),
        "end_kmh": _rounded(record.speed[-1] * _KMH),
        "duration_s": _rounded(record.time[-1]),
        "distance_m": _rounded(np.hypot(np.diff(record.x), np.diff(record.y)).sum()),
    }


def _perception_error(record: DriveRecord, guilty: list[Contact], needless: float | None) -> str | None:
    """What perception got wrong at the moment that decided, where it went wrong; None where it did not matter."""
    if guilty:
        return what_perception_got_wrong(record, guilty[0].time, guilty[0].actor_id)
    return None if needless is None else what_perception_got_wrong(record, needless)


def _took(record: DriveRecord) -> dict[str, float] | None:
    """Percentiles over frames of what the pipeline took here, ms."""
    known = record.took[np.isfinite(record.took)]
    return {f"p{q}": _rounded(1e3 * np.percentile(known, q)) for q in (50, 95, 99)} if len(known) else None


def _moment(guilty: list[Contact], needless: float | None) -> float | None:
    """s, when it was decided that a drive fails; None where no moment stands out."""
    moment = guilty[0].time if guilty else needless
    return None if moment is None else _rounded(moment)


def _because(record: DriveRecord, time: float) -> str:
    """The planner's reason when a braking began."""
    return record.reason[int(np.searchsorted(record.time, time))]


def _name(record: DriveRecord, number: int) -> str:
    named = {identity: name for name, identity in record.names.items()}
    return named.get(number, f"actor {number}")


def _rounded(value: float) -> float:
    return round(float(value), 3) + 0.0
