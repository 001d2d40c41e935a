"""What the vehicle could do: sideways places on the road times ways to choose the speed (after PDM-Closed).

Dauner et al., Parting with Misconceptions about Learning-based Vehicle Motion Planning, CoRL 2023.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from karp_perception.core import DecisionKind, EgoState, Plan, Vehicle
from karp_perception.core.settings import Settings, setting
from karp_perception.planning.corridor import Corridor, Sideways
from karp_perception.planning.hazards import Hazard
from karp_perception.planning.idm import IdmSettings
from karp_perception.planning.reference_line import ReferenceLine
from karp_perception.planning.road_raster import RoadRaster
from karp_perception.planning.surroundings import Surroundings
from karp_perception.planning.trajectory import MotionLimits, SpeedProfile, brake, follow

_FIRST_M = 1.0  # m in the way of what joins, from which one was there first
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
    joining_before: float = setting(2.5, "time kept before what comes in behind", unit="s", low=0.0, high=10.0)
    margin: float = setting(0.5, "kept to what is passed there", unit="m", low=0.0, high=3.0)
    lane_changes: bool = setting(True, "use lanes beside the route's own, where the map has some")
    berth: float = setting(7.0, "kept before what stands, where another lane is there", unit="m", low=0.0, high=20.0)
    patience: float = setting(3.0, "time behind what stands until another lane is used", unit="s", low=0.0, high=60.0)
    learned: str = setting("none", "weights of a network that adds proposals: a name, a file, or none")


@dataclass(frozen=True)
class Way:
    """A place sideways to drive at, and what is in the way there.

    Attributes:
        name: LANE, or where it lies.
        corridor: along it.
        bound: (M,) m/s, highest speed at the line's points for bends and the limit.
        hazards: in the corridor, nearest first; the goal of the route among them.
        side: "left" or "right", where it leads beside the route; empty where it does not.
    """

    name: str
    corridor: Corridor
    bound: np.ndarray
    hazards: Sequence[Hazard]
    side: str = ""


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


@dataclass(frozen=True)
class Idea:
    """A way of its own, and how fast at most.

    Attributes:
        name: of the way. policy: what is to be done there, in a word.
        sideways: where the way runs beside the line.
        side: "left" or "right", where it leads beside the route; empty where it does not.
        most: (T,) m/s² at the steps of a profile, by which is accelerated at most. What is in the way, the limit and
            bends are heeded anyway.
    """

    name: str
    policy: str
    sideways: Sideways
    side: str
    most: np.ndarray


@dataclass(frozen=True)
class Moment:
    """All that ideas can come from.

    Attributes:
        line: of the route, in `base_link`.
        around: what is around, seen from it.
        ways, options: what is proposed already; the first way is the route itself, the first proposal free driving.
        ego: the vehicle's motion.
        speed, acceleration: along its way, m/s and m/s².
        limit: m/s.
        room: m to the left of the line, from where to where the vehicle may drive in its lane, and in those that are
            thought of now.
        raster: where one may drive; None where there is no map.
        carry_out: an idea, and the index that its way has -> the way, and the proposal on it.
    """

    line: ReferenceLine
    around: Surroundings
    ways: Sequence[Way]
    options: Sequence[Proposal]
    ego: EgoState
    speed: float
    acceleration: float
    limit: float
    room: tuple[float, float]
    raster: RoadRaster | None
    carry_out: Callable[[Idea, int], tuple[Way, Proposal]]


class Proposer(Protocol):
    """Has ideas. What comes of them joins the other proposals, and the same scorer judges all."""

    def propose(self, moment: Moment) -> Sequence[Idea]:
        """Ideas for this moment, with names of ways that differ from each other and from those of the moment."""


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
        hazards = heeded(way, speed, acceleration, last, settings, idm, limits)
        for share in settings.speeds:
            bound = np.minimum(way.bound, _eased(way.corridor.line, speed, share * limit, limits))
            profile = follow(speed, acceleration, hazards, way.corridor.line, bound, idm, limits)
            found.append(Proposal(number, way.name, f"{share:.0%}", profile, hazards, share))
    calm, hard = (vehicle.comfortable_deceleration, limits.jerk), (limits.deceleration, limits.urgent_jerk)
    for name, braking in (("stop", calm), ("hard stop", hard)):
        profile = brake(speed, acceleration, *braking, limits)
        found.append(Proposal(0, ways[0].name, name, profile, ways[0].hazards, 0.0))
    return found


def carried_out(
    idea: Idea,
    number: int,
    way: Way,
    speed: float,
    acceleration: float,
    limit: float,
    last: Plan | None,
    settings: ProposalSettings,
    idm: IdmSettings,
    limits: MotionLimits,
) -> Proposal:
    """The proposal that comes of an idea on its way, which has that number among the ways; see `proposals`.

    Who comes to stand for no reason but the idea merely stops.
    """
    hazards = heeded(way, speed, acceleration, last, settings, idm, limits)
    profile = follow(speed, acceleration, hazards, way.corridor.line, way.bound, idm, limits, idea.most)
    share = min(float(profile.speed.max()) / max(limit, 0.1), 1.0)
    if profile.speed[-1] <= 0.0:
        free = follow(speed, acceleration, hazards, way.corridor.line, way.bound, idm, limits)
        share = 0.0 if free.speed[-1] > 0.0 else share
    return Proposal(number, way.name, idea.policy, profile, hazards, share)


def _eased(line: ReferenceLine, speed: float, wanted: float, limits: MotionLimits) -> np.ndarray:
    """(M,) m/s: down to a wanted speed by calm braking from now on."""
    gain = 2 * limits.calm_deceleration * np.maximum(line.distance, 0.0)
    return np.maximum(wanted, np.sqrt(np.maximum(speed**2 - gain, 0.0)))


def heeded(
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
    found = [h for h in way.hazards if not h.crossing]
    crossing = [h for h in way.hazards if h.crossing]
    for _ in range(2):  # yielding to one may bring the vehicle in the way of another
        profile = follow(speed, acceleration, found, line, way.bound, idm, limits)
        conflicts = [h for h in crossing if _conflict(h, profile, way, last, settings, idm)]
        if not conflicts:
            break
        crossing = [h for h in crossing if h not in conflicts]
        after = settings.crossing_after
        found = found + [replace(h, occupied=(h.occupied[0], h.occupied[1] + after)) for h in conflicts]
    return found


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
    before = settings.joining_before if hazard.joins else share * settings.crossing_before
    begin, end = begin - before, end + share * settings.crossing_after
    when = (profile.time >= begin) & (profile.time <= end)
    length = way.corridor.vehicle.length
    reached = profile.distance >= hazard.gap - idm.min_gap
    # Of two that go the same way on, the first leads; what crosses has to be left behind altogether.
    passed = profile.distance > hazard.gap + _FIRST_M if hazard.joins else profile.distance - length > hazard.far
    return bool((when & reached & ~passed).any())
