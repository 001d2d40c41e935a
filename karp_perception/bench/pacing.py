"""Frames at a given rate, whatever the detector makes of it: what is missed, and how old boxes are when they come.

The newest frame is worked on; one that was never begun when the next came is missed. That is what the nodes do, by the
same two threads (`ros.threads`), which are fed here in real time. `newest_only` says the same of given times alone.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from karp_perception.bench.engines import Detecting
from karp_perception.bench.feed import Feed, SerialisedMessage
from karp_perception.bench.reception import Reception
from karp_perception.bench.timing import summary
from karp_perception.core import SensorFrame
from karp_perception.ros.threads import Intake, LatestWorker

_LEAD_S = 0.1
_DRAIN_S = 2.0  # after the last message, for what is still under way
_SETTLING = 6  # frames that teach the synchroniser the period, and are not counted
_TOLERATED = 0.01  # share of missed frames up to which a rate is kept up with
_PRECISION_HZ = 0.1


@dataclass(frozen=True)
class Schedule:
    """What becomes of frames at given times.

    Attributes:
        begun: (N,) bool.
        latency_s: (K,) of the frames that were begun, from arrival to result.
    """

    begun: np.ndarray
    latency_s: np.ndarray

    @property
    def missed(self) -> int:
        """Frames that were never begun."""
        return int((~self.begun).sum())


def newest_only(arrivals_s: Sequence[float], service_s: Sequence[float]) -> Schedule:
    """One worker and room for one frame, which a newer one replaces.

    Args:
        arrivals_s: (N,) when frames come, rising.
        service_s: how long the worker takes for the first frame that it begins, for the second, and so on, in turn.
    """
    arrivals = np.asarray(arrivals_s, np.float64)
    begun, latency = np.zeros(len(arrivals), bool), []
    free, number = -np.inf, 0
    while number < len(arrivals):
        # Idle: the next frame to come. Otherwise the newest of those that came meanwhile.
        came = int(np.searchsorted(arrivals, free, side="right"))
        number = max(number, came - 1)
        start = max(free, arrivals[number])
        free = start + service_s[len(latency) % len(service_s)]
        begun[number] = True
        latency.append(free - arrivals[number])
        number += 1
    return Schedule(begun, np.array(latency))


def highest_rate(service_s: Sequence[float], tolerated: float = _TOLERATED) -> float:
    """Hz up to which no more than a share `tolerated` of the frames would be missed, by `newest_only`, to 0.1 Hz."""
    frames = max(200, len(service_s))

    def kept_up(rate: float) -> bool:
        return newest_only(np.arange(frames) / rate, service_s).missed <= tolerated * frames

    low, high = 1.0 / max(service_s), 2.0 / min(service_s)
    while high - low > _PRECISION_HZ:
        middle = 0.5 * (low + high)
        low, high = (middle, high) if kept_up(middle) else (low, middle)
    return round(low, 1)


@dataclass(frozen=True)
class PacedRun:
    """What a detector made of frames at a rate.

    Attributes:
        rate_hz: of the input.
        received, used, missed: frames; received = used + missed.
        reasons: why those were missed.
        latency_ms: from the arrival of the first message of a frame to its boxes, see `timing.summary`.
        interval_jitter_ms: standard deviation of the time between two results.
    """

    rate_hz: float
    received: int
    used: int
    missed: int
    reasons: dict[str, int]
    latency_ms: dict[str, float]
    interval_jitter_ms: float


def paced_run(
    detector: Detecting, feed: Feed, rate_hz: float, seconds: float, stepped: Callable[[], None] = lambda: None
) -> PacedRun:
    """Feed a detector in real time.

    Args:
        detector: warm.
        feed: messages.
        rate_hz: moments a second.
        seconds: of input that is counted.
        stepped: called after each moment was sent.
    """
    reception = Reception(feed)
    sent: dict[int, float] = {}
    done: dict[int, float] = {}
    reasons: dict[int, str] = {}

    def work(frame: SensorFrame) -> None:
        detector.detect(frame)
        done[frame.stamp_ns] = time.perf_counter()

    def missed(reason: str) -> Callable[[SensorFrame], None]:
        return lambda frame: reasons.update({frame.stamp_ns: reason})

    worker = LatestWorker(work, missed("superseded"), missed("defect"))
    intake = Intake(reception.assembler.poll, worker.submit)
    worker.start()
    intake.start()
    try:
        count = _SETTLING + max(1, round(seconds * rate_hz))
        origin, first_ns = time.perf_counter() + _LEAD_S, time.time_ns()
        for number in range(count):
            stamp_ns = first_ns + round(number * 1e9 / rate_hz)
            messages = feed.at(number, stamp_ns)
            time.sleep(max(0.0, origin + number / rate_hz - time.perf_counter()))
            sent[stamp_ns] = time.perf_counter()
            for message in messages:
                read = partial(_read, reception, message)
                drop = partial(reception.assembler.input_counters[message.input].drop, "queue_full")
                intake.hand_over(message.input, read, drop)
            stepped()
        deadline = time.perf_counter() + _DRAIN_S
        while len(done) + len(reasons) < count and time.perf_counter() < deadline:
            time.sleep(0.01)
    finally:
        intake.stop()
        worker.stop()
    counted = list(sent)[_SETTLING:]
    ends = [done[stamp] for stamp in counted if stamp in done]
    return PacedRun(
        rate_hz,
        len(counted),
        len(ends),
        len(counted) - len(ends),
        dict(Counter(reasons.get(stamp, "never_complete") for stamp in counted if stamp not in done)),
        summary([(done[stamp] - sent[stamp]) * 1e3 for stamp in counted if stamp in done]) if ends else {},
        round(float(np.std(np.diff(ends))) * 1e3, 3) if len(ends) > 1 else 0.0,
    )


def _read(reception: Reception, message: SerialisedMessage, arrival_ns: int) -> None:
    reception.add(message.input, reception.deserialise(message), arrival_ns)
