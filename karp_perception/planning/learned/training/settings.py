"""Settings of a proposer's training."""

from __future__ import annotations

from dataclasses import dataclass

from karp_perception.core.settings import setting
from karp_perception.small_network.training.run import SmallRunSettings


@dataclass(frozen=True)
class ProposerTrainSettings(SmallRunSettings):
    """What a training depends on. The same settings give the same losses."""

    steps: int = setting(3000, "of the optimizer, in the first round", low=1, high=100_000_000)
    batch_size: int = setting(64, "moments a step", low=1, high=100_000)
    warm_up: int = setting(100, "steps in which the rate rises", low=0, high=1_000_000)
    average: float = setting(
        0.995, "decay of the moving average of the weights, which is what is kept", low=0.0, high=1.0
    )
    drives: int = setting(24, "drives that the planner makes alone, to learn from", low=1, high=1_000_000)
    rounds: int = setting(1, "rounds of new drives with the proposals of the last one", low=0, high=100)
    round_drives: int = setting(12, "drives of such a round", low=1, high=1_000_000)
    round_share: float = setting(0.3, "of the steps and of the rate, in such a round", low=0.0, high=1.0)
    duration: float = setting(18.0, "of a drive", unit="s", low=6.0, high=1000.0)
    every: float = setting(0.4, "between two moments of a drive", unit="s", low=0.1, high=100.0)
    horizon: float = setting(8.0, "over which what was tried is scored", unit="s", low=1.0, high=8.0)
    kept: int = setting(8, "tries of a moment that are learnt from, the best ones", low=1, high=100)
    temperature: float = setting(0.02, "by how much less score a try counts e times less", low=1e-4, high=10.0)
    own_share: float = setting(
        0.5, "of the reward in later rounds that is the score by the paths that the planner foresees", low=0.0, high=1.0
    )
    tries: int = setting(4, "perturbed copies of each proposal, in later rounds", low=0, high=100)
    shift_noise: float = setting(0.3, "of such copies, standard deviation", unit="m", low=0.0, high=5.0)
    change_noise: float = setting(0.5, "the same", unit="m/s2", low=0.0, high=5.0)
    others_share: float = setting(0.05, "of the loss that proposals bear which are not the nearest", low=0.0, high=1.0)
    class_weight: float = setting(0.3, "of the cross entropy of which proposal is the best", low=0.0, high=100.0)
    kind_weight: float = setting(0.1, "of the cross entropy of what it amounts to", low=0.0, high=100.0)
