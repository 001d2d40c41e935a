"""Accounting of frames and messages: every one is used, or dropped for a named reason."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Any


class Counters:
    """Counts what became of messages. A message counts as received once its fate is known, so `received` equals
    `used` plus all `dropped` at any moment, whichever thread looks.

    Args:
        upstream: counters of an earlier stage: what it dropped counts as dropped here too, what it used is still to be
            counted here.
    """

    def __init__(self, upstream: Counters | None = None) -> None:
        self._lock = threading.Lock()
        self._upstream = upstream
        self._used = 0
        self._dropped: Counter[str] = Counter()

    def use(self) -> None:
        """One message went into a result."""
        with self._lock:
            self._used += 1

    def drop(self, reason: str, count: int = 1) -> None:
        """Messages were not used, for a reason in lower_snake_case."""
        with self._lock:
            self._dropped[reason] += count

    def as_dict(self) -> dict[str, Any]:
        """`{"received": int, "used": int, "dropped": {reason: int}}`, consistent in itself."""
        with self._lock:
            used, dropped = self._used, Counter(self._dropped)
        if self._upstream is not None:
            dropped.update(self._upstream.dropped)
        return {"received": used + sum(dropped.values()), "used": used, "dropped": dict(sorted(dropped.items()))}

    @property
    def used(self) -> int:
        """Messages that went into a result."""
        return self._used

    @property
    def received(self) -> int:
        """Messages whose fate is known."""
        return self.as_dict()["received"]

    @property
    def dropped(self) -> dict[str, int]:
        """Dropped messages by reason."""
        return self.as_dict()["dropped"]
