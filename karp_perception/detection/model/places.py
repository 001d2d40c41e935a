"""Places of the canvas, two by two on each lidar token: what lies on them, and what queries there begin as."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from karp_perception.detection.model.config import CLASSES, PLACES, ModelConfig
from karp_perception.detection.model.lidar_encoder import from_squares


def gathered(rows: Tensor, index: Tensor) -> Tensor:
    """(B, N, D), (B, K) -> (B, K, D): the rows that the index names."""
    return rows.gather(1, index.unsqueeze(-1).expand(-1, -1, rows.shape[-1]))


class PlaceHeatmap(nn.Module):
    """What lies on each place: told by its token, which has seen far, and by what the stem knows of the place."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.grid = config.canvas_tokens
        self.of_token = nn.Linear(config.width, PLACES * PLACES * CLASSES)
        self.of_place = nn.Linear(config.place_channels, CLASSES, bias=False)

    def forward(self, tokens: Tensor, places: Tensor) -> Tensor:
        """(B, L, D), (B, P, `place_channels`) -> (B, P, 10) logits."""
        coarse = self.of_token(tokens).transpose(1, 2).unflatten(2, self.grid)
        return from_squares(coarse).flatten(1, 2) + self.of_place(places)


class PlaceFeatures(nn.Module):
    """What a query begins as that stands for a place of the canvas."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.of_token = nn.Linear(config.width, config.width)
        self.of_place = nn.Linear(config.place_channels, config.width, bias=False)
        self.corner = nn.Parameter(torch.zeros(PLACES * PLACES, config.width))
        nx, ny = config.canvas_places
        row, column = torch.meshgrid(torch.arange(nx), torch.arange(ny), indexing="ij")
        token = row // PLACES * config.canvas_tokens[1] + column // PLACES
        self.register_buffer("token", token.flatten(), persistent=False)
        self.register_buffer("corner_of", (row % PLACES * PLACES + column % PLACES).flatten(), persistent=False)

    def forward(self, tokens: Tensor, places: Tensor, chosen: Tensor) -> Tensor:
        """(B, L, D), (B, P, `place_channels`), indices (B, K) of places -> (B, K, D)."""
        batch = chosen.shape[0]
        token, corner = (of.expand(batch, -1).gather(1, chosen) for of in (self.token, self.corner_of))
        of_corner = gathered(self.corner.expand(batch, -1, -1), corner)
        return self.of_token(gathered(tokens, token)) + self.of_place(gathered(places, chosen)) + of_corner
