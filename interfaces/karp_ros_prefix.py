"""Makes a Python prefix a ROS prefix too, as `setup.bash` does for apt's (imported by `karp_ros_prefix.pth`).

Without AMENT_PREFIX_PATH neither `launch_ros` nor the type support find what pip installed. LD_LIBRARY_PATH is set by
`ros-wheels-bootstrapper`, which starts Python again once for it and then leaves a mark in the environment; a Python of
another prefix, started by such a process, has to forget the mark.
"""

from __future__ import annotations

import os
import sys
from collections.abc import MutableMapping

BOOTSTRAPPED = "_ROS_WHEELS_BOOTSTRAP_COMPLETE"


def add_prefix(prefix: str, environment: MutableMapping[str, str]) -> None:
    """Appends `prefix` to AMENT_PREFIX_PATH, behind what a user has put there; repeated calls change nothing."""
    known = [path for path in environment.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if path]
    if prefix not in known:
        environment["AMENT_PREFIX_PATH"] = os.pathsep.join([*known, prefix])
    if os.path.join(prefix, "lib") not in environment.get("LD_LIBRARY_PATH", "").split(os.pathsep):
        environment.pop(BOOTSTRAPPED, None)


add_prefix(sys.prefix, os.environ)
