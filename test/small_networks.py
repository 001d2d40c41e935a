"""Small networks that nobody has trained, and trainings of a second or two that can be stopped in between."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import torch

from karp_perception.detection.training.trainer import Progress
from karp_perception.small_network.training.net import SmallNet

Net = TypeVar("Net", bound=SmallNet)


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """Products of such small matrices take longer to share out than to compute, most of all on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def shaken(make: Callable[[], Net], seed: int = 0) -> Net:
    """The network that `make` makes, far from its first weights: those at the end are nearly 0."""
    torch.manual_seed(seed)
    net = make().eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return net


class Stopped(Exception):
    """Somebody has pressed a key."""


def stop_at(step: int) -> Callable[[Progress], None]:
    """Ends a training after so many steps."""

    def stop(progress: Progress) -> None:
        if progress.step == step:
            raise Stopped

    return stop


def logged(folder: Path) -> list[dict[str, float]]:
    """What a training wrote of its losses."""
    return [json.loads(line) for line in (folder / "losses.jsonl").read_text().splitlines()]
