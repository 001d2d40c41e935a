"""Boxes in KITTI's terms: what `kitti_metrics` needs of a label file and of what was detected."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from karp_perception.core import Boxes, CameraFrame, ObjectClass
from karp_perception.core.geometry import invert_pose, project_points, transform_points, wrap_angle
from karp_perception.evaluation.kitti_metrics import KittiFrame, KittiObjects

if TYPE_CHECKING:
    from karp_perception.sensing.datasets.kitti_object import LabelColumns

TYPES = {
    ObjectClass.CAR: "Car",
    ObjectClass.TRUCK: "Truck",
    ObjectClass.PEDESTRIAN: "Pedestrian",
    ObjectClass.BICYCLE: "Cyclist",
}
"""KITTI's names for our classes; all others are Misc."""

_NEAR_M = 0.1  # depth at which boxes that reach behind the camera are cut
_EDGES = np.array([[0, 1], [1, 2], [2, 3], [3, 0], [4, 5], [5, 6], [6, 7], [7, 4], [0, 4], [1, 5], [2, 6], [3, 7]])


def kitti_frame_of_file(
    columns: LabelColumns, T_base_rectified: np.ndarray, camera: CameraFrame, detections: Boxes
) -> KittiFrame:
    """An image of the KITTI object benchmark, with its labels as they stand in the file.

    Observation angles of labels and detections alike follow from places and turns; KITTI's own differ from that by a
    median of 0.005 rad.

    Args:
        columns: of the label file (`sensing.datasets.kitti_object.read_labels`).
        T_base_rectified: (4, 4) pose of the frame that labels are given in (`Calibration.T_base_rectified`).
        camera: the left colour camera.
        detections: in `base_link`.
    """
    zeros = np.zeros(len(columns.kind))
    truth = KittiObjects(
        np.array(columns.kind, str),
        columns.truncated,
        columns.occluded,
        _alpha(columns.bottom, columns.rotation_y),
        columns.rectangle,
        columns.size,
        columns.bottom,
        columns.rotation_y,
        zeros,
    )
    return KittiFrame(objects_in_view(detections, camera, T_base_rectified), truth)


def objects_in_view(boxes: Boxes, camera: CameraFrame, T_base_rectified: np.ndarray) -> KittiObjects:
    """Boxes that show in an image, in their order, as KITTI writes them. Lens distortion is not regarded.

    Args:
        boxes: N, in `base_link`.
        camera: whose image it is.
        T_base_rectified: (4, 4) pose of the camera frame in which locations are given.
    """
    height, width = camera.image.shape[:2]
    cut = np.clip(_rectangles(boxes, camera), 0.0, [width - 1, height - 1, width - 1, height - 1])
    with np.errstate(invalid="ignore"):
        rows = np.flatnonzero((cut[:, 2:] > cut[:, :2]).all(axis=1))
    mine = boxes[rows]
    T_rectified_base = invert_pose(T_base_rectified)
    heading = np.column_stack([np.cos(mine.yaw), np.sin(mine.yaw), np.zeros(len(rows))]) @ T_rectified_base[:3, :3].T
    rotation_y = np.arctan2(-heading[:, 2], heading[:, 0])
    # KITTI's boxes stand upright in the camera's frame: their middles stay, their bottoms lie below along its y.
    location = transform_points(T_rectified_base, mine.center) + 0.5 * mine.size[:, 2:] * np.array([0.0, 1.0, 0.0])
    zeros = np.zeros(len(rows))
    return KittiObjects(
        np.array([TYPES.get(ObjectClass(label), "Misc") for label in mine.label], str),
        zeros,
        zeros,
        _alpha(location, rotation_y),
        cut[rows],
        mine.size[:, [2, 1, 0]],
        location,
        rotation_y,
        mine.score,
    )


def _rectangles(boxes: Boxes, camera: CameraFrame) -> np.ndarray:
    """(N, 4) left, top, right, bottom of projected boxes, px, beyond the image too; NaN behind the camera."""
    n = len(boxes)
    corners = transform_points(invert_pose(camera.T_base_camera), boxes.corners().reshape(-1, 3)).reshape(n, 8, 3)
    ends = corners[:, _EDGES]  # (N, 12, 2, 3)
    depth = ends[..., 2]
    other = depth[..., ::-1]
    # Ends behind the near plane are moved to it along their edge; edges that lie behind it altogether do not show.
    with np.errstate(divide="ignore", invalid="ignore"):
        part = np.where((depth < _NEAR_M) & (other > _NEAR_M), (_NEAR_M - depth) / (other - depth), 0.0)
    shown = ends + part[..., None] * (ends[..., ::-1, :] - ends)
    shown = np.where((shown[..., 2] >= _NEAR_M * (1 - 1e-9))[..., None], shown, np.nan)
    with np.errstate(invalid="ignore"):
        pixels, _ = project_points(shown.reshape(-1, 3), camera.intrinsics)
    pixels = pixels.reshape(n, 24, 2)
    low = np.where(np.isnan(pixels), np.inf, pixels).min(axis=1)
    high = np.where(np.isnan(pixels), -np.inf, pixels).max(axis=1)
    rectangle = np.concatenate([low, high], axis=1)
    return np.where(np.isfinite(rectangle).all(axis=1)[:, None], rectangle, np.nan)


def _alpha(location: np.ndarray, rotation_y: np.ndarray) -> np.ndarray:
    """(N,) rotation_y seen from the direction in which an object lies."""
    return wrap_angle(rotation_y - np.arctan2(location[:, 0], location[:, 2]))
