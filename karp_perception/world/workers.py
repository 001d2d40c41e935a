"""Jobs spread over processes that end with the one who asked for them, however that one ends."""

from __future__ import annotations

import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import closing, suppress
from multiprocessing.connection import Connection, wait
from typing import Any

from karp_perception.core.blas import use_one_blas_thread
from karp_perception.core.errors import KarpError

Work = Callable[[int], Generator[object, None, None]]
"""Does a job, pausing (`yield`) after each step of it. Given up at a pause, it must leave nothing half done."""

_GOODBYE_S = 20.0  # for a process to come to the end of a step


class WorkerFailed(KarpError):
    """A worker process ended early, or its job raised an error."""


def run_jobs(make: Callable[[], Work], jobs: Sequence[int], workers: int, stepped: Callable[[], None]) -> None:
    """Do all jobs, each in one of some fresh processes (spawned), one after the other in each.

    Args:
        make: called once in each process, gives what does a job; must be picklable.
        jobs: numbers.
        workers: processes.
        stepped: called here after each step of a job.

    Raises WorkerFailed where a job fails. On any way out the processes end at the next pause of their job; they do so
    as well where this process is killed, because their pipe hangs up.
    """
    with closing(_steps(make, jobs, workers, carry=False)) as steps:
        for _ in steps:
            stepped()


def job_results(make: Callable[[], Work], jobs: Sequence[int], workers: int) -> Generator[tuple[int, Any], None, None]:
    """What jobs yield, as (job, value): in order within a job, else as it comes. Arguments and ends as `run_jobs`.

    Values are pickled. A process that is ahead waits, with one value in hand, so that memory stays bounded; close the
    generator to end the processes.
    """
    return _steps(make, jobs, workers, carry=True)


def _steps(
    make: Callable[[], Work], jobs: Sequence[int], workers: int, *, carry: bool
) -> Generator[tuple[int, Any], None, None]:
    context = multiprocessing.get_context("spawn")
    waiting, processes, doing = deque(jobs), {}, {}
    try:
        for _ in range(min(workers, len(jobs))):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs, make, carry), daemon=True)
            processes[ours] = process
            process.start()
            theirs.close()
            doing[ours] = waiting.popleft()
            ours.send(doing[ours])
        busy = set(processes)
        while busy:
            for connection in wait(list(busy)):
                kind, content = _receive(connection, processes[connection])
                if kind == "error":
                    raise WorkerFailed(content)
                if kind == "step":
                    yield doing[connection], content
                elif waiting:
                    doing[connection] = waiting.popleft()
                    connection.send(doing[connection])
                else:
                    busy.discard(connection)
    finally:
        for connection in processes:
            connection.close()
        for process in processes.values():
            if process.pid is not None:
                process.join(_GOODBYE_S)
                if process.is_alive():
                    process.kill()
                    process.join()


def _receive(connection: Connection, process: multiprocessing.process.BaseProcess) -> tuple[str, Any]:
    try:
        return connection.recv()
    except (EOFError, ConnectionResetError):
        process.join(_GOODBYE_S)
        raise WorkerFailed(f"a worker process ended early, exit code {process.exitcode}") from None


def _serve(connection: Connection, make: Callable[[], Work], carry: bool) -> None:
    """A worker process: jobs from the connection until the other side hangs up."""
    # Ctrl-C goes to the whole group; the other side ends us by hanging up.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    use_one_blas_thread()
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        try:
            work = make()
            while True:
                steps = work(connection.recv())
                for value in steps:
                    connection.send(("step", value if carry else None))
                    if connection.poll():  # nothing is sent during a job: the other side has hung up
                        steps.close()
                        return
                connection.send(("done", ""))
        except KarpError as error:
            connection.send(("error", str(error)))
