"""The training of the proposer: imitation of what would have been best, then rounds of drives of its own.

A round drives with the proposals of the last one, scores what they and what lies around them would have led to, and
learns from the best. Each drive and each round is kept: a training that was stopped goes on where it was.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file

from karp_perception.detection.training.trainer import Progress
from karp_perception.planning.learned.config import ProposerConfig
from karp_perception.planning.learned.network import ProposerNetwork
from karp_perception.planning.learned.proposer import LearnedProposer
from karp_perception.planning.learned.tokens import SceneTokens
from karp_perception.planning.learned.training.net import ProposerNet
from karp_perception.planning.learned.training.objective import objective
from karp_perception.planning.learned.training.samples import Samples, round_samples
from karp_perception.planning.learned.training.settings import ProposerTrainSettings
from karp_perception.records import atomic_file
from karp_perception.small_network.training.run import SmallRun
from karp_perception.small_network.training.samples import drawn_rows

_TRIES = ("usual", "speed", "shifts", "change", "kind", "weight")


def train(
    out: Path,
    settings: ProposerTrainSettings = ProposerTrainSettings(),
    config: ProposerConfig = ProposerConfig(),
    *,
    progress: Callable[[Progress], None] = lambda _: None,
    making: Callable[[int, int], None] = lambda done, of: None,
) -> Path:
    """Train, from the beginning or from where what lies in `out` says.

    Args:
        out: a folder: drives/ROUND/, round-ROUND/ with checkpoint and log, NAME.safetensors.
        settings: of the training. config: of the network.
        progress: called after each step. making: called after each drive with how many are made, of how many.

    Returns:
        The weight file.

    Raises ConfigurationError for a checkpoint of another training, and TrainingDiverged.
    """
    proposer: LearnedProposer | None = None
    weights: Path | None = None
    parts: list[Samples] = []
    first = 0
    for number in range(settings.rounds + 1):
        drives = settings.round_drives if number else settings.drives
        parts.append(
            round_samples(out / "drives" / str(number), range(first, first + drives), proposer, settings, making)
        )
        first += drives
        weights = train_round(
            out / f"round-{number}", Samples.concatenate(parts), settings if not number else _round(settings), config,
            weights, progress,
        )  # fmt: skip
        proposer = LearnedProposer(ProposerNetwork.from_file(weights))
    assert weights is not None
    final = out / weights.name
    with atomic_file(final, "wb") as stream:
        stream.write(weights.read_bytes())
    return final


def train_round(
    out: Path,
    samples: Samples,
    settings: ProposerTrainSettings,
    config: ProposerConfig,
    start: Path | None,
    progress: Callable[[Progress], None] = lambda _: None,
) -> Path:
    """One round on its samples, from the weights of the last one, None for random ones; the weight file."""
    torch.manual_seed(settings.seed)
    net = ProposerNet(config)
    if start is not None:
        net.load_state_dict({name: tensor.float() for name, tensor in load_file(start).items()})
    run = SmallRun(out, net, settings, "proposer")
    columns = {name: torch.from_numpy(column) for name, column in zip(samples.names(), samples.columns(), strict=True)}

    def loss(step: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        rows = torch.from_numpy(drawn_rows(len(samples), settings.batch_size, settings.seed, step))
        said = net(*(columns[name][rows] for name in SceneTokens.names()))
        value, parts = objective(*said, {name: columns[name][rows] for name in _TRIES}, settings)
        return value, dict(parts)

    return run.finish(lambda: loss, progress)


def _round(settings: ProposerTrainSettings) -> ProposerTrainSettings:
    """The settings of a later round: fewer and smaller steps."""
    share = settings.round_share
    return replace(settings, steps=max(1, round(share * settings.steps)), learning_rate=share * settings.learning_rate)
