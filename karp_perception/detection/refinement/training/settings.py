"""Settings of a refiner's training."""

from __future__ import annotations

from dataclasses import dataclass

from karp_perception.core.settings import setting
from karp_perception.small_network.training.run import SmallRunSettings


@dataclass(frozen=True)
class RefinerTrainSettings(SmallRunSettings):
    """What a training depends on. The same settings and the same detector give the same losses."""

    steps: int = setting(8000, "of the optimizer", low=1, high=100_000_000)
    frames: int = setting(5000, "of the world, changed at random, to learn from", low=1, high=100_000_000)
    model: str = setting("nano", "detector whose boxes are to be put right: a name or a weight file")
    least_score: float = setting(0.01, "of its boxes that are learnt from", low=0.0, high=1.0)
    jitter: float = setting(
        0.3, "standard deviation of random errors beside the detector's own, in shares of its usual ones", low=0.0,
        high=10.0,
    )  # fmt: skip
