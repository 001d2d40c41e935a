"""The sensors that a vehicle carries: a lidar and cameras, placed, and the sets of them that go by a name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from karp_perception.core.errors import ConfigurationError
from karp_perception.core.validation import as_pose
from karp_perception.world.sensors.camera import CameraModel
from karp_perception.world.sensors.lidar_models import LIDARS, LidarModel


@dataclass(frozen=True)
class Rig:
    """Sensors and where they are.

    Attributes:
        name: for people.
        lidar: None for a vehicle without one.
        T_base_lidar: (4, 4) pose of the lidar in `base_link`, x to the front.
        cameras: each with its own pose; names differ.
        eye: (3,) m in `base_link`, a place from which one could see all around: the truth tells what is in sight of it
            as well. It measures nothing and costs next to nothing. None for none.
    """

    name: str
    lidar: LidarModel | None
    T_base_lidar: np.ndarray
    cameras: tuple[CameraModel, ...] = ()
    eye: tuple[float, float, float] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "T_base_lidar", as_pose("Rig.T_base_lidar", self.T_base_lidar))
        names = [camera.name for camera in self.cameras]
        if len(set(names)) < len(names):
            raise ConfigurationError(f"Rig {self.name}: cameras need different names, got {names}")
        if self.lidar is None and not self.cameras and self.eye is None:
            raise ConfigurationError(f"Rig {self.name}: expected a lidar, a camera or an eye, got none")


def mounted(x: float, y: float, z: float) -> np.ndarray:
    """(4, 4) pose of an upright sensor that looks forward, m in `base_link`."""
    T = np.eye(4)
    T[:3, 3] = x, y, z
    return T


def _ring(size: tuple[int, int], hfov: float, yaws: Mapping[str, float], height: float) -> tuple[CameraModel, ...]:
    """Cameras around the roof, each 0.5 m from its middle towards where it looks."""
    return tuple(
        CameraModel.pinhole(
            name, *size, hfov, (0.6 * np.cos(np.radians(yaw)), 0.45 * np.sin(np.radians(yaw)), height), yaw
        )
        for name, yaw in yaws.items()
    )


# Directions and fields of view of nuScenes' six cameras (Caesar et al. 2020): five of 70 degrees and a wide rear one.
_SIX = {"front": 0.0, "front_left": 55.0, "front_right": -55.0, "back_left": 110.0, "back_right": -110.0}
_ROOF = 1.84  # m, height of a roof lidar


def _nano() -> Rig:
    camera = CameraModel.pinhole("front", 352, 128, 82.0, (0.3, 0.0, 1.65))
    return Rig("nano", LIDARS["64x1024"], mounted(0.0, 0.0, 1.73), (camera,))


def _demo() -> Rig:
    camera = CameraModel.pinhole("front", 640, 360, 80.0, (0.3, 0.0, 1.55))
    return Rig("demo", LIDARS["64x1024"], mounted(0.0, 0.0, 1.73), (camera,))


def _kitti() -> Rig:
    # Geiger et al. 2013: cameras of 1242x375 (rectified), 0.27 m ahead of the lidar on the roof at 1.73 m.
    camera = CameraModel.pinhole("front", 1242, 375, 81.4, (0.27, 0.0, 1.65))
    return Rig("kitti", LIDARS["hdl64e"], mounted(0.0, 0.0, 1.73), (camera,))


def _nuscenes() -> Rig:
    ring = _ring((1600, 900), 70.0, _SIX, 1.55)
    back = _ring((1600, 900), 110.0, {"back": 180.0}, 1.55)
    return Rig("nuscenes", LIDARS["hdl32e"], mounted(0.0, 0.0, _ROOF), ring + back)


def _surround() -> Rig:
    ring = _ring((640, 360), 70.0, _SIX, 1.55) + _ring((640, 360), 110.0, {"back": 180.0}, 1.55)
    return Rig("surround", LIDARS["64x1024"], mounted(0.0, 0.0, _ROOF), ring)


def _fisheye() -> Rig:
    places = {"front": (2.8, 0.0, 0.0), "left": (1.0, 0.95, 90.0), "right": (1.0, -0.95, -90.0), "rear": (-1.8, 0, 180)}
    cameras = tuple(
        CameraModel.fisheye(name, 640, 480, 190.0, (x, y, 0.9), yaw, 15.0) for name, (x, y, yaw) in places.items()
    )
    return Rig("fisheye", LIDARS["os128"], mounted(0.0, 0.0, _ROOF), cameras)


def _robot() -> Rig:
    # What a small robot carries: a lidar on a short mast and a camera below it.
    camera = CameraModel.pinhole("front", 640, 360, 90.0, (0.25, 0.0, 0.4))
    return Rig("robot", LIDARS["vlp16"], mounted(0.0, 0.0, 0.65), (camera,))


def _lidar_only(name: str, lidar: str) -> Callable[[], Rig]:
    return lambda: Rig(name, LIDARS[lidar], mounted(0.0, 0.0, 1.73))


_RIGS: dict[str, Callable[[], Rig]] = {
    "nano": _nano,
    "demo": _demo,
    "kitti": _kitti,
    "nuscenes": _nuscenes,
    "surround": _surround,
    "fisheye": _fisheye,
    "robot": _robot,
    "lidar64": _lidar_only("lidar64", "64x1024"),
    "lidar16": _lidar_only("lidar16", "vlp16"),
}
RIGS = tuple(_RIGS)
"""Names of the rigs."""


def make_rig(name: str) -> Rig:
    """The rig of a name. Raises ConfigurationError for one that does not exist."""
    if name not in _RIGS:
        raise ConfigurationError(f"rig {name!r}: there is none of that name, only {', '.join(RIGS)}")
    return _RIGS[name]()
