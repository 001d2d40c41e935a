"""Denoising queries (DN-DETR, Li et al., 2022): objects with noise on them, to be put right, during training alone.

Their matching is known, so the decoder learns what a box is before it has learnt which query takes which object.
Groups of them are hidden from each other and from the queries proper, which must not see the answers.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from karp_perception.detection.model.block import MASKED
from karp_perception.detection.model.config import CLASSES, ModelConfig
from karp_perception.detection.model.detector_net import Prediction
from karp_perception.detection.model.matcher import Match, Targets
from karp_perception.detection.model.position import PositionEmbedding

_SPREAD = 0.5  # of half an object's sides: a reference point is drawn within that of its centre
_LEAST_M = 0.3  # and at least this far, so that small objects are noisy too
_OTHER_CLASS = 0.2  # share of denoising queries that are told a wrong class
_AWAY = 0.5  # share of the groups' queries that stand beside their object, and for nothing
_AWAY_M = (1.5, 4.0)  # how far beside


@dataclass
class NoisyQueries:
    """Queries appended to those proper.

    Attributes:
        features, position: (B, P, D).
        reference: (B, P, 3) m.
        target: (B, P) column of `Targets` that each is made from.
        negative: (B, P) bool: stands beside its object, and for nothing.
        hidden: (B, P) bool: padding.
        groups: how many of them.
    """

    features: Tensor
    position: Tensor
    reference: Tensor
    target: Tensor
    negative: Tensor
    hidden: Tensor
    groups: int

    def mask(self, queries: int) -> Tensor:
        """(N + P, N + P) added to the scores among queries: who must not see whom, for N queries proper."""
        count = self.target.shape[1]
        group = torch.full((queries + count,), -1, device=self.target.device)
        size = count // self.groups
        group[queries:] = torch.arange(self.groups, device=group.device).repeat_interleave(size)
        # A query sees its own group, and denoising queries see those proper.
        sees = (group[:, None] == group[None, :]) | (group[None, :] == -1)
        return torch.where(sees, 0.0, MASKED)

    def match(self, targets: Targets) -> Match:
        """The pairs, known from the beginning: those that do not stand beside their object."""
        frame, query = torch.nonzero(~self.hidden & ~self.negative, as_tuple=True)
        return Match(frame, query, self.target[frame, query])


class Denoising(nn.Module):
    """Makes noisy queries. Its weights are needed for training only and are no part of a model.

    Args:
        config: of the network.
        most: queries of a frame; as many groups are made as fit, one at least.
    """

    def __init__(self, config: ModelConfig, most: int = 56) -> None:
        super().__init__()
        self.config, self.most = config, most
        self.label = nn.Embedding(CLASSES, config.width)

    def forward(
        self, targets: Targets, embedding: PositionEmbedding, calibration: tuple[Tensor, Tensor, Tensor],
        generator: torch.Generator | None = None,
    ) -> NoisyQueries | None:  # fmt: skip
        """Noisy queries of a batch, None where there are no objects.

        Args:
            targets: objects.
            embedding: of the network.
            calibration: intrinsics, T_base_camera, camera_present as `PositionEmbedding.forward` takes them.
            generator: of the noise.
        """
        certain = targets.valid & (targets.weight > 0)
        size = min(self.most, int(certain.sum(dim=1).max()))
        if size == 0:
            return None
        # The objects that count, in front; where there are too many, the first ones.
        chosen = (~certain).to(torch.uint8).argsort(dim=1, stable=True)[:, :size]
        groups = max(1, self.most // size)
        batch, device = len(certain), certain.device
        shape = (batch, groups, size)

        def of(column: Tensor) -> Tensor:
            index = chosen.reshape(*chosen.shape, *[1] * (column.ndim - 2)).expand(-1, -1, *column.shape[2:])
            return column.gather(1, index)[:, None]

        def uniform(*size: int) -> Tensor:
            return torch.rand(size, generator=generator).to(device)

        half = 0.5 * of(targets.log_size).exp()
        along_across = (2 * uniform(*shape, 2) - 1) * (half[..., :2] * _SPREAD).clamp(min=_LEAST_M)
        yaw = of(targets.yaw)
        c, s = yaw.cos(), yaw.sin()
        dx = c * along_across[..., 0] - s * along_across[..., 1]
        dy = s * along_across[..., 0] + c * along_across[..., 1]
        negative = uniform(*shape) < _AWAY
        angle = 2 * torch.pi * uniform(*shape)
        reach = half[..., 0] * uniform(*shape) + _AWAY_M[0] + (_AWAY_M[1] - _AWAY_M[0]) * uniform(*shape)
        dx = torch.where(negative, reach * angle.cos(), dx)
        dy = torch.where(negative, reach * angle.sin(), dy)
        center = of(targets.center)
        x, y = center[..., 0] + dx, center[..., 1] + dy
        z = torch.full_like(x, self.config.candidate_z_m)
        reference = torch.stack([x, y, z], dim=-1).flatten(1, 2)

        wrong = uniform(*shape) < _OTHER_CLASS
        other = (uniform(*shape) * CLASSES).long().clamp(max=CLASSES - 1)
        label = torch.where(wrong, other, of(targets.label)).flatten(1)

        place = embedding.place_embedding(reference)
        position = place + embedding.seen_from(reference.unsqueeze(1), *calibration)
        hidden = ~of(certain).expand(shape).flatten(1)
        target = chosen.repeat(1, groups)
        return NoisyQueries(self.label(label), position, reference, target, negative.flatten(1), hidden, groups)


def split(prediction: Prediction, queries: int) -> tuple[Prediction, Prediction]:
    """What the first N queries say, and what those after them say."""
    tensors = vars(prediction)
    first = Prediction(**{name: tensor[:, :queries] for name, tensor in tensors.items()})
    return first, Prediction(**{name: tensor[:, queries:] for name, tensor in tensors.items()})
