"""`karp evaluate`: how good it is, measured."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from karp_perception import cli_track
from karp_perception.cli_options import Backend, Config, Model, Refiner, settings_of, sharing_options
from karp_perception.cli_progress import ProgressBar

if TYPE_CHECKING:
    from karp_perception.evaluation.detection_run import Source

app = typer.Typer(help="How good it is, measured.", no_args_is_help=True)
app.command("tracking")(cli_track.evaluate)

MaxFrames = Annotated[Optional[int], typer.Option(min=1, help="Take the first so many frames.")]  # noqa: UP045


@dataclass(frozen=True)
class DetectorOptions:
    """Options of every evaluation of a detector, wherever the frames come from."""

    model: Model = None
    refiner: Refiner = None
    backend: Backend = None
    config: Config = None
    robustness: Annotated[
        bool, typer.Option("--robustness", help="Run on every corruption at three strengths, too.")
    ] = False
    robustness_frames: Annotated[int, typer.Option(min=1, help="First frames that are corrupted.")] = 200
    subsets: Annotated[bool, typer.Option("--subsets", help="Run on every subset of the sensors, too.")] = False
    json_file: Annotated[Optional[Path], typer.Option("--json", help="Write the figures into this file.")] = None  # noqa: UP045
    out: Annotated[Optional[Path], typer.Option(help="Folder for figures and pictures of them.")] = None  # noqa: UP045


@app.command()
@sharing_options
def world(
    seed: Annotated[int, typer.Option(min=0, help="Of the held-out frames; training never sees them.")] = 0,
    frames: Annotated[int, typer.Option(min=1, help="Frames, evenly of all families.")] = 500,
    families: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--family", "--families", help="Kind of place; may be repeated. All of them by default."),
    ] = None,
    rig: Annotated[str, typer.Option(help="Set of sensors, such as nano, kitti, nuscenes, surround.")] = "nano",
    workers: Annotated[Optional[int], typer.Option(min=1, help="Processes that make frames.")] = None,  # noqa: UP045
    frames_dir: Annotated[Optional[Path], typer.Option(help="Keep frames here, and take those kept.")] = None,  # noqa: UP045
    calibrate: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            metavar="FILE",
            help="Write the weights with variances, and with --refiner none scores, put right by these frames.",
        ),
    ] = None,
    options: DetectorOptions = DetectorOptions(),
) -> None:
    """mAP, NDS and more on held-out places of the embedded world, one family of them never trained on."""
    from karp_perception.evaluation.detection_run import world_source
    from karp_perception.world.dataset import families_of
    from karp_perception.world.rig import make_rig
    from karp_perception.world.world_frames import HELD_OUT_FAMILY

    named = [part for name in families or () for part in name.split(",")]
    cameras = len(make_rig(rig).cameras)
    source = world_source(seed, frames, families_of(named), rig, frames_dir, workers)
    _evaluate(source, options, cameras, held_out=HELD_OUT_FAMILY, calibrated=calibrate)


@app.command()
@sharing_options
def kitti(
    folder: Annotated[Path, typer.Argument(help="KITTI object data: training/{image_2,velodyne,calib,label_2}.")],
    max_frames: MaxFrames = None,
    options: DetectorOptions = DetectorOptions(),
) -> None:
    """A folder of the KITTI object benchmark: mAP and NDS, and AP40 in 3D and bird's eye."""
    from karp_perception.evaluation.detection_run import dataset_source

    _evaluate(dataset_source(folder, "kitti", max_frames), options, cameras=1, kitti=folder)


@app.command()
@sharing_options
def nuscenes(
    folder: Annotated[Path, typer.Argument(help="nuScenes data: samples/ and a folder of tables, such as v1.0-mini.")],
    max_frames: MaxFrames = None,
    options: DetectorOptions = DetectorOptions(),
) -> None:
    """A folder of nuScenes: mAP and NDS over all ten classes, as its detection benchmark counts."""
    from karp_perception.evaluation.detection_run import dataset_source

    _evaluate(dataset_source(folder, "nuscenes", max_frames), options, every_class=True)


