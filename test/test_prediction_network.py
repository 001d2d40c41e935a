"""The predictor network: numpy against torch, tokens that do not depend on the frame, training that goes on."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from small_networks import Stopped, logged, one_torch_thread, shaken, stop_at
from typer.testing import CliRunner

from karp_perception.cli import app
from karp_perception.core import ConfigurationError, ObjectClass
from karp_perception.detection.model.weights import save_weights
from karp_perception.prediction.config import PredictorConfig
from karp_perception.prediction.history import LAGS_S, Past
from karp_perception.prediction.lanes import Lanes
from karp_perception.prediction.manoeuvres import load_manoeuvres
from karp_perception.prediction.network import PredictorNetwork
from karp_perception.prediction.predictor import open_network
from karp_perception.prediction.rollout import roll_out
from karp_perception.prediction.state import MotionState
from karp_perception.prediction.tokens import (
    OTHER_WIDTH,
    OTHERS,
    PIECE_WIDTH,
    PIECES,
    TARGET_WIDTH,
    LanePieces,
    Tokens,
    tokens_of,
)
from karp_perception.prediction.training.net import PredictorNet
from karp_perception.prediction.training.objective import objective, rolled_out
from karp_perception.prediction.training.samples import Samples
from karp_perception.prediction.training.settings import PredictorTrainSettings
from karp_perception.prediction.training.trainer import train
from karp_perception.small_network.training.samples import drawn_rows

SMALL = PredictorConfig(width=16, heads=2, layers=2)
QUICK = PredictorTrainSettings(steps=21, batch_size=32, warm_up=5, learning_rate=5e-3, average=0.9)


def scene(rng: np.random.Generator, n: int = 7) -> tuple[MotionState, Past, np.ndarray, np.ndarray]:
    state = MotionState.moving(
        rng.normal(size=(n, 2)) * 15, rng.uniform(-3, 3, n), rng.normal(size=(n, 2)) * 5, rng.integers(0, 8, n)
    )
    state = replace(state, turn_rate=rng.normal(size=n) * 0.1)
    shape = (n, len(LAGS_S))
    past = Past(
        state.position[:, None] + rng.normal(size=(*shape, 2)), rng.uniform(-3, 3, shape), rng.uniform(0, 9, shape),
        rng.random(shape) < 0.7,
    )  # fmt: skip
    own = np.zeros(n, bool)
    own[0] = True
    return state, past, rng.uniform(0.5, 6.0, (n, 3)), own


def pieces(rng: np.random.Generator) -> LanePieces:
    return LanePieces.of(Lanes.of([np.cumsum(rng.normal(2.0, 1.0, (40, 2)), axis=0) - 40 for _ in range(3)]))


def random_tokens(rng: np.random.Generator, n: int = 5) -> Tokens:
    def normal(*shape: int) -> np.ndarray:
        return rng.normal(size=shape).astype(np.float32)

    return Tokens(
        normal(n, TARGET_WIDTH), normal(n, OTHERS, OTHER_WIDTH), rng.random((n, OTHERS)) < 0.6,
        normal(n, PIECES, PIECE_WIDTH), rng.random((n, PIECES)) < 0.6,
    )  # fmt: skip


def random_net() -> PredictorNet:
    return shaken(lambda: PredictorNet(SMALL))


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    with one_torch_thread():
        yield


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("weights") / "predictor.safetensors"
    save_weights(random_net(), file, half=False)
    return file


def test_numpy_says_what_torch_says(weights: Path) -> None:
    rng, net = np.random.default_rng(0), random_net()
    tokens = random_tokens(rng)
    with torch.no_grad():
        acceleration, turn, logits, correction = net(
            *(torch.from_numpy(getattr(tokens, f.name)) for f in fields(tokens))
        )
    found = PredictorNetwork.from_file(weights).run(tokens)
    np.testing.assert_allclose(found.acceleration, acceleration.numpy(), atol=1e-4)
    np.testing.assert_allclose(found.turn_rate, turn.numpy(), atol=1e-4)
    np.testing.assert_allclose(found.probability, logits.softmax(dim=-1).numpy(), atol=1e-5)
    np.testing.assert_allclose(found.correction, correction.numpy(), atol=1e-5)
    assert found.acceleration.std() > 0.1  # else anything would be equal


def test_what_is_not_there_does_not_matter(weights: Path) -> None:
    rng = np.random.default_rng(1)
    tokens = random_tokens(rng)
    other = replace(
        tokens,
        others=np.where(tokens.other_known[..., None], tokens.others, 5.0).astype(np.float32),
        pieces=np.where(tokens.piece_known[..., None], tokens.pieces, -3.0).astype(np.float32),
    )
    network = PredictorNetwork.from_file(weights)
    np.testing.assert_allclose(network.run(other).acceleration, network.run(tokens).acceleration, atol=1e-5)


def test_things_are_foretold_alike_alone_and_with_others(weights: Path) -> None:
    network, tokens = PredictorNetwork.from_file(weights), random_tokens(np.random.default_rng(2), 9)
    every = network.run(tokens)
    for rows in (np.array([4]), np.array([8, 0, 3]), np.zeros(0, int)):
        some = network.run(tokens.take(rows))
        np.testing.assert_allclose(some.acceleration, every.acceleration[rows], atol=1e-5)
        np.testing.assert_allclose(some.probability, every.probability[rows], atol=1e-6)


def test_paths_in_torch_are_those_in_numpy() -> None:
    rng = np.random.default_rng(3)
    n, k, segments = 6, 3, 10
    state = MotionState(
        np.zeros((n, 2)), np.zeros(n), np.zeros(n), rng.uniform(0, 15, n), np.zeros(n), rng.integers(0, 8, n)
    )
    acceleration, turn = rng.normal(size=(n, k, 5)) * 3, rng.normal(size=(n, k, 5))
    correction = rng.normal(size=(n, 2)) * 0.1
    tensors = (torch.from_numpy(x) for x in (state.speed, state.limits, acceleration, turn, correction))
    found = rolled_out(*tensors, segments).numpy()
    corrected = replace(state, heading=correction[:, 0], speed=np.maximum(state.speed + correction[:, 1], 0.0))
    expected = roll_out(corrected, np.repeat(acceleration, 2, axis=2), np.repeat(turn, 2, axis=2))
    np.testing.assert_allclose(found, np.moveaxis(expected[:2, :, :, 1:], 0, -1), atol=1e-9)


def test_tokens_do_not_depend_on_the_frame() -> None:
    rng = np.random.default_rng(4)
    state, past, size, own = scene(rng)
    lanes = pieces(rng)
    rows = np.array([1, 3, 6])
    c, s = np.cos(0.8), np.sin(0.8)
    rotation, shift = np.array([[c, -s], [s, c]]), np.array([120.0, -40.0])
    moved = replace(
        state, position=state.position @ rotation.T + shift, yaw=state.yaw + 0.8, heading=state.heading + 0.8
    )
    moved_past = replace(past, position=past.position @ rotation.T + shift, heading=past.heading + 0.8)
    moved_lanes = LanePieces(lanes.points @ rotation.T + shift)
    before = tokens_of(rows, state, past, size, own, lanes)
    after = tokens_of(rows, moved, moved_past, size, own, moved_lanes)
    for f in fields(Tokens):
        np.testing.assert_allclose(getattr(after, f.name), getattr(before, f.name), atol=1e-4)


def test_the_order_of_things_does_not_matter() -> None:
    rng = np.random.default_rng(5)
    state, past, size, own = scene(rng)
    order = rng.permutation(len(state))
    rows = np.array([2, 5])
    where = np.array([int(np.flatnonzero(order == r)[0]) for r in rows])
    before = tokens_of(rows, state, past, size, own, None)
    after = tokens_of(where, state.take(order), past.take(order), size[order], own[order], None)
    for f in fields(Tokens):
        np.testing.assert_allclose(getattr(after, f.name), getattr(before, f.name), atol=1e-6)


def test_tokens_of_a_scene_by_hand() -> None:
    # A car at 10 m/s along y, another one 20 m ahead of it that stands, a lane along y 1 m to its left.
    state = MotionState.moving(
        np.array([[5.0, 0.0], [5.0, 20.0]]),
        np.full(2, np.pi / 2),
        np.array([[0.0, 10.0], [0.0, 0.0]]),
        np.zeros(2, int),
    )
    past = Past(*(np.zeros((2, len(LAGS_S), *s)) for s in ((2,), (), ())), np.zeros((2, len(LAGS_S)), bool))
    lanes = LanePieces.of(Lanes.of([np.array([[4.0, -5.0], [4.0, 95.0]])]))
    tokens = tokens_of(np.array([0]), state, past, np.full((2, 3), 4.0), np.zeros(2, bool), lanes)
    assert tokens.other_known[0].sum() == 1
    np.testing.assert_allclose(tokens.others[0, 0, :6], (1.0, 0.0, 1.0, 1.0, 0.0, 0.0), atol=1e-6)
    assert tokens.piece_known[0].sum() == 9  # of ten pieces one lies beyond 70 m from where it will be
    known = tokens.pieces[0][tokens.piece_known[0]]
    np.testing.assert_allclose(known[:, 3:6], 1.0 / 20.0, atol=1e-6)  # all are a metre to the left
    np.testing.assert_allclose(known[:, 6:8], [[1.0, 0.0]] * len(known), atol=1e-6)


def test_parts_that_several_ways_share_are_cut_once() -> None:
    way = np.array([[0.0, 0.0], [100.0, 0.0]])
    one, twice = LanePieces.of(Lanes.of([way])), LanePieces.of(Lanes.of([way, way]))
    np.testing.assert_array_equal(np.sort(one.points, axis=0), np.sort(twice.points, axis=0))
    assert len(LanePieces.of(Lanes.of([])).points) == 0


def test_the_loss_is_that_of_a_loop() -> None:
    rng = np.random.default_rng(6)
    settings = PredictorTrainSettings()
    paths, future = rng.normal(size=(4, 3, 10, 2)), rng.normal(size=(4, 10, 2))
    logits, there = rng.normal(size=(4, 3)), rng.random((4, 10)) < 0.8
    there[:, 0] = True
    arguments = (torch.from_numpy(x) for x in (paths, logits, future, there))
    found, parts = objective(*arguments, settings)
    nearest, every, entropy = [], [], []
    for b in range(4):
        means = []
        for k in range(3):
            total = weight = 0.0
            for s in range(10):
                w = (1.0 if 0.5 * s < 3.0 else settings.late_weight) * there[b, s]
                away = np.hypot(*(paths[b, k, s] - future[b, s]))
                total, weight = total + w * (np.hypot(away, 0.1) - 0.1), weight + w
            means.append(total / weight)
        share = np.exp(-np.array(means) / settings.class_softness)
        log_p = logits[b] - np.log(np.exp(logits[b]).sum())
        nearest.append(min(means))
        every += means
        entropy.append(-(share / share.sum() * log_p).sum())
    share = settings.others_share
    expected = (1 - share) * np.mean(nearest) + share * np.mean(every) + settings.class_weight * np.mean(entropy)
    assert float(found) == pytest.approx(expected, rel=1e-6)
    assert float(parts["distance"]) == pytest.approx(np.mean(nearest), rel=1e-6)


def learnable(n: int = 200) -> Samples:
    """Cars at 5 to 10 m/s that brake where the first number of a token says so, and go straight on elsewhere."""
    rng = np.random.default_rng(7)
    tokens = random_tokens(rng, n)
    brakes = rng.random(n) < 0.5
    tokens.target[:, 0] = np.where(brakes, 1.0, -1.0)
    speed = rng.uniform(5.0, 10.0, n)
    tokens.target[:, 1] = speed / 10.0
    t = 0.5 * np.arange(1, 11)
    stop = np.minimum(t, speed[:, None] / 3.0)
    x = np.where(brakes[:, None], speed[:, None] * stop - 1.5 * stop**2, speed[:, None] * t)
    future = np.stack([x, np.zeros_like(x)], axis=-1)
    return Samples(
        tokens.target, tokens.others, tokens.other_known, tokens.pieces, tokens.piece_known, tokens.pieces,
        tokens.piece_known, speed, np.tile([0.2, 4.5], (n, 1)), future, np.ones((n, 10), bool),
    )  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training that nobody stopped."""
    return train(tmp_path_factory.mktemp("whole"), QUICK, SMALL, samples=learnable())


