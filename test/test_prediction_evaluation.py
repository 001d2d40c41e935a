"""minADE, minFDE, misses and brier-minFDE against loops; drives, moments and what a tracker would tell of them."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from karp_perception.cli import app
from karp_perception.core import InvalidInput, ObjectClass
from karp_perception.evaluation.prediction import MISS_M, PredictionScores, prediction_scores
from karp_perception.evaluation.prediction_run import (
    CONSTANT_VELOCITY,
    MANOEUVRES,
    evaluate_prediction,
    prediction_tables,
)
from karp_perception.prediction.history import EGO_ID
from karp_perception.prediction.lanes import Lanes
from karp_perception.prediction.manoeuvres import COUNT, load_manoeuvres, row_names
from karp_perception.prediction.settings import PredictionSettings
from karp_perception.prediction.training.manoeuvre_fit import fit, write_manoeuvres
from karp_perception.prediction.training.moments import moments
from karp_perception.prediction.training.perceived import PerceptionErrors, perceived
from karp_perception.prediction.training.samples import samples_of
from karp_perception.prediction.training.settings import PredictorTrainSettings
from karp_perception.world.traffic_drives import TrafficDrive, TrafficDrives, reversed_sides


def by_loops(
    paths: np.ndarray, probability: np.ndarray, truth: np.ndarray, points: int, most: int
) -> list[list[float]]:
    rows = []
    for path, p, true in zip(paths, probability, truth, strict=True):
        order = sorted(range(len(p)), key=lambda k: (-p[k], k))[:most]
        ade, fde = [], []
        for k in order:
            away = [float(np.hypot(*(path[k, t, :2] - true[t]))) for t in range(points)]
            ade.append(sum(away) / points)
            fde.append(away[-1])
        best = min(range(len(order)), key=lambda j: fde[j])
        share = p[order[best]] / sum(p[k] for k in order)
        rows.append([min(ade), fde[best], float(fde[best] > MISS_M), fde[best] + (1 - share) ** 2])
    return rows


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 6), st.integers(1, 8), st.integers(1, 7))
def test_scores_are_those_of_loops(seed: int, k: int, points: int, most: int) -> None:
    rng = np.random.default_rng(seed)
    paths, truth = rng.normal(size=(5, k, 8, 3)) * 2, rng.normal(size=(5, 8, 2)) * 2
    probability = rng.dirichlet(np.ones(k), 5)
    found = prediction_scores(paths, probability, truth, points, most)
    expected = np.array(by_loops(paths, probability, truth, points, most))
    columns = (found.min_ade, found.min_fde, found.miss_rate, found.brier_min_fde)
    np.testing.assert_allclose(np.stack(columns, axis=1), expected, atol=1e-9)


def test_the_truth_itself_has_no_error() -> None:
    truth = np.random.default_rng(0).normal(size=(4, 9, 2))
    found = prediction_scores(truth[:, None], np.ones((4, 1)), truth, 9, 6)
    for values in (found.min_ade, found.min_fde, found.miss_rate, found.brier_min_fde):
        np.testing.assert_array_equal(values, 0.0)


def test_more_paths_never_make_it_worse() -> None:
    rng = np.random.default_rng(1)
    paths, truth, p = rng.normal(size=(50, 6, 5, 2)), rng.normal(size=(50, 5, 2)), rng.dirichlet(np.ones(6), 50)
    found = [prediction_scores(paths, p, truth, 5, most) for most in range(1, 7)]
    for fewer, more in pairwise(found):
        assert (more.min_fde <= fewer.min_fde).all()
        assert (more.min_ade <= fewer.min_ade).all()


def test_scores_of_nobody() -> None:
    found = prediction_scores(np.zeros((0, 6, 50, 3)), np.zeros((0, 6)), np.zeros((0, 50, 2)), 30, 6)
    assert len(found) == 0
    assert found.means()["min_fde"] is None
    assert len(PredictionScores.concatenate([])) == 0


@pytest.mark.parametrize(
    ("shape", "points"), [((2, 3, 5, 2), 6), ((2, 0, 5, 2), 3), ((2, 3, 5, 2), 0), ((3, 3, 5, 2), 3)]
)
def test_shapes_that_do_not_fit_are_refused(shape: tuple[int, ...], points: int) -> None:
    with pytest.raises(InvalidInput):
        prediction_scores(np.zeros(shape), np.ones((2, shape[1])), np.zeros((2, 5, 2)), points, 6)


def test_paths_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(InvalidInput):
        prediction_scores(np.full((1, 1, 3, 2), np.nan), np.ones((1, 1)), np.zeros((1, 3, 2)), 3, 1)


@pytest.fixture(scope="module")
def drive() -> TrafficDrive:
    return TrafficDrives(5, ("yard", "intersection"), 7.0).drive(1)


def test_a_drive_is_the_same_whatever_was_driven_before(drive: TrafficDrive) -> None:
    drives = TrafficDrives(5, ("yard", "intersection"), 7.0)
    drives.drive(0)
    again = drives.drive(1)
    np.testing.assert_array_equal(again.position, drive.position)
    np.testing.assert_array_equal(again.ego, drive.ego)
    assert again.family == drive.family


def test_velocities_are_those_of_the_positions(drive: TrafficDrive) -> None:
    both = drive.present[:-1] & drive.present[1:]
    moved = (drive.position[1:] - drive.position[:-1]) / drive.step
    mean = 0.5 * (drive.velocity[1:] + drive.velocity[:-1])
    error = np.hypot(*np.moveaxis(moved - mean, -1, 0))[both]
    assert np.percentile(error, 95) < 0.3
    assert np.hypot(*np.moveaxis(drive.velocity, -1, 0))[drive.present].max() > 1.0


def test_a_mirror_turns_left_into_right(drive: TrafficDrive) -> None:
    there_and_back = reversed_sides(reversed_sides(drive))
    np.testing.assert_array_equal(there_and_back.position, drive.position)
    mirrored = reversed_sides(drive)
    np.testing.assert_array_equal(mirrored.position[..., 1], -drive.position[..., 1])
    np.testing.assert_array_equal(mirrored.yaw, -drive.yaw)
    assert all((a[:, 1] == -b[:, 1]).all() for a, b in zip(mirrored.ways, drive.ways, strict=True))


def test_ways_follow_lanes_without_jumps(drive: TrafficDrive) -> None:
    assert drive.ways
    for way in drive.ways:
        assert np.hypot(*np.diff(way, axis=0).T).max() < 2.5


def test_errors_are_as_large_as_they_say(drive: TrafficDrive) -> None:
    errors = PerceptionErrors(late=0.0)
    told = [perceived(drive, errors, seed) for seed in range(6)]
    apart = np.concatenate([(t.position - drive.position).ravel() for t in told])
    assert apart.std() == pytest.approx(errors.position, rel=0.1)
    moves = (np.hypot(*np.moveaxis(drive.velocity, -1, 0)) > 0.2) & (drive.label != ObjectClass.PEDESTRIAN)
    faster = np.concatenate([(t.velocity - drive.velocity)[moves].ravel() for t in told])
    assert faster.std() == pytest.approx(errors.speed, rel=0.15)
    stands = (drive.velocity == 0).all(axis=2)
    assert (told[0].velocity[stands] == 0).all()


def test_without_errors_the_truth_is_told(drive: TrafficDrive) -> None:
    told = perceived(drive, replace(PerceptionErrors().scaled(0.0), late=0.0), 3)
    np.testing.assert_array_equal(told.position, drive.position)
    np.testing.assert_array_equal(told.velocity, drive.velocity)


def test_moments_tell_what_came_then(drive: TrafficDrive) -> None:
    found = list(moments(drive, drive, 5.0, 1.0))
    assert found
    for moment in found:
        assert moment.ids[0] == EGO_ID
        t = round(moment.time / drive.step)
        rows = moment.ids[1:] - 1
        np.testing.assert_array_equal(moment.state.position[1:], drive.position[t, rows])
        whole = np.flatnonzero(moment.there[1:, -1])
        np.testing.assert_array_equal(moment.future[1 + whole, 9], drive.position[t + 10, rows[whole]])
        assert not moment.there[0].any()
    late = found[-1]
    assert late.past.known[1:].mean() > 0.8


def test_samples_are_in_the_things_own_frame(drive: TrafficDrive) -> None:
    parts = samples_of(drive, 0, PredictorTrainSettings())
    assert parts
    for samples in parts:
        moving = (samples.speed > 2.0) & samples.there[:, 1]
        # A second on, what moves at 2 m/s or more is ahead of where it was.
        assert (samples.future[moving, 1, 0] > 0.3).mean() > 0.9
        assert len(samples.target) == len(samples.future)


def test_a_table_is_fitted_and_read_again(drive: TrafficDrive, tmp_path: Path) -> None:
    lanes = Lanes.of(drive.ways)
    examples = [(moment, known) for moment in moments(drive, drive, 5.0, 0.5) for known in (None, lanes)]
    table = fit(examples, PredictionSettings())
    assert table.shape == (len(row_names()), COUNT, 5)
    file = tmp_path / "manoeuvres.yaml"
    write_manoeuvres(table, file, "from a test")
    read = load_manoeuvres(file)
    np.testing.assert_allclose(read.acceleration, table[..., 0], atol=1e-3)
    np.testing.assert_allclose(read.probability, table[..., 4], atol=4e-3)


def test_the_command_measures_every_way_to_predict(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    arguments = ["evaluate", "prediction", "--drives", "1", "--family", "yard", "--model", "none", "--json", str(file)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "minFDE" in result.output
    content = json.loads(file.read_text())
    assert {row["method"] for row in content["rows"]} == {CONSTANT_VELOCITY, MANOEUVRES}
    assert {row["lanes"] for row in content["rows"]} == {"none", "route", "all"}
    assert set(content["gain"]) == {f"{MANOEUVRES}, lanes {k}, K {n}" for k in ("none", "route", "all") for n in (1, 6)}
    straight = next(r for r in content["rows"] if r["method"] == CONSTANT_VELOCITY and r["ahead_s"] == 3.0)
    assert straight["below_straight"] == pytest.approx(0.0)
    assert prediction_tables(content)


def test_no_drives_are_refused() -> None:
    from karp_perception.core import ConfigurationError

    with pytest.raises(ConfigurationError, match="expected"):
        evaluate_prediction(drives=0)
