"""A network small enough for tests, and inputs for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from karp_perception.core import CameraFrame, LidarSweep
from karp_perception.detection.model.config import ModelConfig

SMALL = ModelConfig(
    name="small",
    cameras=3,
    image_height=48,
    image_width=96,
    image_stem=(8, 8, 16, 32),
    image_blocks=1,
    x_range_m=(-6.4, 19.2),
    y_range_m=(-12.8, 12.8),
    lidar_stem=(16, 32),
    window=8,
    width=32,
    heads=4,
    decoder_layers=2,
    learned_queries=6,
    candidate_queries=10,
    image_queries=5,
)


def small_weights(folder: Path, seed: int = 3) -> Path:
    """A weight file of a small network whose classes are spread, so that scores differ and some are high."""
    import torch

    from karp_perception.detection.model.detector_net import build
    from karp_perception.detection.model.weights import save_weights

    net = build(SMALL, seed)
    with torch.no_grad():
        net.heads.logits.bias.fill_(0.0)
        net.heatmap.of_token.bias.fill_(0.0)
        net.heads.logits.weight.mul_(3.0)
    file = folder / "small.safetensors"
    save_weights(net, file, half=False)
    return file


def looking(yaw: float, height: float = 1.6, x: float = 0.0, y: float = 0.0) -> np.ndarray:
    """T_base_camera of a level camera that looks along `yaw`."""
    c, s = np.cos(yaw), np.sin(yaw)
    T = np.eye(4)
    T[:3, :3] = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ np.array([[0, 0, 1], [-1, 0, 0], [0, -1, 0]])
    T[:3, 3] = x, y, height
    return T


def camera(rng: np.random.Generator, yaw: float, shape: tuple[int, int] = (90, 200), **position: float) -> CameraFrame:
    """A camera with noise for an image and a field of view of about 90 degrees."""
    height, width = shape
    intrinsics = np.array([[width / 2, 0, width / 2 - 0.5], [0, width / 2, height / 2 - 0.5], [0, 0, 1.0]])
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    return CameraFrame(image, intrinsics, looking(yaw, **position), 0)


def sweep(rng: np.random.Generator, count: int = 4000) -> LidarSweep:
    """Points on the ground and above it, denser near the sensor, some beyond every range."""
    distance, angle = 40 * rng.random(count) ** 2, rng.uniform(-np.pi, np.pi, count)
    z = np.where(rng.random(count) < 0.6, 0.02 * rng.standard_normal(count), rng.uniform(-0.5, 5.5, count))
    points = np.column_stack([distance * np.cos(angle), distance * np.sin(angle), z, rng.random(count)])
    return LidarSweep(points.astype(np.float32), 0, rng.uniform(-0.1, 0, count).astype(np.float32))
