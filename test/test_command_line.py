"""`karp` as a user types it: exit codes, one clear line for what is wrong, the files it writes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import pytest
from world_drives import DRIVING_CAR, open_world, record

from karp_perception import __version__
from karp_perception.world.frame_files import write_frame


def karp(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "karp_perception.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Half a second of a drive."""
    return record(tmp_path_factory.mktemp("drive") / "bag", 0.5)


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A frame with a car ahead as a folder with frame.json."""
    folder, world = tmp_path_factory.mktemp("frame"), open_world(DRIVING_CAR)
    write_frame(folder, world.sensors(), world.truth())
    return folder


def test_version_and_help() -> None:
    assert karp("--version").stdout.strip() == __version__
    help_text = karp("--help").stdout
    for command in ("replay", "detect", "doctor", "demo"):
        assert command in help_text


def test_replay_prints_what_happened(bag: Path, tmp_path: Path) -> None:
    run = karp("replay", bag, "--out", tmp_path / "out", "--model", "none", "--no-video")
    assert run.returncode == 0, run.stderr
    assert "5 received, 5 used, dropped: none" in run.stdout
    assert "times real time" in run.stdout
    assert "model: none, backend: none" in run.stdout, "no network is not an untrained one"
    assert (tmp_path / "out" / "summary.json").exists()


def test_a_replay_in_which_nothing_could_be_used_fails(bag: Path, tmp_path: Path) -> None:
    run = karp("replay", bag, "--out", tmp_path / "out", "--model", "none", "--base-frame", "nowhere")
    assert run.returncode == 1
    assert "karp doctor" in run.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("replay", "{tmp}/missing", "--out", "{tmp}/o"), "missing"),
        (("replay", "{tmp}", "--out", "{tmp}/o", "--config", "{tmp}/none.yaml"), "none.yaml"),
        (("detect", "{tmp}", "--out", "{tmp}/o.json"), "frame.json"),
        (("label", "{tmp}/missing", "--out", "{tmp}/o"), "missing"),
    ],
)
def test_what_is_wrong_is_one_line_and_exit_code_2(arguments: tuple[str, ...], says: str, tmp_path: Path) -> None:
    run = karp(*(argument.format(tmp=tmp_path) for argument in arguments))
    assert run.returncode == 2
    assert says in run.stderr
    assert "Traceback" not in run.stderr


def test_a_place_that_cannot_be_written_to_is_named(bag: Path, labelled: Path, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    for arguments, named in (
        (("replay", bag, "--out", file, "--model", "none"), file),
        (("detect", labelled, "--out", file / "found.json", "--model", "none"), file),
        (("detect", labelled, "--out", tmp_path / "o.json", "--model", "none", "--picture", f"{file}.txt"), "file.txt"),
    ):
        run = karp(*arguments)
        assert (run.returncode, "Traceback" in run.stderr) == (2, False), run.stderr
        assert str(named) in run.stderr.replace("\n", "")


def test_a_model_that_does_not_exist_is_named(labelled: Path, tmp_path: Path) -> None:
    run = karp("detect", labelled, "--out", tmp_path / "found.json", "--model", "medium")
    assert run.returncode == 2
    assert "'medium'" in run.stderr
    assert "nano" in run.stderr


def test_doctor_is_content_with_a_good_recording_and_fails_a_bad_one(bag: Path, tmp_path: Path) -> None:
    good = karp("doctor", bag)
    assert good.returncode == 0, good.stdout
    bad = karp("doctor", bag, "--base-frame", "nowhere")
    assert bad.returncode == 1
    assert "nowhere" in bad.stdout
    assert karp("doctor", tmp_path / "missing").returncode == 1


def test_detect_writes_obstacles_and_how_well_they_fit(labelled: Path, tmp_path: Path) -> None:
    out, picture = tmp_path / "found.json", tmp_path / "picture.png"
    run = karp("detect", labelled, "--out", out, "--model", "none", "--picture", picture)
    assert run.returncode == 0, run.stderr
    content = json.loads(out.read_text())
    assert content["detections"] == []
    assert content["obstacles"]
    assert content["scores"]["vehicles"]["hits"] == 0
    assert content["scores"]["obstacles"]["covered"] == 1.0
    assert cv2.imread(str(picture)) is not None


@pytest.mark.parametrize("damage", ["json", "points", "image", "boxes"])
def test_a_damaged_frame_is_refused(damage: str, labelled: Path, tmp_path: Path) -> None:
    folder = tmp_path / "frame"
    shutil.copytree(labelled, folder)
    if damage == "json":
        (folder / "frame.json").write_text("{")
    if damage == "points":
        (folder / "points.bin").write_bytes(b"12345")
    if damage == "image":
        (folder / "front.jpg").write_bytes(b"no image")
    if damage == "boxes":
        (folder / "frame.json").write_text(json.dumps({"boxes": [{"label": "car"}]}))
    run = karp("detect", folder, "--out", tmp_path / "found.json", "--model", "none")
    assert run.returncode == 2
    assert "expected" in run.stderr
    assert "Traceback" not in run.stderr


@pytest.mark.data
def test_labelled_vehicles_on_the_road_are_covered_by_obstacles(recorded_data: Path, tmp_path: Path) -> None:
    labels = covered = 0
    for folder in sorted((recorded_data / "labelled").iterdir()):
        out = tmp_path / f"{folder.name}.json"
        run = karp("detect", folder, "--out", out, "--model", "none")
        assert run.returncode == 0, run.stderr
        score = json.loads(out.read_text())["scores"]["obstacles"]
        labels += score["labels"]
        covered += round(score["labels"] * (score["covered"] or 0))
    assert labels > 50
    assert covered / labels > 0.95
