"""The predictor network in numpy: so small that no backend is worth its start, and torch is not needed.

The same arithmetic as `training.net.PredictorNet`, which it is tested against.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.special import erf, softmax

from karp_perception.core.errors import ConfigurationError
from karp_perception.detection.model.weights import read_metadata
from karp_perception.prediction.config import PredictorConfig
from karp_perception.prediction.rollout import SEGMENT_S, roll_out
from karp_perception.prediction.state import MotionState
from karp_perception.prediction.tokens import OTHER_WIDTH, OTHERS, PIECE_WIDTH, TARGET_WIDTH, Tokens

MOST_ACCELERATION, MOST_TURN = 6.0, 2.0
"""Of a path, either way, m/s² and rad/s; what a body can do bounds it further."""

MOST_HEADING, MOST_SPEED = 0.3, 1.5
"""By which the present heading (rad) and speed (m/s), as tracked, are corrected at most."""

_CONFIG = "karp_config"
_EPSILON = 1e-5  # of LayerNorm
_MASKED = np.float32(-1e4)


@dataclass(frozen=True)
class Controls:
    """What N things may do: accelerations and turn rates (N, K, C), probabilities (N, K), corrections (N, 2) of
    heading and speed."""

    acceleration: np.ndarray
    turn_rate: np.ndarray
    probability: np.ndarray
    correction: np.ndarray

    def knots(self, state: MotionState, count: int) -> np.ndarray:
        """(3, N, K, count + 1) of the paths, see `rollout.roll_out`; the last second's controls last."""
        second = np.minimum((np.arange(count) * SEGMENT_S).astype(int), self.acceleration.shape[2] - 1)
        corrected = replace(
            state,
            heading=state.heading + self.correction[:, 0],
            speed=np.maximum(state.speed + self.correction[:, 1], 0.0),
        )
        return roll_out(corrected, self.acceleration[..., second], self.turn_rate[..., second])


