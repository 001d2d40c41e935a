"""The deletion test on explanations that are right, wrong or empty by construction, and on the shipped network."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

pytest.importorskip("torch")

from small_model import SMALL

from karp_perception.core import Boxes, SensorFrame
from karp_perception.detection.explanation import Explainer, Explanation
from karp_perception.detection.model.weights import find_model
from karp_perception.evaluation.perturbation import (
    CONTROLS,
    Deletions,
    PerturbationSettings,
    compare,
    deletion_test,
)

NX, NY = SMALL.canvas_tokens
ROWS, COLUMNS = SMALL.image_tokens
TOKENS = SMALL.token_count
FRAME = SensorFrame(0, {})


class Known:
    """Stands in for an Explainer: a detection's score is what the tokens that count for it, and are seen, add up to.

    Args:
        named: (D, M) what it says counts for each detection; truth: (D, M) what does. moved: where queries stand when
            inputs are emptied, m from the detection.
    """

    def __init__(self, named: np.ndarray, truth: np.ndarray, cameras: int = 1, lidar: bool = True) -> None:
        self.named, self.truth, self.cameras, self.lidar = named, truth, cameras, lidar
        self.hidden: list[np.ndarray] = []

    def explain(self, frame: SensorFrame) -> Explanation:
        n = len(self.named)
        images = self.named[:, : -NX * NY].reshape(n, SMALL.cameras, ROWS, COLUMNS)[:, : self.cameras]
        boxes = Boxes(
            np.c_[10.0 * np.arange(n), np.zeros((n, 2))], np.ones((n, 3)), np.zeros(n), np.zeros((n, 2)),
            np.arange(n), self.truth.sum(axis=1),
        )  # fmt: skip
        lidar = self.named[:, -NX * NY :].reshape(n, NX, NY)
        names = tuple("abc"[: self.cameras])
        return Explanation(SMALL, boxes, np.arange(n), boxes.label, np.zeros((n, 3)), names, images, lidar, self.lidar)

    def delivered(self, frame: SensorFrame) -> np.ndarray:
        return np.arange(TOKENS) % 2 == 0

    def answers_without(
        self, frame: SensorFrame, hidden: np.ndarray, *, from_inputs: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        self.hidden.append(hidden)
        n = len(self.truth)
        scores, centers = np.zeros((len(hidden), SMALL.queries, 10)), np.full((len(hidden), SMALL.queries, 3), 500.0)
        for i in range(n):
            # Where inputs are emptied, queries change places.
            query = SMALL.queries - 1 - i if from_inputs else i
            scores[:, query, i] = (~hidden * self.truth[i]).sum(axis=1)
            centers[:, query] = (10.0 * i + 1.5, 0.0, 0.0)
        return scores, centers


def importance(seed: int, count: int, lidar_only: bool = False) -> np.ndarray:
    """(count, M): 20 tokens count for each, different ones, all of them of one camera or of the lidar."""
    rng = np.random.default_rng(seed)
    first = TOKENS - NX * NY
    usable = np.concatenate([np.zeros(0, int) if lidar_only else np.arange(ROWS * COLUMNS), np.arange(first, TOKENS)])
    chosen = rng.permutation(usable)[: 20 * count].reshape(count, 20)
    truth = np.zeros((count, TOKENS))
    np.put_along_axis(truth, chosen, rng.uniform(0.01, 0.04, (count, 20)), axis=1)
    return truth


@pytest.mark.parametrize("from_inputs", [False, True])
def test_falls_are_what_the_hidden_tokens_counted(from_inputs: bool) -> None:
    truth = importance(0, 1, lidar_only=True)
    options = PerturbationSettings(tokens=6, draws=100, from_inputs=from_inputs)
    found = deletion_test(Known(truth, truth), [FRAME], options)  # type: ignore[arg-type]
    largest = np.sort(truth[0])[::-1][:6].sum()
    np.testing.assert_allclose(found.score, truth.sum())
    np.testing.assert_allclose(found.attended, largest)
    # Six of the others, on average: their mean, six times.
    expected = 6 * (truth.sum() - largest) / (NX * NY - 6)
    assert found.control["random"][0] == pytest.approx(expected, rel=0.3)
    assert np.isnan(found.control["other_detection"][0])
    assert found.compare("other_detection").detections == 0
    result = found.compare("random")
    assert (result.detections, result.frames, result.more) == (1, 1, 1.0)


@pytest.mark.parametrize("sensors", ["all", "cameras", "lidar"])
def test_controls_hide_as_much_of_each_sensor_and_nothing_twice(sensors: str) -> None:
    truth = importance(1, 3)
    known = Known(truth, truth, cameras=2)
    draws = 4
    deletion_test(known, [FRAME], PerturbationSettings(tokens=10, draws=draws, sensors=sensors))  # type: ignore[arg-type]
    (hidden,) = known.hidden
    assert not hidden[0].any()
    delivered = known.delivered(FRAME)
    first = TOKENS - NX * NY
    allowed = np.zeros(TOKENS, bool)
    allowed[: 2 * ROWS * COLUMNS] = sensors != "lidar"
    allowed[first:] = sensors != "cameras"
    of_sensor = np.repeat(np.arange(4), [ROWS * COLUMNS] * 3 + [NX * NY])
    for i, variants in enumerate(hidden[1:].reshape(3, 1 + 3 * draws, TOKENS)):
        attended, controls = variants[0], variants[1:].reshape(3, draws, TOKENS)
        best: list[int] = []
        for token in np.argsort(-np.where(allowed, truth[i], -1.0), kind="stable"):
            same = [t for t in best if of_sensor[t] == of_sensor[token]]
            if len(best) < 10 and len(same) < (of_sensor == of_sensor[token]).sum() // 2:
                best.append(int(token))
        assert set(np.flatnonzero(attended)) == set(best)
        for control in controls.reshape(-1, TOKENS):
            assert not (control & attended).any()
            assert not (control & ~allowed).any()
            np.testing.assert_array_equal(np.bincount(of_sensor[control], minlength=4),
                                          np.bincount(of_sensor[attended], minlength=4))  # fmt: skip
        # As long as there are such: a small image has few tokens.
        for sensor in range(4):
            some = controls[1][:, (of_sensor == sensor)]
            enough = (delivered & ~attended)[of_sensor == sensor].sum() >= some.sum(axis=1).max()
            assert not enough or not (some & ~delivered[of_sensor == sensor]).any()
    assert len(np.unique(hidden, axis=0)) > 3 * draws


def test_an_explanation_that_lies_is_found_out() -> None:
    truths = [importance(seed, 4) for seed in range(12)]
    for named, sign in ((lambda t: t, 1), (lambda t: np.roll(t, 1, axis=0), -1)):
        parts = [deletion_test(Known(named(t), t), [FRAME], PerturbationSettings(tokens=8)) for t in truths]  # type: ignore[arg-type]
        joined = Deletions(
            np.arange(12).repeat(4),
            np.concatenate([part.score for part in parts]),
            np.concatenate([part.attended for part in parts]),
            {name: np.concatenate([part.control[name] for part in parts]) for name in CONTROLS},
        )
        result = joined.compare("other_detection")
        assert (result.detections, result.frames) == (48, 12)
        if sign > 0:
            assert result.interval[0] > 0
            assert result.p_value < 0.001
            assert result.more > 0.95
        else:
            assert result.interval[1] < 0.05
            assert result.p_value > 0.05


def test_frames_without_detections_or_without_the_sensor_add_nothing() -> None:
    none = np.zeros((0, TOKENS))
    assert len(deletion_test(Known(none, none), [FRAME], PerturbationSettings()).score) == 0  # type: ignore[arg-type]
    truth = importance(2, 2)
    blind = Known(truth, truth, cameras=0)
    assert len(deletion_test(blind, [FRAME], PerturbationSettings(sensors="cameras")).score) == 0  # type: ignore[arg-type]
    assert not blind.hidden
    result = compare(np.zeros(0, int), np.zeros(0), np.zeros(0))
    assert (result.detections, result.p_value) == (0, 1.0)


def test_at_most_so_many_detections_of_a_frame() -> None:
    truth = importance(3, 5)
    found = deletion_test(Known(truth, truth), [FRAME] * 2, PerturbationSettings(detections=2, tokens=4))  # type: ignore[arg-type]
    np.testing.assert_array_equal(found.frame, [0, 0, 1, 1])


def test_the_interval_is_the_textbook_one_for_independent_frames() -> None:
    rng = np.random.default_rng(4)
    attended, control = rng.normal(0.3, 0.2, 200), rng.normal(0.1, 0.1, 200)
    result = compare(np.arange(200), attended, control)
    difference = attended - control
    low, high = stats.t.interval(0.95, 199, difference.mean(), stats.sem(difference))
    np.testing.assert_allclose(result.interval, (low, high), atol=0.004)
    assert result.difference == pytest.approx(difference.mean())
    assert result.p_value == pytest.approx(stats.wilcoxon(attended, control, alternative="greater").pvalue)


def test_copies_of_a_detection_do_not_make_the_result_surer() -> None:
    rng = np.random.default_rng(5)
    attended = rng.normal(0.1, 0.3, 15)
    once = compare(np.arange(15), attended, np.zeros(15))
    often = compare(np.arange(15).repeat(10), attended.repeat(10), np.zeros(150))
    np.testing.assert_allclose(often.interval, once.interval)
    assert often.p_value == once.p_value


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.floats(-1, 1), st.floats(-1, 1)), min_size=1, max_size=30))
def test_swapping_the_sides_mirrors_the_result(rows: list[tuple[int, float, float]]) -> None:
    frame, one, other = (np.array(column) for column in zip(*rows, strict=True))
    forth, back = compare(frame, one, other), compare(frame, other, one)
    assert forth.difference == pytest.approx(-back.difference, abs=1e-12)
    np.testing.assert_allclose(forth.interval, [-back.interval[1], -back.interval[0]], atol=1e-9)
    assert forth.more == pytest.approx(1 - back.more)
    assert forth.interval[0] - 1e-9 <= forth.difference <= forth.interval[1] + 1e-9 or len(set(frame.tolist())) > 1
    assert 0 <= forth.p_value <= 1


@pytest.mark.slow
def test_what_the_shipped_network_attended_to_matters_more_than_as_much_elsewhere() -> None:
    if not find_model("nano").trained:
        pytest.skip("models/nano.safetensors is not there: an untrained network attends to nothing in particular")
    from karp_perception.world.dataset import families_of
    from karp_perception.world.world_frames import WorldFrames

    drives = WorldFrames(90_001, families_of(None), per_drive=1)
    frames = [next(drives.drive(number))[0] for number in range(12)]
    explainer = Explainer()
    for from_inputs in (False, True):
        found = deletion_test(explainer, frames, PerturbationSettings(draws=2, from_inputs=from_inputs))
        assert len(found.score) >= 20
        for control in CONTROLS:
            result = found.compare(control)
            assert result.interval[0] > 0, (from_inputs, control, result)
            assert result.p_value < 0.05, (from_inputs, control, result)
