"""What image tokens are told in training: which object they show, and how far away it is.

The queries alone teach images slowly: where there is a lidar it knows better, and where there is none a box has to be
right before attention to the tokens that show it is worth anything. So each token also says class and depth by itself,
as FCOS3D (Wang et al., 2021) and the auxiliary heads of Far3D (Jiang et al., 2024) do. Inference has no part of this.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from karp_perception.detection.model.config import CLASSES, ModelConfig
from karp_perception.detection.model.losses import focal_loss
from karp_perception.detection.model.matcher import Targets

_INNER = 0.6  # share of an object's box in the image whose tokens stand for it: the rim shows what is behind
_NEAREST_M = 1.0  # depth of an object's middle
_PRIOR = 0.01  # share of tokens that show something, at first
_USUAL_DEPTH_M = 20.0


class ImageHints(nn.Module):
    """Class and depth out of image tokens, with their loss."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.head = nn.Linear(config.width, CLASSES + 1)
        nn.init.zeros_(self.head.weight)
        with torch.no_grad():
            self.head.bias[:CLASSES] = -math.log((1 - _PRIOR) / _PRIOR)
            self.head.bias[CLASSES] = math.log(_USUAL_DEPTH_M)

    def forward(
        self, tokens: Tensor, targets: Targets, calibration: tuple[Tensor, Tensor, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Losses of class (focal) and depth (absolute error of its logarithm), both for each token that shows one.

        Args:
            tokens: (B, C * T, D) of all cameras.
            targets: objects.
            calibration: intrinsics (B, C, 3, 3), T_base_camera (B, C, 4, 4), camera_present (B, C).
        """
        intrinsics, T_base_camera, present = calibration
        shown, depth = shown_objects(targets, intrinsics, T_base_camera, self.config)
        there = present[..., None] > 0
        found = (shown >= 0) & there
        weight, label = (_of_shown(column, shown) for column in (targets.weight, targets.label))
        said = self.head(tokens).float().unflatten(1, shown.shape[1:])
        positive = functional.one_hot(label, CLASSES) * found[..., None]
        counts = torch.where(found, weight, 1.0) * there
        count = (weight * found).sum().clamp(min=1.0)
        classes = focal_loss(said[..., :CLASSES], positive.float(), counts[..., None]) / count
        error = (said[..., CLASSES] - depth.log()).abs()
        return classes, (error * weight * found).sum() / count


def shown_objects(
    targets: Targets, intrinsics: Tensor, T_base_camera: Tensor, config: ModelConfig
) -> tuple[Tensor, Tensor]:
    """Which object each image token shows: the nearest of those in the inner part of whose box it lies.

    Returns:
        (B, C, T) number of the object, -1 for none, and the depth of its middle, m (1 for none).
    """
    if targets.label.shape[1] == 0:
        shape = (*intrinsics.shape[:2], math.prod(config.image_tokens))
        return torch.full(shape, -1, device=intrinsics.device), torch.ones(shape, device=intrinsics.device)
    points = torch.cat([targets.center[:, :, None], _corners(targets)], dim=2)
    low, high, depth = _boxes(points, intrinsics, T_base_camera)
    middle, half = (low + high) / 2, (high - low) / 2
    rows, columns = config.image_tokens
    stride = config.image_width / columns
    v, u = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    pixels = torch.stack([u.flatten(), v.flatten()], dim=-1).to(middle.device) * stride + (stride - 1) / 2
    # An object is shown by the token that its middle lies on, however small it is.
    reach = (_INNER * half).clamp(min=stride / 2)
    inside = ((pixels - middle[..., None, :]).abs() <= reach[..., None, :]).all(dim=-1)
    inside &= ((depth > _NEAREST_M) & targets.valid[:, None])[..., None]
    away = torch.where(inside, depth[..., None], math.inf)
    nearest, number = away.min(dim=2)
    none = nearest.isinf()
    return torch.where(none, -1, number), torch.where(none, 1.0, nearest)


def _of_shown(column: Tensor, shown: Tensor) -> Tensor:
    """(B, G) of objects -> (B, C, T) of the object that each token shows; anything where it shows none."""
    spare = functional.pad(column, (0, 1))  # frames may be without objects
    return spare.gather(1, shown.clamp(min=0).flatten(1)).view_as(shown)


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
