"""Commands for a vehicle as they come in: the newest one for a world that asks once a tick."""

from __future__ import annotations

import logging
import threading
from typing import Any

from karp_perception.core import Command, InvalidInput
from karp_perception.core.counters import Counters
from karp_perception.ros.plan_messages import command_from_ackermann, command_from_twist
from karp_perception.ros.primitives import get_stamp

log = logging.getLogger(__name__)

COMMANDS = {"ackermann": "ackermann_msgs/msg/AckermannDriveStamped", "twist": "geometry_msgs/msg/Twist"}
"""Message type of each kind of command."""


class CommandInput:
    """Takes commands in one thread and gives the newest one in another; every one is used, or dropped for a reason.

    Args:
        kind: key of COMMANDS.
        wheelbase: m, turns a Twist's turn rate into an angle of the wheels.
        in_step: whether frames wait for their answer. Then the world decides what time it is, and a command that is
            stamped later than the present frame (a planner that heard nothing for a while of its own time) is dropped.
    """

    def __init__(self, kind: str, wheelbase: float, *, in_step: bool = False) -> None:
        self.counters = Counters()
        self._read = (
            _from_ackermann if kind == "ackermann" else lambda message: (0, command_from_twist(message, wheelbase))
        )
        self._in_step = in_step
        self._changed = threading.Condition()
        self._command: Command | None = None
        self._frame_ns, self._answered, self._stopped = 0, False, False

    def receive(self, message: Any) -> None:
        """A subscription's callback."""
        try:
            stamp_ns, command = self._read(message)
        except InvalidInput as error:
            self.counters.drop(error.reason)
            log.warning("a command is dropped: %s", error)
            return
        with self._changed:
            if self._in_step and stamp_ns > self._frame_ns:
                self.counters.drop("stamped_later")
                return
            if self._command is not None:
                self.counters.drop("superseded")
            self._command = command
            if stamp_ns in (0, self._frame_ns):
                self._answered = True
                self._changed.notify_all()

    def expect(self, frame_ns: int) -> None:
        """From now on, this is the stamp of the present frame."""
        with self._changed:
            self._frame_ns, self._answered = frame_ns, False

    def wait(self, limit: float) -> bool:
        """Wait for the answer to the present frame, s of wall time at most; a command without a stamp is one."""
        with self._changed:
            self._changed.wait_for(lambda: self._answered or self._stopped, limit)
            return self._answered

    def take(self) -> Command | None:
        """The newest command, once; None where none has come since the last time."""
        with self._changed:
            command, self._command = self._command, None
        if command is not None:
            self.counters.use()
        return command

    def forget(self) -> None:
        """A new drive begins: what was meant for the last one is dropped."""
        with self._changed:
            if self._command is not None:
                self.counters.drop("before_reset")
            self._command = None

    def stop(self) -> None:
        """End all waiting."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()


def _from_ackermann(message: Any) -> tuple[int, Command]:
    return get_stamp(message.header.stamp), command_from_ackermann(message.drive)
