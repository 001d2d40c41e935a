"""Do detections rest on what an explanation names? The deletion test, with controls.

After Samek et al., "Evaluating the visualization of what a deep neural network has learned" (2017), and Petsiuk et al.,
"RISE" (2018): hide the tokens that counted most for a detection, and see how much of its score is gone; then hide as
many others of the same sensors. An explanation that tells the truth names tokens that are missed more.

Three controls, each harder than the one before: any tokens at random; tokens at random in which the sensor did deliver
something (most of a bird's-eye canvas is empty, and nobody misses that); and the tokens that counted most for another
detection of the same frame.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy import stats

from karp_perception.core import SensorFrame
from karp_perception.core.settings import Settings, setting
from karp_perception.detection.explanation import Explainer, Explanation

CONTROLS = ("random", "delivered", "other_detection")
SENSORS = ("all", "cameras", "lidar")
_MATCH_M = 2.0  # bird's-eye distance at which another query, too, speaks of the object: nuScenes' middle threshold
_RESAMPLES = 2000  # of frames, for confidence intervals
_CONFIDENCE = 0.95


@dataclass(frozen=True)
class PerturbationSettings(Settings):
    """How much is hidden, and how often."""

    tokens: int = setting(16, "tokens that are hidden at a time", low=1, high=1000)
    draws: int = setting(3, "times that tokens are drawn for each control", low=1, high=100)
    detections: int = setting(8, "most detections of a frame, best first", low=1, high=100)
    from_inputs: bool = setting(False, "empty the inputs under the tokens, not only the decoder's attention to them")
    sensors: str = setting("all", "whose tokens are hidden", choices=SENSORS)
    seed: int = setting(0, "of the draws", low=0)


@dataclass(frozen=True)
class Deletions:
    """What K detections lost when tokens were hidden.

    Attributes:
        frame: (K,) number of the frame that each detection is in.
        score: (K,) before anything was hidden.
        attended: (K,) by how much it fell without the tokens that counted most.
        control: by name of the control, (K,) by how much it fell without as many others, mean of the draws; NaN where
            there were none (no other detection in the frame).
    """

    frame: np.ndarray
    score: np.ndarray
    attended: np.ndarray
    control: dict[str, np.ndarray]

    def compare(self, control: str) -> Comparison:
        """The tokens that counted most against one of the controls."""
        known = np.isfinite(self.control[control])
        return compare(self.frame[known], self.attended[known], self.control[control][known])


@dataclass(frozen=True)
class Comparison:
    """Paired statistics of two ways to hide tokens.

    Attributes:
        detections, frames: how many.
        attended, control: mean fall of the score, 0..1.
        difference: mean of attended - control, with `interval`, the 95 % confidence interval of it. Detections of a
            frame are not independent: whole frames are resampled (cluster bootstrap, Davison and Hinkley, 1997).
        more: share of detections that lost more by the attended tokens; ties count half.
        p_value: of "attended is not worse", one-sided Wilcoxon signed-rank test over the frames' means; 1 where no
            frame differs.
    """

    detections: int
    frames: int
    attended: float
    control: float
    difference: float
    interval: tuple[float, float]
    more: float
    p_value: float


def deletion_test(
    explainer: Explainer, frames: Iterable[SensorFrame], settings: PerturbationSettings = PerturbationSettings()
) -> Deletions:
    """Hide tokens of frames and see what their detections lose.

    A detection's score is that of its query and class; where inputs are emptied, queries may change places, and it is
    the best of its class within 2 m. Hidden are the `tokens` of `sensors` that counted most; a control hides as many of
    each single sensor, and none of those that counted most (of which there are therefore at most half of a sensor's;
    "delivered" takes empty ones where it runs out). Frames in which nothing is detected, or which have none of
    the sensors, add nothing.
    """
    rng = np.random.default_rng(settings.seed)
    numbers: list[int] = []
    rows: list[tuple[float, ...]] = []
    for number, frame in enumerate(frames):
        explanation = explainer.explain(frame)
        count = min(len(explanation), settings.detections)
        sensor = _sensor_of_token(explanation, settings.sensors)
        if count == 0 or sensor.max() < 0:
            continue
        hidden, names = _variants(explanation, sensor, explainer.delivered(frame), count, settings, rng)
        scores, centers = explainer.answers_without(frame, hidden, from_inputs=settings.from_inputs)
        # Variant 0 hides nothing; then each detection's, in the order of `names`.
        per_detection = (len(hidden) - 1) // count
        for i in range(count):
            own = np.r_[0, 1 + i * per_detection : 1 + (i + 1) * per_detection]
            found = _score_of(explanation, i, scores[own], centers[own], settings.from_inputs)
            fall = found[0] - found[1:]
            used = hidden[own[1:]].any(axis=1)
            means = [_mean(fall[[name == control for name in names] & used]) for control in ("attended", *CONTROLS)]
            numbers.append(number)
            rows.append((found[0], *means))
    columns = np.array(rows, float).reshape(-1, 2 + len(CONTROLS)).T
    control = dict(zip(CONTROLS, columns[2:], strict=True))
    return Deletions(np.array(numbers, int), columns[0], columns[1], control)


def compare(frame: np.ndarray, attended: np.ndarray, control: np.ndarray) -> Comparison:
    """Paired statistics of (K,) falls of the score, of detections in the frames `frame` (K,); see `Comparison`."""
    difference = attended - control
    if len(difference) == 0:
        nan = float("nan")
        return Comparison(0, 0, nan, nan, nan, (nan, nan), nan, 1.0)
    _, member = np.unique(frame, return_inverse=True)
    count, total = np.bincount(member), np.bincount(member, difference)
    drawn = np.random.default_rng(0).integers(len(count), size=(_RESAMPLES, len(count)))
    means = total[drawn].sum(axis=1) / count[drawn].sum(axis=1)
    tail = 50 * (1 - _CONFIDENCE)
    low, high = np.percentile(means, [tail, 100 - tail])
    by_frame = total / count
    p_value = float(stats.wilcoxon(by_frame, alternative="greater").pvalue) if by_frame.any() else 1.0
    more = float(np.mean((difference > 0) + 0.5 * (difference == 0)))
    return Comparison(
        len(difference),
        len(count),
        float(attended.mean()),
        float(control.mean()),
        float(difference.mean()),
        (float(low), float(high)),
        more,
        p_value,
    )


def _sensor_of_token(explanation: Explanation, sensors: str) -> np.ndarray:
    """(M,) number of the camera that each token belongs to, C for the lidar, -1 for what must not be hidden."""
    config = explanation.config
    rows, columns = config.image_tokens
    slot = np.arange(config.cameras).repeat(rows * columns)
    sees = (slot < len(explanation.cameras)) & (sensors != "lidar")
    lidar = config.cameras if explanation.lidar and sensors != "cameras" else -1
    return np.concatenate([np.where(sees, slot, -1), np.full(np.prod(config.canvas_tokens), lidar)])


def _variants(
    explanation: Explanation,
    sensor: np.ndarray,
    delivered: np.ndarray,
    count: int,
    settings: PerturbationSettings,
    rng: np.random.Generator,
) -> tuple[np.ndarray, list[str]]:
    """Masks (V, M): one that hides nothing, then for each of `count` detections the variants of `names`.

    A row without a single hidden token stands for a variant that there is none of.
    """
    weights = explanation.flat()
    names = ["attended", *(control for control in CONTROLS for _ in range(settings.draws))]
    may = sensor >= 0
    masks = [np.zeros(len(sensor), bool)]
    for i in range(count):
        ranked = np.argsort(-weights[i], kind="stable")
        attended = _at_most_half(ranked[may[ranked]], sensor)[: settings.tokens]
        masks.append(_mask(attended, len(sensor)))
        rest = may & ~masks[-1]
        for name in names[1:]:
            order = _control_order(name, i, weights, delivered, rng)
            order = order[rest[order]]
            same = zip(*np.unique(sensor[attended], return_counts=True), strict=True)
            masks.append(_mask(np.concatenate([order[sensor[order] == s][:n] for s, n in same]), len(sensor)))
    return np.array(masks), names


def _at_most_half(ranked: np.ndarray, sensor: np.ndarray) -> np.ndarray:
    """The first tokens of each sensor, in the order given: so many others must be left for a control."""
    by_sensor = np.argsort(sensor[ranked], kind="stable")
    numbers = sensor[ranked][by_sensor]
    rank = np.empty(len(ranked), int)
    rank[by_sensor] = np.arange(len(ranked)) - np.searchsorted(numbers, numbers)
    return ranked[rank < np.bincount(numbers)[sensor[ranked]] // 2]


def _control_order(
    name: str, own: int, weights: np.ndarray, delivered: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Tokens in the order in which a control hides them; none where there is no other detection."""
    if name == "other_detection":
        others = np.flatnonzero(np.arange(len(weights)) != own)
        return np.argsort(-weights[rng.choice(others)], kind="stable") if len(others) else np.zeros(0, int)
    order = rng.permutation(weights.shape[1])
    return order if name == "random" else order[np.argsort(~delivered[order], kind="stable")]


def _mask(indices: np.ndarray, length: int) -> np.ndarray:
    mask = np.zeros(length, bool)
    mask[indices] = True
    return mask


def _score_of(
    explanation: Explanation, number: int, scores: np.ndarray, centers: np.ndarray, matched: bool
) -> np.ndarray:
    """(V,) score of a detection in scores (V, N, 10) and centres (V, N, 3) m."""
    label = int(explanation.label[number])
    if not matched:
        return scores[:, explanation.query[number], label]
    away = np.linalg.norm(centers[..., :2] - explanation.boxes.center[number, :2], axis=-1)
    return np.where(away <= _MATCH_M, scores[..., label], 0.0).max(axis=1)


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")
