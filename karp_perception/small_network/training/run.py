"""The training of a network so small that one core is enough: steps, checkpoints, and a log, all in one folder."""

from __future__ import annotations

import dataclasses
import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from karp_perception.core.errors import ConfigurationError
from karp_perception.core.settings import Settings, setting
from karp_perception.detection.model.weights import save_weights
from karp_perception.detection.training.average import WeightAverage
from karp_perception.detection.training.checkpoint import save_checkpoint
from karp_perception.detection.training.losses_log import lines_before
from karp_perception.detection.training.schedule import cosine_rate
from karp_perception.detection.training.trainer import CHECKPOINT, LOSSES, Progress, TrainingDiverged

_LOG = logging.getLogger(__name__)
_MAY_CHANGE = {"save_every"}
_LOG_EVERY = 20  # steps between two lines of losses.jsonl

Loss = Callable[[int], tuple[Tensor, Mapping[str, Tensor]]]
"""The loss at a step, and its parts."""


@dataclass(frozen=True)
class SmallRunSettings(Settings):
    """What such a training depends on."""

    steps: int = setting(5000, "of the optimizer", low=1, high=100_000_000)
    batch_size: int = setting(256, "samples a step", low=1, high=100_000)
    learning_rate: float = setting(2e-3, "highest; then falling as a cosine", low=0.0, high=1.0)
    last_rate: float = setting(0.01, "share of it that is left at the end", low=0.0, high=1.0)
    warm_up: int = setting(200, "steps in which it rises", low=0, high=1_000_000)
    weight_decay: float = setting(0.01, "of matrices (AdamW)", low=0.0, high=1.0)
    clip: float = setting(5.0, "longest gradient; longer ones are shortened to it", low=1e-6, high=1e6)
    average: float = setting(
        0.998, "decay of the moving average of the weights, which is what is kept", low=0.0, high=1.0
    )
    seed: int = setting(1, "of first weights, places and noise", low=0, high=999_999)
    save_every: float = setting(20.0, "between two checkpoints", unit="s", low=0.0, high=86_400.0)


class SmallRun:
    """A training under way: checkpoint.pt, losses.jsonl and NAME.safetensors (averaged weights) in a folder.

    Args:
        out: the folder; made where missing.
        net: with the first weights; its `config` names the weight file.
        settings: of the training.
        what: is trained, in a word.
    """

    def __init__(self, out: Path, net: nn.Module, settings: SmallRunSettings, what: str) -> None:
        out.mkdir(parents=True, exist_ok=True)
        self.out, self.net, self.settings, self.what = out, net, settings, what
        self.config: Any = net.config
        self.average = WeightAverage(net, settings.average)
        matrices = [p for p in net.parameters() if p.ndim >= 2]
        vectors = [p for p in net.parameters() if p.ndim < 2]
        groups = [{"params": matrices, "weight_decay": settings.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate)

    @property
    def weights(self) -> Path:
        """The weight file."""
        return self.out / f"{self.config.name}.safetensors"

    def finish(self, make_loss: Callable[[], Loss], progress: Callable[[Progress], None] = lambda _: None) -> Path:
        """Train, from the beginning or from where the checkpoint says.

        Args:
            make_loss: gives the loss of each step; not called where nothing is left to do.
            progress: called after each step.

        Returns:
            The weight file.

        Raises ConfigurationError for a checkpoint of another training, and TrainingDiverged.
        """
        first = self.restore()
        if first < self.settings.steps:
            self._learn(first, make_loss(), progress)
        self.save(self.settings.steps)
        return self.weights

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
                f"{file}: expected a checkpoint of a {self.what}, got something else ({type(error).__name__}); remove "
                "it to start anew"
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

    def _learn(self, first: int, loss: Loss, progress: Callable[[Progress], None]) -> None:
        """Steps from `first` to the last one."""
        settings, saved = self.settings, time.monotonic()
        lines = lines_before(self.out / LOSSES, first)
        with (self.out / LOSSES).open("w") as log:
            log.writelines(line + "\n" for line in lines)
            for step in range(first, settings.steps):
                value, parts = self._step(step, loss)
                if step % _LOG_EVERY == 0:
                    values = {"loss": value, **{k: float(v) for k, v in parts.items()}, "rate": self._rate(step)}
                    log.write(json.dumps({"step": step, **{k: float(f"{v:.6g}") for k, v in values.items()}}) + "\n")
                    log.flush()
                progress(Progress(step + 1, settings.steps, value, self._rate(step)))
                if time.monotonic() - saved > settings.save_every:
                    self.save(step + 1)
                    saved = time.monotonic()

    def _rate(self, step: int) -> float:
        s = self.settings
        return cosine_rate(step, s.steps, s.learning_rate, s.last_rate, s.warm_up)

    def _step(self, step: int, loss: Loss) -> tuple[float, Mapping[str, Tensor]]:
        """One step of the optimizer: the loss before it, and its parts."""
        self.net.train()
        for group in self.optimizer.param_groups:
            group["lr"] = self._rate(step)
        self.optimizer.zero_grad(set_to_none=True)
        value, parts = loss(step)
        if not torch.isfinite(value):
            raise TrainingDiverged(
                f"step {step}: the loss is {float(value.detach())}; train with a lower learning rate"
            )
        value.backward()
        nn.utils.clip_grad_norm_(self.net.parameters(), self.settings.clip)
        self.optimizer.step()
        self.average.update(self.net, step)
        return float(value.detach()), {name: part.detach() for name, part in parts.items()}
