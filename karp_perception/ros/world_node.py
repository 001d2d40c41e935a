"""The `world` node: somewhere to drive. Sensors, motion, time and truth out, a command in.

A thread of its own drives the world: publish a frame, wait for its command where asked to, tick. `world: drive` on
`/diagnostics` tells how it goes: `unanswered` frames whose command did not come in time, ticks that were `braked`
because no command came at all, ticks that were `late` against real time, `contacts` and the `least_gap_m` to anything.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

from karp_perception.core import Command
from karp_perception.core.counters import Counters
from karp_perception.core.stopwatch import Stopwatch
from karp_perception.evaluation.footprints import distance, rectangles
from karp_perception.ros import parameters
from karp_perception.ros.command_input import COMMANDS, CommandInput
from karp_perception.ros.diagnostics import DiagnosticsReport
from karp_perception.ros.log_bridge import bridge_logging
from karp_perception.ros.plan_messages import OK, WARN, key_values
from karp_perception.ros.primitives import create_ros_message, message_class, set_byte, set_stamp
from karp_perception.ros.process import run
from karp_perception.ros.subscribers import await_subscribers
from karp_perception.ros.world_messages import Outgoing, WorldMessages, lidar_pose
from karp_perception.ros.world_settings import ANY_TIME, WorldNodeSettings, make_world
from karp_perception.sensing.qos import Qos
from karp_perception.world.interface import Truth

log = logging.getLogger(__name__)

CLOCK = "/clock"
_LONGEST_GOODBYE = 2.0  # s for reliable messages that are still under way at the end
_LATE = 0.5  # ticks behind real time from which a tick counts as late, and the pace begins anew


class WorldNode(Node):
    """Drives one world in a thread of its own."""

    def __init__(self) -> None:
        super().__init__("world")
        bridge_logging(self.get_logger())
        parameters.declare(self, WorldNodeSettings().parameters())
        self.end_process: Callable[[], None] = lambda: None
        self.frames = Counters()
        self.drive = {"unanswered": 0, "braked": 0, "late": 0, "contacts": 0}
        self._stop, self._reset = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="world")
        self._senders: dict[str, Any] = {}
        self._failure: Exception | None = None
        self._world: Any = None

    def begin(self) -> None:
        """Make the world and begin to drive. Raises KarpError where that is impossible."""
        self.settings = settings = parameters.read(self, WorldNodeSettings())
        self._seed, self._factor = settings.seed, settings.real_time_factor
        self._world = make_world(settings)
        self._messages = WorldMessages(
            create_ros_message,
            lidar_pose(self._world),
            settings.compressed,
            settings.jpeg_quality,
            "~/truth",
        )
        self.commands = CommandInput(
            settings.command, settings.vehicle.wheelbase, in_step=settings.wait_for_command > 0
        )
        self.report = DiagnosticsReport(self.get_name(), self.frames, {"command": self.commands.counters})
        self._start_drive()
        outgoing = [*self._messages.once(self._world.sensors(), self._world.route), *self._frame_messages()]
        for item in outgoing:
            self._sender(item)
        self._clock_publisher = self.create_publisher(message_class("rosgraph_msgs/msg/Clock"), CLOCK, 10)
        self._diagnostics = self.create_publisher(
            message_class("diagnostic_msgs/msg/DiagnosticArray"), "/diagnostics", 10
        )
        self.create_subscription(
            message_class(COMMANDS[settings.command]), "~/input/command", self.commands.receive, 10
        )
        self.create_subscription(message_class("std_msgs/msg/Empty"), "~/input/reset", lambda _: self._reset.set(), 10)
        self.create_timer(settings.diagnostics_period, self._report, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self.add_on_set_parameters_callback(self._change)
        self._thread.start()

    def end(self) -> None:
        """Stop driving and close the world."""
        self._stop.set()
        if self._world is None:
            return
        self.commands.stop()
        if self._thread.ident is not None:
            self._thread.join()
        self._world.close()

    # The drive, in the world's thread

    def _run(self) -> None:
        settings = self.settings
        try:
            missing = await_subscribers(
                self, self._senders, settings.wait_for, settings.subscribers, settings.wait_limit, self._stop
            )
            if missing and not self._stop.is_set():
                log.warning("nobody listens to %s; driving all the same", ", ".join(missing))
            self._publish_once()
            while not self._stop.is_set():
                if self._reset.is_set():
                    self._reset.clear()
                    self._world.reset(self._seed)
                    self.commands.forget()
                    self._start_drive()
                    self._publish_once()
                if 0 < settings.duration <= self._elapsed + 1e-6:
                    break
                self._step()
                if settings.duration > 0:
                    log.info("%.0f s driven", self._elapsed)
        except Exception as error:  # told by the executor's thread, which ends the process with it
            self._failure = error
            return
        if self._stop.is_set():
            return
        for sender in self._senders.values():
            sender.wait_for_all_acked(Duration(seconds=_LONGEST_GOODBYE))
        log.info("the end: %d frames", self.frames.used)
        self._report()
        if settings.exit_at_end:
            self.end_process()

    def _start_drive(self) -> None:
        self._first_ns = self._world.stamp_ns
        self._commanded_ns = self._first_ns
        self._began: tuple[float, int] | None = None
        self._touched: set[int] = set()
        self._least_gap = float("inf")
        self._steering = 0.0

    def _step(self) -> None:
        """One frame and what follows from it."""
        world, stopwatch, stamp_ns = self._world, Stopwatch(), self._world.stamp_ns
        with stopwatch("sensing"):
            outgoing = list(self._frame_messages())
        self.commands.expect(stamp_ns)
        with stopwatch("publishing"):
            self._tell_time(stamp_ns)
            self._publish(outgoing)
        self.frames.use()
        limit = self.settings.wait_for_command
        if limit > 0:
            with stopwatch("waiting"):
                self.drive["unanswered"] += not self.commands.wait(limit)
        self._wait_until_due(stamp_ns)
        self._command(stamp_ns)
        with stopwatch("tick"):
            world.tick()
        self.report.times.add(stopwatch.milliseconds)

    def _frame_messages(self) -> Iterable[Outgoing]:
        world = self._world
        yield from self._messages.sensors(world.sensors(), world.route.speed_limit, world.road.stops)
        if self.settings.truth:
            truth = self._world.truth()
            self._watch(truth)
            yield from self._messages.truth(truth)

    def _publish_once(self) -> None:
        self._publish(self._messages.once(self._world.sensors(), self._world.route), always=True)

    def _publish(self, outgoing: Iterable[Outgoing], always: bool = False) -> None:
        """Send messages; but for those that late subscribers get, only where somebody listens."""
        for item in outgoing:
            sender = self._sender(item)
            if always or sender.get_subscription_count():
                sender.publish(item.build())

    def _command(self, stamp_ns: int) -> None:
        """Pass the newest command on; brake where none has come for too long."""
        command = self.commands.take()
        if command is not None:
            self._commanded_ns, self._steering = stamp_ns, command.steering_angle
            self._world.apply(command)
            self.report.notes.pop("command", None)
        elif stamp_ns - self._commanded_ns >= self.settings.command_timeout * 1e9:
            self.drive["braked"] += 1
            self._world.apply(Command(self._steering, 0.0, -self.settings.timeout_braking))
            silent = (stamp_ns - self._commanded_ns) * 1e-9
            self.report.notes["command"] = f"no command for {silent:.1f} s: the vehicle is braked"
            log.warning("no command for %.1f s: the vehicle is braked", silent)

    def _watch(self, truth: Truth) -> None:
        """Note contacts and the least gap."""
        boxes, vehicle = truth.boxes, self.settings.vehicle
        if not len(boxes):
            return
        middle, length = np.array([[0.5 * (vehicle.front - vehicle.rear), 0.0]]), vehicle.front + vehicle.rear
        own = rectangles(middle, np.zeros(1), np.array([length]), np.array([vehicle.width]))
        gap = distance(np.repeat(own, len(boxes), axis=0), boxes.footprint())
        self._least_gap = min(self._least_gap, float(gap.min()))
        touched = set(truth.object_id[gap <= 0].tolist())
        self.drive["contacts"] += len(touched - self._touched)
        self._touched |= touched

    # Time

    @property
    def _elapsed(self) -> float:
        return (self._world.stamp_ns - self._first_ns) * 1e-9

    def _wait_until_due(self, stamp_ns: int) -> None:
        """Keep the pace, telling the time meanwhile."""
        factor, step = self._factor, self._world.step_s
        if factor <= 0:
            self._began = None
            return
        if self._began is None:
            self._began = (time.monotonic(), stamp_ns)
        wall, first_ns = self._began
        due = wall + ((stamp_ns - first_ns) * 1e-9 + step) / factor
        if time.monotonic() - due > _LATE * step / factor:
            self.drive["late"] += 1
            self._began = None
            return
        while (left := due - time.monotonic()) > 0 and not self._reset.is_set():
            if self._stop.wait(min(left, self.settings.clock_period)):
                return
            if left > self.settings.clock_period:
                # Never past the next frame: on a late wake-up the clock would have to go back for it.
                now_ns = first_ns + int((time.monotonic() - wall) * factor * 1e9)
                self._tell_time(min(max(now_ns, stamp_ns), stamp_ns + round(step * 1e9)))

    def _tell_time(self, now_ns: int) -> None:
        if self.settings.publish_clock:
            message = create_ros_message("rosgraph_msgs/msg/Clock")
            set_stamp(message.clock, now_ns)
            self._clock_publisher.publish(message)

    # Publishers, parameters, diagnostics

    def _sender(self, item: Outgoing) -> Any:
        if item.topic not in self._senders:
            kind = message_class(item.type_name)
            self._senders[item.topic] = self.create_publisher(kind, item.topic, _profile(item.qos))
        return self._senders[item.topic]

    def _change(self, changed: list[Any]) -> SetParametersResult:
        known = {p.name for p in WorldNodeSettings().parameters()}
        fixed = [parameter.name for parameter in changed if parameter.name in known and parameter.name not in ANY_TIME]
        if fixed:
            reason = f"{', '.join(fixed)}: takes effect at the start; only {', '.join(ANY_TIME)} can be changed"
            return SetParametersResult(successful=False, reason=reason)
        for parameter in changed:
            if parameter.name == "seed":
                self._seed = parameter.value
                self._reset.set()
            elif parameter.name == "real_time_factor":
                self._factor, self._began = parameter.value, None
        return SetParametersResult(successful=True)

    def _report(self) -> None:
        if self._failure is not None:
            raise self._failure
        array = self.report.message(self.get_clock().now().nanoseconds, create_ros_message)
        status = create_ros_message("diagnostic_msgs/msg/DiagnosticStatus")
        set_byte(status, "level", WARN if self.drive["contacts"] else OK)
        status.name, status.hardware_id = f"{self.get_name()}: drive", "karp_perception"
        status.message = f"{self.drive['contacts']} contacts" if self.drive["contacts"] else "driving"
        values: dict[str, object] = {"time_s": round(self._elapsed, 3), **self.drive}
        if np.isfinite(self._least_gap):
            values["least_gap_m"] = round(self._least_gap, 3)
        status.values = key_values(values, create_ros_message)
        array.status.append(status)
        self._diagnostics.publish(array)


def _profile(qos: Qos) -> QoSProfile:
    latched, best_effort = qos.durability == "transient_local", qos.reliability == "best_effort"
    return QoSProfile(
        depth=qos.depth,
        reliability=ReliabilityPolicy.BEST_EFFORT if best_effort else ReliabilityPolicy.RELIABLE,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
    )


def main() -> int:
    """Run it as a process."""
    return run(WorldNode)
