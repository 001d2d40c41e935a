"""Camera images as a batch for somebody else's network."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from karp_perception.detection.image_detectors.layout import Layout


def image_batch(images: Sequence[np.ndarray], layout: Layout) -> tuple[np.ndarray, np.ndarray]:
    """A batch of at most `layout.batch` images (H, W, 3) uint8 RGB, zeros where there are fewer.

    Returns:
        float32 of the layout's shape, and (N, 2) shares of the input's width and height that each image fills.
    """
    batch = np.zeros((layout.batch, 3, layout.height, layout.width), np.float32)
    filled = np.ones((len(images), 2))
    # One multiplication and one addition a colour: (x / 255 - mean) / std.
    per_byte = 1.0 if layout.byte_colors else 1.0 / 255.0
    gain = per_byte / np.asarray(layout.std, np.float32)
    offset = -np.asarray(layout.mean, np.float32) / np.asarray(layout.std, np.float32)
    for number, image in enumerate(images):
        columns, rows = _size_within(image, layout)
        # As the training of these networks does it: linear, of the nearest pixels.
        scaled = cv2.resize(image, (columns, rows), interpolation=cv2.INTER_LINEAR)
        order = (2, 1, 0) if layout.bgr else (0, 1, 2)
        for place, channel in enumerate(order):
            target = batch[number, place, :rows, :columns]
            np.multiply(scaled[..., channel], np.float32(gain[place]), out=target, casting="unsafe")
            target += np.float32(offset[place])
        filled[number] = columns / layout.width, rows / layout.height
    return (np.ascontiguousarray(batch.transpose(0, 2, 3, 1)) if layout.channels_last else batch), filled


def _size_within(image: np.ndarray, layout: Layout) -> tuple[int, int]:
    """Columns and rows that an image gets."""
    if not layout.letterbox:
        return layout.width, layout.height
    height, width = image.shape[:2]
    scale = min(layout.width / width, layout.height / height)
    return max(1, round(width * scale)), max(1, round(height * scale))
