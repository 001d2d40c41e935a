"""`karp evaluate` as a user types it: tables, files, exit codes, one line for what is wrong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Generator
from pathlib import Path

import pytest
import typer
from dataset_folders import write_nuscenes
from small_model import small_weights
from typer.testing import CliRunner, Result
from world_drives import DRIVING_CAR, open_world, record

from karp_perception.cli import app, main
from karp_perception.core import KarpError
from karp_perception.evaluation import detection_run
from karp_perception.evaluation.evaluation_frame import EvaluationFrame
from karp_perception.evaluation.held_out_frames import HeldOutFrames
from karp_perception.world.frame_files import write_frame


@pytest.fixture(autouse=True)
def few_timed_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a stage takes is of no interest here."""
    monkeypatch.setattr(detection_run, "_TIMED_RUNS", 3)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two labelled frames of a world, in a folder."""
    root, world = tmp_path_factory.mktemp("frames"), open_world(DRIVING_CAR)
    for name in ("first", "second"):
        (root / name).mkdir()
        write_frame(root / name, world.sensors(), world.truth())
        world.tick()
    return root


def evaluate(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["evaluate", *map(str, arguments)])


def test_every_command_is_told_of() -> None:
    text = evaluate("--help").stdout
    for command in ("world", "kitti", "nuscenes", "bag", "frames", "realism"):
        assert command in text


def test_labelled_frames_get_tables_figures_and_pictures(frames: Path, weights: Path, tmp_path: Path) -> None:
    file, out = tmp_path / "figures.json", tmp_path / "out"
    run = evaluate(
        "frames", frames, "--model", weights, "--backend", "torch", "--json", file, "--out", out, "--subsets"
    )
    assert run.exit_code == 0, run.output
    assert "vehicles" in run.stdout
    assert "mAP" in run.stdout
    content = json.loads(file.read_text())
    assert content["frames"] == 2
    assert [row["frame"] for row in content["by_frame"]] == ["first", "second"]
    assert content["groups"]["vehicles"]["labels"] >= 1
    assert content["operating_point"]["threshold"] == 0.3
    assert {row["sensors"] for row in content["subsets"]} == {"all sensors", "lidar", "front"}
    assert content["model"]["model"] == "small"
    assert {"preprocess", "network", "decode", "total"} <= set(content["latency_ms"])
    assert (out / "precision_recall.png").exists()


def test_a_folder_of_nuscenes_is_scored_over_all_ten_classes(weights: Path, tmp_path: Path) -> None:
    write_nuscenes(tmp_path / "data", 2)
    file = tmp_path / "figures.json"
    run = evaluate("nuscenes", tmp_path / "data", "--model", weights, "--backend", "torch", "--json", file)
    assert run.exit_code == 0, run.output
    content = json.loads(file.read_text())
    assert content["frames"] == 2
    assert len(content["classes"]) == 10
    assert content["all_classes"] == {"mean_ap": content["mean_ap"], "nds": content["nds"]}


def made_here(plan: HeldOutFrames, workers: int | None = None) -> Generator[EvaluationFrame, None, None]:
    """The frames of a plan without a second process, whose imports would take longer than the rest of the test."""
    make = plan.maker()
    for drive in plan.drives():
        yield from make(drive)


def test_the_embedded_world_is_evaluated_and_the_held_out_family_told_apart(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(HeldOutFrames, "stream", made_here)
    file = tmp_path / "figures.json"
    command = ("world", "--frames", 2, "--seed", 1, "--families", "straight,roundabout", "--rig", "nano")
    run = evaluate(*command, "--model", weights, "--backend", "torch", "--json", file)
    assert run.exit_code == 0, run.output
    content = json.loads(file.read_text())
    assert content["source"] == {
        "kind": "world", "seed": 1, "frames": 2, "families": ["straight", "roundabout"], "rig": "nano"
    }  # fmt: skip
    assert set(content["kinds"]) == {"straight", "roundabout"}
    assert content["held_out_family"]["family"] == "roundabout"
    for key in ("mean_ap", "nds"):
        assert 0.0 <= content[key] <= 1.0
    assert content["truths"]["car"] > 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("frames", "{tmp}/missing"), "missing"),
        (("frames", "{tmp}"), "frame.json"),
        (("kitti", "{tmp}"), "label_2"),
        (("nuscenes", "{tmp}"), "v1.0"),
        (("bag", "{tmp}/missing.mcap"), "missing.mcap"),
        (("world", "--family", "moon"), "moon"),
        (("world", "--rig", "horse"), "horse"),
        (("frames", "{frames}", "--model", "medium"), "'medium'"),
        (("frames", "{frames}", "--model", "none"), "nothing to evaluate"),
        (("frames", "{frames}", "--model", "{frames}/first/frame.json"), "frame.json"),
        (("frames", "{frames}", "--config", "{tmp}/none.yaml"), "none.yaml"),
    ],
)
def test_what_is_wrong_is_said(arguments: tuple[str, ...], says: str, frames: Path, tmp_path: Path) -> None:
    run = evaluate(*(argument.format(tmp=tmp_path, frames=frames) for argument in arguments))
    assert run.exit_code != 0
    assert isinstance(run.exception, KarpError), run.exception
    assert says in str(run.exception)
    assert "\n" not in str(run.exception)


def test_a_recording_of_the_world_is_evaluated_against_the_truth_in_it(tmp_path: Path, weights: Path) -> None:
    bag, file = record(tmp_path / "bag", 0.3), tmp_path / "figures.json"
    run = evaluate("bag", bag, "--model", weights, "--backend", "torch", "--json", file, "--max-frames", 2)
    assert run.exit_code == 0, run.output
    content = json.loads(file.read_text())
    assert content["source"] == {"kind": "bag", "path": str(bag), "frames": 2}
    assert content["groups"]["vehicles"]["labels"] >= 2


def test_an_error_is_one_line_and_exit_code_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["karp", "evaluate", "frames", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert told.startswith("karp: ")
    assert len(told.strip().splitlines()) == 1


def test_every_evaluation_of_a_detector_has_the_same_options() -> None:
    shared = {"--model", "--backend", "--config", "--robustness", "--robustness-frames", "--subsets", "--json", "--out"}
    commands = typer.main.get_command(app).commands["evaluate"].commands  # type: ignore[attr-defined]
    for name in ("world", "kitti", "nuscenes", "bag", "frames"):
        named = {option for parameter in commands[name].params for option in parameter.opts}
        assert shared <= named, name
        assert "--options" not in named
    assert not {"--model", "--subsets"} & {o for parameter in commands["realism"].params for o in parameter.opts}


def test_without_a_label_that_counts_figures_are_said_to_mean_nothing(
    frames: Path, weights: Path, tmp_path: Path
) -> None:
    shutil.copytree(frames / "first", tmp_path / "bare")
    content = json.loads((tmp_path / "bare" / "frame.json").read_text())
    (tmp_path / "bare" / "frame.json").write_text(json.dumps({**content, "boxes": []}))
    command = ("--model", weights, "--backend", "torch")
    run = evaluate("frames", tmp_path / "bare", *command)
    assert run.exit_code == 0, run.output
    assert "no label counts in these frames" in run.stdout
    file = tmp_path / "figures.json"
    whole = evaluate("frames", frames / "first", *command, "--json", file)
    assert whole.exit_code == 0, whole.output
    assert "no label counts" not in whole.stdout
    assert json.loads(file.read_text())["frames"] == 1, "a folder may be a frame itself"


@pytest.mark.data
def test_recorded_frames_are_counted_as_they_are_labelled(recorded_data: Path, weights: Path, tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    run = evaluate("frames", recorded_data / "labelled", "--model", weights, "--backend", "torch", "--json", file)
    assert run.exit_code == 0, run.output
    content = json.loads(file.read_text())
    assert content["groups"]["vehicles"]["labels"] == 36
    assert set(content["kinds"]) == {"kitti", "nuscenes", "sustech"}
    assert sum(kind["groups"]["vehicles"]["labels"] for kind in content["kinds"].values()) == 36
