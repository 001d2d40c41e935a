"""What the vehicle does and why, in the words a person would use, without changing its mind every frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from karp_perception.core import Decision, DecisionKind
from karp_perception.core.settings import Settings, setting
from karp_perception.planning.hazards import GOAL, Hazard
from karp_perception.planning.trajectory import SpeedProfile, needed_deceleration

_EASING = 1.0  # m/s² of braking that is left over from what has gone


@dataclass(frozen=True)
class DecisionSettings(Settings):
    """Where one decision ends and the next begins."""

    standing: float = setting(0.5, "a slower thing ahead stands", unit="m/s", low=0.0, high=3.0)
    stopped: float = setting(1.0, "a plan that ends slower is a stop", unit="m/s", low=0.0, high=5.0)
    noticed: float = setting(0.4, "a hazard that takes less acceleration decides nothing", unit="m/s2", low=0.01)
    unknown_braking: float = setting(
        2.0, "needed braking up to which one waits to see whether a thing stands", unit="m/s2", low=0.0, high=10.0
    )
    route_end: float = setting(1.0, "the end of the route is named so long before it is braked for", unit="s", low=0.0)
    slow_share: float = setting(0.15, "part of the speed whose loss is SLOW", low=0.01, high=1.0)
    slow_speed: float = setting(1.0, "and at least", unit="m/s", low=0.0, high=10.0)
    emergency_deceleration: float = setting(4.5, "needed braking that is an emergency", unit="m/s2", low=1.0, high=10.0)
    emergency_ttc: float = setting(1.0, "time to collision that is one", unit="s", low=0.0, high=5.0)
    emergency_closing: float = setting(3.0, "if closing at least at", unit="m/s", low=0.0, high=20.0)
    emergency_entry: float = setting(1.5, "what enters the path later is none yet", unit="s", low=0.0, high=5.0)
    emergency_release: float = setting(2.0, "needed braking that ends it", unit="m/s2", low=0.1, high=10.0)
    emergency_frames: int = setting(2, "frames that must agree on an emergency", low=1, high=10)
    calm_frames: int = setting(3, "frames that must agree on less caution", low=1, high=50)


def describe(kind: DecisionKind, hazard: Hazard, speed: float, standing: float) -> Decision:
    """The decision with its reason: object, what it does, free distance, closing speed, time to collision."""
    if hazard.title:
        return Decision(kind, f"{kind.value} at {hazard.title}, {hazard.gap:.1f} m", None, hazard.gap)
    closing = speed - hazard.speed
    ttc = hazard.gap / closing if closing > 0.1 and not (hazard.crossing and hazard.occupied[0] > 0) else None
    if hazard.crossing:
        doing = f"crossing from the {hazard.side}"
    elif hazard.speed < -standing:
        doing = "coming towards us in the path"
    elif hazard.speed < standing:
        doing = "standing ahead in the path" if hazard.known else "ahead in the path, speed uncertain"
    else:
        doing = f"ahead at {hazard.speed:.1f} m/s"
    word = " for" if kind != DecisionKind.FOLLOW else ""
    reason = f"{kind.value}{word} {hazard.name} {doing}, {hazard.gap:.1f} m"
    if ttc is not None:
        reason += f", closing {closing:.1f} m/s, {ttc:.1f} s"
    elif hazard.crossing and hazard.occupied[0] > 0:
        reason += f", in the path in {hazard.occupied[0]:.1f} s"
    return Decision(kind, reason, hazard.track_id, hazard.gap, ttc)


def choose(
    profile: SpeedProfile, hazards: Sequence[Hazard], last_target: int | None, limit: float, settings: DecisionSettings
) -> tuple[Decision, Hazard | None]:
    """The decision that the planned motion amounts to, and the hazard behind it."""
    speed = float(profile.speed[0])
    holds = profile.held > settings.noticed
    ended = np.array([h.title == GOAL for h in hazards] + [False])[profile.cause]  # -1 takes the last one
    late = np.flatnonzero(holds & ended & (profile.time > settings.route_end))
    until = late[0] if len(late) else len(holds)  # what the end of the route does to the plan later is no news yet
    noticed = np.flatnonzero(holds[:until])
    loss = speed - float(profile.speed[:until].min(initial=speed))
    slows = loss > max(settings.slow_speed, settings.slow_share * speed)
    if len(noticed) == 0:
        if slows and speed > limit:
            return Decision(DecisionKind.SLOW, f"SLOW to the speed limit of {limit:.1f} m/s"), None
        easing = len(profile.acceleration) > 1 and profile.acceleration[0] < min(-_EASING, profile.acceleration[1])
        if slows and easing:
            return Decision(DecisionKind.SLOW, "SLOW, path free, easing off the brakes"), None
        if slows:
            return Decision(DecisionKind.SLOW, f"SLOW for the bend ahead, to {speed - loss:.1f} m/s"), None
        return Decision(DecisionKind.CRUISE, f"CRUISE, path free, up to {limit:.1f} m/s"), None
    target = hazards[profile.cause[noticed[0]]]
    for hazard in hazards:  # two parts of one thing must not take turns in giving the name
        if hazard.track_id is not None and hazard.track_id == last_target and abs(hazard.gap - target.gap) < 1.0:
            target = hazard
    if target.crossing:
        kind = DecisionKind.YIELD
    elif target.speed < settings.standing:
        kind = DecisionKind.STOP if float(profile.speed[-1]) < settings.stopped else DecisionKind.SLOW
        needed = needed_deceleration(target.gap, speed - target.speed)
        if not target.known and speed > settings.stopped and needed <= settings.unknown_braking:
            kind = DecisionKind.SLOW
    else:
        kind = DecisionKind.SLOW if slows else DecisionKind.FOLLOW
    return describe(kind, target, speed, settings.standing), target


def keeping_off(thing: Hazard, profile: SpeedProfile) -> Decision:
    """The decision to be slower than the road allows because of a thing that may come into the way."""
    kind = DecisionKind.STOP if float(profile.speed[-1]) <= 0.0 else DecisionKind.SLOW
    reason = f"{kind.value} for {thing.name}, {thing.gap:.1f} m, which may come into the path"
    return Decision(kind, reason, thing.track_id, thing.gap)


def passing(decision: Decision, in_the_way: Sequence[Hazard], side: str) -> Decision:
    """The decision on a way beside the route's own, with whom it passes."""
    passed = next((h for h in in_the_way if not h.title and not h.crossing), None)
    if passed is None:
        return decision
    return replace(decision, reason=f"{decision.reason}; passing {passed.name} on the {side}")


class DecisionFilter:
    """More caution at once, less only when several frames in a row agree."""

    def __init__(self, settings: DecisionSettings) -> None:
        self._settings = settings
        self._kind: DecisionKind | None = None
        self._target: int | None = None
        self._calmer = 0

    def filtered(self, decision: Decision, target: Hazard | None, speed: float) -> Decision:
        """`decision`, or the last kind where that was more cautious a moment ago and for the same object."""
        last = self._kind
        if last is None or decision.kind.caution >= last.caution:
            return self._taken(decision)
        self._calmer += 1
        other = target is None or target.track_id != self._target
        if self._calmer >= self._settings.calm_frames or other or last == DecisionKind.NO_INPUT:
            return self._taken(decision)
        return describe(last, target, speed, self._settings.standing)

    def _taken(self, decision: Decision) -> Decision:
        self._kind, self._target, self._calmer = decision.kind, decision.target_id, 0
        return decision
