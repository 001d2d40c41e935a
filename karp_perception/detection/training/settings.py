"""Settings of a training: every number of it, as a file or options of `karp train` give them."""

from __future__ import annotations

from dataclasses import dataclass

from karp_perception.core import Settings, setting

FROZEN_PARTS = ("image_encoder", "lidar_encoder", "position", "layers", "heatmap", "heads")
"""Parts of the network that can be kept as they are."""


@dataclass(frozen=True)
class TrainSettings(Settings):
    """What a training depends on. The same settings and number of processes give the same losses."""

    steps: int = setting(20_000, "of the optimizer", low=1, high=100_000_000)
    encoder_share: float = setting(
        0.333,
        "share of the steps, the first ones, in which encoders learn alone, by what their tokens say, in less time",
        low=0.0,
        high=1.0,
    )
    encoder_share_init: float = setting(0.0, "the same, with weights to start from", low=0.0, high=1.0)
    batch_size: int = setting(8, "frames a step and process", low=1, high=4096)
    learning_rate: float = setting(
        6e-4, "highest; reached after the warm-up, then falling as a cosine", low=0.0, high=1.0
    )
    last_rate: float = setting(0.02, "share of the highest learning rate that is left at the end", low=0.0, high=1.0)
    warm_up: int = setting(300, "steps in which the learning rate rises", low=0, high=1_000_000)
    weight_decay: float = setting(0.02, "of matrices; vectors have none (AdamW)", low=0.0, high=1.0)
    clip: float = setting(10.0, "longest gradient; longer ones are shortened to it", low=1e-6, high=1e6)
    average: float = setting(
        0.999, "decay of the moving average of the weights, which is what is kept", low=0.0, high=1.0
    )
    seed: int = setting(1, "of first weights, places, augmentation and noise", low=0, high=999_999)
    workers: int = setting(2, "processes that make batches", low=0, high=256)
    half: str = setting("auto", "16-bit arithmetic", choices=("auto", "bfloat16", "off"))
    echo: int = setting(8, "samples drawn for each frame of the world that is made", low=1, high=1000)
    pool: int = setting(400, "frames of the world that each process keeps to draw from", low=1, high=1_000_000)
    augment: bool = setting(True, "change frames at random, and leave sensors out")
    save_every: float = setting(120.0, "between two checkpoints", unit="s", low=1.0, high=86_400.0)
    log_every: int = setting(10, "steps between two lines of losses.jsonl", low=1, high=1_000_000)
