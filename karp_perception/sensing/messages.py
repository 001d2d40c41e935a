"""Reading messages that may say anything: what is wrong becomes one InvalidInput, never another exception.

Messages are known by their attribute names alone, so those of rclpy and those that rosbags deserialises both work.
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from karp_perception.core.errors import InvalidInput
from karp_perception.core.validation import as_stamp

_NS_PER_S = 1_000_000_000
_UINT32 = (1 << 32) - 1


def attribute(message: Any, name: str, subject: str, reason: str) -> Any:
    """`message.name`, or InvalidInput where there is none."""
    try:
        return getattr(message, name)
    except AttributeError:
        raise InvalidInput(subject, f"an attribute {name!r}", type(message).__name__, reason=reason) from None


def integer(message: Any, name: str, subject: str, reason: str, low: int = 0) -> int:
    """An integer attribute from `low` to what 32 bits hold."""
    value = attribute(message, name, subject, reason)
    try:
        number = operator.index(value)
    except TypeError:
        raise InvalidInput(f"{subject} {name}", "an integer", repr(value)[:80], reason=reason) from None
    if not low <= number <= _UINT32:
        raise InvalidInput(f"{subject} {name}", f"{low} to 2^32 - 1", number, reason=reason)
    return number


def flag(message: Any, name: str, subject: str, reason: str) -> bool:
    """A boolean attribute, or one of the uint8 that some messages use as such."""
    value = attribute(message, name, subject, reason)
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    return integer(message, name, subject, reason) != 0


def text(message: Any, name: str, subject: str, reason: str) -> str:
    """A string attribute."""
    value = attribute(message, name, subject, reason)
    if not isinstance(value, str):
        raise InvalidInput(f"{subject} {name}", "a string", repr(value)[:80], reason=reason)
    return value


def byte_array(message: Any, subject: str, reason: str) -> np.ndarray:
    """`message.data` as a read-only (N,) uint8 array over the message's own memory."""
    data = attribute(message, "data", subject, reason)
    try:
        memory = memoryview(data)
        if memory.itemsize != 1:
            raise TypeError(f"items of {memory.itemsize} bytes")
        array = np.frombuffer(memory, np.uint8) if memory.nbytes else np.empty(0, np.uint8)
    except (TypeError, ValueError, BufferError) as error:
        got = f"{type(data).__name__} ({error})"
        raise InvalidInput(f"{subject} data", "contiguous bytes", got, reason=reason) from None
    array.flags.writeable = False
    return array


def header_stamp_ns(message: Any, subject: str) -> int:
    """`message.header.stamp` in ns since the epoch. Raises InvalidInput, reason `absurd_stamp`, for what is no time."""
    reason = "absurd_stamp"
    stamp = attribute(attribute(message, "header", subject, reason), "stamp", subject, reason)
    seconds = integer(stamp, "sec", f"{subject} stamp", reason)
    nanoseconds = integer(stamp, "nanosec", f"{subject} stamp", reason)
    if nanoseconds >= _NS_PER_S:
        raise InvalidInput(f"{subject} stamp nanosec", "less than 10^9", nanoseconds, reason=reason)
    return as_stamp(f"{subject} stamp", seconds * _NS_PER_S + nanoseconds)
