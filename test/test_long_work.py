"""Long work says that it began, how far it is, and that it ended: by a clock that the test turns, and for real."""

from __future__ import annotations

import io
import logging
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from karp_perception.cli_progress import ProgressBar, WorkBars
from karp_perception.core import long_work
from karp_perception.core.long_work import LongWork, Progress, listening


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def no_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_work, "TICK_S", 1e6)


def test_beginning_each_tick_and_end_are_told(no_ticks: None) -> None:
    clock, heard = Clock(), []
    with listening(heard.append), LongWork("compiling", clock) as work:
        assert [str(progress) for progress in heard] == ["compiling: 0 s"], "at once"
        for share, detail in ((None, "reading"), (0.25, "timing"), (0.5, "")):
            work(share, detail)
            clock.now += 0.8
            work.tick()
    assert [str(progress) for progress in heard[1:]] == [
        "compiling: 1 s (reading)", "compiling: 2 s, 25% (timing)", "compiling: 2 s, 50%",
        "compiling: ended after 2 s, 100%",
    ]  # fmt: skip
    assert [progress.finished for progress in heard] == [False] * 4 + [True]


def test_a_tick_comes_well_within_a_second_and_while_the_work_does_not_return(monkeypatch: pytest.MonkeyPatch) -> None:
    assert long_work.TICK_S <= 0.8
    monkeypatch.setattr(long_work, "TICK_S", 0.01)
    heard: list[Progress] = []
    with listening(heard.append), LongWork("compiling"):
        deadline = time.monotonic() + 30
        while len(heard) < 4 and time.monotonic() < deadline:
            time.sleep(0.005)
    assert len(heard) >= 5
    seconds = [progress.seconds for progress in heard]
    assert seconds == sorted(seconds)


def test_of_works_within_each_other_the_inner_one_is_told_of(no_ticks: None) -> None:
    heard: list[Progress] = []
    with listening(heard.append), LongWork("outer") as outer:
        with LongWork("inner") as inner:
            outer.tick()
            inner.tick()
        outer.tick()
    assert [(progress.what, progress.finished) for progress in heard] == [
        ("outer", False), ("inner", False), ("inner", False), ("inner", True), ("outer", False), ("outer", True),
    ]  # fmt: skip


def test_the_innermost_listener_hears_and_without_one_the_log_does(
    no_ticks: None, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = [], []
    with listening(first.append):
        with listening(second.append), LongWork("a"):
            pass
        with LongWork("b"):
            pass
    assert [{progress.what for progress in heard} for heard in (first, second)] == [{"b"}, {"a"}]
    with caplog.at_level(logging.INFO), LongWork("c") as work:
        work.tick()
    assert [re.sub(r"\d", "0", record.getMessage()) for record in caplog.records][-1] == "c: ended after 0 s"


def test_work_that_fails_ends_as_well(no_ticks: None) -> None:
    heard: list[Progress] = []

    def fail() -> None:
        with LongWork("a") as work:
            work(0.3)
            raise ValueError("no")

    with listening(heard.append), pytest.raises(ValueError, match="no"):
        fail()
    assert (heard[-1].finished, heard[-1].share) == (True, 0.3)
    with listening(heard.append), LongWork("b"):
        pass
    assert heard[-1].what == "b"


def test_lines_where_there_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    text = io.StringIO()
    monkeypatch.setattr("sys.stderr", text)
    bars = WorkBars()
    bars(Progress("compiling", 0.0))
    bars(Progress("compiling", 0.8, 0.4, "timing"))
    bars(Progress("compiling", 1.6, 1.0, "", True))
    with ProgressBar("replaying"), LongWork("exporting"):
        pass
    assert text.getvalue().splitlines()[:4] == [
        "karp: compiling: 0 s", "karp: compiling: 1 s, 40% (timing)", "karp: compiling: ended after 2 s, 100%",
        "karp: exporting: 0 s",
    ]  # fmt: skip


def test_bars_come_and_go_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    text = io.StringIO()
    monkeypatch.setattr(text, "isatty", lambda: True)
    monkeypatch.setattr("sys.stderr", text)
    monkeypatch.setenv("TERM", "xterm")
    bars = WorkBars()
    bars(Progress("compiling", 0.0))
    bars(Progress("compiling", 0.8, 0.4, "timing"))
    bars._bars.refresh()
    bars(Progress("waiting", 0.0))
    bars(Progress("compiling", 1.6, 1.0, "", True))
    assert "40%" in text.getvalue()
    assert list(bars._tasks) == ["waiting"]
    bars(Progress("waiting", 1.6, None, "", True))
    assert bars._bars is None
    bars(Progress("never begun", 1.6, None, "", True))
    assert bars._bars is None


def test_a_node_says_it_in_its_diagnostics() -> None:
    from karp_perception.ros.diagnostics import progress_message

    def create(name: str) -> SimpleNamespace:
        stamp = SimpleNamespace(sec=0, nanosec=0)
        return SimpleNamespace(header=SimpleNamespace(stamp=stamp), level=b"\0", values=[])

    message = progress_message("detector", Progress("compiling", 2.04, 0.25, "timing"), 1_500_000_000, create)
    (status,) = message.status
    assert (status.name, status.message) == ("detector: getting ready", "compiling: 2 s, 25% (timing)")
    assert {value.key: value.value for value in status.values} == {"seconds": "2.0", "share": "0.25"}
    assert message.header.stamp.sec == 1


@pytest.mark.slow
def test_a_cold_start_says_something_first_and_goes_on_until_the_engine_is_there(tmp_path: Path) -> None:
    """In a process, with empty caches: a model is exported and compiled for real."""
    pytest.importorskip("tensorrt_rtx_bindings")
    pytest.importorskip("onnxscript")
    from small_model import small_weights

    command = [
        sys.executable, "-c", "from karp_perception.cli import main; main()", "compile", "--model",
        str(small_weights(tmp_path)), "--backend", "tensorrt_rtx", "--precision", "f32", "--gpu", "sm_89",
    ]  # fmt: skip
    environment = {
        **os.environ,
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "PYTHONPATH": str(Path(__file__).parents[1]),
    }
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    assert lines[0].endswith("with tensorrt_rtx: 0 s")
    order = [next(i for i, line in enumerate(lines) if what in line) for what in (
        "exporting small to ONNX: 0 s", "exporting small to ONNX: ended", "compiling the network in f32",
        "compiling the network in f32 with tensorrt_rtx 1.7.1.116 for 8.9: ended",
    ) if any(what in line for line in lines)]  # fmt: skip
    assert order == sorted(order)
    told = [
        int(match[1])
        for line in lines
        if (match := re.search(r"exporting small to ONNX: (?:ended after )?(\d+) s", line))
    ]
    assert told[-1] <= 2 * len(told) + 2, "about a line a second, if the machine has nothing else to do"
    assert re.search(r"network-tensorrt_rtx-f32-\w+\.engine \(\d+\.\d MB\)", done.stdout)
