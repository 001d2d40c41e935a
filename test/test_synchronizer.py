"""The anchor synchroniser: accounting, order and tolerance whatever comes, and ROS's own synchroniser as a peer."""

from __future__ import annotations

import itertools
import os
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from karp_perception.core.errors import ConfigurationError
from karp_perception.sensing.synchronizer import Bundle, Synchronizer, SynchronizerSettings

MS = 1_000_000
START = 1_700_000_000_000 * MS


def feed(sync: Synchronizer, events: list[tuple[int, str, int]]) -> list[tuple[int, Bundle]]:
    """Adds (arrival ms, input, stamp ms) in order of arrival and polls after each; (time ms, bundle) as they leave."""
    out = []
    for arrival, name, stamp in sorted(events):
        sync.add(name, START + stamp * MS, (name, stamp), START + arrival * MS)
        out += [(arrival, bundle) for bundle in sync.poll(START + arrival * MS)]
    return out


def stream(name: str, period: int, count: int, *, phase: int = 0, delay: int = 0) -> list[tuple[int, str, int]]:
    return [(phase + i * period + delay, name, phase + i * period) for i in range(count)]


def stamps(bundle: Bundle, name: str) -> int | None:
    payload = bundle.payloads[name]
    return None if payload is None else payload[1]


def accounted(sync: Synchronizer, sent: dict[str, int]) -> None:
    for name, count in sent.items():
        counters = sync.counters[name].as_dict()
        assert counters["received"] == counters["used"] + sum(counters["dropped"].values()) == count, (name, counters)


def test_each_anchor_gets_the_nearest_message_of_every_other():
    sync = Synchronizer("lidar", ["left", "right"])
    out = feed(
        sync, [*stream("lidar", 100, 10), *stream("left", 100, 10, phase=10), *stream("right", 100, 10, phase=-20)]
    )
    out += [(0, bundle) for bundle in sync.flush()]
    assert len(out) == 10
    for i, (_, bundle) in enumerate(out):
        assert bundle.stamp_ns == START + i * 100 * MS
        assert (stamps(bundle, "left"), stamps(bundle, "right")) == (i * 100 + 10, i * 100 - 20)
        assert bundle.payloads["lidar"] == ("lidar", i * 100)
    assert sync.missing == {"left": 0, "right": 0}
    accounted(sync, {"lidar": 10, "left": 10, "right": 10})


