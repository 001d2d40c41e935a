"""What a command says on stderr while it works."""

from __future__ import annotations

from typing import Any


def console() -> Any:
    """rich's console on stderr: stdout is for results."""
    from rich.console import Console

    return Console(stderr=True)


class ProgressBar:
    """A progress bar on stderr; called with the share that is done.

    Until then it says "getting ready": compiling, and measuring precisions, takes a minute the first time.
    """

    def __init__(self, what: str) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"))
        self._bar = Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console())
        self._task = self._bar.add_task("getting ready", total=1.0)
        self._what = what

    def __enter__(self) -> ProgressBar:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def __call__(self, share: float, what: str | None = None) -> None:
        """`share` of the work is done, 0 to 1; `what` is done next, if that has changed."""
        self._what = what or self._what
        self._bar.update(self._task, completed=share, description=self._what)
