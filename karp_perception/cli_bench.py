"""`karp bench`: how fast it is here, and what it takes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from karp_perception.cli_progress import ProgressBar


def bench(
    model: Annotated[str, typer.Option(help="Shipped model, or a file.")] = "nano",
    backend: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(help="What is measured; may be repeated. auto: what the nodes would take."),
    ] = None,
    precision: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(help="Each backend in each of these; may be repeated. By default auto and f32."),
    ] = None,
    against: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(help="Compare with backend[:precision], torch_eager or torch_compile; 'none' for nothing."),
    ] = None,
    input: Annotated[str, typer.Option(help="world, noise, or a folder with frame.json.")] = "world",
    rig: Annotated[Optional[str], typer.Option(help="The world's sensors, such as demo, surround, nuscenes.")] = None,  # noqa: UP045
    cameras: Annotated[int, typer.Option(min=0, help="Most cameras; 0: all that model and input have.")] = 0,
    points: Annotated[int, typer.Option(min=0, help="Points of a sweep; 0: as many as there are.")] = 0,
    compressed: Annotated[bool, typer.Option("--compressed", help="Images come as JPEG.")] = False,
    rate: Annotated[
        Optional[list[float]],  # noqa: UP045
        typer.Option(help="Feed in real time at so many Hz; may be repeated. By default 10 and 20."),
    ] = None,
    seconds: Annotated[float, typer.Option(min=0.1, help="For each of these.")] = 5.0,
    repeat: Annotated[int, typer.Option(min=2, help="Frames that are timed, engines taking turns.")] = 60,
    threads: Annotated[int, typer.Option(min=0, help="Of the CPU; 0: all.")] = 0,
    memory: Annotated[bool, typer.Option(help="Measure each engine in a fresh process as well.")] = True,
    accuracy: Annotated[int, typer.Option(min=0, help="Evaluate the engines on so many held-out frames.")] = 0,
    parity: Annotated[
        bool, typer.Option("--parity", help="Instead: how far each backend and precision is from the reference.")
    ] = False,
    out: Annotated[Optional[Path], typer.Option(help="Folder for bench.json and latency.png.")] = None,  # noqa: UP045
    keep: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(metavar="FILE", help="Add the result to a file with one for each machine."),
    ] = None,
) -> None:
    """Messages in, boxes out: latency by stage, missed frames, memory, how much faster than what; JSON and a plot."""
    from rich.console import Console

    if parity:
        _parity(model, backend or [], precision or [], out)
        return
    from karp_perception.bench.options import BenchOptions
    from karp_perception.bench.results import keep_result
    from karp_perception.bench.run import bench as run
    from karp_perception.bench.tables import bench_tables

    compared = None if against is None else tuple(name for name in against if name != "none")
    options = BenchOptions(
        model,
        tuple(backend or ("auto",)),
        tuple(precision or ("auto", "f32")),
        compared,
        input,
        rig,
        cameras,
        points,
        compressed,
        tuple(rate or (10.0, 20.0)),
        seconds,
        repeat,
        threads,
        memory,
        accuracy,
        out,
    )
    with ProgressBar("measuring") as progress:
        content = run(options, progress)
    for table in bench_tables(content):
        Console().print(table)
    if not content["model"]["trained"]:
        print("the network is untrained: times are right, accuracy means nothing")
    if keep is not None:
        keep_result(content, keep)
    if out is not None:
        print(f"written to {out}: bench.json, latency.png")


def _parity(model: str, backends: list[str], precisions: list[str], out: Path | None) -> None:
    from rich.console import Console

    from karp_perception.bench.parity import parity_rows, parity_tables
    from karp_perception.records import write_json

    with ProgressBar("comparing") as progress:
        rows = parity_rows(model, backends, precisions, progress)
    for table in parity_tables(rows):
        Console().print(table)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        write_json(out / "parity.json", {"model": model, "engines": rows})
        print(f"written to {out}: parity.json")
