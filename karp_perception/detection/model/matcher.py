"""Which query stands for which object: the assignment of least cost (DETR, Carion et al., 2020)."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional

from karp_perception.detection.model.detector_net import Prediction

_FOCAL_ALPHA, _FOCAL_GAMMA = 0.25, 2.0  # as in the loss
_IMPOSSIBLE = 1e6  # cost of what is not finite


@dataclass
class Targets:
    """Objects of a batch, padded to the largest number G of them.

    Attributes:
        label: (B, G) int64.
        center: (B, G, 3) m.
        log_size: (B, G, 3).
        yaw: (B, G) rad.
        velocity: (B, G, 2) m/s, zeros where unknown.
        velocity_known: (B, G) 1 or 0.
        weight: (B, G) 0..1; 0 for objects that are there but need not be found: too little of them can be seen.
        shown: (B, G) the same, of those that cameras show well enough to be found without a lidar.
        valid: (B, G) bool, False for padding.
    """

    label: Tensor
    center: Tensor
    log_size: Tensor
    yaw: Tensor
    velocity: Tensor
    velocity_known: Tensor
    weight: Tensor
    shown: Tensor
    valid: Tensor

    def to(self, device: torch.device | str) -> Targets:
        """The same on a device."""
        return Targets(**{f.name: getattr(self, f.name).to(device) for f in fields(self)})


@dataclass(frozen=True)
class MatchingCost:
    """Weights of the parts of the cost of letting a query stand for an object."""

    label: float = 2.0
    center: float = 0.25  # per m of |dx| + |dy|: a class is worth giving up for some metres and not for less
    size: float = 0.25  # per unit of log size


@dataclass
class Match:
    """Pairs of a query and an object of the same frame: (M,) indices each."""

    frame: Tensor
    query: Tensor
    target: Tensor


@torch.no_grad()
def match(prediction: Prediction, targets: Targets, hidden: Tensor, cost: MatchingCost = MatchingCost()) -> Match:
    """The assignment of least cost in each frame: every object gets a query of its own, as far as there are enough.

    Args:
        prediction: of N queries.
        targets: of the same B frames.
        hidden: (B, N) bool: queries that are masked and cannot stand for anything.
        cost: its weights.
    """
    costs = _costs(prediction, targets, cost).masked_fill(hidden[:, :, None], _IMPOSSIBLE)
    costs = torch.nan_to_num(costs, nan=_IMPOSSIBLE, posinf=_IMPOSSIBLE, neginf=_IMPOSSIBLE).cpu().numpy()
    counts = targets.valid.sum(dim=1).tolist()
    pairs: list[np.ndarray] = []
    for frame, count in enumerate(counts):
        query, target = linear_sum_assignment(costs[frame, :, :count])
        possible = costs[frame, query, target] < _IMPOSSIBLE
        query, target = query[possible], target[possible]
        pairs.append(np.stack([np.full(len(query), frame), query, target]))
    joined = torch.from_numpy(np.concatenate(pairs, axis=1).astype(np.int64)).to(prediction.logits.device)
    return Match(*joined)


def _costs(prediction: Prediction, targets: Targets, cost: MatchingCost) -> Tensor:
    """(B, N, G): the change of the focal loss, and distances."""
    logits = prediction.logits.float()
    p = logits.sigmoid()
    positive = _FOCAL_ALPHA * (1 - p) ** _FOCAL_GAMMA * functional.softplus(-logits)
    negative = (1 - _FOCAL_ALPHA) * p**_FOCAL_GAMMA * functional.softplus(logits)
    index = targets.label[:, None, :].expand(-1, logits.shape[1], -1)
    label = (positive - negative).gather(2, index)
    center = torch.cdist(prediction.center[..., :2].float(), targets.center[..., :2], p=1)
    size = torch.cdist(prediction.log_size.float(), targets.log_size, p=1)
    return cost.label * label + cost.center * center + cost.size * size
