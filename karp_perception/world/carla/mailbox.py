"""One queue a sensor, emptied by frame: what belongs to a tick comes out, or nothing does in time."""

from __future__ import annotations

import queue
import time
from typing import Any

from karp_perception.core.counters import Counters

_MISSES = 3  # in a row, after which a sensor is hardly waited for any more, until it answers
_SHORT_WAIT = 0.02  # s that it gets then


class Mailbox:
    """Data of one sensor, in whatever order it comes.

    Attributes:
        counters: ticks for which its data was used, or dropped as `no_answer`.
        ignored: messages of other frames than the one that was asked for.
    """

    def __init__(self) -> None:
        self.counters = Counters()
        self.ignored = 0
        self._queue: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._early: dict[int, Any] = {}
        self._missed = 0

    def put(self, data: Any) -> None:
        """What `listen` calls, in a thread of CARLA's."""
        self._queue.put(data)

    def take(self, frame: int, deadline: float) -> Any | None:
        """The data of a frame, or None where it has not come by `deadline` (of time.monotonic); older data is ignored.

        Frames are asked for in increasing order.
        """
        if self._missed >= _MISSES:
            deadline = min(deadline, time.monotonic() + _SHORT_WAIT)
        data = self._wait(frame, deadline)
        self._early = {number: early for number, early in self._early.items() if number > frame}
        if data is None:
            self._missed += 1
            self.counters.drop("no_answer")
        else:
            self._missed = 0
            self.counters.use()
        return data

    def _wait(self, frame: int, deadline: float) -> Any | None:
        found = self._early.pop(frame, None)
        while found is None:
            left = deadline - time.monotonic()
            try:
                data = self._queue.get(timeout=left) if left > 0 else self._queue.get_nowait()
            except queue.Empty:
                return None
            number = int(data.frame)
            if number == frame:
                found = data
            elif number > frame:
                self._early[number] = data
            else:
                self.ignored += 1
        return found
