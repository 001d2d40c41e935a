"""Where the front wheels are and will be, by what they were told: the steering's dead time, lag and rate."""

from __future__ import annotations

import math
from collections import deque

import numpy as np

from karp_perception.core import Vehicle

_STEP_NS = 20_000_000
_MEMORY_NS = 2_000_000_000


class SteeringModel:
    """The steering as the vehicle's settings describe it, carried on from command to command.

    What is measured of it, the yaw rate, is noise at low speeds and says nothing of what is still under way.
    """

    def __init__(self, vehicle: Vehicle) -> None:
        self._delay_ns, self._lag = round(vehicle.steering_delay * 1e9), vehicle.steering_lag
        self._rate = vehicle.largest_steering_rate()
        self.reset(0, 0.0)

    def reset(self, now_ns: int, angle: float) -> None:
        """The wheels stand at an angle (rad) and were told nothing else."""
        self._commands: deque[tuple[int, float]] = deque([(now_ns - _MEMORY_NS, angle)])
        self._trace: deque[tuple[int, float]] = deque([(now_ns - _MEMORY_NS, angle), (now_ns, angle)])

    def tell(self, now_ns: int, angle: float) -> None:
        """The wheels are told an angle (rad)."""
        self._commands.append((now_ns, angle))
        oldest = now_ns - _MEMORY_NS - self._delay_ns
        while len(self._commands) > 1 and self._commands[1][0] <= oldest:
            self._commands.popleft()

    def advance(self, now_ns: int) -> None:
        """Carry the wheels on to the present."""
        self._trace.extend(self._ahead(now_ns))
        while self._trace[1][0] < now_ns - _MEMORY_NS:
            self._trace.popleft()

    def angles(self, stamps_ns: np.ndarray) -> np.ndarray:
        """(N,) rad at stamps (N,) ns, into the future as far as what was told takes effect."""
        trace = [*self._trace, *self._ahead(int(stamps_ns[-1]))]
        at, angle = zip(*trace, strict=True)
        origin = at[0]
        return np.interp(stamps_ns - origin, np.array(at) - origin, angle)

    def _ahead(self, until_ns: int) -> list[tuple[int, float]]:
        """Stamps and angles after the last known one."""
        at, angle = self._trace[-1]
        found = []
        while at < until_ns:
            after = min(at + _STEP_NS, until_ns)
            h = (after - at) * 1e-9
            share = 1.0 - math.exp(-h / self._lag) if self._lag > 0 else 1.0
            turn = (self._told(at) - angle) * share
            angle += min(max(turn, -self._rate * h), self._rate * h)
            at = after
            found.append((at, angle))
        return found

    def _told(self, at_ns: int) -> float:
        """The command that is in effect at a stamp."""
        until = at_ns - self._delay_ns
        return next((angle for since, angle in reversed(self._commands) if since <= until), self._commands[0][1])
