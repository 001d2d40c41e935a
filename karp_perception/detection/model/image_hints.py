"""What image tokens are taught directly: whose centre they show, and how far away it is.

Queries alone teach images slowly: where there is a lidar it knows better, and where there is none a box has to be right
before attention to the tokens that show it is worth anything. So each token says class and depth by itself, as in
CenterNet (Zhou et al., 2019) and Far3D (Jiang et al., 2024); the best become queries.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from karp_perception.detection.model.config import CLASSES, ModelConfig
from karp_perception.detection.model.detector_net import Tokens
from karp_perception.detection.model.losses import penalty_reduced_focal_loss
from karp_perception.detection.model.matcher import Match, Targets

_INNER = 0.6  # share of an object's box in the image whose tokens tell its depth: the rim shows what is behind
_NEAREST_M = 1.0  # depth of an object's middle
_UNCLEAR = 0.3  # of a peak's height: how far around an object that need not be found nothing is asked for
_NARROWEST = 0.5  # tokens: spread of a peak


@dataclass
class Shown:
    """Where the objects of a batch appear in its images.

    Attributes:
        middle: (B, C, G, 2) column and row of each object's middle, in tokens: whole numbers are the middles of tokens.
        half: (B, C, G, 2) half the box around it, tokens.
        depth: (B, C, G) m of its middle.
        owner: (B, C, T) number of the object that each token shows, the nearest of those in the inner part of whose box
            it lies; -1 for none.
    """

    middle: Tensor
    half: Tensor
    depth: Tensor
    owner: Tensor

    def centers(self, config: ModelConfig) -> tuple[Tensor, Tensor]:
        """(B, C, G) the token that shows each object's middle, and whether one shows it and not something else."""
        rows, columns = config.image_tokens
        column, row = self.middle.round().long().unbind(-1)
        inside = (column >= 0) & (column < columns) & (row >= 0) & (row < rows) & (self.depth > _NEAREST_M)
        token = torch.where(inside, row * columns + column, 0)
        number = torch.arange(token.shape[-1], device=token.device)
        return token, inside & (self.owner.gather(2, token) == number)


def shown_objects(targets: Targets, intrinsics: Tensor, T_base_camera: Tensor, config: ModelConfig) -> Shown:
    """Where objects appear, by calibration alone."""
    batch, cameras = intrinsics.shape[:2]
    count, device = targets.label.shape[1], intrinsics.device
    rows, columns = config.image_tokens
    if count == 0:
        none = torch.zeros(batch, cameras, 0, 2, device=device)
        owner = torch.full((batch, cameras, rows * columns), -1, device=device)
        return Shown(none, none, none[..., 0], owner)
    points = torch.cat([targets.center[:, :, None], _corners(targets)], dim=2)
    low, high, depth = _boxes(points, intrinsics, T_base_camera)
    stride = config.image_width / columns
    middle, half = (low + high) / 2, (high - low) / 2
    middle, half = (middle - (stride - 1) / 2) / stride, half / stride
    v, u = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    tokens = torch.stack([u.flatten(), v.flatten()], dim=-1).to(device)
    # An object is shown by the token that its middle lies on, however small it is.
    reach = (_INNER * half).clamp(min=0.5)
    inside = ((tokens - middle[..., None, :]).abs() <= reach[..., None, :]).all(dim=-1)
    inside &= ((depth > _NEAREST_M) & (targets.shown > 0)[:, None])[..., None]
    nearest, number = torch.where(inside, depth[..., None], math.inf).min(dim=2)
    return Shown(middle, half, depth, torch.where(nearest.isinf(), -1, number))


def heatmap_loss(tokens: Tokens, targets: Targets, shown: Shown, present: Tensor, config: ModelConfig) -> Tensor:
    """Penalty-reduced focal loss of `Tokens.image_heatmap`; `present` (B, C) says which cameras are there."""
    wanted, weight = heatmap_targets(targets, shown, config)
    weight = weight * present[:, :, None, None]
    logits = tokens.image_heatmap.float().unflatten(1, (present.shape[1], -1))
    return penalty_reduced_focal_loss(logits, wanted, weight.expand_as(wanted))


