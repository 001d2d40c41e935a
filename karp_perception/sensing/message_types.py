"""ROS message types without ROS: the type store of rosbags with every type this package speaks, and empty messages.

The classes are rosbags' plain dataclasses. They have the field names of rclpy's, so code that fills one by assigning
attributes fills the other as well.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from karp_perception.core.errors import InvalidInput

if TYPE_CHECKING:
    from rosbags.typesys.store import Typestore

# Fields of standard messages whose definition gives another default than zero.
_DEFAULTS: dict[tuple[str, str], float | int] = {
    ("geometry_msgs/msg/Quaternion", "w"): 1.0,
    ("sensor_msgs/msg/NavSatStatus", "status"): -2,
}
_BYTES = {"byte": "uint8", "char": "uint8", "octet": "uint8", "bool": "bool"}


@cache
def typestore() -> Typestore:
    """The shared store: ROS 2 Jazzy's standard types and those of `interfaces/`. Treat it as read-only."""
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore

    store = get_typestore(Stores.ROS2_JAZZY)
    types: dict[str, Any] = {}
    for file in _definition_files():
        types.update(get_types_from_msg(file.read_text(), f"{file.parent.parent.name}/msg/{file.stem}"))
    store.register({name: definition for name, definition in types.items() if name not in store.fielddefs})
    return store


def _definition_files() -> list[Path]:
    """The `<package>/msg/<Type>.msg` files that come with this package."""
    from karp_perception.core.resources import resource

    return sorted(resource("interfaces").glob("*/msg/*.msg"))


def full_type_name(name: str) -> str:
    """`sensor_msgs/Image` and `sensor_msgs/msg/Image` -> `sensor_msgs/msg/Image`."""
    package, _, rest = name.partition("/")
    return name if "/" in rest or not rest else f"{package}/msg/{rest}"


def default_message(type_name: str) -> Any:
    """A new message with every field at its ROS default, nested messages included, ready to be filled.

    Numbers are 0 (or what the definition says), strings empty, arrays of numbers numpy arrays (empty, or zeros of their
    fixed length), sequences of messages empty lists. Raises InvalidInput for a type that is not known.
    """
    return _maker(full_type_name(type_name))()


def serialize(message: Any, type_name: str = "", store: Typestore | None = None) -> bytes:
    """CDR bytes of a rosbags message.

    Arrays that were assigned as lists, bytes or array.array become numpy arrays of the field's type first, in place.
    Raises InvalidInput where a field cannot be serialised.
    """
    from rosbags.serde import SerdeError

    name = full_type_name(type_name or message.__msgtype__)
    store = store or typestore()
    try:
        _arrays_of(store, name)(message)
        return bytes(store.serialize_cdr(message, name))
    except (SerdeError, struct.error, AttributeError, AssertionError, TypeError, ValueError, KeyError) as error:
        raise InvalidInput(f"message of {name}", "fields of the right types and ranges", repr(error)) from None


@cache
def _maker(name: str) -> Callable[[], Any]:
    """A function that builds default messages of one type."""
    store = typestore()
    if name not in store.fielddefs:
        raise InvalidInput("message type", "one of ROS 2's or of interfaces/", repr(name), "add its .msg file there")
    message_class = store.types[name]
    makers = [_field_maker(field_type, _DEFAULTS.get((name, field))) for field, field_type in store.fielddefs[name][1]]
    return lambda: message_class(*[make() for make in makers])


def _field_maker(field_type: Any, default: float | None) -> Callable[[], Any]:
    from rosbags.interfaces import Nodetype

    kind, detail = field_type
    if kind == Nodetype.NAME:
        return _maker(detail)
    if kind == Nodetype.BASE:
        value = _scalar(detail[0]) if default is None else default
        return lambda: value
    (element_kind, element), length = detail
    length = length if kind == Nodetype.ARRAY else 0
    if element_kind == Nodetype.NAME:
        make = _maker(element)
        return lambda: [make() for _ in range(length)]
    if element[0] in ("string", "wstring"):
        return lambda: [""] * length
    dtype = np.dtype(_BYTES.get(element[0], element[0]))
    return lambda: np.zeros(length, dtype)


def _scalar(base: str) -> Any:
    return "" if base in ("string", "wstring") else False if base == "bool" else 0.0 if base.startswith("float") else 0


_ARRAY_PLANS: dict[tuple[int, str], Callable[[Any], None]] = {}


def _arrays_of(store: Typestore, name: str) -> Callable[[Any], None]:
    """A function that turns what was assigned to a message's arrays of numbers into numpy arrays, nested ones too."""
    key = (id(store.fielddefs), name)
    if key not in _ARRAY_PLANS:
        from rosbags.interfaces import Nodetype
        from rosbags.typesys.base import normalize_fieldname

        arrays: list[tuple[str, np.dtype[Any], int]] = []
        nested: list[tuple[str, Callable[[Any], None], bool]] = []
        for field, (kind, detail) in store.fielddefs[name][1]:
            field = normalize_fieldname(field)
            if kind == Nodetype.NAME:
                nested.append((field, _arrays_of(store, detail), False))
            elif kind != Nodetype.BASE:
                (element_kind, element), length = detail
                if element_kind == Nodetype.NAME:
                    nested.append((field, _arrays_of(store, element), True))
                elif element[0] not in ("string", "wstring"):
                    dtype = np.dtype(_BYTES.get(element[0], element[0]))
                    arrays.append((field, dtype, length if kind == Nodetype.ARRAY else -1))
        nested = [entry for entry in nested if entry[1] is not _no_arrays]

        def plan(message: Any) -> None:
            for field, dtype, length in arrays:
                value = getattr(message, field)
                if type(value) is not np.ndarray or value.dtype != dtype or not value.flags.c_contiguous:
                    value = np.frombuffer(value, dtype) if isinstance(value, (bytes, bytearray, memoryview)) else value
                    value = np.ascontiguousarray(value, dtype)
                    setattr(message, field, value)
                if value.ndim != 1 or (length >= 0 and len(value) != length):
                    expected = f"{length} numbers" if length >= 0 else "a flat array"
                    raise ValueError(f"{field}: expected {expected}, got shape {value.shape}")
            for field, inner, many in nested:
                value = getattr(message, field)
                for item in value if many else (value,):
                    inner(item)

        _ARRAY_PLANS[key] = plan if arrays or nested else _no_arrays
    return _ARRAY_PLANS[key]


def _no_arrays(message: Any) -> None:
    """Nothing to do: the type has no arrays of numbers."""
