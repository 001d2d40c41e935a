"""Changes of place that every sensor of a frame agrees on: mirrored, turned, scaled, shifted, tilted.

All of them change what `base_link` means and leave each image's content as it is (mirroring turns it around), so that
points, boxes and camera poses still belong together to the last pixel.
"""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from karp_perception.core import Boxes, CameraFrame, Distortion, DistortionModel, EgoState, SensorFrame
from karp_perception.core.geometry import invert_pose, pose_from_rotation
from karp_perception.sensing.labelled_frame import LabelledFrame

_MIRROR = np.diag([1.0, -1.0, 1.0, 1.0])  # of base_link and odom: left becomes right
_MIRROR_OPTICAL = np.diag([-1.0, 1.0, 1.0, 1.0])  # of a camera's optical frame: its x points right
# Coefficients that change their sign in a mirrored lens, by their place in `Distortion.coefficients`: p2; thin prism
# s1, s2; the sensor's tilt about y.
_ODD_COEFFICIENTS = (3, 8, 9, 13)


def flip(frame: LabelledFrame) -> LabelledFrame:
    """The frame as a mirror beside the road shows it: left and right exchanged, in the world and in every image.

    A pixel at column u moves to W - 1 - u, and the pose of its camera stays a proper rotation. Cameras keep their
    names, a "left" one too, although it now looks to the right.
    """
    sensors, labels = frame.sensors, frame.labels
    cameras = {name: None if camera is None else _flip_camera(camera) for name, camera in sensors.cameras.items()}
    lidar = sensors.lidar
    if lidar is not None:
        lidar = replace(lidar, points=lidar.points * np.array([1, -1, 1, 1], np.float32))
    ego = sensors.ego
    if ego is not None:
        ego = replace(
            ego,
            T_odom_base=_MIRROR @ ego.T_odom_base @ _MIRROR,
            velocity=ego.velocity * (1, -1),
            yaw_rate=-ego.yaw_rate,
        )
    boxes = replace(labels, center=labels.center * (1, -1, 1), yaw=-labels.yaw, velocity=labels.velocity * (1, -1))
    return replace(
        frame,
        sensors=SensorFrame(sensors.stamp_ns, cameras, lidar, ego),
        labels=boxes,
        unlabelled=frame.unlabelled * (1, -1, 1),
        masks={name: np.ascontiguousarray(mask[:, ::-1]) for name, mask in frame.masks.items()},
    )


def _flip_camera(camera: CameraFrame) -> CameraFrame:
    K = camera.intrinsics.copy()
    K[0, 1] = -K[0, 1]
    K[0, 2] = camera.image.shape[1] - 1 - K[0, 2]
    lens = camera.distortion
    if lens.model in (DistortionModel.PLUMB_BOB, DistortionModel.RATIONAL):
        signs = [-1.0 if i in _ODD_COEFFICIENTS else 1.0 for i in range(len(lens.coefficients))]
        lens = Distortion(lens.model, tuple(c * s for c, s in zip(lens.coefficients, signs, strict=True)))
    pose = _MIRROR @ camera.T_base_camera @ _MIRROR_OPTICAL
    return CameraFrame(cv2.flip(camera.image, 1), K, pose, camera.stamp_ns, lens)


def moved(frame: LabelledFrame, T: np.ndarray, scale: float = 1.0) -> LabelledFrame:
    """The frame in another `base_link`: a point p is where `T @ (scale * p)` was called p before.

    Boxes stay upright: under a tilt their centres and headings follow, their shape does not lean. Speeds scale with
    lengths. `odom` scales about its origin, so that points there stay consistent from frame to frame.

    Args:
        frame: any.
        T: (4, 4) rigid, T_new_old; z axes nearly parallel.
        scale: factor on every length of the world, above 0.
    """
    sensors = frame.sensors
    cameras = {
        name: None if camera is None else replace(camera, T_base_camera=_moved_pose(camera.T_base_camera, T, scale))
        for name, camera in sensors.cameras.items()
    }
    lidar = sensors.lidar
    if lidar is not None:
        lidar = replace(lidar, points=_moved_points(lidar.points, T, scale))
    return replace(
        frame,
        sensors=SensorFrame(sensors.stamp_ns, cameras, lidar, _moved_ego(sensors.ego, T, scale)),
        labels=_moved_boxes(frame.labels, T, scale),
        unlabelled=_moved_circles(frame.unlabelled, T, scale),
    )


def pose_change(yaw: float, roll: float, pitch: float, translation: tuple[float, float, float]) -> np.ndarray:
    """(4, 4) T_new_old from angles in rad, applied in the order roll, pitch, yaw, and a translation in m."""
    cr, sr, cp, sp, cy, sy = np.cos(roll), np.sin(roll), np.cos(pitch), np.sin(pitch), np.cos(yaw), np.sin(yaw)
    rolled = np.array([[1, 0, 0], [0, cr, -sr], [0, sr, cr]])
    pitched = np.array([[cp, 0, sp], [0, 1, 0], [-sp, 0, cp]])
    turned = np.array([[cy, -sy, 0], [sy, cy, 0], [0, 0, 1]])
    return pose_from_rotation(turned @ pitched @ rolled, translation)


def _moved_pose(pose: np.ndarray, T: np.ndarray, scale: float) -> np.ndarray:
    """(4, 4) pose of a sensor at a scaled place, in the new frame."""
    scaled = pose.copy()
    scaled[:3, 3] *= scale
    return T @ scaled


def _moved_points(points: np.ndarray, T: np.ndarray, scale: float) -> np.ndarray:
    """(N, 4) float32; intensities as they were."""
    change = np.eye(4, dtype=np.float32)
    change[:3, :3] = scale * T[:3, :3].T
    result = points @ change
    result[:, :3] += T[:3, 3].astype(np.float32)
    return result


def _moved_boxes(boxes: Boxes, T: np.ndarray, scale: float) -> Boxes:
    heading = np.stack([np.cos(boxes.yaw), np.sin(boxes.yaw)], axis=1) @ T[:2, :2].T
    variance = boxes.transformed(T, boxes.frame).variance if boxes.variance is not None else None
    return Boxes(
        scale * boxes.center @ T[:3, :3].T + T[:3, 3],
        scale * boxes.size,
        np.arctan2(heading[:, 1], heading[:, 0]),
        scale * boxes.velocity @ T[:2, :2].T,
        boxes.label,
        boxes.score,
        variance,
        frame=boxes.frame,
    )


def _moved_circles(circles: np.ndarray, T: np.ndarray, scale: float) -> np.ndarray:
    """(M, 3) x, y, radius: taken to lie on the ground."""
    if not len(circles):
        return circles
    result = circles * scale
    result[:, :2] = result[:, :2] @ T[:2, :2].T + T[:2, 3]
    return result


def _moved_ego(ego: EgoState | None, T: np.ndarray, scale: float) -> EgoState | None:
    if ego is None:
        return None
    # What T_odom_base maps to stays where it was, but for the scale.
    pose = ego.T_odom_base.copy()
    pose[:3, 3] *= scale
    return replace(ego, T_odom_base=pose @ invert_pose(T), velocity=scale * T[:2, :2] @ ego.velocity)
