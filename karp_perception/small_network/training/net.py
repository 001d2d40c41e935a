"""A small network as a torch module: queries of one thing ask tokens, with the same Block as the detector."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from karp_perception.detection.model.block import MASKED, Block
from karp_perception.small_network.config import SmallConfig


class SmallNet(nn.Module):
    """Embeddings of tokens, and the blocks in which queries look at them; what is made of it each network adds.

    Args:
        config: shapes.
        inputs: see `SmallNetwork`.
    """

    def __init__(self, config: SmallConfig, inputs: Mapping[str, int]) -> None:
        super().__init__()
        self.config, width = config, config.width
        for kind, numbers in inputs.items():
            self.add_module(kind, nn.Sequential(nn.Linear(numbers, width), nn.GELU(), nn.Linear(width, width)))
        self.memory_norm = nn.LayerNorm(width)
        self.modes = nn.Parameter(torch.randn(config.modes, width))
        self.layers = nn.ModuleList(Block(width, config.heads, config.mlp_ratio) for _ in range(config.layers))
        self.norm = nn.LayerNorm(width)

    def embedded(self, kind: str, table: Tensor) -> Tensor:
        """(..., D) of tokens of a kind."""
        return self.get_submodule(kind)(table)

    def answers(self, itself: Tensor, around: Mapping[str, tuple[Tensor, Tensor]]) -> Tensor:
        """(N, K, D), normalised: what the K queries of N things come to.

        Args:
            itself: (N, D) embedded.
            around: tokens (N, T, ...) by kind, and which of them exist (N, T).
        """
        memory = torch.cat([itself[:, None], *(self.embedded(kind, table) for kind, (table, _) in around.items())], 1)
        memory = self.memory_norm(memory)
        always = torch.ones(len(itself), 1, dtype=torch.bool)
        known = torch.cat([always, *(exists for _, exists in around.values())], 1)
        mask = torch.where(known, 0.0, MASKED)[:, None, None]
        x = itself[:, None] + self.modes
        for layer in self.layers:
            x, _ = layer(x, memory=memory, mask=mask)
        return self.norm(x)
