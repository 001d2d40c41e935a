"""Reading a mapping of a file key by key: values are checked, and an error names the place, the wish and the fact."""

from __future__ import annotations

import difflib
import math
from collections.abc import Collection, Mapping
from typing import Any

from karp_perception.core.errors import ConfigurationError

_REQUIRED = object()


class Fields:
    """One mapping of a scenario file.

    Args:
        value: what stands in the file.
        where: what an error begins with, such as "urban.yaml: scenario zebra: ego".
    """

    def __init__(self, value: Any, where: str) -> None:
        self.where = where
        if not isinstance(value, Mapping):
            raise ConfigurationError(f"{where}: expected a mapping of names to values, got {_shown(value)}")
        self._value = {_name(key): inner for key, inner in value.items()}
        self._read: set[str] = set()

    def __contains__(self, key: str) -> bool:
        return key in self._value

    @property
    def names(self) -> list[str]:
        """All that stand in it."""
        return list(self._value)

    def raw(self, key: str, default: Any = _REQUIRED) -> Any:
        """The value as it is."""
        self._read.add(key)
        if key in self._value:
            return self._value[key]
        if default is _REQUIRED:
            raise ConfigurationError(f"{self.where}: expected a key {key!r}, got {', '.join(self._value) or 'none'}")
        return default

    def number(self, key: str, low: float, high: float, default: Any = _REQUIRED) -> Any:
        """A finite number in [low, high]; the default as it is."""
        value = self.raw(key, default)
        if key not in self._value:
            return value
        right = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
        if not (right and low <= value <= high):
            raise self.wrong(key, f"a number from {low:g} to {high:g}", value)
        return float(value)

    def whole(self, key: str, low: int, high: int, default: Any = _REQUIRED) -> Any:
        """A whole number in [low, high]."""
        value = self.number(key, low, high, default)
        if key in self._value and value != int(value):
            raise self.wrong(key, f"a whole number from {low} to {high}", self._value[key])
        return int(value) if key in self._value else value

    def text(self, key: str, default: Any = _REQUIRED) -> Any:
        """A text that is not empty."""
        value = self.raw(key, default)
        if key in self._value and not (isinstance(value, str) and value.strip()):
            raise self.wrong(key, "a text", value)
        return value

    def choice(self, key: str, choices: Collection[str], default: Any = _REQUIRED) -> Any:
        """One of some words."""
        value = self.raw(key, default)
        if key in self._value and value not in choices:
            raise self.wrong(key, f"one of {', '.join(sorted(choices))}", value, choices)
        return value

    def flag(self, key: str, default: Any = _REQUIRED) -> Any:
        """True or false."""
        value = self.raw(key, default)
        if key in self._value and not isinstance(value, bool):
            raise self.wrong(key, "true or false", value)
        return value

    def numbers(self, key: str, count: int, low: float, high: float, default: Any = _REQUIRED) -> Any:
        """A tuple of so many numbers in [low, high]."""
        value = self.raw(key, default)
        if key not in self._value:
            return value
        if not isinstance(value, list) or len(value) != count:
            raise self.wrong(key, f"{count} numbers", value)
        inner = Fields({str(i): v for i, v in enumerate(value)}, f"{self.where}: {key}")
        return tuple(inner.number(str(i), low, high) for i in range(count))

    def items(self, key: str) -> list[Any]:
        """A list, empty where the key is missing."""
        value = self.raw(key, [])
        if not isinstance(value, list):
            raise self.wrong(key, "a list", value)
        return value

    def inner(self, key: str, default: Any = _REQUIRED) -> Fields:
        """A mapping in it."""
        return Fields(self.raw(key, default), f"{self.where}: {key}")

    def wrong(self, key: str, expected: str, got: Any, choices: Collection[str] = ()) -> ConfigurationError:
        """The error for a value that is not what it should be."""
        near = difflib.get_close_matches(str(got), list(choices), 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        return ConfigurationError(f"{self.where}: {key}: expected {expected}, got {_shown(got)}{hint}")

    def done(self) -> None:
        """All keys were read; raises ConfigurationError for one that nobody knows."""
        unknown = [key for key in self._value if key not in self._read]
        if unknown:
            known = sorted(self._read)
            near = difflib.get_close_matches(unknown[0], known, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ConfigurationError(f"{self.where}: {unknown[0]}: expected one of {', '.join(known)}{hint}")


def _name(key: Any) -> str:
    """A key as errors show it: one with line breaks or the like in quotes; no such key is known anyway."""
    return str(key) if str(key).isprintable() else repr(str(key))


def _shown(value: Any) -> str:
    """A value in one short line."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else text[:77] + "..."
