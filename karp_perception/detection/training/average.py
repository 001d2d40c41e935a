"""The moving average of a network's weights, which scores better than the weights at any step."""

from __future__ import annotations

import copy

import torch
from torch import nn


class WeightAverage:
    """Exponential moving average (Polyak and Juditsky, 1992); in the first steps a plain average.

    Args:
        net: whose weights; statistics of batch normalisation are averaged alike.
        decay: share of the old average that is kept at a step, in the long run.
    """

    def __init__(self, net: nn.Module, decay: float) -> None:
        self.net = copy.deepcopy(net).eval().requires_grad_(False)
        self._decay = decay

    @torch.no_grad()
    def update(self, net: nn.Module, step: int) -> None:
        """Take in the weights after step number `step`, counted from 0."""
        keep = min(self._decay, (1 + step) / (10 + step))
        theirs = net.state_dict()
        pairs = [(ours, theirs[name]) for name, ours in self.net.state_dict().items()]
        moving = [(ours, value.to(ours.dtype)) for ours, value in pairs if ours.is_floating_point()]
        torch._foreach_lerp_([ours for ours, _ in moving], [value for _, value in moving], 1 - keep)
        for ours, value in pairs:
            if not ours.is_floating_point():
                ours.copy_(value)
