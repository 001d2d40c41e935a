"""Where tokens and queries are: position embeddings from calibration and weights, computed outside the engine.

An image token is described by its ray, sampled at fixed depths in `base_link` (PETR, Liu et al., 2022; CMT, Yan et al.,
2023); a lidar token by its place in the bird's-eye plane. A query is described by both: by the place of its reference
point, and by the rays on which the cameras see that point. So a query finds what its reference point would look like,
in whatever sensors there are, by comparing like with like. Only standard operators: this is a graph of its own.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from karp_perception.detection.model.config import ModelConfig

_NEAREST_M = 0.3  # a point this close to a camera's plane, or behind it, is not seen


def waves(x: Tensor, octaves: int) -> Tensor:
    """(..., n) -> (..., n * 2 * octaves): sine and cosine of pi * 2^k * x, k = 0 .. octaves - 1."""
    angles = x.unsqueeze(-1) * (math.pi * 2.0 ** torch.arange(octaves, dtype=x.dtype, device=x.device))
    return torch.cat([angles.sin(), angles.cos()], dim=-1).flatten(-2)


class PositionEmbedding(nn.Module):
    """Embeddings of image tokens, lidar tokens, learned queries and candidate queries."""

    reference: nn.Parameter

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.ray_mlp = _mlp(len(config.ray_depths_m) * 3 * 2 * config.ray_octaves, config.width)
        self.place_mlp = _mlp(2 * 2 * config.point_octaves, config.width)
        self.reference = nn.Parameter(_spread(config.learned_queries))
        self.register_buffer("depths", torch.tensor(config.ray_depths_m), persistent=False)
        self.register_buffer("pixels", _pixel_centers(config), persistent=False)
        self.register_buffer("tokens", _centers(config, config.canvas_tokens), persistent=False)
        self.register_buffer("places", _centers(config, config.canvas_places), persistent=False)
        (x0, x1), (y0, y1), (z0, z1) = config.x_range_m, config.y_range_m, config.reference_z_m
        self.register_buffer("low", torch.tensor([x0, y0, z0]), persistent=False)
        self.register_buffer("extent", torch.tensor([x1 - x0, y1 - y0, z1 - z0]), persistent=False)

    def reference_points(self) -> Tensor:
        """(Q + P, 3) m in `base_link`: those of the learned queries, then one for each place of the canvas."""
        learned = self.low + self.extent * self.reference.sigmoid()
        return torch.cat([learned, self.places])

    def forward(
        self, intrinsics: Tensor, T_base_camera: Tensor, camera_present: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """All embeddings for one calibration.

        Args:
            intrinsics: (B, C, 3, 3) of the images as the network gets them, pixels.
            T_base_camera: (B, C, 4, 4).
            camera_present: (B, C) 1 or 0. What stands in the place of an absent camera must only be finite.

        Returns:
            image_position (B, C * T, D); lidar_position (1, L, D); reference_position (B, Q + P, D), in the order
            of `reference_points`; image_ray, see `image_tokens`.
        """
        image, ray = self.image_tokens(intrinsics, T_base_camera)
        points = self.reference_points()
        lidar = self.place_embedding(self.tokens).unsqueeze(0)
        return image, lidar, self.embedding_of(points.unsqueeze(0), intrinsics, T_base_camera, camera_present), ray

    def image_tokens(self, intrinsics: Tensor, T_base_camera: Tensor) -> tuple[Tensor, Tensor]:
        """Where image tokens look.

        Returns:
            embeddings (B, C * T, D), and (B, C * T, 6): m in `base_link`, where each token's ray starts, and how far it
            gets for each metre of depth as image tokens tell it: depth at a focal length of `usual_focal_px`. (A camera
            with twice the focal length shows everything as if it were at half its depth.)
        """
        shape = (*intrinsics.shape[:2], -1, 2)
        slopes = self._slopes(self.pixels.expand(shape), intrinsics)
        ones = torch.ones_like(slopes[..., :1])
        along = torch.cat([slopes, ones], dim=-1) @ T_base_camera[..., :3, :3].transpose(-1, -2)
        along = along * (intrinsics[..., 0, 0] / self.config.usual_focal_px)[..., None, None]
        start = T_base_camera[..., None, :3, 3].expand_as(along)
        rays = torch.cat([start, along], dim=-1).flatten(1, 2)
        return self.ray_embedding(slopes, T_base_camera).flatten(1, 2), rays

    def embedding_of(self, points: Tensor, intrinsics: Tensor, T_base_camera: Tensor, camera_present: Tensor) -> Tensor:
        """(1 or B, N, 3) m in `base_link` -> (B, N, D) of queries there: their place, and the rays that see it."""
        seen_from = self.seen_from(points.unsqueeze(1), intrinsics, T_base_camera, camera_present)
        return self.place_embedding(points) + seen_from

    def place_embedding(self, points: Tensor) -> Tensor:
        """(..., 3) m in `base_link` -> (..., D) of their places in the bird's-eye plane."""
        return self.place_mlp(waves(points[..., :2] / self.config.position_scale_m, self.config.point_octaves))

    def seen_from(self, points: Tensor, intrinsics: Tensor, T_base_camera: Tensor, camera_present: Tensor) -> Tensor:
        """(1 or B, 1, N, 3) m -> (B, N, D): mean embedding of the rays on which cameras see the points.

        Zeros for points that no camera sees.
        """
        slopes, seen = self._project(points, intrinsics, T_base_camera)
        seen = (seen * camera_present[:, :, None]).unsqueeze(-1)
        rays = self.ray_embedding(slopes, T_base_camera)
        return (rays * seen).sum(dim=1) / seen.sum(dim=1).clamp(min=1.0)

    def ray_embedding(self, slopes: Tensor, T_base_camera: Tensor) -> Tensor:
        """(B, C, N, 2) rays as x/z and y/z in the optical frame -> (B, C, N, D)."""
        ones = torch.ones_like(slopes[..., :1])
        directions = torch.cat([slopes, ones], dim=-1) @ T_base_camera[..., :3, :3].transpose(-1, -2)
        origin = T_base_camera[..., None, None, :3, 3]
        points = origin + directions.unsqueeze(-2) * self.depths[:, None]
        features = waves(points / self.config.position_scale_m, self.config.ray_octaves)
        return self.ray_mlp(features.flatten(-2))

    def _slopes(self, pixels: Tensor, intrinsics: Tensor) -> Tensor:
        """(B, C, N, 2) pixels -> x/z and y/z, for a camera matrix with zeros below its diagonal."""
        y = (pixels[..., 1] - intrinsics[..., 1, 2, None]) / intrinsics[..., 1, 1, None]
        x = pixels[..., 0] - intrinsics[..., 0, 2, None] - intrinsics[..., 0, 1, None] * y
        return torch.stack([x / intrinsics[..., 0, 0, None], y], dim=-1)

    def _project(self, points: Tensor, intrinsics: Tensor, T_base_camera: Tensor) -> tuple[Tensor, Tensor]:
        """(1 or B, 1, N, 3) points -> their rays (B, C, N, 2), and whether they lie in the image, (B, C, N) 1 or 0."""
        offset = points - T_base_camera[..., None, :3, 3]
        local = offset @ T_base_camera[..., :3, :3]
        depth = local[..., 2:]
        in_front = (depth > _NEAREST_M).to(points.dtype)
        slopes = local[..., :2] / depth.clamp(min=_NEAREST_M) * in_front
        x = intrinsics[..., 0, 0, None] * slopes[..., 0] + intrinsics[..., 0, 1, None] * slopes[..., 1]
        column = x + intrinsics[..., 0, 2, None]
        row = intrinsics[..., 1, 1, None] * slopes[..., 1] + intrinsics[..., 1, 2, None]
        inside = (column > -0.5) & (column < self.config.image_width - 0.5)
        inside = inside & (row > -0.5) & (row < self.config.image_height - 0.5)
        return slopes, inside.to(points.dtype) * in_front.squeeze(-1)


