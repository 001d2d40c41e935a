"""What one engine needs in a process of its own: memory, and the time from the start to the first boxes."""

from __future__ import annotations

import multiprocessing
import time
from multiprocessing.connection import Connection
from typing import Any

from karp_perception.bench.engines import EngineName, open_engine
from karp_perception.bench.feed import Feed
from karp_perception.bench.gpu import gpu_memory_mib
from karp_perception.bench.machine import peak_resident_mib
from karp_perception.bench.reception import Turns
from karp_perception.core.stopwatch import Stopwatch
from karp_perception.detection.detector import DetectorSettings

_FRAMES = 10  # after which memory no longer grows
_PATIENCE_S = 600.0  # compilers take their time
_GOODBYE_S = 5.0


def needs_of(name: EngineName, settings: DetectorSettings, device: str, feed: Feed) -> dict[str, Any]:
    """What an engine needs in a fresh process.

    Engines that were built are taken from the cache, as at every start but the first.

    Returns `peak_rss_mib`, `gpu_memory_mib` (None without a GPU) and `first_boxes_s`, from the start of the process to
    the first boxes; or `unavailable`, saying why there are none.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_measure, args=(theirs, name, settings, device, feed, time.time()))
    process.start()
    theirs.close()
    try:
        if not ours.poll(_PATIENCE_S):
            return {"unavailable": f"its process said nothing for {_PATIENCE_S:.0f} s"}
        return dict(ours.recv())
    except EOFError:
        process.join()
        return {"unavailable": f"its process ended early with code {process.exitcode}"}
    finally:
        ours.close()
        process.join(_GOODBYE_S)
        if process.is_alive():
            process.kill()
            process.join()


def _measure(
    answer: Connection, name: EngineName, settings: DetectorSettings, device: str, feed: Feed, started: float
) -> None:
    from karp_perception.core.blas import use_one_blas_thread

    use_one_blas_thread()
    with answer:
        answer.send(_measured(name, settings, device, feed, started))


def _measured(name: EngineName, settings: DetectorSettings, device: str, feed: Feed, started: float) -> dict[str, Any]:
    engine = open_engine(name, settings, device)
    if engine.detector is None:
        return {"unavailable": engine.unavailable}
    turns = Turns(feed)
    first = None
    for _ in range(_FRAMES):
        messages, stamp_ns = turns.messages()
        engine.detector.detect(turns.frame(messages, stamp_ns, Stopwatch()))
        first = first or time.time() - started
    return {
        "peak_rss_mib": peak_resident_mib(),
        "gpu_memory_mib": gpu_memory_mib(),
        "first_boxes_s": round(first or 0.0, 2),
    }
