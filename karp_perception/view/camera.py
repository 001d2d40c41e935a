"""Drawings on camera images: 3D boxes, the path on the road, labels. All of them work in place on RGB images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from karp_perception.core import Boxes, CameraFrame, Distortion, DistortionModel
from karp_perception.core.geometry import invert_pose, transform_points
from karp_perception.view.palette import BACKGROUND, Color, class_color
from karp_perception.view.shapes import area, pill, polyline, segments
from karp_perception.view.text import draw_text, text_width

_EDGES = np.array(
    [[0, 1], [1, 2], [2, 3], [3, 0], [4, 5], [5, 6], [6, 7], [7, 4], [0, 4], [1, 5], [2, 6], [3, 7]]
)  # of Boxes.corners
_FRONT = [0, 3, 7, 4]
_NEAR = 0.15  # m, where lines are cut off before the lens
_PIECES = 8  # into which a line is cut where the lens bends it
_WIDEST = 1.35  # tangent of the angle to the axis, in corners of the image, beyond which lens models are not trusted


@dataclass(frozen=True)
class Projection:
    """From base_link to pixels of an image.

    Attributes:
        intrinsics: (3, 3) pixels; a pixel's centre has whole coordinates.
        T_base_camera: (4, 4) pose of the optical frame.
        distortion: lens model of the image.
        size: width, height of the image, px.
    """

    intrinsics: np.ndarray
    T_base_camera: np.ndarray
    distortion: Distortion
    size: tuple[int, int]

    @classmethod
    def of(cls, camera: CameraFrame, size: tuple[int, int] | None = None) -> Projection:
        """Of a camera whose image was scaled to `size` (width, height)."""
        height, width = camera.image.shape[:2]
        size = size or (width, height)
        scale = np.array([size[0] / width, size[1] / height])
        K = camera.intrinsics.copy()
        K[:2, :2] *= scale[:, None]
        K[:2, 2] = (K[:2, 2] + 0.5) * scale - 0.5
        return cls(K, camera.T_base_camera, camera.distortion, size)

    def in_camera(self, points: np.ndarray) -> np.ndarray:
        """Points (..., 3) of base_link in the optical frame."""
        flat = np.asarray(points, np.float64).reshape(-1, 3)
        return transform_points(invert_pose(self.T_base_camera), flat).reshape(points.shape)

    def pixels(self, points: np.ndarray) -> np.ndarray:
        """Pixels (..., 2) of points (..., 3) in the optical frame, z > 0; NaN where the lens model does not reach."""
        K, shape = self.intrinsics, points.shape[:-1]
        flat = points.reshape(-1, 3)
        normal = flat[:, :2] / flat[:, 2:]
        if self.distortion.model is DistortionModel.NONE:
            return (normal * (K[0, 0], K[1, 1]) + K[:2, 2]).reshape(*shape, 2)
        if len(flat) == 0:
            return np.zeros((*shape, 2))
        coefficients = np.array(self.distortion.coefficients)
        spatial = np.ascontiguousarray(np.c_[normal, np.ones(len(normal))])[:, None]
        if self.distortion.model is DistortionModel.EQUIDISTANT:
            pixels, _ = cv2.fisheye.projectPoints(spatial, np.zeros(3), np.zeros(3), K, coefficients)
        else:
            pixels, _ = cv2.projectPoints(spatial, np.zeros(3), np.zeros(3), K, coefficients)
        corner = np.hypot(*(np.maximum(K[:2, 2], self.size - K[:2, 2]) / (K[0, 0], K[1, 1])))
        far = np.hypot(normal[:, 0], normal[:, 1]) > _WIDEST * corner
        return np.where(far[:, None], np.nan, pixels.reshape(-1, 2)).reshape(*shape, 2)

    def lines(self, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pixels (M, 2, 2) of straight lines between points (N, 2, 3) of the optical frame, and (M,) whose they are.

        What lies behind the lens is cut off; what the lens bends comes in several pieces; what is outside the image
        is left out.
        """
        a, b = ends[:, 0], ends[:, 1]
        source = np.flatnonzero(np.maximum(a[:, 2], b[:, 2]) > _NEAR)
        a, b = a[source], b[source]
        step = np.where(np.abs(b[:, 2] - a[:, 2]) < 1e-9, 1.0, b[:, 2] - a[:, 2])
        cut = ((_NEAR - a[:, 2]) / step)[:, None]
        on_plane = a + cut * (b - a)
        a, b = np.where(a[:, 2:] < _NEAR, on_plane, a), np.where(b[:, 2:] < _NEAR, on_plane, b)
        if self.distortion.model is not DistortionModel.NONE:
            share = np.linspace(0, 1, _PIECES + 1)[:, None, None]
            way = a + share * (b - a)
            a, b = way[:-1].reshape(-1, 3), way[1:].reshape(-1, 3)
            source = np.tile(source, _PIECES)
        pixels = self.pixels(np.stack([a, b], axis=1))
        # A comparison with NaN, where the lens model does not reach, is false.
        low, high = pixels.min(axis=1), pixels.max(axis=1)
        inside = (high >= 0).all(axis=1) & (low < self.size).all(axis=1)
        return pixels[inside], source[inside]

    def polygon(self, points: np.ndarray) -> np.ndarray:
        """Pixels (M, 2) of a flat polygon (N, 3) of base_link, cut off at the lens; none where all of it is behind."""
        corners = self.in_camera(points)
        result = []
        for a, b in zip(corners, np.roll(corners, -1, axis=0), strict=True):
            if a[2] >= _NEAR:
                result.append(a)
            if (a[2] >= _NEAR) != (b[2] >= _NEAR):
                result.append(a + (_NEAR - a[2]) / (b[2] - a[2]) * (b - a))
        pixels = self.pixels(np.array(result).reshape(-1, 3))
        return pixels[np.isfinite(pixels).all(axis=1)]


