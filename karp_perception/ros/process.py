"""Running one node as a process: start, Ctrl-C and SIGTERM, an orderly end, the exit code."""

from __future__ import annotations

import signal
import sys
import threading
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING

from karp_perception.core import KarpError
from karp_perception.core.blas import use_one_blas_thread
from karp_perception.ros.transport import make_room_for_large_messages

if TYPE_CHECKING:
    from karp_perception.ros.node import ProcessNode

_ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_SWITCH_INTERVAL = 0.0005  # s: the executor must not wait long for threads that compute in Python
_TURN = 0.1  # s: how soon the executor notices that the process is to end


def run(make: Callable[[], ProcessNode]) -> int:
    """Run a node until Ctrl-C, SIGTERM or its own end.

    Returns 0 after an orderly end and 1 where the node could not start or its callbacks failed, the reason on stderr.
    """
    ended = threading.Event()
    # Python's own handler would raise KeyboardInterrupt anywhere, in the midst of cleaning up too; this one only rings.
    for number in _ENDING_SIGNALS:
        signal.signal(number, lambda *_: ended.set())
    use_one_blas_thread()
    make_room_for_large_messages()
    sys.setswitchinterval(_SWITCH_INTERVAL)

    import rclpy
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.signals import SignalHandlerOptions

    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    node, name, failures = None, "node", []
    try:
        node = make()
        name = node.get_name()
        node.end_process = ended.set
        node.begin()
        executor = SingleThreadedExecutor()
        executor.add_node(node)

        def spin() -> None:
            # The executor's own spin() cannot be ended safely from another thread; short turns of it can.
            try:
                while not ended.is_set():
                    executor.spin_once(timeout_sec=_TURN)
            except Exception as error:  # a defect in a callback: told to the main thread, which ends the process
                failures.append(error)
                ended.set()

        spinning = threading.Thread(target=spin, name="executor")
        spinning.start()
        # Waiting here, in the main thread, is what lets Python run the signal handlers at once.
        ended.wait()
        spinning.join()
        executor.shutdown()
    except KarpError as error:
        failures.append(error)
    finally:
        if node is not None:
            node.end()
            node.destroy_node()
        rclpy.try_shutdown()
    for error in failures:
        if isinstance(error, KarpError):
            print(f"{name}: {error}", file=sys.stderr)
        else:
            traceback.print_exception(type(error), error, error.__traceback__)
    # The interpreter puts the deadly default back when it ends: a second Ctrl-C must not turn a clean end into a kill.
    for number in _ENDING_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    return 1 if failures else 0
