"""What things may do, by class and speed, and how probable each of it is: the table in `config/manoeuvres.yaml`.

The table was fitted once to traffic of the embedded world: `karp train --config manoeuvres`, see
`training.manoeuvre_fit`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from karp_perception.core.columns import Columns
from karp_perception.core.errors import ConfigurationError
from karp_perception.core.resources import resource
from karp_perception.prediction.rollout import SEGMENT_S
from karp_perception.prediction.state import GROUPS, MotionState

COUNT = 6
"""Manoeuvres of a thing."""

PACES = ("standing", "slow", "fast")
LANES = ("free", "lane")
_PACE_SPEEDS = (0.4, 4.0)  # m/s: where one pace ends and the next begins
_PEDESTRIAN_PACE = 1.0  # m/s: from which somebody on foot is fast
_WALKS = GROUPS.index("pedestrian")

# By group, pace and lane: people follow no lanes, and others do only one thing.
_ROW = np.array([[[0, 1], [2, 3], [4, 5]], [[6, 7], [8, 9], [10, 11]], [[12, 12], [13, 13], [14, 14]], [[15, 15]] * 3])

FIELDS = ("acceleration", "turn", "keeps", "follows", "probability")
"""Columns of a manoeuvre: m/s² along its heading (braking lasts until it stands, speeding up for `SPEEDING_S`); rad by
which it turns, evenly within `TURNING_S`; s for which its present turn rate lasts (time constant, 0: not at all);
whether it follows the lane it is on; and how often this is what comes nearest to the truth."""

SPEEDING_S = 3.0
TURNING_S = (3.0, 3.0, 1.5, 1.5)
"""By group of GROUPS."""


@dataclass(frozen=True)
class Manoeuvres(Columns):
    """Rows by `row_of`; the columns (R, COUNT) of FIELDS."""

    acceleration: np.ndarray
    turn: np.ndarray
    keeps: np.ndarray
    follows: np.ndarray
    probability: np.ndarray

    @classmethod
    def of(cls, table: np.ndarray) -> Manoeuvres:
        """From (R, COUNT, 5)."""
        return cls(*np.moveaxis(table, -1, 0))


def row_of(state: MotionState, on_lane: np.ndarray) -> np.ndarray:
    """(N,) row of the table: by group, pace, and whether a lane is known that it is on, (N,)."""
    group = state.group
    pace = np.searchsorted(_PACE_SPEEDS, state.speed)
    pace = np.where((group == _WALKS) & (state.speed > _PEDESTRIAN_PACE), 2, pace)
    return _ROW[group, pace, on_lane.astype(int)]


def row_names() -> list[str]:
    """Names of the rows, as in the file."""
    driven = [f"{group} {pace} {lane}" for group in GROUPS[:2] for pace in PACES for lane in LANES]
    return [*driven, *(f"{GROUPS[_WALKS]} {pace} free" for pace in PACES), f"{GROUPS[-1]} standing free"]


def controls(rows: Manoeuvres, group: np.ndarray, turn_rate: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Accelerations and turn rates (N, K, count) of manoeuvres (N, K) of groups (N,) at turn rates (N,)."""
    middle = SEGMENT_S * (np.arange(count) + 0.5)
    speeding = np.where(middle < SPEEDING_S, 1.0, 0.0)
    acceleration = np.minimum(rows.acceleration, 0.0)[..., None] + np.maximum(rows.acceleration, 0.0)[..., None] * (
        speeding
    )
    lasting = np.array(TURNING_S)[group]
    turning = np.where(middle < lasting[:, None], 1.0 / lasting[:, None], 0.0)
    rate = rows.turn[..., None] * turning[:, None]
    if turn_rate.any():
        kept = np.exp(-middle / np.maximum(rows.keeps, 1e-3)[..., None])
        rate = rate + turn_rate[:, None, None] * kept
    return acceleration, rate


def load_manoeuvres(file: Path | None = None) -> Manoeuvres:
    """The table in a file, the package's own by default. Raises ConfigurationError for what is none."""
    return _load(file or resource("config", "manoeuvres.yaml"))


@lru_cache(maxsize=4)
def _load(file: Path) -> Manoeuvres:
    import yaml

    try:
        content: Any = yaml.safe_load(file.read_text())
        rows = content["manoeuvres"]
        table = np.array([rows[name] for name in row_names()], float)
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise ConfigurationError(
            f"{file}: expected `manoeuvres` with the rows {', '.join(row_names()[:2])}, ...; got something else "
            f"({type(error).__name__}: {error}); `karp train --config manoeuvres` writes one"
        ) from None
    if table.shape != (len(row_names()), COUNT, len(FIELDS)) or not np.isfinite(table).all():
        raise ConfigurationError(
            f"{file}: expected {COUNT} manoeuvres of {len(FIELDS)} finite numbers a row, got shape {table.shape}"
        )
    if (table[..., 4] < 0).any() or not np.allclose(table[..., 4].sum(axis=1), 1.0, atol=1e-3):
        raise ConfigurationError(f"{file}: expected probabilities that sum to 1 in each row")
    table[..., 4] /= table[..., 4].sum(axis=1, keepdims=True)
    return Manoeuvres.of(table)
