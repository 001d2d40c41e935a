"""Options that several commands have, and the pipeline's settings that they make."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

if TYPE_CHECKING:
    from karp_perception.pipeline import PipelineSettings

# typer reads annotations at run time, where Python 3.10 cannot read `X | None` of a typing alias: hence Optional.
Config = Annotated[Optional[Path], typer.Option(help="Parameter file (the nodes' YAML); see config/karp.yaml.")]  # noqa: UP045
Model = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(help="Shipped model, or a file; 'none' for the geometric channel alone."),
]
Backend = Annotated[Optional[str], typer.Option(help="auto, openvino, onnxruntime or torch.")]  # noqa: UP045


def settings_of(
    config: Path | None, model: str | None = None, backend: str | None = None, base_frame: str | None = None
) -> PipelineSettings:
    """Settings of a file, or the defaults, with what the command line names put over them."""
    from karp_perception.pipeline import PipelineSettings

    settings = PipelineSettings() if config is None else PipelineSettings.from_yaml(config)
    named = {"detector.model": model, "detector.backend": backend, "sensing.base_frame": base_frame}
    return settings.with_parameters({name: value for name, value in named.items() if value is not None})
