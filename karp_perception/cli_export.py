"""`karp export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from karp_perception.cli_progress import ProgressBar


def export(
    out: Annotated[Path, typer.Option(help="Folder for the files; made where missing.")],
    model: Annotated[str, typer.Option(help="Shipped model, or a weight file.")] = "nano",
    precision: Annotated[list[str], typer.Option(help="f32, f16, bf16, int8, fp8, or all; may be repeated.")] = ["f32"],  # noqa: B006
    batch: Annotated[str, typer.Option(help="Frames at once, or dynamic.")] = "1",
) -> None:
    """A model as ONNX, a file for each precision, with answers to compare engines with."""
    with ProgressBar("exporting") as progress:
        from karp_perception.detection.runtime.export_folder import export_folder

        files = export_folder(model, out, precision, batch, progress=progress)
    for placed in files:
        size = f"{placed.file.stat().st_size / 1e6:.1f} MB"
        print(f"{placed.file} ({size}{', kept as it was' if placed.kept else ''})")
