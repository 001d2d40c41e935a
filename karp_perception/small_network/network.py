"""A small network in numpy: queries of one thing look at tokens of what is around it.

The same arithmetic as `training.net.SmallNet`, which each network is tested against.
"""

from __future__ import annotations

import hashlib
import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Generic, TypeVar

import numpy as np

from karp_perception.core.errors import ConfigurationError
from karp_perception.core.resources import resource
from karp_perception.small_network.config import SmallConfig
from karp_perception.small_network.layers import Layers, block_shapes, linear_shapes, norm_shapes

if TYPE_CHECKING:
    from typing_extensions import Self

Config = TypeVar("Config", bound=SmallConfig)

_log = logging.getLogger(__name__)
_CONFIG = "karp_config"
_NONE, _SUFFIX = "none", ".safetensors"


class SmallNetwork(ABC, Generic[Config]):
    """Weights and how to apply them.

    Args:
        weights: by the names of the torch module's state_dict.
        config: shapes.
        digest: identifies the weights' content.

    Attributes:
        configuration: class of `config`.
        inputs: how many numbers a token of each kind has; the first kind is the thing itself.
    """

    configuration: ClassVar[type[SmallConfig]]
    inputs: ClassVar[Mapping[str, int]]

    def __init__(self, weights: Mapping[str, np.ndarray], config: Config, digest: str = "") -> None:
        self.config, self.digest = config, digest
        self._layers = Layers(weights, config.heads)

    @classmethod
    def open(cls, name: str, without: str) -> Self | None:
        """The network of a shipped name or a file; None for `none`, and, with a line in the log that says what
        happens `without` it, where a shipped name has no weights. Raises ConfigurationError for a file that cannot be
        used."""
        if name == _NONE:
            return None
        if name.endswith(_SUFFIX):
            return cls.from_file(Path(name).expanduser())
        try:
            file = resource("models", name + _SUFFIX)
        except ConfigurationError as error:
            _log.warning("%s: %s", without, error)
            return None
        return cls.from_file(file)

    @classmethod
    def from_file(cls, file: Path) -> Self:
        """Weights from a safetensors file. Raises ConfigurationError where it is none, or of another network."""
        from safetensors import SafetensorError, safe_open
        from safetensors.numpy import load_file

        if not file.is_file():
            what = cls.configuration.name
            raise ConfigurationError(f"{file}: expected the weights of a {what}, and there is no such file")
        try:
            with safe_open(file, "np") as content:
                metadata = content.metadata() or {}
            if _CONFIG not in metadata:
                raise ConfigurationError(f"{file}: no {_CONFIG!r} in its metadata: not a weight file of this package")
            weights = load_file(file)
        except (OSError, SafetensorError) as error:
            raise ConfigurationError(f"{file}: cannot be read as safetensors: {error}") from None
        config = cls.configuration.from_json(metadata[_CONFIG], str(file))
        shapes = cls._shapes(config)
        wrong = [n for n in shapes if n not in weights or weights[n].shape != shapes[n]]
        if wrong:
            raise ConfigurationError(
                f"{file}: not the tensors of its configuration: {wrong[0]}; the file was made by another version: "
                "train it again"
            )
        return cls(weights, config, hashlib.sha256(file.read_bytes()).hexdigest()[:16])

    @classmethod
    @abstractmethod
    def outputs(cls, config: Config) -> Mapping[str, int]:
        """How many numbers each linear layer at the end gives, by name."""

    def _answers(self, itself: np.ndarray, around: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
        """(N, K, D), normalised: what the K queries of N things come to.

        Args:
            itself: (N, D) embedded.
            around: tokens (N, T, ...) by kind, and which of them exist (N, T).
        """
        layers = self._layers
        known = np.concatenate([np.ones((len(itself), 1), bool), *(exists for _, exists in around.values())], axis=1)
        # Most tokens do not exist: nothing is computed of those.
        every = np.zeros((*known.shape, self.config.width), np.float32)
        every[:, 0] = itself
        begin = 1
        for kind, (table, exists) in around.items():
            every[:, begin : begin + exists.shape[1]][exists] = layers.embedded(kind, table[exists])
            begin += exists.shape[1]
        memory = layers.normed("memory_norm", every[known])
        x = itself[:, None] + layers["modes"]
        for number in range(self.config.layers):
            x = layers.block(f"layers.{number}", x, memory, known)
        return layers.normed("norm", x)

    @classmethod
    def _shapes(cls, config: Config) -> dict[str, tuple[int, ...]]:
        """Shapes of all weights, by name."""
        d = config.width
        linear = {f"{kind}.0": (d, width) for kind, width in cls.inputs.items()}
        linear |= {f"{kind}.2": (d, d) for kind in cls.inputs}
        linear |= {name: (count, d) for name, count in cls.outputs(config).items()}
        shapes = {"modes": (config.modes, d)} | linear_shapes(linear) | norm_shapes(["memory_norm", "norm"], d)
        for k in range(config.layers):
            shapes |= block_shapes(f"layers.{k}", d, config.mlp_ratio * d)
        return shapes
