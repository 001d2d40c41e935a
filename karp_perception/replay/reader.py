"""The process behind DetectedFrames: `python -m karp_perception.replay.reader CONNECTION RING` (file descriptors)."""

from __future__ import annotations

import logging
import queue
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import islice
from multiprocessing.connection import Connection
from pathlib import Path

from karp_perception.core import KarpError
from karp_perception.core.blas import use_one_blas_thread
from karp_perception.core.stopwatch import Stopwatch
from karp_perception.pipeline import PipelineSettings, make_detector
from karp_perception.replay.bag_frames import BagFrames, Moment
from karp_perception.replay.frame_ring import FrameRing
from karp_perception.sensing.bags import BagReader

_PREFETCH = 2  # frames decoded while the network is busy with one


def main() -> None:
    """Serve one recording, until it is over or the other side hangs up."""
    # Ctrl-C goes to the whole group; the other side ends us by hanging up.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    use_one_blas_thread()
    connection, ring = Connection(int(sys.argv[1])), FrameRing(int(sys.argv[2]))
    logging.getLogger().setLevel(logging.INFO)
    logging.getLogger().addHandler(_Forward(connection))
    try:
        serve(connection, ring, *connection.recv())
    except KarpError as error:
        connection.send(("error", str(error)))
    except (BrokenPipeError, ConnectionResetError, EOFError):
        return


def serve(
    connection: Connection, ring: FrameRing, bag: Path, settings: PipelineSettings, max_frames: int | None
) -> None:
    """Send `about`, then a `frame` for each frame as slots are free, then `end` with what became of everything."""
    with ExitStack() as stack:
        reader = stack.enter_context(BagReader(bag))
        frames = BagFrames(reader, settings)
        detector = make_detector(settings.for_cameras(len(frames.inputs.cameras)).detector, settings.lifting)
        detector.warm_up()
        about = {
            "start_ns": reader.start_ns,
            "end_ns": reader.end_ns,
            "rate_hz": frames.rate_hz,
            "has_lidar": frames.inputs.points is not None,
            "info": detector.info,
        }
        connection.send(("about", about))
        free = list(range(ring.slots))
        for frame, route in islice(_prefetched(frames, stack), max_frames):
            stopwatch = Stopwatch()
            boxes = detector.detect(frame, stopwatch)
            while not free or connection.poll():
                free.append(connection.recv())
            connection.send(("frame", (ring.put(free.pop(0), (frame, route, boxes)), stopwatch.milliseconds)))
            frames.assembler.counters.use()
        undecodable = {topic: counters.dropped for topic, counters in reader.counters.items() if counters.dropped}
        accounts = {
            "frames": frames.assembler.counters.as_dict(),
            "inputs": {name: counters.as_dict() for name, counters in frames.assembler.input_counters.items()},
            "undecodable": undecodable,
        }
        connection.send(("end", accounts))


class _Forward(logging.Handler):
    """Log lines go to the process that asked for the frames."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(logging.INFO)
        self._connection = connection
        self._lock_sending = threading.Lock()

    def emit(self, record: logging.LogRecord) -> None:
        with self._lock_sending:
            self._connection.send(("log", (record.name, record.levelno, record.getMessage())))


def _prefetched(frames: BagFrames, stack: ExitStack) -> Iterator[Moment]:
    """Frames read and decoded in a thread of their own, a few ahead; an error there is raised here."""
    ready: queue.Queue[Moment | BaseException | None] = queue.Queue(_PREFETCH)
    stopped = threading.Event()

    def put(item: Moment | BaseException | None) -> None:
        while not stopped.is_set():
            try:
                ready.put(item, timeout=0.1)
                return
            except queue.Full:
                continue

    def read() -> None:
        try:
            for moment in frames:
                put(moment)
                if stopped.is_set():
                    return
            put(None)
        except BaseException as error:
            put(error)

    reader = threading.Thread(target=read, name="bag reader", daemon=True)
    reader.start()
    stack.callback(reader.join)
    stack.callback(stopped.set)
    while True:
        item = ready.get()
        if item is None:
            return
        if isinstance(item, BaseException):
            raise item
        yield item


if __name__ == "__main__":
    main()
