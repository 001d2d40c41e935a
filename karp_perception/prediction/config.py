"""The shape of the predictor network."""

from __future__ import annotations

from dataclasses import dataclass

from karp_perception.core.settings import setting
from karp_perception.small_network.config import SmallConfig


@dataclass(frozen=True)
class PredictorConfig(SmallConfig):
    """Every number that the weights' shapes depend on."""

    name: str = setting("predictor", "of the weight file")
    modes: int = setting(6, "paths of a thing", low=1, high=32)
    controls: int = setting(5, "accelerations and turn rates of a path, one a second", low=1, high=30)
