"""`karp world`: data sets from the embedded world, as labelled frames or as recordings.

    DIR/manifest.json         what the data set was made with
    DIR/frames/000123/        a frame, as `sensing.labelled_frame` reads it
    DIR/bags/000004/          a recorded drive

A frame depends on its number and the manifest alone: not on how many processes made it, nor on what was there before.
Each appears under its name when it is complete, so that a run that was stopped goes on where it was.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from karp_perception import __version__
from karp_perception.core.errors import ConfigurationError
from karp_perception.records import write_json
from karp_perception.world.frame_files import write_frame
from karp_perception.world.recording import recorded_frames
from karp_perception.world.workers import run_jobs
from karp_perception.world.world_frames import OpenWorld, WorldFrames

FORMAT = 1
"""Of what is written; another number, other bytes."""

_PARTIAL = ".partial"


@dataclass(frozen=True)
class DatasetSettings:
    """What decides the bytes of a data set.

    Attributes:
        seed: of everything.
        families: of places.
        rig: set of sensors.
        per_drive: frames of a drive.
        spacing: s between two frames of a drive.
        bags: recordings of drives at the world's full rate instead of single frames.
    """

    seed: int = 0
    families: tuple[str, ...] = ("straight",)
    rig: str = "nano"
    per_drive: int = 8
    spacing: float = 1.0
    bags: bool = False

    @property
    def manifest(self) -> dict[str, Any]:
        """The content of manifest.json."""
        content = {"format": FORMAT, "karp_perception": __version__, **asdict(self), "families": list(self.families)}
        text = json.dumps(content, sort_keys=True)
        return {**content, "hash": hashlib.sha256(text.encode()).hexdigest()}


def run(
    out: Path,
    frames: int,
    settings: DatasetSettings = DatasetSettings(),
    workers: int = 1,
    progress: Callable[[float], None] = lambda _: None,
    *,
    open_world: OpenWorld | None = None,
) -> dict[str, Any]:
    """Write a data set, or what it still lacks.

    Args:
        out: a directory; made where it is missing. One of other settings is refused.
        frames: of the whole data set.
        settings: what it is made of.
        workers: processes.
        progress: called with the share that is done, 0 to 1.
        open_world: makes the worlds (picklable); by default embedded ones.

    Returns:
        `frames`, of which `written` now and `kept` from before, `seconds`, `frames_per_second`.

    Raises:
        ConfigurationError: settings that cannot be, or a directory that holds something else.
        WorkerFailed: a process that ended early.
    """
    if frames < 1 or workers < 1:
        raise ConfigurationError(f"expected at least one frame and one worker, got {frames} and {workers}")
    WorldFrames(settings.seed, settings.families, per_drive=settings.per_drive, spacing=settings.spacing)
    if settings.bags:  # whole drives only: a shorter one would not be what a larger data set has in its place
        frames = -(-frames // settings.per_drive) * settings.per_drive
    out = Path(out)
    started = time.perf_counter()
    with _claimed(out, settings):
        jobs = _missing(out, frames, settings)
        lacking = sum(jobs.values())
        done = frames - lacking
        progress(done / frames)

        def stepped() -> None:
            nonlocal done
            done += 1
            progress(min(1.0, done / frames))

        make = partial(_Writer, out, frames, settings, open_world)
        run_jobs(make, list(jobs), workers, stepped)
    seconds = time.perf_counter() - started
    return {
        "frames": frames,
        "written": lacking,
        "kept": frames - lacking,
        "seconds": round(seconds, 3),
        "frames_per_second": round(lacking / seconds, 3),
    }


class _Writer:
    """Does a job in a worker process: one drive."""

    def __init__(self, out: Path, frames: int, settings: DatasetSettings, open_world: OpenWorld | None) -> None:
        self._out, self._frames, self._settings = out, frames, settings
        self._source = WorldFrames(
            settings.seed,
            settings.families,
            settings.rig,
            per_drive=settings.per_drive,
            spacing=settings.spacing,
            open_world=open_world,
        )

    def __call__(self, drive: int) -> Generator[object, None, None]:
        return self._bag(drive) if self._settings.bags else self._drive(drive)

    def _drive(self, drive: int) -> Generator[object, None, None]:
        wanted = _frames_of(drive, self._frames, self._settings)
        last = max(i for i in wanted if not frame_folder(self._out, i).exists())
        for index, (sensors, truth) in zip(wanted, self._source.drive(drive), strict=False):
            folder = frame_folder(self._out, index)
            if not folder.exists():
                partial_folder = folder.with_name(f".{folder.name}.{os.getpid()}{_PARTIAL}")
                partial_folder.mkdir(parents=True)
                write_frame(partial_folder, sensors, truth)
                os.rename(partial_folder, folder)
                yield index
            if index == last:
                return

    def _bag(self, drive: int) -> Generator[object, None, None]:
        count = len(_frames_of(drive, self._frames, self._settings))
        yield from recorded_frames(self._source.open(drive), bag_folder(self._out, drive), count)


def frame_folder(out: Path, index: int) -> Path:
    """Where a frame is."""
    return out / "frames" / f"{index:06d}"


def bag_folder(out: Path, drive: int) -> Path:
    """Where a recording is."""
    return out / "bags" / f"{drive:06d}"


def _frames_of(drive: int, frames: int, settings: DatasetSettings) -> range:
    first = drive * settings.per_drive
    return range(first, min(first + settings.per_drive, frames))


def _missing(out: Path, frames: int, settings: DatasetSettings) -> dict[int, int]:
    """Number of frames that are still to be written, by drive."""
    missing = {}
    for drive in range(-(-frames // settings.per_drive)):
        wanted = _frames_of(drive, frames, settings)
        if settings.bags:
            count = 0 if bag_folder(out, drive).exists() else len(wanted)
        else:
            count = sum(not frame_folder(out, i).exists() for i in wanted)
        if count:
            missing[drive] = count
    return missing


@contextmanager
def _claimed(out: Path, settings: DatasetSettings) -> Iterator[None]:
    """The directory for this process alone, with a manifest, and rid of what a killed process left half done."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        handle = os.open(out, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise ConfigurationError(f"{out}: cannot be written: {error}") from None
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigurationError(f"{out}: another process is writing there") from None
        _agree(out, settings)
        for kind in ("frames", "bags"):
            for left in (out / kind).glob(f".*{_PARTIAL}"):
                shutil.rmtree(left)
        yield
    finally:
        os.close(handle)


def _agree(out: Path, settings: DatasetSettings) -> None:
    """Write the manifest, or see that the one there says the same."""
    file, manifest = out / "manifest.json", settings.manifest
    if not file.exists():
        if any(out.iterdir()):
            raise ConfigurationError(f"{out}: is not empty and no data set; choose another directory")
        write_json(file, manifest)
        return
    try:
        there = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{file}: cannot be read: {error}") from None
    differing = [key for key in manifest if key != "hash" and there.get(key) != manifest[key]]
    if differing:
        says = ", ".join(f"{key} {there.get(key)!r} instead of {manifest[key]!r}" for key in differing)
        raise ConfigurationError(f"{out}: was begun with {says}; go on with those, or choose another directory")


def families_of(names: Sequence[str] | None) -> tuple[str, ...]:
    """Families by name, all of them for none. Raises ConfigurationError for one that does not exist."""
    from karp_perception.world.layouts.families import FAMILIES

    unknown = [name for name in names or () if name not in FAMILIES]
    if unknown:
        raise ConfigurationError(f"family {unknown[0]!r}: there is none of that name, only {', '.join(FAMILIES)}")
    return tuple(names or FAMILIES)
