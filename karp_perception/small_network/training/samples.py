"""Samples of a training, kept in files that say what they depend on."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from karp_perception.core.columns import Columns
from karp_perception.core.errors import ConfigurationError
from karp_perception.core.settings import Settings
from karp_perception.records import atomic_file

if TYPE_CHECKING:
    from typing_extensions import Self


class KeptSamples(Columns):
    """Base of dataclasses of what a network learns from; see Columns."""

    def save(self, file: Path, about: str) -> None:
        """Write them, atomically; `about` says what they depend on."""
        with atomic_file(file, "wb") as stream:
            np.savez(stream, about=np.array(about), **dict(zip(self.names(), self.columns(), strict=True)))

    @classmethod
    def load(cls, file: Path, about: str) -> Self | None:
        """Read what `save` wrote, None where it depends on something else. Raises ConfigurationError for any other
        file."""
        try:
            with np.load(file) as content:
                if str(content["about"]) != about:
                    return None
                return cls(*(content[name] for name in cls.names()))
        except (OSError, ValueError, KeyError) as error:
            raise ConfigurationError(f"{file}: expected samples of `karp train`: {error}; remove the file") from None

    @classmethod
    def kept(cls, file: Path, about: str, make: Callable[[], Self | None]) -> Self | None:
        """Those in a file; where there is none, or of something else, those that `make` makes, which stay there."""
        samples = cls.load(file, about) if file.exists() else None
        if samples is None:
            samples = make()
            if samples is not None:
                samples.save(file, about)
        return samples


def as_text(settings: Settings, names: Iterable[str]) -> str:
    """Some settings by name, as text."""
    return ", ".join(f"{name} {getattr(settings, name)}" for name in names)


def drawn_rows(count: int, size: int, seed: int, step: int) -> np.ndarray:
    """(size,) rows of `count` that a step sees: by its number alone, wherever a training was stopped."""
    return np.random.default_rng([seed, step, 5]).integers(count, size=size)
