"""Where tracked things may go: their paths over the next seconds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from karp_perception.core.settings import Settings, setting


@dataclass(frozen=True)
class PredictionSettings(Settings):
    """How far and how finely paths are foretold."""

    horizon: float = setting(5.0, "how far ahead", unit="s", low=0.1, high=30.0)
    step: float = setting(0.1, "between two points of a path", unit="s", low=0.01, high=1.0)


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
    count = max(1, round(settings.horizon / settings.step))
    time = settings.step * np.arange(1, count + 1)
    paths = np.empty((len(position), 1, count, 3))
    paths[:, 0, :, :2] = position[:, None, :] + time[None, :, None] * velocity[:, None, :]
    paths[:, 0, :, 2] = yaw[:, None]
    return paths, np.ones((len(position), 1))
