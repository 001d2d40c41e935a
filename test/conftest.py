"""What the tests share: recorded data, ROS, and the reasons to skip where they are not to be had."""

from __future__ import annotations

import fcntl
import importlib.util
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOMAIN_IDS = range(1, 102)  # those whose ports stay below Linux's ephemeral ones


def claim_ros_domain() -> object:
    """Takes a ROS domain for this session alone, so that no other graph on this machine is heard, and stays local.

    Returns the open lock, which holds the domain for as long as the process lives.
    """
    ordered = sorted(DOMAIN_IDS, key=lambda number: (number - os.getpid()) % len(DOMAIN_IDS))
    for number in ordered:
        lock = open(Path(tempfile.gettempdir()) / f"karp_ros_domain_{number}.lock", "w")  # noqa: SIM115
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            continue
        os.environ["ROS_DOMAIN_ID"] = str(number)
        local = "ROS_LOCALHOST_ONLY" if os.environ.get("ROS_DISTRO") == "humble" else "ROS_AUTOMATIC_DISCOVERY_RANGE"
        os.environ[local] = "1" if local == "ROS_LOCALHOST_ONLY" else "LOCALHOST"
        return lock
    raise RuntimeError(f"all ROS domains {DOMAIN_IDS} are taken by other test sessions")


_domain_lock = claim_ros_domain()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    no_ros = pytest.mark.skip(reason="needs rclpy: `make setup` installs it, or source a ROS 2 installation")
    no_gpu = pytest.mark.skip(reason="needs an NVIDIA GPU (no nvidia-smi here)")
    has_ros = importlib.util.find_spec("rclpy") is not None
    has_gpu = shutil.which("nvidia-smi") is not None
    for item in items:
        if item.get_closest_marker("ros") and not has_ros:
            item.add_marker(no_ros)
        if item.get_closest_marker("gpu") and not has_gpu:
            item.add_marker(no_gpu)


@pytest.fixture(scope="session")
def recorded_data() -> Path:
    """The folder of recorded drives: $KARP_DATA, or `shared/data` beside the checkout."""
    folder = Path(os.environ.get("KARP_DATA") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no recorded data in {folder}: set KARP_DATA to the folder that holds it")
    return folder


@pytest.fixture(scope="session")
def ros_launch_site() -> Path:
    """A folder with the real `launch` and `launch_ros`, to be put on PYTHONPATH of a process that launches.

    It is $KARP_ROS_LAUNCH_SITE, or what the script `shared/tools/ros-launch-site` beside the checkout prints, or, where
    launch_ros imports anyway (apt), the folder that it is imported from.
    """
    named = os.environ.get("KARP_ROS_LAUNCH_SITE")
    if named:
        return Path(named)
    installed = importlib.util.find_spec("launch_ros")
    if installed is not None and installed.origin:
        return Path(installed.origin).parents[1]
    script = ROOT.parent / "shared" / "tools" / "ros-launch-site"
    if not script.exists():
        pytest.skip("launch_ros is not installed; KARP_ROS_LAUNCH_SITE may name a folder that holds it")
    answer = subprocess.run([script], capture_output=True, text=True, check=False)
    if answer.returncode:
        pytest.skip(f"launch_ros could not be fetched: {answer.stderr.strip()[-200:]}")
    return Path(answer.stdout.strip())
