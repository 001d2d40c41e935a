"""A node's controller: a command for each plan, for the time at which it goes out."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from karp_perception.core import Command, EgoState, Plan
from karp_perception.planning.control import Controller

if TYPE_CHECKING:
    from karp_perception.ros.node import PerceptionNode

log = logging.getLogger(__name__)

_COMPARABLE_S = 10.0  # data of another age than this is not of this node's clock


class Driving:
    """Plan -> Command at the present of the node's clock. What is clamped to the vehicle's limits is told in
    `/diagnostics` with the frames.

    Args:
        node: whose clock and settings.
        motion: the newest motion known at a stamp; None where there is none.
    """

    def __init__(self, node: PerceptionNode, motion: Callable[[int], EgoState | None]) -> None:
        self._node, self._motion = node, motion
        self._controller = Controller(node.settings.control, node.settings.vehicle)
        self._told = False

    def command(self, plan: Plan, ego: EgoState | None) -> Command:
        """What to do now about a plan, for the motion at its stamp."""
        now_ns = self.now_ns(plan.stamp_ns)
        if ego is not None:
            self._controller.observe(ego)
        command = self._controller.step(plan, self._motion(now_ns) or ego, now_ns)
        notes = self._node.report.notes
        if self._controller.notes:
            notes["command"] = "; ".join(self._controller.notes)
        else:
            notes.pop("command", None)
        return command

    def now_ns(self, stamp_ns: int) -> int:
        """The present on the time line of the data: its stamp, where the node's clock is another one."""
        now_ns = self._node.now_ns()
        if 0 <= now_ns - stamp_ns <= _COMPARABLE_S * 1e9:
            return now_ns
        if not self._told and now_ns - stamp_ns > 0:
            self._told = True
            late = (now_ns - stamp_ns) * 1e-9
            log.warning("stamps are %.0f s behind this node's clock: commands are for the time of the data", late)
        return stamp_ns
