"""What rain does to an image: standing water mirrors what is above it, drops streak the air and sit on the lens."""

from __future__ import annotations

import cv2
import numpy as np

from karp_perception.core.compiled import PER_ROW, njit
from karp_perception.world.sensors.image_cast import Layers

_STREAKS = 26.0  # in an image of 640 x 360, per mm/h
_MOST_STREAKS = 900
_FALL = 0.045  # of the image's height that a drop falls during an exposure
_DROPS = 1.1  # on the lens, per mm/h; a wiper or the wind takes the rest
_MOST_DROPS = 28
_DROP_SIZE = (0.006, 0.022)  # of the image's width


@njit(**PER_ROW)
def mirror_in_water(layers: Layers, wet, light, contact):
    """Mix into wet ground what stands behind it, upside down about where it meets the ground in the same column.

    For upright things on level ground that is what a mirror shows. The shading has put the sky there already.
    `contact` (W,) int64: room to work in. Rows are taken from the top, so that `light` above is complete.
    """
    height, width = layers.w.shape
    for x in range(width):
        contact[x] = -1
    for y in range(height):
        for x in range(width):
            if layers.hit[y, x] >= 0 or layers.glass_w[y, x] > layers.w[y, x]:
                contact[x] = y
                continue
            share = wet[y, x]
            above = 2 * contact[x] - y + 1
            if share < 0.01 or contact[x] < 0 or above < 0:
                continue
            if layers.hit[above, x] < 0:
                continue
            for c in range(3):
                light[y, x, c] += 0.85 * share * (light[above, x, c] - light[y, x, c])


def add_rain(image: np.ndarray, rate: float, seed: int, lens_seed: int) -> np.ndarray:
    """An image (H, W, 3) uint8 with streaks of falling drops and drops on the lens.

    Args:
        rate: mm/h.
        seed: of the falling drops, another at every moment.
        lens_seed: of those on the lens, which stay for a while.
    """
    height, width = image.shape[:2]
    rng = np.random.default_rng(seed)
    count = int(min(_STREAKS * rate, _MOST_STREAKS) * width * height / (640 * 360))
    veil = np.zeros((height, width), np.uint8)
    u, v = rng.uniform(0, width, count), rng.uniform(-0.05 * height, height, count)
    near = rng.uniform(0.25, 1.0, count)
    slant = rng.normal(0.0, 0.03) + rng.normal(0.0, 0.02, count)
    for k in range(count):
        length = _FALL * height * near[k]
        start, end = (int(u[k]), int(v[k])), (int(u[k] + slant[k] * length), int(v[k] + length))
        cv2.line(veil, start, end, int(70 * near[k]), 1, cv2.LINE_AA)
    veil = cv2.GaussianBlur(veil, (0, 0), 0.6)
    bright = float(image[: height // 3].mean())  # drops show the sky
    share = veil.astype(np.float32)[..., None] / 255.0
    wet = (image + share * (0.5 * bright + 90.0 - image)).astype(np.uint8)
    return _drops_on_lens(wet, rate, lens_seed)


def _drops_on_lens(image: np.ndarray, rate: float, seed: int) -> np.ndarray:
    """Drops that sit on the lens, out of focus: each shows the blurred scene upside down, bright above its edge."""
    height, width = image.shape[:2]
    rng = np.random.default_rng([seed, 1])
    count = int(min(_DROPS * rate, _MOST_DROPS))
    if count == 0:
        return image
    soft = cv2.GaussianBlur(cv2.resize(image, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA), (0, 0), 4.0)
    soft = cv2.resize(soft[::-1], (width, height), interpolation=cv2.INTER_LINEAR)
    mask = np.zeros((height, width), np.uint8)
    for _ in range(count):
        radius = rng.uniform(*_DROP_SIZE) * width
        axes = (int(radius * rng.uniform(0.75, 1.0)) + 1, int(radius) + 1)
        middle = (int(rng.uniform(0, width)), int(rng.uniform(0, height)))
        cv2.ellipse(mask, middle, axes, float(rng.uniform(-30, 30)), 0, 360, 120, -1, cv2.LINE_AA)
    mask = cv2.GaussianBlur(mask, (0, 0), 0.004 * width)
    share = mask.astype(np.float32)[..., None] / 255.0
    return (image + share * (soft.astype(np.float32) - image)).astype(np.uint8)
