"""Sensor frames through shared memory: a few slots, each holding one frame's arrays."""

from __future__ import annotations

import mmap
import os
import pickle
import tempfile
from typing import Any

from karp_perception.core import InvalidInput

_SLOTS = 4  # frames under way: one used, one waiting, one being filled, one to spare
_SLOT_BYTES = 256 << 20  # reserved, not used: six large images and a cloud of a million points take 60 MB
_ALIGNMENT = 64  # of arrays, a cache line
_COPIED_BYTES = 64 << 10  # poses, routes and boxes, which outlive their frame in trackers and odometry: see `put`


class FrameRing:
    """Objects with large arrays from one process to another.

    The large arrays of an object (pickle's out-of-band buffers, PEP 574) are copied into a slot once; the receiver's
    are views of it, valid until the slot is given back: whoever sends reuses it then. Small arrays are the receiver's
    own and stay as they are for as long as it keeps them.
    """

    slots = _SLOTS

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._memory = mmap.mmap(fd, _SLOTS * _SLOT_BYTES)

    @classmethod
    def create(cls) -> FrameRing:
        """A new ring, in memory; a temporary file where the system cannot share memory without one (macOS)."""
        if hasattr(os, "memfd_create"):
            # Not in /dev/shm: containers give that 64 MB, and writing beyond ends a process without a word.
            fd = os.memfd_create("karp_frames")
        else:
            with tempfile.TemporaryFile() as file:
                fd = os.dup(file.fileno())
        os.ftruncate(fd, _SLOTS * _SLOT_BYTES)
        return cls(fd)

    def fileno(self) -> int:
        """The file to hand to the other process."""
        return self._fd

    def put(self, slot: int, content: Any) -> bytes:
        """Store an object; the header is for `take` in the other process. Raises InvalidInput for one too large."""
        buffers: list[pickle.PickleBuffer] = []

        def keep_apart(buffer: pickle.PickleBuffer) -> bool:
            """Whether the buffer goes into the pickle itself (true) or into the slot."""
            if buffer.raw().nbytes < _COPIED_BYTES:
                return True
            buffers.append(buffer)
            return False

        body = pickle.dumps(content, protocol=5, buffer_callback=keep_apart)
        places: list[tuple[int, int]] = []
        at = slot * _SLOT_BYTES
        for buffer in buffers:
            raw = buffer.raw()
            if at + raw.nbytes > (slot + 1) * _SLOT_BYTES:
                raise InvalidInput("sensor frame", f"at most {_SLOT_BYTES >> 20} MB", "more", reason="frame_too_large")
            self._memory[at : at + raw.nbytes] = raw
            places.append((at, raw.nbytes))
            at += -(-raw.nbytes // _ALIGNMENT) * _ALIGNMENT
        return pickle.dumps((slot, body, places))

    def take(self, header: bytes) -> tuple[Any, ...]:
        """The slot's number and the parts of the object, whose arrays are views of the slot."""
        slot, body, places = pickle.loads(header)
        whole = memoryview(self._memory)
        return slot, *pickle.loads(body, buffers=[whole[at : at + size] for at, size in places])

    def close(self) -> None:
        """Let go of the file. The memory goes with the last array that views it."""
        os.close(self._fd)
