"""The planner: objects, obstacles, own motion and a route become a trajectory and a decision with its reason.

line -> surroundings -> ways -> proposals -> rollout -> scores -> decision -> safety layer
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from karp_perception.core import (
    Boxes,
    Decision,
    DecisionKind,
    EgoState,
    Objects,
    Plan,
    Road,
    Route,
    ScoredProposals,
    Vehicle,
)
from karp_perception.core.errors import InvalidInput
from karp_perception.core.settings import Settings, nested, setting
from karp_perception.core.validation import as_stamp
from karp_perception.planning.corridor import Approach, Corridor
from karp_perception.planning.decision import (
    DecisionFilter,
    DecisionSettings,
    choose,
    describe,
    is_emergency,
    keeping_off,
    passing,
)
from karp_perception.planning.hazard_memory import HazardMemory
from karp_perception.planning.hazards import GOAL, Hazard, HazardSettings, find_hazards
from karp_perception.planning.idm import IdmSettings
from karp_perception.planning.learned.proposer import open_proposer
from karp_perception.planning.proposals import (
    LANE,
    Idea,
    Moment,
    Proposal,
    ProposalSettings,
    Proposer,
    Way,
    carried_out,
    proposals,
)
from karp_perception.planning.reference_line import ReferenceLine
from karp_perception.planning.road_ahead import SIDES, RoadAhead, RoadAheadSettings
from karp_perception.planning.rollout import motions_of
from karp_perception.planning.route_line import RouteLine, RouteLineSettings
from karp_perception.planning.safety import SafetyLayer, SafetySettings
from karp_perception.planning.scoring import Scores, ScoringSettings, score
from karp_perception.planning.surroundings import Surroundings
from karp_perception.planning.trajectory import (
    MotionLimits,
    SpeedProfile,
    along_line,
    brake,
    needed_deceleration,
    speed_bound,
)

_FASTEST = 100.0  # m/s
_SHALLOW = 3.4  # m ahead for each m sideways, at least
_LEAST_REACH = 0.4  # of the way to a place beside that is always left to get there
_ON_LINE = 0.2  # m from the line, within which the vehicle is on it
_MOST_BEND = 0.1  # 1/m beside that of the line, with which a way begins
_OUT_OF_LANE = 1.0  # m from the line, beyond which the vehicle is in another lane in part
_SLOW = 0.5  # m/s: who is held up
_NEAR_STOP = 60.0  # m to a stop line or the goal, nearer than which who stands ahead waits for it as well


@dataclass(frozen=True)
class PlannerSettings(Settings):
    """How the vehicle is to be driven."""

    route: RouteLineSettings = nested(RouteLineSettings)
    road: RoadAheadSettings = nested(RoadAheadSettings)
    idm: IdmSettings = nested(IdmSettings)
    hazards: HazardSettings = nested(HazardSettings)
    limits: MotionLimits = nested(MotionLimits)
    proposals: ProposalSettings = nested(ProposalSettings)
    scoring: ScoringSettings = nested(ScoringSettings)
    decision: DecisionSettings = nested(DecisionSettings)
    safety: SafetySettings = nested(SafetySettings)
    speed_limit: float = setting(13.9, "where neither route nor map says", unit="m/s", low=0.0, high=70.0)
    lateral_margin: float = setting(0.25, "kept free on either side of the vehicle", unit="m", low=0.0, high=2.0)
    harmless: float = setting(1.0, "where less is needed, a moment's wait is harmless", unit="m/s2", low=0.0, high=6.0)
    return_time: float = setting(3.0, "for coming to another place on the road", unit="s", low=0.5, high=20.0)
    return_distance: float = setting(12.0, "and at least", unit="m", low=2.0, high=100.0)
    longest_gap: float = setting(1.0, "after a longer gap in time nothing is remembered", unit="s", low=0.1, high=10.0)


class Planner:
    """Follows a route, or the path the vehicle is on, and keeps off what is in the way.

    Remembers the last plan for continuity: hazards and emergencies are confirmed over frames, and decisions become
    calmer only when several frames agree. `reset` forgets it, and so does any jump in time.

    Args:
        settings: how it is to be driven. vehicle: what is driven.
        proposer: whose ideas join its own proposals; None for that of the settings.
    """

    def __init__(
        self,
        settings: PlannerSettings | None = None,
        vehicle: Vehicle | None = None,
        proposer: Proposer | None = None,
    ) -> None:
        self.settings = settings or PlannerSettings()
        self.vehicle = vehicle or Vehicle()
        self._line = RouteLine(self.settings.route, self.vehicle)
        self._road = RoadAhead(self.settings.road, self.vehicle)
        self._proposer = proposer or open_proposer(self.settings.proposals.learned)
        self.safety = SafetyLayer(self.settings.safety, self.vehicle)
        self._forget()

    def reset(self) -> None:
        """Forgets everything about earlier frames."""
        self._forget()
        self.safety.reset()

    def warm_up(self) -> None:
        """Loads, or compiles, what is compiled: the first plan need not wait for it. Forgets everything."""
        self.step(0, Objects.empty(), Boxes.empty(), EgoState.standing(0))
        self.reset()

    def _forget(self) -> None:
        self._stamp_ns: int | None = None
        self._last: Plan | None = None
        self._way: str | None = None
        self._reach = 0.0
        self._memory = HazardMemory(self.settings.hazards)
        self._filter = DecisionFilter(self.settings.decision)
        self._line.reset()
        self._road.reset()
        self._alarms = 0
        self._emergency = False
        self._held = 0.0

    def step(
        self,
        stamp_ns: int,
        objects: Objects | None,
        obstacles: Boxes | None,
        ego: EgoState | None,
        route: Route | None = None,
        speed_limit: float | None = None,
        road: Road | None = None,
        now_ns: int | None = None,
    ) -> Plan:
        """Plans from one moment on.

        Args:
            stamp_ns: the moment, ns; objects and obstacles belong to it.
            objects: tracked, `base_link`; None where the tracker said nothing.
            obstacles: of the geometric channel, `base_link`; None where it said nothing.
            ego: the vehicle's motion; None where it is not known.
            route: where to go; None follows the path the vehicle is on.
            speed_limit: m/s; the lowest of it, the route's and the settings' one holds (the settings' only where no
                other is known).
            road: lanes and stop lines in `odom`, with what lights show now; None where there is no map.
            now_ns: on the clock of the stamp, later than it by what came before took; None: no later.

        Returns:
            the plan; without inputs, or with a route that cannot be followed, NO_INPUT and a comfortable stop.

        Raises:
            InvalidInput: an impossible stamp or speed limit, or boxes in another frame than `base_link`.
        """
        stamp_ns = as_stamp("Planner.step stamp_ns", stamp_ns)
        if speed_limit is not None and not (np.isfinite(speed_limit) and speed_limit >= 0):
            raise InvalidInput("Planner.step speed_limit", "m/s of at least 0, or None", speed_limit)
        for name, boxes in (("objects", objects.boxes if objects else None), ("obstacles", obstacles)):
            if boxes is not None and boxes.frame != "base_link":
                raise InvalidInput(f"Planner.step {name}", "boxes in base_link", boxes.frame, "transform them first")
        dt = 0.0 if self._stamp_ns is None else (stamp_ns - self._stamp_ns) * 1e-9
        if dt < 0 or dt > self.settings.longest_gap:
            self._forget()
            dt = 0.0
        limits = [x for x in (speed_limit, route.speed_limit if route else None) if x is not None]
        limit = min(limits or [self.settings.speed_limit])
        limit = min(limit, self.vehicle.max_speed)
        plan = self._plan(stamp_ns, dt, objects, obstacles, ego, route, limit, road)
        now_ns = stamp_ns if now_ns is None else max(now_ns, stamp_ns)
        plan = self.safety.checked(plan, objects, obstacles, ego, limit, now_ns, route)
        self._stamp_ns, self._last = stamp_ns, plan
        return plan

    def _plan(
        self,
        stamp_ns: int,
        dt: float,
        objects: Objects | None,
        obstacles: Boxes | None,
        ego: EgoState | None,
        route: Route | None,
        limit: float,
        road: Road | None,
    ) -> Plan:
        settings = self.settings
        if ego is None:
            return self._without_input(stamp_ns, dt, None, "the vehicle's motion is not known")
        if objects is None and obstacles is None:
            return self._without_input(stamp_ns, dt, ego, "neither objects nor obstacles are known")
        speed = float(np.clip(ego.speed, 0.0, _FASTEST))
        length = max(40.0, 1.5 * max(speed, limit) * settings.limits.horizon)
        line = self._line.along(route, ego, length) if route else self._line.straight_on(ego, length, dt)
        if isinstance(line, str):
            return self._without_input(stamp_ns, dt, ego, line)
        around = Surroundings.of(objects or Objects.empty(), obstacles or Boxes.empty(), line, settings.hazards.around)
        started = self._started(dt)
        self._road.look(road, route, self._line.progress, line, ego, around, dt)
        ways, doubtful, lost = self._ways(line, around, ego, route is not None, speed, limit, dt)
        options = proposals(
            ways, speed, started, limit, self._last, self.vehicle, settings.proposals, settings.idm, settings.limits
        )
        if self._proposer is not None:
            # What was seen a moment ago is in the way of ideas as well.
            stops = [*self._goal(line), *self._road.stops, *lost]
            make = partial(self._carried_out, line, around, stops, speed, started, limit, self._last)
            moment = Moment(
                line, around, tuple(ways), tuple(options), ego, speed, started, limit, self._room(ways),
                self._road.raster, make,
            )  # fmt: skip
            for idea in self._proposer.propose(moment):
                way, option = make(idea, len(ways))
                ways.append(way)
                options.append(option)
        motions = motions_of(
            options, ways, line, speed, started, ego, settings.scoring.horizon, settings.limits.step, self.vehicle
        )
        things = around.things(doubtful, motions.pose.shape[1] - 1)
        scores = score(
            options, motions, things, self.vehicle, limit, self._road.raster, ego.T_odom_base, self._way,
            settings.scoring,
        )  # fmt: skip
        self._hold(dt, ways[0], speed)
        plan = self._decided(stamp_ns, options, scores, ways, around, speed, started, limit)
        chosen = scores.best
        self._way = options[chosen].way_name
        sideways = ways[options[chosen].way].corridor.approach
        self._reach = sideways.length if isinstance(sideways, Approach) else 0.0
        told = ScoredProposals(
            tuple(option.name for option in options), tuple(option.way_name for option in options),
            motions.step * np.arange(motions.speed.shape[1]), *np.moveaxis(motions.pose, -1, 0), motions.speed,
            scores.total, scores.terms, settings.scoring.weights, chosen,
        )  # fmt: skip
        return replace(plan, proposals=told)

    def _ways(
        self,
        line: ReferenceLine,
        around: Surroundings,
        ego: EgoState,
        on_route: bool,
        speed: float,
        limit: float,
        dt: float,
    ) -> tuple[list[Way], frozenset[tuple[int | None, tuple[float, float]]], list[Hazard]]:
        """The route itself first, then places beside it; and the hazards of the first that are not believed yet, and
        those that are not seen any more."""
        settings = self.settings
        offset, slope, bend = self._start(line, dt) if on_route else (0.0, 0.0, 0.0)
        stops = [*self._goal(line), *self._road.stops]
        ways: list[Way] = []
        lost: list[Hazard] = []
        doubtful: frozenset[tuple[int | None, tuple[float, float]]] = frozenset()
        places = self._road.places(settings.proposals)
        for number, (name, target) in enumerate(places):
            if number > 0 and not self._worth_it(name, ways[0], offset):
                continue
            reach = max(settings.return_distance, settings.return_time * speed, _SHALLOW * abs(offset - target))
            if name == self._way and name != LANE:  # under way: to be there where it was meant to be
                reach = max(self._reach - speed * dt, _LEAST_REACH * reach)
            approach = Approach(offset, slope, reach, target, bend)
            margin = settings.proposals.margin if ways else settings.lateral_margin
            corridor = Corridor(line, self.vehicle, margin, float(line.distance[-1]), approach)
            hazards = find_hazards(around, corridor, settings.hazards)
            if not ways:
                seen, hazards = hazards, self._believed(hazards, speed, ego, dt)
                known = {(h.track_id, h.place) for h in hazards}
                before = {(h.track_id, h.place) for h in seen}
                doubtful = frozenset(before - known)
                lost = [h for h in hazards if (h.track_id, h.place) not in before]
            bound = speed_bound(line, approach, speed, limit, settings.limits)
            heeded = sorted([*hazards, *stops], key=Hazard.order)
            if name in (LANE, *SIDES) and any(other not in (LANE, *SIDES) for other, _ in places):
                heeded = self._with_berth(heeded)
            ways.append(Way(name, corridor, bound, heeded, "" if name == LANE else name))
        return ways, doubtful, lost

    def _room(self, ways: Sequence[Way]) -> tuple[float, float]:
        """How far to the right and to the left of the line (m) ideas may lead: in the lane, and where ways lead now."""
        thought_of = {way.name for way in ways}
        offsets = [d for n, d in self._road.places(self.settings.proposals) if n in SIDES or n in thought_of]
        return min(offsets), max(offsets)

    def _carried_out(
        self,
        line: ReferenceLine,
        around: Surroundings,
        stops: Sequence[Hazard],
        speed: float,
        acceleration: float,
        limit: float,
        last: Plan | None,
        idea: Idea,
        number: int,
    ) -> tuple[Way, Proposal]:
        """What comes of an idea, whose way gets that number."""
        settings = self.settings
        corridor = Corridor(line, self.vehicle, settings.proposals.margin, float(line.distance[-1]), idea.sideways)
        bound = speed_bound(line, idea.sideways, speed, limit, settings.limits)
        hazards = sorted([*find_hazards(around, corridor, settings.hazards), *stops], key=Hazard.order)
        way = Way(idea.name, corridor, bound, self._with_berth(hazards), idea.side)
        return way, carried_out(
            idea, number, way, speed, acceleration, limit, last, settings.proposals, settings.idm, settings.limits
        )

    def _worth_it(self, place: str, lane: Way, offset: float) -> bool:
        """Whether to think of a place beside the route: to pass what stands in the way, and until back from there.

        For another lane only after long enough behind it.
        """
        standing = self.settings.decision.standing
        blocked = any(not h.title and not h.crossing and abs(h.speed) < standing for h in lane.hazards)
        if place in SIDES:
            return blocked or abs(offset) > _ON_LINE
        return self._held >= self.settings.proposals.patience or self._way == place or abs(offset) > _OUT_OF_LANE

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

    def _hold(self, dt: float, way: Way, speed: float) -> None:
        """Counts for how long the vehicle has stood, or nearly, behind something that stands."""
        held = self._stands_in_the_way(way.hazards) and speed < _SLOW
        self._held = self._held + dt if held else 0.0

    def _believed(self, found: Sequence[Hazard], speed: float, ego: EgoState, dt: float) -> list[Hazard]:
        """The hazards that were seen often enough, or that leave no time to wait; and those just lost from sight."""
        needed = [needed_deceleration(h.gap, speed - h.speed) for h in found]
        comfortable = self.vehicle.comfortable_deceleration
        urgent = [n > comfortable and not h.guessed for h, n in zip(found, needed, strict=True)]
        soon = [n > self.settings.harmless or h.speed != 0.0 for h, n in zip(found, needed, strict=True)]
        firm = [replace(h, firm=h.firm and s and not h.guessed) for h, s in zip(found, soon, strict=True)]
        return self._memory.filtered(firm, urgent, ego, dt)

    def _decided(
        self,
        stamp_ns: int,
        options: Sequence[Proposal],
        scores: Scores,
        ways: Sequence[Way],
        around: Surroundings,
        speed: float,
        started: float,
        limit: float,
    ) -> Plan:
        """Emergency or not, the decision in words, and the trajectory."""
        settings = self.settings.decision
        chosen = options[scores.best]
        way = ways[chosen.way]
        hazards = [h for h in chosen.hazards if not h.title]
        self._watch(hazards, speed, started)
        last = self._last.decision.target_id if self._last else None
        profile, target = chosen.profile, None
        if self._emergency and hazards:
            target = max(hazards, key=lambda h: needed_deceleration(h.gap, speed - h.speed))
            decision = describe(DecisionKind.EMERGENCY_STOP, target, speed, settings.standing)
            limits = self.settings.limits
            profile = brake(speed, started, self.vehicle.max_deceleration, limits.emergency_jerk, limits)
        else:
            decision, target = choose(profile, chosen.hazards, last, limit, settings)
            culprit = _culprit(int(scores.culprit[0]), around, ways[0].hazards, self.vehicle.front)
            if chosen.share < 1.0 and target is None and culprit is not None:
                decision, target = keeping_off(culprit, profile), culprit
            elif way.side:
                decision = passing(decision, ways[0].hazards, way.side)
        decision = self._filter.filtered(decision, target, speed)
        corridor = way.corridor
        return Plan(stamp_ns, along_line(profile, corridor.line, corridor.approach, self.vehicle), decision)

    def _watch(self, hazards: Sequence[Hazard], speed: float, started: float) -> None:
        """Begins and ends emergencies: several frames must agree, and it lasts until little braking is needed."""
        settings = self.settings.decision
        alarming = any(is_emergency(h, speed, settings, max(-started, 0.0)) for h in hazards)
        self._alarms = self._alarms + 1 if alarming else 0
        if self._emergency:
            worst = max((needed_deceleration(h.gap, speed - h.speed) for h in hazards), default=0.0)
            self._emergency = speed > 0.1 and worst > settings.emergency_release
        if self._alarms >= settings.emergency_frames:
            self._emergency = True

    def _goal(self, line: ReferenceLine) -> list[Hazard]:
        """The end of the route as something to stop for; the gap is such that the vehicle's origin gets there."""
        if not np.isfinite(line.end):
            return []
        return [Hazard(max(line.end, 0.0) + self.settings.idm.min_gap, 0.0, None, -1, title=GOAL)]

    def _started(self, dt: float) -> float:
        """The acceleration until now by the last plan, m/s²; each of a plan's values holds for a step."""
        if self._last is None or len(self._last.trajectory) == 0:
            return 0.0
        trajectory = self._last.trajectory
        before = np.searchsorted(trajectory.time, dt - 1e-6) - 1
        return float(trajectory.acceleration[max(before, 0)])

    def _start(self, line: ReferenceLine, dt: float) -> tuple[float, float, float]:
        """Offset (m), slope and bend (1/m) of the way of `base_link` relative to the line, here and now."""
        curvature = 0.0
        if self._last is not None and len(self._last.trajectory):
            curvature = float(np.interp(dt, self._last.trajectory.time, self._last.trajectory.curvature))
        (heading,), (bend,) = line.at(np.zeros(1))[1:]
        course = np.arcsin(np.clip(self.vehicle.axle * curvature, -1.0, 1.0))  # it turns about its rear axle
        slope = float(np.clip(np.tan(course - heading), -1.0, 1.0))
        beyond = float(np.clip(curvature - bend, -_MOST_BEND, _MOST_BEND)) if self._last is not None else 0.0
        return float(line.project(np.zeros((1, 2)))[1][0]), slope, beyond

    def _without_input(self, stamp_ns: int, dt: float, ego: EgoState | None, why: str) -> Plan:
        """A comfortable stop, straight ahead or as the vehicle turns: where it was going is all there is to go by."""
        settings, last = self.settings, self._last
        speed, started = 0.0, self._started(dt)
        if ego is not None:
            speed = float(np.clip(ego.speed, 0.0, _FASTEST))
        elif last is not None and len(last.trajectory):
            speed = float(np.interp(dt, last.trajectory.time, last.trajectory.speed))
        line = self._line.straight_on(ego, 100.0, dt)
        deceleration = self.vehicle.comfortable_deceleration
        profile: SpeedProfile = brake(speed, started, deceleration, settings.limits.jerk, settings.limits)
        self._alarms, self._emergency, self._way = 0, False, None
        trajectory = along_line(profile, line, Approach(), self.vehicle)
        decision = Decision(DecisionKind.NO_INPUT, f"NO_INPUT: {why}; stopping")
        return Plan(stamp_ns, trajectory, self._filter.filtered(decision, None, speed))


def _culprit(thing: int, around: Surroundings, hazards: Sequence[Hazard], front: float) -> Hazard | None:
    """What the way along the route would touch or come near to: one of its hazards, or one that it may become."""
    if thing < 0:
        return None
    lone = np.flatnonzero(around.owner < 0)
    if thing >= len(around.row):
        part = lone[thing - len(around.row)]
        place = (float(around.parts.center[part, 0]), float(around.parts.center[part, 1]))
        found = [h for h in hazards if h.track_id is None and h.place == place]
        return found[0] if found else Hazard(max(float(around.part_s[part].min()) - front, 0.0), 0.0, None, -1)
    row = around.row[thing]
    track_id, label = int(around.objects.track_id[row]), int(around.objects.boxes.label[row])
    found = [h for h in hazards if h.track_id == track_id]
    gap = max(float(around.box_s[row].min()) - front, 0.0)
    return found[0] if found else Hazard(gap, float(around.along[row]), track_id, label)