def test_it_learns_what_can_be_learnt(whole: Path) -> None:
    """Without learning (a rate of 0) about half the distance is left at the last step: batches differ that much."""
    found = logged(whole.parent)
    assert found[-1]["step"] == 20
    assert found[-1]["distance"] < 0.25 * found[0]["distance"]


def test_a_training_goes_on_where_it_stopped(whole: Path, tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        train(tmp_path, replace(QUICK, save_every=0.0), SMALL, samples=learnable(), progress=stop_at(13))
    parts = train(tmp_path, QUICK, SMALL, samples=learnable())
    assert logged(tmp_path) == logged(whole.parent)
    one, other = load_file(whole), load_file(parts)
    assert all(np.array_equal(one[name], other[name]) for name in one)


def test_a_checkpoint_of_another_training_is_refused(tmp_path: Path) -> None:
    samples = learnable(40)
    few = replace(QUICK, steps=2)
    train(tmp_path, few, SMALL, samples=samples)
    with pytest.raises(ConfigurationError, match="learning_rate"):
        train(tmp_path, replace(few, learning_rate=1e-4), SMALL, samples=samples)
    with pytest.raises(ConfigurationError, match="width"):
        train(tmp_path, few, replace(SMALL, width=32), samples=samples)
    (tmp_path / "checkpoint.pt").write_bytes(b"nonsense")
    with pytest.raises(ConfigurationError, match="something else"):
        train(tmp_path, few, SMALL, samples=samples)


def test_samples_are_kept_and_made_anew_where_they_are_others(tmp_path: Path) -> None:
    samples, file = learnable(5), tmp_path / "samples.npz"
    samples.save(file, "seed 1")
    again = Samples.load(file, "seed 1")
    assert again is not None
    np.testing.assert_array_equal(again.future, samples.future)
    assert Samples.load(file, "seed 2") is None
    file.write_bytes(b"nonsense")
    with pytest.raises(ConfigurationError, match="samples"):
        Samples.load(file, "seed 1")


def test_a_batch_depends_on_the_step_alone() -> None:
    drawn = [drawn_rows(1000, 8, 3, step) for step in range(6)]
    np.testing.assert_array_equal(drawn_rows(1000, 8, 3, 5), drawn[5])
    assert not np.array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn_rows(1000, 8, 4, 5), drawn[5])


