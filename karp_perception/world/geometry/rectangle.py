"""Rectangles on the ground."""

from __future__ import annotations

import math

import numpy as np


def distance_to_rectangle(
    points: np.ndarray, x: float, y: float, yaw: float, length: float, width: float
) -> np.ndarray:
    """(N,) m from points (N, 2) to a rectangle with its middle at (x, y); 0 within."""
    dx, dy = points[:, 0] - x, points[:, 1] - y
    c, s = math.cos(yaw), math.sin(yaw)
    along = np.maximum(np.abs(dx * c + dy * s) - 0.5 * length, 0.0)
    across = np.maximum(np.abs(dy * c - dx * s) - 0.5 * width, 0.0)
    return np.hypot(along, across)
