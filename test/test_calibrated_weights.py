"""Calibration worked into weights: the network's own answers are then those that the scaling gives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from known_truth import Knowing, street
from scipy.special import expit, logit
from small_model import SMALL, small_weights

from karp_perception.core import Boxes, ConfigurationError
from karp_perception.core.boxes import VARIANCE_OF
from karp_perception.detection.model.detector_net import DetectorNet, Prediction, Tokens, build
from karp_perception.detection.model.weights import find_model, load_network, read_metadata
from karp_perception.evaluation.calibrated_weights import apply_calibration, calibrate_weights, trained_source
from karp_perception.evaluation.detection_run import EvaluationOptions, Source, evaluate
from karp_perception.evaluation.evaluation_frame import EvaluationFrame
from karp_perception.evaluation.score_calibration import Scaling, VarianceCalibration, outcomes, reliability
from karp_perception.evaluation.scored_frames import ScoredFrame


def answers(net: DetectorNet, features: torch.Tensor) -> Prediction:
    """What queries say that no token of the lidar became."""
    batch, count, _ = features.shape
    none = torch.zeros(batch, 0)
    tokens = Tokens(
        none, none, none, none, torch.zeros(batch, 0, 10), torch.zeros(batch, 0, 10), none.long(), none, none, none
    )
    with torch.no_grad():
        return net.answers(tokens, features, torch.zeros(batch, count, 3), torch.zeros(batch, 1, 1, count))


def variance(count: int, factor: float) -> VarianceCalibration:
    return VarianceCalibration(count, 0.0, factor, {}, factor, factor)


def test_heads_say_what_the_scaling_says() -> None:
    net, features = build(SMALL, 0), torch.randn(2, 30, SMALL.width, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        net.heads.logits.bias.zero_()
    before = answers(net, features)
    scaling = Scaling(np.linspace(0.5, 2.0, 10), np.linspace(-1.0, 1.0, 10))
    factors = dict.fromkeys(VARIANCE_OF, variance(1000, 1.0)) | {"yaw": variance(1000, 3.0), "x": variance(10, 7.0)}
    apply_calibration(net, scaling, factors)
    after = answers(net, features)
    label = np.tile(np.arange(10), 60)
    expected = scaling(before.logits.sigmoid().numpy().ravel(), label)
    np.testing.assert_allclose(after.logits.sigmoid().numpy().ravel(), expected, atol=1e-5)
    std = ((after.log_variance - before.log_variance) / 2).exp().mean(dim=(0, 1)).numpy()
    np.testing.assert_allclose(std, [1, 1, 1, 1, 1, 1, 3, 1, 1], rtol=1e-5)
    torch.testing.assert_close(after.center, before.center)


def too_sure(frames: int, seed: int) -> list[ScoredFrame]:
    """Cars of which far fewer are there than scores say, and which lie farther off than variances say."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(frames):
        score = rng.uniform(0.05, 0.95, 20)
        there = rng.random(20) < expit(1.5 * logit(score) - 2.0)
        place = np.column_stack([np.arange(20) * 4.0 - 38.0, np.zeros(20), np.zeros(20)])
        size, still = np.tile([4.0, 2.0, 1.5], (20, 1)), np.zeros((20, 2))
        truth = Boxes(place, size, np.zeros(20), still, np.zeros(20, int), np.ones(20))
        off = place + rng.normal(0.0, 0.4, (20, 3))
        found = Boxes(off, size, np.zeros(20), still, np.zeros(20, int), score, variance=np.full((20, 9), 0.1**2))
        made.append(ScoredFrame(found, truth[there], np.full(int(there.sum()), 9)))
    return made


def test_weights_are_written_with_what_was_found(tmp_path: Path) -> None:
    weights, out = small_weights(tmp_path), tmp_path / "calibrated" / "small.safetensors"
    frames = too_sure(100, 0)
    calibrate_weights(find_model(str(weights)), frames, out, "kind world, seed 5")
    assert read_metadata(out)["calibrated"] == "kind world, seed 5"
    assert list(out.parent.iterdir()) == [out]
    old, new = load_network(find_model(str(weights))), load_network(find_model(str(out)))
    features = torch.randn(1, 400, SMALL.width, generator=torch.Generator().manual_seed(1))
    before, after = answers(old, features), answers(new, features)
    stretch = ((after.log_variance - before.log_variance) / 2).exp().mean(dim=(0, 1)).numpy()
    assert stretch[:3] == pytest.approx([4.0, 4.0, 4.0], rel=0.1), "0.4 m of error where 0.1 m was told"
    # What the new heads would say in place of the old ones is right as often as they say.
    again = outcomes(too_sure(100, 1))
    gain = np.polyfit(before.logits[..., 0].ravel().numpy(), after.logits[..., 0].ravel().numpy(), 1)
    told = expit(np.polyval(gain, logit(again.score)))
    assert reliability(told, again.right).error < 0.03 < 0.2 < reliability(again.score, again.right).error


def test_scores_that_a_refiner_told_are_not_put_into_the_network(tmp_path: Path) -> None:
    weights, out = small_weights(tmp_path), tmp_path / "fitted.safetensors"
    calibrate_weights(find_model(str(weights)), too_sure(100, 0), out, "", scores=False)
    old, new = load_network(find_model(str(weights))), load_network(find_model(str(out)))
    features = torch.randn(1, 50, SMALL.width, generator=torch.Generator().manual_seed(1))
    before, after = answers(old, features), answers(new, features)
    torch.testing.assert_close(after.logits, before.logits, atol=0.02, rtol=0.0)  # weights are kept in 16 bits
    stretch = ((after.log_variance - before.log_variance) / 2).exp().mean(dim=(0, 1)).numpy()
    assert stretch[:3] == pytest.approx([4.0, 4.0, 4.0], rel=0.1)


class Detected(Knowing):
    """Knows the truth, and says which weights told it."""

    def __init__(self, items: list[EvaluationFrame], weights: Path | None) -> None:
        super().__init__(items)
        self._weights = weights

    @property
    def info(self) -> dict[str, Any]:
        return {**super().info, "weights": self._weights and str(self._weights)}


def test_untrained_weights_are_refused_before_anything_is_detected(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="trained weights"):
        trained_source({"model": "small", "weights": None})
    items, out = [street(0)], tmp_path / "made" / "out.safetensors"
    source = Source((pytest.fail("a frame was asked for") for _ in items), 1, {})
    with pytest.raises(ConfigurationError, match="trained weights"):
        evaluate(source, Detected(items, None), EvaluationOptions(calibrated=out))
    assert not out.parent.exists()


def test_what_too_few_frames_told_is_written_all_the_same(tmp_path: Path) -> None:
    items, out, figures = [street(k) for k in range(3)], tmp_path / "out.safetensors", tmp_path / "figures.json"
    detector = Detected(items, small_weights(tmp_path))
    with pytest.raises(ConfigurationError, match="expected 500 detections"):
        evaluate(Source(items, 3, {}), detector, EvaluationOptions(calibrated=out, json=figures))
    assert json.loads(figures.read_text())["frames"] == 3
    assert not out.exists()


def test_a_file_that_cannot_be_written_leaves_none_behind(tmp_path: Path) -> None:
    out = tmp_path / "taken.safetensors"
    (out / "inside").mkdir(parents=True)
    with pytest.raises(ConfigurationError, match="cannot be written"):
        calibrate_weights(find_model(str(small_weights(tmp_path))), too_sure(40, 0), out, "")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["small.safetensors", "taken.safetensors"]
