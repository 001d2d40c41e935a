"""From raw images and points to boxes on a GPU: only those go up, and only boxes come down.

Two frames can be under way: while one is computed, the next one's images and points are copied to the GPU beside it.
Preprocessing, network and decoding are CUDA graphs on one stream; shapes of raw data change seldom, and each set of
them gets graphs of its own.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from karp_perception.core import Boxes, LidarSweep, SensorFrame
from karp_perception.core.stopwatch import Stopwatch
from karp_perception.detection.model.config import ModelConfig
from karp_perception.detection.preprocessing import ImageCut, Rig, has_lidar
from karp_perception.detection.runtime.device_backend import DeviceBackend
from karp_perception.detection.runtime.device_canvas import FAR_M, DeviceCanvas
from karp_perception.detection.runtime.device_decoding import COLUMNS, best_queries, boxes_of
from karp_perception.detection.runtime.device_images import BandScaling, BandShape

_LEAST_POINTS = 1 << 14
_LAYOUTS_KEPT = 4  # each has its buffers and graphs: a rig, and what is left of it when sensors fail
_IN_FLIGHT = 2


@dataclass(frozen=True)
class Layout:
    """Shapes of one frame's raw data.

    Attributes:
        bands: of the cameras in the slots that are taken, in order.
        points: that there is room for; 0 without a lidar.
    """

    bands: tuple[BandShape, ...]
    points: int


class Stage:
    """Buffers of one frame on its way to the GPU, and the graph that preprocesses them.

    Images of one shape lie together: they are scaled together.
    """

    def __init__(self, layout: Layout, config: ModelConfig, network: DeviceBackend, canvas: DeviceCanvas) -> None:
        cuda = network.cuda
        self.layout = layout
        self._cuda, self._network, self._canvas = cuda, network, canvas
        self._groups: list[tuple[BandScaling, Tensor]] = []
        self._bands: list[tuple[Tensor, Tensor]] = [None] * len(layout.bands)  # type: ignore[list-item]
        for shape in dict.fromkeys(layout.bands):
            slots = tuple(slot for slot, band in enumerate(layout.bands) if band == shape)
            host = cuda.pinned((len(slots), shape.height, shape.width, 3), torch.uint8)
            raw = cuda.zeros(tuple(host.shape), torch.uint8)
            with cuda.on(cuda.compute):
                self._groups.append((BandScaling(shape, slots, config.image_width, cuda.device), raw))
            for number, slot in enumerate(slots):
                self._bands[slot] = (host[number], raw[number])
        self._points = self._buffer((layout.points, 4))
        self._time = self._buffer((layout.points,))
        self._points[0].fill_(FAR_M)
        self._filled = layout.points
        self._cameras_present = self._buffer((1, config.cameras))
        self._lidar_present = self._buffer((1, 1))
        self.uploaded: Any = None
        self.consumed: Any = None
        self._replay: Callable[[], None] | None = None

    def upload(self, images: list[np.ndarray], lidar: LidarSweep | None, rig: Rig) -> None:
        """Copy the bands (height, width, 3) and the points; the copies to the GPU go on beside the host and the GPU.

        Waits where an earlier frame's copies out of these buffers are still under way.
        """
        cuda = self._cuda
        if self.uploaded is not None:
            cuda.synchronise(self.uploaded)
            cuda.wait(cuda.copies, self.consumed)
        with cuda.on(cuda.copies):
            # Each goes up while the next one is copied into pinned memory.
            for image, (host, raw) in zip(images, self._bands, strict=True):
                np.copyto(host.numpy(), image)
                raw.copy_(host, non_blocking=True)
            if lidar is not None:
                self._upload_points(lidar)
            for (host, raw), values in (
                (self._cameras_present, rig.present),
                (self._lidar_present, np.float32(lidar is not None)),
            ):
                host.numpy()[...] = values
                raw.copy_(host, non_blocking=True)
            self.uploaded = cuda.mark(cuda.copies)

    def preprocess(self) -> None:
        """On the compute stream, once the upload is through: raw data to the network's inputs."""
        if self._replay is None:
            self._replay = self._cuda.captured(self._preprocess)
        self._replay()

    def _preprocess(self) -> None:
        inputs = self._network.inputs
        inputs["images"].zero_()
        for scaling, raw in self._groups:
            scaling(raw, inputs["images"])
        inputs["canvas"].zero_()
        if self.layout.points:
            inputs["canvas"][0].copy_(self._canvas(self._points[1], self._time[1]))
        inputs["camera_present"].copy_(self._cameras_present[1])
        inputs["lidar_present"].copy_(self._lidar_present[1])

    def _upload_points(self, lidar: LidarSweep) -> None:
        count = len(lidar.points)
        most = max(count, self._filled)
        points, time = self._points[0].numpy(), self._time[0].numpy()
        points[:count] = lidar.points
        points[count:most] = FAR_M
        time[:count] = 0.0 if lidar.time is None else lidar.time
        time[count:most] = 0.0
        for host, raw in (self._points, self._time):
            raw[:most].copy_(host[:most], non_blocking=True)
        self._filled = count

    def _buffer(self, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """Float32 of the host and of the GPU."""
        return self._cuda.pinned(shape, torch.float32), self._cuda.zeros(shape, torch.float32)


@dataclass
class Pending:
    """A frame under way.

    Attributes:
        marks: events: upload through, preprocessed, network through, decoded, result on the host.
    """

    _cuda: Any
    _table: Tensor
    _threshold: float
    _most: int
    marks: tuple[Any, ...]
    _rows: np.ndarray | None = field(default=None, repr=False)

    def wait(self) -> None:
        """Until its result is the caller's own, and what it lay in can be used for another frame."""
        if self._rows is None:
            self._cuda.synchronise(self.marks[-1])
            self._rows = self._table.numpy().copy()

    def boxes(self, stopwatch: Stopwatch | None = None) -> Boxes:
        """The result, waited for. Stages on the stopwatch: preprocess, network, decode, in time of the GPU."""
        self.wait()
        assert self._rows is not None
        if stopwatch is not None:
            stages = ("preprocess", "network", "decode")
            for stage, first, last in zip(stages, self.marks, self.marks[1:], strict=False):
                spent = self._cuda.milliseconds(first, last)
                stopwatch.milliseconds[stage] = stopwatch.milliseconds.get(stage, 0.0) + spent
        return boxes_of(self._rows, self._threshold, self._most)


class DeviceDetection:
    """Frames to boxes on the GPU of a backend.

    Args:
        network: the network graph.
        config: of the model.
        score_threshold: least score of a box.
        max_detections: most boxes of a frame.
    """

    def __init__(
        self, network: DeviceBackend, config: ModelConfig, score_threshold: float, max_detections: int
    ) -> None:
        cuda = network.cuda
        self._network, self._config = network, config
        self._threshold, self._most = score_threshold, max_detections
        with cuda.on(cuda.compute):
            self._canvas = DeviceCanvas(config, cuda.device)
        self._table = cuda.zeros((config.queries, COLUMNS), torch.float64)
        self._tables = [cuda.pinned((config.queries, COLUMNS), torch.float64) for _ in range(_IN_FLIGHT)]
        self._pending: list[Pending | None] = [None] * _IN_FLIGHT
        self._turn = 0
        self._stages: OrderedDict[Layout, list[Stage]] = OrderedDict()
        self._embedded: Mapping[str, np.ndarray] | None = None
        self._decode: Callable[[], None] | None = None

    def submit(
        self, frame: SensorFrame, rig: Rig, cuts: tuple[ImageCut, ...], embeddings: Mapping[str, np.ndarray]
    ) -> Pending:
        """Begin a frame; returns at once, but for the copying into pinned memory.

        Args:
            frame: images and points.
            rig, cuts: see `rig_of`.
            embeddings: of that rig; the same object for the same rig.
        """
        cuda, network = self._network.cuda, self._network
        turn, self._turn = self._turn, (self._turn + 1) % _IN_FLIGHT
        before = self._pending[turn]
        if before is not None:
            before.wait()
        images = []
        for name, cut in zip(rig.names, cuts, strict=True):
            camera = frame.cameras[name]
            assert camera is not None
            images.append(camera.image[cut.top : cut.bottom])
        lidar = frame.lidar if has_lidar(frame) else None
        bands = tuple(
            BandShape(image.shape[0], image.shape[1], cut.rows) for image, cut in zip(images, cuts, strict=True)
        )
        stage = self._stages_of(Layout(bands, _room_for(lidar)))[turn]
        with torch.inference_mode():
            stage.upload(images, lidar, rig)
            if embeddings is not self._embedded:
                self._embed(embeddings)
            cuda.wait(cuda.compute, stage.uploaded)
            marks = [cuda.mark(cuda.compute)]
            for step in (stage.preprocess, network.launch, self._decoded):
                step()
                marks.append(cuda.mark(cuda.compute))
            stage.consumed = marks[1]
            with cuda.on(cuda.compute):
                self._tables[turn].copy_(self._table, non_blocking=True)
                marks.append(cuda.mark(cuda.compute))
        pending = Pending(cuda, self._tables[turn], self._threshold, self._most, tuple(marks))
        self._pending[turn] = pending
        return pending

    def _decoded(self) -> None:
        if self._decode is None:
            self._decode = self._network.cuda.captured(lambda: self._table.copy_(best_queries(self._network.outputs)))
        self._decode()

    def _embed(self, embeddings: Mapping[str, np.ndarray]) -> None:
        """Put a rig's position embeddings where the network reads them: seldom, so it need not be fast."""
        cuda = self._network.cuda
        with cuda.on(cuda.compute):
            for name, values in embeddings.items():
                self._network.inputs[name].copy_(torch.from_numpy(np.array(values, np.float32)))
        self._embedded = embeddings

    def _stages_of(self, layout: Layout) -> list[Stage]:
        if layout in self._stages:
            self._stages.move_to_end(layout)
            return self._stages[layout]
        while len(self._stages) >= _LAYOUTS_KEPT:
            for pending in self._pending:  # nothing may be at work on what is freed
                if pending is not None:
                    pending.wait()
            self._stages.popitem(last=False)
        stages = [Stage(layout, self._config, self._network, self._canvas) for _ in range(_IN_FLIGHT)]
        self._stages[layout] = stages
        return stages


def _room_for(lidar: LidarSweep | None) -> int:
    """A power of two of points, so that sweeps of changing length share their buffers."""
    if lidar is None:
        return 0
    return max(_LEAST_POINTS, 1 << (len(lidar.points) - 1).bit_length())
