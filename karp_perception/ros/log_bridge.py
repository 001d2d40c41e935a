"""The package's Python logging on the ROS side, and no flood of it: a line that repeats is written now and then."""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

_QUIET = 5.0  # s between two lines from the same place in the code


class RosLogHandler(logging.Handler):
    """Gives records to a node's logger (console, log file, /rosout).

    Of one place in the code, one line each few seconds is passed on, with the number of those held back. What is said
    only once anyway (`extra={"once": True}`) is never held back.
    """

    def __init__(self, ros_logger: Any) -> None:
        super().__init__(logging.INFO)
        self._ros = ros_logger
        self._guard = threading.Lock()
        self._last: dict[tuple[str, int], float] = {}
        self._held: dict[tuple[str, int], int] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Pass a record on, or count it."""
        place, now = (record.pathname, record.lineno), time.monotonic()
        with self._guard:
            recent = now - self._last.get(place, -_QUIET) < _QUIET
            if recent and not getattr(record, "once", False):
                self._held[place] = self._held.get(place, 0) + 1
                return
            self._last[place] = now
            held = self._held.pop(place, 0)
        text = self.format(record) + (f" ({held} more like this)" if held else "")
        # rclpy ties the severity to the place a call is made from, so each has its own.
        if record.levelno >= logging.ERROR:
            self._ros.error(text)
        elif record.levelno >= logging.WARNING:
            self._ros.warning(text)
        else:
            self._ros.info(text)


def bridge_logging(ros_logger: Any) -> None:
    """Send what the package logs to a node's logger, from now on."""
    package = logging.getLogger("karp_perception")
    for handler in [h for h in package.handlers if isinstance(h, RosLogHandler)]:
        package.removeHandler(handler)
    package.addHandler(RosLogHandler(ros_logger))
    package.setLevel(logging.INFO)
    package.propagate = False
