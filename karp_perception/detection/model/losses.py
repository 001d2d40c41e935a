"""What the network is trained to make small: class, box, variance, and the heatmap on the lidar tokens."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from karp_perception.core import ObjectClass
from karp_perception.detection.model.config import ModelConfig
from karp_perception.detection.model.detector_net import Prediction
from karp_perception.detection.model.matcher import Match, Targets

_ALPHA, _GAMMA = 0.25, 2.0  # Lin et al., 2017
_NO_YAW = (int(ObjectClass.TRAFFIC_CONE),)  # round
_HALF_TURN = (int(ObjectClass.BARRIER),)  # the same from both sides
_FRONT = 0.85  # share of the direction's error that tells front from back: below a half, who is wrong would stay so
_PEAK_ALPHA, _PEAK_BETA = 2.0, 4.0  # CornerNet (Law and Deng, 2018)
_UNCLEAR = 0.3  # of a peak's height: how far around an object that need not be found nothing is asked for
_CERTAIN = 1e-6  # distance of probabilities from 0 and 1
_VARIANCE = (-8.0, 8.0)  # of log variance: 0.02 to 55 m


@dataclass(frozen=True)
class LossWeights:
    """Weights of the parts. Those of the box are per unit of each quantity."""

    label: float = 2.0
    center: float = 0.75  # per m, x and y
    height: float = 0.5  # per m, z
    size: float = 0.5  # per unit of log size
    direction: float = 1.0  # per unit of sine and cosine
    velocity: float = 0.05  # per m/s: from one moment it can only be guessed
    variance: float = 0.05
    heatmap: float = 2.0  # which of ten classes it is takes longer to learn than where it is


def focal_loss(logits: Tensor, positive: Tensor, weight: Tensor) -> Tensor:
    """Sum of the sigmoid focal loss (Lin et al., 2017).

    Args:
        logits: (...).
        positive: (...) 1 or 0.
        weight: (...) of each element.
    """
    p = logits.sigmoid()
    cross_entropy = functional.binary_cross_entropy_with_logits(logits, positive, reduction="none")
    wrong = p * (1 - positive) + (1 - p) * positive
    alpha = _ALPHA * positive + (1 - _ALPHA) * (1 - positive)
    return (weight * alpha * wrong**_GAMMA * cross_entropy).sum()


def set_loss(prediction: Prediction, targets: Targets, match: Match, hidden: Tensor, weights: LossWeights) -> dict:
    """Losses of one set of boxes.

    Queries without an object learn that they have none; those whose object has weight 0 learn nothing. All sums are
    divided by the number of objects (at least 1).

    Args:
        prediction: of N queries.
        targets: objects.
        match: of queries and objects.
        hidden: (B, N) bool: queries that are masked.
        weights: of the parts.

    Returns:
        label, center, height, size, direction, velocity, variance: weighted scalars.
    """
    logits = prediction.logits.float()
    at = (match.frame, match.query)
    of = (match.frame, match.target)
    weight = targets.weight[of]
    count = weight.sum().clamp(min=1.0)

    positive = torch.zeros_like(logits)
    positive[(*at, targets.label[of])] = 1.0
    certain = (~hidden).to(logits.dtype)[:, :, None].repeat(1, 1, logits.shape[-1])
    certain[at] = weight[:, None]
    parts = {"label": weights.label * focal_loss(logits, positive, certain) / count}

    def mean(error: Tensor, weight: Tensor = weight) -> Tensor:
        return (error.sum(dim=-1) * weight).sum() / count

    label = targets.label[of]
    center_error = prediction.center[at].float() - targets.center[of]
    size_error = prediction.log_size[at].float() - targets.log_size[of]
    direction = prediction.direction[at].float()
    direction_error, yaw_error = _direction_errors(direction, targets.yaw[of], label)
    velocity_error = prediction.velocity[at].float() - targets.velocity[of]
    known = weight * targets.velocity_known[of]
    parts["center"] = weights.center * mean(center_error[:, :2].abs())
    parts["height"] = weights.height * mean(center_error[:, 2:].abs())
    parts["size"] = weights.size * mean(size_error.abs())
    parts["direction"] = weights.direction * mean(direction_error)
    parts["velocity"] = weights.velocity * mean(velocity_error.abs(), known)

    # Negative log likelihood of a normal distribution. The errors are detached: the variance learns to tell how large
    # they are, and does not buy a smaller loss by letting far boxes drift.
    log_variance = prediction.log_variance[at].float().clamp(*_VARIANCE)
    errors = torch.cat([center_error, size_error, yaw_error[:, None], velocity_error], dim=1).detach()
    likelihood = 0.5 * (log_variance + errors**2 * (-log_variance).exp())
    counted = torch.ones_like(likelihood)
    counted[:, 6] = torch.stack([label != c for c in _NO_YAW]).all(dim=0).to(counted.dtype)
    counted[:, 7:] = targets.velocity_known[of][:, None]
    parts["variance"] = weights.variance * mean(likelihood * counted)
    return parts


def _direction_errors(direction: Tensor, yaw: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """(M, 2) absolute errors of sine and cosine, and (M,) yaw error in rad; both periodic.

    From one sweep a car often looks the same from both ends. The value between the two that an absolute error is then
    content with has no direction at all: so part of the error is against the nearer of the two, which settles the axis,
    and `_FRONT` of it against the true one, which turns whoever is wrong. Barriers have no front, the nearer counts
    alone; cones have no direction.
    """
    wanted = torch.stack([yaw.sin(), yaw.cos()], dim=-1)
    turned = (direction * wanted).sum(dim=-1, keepdim=True) < 0
    nearer = torch.where(turned, -wanted, wanted)
    no_front = torch.stack([label == c for c in _HALF_TURN]).any(dim=0)[:, None]
    has_yaw = torch.stack([label != c for c in _NO_YAW]).all(dim=0).to(direction.dtype)
    true = torch.where(no_front, nearer, wanted)
    error = (1 - _FRONT) * (direction - nearer).abs() + _FRONT * (direction - true).abs()
    cross = direction[:, 0] * true[:, 1] - direction[:, 1] * true[:, 0]
    angle = torch.atan2(cross, (direction * true).sum(dim=-1))
    return error * has_yaw[:, None], angle * has_yaw


def heatmap_loss(heatmap: Tensor, targets: Targets, lidar_present: Tensor, config: ModelConfig) -> Tensor:
    """Penalty-reduced focal loss (CornerNet, Law and Deng, 2018; CenterNet, Zhou et al., 2019) of (B, P, 10) logits.

    Around an object whose weight is 0 nothing is asked for. Frames without lidar do not count.
    """
    wanted, weight = heatmap_targets(targets, config)
    return penalty_reduced_focal_loss(heatmap.float(), wanted, weight * lidar_present[:, :, None])


def penalty_reduced_focal_loss(logits: Tensor, wanted: Tensor, weight: Tensor) -> Tensor:
    """Of logits, where `wanted` is 1 at peaks and falls off around them, `weight` of each: all of one shape.

    Divided by the number of peaks (CornerNet, Law and Deng, 2018).
    """
    p = logits.sigmoid().clamp(_CERTAIN, 1 - _CERTAIN)
    peak = (wanted == 1).to(p.dtype)
    hit = peak * (1 - p) ** _PEAK_ALPHA * functional.logsigmoid(logits)
    miss = (1 - peak) * (1 - wanted) ** _PEAK_BETA * p**_PEAK_ALPHA * functional.logsigmoid(-logits)
    count = (peak * weight).sum().clamp(min=1.0)
    return -((hit + miss) * weight).sum() / count


def heatmap_targets(targets: Targets, config: ModelConfig) -> tuple[Tensor, Tensor]:
    """What the heatmap should be, and what of it counts: (B, P, 10) each.

    1 on the place that an object's centre lies on, falling off around it as a normal distribution: its width is a
    sixth of the object's mean side, half a place at least.
    """
    nx, ny = config.canvas_places
    batch, most = targets.label.shape
    device = targets.center.device
    shape = (batch, len(ObjectClass) - 1, nx, ny)
    wanted, weight = torch.zeros(shape, device=device), torch.ones(shape, device=device)
    if most == 0:
        return wanted.flatten(2).transpose(1, 2), weight.flatten(2).transpose(1, 2)
    x = (targets.center[..., 0] - config.x_range_m[0]) / config.place_m - 0.5
    y = (targets.center[..., 1] - config.y_range_m[0]) / config.place_m - 0.5
    side = targets.log_size[..., :2].exp().mean(dim=-1) / config.place_m
    sigma = (side / 6).clamp(min=0.5)
    along_x = torch.exp(-0.5 * ((torch.arange(nx, device=device) - x[..., None]) / sigma[..., None]) ** 2)
    along_y = torch.exp(-0.5 * ((torch.arange(ny, device=device) - y[..., None]) / sigma[..., None]) ** 2)
    bump = along_x[..., :, None] * along_y[..., None, :]
    row, column = x.round().long(), y.round().long()
    inside = targets.valid & (row >= 0) & (row < nx) & (column >= 0) & (column < ny)
    frame, number = torch.nonzero(inside, as_tuple=True)
    bump = bump.clamp(max=0.99)  # exactly 1 is said of one place only
    bump[frame, number, row[inside], column[inside]] = 1.0
    bump = bump * targets.valid[..., None, None]
    certain = ((targets.weight > 0) & targets.valid)[..., None, None]
    channel = targets.label[..., None, None].expand_as(bump)
    wanted.scatter_reduce_(1, channel, bump * certain, "amax")
    unclear = (bump > _UNCLEAR) & ~certain
    weight.scatter_reduce_(1, channel, 1.0 - unclear.to(bump.dtype), "amin")
    return wanted.flatten(2).transpose(1, 2), torch.where(wanted == 1, 1.0, weight).flatten(2).transpose(1, 2)
