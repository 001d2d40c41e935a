"""CARLA's coordinates and ours, both ways; a conversion exists here and nowhere else.

CARLA is left-handed (Unreal): x forward, y right, z up; angles in degrees, pitch positive nose up, yaw positive to the
right, roll positive to the right. REP-103 is right-handed: y left. Mirroring y turns one into the other: a point
becomes (x, -y, z), a rotation matrix R becomes M R M with M = diag(1, -1, 1), an angular velocity (which is no vector,
it changes sign under mirroring) becomes (-x, y, -z). The origin of a CARLA vehicle lies on the ground below the middle
of its bounding box, give or take the box's own offset: that is where `base_link` is put.

CARLA objects are known by their attributes alone (`location.x`, `rotation.yaw`), so that anything shaped alike will do.
"""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np

from karp_perception.core.errors import InvalidInput
from karp_perception.core.geometry import pose_from_rotation

_GIMBAL = 1.0 - 1e-9  # sine of a pitch from which yaw and roll turn about the same axis
_DEPTH_RANGE = 1000.0  # m that the 24 bits of a depth image stand for
_LIDAR_COLUMNS = 4  # float32 x, y, z, intensity


def rotation_from_carla(rotation: Any) -> np.ndarray:
    """(3, 3) REP-103 rotation of a carla.Rotation."""
    pitch, yaw, roll = (math.radians(float(angle)) for angle in (rotation.pitch, rotation.yaw, rotation.roll))
    cp, sp, cy, sy, cr, sr = (f(a) for a in (pitch, yaw, roll) for f in (math.cos, math.sin))
    return np.array(
        [
            [cp * cy, sy * cr - cy * sp * sr, -cy * sp * cr - sy * sr],
            [-cp * sy, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr],
            [sp, cp * sr, cp * cr],
        ]
    )


def vector_from_carla(vector: Any) -> np.ndarray:
    """(3,) position or velocity of a carla.Location or carla.Vector3D."""
    return np.array([float(vector.x), -float(vector.y), float(vector.z)])


def pose_from_carla(transform: Any) -> np.ndarray:
    """(4, 4) REP-103 pose of a carla.Transform."""
    return pose_from_rotation(rotation_from_carla(transform.rotation), vector_from_carla(transform.location))


def yaw_rate_from_carla(angular_velocity: Any) -> float:
    """rad/s, positive to the left, of a carla.Vector3D in degrees a second."""
    return -math.radians(float(angular_velocity.z))


def angles_to_carla(R: np.ndarray) -> tuple[float, float, float]:
    """Pitch, yaw, roll in degrees of a carla.Rotation, for a REP-103 rotation (3, 3). Roll is 0 straight up or down."""
    sine = float(np.clip(R[2, 0], -1.0, 1.0))
    pitch = math.asin(sine)
    if abs(sine) > _GIMBAL:
        yaw, roll = math.atan2(R[0, 1], R[1, 1]), 0.0
    else:
        yaw, roll = math.atan2(-R[1, 0], R[0, 0]), math.atan2(R[2, 1], R[2, 2])
    return math.degrees(pitch), math.degrees(yaw), math.degrees(roll)


def location_to_carla(carla: Any, position: np.ndarray) -> Any:
    """carla.Location of a point (3,) in m."""
    x, y, z = (float(v) for v in position)
    return carla.Location(x, -y, z)


def transform_to_carla(carla: Any, T: np.ndarray) -> Any:
    """carla.Transform of a REP-103 pose (4, 4); `carla` is the module."""
    pitch, yaw, roll = angles_to_carla(T[:3, :3])
    return carla.Transform(location_to_carla(carla, T[:3, 3]), carla.Rotation(pitch=pitch, yaw=yaw, roll=roll))


def points_from_carla(raw: Any) -> np.ndarray:
    """(N, 4) float32 x, y, z (m, in the sensor's frame, REP-103) and intensity, of a LidarMeasurement's bytes."""
    numbers = np.frombuffer(raw, np.float32)
    if len(numbers) % _LIDAR_COLUMNS:
        raise InvalidInput("CARLA lidar", "four numbers a point", f"{len(numbers)} numbers", reason="malformed_points")
    points = numbers.reshape(-1, _LIDAR_COLUMNS).copy()
    points[:, 1] *= -1.0
    return points


def image_from_carla(raw: Any, width: int, height: int) -> np.ndarray:
    """(H, W, 3) uint8 RGB of a carla.Image's bytes, which are B G R A."""
    return cv2.cvtColor(_pixels(raw, width, height), cv2.COLOR_BGRA2RGB)


def depth_from_carla(raw: Any, width: int, height: int) -> np.ndarray:
    """(H, W) float32 m along the optical axis, of a depth camera's bytes: 24 bits over 1000 m, R the lowest."""
    pixels = _pixels(raw, width, height).astype(np.float32)
    count = pixels[..., 2] + 256.0 * pixels[..., 1] + 65536.0 * pixels[..., 0]
    return count * np.float32(_DEPTH_RANGE / (256**3 - 1))


def _pixels(raw: Any, width: int, height: int) -> np.ndarray:
    numbers = np.frombuffer(raw, np.uint8)
    if len(numbers) != width * height * 4:
        expected = f"{width} x {height} pixels of 4 bytes"
        raise InvalidInput("CARLA image", expected, f"{len(numbers)} bytes", reason="truncated_image")
    return numbers.reshape(height, width, 4)
