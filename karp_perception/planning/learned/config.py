"""The shape of the proposer network."""

from __future__ import annotations

from dataclasses import dataclass

from karp_perception.core.errors import ConfigurationError
from karp_perception.core.settings import setting
from karp_perception.small_network.config import SmallConfig


@dataclass(frozen=True)
class ProposerConfig(SmallConfig):
    """Every number that the weights' shapes depend on."""

    name: str = setting("proposer", "of the weight file")
    width: int = setting(48, "of a token", low=8, high=1024)
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
