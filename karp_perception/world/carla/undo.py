"""What has been changed on the server, and how to change it back: all of it, whatever fails on the way."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

log = logging.getLogger(__name__)

_ATTEMPTS = 2  # a call that fails once (a time-out while the server loads) often works the second time


class Undo:
    """A stack of actions, each of which takes back one change.

    `run` does all of them, the latest first, and raises nothing but what interrupts the process (which it finishes
    first): it runs where another exception may be on its way, which must not be masked.

    Args:
        answers: whether the server still does. Where it does not, the rest is given up at once: each of a hundred
            actors would wait for a time-out, and went away with the server.
    """

    def __init__(self, answers: Callable[[], bool] = lambda: True) -> None:
        self._actions: list[tuple[str, Callable[[], Any]]] = []
        self._answers = answers

    def __len__(self) -> int:
        return len(self._actions)

    def add(self, what: str, action: Callable[[], Any]) -> None:
        """`action` takes back `what`, which has happened, or may have happened in part."""
        self._actions.append((what, action))

    def run(self) -> None:
        """Take everything back. A second call has nothing to do."""
        interrupt: BaseException | None = None
        while self._actions:
            what, action = self._actions.pop()
            for attempt in range(_ATTEMPTS):
                try:
                    action()
                    break
                except Exception as error:
                    if not self._answers():
                        log.warning("CARLA no longer answers: %d changes are left as they are", len(self) + 1)
                        self._actions.clear()
                        break
                    if attempt == _ATTEMPTS - 1:
                        log.warning("CARLA: %s could not be undone: %s", what, _first_line(error))
                except BaseException as error:  # Ctrl-C: first leave the server as it was, then end
                    interrupt = interrupt or error
        if interrupt is not None:
            raise interrupt


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
