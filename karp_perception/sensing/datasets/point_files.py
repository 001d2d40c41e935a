"""Files of bare float32 numbers, which KITTI and nuScenes keep their lidar sweeps in."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from karp_perception.core.errors import InvalidInput


def read_points(file: Path, columns: int) -> np.ndarray:
    """(N, columns) float32 of a file of little-endian float32; points that are not finite are left out.

    Raises InvalidInput, naming the file, where it is missing or ends within a point.
    """
    try:
        values = np.fromfile(file, dtype="<f4")
        size = file.stat().st_size
    except OSError as error:
        raise InvalidInput(
            str(file), "a sweep of the lidar", f"a file that cannot be read ({error.strerror})", "is it there?"
        ) from None
    if size % (4 * columns):
        raise InvalidInput(str(file), f"{columns} float32 a point", f"{size} bytes", "it is truncated: get it again")
    points = values.astype(np.float32, copy=False).reshape(-1, columns)
    return points[np.isfinite(points).all(axis=1)]