def scaled(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """An image (H, W, 3) uint8 at another size (width, height): halved by averages as often as it goes, then linearly.

    Several times as fast as averaging over arbitrary areas, at hardly a visible difference.
    """
    while image.shape[1] >= 2 * size[0] and image.shape[0] >= 2 * size[1]:
        height, width = image.shape[0] // 2, image.shape[1] // 2
        image = cv2.resize(image[: 2 * height, : 2 * width], (width, height), interpolation=cv2.INTER_AREA)
    return cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)


def draw_boxes(
    image: np.ndarray,
    boxes: Boxes,
    intrinsics: np.ndarray,
    T_base_camera: np.ndarray,
    *,
    distortion: Distortion | None = None,
    colors: Sequence[Color] | None = None,
    texts: Sequence[str] | None = None,
    widths: Sequence[int] | None = None,
    text_size: int = 13,
) -> None:
    """Draws the twelve edges of each box, its front face tinted, and a text above it, far boxes first, in place.

    Args:
        image: (H, W, 3) uint8 RGB.
        boxes: in base_link.
        intrinsics: (3, 3) of this image, px. T_base_camera: (4, 4).
        distortion: lens model of the image; None for a rectified one.
        colors: one a box; by class where missing.
        texts: one a box, "" for none. Of texts that would cover each other only the most important one is drawn.
        widths: of the lines, px, one a box.
    """
    height, width = image.shape[:2]
    lens = distortion or Distortion()
    projection = Projection(np.asarray(intrinsics), np.asarray(T_base_camera), lens, (width, height))
    corners = projection.in_camera(boxes.corners())
    away = np.linalg.norm(corners.mean(axis=1), axis=1)
    all_lines, source = projection.lines(corners[:, _EDGES].reshape(-1, 2, 3))
    owner = source // len(_EDGES)
    labels: list[tuple[int, np.ndarray]] = []
    seen = np.unique(owner)
    for i in seen[np.argsort(-away[seen], kind="stable")]:
        lines = all_lines[owner == i]
        color = colors[i] if colors is not None else class_color(boxes.label[i])
        if corners[i, :, 2].min() > _NEAR:
            front = projection.pixels(corners[i][_FRONT])
            if np.isfinite(front).all():
                area(image, front, color, 0.16)
        line_width = widths[i] if widths is not None else 1
        if line_width > 1:
            segments(image, lines, BACKGROUND, line_width + 2)
        segments(image, lines, color, line_width)
        if texts is not None and texts[i]:
            labels.append((int(i), lines.reshape(-1, 2)))
    taken: list[tuple[float, float, float, float]] = []
    # Of texts in each other's way, the one of the thickest lines stays, then the nearest.
    labels.sort(key=lambda label: (-(widths[label[0]] if widths is not None else 1), away[label[0]]))
    for i, pixels in labels:
        color = colors[i] if colors is not None else class_color(boxes.label[i])
        _label(image, str(texts[i]), pixels, color, text_size, taken)


def _label(
    image: np.ndarray,
    text: str,
    pixels: np.ndarray,
    color: Color,
    size: int,
    taken: list[tuple[float, float, float, float]],
) -> None:
    """A text on a dark pill above pixels (N, 2), unless it would cover one of `taken`."""
    height, width = image.shape[:2]
    inside = np.clip(pixels, 0, (width - 1, height - 1))
    text_wide = text_width(text, size)
    middle = (inside[:, 0].min() + inside[:, 0].max()) / 2
    x0 = float(np.clip(middle - text_wide / 2 - 6, 2, max(2, width - text_wide - 14)))
    y1 = float(np.clip(inside[:, 1].min() - 4, size + 8, height - 2))
    box = (x0, y1 - size - 6, x0 + text_wide + 12, y1)
    if any(box[0] < t[2] and t[0] < box[2] and box[1] < t[3] and t[1] < box[3] for t in taken):
        return
    taken.append(box)
    pill(image, box, BACKGROUND, 4)
    draw_text(image, text, (box[0] + 6, y1 - 0.36 * size - 1), color, size)


def draw_corridor(
    image: np.ndarray, projection: Projection, left: np.ndarray, right: np.ndarray, color: Color, opacity: float = 0.34
) -> None:
    """Tints the ground between two edges (N, 2) in base_link (z = 0), fading with distance, in place."""
    edges = [np.c_[edge, np.zeros(len(edge))] for edge in (left, right)]
    outline = projection.polygon(np.concatenate([edges[0], edges[1][::-1]]))
    area(image, outline, color, opacity)
    for edge in edges:
        points = projection.in_camera(edge)
        segments(image, projection.lines(np.stack([points[:-1], points[1:]], axis=1))[0], color, 2)


def draw_bar(image: np.ndarray, projection: Projection, ends: np.ndarray, color: Color) -> None:
    """A bar across the way on the ground between two points (2, 2) of base_link, in place."""
    points = projection.in_camera(np.c_[ends, np.zeros(2)])
    for line in projection.lines(points[None])[0]:
        polyline(image, line, BACKGROUND, 6)
        polyline(image, line, color, 4)
