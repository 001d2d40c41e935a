"""Structures of arrays: one row a thing in every column."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from typing_extensions import Self


class Columns:
    """Base of dataclasses whose fields are arrays (N, ...), all of them, in the order in which they are given."""

    def columns(self) -> tuple[np.ndarray, ...]:
        """All arrays, in order."""
        return tuple(getattr(self, name) for name in self.names())

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Of the columns, in order."""
        dataclass: Any = cls
        return tuple(field.name for field in fields(dataclass))

    def __len__(self) -> int:
        return len(getattr(self, self.names()[0]))

    def take(self, rows: np.ndarray) -> Self:
        """Those rows alone, as often as they are named."""
        return type(self)(*(column[rows] for column in self.columns()))

    def with_floats(self, dtype: type[np.floating[Any]]) -> Self:
        """The same rows, with floating-point columns of that type; what counts or masks stays as it is."""
        return type(self)(*(c.astype(dtype) if c.dtype.kind == "f" else c for c in self.columns()))

    @classmethod
    def concatenate(cls, parts: Sequence[Self]) -> Self:
        """The rows of all parts, of which there is at least one, in order."""
        return cls(*map(np.concatenate, zip(*(part.columns() for part in parts), strict=True)))
