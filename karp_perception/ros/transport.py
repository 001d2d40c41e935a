"""Large messages between processes: Fast DDS as it comes loses them.

Its shared-memory segment of 512 KB does not hold an image or a sweep, so best-effort ones are dropped in between
without a word. `config/fastdds_shm.xml` gives it room. Only Fast DDS reads it; other middlewares ignore the variables.
"""

from __future__ import annotations

import os

from karp_perception.core.resources import resource

PROFILE_VARIABLES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")
"""What Fast DDS up to 2.x (Jazzy) and from 3 on read."""

_USER_VARIABLES = (*PROFILE_VARIABLES, "FASTDDS_BUILTIN_TRANSPORTS")


def make_room_for_large_messages() -> bool:
    """Name our profile in the environment, for participants created after this call.

    To be called before `rclpy.init`. Returns False, and changes nothing, where the user has chosen profiles or
    transports already, or has put a profile file where Fast DDS finds it by itself.
    """
    own_choice = any(os.environ.get(name) for name in _USER_VARIABLES) or os.path.exists(
        "DEFAULT_FASTRTPS_PROFILES.xml"
    )
    if own_choice:
        return False
    profile = str(resource("config", "fastdds_shm.xml"))
    os.environ.update(dict.fromkeys(PROFILE_VARIABLES, profile))
    return True
