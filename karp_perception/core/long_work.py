"""Work that takes seconds, such as compiling a network: says so at once, and how far it is at least every second."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

_LOG = logging.getLogger(__name__)
TICK_S = 0.8
"""Between two words on the same work: a late one still comes within a second."""


@dataclass(frozen=True)
class Progress:
    """How far some work is.

    Attributes:
        what: is being done.
        seconds: since it began.
        share: that is done, 0 to 1; None where that is not known.
        detail: what is done right now; may be empty.
        finished: whether this is the last word on it, be it done or given up.
    """

    what: str
    seconds: float
    share: float | None = None
    detail: str = ""
    finished: bool = False

    def __str__(self) -> str:
        how_far = "" if self.share is None else f", {self.share:.0%}"
        detail = f" ({self.detail})" if self.detail and not self.finished else ""
        return f"{self.what}: {'ended after ' if self.finished else ''}{self.seconds:.0f} s{how_far}{detail}"


Listener = Callable[[Progress], None]

_listeners: list[Listener] = []
_running: list[LongWork] = []


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """While this lasts, `listener` hears of all long work in the process, in whatever thread; nobody else does.

    It is called from threads of their own, several at a time where several things are done at once.
    """
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


class LongWork:
    """A context in which something takes long; called with what is known of how far it is.

    Of works within each other, or at once, the one that began last is told of. Where nobody listens, beginning and end
    go to the log.

    Args:
        what: is being done, as in "compiling the network with OpenVINO".
        clock: seconds, monotonic.
    """

    def __init__(self, what: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._what, self._clock = what, clock
        self._share: float | None = None
        self._detail = ""
        self._start = clock()
        self._ended = threading.Event()
        self._ticker = threading.Thread(target=self._tick_on, name="progress", daemon=True)

    def __enter__(self) -> LongWork:
        self._start = self._clock()
        _running.append(self)
        self.tick()
        self._ticker.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._ended.set()
        self._ticker.join()
        _running.remove(self)
        if self._share is not None and kind is None:
            self._share = 1.0
        self.tick(finished=True)

    def __call__(self, share: float | None, detail: str = "") -> None:
        """So much of it is done, and this is done now; heard with the next tick."""
        self._share, self._detail = share, detail

    def tick(self, finished: bool = False) -> None:
        """Tell the listener how far it is."""
        if _running and _running[-1] is not self and not finished:
            return
        progress = Progress(self._what, self._clock() - self._start, self._share, self._detail, finished)
        listeners = _listeners[-1:]
        for listener in listeners:
            listener(progress)
        if not listeners and (finished or progress.seconds < TICK_S / 2):
            _LOG.info("%s", progress)

    def _tick_on(self) -> None:
        while not self._ended.wait(TICK_S):
            self.tick()
