"""Paths by manoeuvres: going on, braking, speeding up, turning, following the lane, as the class and speed allow."""

from __future__ import annotations

import numpy as np

from karp_perception.prediction.lanes import Lanes
from karp_perception.prediction.manoeuvres import Manoeuvres, controls, load_manoeuvres, row_of
from karp_perception.prediction.rollout import dense_paths, roll_out, segments
from karp_perception.prediction.settings import PredictionSettings
from karp_perception.prediction.state import MotionState


def kinematic_paths(
    state: MotionState, settings: PredictionSettings, lanes: Lanes | None = None, table: Manoeuvres | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Six paths each, the most probable first.

    Args:
        state: N things; turn rates are used as far as they are known.
        settings: how far and finely.
        lanes: ways that things may follow, in the frame of the state.
        table: of manoeuvres; the package's by default.

    Returns:
        paths (N, 6, T, 3) of x, y (m), yaw (rad), the first point one step ahead, and their probabilities (N, 6),
        summing to 1.
    """
    joined = np.full(len(state), -1) if lanes is None else lanes.joined(state)
    table = load_manoeuvres() if table is None else table
    chosen = table.take(row_of(state, joined >= 0))
    return manoeuvre_paths(state, chosen, settings, lanes, joined), chosen.probability


def manoeuvre_paths(
    state: MotionState,
    manoeuvres: Manoeuvres,
    settings: PredictionSettings,
    lanes: Lanes | None,
    joined: np.ndarray,
) -> np.ndarray:
    """Paths (N, K, T, 3) of manoeuvres (N, K); `joined` (N,) from `Lanes.joined`."""
    acceleration, rate = controls(manoeuvres, state.group, state.turn_rate, segments(settings))
    on_lane = np.flatnonzero(joined >= 0)
    if lanes is not None and len(on_lane):
        along = lanes.follow(state.take(on_lane), joined[on_lane], acceleration[on_lane])
        rate[on_lane] = np.where(manoeuvres.follows[on_lane, :, None] > 0, along, rate[on_lane])
    return dense_paths(state, roll_out(state, acceleration, rate), settings)
