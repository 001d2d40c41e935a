"""Weights by name or by file: safetensors, with the configuration in the metadata."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from karp_perception.core import ConfigurationError
from karp_perception.core.resources import resource
from karp_perception.detection.model.config import MODELS, ModelConfig
from karp_perception.records import atomic_file

if TYPE_CHECKING:
    from karp_perception.detection.model.detector_net import DetectorNet

SUFFIX = ".safetensors"
_CONFIG = "karp_config"
_MAX_HEADER_BYTES = 16 << 20  # of a sane file: a few kilobytes


@dataclass(frozen=True)
class ModelSource:
    """Which network: its configuration and where its weights come from.

    Attributes:
        config: of the network.
        file: weights, or None for untrained ones made from `seed`.
        digest: identifies the weights' content.
        seed: of untrained weights.
    """

    config: ModelConfig
    file: Path | None
    digest: str
    seed: int = 0

    @property
    def trained(self) -> bool:
        """Whether the weights come from a file."""
        return self.file is not None


def find_model(model: str) -> ModelSource:
    """The model of a shipped name, or of a path to a weight file.

    Raises ConfigurationError for a name that does not exist and for a file that is no weight file of this package.
    """
    if model in MODELS:
        try:
            file = resource("models", model + SUFFIX)
        except ConfigurationError:
            return untrained(MODELS[model])
        return _from_file(file)
    file = Path(model).expanduser()
    if not file.is_file():
        raise ConfigurationError(
            f"model {model!r}: expected one of {', '.join(sorted(MODELS))}, none, or a {SUFFIX} file, "
            "and there is no such file"
        )
    return _from_file(file)


def untrained(config: ModelConfig, seed: int = 0) -> ModelSource:
    """A model whose weights are drawn from a seed."""
    return ModelSource(config, None, f"untrained-{seed}", seed)


def load_network(source: ModelSource) -> DetectorNet:
    """The network with its weights, float32, in evaluation mode.

    Raises ConfigurationError where the file's tensors are not those of its configuration.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from karp_perception.detection.model.detector_net import build

    net = build(source.config, source.seed)
    if source.file is None:
        return net
    try:
        tensors = load_file(source.file)
    except (OSError, SafetensorError) as error:
        raise ConfigurationError(f"{source.file}: cannot be read as safetensors: {error}") from None
    try:
        net.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    except RuntimeError as error:
        first = str(error).splitlines()[1:2] or [str(error)]
        raise ConfigurationError(
            f"{source.file}: not the tensors of its configuration {source.config.name!r}: {first[0].strip()}; "
            "the file was made by another version: train or export it again"
        ) from None
    return net


def save_weights(net: DetectorNet, file: Path, metadata: dict[str, str] | None = None, *, half: bool = True) -> None:
    """Write weights that `find_model` reads, atomically; `half` stores matrices as float16 (vectors stay float32)."""
    import torch
    from safetensors.torch import save

    tensors = {}
    for name, tensor in net.state_dict().items():
        small = half and tensor.is_floating_point() and tensor.ndim >= 2
        tensors[name] = tensor.detach().cpu().to(torch.float16 if small else tensor.dtype).contiguous()
    with atomic_file(file, "wb") as stream:
        stream.write(save(tensors, {**(metadata or {}), _CONFIG: net.config.to_json()}))


def read_metadata(file: Path) -> dict[str, str]:
    """The metadata of a safetensors file, without reading its tensors. Raises ConfigurationError."""
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        text = stream.read(length) if length <= _MAX_HEADER_BYTES else b""
    try:
        header = json.loads(text)
        return dict(header["__metadata__"])
    except (ValueError, KeyError, TypeError):
        raise ConfigurationError(
            f"{file}: expected a safetensors file with {_CONFIG!r} in its metadata, got something else"
        ) from None


def _from_file(file: Path) -> ModelSource:
    metadata = read_metadata(file)
    if _CONFIG not in metadata:
        raise ConfigurationError(f"{file}: no {_CONFIG!r} in its metadata: not a weight file of this package")
    config = ModelConfig.from_json(metadata[_CONFIG], str(file))
    return ModelSource(config, file, hashlib.sha256(file.read_bytes()).hexdigest()[:16])
