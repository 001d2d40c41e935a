"""Frames of the embedded world that no training has seen: other seeds, and one family of places held out whole.

Training leaves `HELD_OUT_FAMILY` out and takes seeds far below `EVALUATION_SEEDS`. Frames depend on the seed and their
number alone, not on how many processes make them.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from karp_perception.core.errors import ConfigurationError
from karp_perception.evaluation.evaluation_frame import EvaluationFrame
from karp_perception.sensing.labelled_frame import load_labelled_frame
from karp_perception.world.frame_files import write_frame
from karp_perception.world.workers import Work, job_results
from karp_perception.world.world_frames import EmbeddedPlaces, OpenWorld, WorldFrames, labelled

EVALUATION_SEEDS = 1_000_000_000
"""Seeds of evaluation lie from here on, far above those of training."""

PER_DRIVE = 4
"""Frames of a drive: places differ more than moments, and beginning a drive costs about as much as two frames."""

SPACING_S = 2.0
"""Between two frames of a drive, s: long enough that other things are in view."""

_SEEDS_APART = 1000  # between two seeds of the user, so that every family has one of its own
_PARTIAL = ".partial"


@dataclass(frozen=True)
class HeldOutFrames:
    """Which frames: number i is of family i modulo their number, so that all have as many, or one more.

    Attributes:
        seed: of the user; see `seed_of`.
        frames: in all.
        families: of places.
        rig: name of a set of sensors.
        folder: keep frames here, as folders with frame.json (images as JPEG), and take from here those that are kept
            already; None keeps none.
    """

    seed: int
    frames: int
    families: tuple[str, ...]
    rig: str = "nano"
    folder: Path | None = None

    def __post_init__(self) -> None:
        if self.frames < 1 or self.seed < 0 or not self.families:
            raise ConfigurationError(
                f"held-out frames: expected a seed of at least 0, a frame and a family, "
                f"got {self.seed}, {self.frames} and {list(self.families)}"
            )
        if len(set(self.families)) < len(self.families):
            raise ConfigurationError(f"held-out frames: expected each family once, got {', '.join(self.families)}")

    def drives(self) -> list[int]:
        """Numbers of the drives that the frames come from: drive d is of family d modulo the number of families."""
        count = len(self.families)
        return [d for d in range(-(-self.frames // PER_DRIVE) + count) if self.frames_of(d)]

    def frames_of(self, drive: int) -> list[int]:
        """Numbers of a drive's frames, in order of time."""
        count = len(self.families)
        family, first = drive % count, drive // count * PER_DRIVE
        return [i for k in range(first, first + PER_DRIVE) if (i := k * count + family) < self.frames]

    def stream(
        self, workers: int | None = None, open_world: OpenWorld | None = None
    ) -> Generator[EvaluationFrame, None, None]:
        """The frames as they are made, by processes of their own; close the generator to end them.

        Args:
            workers: processes; by default one fewer than there are cores, for the detector has to run as well.
            open_world: makes the worlds (picklable); by default embedded ones.

        Raises WorkerFailed where a process ends early.
        """
        make = partial(self.maker, open_world)
        with closing(job_results(make, self.drives(), workers or max(1, (os.cpu_count() or 1) - 1))) as results:
            for _, frame in results:
                yield frame

    def maker(self, open_world: OpenWorld | None = None) -> Work:
        """What makes the frames of a drive by its number. Raises ConfigurationError for a folder that cannot be."""
        if self.folder is not None:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise ConfigurationError(f"{self.folder}: cannot be written: {error}") from None
        return _Maker(self, open_world)


def seed_of(seed: int, family: str) -> int:
    """Seed of a family's worlds for a user's seed, never one of training's."""
    from karp_perception.world.layouts.families import FAMILIES

    return EVALUATION_SEEDS + seed * _SEEDS_APART + FAMILIES.index(family)


class _Maker:
    """Makes the frames of a drive in a worker process."""

    def __init__(self, plan: HeldOutFrames, open_world: OpenWorld | None) -> None:
        self._plan = plan
        self._open = open_world or EmbeddedPlaces(plan.rig)

    def __call__(self, drive: int) -> Generator[EvaluationFrame, None, None]:
        plan = self._plan
        family, number = plan.families[drive % len(plan.families)], drive // len(plan.families)
        seed = seed_of(plan.seed, family)
        wanted = plan.frames_of(drive)
        names = [f"{plan.rig}_{family}_{seed}_{number * PER_DRIVE + k:05d}" for k in range(len(wanted))]
        folders = [None if plan.folder is None else plan.folder / name for name in names]
        missing = [k for k, folder in enumerate(folders) if folder is None or not folder.exists()]
        source = self._source(seed, family).drive(number) if missing else None
        for k, (index, name, folder) in enumerate(zip(wanted, names, folders, strict=True)):
            made = next(source) if source is not None and k <= missing[-1] else None  # those kept are driven past
            if folder is None:
                assert made is not None
                frame = replace(labelled(*made), masks={})  # masks are of no use here, and large
            else:
                if made is not None and k in missing:
                    _keep(folder, partial(write_frame, sensors=made[0], truth=made[1]))
                frame = load_labelled_frame(folder)
            yield EvaluationFrame(index, name, family, frame)

    def _source(self, seed: int, family: str) -> WorldFrames:
        return WorldFrames(
            seed, (family,), self._plan.rig, per_drive=PER_DRIVE, spacing=SPACING_S, open_world=self._open
        )


def _keep(folder: Path, write: Callable[[Path], None]) -> None:
    """Write a folder that appears under its name when it is complete."""
    partial_folder = folder.with_name(f".{folder.name}.{os.getpid()}{_PARTIAL}")
    shutil.rmtree(partial_folder, ignore_errors=True)
    try:
        partial_folder.mkdir()
        write(partial_folder)
        os.rename(partial_folder, folder)
    except OSError as error:
        # Another evaluation that keeps its frames here may have made the same one meanwhile.
        if not folder.exists():
            raise ConfigurationError(f"{folder}: cannot be written: {error}") from None
    finally:
        shutil.rmtree(partial_folder, ignore_errors=True)
