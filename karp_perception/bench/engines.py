"""What is measured: the Detector on each backend and precision, and what its users would have without this package."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from karp_perception.core import BackendUnavailable, Boxes, ConfigurationError, SensorFrame
from karp_perception.core.stopwatch import Stopwatch
from karp_perception.detection.decoding import decode
from karp_perception.detection.detector import Detector, DetectorSettings
from karp_perception.detection.model.weights import ModelSource, find_model
from karp_perception.detection.preprocessing import network_arrays
from karp_perception.detection.refinement.stage import RefinementStage
from karp_perception.detection.runtime.artefacts import Artefacts
from karp_perception.detection.runtime.backend import BackendOptions
from karp_perception.detection.runtime.graph import POSITION_OUTPUTS

if TYPE_CHECKING:
    import torch

_LOG = logging.getLogger(__name__)

TORCH_EAGER, TORCH_COMPILE = "torch_eager", "torch_compile"
COMPARATORS = (TORCH_EAGER, TORCH_COMPILE)
"""What an engine is compared with beside the backends: the module as it is written, and compiled by torch itself."""

STAGES = ("preprocess", "network", "decode", "refine")
"""Stages of a Detector, in order."""

_TYPES = {"f32": "float32", "f16": "float16", "bf16": "bfloat16"}


class Detecting(Protocol):
    """A frame in, boxes out, with the stages on the stopwatch."""

    def detect(self, frame: SensorFrame, stopwatch: Stopwatch | None = None) -> Boxes:
        """Boxes in `base_link`."""
        ...


@dataclass(frozen=True)
class EngineName:
    """Which engine: a backend or one of COMPARATORS, and a precision."""

    backend: str
    precision: str

    def __str__(self) -> str:
        return f"{self.backend} {self.precision}"


@dataclass
class Engine:
    """An engine that was opened, or why it was not.

    Attributes:
        name: as it was asked for.
        detector: None where it cannot be used here.
        about: backend, version, precision, device, parity.
        unavailable: the reason, "" where it can be used.
        open_s: until it was ready for its first frame.
    """

    name: EngineName
    detector: Detecting | None = None
    about: dict[str, Any] = field(default_factory=dict)
    unavailable: str = ""
    open_s: float = 0.0

    def __str__(self) -> str:
        """Backend and precision, also of what was asked for as auto."""
        return f"{self.about['backend']} {self.about['precision']}" if self.about else str(self.name)


def open_engine(name: EngineName, settings: DetectorSettings, device: str = "cpu") -> Engine:
    """One engine, warm. A backend that cannot be used here is told, not raised.

    Args:
        name: which.
        settings: model, cameras, threads and thresholds; backend and precision are those of `name`.
        device: of the comparators.

    Raises ConfigurationError for a model or a backend that does not exist.
    """
    start = time.perf_counter()
    try:
        if name.backend in COMPARATORS:
            comparator = TorchComparator(name, settings, device)
            engine = Engine(name, comparator, comparator.info)
        else:
            detector = Detector(replace(settings, backend=name.backend, precision=name.precision))
            detector.warm_up()
            engine = Engine(name, detector, _about(detector))
    except BackendUnavailable as error:
        return Engine(name, unavailable=str(error), open_s=time.perf_counter() - start)
    engine.open_s = time.perf_counter() - start
    return engine


def engine_names(backends: Sequence[str], precisions: Sequence[str], known: Sequence[str]) -> list[EngineName]:
    """Every backend in every precision, each once. Raises ConfigurationError for a backend that does not exist."""
    for backend in backends:
        if backend not in ("auto", *known, *COMPARATORS):
            names = ", ".join(("auto", *known, *COMPARATORS))
            raise ConfigurationError(f"backend: expected one of {names}, got {backend!r}")
    return list(dict.fromkeys(EngineName(backend, precision) for backend in backends for precision in precisions))


class TorchComparator:
    """The module by torch alone, between this package's preprocessing and decoding.

    What somebody would have who takes the module and calls it: eager, or through torch.compile; in f16 and bf16 by
    autocast.
    """

    def __init__(self, name: EngineName, settings: DetectorSettings, device: str) -> None:
        try:
            import torch
        except ImportError as error:
            raise BackendUnavailable(f"torch is not installed ({error}): pip install torch") from None
        if name.precision not in _TYPES:
            raise BackendUnavailable(f"{name.backend} computes in {', '.join(_TYPES)}, not in {name.precision}")
        if device != "cpu" and not torch.cuda.is_available():
            raise BackendUnavailable(f"{name.backend} on {device}: torch finds no GPU here")
        self._torch, self._device, self._settings = torch, device, settings
        source = slots(find_model(settings.model), settings.cameras)
        self._config = source.config
        artefacts = Artefacts(source)
        module = artefacts.network.module().eval().to(device)
        self._inputs, self._outputs = list(artefacts.network.inputs), artefacts.network.outputs
        self._position, self._position_inputs = artefacts.position.module().eval(), list(artefacts.position.inputs)
        self._refinement = RefinementStage.of(settings)
        self._threads = BackendOptions(settings.threads).thread_count
        self._type = getattr(torch, _TYPES[name.precision])
        self._embedded: dict[bytes, dict[str, torch.Tensor]] = {}
        self._module: Callable[..., tuple[torch.Tensor, ...]] = module
        if name.backend == TORCH_COMPILE:
            self._module = self._compiled(module, artefacts.network.inputs)
        self.info = {
            "backend": name.backend,
            "backend_version": torch.__version__,
            "precision": name.precision,
            "device": torch.cuda.get_device_name() if device != "cpu" else "cpu",
            "threads": self._threads,
        }

    def detect(self, frame: SensorFrame, stopwatch: Stopwatch | None = None) -> Boxes:
        """See `Detector.detect`."""
        torch, stopwatch = self._torch, stopwatch or Stopwatch()
        with stopwatch("preprocess"):
            rig, arrays = network_arrays(frame, self._config)
        with stopwatch("network"), self._in_threads(), torch.inference_mode():
            embeddings = self._embedded.get(rig.key())
            if embeddings is None:
                embeddings = self._embedded[rig.key()] = self._embeddings(rig.calibration)
            given = {**{k: torch.from_numpy(v).to(self._device) for k, v in arrays.items()}, **embeddings}
            results = self._run([given[name] for name in self._inputs])
            outputs = {k: v.float().cpu().numpy() for k, v in zip(self._outputs, results, strict=True)}
        with stopwatch("decode"):
            boxes = decode(outputs, self._refinement.least_score, self._settings.max_detections)
        with stopwatch("refine"):
            return self._refinement(boxes, frame.lidar)[0]

    def _run(self, tensors: list[torch.Tensor]) -> tuple[torch.Tensor, ...]:
        torch = self._torch
        mixed = self._type is not torch.float32
        with torch.autocast(self._device.split(":")[0], dtype=self._type if mixed else None, enabled=mixed):
            return self._module(*tensors)

    def _embeddings(self, calibration: Mapping[str, np.ndarray]) -> dict[str, torch.Tensor]:
        values = self._position(*(self._torch.from_numpy(calibration[name]) for name in self._position_inputs))
        return {k: v.to(self._device) for k, v in zip(POSITION_OUTPUTS, values, strict=True)}

    def _compiled(self, module: Any, shapes: Mapping[str, tuple[int, ...]]) -> Callable[..., tuple[torch.Tensor, ...]]:
        torch = self._torch
        self._module = torch.compile(module, dynamic=False)
        try:
            with self._in_threads(), torch.inference_mode():
                self._run([torch.zeros(shape, device=self._device) for shape in shapes.values()])
        except Exception as error:  # of its compiler: there may be none, and its errors share no base
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise BackendUnavailable(f"torch.compile does not work here: {reason}") from error
        return self._module

    def _in_threads(self) -> _Threads:
        return _Threads(self._torch, self._threads)


class _Threads:
    """torch's number of threads, which is one for the whole process, for the time of a `with` block."""

    def __init__(self, torch: Any, count: int) -> None:
        self._torch, self._count = torch, count

    def __enter__(self) -> None:
        self._before = self._torch.get_num_threads()
        if self._before != self._count:
            self._torch.set_num_threads(self._count)

    def __exit__(self, *_: object) -> None:
        if self._before != self._count:
            self._torch.set_num_threads(self._before)


def slots(source: ModelSource, cameras: int) -> ModelSource:
    """The model with that many slots for cameras, as a Detector has it; 0: all."""
    if not 0 < cameras < source.config.cameras:
        return source
    return replace(source, config=replace(source.config, cameras=cameras))


def _about(detector: Detector) -> dict[str, Any]:
    info = detector.info
    kept = ("backend", "backend_version", "precision", "device", "threads", "parity")
    return {key: info[key] for key in kept if key in info}
