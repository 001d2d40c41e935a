"""Matching against scipy on costs written out; losses against PyTorch's and against their definitions."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_model import SMALL
from torch.nn import functional

from karp_perception.detection.model.detector_net import Prediction
from karp_perception.detection.model.losses import (
    LossWeights,
    _direction_errors,
    focal_loss,
    heatmap_loss,
    heatmap_targets,
    set_loss,
)
from karp_perception.detection.model.matcher import Match, MatchingCost, Targets, match

ONE = LossWeights(1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0)


def targets(label: list[list[int]], seed: int = 0, weight: float = 1.0) -> Targets:
    rng = torch.Generator().manual_seed(seed)
    batch, most = len(label), max(map(len, label))
    valid = torch.tensor([[k < len(row) for k in range(most)] for row in label])
    padded = torch.tensor([row + [0] * (most - len(row)) for row in label])
    center = torch.rand(batch, most, 3, generator=rng) * torch.tensor([20.0, 20.0, 2.0]) - torch.tensor([4.0, 10.0, 0])
    velocity = torch.randn(batch, most, 2, generator=rng)
    log_size, yaw = torch.rand(batch, most, 3, generator=rng), 6 * torch.rand(batch, most, generator=rng)
    weights = weight * valid.float()
    return Targets(padded, center, log_size, yaw, velocity, torch.ones(batch, most), weights, weights, valid)


def prediction(batch: int, queries: int, seed: int = 1) -> Prediction:
    rng = torch.Generator().manual_seed(seed)

    def normal(*size: int) -> torch.Tensor:
        return torch.randn(*size, generator=rng).requires_grad_()

    n = (batch, queries)
    return Prediction(normal(*n, 10), normal(*n, 3), normal(*n, 3), normal(*n, 2), normal(*n, 2), normal(*n, 9))


def exactly(of: Targets) -> Prediction:
    """Queries that say what is true, in the order of the targets."""
    logits = torch.full((*of.label.shape, 10), -12.0).scatter(2, of.label[..., None], 12.0)
    direction = torch.stack([of.yaw.sin(), of.yaw.cos()], dim=-1)
    return Prediction(logits, of.center, of.log_size, direction, of.velocity, torch.zeros(*of.label.shape, 9))


def seen(p: Prediction) -> torch.Tensor:
    return torch.zeros(p.logits.shape[:2], dtype=torch.bool)


def cost_by_hand(p: Prediction, t: Targets, b: int, q: int, g: int) -> float:
    c = MatchingCost()
    logit = float(p.logits.detach()[b, q, t.label[b, g]])
    s = 1 / (1 + math.exp(-logit))
    label = 0.25 * (1 - s) ** 2 * -math.log(s) - 0.75 * s**2 * -math.log(1 - s)
    center = float((p.center.detach()[b, q, :2] - t.center[b, g, :2]).abs().sum())
    size = float((p.log_size.detach()[b, q] - t.log_size[b, g]).abs().sum())
    return c.label * label + c.center * center + c.size * size


def test_the_match_is_the_cheapest_of_all_assignments() -> None:
    p, t = prediction(2, 5), targets([[0, 5, 3], [7]])
    found = match(p, t, seen(p))
    for b, count in ((0, 3), (1, 1)):
        best = min(
            itertools.permutations(range(5), count),
            key=lambda queries: sum(cost_by_hand(p, t, b, q, g) for g, q in enumerate(queries)),
        )
        pairs = {int(g): int(q) for f, q, g in zip(found.frame, found.query, found.target, strict=True) if f == b}
        assert pairs == dict(enumerate(best))


def test_hidden_queries_and_broken_numbers_stand_for_nothing() -> None:
    p, t = prediction(1, 4), targets([[0, 1, 2]])
    hidden = seen(p)
    hidden[0, 0] = True
    with torch.no_grad():
        p.center[0, 1] = torch.nan
    found = match(p, t, hidden)
    assert sorted(found.query.tolist()) == [2, 3]


def test_more_objects_than_queries_and_none_at_all() -> None:
    p = prediction(1, 2)
    assert len(match(p, targets([[0, 1, 2, 3]]), seen(p)).query) == 2
    empty = targets([[0]])
    empty.valid[:] = False
    empty.weight[:] = 0
    found = match(p, empty, seen(p))
    assert len(found.query) == 0
    losses = set_loss(p, empty, found, seen(p), ONE)
    assert losses["center"] == 0
    assert losses["label"] > 0
    sum(losses.values()).backward()
    assert torch.isfinite(p.logits.grad).all()


def test_focal_loss_is_its_definition() -> None:
    logits = torch.randn(7, 10, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    positive = (torch.rand(7, 10, generator=torch.Generator().manual_seed(3)) < 0.2).double()
    p = logits.sigmoid()
    p_t = torch.where(positive == 1, p, 1 - p)
    alpha = torch.where(positive == 1, 0.25, 0.75)
    expected = (-alpha * (1 - p_t) ** 2 * p_t.log()).sum()
    torch.testing.assert_close(focal_loss(logits, positive, torch.ones_like(logits)), expected)


def test_what_is_said_exactly_costs_nothing_but_the_variance() -> None:
    t = targets([[0, 5, 9], [8]])
    p = exactly(t)
    losses = set_loss(p, t, match(p, t, ~t.valid), ~t.valid, ONE)
    for name in ("center", "height", "size", "direction", "velocity", "variance"):
        assert float(losses[name]) == pytest.approx(0.0, abs=1e-5), name
    assert float(losses["label"]) < 1e-4


def test_objects_of_weight_zero_teach_nothing() -> None:
    t = targets([[0, 5]], weight=0.0)
    p = prediction(1, 2)
    found = Match(torch.tensor([0, 0]), torch.tensor([0, 1]), torch.tensor([0, 1]))
    assert all(float(value.detach()) == 0 for value in set_loss(p, t, found, seen(p), ONE).values())


def test_yaw_is_periodic_and_a_barrier_has_two_fronts_and_a_cone_none() -> None:
    yaw = torch.tensor([3.1, 0.3, 0.3])
    label = torch.tensor([0, 9, 8])
    said = torch.tensor([-3.1, 0.3 + math.pi, 2.0])
    direction = torch.stack([said.sin(), said.cos()], dim=-1)
    error, angle = _direction_errors(direction, yaw, label)
    assert float(angle[0]) == pytest.approx(2 * math.pi - 6.2, abs=1e-5)
    assert float(angle[1]) == pytest.approx(0.0, abs=1e-5)
    assert float(error[1].sum()) == pytest.approx(0.0, abs=1e-5)
    assert float(angle[2]) == float(error[2].sum()) == 0.0


@pytest.mark.parametrize("start", [1.0, 0.6, 0.1, -0.1, -0.6, -1.0])
def test_whoever_takes_the_back_for_the_front_is_turned_by_most_of_what_it_sees(start: float) -> None:
    along = torch.tensor([[start, 0.0]], requires_grad=True)
    car, ahead, behind = torch.tensor([0]), torch.tensor([math.pi / 2]), torch.tensor([-math.pi / 2])
    loss = 0.95 * _direction_errors(along, ahead, car)[0].sum() + 0.05 * _direction_errors(along, behind, car)[0].sum()
    loss.backward()
    assert start == 1.0 or float(along.grad[0, 0]) < -0.01, "a step down the gradient leads towards the front"


def test_between_two_fronts_that_look_alike_the_axis_is_kept() -> None:
    """Half of the cars face one way, half the other, and nobody can tell: the best answer is either, not neither."""
    yaw = torch.tensor([0.7, 0.7 + math.pi]).repeat(50)
    said = torch.tensor([0.05, 0.1], requires_grad=True)
    optimizer = torch.optim.SGD([said], lr=0.05)
    for _ in range(400):
        optimizer.zero_grad()
        _direction_errors(said.expand(100, 2), yaw, torch.zeros(100, dtype=torch.long))[0].mean().backward()
        optimizer.step()
    said = said.detach()
    along = abs(float(said[0]) * math.sin(0.7) + float(said[1]) * math.cos(0.7))
    across = abs(float(said[0]) * math.cos(0.7) - float(said[1]) * math.sin(0.7))
    assert along == pytest.approx(1.0, abs=0.1)
    assert across < 0.1


def test_the_variance_that_costs_least_is_that_of_the_errors_and_does_not_pull_at_the_box() -> None:
    t = targets([[0] * 40])
    p = exactly(t)
    rng = torch.Generator().manual_seed(5)
    center = (p.center + 0.7 * torch.randn(p.center.shape, generator=rng)).requires_grad_()
    spread = torch.zeros(9, requires_grad=True)
    optimizer = torch.optim.Adam([spread], lr=0.05)
    index = torch.arange(40)
    found = Match(torch.zeros(40, dtype=torch.long), index, index)
    only = replace(ONE, label=0, center=0, height=0, size=0, direction=0, velocity=0)
    for _ in range(600):
        optimizer.zero_grad()
        said = replace(p, center=center, log_variance=spread.expand(1, 40, 9))
        set_loss(said, t, found, ~t.valid, only)["variance"].backward()
        optimizer.step()
    variance = (center - t.center).pow(2).mean(dim=(0, 1)).detach()
    torch.testing.assert_close(spread.detach()[:3].exp(), variance, rtol=0.02, atol=0)
    assert center.grad is None or float(center.grad.abs().max()) == 0


def test_the_heatmap_is_one_on_the_places_of_centres() -> None:
    t = targets([[0, 5], [3]])
    wanted, weight = heatmap_targets(t, SMALL)
    nx, ny = SMALL.canvas_places
    grid = wanted.transpose(1, 2).unflatten(2, (nx, ny))
    ones = {tuple(index.tolist()) for index in torch.nonzero(grid == 1)}
    expected = set()
    for b, g in torch.nonzero(t.valid).tolist():
        row = math.floor((float(t.center[b, g, 0]) - SMALL.x_range_m[0]) / SMALL.place_m)
        column = math.floor((float(t.center[b, g, 1]) - SMALL.y_range_m[0]) / SMALL.place_m)
        if 0 <= row < nx and 0 <= column < ny:
            expected.add((b, int(t.label[b, g]), row, column))
    assert ones == expected
    assert float(weight.min()) == 1.0
    t.weight[0, 0] = 0
    wanted, weight = heatmap_targets(t, SMALL)
    assert float(weight.min()) == 0.0
    assert float(wanted[0, :, 0].max()) == 0.0


def test_a_right_heatmap_costs_nothing_and_frames_without_lidar_do_not_count() -> None:
    t = targets([[0], [1]])
    wanted, _ = heatmap_targets(t, SMALL)
    right = torch.where(wanted == 1, 15.0, -15.0)
    present = torch.ones(2, 1)
    assert float(heatmap_loss(right, t, present, SMALL)) < 1e-3
    wrong = torch.zeros_like(right)
    assert float(heatmap_loss(wrong, t, present, SMALL)) > 1
    assert float(heatmap_loss(wrong, t, torch.zeros(2, 1), SMALL)) == 0
    half = heatmap_loss(torch.stack([wrong[0], right[1]]), t, torch.tensor([[0.0], [1.0]]), SMALL)
    assert float(half) < 1e-3


def test_losses_of_a_batch_do_not_depend_on_padding() -> None:
    p = prediction(1, 6)
    short, padded = targets([[0, 5]]), targets([[0, 5]])
    for name in ("label", "center", "log_size", "yaw", "velocity", "velocity_known", "weight", "valid"):
        column = getattr(padded, name)
        extra = torch.zeros(1, 2, *column.shape[2:], dtype=column.dtype)
        setattr(padded, name, torch.cat([column, extra], dim=1))
    for t in (short, padded):
        t.weight[:, :2] = torch.tensor([1.0, 0.5])
    a = set_loss(p, short, match(p, short, seen(p)), seen(p), ONE)
    b = set_loss(p, padded, match(p, padded, seen(p)), seen(p), ONE)
    np.testing.assert_allclose([float(v) for v in a.values()], [float(v) for v in b.values()], rtol=1e-6)
    heat = functional.logsigmoid(torch.randn(1, int(np.prod(SMALL.canvas_places)), 10))
    one = torch.ones(1, 1)
    torch.testing.assert_close(heatmap_loss(heat, short, one, SMALL), heatmap_loss(heat, padded, one, SMALL))
