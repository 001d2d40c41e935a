"""`karp`: the command line. Every command is a thin layer over a function that Python code can call as well."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn, Optional

import typer

from karp_perception import cli_bench, cli_compile, cli_drive, cli_evaluate, cli_export, cli_track, cli_train
from karp_perception.cli_options import Backend, Config, Model, config_files, settings_of
from karp_perception.cli_progress import ProgressBar, WorkBars, console
from karp_perception.core.long_work import listening

app = typer.Typer(
    help="Cameras and lidar to objects, a path and a decision.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.add_typer(cli_evaluate.app, name="evaluate")
app.command()(cli_bench.bench)
app.command("compile")(cli_compile.compile_)
app.command()(cli_export.export)
app.command()(cli_train.train)
app.command()(cli_track.track)
app.command()(cli_drive.drive)


@app.command()
def replay(
    bag: Annotated[Path, typer.Argument(help="rosbag2 directory, .mcap or .db3 file.")],
    out: Annotated[Path, typer.Option(help="Directory for what comes out; made where missing.")],
    model: Model = None,
    backend: Backend = None,
    config: Config = None,
    base_frame: Annotated[Optional[str], typer.Option(help="The vehicle's frame, if not base_link.")] = None,  # noqa: UP045
    max_frames: Annotated[Optional[int], typer.Option(min=1, help="Stop after so many frames.")] = None,  # noqa: UP045
    video: Annotated[bool, typer.Option(help="Write drive.mp4.")] = True,
    mcap: Annotated[bool, typer.Option(help="Write replay.mcap, for Foxglove.")] = True,
) -> None:
    """A recorded drive through the pipeline: frames.jsonl, summary.json, drive.mp4, replay.mcap."""
    from karp_perception.replay import ReplayOptions
    from karp_perception.replay import replay as run

    settings = settings_of(config, model, backend, base_frame)
    with ProgressBar("replaying") as progress:
        summary = run(bag, out, settings, ReplayOptions(video, mcap, max_frames), progress)
    _print_summary(summary)
    print(f"written to {out}: {', '.join(sorted(f.name for f in out.iterdir() if not f.name.startswith('.')))}")
    if summary["frames"]["used"] == 0:
        _fail(f"no frame of {bag} could be used: `karp doctor {bag}` says why")


@app.command()
def detect(
    frame: Annotated[Path, typer.Argument(metavar="FRAME_DIR", help="Folder with frame.json, images, points.bin.")],
    out: Annotated[Path, typer.Option(help="JSON file for detections, obstacles and scores.")],
    model: Model = None,
    backend: Backend = None,
    config: Config = None,
    picture: Annotated[Optional[Path], typer.Option(help="Draw what was found into this PNG or JPEG.")] = None,  # noqa: UP045
    explain: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Folder for pictures of where the attention of each detection lay (by PyTorch, in f32)."),
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="Most detections that are explained, best first.")] = 5,
) -> None:
    """One labelled frame: what is found in it and, where it has labels, how well."""
    from karp_perception.detect import detect as run

    content = run(frame, out, settings_of(config, model, backend), picture, explain, top)
    _print_scores(content)
    for row in content.get("explained", ()):
        shares = ", ".join(f"{sensor} {share:.0%}" for sensor, share in row["attention"].items())
        print(f"{row['picture']}: {row['label']} {row['score']:.2f}, attention: {shares}")
    if explain is not None and not content["explained"]:
        print("nothing was detected, so there is nothing to explain")


@app.command()
def label(
    bag: Annotated[Path, typer.Argument(help="rosbag2 directory, .mcap or .db3 file, without labels.")],
    out: Annotated[Path, typer.Option(help="Directory for the labelled frames; made where missing.")],
    keep: Annotated[float, typer.Option(min=0.0, max=1.0, help="Least confidence of a label.")] = 0.5,
    doubt: Annotated[float, typer.Option(min=0.0, max=1.0, help="Least score of what may be there.")] = 0.15,
    model: Model = None,
    backend: Backend = None,
    config: Config = None,
    base_frame: Annotated[Optional[str], typer.Option(help="The vehicle's frame, if not base_link.")] = None,  # noqa: UP045
) -> None:
    """Labels that the detector makes for a recording that has none, weighted by confidence, to train on."""
    from karp_perception.pseudo_labels import PseudoLabelSettings, write_pseudo_labels

    settings = settings_of(config, model, backend, base_frame)
    with ProgressBar("labelling") as progress:
        frames = write_pseudo_labels(bag, out, PseudoLabelSettings(keep=keep, doubt=doubt), settings, progress=progress)
    print(f"written to {out}: {len(frames)} labelled frames")


@app.command()
def doctor(
    bag: Annotated[Path, typer.Argument(help="rosbag2 directory, .mcap or .db3 file.")],
    base_frame: Annotated[str, typer.Option(help="The vehicle's frame.")] = "base_link",
) -> None:
    """What would go wrong with a recording, one line a fault, and what to do. Exit code 1 where something is wrong."""
    from karp_perception.doctor import diagnose_bag

    findings = diagnose_bag(bag, base_frame=base_frame)
    for finding in findings:
        print(finding)
    if not findings:
        print("nothing found that would go wrong")
    if any(finding.severity == "error" for finding in findings):
        raise typer.Exit(1)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Directory for what comes out.")] = Path("runs/demo"),
    seconds: Annotated[float, typer.Option(min=1.0, help="Length of the drive.")] = 20.0,
    config: Config = None,
) -> None:
    """A car drives through a street by the ROS 2 nodes, in closed loop: a table of what happened and a video."""
    from karp_perception.demo import demo as run

    with ProgressBar("demo") as progress:
        run(out, seconds, config_files(config), progress)


@app.command()
def world(
    out: Annotated[Path, typer.Option(help="Directory of the data set; what is there already is kept.")],
    frames: Annotated[int, typer.Option(min=1, help="Frames of the whole data set.")] = 100,
    seed: Annotated[int, typer.Option(min=0, help="Of everything.")] = 0,
    families: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--family", help="Kind of place; may be repeated. All of them by default."),
    ] = None,
    rig: Annotated[str, typer.Option(help="Set of sensors, such as nano, kitti, nuscenes, surround.")] = "nano",
    per_drive: Annotated[int, typer.Option(min=1, help="Frames taken from one drive; about 100 for bags.")] = 8,
    spacing: Annotated[float, typer.Option(min=0.1, help="Seconds between two of them.")] = 1.0,
    bags: Annotated[bool, typer.Option(help="Write a rosbag of each drive instead of labelled frames.")] = False,
    workers: Annotated[int, typer.Option(min=1, help="Processes; the bytes are the same for any number.")] = 1,
) -> None:
    """A data set from the embedded world: labelled frames or rosbags, resumable, the same bytes for the same seed."""
    from karp_perception.world.dataset import DatasetSettings, families_of, run

    settings = DatasetSettings(seed, families_of(families), rig, per_drive, spacing, bags)
    with ProgressBar("making a world") as progress:
        done = run(out, frames, settings, workers, progress)
    print(
        f"{done['frames']} frames in {out}: {done['written']} written, {done['kept']} kept, "
        f"{done['frames_per_second']} a second"
    )


def _print_version(asked: bool) -> None:
    if asked:
        from karp_perception import __version__

        print(__version__)
        raise typer.Exit


@app.callback()
def _common(
    context: typer.Context,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say more of what happens.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    from rich.logging import RichHandler

    from karp_perception.core.blas import use_one_blas_thread

    use_one_blas_thread()
    context.with_resource(listening(WorkBars()))
    handler = RichHandler(console=console(), show_path=False, show_time=False)
    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, format="%(message)s", handlers=[handler])


def main() -> None:
    """Entry point: errors of the package, and files that cannot be used, end in one line and exit code 2.

    A programming error ends in its traceback.
    """
    from karp_perception.core.errors import KarpError

    try:
        app()
    except KarpError as error:
        _fail(str(error), 2)
    except OSError as error:
        if error.filename is None:
            raise
        _fail(f"{error.filename}: {error.strerror}", 2)


def _print_summary(summary: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    frames = summary["frames"]
    dropped = ", ".join(f"{count} {reason}" for reason, count in frames["dropped"].items()) or "none"
    print(f"frames: {frames['received']} received, {frames['used']} used, dropped: {dropped}")
    untrained = " (untrained: its boxes do not reach planning)" if _is_untrained(summary["model"]) else ""
    print(f"model: {summary['model']['model']}{untrained}, backend: {summary['backend']}")
    print(f"ego motion: {summary['ego']['distance_m']} m from {summary['ego']['source']}")
    print("decisions: " + (", ".join(f"{count} {kind}" for kind, count in summary["decisions"].items()) or "none"))
    table = Table("stage", "p50 ms", "p95 ms", "p99 ms")
    for stage, p in summary["latency_ms"].items():
        table.add_row(stage, *(f"{p[key]:.1f}" for key in ("p50", "p95", "p99")))
    Console().print(table)
    print(
        f"{summary['realtime_factor']} times real time "
        f"({summary['wall_s']} s, and {summary['video_s']} s for the video)"
    )


def _is_untrained(model: dict[str, Any]) -> bool:
    """Whether a network ran whose answers mean nothing; the model `none` runs none."""
    return not model["trained"] and model["model"] != "none"


def _print_scores(content: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    print(f"{len(content['detections'])} detections, {len(content['obstacles'])} obstacles")
    if _is_untrained(content["model"]):
        print("the network is untrained: its detections mean nothing yet")
    scores = content["scores"]
    if scores is None:
        return
    table = Table("group", "labels", "hits", "false alarms", "recall", "precision", "centre error m")
    for name, row in scores.items():
        if name != "obstacles":
            keys = ("labels", "hits", "false_alarms", "recall", "precision", "center_error_m")
            table.add_row(name, *("-" if row[key] is None else str(row[key]) for key in keys))
    Console().print(table)
    print(f"labelled objects that an obstacle covers: {json.dumps(scores['obstacles'])}")


def _fail(message: str, code: int = 1) -> NoReturn:
    print(f"karp: {message}", file=sys.stderr)
    raise SystemExit(code)


if __name__ == "__main__":
    main()
