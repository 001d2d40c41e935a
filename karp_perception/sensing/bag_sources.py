"""The files a recording is made of, each opened by the library that knows it, all behind one small interface."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from karp_perception.core.errors import BagError
from karp_perception.sensing.qos import Qos

_log = logging.getLogger(__name__)
_STORAGE = (".mcap", ".db3", ".bag")
_COMPRESSED = ".zstd"


class MessageDefinition(NamedTuple):
    """A message definition that came with the recording: `ros2msg`, `ros2idl` or `ros1msg` and its text."""

    encoding: str
    text: str


class Span(NamedTuple):
    """Log times of interest, ns: from start on, before stop."""

    start_ns: int = 0
    stop_ns: int = 2**63 - 1

    def meets(self, first_ns: int, last_ns: int) -> bool:
        """Whether something from `first_ns` to `last_ns` lies in it, in part at least."""
        return self.start_ns <= last_ns and first_ns < self.stop_ns


@dataclass(eq=False)
class Channel:
    """One topic of one file. Compared by identity."""

    topic: str
    type: str
    encoding: str  # of the messages: cdr, ros1, or what this package cannot read
    definition: MessageDefinition | None
    count: int
    qos: tuple[Qos, ...]
    handle: Any  # what the library calls it


class Source(Protocol):
    """An open file of a recording."""

    path: Path
    channels: list[Channel]
    damage: list[str]
    start_ns: int
    end_ns: int

    def messages(self, channels: Collection[Channel], span: Span = Span()) -> Iterator[tuple[Channel, int, bytes]]:
        """Messages of some channels in log-time order: channel, log time in ns, bytes."""
        ...

    def close(self) -> None:
        """Closes the file."""
        ...


class IndexedFile:
    """A whole MCAP, sqlite3 or ROS 1 file, through the readers of rosbags."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.damage: list[str] = []
        self.ros1 = path.suffix == ".bag"
        if self.ros1:
            from rosbags.rosbag1 import Reader as Ros1Reader

            self._reader: Any = Ros1Reader(path)
        else:
            from rosbags.rosbag2 import Reader as Ros2Reader

            self._reader = Ros2Reader(path)
        self._reader.open()
        self.channels = [self._channel(connection) for connection in self._reader.connections]
        count = self._reader.message_count
        self.start_ns = self._reader.start_time if count else 0
        self.end_ns = self._reader.end_time - 1 if count else 0

    def close(self) -> None:
        """Closes the file."""
        self._reader.close()

    def messages(self, channels: Collection[Channel], span: Span = Span()) -> Iterator[tuple[Channel, int, bytes]]:
        """Messages of some channels in log-time order. Where the file turns out to be damaged, the rest follows."""
        by_id = {channel.handle.id: channel for channel in channels}
        yielded = 0
        try:
            for connection, log_ns, data in self._reader.messages(
                [channel.handle for channel in channels], start=span.start_ns, stop=span.stop_ns
            ):
                yield by_id[connection.id], log_ns, data
                yielded += 1
            return
        except GeneratorExit:
            raise
        except Exception as error:  # the libraries below have no common base for "this file is damaged"
            _note_damage(self, f"it is damaged after {yielded} messages ({error or type(error).__name__})")
        if self.path.suffix == ".mcap":
            yield from self._rest_of_mcap(channels, span, yielded)

    def _rest_of_mcap(
        self, channels: Collection[Channel], span: Span, yielded: int
    ) -> Iterator[tuple[Channel, int, bytes]]:
        """What a scan of the file finds beyond the damage: both readers order by log time, chunk and position."""
        from karp_perception.sensing.mcap_scan import McapScan

        scan = McapScan(self.path)
        try:
            for line in scan.damage:
                _note_damage(self, line)
            ours = {(channel.topic, channel.type): channel for channel in channels}
            wanted = [channel for channel in scan.channels if (channel.topic, channel.type) in ours]
            for channel, log_ns, data in islice(scan.messages(wanted, span), yielded, None):
                yield ours[channel.topic, channel.type], log_ns, data
        finally:
            scan.close()

    def _channel(self, connection: Any) -> Channel:
        text = connection.msgdef.data
        encoding = {"MSG": "ros1msg" if self.ros1 else "ros2msg", "IDL": "ros2idl"}.get(connection.msgdef.format.name)
        profiles = () if self.ros1 else tuple(_qos(profile) for profile in connection.ext.offered_qos_profiles)
        return Channel(
            connection.topic, connection.msgtype, "ros1" if self.ros1 else connection.ext.serialization_format,
            MessageDefinition(encoding, text) if encoding and text else None, connection.msgcount, profiles, connection,
        )  # fmt: skip


