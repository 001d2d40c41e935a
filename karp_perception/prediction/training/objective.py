"""What a predictor's training minimises: the nearest of its paths learns, and which one that is.

Winner takes all: of K paths the one that is nearest to the truth on average bears the loss, so that each may stand for
another future; a cross entropy teaches which of them is the likeliest (as in MultiPath, Chai et al., 2019).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from karp_perception.prediction.rollout import SEGMENT_S
from karp_perception.prediction.training.settings import PredictorTrainSettings

_SOFT_M = 0.1  # distances below it count by their square


def rolled_out(
    speed: Tensor, limits: Tensor, acceleration: Tensor, turn_rate: Tensor, correction: Tensor, segments: int
) -> Tensor:
    """Positions (B, K, S, 2) m at the ends of the segments, in each thing's own frame: `rollout.roll_out` in torch.

    Args:
        speed: (B,) m/s. limits: (B, 2). acceleration, turn_rate: (B, K, C), one a second. correction: (B, 2).
        segments: S of SEGMENT_S each.
    """
    count = acceleration.shape[-1]
    second = (torch.arange(segments) * SEGMENT_S).long().clamp(max=count - 1)
    begin = (speed + correction[:, 1]).clamp(min=0.0)[:, None, None]
    free = begin + SEGMENT_S * acceleration[..., second].cumsum(dim=-1)
    v = free - free.cummin(dim=-1).values.clamp(max=0.0)
    v = torch.cat([begin.expand(-1, v.shape[1], -1), v], dim=-1)
    middle = 0.5 * (v[..., 1:] + v[..., :-1])
    most = torch.minimum(limits[:, :1, None] * middle, limits[:, 1:, None] / middle.clamp(min=1e-3))
    turn = torch.maximum(torch.minimum(turn_rate[..., second], most), -most) * SEGMENT_S
    turned = turn.cumsum(dim=-1)
    half = 0.5 * turn
    chord = middle * SEGMENT_S * torch.sinc(half / torch.pi)
    along = correction[:, :1, None] + turned - half
    return torch.stack([(chord * along.cos()).cumsum(dim=-1), (chord * along.sin()).cumsum(dim=-1)], dim=-1)


def objective(
    paths: Tensor, logits: Tensor, future: Tensor, there: Tensor, settings: PredictorTrainSettings
) -> tuple[Tensor, Mapping[str, Tensor]]:
    """The loss of paths (B, K, S, 2) with logits (B, K) against `future` (B, S, 2), `there` (B, S), and its parts."""
    square = ((paths - future[:, None]) ** 2).sum(dim=-1)
    away = (square + _SOFT_M**2).sqrt() - _SOFT_M
    weight = torch.where(torch.arange(paths.shape[2]) * SEGMENT_S < 3.0, 1.0, settings.late_weight) * there
    mean = (away * weight[:, None]).sum(dim=-1) / weight.sum(dim=-1).clamp(min=1e-6)[:, None]
    nearest = mean.min(dim=1).values
    distance = (1 - settings.others_share) * nearest.mean() + settings.others_share * mean.mean()
    # Paths that are about as near share the credit: which of them is nearest is chance.
    share = torch.softmax(-mean.detach() / settings.class_softness, dim=1)
    which = functional.cross_entropy(logits, share)
    return distance + settings.class_weight * which, {"distance": nearest.mean(), "class": which}
