"""Files of bare float32 numbers, which lidar sweeps are kept in: KITTI's, nuScenes' and our own."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from karp_perception.core.errors import InvalidInput


def read_rows(file: Path, columns: int) -> np.ndarray:
    """(N, columns) float32 of a file of little-endian float32, whatever they are.

    Raises InvalidInput, naming the file, where it is missing or ends within a row.
    """
    try:
        data = Path(file).read_bytes()
    except OSError as error:
        raise InvalidInput(
            str(file), "a sweep of the lidar", f"a file that cannot be read ({error.strerror})", "is it there?"
        ) from None
    if len(data) % (4 * columns):
        raise InvalidInput(
            str(file), f"{columns} float32 a point", f"{len(data)} bytes", "it is truncated: get it again"
        )
    return np.frombuffer(data, "<f4").astype(np.float32).reshape(-1, columns)


def read_points(file: Path, columns: int) -> np.ndarray:
    """As `read_rows`, without the points that are not finite."""
    points = read_rows(file, columns)
    return points[np.isfinite(points).all(axis=1)]
