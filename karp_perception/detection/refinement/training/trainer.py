"""The training loop of the refiner: samples once, then steps, with a checkpoint to go on from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from karp_perception.core import CLASS_NAMES
from karp_perception.detection.refinement.config import RefinerConfig
from karp_perception.detection.refinement.network import first_log_odds
from karp_perception.detection.refinement.training.net import RefinerNet
from karp_perception.detection.refinement.training.samples import Samples, made_from, world_samples
from karp_perception.detection.refinement.training.settings import RefinerTrainSettings
from karp_perception.detection.refinement.views import CHANGE
from karp_perception.detection.training.trainer import Progress
from karp_perception.small_network.training.run import Loss, SmallRun
from karp_perception.small_network.training.samples import drawn_rows

SAMPLES = "samples.npz"

_USUAL = np.array([0.3, 0.2, 0.08, 0.1, 0.06, 0.06, 0.12])
"""What a detector is wrong by, for each of CHANGE: errors count in shares of it."""

_WEIGHT = np.array([1.0, 1.0, 0.3, 0.5, 0.3, 0.3, 0.7])
_CLASSES = 4.0  # weight of the classes beside all changes
_MIRRORED = np.array([1.0, -1.0, 1.0, 1.0, 1.0, 1.0, -1.0])


def train(
    out: Path,
    settings: RefinerTrainSettings = RefinerTrainSettings(),
    config: RefinerConfig = RefinerConfig(),
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
        progress: called after each step. making: called after each frame with how many are made, of how many.

    Returns:
        The weight file.

    Raises ConfigurationError for a checkpoint of another training or a detector that does not exist, and
    TrainingDiverged.
    """
    torch.manual_seed(settings.seed)
    run = SmallRun(out, RefinerNet(config), settings, "refiner")

    def make_loss() -> Loss:
        learnt = _kept_samples(out, settings, making) if samples is None else samples

        def loss(step: int) -> tuple[Tensor, Mapping[str, Tensor]]:
            rows = drawn_rows(len(learnt), settings.batch_size, settings.seed, step)
            return loss_of(run.net, learnt.take(rows), settings, step)

        return loss

    return run.finish(make_loss, progress)


def loss_of(
    net: RefinerNet, samples: Samples, settings: RefinerTrainSettings, step: int
) -> tuple[Tensor, Mapping[str, Tensor]]:
    """The loss on some samples, each moved by errors of its own, half of them in a mirror; drawn from the step."""
    samples = samples.with_floats(np.float64)
    rng = np.random.default_rng([settings.seed, step, 9])
    error = settings.jitter * _USUAL * rng.standard_normal((len(samples), len(CHANGE)))
    views = samples.views.changed(error)
    wanted = samples.change - error
    c, s = np.cos(error[:, 6]), np.sin(error[:, 6])
    wanted[:, :2] = np.stack([c * wanted[:, 0] + s * wanted[:, 1], c * wanted[:, 1] - s * wanted[:, 0]], axis=1)
    mirrored = rng.random(len(samples)) < 0.5
    views = views.mirrored(mirrored)
    wanted = np.where(mirrored[:, None], _MIRRORED * wanted, wanted)
    box, points = views.tables()
    change, classes = net(torch.from_numpy(box), torch.from_numpy(points), torch.from_numpy(views.known))
    there = torch.from_numpy(samples.truth >= 0)
    off = (change - torch.from_numpy(wanted).float()).abs() * torch.from_numpy(_WEIGHT / _USUAL).float()
    parts = dict(zip(CHANGE, off[there].sum(dim=0).div(max(int(there.sum()), 1)).unbind(), strict=True))
    of_class = torch.from_numpy(samples.truth[:, None] == np.arange(len(CLASS_NAMES))).float()
    log_odds = torch.from_numpy(first_log_odds(views)).float() + classes
    log_odds = log_odds + torch.from_numpy(samples.enriched).float()[:, None] * net.enriched
    doubt = torch.nn.functional.binary_cross_entropy_with_logits(log_odds, of_class, reduction="sum")
    parts["classes"] = _CLASSES * doubt / len(samples)
    return torch.stack(list(parts.values())).sum(), parts


def _kept_samples(out: Path, settings: RefinerTrainSettings, making: Callable[[int, int], None]) -> Samples:
    samples = Samples.kept(out / SAMPLES, made_from(settings), lambda: world_samples(settings, making))
    assert samples is not None
    return samples
