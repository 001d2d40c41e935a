"""`karp train` from the command line: a training on labelled frames, and what it says of options that do not fit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from small_model import SMALL
from training_samples import made_up_frame
from typer.testing import CliRunner

from karp_perception.cli import app
from karp_perception.cli_train import model_config, samples_of
from karp_perception.core import ConfigurationError, KarpError
from karp_perception.detection.model.config import NANO
from karp_perception.detection.model.weights import find_model
from karp_perception.detection.training.samples import DatasetSamples, MixedSamples, WorldSamples
from karp_perception.detection.training.settings import TrainSettings
from karp_perception.sensing.frame_folder_writer import write_labelled_frame


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("frames")
    for number in range(4):
        (folder / f"{number:06d}").mkdir()
        write_labelled_frame(folder / f"{number:06d}", made_up_frame(number), "made up")
    return folder


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("config") / "small.json"
    file.write_text(SMALL.to_json())
    return file


def run(*arguments: object) -> tuple[int, str, Exception | None]:
    result = CliRunner().invoke(app, ["train", *map(str, arguments)])
    return result.exit_code, result.output, result.exception


def test_it_trains_on_frames_that_the_user_has_and_goes_on(frames: Path, small: Path, tmp_path: Path) -> None:
    options = (
        "--config",
        small,
        "--data",
        frames,
        "--out",
        tmp_path,
        "--batch-size",
        2,
        "--workers",
        0,
        "--threads",
        1,
    )
    code, output, error = run(*options, "--steps", 2)
    assert (code, error) == (0, None), output
    weights = tmp_path / "small.safetensors"
    assert f"written: {weights}" in output.replace("\n", "")
    first = find_model(str(weights))
    assert first.config == SMALL
    code, _, _ = run(*options, "--steps", 3)
    assert code == 0
    assert find_model(str(weights)).digest != first.digest
    tuned = tmp_path / "tuned"
    code, output, _ = run(
        *options[:4], "--out", tuned, *options[6:], "--init", weights, "--freeze", "image_encoder", "--steps", 1
    )
    assert code == 0, output


def test_data_is_drawn_as_often_as_the_options_say(frames: Path) -> None:
    settings = TrainSettings()
    assert isinstance(samples_of(["world"], settings), WorldSamples)
    assert isinstance(samples_of([str(frames)], settings), DatasetSamples)
    mixed = samples_of(["world=3", f"{frames}=1"], settings)
    assert isinstance(mixed, MixedSamples)
    assert list(mixed.weights) == [3.0, 1.0]


def test_configurations_by_name_and_by_file(small: Path) -> None:
    assert model_config("nano") == NANO
    assert model_config(str(small)) == SMALL


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--config", "huge"), "expected nano, tiny or a JSON file"),
        (("--data", "/nowhere/at/all"), "/nowhere/at/all"),
        (("--data", "world=often"), "expected a number as weight"),
        (("--data", "world=0"), "a weight above 0"),
        (("--init", "/nowhere.safetensors"), "no such file"),
        (("--learning-rate", "7"), "learning_rate"),
    ],
)
def test_what_does_not_fit_is_one_line(options: tuple[str, str], said: str, tmp_path: Path) -> None:
    code, _, error = run(*options, "--out", tmp_path)
    assert code != 0
    assert isinstance(error, KarpError)
    assert said in str(error)
    assert "\n" not in str(error)


def test_broken_configurations(tmp_path: Path) -> None:
    file = tmp_path / "broken.json"
    file.write_text(json.dumps({"wheels": 4}))
    with pytest.raises(ConfigurationError, match="wheels"):
        model_config(str(file))
