"""The anchor synchroniser: for each message of one anchor input, the best match of every other input, or nothing.

A match is the message nearest to `anchor stamp + offset`, within the tolerance, that is not nearer to another anchor
(the ones already here, or the one expected next); so a camera at half the lidar's rate is with every second sweep, and
each payload is used once at most: a picture that is used twice would show moving things where they no longer are, while
a missing one is masked. A bundle leaves

- as soon as no input can improve it: for each, a later message has come, or the match lies within half a period of the
  wanted time (the next one cannot be nearer), or the input's period says that its next message lies out of reach;
- or when the time limit since the arrival of the anchor is over, with what is there by then.

Bundles leave in the order of their stamps. An input that has been missing several times in a row without a sign of life
is no longer waited for, until it speaks again. When time jumps back (a recording that starts over), what is left of the
old time is dropped, counted, and everything starts anew.
"""

from __future__ import annotations

import threading
from bisect import bisect_left, insort
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter

from karp_perception.core.counters import Counters
from karp_perception.core.errors import ConfigurationError, InvalidInput
from karp_perception.core.settings import Settings, setting
from karp_perception.core.validation import as_stamp

_INTERVALS_KEPT = 5  # of an input's last stamps; the shortest is its period, for a lost message makes a long one
_INTERVALS_NEEDED = 2  # to know the period at all; to rely on the next message being far off, all of them
_EARLY_FRACTION = 0.8  # a next message is expected no earlier than this share of a period after the last


@dataclass(frozen=True)
class SynchronizerSettings(Settings):
    """How long to wait and what counts as the same moment."""

    tolerance: float = setting(
        0.05,
        "largest distance of a match from the wanted time; about half the anchor's period",
        unit="s",
        low=1e-4,
        high=10.0,
    )
    time_limit: float = setting(
        0.1, "longest wait for other inputs after an anchor has arrived", unit="s", low=0.0, high=10.0
    )
    queue_size: int = setting(
        20, "messages kept of each input; the oldest is dropped", unit="messages", low=1, high=1000
    )
    silent_after: int = setting(
        3, "bundles in a row without an input, and no sign of it, until it is no longer waited for", low=1, high=1000
    )
    jump_back: float = setting(
        1.0,
        "an input's stamp this much older than its newest means that time has jumped back",
        unit="s",
        low=1e-3,
        high=3600.0,
    )


@dataclass(frozen=True)
class Bundle:
    """What belongs to one anchor message.

    Attributes:
        stamp_ns: of the anchor.
        payloads: by input name, the anchor included; None where an input has nothing for this moment.
        stamps_ns: by input name, of what is there.
    """

    stamp_ns: int
    payloads: Mapping[str, object | None]
    stamps_ns: Mapping[str, int] = field(default_factory=dict)


@dataclass
class _Message:
    stamp: int
    payload: object
    arrival: int
    in_reach: bool = False  # some released bundle could have used it


_stamp_of = attrgetter("stamp")


class _Input:
    """One input: what has come and is not used yet, in order of stamps, and its pace."""

    def __init__(self, offset_ns: int) -> None:
        self.offset = offset_ns
        self.counters = Counters()
        self.waiting: list[_Message] = []
        self.newest: int | None = None
        self.intervals: deque[int] = deque(maxlen=_INTERVALS_KEPT)
        self.misses = 0  # in a row, since it last spoke
        self.ahead = False  # its stamps have jumped back, the anchor's not yet

    @property
    def period(self) -> int | None:
        """ns between messages, None until known."""
        return min(self.intervals) if len(self.intervals) >= _INTERVALS_NEEDED else None

    @property
    def next_stamp(self) -> float:
        """No message is expected before this stamp."""
        assert self.newest is not None  # asked only about inputs that have spoken
        return self.newest + (_EARLY_FRACTION * min(self.intervals) if len(self.intervals) == _INTERVALS_KEPT else 1)

    def note(self, stamp: int) -> None:
        """A message has come: it is alive, and its pace may have changed."""
        self.misses = 0
        if self.newest is not None and stamp > self.newest:
            self.intervals.append(stamp - self.newest)
        self.newest = stamp if self.newest is None else max(self.newest, stamp)

    def has(self, stamp: int) -> bool:
        i = bisect_left(self.waiting, stamp, key=_stamp_of)
        return i < len(self.waiting) and self.waiting[i].stamp == stamp

    def start_anew(self, reason: str) -> None:
        """Drops everything that waits and forgets the pace."""
        self.drop(len(self.waiting), reason)
        self.newest = None
        self.intervals.clear()

    def drop(self, count: int, reason: str) -> None:
        """Drops the oldest that wait."""
        if count:
            del self.waiting[:count]
            self.counters.drop(reason, count)


