"""Settings of prediction: how far, how finely, and by what."""

from __future__ import annotations

from dataclasses import dataclass

from karp_perception.core.settings import Settings, setting


@dataclass(frozen=True)
class PredictionSettings(Settings):
    """How far and how finely paths are foretold, and whether by manoeuvres alone or by the network as well."""

    horizon: float = setting(5.0, "how far ahead", unit="s", low=0.1, high=30.0)
    step: float = setting(0.1, "between two points of a path", unit="s", low=0.01, high=1.0)
    network: str = setting(
        "predictor", "weights that foretell what moves: a shipped name or a file; none: manoeuvres alone"
    )
    most: int = setting(32, "things, the nearest ones, whose paths the network foretells", low=0, high=1000)
    slowest: float = setting(0.3, "slower things are left to manoeuvres", unit="m/s", low=0.0, high=10.0)

    @property
    def count(self) -> int:
        """Points of a path."""
        return max(1, round(self.horizon / self.step))
