"""What the proposer learns from: true futures, many tries, and the best of them by the planner's own scorer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from driving_records import DT, actor, record, straight
from proposer_scenes import moment_of, objects_of, street

from karp_perception.core import ConfigurationError, ObjectClass, Vehicle
from karp_perception.core.geometry import pose_from_xy_yaw
from karp_perception.detection.training.world_frames import TRAINING_FAMILIES
from karp_perception.planning.collision import Things
from karp_perception.planning.learned.network import KINDS, MOST_CHANGE, MOST_SHIFT, Ideas
from karp_perception.planning.learned.tokens import SECONDS
from karp_perception.planning.learned.training.drives import Futures, training_case
from karp_perception.planning.learned.training.samples import Samples, drive_samples, round_samples
from karp_perception.planning.learned.training.settings import ProposerTrainSettings
from karp_perception.planning.learned.training.teacher import Tries, candidates, perturbed, tried
from karp_perception.planning.planner import PlannerSettings
from karp_perception.planning.proposals import Moment

STEPS = 80
FREE_STREET = objects_of(np.zeros((0, 5)), np.zeros(0, int))


def standing(x: float, y: float, n: int = STEPS) -> Things:
    """A car that stands there."""
    start = np.array([[x, y, 0.0]])
    paths = np.broadcast_to(start, (1, 1, n, 3)).copy()
    box = np.array([[x, y, 0.0, 2.2, 0.9, 0.1]])
    return Things(box, np.zeros(1, int), start, paths, np.ones((1, 1)), np.ones(1, bool))


def nothing() -> Things:
    some = standing(0.0, 0.0)
    return Things(some.box[:0], some.thing[:0], some.start[:0], some.paths[:0], some.probability[:0], some.sure[:0])


def tries_at(moment: Moment, things: Things) -> Tries:
    return tried(moment, candidates(moment), things, PlannerSettings(), Vehicle(), 8.0)


def test_things_are_where_they_really_were_seen_from_the_vehicle() -> None:
    way = actor(30.0, 4.0, np.pi / 2, 2.0)
    futures = Futures.of(record(straight(10.0), {7: way}))
    T = pose_from_xy_yaw(5.0, 1.0, 0.3)
    things = futures.things(20, T, 30, DT)
    c, s = np.cos(0.3), np.sin(0.3)
    offset = way[20:51, :2] - (5.0, 1.0)
    expected = np.column_stack([c * offset[:, 0] + s * offset[:, 1], c * offset[:, 1] - s * offset[:, 0]])
    np.testing.assert_allclose(np.concatenate([things.start[:, :2], things.paths[0, 0, :, :2]]), expected, atol=1e-9)
    np.testing.assert_allclose(things.paths[0, 0, :, 2], np.pi / 2 - 0.3, atol=1e-9)
    np.testing.assert_allclose(things.box[0, 3:5], [2.0, 0.9])


def test_who_is_gone_goes_on_and_so_does_everybody_after_the_end() -> None:
    way = actor(30.0, 4.0, 0.0, 5.0)
    drive = record(straight(10.0), {7: way})
    keep = drive.actor_tick < 40
    columns = {n: v[keep] for n, v in vars(drive).items() if n.startswith("actor_")}
    seen = replace(drive, **columns, visibility=drive.visibility[keep])
    for futures in (Futures.of(drive), Futures.of(seen)):
        things = futures.things(30, np.eye(4), STEPS, DT)
        expected = way[30, 0] + 5.0 * DT * np.arange(1, STEPS + 1)
        np.testing.assert_allclose(things.paths[0, 0, :, 0], expected, atol=1e-9)
    assert len(Futures.of(seen).things(45, np.eye(4), STEPS, DT).box) == 0


def test_on_a_free_street_driving_on_is_the_best_and_changes_nothing() -> None:
    best = tries_at(moment_of(FREE_STREET, road=street()), nothing()).best(1)
    assert best.score[0] > 0.9
    np.testing.assert_allclose(best.shifts[0], 0.0, atol=1e-9)
    np.testing.assert_allclose(best.change[0], 0.0, atol=1e-9)
    assert KINDS[best.kind[0]].value == "CRUISE"


def test_tries_are_scored_by_what_really_happens_not_by_what_was_foreseen() -> None:
    moment = moment_of(FREE_STREET, road=street())
    found = tries_at(moment, standing(45.0, 0.0))
    fast = np.abs(found.change).max(axis=1) + np.abs(found.shifts).max(axis=1) < 1e-9
    assert fast.any()
    assert (found.score[fast] == 0.0).all()
    best = found.best(1)
    assert best.score[0] > 0.0
    assert best.change[0].min() < -0.5 or np.abs(best.shifts[0]).max() > 0.5


def test_room_aside_is_tried_and_limits_hold() -> None:
    for road, aside in ((street(), True), (None, False)):
        moment = moment_of(FREE_STREET, road=road)
        found = tries_at(moment, nothing())
        assert (np.abs(found.shifts).max() > 0.4) == aside
        assert np.abs(found.shifts).max() < MOST_SHIFT
        assert np.abs(found.change).max() < MOST_CHANGE
        assert len(found.score) == len(moment.options) + len(candidates(moment))


def test_the_best_come_first_and_few_are_repeated() -> None:
    tries = Tries(np.arange(12.0).reshape(2, 6), np.zeros((2, SECONDS)), np.array([1, 2]), np.array([0.2, 0.7]))
    best = tries.best(5)
    np.testing.assert_array_equal(best.kind, [2, 1, 2, 1, 2])
    np.testing.assert_array_equal(best.score, [0.7, 0.2, 0.7, 0.2, 0.7])


def test_copies_lie_around_the_ideas() -> None:
    rng = np.random.default_rng(0)
    moment = moment_of(objects_of(np.array([[30.0, 0, 0, 4, 0]]), np.array([ObjectClass.CAR])), road=street())
    shifts, change = rng.normal(size=(1, 6, 6)), rng.normal(size=(1, 6, SECONDS))
    ideas = Ideas(shifts, change, np.full((1, 6), 1 / 6), np.full((1, 6, 5), 0.2))
    found = perturbed(ideas, moment, 200, 0.3, 0.5, rng)
    assert len(found) == 6 * 201
    first = found[1:201]
    np.testing.assert_allclose(np.std([s[-1] for s, _ in first]), 0.3, rtol=0.2)
    np.testing.assert_allclose(np.std([a for _, a in first], axis=0), 0.5, rtol=0.25)
    np.testing.assert_allclose(found[0][0], shifts[0, 0])


def test_training_never_drives_the_family_that_is_held_out() -> None:
    names = {training_case(1, number, 9.0).layout for number in range(40)}
    assert names == set(TRAINING_FAMILIES)
    assert "roundabout" not in names
    assert training_case(1, 3, 9.0).seed != training_case(2, 3, 9.0).seed
    assert training_case(1, 3, 9.0).duration == 9.0


@pytest.mark.slow
def test_a_drive_gives_samples_that_are_kept_and_not_made_again(tmp_path: Path) -> None:
    settings = ProposerTrainSettings(duration=8.0, every=1.0)
    samples = round_samples(tmp_path, range(1), None, settings)
    assert len(samples) == 5  # every second until 4 s: of what is later less than half is known
    np.testing.assert_allclose(samples.weight.sum(axis=1), 1.0, atol=1e-5)
    assert (samples.gain >= 0.0).all()
    file = tmp_path / "00000.npz"
    made = file.stat().st_mtime_ns
    again = round_samples(tmp_path, range(1), None, settings)
    assert file.stat().st_mtime_ns == made
    np.testing.assert_array_equal(again.change, samples.change)
    anew = drive_samples(0, None, settings)
    assert anew is not None
    np.testing.assert_array_equal(anew.shifts, samples.shifts)
    file.write_text("nothing")
    with pytest.raises(ConfigurationError, match="remove the file"):
        round_samples(tmp_path, range(1), None, settings)


def test_samples_of_other_settings_are_not_taken(tmp_path: Path) -> None:
    n, rng = 3, np.random.default_rng(0)
    samples = Samples(*(rng.normal(size=(n, 2)) for _ in range(13)))
    samples.save(tmp_path / "some.npz", "seed 1")
    assert Samples.load(tmp_path / "some.npz", "seed 2") is None
    found = Samples.load(tmp_path / "some.npz", "seed 1")
    assert found is not None
    np.testing.assert_array_equal(found.ego, samples.ego)