def heatmap_targets(targets: Targets, shown: Shown, config: ModelConfig) -> tuple[Tensor, Tensor]:
    """What the heatmap should be, and what of it counts: (B, C, T, 10) each.

    1 on the token that shows an object's middle, falling off around it as a normal distribution whose widths are a
    sixth of the box's sides. Around what cameras show in part, or what is hidden by another object, nothing is asked.
    """
    rows, columns = config.image_tokens
    batch, cameras, count, _ = shown.middle.shape
    device = shown.middle.device
    wanted = torch.zeros(batch, cameras, CLASSES, rows * columns, device=device)
    weight = torch.ones_like(wanted)
    if count:
        sigma = (shown.half / 3).clamp(min=_NARROWEST)
        dx = (torch.arange(columns, device=device) - shown.middle[..., :1]) / sigma[..., :1]
        dy = (torch.arange(rows, device=device) - shown.middle[..., 1:]) / sigma[..., 1:]
        bump = torch.exp(-0.5 * (dy[..., :, None] ** 2 + dx[..., None, :] ** 2)).flatten(-2).clamp(max=0.99)
        token, found = shown.centers(config)
        certain = found & (targets.shown > 0)[:, None]
        frame, camera, number = torch.nonzero(certain, as_tuple=True)
        bump[frame, camera, number, token[frame, camera, number]] = 1.0
        there = (targets.valid[:, None] & (shown.depth > _NEAREST_M))[..., None]
        channel = targets.label[:, None, :, None].expand_as(bump)
        wanted.scatter_reduce_(2, channel, bump * (there & certain[..., None]), "amax")
        unclear = (bump > _UNCLEAR) & there & ~certain[..., None]
        weight.scatter_reduce_(2, channel, 1.0 - unclear.to(bump.dtype), "amin")
    return wanted.transpose(2, 3), torch.where(wanted == 1, 1.0, weight).transpose(2, 3)


def depth_loss(tokens: Tokens, targets: Targets, shown: Shown, calibration: tuple[Tensor, Tensor, Tensor],
               config: ModelConfig) -> Tensor:  # fmt: skip
    """Absolute error of the logarithm of depth, mean over the tokens that show an object."""
    intrinsics, _, present = calibration
    found = (shown.owner >= 0) & (present[..., None] > 0)
    spare = functional.pad(shown.depth, (0, 1), value=1.0)  # there may be no objects at all
    depth = spare.gather(2, shown.owner.clamp(min=0))
    usual = intrinsics[..., 0, 0, None] / config.usual_focal_px
    wanted = torch.where(found, depth / usual, 1.0).log()
    error = (tokens.log_depth.float().unflatten(1, found.shape[1:]) - wanted).abs()
    return (error * found).sum() / found.sum().clamp(min=1.0)


def center_tokens(
    targets: Targets, shown: Shown, present: Tensor, config: ModelConfig, jitter: Tensor
) -> tuple[Tensor, Match]:
    """For each object the image token at its middle, in the camera that shows it best.

    Args:
        targets: objects.
        shown: where they appear.
        present: (B, C) cameras that are there.
        config: of the network.
        jitter: (B, G, 2) tokens by which the middle is missed: the heatmap's peak often is the token next to it.

    Returns:
        (B, G) tokens, counted over all cameras (0 for objects without any), and the pairs of those that have one.
    """
    rows, columns = config.image_tokens
    missed = Shown(shown.middle + jitter[:, None], shown.half, shown.depth, shown.owner)
    token, found = missed.centers(config)
    found = found & (present[..., None] > 0) & (targets.shown > 0)[:, None]
    size = torch.where(found, shown.half.prod(dim=-1) + 1.0, 0.0)
    largest, camera = size.max(dim=1)
    index = camera * rows * columns + token.gather(1, camera[:, None])[:, 0]
    frame, number = torch.nonzero(largest > 0, as_tuple=True)
    return torch.where(largest > 0, index, 0), Match(frame, number, number)


def _corners(targets: Targets) -> Tensor:
    """(B, G, 8, 3) m."""
    signs = torch.tensor([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)])
    local = targets.log_size.exp()[:, :, None] * signs.to(targets.center.device)
    sine, cosine = targets.yaw.sin()[..., None], targets.yaw.cos()[..., None]
    x, y, z = local.unbind(-1)
    turned = torch.stack([cosine * x - sine * y, sine * x + cosine * y, z], dim=-1)
    return targets.center[:, :, None] + turned


def _boxes(points: Tensor, intrinsics: Tensor, T_base_camera: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(B, G, P, 3) points of objects, the first their middle -> boxes around them in images, and depths of the middle.

    Returns lowest and highest column and row (B, C, G, 2), and depth (B, C, G) m. Corners behind a camera count as
    lying just before it.
    """
    batch, objects, count, _ = points.shape
    offset = points.reshape(batch, 1, objects * count, 3) - T_base_camera[:, :, None, :3, 3]
    local = (offset @ T_base_camera[..., :3, :3]).unflatten(2, (objects, count))
    depth = local[..., 2].clamp(min=0.2)
    x, y = local[..., 0] / depth, local[..., 1] / depth
    k = intrinsics[:, :, None, None]
    column = k[..., 0, 0] * x + k[..., 0, 1] * y + k[..., 0, 2]
    row = k[..., 1, 1] * y + k[..., 1, 2]
    pixel = torch.stack([column, row], dim=-1)
    return pixel.amin(dim=3), pixel.amax(dim=3), local[..., 0, 2]