def _mlp(inputs: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, width), nn.GELU(), nn.Linear(width, width))


def _spread(count: int) -> Tensor:
    """(count, 3) logits of points spread evenly over the unit cube: Roberts' R3 sequence (2018)."""
    g = 1.2207440846057596  # the real root of g^4 = g + 1
    steps = torch.tensor([g**-1, g**-2, g**-3], dtype=torch.float64)
    cube = (0.5 + steps * torch.arange(1, count + 1, dtype=torch.float64)[:, None]) % 1.0
    return torch.logit(cube.clamp(0.02, 0.98)).float()


def _pixel_centers(config: ModelConfig) -> Tensor:
    """(T, 2) column and row of the middle of each image token; pixel centres have whole numbers."""
    rows, columns = config.image_tokens
    stride = config.image_width / columns
    v, u = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    return torch.stack([u.flatten(), v.flatten()], dim=-1) * stride + (stride - 1) / 2


def _centers(config: ModelConfig, counts: tuple[int, int]) -> Tensor:
    """(N, 3) m: middles of the canvas' squares, `counts` of them along x and y, at the height of candidates."""
    nx, ny = counts
    (x0, x1), (y0, y1) = config.x_range_m, config.y_range_m
    x = x0 + (torch.arange(nx) + 0.5) * ((x1 - x0) / nx)
    y = y0 + (torch.arange(ny) + 0.5) * ((y1 - y0) / ny)
    gx, gy = torch.meshgrid(x, y, indexing="ij")
    return torch.stack([gx.flatten(), gy.flatten(), torch.full((nx * ny,), config.candidate_z_m)], dim=-1)
