"""Learned proposals: numpy against torch, mirrors, garbage, nonsense that changes nothing for the worse, training."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from proposer_scenes import ROUTE, moment_of, objects_of, random_rows, street
from safetensors.numpy import load_file
from scipy.interpolate import CubicSpline
from small_networks import Stopped, logged, one_torch_thread, shaken, stop_at
from typer.testing import CliRunner

from karp_perception.cli import app
from karp_perception.core import (
    Boxes,
    ConfigurationError,
    DecisionKind,
    EgoState,
    Objects,
    Plan,
)
from karp_perception.core.geometry import pose_from_xy_yaw
from karp_perception.detection.model.weights import save_weights
from karp_perception.detection.training.schedule import cosine_rate
from karp_perception.planning.corridor import Approach
from karp_perception.planning.learned.config import ProposerConfig
from karp_perception.planning.learned.network import KINDS, ODD, OUTPUTS, ProposerNetwork
from karp_perception.planning.learned.offsets import STATIONS, Shifted
from karp_perception.planning.learned.proposer import LearnedProposer, idea_of, open_proposer
from karp_perception.planning.learned.tokens import SECONDS, SIGNS, SceneTokens, tokens_of
from karp_perception.planning.learned.training.net import ProposerNet
from karp_perception.planning.learned.training.objective import objective
from karp_perception.planning.learned.training.samples import Samples
from karp_perception.planning.learned.training.settings import ProposerTrainSettings
from karp_perception.planning.learned.training.trainer import train_round
from karp_perception.planning.planner import Planner, PlannerSettings

SMALL = ProposerConfig(width=16, heads=2, layers=2)
QUICK = ProposerTrainSettings(steps=21, batch_size=16, warm_up=5, learning_rate=5e-3, average=0.9)
STEP_NS = 100_000_000


def random_net() -> ProposerNet:
    return shaken(lambda: ProposerNet(SMALL))


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    with one_torch_thread():
        yield


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("weights") / "proposer.safetensors"
    save_weights(random_net(), file, half=False)
    return file


@pytest.fixture(scope="module")
def nonsense(weights: Path) -> LearnedProposer:
    """Weights that nobody has trained."""
    return LearnedProposer(ProposerNetwork.from_file(weights))


def random_tokens(rng: np.random.Generator, n: int = 5) -> SceneTokens:
    shapes = {name: (n, *length, len(signs)) for name, signs in SIGNS.items() for length in [LENGTHS[name]]}
    tables = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    known = {f"{name[:-1]}_known": rng.random((n, *LENGTHS[name])) < 0.5 for name in ("things", "stops")}
    return SceneTokens(**tables, **known)


LENGTHS = {"ego": (), "things": (12,), "pieces": (8,), "stops": (6,)}


def tensors(tokens: SceneTokens) -> list[torch.Tensor]:
    return [torch.from_numpy(getattr(tokens, f.name)) for f in fields(tokens)]


def planned(proposer: LearnedProposer | None, objects: Objects, speed: float, y: float, frames: int = 3) -> Plan:
    planner = Planner(proposer=proposer)
    for k in range(frames):
        ego = EgoState(k * STEP_NS, pose_from_xy_yaw(0.1 * speed * k, y, 0.0), np.array([speed, 0.0]))
        plan = planner.step(k * STEP_NS, objects, Boxes.empty(), ego, ROUTE, 14.0, street())
    return plan


def test_numpy_says_what_torch_says(weights: Path) -> None:
    tokens = random_tokens(np.random.default_rng(0))
    with torch.no_grad():
        shifts, change, logits, kinds = random_net()(*tensors(tokens))
    found = ProposerNetwork.from_file(weights).run(tokens)
    np.testing.assert_allclose(found.shifts, shifts.numpy(), atol=1e-4)
    np.testing.assert_allclose(found.change, change.numpy(), atol=1e-4)
    np.testing.assert_allclose(found.probability, logits.softmax(dim=-1).numpy(), atol=1e-5)
    np.testing.assert_allclose(found.kind, kinds.softmax(dim=-1).numpy(), atol=1e-5)
    assert found.shifts.std() > 0.1  # else anything would be equal
    assert found.change.std() > 0.1


def test_what_is_not_there_does_not_matter(weights: Path) -> None:
    network, tokens = ProposerNetwork.from_file(weights), random_tokens(np.random.default_rng(1))
    other = replace(
        tokens,
        things=np.where(tokens.thing_known[..., None], tokens.things, 5.0).astype(np.float32),
        stops=np.where(tokens.stop_known[..., None], tokens.stops, -3.0).astype(np.float32),
    )
    np.testing.assert_allclose(network.run(other).shifts, network.run(tokens).shifts, atol=1e-5)


def test_ideas_for_a_mirrored_scene_are_mirrored_whatever_the_weights(weights: Path) -> None:
    network, tokens = ProposerNetwork.from_file(weights), random_tokens(np.random.default_rng(2))
    ideas, mirrored = network.run(tokens), network.run(tokens.mirrored())
    partner = list(network.config.partner)
    np.testing.assert_allclose(mirrored.shifts, -ideas.shifts[:, partner], atol=1e-5)
    np.testing.assert_allclose(mirrored.change, ideas.change[:, partner], atol=1e-5)
    np.testing.assert_allclose(mirrored.probability, ideas.probability[:, partner], atol=1e-5)
    np.testing.assert_allclose(mirrored.kind, ideas.kind[:, partner], atol=1e-5)
    # Not because all are alike.
    assert np.abs(ideas.shifts[:, 0] - ideas.shifts[:, 1]).max() > 0.05


def test_tokens_of_a_mirrored_street_are_the_mirrored_tokens() -> None:
    flip = np.array([1.0, -1.0, -1.0, 1.0, -1.0])
    for seed in range(5):
        rows, label = random_rows(np.random.default_rng(seed), 8)
        one = tokens_of(moment_of(objects_of(rows, label), y=0.3, road=street()))
        other = tokens_of(moment_of(objects_of(rows * flip, label), y=-0.3, road=street(-1.0)))
        for f in fields(SceneTokens):
            np.testing.assert_allclose(getattr(other, f.name), getattr(one.mirrored(), f.name), atol=1e-5)
        assert one.thing_known.any()
        assert np.abs(one.ego[0][SIGNS["ego"] < 0]).max() > 0.1


def test_partners_are_each_others() -> None:
    for pairs, singles in ((0, 3), (2, 2), (3, 0)):
        partner = ProposerConfig(pairs=pairs, singles=singles).partner
        assert [partner[k] for k in partner] == list(range(len(partner)))
        assert sum(k != p for k, p in enumerate(partner)) == 2 * pairs
    with pytest.raises(ConfigurationError, match="at least one"):
        ProposerConfig(pairs=0, singles=0)


def test_a_shifted_way_leaves_the_other_smoothly_and_holds_its_last_shift() -> None:
    base, shifts = Approach(0.4, 0.05, 15.0, 0.0), np.array([0.2, 0.5, 0.9, 1.1, 1.0, 0.8])
    way = Shifted(base, 24.0, shifts)
    value, slope, _ = way.offset_at(np.array([0.0]))
    np.testing.assert_allclose([value[0], slope[0]], [0.4, 0.05], atol=1e-12)
    at = 24.0 * STATIONS
    np.testing.assert_allclose(way.offset_at(at)[0] - base.offset_at(at)[0], shifts, atol=1e-12)
    np.testing.assert_allclose(way.offset_at(np.array([60.0, 500.0]))[0], 0.8, atol=1e-12)
    spline = CubicSpline(np.r_[0.0, at], np.r_[0.0, shifts], bc_type="clamped")
    s = np.linspace(1.0, 47.0, 40)
    for k in range(3):
        np.testing.assert_allclose(way.offset_at(s)[k] - base.offset_at(s)[k], spline(s, k), atol=1e-12)


def test_an_idea_stays_within_the_room_that_there_is() -> None:
    moment = moment_of(objects_of(np.zeros((0, 5)), np.zeros(0, int)), road=street())
    low, high = moment.room
    assert low < 0.0 < high
    for shifts in (np.full(6, 50.0), np.full(6, -50.0)):
        idea = idea_of(moment, "far", "", shifts, np.zeros(SECONDS))
        offset = idea.sideways.offset_at(moment.line.distance)[0]
        assert low - 0.2 <= offset.min()
        assert offset.max() <= high + 0.2
        assert idea.side == ("left" if shifts[0] > 0 else "right")


def test_without_a_map_ideas_leave_the_route_nowhere(nonsense: LearnedProposer) -> None:
    moment = moment_of(objects_of(np.zeros((0, 5)), np.zeros(0, int)), y=0.0)
    for idea in nonsense.propose(moment):
        np.testing.assert_allclose(
            idea.sideways.offset_at(moment.line.distance)[0],
            moment.ways[0].corridor.approach.offset_at(moment.line.distance)[0], atol=1e-9,
        )  # fmt: skip


@given(seed=st.integers(0, 10_000), most=st.floats(-4.0, 4.0))
@settings(max_examples=10, deadline=None)
def test_an_idea_is_never_faster_than_free_driving_and_heeds_the_same_hazards(seed: int, most: float) -> None:
    rows, label = random_rows(np.random.default_rng(seed), 4)
    moment = moment_of(objects_of(rows, label), road=street())
    idea = idea_of(moment, "same way", "", np.zeros(6), np.full(SECONDS, most))
    way, option = moment.carry_out(idea, len(moment.ways))
    free_way, free = moment.carry_out(replace(idea, most=np.full_like(idea.most, np.inf)), len(moment.ways))
    assert (option.profile.distance <= free.profile.distance + 1e-6).all()
    assert [h.track_id for h in way.hazards] == [h.track_id for h in free_way.hazards]
    if option.profile.speed[-1] <= 0.0 < free.profile.speed[-1]:
        assert option.share == 0.0  # a mere stop, whoever proposes it


@given(seed=st.integers(0, 10_000))
@settings(max_examples=10, deadline=None)
def test_garbage_gives_finite_ideas(seed: int, nonsense: LearnedProposer) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(0, 30))
    huge = 10.0 ** rng.uniform(-3, 6, (n, 5)) * rng.choice([-1.0, 1.0], (n, 5))
    label = rng.integers(-1, 10, n)
    moment = moment_of(objects_of(huge, label), speed=float(rng.uniform(0, 90)), road=street())
    tokens = tokens_of(moment)
    assert all(np.isfinite(getattr(tokens, f.name)).all() for f in fields(tokens))
    ideas = nonsense.propose(moment)
    assert len({idea.name for idea in ideas}) == 6
    for idea in ideas:
        assert np.isfinite(idea.most).all()
        assert all(np.isfinite(part).all() for part in idea.sideways.offset_at(moment.line.distance))


@given(seed=st.integers(0, 10_000))
@settings(max_examples=10, deadline=None)
def test_nonsense_changes_no_score_for_the_worse(seed: int, nonsense: LearnedProposer) -> None:
    """The planner's own proposals stay what they are, and what is chosen is no worse by the same scorer."""
    rng = np.random.default_rng(seed)
    rows, label = random_rows(rng, 5)
    objects, speed, y = objects_of(rows, label), float(rng.uniform(0, 14)), float(rng.uniform(-0.5, 0.5))
    without, with_them = planned(None, objects, speed, y, 1), planned(nonsense, objects, speed, y, 1)
    assert without.proposals is not None
    assert with_them.proposals is not None
    own = len(without.proposals.names)
    assert with_them.proposals.names[:own] == without.proposals.names
    assert len(with_them.proposals.names) == own + 6
    np.testing.assert_allclose(with_them.proposals.terms["collision"][:own], without.proposals.terms["collision"])
    best = with_them.proposals.score[with_them.proposals.chosen]
    assert best >= with_them.proposals.score[:own].max() - 1e-12
    np.testing.assert_array_equal(with_them.proposals.x[:own], without.proposals.x)


