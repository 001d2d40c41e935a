"""The training loop: steps, checkpoints, logs. `karp train` and `torchrun` both come here.

Step s sees batch s, and its noise is drawn from s: nothing depends on when the training was stopped and went on.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from karp_perception.core import ConfigurationError
from karp_perception.core.memory import keep_freed_memory
from karp_perception.detection.model.config import ModelConfig
from karp_perception.detection.model.detector_net import DetectorNet, build
from karp_perception.detection.model.weights import ModelSource, load_network, save_weights
from karp_perception.detection.training.augmentation.augment import AugmentationSettings
from karp_perception.detection.training.average import WeightAverage
from karp_perception.detection.training.batches import Batch, Batches, BatchSettings, load
from karp_perception.detection.training.checkpoint import load_checkpoint, save_checkpoint
from karp_perception.detection.training.losses_log import lines_before
from karp_perception.detection.training.objective import Objective
from karp_perception.detection.training.samples import Samples
from karp_perception.detection.training.schedule import cosine_rate
from karp_perception.detection.training.settings import FROZEN_PARTS, TrainSettings
from karp_perception.records import atomic_file

_LOG = logging.getLogger(__name__)
CHECKPOINT, LOSSES = "checkpoint.pt", "losses.jsonl"
_BETAS = (0.9, 0.98)


class TrainingDiverged(ConfigurationError):
    """The loss or its gradient is no number any more."""


@dataclass(frozen=True)
class Ranks:
    """This process among those that `torchrun` started; alone by default."""

    rank: int = 0
    count: int = 1
    device: str = "cpu"

    @classmethod
    def from_environment(cls) -> Ranks:
        """As torchrun says, on a GPU of its own where there are any."""
        rank, count = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
        if not torch.cuda.is_available():
            return cls(rank, count)
        return cls(rank, count, f"cuda:{int(os.environ.get('LOCAL_RANK', '0'))}")


@dataclass(frozen=True)
class Progress:
    """What is told after a step."""

    step: int
    steps: int
    loss: float
    rate: float


def train(
    config: ModelConfig,
    samples: Samples,
    out: Path,
    settings: TrainSettings = TrainSettings(),
    *,
    init: ModelSource | None = None,
    freeze: Sequence[str] = (),
    progress: Callable[[Progress], None] = lambda _: None,
    augmentation: AugmentationSettings = AugmentationSettings(),
    ranks: Ranks | None = None,
) -> Path:
    """Train, from the beginning or from where a checkpoint in `out` says.

    Args:
        config: of the network.
        samples: what to learn from.
        out: a folder: checkpoint.pt, losses.jsonl, NAME.safetensors (averaged weights), TensorBoard's events.
        settings: of the training.
        init: weights to start from instead of random ones.
        freeze: parts out of FROZEN_PARTS that stay as they are.
        progress: called after each step.
        augmentation: what is done to frames, where `settings.augment` says so.
        ranks: this process among several; found out by itself.

    Returns:
        The weight file.

    Raises ConfigurationError for a checkpoint or weights that do not fit, and TrainingDiverged. SIGINT and SIGTERM end
    the training after the step under way, with a checkpoint, and raise KeyboardInterrupt.
    """
    ranks = ranks or Ranks.from_environment()
    out.mkdir(parents=True, exist_ok=True)
    if ranks.device == "cpu":
        keep_freed_memory()
    with ExitStack() as stack:
        if ranks.count > 1:
            _join_group(ranks, stack)
        run = _Run(config, settings, out, init, freeze, ranks)
        first = run.restore()
        if first >= settings.steps:
            run.save(first)  # the weight file may be gone
            return run.weights
        chosen = BatchSettings(settings.batch_size, augmentation if settings.augment else None, settings.seed)
        batches = load(Batches(samples, config, chosen, first, ranks.rank, ranks.count), settings.workers)
        stopping = stack.enter_context(_asked_to_stop())
        saved = time.monotonic()
        with run.logs(first):
            for step in range(first, settings.steps):
                loss, parts = run.step(step, next(batches))
                run.log(step, loss, parts)
                progress(Progress(step + 1, settings.steps, loss, run.rate(step)))
                if stopping.is_set() or time.monotonic() - saved > settings.save_every:
                    run.save(step + 1)
                    saved = time.monotonic()
                if stopping.is_set():
                    break
            else:
                run.save(settings.steps)
        del batches  # ends the readers
    if stopping.is_set():
        raise KeyboardInterrupt
    return run.weights


class _Run:
    """A training under way."""

    def __init__(self, config: ModelConfig, settings: TrainSettings, out: Path, init: ModelSource | None,
                 freeze: Sequence[str], ranks: Ranks) -> None:  # fmt: skip
        self.config, self.settings, self.out, self.ranks = config, settings, out, ranks
        self.net = _starting_network(config, settings, init)
        self.net.to(ranks.device, memory_format=torch.channels_last)
        torch.manual_seed(settings.seed)
        self.objective = Objective(self.net).to(ranks.device)
        self.frozen = _freeze(self.net, freeze)
        self.average = WeightAverage(self.net, settings.average)
        self.optimizer = torch.optim.AdamW(_groups(self.objective, settings.weight_decay), betas=_BETAS, fused=True)
        self.parallel: nn.Module = self.objective
        if ranks.count > 1:
            self.parallel = nn.parallel.DistributedDataParallel(self.objective, find_unused_parameters=True)
        self.half = _half_type(settings, ranks.device)
        self.init, self.freeze = init, tuple(freeze)
        share = settings.encoder_share if init is None else settings.encoder_share_init
        self.encoder_steps = round(share * settings.steps)

    @property
    def weights(self) -> Path:
        """The weight file."""
        return self.out / f"{self.config.name}.safetensors"

    def restore(self) -> int:
        """Goes on from a checkpoint where there is one; the number of the next step."""
        file = self.out / CHECKPOINT
        if not file.exists():
            return 0
        state = load_checkpoint(file, self.config, self.settings)
        before = tuple(state.get("freeze", self.freeze))
        if set(before) != set(self.freeze):
            was, now = (", ".join(sorted(parts)) or "none" for parts in (before, self.freeze))
            raise ConfigurationError(
                f"{file}: a training with other frozen parts ({was}; now {now}); choose another folder, or take its "
                "weights with --init"
            )
        self.objective.load_state_dict(state["objective"])
        self.average.net.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        _LOG.info("%s: going on at step %d of %d", file, state["step"], self.settings.steps)
        return int(state["step"])

    def save(self, step: int) -> None:
        """Write checkpoint and weights, as they are before step number `step`."""
        if self.ranks.rank != 0:
            return
        state = {
            "step": step,
            "objective": self.objective.state_dict(),
            "average": self.average.net.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "freeze": list(self.freeze),
        }
        save_checkpoint(self.out / CHECKPOINT, self.config, self.settings, state)
        about = {"steps": str(step), "seed": str(self.settings.seed), "init": str(self.init and self.init.digest)}
        save_weights(self.average.net, self.weights, about)

    def rate(self, step: int) -> float:
        """Learning rate of a step: rising in the warm-up, then a half cosine."""
        s = self.settings
        return cosine_rate(step, s.steps, s.learning_rate, s.last_rate, s.warm_up)

    def step(self, step: int, batch: Batch) -> tuple[float, Mapping[str, float]]:
        """One step of the optimizer: the loss before it, and its parts."""
        self.parallel.train()
        for module in self.frozen:
            module.eval()  # statistics of batch normalisation stay as well
        batch = batch.to(self.ranks.device)
        batch.images = (
            batch.images.flatten(0, 1)
            .contiguous(memory_format=torch.channels_last)
            .unflatten(0, batch.images.shape[:2])
        )
        batch.canvas = batch.canvas.contiguous(memory_format=torch.channels_last)
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate(step)
        self.optimizer.zero_grad(set_to_none=True)
        seed = step * self.ranks.count + self.ranks.rank
        loss, parts = self.parallel(batch, seed, self.half, step >= self.encoder_steps)
        _require_finite(step, "loss", loss)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.objective.parameters(), self.settings.clip)
        _require_finite(step, "gradient", norm)  # before it is in the weights, and they in a checkpoint
        self.optimizer.step()
        self.average.update(self.net, step)
        told = {name: float(value.detach()) for name, value in parts.items()}
        return float(loss.detach()), {**told, "gradient": float(norm)}

    @contextmanager
    def logs(self, first: int) -> Iterator[None]:
        """Open the logs; lines of steps from `first` on, which will be done again, are taken out."""
        self._events = self._lines = None
        if self.ranks.rank != 0:
            yield
            return
        file = self.out / LOSSES
        kept = lines_before(file, first)
        with atomic_file(file) as stream:
            stream.writelines(line + "\n" for line in kept)
        from torch.utils.tensorboard import SummaryWriter

        with file.open("a") as self._lines, SummaryWriter(self.out, purge_step=first) as self._events:
            yield

    def log(self, step: int, loss: float, parts: Mapping[str, float]) -> None:
        """A line and events, for every `log_every`-th step."""
        if step % self.settings.log_every or self._lines is None:
            return
        values = {"loss": loss, **parts, "rate": self.rate(step)}
        self._lines.write(json.dumps({"step": step, **{k: float(f"{v:.6g}") for k, v in values.items()}}) + "\n")
        self._lines.flush()
        for name, value in values.items():
            self._events.add_scalar(name, value, step)


def _require_finite(step: int, name: str, value: torch.Tensor) -> None:
    if not torch.isfinite(value):
        raise TrainingDiverged(
            f"step {step}: the {name} is {float(value.detach())}; train anew with a lower learning rate, in another "
            "folder, from the last weights (--init) or from none"
        )


def _starting_network(config: ModelConfig, settings: TrainSettings, init: ModelSource | None) -> DetectorNet:
    if init is None:
        return build(config, settings.seed)
    differ = {name for name, value in vars(config).items() if getattr(init.config, name) != value} - {"name", "cameras"}
    if differ:
        theirs, names = init.config.name, ", ".join(sorted(differ))
        raise ConfigurationError(f"{init.file}: weights of {theirs!r} do not fit {config.name!r}: {names} differ")
    net = load_network(init)
    net.config = config
    return net


def _freeze(net: DetectorNet, parts: Sequence[str]) -> list[nn.Module]:
    unknown = sorted(set(parts) - set(FROZEN_PARTS))
    if unknown:
        raise ConfigurationError(f"freeze: expected some of {', '.join(FROZEN_PARTS)}, got {', '.join(unknown)}")
    modules = [getattr(net, part) for part in parts]
    for module in modules:
        module.requires_grad_(False)
    return modules


def _groups(objective: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Matrices decay; biases, norms and what is learnt of places do not."""
    parameters = [p for p in objective.parameters() if p.requires_grad]
    return [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]


def _half_type(settings: TrainSettings, device: str) -> torch.dtype | None:
    """bfloat16 where arithmetic in it is faster: GPUs from Ampere on, CPUs with instructions for it."""
    if settings.half == "off":
        return None
    if settings.half == "bfloat16":
        return torch.bfloat16
    if device.startswith("cuda"):
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else None
    has = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if has else None


def _join_group(ranks: Ranks, stack: ExitStack) -> None:
    if ranks.device.startswith("cuda"):
        torch.cuda.set_device(ranks.device)
    torch.distributed.init_process_group("nccl" if ranks.device.startswith("cuda") else "gloo")
    stack.callback(torch.distributed.destroy_process_group)


@contextmanager
def _asked_to_stop() -> Iterator[threading.Event]:
    """An event that SIGINT and SIGTERM set; only the main thread can be asked."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = {number: signal.signal(number, lambda *_: asked.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
