"""The proposer network: what could be driven at a moment, by what is seen there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.special import softmax

from karp_perception.core import DecisionKind
from karp_perception.planning.learned.config import ProposerConfig
from karp_perception.planning.learned.offsets import STATIONS
from karp_perception.planning.learned.tokens import (
    EGO_WIDTH,
    PIECE_WIDTH,
    SECONDS,
    STOP_WIDTH,
    THING_WIDTH,
    SceneTokens,
)
from karp_perception.small_network.network import SmallNetwork

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


class ProposerNetwork(SmallNetwork[ProposerConfig]):
    """Weights and how to apply them, see SmallNetwork; in torch it is `training.net.ProposerNet`.

    A scene and its mirror image are looked at, and what is said of both is averaged: the ideas for a scene in a mirror
    are exactly the mirror images of those for the scene, whatever the weights.
    """

    configuration = ProposerConfig
    inputs: ClassVar = {"ego": EGO_WIDTH, "things": THING_WIDTH, "pieces": PIECE_WIDTH, "stops": STOP_WIDTH}

    @classmethod
    def outputs(cls, config: ProposerConfig) -> dict[str, int]:
        """Of each proposal."""
        return {"ideas": OUTPUTS}

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
        layers = self._layers
        around = {
            "pieces": (tokens.pieces, np.ones(tokens.pieces.shape[:2], bool)),
            "things": (tokens.things, tokens.thing_known),
            "stops": (tokens.stops, tokens.stop_known),
        }
        return layers.linear("ideas", self._answers(layers.embedded("ego", tokens.ego), around))
