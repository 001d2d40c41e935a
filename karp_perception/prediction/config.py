"""The shape of the predictor network."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass

from karp_perception.core.errors import ConfigurationError
from karp_perception.core.settings import Settings, setting


@dataclass(frozen=True)
class PredictorConfig(Settings):
    """Every number that the weights' shapes depend on."""

    name: str = setting("predictor", "of the weight file")
    width: int = setting(64, "of a token", low=8, high=1024)
    heads: int = setting(4, "of attention", low=1, high=64)
    layers: int = setting(2, "in which paths look at the tokens", low=1, high=16)
    mlp_ratio: int = setting(2, "of the hidden width of a block to its width", low=1, high=8)
    modes: int = setting(6, "paths of a thing", low=1, high=32)
    controls: int = setting(5, "accelerations and turn rates of a path, one a second", low=1, high=30)

    def to_json(self) -> str:
        """As it stands in a weight file."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str, where: str) -> PredictorConfig:
        """From `to_json`. Raises ConfigurationError, naming `where`, for anything else."""
        try:
            values = json.loads(text)
        except ValueError as error:
            raise ConfigurationError(f"{where}: expected a predictor's configuration as JSON: {error}") from None
        return cls.from_mapping(values, where)
