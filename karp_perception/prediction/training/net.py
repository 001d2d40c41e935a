"""The predictor as a torch module: paths ask tokens, and answer with controls.

Each of K paths of a thing is a query that looks at the thing itself, at what is around it and at the lanes before it.
What comes out are accelerations and turn rates, one a second, not positions: the path follows from them as it does from
manoeuvres (`rollout`), within what a body can do.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from karp_perception.prediction.config import PredictorConfig
from karp_perception.prediction.network import (
    MOST_ACCELERATION,
    MOST_HEADING,
    MOST_SPEED,
    MOST_TURN,
    PredictorNetwork,
)
from karp_perception.small_network.training.net import SmallNet


class PredictorNet(SmallNet):
    """Tokens -> controls and logits of K paths.

    Args:
        config: shapes.
    """

    def __init__(self, config: PredictorConfig = PredictorConfig()) -> None:
        super().__init__(config, PredictorNetwork.inputs)
        sizes = PredictorNetwork.outputs(config)
        self.controls = nn.Linear(config.width, sizes["controls"])
        self.correction = nn.Linear(config.width, sizes["correction"])
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
        itself = self.embedded("target", target)
        out = self.controls(self.answers(itself, {"others": (others, other_known), "pieces": (pieces, piece_known)}))
        count = self.config.controls
        correction = torch.tanh(self.correction(itself)) * torch.tensor([MOST_HEADING, MOST_SPEED])
        return (
            MOST_ACCELERATION * torch.tanh(out[..., :count]),
            MOST_TURN * torch.tanh(out[..., count:-1]),
            out[..., -1],
            correction,
        )
