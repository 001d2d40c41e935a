"""`make setup`: creates or repairs `.venv` with everything the project needs, in pinned versions.

ROS 2 is the one that already imports in the Python given (apt); else wheels, with the message packages of
`interfaces/` compiled against them once and kept in the user's cache; else, where neither can be had, it is left out and
said so. What was done is written to a stamp at the very end, so that a set-up cut short is taken up by the next one and
a finished one returns at once.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
VENV_PYTHON = VENV / "bin" / "python"
STAMP = VENV / "karp_setup.json"
LOG = VENV / "karp_setup.log"
REQUIREMENTS = ROOT / "requirements"
INTERFACES = ROOT / "interfaces"
PYTHON_VERSIONS = ((3, 10), (3, 14))
LINKED_FOLDERS = ("launch", "config", "models")
APT_MESSAGE_PACKAGES = ("ackermann_msgs", "autoware_perception_msgs", "autoware_planning_msgs", "tf2_msgs", "vision_msgs")


class SetupError(Exception):
    """A step failed; the text says which, and how to go on."""


def main() -> int:
    """Runs the set-up; returns the process's exit code."""
    leave_own_environment()
    start = time.monotonic()
    low, high = PYTHON_VERSIONS
    if not low <= sys.version_info[:2] <= high:
        print(f"Python {low[0]}.{low[1]}-{high[0]}.{high[1]} is needed, this is {platform.python_version()}: "
              "name another one, as in `make setup PYTHON=python3.12`")  # fmt: skip
        return 1
    system_ros = importlib.util.find_spec("rclpy") is not None
    state = read_stamp()
    inputs = input_hash(system_ros)
    if state.get("inputs") == inputs and VENV_PYTHON.exists():
        for note in state.get("notes", []):
            print(note)
        return 0
    try:
        notes, complete = set_up(system_ros, was_system_ros=state.get("system_ros"))
    except SetupError as error:
        print(f"set-up failed: {error}", file=sys.stderr)
        return 1
    for note in notes:
        print(note)
    write_atomically(
        STAMP, json.dumps({"inputs": inputs if complete else None, "system_ros": system_ros, "notes": notes})
    )
    print(f"ready in {time.monotonic() - start:.0f} s: .venv/bin/karp, .venv/bin/python", flush=True)
    return 0


def leave_own_environment() -> None:
    """Starts again with the Python below, where this is `.venv`'s own (an activated environment)."""
    os.environ.pop("_ROS_WHEELS_BOOTSTRAP_COMPLETE", None)  # set by ROS wheels of whoever started this process
    if Path(sys.prefix).resolve() == VENV.resolve():
        base = getattr(sys, "_base_executable", sys.executable)
        os.environ["AMENT_PREFIX_PATH"] = without(VENV, os.environ.get("AMENT_PREFIX_PATH", ""))
        os.environ["LD_LIBRARY_PATH"] = without(VENV, os.environ.get("LD_LIBRARY_PATH", ""))
        os.execv(base, [base, *sys.argv])


def without(folder: Path, paths: str) -> str:
    """A search path less its entries in `folder`."""
    return os.pathsep.join(path for path in paths.split(os.pathsep) if not path.startswith(str(folder)))


def input_hash(system_ros: bool) -> str:
    """Everything the environment is made from: the project's files, the Python, and which ROS it uses."""
    digest = hashlib.sha256(f"{sys.version} {sys.base_prefix} {sysconfig.get_platform()} {system_ros} {VENV}".encode())
    single = [ROOT / name for name in ("setup.py", "setup.cfg", "package.xml")]
    linked = [path for folder in LINKED_FOLDERS for path in files_below(ROOT / folder)]
    for path in [Path(__file__), *single, *files_below(REQUIREMENTS), *files_below(INTERFACES)]:
        digest.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes())
    digest.update("\0".join(str(path.relative_to(ROOT)) for path in linked).encode())
    digest.update((ROOT / "karp_perception" / "__init__.py").read_bytes())  # the version
    return digest.hexdigest()


def files_below(folder: Path) -> list[Path]:
    """The files in `folder`, sorted, without what Python and builds leave behind."""
    hidden = ("__pycache__", "build")
    return sorted(
        path
        for path in folder.rglob("*")
        if path.is_file() and not any(part in hidden or part.endswith(".egg-info") for part in path.parts)
    )


def read_stamp() -> dict:
    """What the last finished set-up wrote, or nothing."""
    try:
        return json.loads(STAMP.read_text())
    except (OSError, ValueError):
        return {}


def write_atomically(path: Path, text: str) -> None:
    """Writes a file so that it is there whole or not at all."""
    partial = path.with_suffix(".partial")
    partial.write_text(text)
    partial.replace(path)


