"""What the detector, tracker, planner and stack nodes have in common: lifecycle, parameters, diagnostics, threads."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Protocol

from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.qos import QoSProfile

from karp_perception.core import KarpError
from karp_perception.core.counters import Counters
from karp_perception.core.long_work import LongWork, Progress, listening
from karp_perception.pipeline import PipelineSettings
from karp_perception.ros import parameters
from karp_perception.ros.diagnostics import DiagnosticsReport, progress_message
from karp_perception.ros.log_bridge import bridge_logging
from karp_perception.ros.primitives import create_ros_message, message_class
from karp_perception.ros.threads import Intake, LatestWorker
from karp_perception.ros.watchdog import Silence

log = logging.getLogger(__name__)

_SUCCESS, _FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


class ProcessNode(Protocol):
    """What `process.run` needs of a node."""

    end_process: Callable[[], None]

    def begin(self) -> None:
        """Start, before anything is received. Raises KarpError where that is impossible."""

    def end(self) -> None:
        """Stop threads; nothing is received any more."""

    def destroy_node(self) -> None:
        """As every node."""

    def get_name(self) -> str:
        """As every node."""


class PerceptionNode(LifecycleNode):
    """A lifecycle node around one part of the pipeline.

    A subclass names the `sections` of PipelineSettings it uses, builds its parts in `build`, opens and closes its
    subscriptions in `open` and `close`, does its work in `work`, and frees what it built in `discard`.
    """

    sections: ClassVar[tuple[str, ...]] = ()

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.end_process: Callable[[], None] = lambda: None
        bridge_logging(self.get_logger())
        parameters.declare(self, parameters.NodeSettings().parameters())
        parameters.declare(self, parameters.selected(PipelineSettings(), self.sections))
        self.add_on_set_parameters_callback(self._check_parameters)
        self.intake: Intake | None = None
        self.worker: LatestWorker | None = None
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._built = False
        self._problem: KarpError | None = None

    # For subclasses.

    def build(self) -> None:
        """Make everything that the settings decide, `frames` and `inputs` included; warm up what needs it."""
        raise AssertionError("each node has its own")

    def open(self) -> None:
        """Subscribe."""

    def close(self) -> None:
        """End the subscriptions."""

    def discard(self) -> None:
        """Free what `build` made, but for publishers."""

    def start_threads(self, poll: Callable[[int], Any], work: Callable[[Any], None]) -> None:
        """In `open`: begin to read messages, and to work on what `poll` gives."""

        def count(reason: str) -> Callable[[Any], None]:
            return lambda item: None if isinstance(item, Silence) else self.frames.drop(reason)

        self.worker = LatestWorker(work, count("superseded"), count("defect"))
        # Waiting for a slow simulation is waiting in its time; otherwise the clock must not be one that can be set.
        simulated = self.get_parameter("use_sim_time").value
        self.intake = Intake(poll, self.worker.submit, self.now_ns if simulated else time.monotonic_ns)
        self.worker.start()
        self.intake.start()

    def handed_over(self, counters: Counters, read: Callable[[Any, int], None], name: str) -> Callable[[Any], None]:
        """A subscription's callback: hands the message over to be read in the intake's thread."""

        def hand_over(message: Any) -> None:
            if self.intake is not None:
                self.intake.hand_over(name, lambda arrival: read(message, arrival), lambda: counters.drop("queue_full"))

        return hand_over

    def count(self, frames: Counters, inputs: dict[str, Counters]) -> None:
        """In `build`: frames are what becomes of the messages of one input, once they have been joined to others."""
        self.frames, self.inputs = Counters(upstream=frames), inputs

    def note_untrained(self, detector: Any) -> None:
        """Say in the diagnostics, and in the log, that the network's boxes are not used."""
        if not detector.trained:
            self.report.notes["network"] = "the network is untrained: its detections are not used"
            log.warning("the network is untrained: no detections; the geometric channel works")

    def done(self, stamp_ns: int, milliseconds: Mapping[str, float], published_since: float) -> None:
        """A frame has been used: count it, and note the times of its stages.

        `intake` is what reading and joining messages took since the last frame, `publishing` what has passed since
        `published_since` (of time.perf_counter), `pipeline` the age of the data on the node's clock.
        """
        self.frames.use()
        publishing = (time.perf_counter() - published_since) * 1e3
        intake, self.intake.busy_ms = self.intake.busy_ms, 0.0
        age = (self.now_ns() - stamp_ns) * 1e-6
        self.report.times.add({**milliseconds, "intake": intake, "publishing": publishing, "pipeline": age})

    def now_ns(self) -> int:
        """The node's clock: the system's, or the simulation's with `use_sim_time`."""
        return self.get_clock().now().nanoseconds

    # Lifecycle.

    def begin(self) -> None:
        """Configure and activate where `autostart` says so; raises the KarpError that stands in the way."""
        if not self.get_parameter("autostart").value:
            return
        for transition in (self.trigger_configure, self.trigger_activate):
            if transition() != _SUCCESS:
                raise self._problem or KarpError("could not be started; the lines above say why")

    def end(self) -> None:
        """Through the shutdown transition, as an operator would."""
        if self._state_machine.current_state[1] in ("unconfigured", "inactive", "active"):
            self.trigger_shutdown()

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Read the parameters, build everything."""
        return self._transition(self._configure, lambda: LifecycleNode.on_configure(self, state))

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Enable the publishers, subscribe."""
        return self._transition(lambda: LifecycleNode.on_activate(self, state), self.open)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """End the subscriptions and the threads, disable the publishers."""
        return self._transition(self._halt, lambda: LifecycleNode.on_deactivate(self, state))

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free everything."""
        return self._transition(self._discard, lambda: LifecycleNode.on_cleanup(self, state))

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """From any state."""
        return self._transition(self._halt, self._discard, lambda: LifecycleNode.on_shutdown(self, state))

    def _configure(self) -> None:
        self.node_settings = parameters.read(self, parameters.NodeSettings())
        self.settings = parameters.read(self, PipelineSettings(), self.sections)
        self._published = []
        self.frames, self.inputs = Counters(), {}
        # A plain publisher: a node that is not active has something to say as well.
        self._diagnostics = self.create_publisher(
            message_class("diagnostic_msgs/msg/DiagnosticArray"), "/diagnostics", 10
        )
        try:
            with listening(self._tell_progress), LongWork(f"getting {self.get_name()} ready"):
                self.build()
        except BaseException:
            self.destroy_publisher(self._diagnostics)
            raise
        self._built = True
        self.report = DiagnosticsReport(self.get_name(), self.frames, self.inputs)
        # On the steady clock: a simulation that stands still is something to report.
        self._timer = self.create_timer(self.node_settings.diagnostics_period, self._report, clock=self._steady)

    def _halt(self) -> None:
        if self._built:  # what could not be built has nothing to close
            self.close()
        for thread in (self.intake, self.worker):
            if thread is not None:
                thread.stop()
        self.intake = self.worker = None

    def _discard(self) -> None:
        if not self._built:
            return
        self._built = False
        self.destroy_timer(self._timer)
        self._report()
        self.destroy_publisher(self._diagnostics)
        for publisher in self._published:
            self.destroy_lifecycle_publisher(publisher)
        self.discard()

    def _transition(self, *steps: Callable[[], Any]) -> TransitionCallbackReturn:
        """The steps in order; a KarpError fails the transition with its message, which rclpy would not show."""
        try:
            for step in steps:
                step()
        except KarpError as error:
            self._problem = error
            self.get_logger().error(str(error))
            return _FAILURE
        except Exception:
            log.exception("a lifecycle transition failed because of a defect")
            return TransitionCallbackReturn.ERROR
        return _SUCCESS

    # Publishers, parameters, diagnostics.

    def publisher(self, type_name: str, topic: str, qos: QoSProfile | int = 10) -> Any:
        """A publisher that is enabled while the node is active, and freed with what `build` made."""
        made = self.create_lifecycle_publisher(message_class(type_name), topic, qos)
        self._published.append(made)
        return made

    def _check_parameters(self, changed: list[Any]) -> SetParametersResult:
        known = {p.name for p in (*PipelineSettings().parameters(), *parameters.NodeSettings().parameters())}
        if self._built and any(parameter.name in known for parameter in changed):
            reason = "parameters take effect when the node is configured: deactivate it and clean it up first"
            return SetParametersResult(successful=False, reason=reason)
        return SetParametersResult(successful=True)

    def _tell_progress(self, progress: Progress) -> None:
        """While `build` compiles and exports, which can take a minute the first time: the node stays as it is."""
        self.get_logger().info(str(progress))
        self._diagnostics.publish(progress_message(self.get_name(), progress, self.now_ns(), create_ros_message))

    def _report(self) -> None:
        self._diagnostics.publish(self.report.message(self.now_ns(), create_ros_message))
