"""Where frames that messages are given in lie in `odom`."""

from __future__ import annotations

import numpy as np

from karp_perception.core import EgoState, MissingTransform
from karp_perception.sensing.transforms import TransformBuffer


def T_odom_from(
    frame: str, ego: EgoState | None, transforms: TransformBuffer, base_frame: str, odom_frame: str
) -> np.ndarray:
    """(4, 4) pose of a frame in that of `ego.T_odom_base`, at the time of `ego`; no name stands for odom.

    By way of the vehicle: the odom frame of a lidar odometry hangs on no tree. Raises MissingTransform where it is not
    known.
    """
    if frame in ("", odom_frame):
        return np.eye(4)
    if ego is None:
        raise MissingTransform(f"{frame} cannot be placed in {odom_frame}: the vehicle's own motion is not known")
    if frame == base_frame:
        return ego.T_odom_base
    return ego.T_odom_base @ transforms.lookup(base_frame, frame, ego.stamp_ns)
