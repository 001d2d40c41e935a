"""Missed frames by times alone, and the same two threads as in the nodes fed in real time."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_model import camera, sweep

from karp_perception.bench.feed import feed_of
from karp_perception.bench.pacing import highest_rate, newest_only, paced_run
from karp_perception.core import Boxes, SensorFrame
from karp_perception.core.stopwatch import Stopwatch

TICKS = 1000  # a second of the simulated clock


def ticking(arrivals: list[int], service: list[int]) -> tuple[list[int], list[int]]:
    """A clock that ticks: at each tick frames come, the newest waits, and a free worker takes it.

    Returns the frames that were begun, and the ticks from their arrival to their end.
    """
    begun: list[int] = []
    latency: list[int] = []
    waiting: int | None = None
    free = 0
    for now in range(max(arrivals) + sum(service) * (len(arrivals) + 1) + 2):
        # What ends at this tick ends first, but a frame that comes at the very same tick is there as well.
        for number, arrival in enumerate(arrivals):
            if arrival == now:
                waiting = number
        if waiting is not None and now >= free:
            begun.append(waiting)
            free = now + service[(len(begun) - 1) % len(service)]
            latency.append(free - arrivals[waiting])
            waiting = None
    return begun, latency


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 12), min_size=1, max_size=12),
    st.lists(st.integers(1, 30), min_size=1, max_size=5),
)
def test_missed_frames_are_those_of_a_clock_that_ticks(gaps: list[int], service: list[int]) -> None:
    arrivals = np.cumsum(gaps).tolist()
    begun, latency = ticking(arrivals, service)
    found = newest_only(arrivals, service)
    assert np.flatnonzero(found.begun).tolist() == begun
    assert found.latency_s.tolist() == latency
    assert found.missed == len(arrivals) - len(begun)


def test_a_detector_faster_than_its_input_misses_nothing() -> None:
    found = newest_only(np.arange(50) * 0.1, [0.099])
    assert found.missed == 0
    np.testing.assert_allclose(found.latency_s, 0.099)


def test_one_that_takes_two_and_a_half_periods_uses_two_of_five() -> None:
    found = newest_only(np.arange(1000) * 0.1, [0.25])
    # It is free at 0.25 and takes the frame of 0.2, at 0.5 that of 0.5.
    assert found.begun[:11].nonzero()[0].tolist() == [0, 2, 5, 7, 10]
    assert found.missed == pytest.approx(600, abs=1)


def test_the_highest_rate_is_that_of_the_mean_where_times_are_equal() -> None:
    assert highest_rate([0.02] * 30) == pytest.approx(50.0, rel=0.02)


def test_a_slow_frame_now_and_then_lowers_the_highest_rate() -> None:
    times = [0.02] * 19 + [0.1]
    rate = highest_rate(times)
    assert rate < 50.0
    assert newest_only(np.arange(400) / rate, times).missed <= 0.02 * 400


class Sleeping:
    """A detector that takes a given time."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def detect(self, frame: SensorFrame, stopwatch: Stopwatch | None = None) -> Boxes:
        time.sleep(self.seconds)
        return Boxes.empty()


@pytest.mark.parametrize("slow", [False, True])
def test_every_frame_that_is_fed_is_used_or_missed(slow: bool) -> None:
    rng = np.random.default_rng(0)
    frame = SensorFrame(0, {"front": camera(rng, 0.0)}, sweep(rng, 500))
    run = paced_run(Sleeping(0.15 if slow else 0.0), feed_of([frame]), rate_hz=20.0, seconds=1.0)
    assert run.received == 20
    assert run.used + run.missed == run.received
    assert run.missed == sum(run.reasons.values())
    assert run.used > 0
    if slow:
        # Only one in three can be used, however the machine is doing.
        assert run.used <= math.ceil((1.0 + 0.2) / 0.15)
        assert run.reasons["superseded"] > 0
        assert run.latency_ms["min"] >= 150.0
