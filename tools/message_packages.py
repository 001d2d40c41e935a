"""The wheel of `interfaces/`: compiled once, then kept in the user's cache."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import sys
import sysconfig
import tempfile
import threading
import time
from pathlib import Path

from installer import INTERFACES, INTERFACES_LOG, REQUIREMENTS, ROOT, SetupError, Step, files_below, pip

BUILD_ABANDONED_S = 3600.0


def reason_against_wheels() -> str | None:
    """Why this machine cannot use the ROS wheels, or None."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return f"there are no ROS wheels for {sysconfig.get_platform()}; install ROS 2 itself and source it"
    if cached_wheel() is None and shutil.which(os.environ.get("CXX", "c++")) is None:
        return "no C++ compiler to build message packages with; `sudo apt install g++`, then `make setup`"
    return None


def wheel_folder() -> Path:
    """Where the compiled message packages are kept, by everything they depend on."""
    parts = [sys.implementation.cache_tag, sysconfig.get_config_var("SOABI"), sysconfig.get_platform()]
    digest = hashlib.sha256(repr([*parts, platform.libc_ver()]).encode())
    for path in [*files_below(INTERFACES), REQUIREMENTS / "ros.txt"]:
        digest.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes())
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "karp_perception" / "wheels" / digest.hexdigest()[:24]


def cached_wheel() -> Path | None:
    """The wheel of the message packages, if it has been built before."""
    return next(iter(wheel_folder().glob("karp_ros_interfaces-*.whl")), None)


class InterfacesBuild:
    """Compiles the message packages while pip installs the rest; needs nothing of `.venv` but its Python and pip."""

    def __init__(self) -> None:
        self.stage = "starting"
        self.error: SetupError | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def wheel(self, step: Step) -> Path:
        """Waits for the wheel, showing in `step` how far it is; raises SetupError if it could not be built."""
        while self._thread.is_alive():
            step.show(self.stage)
            self._thread.join(timeout=0.5)
        wheel = cached_wheel()
        if self.error or wheel is None:
            raise self.error or SetupError(f"building the message packages gave no wheel; see {INTERFACES_LOG}")
        return wheel

    def _run(self) -> None:
        if cached_wheel() is not None:
            return
        folder = wheel_folder()
        folder.parent.mkdir(parents=True, exist_ok=True)
        for left_behind in folder.parent.glob("building-*"):
            if time.time() - left_behind.stat().st_mtime > BUILD_ABANDONED_S:
                shutil.rmtree(left_behind, ignore_errors=True)
        # Built from a copy, so that nothing is left in the checkout, and renamed into place when whole.
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix="building-") as work:
            source, result = Path(work) / "source", Path(work) / "result"
            shutil.copytree(INTERFACES, source, ignore=shutil.ignore_patterns("__pycache__", "build", "*.egg-info"))
            pins = str(REQUIREMENTS / "ros.txt")
            # Older pips hand the first name to isolated builds, newer ones the second.
            environment = {"PIP_CONSTRAINT": pins, "PIP_BUILD_CONSTRAINT": pins}
            try:
                pip(
                    *("wheel", "-v", "--no-deps", "-w", result, source),
                    environment=environment,
                    log_file=INTERFACES_LOG,
                    watch=self._watch,
                )
            except SetupError as error:
                self.error = error
                return
            if not folder.exists():
                result.replace(folder)

    def _watch(self, line: str) -> None:
        text = line.strip()
        if text.startswith("interfaces: "):
            self.stage = text.removeprefix("interfaces: ")
        elif self.stage == "starting":
            self.stage = "fetching the build tools"