def test_a_bundle_leaves_when_the_last_input_comes_once_the_pace_is_known():
    sync = Synchronizer("lidar", ["camera"], SynchronizerSettings(time_limit=1.0))
    out = feed(sync, [*stream("lidar", 100, 10), *stream("camera", 100, 10, phase=-10, delay=40)])
    late = [now - (bundle.stamp_ns - START) // MS for now, bundle in out]
    assert late[3:] == [30] * len(late[3:])  # camera's arrival, not its next message and not the time limit


def test_an_expected_offset_moves_the_wanted_time():
    sync = Synchronizer("lidar", ["camera"], SynchronizerSettings(tolerance=0.02), {"camera": 0.06})
    out = feed(sync, [*stream("lidar", 100, 10), *stream("camera", 100, 10, phase=65)])
    assert all(stamps(bundle, "camera") == (bundle.stamp_ns - START) // MS + 65 for _, bundle in out)
    assert len(out) >= 9


def test_a_camera_at_half_the_rate_is_with_every_second_sweep_and_is_not_waited_for_between():
    sync = Synchronizer("lidar", ["camera"], SynchronizerSettings(tolerance=0.05, time_limit=0.09))
    out = feed(sync, [*stream("lidar", 100, 40), *stream("camera", 200, 20, delay=5)])
    got = [stamps(bundle, "camera") for _, bundle in out]
    assert got[:39] == [i * 100 if i % 2 == 0 else None for i in range(39)]
    waits = [now - (bundle.stamp_ns - START) // MS for now, bundle in out][10:]
    assert max(waits) <= 5
    assert sync.counters["camera"].dropped == {}


def test_a_camera_at_three_times_the_rate_loses_only_what_is_farther():
    sync = Synchronizer("lidar", ["camera"], SynchronizerSettings(tolerance=0.05))
    out = feed(sync, [*stream("lidar", 90, 20), *stream("camera", 30, 60, phase=5)])
    assert all(stamps(bundle, "camera") == (bundle.stamp_ns - START) // MS + 5 for _, bundle in out)
    sync.flush()
    assert set(sync.counters["camera"].dropped) <= {"superseded", "unmatched"}
    accounted(sync, {"lidar": 20, "camera": 60})


def test_a_fast_anchor_leaves_a_message_to_the_nearer_anchor():
    """Lidar at 20 Hz, camera at 10 Hz, tolerance 60 ms: a greedy match would take the camera one sweep too early."""
    sync = Synchronizer("lidar", ["camera"], SynchronizerSettings(tolerance=0.06, time_limit=0.2))
    out = feed(sync, [*stream("lidar", 50, 40), *stream("camera", 100, 20)])
    out += [(0, bundle) for bundle in sync.flush()]
    for _, bundle in out[4:]:
        at = (bundle.stamp_ns - START) // MS
        assert stamps(bundle, "camera") == (at if at % 100 == 0 else None)


def test_an_input_that_never_comes_delays_only_the_first_bundles():
    limit = 80
    sync = Synchronizer("lidar", ["camera", "dead"], SynchronizerSettings(time_limit=limit / 1e3, silent_after=3))
    events = [*stream("lidar", 100, 10), *stream("camera", 100, 10, phase=-3)]
    out = []
    for now in range(-10, 1100, 5):  # a timer polls every 5 ms
        for arrival, name, stamp in events:
            if now - 5 < arrival <= now:
                sync.add(name, START + stamp * MS, (name, stamp), START + now * MS)
        out += [(now, bundle) for bundle in sync.poll(START + now * MS)]
    waits = [now - (bundle.stamp_ns - START) // MS for now, bundle in out]
    assert waits == [limit] * 3 + [0] * 7
    assert sync.silent() == ["dead"]
    assert sync.missing == {"camera": 0, "dead": 10}


def test_a_silent_input_is_waited_for_again_when_it_speaks():
    sync = Synchronizer("lidar", ["camera"], SynchronizerSettings(time_limit=0.05, silent_after=2))
    feed(sync, stream("lidar", 100, 6))
    assert sync.silent() == ["camera"]
    out = feed(sync, [(600, "lidar", 600), (590, "camera", 590), (630, "camera", 690), (700, "lidar", 700)])
    assert [stamps(bundle, "camera") for _, bundle in out] == [590]
    assert sync.silent() == []
    assert [stamps(bundle, "camera") for bundle in sync.poll(START + 750 * MS)] == [690]


def test_the_time_limit_counts_from_the_arrival_of_the_anchor():
    sync = Synchronizer("lidar", ["camera"], SynchronizerSettings(time_limit=0.1))
    sync.add("lidar", START, "sweep", START + 300 * MS)  # the sweep itself came late
    assert sync.deadline_ns() == START + 400 * MS
    assert sync.poll(START + 399 * MS) == []
    (bundle,) = sync.poll(START + 400 * MS)
    assert bundle.payloads == {"lidar": "sweep", "camera": None}
    assert sync.deadline_ns() is None


def test_drop_reasons():
    sync = Synchronizer("lidar", ["camera"], SynchronizerSettings(tolerance=0.02, time_limit=0.05, queue_size=4))
    add = lambda name, stamp: sync.add(name, START + stamp * MS, stamp, START + stamp * MS)  # noqa: E731
    for stamp in (0, -7, -30, 4):
        add("camera", stamp)
    add("camera", 4)
    add("lidar", 0)
    add("lidar", 0)
    (bundle,) = sync.poll(START)
    assert bundle.payloads["camera"] == 0
    add("lidar", -50)
    add("lidar", 0)
    add("camera", -25)
    for bad in (0, -1, (1 << 31) * 1_000_000_000, 2**80, None, "now"):
        sync.add("camera", bad, "bad", START)  # type: ignore[arg-type]
    for stamp in (500, 600, 700, 800, 900):  # 4 is still waiting: it may be the next anchor's
        add("camera", stamp)
    assert sync.flush() == []
    assert sync.counters["lidar"].as_dict() == {
        "received": 4, "used": 1, "dropped": {"duplicate_stamp": 2, "out_of_order": 1},
    }  # fmt: skip
    dropped = sync.counters["camera"].dropped
    assert dropped == {
        "absurd_stamp": 6, "duplicate_stamp": 1, "queue_full": 2, "superseded": 1, "too_late": 1, "unmatched": 5,
    }  # fmt: skip


@pytest.mark.parametrize("first_to_jump", ["lidar", "camera"])
def test_a_recording_that_starts_over_goes_on_being_matched(first_to_jump):
    sync = Synchronizer("lidar", ["camera"], SynchronizerSettings(time_limit=0.05))
    shift = {first_to_jump: 0, ({"lidar", "camera"} - {first_to_jump}).pop(): 3}
    out = []
    for _ in range(3):
        events = [*stream("lidar", 100, 30, delay=shift["lidar"]), *stream("camera", 100, 30, delay=shift["camera"])]
        out += feed(sync, events)  # /clock jumps back too: arrivals start over
    out += [(0, bundle) for bundle in sync.flush()]
    whole = [bundle for _, bundle in out if bundle.payloads["camera"] is not None]
    assert len(whole) >= 3 * 30 - 3
    assert len(out) >= 3 * 30 - 2
    accounted(sync, {"lidar": 90, "camera": 90})
    assert set(sync.counters["lidar"].dropped) <= {"time_jumped_back"}


def test_one_stamp_from_the_far_future_does_not_silence_an_input():
    sync = Synchronizer("lidar", ["camera"], SynchronizerSettings(time_limit=0.05))
    events = [
        *stream("lidar", 100, 10),
        *stream("camera", 100, 10),
        (350, "lidar", 10_000_000),
        (450, "camera", 10_000_000),
    ]
    out = feed(sync, events)
    out += [(0, bundle) for bundle in sync.flush()]
    assert sum(bundle.payloads["camera"] is not None for _, bundle in out) >= 8
    accounted(sync, {"lidar": 11, "camera": 11})


def test_a_changed_rate_is_followed():
    sync = Synchronizer("lidar", ["camera"], SynchronizerSettings(tolerance=0.02, time_limit=0.08))
    events = [*stream("lidar", 100, 20), *stream("lidar", 50, 40, phase=2000), *stream("lidar", 200, 10, phase=4000)]
    out = feed(sync, [*events, *[(a + 2, "camera", s) for a, _, s in events]])
    out += [(0, bundle) for bundle in sync.flush()]
    masked = [(bundle.stamp_ns - START) // MS for _, bundle in out if bundle.payloads["camera"] is None]
    assert len(out) == 70
    assert len(masked) <= 2


def test_wrong_names_are_refused():
    with pytest.raises(ConfigurationError, match="no such input 'radar'"):
        Synchronizer("lidar", ["camera"]).add("radar", START, None, START)
    with pytest.raises(ConfigurationError, match="different names"):
        Synchronizer("lidar", ["lidar"])
    with pytest.raises(ConfigurationError, match="no such input"):
        Synchronizer("lidar", ["camera"], offsets={"cam": 0.1})


messages = st.tuples(st.sampled_from(["lidar", "left", "right"]), st.integers(-5, 4000), st.integers(0, 300))


@settings(max_examples=300, deadline=None)
@given(
    events=st.lists(messages, max_size=80),
    tolerance=st.sampled_from([0.001, 0.05, 0.3]),
    limit=st.sampled_from([0.0, 0.1, 2.0]),
    queue=st.sampled_from([1, 3, 50]),
    offset=st.sampled_from([0.0, -0.07, 0.2]),
)
def test_invariants_hold_whatever_comes(events, tolerance, limit, queue, offset):
    """Arbitrary stamps (also zero, negative, repeated, backwards), delays and polls."""
    config = SynchronizerSettings(tolerance=tolerance, time_limit=limit, queue_size=queue)
    sync = Synchronizer("lidar", ["left", "right"], config, {"left": offset})
    sent = dict.fromkeys(("lidar", "left", "right"), 0)
    bundles: list[Bundle] = []
    for i, (name, stamp, delay) in enumerate(events):
        sent[name] += 1
        arrival = START + (i * 10 + delay) * MS
        sync.add(name, stamp * MS if stamp <= 0 else START + stamp * MS, (name, i), arrival)
        if i % 2:
            bundles += sync.poll(arrival)
    bundles += sync.flush()

    accounted(sync, sent)
    used = [payload for bundle in bundles for payload in bundle.payloads.values() if payload is not None]
    assert len(used) == len(set(used)), "a payload was used twice"
    for name in sent:
        with_it = [bundle for bundle in bundles if bundle.payloads[name] is not None]
        assert sync.counters[name].used == len(with_it)
        wanted = offset if name == "left" else 0.0
        for bundle in with_it:
            gap = bundle.stamps_ns[name] - bundle.stamp_ns - round(wanted * 1e9)
            assert abs(gap) <= (0 if name == "lidar" else tolerance * 1e9)
    for name in ("left", "right"):
        assert sync.missing[name] == len(bundles) - sync.counters[name].used
    jumps = sum(b.stamp_ns <= a.stamp_ns for a, b in itertools.pairwise(bundles))
    backward = [s for name, s, _ in events if name == "lidar" and s > 0]
    assert jumps <= sum(b < a - 1000 for a, b in _with_maximum(backward)), "order may break only where time jumped back"


def _with_maximum(values: list[int]) -> list[tuple[int, int]]:
    """(largest value so far since the last jump, value)."""
    out, top = [], None
    for value in values:
        if top is not None:
            out.append((top, value))
        top = value if top is None or value < top - 1000 else max(top, value)
    return out


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), drops=st.sets(st.integers(0, 59), max_size=20))
def test_with_jitter_delays_and_losses_every_message_that_has_a_partner_finds_it(seed, drops):
    """Lidar and camera at 10 Hz, stamps jittered by 12 ms, up to 60 ms of delay, a third of the images lost."""
    rng = np.random.default_rng(seed)
    jitter, delays = rng.integers(-12, 13, 60).tolist(), rng.integers(0, 61, 60).tolist()
    came = [-1, *(i for i in range(60) if i not in drops)]
    steps = [b - a for a, b in pairwise(came)]
    assume(max(steps) <= 3)  # three misses in a row are silence
    assume(all(min(steps[i : i + 5]) == 1 for i in range(len(steps) - 4)))  # five gaps in a row are another rate
    sync = Synchronizer("lidar", ["camera"], SynchronizerSettings(tolerance=0.03, time_limit=0.15))
    events = [(i * 100 + 5, "lidar", i * 100) for i in range(60)]
    arrival = -1000
    for i in range(60):
        if i not in drops:
            arrival = max(arrival + 1, i * 100 + jitter[i] + delays[i])  # a topic does not overtake itself
            events.append((arrival, "camera", i * 100 + jitter[i]))
    out = [bundle for _, bundle in feed(sync, events)] + sync.flush()
    assert len(out) == 60
    for i, bundle in enumerate(out):
        assert stamps(bundle, "camera") == (None if i in drops else i * 100 + jitter[i])


@pytest.mark.ros
@pytest.mark.parametrize("seed", range(5))
def test_regular_streams_are_bundled_as_message_filters_bundles_them(seed):
    """ApproximateTimeSynchronizer of ROS 2 on three streams of 10 Hz with phases, jitter and losses."""
    site = os.environ.get("KARP_ROS_LAUNCH_SITE", "")
    if site and Path(site).is_dir() and site not in sys.path:
        sys.path.append(site)
    pytest.importorskip("rclpy", reason="no ROS 2 here")
    filters = pytest.importorskip("message_filters", reason="no message_filters here: set KARP_ROS_LAUNCH_SITE")
    from std_msgs.msg import Header

    class Stamped:
        def __init__(self, name: str, stamp: int) -> None:
            self.header = Header()
            self.header.stamp.sec, self.header.stamp.nanosec = divmod(START + stamp * MS, 1_000_000_000)
            self.key = (name, stamp)

    rng = np.random.default_rng(seed)
    names = ("lidar", "left", "right")
    phases = {"lidar": 0, "left": int(rng.integers(-15, 15)), "right": int(rng.integers(-15, 15))}
    events = []
    for name in names:
        for i in range(100):
            if rng.random() > 0.05:
                stamp = i * 100 + phases[name] + int(rng.integers(-3, 4))
                events.append((stamp + int(rng.integers(0, 20)), name, stamp))

    theirs: set[tuple[object, ...]] = set()
    inputs = {name: filters.SimpleFilter() for name in names}
    peer = filters.ApproximateTimeSynchronizer(list(inputs.values()), queue_size=10, slop=0.045)
    peer.registerCallback(lambda *found: theirs.add(tuple(m.key for m in found)))
    for _, name, stamp in sorted(events):
        inputs[name].signalMessage(Stamped(name, stamp))

    sync = Synchronizer("lidar", ["left", "right"], SynchronizerSettings(tolerance=0.045, time_limit=0.09))
    bundles = [bundle for _, bundle in feed(sync, events)] + sync.flush()
    whole = {tuple(b.payloads[n] for n in names) for b in bundles if None not in b.payloads.values()}
    assert len(theirs) > 70
    assert whole == theirs
