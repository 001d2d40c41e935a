"""Compiled engines on disk, each under a key that covers everything it depends on.

An engine `<name>.engine` has a sidecar `<name>.json`: plain JSON with every part of the key, the engine's SHA-256, and
when it was made. Both are written beside their place and moved there, the sidecar last: without it an engine does not
count. What does not match its sidecar, or does not load, is set aside as `<file>.rejected` and built again, with a line
that says why. Of processes that want the same engine at once, one builds and the others wait for it.

An engine is code that runs with this process's rights: one is only loaded from a folder, and a file, that belong to
this user (or to root) and that nobody else may write.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import stat
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TypeVar

from karp_perception.core.long_work import LongWork

_LOG = logging.getLogger(__name__)
_FORMAT = 1
_POLL_S = 0.1

Loaded = TypeVar("Loaded")


class EngineRejected(Exception):
    """A library does not take an engine: damaged, or made by another version. The message says so in a few words."""


def default_cache() -> Path:
    """`$XDG_CACHE_HOME/karp_perception/engines`, or below ~/.cache."""
    root = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(root).expanduser() / "karp_perception" / "engines"


@dataclass(frozen=True)
class EngineKey:
    """Everything an engine depends on.

    Attributes:
        graph: its name, for people.
        onnx: SHA-256 of the ONNX file.
        backend, version: of the library.
        device: the GPU or CPU by name; "any" where the engine runs on more than one.
        compute_capability: of the GPU, such as "8.9"; "any"; empty for a CPU.
        driver: where the engine depends on it; empty otherwise.
        precision: see `PRECISIONS`.
        shapes: of the inputs, by name.
        options: of the builder.
    """

    graph: str
    onnx: str
    backend: str
    version: str
    device: str
    compute_capability: str
    driver: str
    precision: str
    shapes: dict[str, list[int]]
    options: dict[str, str | int | float | bool] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """24 hexadecimal digits, different for different keys."""
        text = json.dumps({"format": _FORMAT, **asdict(self)}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:24]

    @property
    def kin(self) -> str:
        """What the names of engines begin with that are for the same purpose."""
        return f"{self.graph}-{self.backend}-{self.precision}-"

    @property
    def name(self) -> str:
        """File name without extension."""
        return self.kin + self.digest


def onnx_digest(file: Path) -> str:
    """SHA-256 of an ONNX file."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


