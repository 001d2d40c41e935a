"""What `/diagnostics` says: where every message went, how long each stage takes, how old the results are.

Statuses of a node, each with numbers as text:

- `<node>: frames`: `received` = `used` + all `dropped.<reason>`, always; WARN while frames are being dropped, STALE
  where none arrived since the last message.
- `<node>: input <name>`: the same of each input's messages, and `lost_in_transport` where the middleware tells.
- `<node>: getting ready`: while the node is configured, at least every second: WARN, what is done and how far it is
  (`seconds`, `share` where known).
- `<node>: latency`: `<stage>.p50_ms` and `.p99_ms`, `rate_hz`, and `pipeline.p50_ms`/`.p99_ms`: from the stamp of the
  sensor data to the published result, on the node's clock.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Mapping

import numpy as np

from karp_perception.core.counters import Counters
from karp_perception.core.long_work import Progress
from karp_perception.ros.plan_messages import OK, STALE, WARN, key_values
from karp_perception.ros.primitives import Create, Message, set_byte, set_stamp

_WINDOW = 300  # frames over which percentiles are taken: half a minute at 10 Hz


class StageTimes:
    """The last times of each stage, ms, and when frames were done. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stages: dict[str, deque[float]] = {}
        self._done: deque[float] = deque(maxlen=_WINDOW)

    def add(self, milliseconds: Mapping[str, float]) -> None:
        """One frame's times by stage."""
        with self._lock:
            self._done.append(time.monotonic())
            for stage, value in milliseconds.items():
                self._stages.setdefault(stage, deque(maxlen=_WINDOW)).append(value)

    def summary(self) -> dict[str, float]:
        """`<stage>.p50_ms` and `<stage>.p99_ms` of each stage, and `rate_hz`."""
        with self._lock:
            stages = {name: np.array(values) for name, values in self._stages.items()}
            done = list(self._done)
        values: dict[str, float] = {}
        if len(done) > 1 and done[-1] > done[0]:
            values["rate_hz"] = round((len(done) - 1) / (done[-1] - done[0]), 3)
        for name, times in sorted(stages.items()):
            p50, p99 = np.percentile(times, (50, 99))
            values[f"{name}.p50_ms"], values[f"{name}.p99_ms"] = round(float(p50), 3), round(float(p99), 3)
        return values


class DiagnosticsReport:
    """Makes a node's diagnostic_msgs/DiagnosticArray.

    Args:
        node: name to put in front.
        frames: counters of frames.
        inputs: counters of messages, by input; may grow.
    """

    def __init__(self, node: str, frames: Counters, inputs: Mapping[str, Counters]) -> None:
        self._node, self._frames, self._inputs = node, frames, inputs
        self._last: dict[str, int] = {}
        self.times = StageTimes()
        self.lost: dict[str, int] = {}
        """Messages lost in transport so far, by input."""
        self.notes: dict[str, str] = {}
        """Standing remarks by key, shown as WARN with the frames."""

    def message(self, stamp_ns: int, create: Create) -> Message:
        """The array for now."""
        array = create("diagnostic_msgs/msg/DiagnosticArray")
        set_stamp(array.header.stamp, stamp_ns)
        array.status = [self._counted("frames", self._frames, create)]
        for name, counters in list(self._inputs.items()):
            array.status.append(self._counted(f"input {name}", counters, create, self.lost.get(name)))
        latency = self._status("latency", OK, "", self.times.summary(), create)
        array.status.append(latency)
        return array

    def _counted(self, what: str, counters: Counters, create: Create, lost: int | None = None) -> Message:
        counts = counters.as_dict()
        values = {"received": counts["received"], "used": counts["used"]}
        values |= {f"dropped.{reason}": count for reason, count in counts["dropped"].items()}
        if lost is not None:
            values["lost_in_transport"] = lost
        dropped = sum(counts["dropped"].values()) + (lost or 0)
        new = counts["received"] - self._last.get(f"{what} received", 0)
        new_dropped = dropped - self._last.get(f"{what} dropped", 0)
        self._last |= {f"{what} received": counts["received"], f"{what} dropped": dropped}
        level, text = OK, f"{counts['used']} of {counts['received']} used"
        if new_dropped:
            level, text = WARN, f"{new_dropped} dropped since the last report"
        elif not new:
            level, text = STALE, "nothing since the last report"
        if what == "frames" and self.notes:
            level, text = max(level, WARN), "; ".join([text, *self.notes.values()])
        return self._status(what, level, text, values, create)

    def _status(self, what: str, level: int, text: str, values: Mapping[str, object], create: Create) -> Message:
        return _status(self._node, what, level, text, values, create)


def progress_message(node: str, progress: Progress, stamp_ns: int, create: Create) -> Message:
    """A diagnostic_msgs/DiagnosticArray of a node that is being configured."""
    values: dict[str, object] = {"seconds": round(progress.seconds, 1)}
    if progress.share is not None:
        values["share"] = round(progress.share, 3)
    array = create("diagnostic_msgs/msg/DiagnosticArray")
    set_stamp(array.header.stamp, stamp_ns)
    array.status = [_status(node, "getting ready", OK if progress.finished else WARN, str(progress), values, create)]
    return array


def _status(node: str, what: str, level: int, text: str, values: Mapping[str, object], create: Create) -> Message:
    status = create("diagnostic_msgs/msg/DiagnosticStatus")
    set_byte(status, "level", level)
    status.name, status.message, status.hardware_id = f"{node}: {what}", text, "karp_perception"
    status.values = key_values(dict(values), create)
    return status
