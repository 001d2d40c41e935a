"""Settings of a predictor's training."""

from __future__ import annotations

from dataclasses import dataclass

from karp_perception.core.settings import setting
from karp_perception.small_network.training.run import SmallRunSettings


@dataclass(frozen=True)
class PredictorTrainSettings(SmallRunSettings):
    """What a training depends on. The same settings give the same losses."""

    steps: int = setting(7000, "of the optimizer", low=1, high=100_000_000)
    batch_size: int = setting(256, "things a step", low=1, high=100_000)
    others_share: float = setting(0.05, "of the loss that paths bear which are not the nearest", low=0.0, high=1.0)
    late_weight: float = setting(0.4, "of what comes after 3 s, beside 1 for what comes before", low=0.0, high=10.0)
    class_weight: float = setting(0.5, "of the cross entropy of which path is the nearest", low=0.0, high=100.0)
    class_softness: float = setting(
        0.3, "by how much farther away a path is e times less the right one", unit="m", low=1e-3, high=100.0
    )
    without_lanes: float = setting(0.25, "share of things for which no lanes are known", low=0.0, high=1.0)
    route_only: float = setting(
        0.45, "share of things for which the vehicle's route is all that is known", low=0.0, high=1.0
    )
    standing: float = setting(0.1, "share taken of what is parked or stands about", low=0.0, high=1.0)
    drives: int = setting(200, "drives through the world to learn from", low=1, high=1_000_000)
    duration: float = setting(15.0, "of a drive", unit="s", low=6.0, high=1000.0)
    every: float = setting(0.5, "between two moments of a drive", unit="s", low=0.1, high=100.0)
