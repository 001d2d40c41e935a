"""Behind the nodes: threads that lose nothing uncounted, diagnostics that add up, a log that does not flood. No ROS."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

import numpy as np
import pytest

from karp_perception.core.counters import Counters
from karp_perception.ros.diagnostics import DiagnosticsReport, StageTimes
from karp_perception.ros.log_bridge import RosLogHandler
from karp_perception.ros.threads import Intake, LatestWorker
from karp_perception.sensing.message_types import default_message


def eventually(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 10
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.005)
    return condition()


def test_a_slow_worker_takes_the_newest_frame_and_counts_the_others() -> None:
    done, superseded, gate = [], [], threading.Event()

    def work(item: int) -> None:
        gate.wait()
        done.append(item)

    worker = LatestWorker(work, superseded.append, pytest.fail)
    worker.start()
    worker.submit(0)
    assert eventually(lambda: worker._item is None), "it has begun with 0"
    for i in range(1, 6):
        worker.submit(i)
    gate.set()
    assert eventually(lambda: len(done) == 2)
    worker.stop()
    assert done == [0, 5]
    assert superseded == [1, 2, 3, 4]


def test_an_offer_waits_behind_nothing_and_replaces_nothing() -> None:
    superseded = []
    worker = LatestWorker(lambda item: None, superseded.append, pytest.fail)
    worker.submit("frame")
    worker.offer("silence")
    worker.start()
    worker.stop()
    assert "silence" not in superseded


def test_a_defect_costs_one_frame_not_the_node(caplog: pytest.LogCaptureFixture) -> None:
    done, failed = [], []

    def work(item: int) -> None:
        if item == 1:
            raise ZeroDivisionError("a defect")
        done.append(item)

    worker = LatestWorker(work, lambda item: None, failed.append)
    worker.start()
    with caplog.at_level(logging.ERROR, "karp_perception.ros.threads"):
        logging.getLogger("karp_perception").propagate = True
        for i in range(3):
            worker.submit(i)
            assert eventually(lambda i=i: i in done or i in failed)
    worker.stop()
    assert (done, failed) == ([0, 2], [1])
    assert "ZeroDivisionError" in caplog.text


def test_the_intake_reads_in_order_and_drops_the_oldest_of_an_input_that_floods_it() -> None:
    read, drops, gate = [], [], threading.Event()

    def reader(name: str, i: int) -> Callable[[int], None]:
        def take(arrival_ns: int) -> None:
            gate.wait()
            read.append((name, i))

        return take

    intake = Intake(lambda now: [], pytest.fail, room=3)
    for i in range(5):
        intake.hand_over("camera", reader("camera", i), lambda i=i: drops.append(i))
        intake.hand_over("lidar", reader("lidar", i), lambda: None) if i < 3 else None
    assert drops == [0, 1]
    intake.start()
    gate.set()
    assert eventually(lambda: len(read) == 6)
    intake.stop()
    assert [i for name, i in read if name == "camera"] == [2, 3, 4]
    assert [i for name, i in read if name == "lidar"] == [0, 1, 2]


def test_stage_times_are_the_percentiles_of_the_last_frames() -> None:
    times, values = StageTimes(), np.random.default_rng(0).gamma(2.0, 10.0, 500)
    for value in values:
        times.add({"network": float(value)})
    summary = times.summary()
    p50, p99 = np.percentile(values[-300:], (50, 99))
    assert summary["network.p50_ms"] == pytest.approx(p50, abs=1e-3)
    assert summary["network.p99_ms"] == pytest.approx(p99, abs=1e-3)


def test_diagnostics_add_up_and_say_what_is_wrong() -> None:
    anchor = Counters()
    frames = Counters(upstream=anchor)
    report = DiagnosticsReport("stack", frames, {"lidar": anchor})

    def status(name: str) -> tuple[int, dict[str, float]]:
        message = report.message(5_000_000_001, default_message)
        assert (message.header.stamp.sec, message.header.stamp.nanosec) == (5, 1)
        found = next(item for item in message.status if item.name == f"stack: {name}")
        return found.level, {pair.key: float(pair.value) for pair in found.values}

    assert status("frames") == (3, {"received": 0, "used": 0})  # stale: nothing came
    for _ in range(4):
        anchor.use()
        frames.use()
    assert status("frames") == (0, {"received": 4, "used": 4})
    anchor.drop("absurd_stamp")
    anchor.use()
    frames.drop("superseded")
    level, numbers = status("frames")
    assert level == 1
    assert numbers == {"received": 6, "used": 4, "dropped.absurd_stamp": 1, "dropped.superseded": 1}
    report.lost["lidar"] = 2
    assert status("input lidar")[1]["lost_in_transport"] == 2


class FakeRosLogger:
    def __init__(self) -> None:
        self.lines: list[str] = []
        self.info = self.warning = self.error = self.lines.append


def test_a_line_that_repeats_is_held_back_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("karp_perception.ros.log_bridge.time.monotonic", lambda: now[0])
    ros = FakeRosLogger()
    log = logging.Logger("karp_perception.test")
    log.addHandler(RosLogHandler(ros))

    def complain(i: int) -> None:
        log.warning("bad message %d", i)

    for i in range(50):
        complain(i)
    log.info("something else")
    now[0] += 6.0
    complain(50)
    assert ros.lines == ["bad message 0", "something else", "bad message 50 (49 more like this)"]
