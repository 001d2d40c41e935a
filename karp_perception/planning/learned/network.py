"""The proposer network in numpy: the same arithmetic as `training.net.ProposerNet`, which it is tested against."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.special import softmax

from karp_perception.core import DecisionKind
from karp_perception.core.small_network import Layers, block_shapes, linear_shapes, norm_shapes, read_weights
from karp_perception.planning.learned.config import ProposerConfig
from karp_perception.planning.learned.offsets import STATIONS
from karp_perception.planning.learned.tokens import (
    EGO_WIDTH,
    PIECE_WIDTH,
    SECONDS,
    STOP_WIDTH,
    STOPS,
    THING_WIDTH,
    THINGS,
    SceneTokens,
)

KINDS = (DecisionKind.CRUISE, DecisionKind.FOLLOW, DecisionKind.SLOW, DecisionKind.YIELD, DecisionKind.STOP)
"""Decisions that a proposal can amount to."""

MOST_SHIFT, MOST_CHANGE = 4.0, 4.0
"""m to the side of the way along the route, and m/s² less or more than usual, either way."""

OUTPUTS = len(STATIONS) + SECONDS + 1 + len(KINDS)
"""Of a proposal: shifts, changes of acceleration, how good it is, what it is."""

ODD = np.concatenate([np.ones(len(STATIONS)), np.zeros(OUTPUTS - len(STATIONS))]).astype(bool)
"""(OUTPUTS,) which of them turn their sign in a mirror."""


@dataclass(frozen=True)
class Ideas:
    """K proposals for each of B moments.

    Attributes:
        shifts: (B, K, 6) m to the left of the way along the route, see `offsets.Shifted`.
        change: (B, K, SECONDS) m/s² more than usual, see `tokens.usual`.
        probability: (B, K) that a proposal is the best of them.
        kind: (B, K, KINDS) probabilities of what it amounts to.
    """

    shifts: np.ndarray
    change: np.ndarray
    probability: np.ndarray
    kind: np.ndarray


class ProposerNetwork:
    """Weights and how to apply them.

    A scene and its mirror image are looked at, and what is said of both is averaged: the ideas for a scene in a mirror
    are exactly the mirror images of those for the scene, whatever the weights.

    Args:
        weights: by the names of ProposerNet's state_dict.
        config: shapes.
        digest: identifies the weights' content.
    """

    def __init__(self, weights: Mapping[str, np.ndarray], config: ProposerConfig, digest: str = "") -> None:
        self.config, self.digest = config, digest
        self._layers = Layers(weights, config.heads)

    @classmethod
    def from_file(cls, file: Path) -> ProposerNetwork:
        """Weights from a safetensors file. Raises ConfigurationError where it is none, or of another network."""
        return cls(*read_weights(file, "proposer", ProposerConfig.from_json, _shapes))

    def run(self, tokens: SceneTokens) -> Ideas:
        """Ideas for moments, by their tokens."""
        n = len(tokens)
        both = self._one_sided(SceneTokens.concatenate([tokens, tokens.mirrored()])).astype(float)
        other = both[n:, list(self.config.partner)]
        out = 0.5 * (both[:n] + np.where(ODD, -other, other))
        shifts, change, logit, kind = np.split(out, np.cumsum([len(STATIONS), SECONDS, 1]), axis=-1)
        return Ideas(
            MOST_SHIFT * np.tanh(shifts),
            MOST_CHANGE * np.tanh(change),
            softmax(logit[..., 0], axis=-1),
            softmax(kind, axis=-1),
        )

    def _one_sided(self, tokens: SceneTokens) -> np.ndarray:
        """(B, K, OUTPUTS) as the network says it of one side."""
        layers, b = self._layers, len(tokens)
        first = 1 + tokens.pieces.shape[1]
        every = np.concatenate([np.ones((b, first), bool), tokens.thing_known, tokens.stop_known], axis=1)
        itself = layers.embedded("ego", tokens.ego)
        # Most tokens do not exist: nothing is computed of those.
        memory = np.zeros((*every.shape, self.config.width), np.float32)
        memory[:, 0], memory[:, 1:first] = itself, layers.embedded("pieces", tokens.pieces)
        memory[:, first : first + THINGS][tokens.thing_known] = layers.embedded(
            "things", tokens.things[tokens.thing_known]
        )
        memory[:, first + THINGS : first + THINGS + STOPS][tokens.stop_known] = layers.embedded(
            "stops", tokens.stops[tokens.stop_known]
        )
        known = layers.normed("memory_norm", memory[every])
        x = itself[:, None] + layers["modes"]
        for number in range(self.config.layers):
            x = layers.block(f"layers.{number}", x, known, every)
        return layers.linear("ideas", layers.normed("norm", x))


def _shapes(config: ProposerConfig) -> dict[str, tuple[int, ...]]:
    """Shapes of all weights, by name."""
    d = config.width
    inputs = {"ego": EGO_WIDTH, "things": THING_WIDTH, "pieces": PIECE_WIDTH, "stops": STOP_WIDTH}
    linear = {f"{name}.0": (d, width) for name, width in inputs.items()}
    linear |= {f"{name}.2": (d, d) for name in inputs} | {"ideas": (OUTPUTS, d)}
    shapes = {"modes": (config.modes, d)} | linear_shapes(linear) | norm_shapes(["memory_norm", "norm"], d)
    for k in range(config.layers):
        shapes |= block_shapes(f"layers.{k}", d, config.mlp_ratio * d)
    return shapes
