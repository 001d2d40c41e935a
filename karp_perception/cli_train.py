"""`karp train`: a network from the world, from labelled data that the user has, or from recordings without labels."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from karp_perception.core import ConfigurationError

if TYPE_CHECKING:
    from karp_perception.detection.model.config import ModelConfig
    from karp_perception.detection.training.samples import Samples
    from karp_perception.detection.training.settings import TrainSettings

WORLD = "world"
_PSEUDO = "pseudo:"
_PREDICTOR, _MANOEUVRES, _PROPOSER, _REFINER = "predictor", "manoeuvres", "proposer", "refiner"
_FITTED_DRIVES = 40  # to which manoeuvres are fitted, unless a number is set: a table needs less than a network
_SMOOTHING = 0.98  # of the loss that is shown


def train(
    config: Annotated[
        str,
        typer.Option(
            help="nano, tiny, or a JSON file with the fields of ModelConfig; predictor: of paths of tracked objects; "
            "manoeuvres: the table beside it; proposer: of what the planner could do; refiner: of how boxes fit the "
            "lidar's points."
        ),
    ] = "nano",
    out: Annotated[Optional[Path], typer.Option(help="Folder; runs/train/CONFIG by default.")] = None,  # noqa: UP045
    data: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            help="world; a folder with KITTI object, nuScenes or labelled frames; a rosbag with labels; pseudo:BAG for "
            "one without. =WEIGHT behind it says how often it is drawn. May be repeated; world by default."
        ),
    ] = None,
    init: Annotated[Optional[str], typer.Option(help="Shipped model or weight file to start from.")] = None,  # noqa: UP045
    freeze: Annotated[list[str] | None, typer.Option(help="Part of the network that stays; may be repeated.")] = None,
    settings: Annotated[Optional[Path], typer.Option(help="YAML file with the settings of a training.")] = None,  # noqa: UP045
    steps: Annotated[Optional[int], typer.Option(min=1, help="Of the optimizer.")] = None,  # noqa: UP045
    batch_size: Annotated[Optional[int], typer.Option(min=1, help="Frames a step and process.")] = None,  # noqa: UP045
    learning_rate: Annotated[Optional[float], typer.Option(min=0.0, help="The highest.")] = None,  # noqa: UP045
    seed: Annotated[Optional[int], typer.Option(min=0, help="Of everything.")] = None,  # noqa: UP045
    workers: Annotated[Optional[int], typer.Option(min=0, help="Processes that make batches.")] = None,  # noqa: UP045
    threads: Annotated[int, typer.Option(min=0, help="Of the trainer on a CPU; 0: one for each core.")] = 0,
) -> None:
    """Train a network; run again with the same options it goes on where it stopped. `torchrun` it for several GPUs.

    Writes checkpoint.pt, losses.jsonl, events for TensorBoard, and CONFIG.safetensors, which --model takes.
    """
    # Threads that spin while they wait take the cores from the processes that make batches.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    import torch

    from karp_perception.detection.model.weights import find_model
    from karp_perception.detection.training.settings import TrainSettings
    from karp_perception.detection.training.trainer import Progress
    from karp_perception.detection.training.trainer import train as run

    if threads:
        torch.set_num_threads(threads)
    if config in (_PREDICTOR, _MANOEUVRES, _PROPOSER, _REFINER):
        given = {"steps": steps, "batch_size": batch_size, "learning_rate": learning_rate, "seed": seed}
        rest = {"--data": data, "--init": init, "--freeze": freeze, "--workers": workers}
        unused = [name for name, value in rest.items() if value is not None]
        if unused:
            raise ConfigurationError(f"--config {config}: it learns from the world, without {', '.join(unused)}")
        learn = {_PROPOSER: _train_proposer, _REFINER: _train_refiner}.get(config, _train_prediction)
        learn(config, out or Path("runs") / "train" / config, settings, given)
        return
    chosen = TrainSettings() if settings is None else TrainSettings.from_yaml(settings)
    given = {"steps": steps, "batch_size": batch_size, "learning_rate": learning_rate, "seed": seed, "workers": workers}
    chosen = chosen.with_parameters({name: value for name, value in given.items() if value is not None})
    network = model_config(config)
    out = out or Path("runs") / "train" / network.name
    samples = samples_of(data or [WORLD], chosen)
    start = None if init is None else find_model(init)
    if start is not None and not start.trained:
        raise ConfigurationError(f"--init {init}: there are no trained weights of that name")
    quiet = int(os.environ.get("RANK", "0")) != 0
    with _TrainingBar(quiet) as bar:

        def tell(progress: Progress) -> None:
            bar.update(progress.step, progress.steps, progress.loss)

        weights = run(network, samples, out, chosen, init=start, freeze=freeze or (), progress=tell)
    if not quiet:
        print(f"written: {weights}; `karp evaluate world --model {weights}` says how good it is")


def _train_proposer(config: str, out: Path, settings: Path | None, given: dict[str, Any]) -> None:
    """A proposer, from drives of the planner through the world."""
    from karp_perception.core.blas import use_one_blas_thread
    from karp_perception.planning.learned.training.settings import ProposerTrainSettings
    from karp_perception.planning.learned.training.trainer import train as run

    use_one_blas_thread()
    chosen = ProposerTrainSettings() if settings is None else ProposerTrainSettings.from_yaml(settings)
    chosen = chosen.with_parameters({name: value for name, value in given.items() if value is not None})
    with _TrainingBar(False) as bar:
        weights = run(out, chosen, progress=lambda p: bar.update(p.step, p.steps, p.loss), making=bar.making)
    print(f"written: {weights}; as planner.proposals.learned in a file for `karp drive --config` it drives")


def _train_refiner(config: str, out: Path, settings: Path | None, given: dict[str, Any]) -> None:
    """A refiner, from what the detector says in the world."""
    from karp_perception.detection.refinement.training.settings import RefinerTrainSettings
    from karp_perception.detection.refinement.training.trainer import train as run

    chosen = RefinerTrainSettings() if settings is None else RefinerTrainSettings.from_yaml(settings)
    chosen = chosen.with_parameters({name: value for name, value in given.items() if value is not None})
    with _TrainingBar(False) as bar:
        weights = run(out, chosen, progress=lambda p: bar.update(p.step, p.steps, p.loss), making=bar.making)
    print(f"written: {weights}; as detector.refiner in a parameter file it is used")


def _train_prediction(config: str, out: Path, settings: Path | None, given: dict[str, Any]) -> None:
    """A predictor, or the table of manoeuvres; both learn from drives through the world."""
    from karp_perception.prediction.training.manoeuvre_fit import fit_to_world, write_manoeuvres
    from karp_perception.prediction.training.settings import PredictorTrainSettings
    from karp_perception.prediction.training.trainer import train as run

    usual = PredictorTrainSettings(drives=_FITTED_DRIVES) if config == _MANOEUVRES else PredictorTrainSettings()
    chosen = usual if settings is None else PredictorTrainSettings.from_yaml(settings)
    chosen = chosen.with_parameters({name: value for name, value in given.items() if value is not None})
    with _TrainingBar(False) as bar:
        if config == _MANOEUVRES:
            table = fit_to_world(chosen.drives, chosen.seed, chosen.duration, bar.making)
        else:
            weights = run(out, chosen, progress=lambda p: bar.update(p.step, p.steps, p.loss), making=bar.making)
    if config == _MANOEUVRES:
        out.mkdir(parents=True, exist_ok=True)
        weights = out / "manoeuvres.yaml"
        drives = f"{chosen.drives} drives and their mirror images, seed {chosen.seed}"
        origin = f"Fitted by `karp train --config manoeuvres` to {drives}."
        write_manoeuvres(table, weights, origin)
    print(f"written: {weights}; `karp evaluate prediction` says how good what is shipped is")


def model_config(name: str) -> ModelConfig:
    """The configuration of a shipped name or a JSON file. Raises ConfigurationError for anything else."""
    from karp_perception.detection.model.config import MODELS, ModelConfig

    if name in MODELS:
        return MODELS[name]
    file = Path(name)
    if not file.is_file():
        raise ConfigurationError(
            f"--config {name}: expected {', '.join(MODELS)} or a JSON file, and there is no such file"
        )
    return ModelConfig.from_json(file.read_text(), str(file))


def samples_of(data: list[str], settings: TrainSettings) -> Samples:
    """What `--data` names, drawn as often as it says. Raises ConfigurationError for what is no data."""
    from karp_perception.detection.training.samples import MixedSamples

    named = [entry.rpartition("=") if "=" in entry else (entry, "", "1") for entry in data]
    weights = []
    for source, _, weight in named:
        try:
            weights.append(float(weight))
        except ValueError:
            raise ConfigurationError(f"--data {source}={weight}: expected a number as weight") from None
        if not weights[-1] > 0:
            raise ConfigurationError(f"--data {source}={weight}: expected a weight above 0")
    sources = [_samples(source, settings) for source, _, _ in named]
    return sources[0] if len(sources) == 1 else MixedSamples(sources, weights, settings.seed)


def _samples(source: str, settings: TrainSettings) -> Samples:
    from karp_perception.detection.training.samples import DatasetSamples, WorldSamples

    if source == WORLD:
        from karp_perception.detection.training.world_frames import WorldDrives

        return WorldSamples(WorldDrives(settings.seed), settings.echo, settings.pool)
    if source.startswith(_PSEUDO):
        from karp_perception.pseudo_labels import PseudoLabels

        return DatasetSamples(PseudoLabels(source.removeprefix(_PSEUDO)), settings.seed)
    from karp_perception.sensing.datasets import open_dataset

    return DatasetSamples(open_dataset(source), settings.seed)


class _TrainingBar:
    """Steps done, steps a second, time left, and the loss."""

    def __init__(self, quiet: bool) -> None:
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        from karp_perception.cli_progress import console

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        left = TimeRemainingColumn()
        self._bar: Any = Progress(*columns, TextColumn("left"), left, console=console(), disable=quiet)
        self._task: Any = None
        self._loss: float | None = None
        self._told = 0.0

    def __enter__(self) -> _TrainingBar:
        self._bar.start()
        self._task = self._bar.add_task("making the first frames", total=None)
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def making(self, done: int, count: int) -> None:
        """So many drives are made, of so many."""
        self._bar.update(self._task, completed=done, total=count, description="making samples")

    def update(self, step: int, steps: int, loss: float) -> None:
        """After a step."""
        first = self._loss is None
        self._loss = loss if self._loss is None else _SMOOTHING * self._loss + (1 - _SMOOTHING) * loss
        if first:
            # Time left is reckoned from the first step of this run on, not from step 0.
            self._bar.reset(self._task, total=steps, completed=step)
        if time.monotonic() - self._told > 0.5:
            self._told = time.monotonic()
            self._bar.update(self._task, completed=step, total=steps, description=f"loss {self._loss:.2f}")
