"""What a proposer's training minimises: for each try that counts, the nearest of the proposals learns.

With the best tries of a scored set as targets, weighted by the exponential of their score, this is imitation where the
set is a fixed one, and reward-weighted regression (Peters and Schaal, 2007) where it lies around the network's own.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from karp_perception.planning.learned.training.settings import ProposerTrainSettings

_SHIFT_M, _SPEED = 0.5, 1.5  # m sideways, and m/s: what is equally far away
_SOFT = 0.1  # distances below it count by their square


def objective(
    shifts: Tensor,
    change: Tensor,
    logits: Tensor,
    kinds: Tensor,
    tries: Mapping[str, Tensor],
    settings: ProposerTrainSettings,
) -> tuple[Tensor, Mapping[str, Tensor]]:
    """The loss of K proposals for each of B moments, and its parts.

    Args:
        shifts: (B, K, 6) m. change: (B, K, SECONDS) m/s². logits: (B, K). kinds: (B, K, KINDS). As ProposerNet says.
        tries: `usual` (B, SECONDS), `speed` (B,), and of J tries each `shifts`, `change`, `kind`, `weight`; see
            `samples.Samples`.
    """
    speed = _speeds(tries["speed"], tries["usual"], change)
    wanted = _speeds(tries["speed"], tries["usual"], tries["change"])
    sideways = (shifts[:, :, None] - tries["shifts"][:, None]) / _SHIFT_M
    along = (speed[:, :, None] - wanted[:, None]) / _SPEED
    square = (sideways**2).mean(dim=-1) + (along**2).mean(dim=-1)
    away = (square + _SOFT**2).sqrt() - _SOFT  # (B, K, J)
    nearest, which = away.min(dim=1)
    weight = tries["weight"]
    distance = (weight * nearest).sum(dim=1).mean()
    every = (weight[:, None] * away).sum(dim=2).mean()
    best = functional.cross_entropy(logits, which[:, 0])
    row = torch.arange(len(which))[:, None]
    kind = functional.cross_entropy(kinds[row, which].transpose(1, 2), tries["kind"], reduction="none")
    kind = (weight * kind).sum(dim=1).mean()
    loss = (1 - settings.others_share) * distance + settings.others_share * every
    loss = loss + settings.class_weight * best + settings.kind_weight * kind
    return loss, {"distance": distance, "class": best, "kind": kind}


def _speeds(speed: Tensor, usual: Tensor, change: Tensor) -> Tensor:
    """(B, N, SECONDS) m/s at the ends of the seconds, of accelerations (B, N, SECONDS) more than usual."""
    return (speed[:, None, None] + (usual[:, None] + change).cumsum(dim=-1)).clamp(min=0.0)