def test_names_tell_what_the_network_thinks(nonsense: LearnedProposer) -> None:
    plan = planned(nonsense, objects_of(np.zeros((0, 5)), np.zeros(0, int)), 10.0, 0.0)
    assert plan.proposals is not None
    names = [name.split() for name in plan.proposals.names if name.startswith("learned")]
    assert [int(name[1]) for name in names] == [1, 2, 3, 4, 5, 6]
    assert {name[2] for name in names} <= {kind.value for kind in KINDS}
    assert sum(int(name[3].rstrip("%")) for name in names) == pytest.approx(100, abs=4)
    assert plan.decision.kind in (*KINDS, DecisionKind.EMERGENCY_STOP)


def test_settings_open_a_proposer(weights: Path, tmp_path: Path) -> None:
    assert open_proposer("none") is None
    assert open_proposer("no_such_name") is None
    chosen = PlannerSettings().with_parameters({"proposals.learned": str(weights)})
    plan = Planner(chosen).step(0, Objects.empty(), Boxes.empty(), EgoState(0, np.eye(4), np.array([5.0, 0.0])), ROUTE)
    assert plan.proposals is not None
    assert "learned 6" in plan.proposals.names[-1]
    other = tmp_path / "other.safetensors"
    other.write_text("nothing")
    with pytest.raises(ConfigurationError, match="safetensors"):
        open_proposer(str(other))
    with pytest.raises(ConfigurationError, match="no such file"):
        open_proposer(str(tmp_path / "missing.safetensors"))


