"""The predictor network in numpy: so small that no backend is worth its start, and torch is not needed.

The same arithmetic as `training.net.PredictorNet`, which it is tested against.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.special import softmax

from karp_perception.core.small_network import Layers, block_shapes, linear_shapes, norm_shapes, read_weights
from karp_perception.prediction.config import PredictorConfig
from karp_perception.prediction.rollout import SEGMENT_S, roll_out
from karp_perception.prediction.state import MotionState
from karp_perception.prediction.tokens import OTHER_WIDTH, OTHERS, PIECE_WIDTH, TARGET_WIDTH, Tokens

MOST_ACCELERATION, MOST_TURN = 6.0, 2.0
"""Of a path, either way, m/s² and rad/s; what a body can do bounds it further."""

MOST_HEADING, MOST_SPEED = 0.3, 1.5
"""By which the present heading (rad) and speed (m/s), as tracked, are corrected at most."""


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
        self._layers = Layers(weights, config.heads)

    @classmethod
    def from_file(cls, file: Path) -> PredictorNetwork:
        """Weights from a safetensors file. Raises ConfigurationError where it is none, or of another network."""
        return cls(*read_weights(file, "predictor", PredictorConfig.from_json, _shapes))

    def run(self, tokens: Tokens) -> Controls:
        """What things may do, by their tokens."""
        config, layers = self.config, self._layers
        itself = layers.embedded("target", tokens.target)
        known = np.concatenate([np.ones((len(tokens), 1), bool), tokens.other_known, tokens.piece_known], axis=1)
        # Most tokens do not exist: nothing is computed of those.
        every = np.zeros((*known.shape, config.width), np.float32)
        every[:, 0] = itself
        every[:, 1 : 1 + OTHERS][tokens.other_known] = layers.embedded("others", tokens.others[tokens.other_known])
        every[:, 1 + OTHERS :][tokens.piece_known] = layers.embedded("pieces", tokens.pieces[tokens.piece_known])
        memory = layers.normed("memory_norm", every[known])
        x = itself[:, None] + layers["modes"]
        for layer in range(config.layers):
            x = layers.block(f"layers.{layer}", x, memory, known)
        out = layers.linear("controls", layers.normed("norm", x))
        count = config.controls
        correction = np.tanh(layers.linear("correction", itself)) * np.array([MOST_HEADING, MOST_SPEED], np.float32)
        return Controls(
            MOST_ACCELERATION * np.tanh(out[..., :count]).astype(float),
            MOST_TURN * np.tanh(out[..., count:-1]).astype(float),
            softmax(out[..., -1].astype(float), axis=-1),
            correction.astype(float),
        )


def _shapes(config: PredictorConfig) -> dict[str, tuple[int, ...]]:
    """Shapes of all weights, by name."""
    d = config.width
    linear = {
        "target.0": (d, TARGET_WIDTH), "target.2": (d, d), "others.0": (d, OTHER_WIDTH), "others.2": (d, d),
        "pieces.0": (d, PIECE_WIDTH), "pieces.2": (d, d), "controls": (2 * config.controls + 1, d),
        "correction": (2, d),
    }  # fmt: skip
    shapes = {"modes": (config.modes, d)} | linear_shapes(linear) | norm_shapes(["memory_norm", "norm"], d)
    for k in range(config.layers):
        shapes |= block_shapes(f"layers.{k}", d, config.mlp_ratio * d)
    return shapes
