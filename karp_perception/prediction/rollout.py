"""From what somebody does (accelerate, turn) to the path that follows, within what a body can do.

The model is a unicycle: speed along the heading, and a turn rate that curvature and acceleration to the side bound, so
that no car turns on the spot and none goes round a bend faster than tyres hold. It moves in segments of half a second
with constant acceleration and turn rate; points in between come from a cubic spline.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy.interpolate import CubicSpline

from karp_perception.prediction.settings import PredictionSettings
from karp_perception.prediction.state import MotionState

SEGMENT_S = 0.5
"""Length of a segment of motion, s."""


def segments(settings: PredictionSettings) -> int:
    """How many segments reach the horizon."""
    return max(1, int(np.ceil(settings.horizon / SEGMENT_S - 1e-9)))


def speeds(speed: np.ndarray, acceleration: np.ndarray) -> np.ndarray:
    """(..., S + 1) m/s at the ends of S segments of acceleration (..., S), from speed (...); what stops stands.

    Standing is a wall from which the sum is reflected (Skorokhod's map): braking below 0 leaves nothing behind that a
    later acceleration would have to make up for.
    """
    begin = np.broadcast_to(speed[..., None], (*acceleration.shape[:-1], 1))
    free = begin + SEGMENT_S * np.cumsum(acceleration, axis=-1)
    low = np.minimum(np.minimum.accumulate(free, axis=-1), 0.0)
    return np.concatenate([begin, free - low], axis=-1)


def bounded_turn(turn_rate: np.ndarray, speed: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """Turn rates (N, ...) as `limits` (N, 2) allow them at speeds (N, ...): see `MotionState.limits`."""
    shape = (len(limits), *(1,) * (speed.ndim - 1))
    most = np.minimum(limits[:, 0].reshape(shape) * speed, limits[:, 1].reshape(shape) / np.maximum(speed, 1e-3))
    return np.clip(turn_rate, -most, most)


def roll_out(state: MotionState, acceleration: np.ndarray, turn_rate: np.ndarray) -> np.ndarray:
    """Knots of paths: where things are at the ends of the segments.

    Args:
        state: N things.
        acceleration: (N, K, S) m/s² along the heading in each of S segments.
        turn_rate: (N, K, S) rad/s, bounded here.

    Returns:
        (3, N, K, S + 1) x, y (m) in the frame of the state, and the change of heading (rad); first the present.
    """
    v = speeds(state.speed[:, None], acceleration)
    middle = 0.5 * (v[..., 1:] + v[..., :-1])
    turn = bounded_turn(turn_rate, middle, state.limits) * SEGMENT_S
    n, k, s = acceleration.shape
    knots = np.zeros((3, n, k, s + 1))
    turned = np.cumsum(turn, axis=-1)
    knots[2, :, :, 1:] = turned
    half = 0.5 * turn
    # The chord of an arc: shorter than the way along it, in the direction of its middle.
    chord = middle * SEGMENT_S * np.sinc(half / np.pi)
    along = state.heading[:, None, None] + turned - half
    np.cumsum(chord * np.cos(along), axis=-1, out=knots[0, :, :, 1:])
    np.cumsum(chord * np.sin(along), axis=-1, out=knots[1, :, :, 1:])
    knots[0] += state.position[:, 0, None, None]
    knots[1] += state.position[:, 1, None, None]
    return knots


def dense_paths(state: MotionState, knots: np.ndarray, settings: PredictionSettings) -> np.ndarray:
    """(N, K, T, 3) x, y, yaw of the body every `settings.step`, through knots (3, N, K, S + 1) of `roll_out`."""
    _, n, k, count = knots.shape
    basis = _basis(count, settings.step, settings.count)
    points = knots.reshape(3 * n * k, count) @ basis
    paths = np.empty((n, k, settings.count, 3))
    paths[...] = np.moveaxis(points.reshape(3, n, k, settings.count), 0, -1)
    paths[..., 2] += state.yaw[:, None, None]
    return paths


@lru_cache(maxsize=16)
def _basis(knots: int, step: float, count: int) -> np.ndarray:
    """(knots, count) weights of the knots in a cubic spline's values at step, 2 step, ..."""
    at = SEGMENT_S * np.arange(knots)
    spline = CubicSpline(at, np.eye(knots))
    basis = spline(np.minimum(step * np.arange(1, count + 1), at[-1])).T.copy()
    basis.flags.writeable = False
    return basis
