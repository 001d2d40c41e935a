"""The predictor as a torch module: paths ask tokens, with the same Block as the detector, and answer with controls.

Each of K paths of a thing is a query that looks at the thing itself, at what is around it and at the lanes before it.
What comes out are accelerations and turn rates, one a second, not positions: the path follows from them as it does from
manoeuvres (`rollout`), within what a body can do.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from karp_perception.detection.model.block import MASKED, Block
from karp_perception.prediction.config import PredictorConfig
from karp_perception.prediction.network import MOST_ACCELERATION, MOST_HEADING, MOST_SPEED, MOST_TURN
from karp_perception.prediction.tokens import OTHER_WIDTH, PIECE_WIDTH, TARGET_WIDTH


class PredictorNet(nn.Module):
    """Tokens -> controls and logits of K paths.

    Args:
        config: shapes.
    """

    def __init__(self, config: PredictorConfig = PredictorConfig()) -> None:
        super().__init__()
        self.config, width = config, config.width
        self.target = _embedding(TARGET_WIDTH, width)
        self.others = _embedding(OTHER_WIDTH, width)
        self.pieces = _embedding(PIECE_WIDTH, width)
        self.memory_norm = nn.LayerNorm(width)
        self.modes = nn.Parameter(torch.randn(config.modes, width))
        self.layers = nn.ModuleList(Block(width, config.heads, config.mlp_ratio) for _ in range(config.layers))
        self.norm = nn.LayerNorm(width)
        self.controls = nn.Linear(width, 2 * config.controls + 1)
        self.correction = nn.Linear(width, 2)
        for head in (self.controls, self.correction):
            nn.init.normal_(head.weight, std=0.01)
            nn.init.zeros_(head.bias)

    def forward(
        self, target: Tensor, others: Tensor, other_known: Tensor, pieces: Tensor, piece_known: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """See `tokens.Tokens` for the inputs (B things).

        Returns:
            accelerations (B, K, C) m/s², turn rates (B, K, C) rad/s, logits (B, K), and corrections (B, 2) of the
            present heading (rad) and speed (m/s).
        """
        itself = self.target(target)
        memory = torch.cat([itself[:, None], self.others(others), self.pieces(pieces)], dim=1)
        memory = self.memory_norm(memory)
        known = torch.cat([torch.ones_like(other_known[:, :1]), other_known, piece_known], dim=1)
        mask = torch.where(known, 0.0, MASKED)[:, None, None]
        x = itself[:, None] + self.modes
        for layer in self.layers:
            x, _ = layer(x, memory=memory, mask=mask)
        out = self.controls(self.norm(x))
        count = self.config.controls
        correction = torch.tanh(self.correction(itself)) * torch.tensor([MOST_HEADING, MOST_SPEED])
        return (
            MOST_ACCELERATION * torch.tanh(out[..., :count]),
            MOST_TURN * torch.tanh(out[..., count:-1]),
            out[..., -1],
            correction,
        )


def _embedding(inputs: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, width), nn.GELU(), nn.Linear(width, width))
