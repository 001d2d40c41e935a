"""The refiner as a torch module."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from karp_perception.detection.refinement.config import RefinerConfig
from karp_perception.detection.refinement.network import MOST_CHANGE, RefinerNetwork
from karp_perception.small_network.training.net import SmallNet


class RefinerNet(SmallNet):
    """Boxes and the points in them -> changes, and what they hold.

    Args:
        config: shapes.
    """

    def __init__(self, config: RefinerConfig = RefinerConfig()) -> None:
        super().__init__(config, RefinerNetwork.inputs)
        for name, count in RefinerNetwork.outputs(config).items():
            layer = nn.Linear(config.width, count)
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)
            self.add_module(name, layer)
        # How much likelier each class is in an enriched world: learnt, so that it need not be believed elsewhere.
        self.enriched = nn.Parameter(torch.zeros(RefinerNetwork.outputs(config)["classes"]))
        self.register_buffer("most", torch.from_numpy(MOST_CHANGE).float(), persistent=False)

    def forward(self, box: Tensor, points: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
        """See `views.BoxViews.tables` for the inputs (B boxes) -> (B, 7), see `views.CHANGE`, and (B, 10) log odds of
        classes beyond `network.first_log_odds`."""
        answers = self.answers(self.embedded("box", box), {"points": (points, known)})[:, 0]
        return self.most * torch.tanh(self.get_submodule("change")(answers)), self.get_submodule("classes")(answers)
