"""The planner: objects, obstacles, own motion and a route become a trajectory and a decision with its reason.

line -> surroundings -> ways -> proposals -> rollout -> scores -> decision -> safety layer
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from karp_perception.core import Boxes, EgoState, Objects, Plan, Road, Route, Vehicle
from karp_perception.core.errors import InvalidInput
from karp_perception.core.validation import as_stamp
from karp_perception.planning.corridor import Approach
from karp_perception.planning.decision_maker import DecisionMaker
from karp_perception.planning.hazards import goal_of, hazard_of
from karp_perception.planning.learned.proposer import open_proposer
from karp_perception.planning.proposals import Idea, Moment, Proposal, Proposer, Way, carried_out, proposals
from karp_perception.planning.road_ahead import RoadAhead
from karp_perception.planning.rollout import motions_of
from karp_perception.planning.route_line import RouteLine
from karp_perception.planning.safety import SafetyLayer
from karp_perception.planning.scoring import score, scored_proposals
from karp_perception.planning.settings import PlannerSettings
from karp_perception.planning.start import Start
from karp_perception.planning.surroundings import Surroundings
from karp_perception.planning.trajectory import along_line, brake
from karp_perception.planning.ways import Scene, Ways, room

__all__ = ["Planner", "PlannerSettings"]


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
        self._ways = Ways(self.settings, self.vehicle)
        self._proposer = proposer or open_proposer(self.settings.proposals.learned)
        self._decisions = DecisionMaker(self.settings.decision, self.settings.limits, self.vehicle)
        self.safety = SafetyLayer(self.settings.safety, self.vehicle)
        self._last: Plan | None = None

    def reset(self) -> None:
        """Forgets everything about earlier frames."""
        self._forget()
        self.safety.reset()

    def warm_up(self) -> None:
        """Loads, or compiles, what is compiled: the first plan need not wait for it. Forgets everything."""
        self.step(0, Objects.empty(), Boxes.empty(), EgoState.standing(0))
        self.reset()

    def _forget(self) -> None:
        self._last = None
        for part in (self._line, self._road, self._ways, self._decisions):
            part.reset()

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
        dt = 0.0 if self._last is None else (stamp_ns - self._last.stamp_ns) * 1e-9
        if dt < 0 or dt > self.settings.longest_gap:
            self._forget()
            dt = 0.0
        limits = [x for x in (speed_limit, route.speed_limit if route else None) if x is not None]
        limit = min(*(limits or [self.settings.speed_limit]), self.vehicle.max_speed)
        start = Start.of(self._last, dt, limit, ego)
        plan = self._plan(stamp_ns, start, objects, obstacles, ego, route, road)
        now_ns = stamp_ns if now_ns is None else max(now_ns, stamp_ns)
        self._last = self.safety.checked(plan, objects, obstacles, ego, limit, now_ns, route)
        return self._last

    def _plan(
        self,
        stamp_ns: int,
        start: Start,
        objects: Objects | None,
        obstacles: Boxes | None,
        ego: EgoState | None,
        route: Route | None,
        road: Road | None,
    ) -> Plan:
        settings, vehicle = self.settings, self.vehicle
        if ego is None:
            return self._stop(stamp_ns, start, None, "the vehicle's motion is not known")
        if objects is None and obstacles is None:
            return self._stop(stamp_ns, start, ego, "neither objects nor obstacles are known")
        objects, obstacles = objects or Objects.empty(), obstacles or Boxes.empty()

        length = max(40.0, 1.5 * max(start.speed, start.limit) * settings.limits.horizon)
        line = self._line.along(route, ego, length) if route else self._line.straight_on(ego, length, start.dt)
        if isinstance(line, str):
            return self._stop(stamp_ns, start, ego, line)

        around = Surroundings.of(objects, obstacles, line, settings.hazards.around)
        self._road.look(road, route, self._line.progress, line, ego, around, start.dt)
        scene = Scene(line, around, [*goal_of(line, settings.idm.min_gap), *self._road.stops], start)

        here = start.beside(line, vehicle) if route else Approach()
        ways = self._ways.found(scene, self._road.places(settings.proposals), here, ego)
        options = proposals(
            ways, start.speed, start.acceleration, start.limit, start.last, vehicle, settings.proposals, settings.idm,
            settings.limits,
        )  # fmt: skip
        for way, option in self._ideas(scene, ways, options, ego):
            ways.append(way)
            options.append(option)

        motions = motions_of(
            options, ways, line, start.speed, start.acceleration, ego, settings.scoring.horizon, settings.limits.step,
            vehicle,
        )  # fmt: skip
        things = around.things(self._ways.confirmed.doubtful, motions.pose.shape[1] - 1)
        scores = score(
            options, motions, things, vehicle, start.limit, self._road.raster, ego.T_odom_base, self._ways.taken,
            settings.scoring,
        )  # fmt: skip

        chosen = options[scores.best]
        way = ways[chosen.way]
        self._ways.take(way)
        culprit = hazard_of(int(scores.culprit[0]), around, ways[0].hazards, vehicle.front)
        profile, decision = self._decisions.decided(chosen, ways, culprit, start)
        trajectory = along_line(profile, line, way.corridor.approach, vehicle)
        told = scored_proposals(options, motions, scores, settings.scoring)
        return Plan(stamp_ns, trajectory, decision, proposals=told)

    def _ideas(
        self, scene: Scene, ways: Sequence[Way], options: Sequence[Proposal], ego: EgoState
    ) -> list[tuple[Way, Proposal]]:
        """What comes of the proposer's ideas."""
        if self._proposer is None:
            return []
        # What was seen a moment ago is in the way of ideas as well.
        scene = replace(scene, stops=[*scene.stops, *self._ways.confirmed.lost])
        start, places = scene.start, self._road.places(self.settings.proposals)
        carry_out = partial(self._carried_out, scene)
        moment = Moment(
            scene.line, scene.around, tuple(ways), tuple(options), ego, start.speed, start.acceleration, start.limit,
            room(ways, places), self._road.raster, carry_out,
        )  # fmt: skip
        return [carry_out(idea, number) for number, idea in enumerate(self._proposer.propose(moment), len(ways))]

    def _carried_out(self, scene: Scene, idea: Idea, number: int) -> tuple[Way, Proposal]:
        """What comes of an idea, whose way gets that number. Depends on nothing that is remembered."""
        settings, start = self.settings, scene.start
        way = self._ways.of_idea(idea, scene)
        return way, carried_out(
            idea, number, way, start.speed, start.acceleration, start.limit, start.last, settings.proposals,
            settings.idm, settings.limits,
        )  # fmt: skip

    def _stop(self, stamp_ns: int, start: Start, ego: EgoState | None, why: str) -> Plan:
        """A comfortable stop, straight ahead or as the vehicle turns: where it was going is all there is to go by."""
        limits, deceleration = self.settings.limits, self.vehicle.comfortable_deceleration
        line = self._line.straight_on(ego, 100.0, start.dt)
        profile = brake(start.speed, start.acceleration, deceleration, limits.jerk, limits)
        self._ways.take(None)
        trajectory = along_line(profile, line, Approach(), self.vehicle)
        return Plan(stamp_ns, trajectory, self._decisions.without_input(why, start.speed))
