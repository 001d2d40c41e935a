"""The one building block: multi-head attention and an MLP, each behind a LayerNorm and added to its input.

The same Block lets image tokens attend to each other, lidar tokens within a window, queries to each other, and
queries to tokens. Attention is written out (matrix products and a softmax), so that its ONNX holds standard operators.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

MASKED = -1e4
"""What is added to the score of a key that must not be seen: exp of it is 0 in float32, and float16 can hold it."""


class Attention(nn.Module):
    """Multi-head scaled dot-product attention (Vaswani et al., 2017), with projections and biases."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.output = nn.Linear(width, width)

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """What each query gathers.

        Args:
            query: (B, Q, D).
            key: (B, K, D).
            value: (B, K, D).
            mask: added to the scores: broadcastable to (B, heads, Q, K); 0 or `MASKED`. A row masked as a whole
                attends to everything alike.

        Returns:
            (B, Q, D), and the attention weights (B, heads, Q, K), whose rows sum to 1; None in training on a GPU,
            which uses torch's fused attention: the same result without ever holding the weights. On CPUs its
            gradient takes four times as long in bfloat16 as that of what is written out here.
        """
        q, k, v = self._split(self.query(query)), self._split(self.key(key)), self._split(self.value(value))
        if self.training and q.is_cuda:
            mask = None if mask is None else mask.to(q.dtype)
            gathered = functional.scaled_dot_product_attention(q, k, v, mask).transpose(1, 2).flatten(2)
            return self.output(gathered), None
        scores = (q * (1.0 / math.sqrt(q.shape[-1]))) @ k.transpose(-2, -1)
        if mask is not None:
            scores = scores + mask.to(scores.dtype)
        weights = scores.softmax(dim=-1)
        gathered = (weights @ v).transpose(1, 2).flatten(2)
        return self.output(gathered), weights

    def _split(self, x: Tensor) -> Tensor:
        """(B, N, D) -> (B, heads, N, D / heads)."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class Block(nn.Module):
    """x + attention, then x + MLP, both of normalised x (pre-norm)."""

    def __init__(self, width: int, heads: int, mlp_ratio: int) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, mlp_ratio * width), nn.GELU(), nn.Linear(mlp_ratio * width, width))

    def forward(
        self,
        x: Tensor,
        position: Tensor | None = None,
        memory: Tensor | None = None,
        memory_position: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """One layer: self-attention among x, or attention from x to `memory`.

        Positions are added to queries and keys and not to values: they say where to look, not what is there.

        Args:
            x: (B, N, D).
            position: (B, N, D) or None.
            memory: (B, M, D), normalised already, or None for self-attention (M = N, memory position = position).
            memory_position: (B, M, D) or None.
            mask: broadcastable to (B, heads, N, M), see `Attention`.

        Returns:
            (B, N, D), and the attention weights (B, heads, N, M), None in training on a GPU.
        """
        normed = self.attention_norm(x)
        query = normed if position is None else normed + position
        if memory is None:
            key, value = query, normed
        else:
            key, value = memory if memory_position is None else memory + memory_position, memory
        gathered, weights = self.attention(query, key, value, mask)
        x = x + gathered
        return x + self.mlp(self.mlp_norm(x)), weights


class ConvStem(nn.Module):
    """3x3 convolutions that halve the resolution once for each entry of `channels`.

    From stage `residual_from` on, a second convolution is added to the result of the first. Batch normalisation,
    because it folds into the convolutions when the network is exported and then costs nothing.
    """

    def __init__(self, inputs: int, channels: tuple[int, ...], residual_from: int = 0) -> None:
        super().__init__()
        before = (inputs, *channels[:-1])
        self.halve = nn.ModuleList(_convolution(i, o, 2) for i, o in zip(before, channels, strict=True))
        self.refine = nn.ModuleList(
            _convolution(o, o, 1) if stage >= residual_from else nn.Identity() for stage, o in enumerate(channels)
        )
        self.residual_from = residual_from

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, channels[-1], H / 2^n, W / 2^n)."""
        return self.last_two(x)[1]

    def last_two(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What comes out of the last stage but one (the input, where there is one stage), and out of the last."""
        before = x
        for stage, (halve, refine) in enumerate(zip(self.halve, self.refine, strict=True)):
            before, x = x, torch.relu(halve(x))
            if stage >= self.residual_from:
                x = torch.relu(x + refine(x))
        return before, x


class ResidualConvs(nn.Module):
    """Two 3x3 convolutions whose result is added to their input; of a new network, nothing."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = _convolution(channels, channels, 1)
        self.second = _convolution(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, X, Y) -> the same."""
        return torch.relu(x + self.second(torch.relu(self.first(x))))


def _convolution(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False), nn.BatchNorm2d(outputs))
