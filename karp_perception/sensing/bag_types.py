"""The message types of one recording: by the definitions that came with it, else by those that this package knows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from karp_perception.sensing.bag_sources import Channel
from karp_perception.sensing.message_types import typestore

if TYPE_CHECKING:
    from rosbags.typesys.store import Typestore

_OLD_NAMES = {"tf/msg/tfMessage": "tf2_msgs/msg/TFMessage"}  # ROS 1 before tf2


class RecordedTypes:
    """Decodes the messages of a recording.

    Attributes:
        store: the types, in their ROS 2 form.
        unknown: topics that cannot be decoded, and why.
    """

    def __init__(self, channels: list[Channel]) -> None:
        self.unknown: dict[str, str] = {}
        self._migrated: dict[str, object] = {}  # working memory of the ROS 1 conversion
        readable = [channel for channel in channels if self._is_readable(channel)]
        ros1 = [channel for channel in readable if channel.encoding == "ros1"]
        ros2 = [channel for channel in readable if channel.encoding == "cdr"]
        self.store = self._store_for(ros2)
        self._ros1_store = self._store_for(ros1) if ros1 else None
        for channel in ros1:
            channel.type = _OLD_NAMES.get(channel.type, channel.type)
            if channel.topic not in self.unknown and channel.type not in self.store.fielddefs:
                self.unknown[channel.topic] = f"its ROS 1 type {channel.type} has no ROS 2 form here"

    def decode(self, channel: Channel, data: bytes) -> Any:
        """The message object of a channel's bytes."""
        if self._ros1_store is None or channel.encoding != "ros1":
            return _deserialize(self.store, channel.type, data)
        from rosbags.convert.converter import migrate_message

        old = next((name for name, new in _OLD_NAMES.items() if new == channel.type), channel.type)
        old = old if old in self._ros1_store.fielddefs else channel.type
        message = self._ros1_store.deserialize_ros1(data, old)
        return migrate_message(self._ros1_store, self.store, old, channel.type, self._migrated, message)

    def as_cdr(self, channel: Channel, data: bytes) -> bytes:
        """CDR bytes of a channel's bytes."""
        if channel.encoding == "ros1":
            return bytes(self.store.serialize_cdr(self.decode(channel, data), channel.type))
        return data

    def _is_readable(self, channel: Channel) -> bool:
        if channel.encoding in ("cdr", "ros1"):
            return True
        self.unknown[channel.topic] = f"its messages are encoded as {channel.encoding or 'nothing'}, expected cdr"
        return False

    def _store_for(self, channels: list[Channel]) -> Typestore:
        """The shared store where it agrees with the recording, else one of the recording's own definitions."""
        from rosbags.typesys import Stores, TypesysError, get_typestore

        shared = typestore()
        recorded = self._recorded_definitions(channels)
        if all(
            name in shared.fielddefs and shared.fielddefs[name][1] == fields for name, (_, fields) in recorded.items()
        ):
            self._note_missing(channels, shared)
            return shared
        store = get_typestore(Stores.EMPTY)
        definitions = {name: d for name, d in shared.fielddefs.items() if name not in recorded} | recorded
        needed: dict[str, Any] = {}
        for name in {channel.type for channel in channels}:
            closure = _with_parts(name, definitions)
            if closure is not None:
                needed.update({part: definitions[part] for part in closure if part not in store.fielddefs})
        try:
            store.register(needed)
        except (TypesysError, SyntaxError) as error:
            for channel in channels:
                if channel.type in recorded and channel.type not in shared.fielddefs:
                    self.unknown[channel.topic] = (
                        f"the definition of {channel.type} in the recording is broken ({error})"
                    )
            store = shared
        self._note_missing(channels, store)
        return store

    def _recorded_definitions(self, channels: list[Channel]) -> dict[str, Any]:
        from rosbags.typesys import TypesysError, get_types_from_idl, get_types_from_msg

        types: dict[str, Any] = {}
        for channel in channels:
            if channel.definition is None or channel.type in types:
                continue
            encoding, text = channel.definition
            try:
                if encoding in ("ros2msg", "ros1msg"):
                    types.update(get_types_from_msg(text, channel.type))
                elif encoding in ("ros2idl", "omgidl"):
                    for part in _idl_parts(text):
                        types.update(get_types_from_idl(part))
            except (TypesysError, ValueError, AssertionError, RecursionError) as error:
                if channel.type not in typestore().fielddefs:
                    self.unknown[channel.topic] = (
                        f"the definition of {channel.type} in the recording is broken ({error})"
                    )
        return types

    def _note_missing(self, channels: list[Channel], store: Typestore) -> None:
        for channel in channels:
            if channel.type not in store.fielddefs and channel.topic not in self.unknown:
                self.unknown[channel.topic] = (
                    f"the type {channel.type or '(none)'} is not known and the recording does not define it"
                )


def _deserialize(store: Typestore, type_name: str, data: bytes) -> Any:
    """A CDR message. Behind an empty sequence of doubles Fast CDR adds up to 8 bytes, which rosbags refuses."""
    from rosbags.serde import SerdeError

    try:
        return store.deserialize_cdr(data, type_name)
    except SerdeError as error:
        if "size mismatch" not in str(error):
            raise
        for surplus in (4, 8):
            try:
                return store.deserialize_cdr(data[: len(data) - surplus], type_name)
            except SerdeError:
                continue
        raise


def _with_parts(name: str, definitions: dict[str, Any]) -> set[str] | None:
    """A type and all types it is made of; None where one of them is not defined."""
    from rosbags.interfaces import Nodetype

    parts: set[str] = set()
    pending = [name]
    while pending:
        part = pending.pop()
        if part not in definitions:
            return None
        if part in parts:
            continue
        parts.add(part)
        for _, (kind, detail) in definitions[part][1]:
            if kind in (Nodetype.ARRAY, Nodetype.SEQUENCE):
                kind, detail = detail[0]
            if kind == Nodetype.NAME:
                pending.append(detail)
    return parts


def _idl_parts(text: str) -> list[str]:
    """rosbag2 joins the definitions of a type and its parts with lines of `=` and a header."""
    separator = "=" * 80 + "\n"
    if not text.startswith(f"{separator}IDL: "):
        return [text]
    return [part.split("\n", 1)[1] for part in text.split(separator)[1:]]
