"""What a command says on stderr while it works."""

from __future__ import annotations

import sys
import threading
from contextlib import AbstractContextManager
from typing import Any

from karp_perception.core.long_work import Progress, listening


def console() -> Any:
    """rich's console on stderr: stdout is for results."""
    from rich.console import Console

    return Console(stderr=True)


class WorkBars:
    """Long work within a command: bars on a terminal, lines elsewhere. A listener, see `core.long_work`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bars: Any = None
        self._tasks: dict[str, Any] = {}

    def __call__(self, progress: Progress) -> None:
        """Show how far it is."""
        if not sys.stderr.isatty():
            print(f"karp: {progress}", file=sys.stderr, flush=True)
            return
        with self._lock:
            if self._bars is None:
                self._bars = _bars(transient=True)
                self._bars.start()
            show(self._bars, self._tasks, progress)
            if not self._tasks:
                self._bars.stop()
                self._bars = None


def show(bars: Any, tasks: dict[str, Any], progress: Progress) -> None:
    """Add, move on or remove the bar of some work; `tasks` are those of `bars` by what is done."""
    if progress.finished:
        task = tasks.pop(progress.what, None)
        if task is not None:
            bars.remove_task(task)
        return
    if progress.what not in tasks:
        tasks[progress.what] = bars.add_task(progress.what, total=None)
    if progress.share is not None:
        bars.update(tasks[progress.what], completed=progress.share, total=1.0)


def _bars(**options: Any) -> Any:
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"))
    return Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console(), **options)


class ProgressBar:
    """A progress bar on stderr; called with the share that is done.

    Until then it says "getting ready"; what takes long of that, such as compiling the network, has a bar of its own.
    """

    def __init__(self, what: str) -> None:
        self._bar = _bars()
        self._task = self._bar.add_task("getting ready", total=1.0)
        self._what = what
        self._works: dict[str, Any] = {}
        self._listening: AbstractContextManager[None] = listening(self._hear)

    def __enter__(self) -> ProgressBar:
        self._bar.start()
        self._listening.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._listening.__exit__(None, None, None)
        self._bar.stop()

    def _hear(self, progress: Progress) -> None:
        if self._bar.console.is_terminal:
            show(self._bar, self._works, progress)
        else:
            print(f"karp: {progress}", file=sys.stderr, flush=True)

    def __call__(self, share: float, what: str | None = None) -> None:
        """`share` of the work is done, 0 to 1; `what` is done next, if that has changed."""
        self._what = what or self._what
        self._bar.update(self._task, completed=share, description=self._what)
