"""Worlds that are open when the process ends are closed: at a normal exit, at Ctrl-C, and at SIGTERM.

Ctrl-C raises KeyboardInterrupt, which ends in the `atexit` handlers; SIGTERM by itself ends a Python process without
them. While a world is open, and nobody else has taken SIGTERM over, it therefore raises SystemExit.
"""

from __future__ import annotations

import atexit
import signal
import threading
from collections.abc import Callable
from typing import Any, NoReturn

_open: list[Callable[[], None]] = []


def guard(close: Callable[[], None]) -> None:
    """Call `close` at the end of the process, however it ends."""
    if not _open:
        atexit.register(_close_all)
        if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
            signal.signal(signal.SIGTERM, _leave)
    _open.append(close)


def release(close: Callable[[], None]) -> None:
    """It has been closed; harmless a second time."""
    if close in _open:
        _open.remove(close)
    if _open:
        return
    atexit.unregister(_close_all)
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is _leave:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _close_all() -> None:
    for close in list(_open):
        close()


def _leave(number: int, frame: Any) -> NoReturn:
    raise SystemExit(128 + number)
