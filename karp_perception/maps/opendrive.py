"""OpenDRIVE files (.xodr) as a Road. `carla.Map` reads their geometry without a server; the extra `carla` brings it."""

from __future__ import annotations

from pathlib import Path

from karp_perception.core.errors import InvalidInput, KarpError
from karp_perception.core.road import Road
from karp_perception.world.carla.client import load_carla
from karp_perception.world.carla.road_map import read_road_map


def read_opendrive(file: Path, speed_limit: float = 13.9) -> Road:
    """The lanes, lights and signs of a file, in its own coordinates (m, x east, y north by convention).

    Args:
        file: OpenDRIVE 1.4 or later.
        speed_limit: m/s where the file gives none.

    Raises InvalidInput for a file that cannot be read or holds no lane to drive on, BackendUnavailable without the
    package.
    """
    carla = load_carla()
    try:
        text = Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"map {file}", "a readable OpenDRIVE file", error) from None
    try:
        return read_road_map(carla, Path(file).name, text, speed_limit).road
    except KarpError as error:
        raise InvalidInput(f"map {file}", "an OpenDRIVE file with lanes to drive on", error) from None
