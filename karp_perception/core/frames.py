"""Sensor data of one moment, decoded and placed: camera images, a lidar sweep, the vehicle's own motion."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType

import numpy as np

from karp_perception.core.errors import InvalidInput
from karp_perception.core.validation import as_array, as_pose, as_stamp


class DistortionModel(str, Enum):
    """Lens models of sensor_msgs/CameraInfo. Formulas are OpenCV's: `calib3d` for the first two, `fisheye` last."""

    NONE = "none"
    PLUMB_BOB = "plumb_bob"  # k1 k2 p1 p2 k3
    RATIONAL = "rational_polynomial"  # k1 k2 p1 p2 k3 k4 k5 k6
    EQUIDISTANT = "equidistant"  # k1 k2 k3 k4


@dataclass(frozen=True)
class Distortion:
    """A lens model and its coefficients, in the order of sensor_msgs/CameraInfo.D. NONE: the image is rectified."""

    model: DistortionModel = DistortionModel.NONE
    coefficients: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        coefficients = as_array("Distortion.coefficients", self.coefficients, (None,))
        object.__setattr__(self, "coefficients", tuple(float(c) for c in coefficients))
        allowed = {
            DistortionModel.NONE: (0,),
            DistortionModel.PLUMB_BOB: (4, 5),
            DistortionModel.RATIONAL: (8, 12, 14),
            DistortionModel.EQUIDISTANT: (4,),
        }[self.model]
        if len(self.coefficients) not in allowed:
            expected = " or ".join(map(str, allowed))
            raise InvalidInput(f"Distortion ({self.model.value})", f"{expected} coefficients", len(self.coefficients))


@dataclass(frozen=True)
class CameraFrame:
    """One image with its calibration.

    Attributes:
        image: (H, W, 3) uint8, RGB.
        intrinsics: (3, 3) camera matrix, pixels.
        T_base_camera: (4, 4) maps points of the camera's optical frame into `base_link`.
        stamp_ns: time of exposure, ns.
        distortion: lens model of `image`; the default says that it is rectified.
    """

    image: np.ndarray
    intrinsics: np.ndarray
    T_base_camera: np.ndarray
    stamp_ns: int
    distortion: Distortion = field(default_factory=Distortion)

    def __post_init__(self) -> None:
        set_field = object.__setattr__
        if np.asarray(self.image).dtype != np.uint8:
            raise InvalidInput("CameraFrame.image", "uint8 RGB", np.asarray(self.image).dtype)
        set_field(self, "image", as_array("CameraFrame.image", self.image, (None, None, 3), np.uint8))
        if min(self.image.shape[:2]) == 0:
            raise InvalidInput("CameraFrame.image", "at least one pixel", f"shape {self.image.shape}")
        K = as_array("CameraFrame.intrinsics", self.intrinsics, (3, 3))
        if K[0, 0] <= 0 or K[1, 1] <= 0 or not np.allclose(K[2], (0, 0, 1)):
            raise InvalidInput("CameraFrame.intrinsics", "fx, fy > 0 and a last row of 0 0 1", K.tolist())
        set_field(self, "intrinsics", K)
        set_field(self, "T_base_camera", as_pose("CameraFrame.T_base_camera", self.T_base_camera))
        set_field(self, "stamp_ns", as_stamp("CameraFrame.stamp_ns", self.stamp_ns))


@dataclass(frozen=True)
class LidarSweep:
    """One turn of a lidar (or several merged ones).

    Attributes:
        points: (N, 4) float32 x y z (m, `base_link`) and intensity (0..1 where the sensor's scale is known).
        stamp_ns: time of the sweep, ns.
        time: (N,) float32 s of each point relative to `stamp_ns`, or None where the sensor does not tell.
    """

    points: np.ndarray
    stamp_ns: int
    time: np.ndarray | None = None

    def __post_init__(self) -> None:
        set_field = object.__setattr__
        set_field(self, "points", as_array("LidarSweep.points", self.points, (None, 4), np.float32))
        set_field(self, "stamp_ns", as_stamp("LidarSweep.stamp_ns", self.stamp_ns))
        if self.time is not None:
            set_field(self, "time", as_array("LidarSweep.time", self.time, (len(self.points),), np.float32))


class MotionSource(str, Enum):
    """Where an EgoState comes from."""

    ODOMETRY = "odometry"
    LIDAR = "lidar"
    NONE = "none"  # nothing measured it: the vehicle is taken to stand still


@dataclass(frozen=True)
class EgoState:
    """The vehicle's own motion at a moment.

    Attributes:
        stamp_ns: ns.
        T_odom_base: (4, 4) pose of `base_link` in a fixed, locally smooth frame (REP-105 `odom`).
        velocity: (2,) m/s over ground along x and y of `base_link`.
        yaw_rate: rad/s.
        source: what measured it.
    """

    stamp_ns: int
    T_odom_base: np.ndarray
    velocity: np.ndarray
    yaw_rate: float = 0.0
    source: MotionSource = MotionSource.ODOMETRY

    def __post_init__(self) -> None:
        set_field = object.__setattr__
        set_field(self, "stamp_ns", as_stamp("EgoState.stamp_ns", self.stamp_ns))
        set_field(self, "T_odom_base", as_pose("EgoState.T_odom_base", self.T_odom_base))
        set_field(self, "velocity", as_array("EgoState.velocity", self.velocity, (2,)))
        set_field(self, "yaw_rate", float(as_array("EgoState.yaw_rate", self.yaw_rate, ())))

    @classmethod
    def standing(cls, stamp_ns: int) -> EgoState:
        """A vehicle that stands at the origin of `odom`: what is assumed where nothing measures motion."""
        return cls(stamp_ns, np.eye(4), np.zeros(2), 0.0, MotionSource.NONE)

    @property
    def speed(self) -> float:
        """Signed forward speed, m/s."""
        return float(self.velocity[0])


@dataclass(frozen=True)
class SensorFrame:
    """Everything the sensors said about one moment. What is missing is None, never left out.

    Attributes:
        stamp_ns: time of the anchor sensor (the lidar where there is one), ns.
        cameras: by name, None where that camera gave nothing for this moment.
        lidar: None where missing.
        ego: None where nothing has measured the motion yet.
    """

    stamp_ns: int
    cameras: Mapping[str, CameraFrame | None] = field(default_factory=dict)
    lidar: LidarSweep | None = None
    ego: EgoState | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "stamp_ns", as_stamp("SensorFrame.stamp_ns", self.stamp_ns))
        object.__setattr__(self, "cameras", MappingProxyType(dict(self.cameras)))

    def __reduce__(self) -> tuple[object, ...]:
        # A read-only mapping cannot be pickled itself.
        return SensorFrame, (self.stamp_ns, dict(self.cameras), self.lidar, self.ego)
