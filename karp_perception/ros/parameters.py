"""Settings as ROS parameters with descriptors, and as commented parameter files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from karp_perception.core import ConfigurationError, Settings, nested, setting
from karp_perception.core.settings import Parameter
from karp_perception.maps.files import MapSettings

if TYPE_CHECKING:
    from rclpy.node import Node

S = TypeVar("S", bound=Settings)

_LARGEST_FLOAT, _LARGEST_INT = 1.7e308, (1 << 63) - 1  # where a range has only one end

_TITLE = """Every setting of the pipeline at its default, for the nodes (`config:=` of launch files, `--params-file`)
and for the command line (`--config`). A file of your own needs only what differs from this one. What the nodes alone
need (cameras, QoS, diagnostics) is in nodes.yaml. Written by `python -m karp_perception.ros.parameters`."""

_NODE_TITLE = """What the nodes need beside karp.yaml, at its default, for --params-file.
Written by `python -m karp_perception.ros.parameters`."""


@dataclass(frozen=True)
class NodeSettings(Settings):
    """What only the nodes need to know, beside the settings of the pipeline."""

    autostart: bool = setting(True, "configure and activate at start; false leaves that to a lifecycle manager")
    cameras: tuple = setting(("front",), "a name for each of ~/input/image0, 1, ...; one empty name for none")
    lidar: bool = setting(True, "whether there is a lidar on ~/input/points")
    odom_frame: str = setting("odom", "fixed frame that odometry and routes are given in")
    input_reliability: str = setting(
        "best_effort",
        "of sensor subscriptions; best_effort hears publishers of both kinds",
        choices=("best_effort", "reliable"),
    )
    input_depth: int = setting(1, "queue of each sensor subscription", unit="messages", low=1, high=1000)
    input_timeout: float = setting(
        0.5, "without new data for this long the decision is NO_INPUT", unit="s", low=0.05, high=60.0
    )
    signal_timeout: float = setting(
        1.0, "without new signals for this long the colours of lights are unknown", unit="s", low=0.05, high=60.0
    )
    map: MapSettings = nested(MapSettings)
    diagnostics_period: float = setting(1.0, "between two messages on /diagnostics", unit="s", low=0.1, high=60.0)

    @property
    def camera_names(self) -> tuple[str, ...]:
        """The cameras there are: ROS has no empty list of strings in YAML, an empty name stands for it."""
        return tuple(name for name in self.cameras if name)


def selected(settings: Settings, sections: Iterable[str]) -> Iterator[Parameter]:
    """The parameters under some of the top-level names of `settings`."""
    wanted = set(sections)
    return (parameter for parameter in settings.parameters() if parameter.name.split(".")[0] in wanted)


def declare(node: Node, parameters: Iterable[Parameter]) -> None:
    """Declare parameters with description, unit and range.

    Raises ConfigurationError where the parameter file or the command line gives one a value of another type or out of
    its range.
    """
    from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException

    for parameter in parameters:
        value = list(parameter.value) if isinstance(parameter.value, tuple) else parameter.value
        try:
            node.declare_parameter(parameter.name, value, descriptor(parameter))
        except (InvalidParameterTypeException, InvalidParameterValueException) as error:
            example = f", as in {value!r}" if not isinstance(value, str) else ""
            raise ConfigurationError(f"{error}; {parameter.name} is {_kind(parameter)}{example}") from None


def read(node: Node, settings: S, sections: Iterable[str] | None = None) -> S:
    """`settings` with the values that the node's declared parameters have now (of some top-level names only)."""
    chosen = settings.parameters() if sections is None else selected(settings, sections)
    values = {parameter.name: node.get_parameter(parameter.name).value for parameter in chosen}
    return settings.with_parameters(values)


def descriptor(parameter: Parameter) -> Any:
    """rcl_interfaces/ParameterDescriptor: description with unit, range, choices."""
    from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor

    message = ParameterDescriptor(description=_described(parameter))
    if parameter.choices:
        message.additional_constraints = f"one of: {', '.join(parameter.choices)}"
    if parameter.low is None and parameter.high is None:
        return message
    low, high = parameter.low, parameter.high
    if isinstance(parameter.value, float):
        low, high = -_LARGEST_FLOAT if low is None else low, _LARGEST_FLOAT if high is None else high
        message.floating_point_range = [FloatingPointRange(from_value=float(low), to_value=float(high), step=0.0)]
    elif isinstance(parameter.value, int):
        low, high = -_LARGEST_INT if low is None else low, _LARGEST_INT if high is None else high
        message.integer_range = [IntegerRange(from_value=int(low), to_value=int(high), step=1)]
    else:
        message.additional_constraints = _range(parameter)
    return message


def parameter_file(settings: Settings, title: str) -> str:
    """A ROS parameter file with every setting at its value, and what it means as a comment."""
    import yaml

    lines = [f"# {line}".rstrip() for line in title.splitlines()] + ["/**:", "  ros__parameters:"]
    open_sections: list[str] = []
    for parameter in settings.parameters():
        *sections, name = parameter.name.split(".")
        shared = 0
        while shared < min(len(sections), len(open_sections)) and sections[shared] == open_sections[shared]:
            shared += 1
        for depth in range(shared, len(sections)):
            lines.append(f"{'  ' * (depth + 2)}{sections[depth]}:")
        open_sections = sections
        value = list(parameter.value) if isinstance(parameter.value, tuple) else parameter.value
        text = yaml.safe_dump(value, default_flow_style=True, width=1000).removesuffix("\n...\n").strip()
        if isinstance(value, float) and "e" in text and "." not in text:
            text = text.replace("e", ".0e")  # YAML 1.1 takes 1e-3 for a string
        notes = " ".join(filter(None, (_described(parameter) + ";", _range(parameter)))).rstrip(";")
        lines.append(f"{'  ' * (len(sections) + 2)}{name}: {text}  # {notes}")
    return "\n".join(lines) + "\n"


def _described(parameter: Parameter) -> str:
    return f"{parameter.description} [{parameter.unit}]" if parameter.unit else parameter.description


def _range(parameter: Parameter) -> str:
    if parameter.choices:
        return f"one of {', '.join(parameter.choices)}"
    low, high = parameter.low, parameter.high
    if low is None and high is None:
        return ""
    return (
        f"{low} to {high}" if low is not None and high is not None else f"from {low}" if high is None else f"to {high}"
    )


def _kind(parameter: Parameter) -> str:
    names = {bool: "true or false", int: "an integer", float: "a number with a decimal point", str: "a text"}
    return names.get(type(parameter.value), "a list") + (f" in {parameter.unit}" if parameter.unit else "")


def default_parameter_file() -> str:
    """The text of `config/karp.yaml`: every setting of the pipeline at its default."""
    from karp_perception.pipeline import PipelineSettings

    return parameter_file(PipelineSettings(), _TITLE)


def default_node_file() -> str:
    """The text of `config/nodes.yaml`: what the nodes alone need, at its default."""
    return parameter_file(NodeSettings(), _NODE_TITLE)


if __name__ == "__main__":
    from karp_perception.core.resources import resource

    for name, text in (("karp.yaml", default_parameter_file()), ("nodes.yaml", default_node_file())):
        (resource("config") / name).write_text(text)
