"""Settings of a predictor's training."""

from __future__ import annotations

from dataclasses import dataclass

from karp_perception.core.settings import Settings, setting


@dataclass(frozen=True)
class PredictorTrainSettings(Settings):
    """What a training depends on. The same settings give the same losses."""

    steps: int = setting(7000, "of the optimizer", low=1, high=100_000_000)
    batch_size: int = setting(256, "things a step", low=1, high=100_000)
    learning_rate: float = setting(2e-3, "highest; then falling as a cosine", low=0.0, high=1.0)
    last_rate: float = setting(0.01, "share of it that is left at the end", low=0.0, high=1.0)
    warm_up: int = setting(200, "steps in which it rises", low=0, high=1_000_000)
    weight_decay: float = setting(0.01, "of matrices (AdamW)", low=0.0, high=1.0)
    clip: float = setting(5.0, "longest gradient; longer ones are shortened to it", low=1e-6, high=1e6)
    average: float = setting(
        0.998, "decay of the moving average of the weights, which is what is kept", low=0.0, high=1.0
    )
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
    seed: int = setting(1, "of first weights, places and noise", low=0, high=999_999)
    save_every: float = setting(20.0, "between two checkpoints", unit="s", low=0.0, high=86_400.0)
