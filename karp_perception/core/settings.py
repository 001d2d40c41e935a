"""Settings: dataclasses whose fields carry description, unit and range.

One declaration serves YAML files, ROS parameters with descriptors and the documentation:

    @dataclass(frozen=True)
    class TrackerSettings(Settings):
        gate: float = setting(3.0, "Mahalanobis gate", unit="sigma", low=0.5, high=10.0)

A field that is itself Settings nests: its parameters are called `outer.inner`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from karp_perception.core.errors import ConfigurationError

if TYPE_CHECKING:
    from typing_extensions import Self

_KEY = "setting"


@dataclass(frozen=True)
class Parameter:
    """One setting by its dotted name, as a ROS parameter or a YAML key sees it."""

    name: str
    value: Any
    description: str
    unit: str = ""
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()


def setting(
    default: Any,
    description: str,
    *,
    unit: str = "",
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
) -> Any:
    """A dataclass field with what a user needs to know about it. `low` and `high` are included in the range."""
    info = {"description": description, "unit": unit, "low": low, "high": high, "choices": choices}
    return dataclasses.field(default=default, metadata={_KEY: info})


def nested(settings: type[Settings]) -> Any:
    """A field that holds other settings, at their defaults."""
    return dataclasses.field(default_factory=settings)


@dataclass(frozen=True)
class Settings:
    """Base of all settings: checks types and ranges when built, reads mappings, lists its parameters."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if _KEY in field.metadata:
                value = _checked(f"{type(self).__name__}.{field.name}", field, getattr(self, field.name))
                object.__setattr__(self, field.name, value)

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any], where: str = "") -> Self:
        """Settings from nested keys, as in a YAML file; what is not named keeps its default.

        Raises ConfigurationError for an unknown key, naming the ones that exist, and for a bad value.
        """
        if not isinstance(values, Mapping):
            raise ConfigurationError(f"{where or cls.__name__}: expected keys and values, got {values!r}")
        known = {field.name: field for field in dataclasses.fields(cls)}
        arguments: dict[str, Any] = {}
        for key, value in values.items():
            name = f"{where}.{key}" if where else str(key)
            if key not in known:
                raise ConfigurationError(f"{name}: no such setting; there are {', '.join(sorted(known))}")
            factory = known[key].default_factory
            is_nested = isinstance(factory, type) and issubclass(factory, Settings)
            arguments[key] = factory.from_mapping(value, name) if is_nested else _checked(name, known[key], value)
        return cls(**arguments)

    @classmethod
    def from_yaml(cls, *files: Path) -> Self:
        """Settings from ROS parameter files: the keys under `ros__parameters` of `/**`, or of the whole file.

        What several files name is as the last of them says.
        """
        content: Any = {}
        for file in files:
            content = _over(content, _read(Path(file)))
        return cls.from_mapping(content)

    def parameters(self, prefix: str = "") -> Iterator[Parameter]:
        """Every setting with its dotted name and value, nested ones included."""
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Settings):
                yield from value.parameters(f"{prefix}{field.name}.")
            elif _KEY in field.metadata:
                yield Parameter(f"{prefix}{field.name}", value, **field.metadata[_KEY])

    def with_parameters(self, values: Mapping[str, Any]) -> Self:
        """A copy with some settings changed, by dotted names."""
        changes: dict[str, Any] = {}
        for name, value in values.items():
            head, _, rest = name.partition(".")
            changes.setdefault(head, {})[rest] = value
        known = {field.name for field in dataclasses.fields(self)}
        replaced: dict[str, Any] = {}
        for head, inner in changes.items():
            if head not in known:
                raise ConfigurationError(f"{head}: no such setting; there are {', '.join(sorted(known))}")
            current = getattr(self, head)
            replaced[head] = current.with_parameters(inner) if isinstance(current, Settings) else inner[""]
        return dataclasses.replace(self, **replaced)


def _read(file: Path) -> Any:
    """What a parameter file holds."""
    import yaml

    try:
        content = yaml.safe_load(file.read_text()) or {}
    except (OSError, yaml.YAMLError) as error:
        raise ConfigurationError(f"{file}: cannot be read as YAML: {error}") from None
    if isinstance(content, Mapping) and "/**" in content:
        content = (content["/**"] or {}).get("ros__parameters") or {}
    return content


def _over(below: Any, above: Any) -> Any:
    """`above` laid over `below`: mappings key by key, anything else as a whole."""
    if not (isinstance(below, Mapping) and isinstance(above, Mapping)):
        return above
    return {**below, **{key: _over(below[key], value) if key in below else value for key, value in above.items()}}


def _checked(name: str, field: dataclasses.Field[Any], value: Any) -> Any:
    """`value` in the type of the field's default, or ConfigurationError."""
    info, default = field.metadata[_KEY], field.default
    if isinstance(default, bool) or isinstance(value, bool):
        right = isinstance(default, bool) and isinstance(value, bool)
    elif isinstance(default, float):
        right = isinstance(value, (int, float))
        value = float(value) if right else value
    elif isinstance(default, tuple):
        right = isinstance(value, (list, tuple))
        value = tuple(value) if right else value
    else:
        right = isinstance(value, type(default))
    unit = f" {info['unit']}" if info["unit"] else ""
    if not right:
        raise ConfigurationError(f"{name}: expected {type(default).__name__}{unit}, got {value!r}")
    low, high = info["low"], info["high"]
    for number in value if isinstance(value, tuple) else (value,):
        outside = (low is not None and not number >= low) or (high is not None and not number <= high)
        if outside:
            raise ConfigurationError(f"{name}: expected {low} to {high}{unit}, got {value!r}")
    if info["choices"] and value not in info["choices"]:
        raise ConfigurationError(f"{name}: expected one of {', '.join(info['choices'])}, got {value!r}")
    return value
