"""The two threads behind a node: one takes messages off the executor's hands, one does the work on the latest frame.

The executor must be back in a moment, or the queue of depth 1 in the middleware overwrites messages and nobody counts
them. So subscriptions hand over, `Intake` decodes and synchronises in order of arrival, and `LatestWorker` works on the
newest thing there is: when it is slower than the input, what it never began is counted as superseded.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from typing import Any

log = logging.getLogger(__name__)

_TICK = 0.02  # s between two looks at what is complete, when nothing arrives


class _Loop:
    """A thread that can be stopped; not a daemon, because those abort the interpreter when it ends under them."""

    def __init__(self, name: str) -> None:
        self._wake = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name=name)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End after what is being done now, and wait for that."""
        with self._wake:
            self._stopping = True
            self._wake.notify_all()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        raise AssertionError("each loop has its own")


class Intake(_Loop):
    """Reads messages in order of arrival, and passes on what is complete.

    Args:
        poll: gives what is complete at a time, ns.
        ready: takes each of those.
        clock: the time of arrivals, ns.
        room: messages of one input that may wait; the oldest is dropped beyond.
    """

    def __init__(
        self,
        poll: Callable[[int], Iterable[Any]],
        ready: Callable[[Any], None],
        clock: Callable[[], int] = time.monotonic_ns,
        room: int = 10,
    ) -> None:
        super().__init__("intake")
        self._poll, self._ready, self._clock, self._room = poll, ready, clock, room
        self._messages: deque[tuple[str, int, Callable[[int], None], Callable[[], None]]] = deque()
        self._waiting: Counter[str] = Counter()
        self.busy_ms = 0.0
        """Time spent since somebody last took it (and set it to 0), ms."""

    def hand_over(self, name: str, read: Callable[[int], None], drop: Callable[[], None]) -> None:
        """Queue a message of input `name`: `read(arrival_ns)` is called in the thread, or `drop()` at once for the
        oldest one where too many wait.
        """
        overflow = None
        with self._wake:
            if self._waiting[name] >= self._room:
                oldest = next(item for item in self._messages if item[0] == name)
                self._messages.remove(oldest)
                self._waiting[name] -= 1
                overflow = oldest[3]
            self._messages.append((name, self._clock(), read, drop))
            self._waiting[name] += 1
            self._wake.notify_all()
        if overflow is not None:
            overflow()

    def _run(self) -> None:
        while True:
            with self._wake:
                if not self._messages and not self._stopping:
                    self._wake.wait(_TICK)
                if self._stopping:
                    return
                item = self._messages.popleft() if self._messages else None
                if item is not None:
                    self._waiting[item[0]] -= 1
            start = time.perf_counter()
            try:
                if item is not None:
                    item[2](item[1])
                for complete in self._poll(self._clock()):
                    self._ready(complete)
            except Exception:
                # A defect of ours must not end the node: say so, and go on with the next message.
                log.exception("reading a message of %s failed", item[0] if item else "no input")
                if item is not None:
                    item[3]()
            self.busy_ms += (time.perf_counter() - start) * 1e3


class LatestWorker(_Loop):
    """Works on the newest item; those it never began are given to `superseded`, those it failed on to `failed`."""

    def __init__(
        self, work: Callable[[Any], None], superseded: Callable[[Any], None], failed: Callable[[Any], None]
    ) -> None:
        super().__init__("worker")
        self._work, self._superseded, self._failed = work, superseded, failed
        self._item: Any = None

    def submit(self, item: Any) -> None:
        """The newest item."""
        with self._wake:
            replaced, self._item = self._item, item
            self._wake.notify_all()
        if replaced is not None:
            self._superseded(replaced)

    def offer(self, item: Any) -> None:
        """An item to work on only if nothing else waits."""
        with self._wake:
            if self._item is None:
                self._item = item
                self._wake.notify_all()

    def _run(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._item is not None or self._stopping)
                item, self._item = self._item, None
                stopping = self._stopping
            if stopping:
                if item is not None:
                    self._superseded(item)
                return
            try:
                self._work(item)
            except Exception:
                # A defect of ours must not end the node: say so, count the frame, and go on with the next one.
                log.exception("a frame was not used because of a defect")
                self._failed(item)
