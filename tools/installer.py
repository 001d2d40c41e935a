"""The folders of a set-up, and how its steps are run, logged and shown."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
VENV_PYTHON = VENV / "bin" / "python"
REQUIREMENTS = ROOT / "requirements"
INTERFACES = ROOT / "interfaces"
LOG = VENV / "karp_setup.log"
INTERFACES_LOG = VENV / "karp_interfaces.log"


class SetupError(Exception):
    """A step failed; the text says which, and how to go on."""


def files_below(folder: Path) -> list[Path]:
    """The files in `folder`, sorted, without what Python and builds leave behind."""
    hidden = ("__pycache__", "build")
    return sorted(
        path
        for path in folder.rglob("*")
        if path.is_file() and not any(part in hidden or part.endswith(".egg-info") for part in path.parts)
    )


def pip(
    *arguments: object,
    environment: dict[str, str] | None = None,
    log_file: Path = LOG,
    watch: Callable[[str], None] | None = None,
) -> None:
    """Runs `.venv`'s pip, its output going to the log (and line by line to `watch`); raises SetupError if it fails."""
    command = [str(VENV_PYTHON), "-m", "pip", "--disable-pip-version-check", "--no-input", *map(str, arguments)]
    if arguments[0] == "install":
        command.append("--no-compile")  # Python does it for the modules that are used: a third of the time saved
    lines: list[str] = []
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env={**os.environ, **(environment or {})},
        cwd=ROOT,
    )
    with process, log_file.open("a") as log:
        log.write(f"$ {' '.join(command)}\n")
        for line in process.stdout or ():
            log.write(line)
            lines.append(line)
            if watch:
                watch(line)
    if process.returncode:
        said = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR")] or lines[-1:]
        raise SetupError(
            f"pip {arguments[0]}: {said[0].strip() if said else 'no output'} (see {log_file.relative_to(ROOT)})"
        )


class Step:
    """Prints what is being done and how long it took, with what is going on meanwhile on a terminal."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._shown = ""
        self._live = sys.stdout.isatty()

    def __enter__(self) -> Step:
        self._start = time.monotonic()
        if self._live:
            print(f"  {self.name} ...", end="", flush=True)
        return self

    def show(self, doing: str) -> None:
        """Shows progress: in place on a terminal, else a line whenever it changes."""
        if self._live:
            print(f"\r\033[K  {self.name} ... {doing}, {time.monotonic() - self._start:.0f} s", end="", flush=True)
        elif doing != self._shown:
            print(f"  {self.name}: {doing}", flush=True)
        self._shown = doing

    def __exit__(self, kind: type | None, *_: object) -> None:
        outcome = "failed after" if kind else "took"
        start = "\r\033[K" if self._live else ""
        print(f"{start}  {self.name} {outcome} {time.monotonic() - self._start:.0f} s", flush=True)
