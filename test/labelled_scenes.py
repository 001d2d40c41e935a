"""A made-up labelled frame: boxes on level ground, seen by a turning lidar and two cameras without any rendering."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

from karp_perception.core import Boxes, CameraFrame, EgoState, LidarSweep, SensorFrame
from karp_perception.core.geometry import pose_from_rotation, pose_from_xy_yaw
from karp_perception.sensing.labelled_frame import LabelledFrame

ORIGIN = np.array([0.0, 0.0, 1.73])
RINGS = np.radians(np.linspace(-24.0, 2.0, 48))
COLUMNS = 720
STAMP_NS = 1_700_000_000_000_000_000
_OPTICAL = np.array([[0, 0, 1], [-1, 0, 0], [0, -1, 0.0]])
_REACH_M = 80.0

# x, y, length, width, height, yaw, vx, vy, label
_OBJECTS = np.array(
    [
        (12.0, 3.0, 4.4, 1.8, 1.5, 0.1, 5.0, 0.5, 0),
        (18.0, -4.0, 0.7, 0.7, 1.75, 1.2, 0.4, 1.0, 5),
        (25.0, -1.0, 8.0, 2.5, 3.2, -0.2, 8.0, -1.5, 1),
        (9.0, -6.0, 1.9, 0.7, 1.7, 2.0, -2.0, 4.0, 7),
        (-15.0, 2.0, 4.2, 1.8, 1.5, 3.0, -6.0, 0.8, 0),
        (34.0, 7.0, 4.5, 1.9, 1.6, 0.0, 0.0, 0.0, 0),
    ]
)


def rays() -> np.ndarray:
    """(rings * columns, 3) directions of the lidar's beams."""
    azimuth = (np.arange(COLUMNS) + 0.5) * (2 * np.pi / COLUMNS) - np.pi
    e, a = np.meshgrid(RINGS, azimuth, indexing="ij")
    return np.stack([np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e)], axis=-1).reshape(-1, 3)


def slab(origin: np.ndarray, directions: np.ndarray, boxes: Boxes) -> np.ndarray:
    """(N, M) distance at which ray j from the origin enters box i, infinite where it misses."""
    result = np.full((len(boxes), len(directions)), np.inf)
    for i in range(len(boxes)):
        c, s = np.cos(boxes.yaw[i]), np.sin(boxes.yaw[i])
        turn = np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]])
        start, along = turn @ (origin - boxes.center[i]), directions @ turn.T
        with np.errstate(divide="ignore"):
            a, b = (-0.5 * boxes.size[i] - start) / along, (0.5 * boxes.size[i] - start) / along
        first, last = np.minimum(a, b).max(axis=1), np.maximum(a, b).min(axis=1)
        hit = (first <= last) & (first > 0)
        result[i, hit] = first[hit]
    return result


def cast(boxes: Boxes, origin: np.ndarray = ORIGIN) -> np.ndarray:
    """(N, 4) float32 points of a sweep over boxes on the plane z = 0."""
    directions = rays()
    with np.errstate(divide="ignore"):
        ground = np.where(directions[:, 2] < 0, -origin[2] / directions[:, 2], np.inf)
    distance = np.minimum(ground, slab(origin, directions, boxes).min(axis=0, initial=np.inf))
    hit = distance < _REACH_M
    # Into the box by a millimetre: the count of points inside does not hang on rounding.
    points = origin + directions[hit] * (distance[hit, None] + 1e-3)
    intensity = 0.2 + 0.5 * (np.arange(len(points)) % 7) / 7
    return np.c_[points, intensity].astype(np.float32)


def picture(boxes: Boxes, numbers: np.ndarray, K: np.ndarray, pose: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(H, W) int32 mask: the silhouettes of boxes, the nearest on top."""
    mask = np.zeros(size[::-1], np.int32)
    T = np.linalg.inv(pose)
    away = np.linalg.norm(boxes.center - pose[:3, 3], axis=1)
    for i in np.argsort(-away):
        corners = boxes.corners()[i] @ T[:3, :3].T + T[:3, 3]
        if corners[:, 2].min() <= 0.2:
            continue
        flat = (corners @ K.T)[:, :2] / corners[:, 2:]
        cv2.fillConvexPoly(mask, cv2.convexHull(np.rint(flat).astype(np.int32)), int(numbers[i]))
    return mask


def make_scene(objects: np.ndarray = _OBJECTS) -> LabelledFrame:
    """The frame of objects (N, 9): x, y, length, width, height, yaw, vx, vy, label."""
    n = len(objects)
    center = np.c_[objects[:, :2], 0.5 * objects[:, 4]]
    boxes = Boxes(center, objects[:, 2:5], objects[:, 5], objects[:, 6:8], objects[:, 8].astype(int), np.ones(n))
    numbers = np.arange(n) * 3 + 5
    points = cast(boxes)
    time = (np.arctan2(points[:, 1], points[:, 0]) / (2 * np.pi) * 0.1).astype(np.float32)
    cameras, masks = {}, {}
    for name, yaw, size, focal in (("front", 0.0, (352, 128), 202.0), ("right", -1.0, (320, 160), 180.0)):
        K = np.array([[focal, 0, 0.5 * size[0] - 3], [0, focal + 1, 0.5 * size[1] + 2], [0, 0, 1]])
        place = pose_from_xy_yaw(0.3, -0.1, yaw) @ pose_from_rotation(np.eye(3), (0, 0, 1.6))
        pose = place @ pose_from_rotation(_OPTICAL, np.zeros(3))
        mask = picture(boxes, numbers, K, pose, size)
        rng = np.random.default_rng(7)
        colors = rng.integers(20, 235, (int(numbers.max(initial=0)) + 1, 3)).astype(np.uint8)
        image = colors[mask]
        image[mask == 0] = 90 + (np.add.outer(np.arange(size[1]), np.arange(size[0]))[mask == 0, None] % 64)
        cameras[name] = CameraFrame(image, K, pose, STAMP_NS)
        masks[name] = mask
    ego = EgoState(STAMP_NS, pose_from_xy_yaw(20.0, -5.0, 0.7), np.array([9.0, 0.1]), 0.15)
    sensors = SensorFrame(STAMP_NS, cameras, LidarSweep(points, STAMP_NS, time), ego)
    inside = boxes.contains(points.astype(float)).sum(axis=1) if n else np.zeros(0, int)
    return LabelledFrame(
        sensors, boxes, inside, np.array([[30.0, 20.0, 2.0]]), False, numbers, np.full(n, 0.9), None, masks
    )


@lru_cache
def scene() -> LabelledFrame:
    """The same frame for every test: nothing writes to it."""
    return make_scene()