def test_without_weights_manoeuvres_remain(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert open_network("no_such_predictor") is None
    assert "manoeuvres alone" in caplog.text
    assert open_network("none") is None


def test_a_file_that_is_no_predictor_is_refused(tmp_path: Path, weights: Path) -> None:
    with pytest.raises(ConfigurationError, match="no such file"):
        open_network(str(tmp_path / "gone.safetensors"))
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"\x08\x00\x00\x00\x00\x00\x00\x00{}      ")
    with pytest.raises(ConfigurationError, match="broken"):
        open_network(str(broken))
    other = tmp_path / "other.safetensors"
    net = random_net()
    net.config = replace(SMALL, width=32)
    save_weights(net, other)
    with pytest.raises(ConfigurationError, match="train it again"):
        open_network(str(other))


def test_configuration_goes_through_json() -> None:
    assert PredictorConfig.from_json(SMALL.to_json(), "here") == SMALL
    with pytest.raises(ConfigurationError, match="here"):
        PredictorConfig.from_json("{", "here")


def test_the_class_of_a_thing_is_told() -> None:
    rng = np.random.default_rng(9)
    state, past, size, own = scene(rng, 3)
    kinds = []
    for label in (
        ObjectClass.CAR,
        ObjectClass.TRUCK,
        ObjectClass.PEDESTRIAN,
        ObjectClass.MOTORCYCLE,
        ObjectClass.BICYCLE,
    ):
        of = replace(state, label=np.full(3, int(label)))
        kinds.append(tokens_of(np.array([1]), of, past, size, own, None).target[0, :5])
    np.testing.assert_array_equal(np.array(kinds), np.eye(5))


def test_the_command_trains_goes_on_and_fits(tmp_path: Path) -> None:
    few, one = tmp_path / "few.yaml", tmp_path / "one.yaml"
    few.write_text("drives: 2\nduration: 7.0\nevery: 1.0\nbatch_size: 16\nwarm_up: 2\n")
    one.write_text("drives: 1\n")

    def run(*arguments: object, settings: Path = few) -> Any:
        return CliRunner().invoke(app, ["train", "--settings", str(settings), "--threads", "1", *map(str, arguments)])

    out = tmp_path / "predictor"
    for _ in range(2):  # the second time there is nothing left to do
        result = run("--config", "predictor", "--steps", 3, "--out", out)
        assert result.exit_code == 0, result.output
        assert open_network(str(out / "predictor.safetensors")) is not None
    result = run("--config", "manoeuvres", "--out", tmp_path / "table", settings=one)
    assert result.exit_code == 0, result.output
    assert load_manoeuvres(tmp_path / "table" / "manoeuvres.yaml").probability.shape[1] == 6
    result = run("--config", "predictor", "--data", "world", "--out", out)
    assert isinstance(result.exception, ConfigurationError)
    assert "--data" in str(result.exception)