class Synchronizer:
    """Bundles messages around an anchor input. Safe to use from several threads.

    Args:
        anchor: name of the input that makes the bundles.
        others: names of the inputs that are matched to it.
        settings: tolerance, time limit, queue sizes.
        offsets: s by input, the expected stamp of an input relative to the anchor's; 0 where not named.

    Attributes:
        counters: by input; `received == used + dropped` holds at any moment, for messages whose fate is known, and
            for all of them after `flush`. Reasons: unmatched, superseded (another message of the input was nearer),
            too_late (its bundle had left), out_of_order (an anchor older than one released), duplicate_stamp,
            queue_full, absurd_stamp, time_jumped_back.
        missing: by input, how many bundles left without it.
    """

    def __init__(
        self,
        anchor: str,
        others: Sequence[str],
        settings: SynchronizerSettings | None = None,
        offsets: Mapping[str, float] | None = None,
    ) -> None:
        names, offsets = [anchor, *others], offsets or {}
        if len(set(names)) != len(names):
            raise ConfigurationError(f"synchroniser inputs: expected different names, got {names}")
        if unknown := sorted(set(offsets) - set(others)):
            raise ConfigurationError(f"synchroniser offsets: no such input {unknown}; there are {sorted(others)}")
        self.settings = settings or SynchronizerSettings()
        self._tolerance = round(self.settings.tolerance * 1e9)
        self._time_limit = round(self.settings.time_limit * 1e9)
        self._jump = round(self.settings.jump_back * 1e9)
        self._anchor = _Input(0)
        self._others = {name: _Input(round(offsets.get(name, 0.0) * 1e9)) for name in others}
        self._anchor_name = anchor
        self._inputs = {anchor: self._anchor, **self._others}
        self._released: int | None = None  # stamp of the last bundle
        self._lock = threading.Lock()
        self.counters: dict[str, Counters] = {name: i.counters for name, i in self._inputs.items()}
        self.missing: Counter[str] = Counter(dict.fromkeys(others, 0))

    def add(self, name: str, stamp_ns: int, payload: object, arrival_ns: int) -> None:
        """Takes one message. Bad ones are counted and dropped, never raised.

        Args:
            name: of the input; ConfigurationError for one that was not announced.
            stamp_ns: of the message's header.
            payload: whatever the bundle shall hold.
            arrival_ns: the clock of `poll` when the message came (ROS time, so that a paused simulation is not late).
        """
        if name not in self._inputs:
            raise ConfigurationError(f"synchroniser: no such input {name!r}; there are {sorted(self._inputs)}")
        source = self._inputs[name]
        try:
            stamp = as_stamp(name, stamp_ns)
            if stamp == 0:  # a header that nobody filled in
                raise InvalidInput(name, "a stamp", 0)
        except InvalidInput:
            source.counters.drop("absurd_stamp")
            return
        with self._lock:
            if source.newest is not None and stamp < source.newest - self._jump:
                self._jump_back(source, stamp)
            reason = self._refusal(source, stamp)
            if reason is not None:
                source.counters.drop(reason)
                source.misses = 0
                return
            source.note(stamp)
            if len(source.waiting) >= self.settings.queue_size:
                source.drop(1, "queue_full")
            insort(source.waiting, _Message(stamp, payload, int(arrival_ns)), key=_stamp_of)

    def poll(self, now_ns: int) -> list[Bundle]:
        """Bundles that are ready at `now_ns` (the clock of `arrival_ns`), oldest first."""
        with self._lock:
            bundles: list[Bundle] = []
            while self._anchor.waiting and self._ready(self._anchor.waiting[0], int(now_ns)):
                bundles.append(self._release())
            return bundles

    def flush(self) -> list[Bundle]:
        """Everything that is left, at the end of a recording; afterwards the fate of every message is known."""
        with self._lock:
            bundles: list[Bundle] = []
            while self._anchor.waiting:
                bundles.append(self._release())
            for source in self._others.values():
                for message in source.waiting:
                    source.counters.drop("superseded" if message.in_reach else "unmatched")
                source.waiting.clear()
            return bundles

    def deadline_ns(self) -> int | None:
        """When the oldest anchor's time limit is over: the latest moment for the next `poll`. None if nothing waits."""
        with self._lock:
            return self._anchor.waiting[0].arrival + self._time_limit if self._anchor.waiting else None

    def silent(self) -> list[str]:
        """Names of inputs that are not waited for at present."""
        with self._lock:
            return [name for name, source in self._others.items() if self._is_silent(source)]

    # The methods below expect the lock to be held. Times are in ns.

    def _refusal(self, source: _Input, stamp: int) -> str | None:
        """Why a message cannot be of use any more, None if it can."""
        if source.has(stamp):
            return "duplicate_stamp"
        if self._released is None or source.ahead:
            return None
        if source is self._anchor:
            return None if stamp > self._released else "duplicate_stamp" if stamp == self._released else "out_of_order"
        return "too_late" if stamp - source.offset + self._tolerance <= self._released else None

    def _jump_back(self, source: _Input, stamp: int) -> None:
        """One input's stamps have jumped back. The anchor's jump makes the new time that of the synchroniser."""
        source.start_anew("time_jumped_back")
        if source is not self._anchor:
            newest = self._anchor.newest
            source.ahead = newest is not None and stamp - source.offset < newest - self._jump
            return
        self._released = None
        for other in self._others.values():
            other.ahead = False
            if other.newest is not None and other.newest - other.offset > stamp + self._jump:
                other.start_anew("time_jumped_back")

    def _is_silent(self, source: _Input) -> bool:
        return source.misses >= self.settings.silent_after

    def _ready(self, anchor: _Message, now: int) -> bool:
        waited = now - anchor.arrival
        if waited >= self._time_limit or waited < -self._jump:  # the latter: the clock itself has jumped back
            return True
        return all(self._is_silent(source) or self._is_final(source, anchor) for source in self._others.values())

    def _is_final(self, source: _Input, anchor: _Message) -> bool:
        """Whether no message that is still to come can be a better match than what is here."""
        if source.newest is None:
            return False
        if source.ahead:
            return True
        wanted = anchor.stamp + source.offset
        match = self._match(source, anchor)
        if match is None:
            reach = wanted + self._tolerance
            return source.next_stamp > reach or (bool(source.waiting) and source.waiting[-1].stamp >= wanted)
        gap, period = wanted - match.stamp, source.period
        return gap <= 0 or source.newest > match.stamp or (period is not None and gap <= period / 2)

    def _match(self, source: _Input, anchor: _Message) -> _Message | None:
        """The message nearest to the wanted time, if it is in tolerance and not nearer to the next anchor."""
        if source.ahead:
            return None
        wanted = anchor.stamp + source.offset
        i = bisect_left(source.waiting, wanted, key=_stamp_of)
        best = min(source.waiting[max(i - 1, 0) : i + 1], key=lambda m: abs(m.stamp - wanted), default=None)
        if best is None or abs(best.stamp - wanted) > self._tolerance:
            return None
        following = self._next_anchor(anchor)
        if following is not None and abs(following + source.offset - best.stamp) < abs(wanted - best.stamp):
            # It belongs to the next anchor; the one before it may still do for this one.
            before = source.waiting[i - 1] if i > 0 and best is not source.waiting[i - 1] else None
            return before if before is not None and wanted - before.stamp <= self._tolerance else None
        return best

    def _next_anchor(self, anchor: _Message) -> float | None:
        """Stamp of the anchor after this one, as it came or as the anchor's pace lets expect it."""
        i = bisect_left(self._anchor.waiting, anchor.stamp, key=_stamp_of) + 1
        if i < len(self._anchor.waiting):
            return self._anchor.waiting[i].stamp
        period = self._anchor.period
        return None if period is None else anchor.stamp + period

    def _release(self) -> Bundle:
        anchor = self._anchor.waiting[0]
        payloads: dict[str, object | None] = {self._anchor_name: anchor.payload}
        stamps = {self._anchor_name: anchor.stamp}
        for name, source in self._others.items():
            match = self._match(source, anchor)
            self._settle(source, anchor.stamp, match)
            payloads[name] = None if match is None else match.payload
            if match is None:
                self.missing[name] += 1
                source.misses += 1
            else:
                stamps[name] = match.stamp
                source.misses = 0
        self._anchor.waiting.pop(0)
        self._anchor.counters.use()
        self._released = anchor.stamp
        return Bundle(anchor.stamp, payloads, stamps)

    def _settle(self, source: _Input, anchor_stamp: int, match: _Message | None) -> None:
        """Counts the match as used, and drops what no later anchor can use: everything older, or out of reach."""
        if source.ahead:  # what waits belongs to a time that the anchor has yet to reach
            return
        wanted = anchor_stamp + source.offset
        kept: list[_Message] = []
        for message in source.waiting:
            message.in_reach |= abs(message.stamp - wanted) <= self._tolerance
            if message is match:
                source.counters.use()
            elif message.stamp + self._tolerance <= wanted or (match is not None and message.stamp < match.stamp):
                source.counters.drop("superseded" if message.in_reach else "unmatched")
            else:
                kept.append(message)
        source.waiting[:] = kept
