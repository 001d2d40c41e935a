"""A drive in a world as a recording: topics, frames and QoS as the `world` node has them, and the truth."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from karp_perception.ros.world_messages import Outgoing, WorldMessages, lidar_pose
from karp_perception.sensing.bags import BagWriter, default_message
from karp_perception.world.interface import World
from karp_perception.world.route_driver import RouteDriver


def record_drive(
    world: World,
    path: Path,
    seconds: float,
    progress: Callable[[int, int], None] | None = None,
    *,
    driver: RouteDriver | None = None,
    compressed: bool = True,
) -> None:
    """Drive from the present moment on and write a rosbag2 directory (MCAP), or one file for a name in `.mcap`.

    Topics are those of `ros.world_messages`. The recording appears under its name when it is complete.

    Args:
        world: that has been reset.
        path: of the recording.
        seconds: length of the drive.
        progress: called with (frames written, frames in all).
        driver: who drives; by default one who follows the world's route.
        compressed: JPEG images instead of raw ones.
    """
    count = max(1, round(seconds / world.step_s))
    for done in recorded_frames(world, path, count, driver, compressed=compressed):
        if progress is not None:
            progress(done, count)


def recorded_frames(
    world: World, path: Path, count: int, driver: RouteDriver | None = None, *, compressed: bool = True
) -> Iterator[int]:
    """The same frame by frame: gives the number of frames written; one that is given up leaves nothing behind."""
    driver = driver or RouteDriver(world.route)
    messages = WorldMessages(default_message, lidar_pose(world), compressed)
    with BagWriter(path) as bag:

        def write(stamp_ns: int, outgoing: Iterator[Outgoing]) -> None:
            for item in outgoing:
                bag.write(item.topic, item.type_name, stamp_ns, item.build(), qos=item.qos)

        for done in range(1, count + 1):
            frame, truth, stamp_ns = world.sensors(), world.truth(), world.stamp_ns
            if done == 1:
                write(stamp_ns, messages.once(frame, world.route))
            write(stamp_ns, messages.sensors(frame, world.route.speed_limit, world.road.stops))
            write(stamp_ns, messages.truth(truth))
            world.apply(driver.command(truth.ego, truth.boxes, truth.lights))
            world.tick()
            yield done
