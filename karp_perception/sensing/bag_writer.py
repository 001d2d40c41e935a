"""Writing recordings that rosbag2, Foxglove and this package open."""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from karp_perception.core.errors import BagError
from karp_perception.core.validation import as_stamp
from karp_perception.sensing.bag_sources import listed_files
from karp_perception.sensing.message_types import full_type_name, serialize, typestore
from karp_perception.sensing.qos import Qos

if TYPE_CHECKING:
    from rosbags.typesys.store import Typestore
    from typing_extensions import Self


class BagWriter:
    """Writes a recording: a single `.mcap` file, or a rosbag2 directory with `metadata.yaml`.

    The recording appears under its name, whole, when the writer closes; an exception inside the `with` block leaves
    what was there before. A bag of that name is replaced, anything else raises BagError. Safe to use from several
    threads.

    Args:
        path: `x.mcap` writes one file, any other name a directory.
        storage: of a directory: `mcap` or `sqlite3`.
        store: the types, where a topic has one that `typestore()` lacks (`BagReader.store` of the bag it came from).
    """

    def __init__(self, path: Path | str, *, storage: str = "mcap", store: Typestore | None = None) -> None:
        self.path = Path(path)
        self._store = store or typestore()
        self._lock = threading.Lock()
        self._topics: dict[str, tuple[str, Any]] = {}  # name -> type, channel
        if storage not in ("mcap", "sqlite3"):
            raise BagError(f"storage {storage!r}: expected mcap or sqlite3")
        _check_replaceable(self.path)
        self._scratch = self.path.with_name(f".{self.path.name}.{os.getpid()}.partial")
        _remove(self._scratch)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            single = self.path.suffix == ".mcap"
            file_class = _McapFile if single else _BagDirectory
            target = self._scratch if single else self._scratch / self.path.name
            self._file: _McapFile | _BagDirectory | None = file_class(target, storage, self._store)
        except OSError as error:
            raise BagError(f"{self.path}: cannot be written: {error}") from None

    def write(
        self, topic: str, type_name: str, stamp_ns: int, message: Any, *, qos: Qos | tuple[Qos, ...] = (Qos(),)
    ) -> None:
        """Adds one message.

        Args:
            topic: absolute name, such as `/lidar/points`.
            type_name: `sensor_msgs/msg/PointCloud2`, or without `msg/`.
            stamp_ns: the log time, ns.
            message: a rosbags message (`default_message`), or CDR bytes of any origin (rclpy's `serialize_message`).
            qos: the offered profiles; those of a topic's first message count.

        Raises BagError for an unknown type, a topic that changes its type, or a closed writer; InvalidInput for a
        message whose fields do not fit.
        """
        name = full_type_name(type_name)
        if name not in self._store.fielddefs:
            raise BagError(f"{topic}: the type {name} is not known; add its .msg file to interfaces/, or pass `store`")
        is_bytes = isinstance(message, (bytes, bytearray, memoryview))
        data = bytes(message) if is_bytes else serialize(message, name, self._store)
        stamp = as_stamp(f"{topic} log time", stamp_ns)
        with self._lock:
            if self._file is None:
                raise BagError(f"{self.path}: the writer is closed")
            if topic not in self._topics:
                profiles = (qos,) if isinstance(qos, Qos) else tuple(qos)
                self._topics[topic] = (name, self._file.add_topic(topic, name, profiles))
            known, channel = self._topics[topic]
            if known != name:
                raise BagError(f"{topic}: has messages of {known}, got one of {name}")
            self._file.write(channel, stamp, data)

    def close(self) -> None:
        """Finishes the recording and gives it its name. A second call does nothing."""
        with self._lock:
            file, self._file = self._file, None
            if file is None:
                return
            try:
                file.finish()
                if self.path.is_dir():
                    shutil.rmtree(self.path)
                os.replace(file.path, self.path)
            except OSError as error:
                raise BagError(f"{self.path}: cannot be written: {error}") from None
            finally:
                _remove(self._scratch)

    def discard(self) -> None:
        """Gives up: nothing of this recording stays."""
        with self._lock:
            file, self._file = self._file, None
            if file is not None:
                file.abort()
            _remove(self._scratch)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close() if kind is None else self.discard()


class _McapFile:
    """A lone MCAP file: ros2 profile, ros2msg schemas, chunks compressed with zstd."""

    def __init__(self, path: Path, storage: str, store: Typestore) -> None:
        from mcap.writer import Writer

        self.path, self._store = path, store
        self._stream = path.open("wb")
        self._writer = Writer(self._stream)
        self._writer.start(profile="ros2", library="karp_perception")
        self._schemas: dict[str, int] = {}
        self._sequence: dict[int, int] = {}

    def add_topic(self, topic: str, type_name: str, qos: tuple[Qos, ...]) -> int:
        if type_name not in self._schemas:
            definition, _ = self._store.generate_msgdef(type_name, ros_version=2)
            self._schemas[type_name] = self._writer.register_schema(type_name, "ros2msg", definition.encode())
        profiles = "".join(profile.to_yaml() for profile in qos)
        metadata = {"offered_qos_profiles": profiles}
        return self._writer.register_channel(topic, "cdr", self._schemas[type_name], metadata)

    def write(self, channel: int, stamp: int, data: bytes) -> None:
        self._sequence[channel] = sequence = self._sequence.get(channel, -1) + 1
        self._writer.add_message(channel, stamp, data, publish_time=stamp, sequence=sequence)

    def finish(self) -> None:
        self._writer.finish()
        self._stream.close()

    def abort(self) -> None:
        self._stream.close()


class _BagDirectory:
    """A rosbag2 directory, through rosbags. Metadata of version 8: the newest that Humble to Rolling all read."""

    def __init__(self, path: Path, storage: str, store: Typestore) -> None:
        from rosbags.rosbag2 import StoragePlugin, Writer
        from rosbags.rosbag2.enums import CompressionFormat, CompressionMode

        self.path, self._store = path, store
        plugin = StoragePlugin.MCAP if storage == "mcap" else StoragePlugin.SQLITE3
        self._writer = Writer(path, version=8, storage_plugin=plugin)
        if plugin is StoragePlugin.MCAP:
            self._writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
        self._writer.open()

    def add_topic(self, topic: str, type_name: str, qos: tuple[Qos, ...]) -> Any:
        profiles = [profile.to_rosbags() for profile in qos]
        return self._writer.add_connection(topic, type_name, typestore=self._store, offered_qos_profiles=profiles)

    def write(self, channel: Any, stamp: int, data: bytes) -> None:
        self._writer.write(channel, stamp, data)

    def finish(self) -> None:
        self._writer.close()

    def abort(self) -> None:
        self._writer.abort()


def _check_replaceable(path: Path) -> None:
    """Only what is a recording, and nothing else, may be replaced."""
    if path.is_dir():
        files = {f.name for f in path.iterdir()}
        own = {"metadata.yaml"} | {f"{name}{end}" for name in listed_files(path) or () for end in ("", "-shm", "-wal")}
        if not files <= own or path.suffix == ".mcap":
            raise BagError(f"{path}: is a directory with other things in it; choose another name for the recording")
    elif path.exists() and path.suffix != ".mcap":
        raise BagError(f"{path}: is a file; choose another name, or one that ends in .mcap for a single-file recording")


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
