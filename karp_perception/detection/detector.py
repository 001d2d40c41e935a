"""The detector: a sensor frame in, boxes out."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from karp_perception.core import Boxes, CameraFrame, LidarSweep, SensorFrame, Settings, setting
from karp_perception.core.stopwatch import Stopwatch
from karp_perception.detection.decoding import decode
from karp_perception.detection.model.config import MODELS, ModelConfig
from karp_perception.detection.model.weights import ModelSource, find_model
from karp_perception.detection.preprocessing import Rig, has_lidar, network_arrays, rig_of
from karp_perception.detection.refinement.stage import RefinementStage
from karp_perception.detection.runtime.artefacts import Artefacts
from karp_perception.detection.runtime.backend import (
    AUTO,
    BACKENDS,
    DEVICE_BACKENDS,
    Backend,
    BackendOptions,
    select_backend,
)
from karp_perception.detection.runtime.graph import POSITION_OUTPUTS, PRECISIONS

if TYPE_CHECKING:
    from karp_perception.detection.runtime.device_backend import DeviceBackend
    from karp_perception.detection.runtime.device_detection import DeviceDetection, Pending

_LOG = logging.getLogger(__name__)
_CALIBRATIONS_KEPT = 32  # a rig of five cameras has that many subsets

NO_MODEL = "none"
"""The model that detects nothing: for those who want the geometric channel alone."""

NO_REFINER = "none"
"""The refiner that leaves boxes as the network says them."""


@dataclass(frozen=True)
class DetectorSettings(Settings):
    """Which network, where it runs, and what is let through."""

    model: str = setting(
        "nano", f"{', '.join(MODELS)}, {NO_MODEL}, a weight file (.safetensors), or a 2D detector (.onnx)"
    )
    cameras: int = setting(0, "slots for cameras, fewer run faster; 0: as many as the model has", low=0, high=16)
    backend: str = setting("auto", "what runs the network", choices=("auto", *BACKENDS))
    precision: str = setting(
        AUTO, "of the network; auto: the fastest that was measured harmless", choices=(AUTO, *PRECISIONS)
    )
    refiner: str = setting(
        "refiner",
        f"what judges and fits boxes by the lidar's points: refiner, {NO_REFINER}, or a weight file (.safetensors)",
    )
    engines: str = setting("", "folder of compiled engines (`karp compile`); empty: in the user's cache")
    threads: int = setting(0, "of the CPU; 0: all that this process may use", low=0, high=256)
    score_threshold: float = setting(0.3, "least score of a detection", low=0.0, high=1.0)
    max_detections: int = setting(100, "most detections of a frame", low=1, high=1000)


class Detector:
    """The transformer detector on the best backend there is. One instance serves one thread.

    Args:
        settings: see DetectorSettings.
        cache: folder for exported graphs; the user's cache by default.

    Raises ConfigurationError for a model that does not exist or a file that is none, BackendUnavailable where the
    backend asked for, or every one of them, cannot be used here.
    """

    def __init__(self, settings: DetectorSettings | None = None, *, cache: Path | None = None) -> None:
        self.settings = settings or DetectorSettings()
        self._source: ModelSource | None = None
        self._calibrations: OrderedDict[bytes, dict[str, np.ndarray]] = OrderedDict()
        self._left_out: set[frozenset[str]] = set()
        if self.settings.model == NO_MODEL:
            return
        _keep_freed_memory()
        self._source = _with_slots(find_model(self.settings.model), self.settings.cameras)
        if not self._source.trained:
            _LOG.warning(
                "model %s has no trained weights here: the network is UNTRAINED and its detections mean nothing",
                self._source.config.name,
            )
        # What an untrained network says means nothing, and a refiner could take some of it for things.
        refiner = self.settings.refiner if self._source.trained else NO_REFINER
        self._refinement = RefinementStage.of(replace(self.settings, refiner=refiner))
        engines = Path(self.settings.engines).expanduser() if self.settings.engines else None
        options = BackendOptions(self.settings.threads, self.settings.precision, engines)
        artefacts = Artefacts(self._source, cache)
        self._network: Backend = select_backend(self.settings.backend, artefacts.network, options)
        on_device = self._network.name in DEVICE_BACKENDS
        # Embeddings are computed once for a calibration: exactness costs nothing.
        self._position: Backend = select_backend(
            "auto" if on_device else self._network.name, artefacts.position, replace(options, precision="f32")
        )
        self._on_device: DeviceDetection | None = None
        if on_device:
            from karp_perception.detection.runtime.device_detection import DeviceDetection

            self._on_device = DeviceDetection(
                cast("DeviceBackend", self._network),
                self._source.config,
                self._refinement.least_score,
                self.settings.max_detections,
            )

    @property
    def trained(self) -> bool:
        """Whether detections mean anything: False for untrained weights and for no model."""
        return self._source is not None and self._source.trained

    @property
    def config(self) -> ModelConfig | None:
        """Shape of the network; None for no model."""
        return self._source.config if self._source else None

    @property
    def info(self) -> dict[str, Any]:
        """What runs: model, trained, weights, weights_hash, backend, backend_version, precision, refiner (what its
        weights are known by; None for none), threads, inputs.

        With `parity` where the precision was chosen by a measurement: its figures, see `Parity`.
        """
        if self._source is None:
            return {"model": NO_MODEL, "trained": False, "backend": NO_MODEL}
        return {
            "model": self._source.config.name,
            "trained": self._source.trained,
            "weights": str(self._source.file) if self._source.file else None,
            "weights_hash": self._source.digest,
            "backend": self._network.name,
            "backend_version": self._network.version,
            "precision": self._network.precision,
            **({"parity": asdict(self._network.parity)} if self._network.parity else {}),
            "refiner": self._refinement.network.digest if self._refinement.network else None,
            "threads": BackendOptions(self.settings.threads).thread_count,
            "inputs": {
                "cameras": self._source.config.cameras,
                "image": [self._source.config.image_height, self._source.config.image_width],
                "x_range_m": list(self._source.config.x_range_m),
                "y_range_m": list(self._source.config.y_range_m),
            },
        }

    def detect(self, frame: SensorFrame, stopwatch: Stopwatch | None = None) -> Boxes:
        """Boxes in `base_link`, best first, at most `max_detections` with at least `score_threshold`.

        Any subset of sensors serves; a frame with none gives no boxes. Where more cameras deliver than the model has
        slots for, `preprocessing.choose_cameras` says which are used. Stages on the stopwatch: preprocess, network,
        decode, refine. On a GPU its own time for each but refine, which is the host's, and so is upload. Raises
        InvalidInput for an image that is not rectified.
        """
        stopwatch = stopwatch or Stopwatch()
        config = self.config
        if config is None or _is_blind(frame):
            return Boxes.empty()
        if self._on_device is not None:
            with stopwatch("upload"):
                pending = self._begin(self._on_device, frame, config)
            return self._refined(pending.boxes(stopwatch), frame, stopwatch)
        with stopwatch("preprocess"):
            rig, inputs = network_arrays(frame, config)
            self._report_left_out(frame, rig)
        with stopwatch("network"):
            outputs = self._network.run({**inputs, **self._embeddings(rig)})
        with stopwatch("decode"):
            boxes = decode(outputs, self._refinement.least_score, self.settings.max_detections)
        return self._refined(boxes, frame, stopwatch)

    def detect_each(self, frames: Iterable[SensorFrame]) -> Iterator[Boxes]:
        """`detect` for one frame after the other; on a GPU each is copied there while the one before is computed."""
        config = self.config
        waiting: tuple[SensorFrame, Pending] | None = None
        for frame in frames:
            if config is None or self._on_device is None or _is_blind(frame):
                if waiting is not None:
                    yield self._finished(*waiting)
                    waiting = None
                yield self.detect(frame)
                continue
            begun = self._begin(self._on_device, frame, config)
            if waiting is not None:
                yield self._finished(*waiting)
            waiting = frame, begun
        if waiting is not None:
            yield self._finished(*waiting)

    def warm_up(self) -> None:
        """Run once on a made-up frame, so that the first real one is not slow."""
        if self.config is None:
            return
        ahead = np.array([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 1.5], [0, 0, 0, 1]])
        intrinsics = np.array([[100.0, 0, 80], [0, 100, 30], [0, 0, 1]])
        camera = CameraFrame(np.zeros((60, 160, 3), np.uint8), intrinsics, ahead, 0)
        sweep = LidarSweep(np.zeros((1, 4), np.float32), 0)
        self.detect(SensorFrame(0, {"made_up": camera}, sweep))

    def _begin(self, on_device: DeviceDetection, frame: SensorFrame, config: ModelConfig) -> Pending:
        rig, cuts = rig_of(frame.cameras, config)
        self._report_left_out(frame, rig)
        return on_device.submit(frame, rig, cuts, self._embeddings(rig))

    def _finished(self, frame: SensorFrame, pending: Pending) -> Boxes:
        return self._refined(pending.boxes(), frame, Stopwatch())

    def _refined(self, boxes: Boxes, frame: SensorFrame, stopwatch: Stopwatch) -> Boxes:
        with stopwatch("refine"):
            return self._refinement(boxes, frame.lidar)[0]

    def _embeddings(self, rig: Rig) -> dict[str, np.ndarray]:
        """Position embeddings of a calibration, kept by its content."""
        key = rig.key()
        if key in self._calibrations:
            self._calibrations.move_to_end(key)
            return self._calibrations[key]
        outputs = self._position.run(rig.calibration)
        embeddings = {name: outputs[name] for name in POSITION_OUTPUTS}
        self._calibrations[key] = embeddings
        if len(self._calibrations) > _CALIBRATIONS_KEPT:
            self._calibrations.popitem(last=False)
        return embeddings

    def _report_left_out(self, frame: SensorFrame, rig: Rig) -> None:
        delivering = {name for name, camera in frame.cameras.items() if camera is not None}
        left_out = frozenset(delivering - set(rig.names))
        if left_out and left_out not in self._left_out:
            self._left_out.add(left_out)
            _LOG.warning(
                "the model takes %d cameras: %s used, %s left out",
                rig.present.size, ", ".join(rig.names), ", ".join(sorted(left_out)),
            )  # fmt: skip


def _is_blind(frame: SensorFrame) -> bool:
    """Whether no sensor delivered anything."""
    return not (has_lidar(frame) or any(frame.cameras.values()))


def _with_slots(source: ModelSource, cameras: int) -> ModelSource:
    """The model with no more camera slots than asked for (0: all): the weights know nothing of their number."""
    if not 0 < cameras < source.config.cameras:
        return source
    return replace(source, config=replace(source.config, cameras=cameras))


def _keep_freed_memory() -> None:
    """Have the C library keep what preprocessing frees for the next frame: fresh pages cost more than the arithmetic.

    glibc keeps twice the largest block that was ever freed, up to 32 MB; elsewhere this does nothing.
    """
    np.empty(24 << 20, np.uint8)