class PredictorNetwork:
    """Weights and how to apply them.

    Args:
        weights: by the names of PredictorNet's state_dict.
        config: shapes.
        digest: identifies the weights' content.
    """

    def __init__(self, weights: Mapping[str, np.ndarray], config: PredictorConfig, digest: str = "") -> None:
        self.config, self.digest = config, digest
        self._weights = {name: np.ascontiguousarray(w, np.float32) for name, w in weights.items()}

    @classmethod
    def from_file(cls, file: Path) -> PredictorNetwork:
        """Weights from a safetensors file. Raises ConfigurationError where it is none, or of another network."""
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        if not file.is_file():
            raise ConfigurationError(f"{file}: expected the weights of a predictor, and there is no such file")
        metadata = read_metadata(file)
        if _CONFIG not in metadata:
            raise ConfigurationError(f"{file}: no {_CONFIG!r} in its metadata: not a weight file of this package")
        config = PredictorConfig.from_json(metadata[_CONFIG], str(file))
        try:
            weights = load_file(file)
        except (OSError, SafetensorError) as error:
            raise ConfigurationError(f"{file}: cannot be read as safetensors: {error}") from None
        shapes = _shapes(config)
        wrong = [n for n in shapes if n not in weights or weights[n].shape != shapes[n]]
        if wrong:
            raise ConfigurationError(
                f"{file}: not the tensors of its configuration: {wrong[0]}; the file was made by another version: "
                "train it again"
            )
        return cls(weights, config, hashlib.sha256(file.read_bytes()).hexdigest()[:16])

    def run(self, tokens: Tokens) -> Controls:
        """What things may do, by their tokens."""
        config, w = self.config, self._weights
        itself = self._embedded("target", tokens.target)
        known = np.concatenate([np.ones((len(tokens), 1), bool), tokens.other_known, tokens.piece_known], axis=1)
        # Most tokens do not exist: nothing is computed of those.
        every = np.zeros((*known.shape, config.width), np.float32)
        every[:, 0] = itself
        every[:, 1 : 1 + OTHERS][tokens.other_known] = self._embedded("others", tokens.others[tokens.other_known])
        every[:, 1 + OTHERS :][tokens.piece_known] = self._embedded("pieces", tokens.pieces[tokens.piece_known])
        memory = self._normed("memory_norm", every[known])
        x = itself[:, None] + w["modes"]
        for layer in range(config.layers):
            x = self._block(f"layers.{layer}", x, memory, known)
        out = self._linear("controls", self._normed("norm", x))
        count = config.controls
        correction = np.tanh(self._linear("correction", itself)) * np.array([MOST_HEADING, MOST_SPEED], np.float32)
        return Controls(
            MOST_ACCELERATION * np.tanh(out[..., :count]).astype(float),
            MOST_TURN * np.tanh(out[..., count:-1]).astype(float),
            softmax(out[..., -1].astype(float), axis=-1),
            correction.astype(float),
        )

    def _block(self, name: str, x: np.ndarray, memory: np.ndarray, known: np.ndarray) -> np.ndarray:
        """Queries (N, K, D) look at tokens: `memory` (M, D) are the M that are `known` (N, T)."""
        mask = np.where(known, np.float32(0.0), _MASKED)[:, None, None]
        query = self._split(self._linear(f"{name}.attention.query", self._normed(f"{name}.attention_norm", x)))
        key, value = np.zeros((2, *known.shape, x.shape[-1]), np.float32)
        key[known] = self._linear(f"{name}.attention.key", memory)
        value[known] = self._linear(f"{name}.attention.value", memory)
        key, value = self._split(key), self._split(value)
        scores = (query * np.float32(query.shape[-1] ** -0.5)) @ key.swapaxes(-1, -2) + mask
        scores -= scores.max(axis=-1, keepdims=True)
        weights = np.exp(scores)
        weights /= weights.sum(axis=-1, keepdims=True)
        gathered = (weights @ value).swapaxes(1, 2).reshape(x.shape)
        x = x + self._linear(f"{name}.attention.output", gathered)
        hidden = _gelu(self._linear(f"{name}.mlp.0", self._normed(f"{name}.mlp_norm", x)))
        return x + self._linear(f"{name}.mlp.2", hidden)

    def _embedded(self, name: str, x: np.ndarray) -> np.ndarray:
        return self._linear(f"{name}.2", _gelu(self._linear(f"{name}.0", x)))

    def _linear(self, name: str, x: np.ndarray) -> np.ndarray:
        weight = self._weights[f"{name}.weight"]
        # One product of two matrices: numpy would go through a stack of small ones.
        flat = x.reshape(-1, x.shape[-1]) @ weight.T
        flat += self._weights[f"{name}.bias"]
        return flat.reshape(*x.shape[:-1], len(weight))

    def _normed(self, name: str, x: np.ndarray) -> np.ndarray:
        centered = x - x.mean(axis=-1, keepdims=True)
        scale = 1.0 / np.sqrt(np.einsum("...i,...i->...", centered, centered)[..., None] / x.shape[-1] + _EPSILON)
        return centered * scale * self._weights[f"{name}.weight"] + self._weights[f"{name}.bias"]

    def _split(self, x: np.ndarray) -> np.ndarray:
        """(N, M, D) -> (N, heads, M, D / heads)."""
        n, m, d = x.shape
        return x.reshape(n, m, self.config.heads, d // self.config.heads).swapaxes(1, 2)


def _gelu(x: np.ndarray) -> np.ndarray:
    return np.float32(0.5) * x * (np.float32(1.0) + erf(x * np.float32(2.0**-0.5)))


def _shapes(config: PredictorConfig) -> dict[str, tuple[int, ...]]:
    """Shapes of all weights, by name."""
    d, hidden = config.width, config.mlp_ratio * config.width
    linear = {
        "target.0": (d, TARGET_WIDTH), "target.2": (d, d), "others.0": (d, OTHER_WIDTH), "others.2": (d, d),
        "pieces.0": (d, PIECE_WIDTH), "pieces.2": (d, d), "controls": (2 * config.controls + 1, d),
        "correction": (2, d),
    }  # fmt: skip
    norms = ["memory_norm", "norm"]
    for k in range(config.layers):
        parts = ("query", "key", "value", "output")
        linear |= {f"layers.{k}.attention.{part}": (d, d) for part in parts}
        linear |= {f"layers.{k}.mlp.0": (hidden, d), f"layers.{k}.mlp.2": (d, hidden)}
        norms += [f"layers.{k}.attention_norm", f"layers.{k}.mlp_norm"]
    shapes: dict[str, tuple[int, ...]] = {"modes": (config.modes, d)}
    shapes |= {f"{name}.weight": shape for name, shape in linear.items()}
    shapes |= {f"{name}.bias": shape[:1] for name, shape in linear.items()}
    return shapes | {f"{name}.{part}": (d,) for name in norms for part in ("weight", "bias")}
