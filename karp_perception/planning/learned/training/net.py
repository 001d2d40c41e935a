"""The proposer as a torch module: proposals ask tokens, with the same Block as the detector.

Each of K proposals is a query that looks at the vehicle, the things around it, the road ahead and what is to be stopped
for. What comes out are shifts from the way along the route and changes of the usual acceleration: nothing said is the
planner's own first proposal.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from karp_perception.detection.model.block import MASKED, Block
from karp_perception.planning.learned.config import ProposerConfig
from karp_perception.planning.learned.network import MOST_CHANGE, MOST_SHIFT, ODD, OUTPUTS
from karp_perception.planning.learned.offsets import STATIONS
from karp_perception.planning.learned.tokens import EGO_WIDTH, PIECE_WIDTH, SECONDS, SIGNS, STOP_WIDTH, THING_WIDTH


class ProposerNet(nn.Module):
    """Tokens -> shifts, changes, logits and kinds of K proposals. Equivariant to mirrors whatever the weights.

    Args:
        config: shapes.
    """

    def __init__(self, config: ProposerConfig = ProposerConfig()) -> None:
        super().__init__()
        self.config, width = config, config.width
        self.ego = _embedding(EGO_WIDTH, width)
        self.things = _embedding(THING_WIDTH, width)
        self.pieces = _embedding(PIECE_WIDTH, width)
        self.stops = _embedding(STOP_WIDTH, width)
        self.memory_norm = nn.LayerNorm(width)
        self.modes = nn.Parameter(torch.randn(config.modes, width))
        self.layers = nn.ModuleList(Block(width, config.heads, config.mlp_ratio) for _ in range(config.layers))
        self.norm = nn.LayerNorm(width)
        self.ideas = nn.Linear(width, OUTPUTS)
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
        itself = self.ego(tables["ego"])
        pieces = self.pieces(tables["pieces"])
        memory = torch.cat([itself[:, None], pieces, self.things(tables["things"]), self.stops(tables["stops"])], 1)
        memory = self.memory_norm(memory)
        always = torch.ones(len(itself), 1 + pieces.shape[1], dtype=torch.bool)
        mask = torch.where(torch.cat([always, thing_known, stop_known], 1), 0.0, MASKED)[:, None, None]
        x = itself[:, None] + self.modes
        for layer in self.layers:
            x, _ = layer(x, memory=memory, mask=mask)
        return self.ideas(self.norm(x))


def _embedding(inputs: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, width), nn.GELU(), nn.Linear(width, width))
