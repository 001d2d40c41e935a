"""Our nodes as processes of a program: started, watched, and ended with it."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from karp_perception.core import KarpError

_GRACE_S = 20.0  # for a node to end after it was asked to
_TAIL = 800  # characters of a log that tell why


class NodeFailed(KarpError):
    """A node ended before its work was done; the message has the end of its output."""


@dataclass(frozen=True)
class NodeProcess:
    """A running node and its log."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def output(self) -> str:
        """What it has said so far."""
        return self.log.read_text(errors="replace")

    @property
    def ended(self) -> bool:
        """Whether it has ended."""
        return self.process.poll() is not None


@contextmanager
def node_process(
    name: str, arguments: Sequence[str], logs: Path, environment: Mapping[str, str]
) -> Iterator[NodeProcess]:
    """A node as a process, its output in `logs`; it is ended with Ctrl-C when the block is left, and killed if that
    does not help.

    Args:
        name: of the node: `stack` runs karp_perception.ros.stack_node.
        arguments: what follows --ros-args.
        logs: a directory.
        environment: all of it.
    """
    log = logs / f"{name}.log"
    entry = f"from karp_perception.ros.{name}_node import main; raise SystemExit(main())"
    command = [sys.executable, "-c", entry, "--ros-args", *arguments]
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=environment)
    try:
        yield NodeProcess(name, process, log)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        try:
            process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_for(condition: Callable[[], bool], limit: float, nodes: Sequence[NodeProcess]) -> None:
    """Wait until something is so, s at most. Raises NodeFailed where it takes longer or one of `nodes` ends."""
    deadline = time.monotonic() + limit
    while not condition():
        check_running(nodes)
        if time.monotonic() > deadline:
            raise NodeFailed(f"the nodes were not ready within {limit:.0f} s; see {nodes[0].log.parent}/*.log")
        time.sleep(0.05)


def check_running(nodes: Sequence[NodeProcess]) -> None:
    """Raises NodeFailed for one that has ended."""
    for node in nodes:
        if node.ended:
            raise NodeFailed(f"{node.name} ended early ({node.process.returncode}): {node.output[-_TAIL:]}")


def check_succeeded(node: NodeProcess) -> None:
    """Raises NodeFailed for one that has ended with an error."""
    if node.process.returncode != 0:
        raise NodeFailed(f"{node.name} failed ({node.process.returncode}): {node.output[-_TAIL:]}")
