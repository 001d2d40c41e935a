"""The ways that are worth a thought: the route itself, and places beside it where something holds the vehicle up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from karp_perception.core import EgoState, Vehicle
from karp_perception.planning.corridor import Approach, Corridor, Sideways
from karp_perception.planning.hazard_memory import Confirmed, HazardMemory
from karp_perception.planning.hazards import Hazard, find_hazards
from karp_perception.planning.proposals import LANE, Idea, Way
from karp_perception.planning.reference_line import ReferenceLine
from karp_perception.planning.road_ahead import SIDES
from karp_perception.planning.settings import PlannerSettings
from karp_perception.planning.start import Start
from karp_perception.planning.surroundings import Surroundings
from karp_perception.planning.trajectory import speed_bound

_SHALLOW = 3.4  # m ahead for each m sideways, at least
_LEAST_REACH = 0.4  # of the way to a place beside that is always left to get there
_ON_LINE = 0.2  # m from the line, within which the vehicle is on it
_OUT_OF_LANE = 1.0  # m from the line, beyond which the vehicle is in another lane in part
_SLOW = 0.5  # m/s: who is held up
_NEAR_STOP = 60.0  # m to a stop line or the goal, nearer than which who stands ahead waits for it as well
_IN_LANE = (LANE, *SIDES)


@dataclass(frozen=True)
class Scene:
    """What ways are made of.

    Attributes:
        line: in `base_link`.
        around: what is around, seen from it.
        stops: what one has to stop for wherever one drives: lights, signs, the goal.
        start: how the vehicle moves now.
    """

    line: ReferenceLine
    around: Surroundings
    stops: Sequence[Hazard]
    start: Start


class Ways:
    """Finds ways from moment to moment; remembers hazards, the way that was taken, and how long it has been held up.

    Args:
        settings: of the planner. vehicle: that drives.
    """

    def __init__(self, settings: PlannerSettings, vehicle: Vehicle) -> None:
        self.settings, self.vehicle = settings, vehicle
        self.reset()

    def reset(self) -> None:
        """Forget everything about earlier moments."""
        self.taken: str | None = None
        """Name of the way that was driven until now."""
        self.confirmed = Confirmed()
        """What is made of the hazards along the route itself."""
        self._memory = HazardMemory(self.settings.hazards, self.settings.harmless, self.vehicle)
        self._reach = 0.0
        self._held = 0.0

    def take(self, way: Way | None) -> None:
        """To be told which way is driven now; None for none of them."""
        self.taken = None if way is None else way.name
        approach = None if way is None else way.corridor.approach
        self._reach = approach.length if isinstance(approach, Approach) else 0.0

    def found(self, scene: Scene, places: Sequence[tuple[str, float]], here: Approach, ego: EgoState) -> list[Way]:
        """The route itself first, then places beside it that are worth a thought.

        Args:
            places: see `RoadAhead.places`.
            here: how the vehicle's own way runs beside the line, see `Start.beside`.
        """
        settings, start = self.settings, scene.start
        other_lanes = any(name not in _IN_LANE for name, _ in places)
        (_, middle), *beside = places
        corridor = self._corridor(scene, self._approach(LANE, middle, here, start), settings.lateral_margin)
        seen = find_hazards(scene.around, corridor, settings.hazards)
        self.confirmed = self._memory.confirmed(seen, start.speed, ego, start.dt)
        lane = self._way(scene, LANE, corridor, self.confirmed.hazards, other_lanes)
        ways = [lane]
        for name, target in beside:
            if self._worth_it(name, lane, here.offset):
                approach = self._approach(name, target, here, start)
                ways.append(self._beside(scene, name, approach, name, other_lanes and name in _IN_LANE))
        held = self._stands_in_the_way(lane.hazards) and start.speed < _SLOW
        self._held = self._held + start.dt if held else 0.0
        return ways

    def of_idea(self, idea: Idea, scene: Scene) -> Way:
        """The way that an idea leads along. Depends on nothing that is remembered."""
        return self._beside(scene, idea.name, idea.sideways, idea.side, berth=True)

    def _approach(self, name: str, target: float, here: Approach, start: Start) -> Approach:
        """From where the vehicle is to a place."""
        settings = self.settings
        reach = settings.return_time * start.speed
        reach = max(settings.return_distance, reach, _SHALLOW * abs(here.offset - target))
        if name == self.taken and name != LANE:  # under way: to be there where it was meant to be
            reach = max(self._reach - start.speed * start.dt, _LEAST_REACH * reach)
        return replace(here, length=reach, target=target)

    def _corridor(self, scene: Scene, sideways: Sideways, margin: float) -> Corridor:
        return Corridor(scene.line, self.vehicle, margin, float(scene.line.distance[-1]), sideways)

    def _beside(self, scene: Scene, name: str, sideways: Sideways, side: str, berth: bool) -> Way:
        """A way beside the route's own; what is in it need not be seen twice to count."""
        corridor = self._corridor(scene, sideways, self.settings.proposals.margin)
        hazards = find_hazards(scene.around, corridor, self.settings.hazards)
        return self._way(scene, name, corridor, hazards, berth, side)

    def _way(
        self, scene: Scene, name: str, corridor: Corridor, hazards: Sequence[Hazard], berth: bool, side: str = ""
    ) -> Way:
        start = scene.start
        bound = speed_bound(scene.line, corridor.approach, start.speed, start.limit, self.settings.limits)
        heeded = sorted([*hazards, *scene.stops], key=Hazard.order)
        return Way(name, corridor, bound, self._with_berth(heeded) if berth else heeded, side)

    def _worth_it(self, place: str, lane: Way, offset: float) -> bool:
        """Whether to think of a place beside the route: to pass what stands in the way, and until back from there.

        For another lane only after long enough behind it.
        """
        standing = self.settings.decision.standing
        blocked = any(not h.title and not h.crossing and abs(h.speed) < standing for h in lane.hazards)
        if place in SIDES:
            return blocked or abs(offset) > _ON_LINE
        return self._held >= self.settings.proposals.patience or self.taken == place or abs(offset) > _OUT_OF_LANE

    def _stands_in_the_way(self, hazards: Sequence[Hazard]) -> bool:
        """Whether the nearest thing stands there by itself, rather than before a stop line or the goal."""
        ahead = [h for h in hazards if not h.crossing]
        if not ahead or ahead[0].title or not ahead[0].known or abs(ahead[0].speed) >= self.settings.decision.standing:
            return False
        return not any(h.title and h.gap < _NEAR_STOP for h in ahead)

    def _with_berth(self, hazards: list[Hazard]) -> list[Hazard]:
        """The hazards, with room before the nearest where it may have to be driven around."""
        if not self._stands_in_the_way(hazards):
            return hazards
        berth = self.settings.proposals.berth
        return [replace(h, berth=min(berth, h.gap)) if not h.crossing else h for h in hazards]


def room(ways: Sequence[Way], places: Sequence[tuple[str, float]]) -> tuple[float, float]:
    """How far to the right and to the left of the line (m) ideas may lead: in the lane, and where ways lead now."""
    thought_of = {way.name for way in ways}
    offsets = [offset for name, offset in places if name in SIDES or name in thought_of]
    return min(offsets), max(offsets)