class EngineCache:
    """Engines in a folder, which is made when the first is written."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or default_cache()

    def obtain(self, keys: Sequence[EngineKey], build: Callable[[], bytes], load: Callable[[bytes], Loaded]) -> Loaded:
        """The first engine of `keys` that is there and loads; else a new one, kept under the first key.

        Nothing that is wrong with the folder stands in the way: where an engine cannot be kept it lives in memory.

        Args:
            keys: what would serve, best first; one at least.
            build: makes the engine for `keys[0]`.
            load: gives what the caller uses; raises EngineRejected.
        """
        key = keys[0]
        fault = self._prepare()
        if fault is not None:
            _LOG.warning("engines are not kept: %s; the engine is built at every start", fault)
            return load(build())
        found = self._load_first(keys, load)
        if found is not None:
            return found[0]
        with self._locked(key) as waited:
            if waited:
                found = self._load_first(keys, load)
                if found is not None:
                    return found[0]
            else:
                self._say_what_changed(key)
            engine = build()
            self.store(key, engine)
        return load(engine)

    def store(self, key: EngineKey, engine: bytes) -> Path | None:
        """Keep an engine. Returns its file, or None, with a line in the log, where that is impossible."""
        fault = self._prepare()
        try:
            if fault is not None:
                raise OSError(fault)
            file = self._file(key)
            self._sidecar(key).unlink(missing_ok=True)
            _write(file, engine)
            content = {"sha256": hashlib.sha256(engine).hexdigest(), "bytes": len(engine), "made": _now()}
            _write(self._sidecar(key), json.dumps({"key": asdict(key), **content}, indent=1).encode())
        except OSError as error:
            reason = error.strerror or str(error)
            _LOG.warning("the engine cannot be kept in %s (%s): it is built at every start", self.folder, reason)
            return None
        return file

    def load(self, key: EngineKey) -> bytes | None:
        """A whole engine of exactly this key, or None; what is there and is not whole is set aside with a line."""
        file = self._file(key)
        if not file.exists():
            return None
        try:
            return self._checked(key)
        except (OSError, ValueError, KeyError, TypeError) as error:
            reason = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
            self._set_aside(key, reason)
            return None

    def _load_first(self, keys: Sequence[EngineKey], load: Callable[[bytes], Loaded]) -> tuple[Loaded] | None:
        for key in keys:
            engine = self.load(key)
            if engine is None:
                continue
            try:
                return (load(engine),)
            except EngineRejected as error:
                self._set_aside(key, str(error))
        return None

    def _checked(self, key: EngineKey) -> bytes:
        """The engine. Raises ValueError, saying what is wrong, and OSError."""
        file = self._file(key)
        engine = _read_own(file)
        try:
            sidecar = json.loads(_read_own(self._sidecar(key)))
        except FileNotFoundError:
            raise ValueError("half-written: its description is missing") from None
        except json.JSONDecodeError:
            raise ValueError("its description is no JSON") from None
        if not isinstance(sidecar, dict) or sidecar.get("key") != asdict(key):
            raise ValueError("its description is that of another engine")
        if hashlib.sha256(engine).hexdigest() != sidecar.get("sha256"):
            raise ValueError(f"damaged: its SHA-256 is not the one written down, {len(engine)} bytes")
        return engine

    def _prepare(self) -> str | None:
        """Make the folder; what is wrong with it, or None."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            status = self.folder.stat()
        except OSError as error:
            return f"{self.folder} cannot be made ({error.strerror})"
        owner = _foreign(status)
        if owner is not None:
            return f"{self.folder} {owner}, and an engine is code: chmod go-w, or name a folder of your own"
        return None

    def _say_what_changed(self, key: EngineKey) -> None:
        """One line where there is an engine for the same purpose that does not serve any more."""
        wanted = asdict(key)
        for sidecar in sorted(self.folder.glob(f"{key.kin}*.json"), key=lambda file: file.name):
            try:
                there = json.loads(sidecar.read_text())["key"]
                changed = [name for name in wanted if there[name] != wanted[name]]
            except (OSError, ValueError, KeyError, TypeError):
                continue
            if changed and "shapes" not in changed and not _only_other_device(changed):
                differences = ", ".join(f"{n} {_short(there[n])} -> {_short(wanted[n])}" for n in changed)
                _LOG.warning("the %s engine of %s is built anew: %s", key.backend, self.folder, differences)
                return

    def _set_aside(self, key: EngineKey, reason: str) -> None:
        file = self._file(key)
        _LOG.warning("engine %s: %s; it is set aside and built again", file, reason)
        for each in (file, self._sidecar(key)):
            with contextlib.suppress(OSError):  # gone, or the folder is read-only: it is not used either way
                each.replace(each.with_name(each.name + ".rejected"))

    @contextlib.contextmanager
    def _locked(self, key: EngineKey) -> Iterator[bool]:
        """One process at a time; gives whether another one was waited for. Without locks where there are none."""
        try:
            handle = os.open(self.folder / f".{key.name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            yield False  # a folder that cannot be written: `store` says so
            return
        try:
            waited = False
            if not _try_lock(handle):
                _LOG.warning("another process builds the same %s engine: waiting for it", key.backend)
                waited = True
                with LongWork(f"waiting for another process that builds the {key.backend} engine"):
                    while not _try_lock(handle):
                        time.sleep(_POLL_S)
            yield waited
        finally:
            os.close(handle)  # and with it the lock; the file stays, or a third process could lock another one

    def _file(self, key: EngineKey) -> Path:
        return self.folder / f"{key.name}.engine"

    def _sidecar(self, key: EngineKey) -> Path:
        return self.folder / f"{key.name}.json"


def _try_lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:  # a file system without locks: at worst two processes do the same work
        _LOG.info("no locks in the engine cache: %s", error.strerror)
    return True


def _write(file: Path, content: bytes) -> None:
    """All of it or nothing, for this user alone."""
    draft = file.with_name(f".{file.name}.{uuid.uuid4().hex}")
    try:
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "wb") as opened:
            opened.write(content)
            opened.flush()
            os.fsync(opened.fileno())
        draft.replace(file)
    except OSError:
        draft.unlink(missing_ok=True)
        raise


def _read_own(file: Path) -> bytes:
    """Contents of a regular file that nobody else may write. Raises ValueError otherwise, and OSError."""
    handle = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as opened:
        status = os.fstat(opened.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("not a regular file")
        owner = _foreign(status)
        if owner is not None:
            raise ValueError(f"{owner}, and an engine is code")
        return opened.read()


def _foreign(status: os.stat_result) -> str | None:
    """Who but this user could have put something there; None where nobody could."""
    if status.st_uid not in (os.geteuid(), 0):
        return f"belongs to user {status.st_uid}"
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return f"can be written by others (mode {stat.S_IMODE(status.st_mode):o})"
    return None


def _only_other_device(changed: list[str]) -> bool:
    """Whether engines differ in what they run on alone: then both have a use."""
    return set(changed) <= {"device", "compute_capability"}


def _short(value: object) -> str:
    text = str(value)
    return f"{text[:12]}..." if len(text) == 64 else text


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
