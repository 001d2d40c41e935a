"""Whether scores and variances mean what they say: calibration errors, and what would put them right.

A score is calibrated if of the detections with score 0.7 seven in ten are right; a variance, if errors divided by
standard deviations are spread like a standard normal distribution. A detection is right if it takes a truth of its
class within 2 m, by the rules and ranges of the nuScenes metrics.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, log_expit, logit, ndtr, ndtri

from karp_perception.core import CLASS_NAMES, InvalidInput, ObjectClass
from karp_perception.core.boxes import VARIANCE_OF
from karp_perception.core.geometry import wrap_angle
from karp_perception.evaluation.matching import NO_MATCH, match_by_distance
from karp_perception.evaluation.nuscenes_config import CVPR_2019, NuscenesConfig, counted_tables
from karp_perception.evaluation.scored_frames import ScoredFrame, Table, plain

BINS = 15
COVERAGES = (0.50, 0.68, 0.90, 0.95)
"""Shares of the errors that intervals of a normal distribution should hold."""

_LEAST_SCORE = 1e-6  # 0 and 1 have no logit
_FEWEST = 50  # detections of a class for a fit of its own; of right and of wrong ones among them a tenth of that
_LOG_TEMPERATURE = (-4.0, 4.0)
_BIAS = (-15.0, 15.0)


@dataclass(frozen=True)
class Outcomes:
    """What became of D detections.

    Attributes:
        score: (D,). right: (D,) bool. label: (D,) int.
    """

    score: np.ndarray
    right: np.ndarray
    label: np.ndarray


@dataclass(frozen=True)
class Reliability:
    """Scores against how often they are right, in B bins.

    Attributes:
        error: expected calibration error: the mean over detections of how far a bin's share of right ones is from its
            mean score (Naeini, Cooper, Hauskrecht, AAAI 2015); 0 without detections.
        largest: the largest of these distances over bins that hold anything.
        edges: (B + 1,) scores.
        count: (B,) detections. score: (B,) their mean score. right: (B,) share of right ones; NaN in empty bins.
    """

    error: float
    largest: float
    edges: np.ndarray
    count: np.ndarray
    score: np.ndarray
    right: np.ndarray

    def to_json(self) -> dict[str, Any]:
        """The same in lists and plain numbers, None for NaN."""
        return plain(self.__dict__)


@dataclass(frozen=True)
class Scaling:
    """A correction of scores that keeps their order: expit(logit(score) / temperature + bias), by class.

    Attributes:
        temperature: (10,), one for each class; above 1 where scores are too sure.
        bias: (10,); 0 unless it was fitted.
    """

    temperature: np.ndarray
    bias: np.ndarray

    def __call__(self, score: np.ndarray, label: np.ndarray) -> np.ndarray:
        """(D,) corrected scores of (D,) scores and labels; those of no class stay."""
        corrected = expit(_logit(score) / self.temperature[label] + self.bias[label])
        return np.where(label >= 0, corrected, score)


@dataclass(frozen=True)
class VarianceCalibration:
    """Errors of one quantity in standard deviations.

    Attributes:
        count: matched detections.
        mean: of error / standard deviation; 0 where nothing leans to one side.
        std: of the same; 1 where calibrated.
        coverage: by the share that an interval should hold (of COVERAGES), the share that it does.
        factor: by which all standard deviations had to be multiplied for the errors to be likeliest: the root mean
            square of error / standard deviation. Squared it corrects variances.
        robust_factor: the factor that makes the 68 % interval hold 68 %, whatever a few large errors are.
    """

    count: int
    mean: float
    std: float
    coverage: dict[float, float]
    factor: float
    robust_factor: float

    def to_json(self) -> dict[str, Any]:
        """The same in plain numbers, None for NaN."""
        return plain(self.__dict__)


def outcomes(frames: Sequence[ScoredFrame], config: NuscenesConfig = CVPR_2019, distance_m: float = 2.0) -> Outcomes:
    """Every detection in range with whether it is right."""
    found, _, matched = _matched(frames, config, distance_m)
    return Outcomes(found.boxes.score, matched != NO_MATCH, found.boxes.label)


def reliability(score: np.ndarray, right: np.ndarray, bins: int = BINS, equal_count: bool = False) -> Reliability:
    """How far scores (D,) are from the share of right ones (D,), bool, in bins.

    Bins are equally wide from 0 to 1, with scores on an edge in the lower one; or, with `equal_count`, hold equally
    many detections in order of their scores (equal scores stay together).
    """
    score, right = np.asarray(score, float), np.asarray(right, bool)
    edges = np.linspace(0.0, 1.0, bins + 1)
    if equal_count and len(score):
        edges = np.unique(np.quantile(score, edges, method="inverted_cdf"))
        edges = np.r_[0.0, edges[1:]] if len(edges) > 1 else np.r_[0.0, edges]
    k = np.clip(np.searchsorted(edges, score, side="left") - 1, 0, len(edges) - 2)
    count = np.bincount(k, minlength=len(edges) - 1)
    filled = count > 0
    mean, share = (
        np.divide(np.bincount(k, values, len(count)), count, out=np.full(len(count), np.nan), where=filled)
        for values in (score, right.astype(float))
    )
    apart = np.abs(mean - share)[filled]
    error = float((apart * count[filled]).sum() / count.sum()) if len(score) else 0.0
    return Reliability(error, float(apart.max(initial=0.0)), edges, count, mean, share)


def expected_calibration_error(
    score: np.ndarray, right: np.ndarray, bins: int = BINS, equal_count: bool = False
) -> float:
    """`reliability(...).error`."""
    return reliability(score, right, bins, equal_count).error


def fit_scaling(detections: Outcomes, per_class: bool = False, bias: bool = False) -> Scaling:
    """The temperature (and bias) under which the outcomes are likeliest.

    One temperature is the scaling of Guo et al., "On calibration of modern neural networks", ICML 2017; with a bias it
    is Platt's (1999), which can also correct scores that are all too high or all too low.

    Args:
        detections: on data that was not trained on.
        per_class: one for each class; classes with too few detections, or hardly any right or wrong ones, share the
            common one.
        bias: whether to fit one, or leave it at 0.
    """
    common = _fit(detections.score, detections.right, bias)
    rows = np.tile(common, (len(CLASS_NAMES), 1))
    for label in range(len(CLASS_NAMES)) if per_class else ():
        mine = detections.label == label
        right = int(detections.right[mine].sum())
        if mine.sum() >= _FEWEST and _FEWEST / 10 <= right <= mine.sum() - _FEWEST / 10:
            rows[label] = _fit(detections.score[mine], detections.right[mine], bias)
    return Scaling(rows[:, 0], rows[:, 1])


def variance_calibration(
    frames: Sequence[ScoredFrame],
    config: NuscenesConfig = CVPR_2019,
    distance_m: float = 2.0,
    min_score: float = 0.0,
) -> dict[str, VarianceCalibration]:
    """How variances of matched detections compare with their errors, by quantity (of VARIANCE_OF).

    Yaw errors of barriers repeat after half a turn. Velocities that are unknown do not count. Detections below
    `min_score` are left out. Raises InvalidInput if detections of any frame have no variances.
    """
    for k, frame in enumerate(frames):
        if frame.detections.variance is None and len(frame.detections):
            raise InvalidInput("detections", "variances", f"none in frame {k}", "take a detector that gives them")
    with_variance = [frame for frame in frames if len(frame.detections)]
    found, truth, matched = _matched(with_variance, config, distance_m)
    row = np.flatnonzero((matched != NO_MATCH) & (found.boxes.score >= min_score))
    if len(row) == 0:
        return {name: _calibration(np.zeros(0)) for name in VARIANCE_OF}
    mine, there = found.boxes[row], truth.boxes[matched[row]]
    turn = wrap_angle(mine.yaw - there.yaw)
    half_turn = np.abs(turn) > np.pi / 2
    turn = np.where((mine.label == ObjectClass.BARRIER) & half_turn, wrap_angle(turn + np.pi), turn)
    velocity = mine.velocity - there.velocity
    errors = np.column_stack([mine.center - there.center, mine.size - there.size, turn, velocity])
    assert mine.variance is not None
    with np.errstate(divide="ignore", invalid="ignore"):
        z = errors / np.sqrt(mine.variance)
    return {name: _calibration(z[:, k]) for k, name in enumerate(VARIANCE_OF)}


def _matched(
    frames: Sequence[ScoredFrame], config: NuscenesConfig, distance_m: float
) -> tuple[Table, Table, np.ndarray]:
    """Detections and truth that count, and (D,) the truth of its class that each detection takes."""
    found, truth, _ = counted_tables(frames, config)
    # Classes side by side, as if each were in frames of its own.
    classes = len(CLASS_NAMES)
    own, theirs = (table.frame * classes + table.boxes.label for table in (found, truth))
    return found, truth, match_by_distance(found.xy, own, found.boxes.score, truth.xy, theirs, [distance_m])[0]


def _calibration(z: np.ndarray) -> VarianceCalibration:
    z = z[~np.isnan(z)]
    if len(z) == 0:
        return VarianceCalibration(0, np.nan, np.nan, dict.fromkeys(COVERAGES, np.nan), np.nan, np.nan)
    size = np.abs(z)
    coverage = {share: float((size <= ndtri(0.5 + share / 2)).mean()) for share in COVERAGES}
    middle = ndtr(1.0) - ndtr(-1.0)
    robust = float(np.quantile(size, middle))
    return VarianceCalibration(len(z), float(z.mean()), float(z.std()), coverage, float(np.sqrt((z**2).mean())), robust)


def _fit(score: np.ndarray, right: np.ndarray, bias: bool) -> np.ndarray:
    """(2,) temperature and bias."""
    if len(score) == 0:
        return np.array([1.0, 0.0])
    x, sign = _logit(score), np.where(right, 1.0, -1.0)

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        scale = np.exp(-parameters[0])
        z = sign * (x * scale + parameters[1])
        slope = -sign * expit(-z)
        gradient = np.array([-(slope * x * scale).mean(), slope.mean() if bias else 0.0])
        return float(-log_expit(z).mean()), gradient

    bounds = [_LOG_TEMPERATURE, _BIAS if bias else (0.0, 0.0)]
    best = minimize(loss, np.zeros(2), jac=True, method="L-BFGS-B", bounds=bounds, options={"ftol": 1e-14}).x
    return np.array([np.exp(best[0]), best[1]])


def _logit(score: np.ndarray) -> np.ndarray:
    return logit(np.clip(score, _LEAST_SCORE, 1.0 - _LEAST_SCORE))
