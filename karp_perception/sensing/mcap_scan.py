"""MCAP files without a usable index: of a recorder that was killed, cut off in a copy, or damaged in the middle.

The file is read once from the front, as far as it goes, to build the index that is missing; chunks that are damaged are
left out. Memory stays small: the index holds three numbers a message.
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from collections.abc import Collection, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

from karp_perception.core.errors import BagError
from karp_perception.sensing.bag_sources import Channel, MessageDefinition, Span
from karp_perception.sensing.qos import Qos

_MAGIC = b"\x89MCAP0\r\n"
_RECORD_HEADER = struct.Struct("<BQ")  # operation code, length
_SCHEMA, _CHANNEL, _MESSAGE, _CHUNK, _DATA_END = 0x03, 0x04, 0x05, 0x06, 0x0F
_CHUNKS_KEPT = 4  # decompressed at a time: chunks overlap a little in time
_ALONE = -1  # position of a message that is in no chunk


class McapScan:
    """One MCAP file, read without its index. `damage` says in plain words what is wrong with it.

    Raises BagError for a file that is no MCAP.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.damage: list[str] = []
        self.channels: list[Channel] = []
        self._by_id: dict[int, Channel] = {}
        self._schemas: dict[int, Any] = {}
        self._index: list[tuple[int, int, int, int]] = []  # log time, offset, position in the chunk, channel id
        self._kept: OrderedDict[int, list[Any]] = OrderedDict()
        self._file: BinaryIO = path.open("rb")
        if self._file.read(len(_MAGIC)) != _MAGIC:
            self._file.close()
            raise BagError(f"{path}: expected an MCAP file, got something else (its first bytes are wrong)")
        self._scan()
        self._index.sort()
        self.start_ns = self._index[0][0] if self._index else 0
        self.end_ns = self._index[-1][0] if self._index else 0
        for _, _, _, channel_id in self._index:
            self._by_id[channel_id].count += 1

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def messages(self, channels: Collection[Channel], span: Span = Span()) -> Iterator[tuple[Channel, int, bytes]]:
        """Messages of some channels in log-time order."""
        for log_time, offset, position, channel_id in self._index:
            channel = self._by_id[channel_id]
            if channel in channels and span.start_ns <= log_time < span.stop_ns:
                yield channel, log_time, self._data(offset, position)

    def _scan(self) -> None:
        while True:
            offset = self._file.tell()
            header = self._file.read(_RECORD_HEADER.size)
            if len(header) < _RECORD_HEADER.size:
                self.damage.append("it ends without an index (was the recorder killed?)")
                return
            code, length = _RECORD_HEADER.unpack(header)
            if code == _DATA_END:
                self._file.seek(-len(_MAGIC), 2)
                if self._file.read() != _MAGIC:
                    self.damage.append("its index is cut off; no message is missing")
                return
            if code in (_SCHEMA, _CHANNEL, _MESSAGE, _CHUNK):
                body = self._file.read(min(length, 1 << 40))
                if len(body) < length:
                    self.damage.append(f"it is cut off at byte {offset + len(header) + len(body)}")
                    return
                try:
                    self._take(code, offset, body)
                except Exception as error:  # the decompressors, struct and the record parsers have no common base
                    self.damage.append(
                        f"the part at byte {offset} is damaged and left out ({error or type(error).__name__})"
                    )
            else:
                self._file.seek(length, 1)

    def _take(self, code: int, offset: int, body: bytes) -> None:
        from mcap import records

        if code == _CHUNK:
            for position, record in enumerate(_chunk_records(body)):
                self._note(record, offset, position)
        else:
            record_class = {_SCHEMA: records.Schema, _CHANNEL: records.Channel}.get(code)
            record = _message(body) if record_class is None else record_class.read(_stream(body))
            self._note(record, offset, _ALONE)

    def _note(self, record: Any, offset: int, position: int) -> None:
        from mcap.records import Channel as McapChannel
        from mcap.records import Message, Schema

        if isinstance(record, Schema):
            self._schemas[record.id] = record
        elif isinstance(record, McapChannel) and record.id not in self._by_id:
            schema = self._schemas.get(record.schema_id)
            definition = (
                None if schema is None else MessageDefinition(schema.encoding, schema.data.decode(errors="replace"))
            )
            self._by_id[record.id] = channel = Channel(
                record.topic, "" if schema is None else schema.name, record.message_encoding, definition,
                0, Qos.parse(record.metadata.get("offered_qos_profiles")), record.id,
            )  # fmt: skip
            self.channels.append(channel)
        elif isinstance(record, Message) and record.channel_id in self._by_id:
            self._index.append((record.log_time, offset, position, record.channel_id))

    def _data(self, offset: int, position: int) -> bytes:
        if offset not in self._kept:
            self._file.seek(offset)
            _, length = _RECORD_HEADER.unpack(self._file.read(_RECORD_HEADER.size))
            body = self._file.read(length)
            self._kept[offset] = [_message(body)] if position == _ALONE else _chunk_records(body)
            while len(self._kept) > _CHUNKS_KEPT:
                self._kept.popitem(last=False)
        return self._kept[offset][max(position, 0)].data


def _stream(body: bytes) -> Any:
    from mcap.data_stream import ReadDataStream

    return ReadDataStream(BytesIO(body))


def _message(body: bytes) -> Any:
    from mcap.records import Message

    return Message.read(_stream(body), len(body))


def _chunk_records(body: bytes) -> list[Any]:
    from mcap.records import Chunk
    from mcap.stream_reader import breakup_chunk

    return breakup_chunk(Chunk.read(_stream(body)), validate_crc=True)
