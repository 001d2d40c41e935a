"""Where things were over the last seconds, by id: what tells turning, braking and starting from noise."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

from karp_perception.core.columns import Columns
from karp_perception.core.geometry import wrap_angle
from karp_perception.prediction.state import MotionState

EGO_ID = 0
"""Id of the vehicle itself among things."""

LAGS_S = (0.2, 0.4, 0.6, 0.8, 1.0, 1.3, 1.6)
"""How long ago the moments are that are looked at, s."""

_TOLERANCE_S = 0.06  # a moment counts as one of LAGS_S if it is no farther from it
_RATE_LAGS = 5  # lags from which the turn rate comes
_RATE_DEVIATION = 0.08  # rad/s: of such a rate of something that goes straight on
_RATE_SPEED = 1.5  # m/s: slower things have no direction that could turn


@dataclass(frozen=True)
class Past(Columns):
    """N things at L moments before now, the latest first.

    Attributes:
        position: (N, L, 2) m. heading, speed: (N, L) rad, m/s. known: (N, L) whether it was tracked then.
    """

    position: np.ndarray
    heading: np.ndarray
    speed: np.ndarray
    known: np.ndarray

    def turn_rate(self, state: MotionState) -> np.ndarray:
        """(N,) rad/s: slope of the heading over the last second through its present value, drawn towards 0 as far as
        noise alone would explain it."""
        lags = np.array(LAGS_S[:_RATE_LAGS])
        use = self.known[:, :_RATE_LAGS] & (self.speed[:, :_RATE_LAGS] > _RATE_SPEED)
        change = wrap_angle(state.heading[:, None] - self.heading[:, :_RATE_LAGS])
        weight = np.where(use, lags**2, 0.0).sum(axis=1)
        slope = np.where(use, lags * change, 0.0).sum(axis=1) / np.maximum(weight, 1e-9)
        variance = _RATE_DEVIATION**2 * (lags**2).sum() / np.maximum(weight, 1e-9)
        sure = slope**2 / (slope**2 + variance)
        return np.where((weight > 0) & (state.speed > _RATE_SPEED), sure * slope, 0.0)


class History:
    """The last moments of all that is tracked, in a frame that stays (`odom`)."""

    def __init__(self) -> None:
        self._moments: deque[tuple[float, np.ndarray, np.ndarray]] = deque()

    def clear(self) -> None:
        """Forget everything."""
        self._moments.clear()

    def add(self, time: float, ids: np.ndarray, state: MotionState) -> None:
        """One moment (s): ids (N,) and what they do. A moment that is not later than the last one starts anew."""
        if self._moments and time <= self._moments[-1][0]:
            self.clear()
        order = np.argsort(ids)
        table = np.column_stack([state.position, state.heading, state.speed])
        self._moments.append((time, ids[order], table[order]))
        while self._moments[0][0] < time - LAGS_S[-1] - 2 * _TOLERANCE_S:
            self._moments.popleft()

    def past(self, ids: np.ndarray) -> Past:
        """What things with these ids (N,) did before the last moment that was added."""
        n, count = len(ids), len(LAGS_S)
        table, known = np.zeros((n, count, 4)), np.zeros((n, count), bool)
        if self._moments and n:
            now = self._moments[-1][0]
            times = np.array([moment[0] for moment in self._moments])
            for k, lag in enumerate(LAGS_S):
                nearest = int(np.abs(times - (now - lag)).argmin())
                time, theirs, rows = self._moments[nearest]
                if abs(time - (now - lag)) > _TOLERANCE_S or len(theirs) == 0:
                    continue
                at = np.minimum(np.searchsorted(theirs, ids), len(theirs) - 1)
                known[:, k] = theirs[at] == ids
                table[:, k] = np.where(known[:, k, None], rows[at], 0.0)
        return Past(table[..., :2], table[..., 2], table[..., 3], known)
