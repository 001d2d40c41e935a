"""What the network reads: each thing, what is around it, and the lanes before it, seen from where it is and heads.

All is in the thing's own frame, so that nothing has to be learnt twice for another place or direction.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from karp_perception.core.columns import Columns
from karp_perception.prediction.history import LAGS_S, Past
from karp_perception.prediction.lanes import SPACING, Lanes
from karp_perception.prediction.state import MotionState

OTHERS, PIECES = 8, 16
"""Most things around a thing, and pieces of lanes, that are looked at."""

TARGET_WIDTH = 11 + 6 * len(LAGS_S)
OTHER_WIDTH = 17
PIECE_WIDTH = 10
"""Numbers of a token of each kind."""

_KIND = np.array([0, 1, 1, 1, 1, 2, 3, 4, 1, 1, 0])  # by label: car, heavy, on foot, motorcycle, bicycle
_KINDS = np.eye(5)
_REACH = 60.0  # m: what is farther away is no neighbour
_MEETING_S = (0.0, 1.5, 3.0)  # neighbours are those that are near now or will be if all go straight on
_PIECE = 10.0  # m: length of a piece of lane
_PIECE_REACH = 70.0  # m
_FAR = 20.0  # m, and _FAST m/s: what counts as 1
_FAST = 10.0


@dataclass(frozen=True)
class LanePieces:
    """Pieces of lanes, none twice: start, middle and end (Q, 3, 2) m."""

    points: np.ndarray

    @classmethod
    def of(cls, lanes: Lanes) -> LanePieces:
        """Cut from lanes, of which several may share a part."""
        count = round(_PIECE / SPACING)
        index = np.arange(len(lanes))
        starts = index[((index - _first_of(lanes)) % count == 0) & (index < lanes.last)]
        at = np.minimum(starts[:, None] + np.array([0, count // 2, count]), lanes.last[starts][:, None])
        points = lanes.points[at]
        if len(points):
            _, one = np.unique(np.round(points[:, [0, 2]].reshape(-1, 4) / 2.0), axis=0, return_index=True)
            points = points[np.sort(one)]
        return cls(points)


@dataclass(frozen=True)
class Tokens(Columns):
    """Of N things, float32; masks say which tokens exist.

    Attributes:
        target: (N, TARGET_WIDTH). others: (N, OTHERS, OTHER_WIDTH), other_known (N, OTHERS).
        pieces: (N, PIECES, PIECE_WIDTH), piece_known (N, PIECES).
    """

    target: np.ndarray
    others: np.ndarray
    other_known: np.ndarray
    pieces: np.ndarray
    piece_known: np.ndarray


def tokens_of(
    rows: np.ndarray,
    state: MotionState,
    past: Past,
    size: np.ndarray,
    own: np.ndarray,
    pieces: LanePieces | None,
) -> Tokens:
    """The tokens of some things.

    Args:
        rows: (N,) which of the M things paths are wanted for.
        state: all M things, in one frame. past, size (M, 3): of them. own: (M,) which is the vehicle itself.
        pieces: of lanes, in the same frame; None where none are known.
    """
    return Tokens(_target(rows, state, past, size), *_others(rows, state, size, own), *_pieces(rows, state, pieces))


def _target(rows: np.ndarray, state: MotionState, past: Past, size: np.ndarray) -> np.ndarray:
    n, speed, heading = len(rows), state.speed[rows], state.heading[rows]
    c, s = np.cos(heading), np.sin(heading)
    known = past.known[rows]
    offset = past.position[rows] - state.position[rows][:, None]
    # How far from where going straight on at the present speed would have come from.
    x = c[:, None] * offset[..., 0] + s[:, None] * offset[..., 1] + speed[:, None] * np.array(LAGS_S)
    y = c[:, None] * offset[..., 1] - s[:, None] * offset[..., 0]
    turned = past.heading[rows] - heading[:, None]
    slower = past.speed[rows] - speed[:, None]
    columns = np.stack([0.5 * x, 0.5 * y, np.sin(turned), np.cos(turned), 0.3 * slower, np.ones_like(x)], axis=-1)
    columns = np.clip(columns, -4.0, 4.0) * known[..., None]
    still = np.column_stack([
        _KINDS[_KIND[state.label[rows]]], size[rows, 0] / 10.0, size[rows, 1] / 3.0, speed / _FAST,
        np.minimum(speed, 2.0) / 2.0, state.turn_rate[rows], np.cos(state.yaw[rows] - heading),
    ])  # fmt: skip
    return np.concatenate([still, columns.reshape(n, -1)], axis=1).astype(np.float32)


def _others(rows: np.ndarray, state: MotionState, size: np.ndarray, own: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    n, m = len(rows), len(state)
    velocity = state.speed[:, None] * np.column_stack([np.cos(state.heading), np.sin(state.heading)])
    apart = state.position[None] - state.position[rows][:, None]
    relative = velocity[None] - velocity[rows][:, None]
    nearest = np.full((n, m), np.inf)
    for t in _MEETING_S:
        meeting = apart + t * relative
        nearest = np.minimum(nearest, meeting[..., 0] ** 2 + meeting[..., 1] ** 2)
    nearest[np.arange(n), rows] = np.inf
    nearest[(apart**2).sum(axis=-1) > _REACH**2] = np.inf
    count = min(OTHERS, m)
    chosen = np.argsort(nearest, axis=1, kind="stable")[:, :count]
    line = np.arange(n)[:, None]
    known = np.isfinite(nearest[line, chosen])
    c, s = np.cos(state.heading[rows])[:, None], np.sin(state.heading[rows])[:, None]
    away, motion = apart[line, chosen], velocity[chosen]
    turned = state.heading[chosen] - state.heading[rows][:, None]
    columns = [
        (c * away[..., 0] + s * away[..., 1]) / _FAR,
        (c * away[..., 1] - s * away[..., 0]) / _FAR,
        np.hypot(away[..., 0], away[..., 1]) / _FAR,
        np.cos(turned),
        np.sin(turned),
        (c * motion[..., 0] + s * motion[..., 1]) / _FAST,
        (c * motion[..., 1] - s * motion[..., 0]) / _FAST,
        state.speed[chosen] / _FAST,
        size[chosen, 0] / 10.0,
        size[chosen, 1] / 3.0,
        own[chosen],
        np.minimum(state.speed[chosen], 1.0),
    ]
    table = np.concatenate([np.stack(columns, axis=-1), _KINDS[_KIND[state.label[chosen]]]], axis=-1)
    return _padded(table, known, OTHERS)


def _pieces(rows: np.ndarray, state: MotionState, pieces: LanePieces | None) -> tuple[np.ndarray, np.ndarray]:
    n = len(rows)
    if pieces is None or len(pieces.points) == 0:
        return np.zeros((n, PIECES, PIECE_WIDTH), np.float32), np.zeros((n, PIECES), bool)
    position, heading, speed = state.position[rows], state.heading[rows], state.speed[rows]
    direction = np.column_stack([np.cos(heading), np.sin(heading)])
    # Those around where it will be count, more than those around where it is.
    focus = position + np.minimum(1.5 * speed, 20.0)[:, None] * direction
    middle = pieces.points[:, 1]
    away = np.hypot(*(focus[:, None] - middle).transpose(2, 0, 1))
    count = min(PIECES, len(middle))
    chosen = np.argpartition(away, count - 1, axis=1)[:, :count]
    line = np.arange(n)[:, None]
    chosen = chosen[line, np.argsort(away[line, chosen], axis=1, kind="stable")]
    known = away[line, chosen] < _PIECE_REACH
    offset = pieces.points[chosen] - position[:, None, None]
    c, s = direction[:, 0, None, None], direction[:, 1, None, None]
    x = c * offset[..., 0] + s * offset[..., 1]
    y = c * offset[..., 1] - s * offset[..., 0]
    turned = np.arctan2(y[..., 2] - y[..., 0], x[..., 2] - x[..., 0])
    columns = [x / _FAR, y / _FAR, np.stack([np.cos(turned), np.sin(turned)], axis=-1)]
    near = np.stack([np.hypot(x[..., 1], y[..., 1]) / _FAR, np.exp(-np.abs(y[..., 0]) / 2.0)], axis=-1)
    return _padded(np.concatenate([*columns, near], axis=-1), known, PIECES)


def _padded(table: np.ndarray, known: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    n, have, width = table.shape
    full, mask = np.zeros((n, count, width), np.float32), np.zeros((n, count), bool)
    full[:, :have] = np.where(known[..., None], np.clip(table, -6.0, 6.0), 0.0)
    mask[:, :have] = known
    return full, mask


def _first_of(lanes: Lanes) -> np.ndarray:
    """(P,) index of the first point of the way that each point belongs to."""
    ends = np.unique(lanes.last)
    begins = np.r_[0, ends[:-1] + 1]
    return begins[np.searchsorted(ends, lanes.last)]
