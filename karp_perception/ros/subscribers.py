"""Waiting for those who are to hear a recording or a world from its first message on."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any

_LOOK_PERIOD = 0.05  # s


def await_subscribers(publishers: Mapping[str, Any], least: int, limit: float, stop: threading.Event) -> list[str]:
    """Wait until each of some publishers (by topic) has `least` subscribers, for at most `limit` s, or until `stop`.

    Returns the topics that still have fewer.
    """
    deadline = time.monotonic() + limit
    waiting = list(publishers)
    while waiting and time.monotonic() < deadline and not stop.is_set():
        waiting = [topic for topic in waiting if publishers[topic].get_subscription_count() < least]
        if waiting:
            stop.wait(_LOOK_PERIOD)
    return waiting
