"""The bird's-eye canvas to tokens: one for each square of cells, attending within windows made by reshaping."""

from __future__ import annotations

from torch import Tensor, nn

from karp_perception.detection.model.block import Block, ConvStem, ResidualConvs
from karp_perception.detection.model.config import ModelConfig

# Axes of (B, a, b, c, d, D): which pairs count windows and which count tokens within one.
_LOCAL = (0, 1, 3, 2, 4, 5)
_STRIDED = (0, 2, 4, 1, 3, 5)
_FROM_STRIDED = (0, 3, 1, 4, 2, 5)


def to_windows(grid: Tensor, window: int, *, strided: bool) -> Tensor:
    """Cut a grid of tokens into windows of `window` x `window` tokens.

    Args:
        grid: (B, X, Y, D), X and Y multiples of `window`.
        window: tokens along a side.
        strided: False: neighbouring tokens. True: every (X / window)-th token along x and (Y / window)-th along y,
            so that each window spans the whole grid (MaxViT's grid attention, Tu et al., 2022).

    Returns:
        (B * X * Y / window^2, window^2, D).
    """
    batch, nx, ny, width = grid.shape
    if strided:
        cut = grid.reshape(batch, window, nx // window, window, ny // window, width).permute(_STRIDED)
    else:
        cut = grid.reshape(batch, nx // window, window, ny // window, window, width).permute(_LOCAL)
    return cut.reshape(-1, window * window, width)


def from_windows(windows: Tensor, shape: tuple[int, int], window: int, *, strided: bool) -> Tensor:
    """Put windows back: the inverse of `to_windows`, (n, window^2, D) -> (B, X, Y, D) for shape = (X, Y)."""
    nx, ny = shape
    cut = windows.reshape(-1, nx // window, ny // window, window, window, windows.shape[-1])
    return cut.permute(_FROM_STRIDED if strided else _LOCAL).reshape(-1, nx, ny, windows.shape[-1])


def from_squares(coarse: Tensor) -> Tensor:
    """Each square's 4 D numbers to the D of each of the four squares, half as wide, that it is made of.

    (B, 4 * D, X, Y) -> (B, 2 X, 2 Y, D); of the first axis, where along x counts slowest, then where along y.
    """
    batch, channels, nx, ny = coarse.shape
    squares = coarse.reshape(batch, 2, 2, channels // 4, nx, ny).permute(0, 4, 1, 5, 2, 3)
    return squares.reshape(batch, 2 * nx, 2 * ny, channels // 4)


class Context(nn.Module):
    """What lies within some 20 m of each token: at half their resolution, where far is near, and brought back.

    A lorry is longer than what the stem sees of it, and attention within fixed windows ends where a window ends.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.halve = ConvStem(config.width, (config.context_width,))
        self.convolutions = nn.Sequential(*(ResidualConvs(config.context_width) for _ in range(config.context_blocks)))
        self.back = nn.Conv2d(config.context_width, 4 * config.width, 1)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, D, X, Y) -> (B, X, Y, D), to be added to the tokens."""
        return from_squares(self.back(self.convolutions(self.halve(tokens))))


class LidarEncoder(nn.Module):
    """A convolutional stem from cells to tokens, their context, then blocks in local and strided windows by turns."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.window = config.window
        self.stem = ConvStem(config.canvas_channels, config.lidar_stem)
        self.refine = ResidualConvs(config.width)
        self.context = Context(config)
        self.blocks = nn.ModuleList(
            Block(config.width, config.heads, config.mlp_ratio) for _ in range(config.lidar_blocks)
        )
        self.norm = nn.LayerNorm(config.width)

    def forward(self, canvas: Tensor, position: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens and places of the canvas.

        Args:
            canvas: (B, channels, X, Y) cells.
            position: (1, x * y, D) embeddings of the tokens' places.

        Returns:
            tokens (B, x * y, D), y running fastest; and of the places, two by two on each token, what the stem knows of
            them: (B, 4 * x * y, `place_channels`), in rows of the whole canvas likewise.
        """
        places, tokens = self.stem.last_two(canvas)
        tokens = self.refine(tokens)
        grid = tokens.permute(0, 2, 3, 1) + self.context(tokens)
        _, nx, ny, width = grid.shape
        position = position.reshape(1, nx, ny, width).expand(grid.shape[0], nx, ny, width)
        for number, block in enumerate(self.blocks):
            strided = number % 2 == 1
            windows = to_windows(grid, self.window, strided=strided)
            windows, _ = block(windows, to_windows(position, self.window, strided=strided))
            grid = from_windows(windows, (nx, ny), self.window, strided=strided)
        return self.norm(grid.flatten(1, 2)), places.permute(0, 2, 3, 1).flatten(1, 2)