def set_up(system_ros: bool, was_system_ros: bool | None) -> tuple[list[str], bool]:
    """Does all steps; returns lines to repeat on later runs, and whether a later run has nothing to add.

    Raises SetupError where something fails that nothing works without.
    """
    if was_system_ros and not system_ros and any(Path("/opt/ros").glob("*/setup.bash")):
        raise SetupError(".venv was made with the ROS 2 of /opt/ros, which is not sourced: `source /opt/ros/*/setup.bash`")
    print(f"setting up .venv (Python {platform.python_version()}), log in {LOG.relative_to(ROOT)}", flush=True)
    create_environment(system_ros, recreate=was_system_ros not in (None, system_ros))
    notes, complete = [], True
    why_no_wheels = None if system_ros else reason_against_wheels()
    interfaces = None if system_ros or why_no_wheels else InterfacesBuild()
    constraints = write_constraints(system_ros)

    with Step("packages"):
        pip("install", "-r", REQUIREMENTS / "runtime.txt", "-r", REQUIREMENTS / "dev.txt", "-c", constraints)
    try:
        with Step("torch, onnx"):
            pip("install", "-r", REQUIREMENTS / "training.txt", "-c", constraints)
    except SetupError as error:
        notes.append(f"without torch (training, export and the torch backend are off): {error}")
        complete = False
    if system_ros:
        notes.append(use_system_ros())
    elif interfaces is None:
        notes.append(f"without ROS 2 (the nodes are off, everything else works): {why_no_wheels}")
    else:
        try:
            with Step("ROS 2 Jazzy"):
                pip("install", "-r", REQUIREMENTS / "ros.txt", "-c", constraints)
            with Step("message packages") as step:
                pip("install", "--no-deps", "--force-reinstall", interfaces.wheel(step))
        except SetupError as error:
            notes.append(f"without ROS 2 (the nodes are off, everything else works): {error}")
            complete = False
    with Step("karp_perception"):
        pip("install", "--no-deps", "--no-build-isolation", "-e", ROOT)
        link_shared_files()
    return notes, complete


def create_environment(system_ros: bool, recreate: bool) -> None:
    """Creates `.venv`, anew where it is of another Python or kind or does not work."""
    if VENV_PYTHON.exists() and not recreate:
        question = "import sys, pip; print(sys.version, sys.base_prefix)"
        answer = subprocess.run([VENV_PYTHON, "-c", question], capture_output=True, text=True, check=False)
        recreate = answer.stdout.strip() != f"{sys.version} {sys.base_prefix}"
    if recreate or not VENV_PYTHON.exists():
        with_pip = venv.EnvBuilder(system_site_packages=system_ros, clear=VENV.exists(), symlinks=True, with_pip=True)
        try:
            with_pip.create(VENV)
        except subprocess.CalledProcessError as error:
            raise SetupError("this Python cannot make virtual environments: `sudo apt install python3-venv`") from error
    LOG.write_text("")


def write_constraints(system_ros: bool) -> Path:
    """The versions to install. An apt ROS compiled for numpy 1 gets the last versions that work with it."""
    lines = (REQUIREMENTS / "constraints.txt").read_text().splitlines()
    if system_ros and system_numpy_major() == 1:
        instead = (REQUIREMENTS / "constraints-numpy1.txt").read_text().splitlines()
        names = {line.split("==")[0] for line in instead if "==" in line}
        lines = [line for line in lines if line.split("==")[0] not in names] + instead
    path = VENV / "constraints.txt"
    path.write_text("\n".join(lines) + "\n")
    return path


def system_numpy_major() -> int | None:
    """The major version of the numpy that comes with the system's Python, if any."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return int(version("numpy").split(".")[0])
    except PackageNotFoundError:
        return None


def use_system_ros() -> str:
    """Makes `.venv` a ROS prefix beside the system's; returns a line saying which messages are missing there."""
    (site_packages,) = VENV.glob("lib/python*/site-packages")
    for name in ("karp_ros_prefix.py", "karp_ros_prefix.pth"):
        shutil.copy(INTERFACES / name, site_packages)
    distribution = os.environ.get("ROS_DISTRO", "<distribution>")
    missing = [name for name in APT_MESSAGE_PACKAGES if importlib.util.find_spec(name) is None]
    if not missing:
        return f"ROS 2 {distribution} of this system is used"
    packages = " ".join(f"ros-{distribution}-{name.replace('_', '-')}" for name in missing)
    return f"ROS 2 {distribution} of this system is used; missing there: `sudo apt install {packages}`"


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
            raise self.error or SetupError(f"building the message packages gave no wheel; see {LOG}")
        return wheel

    def _run(self) -> None:
        if cached_wheel() is not None:
            return
        folder = wheel_folder()
        folder.parent.mkdir(parents=True, exist_ok=True)
        # Built from a copy, so that nothing is left in the checkout, and renamed into place when whole.
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix="building-") as work:
            source, result = Path(work) / "source", Path(work) / "result"
            shutil.copytree(INTERFACES, source, ignore=shutil.ignore_patterns("__pycache__", "build", "*.egg-info"))
            pins = str(REQUIREMENTS / "ros.txt")
            # Older pips hand the first name to isolated builds, newer ones the second.
            environment = {"PIP_CONSTRAINT": pins, "PIP_BUILD_CONSTRAINT": pins}
            try:
                pip("wheel", "-v", "--no-deps", "-w", result, source, environment=environment, watch=self._watch)
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


def link_shared_files() -> None:
    """Links launch files, configurations and models instead of the copies pip made, so that edits count at once."""
    for folder in LINKED_FOLDERS:
        for path in files_below(ROOT / folder):
            link = VENV / "share" / "karp_perception" / path.relative_to(ROOT)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.unlink(missing_ok=True)
            link.symlink_to(path)


def pip(*arguments: object, environment: dict[str, str] | None = None, watch=None) -> None:
    """Runs `.venv`'s pip, its output going to the log (and line by line to `watch`); raises SetupError if it fails."""
    command = [str(VENV_PYTHON), "-m", "pip", "--disable-pip-version-check", "--no-input", *map(str, arguments)]
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
    with process, LOG.open("a") as log:
        log.write(f"$ {' '.join(command)}\n")
        for line in process.stdout or ():
            log.write(line)
            lines.append(line)
            if watch:
                watch(line)
    if process.returncode:
        said = [line.strip() for line in lines if line.startswith("ERROR")] or lines[-1:]
        raise SetupError(f"pip {arguments[0]}: {said[0].strip() if said else 'no output'} (see {LOG.relative_to(ROOT)})")


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


if __name__ == "__main__":
    sys.exit(main())
