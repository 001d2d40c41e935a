"""Rigid transforms, quaternions, angles and pinhole projection.

Conventions: `T_a_b` is (4, 4) and maps points of frame b into frame a, so `T_a_c = T_a_b @ T_b_c`. Quaternions are
x y z w, as in ROS. Frames follow REP-103: x forward, y left, z up; camera optical frames have z forward, x right, y
down.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from karp_perception.core.errors import InvalidInput
from karp_perception.core.validation import as_array


def wrap_angle(angle: ArrayLike) -> np.ndarray:
    """Angle in rad brought into [-pi, pi)."""
    return (np.asarray(angle, dtype=np.float64) + np.pi) % (2 * np.pi) - np.pi


def pose_from_rotation(rotation: ArrayLike, translation: ArrayLike) -> np.ndarray:
    """(4, 4) transform from a rotation (3, 3) and a translation (3,) in m."""
    T = np.eye(4)
    T[:3, :3] = rotation
    T[:3, 3] = translation
    return T


def pose_from_xy_yaw(x: float, y: float, yaw: float) -> np.ndarray:
    """(4, 4) transform of a planar pose: x, y in m, yaw in rad about z."""
    c, s = np.cos(yaw), np.sin(yaw)
    return pose_from_rotation([[c, -s, 0], [s, c, 0], [0, 0, 1]], (x, y, 0))


def pose_from_quaternion(translation: ArrayLike, quaternion: ArrayLike) -> np.ndarray:
    """(4, 4) transform from a translation (3,) in m and a quaternion x y z w (normalised here)."""
    return pose_from_rotation(quaternion_to_matrix(quaternion), as_array("translation", translation, (3,)))


def invert_pose(T: np.ndarray) -> np.ndarray:
    """Inverse of a rigid transform (4, 4)."""
    R = T[:3, :3].T
    return pose_from_rotation(R, -R @ T[:3, 3])


def yaw_of(T: np.ndarray) -> float:
    """Heading of a transform's x axis in the xy plane, rad."""
    return float(np.arctan2(T[1, 0], T[0, 0]))


def transform_points(T: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Points (N, 3) of frame b in frame a, for T = T_a_b; keeps float32 where it came in."""
    T = np.asarray(T, dtype=points.dtype)
    return points @ T[:3, :3].T + T[:3, 3]


def quaternion_to_matrix(quaternion: ArrayLike) -> np.ndarray:
    """Rotation (3, 3) of a quaternion x y z w. Raises InvalidInput for one that is not finite or has no length."""
    q = as_array("quaternion", quaternion, (4,))
    norm = float(np.linalg.norm(q))
    if norm < 1e-6:
        raise InvalidInput("quaternion", "a length near 1", f"{q.tolist()}", "an unset orientation is 0 0 0 1")
    x, y, z, w = q / norm
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def quaternion_from_matrix(R: np.ndarray) -> np.ndarray:
    """Quaternion x y z w with w >= 0 of a rotation (3, 3): the largest of the four components is found first
    (Shepperd).
    """
    trace = R[0, 0] + R[1, 1] + R[2, 2]
    candidates = np.array([R[0, 0], R[1, 1], R[2, 2], trace])
    i = int(np.argmax(candidates))
    q = np.empty(4)
    if i == 3:
        q[:] = (R[2, 1] - R[1, 2], R[0, 2] - R[2, 0], R[1, 0] - R[0, 1], 1 + trace)
    else:
        j, k = (i + 1) % 3, (i + 2) % 3
        q[i] = 1 - trace + 2 * R[i, i]
        q[j] = R[j, i] + R[i, j]
        q[k] = R[k, i] + R[i, k]
        q[3] = R[k, j] - R[j, k]
    q /= np.linalg.norm(q)
    return -q if q[3] < 0 else q


def quaternion_from_yaw(yaw: float) -> np.ndarray:
    """Quaternion x y z w of a rotation by yaw (rad) about z."""
    return np.array([0.0, 0.0, np.sin(yaw / 2), np.cos(yaw / 2)])


def interpolate_pose(T0: np.ndarray, T1: np.ndarray, fraction: float) -> np.ndarray:
    """Pose between two: translation linear, rotation by slerp; fraction 0 gives T0, 1 gives T1, beyond extrapolates."""
    q0, q1 = quaternion_from_matrix(T0[:3, :3]), quaternion_from_matrix(T1[:3, :3])
    dot = float(q0 @ q1)
    if dot < 0:
        q1, dot = -q1, -dot
    if dot > 1 - 1e-9:
        q = q0 + fraction * (q1 - q0)
    else:
        theta = np.arccos(dot)
        q = (np.sin((1 - fraction) * theta) * q0 + np.sin(fraction * theta) * q1) / np.sin(theta)
    return pose_from_quaternion(T0[:3, 3] + fraction * (T1[:3, 3] - T0[:3, 3]), q)


def project_points(points: np.ndarray, intrinsics: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pinhole projection without distortion.

    Args:
        points: (N, 3) in the camera's optical frame, m.
        intrinsics: (3, 3).

    Returns:
        pixels (N, 2), with NaN for points not in front of the camera, and depth (N,) in m.
    """
    depth = points[:, 2]
    visible = depth > 1e-6
    safe = np.where(visible, depth, 1.0)[:, None]
    pixels = (points @ intrinsics.T)[:, :2] / safe
    return np.where(visible[:, None], pixels, np.nan), depth
