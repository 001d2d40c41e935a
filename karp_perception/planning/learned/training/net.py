"""The proposer as a torch module: proposals ask tokens.

Each of K proposals is a query that looks at the vehicle, the things around it, the road ahead and what is to be stopped
for. What comes out are shifts from the way along the route and changes of the usual acceleration: nothing said is the
planner's own first proposal.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from karp_perception.planning.learned.config import ProposerConfig
from karp_perception.planning.learned.network import MOST_CHANGE, MOST_SHIFT, ODD, OUTPUTS, ProposerNetwork
from karp_perception.planning.learned.offsets import STATIONS
from karp_perception.planning.learned.tokens import SECONDS, SIGNS
from karp_perception.small_network.training.net import SmallNet


class ProposerNet(SmallNet):
    """Tokens -> shifts, changes, logits and kinds of K proposals. Equivariant to mirrors whatever the weights.

    Args:
        config: shapes.
    """

    def __init__(self, config: ProposerConfig = ProposerConfig()) -> None:
        super().__init__(config, ProposerNetwork.inputs)
        self.ideas = nn.Linear(config.width, OUTPUTS)
        nn.init.normal_(self.ideas.weight, std=0.02)
        nn.init.zeros_(self.ideas.bias)

    def forward(
        self, ego: Tensor, things: Tensor, thing_known: Tensor, pieces: Tensor, stops: Tensor, stop_known: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """See `tokens.SceneTokens` for the inputs (B moments).

        Returns:
            shifts (B, K, 6) m, changes (B, K, SECONDS) m/s², logits (B, K) of the proposals, and (B, K, KINDS) of what
            each amounts to.
        """
        tables = {"ego": ego, "things": things, "pieces": pieces, "stops": stops}
        mirrored = {name: table * torch.from_numpy(SIGNS[name]) for name, table in tables.items()}
        both = {name: torch.cat([table, mirrored[name]]) for name, table in tables.items()}
        out = self._one_sided(both, torch.cat([thing_known] * 2), torch.cat([stop_known] * 2))
        n = len(ego)
        other = out[n:, list(self.config.partner)]
        out = 0.5 * (out[:n] + torch.where(torch.from_numpy(ODD), -other, other))
        shifts, change, logit, kind = out.split([len(STATIONS), SECONDS, 1, OUTPUTS - len(STATIONS) - SECONDS - 1], -1)
        return MOST_SHIFT * torch.tanh(shifts), MOST_CHANGE * torch.tanh(change), logit[..., 0], kind

    def _one_sided(self, tables: dict[str, Tensor], thing_known: Tensor, stop_known: Tensor) -> Tensor:
        pieces = tables["pieces"]
        around = {
            "pieces": (pieces, torch.ones(pieces.shape[:2], dtype=torch.bool)),
            "things": (tables["things"], thing_known),
            "stops": (tables["stops"], stop_known),
        }
        return self.ideas(self.answers(self.embedded("ego", tables["ego"]), around))
