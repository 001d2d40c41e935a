"""`karp compile`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from karp_perception.core.long_work import LongWork


def compile_(
    model: Annotated[str, typer.Option(help="Shipped model, or a weight file.")] = "nano",
    backend: Annotated[str, typer.Option(help="tensorrt, tensorrt_rtx or openvino.")] = "tensorrt",
    precision: Annotated[
        str, typer.Option(help="f32, f16, bf16, int8, fp8; auto: all that the backend may choose from at its start.")
    ] = "auto",
    out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Folder for the engines (`detector.engines`); by default the user's cache, found anyway."),
    ] = None,
    gpu: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(help="Compute capability to build for, as in sm_89; may be repeated. By default the GPU here."),
    ] = None,
    cameras: Annotated[int, typer.Option(min=0, max=16, help="Slots for cameras; 0: as many as the model has.")] = 0,
) -> None:
    """Build engines ahead of time, so that no start has to wait; for TensorRT for RTX no GPU is needed."""
    with LongWork(f"compiling {model} with {backend}"):  # says so before everything is imported
        from karp_perception.detection.runtime.compiling import compile_model

        files = compile_model(model, backend, precision, out, gpu or (), cameras=cameras)
    for file in files:
        print(f"{file} ({file.stat().st_size / 1e6:.1f} MB)")
