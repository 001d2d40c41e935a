"""What a scenario may fix of a place, with its range; the rest is drawn from the seed."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from karp_perception.core.errors import ConfigurationError


@dataclass(frozen=True)
class Parameter:
    """One thing that may be fixed.

    Attributes:
        text: what it is, with its unit.
        kind: int, float, bool or str.
        low, high: its range, both ends included.
        options: of a str.
    """

    text: str
    kind: type
    low: float = -math.inf
    high: float = math.inf
    options: tuple[str, ...] = ()

    @property
    def range(self) -> str:
        """What is allowed, in words."""
        if self.kind is bool:
            return "true or false"
        if self.kind is str:
            return "one of " + ", ".join(self.options)
        return f"{'a whole number' if self.kind is int else 'a number'} from {self.low:g} to {self.high:g}"

    def checked(self, subject: str, value: Any) -> Any:
        """The value, or ConfigurationError that names `subject`."""
        numeric = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
        if self.kind is bool:
            good = isinstance(value, bool)
        elif self.kind is str:
            good = value in self.options
        else:
            good = numeric and self.low <= value <= self.high and (self.kind is float or value == int(value))
        if not good:
            raise ConfigurationError(f"{subject}: expected {self.range}, got {value!r}")
        return self.kind(value)


def checked(family: str, known: Mapping[str, Parameter], given: Mapping[str, Any]) -> dict[str, Any]:
    """The given parameters of a family. Raises ConfigurationError for unknown names and values out of range."""
    for name in given:
        if name not in known:
            close = difflib.get_close_matches(name, known, 1)
            advice = f"; did you mean {close[0]!r}?" if close else ""
            raise ConfigurationError(f"layout {family!r}: no parameter {name!r}, it has {', '.join(known)}{advice}")
    return {name: known[name].checked(f"layout {family!r}, {name}", value) for name, value in given.items()}
