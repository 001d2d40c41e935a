"""The driving score of the CARLA leaderboard 2.0: route completion times a factor for each infraction.

Factors and rules are those of github.com/carla-simulator/leaderboard, branch `leaderboard-2.0`
(`leaderboard/utils/statistics_manager.py`) and of scenario_runner's criteria. What differs:

- The route to be completed is what `drive.expert`'s driver gets along in the time the case lasts.
- The world has no stop signs and no emergency vehicles; the factor for keeping up with traffic is left out, as in the
  leaderboard since 2.1.
- A drive ends soon after its first contact; in CARLA it would go on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from karp_perception.core import ObjectClass
from karp_perception.evaluation.drive_record import DriveRecord, route_progress
from karp_perception.evaluation.driving import contacts, red_lights_passed
from karp_perception.evaluation.lane_occupancy import LaneOccupancy

VERSION = "CARLA leaderboard 2.0"

FACTORS: Mapping[str, float] = {
    "contact_with_pedestrian": 0.5,
    "contact_with_vehicle": 0.6,
    "contact_with_thing": 0.65,
    "red_light": 0.7,
}
"""What each infraction leaves of the score."""

_STANDING = 0.1  # m/s: who is slower is not held to account for a contact
_LEAST_WAY = 2.0  # m: an expert that gets less far hardly moves, and neither need the vehicle


@dataclass(frozen=True)
class CarlaScore:
    """The score, 0 to 1 (the leaderboard says per cent), and its terms.

    Attributes:
        score: completion times penalty.
        completion: share of the route that was driven.
        penalty: product of the factors of all infractions and of the share driven in lanes, and not against them.
        infractions: how many, by their names in `FACTORS`. outside: share of the way driven outside lanes or against
            them.
    """

    score: float
    completion: float
    penalty: float
    infractions: Mapping[str, int]
    outside: float


def carla_score(record: DriveRecord, expert: np.ndarray, lanes: LaneOccupancy | None = None) -> CarlaScore:
    """Score a drive.

    Args:
        record: with the lanes of the place.
        expert: (E,) m along the route of the expert's middle, tick by tick for as long as the case lasts.
        lanes: of the record, where that is known already.
    """
    along = route_progress(record.route, record.ego_center)
    whole = max(float(expert[-1] - expert[0]), _LEAST_WAY)
    completion = float(np.clip(max(along[-1] - along[0], _LEAST_WAY) / whole, 0.0, 1.0))
    found = dict.fromkeys(FACTORS, 0)
    for contact in contacts(record):
        if abs(contact.ego_speed) > _STANDING:
            found[_with(contact.label)] += 1
    found["red_light"] = len(red_lights_passed(record))
    outside = _outside(record, lanes or LaneOccupancy(record))
    penalty = (1.0 - outside) * math.prod(FACTORS[name] ** count for name, count in found.items())
    return CarlaScore(completion * penalty, completion, penalty, found, outside)


def _with(label: int) -> str:
    if label == ObjectClass.PEDESTRIAN:
        return "contact_with_pedestrian"
    thing = label in (ObjectClass.TRAFFIC_CONE, ObjectClass.BARRIER)
    return "contact_with_thing" if thing else "contact_with_vehicle"


def _outside(record: DriveRecord, lanes: LaneOccupancy) -> float:
    """Share of the way on which the vehicle's middle is in no lane, or in one that leads the other way."""
    if not record.lanes:
        return 0.0
    wrong = (lanes.lane < 0) | lanes.against(record.yaw)
    way = np.hypot(np.diff(record.x), np.diff(record.y))
    return float(way[wrong[1:]].sum() / way.sum()) if way.sum() > 0 else 0.0
