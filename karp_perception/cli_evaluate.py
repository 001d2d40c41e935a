"""`karp evaluate`: how good it is, measured."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

app = typer.Typer(help="How good it is, measured.", no_args_is_help=True)


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
