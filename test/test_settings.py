"""Settings: types, ranges, nesting, YAML, and one clear line for what is wrong."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from karp_perception.core import ConfigurationError, Settings, nested, setting


@dataclass(frozen=True)
class Inner(Settings):
    gate: float = setting(3.0, "gate", unit="sigma", low=0.5, high=10.0)
    mode: str = setting("auto", "how", choices=("auto", "never"))


@dataclass(frozen=True)
class Outer(Settings):
    count: int = setting(4, "how many", low=1)
    on: bool = setting(True, "whether")
    names: tuple = setting(("a",), "which")
    inner: Inner = nested(Inner)


def test_parameters_carry_dotted_names_and_descriptions() -> None:
    parameters = {p.name: p for p in Outer().parameters()}
    assert list(parameters) == ["count", "on", "names", "inner.gate", "inner.mode"]
    gate = parameters["inner.gate"]
    assert (gate.value, gate.unit, gate.low, gate.high, gate.description) == (3.0, "sigma", 0.5, 10.0, "gate")


def test_mappings_and_dotted_names_lead_to_the_same_settings() -> None:
    by_mapping = Outer.from_mapping({"count": 2, "inner": {"gate": 5}})
    by_name = Outer().with_parameters({"count": 2, "inner.gate": 5})
    assert by_mapping == by_name
    assert isinstance(by_mapping.inner.gate, float)


@pytest.mark.parametrize(
    "yaml", ["count: 2\ninner: {mode: never}", "/**:\n  ros__parameters:\n    count: 2\n    inner: {mode: never}"]
)
def test_plain_and_ros_yaml(yaml: str, tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(yaml)
    assert Outer.from_yaml(file) == Outer(count=2, inner=Inner(mode="never"))


@pytest.mark.parametrize(
    ("mapping", "says"),
    [
        ({"cuont": 2}, "cuont: no such setting; there are count, inner, names, on"),
        ({"count": 0}, "count: expected 1 to None"),
        ({"count": 2.5}, "expected int"),
        ({"count": True}, "expected int"),
        ({"on": 1}, "expected bool"),
        ({"inner": {"gate": 99}}, "inner.gate: expected 0.5 to 10.0 sigma, got 99"),
        ({"inner": {"gate": float("nan")}}, "expected 0.5 to 10.0"),
        ({"inner": {"mode": "maybe"}}, "one of auto, never"),
        ({"inner": 3}, "keys and values"),
    ],
)
def test_what_is_wrong_is_named(mapping: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        Outer.from_mapping(mapping)


def test_ranges_hold_for_settings_built_in_code() -> None:
    with pytest.raises(ConfigurationError, match=r"Inner.gate"):
        Inner(gate=0.0)


def test_a_file_that_is_no_yaml(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("a: [1")
    with pytest.raises(ConfigurationError, match="cannot be read as YAML"):
        Outer.from_yaml(tmp_path / "bad.yaml")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        Outer.from_yaml(tmp_path / "missing.yaml")


def test_the_last_file_that_names_a_setting_has_the_last_word(tmp_path: Path) -> None:
    first, second = tmp_path / "first.yaml", tmp_path / "second.yaml"
    first.write_text("count: 2\ninner: {mode: never, gate: 5.0}")
    second.write_text("/**:\n  ros__parameters:\n    inner: {gate: 4.0}")
    assert Outer.from_yaml(first, second) == Outer(count=2, inner=Inner(mode="never", gate=4.0))
    assert Outer.from_yaml(second, first) == Outer(count=2, inner=Inner(mode="never", gate=5.0))
    assert Outer.from_yaml() == Outer()
