"""Reading recordings: rosbag2 directories, lone MCAP and sqlite3 files, ROS 1 bags; compressed, damaged or both."""

from __future__ import annotations

import heapq
import logging
import struct
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import TYPE_CHECKING, Any

from karp_perception.core.counters import Counters
from karp_perception.core.errors import BagError
from karp_perception.sensing.bag_sources import Channel, Source, Span, open_sources
from karp_perception.sensing.bag_types import RecordedTypes
from karp_perception.sensing.bag_writer import BagWriter
from karp_perception.sensing.message_types import default_message, typestore
from karp_perception.sensing.qos import LATCHED, Qos

if TYPE_CHECKING:
    from rosbags.typesys.store import Typestore
    from typing_extensions import Self

__all__ = [
    "LATCHED",
    "BagMessage",
    "BagReader",
    "BagWriter",
    "Qos",
    "RawMessage",
    "Topic",
    "default_message",
    "typestore",
]

_log = logging.getLogger(__name__)
END_OF_TIME = Span().stop_ns
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


@dataclass(frozen=True)
class Topic:
    """A recorded topic. `qos`: the profiles its publishers offered, as far as the recording tells."""

    name: str
    type: str
    count: int
    qos: tuple[Qos, ...] = ()


@dataclass(frozen=True)
class BagMessage:
    """A message and the time it was recorded at, ns."""

    topic: str
    type: str
    log_ns: int
    message: Any


@dataclass(frozen=True)
class RawMessage:
    """A message as CDR bytes, for publishing it again as it is."""

    topic: str
    type: str
    log_ns: int
    data: bytes


class BagReader:
    """An open recording; use it in a `with` block.

    Types come from the definitions in the recording where it has them, else from `typestore()`. Topics of unknown types
    are left out with one line in the log each. ROS 1 messages are given in their ROS 2 form.

    Args:
        path: a bag directory (metadata.yaml may be missing), or an .mcap, .db3 or .bag file, also with .zstd.

    Attributes:
        topics: by name, unknown types included.
        unknown: topics whose messages cannot be decoded, and why.
        start_ns, end_ns: log times of the first and the last message (0 in an empty recording).
        counters: by topic; a message is used when it was handed out, dropped as "undecodable" or "unknown_type".
        damage: in plain words, what is wrong with the files; more may be found while reading.
        store: the types of this recording.

    Raises BagError, saying what was expected, for something that is no recording or holds nothing readable.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._stack = ExitStack()
        scratch = Path(self._stack.enter_context(TemporaryDirectory(prefix="karp_bag_")))
        try:
            self._sources = open_sources(self.path, scratch)
            for source in self._sources:
                self._stack.callback(source.close)
            channels = [channel for source in self._sources for channel in source.channels]
            self._types = RecordedTypes(channels)
        except OSError as error:
            self._stack.close()
            raise BagError(f"{self.path}: cannot be read: {error}") from None
        except BaseException:
            self._stack.close()
            raise
        self.unknown = self._types.unknown
        self.store: Typestore = self._types.store
        self.topics = _topics(channels)
        self.counters: dict[str, Counters] = {name: Counters() for name in self.topics}
        for topic, why in self.unknown.items():
            _log.warning("%s: %s is left out: %s", self.path, topic, why)
        filled = [source for source in self._sources if any(channel.count for channel in source.channels)]
        self.start_ns = min((source.start_ns for source in filled), default=0)
        self.end_ns = max((source.end_ns for source in filled), default=0)

    @property
    def duration_s(self) -> float:
        """From the first message to the last, s."""
        return (self.end_ns - self.start_ns) / 1e9

    @property
    def message_count(self) -> int:
        """Messages of all topics."""
        return sum(topic.count for topic in self.topics.values())

    @property
    def damage(self) -> list[str]:
        """What is wrong with the files, as far as known by now."""
        return [f"{source.path.name}: {line}" for source in self._sources for line in source.damage]

    def messages(
        self, topics: Collection[str] | None = None, *, start_ns: int = 0, stop_ns: int = END_OF_TIME
    ) -> Iterator[BagMessage]:
        """Decoded messages of some topics (None: all) in log-time order. Damaged ones are counted and skipped.

        Args:
            topics: names; BagError for one that the recording does not have.
            start_ns, stop_ns: log times from and up to (not including) which to read, ns.
        """
        for channel, log_ns, message in self._read(topics, Span(start_ns, stop_ns), self._types.decode):
            yield BagMessage(channel.topic, channel.type, log_ns, message)

    def raw_messages(
        self, topics: Collection[str] | None = None, *, start_ns: int = 0, stop_ns: int = END_OF_TIME
    ) -> Iterator[RawMessage]:
        """As `messages`, but CDR bytes, without decoding them."""
        for channel, log_ns, data in self._read(topics, Span(start_ns, stop_ns), self._types.as_cdr):
            yield RawMessage(channel.topic, channel.type, log_ns, data)

    def close(self) -> None:
        """Closes the files."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _read(
        self, topics: Collection[str] | None, span: Span, decode: Callable[[Channel, bytes], Any]
    ) -> Iterator[tuple[Channel, int, Any]]:
        from rosbags.serde import SerdeError

        wanted = set(self.topics) if topics is None else set(topics)
        if missing := sorted(wanted - set(self.topics)):
            there = ", ".join(sorted(self.topics)) or "none"
            raise BagError(f"{self.path}: no topic {', '.join(missing)}; it has {there}")
        for name in wanted & set(self.unknown):
            self.counters[name].drop("unknown_type", self.topics[name].count)
        wanted -= set(self.unknown)
        sources = [source for source in self._sources if span.meets(source.start_ns, source.end_ns)]
        streams = [_lazily(source, [c for c in source.channels if c.topic in wanted], span) for source in sources]
        for log_ns, item in heapq.merge(*streams, key=lambda entry: entry[0]):
            if item is None:
                continue
            channel, data = item
            try:
                decoded = decode(channel, _unpacked(data))
            except (SerdeError, struct.error, ValueError, IndexError, AssertionError, OverflowError, KeyError) as error:
                if "undecodable" not in self.counters[channel.topic].dropped:
                    _log.warning("%s: a message of %s cannot be decoded: %s", self.path, channel.topic, error)
                self.counters[channel.topic].drop("undecodable")
                continue
            self.counters[channel.topic].use()
            yield channel, log_ns, decoded


def _lazily(source: Source, channels: list[Channel], span: Span) -> Iterator[tuple[int, tuple[Channel, bytes] | None]]:
    """The messages of a file; it is touched only when the merge has come to its start."""
    if channels:
        yield source.start_ns, None
        for channel, log_ns, data in source.messages(channels, span):
            yield log_ns, (channel, data)


def _unpacked(data: bytes) -> bytes:
    """The message behind rosbag2's message compression: CDR begins with 00, so a zstd frame cannot be mistaken."""
    if data[:4] != _ZSTD_MAGIC:
        return data
    import zstandard

    try:
        return zstandard.ZstdDecompressor().decompressobj().decompress(data)
    except zstandard.ZstdError as error:
        raise ValueError(f"compressed message: {error}") from None


def _topics(channels: list[Channel]) -> dict[str, Topic]:
    """One entry a topic, whatever number of publishers and files it has; with different types, the first counts."""
    topics: dict[str, Topic] = {}
    for channel in channels:
        known = topics.get(channel.topic, Topic(channel.topic, channel.type, 0))
        qos = known.qos + tuple(profile for profile in channel.qos if profile not in known.qos)
        topics[channel.topic] = Topic(known.name, known.type, known.count + channel.count, qos)
    return dict(sorted(topics.items()))
