"""Straight on at the present velocity: the simplest prediction, and what every other one is measured against."""

from __future__ import annotations

import numpy as np

from karp_perception.prediction.settings import PredictionSettings


def constant_velocity_paths(
    position: np.ndarray, yaw: np.ndarray, velocity: np.ndarray, settings: PredictionSettings
) -> tuple[np.ndarray, np.ndarray]:
    """One path each: straight on at the present velocity.

    Args:
        position: (N, 2) m.
        yaw: (N,) rad.
        velocity: (N, 2) m/s in the same axes.

    Returns:
        paths (N, 1, T, 3) of x, y, yaw, the first point one step ahead, and their probabilities (N, 1), all 1.
    """
    time = settings.step * np.arange(1, settings.count + 1)
    paths = np.empty((len(position), 1, settings.count, 3))
    paths[:, 0, :, :2] = position[:, None, :] + time[None, :, None] * velocity[:, None, :]
    paths[:, 0, :, 2] = yaw[:, None]
    return paths, np.ones((len(position), 1))
