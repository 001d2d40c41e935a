"""Samples to batches of tensors, in processes of their own that feed one trainer."""

from __future__ import annotations

import atexit
import os
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from karp_perception.core.blas import use_one_blas_thread
from karp_perception.detection.model.config import ModelConfig
from karp_perception.detection.model.matcher import Targets
from karp_perception.detection.preprocessing import network_arrays
from karp_perception.detection.training.augmentation.augment import AugmentationSettings, augment
from karp_perception.detection.training.augmentation.sensor_dropout import drop_sensors
from karp_perception.detection.training.samples import Sample, Samples
from karp_perception.detection.training.targets import pad_targets, target_arrays
from karp_perception.sensing.labelled_frame import LabelledFrame

_NICENESS = 5  # of the readers: the trainer waits for nobody if it can help it


@dataclass
class Batch:
    """What the network takes and what it should say, for B frames. Shapes as in `DetectorNet.forward`.

    Attributes:
        images: (B, C, 3, H, W), C the most cameras of any of the frames, at least 1.
        camera_present: (B, C). canvas: (B, channels, X, Y). lidar_present: (B, 1).
        intrinsics: (B, C, 3, 3). T_base_camera: (B, C, 4, 4).
        targets: objects.
    """

    images: Tensor
    camera_present: Tensor
    canvas: Tensor
    lidar_present: Tensor
    intrinsics: Tensor
    T_base_camera: Tensor
    targets: Targets

    @property
    def calibration(self) -> tuple[Tensor, Tensor, Tensor]:
        """What position embeddings depend on."""
        return self.intrinsics, self.T_base_camera, self.camera_present

    def to(self, device: torch.device | str) -> Batch:
        """The same on a device."""
        return Batch(**{f.name: getattr(self, f.name).to(device) for f in fields(self)})


def make_batch(frames: Sequence[LabelledFrame], config: ModelConfig) -> Batch:
    """The batch of some frames."""
    rigs, inputs = zip(*(network_arrays(frame.sensors, config) for frame in frames), strict=True)
    used = max(1, *(int(rig.present.sum()) for rig in rigs))
    stacked = {name: np.concatenate([values[name] for values in inputs]) for name in inputs[0]}
    targets = pad_targets([target_arrays(frame, config) for frame in frames])
    return Batch(
        images=torch.from_numpy(stacked["images"][:, :used]),
        camera_present=torch.from_numpy(stacked["camera_present"][:, :used]),
        canvas=torch.from_numpy(stacked["canvas"]),
        lidar_present=torch.from_numpy(stacked["lidar_present"]),
        intrinsics=torch.from_numpy(np.concatenate([rig.intrinsics[:, :used] for rig in rigs])),
        T_base_camera=torch.from_numpy(np.concatenate([rig.T_base_camera[:, :used] for rig in rigs])),
        targets=targets,
    )


@dataclass(frozen=True)
class BatchSettings:
    """How batches are made.

    Attributes:
        size: frames of a batch.
        augmentation: what is done to frames; None leaves them as they are, all sensors included.
        seed: of augmentation and sensor dropout.
    """

    size: int
    augmentation: AugmentationSettings | None
    seed: int


class Batches(IterableDataset):
    """Batches from number `first` on, without end: batch b is the same whenever the training was interrupted.

    Reader r of n makes the batches r, r + n, ...; of several trainers, trainer t has readers t * n to t * n + n - 1.
    """

    def __init__(self, samples: Samples, config: ModelConfig, settings: BatchSettings, first: int = 0,
                 trainer: int = 0, trainers: int = 1) -> None:  # fmt: skip
        super().__init__()
        self.samples, self.config, self.settings, self.first = samples, config, settings, first
        self.trainer, self.trainers = trainer, trainers

    def __iter__(self) -> Iterator[Batch]:
        worker = get_worker_info()
        number, count = (0, 1) if worker is None else (worker.id, worker.num_workers)
        # The loader asks its workers in turn, beginning with worker 0: that one makes the first batch asked for.
        reader = (number + self.first) % count
        batch = self.first // count + (1 if reader < self.first % count else 0)
        readers = count * self.trainers
        reader += self.trainer * count
        sample = batch * self.settings.size
        samples = self.samples.samples(reader, readers, sample)
        while True:
            chosen = []
            for _ in range(self.settings.size):
                rng = np.random.default_rng([self.settings.seed, reader, sample])
                chosen.append(self._changed(next(samples), rng))
                sample += 1
            yield make_batch(chosen, self.config)

    def _changed(self, sample: Sample, rng: np.random.Generator) -> LabelledFrame:
        if self.settings.augmentation is None:
            return sample.frame
        frame = augment(sample.frame, rng, self.settings.augmentation, sample.bank)
        return drop_sensors(frame, rng, self.settings.augmentation.drop)


def load(batches: Batches, workers: int) -> Iterator[Batch]:
    """The batches, in order, made by `workers` processes (0: by this one)."""
    loader = DataLoader(
        batches,
        batch_size=None,
        num_workers=workers,
        multiprocessing_context="spawn" if workers else None,
        prefetch_factor=3 if workers else None,
        worker_init_fn=_begin_reader if workers else None,
    )
    return iter(loader)


def _begin_reader(_: int) -> None:
    # Ctrl-C goes to the whole group; the trainer ends its readers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Libraries' threads that still run when a process ends can abort it, which the trainer would take for a failure.
    atexit.register(os._exit, 0)
    os.nice(_NICENESS)
    torch.set_num_threads(1)
    use_one_blas_thread()
