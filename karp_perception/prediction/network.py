"""The predictor network: what things may do, by what is around them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from scipy.special import softmax

from karp_perception.prediction.config import PredictorConfig
from karp_perception.prediction.history import Past
from karp_perception.prediction.rollout import SEGMENT_S, dense_paths, roll_out, segments
from karp_perception.prediction.settings import PredictionSettings
from karp_perception.prediction.state import MotionState
from karp_perception.prediction.tokens import (
    OTHER_WIDTH,
    PIECE_WIDTH,
    TARGET_WIDTH,
    LanePieces,
    Tokens,
    tokens_of,
)
from karp_perception.small_network.network import SmallNetwork

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


class PredictorNetwork(SmallNetwork[PredictorConfig]):
    """Weights and how to apply them, see SmallNetwork; in torch it is `training.net.PredictorNet`."""

    configuration = PredictorConfig
    inputs: ClassVar = {"target": TARGET_WIDTH, "others": OTHER_WIDTH, "pieces": PIECE_WIDTH}

    @classmethod
    def outputs(cls, config: PredictorConfig) -> dict[str, int]:
        """Of each path its controls and its logit; of each thing the correction."""
        return {"controls": 2 * config.controls + 1, "correction": 2}

    def paths(
        self,
        rows: np.ndarray,
        state: MotionState,
        past: Past,
        size: np.ndarray,
        own: np.ndarray,
        pieces: LanePieces | None,
        settings: PredictionSettings,
    ) -> tuple[np.ndarray, np.ndarray]:
        """K paths each of some things.

        Args:
            rows, state, past, size, own, pieces: see `tokens.tokens_of`.
            settings: how far and finely.

        Returns:
            paths (N, K, T, 3) of x, y (m), yaw (rad), the first point one step ahead, and their probabilities (N, K).
        """
        controls, chosen = self.run(tokens_of(rows, state, past, size, own, pieces)), state.take(rows)
        return dense_paths(chosen, controls.knots(chosen, segments(settings)), settings), controls.probability

    def run(self, tokens: Tokens) -> Controls:
        """What things may do, by their tokens."""
        layers, count = self._layers, self.config.controls
        itself = layers.embedded("target", tokens.target)
        around = {"others": (tokens.others, tokens.other_known), "pieces": (tokens.pieces, tokens.piece_known)}
        out = layers.linear("controls", self._answers(itself, around))
        correction = np.tanh(layers.linear("correction", itself)) * np.array([MOST_HEADING, MOST_SPEED], np.float32)
        return Controls(
            MOST_ACCELERATION * np.tanh(out[..., :count]).astype(float),
            MOST_TURN * np.tanh(out[..., count:-1]).astype(float),
            softmax(out[..., -1].astype(float), axis=-1),
            correction.astype(float),
        )
