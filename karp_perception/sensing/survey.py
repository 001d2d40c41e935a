"""A quick look at the topics of a recording, whatever its size: a sample of each, and when it begins and ends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from karp_perception.sensing.bags import BagReader, Topic

_RESOLUTION_NS = 100_000_000  # of the time at which a topic ends


@dataclass(frozen=True)
class SurveyLimits:
    """How much of a topic is read."""

    messages: int = 200
    megabytes: float = 150.0
    kept: int = 4  # messages that are kept to be decoded, spread over the sample


@dataclass(frozen=True)
class TopicSample:
    """The first messages of a topic.

    Attributes:
        topic: name, type, count in the whole recording.
        log_ns: (M,) log times of the sample, ns.
        stamp_ns: (M,) stamps of their headers, ns; those of messages without a header are their log times.
        frame_ids: different frame ids of the sample, in order of appearance.
        messages: a few of them.
        last_ns: log time of the last message in the whole recording, within 0.1 s.
    """

    topic: Topic
    log_ns: np.ndarray
    stamp_ns: np.ndarray
    frame_ids: tuple[str, ...]
    messages: tuple[Any, ...]
    last_ns: int

    def __len__(self) -> int:
        return len(self.log_ns)

    @property
    def period_s(self) -> float | None:
        """Median time between stamps, s; None for fewer than three messages."""
        return float(np.median(np.diff(self.stamp_ns))) / 1e9 if len(self) > 2 else None

    @property
    def complete(self) -> bool:
        """Whether the sample is the whole topic."""
        return len(self) == self.topic.count


def sample_topic(bag: BagReader, name: str, limits: SurveyLimits = SurveyLimits()) -> TopicSample:
    """Reads the beginning of a topic, and finds its end without reading what is between."""
    logs: list[int] = []
    stamps: list[int] = []
    frames: dict[str, None] = {}
    kept: list[Any] = []
    size = 0
    keep_every = max(1, -(-min(limits.messages, bag.topics[name].count) // limits.kept))
    for item in bag.messages([name]):
        header = getattr(item.message, "header", None)
        logs.append(item.log_ns)
        stamps.append(item.log_ns if header is None else header.stamp.sec * 1_000_000_000 + header.stamp.nanosec)
        frames.setdefault("" if header is None else header.frame_id)
        if (len(logs) - 1) % keep_every == 0:
            kept.append(item.message)
        size += len(getattr(item.message, "data", ()))
        if len(logs) >= limits.messages or size > limits.megabytes * 1e6:
            break
    whole = len(logs) == bag.topics[name].count
    last = logs[-1] if whole and logs else _last_time(bag, name, logs[-1] if logs else bag.start_ns)
    return TopicSample(
        bag.topics[name], np.array(logs, np.int64), np.array(stamps, np.int64), tuple(frames), tuple(kept), last
    )


def _last_time(bag: BagReader, name: str, known_ns: int) -> int:
    """By bisection: each step asks the index for one message."""
    low, high = known_ns, bag.end_ns + 1
    while high - low > _RESOLUTION_NS:
        middle = (low + high) // 2
        found = next(bag.raw_messages([name], start_ns=middle), None)
        if found is None:
            high = middle
        else:
            low = found.log_ns
    return low
