"""The training loop of the predictor: samples once, then steps, with a checkpoint to go on from.

Step s sees batch s, and what is random about it is drawn from s: nothing depends on when the training was stopped.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from karp_perception.core.errors import ConfigurationError
from karp_perception.detection.model.weights import save_weights
from karp_perception.detection.training.average import WeightAverage
from karp_perception.detection.training.checkpoint import save_checkpoint
from karp_perception.detection.training.trainer import CHECKPOINT, LOSSES, Progress, TrainingDiverged
from karp_perception.prediction.config import PredictorConfig
from karp_perception.prediction.training.net import PredictorNet
from karp_perception.prediction.training.objective import objective, rolled_out
from karp_perception.prediction.training.samples import Samples, batches, made_from, world_samples
from karp_perception.prediction.training.settings import PredictorTrainSettings

_LOG = logging.getLogger(__name__)
SAMPLES = "samples.npz"
_MAY_CHANGE = {"save_every"}
_LOG_EVERY = 20  # steps between two lines of losses.jsonl


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
    out.mkdir(parents=True, exist_ok=True)
    run = _Run(out, settings, config)
    first = run.restore()
    if first < settings.steps:
        run.learn(samples or _kept_samples(out, settings, making), first, progress)
    run.save(settings.steps)
    return run.weights


class _Run:
    """A training under way."""

    def __init__(self, out: Path, settings: PredictorTrainSettings, config: PredictorConfig) -> None:
        self.out, self.settings, self.config = out, settings, config
        torch.manual_seed(settings.seed)
        self.net = PredictorNet(config)
        self.average = WeightAverage(self.net, settings.average)
        matrices = [p for p in self.net.parameters() if p.ndim >= 2]
        vectors = [p for p in self.net.parameters() if p.ndim < 2]
        groups = [{"params": matrices, "weight_decay": settings.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate)

    @property
    def weights(self) -> Path:
        """The weight file."""
        return self.out / f"{self.config.name}.safetensors"

    def restore(self) -> int:
        """Goes on from a checkpoint where there is one; the number of the next step."""
        file = self.out / CHECKPOINT
        if not file.exists():
            return 0
        try:
            state = torch.load(file, map_location="cpu", weights_only=True)
            before = {"config": json.loads(state["config"]), "settings": json.loads(state["settings"])}
        except Exception as error:  # torch.load raises what the damage happens to be
            raise ConfigurationError(
                f"{file}: expected a checkpoint of a predictor, got something else ({type(error).__name__}); remove it "
                "to start anew"
            ) from None
        now = {"config": json.loads(self.config.to_json()), "settings": dataclasses.asdict(self.settings)}
        changed = [k for part in now for k in now[part] if k not in _MAY_CHANGE and before[part].get(k) != now[part][k]]
        if changed:
            raise ConfigurationError(f"{file}: a training with other {', '.join(changed)}; choose another folder")
        self.net.load_state_dict(state["net"])
        self.average.net.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        _LOG.info("%s: going on at step %d of %d", file, state["step"], self.settings.steps)
        return int(state["step"])

    def save(self, step: int) -> None:
        """Write checkpoint and weights, as they are before step number `step`."""
        state: dict[str, Any] = {
            "step": step,
            "net": self.net.state_dict(),
            "average": self.average.net.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }
        save_checkpoint(self.out / CHECKPOINT, self.config, self.settings, state)
        save_weights(self.average.net, self.weights, {"steps": str(step), "seed": str(self.settings.seed)})

    def learn(self, samples: Samples, first: int, progress: Callable[[Progress], None]) -> None:
        """Steps from `first` to the last one."""
        settings, saved = self.settings, time.monotonic()
        rows = batches(len(samples), settings.batch_size, settings.seed, first)
        lines = _lines_before(self.out / LOSSES, first)
        with (self.out / LOSSES).open("w") as log:
            log.writelines(line + "\n" for line in lines)
            for step in range(first, settings.steps):
                loss, parts = self.step(step, samples, next(rows))
                if step % _LOG_EVERY == 0:
                    values = {"loss": loss, **{k: float(v) for k, v in parts.items()}, "rate": self.rate(step)}
                    log.write(json.dumps({"step": step, **{k: float(f"{v:.6g}") for k, v in values.items()}}) + "\n")
                    log.flush()
                progress(Progress(step + 1, settings.steps, loss, self.rate(step)))
                if time.monotonic() - saved > settings.save_every:
                    self.save(step + 1)
                    saved = time.monotonic()

    def rate(self, step: int) -> float:
        """Learning rate of a step: rising in the warm-up, then a half cosine."""
        s = self.settings
        if step < s.warm_up:
            return s.learning_rate * (step + 1) / s.warm_up
        share = (step - s.warm_up) / max(1, s.steps - s.warm_up)
        return s.learning_rate * (s.last_rate + (1 - s.last_rate) * 0.5 * (1 + math.cos(math.pi * share)))

    def step(self, step: int, samples: Samples, rows: np.ndarray) -> tuple[float, Mapping[str, Tensor]]:
        """One step of the optimizer: the loss before it, and its parts."""
        self.net.train()
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate(step)
        self.optimizer.zero_grad(set_to_none=True)
        loss, parts = loss_of(self.net, samples, rows, self.settings, step)
        if not torch.isfinite(loss):
            raise TrainingDiverged(f"step {step}: the loss is {float(loss.detach())}; train with a lower learning rate")
        loss.backward()
        nn.utils.clip_grad_norm_(self.net.parameters(), self.settings.clip)
        self.optimizer.step()
        self.average.update(self.net, step)
        return float(loss.detach()), {name: value.detach() for name, value in parts.items()}


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
    file = out / SAMPLES
    about = made_from(settings)
    samples = Samples.load(file, about) if file.exists() else None
    if samples is None:
        samples = world_samples(settings, making)
        samples.save(file, about)
    return samples


def _lines_before(file: Path, first: int) -> list[str]:
    """Lines of steps before `first`; none where there is no file."""
    lines = file.read_text().splitlines() if first and file.exists() else []
    return [line for line in lines if line.endswith("}") and json.loads(line)["step"] < first]