def open_sources(path: Path, scratch: Path) -> list[Source]:
    """Every readable file of a recording, by start time.

    Args:
        path: a bag directory (with or without metadata.yaml), or a single .mcap, .db3 or .bag file, `.zstd` or not.
        scratch: where file-compressed ones are unpacked.

    Raises BagError, saying what was expected, where nothing can be read.
    """
    if not path.exists():
        raise BagError(f"{path}: no such file or directory; expected a bag directory, or an .mcap, .db3 or .bag file")
    files, listed = [path], None
    if path.is_dir():
        files = [f for f in sorted(path.iterdir(), key=_natural_order) if _storage_suffix(f) in _STORAGE]
        if not files:
            raise BagError(f"{path}: {_no_bag(path)}")
        listed = listed_files(path)
        files = [f for f in files if listed is None or f.name in listed] or files
    elif _storage_suffix(path) not in _STORAGE:
        raise BagError(
            f"{path}: expected a bag directory, or an .mcap, .db3 or .bag file, got {path.suffix or 'no suffix'}"
        )
    sources: list[Source] = []
    errors: list[BagError] = []
    for file in files:
        try:
            sources.append(_open_file(file, scratch))
        except BagError as error:
            errors.append(error)
    if not sources:
        raise errors[0]
    for error in errors:
        _note_damage(sources[0], str(error))
    for name in sorted(set(listed or ()) - {file.name for file in files}):
        _note_damage(sources[0], f"metadata.yaml names {name}, which is not there")
    if listed is None and len(files) > 1:
        _note_damage(sources[0], f"there is no metadata.yaml: {len(files)} files are read as one recording")
    return sorted(sources, key=lambda source: source.start_ns)


def _open_file(path: Path, scratch: Path) -> Source:
    if path.stat().st_size == 0:
        raise BagError(f"{path}: the file is empty; was the recording stopped before anything was written?")
    if path.suffix == _COMPRESSED:
        path = _unpack(path, scratch)
    try:
        source = IndexedFile(path)
        if path.suffix != ".mcap" or source._reader.storage.chunks or not source.channels:
            return source
        source.close()  # without an index rosbags refuses messages that are out of order
    except Exception as error:  # the libraries below have no common base for "cannot be read"
        if path.suffix != ".mcap":
            advice = "; try `sqlite3 FILE .recover`" if path.suffix == ".db3" else "; try `rosbag reindex`"
            raise BagError(f"{path}: cannot be read ({error or type(error).__name__}){advice}") from None
    from karp_perception.sensing.mcap_scan import McapScan

    scan = McapScan(path)
    if not scan.channels:
        scan.close()
        raise BagError(f"{path}: an MCAP file without a single topic that can be read; try `mcap recover`")
    for line in scan.damage:
        _log.warning("%s: %s; %d messages can be read", path, line, sum(c.count for c in scan.channels))
    return scan


def _note_damage(source: Source, line: str) -> None:
    if line not in source.damage:
        source.damage.append(line)
        _log.warning("%s: %s", source.path, line)


def _unpack(path: Path, scratch: Path) -> Path:
    import zstandard

    out = scratch / path.stem
    with path.open("rb") as packed, out.open("wb") as unpacked:
        try:
            zstandard.ZstdDecompressor().copy_stream(packed, unpacked)
        except zstandard.ZstdError as error:
            _log.warning("%s: the compressed file is damaged (%s); reading what could be unpacked", path, error)
    return out


def _storage_suffix(path: Path) -> str:
    return Path(path.stem).suffix if path.suffix == _COMPRESSED else path.suffix


def listed_files(path: Path) -> list[str] | None:
    """Names of the files that the metadata.yaml of a bag directory lists; None where it does not exist or say."""
    import yaml

    try:
        metadata = yaml.safe_load((path / "metadata.yaml").read_text())
        return [Path(name).name for name in metadata["rosbag2_bagfile_information"]["relative_file_paths"]]
    except (OSError, yaml.YAMLError, TypeError, KeyError, UnicodeDecodeError):
        return None


def _no_bag(path: Path) -> str:
    """What was expected of a directory, and what came."""
    expected = "expected a bag directory (metadata.yaml and .mcap or .db3 files)"
    inside = sorted(path.iterdir())
    bags = [f.name for f in inside if (f / "metadata.yaml").is_file()]
    if bags:
        return f"{expected}, found bags inside it: {', '.join(bags[:5])}"
    return f"{expected}, found {', '.join(f.name for f in inside[:5]) or 'nothing'}"


def _natural_order(path: Path) -> list[Any]:
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", path.name)]


def _qos(profile: Any) -> Qos:
    return Qos(
        profile.reliability.name.lower(), profile.durability.name.lower(), profile.history.name.lower(), profile.depth
    )
