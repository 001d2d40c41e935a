"""The layers of small networks, in numpy: the same arithmetic as `detection.model.block.Block` in torch."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.special import erf

_EPSILON = 1e-5  # of LayerNorm
_MASKED = np.float32(-1e4)


class Layers:
    """Weights by the names of a torch module's state_dict, and the layers that they are of.

    Args:
        weights: by name.
        heads: of attention.
    """

    def __init__(self, weights: Mapping[str, np.ndarray], heads: int) -> None:
        self.heads = heads
        self._weights = {name: np.ascontiguousarray(w, np.float32) for name, w in weights.items()}

    def __getitem__(self, name: str) -> np.ndarray:
        """A tensor by its name."""
        return self._weights[name]

    def embedded(self, name: str, x: np.ndarray) -> np.ndarray:
        """Linear, GELU, linear."""
        return self.linear(f"{name}.2", _gelu(self.linear(f"{name}.0", x)))

    def linear(self, name: str, x: np.ndarray) -> np.ndarray:
        """(..., I) -> (..., O)."""
        weight = self._weights[f"{name}.weight"]
        # One product of two matrices: numpy would go through a stack of small ones.
        flat = x.reshape(-1, x.shape[-1]) @ weight.T
        flat += self._weights[f"{name}.bias"]
        return flat.reshape(*x.shape[:-1], len(weight))

    def normed(self, name: str, x: np.ndarray) -> np.ndarray:
        """LayerNorm."""
        centered = x - x.mean(axis=-1, keepdims=True)
        scale = 1.0 / np.sqrt(np.einsum("...i,...i->...", centered, centered)[..., None] / x.shape[-1] + _EPSILON)
        return centered * scale * self._weights[f"{name}.weight"] + self._weights[f"{name}.bias"]

    def block(self, name: str, x: np.ndarray, memory: np.ndarray, known: np.ndarray) -> np.ndarray:
        """Queries (N, K, D) look at tokens: `memory` (M, D), normalised, are the M that are `known` (N, T)."""
        mask = np.where(known, np.float32(0.0), _MASKED)[:, None, None]
        query = self._split(self.linear(f"{name}.attention.query", self.normed(f"{name}.attention_norm", x)))
        key, value = np.zeros((2, *known.shape, x.shape[-1]), np.float32)
        key[known] = self.linear(f"{name}.attention.key", memory)
        value[known] = self.linear(f"{name}.attention.value", memory)
        key, value = self._split(key), self._split(value)
        scores = (query * np.float32(query.shape[-1] ** -0.5)) @ key.swapaxes(-1, -2) + mask
        scores -= scores.max(axis=-1, keepdims=True)
        weights = np.exp(scores)
        weights /= weights.sum(axis=-1, keepdims=True)
        gathered = (weights @ value).swapaxes(1, 2).reshape(x.shape)
        x = x + self.linear(f"{name}.attention.output", gathered)
        hidden = _gelu(self.linear(f"{name}.mlp.0", self.normed(f"{name}.mlp_norm", x)))
        return x + self.linear(f"{name}.mlp.2", hidden)

    def _split(self, x: np.ndarray) -> np.ndarray:
        """(N, M, D) -> (N, heads, M, D / heads)."""
        n, m, d = x.shape
        return x.reshape(n, m, self.heads, d // self.heads).swapaxes(1, 2)


def block_shapes(name: str, width: int, hidden: int) -> dict[str, tuple[int, ...]]:
    """Shapes of the tensors of a Block, by name."""
    linear = {f"attention.{part}": (width, width) for part in ("query", "key", "value", "output")}
    linear |= {"mlp.0": (hidden, width), "mlp.2": (width, hidden)}
    shapes = linear_shapes({f"{name}.{part}": shape for part, shape in linear.items()})
    return shapes | norm_shapes([f"{name}.attention_norm", f"{name}.mlp_norm"], width)


def linear_shapes(layers: Mapping[str, tuple[int, int]]) -> dict[str, tuple[int, ...]]:
    """Shapes of the weights and biases of linear layers (outputs, inputs), by name."""
    shapes: dict[str, tuple[int, ...]] = {f"{name}.weight": shape for name, shape in layers.items()}
    return shapes | {f"{name}.bias": shape[:1] for name, shape in layers.items()}


def norm_shapes(names: list[str], width: int) -> dict[str, tuple[int, ...]]:
    """Shapes of the tensors of LayerNorms, by name."""
    return {f"{name}.{part}": (width,) for name in names for part in ("weight", "bias")}


def _gelu(x: np.ndarray) -> np.ndarray:
    return np.float32(0.5) * x * (np.float32(1.0) + erf(x * np.float32(2.0**-0.5)))
