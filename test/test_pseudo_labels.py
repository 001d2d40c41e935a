"""Labels that a detector makes: what becomes a label, what becomes a place, and how far each is believed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_world import CAR, TinyWorld

from karp_perception.core import BagError, Boxes, ConfigurationError, SensorFrame
from karp_perception.pipeline import PipelineSettings
from karp_perception.pseudo_labels import (
    PseudoLabels,
    PseudoLabelSettings,
    pseudo_labelled,
    write_pseudo_labels,
)
from karp_perception.sensing.datasets import open_dataset
from karp_perception.world.recording import record_drive

SINGLE = PseudoLabelSettings(track=False)


class Says:
    """A detector that says what it is told to, frame after frame."""

    def __init__(self, *told: Sequence[tuple[float, float, float, int]], trained: bool = True) -> None:
        self.told, self.trained, self.frames = told, trained, 0
        self.info: dict[str, Any] = {"model": "stand-in", "trained": trained, "backend": "none"}

    def detect(self, frame: SensorFrame, stopwatch: object = None) -> Boxes:
        rows = np.reshape(self.told[min(self.frames, len(self.told) - 1)], (-1, 4))
        self.frames += 1
        n = len(rows)
        center = np.column_stack([rows[:, :2], np.full(n, 0.75)])
        size = np.tile([4.0, 1.8, 1.5], (n, 1))
        return Boxes(center, size, np.zeros(n), np.zeros((n, 2)), rows[:, 3].astype(int), rows[:, 2])

    def warm_up(self) -> None:
        """Nothing to do."""


class SeesTheCar(Says):
    """One that finds the tiny world's car, with a score, and a doubtful thing beside the road."""

    def __init__(self, score: float) -> None:
        super().__init__([])
        self.score = score

    def detect(self, frame: SensorFrame, stopwatch: object = None) -> Boxes:
        x = CAR[0] - frame.ego.T_odom_base[0, 3]
        self.told, self.frames = ([(x, 0.0, self.score, 0), (20.0, 9.0, 0.2, 5)],), 0
        return super().detect(frame)


def frames_of(ticks: int) -> list[SensorFrame]:
    world, frames = TinyWorld(), []
    for _ in range(ticks):
        frames.append(world.sensors())
        world.tick()
    return frames


def test_scores_decide_what_is_a_label_a_place_or_nothing() -> None:
    said = [(10.0, 0.0, 0.9, 0), (20.0, 3.0, 0.5, 5), (30.0, -3.0, 0.3, 0), (40.0, 0.0, 0.1, 0), (15.0, 5.0, 0.9, -1)]
    (frame,) = pseudo_labelled(frames_of(1), SINGLE, detector=Says(said))
    np.testing.assert_allclose(frame.labels.center[:, 0], [10.0, 20.0])
    assert frame.labels.score.tolist() == [1.0, 1.0]
    assert frame.weight.tolist() == [0.9, 0.5]
    np.testing.assert_allclose(frame.unlabelled, [[30.0, -3.0, np.hypot(2.0, 0.9) + 0.5]])
    assert (frame.object_id, frame.visibility, frame.sector) == (None, None, False)
    expected = frame.labels.contains(frame.sensors.lidar.points.astype(float)).sum(axis=1)
    assert frame.points_inside.tolist() == expected.tolist()


def test_thresholds_are_settings() -> None:
    said = [(10.0, 0.0, 0.9, 0), (20.0, 3.0, 0.5, 5), (30.0, -3.0, 0.3, 0)]
    bold = PseudoLabelSettings(keep=0.3, doubt=0.3, track=False)
    (frame,) = pseudo_labelled(frames_of(1), bold, detector=Says(said))
    assert (len(frame.labels), len(frame.unlabelled)) == (3, 0)
    with pytest.raises(ConfigurationError, match=r"doubt: expected at most keep \(0\.2\), got 0\.4"):
        PseudoLabelSettings(keep=0.2, doubt=0.4)


def test_what_is_seen_again_and_again_is_believed_more_than_its_scores() -> None:
    frames = list(pseudo_labelled(frames_of(12), detector=SeesTheCar(0.6)))
    first, last = frames[0], frames[-1]
    assert len(first.labels) == 0, "seen once: a place, no label"
    assert (np.hypot(first.unlabelled[:, 0] - CAR[0], first.unlabelled[:, 1]) < first.unlabelled[:, 2]).any()
    assert last.weight[0] > 0.9
    assert len(last.labels) == 1
    x = CAR[0] - last.sensors.ego.T_odom_base[0, 3]
    np.testing.assert_allclose(last.labels.center[0, :2], [x, 0.0], atol=0.3)
    np.testing.assert_allclose(last.labels.velocity[0], [0.0, 0.0], atol=0.5)
    known = [frame.object_id[0] for frame in frames if len(frame.labels)]
    assert len(known) >= 7
    assert len(set(known)) == 1
    assert (np.hypot(last.unlabelled[:, 0] - 20, last.unlabelled[:, 1] - 9) < 0.1).any(), "never sure of that one"