@app.command()
@sharing_options
def bag(
    recording: Annotated[Path, typer.Argument(metavar="BAG", help="rosbag2 directory or file, with labels.")],
    max_frames: MaxFrames = None,
    options: DetectorOptions = DetectorOptions(),
) -> None:
    """A recording with labels among its topics."""
    from karp_perception.evaluation.detection_run import dataset_source

    _evaluate(dataset_source(recording, "bag", max_frames), options)


@app.command()
@sharing_options
def frames(
    folders: Annotated[list[Path], typer.Argument(metavar="FRAME_DIR...", help="Folders with frame.json, or of such.")],
    options: DetectorOptions = DetectorOptions(),
) -> None:
    """Labelled frames in folders: AP at 2 m of vehicles and of people, precision and recall, each frame and all."""
    from karp_perception.evaluation.detection_run import folder_source

    _evaluate(folder_source(folders), options)


@app.command()
def realism(
    real: Annotated[list[Path], typer.Argument(metavar="FRAME_DIR...", help="Folders of recorded, labelled frames.")],
    families: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--family", help="Kind of place to compare with; may be repeated. All of them by default."),
    ] = None,
    frames: Annotated[int, typer.Option(min=1, help="Simulated frames for each sensor.")] = 40,
    seed: Annotated[int, typer.Option(min=0, help="Of the first of them.")] = 0,
    lidar: Annotated[Optional[str], typer.Option(help="Sensor of the recordings; else told by each frame.")] = None,  # noqa: UP045
    json_file: Annotated[Optional[Path], typer.Option("--json", help="Write the rows into this file.")] = None,  # noqa: UP045
) -> None:
    """The world's lidar beside recorded frames: points by object, ring and range, ground, heights, intensity."""
    from rich.console import Console

    from karp_perception.evaluation.realism import run, table
    from karp_perception.world.dataset import families_of

    found = run(real, families_of(families), frames, seed, lidar, json_file)
    for name, rows in found.items():
        Console().print(table(name, rows))


@app.command()
def prediction(
    seed: Annotated[int, typer.Option(min=0, help="Of the held-out drives; training never sees them.")] = 0,
    drives: Annotated[int, typer.Option(min=1, help="Drives of 15 s, of families drawn evenly.")] = 40,
    families: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--family", help="Kind of place; may be repeated. All of them by default."),
    ] = None,
    model: Annotated[str, typer.Option(help="Shipped predictor, a file, or none: manoeuvres alone.")] = "predictor",
    json_file: Annotated[Optional[Path], typer.Option("--json", help="Write the figures into this file.")] = None,  # noqa: UP045
) -> None:
    """Predicted paths against what happened in held-out drives: minADE, minFDE, misses, beside going straight on."""
    from rich.console import Console

    from karp_perception.evaluation.prediction_run import evaluate_prediction, prediction_tables
    from karp_perception.world.dataset import families_of

    with ProgressBar("driving") as progress:
        content = evaluate_prediction(seed, drives, families_of(families), model, json_file, progress)
    for table in prediction_tables(content):
        Console().print(table)


def _evaluate(source: Source, options: DetectorOptions, cameras: int = 0, **also: Any) -> None:
    """Run, and print the tables; `also` goes to EvaluationOptions."""
    from rich.console import Console

    from karp_perception.evaluation.detection import open_detector
    from karp_perception.evaluation.detection_run import EvaluationOptions, evaluate
    from karp_perception.evaluation.detection_tables import report_tables

    settings = settings_of(options.config, options.model, options.backend, refiner=options.refiner).detector
    asked = EvaluationOptions(
        settings.score_threshold,
        subsets=options.subsets,
        robustness=options.robustness,
        robustness_frames=options.robustness_frames,
        json=options.json_file,
        out=options.out,
        **also,
    )
    detector = open_detector(settings, cameras)
    with ProgressBar("evaluating") as progress:
        content = evaluate(source, detector, asked, progress)
    for table in report_tables(content):
        Console().print(table)
    if not any(content["truths"].values()):
        print("no label counts in these frames: mAP and NDS are 0 whatever was detected, and say nothing")
    if not detector.trained:
        print("the network is untrained: these figures say nothing but that everything runs")
