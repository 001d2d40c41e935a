"""The training loop of the predictor: samples once, then steps, with a checkpoint to go on from.

Step s sees batch s, and what is random about it is drawn from s: nothing depends on when the training was stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from karp_perception.detection.training.trainer import Progress
from karp_perception.prediction.config import PredictorConfig
from karp_perception.prediction.training.net import PredictorNet
from karp_perception.prediction.training.objective import objective, rolled_out
from karp_perception.prediction.training.samples import Samples, made_from, world_samples
from karp_perception.prediction.training.settings import PredictorTrainSettings
from karp_perception.small_network.training.run import Loss, SmallRun
from karp_perception.small_network.training.samples import drawn_rows

SAMPLES = "samples.npz"


def train(
    out: Path,
    settings: PredictorTrainSettings = PredictorTrainSettings(),
    config: PredictorConfig = PredictorConfig(),
    *,
    samples: Samples | None = None,
    progress: Callable[[Progress], None] = lambda _: None,
    making: Callable[[int, int], None] = lambda done, of: None,
) -> Path:
    """Train, from the beginning or from where a checkpoint in `out` says.

    Args:
        out: a folder: samples.npz, checkpoint.pt, losses.jsonl, NAME.safetensors (averaged weights).
        settings: of the training. config: of the network.
        samples: what to learn from; None makes them in the world, and keeps them in `out`.
        progress: called after each step. making: called after each drive with how many are made, of how many.

    Returns:
        The weight file.

    Raises ConfigurationError for a checkpoint of another training, and TrainingDiverged.
    """
    torch.manual_seed(settings.seed)
    run = SmallRun(out, PredictorNet(config), settings, "predictor")

    def make_loss() -> Loss:
        learnt = _kept_samples(out, settings, making) if samples is None else samples

        def loss(step: int) -> tuple[Tensor, Mapping[str, Tensor]]:
            rows = drawn_rows(len(learnt), settings.batch_size, settings.seed, step)
            return loss_of(run.net, learnt, rows, settings, step)

        return loss

    return run.finish(make_loss, progress)


def loss_of(
    net: PredictorNet, samples: Samples, rows: np.ndarray, settings: PredictorTrainSettings, step: int
) -> tuple[Tensor, Mapping[str, Tensor]]:
    """The loss on some samples; which lanes are known to each is drawn from the step."""

    def column(name: str) -> Tensor:
        values = torch.from_numpy(getattr(samples, name)[rows])
        return values.float() if values.is_floating_point() else values

    draw = torch.from_numpy(np.random.default_rng([settings.seed, step, 9]).random(len(rows)))
    no_lanes = draw < settings.without_lanes
    route = draw < settings.without_lanes + settings.route_only
    pieces = torch.where(route[:, None, None], column("route"), column("lanes"))
    known = torch.where(route[:, None], column("route_known"), column("lane_known")) & ~no_lanes[:, None]
    acceleration, turn, logits, correction = net(
        column("target"), column("others"), column("other_known"), pieces, known
    )
    future = column("future")
    paths = rolled_out(column("speed"), column("limits"), acceleration, turn, correction, future.shape[1])
    return objective(paths, logits, future, column("there"), settings)


def _kept_samples(out: Path, settings: PredictorTrainSettings, making: Callable[[int, int], None]) -> Samples:
    samples = Samples.kept(out / SAMPLES, made_from(settings), lambda: world_samples(settings, making))
    assert samples is not None
    return samples
