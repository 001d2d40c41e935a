"""Waiting for subscribers, over a graph that changes as the test says."""

from __future__ import annotations

import threading
import time

from karp_perception.ros import subscribers
from karp_perception.ros.subscribers import await_subscribers


class Graph:
    """A node and its publishers: who has joined by when, in s from now."""

    def __init__(self, joins: dict[str, list[float]]) -> None:
        self._joins, self._start = joins, time.monotonic()

    def _count(self, topic: str) -> int:
        return sum(time.monotonic() - self._start >= at for at in self._joins[topic])

    def get_topic_names_and_types(self) -> list[tuple[str, list[str]]]:
        return [(topic, ["a"]) for topic in self._joins]

    def count_publishers(self, _: str) -> int:
        return 1

    def count_subscribers(self, topic: str) -> int:
        return self._count(topic)

    def publishers(self, *topics: str) -> dict[str, Graph.Publisher]:
        return {topic: Graph.Publisher(self, topic) for topic in topics}

    class Publisher:
        def __init__(self, graph: Graph, topic: str) -> None:
            self._graph, self._topic = graph, topic

        def get_subscription_count(self) -> int:
            return self._graph._count(self._topic)


def test_waits_for_those_that_join_after_the_wanted_ones() -> None:
    graph = Graph({"/points": [0.1], "/truth": [0.45], "/elsewhere": [0.7]})
    publishers, start = graph.publishers("/points", "/truth"), time.monotonic()
    assert await_subscribers(graph, publishers, ["/points"], 1, 30.0, threading.Event()) == []
    assert graph.count_subscribers("/truth") == graph.count_subscribers("/elsewhere") == 1
    assert time.monotonic() - start >= 0.7 + subscribers._CALM


def test_tells_who_has_too_few_when_time_is_up() -> None:
    graph = Graph({"/points": [0.0], "/image": [0.0, 0.0], "/odometry": []})
    publishers = graph.publishers("/points", "/image", "/odometry")
    wanted = ["/points", "/image", "/odometry", "/not_mine"]
    assert await_subscribers(graph, publishers, wanted, 2, 0.2, threading.Event()) == ["/points", "/odometry"]


def test_nothing_wanted_is_nothing_to_wait_for() -> None:
    graph = Graph({"/points": []})
    start = time.monotonic()
    assert await_subscribers(graph, graph.publishers("/points"), [""], 1, 30.0, threading.Event()) == []
    assert time.monotonic() - start < subscribers._CALM


def test_ends_when_asked_to() -> None:
    stop = threading.Event()
    threading.Timer(0.2, stop.set).start()
    graph = Graph({"/points": []})
    assert await_subscribers(graph, graph.publishers("/points"), ["/points"], 1, 60.0, stop) == ["/points"]
