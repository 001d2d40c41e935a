"""The refiner as a torch module."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from karp_perception.detection.refinement.config import RefinerConfig
from karp_perception.detection.refinement.network import MOST_CHANGE, RefinerNetwork
from karp_perception.small_network.training.net import SmallNet


class RefinerNet(SmallNet):
    """Boxes and the points in them -> changes.

    Args:
        config: shapes.
    """

    def __init__(self, config: RefinerConfig = RefinerConfig()) -> None:
        super().__init__(config, RefinerNetwork.inputs)
        self.change = nn.Linear(config.width, RefinerNetwork.outputs(config)["change"])
        nn.init.normal_(self.change.weight, std=0.01)
        nn.init.zeros_(self.change.bias)
        self.register_buffer("most", torch.from_numpy(MOST_CHANGE).float(), persistent=False)

    def forward(self, box: Tensor, points: Tensor, known: Tensor) -> Tensor:
        """See `views.BoxViews.tables` for the inputs (B boxes) -> (B, 7), see `views.CHANGE`."""
        answers = self.answers(self.embedded("box", box), {"points": (points, known)})[:, 0]
        return self.most * torch.tanh(self.change(answers))
