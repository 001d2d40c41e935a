"""Calibration of scores and variances: on data whose calibration is known, and by hand."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import expit, logit

from karp_perception.core import Boxes, InvalidInput
from karp_perception.core.boxes import VARIANCE_OF
from karp_perception.evaluation.score_calibration import (
    Outcomes,
    expected_calibration_error,
    fit_scaling,
    outcomes,
    reliability,
    variance_calibration,
)
from karp_perception.evaluation.scored_frames import ScoredFrame

CAR, BARRIER = 0, 9


def boxes(*rows: tuple[float, float, int, float], variance: float | None = None) -> Boxes:
    """x, y, label, score of boxes, all variances alike."""
    n = len(rows)
    x, y, label, score = np.array(rows, float).reshape(n, 4).T
    center, size = np.stack([x, y, np.zeros(n)], axis=1), np.tile([4.0, 2.0, 1.5], (n, 1))
    variances = None if variance is None else np.full((n, 9), variance)
    return Boxes(center, size, np.zeros(n), np.zeros((n, 2)), label.astype(int), score, variances)


def drawn(seed: int, temperature: float = 1.0, bias: float = 0.0, n: int = 20000) -> Outcomes:
    """Outcomes of scores that expit(logit(score) / temperature + bias) would calibrate."""
    rng = np.random.default_rng(seed)
    score = rng.beta(0.8, 1.5, n)
    right = rng.uniform(size=n) < expit(logit(score) / temperature + bias)
    return Outcomes(score, right, rng.integers(0, 10, n))


def test_a_detection_is_right_if_it_takes_a_truth_of_its_class() -> None:
    truth = boxes((5, 0, CAR, 1), (20, 0, CAR, 1), (30, 0, CAR, 1))
    found = boxes((5.5, 0, CAR, 0.9), (5, 0, CAR, 0.8), (20, 0, BARRIER, 0.7), (22.5, 0, CAR, 0.6), (30, 0, CAR, 0.5))
    result = outcomes([ScoredFrame(found, truth, np.array([9, 9, 0]))])
    assert result.right.tolist() == [True, False, False, False, False]
    assert result.score.tolist() == [0.9, 0.8, 0.7, 0.6, 0.5]
    far = outcomes([ScoredFrame(boxes((60, 0, CAR, 0.9)), boxes((60, 0, CAR, 1)), np.array([9]))])
    assert len(far.score) == 0


def test_expected_calibration_error_by_hand() -> None:
    # Bins of 0.5: scores 0.2 and 0.4 with one right (0.3 against 0.5), 0.9 and 0.7 and 0.8 with all right.
    score, right = np.array([0.2, 0.9, 0.4, 0.7, 0.8]), np.array([1, 1, 0, 1, 1], bool)
    table = reliability(score, right, bins=2)
    assert table.error == pytest.approx((2 * 0.2 + 3 * 0.2) / 5)
    assert table.largest == pytest.approx(0.2)
    assert table.count.tolist() == [2, 3]
    assert table.score == pytest.approx([0.3, 0.8])
    assert table.right == pytest.approx([0.5, 1.0])


def test_bins_of_equal_count_hold_equally_many_and_keep_equal_scores_together() -> None:
    score = np.linspace(0.01, 0.1, 100)
    table = reliability(score, np.ones(100, bool), bins=4, equal_count=True)
    assert table.count.tolist() == [25, 25, 25, 25]
    assert table.error == pytest.approx(1 - score.mean())
    same = reliability(np.full(50, 0.3), np.arange(50) < 25, bins=10, equal_count=True)
    assert same.count.tolist() == [50]
    assert same.error == pytest.approx(0.2)


@pytest.mark.parametrize("equal_count", [False, True])
def test_without_detections_nothing_is_wrong(equal_count: bool) -> None:
    table = reliability(np.zeros(0), np.zeros(0, bool), equal_count=equal_count)
    assert (table.error, table.largest, int(table.count.sum())) == (0.0, 0.0, 0)
    assert json.loads(json.dumps(table.to_json(), allow_nan=False))["right"][0] is None
    assert fit_scaling(drawn(0, n=0)).temperature.tolist() == [1.0] * 10


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=60), st.integers(1, 20))
def test_calibration_error_as_defined_in_loops(rows: list[tuple[float, bool]], bins: int) -> None:
    groups: dict[int, list[tuple[float, bool]]] = {}
    for score, right in rows:
        edges = np.linspace(0, 1, bins + 1)
        k = max(i for i in range(bins) if i == 0 or score > edges[i])
        groups.setdefault(k, []).append((score, right))
    wanted = sum(abs(sum(s for s, _ in g) - sum(r for _, r in g)) for g in groups.values()) / len(rows)
    score, right = (np.array(column) for column in zip(*rows, strict=True))
    assert expected_calibration_error(score, right, bins) == pytest.approx(wanted, abs=1e-9)
    equal = reliability(score, right, bins, equal_count=True)
    assert equal.count.sum() == len(rows)
    assert equal.error >= abs(score.mean() - right.mean()) - 1e-9, "no bins hide a bias of all"


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_the_temperature_is_found_again_and_calibrates(temperature: float) -> None:
    data, fresh = drawn(1, temperature), drawn(2, temperature)
    scaling = fit_scaling(data)
    assert scaling.temperature == pytest.approx(np.full(10, temperature), rel=0.06)
    assert scaling.bias.tolist() == [0.0] * 10
    after = expected_calibration_error(scaling(fresh.score, fresh.label), fresh.right)
    assert after < 0.015
    if temperature != 1.0:
        assert expected_calibration_error(fresh.score, fresh.right) > 0.05


def test_the_fitted_temperature_is_the_likeliest() -> None:
    data = drawn(3, 1.7, n=500)
    x = logit(data.score)

    def loss(log_temperature: float) -> float:
        p = expit(x / np.exp(log_temperature))
        return -np.where(data.right, np.log(p), np.log1p(-p)).mean()

    wanted = np.exp(minimize_scalar(loss, bounds=(-3, 3), method="bounded", options={"xatol": 1e-9}).x)
    assert fit_scaling(data).temperature[0] == pytest.approx(wanted, rel=1e-4)


def test_a_bias_corrects_scores_that_are_all_too_low() -> None:
    data, fresh = drawn(4, 1.5, 2.0), drawn(5, 1.5, 2.0)
    plain, shifted = fit_scaling(data), fit_scaling(data, bias=True)
    assert shifted.bias == pytest.approx(np.full(10, 2.0), rel=0.06)
    assert shifted.temperature == pytest.approx(np.full(10, 1.5), rel=0.08)
    errors = [expected_calibration_error(s(fresh.score, fresh.label), fresh.right) for s in (plain, shifted)]
    assert errors[1] < 0.015 < 0.05 < errors[0]


def test_each_class_has_its_own_temperature_if_it_has_enough_detections() -> None:
    rng = np.random.default_rng(6)
    score, label = rng.uniform(0.01, 0.99, 30000), np.repeat([0, 1], 15000)
    right = rng.uniform(size=30000) < expit(logit(score) / np.where(label == 0, 0.5, 3.0))
    label[:20], right[:20] = 7, True
    scaling = fit_scaling(Outcomes(score, right, label), per_class=True)
    assert scaling.temperature[[0, 1]] == pytest.approx([0.5, 3.0], rel=0.08)
    common = fit_scaling(Outcomes(score, right, label)).temperature[0]
    assert scaling.temperature[[7, 9]] == pytest.approx([common, common])


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.booleans())
def test_scaling_keeps_the_order_of_scores(seed: int, bias: bool) -> None:
    data = drawn(seed, 2.0, n=200)
    scaled = fit_scaling(data, bias=bias)(data.score, data.label)
    assert (np.diff(scaled[np.argsort(data.score)]) >= 0).all()
    assert ((scaled >= 0) & (scaled <= 1)).all()


def test_scores_of_no_class_and_of_zero_and_one_are_kept_finite() -> None:
    scaling = fit_scaling(Outcomes(np.array([0.0, 1.0, 0.5]), np.array([True, False, True]), np.zeros(3, int)))
    assert np.isfinite(scaling.temperature).all()
    assert scaling(np.array([0.3]), np.array([-1])).tolist() == [0.3]


def noisy(spread: float, told: float, frames: int = 60, per_frame: int = 40) -> list[ScoredFrame]:
    """Cars with normal errors of a spread in every quantity, and variances that tell of another."""
    rng = np.random.default_rng(7)
    grid = np.array([(x, y) for x in range(-30, 31, 10) for y in range(-30, 31, 10)], float)[:per_frame]
    truth = boxes(*[(x, y, CAR, 1) for x, y in grid])
    out = []
    for _ in range(frames):
        error = rng.normal(scale=spread, size=(len(truth), 9))
        found = replace(
            truth,
            center=truth.center + error[:, :3],
            size=truth.size + error[:, 3:6],
            yaw=truth.yaw + error[:, 6],
            velocity=truth.velocity + error[:, 7:],
            variance=np.full((len(truth), 9), told**2),
        )
        out.append(ScoredFrame(found, truth, np.full(len(truth), 5)))
    return out


@pytest.mark.parametrize(("spread", "told"), [(0.2, 0.2), (0.2, 0.1), (0.1, 0.25)])
def test_variances_are_compared_with_errors(spread: float, told: float) -> None:
    result = variance_calibration(noisy(spread, told))
    assert tuple(result) == VARIANCE_OF
    for name, found in result.items():
        assert found.count == 60 * 40
        assert found.mean == pytest.approx(0, abs=0.08 * spread / told), name
        assert found.std == pytest.approx(spread / told, rel=0.06)
        assert found.factor == pytest.approx(spread / told, rel=0.06)
        assert found.robust_factor == pytest.approx(spread / told, rel=0.08)
        if spread == told:
            assert list(found.coverage.values()) == pytest.approx(list(found.coverage), abs=0.03)
    assert json.loads(json.dumps(result["x"].to_json(), allow_nan=False))["coverage"]["0.9"] > 0


def test_variance_calibration_by_hand() -> None:
    truth = boxes((5, 0, CAR, 1), (15, 0, CAR, 1))
    found = boxes((5.1, 0, CAR, 0.9), (14.7, 0, CAR, 0.4), variance=0.01)
    frames = [ScoredFrame(found, truth, np.array([5, 5]))]
    x = variance_calibration(frames)["x"]  # +1 and -3 standard deviations
    assert (x.count, x.mean, x.std) == (2, pytest.approx(-1.0), pytest.approx(2.0))
    assert x.factor == pytest.approx(np.sqrt(5))
    assert x.coverage == {0.5: 0.0, 0.68: 0.0, 0.9: 0.5, 0.95: 0.5}
    assert variance_calibration(frames, min_score=0.5)["x"].mean == pytest.approx(1.0)


def test_a_few_large_errors_do_not_move_the_robust_factor() -> None:
    frames = noisy(0.1, 0.1)
    worst = replace(frames[0].detections, yaw=np.full(40, 3.0))
    result = variance_calibration([replace(frames[0], detections=worst), *frames[1:]])["yaw"]
    assert result.factor > 2
    assert result.robust_factor == pytest.approx(1.0, rel=0.08)


def test_yaw_wraps_barriers_look_the_same_turned_round_and_unknown_velocities_do_not_count() -> None:
    truth = replace(boxes((5, 0, CAR, 1), (15, 0, BARRIER, 1)), yaw=np.array([3.1, 0.1]), velocity=[[np.nan] * 2] * 2)
    found = replace(boxes((5, 0, CAR, 0.9), (15, 0, BARRIER, 0.9), variance=1.0), yaw=np.array([-3.1, 0.1 - np.pi]))
    result = variance_calibration([ScoredFrame(found, truth, np.array([5, 5]))])
    assert result["yaw"].factor == pytest.approx((2 * np.pi - 6.2) / np.sqrt(2))
    assert result["vx"].count == 0
    assert np.isnan(result["vx"].std)


def test_variances_have_to_be_there() -> None:
    truth = boxes((5, 0, CAR, 1))
    empty = ScoredFrame(Boxes.empty(), truth, np.array([5]))
    with pytest.raises(InvalidInput, match=r"variances, got none in frame 1"):
        variance_calibration([empty, ScoredFrame(truth, truth, np.array([5]))])
    assert variance_calibration([empty])["x"].count == 0
    assert variance_calibration([])["x"].count == 0
    assert variance_calibration([empty, ScoredFrame(boxes((5, 0, CAR, 1), variance=1.0), truth, [5])])["x"].count == 1
