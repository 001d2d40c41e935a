"""Images to tokens: one for each square of 16 x 16 pixels, every camera through the same weights."""

from __future__ import annotations

from torch import Tensor, nn

from karp_perception.detection.model.block import Block, ConvStem
from karp_perception.detection.model.config import ModelConfig


class ImageEncoder(nn.Module):
    """A convolutional stem to stride 16, then blocks that attend within a camera; cameras lie on the batch axis."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.stem = ConvStem(3, config.image_stem, config.image_residual_from)
        self.blocks = nn.ModuleList(
            Block(config.width, config.heads, config.mlp_ratio) for _ in range(config.image_blocks)
        )
        self.norm = nn.LayerNorm(config.width)

    def forward(self, images: Tensor, position: Tensor) -> Tensor:
        """Tokens of all cameras.

        Args:
            images: (B, C, 3, H, W), normalised.
            position: (B, C * T, D) embeddings of the tokens' rays, T = H/16 * W/16.

        Returns:
            (B, C * T, D): camera after camera, each row by row.
        """
        batch, cameras = images.shape[:2]
        features = self.stem(images.flatten(0, 1))
        tokens = features.flatten(2).transpose(1, 2)
        position = position.reshape(tokens.shape)
        for block in self.blocks:
            tokens, _ = block(tokens, position)
        return self.norm(tokens).reshape(batch, cameras * tokens.shape[1], tokens.shape[2])
