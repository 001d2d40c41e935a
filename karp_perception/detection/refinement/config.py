"""The shape of the refiner network."""

from __future__ import annotations

from dataclasses import dataclass

from karp_perception.core.settings import setting
from karp_perception.small_network.config import SmallConfig


@dataclass(frozen=True)
class RefinerConfig(SmallConfig):
    """Every number that the weights' shapes depend on."""

    name: str = setting("refiner", "of the weight file")
    modes: int = setting(1, "answers for a box", low=1, high=1)
