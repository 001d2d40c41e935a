"""How far two engines of one network are apart."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from scipy.optimize import linear_sum_assignment

from karp_perception.detection.runtime.backend import Backend
from karp_perception.detection.runtime.parity import QUANTITIES, Parity, ParityLimits

_MASKED_LOGIT = -100.0  # at or below it a query stands for nothing, as in decoding
_SAME_QUERY_M = 1.0  # between the centres of one query's boxes; candidates lie on tokens of 1.6 m
_NEAR_M = 10.0  # beyond it a centre may differ in proportion to its distance: depth in an image is told as a logarithm
_COUNTS = 0.1  # score from which a query is compared: a third of the usual threshold
_USUAL = 0.95  # share of the queries that stay within the limits
_WORST = 4.0  # limits that the rest stays within: one query at a tipping point is not a wrong engine


def measure_parity(
    exact: Backend, fast: Backend, examples: Iterable[Mapping[str, np.ndarray]], limits: ParityLimits
) -> Parity:
    """Compare two engines of one network by what `decode` reads from their outputs.

    Candidates come in the order of their heat, and near ties change places with the precision, the last of them with
    those just left out: queries are matched by centre and class probabilities, and a share without a partner is
    allowed. Only queries with a score that counts are compared. Where there is none (an untrained network) all are, and
    any share may lack a partner: whom no threshold lets through may be anyone.
    """
    rows = np.concatenate([_differences(exact.run(inputs), fast.run(inputs)) for inputs in examples])
    counting = rows[:, 0] >= _COUNTS
    if counting.any():
        rows = rows[counting]
    paired = ~np.isnan(rows[:, 1])
    differences = rows[paired, 1:]
    if len(differences) == 0:
        differences = np.full((1, len(QUANTITIES)), np.inf)
    # No interpolation: between two infinities it has no value.
    usual = dict(zip(QUANTITIES, np.quantile(differences, _USUAL, axis=0, method="higher").tolist(), strict=True))
    worst = dict(zip(QUANTITIES, differences.max(axis=0).tolist(), strict=True))
    unmatched = int((~paired).sum())
    within = all(
        usual[name] <= getattr(limits, name) and worst[name] <= _WORST * getattr(limits, name) for name in QUANTITIES
    )
    passed = within and (unmatched <= limits.unmatched * len(rows) or not counting.any())
    return Parity(fast.precision, passed, usual, worst, len(rows), unmatched)


def _differences(exact: Mapping[str, np.ndarray], fast: Mapping[str, np.ndarray]) -> np.ndarray:
    """(Q, 1 + quantities): the best score of a pair and its differences, which are NaN for a query without partner."""
    ours, theirs = _open_queries(exact), _open_queries(fast)
    if not all(np.isfinite(values).all() for values in theirs.values()):
        return np.array([[1.0, *[np.inf] * len(QUANTITIES)]])
    distance = np.linalg.norm(ours["center"][:, None] - theirs["center"], axis=-1)
    change = np.abs(ours["probability"][:, None] - theirs["probability"]).max(axis=-1)
    a, b = linear_sum_assignment(np.minimum(distance, _SAME_QUERY_M) + change)
    near = distance[a, b] <= _SAME_QUERY_M
    a, b = a[near], b[near]
    pairs = _pair_differences({k: v[a] for k, v in ours.items()}, {k: v[b] for k, v in theirs.items()})
    alone = [np.delete(ours["probability"], a, axis=0), np.delete(theirs["probability"], b, axis=0)]
    scores = np.concatenate(alone).max(axis=1)
    return np.concatenate([pairs, np.column_stack([scores, np.full((len(scores), len(QUANTITIES)), np.nan)])])


def _open_queries(outputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Outputs of the queries that are not masked, by name, float64, with class probabilities."""
    logits = outputs["logits"][0].astype(np.float64)
    rows = ~(logits.max(axis=1) <= _MASKED_LOGIT)
    kept = {name: values[0][rows].astype(np.float64) for name, values in outputs.items()}
    kept["probability"] = 1.0 / (1.0 + np.exp(-np.clip(logits[rows], _MASKED_LOGIT, -_MASKED_LOGIT)))
    return kept


def _pair_differences(ours: Mapping[str, np.ndarray], theirs: Mapping[str, np.ndarray]) -> np.ndarray:
    """(P, 1 + quantities): best score and differences of matched queries."""
    gap = {name: np.abs(ours[name] - theirs[name]).max(axis=1) for name in ours}
    (sine, cosine), (other_sine, other_cosine) = ours["direction"].T, theirs["direction"].T
    turn = np.abs(np.arctan2(sine * other_cosine - cosine * other_sine, sine * other_sine + cosine * other_cosine))
    # A short vector says that the heading is not known: its angle weighs as little as the network gives it.
    turn *= np.minimum(1.0, np.hypot(sine, cosine))
    best = np.maximum(ours["probability"].max(axis=1), theirs["probability"].max(axis=1))
    center = np.linalg.norm(ours["center"] - theirs["center"], axis=1)
    center /= np.maximum(1.0, np.linalg.norm(ours["center"][:, :2], axis=1) / _NEAR_M)
    columns = (gap["probability"], center, gap["log_size"], turn, gap["velocity"], gap["log_variance"])
    return np.column_stack([best, *columns])
