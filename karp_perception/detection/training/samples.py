"""Which frame is the n-th sample: an order that depends on the seed alone, so that training can go on at any sample."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from karp_perception.core import ConfigurationError, InvalidInput
from karp_perception.detection.training.augmentation.paste_bank import PasteBank
from karp_perception.detection.training.world_frames import WorldDrives
from karp_perception.sensing.label_upkeep import ended_with_view
from karp_perception.sensing.labelled_frame import LabelledFrame
from karp_perception.sensing.rectified import rectified

if TYPE_CHECKING:
    from karp_perception.sensing.datasets.dataset import Dataset

_LOG = logging.getLogger(__name__)
_REPORTED: set[tuple[str, int]] = set()
_BANK_FRAMES = 100  # of a data set, that objects to paste are taken from
_SOURCE = 1  # tells the chance of which source it is from that of what is done to its frame


@dataclass(frozen=True)
class Sample:
    """A frame to learn from, and objects of other frames that may be put into it."""

    frame: LabelledFrame
    bank: PasteBank


class Samples(Protocol):
    """What to learn from, shared out to several readers: reader r of n gets what no other reader gets."""

    def samples(self, reader: int, readers: int, first: int) -> Iterator[Sample]:
        """The reader's samples from number `first` on, without end; the same whatever was read before."""


@dataclass(frozen=True)
class WorldSamples:
    """Frames of the world, made while the training runs.

    Making a frame costs more than learning from it. So each reader keeps a pool of the last ones and draws from it:
    for each frame that is made `echo` samples are drawn, each augmented anew ("data echoing", Choi et al., 2019).

    Attributes:
        drives: where frames come from.
        echo: samples for each frame that is made.
        pool: most frames that a reader keeps.
        head_start: frames that are made before the first sample is drawn.
    """

    drives: WorldDrives
    echo: int = 4
    pool: int = 400
    head_start: int = 24

    def samples(self, reader: int, readers: int, first: int) -> Iterator[Sample]:
        """See Samples. To go on at `first` the pool is made again, which takes as long as its frames take."""
        # The pool's frames, and those since the bank last began anew, which are never more.
        oldest = max(0, self._made(first) - self.pool)
        drive = oldest // self.drives.per_drive
        made = drive * self.drives.per_drive
        source = self.drives.frames(reader + drive * readers, readers)
        pool: deque[LabelledFrame] = deque(maxlen=self.pool)
        bank, bank_rng = PasteBank(), np.random.default_rng(0)
        number = first
        while True:
            while made < self._made(number):
                if made % self.pool == 0:
                    # The bank begins anew, so that it can be filled again from the frames of one pool.
                    bank, bank_rng = PasteBank(), np.random.default_rng([self.drives.seed, reader, made])
                pool.append(next(source))
                bank.add(pool[-1], bank_rng)
                made += 1
            kept = min(self.pool, self._made(number))
            rng = np.random.default_rng([self.drives.seed, reader, number])
            # Counted from the newest: what is older than the pool may still be there and must not be drawn.
            yield Sample(pool[len(pool) - 1 - int(rng.integers(kept))], bank)
            number += 1

    def _made(self, number: int) -> int:
        """Frames that have been made before sample `number` is drawn."""
        return self.head_start + number // self.echo


@dataclass(frozen=True)
class DatasetSamples:
    """A data set, over and over, each time in another order.

    Its frames are made what a detector gets and can learn from: images without lens distortion, and a sweep that ends
    where labels do.
    """

    dataset: Dataset
    seed: int

    def __post_init__(self) -> None:
        if len(self.dataset) == 0:
            raise ConfigurationError(f"{self.dataset.name}: no frames to learn from")

    def samples(self, reader: int, readers: int, first: int) -> Iterator[Sample]:
        """See Samples."""
        count = len(self.dataset)
        bank, bank_rng = PasteBank(), np.random.default_rng(self.seed)
        for row in bank_rng.permutation(count)[:_BANK_FRAMES]:
            frame = self._readable(int(row))
            if frame is not None:
                bank.add(frame, bank_rng)
        number = reader + first * readers
        while True:
            epoch, place = divmod(number, count)
            order = np.random.default_rng([self.seed, epoch]).permutation(count)
            while place < count:
                yield Sample(self._first_readable(np.roll(order, -place)), bank)
                place += readers
            number = epoch * count + place

    def _first_readable(self, rows: np.ndarray) -> LabelledFrame:
        """The first of these frames that can be read, so that one that cannot does not move those after it."""
        for row in rows:
            frame = self._readable(int(row))
            if frame is not None:
                return frame
        raise ConfigurationError(f"{self.dataset.name}: not one of its {len(rows)} frames can be read")

    def _readable(self, row: int) -> LabelledFrame | None:
        """A frame; None, said once, for one whose files are damaged: the others are still worth learning from."""
        try:
            return ended_with_view(rectified(self.dataset[row]))
        except InvalidInput as error:
            if (self.dataset.name, row) not in _REPORTED:
                _REPORTED.add((self.dataset.name, row))
                _LOG.warning("a frame is left out: %s", error)
            return None


@dataclass(frozen=True)
class MixedSamples:
    """Samples out of several sources, as often as their weights say."""

    sources: Sequence[Samples]
    weights: Sequence[float]
    seed: int

    def samples(self, reader: int, readers: int, first: int) -> Iterator[Sample]:
        """See Samples."""
        share = np.asarray(self.weights, float) / np.sum(self.weights)

        def source(number: int) -> int:
            return int(np.random.default_rng([self.seed, reader, number, _SOURCE]).choice(len(share), p=share))

        taken = np.bincount([source(number) for number in range(first)], minlength=len(share))
        streams = [s.samples(reader, readers, int(n)) for s, n in zip(self.sources, taken, strict=True)]
        number = first
        while True:
            yield next(streams[source(number)])
            number += 1