def test_the_rate_is_a_cosine_after_a_warm_up() -> None:
    rates = [cosine_rate(k, 100, 2.0, 0.1, 10) for k in (0, 9, 10, 55, 100, 500)]
    np.testing.assert_allclose(rates, [0.2, 2.0, 2.0, 1.1, 0.2, 0.2])


def random_samples(rng: np.random.Generator, n: int = 64, tries: int = 3) -> Samples:
    """Of which the side that is better, and how much to slow down, can be read from the tokens."""
    tokens = random_tokens(rng, n)
    shifts = np.repeat(np.tanh(tokens.ego[:, 7, None, None]) * np.minimum(STATIONS, 1.0), tries, axis=1)
    change = np.repeat(np.tanh(tokens.ego[:, :1, None]) * np.ones(SECONDS), tries, axis=1)
    weight = rng.dirichlet(np.ones(tries), n)
    columns = (
        *(getattr(tokens, f.name) for f in fields(tokens)), rng.uniform(2, 12, n), np.zeros((n, SECONDS)), shifts,
        change, rng.integers(0, len(KINDS), (n, tries)), weight, np.zeros(n),
    )  # fmt: skip
    return Samples(*(c.astype(np.float32) if c.dtype.kind == "f" else c for c in columns))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training that nobody stopped."""
    samples = random_samples(np.random.default_rng(0))
    return train_round(tmp_path_factory.mktemp("whole"), samples, QUICK, SMALL, None)


def test_it_learns_what_can_be_learnt(whole: Path) -> None:
    """Without learning (a rate of 0) more than all of the distance is left at the last step: batches differ so much."""
    found = logged(whole.parent)
    assert found[-1]["step"] == 20
    assert found[-1]["distance"] < 0.6 * found[0]["distance"]


def test_a_training_goes_on_where_it_stopped(whole: Path, tmp_path: Path) -> None:
    samples, out = random_samples(np.random.default_rng(0)), tmp_path
    with pytest.raises(Stopped):
        train_round(out, samples, replace(QUICK, save_every=0.0), SMALL, None, stop_at(13))
    parts = train_round(out, samples, QUICK, SMALL, None)
    assert logged(out) == logged(whole.parent)
    one, other = load_file(whole), load_file(parts)
    assert all(np.array_equal(one[name], other[name]) for name in one)
    with pytest.raises(ConfigurationError, match="other learning_rate"):
        train_round(out, samples, replace(QUICK, learning_rate=1e-4), SMALL, None)


def test_the_nearest_proposal_learns_and_better_tries_count_more() -> None:
    shifts = torch.zeros(1, 2, 6)
    shifts[0, 1] = 1.0
    shifts.requires_grad_()
    change, logits, kinds = torch.zeros(1, 2, SECONDS), torch.zeros(1, 2), torch.zeros(1, 2, len(KINDS))
    tries = {
        "usual": torch.zeros(1, SECONDS), "speed": torch.tensor([8.0]), "shifts": torch.full((1, 1, 6), 1.3),
        "change": torch.zeros(1, 1, SECONDS), "kind": torch.zeros(1, 1, dtype=torch.long), "weight": torch.ones(1, 1),
    }  # fmt: skip
    loss, parts = objective(shifts, change, logits, kinds, tries, replace(QUICK, others_share=0.0))
    loss.backward()
    assert shifts.grad is not None
    assert shifts.grad[0, 0].abs().max() == 0.0
    assert (shifts.grad[0, 1] < 0.0).all()
    np.testing.assert_allclose(parts["distance"].item(), np.sqrt(0.6**2 + 0.1**2) - 0.1, atol=1e-6)
    np.testing.assert_allclose(parts["class"].item(), np.log(2.0), atol=1e-6)


@pytest.mark.slow
def test_the_command_trains_a_proposer_in_the_world(tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(
        "steps: 4\nbatch_size: 4\ndrives: 1\nrounds: 1\nround_drives: 1\nduration: 7.0\nevery: 1.0\ntries: 1\n"
    )
    out = tmp_path / "out"
    told = CliRunner().invoke(
        app, ["train", "--config", "proposer", "--out", str(out), "--settings", str(file), "--threads", "1"]
    )
    assert told.exit_code == 0, told.output
    assert open_proposer(str(out / "proposer.safetensors")) is not None
    assert sorted(p.name for p in (out / "drives").iterdir()) == ["0", "1"]


def test_outputs_are_all_named() -> None:
    assert int(ODD.sum()) == len(STATIONS)
    assert len(ODD) == OUTPUTS