def test_a_passing_phantom_is_no_label() -> None:
    phantom = [(10.0, 8.0, 0.95, 0)]
    frames = list(pseudo_labelled(frames_of(8), detector=Says([], [], phantom, [])))
    assert [len(frame.labels) for frame in frames] == [0] * 8
    assert len(frames[2].unlabelled) >= 1
    assert len(frames[7].unlabelled) == 0
    young = PseudoLabelSettings(age=0.0)
    believed = list(pseudo_labelled(frames_of(3), young, detector=Says([], [], phantom)))
    assert len(believed[2].labels) == 1, "unless it is believed at once"


def test_without_a_lidar_labels_end_with_the_view() -> None:
    blind = replace(frames_of(1)[0], lidar=None)
    (frame,) = pseudo_labelled([blind], SINGLE, detector=Says([(10.0, 0.0, 0.9, 0)]))
    assert frame.sector
    assert frame.points_inside.tolist() == [0]


def test_the_command_line_says_what_it_lacks(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from karp_perception.cli import app

    bag = tmp_path / "drive.mcap"
    record_drive(TinyWorld(), bag, 0.3)
    told = CliRunner().invoke(app, ["label", str(bag), "--out", str(tmp_path / "set"), "--model", "none"])
    assert isinstance(told.exception, ConfigurationError)
    assert "expected trained weights" in str(told.exception)
    assert not (tmp_path / "set").exists(), "nothing is left behind"


def test_a_recording_of_which_nothing_can_be_used_is_told_of(tmp_path: Path) -> None:
    bag = tmp_path / "drive.mcap"
    record_drive(TinyWorld(), bag, 0.3)
    nowhere = PipelineSettings().with_parameters({"sensing.base_frame": "nowhere"})
    with pytest.raises(BagError, match=r"no frame could be used: `karp doctor \S+drive\.mcap` says why"):
        write_pseudo_labels(bag, tmp_path / "set", pipeline=nowhere, detector=SeesTheCar(0.8))
    with pytest.raises(BagError, match="no frame could be used"):
        PseudoLabels(bag, pipeline=nowhere, detector=SeesTheCar(0.8))


def test_a_recording_without_one_sure_thing_is_told_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    bag = tmp_path / "drive.mcap"
    record_drive(TinyWorld(), bag, 0.3)
    assert len(PseudoLabels(bag, detector=Says([]))) == 3
    assert "drive.mcap: not one label in 3 frames" in caplog.text


def test_an_untrained_network_makes_no_labels() -> None:
    with pytest.raises(ConfigurationError, match="stand-in: expected trained weights"):
        list(pseudo_labelled(frames_of(1), SINGLE, detector=Says([(10.0, 0.0, 0.9, 0)], trained=False)))


def test_a_recording_becomes_a_data_set_in_memory_and_on_disk(tmp_path: Path) -> None:
    bag = tmp_path / "drive.mcap"
    record_drive(TinyWorld(), bag, 0.8)
    done: list[float] = []
    labels = PseudoLabels(bag, detector=SeesTheCar(0.8), progress=done.append)
    written = write_pseudo_labels(bag, tmp_path / "set", detector=SeesTheCar(0.8))
    assert (labels.format, len(labels), done[-1]) == ("pseudo", 8, 1.0)
    stored = open_dataset(tmp_path / "set")
    assert (stored.format, len(stored), len(written)) == ("frames", 8, 8)
    for i in (7, 3, 0):
        made, read = labels[i], stored[i]
        assert made.sensors.stamp_ns == read.sensors.stamp_ns
        np.testing.assert_array_equal(made.sensors.lidar.points, read.sensors.lidar.points)
        np.testing.assert_allclose(made.labels.center, read.labels.center, atol=1e-4)
        np.testing.assert_allclose(made.unlabelled, read.unlabelled, atol=1e-4)
        if len(made.labels):
            np.testing.assert_allclose(made.weight, read.weight, atol=1e-4)
            assert made.object_id.tolist() == read.object_id.tolist()
    assert len(labels[7].labels) == 1
    with pytest.raises(ConfigurationError, match="expected an empty directory"):
        write_pseudo_labels(bag, tmp_path / "set", detector=SeesTheCar(0.8))
    assert not list((tmp_path / "set").rglob(".*"))
    labels.close()
