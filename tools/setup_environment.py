"""`make setup`: creates or repairs `.venv` with everything the project needs, in pinned versions.

ROS 2 is the one that already imports in the Python given (apt); else wheels, with the message packages of
`interfaces/` compiled against them once and kept in the user's cache; else, where neither can be had, it is left out,
with a line saying so. What was done is written to a stamp at the very end, so that a set-up cut short is taken up by
the next one and a finished one returns at once.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import time
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from installer import (
    INTERFACES,
    INTERFACES_LOG,
    LOG,
    REQUIREMENTS,
    ROOT,
    VENV,
    VENV_PYTHON,
    SetupError,
    Step,
    files_below,
    pip,
)
from message_packages import InterfacesBuild, reason_against_wheels

STAMP = VENV / "karp_setup.json"
LOCK = ROOT / ".venv.lock"
PYTHON_VERSIONS = ((3, 10), (3, 14))
LINKED_FOLDERS = ("launch", "config", "models", "executables", "resource")
MESSAGE_PACKAGES = (
    "ackermann_msgs",
    "autoware_perception_msgs",
    "autoware_planning_msgs",
    "tf2_msgs",
    "vision_msgs",
)


def main() -> int:
    """Runs the set-up; returns the process's exit code."""
    leave_own_environment()
    start = time.monotonic()
    low, high = PYTHON_VERSIONS
    if not low <= sys.version_info[:2] <= high:
        print(f"Python {low[0]}.{low[1]}-{high[0]}.{high[1]} is needed, this is {platform.python_version()}: "
              "name another one, as in `make setup PYTHON=python3.12`")  # fmt: skip
        return 1
    with only_one():
        try:
            return bring_up_to_date(start)
        except SetupError as error:
            print(f"set-up failed: {error}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print("\nset-up interrupted: the next one goes on from here", file=sys.stderr)
            return 130


def bring_up_to_date(start: float) -> int:
    """Sets up what the stamp does not vouch for; returns the process's exit code."""
    system_ros = importlib.util.find_spec("rclpy") is not None
    stamp, inputs = read_stamp(), input_hash(system_ros)
    if stamp.get("inputs") == inputs and VENV_PYTHON.exists():
        print(*stamp["notes"], sep="\n", end="\n" if stamp["notes"] else "")
        return 0
    if stamp.get("system_ros") and not system_ros and any(Path("/opt/ros").glob("*/setup.bash")):
        raise SetupError(".venv uses the ROS 2 in /opt/ros, which is not sourced: `source /opt/ros/*/setup.bash` first")
    print(f"setting up .venv (Python {platform.python_version()}), log in {LOG.relative_to(ROOT)}", flush=True)
    if create_environment(system_ros, recreate=stamp.get("system_ros") not in (None, system_ros)):
        stamp.clear()
    stamp.update(inputs=None, system_ros=system_ros, notes=[])
    write_stamp(stamp)  # from here on the environment is neither the old nor the new one
    complete = set_up(system_ros, stamp)
    print(*stamp["notes"], sep="\n", end="\n" if stamp["notes"] else "")
    write_stamp({**stamp, "inputs": inputs if complete else None})
    print(f"ready in {time.monotonic() - start:.0f} s: .venv/bin/karp, .venv/bin/python", flush=True)
    return 0


@contextmanager
def only_one() -> Iterator[None]:
    """Waits for another set-up of this checkout to end."""
    with LOCK.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("another set-up is under way, waiting for it", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


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
    """Everything the environment is made from: the project's files, the Python, and which ROS it can have."""
    ros = "system" if system_ros else reason_against_wheels()  # a compiler installed since is a reason to go on
    digest = hashlib.sha256(f"{sys.version} {sys.base_prefix} {sysconfig.get_platform()} {ros} {VENV}".encode())
    single = [ROOT / name for name in ("setup.py", "setup.cfg", "package.xml")]
    linked = [path for folder in LINKED_FOLDERS for path in files_below(ROOT / folder)]
    tools = Path(__file__).parent
    for path in [*files_below(tools), *single, *files_below(REQUIREMENTS), *files_below(INTERFACES)]:
        digest.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes())
    digest.update("\0".join(str(path.relative_to(ROOT)) for path in linked).encode())
    digest.update((ROOT / "karp_perception" / "__init__.py").read_bytes())  # the version
    return digest.hexdigest()


def read_stamp() -> dict:
    """What the last finished set-up wrote, or nothing."""
    try:
        return json.loads(STAMP.read_text())
    except (OSError, ValueError):
        return {}


def write_stamp(stamp: dict) -> None:
    """Writes the stamp so that it is there whole or not at all."""
    partial = STAMP.with_suffix(".partial")
    partial.write_text(json.dumps(stamp))
    partial.replace(STAMP)


def set_up(system_ros: bool, stamp: dict) -> bool:
    """Installs everything and leaves in `stamp` what to repeat on later runs.

    Returns whether all was done that can be done on this machine (else the next set-up tries again).
    Raises SetupError where something fails that nothing works without.
    """
    notes, complete = stamp["notes"], True
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
    try:
        with Step("TensorRT for RTX"):
            pip("install", "-r", REQUIREMENTS / "tensorrt.txt", "-c", constraints)
    except SetupError as error:
        notes.append(f"without TensorRT for RTX (its backend is off): {error}")
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
                wheel = interfaces.wheel(step)
                if stamp.get("interfaces") != wheel.parent.name:
                    pip("install", "--no-deps", "--force-reinstall", wheel)
                    stamp["interfaces"] = wheel.parent.name
        except SetupError as error:
            notes.append(f"without ROS 2 (the nodes are off, everything else works): {error}")
            complete = False
    with Step("karp_perception"):
        pip("install", "--no-deps", "--no-build-isolation", "-e", ROOT)
        link_data_files()
    with Step("the world's code") as step:
        step.show("compiling it, a minute or two, once")
        compile_world(notes)
    return complete


def compile_world(notes: list[str]) -> None:
    """Has numba compile what the embedded world runs, so that nobody waits for it later."""
    done = subprocess.run(
        [VENV_PYTHON, "-m", "karp_perception.world.warm_up"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        notes.append(f"the world's code was not compiled ahead ({last}): the first drive takes longer")


def create_environment(system_ros: bool, recreate: bool) -> bool:
    """Creates `.venv`, anew where it is of another Python or kind or does not work; returns whether it is new."""
    if VENV_PYTHON.exists() and not recreate:
        question = "import sys, pip; print(sys.version, sys.base_prefix)"
        answer = subprocess.run([VENV_PYTHON, "-c", question], capture_output=True, text=True, check=False)
        recreate = answer.stdout.strip() != f"{sys.version} {sys.base_prefix}"
    missing = not VENV_PYTHON.exists()
    if recreate or missing:
        with_pip = venv.EnvBuilder(system_site_packages=system_ros, clear=VENV.exists(), symlinks=True, with_pip=True)
        try:
            with_pip.create(VENV)
        except subprocess.CalledProcessError as error:
            raise SetupError("this Python cannot make virtual environments: `sudo apt install python3-venv`") from error
    LOG.write_text("")
    INTERFACES_LOG.write_text("")
    return recreate or missing


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
    question = f"import importlib.util as u; print(*[n for n in {('rclpy', *MESSAGE_PACKAGES)} if not u.find_spec(n)])"
    answer = subprocess.run([VENV_PYTHON, "-c", question], capture_output=True, text=True, check=True)
    if not answer.stdout.split():
        return f"ROS 2 {distribution} of this system is used"
    packages = " ".join(f"ros-{distribution}-{name.replace('_', '-')}" for name in answer.stdout.split())
    return f"ROS 2 {distribution} of this system is used; missing there: `sudo apt install {packages}`"


def link_data_files() -> None:
    """Links what setup.py installs outside the package (pip leaves it out of editable installations).

    So launch files, configurations and nodes are found where ROS looks for them, and edits count at once.
    """
    question = (
        "import json, setuptools, distutils.core as core;"
        "print(json.dumps(core.run_setup('setup.py', stop_after='init').data_files))"
    )
    command = [VENV_PYTHON, "-c", question]
    answer = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    for folder in ("share", "lib"):
        shutil.rmtree(VENV / folder / "karp_perception", ignore_errors=True)
    for folder, files in json.loads(answer.stdout.splitlines()[-1]):
        for file in files:
            link = VENV / folder / Path(file).name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.unlink(missing_ok=True)
            link.symlink_to(ROOT / file)


if __name__ == "__main__":
    sys.exit(main())
