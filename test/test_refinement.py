"""The refiner: views of boxes, changes, and the same arithmetic in numpy as in torch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit
from small_model import small_weights
from typer.testing import CliRunner

from karp_perception.cli import app
from karp_perception.core import Boxes, ConfigurationError, LidarSweep, SensorFrame
from karp_perception.detection.detector import Detector, DetectorSettings
from karp_perception.detection.refinement.config import RefinerConfig
from karp_perception.detection.refinement.network import FEWEST_POINTS, RefinerNetwork, first_log_odds
from karp_perception.detection.refinement.stage import CANDIDATE_SCORE, RefinementStage
from karp_perception.detection.refinement.views import (
    CHANGE,
    MARGIN,
    MARGIN_M,
    MOST_POINTS,
    BoxViews,
    change_between,
    with_change,
)
from karp_perception.sensing.point_index import PointIndex


def some_boxes(rng: np.random.Generator, n: int = 6) -> Boxes:
    center = np.column_stack([rng.uniform(-35, 35, (n, 2)), rng.uniform(0.5, 1.2, n)])
    size = rng.uniform((3.0, 1.5, 1.3), (8.0, 2.5, 3.0), (n, 3))
    return Boxes(
        center, size, rng.uniform(-3, 3, n), np.zeros((n, 2)), rng.integers(0, 5, n), rng.uniform(0.3, 1, n),
        rng.uniform(0.01, 1.0, (n, 9)),
    )  # fmt: skip


def points_around(boxes: Boxes, rng: np.random.Generator, each: int = 90) -> np.ndarray:
    """(N, 4) float32 in and beside the boxes."""
    local = rng.uniform(-0.75, 0.75, (len(boxes), each, 3)) * boxes.size[:, None]
    c, s = np.cos(boxes.yaw)[:, None], np.sin(boxes.yaw)[:, None]
    x, y = c * local[..., 0] - s * local[..., 1], s * local[..., 0] + c * local[..., 1]
    points = np.stack([x, y, local[..., 2]], axis=-1) + boxes.center[:, None]
    return np.column_stack([points.reshape(-1, 3), np.zeros(len(boxes) * each)]).astype(np.float32)


def changes(rng: np.random.Generator, n: int) -> np.ndarray:
    return rng.normal(0, (0.4, 0.3, 0.1, 0.1, 0.1, 0.1, 0.2), (n, len(CHANGE)))


@given(st.integers(0, 2**31))
def test_a_change_leads_from_a_box_to_its_truth(seed: int) -> None:
    rng = np.random.default_rng(seed)
    boxes, truth = some_boxes(rng), some_boxes(rng)
    truth = replace(truth, yaw=boxes.yaw + rng.uniform(-0.7, 0.7, len(boxes)))
    right = with_change(boxes, change_between(boxes, truth))
    np.testing.assert_allclose(right.center, truth.center, atol=1e-9)
    np.testing.assert_allclose(right.size, truth.size, rtol=1e-9)
    np.testing.assert_allclose(np.cos(right.yaw - truth.yaw), 1.0, atol=1e-9)
    assert np.array_equal(right.score, boxes.score)
    assert np.array_equal(right.label, boxes.label)
    around = replace(truth, yaw=truth.yaw + np.pi)
    np.testing.assert_allclose(change_between(boxes, around), change_between(boxes, truth), atol=1e-9)


def test_a_view_holds_the_points_of_its_box_in_the_boxes_axes() -> None:
    rng = np.random.default_rng(1)
    boxes = some_boxes(rng)
    points = points_around(boxes, rng)
    views = BoxViews.of(boxes, PointIndex(points))
    for i in range(len(boxes)):
        dx, dy, dz = (points[:, :3] - boxes.center[i]).T
        c, s = np.cos(boxes.yaw[i]), np.sin(boxes.yaw[i])
        local = np.column_stack([c * dx + s * dy, c * dy - s * dx, dz])
        inside = local[(abs(local) <= (0.5 + MARGIN) * boxes.size[i] + MARGIN_M).all(axis=1)]
        assert views.count[i] == len(inside)
        assert views.known[i].sum() == min(len(inside), MOST_POINTS)
        mine = views.points[i][views.known[i]]
        away = np.linalg.norm(mine[:, None] - inside[None], axis=-1).min(axis=1)
        assert away.max() < 1e-4
        assert len(np.unique(mine.round(4), axis=0)) == len(mine), "each point once"
        np.testing.assert_allclose(views.sensor[i] @ ((c, s), (-s, c)), -boxes.center[i, :2], atol=1e-9)


def test_points_seen_from_a_changed_box_are_those_that_it_would_see() -> None:
    rng = np.random.default_rng(2)
    boxes = some_boxes(rng)
    change = changes(rng, len(boxes))
    index = PointIndex(points_around(boxes, rng, 12))
    views, moved = BoxViews.of(boxes, index), with_change(boxes, change)
    got = views.changed(change)
    np.testing.assert_allclose(got.size, moved.size)
    np.testing.assert_allclose(got.sensor, BoxViews.of(moved, index).sensor, atol=1e-9)
    for i in range(len(boxes)):
        known = views.known[i]
        in_base = [
            with_change(box, np.concatenate([place, np.zeros(4)])[None]).center[0]
            for box, places in ((boxes[[i]], views.points[i]), (moved[[i]], got.points[i]))
            for place in places[known]
        ]
        half = len(in_base) // 2
        np.testing.assert_allclose(in_base[:half], in_base[half:], atol=1e-5)


def weights(tmp_path: Path, spread: float = 0.5) -> Path:
    torch = pytest.importorskip("torch")
    from karp_perception.detection.model.weights import save_weights
    from karp_perception.detection.refinement.training.net import RefinerNet

    torch.manual_seed(0)
    net = RefinerNet(RefinerConfig(width=16, heads=2))
    for layer in (net.change, net.classes):
        torch.nn.init.normal_(layer.weight, std=spread)
    save_weights(net, tmp_path / "refiner.safetensors", half=False)
    return tmp_path / "refiner.safetensors"


def test_numpy_and_torch_say_the_same_and_few_points_change_nothing(tmp_path: Path) -> None:
    import torch

    from karp_perception.detection.refinement.training.net import RefinerNet

    network = RefinerNetwork.from_file(weights(tmp_path))
    rng = np.random.default_rng(3)
    boxes = some_boxes(rng)
    points = np.concatenate([points_around(boxes[:4], rng), points_around(boxes[4:5], rng, 2)])
    views = BoxViews.of(boxes, PointIndex(points))
    refined = network.refined(boxes, LidarSweep(points, 0))
    few = views.count < FEWEST_POINTS
    assert few.any()
    assert not few.all()
    for name in ("center", "size", "yaw"):
        before, after = getattr(boxes, name), getattr(refined, name)
        assert np.array_equal(before[few], after[few])
        assert (before[~few] != after[~few]).any()
    for name in ("velocity", "variance"):
        assert np.array_equal(getattr(boxes, name), getattr(refined, name))
    for name in ("score", "label"):
        assert np.array_equal(getattr(boxes, name)[few], getattr(refined, name)[few])

    net = RefinerNet(network.config)
    from safetensors.torch import load_file

    net.load_state_dict(load_file(weights(tmp_path)))
    box, table = views.tables()
    with torch.no_grad():
        change, classes = net(torch.from_numpy(box), torch.from_numpy(table), torch.from_numpy(views.known))
    rows = np.flatnonzero(~few)
    got, log_odds = network.run(views.take(rows))
    np.testing.assert_allclose(got, change.numpy()[rows], atol=1e-5)
    said = first_log_odds(views) + classes.numpy()
    np.testing.assert_allclose(log_odds, said[rows], atol=1e-5)
    assert np.array_equal(refined.label[rows], said[rows].argmax(axis=1))
    np.testing.assert_allclose(refined.score[rows], expit(said[rows].max(axis=1)), atol=1e-6)
    assert network.refined(Boxes.empty(), LidarSweep(points, 0)) is not None


def faces(boxes: Boxes, rng: np.random.Generator) -> np.ndarray:
    """(N, 4) float32: what a lidar at the origin sees of the nearer faces of boxes."""
    clouds = []
    for i in range(len(boxes)):
        c, s = np.cos(boxes.yaw[i]), np.sin(boxes.yaw[i])
        x, y = boxes.center[i, :2]
        sensor = np.array([-c * x - s * y, s * x - c * y])
        half = 0.5 * boxes.size[i]
        local = rng.uniform(-1, 1, (60, 3)) * half
        for axis in (0, 1):
            if abs(sensor[axis]) > half[axis]:
                local[axis * 30 : axis * 30 + 30, axis] = np.sign(sensor[axis]) * half[axis]
        x, y, z = local.T
        clouds.append(np.column_stack([c * x - s * y, s * x + c * y, z]) + boxes.center[i])
    points = np.concatenate(clouds)
    return np.column_stack([points, np.zeros(len(points))]).astype(np.float32)


def test_a_refiner_learns_where_faces_are_and_what_is_none(tmp_path: Path) -> None:
    """On boxes whose nearer faces are seen, a short training takes most of the error away, on boxes of other places.

    Every third box lies on a bush, and the detector is as sure of it as of the cars.
    """
    pytest.importorskip("torch")
    from karp_perception.detection.refinement.training.samples import Samples
    from karp_perception.detection.refinement.training.settings import RefinerTrainSettings
    from karp_perception.detection.refinement.training.trainer import train

    def scene(seed: int, n: int) -> tuple[Boxes, Boxes, np.ndarray, np.ndarray]:
        rng = np.random.default_rng(seed)
        # One in each square of a grid of 20 m, so that no box sees another's points.
        cell = rng.choice(36, n, replace=False)
        place = np.column_stack([cell // 6 * 20.0 - 50, cell % 6 * 20.0 - 50]) + rng.uniform(-2, 2, (n, 2))
        size = np.tile((4.4, 1.8, 1.5), (n, 1))
        truth = Boxes(np.column_stack([place, np.full(n, 0.8)]), size, rng.uniform(-3, 3, n), np.zeros((n, 2)),
                      np.zeros(n, int), np.full(n, 0.5))  # fmt: skip
        bush = np.arange(n) % 3 == 0
        said = with_change(truth, rng.normal(0, (0.3, 0.2, 0.05, 0.0, 0.0, 0.0, 0.1), (n, 7)))
        seen = [faces(truth[~bush], rng), points_around(replace(truth, size=0.6 * size)[bush], rng, 60)]
        return truth, said, np.concatenate(seen), bush

    parts = []
    for seed in range(40):
        truth, said, points, bush = scene(seed, 24)
        views = BoxViews.of(said, PointIndex(points))
        parts.append(
            Samples(*views.columns(), change_between(said, truth), np.where(bush, -1, 0), np.full(24, bool(seed % 2)))
        )
    settings = RefinerTrainSettings(steps=250, batch_size=64, warm_up=20, average=0.95, learning_rate=3e-3)
    file = train(tmp_path, settings, RefinerConfig(width=32), samples=Samples.concatenate(parts))
    truth, said, points, bush = scene(1000, 30)
    right = RefinerNetwork.from_file(file).refined(said, LidarSweep(points, 0))
    before = abs(change_between(said, truth))[~bush].mean(axis=0)
    after = abs(change_between(right, truth))[~bush].mean(axis=0)
    assert after[:2].mean() < 0.6 * before[:2].mean()
    assert after[6] < 0.7 * before[6]
    assert (right.score[~bush] > 0.8).mean() > 0.9
    assert (right.score[bush] < 0.2).mean() > 0.9


def test_samples_are_of_boxes_and_the_labels_that_they_stand_for(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from karp_perception.detection.refinement.training.samples import Samples, matched

    rng = np.random.default_rng(5)
    labels = replace(some_boxes(rng, 5), center=np.column_stack([np.arange(5) * 15.0, np.zeros(5), np.ones(5)]))
    boxes = with_change(labels, changes(rng, 5))[[4, 2, 0, 0, 1]]
    boxes = replace(boxes, label=np.where(np.arange(5) == 4, (boxes.label + 1) % 5, boxes.label),
                    score=np.array([0.9, 0.8, 0.4, 0.7, 0.9]))  # fmt: skip
    found, truth = matched(boxes, labels)
    # The last is of another class: it takes what nobody else wants. The third is the fourth said again.
    assert sorted(zip(found.tolist(), truth.tolist(), strict=True)) == [(0, 4), (1, 2), (3, 0), (4, 1)]
    # Of people each box beside one stands for the nearest, and what is farther away for nobody.
    side, ahead = np.array([0.0, 0.55, 5.0]), np.array([0.3, 0.2, 0.1, 0.9])
    people = replace(some_boxes(rng, 3), center=np.column_stack([side, np.zeros(3), np.ones(3)]), label=np.full(3, 5))
    places = np.array([[0.1, 0.3, 1], [0.2, 0.2, 1], [0.5, 0.1, 1], [5, 0.9, 1]])
    said = replace(some_boxes(rng, 4), label=np.full(4, 5), center=places)
    found, truth = matched(replace(said, score=ahead), people)
    assert sorted(zip(found.tolist(), truth.tolist(), strict=True)) == [(0, 0), (1, 0), (2, 1)]
    views = BoxViews.of(boxes, PointIndex(points_around(labels, rng)))
    samples = Samples(*views.columns(), np.zeros((5, 7)), np.array([0, 1, -1, 2, 3]), np.arange(5) % 2 > 0)
    samples.save(tmp_path / "kept.npz", "about")
    again = Samples.load(tmp_path / "kept.npz", "about")
    assert again is not None
    assert np.array_equal(again.views.points, views.points)


def test_a_weight_file_of_something_else_is_told(tmp_path: Path) -> None:
    (tmp_path / "none.safetensors").write_bytes(b"nothing")
    with pytest.raises(ConfigurationError, match=r"none\.safetensors"):
        RefinerNetwork.from_file(tmp_path / "none.safetensors")


def test_a_detector_fits_its_boxes_and_tells_with_what(tmp_path: Path) -> None:
    file = weights(tmp_path)
    rng = np.random.default_rng(7)
    sweep = LidarSweep(points_around(some_boxes(rng, 12), rng), 0)
    model = str(small_weights(tmp_path))
    plain, fitting = (
        Detector(DetectorSettings(model=model, backend="torch", score_threshold=0.0, threads=1, refiner=refiner))
        for refiner in ("none", str(file))
    )
    said, got = (detector.detect(SensorFrame(0, {}, sweep)) for detector in (plain, fitting))
    expected, rows = RefinementStage(RefinerNetwork.from_file(file), 0.0, 100)(said, sweep)
    np.testing.assert_allclose(got.center, expected.center, atol=1e-5)
    np.testing.assert_allclose(got.score, expected.score, atol=1e-6)
    assert abs(got.center - said.center[rows]).max() > 1e-3
    assert plain.info["refiner"] is None
    assert fitting.info["refiner"] == RefinerNetwork.from_file(file).digest


def test_what_is_let_through_is_told_by_the_points(tmp_path: Path) -> None:
    """A weak box can become a strong one and the other way round, and comes where its new score belongs."""
    network = RefinerNetwork.from_file(weights(tmp_path, 0.2))
    rng = np.random.default_rng(8)
    boxes = some_boxes(rng, 12)
    boxes = replace(boxes, center=np.column_stack([np.arange(12) * 15.0 - 80.0, np.zeros(12), np.ones(12)]),
                    score=np.linspace(0.9, 0.06, 12))  # fmt: skip
    sweep = LidarSweep(points_around(boxes, rng), 0)
    judged = network.refined(boxes, sweep)
    sure = int((judged.score >= 0.3).sum())
    assert 0 < sure < 12
    assert (np.argsort(-judged.score) != np.arange(12)).any(), "another order than the network's"
    stage = RefinementStage(network, 0.3, 100)
    assert stage.least_score == CANDIDATE_SCORE
    best, rows = stage(boxes, sweep)
    assert np.array_equal(best.score, np.sort(judged.score)[::-1][:sure])
    assert np.array_equal(best.center, judged.center[rows])
    assert len(RefinementStage(network, 0.3, 2)(boxes, sweep)[0]) == min(2, sure)
    # Without points, or without a refiner, what the network says counts.
    for plain in (stage(boxes, None), RefinementStage(None, 0.3, 100)(boxes, sweep)):
        assert np.array_equal(plain[0].score, boxes.score[boxes.score >= 0.3])
    assert RefinementStage(None, 0.3, 100).least_score == 0.3
    assert RefinementStage(network, 0.01, 100).least_score == 0.01


def test_people_are_said_once_where_their_points_were_looked_at(tmp_path: Path) -> None:
    """Two boxes of one place are one of somebody, but only points show where they stand."""
    network = RefinerNetwork.from_file(weights(tmp_path, 0.0))  # says what it was told
    center = np.array([[10.0, 0.0, 0.9], [10.2, 0.1, 0.9], [11.0, 0.0, 0.9], [20.0, 0.0, 0.9]])
    size, score = np.tile((0.6, 0.6, 1.8), (4, 1)), np.array([0.9, 0.8, 0.7, 0.6])
    boxes = Boxes(center, size, np.zeros(4), np.zeros((4, 2)), np.full(4, 5), score)
    sweep = LidarSweep(points_around(boxes, np.random.default_rng(3)), 0)
    places = {
        name: RefinementStage(refiner, 0.3, 100)(boxes, points)[1].tolist()
        for name, refiner, points in (("fitted", network, sweep), ("blind", network, None), ("plain", None, sweep))
    }
    assert places == {"fitted": [0, 2, 3], "blind": [0, 1, 2, 3], "plain": [0, 1, 2, 3]}


def test_the_command_trains_a_refiner_on_frames_of_the_world(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    settings = tmp_path / "few.yaml"
    settings.write_text("frames: 8\nsteps: 2\nbatch_size: 4\nwarm_up: 1\n")
    out = tmp_path / "out"
    result = CliRunner().invoke(app, ["train", "--config", "refiner", "--settings", str(settings), "--out", str(out)])
    assert result.exit_code == 0, result.output
    RefinerNetwork.from_file(out / "refiner.safetensors")
    from karp_perception.detection.refinement.training.samples import Samples, made_from
    from karp_perception.detection.refinement.training.settings import RefinerTrainSettings

    samples = Samples.load(out / "samples.npz", made_from(RefinerTrainSettings.from_yaml(settings)))
    assert samples is not None
    assert len(samples) > 0
    assert abs(samples.change[:, :2]).max() < 4.0
    assert (samples.truth >= 0).any()
    assert (samples.truth < 0).any()
    assert set(samples.enriched.tolist()) == {False, True}
