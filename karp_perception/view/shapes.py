"""Antialiased lines and translucent areas with fractions of a pixel."""

from __future__ import annotations

import cv2
import numpy as np

from karp_perception.view.palette import Color

_BITS = 4
_LIMIT = 2**15  # px; OpenCV's fixed-point coordinates stay far inside 32 bits


def fixed_point(pixels: np.ndarray) -> np.ndarray:
    """Pixels (..., 2) as OpenCV's integers with fractional bits. Far outside is as good as a little outside."""
    return np.int32(np.round(np.clip(pixels, -_LIMIT, _LIMIT) * (1 << _BITS)))


def fill(image: np.ndarray, color: Color) -> None:
    """One colour all over, in place (several times as fast as assigning it)."""
    cv2.rectangle(image, (0, 0), (image.shape[1], image.shape[0]), color, cv2.FILLED)


def polyline(image: np.ndarray, pixels: np.ndarray, color: Color, width: int = 1, *, closed: bool = False) -> None:
    """A line through pixels (N, 2), in place."""
    if len(pixels) > 1:
        cv2.polylines(image, [fixed_point(pixels)], closed, color, width, cv2.LINE_AA, _BITS)


def segments(image: np.ndarray, pixels: np.ndarray, color: Color, width: int = 1) -> None:
    """Separate lines between pairs of pixels (N, 2, 2), in place."""
    if len(pixels):
        cv2.polylines(image, list(fixed_point(pixels)), False, color, width, cv2.LINE_AA, _BITS)


def area(image: np.ndarray, pixels: np.ndarray, color: Color, opacity: float = 1.0) -> None:
    """Fills a polygon (N, 2), convex or not, in place; `opacity` 0..1."""
    if len(pixels) < 3:
        return
    if opacity >= 1:
        cv2.fillPoly(image, [fixed_point(pixels)], color, cv2.LINE_AA, _BITS)
        return
    height, width = image.shape[:2]
    low = np.maximum(np.floor(pixels.min(axis=0)).astype(int) - 1, 0)
    high = np.minimum(np.ceil(pixels.max(axis=0)).astype(int) + 2, (width, height))
    if (high <= low).any():
        return
    part = image[low[1] : high[1], low[0] : high[0]]
    filled = part.copy()
    cv2.fillPoly(filled, [fixed_point(pixels - low)], color, cv2.LINE_AA, _BITS)
    cv2.addWeighted(filled, opacity, part, 1 - opacity, 0, dst=part)


def blend(image: np.ndarray, cover: np.ndarray, color: Color) -> None:
    """Lays a colour over an image where `cover` (H, W) uint8 says, 255 fully, in place."""
    x, y, width, height = cv2.boundingRect(cover)
    part, alpha = image[y : y + height, x : x + width], cover[y : y + height, x : x + width, None].astype(np.uint16)
    alpha += alpha >> 7  # 0..256, so that a shift divides
    part[:] = (part * (256 - alpha) + np.array(color, np.uint16) * alpha) >> 8


def pill(image: np.ndarray, box: tuple[float, float, float, float], color: Color, radius: float = 6.0) -> None:
    """Fills a rectangle x0, y0, x1, y1 with round corners, in place."""
    x0, y0, x1, y1 = box
    r = min(radius, (x1 - x0) / 2, (y1 - y0) / 2)
    turn = np.linspace(0, np.pi / 2, 6)
    corners = []
    for k, (cx, cy) in enumerate(((x1 - r, y1 - r), (x0 + r, y1 - r), (x0 + r, y0 + r), (x1 - r, y0 + r))):
        angle = turn + k * np.pi / 2
        corners.append(np.stack([cx + r * np.cos(angle), cy + r * np.sin(angle)], axis=1))
    area(image, np.concatenate(corners), color)


def arrow(image: np.ndarray, start: np.ndarray, end: np.ndarray, color: Color, width: int = 2, head: int = 7) -> None:
    """An arrow between two pixels (2,), in place; nothing where it would be shorter than 2 px."""
    way = end - start
    length = float(np.hypot(*way))
    if length < 2:
        return
    along = way / length
    side = np.array([-along[1], along[0]])
    tip = min(head, length)
    base = end - along * tip
    polyline(image, np.stack([start, base]), color, width)
    area(image, np.stack([end, base + 0.5 * tip * side, base - 0.5 * tip * side]), color)
