"""Options that several commands have, and the pipeline's settings that they make."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional, get_type_hints

import typer

from karp_perception.core.resources import parameter_file

if TYPE_CHECKING:
    from karp_perception.pipeline import PipelineSettings

# typer reads annotations at run time, where Python 3.10 cannot read `X | None` of a typing alias: hence Optional.
Config = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option(
        help="Parameter file (the nodes' YAML, see config/karp.yaml) or a vehicle (car, shuttle, robot); may be "
        "repeated, later ones have the last word."
    ),
]
Model = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(help="Shipped model, or a file; 'none' for the geometric channel alone."),
]
Backend = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(help="auto, tensorrt, tensorrt_rtx, torch_cuda, openvino, onnxruntime or torch."),
]
Refiner = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(help="What judges and fits boxes by the lidar's points: refiner, a file, or none."),
]


def sharing_options(command: Callable[..., None]) -> Callable[..., None]:
    """A command whose last parameter is a dataclass of options, as typer takes it: with an option for each field.

    typer knows no options that several commands share, it reads each command's signature: here that becomes what it
    would be with the fields written out.
    """
    hints = get_type_hints(command, include_extras=True)
    *own, last = signature(command).parameters.values()
    group = hints[last.name]
    fields = signature(group).parameters
    hints |= get_type_hints(group, include_extras=True)

    @wraps(command)
    def run(**values: Any) -> None:
        options = group(**{name: values.pop(name) for name in fields if name in values})
        command(**values, **{last.name: options})

    parameters = [p.replace(annotation=hints[p.name], kind=Parameter.KEYWORD_ONLY) for p in (*own, *fields.values())]
    run.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    return run


def config_files(config: Sequence[str] | None) -> list[Path]:
    """The files that `--config` names. Raises ConfigurationError for what is neither a file nor a vehicle."""
    return [parameter_file(name) for name in config or ()]


def settings_of(
    config: Sequence[str] | None,
    model: str | None = None,
    backend: str | None = None,
    base_frame: str | None = None,
    refiner: str | None = None,
) -> PipelineSettings:
    """Settings of files, or the defaults, with what the command line names put over them."""
    from karp_perception.pipeline import PipelineSettings

    settings = PipelineSettings.from_yaml(*config_files(config))
    named = {
        "detector.model": model, "detector.backend": backend, "detector.refiner": refiner,
        "sensing.base_frame": base_frame,
    }  # fmt: skip
    return settings.with_parameters({name: value for name, value in named.items() if value is not None})
