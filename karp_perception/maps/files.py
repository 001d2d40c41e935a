"""Maps from files: which one, and where it lies."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from karp_perception.core.errors import ConfigurationError, InvalidInput
from karp_perception.core.geometry import pose_from_xy_yaw
from karp_perception.core.road import Road
from karp_perception.core.settings import Settings, setting

_KINDS = (".xodr", ".osm")


@dataclass(frozen=True)
class MapSettings(Settings):
    """A map of the road. Its coordinates are moved and turned by x, y and yaw into `frame`."""

    file: str = setting("", "OpenDRIVE (.xodr) or lanelet2 (.osm) file; empty for none")
    frame: str = setting("map", "frame that the map is given in; where it lies in the odom frame is told by tf")
    x: float = setting(0.0, "of the file's origin in that frame", unit="m", low=-1e7, high=1e7)
    y: float = setting(0.0, "of the file's origin in that frame", unit="m", low=-1e7, high=1e7)
    yaw: float = setting(0.0, "of the file's x axis in that frame", unit="rad", low=-7.0, high=7.0)
    latitude: float = setting(0.0, "of the origin of a lanelet2 map", unit="degrees", low=-90.0, high=90.0)
    longitude: float = setting(0.0, "of the origin of a lanelet2 map", unit="degrees", low=-180.0, high=180.0)
    projection: str = setting(
        "utm",
        "of a lanelet2 map; local takes local_x and local_y of its points, as Autoware writes them",
        choices=("utm", "local_cartesian", "local"),
    )
    reach: float = setting(400.0, "around the vehicle within which the map counts", unit="m", low=50.0, high=900.0)
    speed_limit: float = setting(13.9, "where an OpenDRIVE map gives none", unit="m/s", low=0.5, high=70.0)


def read_map(settings: MapSettings) -> Road | None:
    """The Road of a file, in the settings' frame; None where no file is named.

    Raises ConfigurationError for what is no map by its name, BackendUnavailable where the extra that reads it is not
    installed, InvalidInput for a file that cannot be read.
    """
    if not settings.file:
        return None
    file = Path(settings.file).expanduser()
    if file.suffix.lower() not in _KINDS:
        raise ConfigurationError(f"map.file: expected a name that ends in {' or '.join(_KINDS)}, got {file}")
    if not file.is_file():
        raise InvalidInput("map.file", "a file that exists", file)
    if file.suffix.lower() == ".xodr":
        from karp_perception.maps.opendrive import read_opendrive

        road = read_opendrive(file, settings.speed_limit)
    else:
        from karp_perception.maps.lanelet2 import read_lanelet2

        road = read_lanelet2(file, settings.latitude, settings.longitude, settings.projection)
    if settings.x or settings.y or settings.yaw:
        road = road.transformed(pose_from_xy_yaw(settings.x, settings.y, settings.yaw))
    return road
