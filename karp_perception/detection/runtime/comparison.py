"""How far an engine is from the reference."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

import numpy as np
from scipy.optimize import linear_sum_assignment

from karp_perception.core import Boxes
from karp_perception.detection.decoding import decode
from karp_perception.detection.runtime.graph import Reference
from karp_perception.detection.runtime.parity import QUANTITIES, Parity, ParityLimits

_MASKED_LOGIT = -100.0  # at or below it a query stands for nothing, as in decoding
_SAME_QUERY_M = 1.0  # between the centres of one query's boxes; candidates of vehicles lie 1.6 m apart or more
_NEAR_M = 10.0  # beyond it a centre may differ in proportion to its distance: depth in an image is told as a logarithm
_COUNTS = 0.1  # score from which a query is compared: a third of the usual threshold
_USUAL = 0.95  # share of the queries that stay within the limits
_WORST = 4.0  # limits that the rest stays within: one query at a tipping point is not a wrong engine
_SHOWN = 0.3  # the usual threshold of a detector

Outputs = Mapping[str, np.ndarray]


class Engine(Protocol):
    """What is compared: see `Backend`."""

    precision: str

    def run(self, inputs: Outputs) -> dict[str, np.ndarray]:
        """Outputs by name."""
        ...


def measure_parity(engine: Engine, references: Iterable[Reference], limits: ParityLimits) -> Parity:
    """Run an engine on the references and compare: a network by what `decode` reads, another graph row by row."""
    pairs = []
    for reference in references:
        outputs = engine.run(reference.inputs)
        pairs.append((reference.outputs, {name: v[:, :: reference.every] for name, v in outputs.items()}))
    if "logits" in pairs[0][0]:
        return _network_parity(engine.precision, pairs, limits)
    return _row_parity(engine.precision, pairs, limits)


def _network_parity(precision: str, pairs: list[tuple[Outputs, Outputs]], limits: ParityLimits) -> Parity:
    """Candidates come in the order of their heat, and near ties change places with the precision, the last of them with
    those just left out: queries are matched by centre and class probabilities, and a share without a partner is
    allowed. Only queries with a score that counts are compared. Where there is none (an untrained network) all are, and
    any share may lack a partner: whom no threshold lets through may be anyone.
    """  # fmt: skip
    frames = [both for exact, other in pairs for both in _frames(exact, other)]
    rows = np.concatenate([_differences(exact, other) for exact, other in frames])
    counting = rows[:, 0] >= _COUNTS
    if counting.any():
        rows = rows[counting]
    paired = ~np.isnan(rows[:, 1])
    differences = rows[paired, 1:]
    if len(differences) == 0:
        differences = np.full((1, len(QUANTITIES)), np.inf)
    usual, worst = _usual_and_worst(dict(zip(QUANTITIES, differences.T, strict=True)))
    unmatched = int((~paired).sum())
    boxes = np.array([_box_differences(exact, other) for exact, other in frames])
    count, alone = (int(total) for total in boxes[:, :2].sum(axis=0))
    within = all(_within(usual[name], worst[name], getattr(limits, name)) for name in QUANTITIES)
    same_queries = unmatched <= limits.unmatched * len(rows) or not counting.any()
    passed = within and same_queries and alone <= limits.boxes_unmatched * count
    score, position = (float(value) for value in boxes[:, 2:].max(axis=0))
    return Parity(precision, passed, usual, worst, len(rows), unmatched, count, alone, score, position)


def _row_parity(precision: str, pairs: list[tuple[Outputs, Outputs]], limits: ParityLimits) -> Parity:
    differences: dict[str, np.ndarray] = {}
    for name in pairs[0][0]:
        exact, other = (np.concatenate([pair[side][name] for pair in pairs]).astype(np.float64) for side in (0, 1))
        gap = np.abs(exact - other).reshape(-1, exact.shape[-1]).max(axis=1) / max(1.0, np.abs(exact).max())
        differences[name] = np.where(np.isfinite(gap), gap, np.inf)
    usual, worst = _usual_and_worst(differences)
    passed = all(_within(usual[name], worst[name], limits.row) for name in usual)
    return Parity(precision, passed, usual, worst, sum(len(gap) for gap in differences.values()))


def _usual_and_worst(differences: Mapping[str, np.ndarray]) -> tuple[dict[str, float], dict[str, float]]:
    # No interpolation: between two infinities it has no value.
    usual = {name: float(np.quantile(gap, _USUAL, method="higher")) for name, gap in differences.items()}
    return usual, {name: float(gap.max()) for name, gap in differences.items()}


def _within(usual: float, worst: float, limit: float) -> bool:
    return usual <= limit and worst <= _WORST * limit


def _frames(exact: Outputs, other: Outputs) -> Iterator[tuple[Outputs, Outputs]]:
    """The outputs of each frame of a batch, as batches of one."""
    for number in range(len(exact["logits"])):
        one = slice(number, number + 1)
        yield {k: v[one] for k, v in exact.items()}, {k: v[one] for k, v in other.items()}


def _differences(exact: Outputs, other: Outputs) -> np.ndarray:
    """(Q, 1 + quantities): the best score of a pair and its differences, which are NaN for a query without partner."""
    ours, theirs = _open_queries(exact), _open_queries(other)
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


def _open_queries(outputs: Outputs) -> dict[str, np.ndarray]:
    """Outputs of the queries that are not masked, by name, float64, with class probabilities."""
    logits = outputs["logits"][0].astype(np.float64)
    rows = ~(logits.max(axis=1) <= _MASKED_LOGIT)
    kept = {name: values[0][rows].astype(np.float64) for name, values in outputs.items()}
    kept["probability"] = 1.0 / (1.0 + np.exp(-np.clip(logits[rows], _MASKED_LOGIT, -_MASKED_LOGIT)))
    return kept


def _pair_differences(ours: Outputs, theirs: Outputs) -> np.ndarray:
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


def _box_differences(exact: Outputs, other: Outputs) -> tuple[int, int, float, float]:
    """Decoded boxes of both sides, those without a partner, largest differences of score and of position (m).

    A box that is shown on one side needs one of its class on the other; that one may have a score of down to
    `_COUNTS`, because some lie at the threshold.
    """
    queries = exact["logits"].shape[1]
    ours, theirs = (decode(outputs, _COUNTS, queries) for outputs in (exact, other))
    distance = np.linalg.norm(ours.center[:, None] - theirs.center, axis=-1)
    distance[ours.label[:, None] != theirs.label] = np.inf
    a, b = linear_sum_assignment(np.minimum(distance, _SAME_QUERY_M) + np.abs(ours.score[:, None] - theirs.score))
    shown = np.maximum(ours.score[a], theirs.score[b]) >= _SHOWN
    near = (distance[a, b] <= _SAME_QUERY_M) & shown
    count, alone = int(near.sum()), _shown_but(ours, a[near]) + _shown_but(theirs, b[near])
    if not near.any():
        return count + alone, alone, 0.0, 0.0
    a, b = a[near], b[near]
    return count + alone, alone, float(np.abs(ours.score[a] - theirs.score[b]).max()), float(distance[a, b].max())


def _shown_but(boxes: Boxes, matched: np.ndarray) -> int:
    """Boxes at or above the threshold that are not among the matched ones."""
    return int((np.delete(boxes.score, matched) >= _SHOWN).sum())
