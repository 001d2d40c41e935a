"""How soon a vehicle brakes after a conflict can be seen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from karp_perception.evaluation.drive_record import DriveRecord
from karp_perception.evaluation.driving import acceleration
from karp_perception.evaluation.footprints import time_to_contact

SEEN = 0.02
"""Share of an object that must be in sight for it to be known of."""

NEED = 2.0
"""m/s²: from when more than so much braking is needed, something is a conflict: what is comfortable no longer does."""

_BRAKES = 0.5  # m/s²: less is coasting
_HORIZON = 6.0  # s: contacts later than this are none of now


@dataclass(frozen=True)
class Reaction:
    """A conflict and the answer to it.

    Attributes:
        time: s, when the conflict begins. actor_id: with whom.
        delay: s until the vehicle brakes, 0 where it did already; None where it never does.
    """

    time: float
    actor_id: int
    delay: float | None


def reaction(record: DriveRecord) -> Reaction | None:
    """The first conflict with one of the scenario's own actors; None where there is none.

    A conflict is with somebody in sight whom the vehicle would touch if both went on as they do, and so soon that it
    would need more than `NEED` to lose the speed between both by then.
    """
    rows = np.flatnonzero(np.isin(record.actor_id, list(record.names.values())) & (record.visibility > SEEN))
    if not len(rows):
        return None
    tick = record.actor_tick[rows]
    own, other = record.ego_velocity[tick], record.actor_velocity[rows]
    ttc = time_to_contact(record.ego_corners[tick], own, record.actor_corners[rows], other)
    between = np.hypot(*(own - other).T)
    conflict = (ttc < _HORIZON) & (between > 2.0 * NEED * ttc)
    if not conflict.any():
        return None
    first = rows[conflict.argmax()]
    begin = int(record.actor_tick[first])
    braking = np.flatnonzero(acceleration(record)[begin:] < -_BRAKES)
    delay = float(record.time[begin + braking[0]] - record.time[begin]) if len(braking) else None
    return Reaction(float(record.time[begin]), int(record.actor_id[first]), delay)
