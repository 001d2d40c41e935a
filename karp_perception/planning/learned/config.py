"""The shape of the proposer network."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass

from karp_perception.core.errors import ConfigurationError
from karp_perception.core.settings import Settings, setting


@dataclass(frozen=True)
class ProposerConfig(Settings):
    """Every number that the weights' shapes depend on."""

    name: str = setting("proposer", "of the weight file")
    width: int = setting(48, "of a token", low=8, high=1024)
    heads: int = setting(4, "of attention", low=1, high=64)
    layers: int = setting(2, "in which proposals look at the tokens", low=1, high=16)
    mlp_ratio: int = setting(2, "of the hidden width of a block to its width", low=1, high=8)
    pairs: int = setting(2, "of proposals that are each other's mirror image", low=0, high=16)
    singles: int = setting(2, "proposals that are their own", low=0, high=16)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.modes == 0:
            raise ConfigurationError("ProposerConfig: expected at least one proposal, got no pairs and no singles")

    @property
    def modes(self) -> int:
        """How many proposals there are."""
        return 2 * self.pairs + self.singles

    @property
    def partner(self) -> tuple[int, ...]:
        """Of each proposal, the one that it becomes in a mirror."""
        paired = [k + 1 if k % 2 == 0 else k - 1 for k in range(2 * self.pairs)]
        return (*paired, *range(2 * self.pairs, self.modes))

    def to_json(self) -> str:
        """As it stands in a weight file."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str, where: str) -> ProposerConfig:
        """From `to_json`. Raises ConfigurationError, naming `where`, for anything else."""
        try:
            values = json.loads(text)
        except ValueError as error:
            raise ConfigurationError(f"{where}: expected a proposer's configuration as JSON: {error}") from None
        return cls.from_mapping(values, where)
