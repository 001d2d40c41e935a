"""The shape of a small network."""

from __future__ import annotations

import dataclasses
import json
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

from karp_perception.core.errors import ConfigurationError
from karp_perception.core.settings import Settings, setting

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass(frozen=True)
class SmallConfig(Settings, ABC):
    """What the shapes of all small networks depend on. The default of a network's `name` says what it is, in a word."""

    name: str = setting("", "of the weight file")
    width: int = setting(64, "of a token", low=8, high=1024)
    heads: int = setting(4, "of attention", low=1, high=64)
    layers: int = setting(2, "in which queries look at the tokens", low=1, high=16)
    mlp_ratio: int = setting(2, "of the hidden width of a block to its width", low=1, high=8)

    @property
    @abstractmethod
    def modes(self) -> int:
        """How many queries there are."""

    def to_json(self) -> str:
        """As it stands in a weight file."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str, where: str) -> Self:
        """From `to_json`. Raises ConfigurationError, naming `where`, for anything else."""
        try:
            values = json.loads(text)
        except ValueError as error:
            raise ConfigurationError(f"{where}: expected a {cls.name}'s configuration as JSON: {error}") from None
        return cls.from_mapping(values, where)
