"""Labels that stay true when the sensors of a frame change: points counted anew, what is no longer seen said so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from karp_perception.core import CameraFrame
from karp_perception.core.geometry import invert_pose, transform_points
from karp_perception.sensing.labelled_frame import LabelledFrame
from karp_perception.sensing.point_index import PointIndex
from karp_perception.sensing.sweep_changes import chosen, view_mask

_NEAR_M = 0.2  # before the lens, nearer than which nothing is seen


def recounted(frame: LabelledFrame, before: LabelledFrame) -> LabelledFrame:
    """The frame with `points_inside` and `visibility` (see `with_seen`) of what is left of its points.

    `points_inside` falls as the count of points in each box does. That is the count itself where it was one before;
    a simulator, which knows what each point hit, may have counted more on fast objects: their box is that of the
    sweep's stamp, and its points were met before and after. Points that moved and did not go are still those of their
    objects.

    Args:
        frame: `before` with another sweep and the same labels.
        before: whose `points_inside` are true.
    """
    lidar, old, count = frame.sensors.lidar, before.sensors.lidar, before.points_inside
    if lidar is None or not len(lidar.points):
        count = np.zeros_like(count)
    elif old is not None and len(old.points) != len(lidar.points) and len(count):
        inside, was_inside = (PointIndex(sweep.points).count(frame.labels) for sweep in (lidar, old))
        count = left_of(count, was_inside, inside, len(lidar.points) / len(old.points))
    return with_seen(replace(frame, points_inside=count))


def ended_with_view(frame: LabelledFrame) -> LabelledFrame:
    """The frame with a sweep that ends where its labels do (`sector`): with the view of its cameras.

    What is left of the sweep has labels all around. The frame itself where its labels do not end there, or where it
    has no camera or no sweep.
    """
    sweep, cameras = frame.sensors.lidar, [c for c in frame.sensors.cameras.values() if c is not None]
    if not frame.sector or sweep is None or not cameras:
        return frame
    seen = np.logical_or.reduce([view_mask(sweep, camera) for camera in cameras])
    sensors = replace(frame.sensors, lidar=chosen(sweep, seen))
    return recounted(replace(frame, sensors=sensors, sector=False), frame)


def left_of(count: np.ndarray, was_inside: np.ndarray, inside: np.ndarray, share: float) -> np.ndarray:
    """(N,) what is left of `count` points on objects, when of `was_inside` in their boxes `inside` are left.

    `share` is what is left of all points, for objects of which none lay in their box.
    """
    left = np.where(was_inside > 0, inside / np.maximum(was_inside, 1), share)
    return np.rint(count * left).astype(np.int64)


def with_seen(frame: LabelledFrame) -> LabelledFrame:
    """The frame with `visibility` 0 where neither points nor an image show anything of an object.

    An image shows an object where its mask does or, where there is no mask, where the object's box lies in the image.
    """
    if frame.visibility is None:
        return frame
    unseen = (frame.points_inside == 0) & (frame.visibility > 0)
    if not unseen.any():
        return frame
    return replace(frame, visibility=np.where(unseen & ~in_images(frame), 0.0, frame.visibility))


def in_images(frame: LabelledFrame) -> np.ndarray:
    """(N,) mask: does an image show something of the object."""
    seen = np.zeros(len(frame.labels), bool)
    corners = None
    for name, camera in frame.sensors.cameras.items():
        if camera is None:
            continue
        mask = frame.masks.get(name)
        if mask is not None and frame.object_id is not None:
            seen |= pixel_counts({name: mask}, frame.object_id) > 0
        else:
            corners = frame.labels.corners() if corners is None else corners
            seen |= in_view(camera, corners)
    return seen


def pixel_counts(masks: Mapping[str, np.ndarray], object_id: np.ndarray) -> np.ndarray:
    """(N,) pixels that show each object, over all masks."""
    total = np.zeros(len(object_id), np.int64)
    if not len(object_id):
        return total
    order = np.argsort(object_id, kind="stable")
    for mask in masks.values():
        shown, count = np.unique(mask[mask > 0], return_counts=True)
        place = np.searchsorted(object_id, shown, sorter=order).clip(0, len(order) - 1)
        known = object_id[order[place]] == shown
        np.add.at(total, order[place[known]], count[known])
    return total


def in_view(camera: CameraFrame, corners: np.ndarray) -> np.ndarray:
    """(N,) mask: does the frame of the image cut the rectangle around the corners (N, 8, 3) of a box, by a pinhole.

    Of a lens with distortion the field of view comes out as if it had none; corners behind the lens are left out.
    """
    height, width = camera.image.shape[:2]
    if not len(corners):
        return np.zeros(0, bool)
    optical = transform_points(invert_pose(camera.T_base_camera), corners.reshape(-1, 3))
    depth = optical[:, 2].reshape(-1, 8)
    before = depth > _NEAR_M
    pixels = (optical @ camera.intrinsics.T)[:, :2].reshape(-1, 8, 2) / np.where(before, depth, 1.0)[..., None]
    low = np.where(before[..., None], pixels, np.inf).min(axis=1)
    high = np.where(before[..., None], pixels, -np.inf).max(axis=1)
    return before.any(axis=1) & (high >= 0).all(axis=1) & (low <= (width - 1, height - 1)).all(axis=1)
