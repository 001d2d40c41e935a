"""Notices that nothing to decide on arrives, so that silence never reads as consent.

A silence is planned for like any moment, with no inputs: what then happens is up to the rules of the safety layer, as
it is where single inputs stay away.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rclpy.clock import Clock, ClockType

from karp_perception.core import DecisionKind, EgoState, Plan
from karp_perception.planning.safety.retimed import stopping_distance

if TYPE_CHECKING:
    from karp_perception.planning.planner import Planner
    from karp_perception.ros.node import PerceptionNode

_PERIOD = 0.1  # s between two decisions during a silence: as often as usual ones


@dataclass(frozen=True)
class Silence:
    """No new data.

    Attributes:
        stamp_ns: now, on the time line of the last data, or on the node's clock before the first.
        reason: how long it has lasted.
    """

    stamp_ns: int
    reason: str

    def plan(self, planner: Planner, ego: EgoState | None) -> Plan:
        """What the planner and its safety layer do about it, with this as the reason of a stop that is none else's."""
        plan = planner.step(self.stamp_ns, None, None, ego)
        if plan.decision.kind != DecisionKind.NO_INPUT:
            return plan
        way = stopping_distance(plan.trajectory, planner.vehicle.comfortable_deceleration)
        reason = f"NO_INPUT: {self.reason}; standing within {way:.0f} m"
        return replace(plan, decision=replace(plan.decision, reason=reason))


class Watchdog:
    """Gives the worker a Silence, again and again, while the last frame is older than `input_timeout`.

    It goes by the steady clock: simulated time stands still exactly when a simulation dies.
    """

    def __init__(self, node: PerceptionNode) -> None:
        self._node = node
        self._clock = Clock(clock_type=ClockType.STEADY_TIME)
        self._last_stamp: int | None = None

    def start(self) -> None:
        """Begin to watch; the first input may take as long as any other."""
        self._fed_at = time.monotonic()
        self._timer = self._node.create_timer(_PERIOD, self._look, clock=self._clock)

    def stop(self) -> None:
        """End."""
        self._node.destroy_timer(self._timer)

    def fed(self, stamp_ns: int) -> None:
        """A frame has come."""
        self._fed_at, self._last_stamp = time.monotonic(), stamp_ns

    def _look(self) -> None:
        silent = time.monotonic() - self._fed_at
        if silent > self._node.node_settings.input_timeout and self._node.worker is not None:
            last = self._last_stamp
            if last is None:
                self._node.worker.offer(Silence(max(self._node.now_ns(), 0), "no input has come yet"))
            else:
                stamp_ns = last + int(silent * 1e9)
                self._node.worker.offer(Silence(stamp_ns, f"nothing new for {silent:.1f} s"))
