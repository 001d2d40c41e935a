"""Waiting for those who are to hear a recording or a world from its first message on."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

_LOOK_PERIOD = 0.05  # s
_CALM = 0.5  # s without anybody coming or going: more than a node needs from its first topic to its last


def await_subscribers(
    node: Any, publishers: Mapping[str, Any], wanted: Sequence[str], least: int, limit: float, stop: threading.Event
) -> list[str]:
    """Wait until each of the wanted topics has `least` subscribers, and until nobody joins any more.

    Nodes find each other topic by topic. One that listens to a wanted topic may not have found the others yet, and
    whoever records what it says may not have found it: so all is kept waiting until topics and their ends have stayed
    the same for half a second. Where no topic is wanted there is nothing to wait for.

    Args:
        node: whose view of the graph counts.
        publishers: of the node, by topic.
        wanted: topics; those without a publisher are passed over.
        least: subscribers of each.
        limit: s, for all of it.
        stop: ends the waiting.

    Returns:
        The topics that still have fewer.
    """
    deadline = time.monotonic() + limit
    waiting = [topic for topic in wanted if topic in publishers]
    if not waiting:
        return []
    ends, since = None, time.monotonic()
    while time.monotonic() < deadline and not stop.is_set():
        waiting = [topic for topic in waiting if publishers[topic].get_subscription_count() < least]
        before, ends = ends, _ends(node, publishers)
        if waiting or ends != before:
            since = time.monotonic()
        elif time.monotonic() - since >= _CALM:
            break
        stop.wait(_LOOK_PERIOD)
    return waiting


def _ends(node: Any, publishers: Mapping[str, Any]) -> dict[str, tuple[int, int, int]]:
    """Of each topic that the node knows: publishers, subscribers, and those of them that its own publisher reaches."""
    return {
        topic: (
            node.count_publishers(topic),
            node.count_subscribers(topic),
            publishers[topic].get_subscription_count() if topic in publishers else 0,
        )
        for topic, _ in node.get_topic_names_and_types()
    }
