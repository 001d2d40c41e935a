"""How near predicted paths come to what happened: minADE, minFDE, miss rate and brier-minFDE.

Definitions as in Argoverse 2 (Wilson et al., 2021): of the K most probable paths the one whose end is nearest to the
truth counts (for minADE the one that is nearest on average), and its probability among those K, p, adds (1 - p)² to
brier-minFDE. All at several times ahead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from karp_perception.core.errors import InvalidInput
from karp_perception.core.validation import as_array

MISS_M = 2.0
"""Farther from the truth, at the time looked at, than this: a miss."""

MEASURES = ("min_ade", "min_fde", "miss_rate", "brier_min_fde")


@dataclass(frozen=True)
class PredictionScores:
    """Of M things, for one K and one time ahead: a value of each measure (M,), m; `miss_rate` 0 or 1."""

    min_ade: np.ndarray
    min_fde: np.ndarray
    miss_rate: np.ndarray
    brier_min_fde: np.ndarray

    def __len__(self) -> int:
        return len(self.min_fde)

    def means(self, rows: np.ndarray | None = None) -> dict[str, float | None]:
        """The mean of each measure over some rows (all by default), None where there are none."""
        values = {name: getattr(self, name) if rows is None else getattr(self, name)[rows] for name in MEASURES}
        return {name: float(value.mean()) if len(value) else None for name, value in values.items()}

    @classmethod
    def concatenate(cls, parts: Sequence[PredictionScores]) -> PredictionScores:
        """All of them, in order."""
        return cls(*(np.concatenate([np.zeros(0), *(getattr(p, name) for p in parts)]) for name in MEASURES))


def prediction_scores(
    paths: np.ndarray, probability: np.ndarray, truth: np.ndarray, points: int, most: int
) -> PredictionScores:
    """The scores of M things' paths.

    Args:
        paths: (M, K, T, 2 or more) x, y, m.
        probability: (M, K).
        truth: (M, T, 2) m, at the same times.
        points: look at the first so many; the last of them is where the path ends.
        most: take so many paths, the most probable ones; of equally probable ones the first.

    Raises InvalidInput for shapes that do not fit, or no points or paths at all.
    """
    m, k = probability.shape
    if paths.shape[:2] != (m, k) or not 1 <= points <= paths.shape[2] or points > truth.shape[1] or most < 1 or k < 1:
        raise InvalidInput(
            "prediction_scores", f"paths (M, K, T, 2) with K >= 1 and T >= {points} like the truth", paths.shape
        )
    paths = as_array("paths", paths[:, :, :points, :2], (m, k, points, 2))
    truth = as_array("truth", truth[:, :points, :2], (m, points, 2))
    order = np.argsort(-probability, axis=1, kind="stable")[:, :most]
    chosen = np.take_along_axis(paths, order[..., None, None], axis=1)
    p = np.take_along_axis(probability, order, axis=1)
    p = p / np.maximum(p.sum(axis=1, keepdims=True), 1e-12)
    away = np.hypot(*np.moveaxis(chosen - truth[:, None], -1, 0))
    end = away[..., -1]
    best = end.argmin(axis=1)[:, None]
    fde = np.take_along_axis(end, best, axis=1)[:, 0]
    doubt = (1.0 - np.take_along_axis(p, best, axis=1)[:, 0]) ** 2
    return PredictionScores(away.mean(axis=2).min(axis=1), fde, (fde > MISS_M).astype(float), fde + doubt)
