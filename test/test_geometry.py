"""Geometry against scipy and OpenCV."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.transform import Rotation, Slerp

from karp_perception.core import InvalidInput
from karp_perception.core.geometry import (
    interpolate_pose,
    invert_pose,
    pose_from_quaternion,
    pose_from_rotation,
    pose_from_xy_yaw,
    project_points,
    quaternion_from_matrix,
    quaternion_to_matrix,
    transform_points,
    wrap_angle,
    yaw_of,
)

unit = st.floats(-1, 1)
quaternions = arrays(np.float64, 4, elements=unit).filter(lambda q: np.linalg.norm(q) > 1e-3)
vectors = arrays(np.float64, 3, elements=st.floats(-100, 100))


@given(quaternions)
def test_quaternion_to_matrix_agrees_with_scipy(q: np.ndarray) -> None:
    np.testing.assert_allclose(quaternion_to_matrix(q), Rotation.from_quat(q).as_matrix(), atol=1e-12)


@given(quaternions)
def test_quaternion_from_matrix_agrees_with_scipy(q: np.ndarray) -> None:
    R = Rotation.from_quat(q)
    expected = R.as_quat()
    ours = quaternion_from_matrix(R.as_matrix())
    assert ours[3] >= 0
    assert min(np.abs(ours - expected).max(), np.abs(ours + expected).max()) < 1e-7


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_half_turns_have_no_singularity(axis: int) -> None:
    q = np.zeros(4)
    q[axis] = 1.0
    np.testing.assert_allclose(np.abs(quaternion_from_matrix(quaternion_to_matrix(q))), q, atol=1e-12)


def test_a_quaternion_without_length_is_refused() -> None:
    with pytest.raises(InvalidInput, match="length near 1"):
        quaternion_to_matrix(np.zeros(4))


@given(quaternions, vectors)
def test_inverse_undoes_a_transform(q: np.ndarray, t: np.ndarray) -> None:
    T = pose_from_quaternion(t, q)
    np.testing.assert_allclose(T @ invert_pose(T), np.eye(4), atol=1e-9)
    np.testing.assert_allclose(invert_pose(T), np.linalg.inv(T), atol=1e-9)


@given(quaternions, quaternions, vectors, vectors, st.floats(0, 1))
def test_interpolation_is_scipys_slerp(
    q0: np.ndarray, q1: np.ndarray, t0: np.ndarray, t1: np.ndarray, f: float
) -> None:
    R = Rotation.from_quat([q0, q1])
    if (R[0].inv() * R[1]).magnitude() > np.pi - 1e-3:
        return  # at a half turn both ways round are the shortest
    T = interpolate_pose(pose_from_quaternion(t0, q0), pose_from_quaternion(t1, q1), f)
    np.testing.assert_allclose(T[:3, :3], Slerp([0, 1], R)([f]).as_matrix()[0], atol=1e-6)
    np.testing.assert_allclose(T[:3, 3], t0 + f * (t1 - t0), atol=1e-9)


@given(quaternions, vectors)
def test_projection_agrees_with_opencv(q: np.ndarray, t: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    K = np.array([[721.5, 0, 609.6], [0, 719.0, 172.9], [0, 0, 1.0]])
    T = pose_from_quaternion(t, q)
    points = transform_points(invert_pose(T), rng.uniform((-5, -5, 1), (5, 5, 60), (20, 3)))
    expected, _ = cv2.projectPoints(points, Rotation.from_quat(q).as_rotvec(), T[:3, 3], K, None)
    pixels, depth = project_points(transform_points(T, points), K)
    assert (depth > 0).all()
    np.testing.assert_allclose(pixels, expected[:, 0], rtol=1e-6, atol=1e-4)


def test_points_behind_the_camera_have_no_pixel() -> None:
    pixels, depth = project_points(np.array([[0.0, 0, -2], [0, 0, 0], [0, 0, 2]]), np.eye(3))
    assert np.isnan(pixels[:2]).all()
    assert np.isfinite(pixels[2]).all()
    assert depth.tolist() == [-2, 0, 2]


@given(st.floats(-1e4, 1e4))
def test_wrapped_angles_point_the_same_way(angle: float) -> None:
    wrapped = float(wrap_angle(angle))
    assert -np.pi <= wrapped < np.pi
    assert abs(np.exp(1j * wrapped) - np.exp(1j * angle)) < 1e-9


@given(st.floats(-3.1, 3.1), st.floats(-50, 50), st.floats(-50, 50))
def test_planar_pose_keeps_its_yaw(yaw: float, x: float, y: float) -> None:
    T = pose_from_xy_yaw(x, y, yaw)
    assert yaw_of(T) == pytest.approx(yaw, abs=1e-9)
    assert T[:3, 3].tolist() == [x, y, 0]
    np.testing.assert_allclose(T[:3, :3], Rotation.from_euler("z", yaw).as_matrix(), atol=1e-12)


def test_float32_points_stay_float32() -> None:
    points = np.ones((3, 3), np.float32)
    moved = transform_points(pose_from_rotation(np.eye(3), (1, 2, 3)), points)
    assert moved.dtype == np.float32
    np.testing.assert_allclose(moved, np.tile([2, 3, 4], (3, 1)))
