"""The sensor frames of a recording, as the nodes would assemble them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

from karp_perception.core import BagError, InvalidInput, Route, SensorFrame
from karp_perception.pipeline import PipelineSettings
from karp_perception.ros.messages import route_from_path
from karp_perception.sensing.assembler import FrameAssembler
from karp_perception.sensing.bags import BagReader
from karp_perception.sensing.topics import Inputs, find_inputs

log = logging.getLogger(__name__)

Moment = tuple[SensorFrame, Route | None]
"""A sensor frame and the route that was known when it came."""


class BagFrames:
    """The sensor frames of a bag, assembled as the nodes would, each with the route at that time. Iterate once."""

    def __init__(self, bag: BagReader, settings: PipelineSettings, inputs: Inputs | None = None) -> None:
        self.bag = bag
        self.inputs = inputs or find_inputs(bag.topics)
        if self.inputs.points is None and not self.inputs.cameras:
            raise BagError(
                f"{bag.path}: expected a PointCloud2, Image or CompressedImage topic, got "
                f"{', '.join(sorted(bag.topics)) or 'no topics'}"
            )
        rectified = {name: camera.rectified for name, camera in self.inputs.cameras.items()}
        self.assembler = FrameAssembler(settings.sensing, rectified, lidar=self.inputs.points is not None)
        self._route: Route | None = None

    @property
    def rate_hz(self) -> float:
        """Frames a second, by the anchor's messages; 10 where a recording is too short to tell."""
        anchor = self.inputs.points or next(iter(self.inputs.cameras.values())).image
        count, duration = self.bag.topics[anchor].count, self.bag.duration_s
        return (count - 1) / duration if count > 1 and duration > 0 else 10.0

    def __iter__(self) -> Iterator[Moment]:
        handlers = self._handlers()
        for message in self.bag.messages(handlers.keys()):
            handlers[message.topic](message.message, message.log_ns)
            yield from ((frame, self._route) for frame in self.assembler.poll(message.log_ns))
        yield from ((frame, self._route) for frame in self.assembler.flush())

    def _handlers(self) -> dict[str, Callable[[Any, int], None]]:
        """topic -> what to do with its messages (message, log time in ns)."""
        inputs, assembler = self.inputs, self.assembler
        handlers: dict[str, Callable[[Any, int], None]] = {}
        for topic in inputs.transforms:
            static = topic.endswith("static")
            handlers[topic] = lambda message, _, static=static: assembler.add_transforms(message, static)
        if inputs.points is not None:
            handlers[inputs.points] = assembler.add_points
        for name, camera in inputs.cameras.items():
            handlers[camera.image] = lambda message, log_ns, name=name: assembler.add_image(name, message, log_ns)
            if camera.camera_info is not None:
                handlers[camera.camera_info] = lambda message, _, name=name: assembler.add_camera_info(name, message)
        if inputs.odometry is not None:
            handlers[inputs.odometry] = lambda message, _: assembler.add_odometry(message)
        if inputs.route is not None:
            handlers[inputs.route] = lambda message, _: self._set_route(message)
        return handlers

    def _set_route(self, message: Any) -> None:
        frame = message.header.frame_id.lstrip("/")
        if self.inputs.odometry is None or frame not in ("", "odom"):
            why = "there is no odometry" if self.inputs.odometry is None else f"it is given in {frame!r}, not in 'odom'"
            log.warning("%s is not followed: %s", self.inputs.route, why)
            return
        try:
            self._route = route_from_path(message)
        except InvalidInput as error:
            log.warning("%s: %s", self.inputs.route, error)
