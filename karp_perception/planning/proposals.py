"""What the vehicle could do: sideways places on the road times ways to choose the speed (after PDM-Closed).

Dauner et al., Parting with Misconceptions about Learning-based Vehicle Motion Planning, CoRL 2023.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from karp_perception.core import DecisionKind, Plan, Vehicle
from karp_perception.core.settings import Settings, setting
from karp_perception.planning.corridor import Corridor
from karp_perception.planning.hazards import Hazard
from karp_perception.planning.idm import IdmSettings
from karp_perception.planning.reference_line import ReferenceLine
from karp_perception.planning.trajectory import MotionLimits, SpeedProfile, brake, follow

LANE = "lane"
"""Name of the way along the route itself."""


@dataclass(frozen=True)
class ProposalSettings(Settings):
    """Which proposals are made."""

    offset: float = setting(0.8, "sideways, to either side, within the lane", unit="m", low=0.0, high=3.0)
    unmapped_offset: float = setting(0.0, "the same where no map says how wide it is", unit="m", low=0.0, high=3.0)
    speeds: tuple = setting((1.0, 0.8, 0.6, 0.4, 0.2), "shares of the speed limit that are tried", low=0.0, high=1.0)
    crossing_before: float = setting(1.0, "time kept before something crosses", unit="s", low=0.0, high=5.0)
    crossing_after: float = setting(0.5, "and after", unit="s", low=0.0, high=5.0)
    margin: float = setting(0.5, "kept to what is passed there", unit="m", low=0.0, high=3.0)
    lane_changes: bool = setting(True, "use lanes beside the route's own, where the map has some")
    patience: float = setting(3.0, "time behind what stands until another lane is used", unit="s", low=0.0, high=60.0)


@dataclass(frozen=True)
class Way:
    """A place sideways to drive at, and what is in the way there.

    Attributes:
        name: LANE, or where it lies.
        corridor: along it.
        bound: (M,) m/s, highest speed at the line's points for bends and the limit.
        hazards: in the corridor, nearest first; the goal of the route among them.
    """

    name: str
    corridor: Corridor
    bound: np.ndarray
    hazards: Sequence[Hazard]


@dataclass(frozen=True)
class Proposal:
    """One way at one policy for the speed.

    Attributes:
        way: index among the ways. way_name: what it is called.
        policy: for the speed: a share of the limit, or a stop.
        profile: speeds.
        hazards: those that the profile heeds; its `cause` counts them.
        share: of the speed limit that is driven at most; 0 for a stop.
    """

    way: int
    way_name: str
    policy: str
    profile: SpeedProfile
    hazards: Sequence[Hazard]
    share: float

    @property
    def name(self) -> str:
        """Unique among the proposals of a step."""
        return f"{self.way_name} {self.policy}"


def proposals(
    ways: Sequence[Way],
    speed: float,
    acceleration: float,
    limit: float,
    last: Plan | None,
    vehicle: Vehicle,
    settings: ProposalSettings,
    idm: IdmSettings,
    limits: MotionLimits,
) -> list[Proposal]:
    """Every way at every share of the limit, behind what leads and after what crosses; and stops on the first way.

    Args:
        ways: the first is the route itself.
        speed, acceleration: of the vehicle along its way now, m/s and m/s².
        limit: m/s.
        last: the plan of the step before, to be patient with whom it yielded to.
    """
    found = []
    for number, way in enumerate(ways):
        heeded = _heeded(way, speed, acceleration, last, settings, idm, limits)
        for share in settings.speeds:
            bound = np.minimum(way.bound, _eased(way.corridor.line, speed, share * limit, limits))
            profile = follow(speed, acceleration, heeded, way.corridor.line, bound, idm, limits)
            found.append(Proposal(number, way.name, f"{share:.0%}", profile, heeded, share))
    for name, deceleration in (("stop", vehicle.comfortable_deceleration), ("hard stop", limits.deceleration)):
        profile = brake(speed, acceleration, deceleration, limits.jerk, limits)
        found.append(Proposal(0, ways[0].name, name, profile, ways[0].hazards, 0.0))
    return found


def _eased(line: ReferenceLine, speed: float, wanted: float, limits: MotionLimits) -> np.ndarray:
    """(M,) m/s: down to a wanted speed by calm braking from now on."""
    gain = 2 * limits.calm_deceleration * np.maximum(line.distance, 0.0)
    return np.maximum(wanted, np.sqrt(np.maximum(speed**2 - gain, 0.0)))


def _heeded(
    way: Way,
    speed: float,
    acceleration: float,
    last: Plan | None,
    settings: ProposalSettings,
    idm: IdmSettings,
    limits: MotionLimits,
) -> list[Hazard]:
    """All that leads, and what crosses where the vehicle at full speed would be there at about the same time.

    Slower proposals heed the same: who could pass behind somebody by being slow would speed up again a moment later.
    """
    line = way.corridor.line
    heeded = [h for h in way.hazards if not h.crossing]
    crossing = [h for h in way.hazards if h.crossing]
    for _ in range(2):  # yielding to one may bring the vehicle in the way of another
        profile = follow(speed, acceleration, heeded, line, way.bound, idm, limits)
        conflicts = [h for h in crossing if _conflict(h, profile, way, last, settings, idm)]
        if not conflicts:
            break
        crossing = [h for h in crossing if h not in conflicts]
        after = settings.crossing_after
        heeded = heeded + [replace(h, occupied=(h.occupied[0], h.occupied[1] + after)) for h in conflicts]
    return heeded


def _conflict(
    hazard: Hazard, profile: SpeedProfile, way: Way, last: Plan | None, settings: ProposalSettings, idm: IdmSettings
) -> bool:
    """Whether the vehicle would be where the hazard crosses, at about the time when it does.

    Who was yielded to a moment ago is given twice the time, so as not to hesitate at the edge of it.
    """
    decision = last.decision if last else None
    patient = decision is not None and decision.kind == DecisionKind.YIELD and decision.target_id == hazard.track_id
    share = 2.0 if patient else 1.0
    begin, end = hazard.occupied
    begin, end = begin - share * settings.crossing_before, end + share * settings.crossing_after
    when = (profile.time >= begin) & (profile.time <= end)
    reached = profile.distance >= hazard.gap - idm.min_gap
    passed = profile.distance - way.corridor.vehicle.length > hazard.far
    return bool((when & reached & ~passed).any())
