"""Parameter files and the environment of the middleware: pure Python, no ROS needed."""

from __future__ import annotations

import os
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

import pytest

from karp_perception.core import ConfigurationError, Settings, nested, setting
from karp_perception.core.resources import parameter_file, resource
from karp_perception.pipeline import PipelineSettings
from karp_perception.ros import parameters
from karp_perception.ros.parameters import NodeSettings
from karp_perception.ros.transport import PROFILE_VARIABLES, make_room_for_large_messages


@dataclass(frozen=True)
class Inner(Settings):
    small: float = setting(1e-7, "a small number", unit="m", low=0.0)
    names: tuple = setting(("a", "b"), "some names")


@dataclass(frozen=True)
class Outer(Settings):
    number: int = setting(3, "a number", low=1, high=9)
    inner: Inner = nested(Inner)
    text: str = setting("no", "a text that YAML would take for something else", choices=("no", "yes"))


def test_a_written_parameter_file_reads_back_as_the_same_settings(tmp_path: Path) -> None:
    file = tmp_path / "outer.yaml"
    file.write_text(parameters.parameter_file(Outer(), "title"))
    assert Outer.from_yaml(file) == Outer()
    text = file.read_text()
    assert "# a small number [m]; from 0.0" in text
    assert "# a number; 1 to 9" in text


@pytest.mark.parametrize(
    ("name", "kind", "text"),
    [
        ("karp.yaml", PipelineSettings, parameters.default_parameter_file),
        ("nodes.yaml", NodeSettings, parameters.default_node_file),
    ],
)
def test_the_shipped_parameter_files_are_the_defaults_of_the_code(name: str, kind: type, text: object) -> None:
    file = resource("config", name)
    advice = "write it anew with `python -m karp_perception.ros.parameters`"
    assert kind.from_yaml(file) == kind(), advice
    assert file.read_text() == text(), advice


def test_every_vehicle_is_understood_and_the_car_is_the_default() -> None:
    found = {file.stem: PipelineSettings.from_yaml(file) for file in resource("config", "vehicles").glob("*.yaml")}
    assert found.keys() == {"car", "shuttle", "robot"}
    assert found["car"] == PipelineSettings()
    assert (found["robot"].vehicle.length, found["robot"].vehicle.width) == (0.6, 0.5)
    assert found["robot"].vehicle.kind == "differential"
    assert found["shuttle"].vehicle.max_speed < 7.0


def test_a_parameter_file_goes_by_its_path_or_by_the_name_of_a_vehicle(tmp_path: Path) -> None:
    assert parameter_file("robot") == resource("config", "vehicles", "robot.yaml")
    own = tmp_path / "robot.yaml"
    own.write_text("vehicle: {width: 0.7}")
    assert parameter_file(own) == own
    layered = PipelineSettings.from_yaml(parameter_file("robot"), parameter_file(str(own))).vehicle
    assert (layered.width, layered.kind) == (0.7, "differential")
    with pytest.raises(ConfigurationError, match="car, robot, shuttle"):
        parameter_file("bus")


def test_the_rear_axle_example_is_understood() -> None:
    settings = PipelineSettings.from_yaml(resource("config", "rear_axle.yaml"))
    assert settings.vehicle.front > 3.0
    assert settings.planner == PipelineSettings().planner


def test_every_parameter_is_described() -> None:
    for parameter in (*PipelineSettings().parameters(), *NodeSettings().parameters()):
        assert parameter.description, parameter.name
        assert not isinstance(parameter.value, tuple) or parameter.value, f"{parameter.name}: ROS has no empty list"


def test_large_messages_get_room_unless_the_user_chose(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in (*PROFILE_VARIABLES, "FASTDDS_BUILTIN_TRANSPORTS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    assert make_room_for_large_messages()
    files = {os.environ[name] for name in PROFILE_VARIABLES}
    assert len(files) == 1
    tree = ElementTree.parse(files.pop()).getroot()
    sizes = {item.tag.split("}")[-1]: int(item.text) for item in tree.iter() if (item.text or "").strip().isdigit()}
    largest = 1920 * 1080 * 3  # a full HD image, as raw as it comes
    assert sizes["maxMessageSize"] > largest
    assert sizes["segment_size"] > 4 * largest
    for name in PROFILE_VARIABLES:
        monkeypatch.delenv(name)
        monkeypatch.setenv(name, "/my/own.xml")
        assert not make_room_for_large_messages()
        assert os.environ[name] == "/my/own.xml"
        monkeypatch.delenv(name)
    (tmp_path / "DEFAULT_FASTRTPS_PROFILES.xml").write_text("<dds/>")
    assert not make_room_for_large_messages()
