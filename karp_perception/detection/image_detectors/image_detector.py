"""A 2D detector out of an ONNX file: camera images in, rectangles with our classes out."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from karp_perception.core import BackendUnavailable, CameraFrame, ConfigurationError, InvalidInput, class_name
from karp_perception.core.frames import DistortionModel
from karp_perception.core.image_boxes import ImageBoxes
from karp_perception.core.stopwatch import Stopwatch
from karp_perception.detection.image_detectors.beside import settings_beside
from karp_perception.detection.image_detectors.decoding import candidates, image_boxes
from karp_perception.detection.image_detectors.layout import find_layout
from karp_perception.detection.image_detectors.onnx_file import PreparedFile
from karp_perception.detection.image_detectors.preprocessing import image_batch
from karp_perception.detection.runtime.artefacts import default_cache
from karp_perception.detection.runtime.backend import Backend, BackendOptions, select_backend
from karp_perception.detection.runtime.graph import Graph

if TYPE_CHECKING:
    from torch import nn

_LOG = logging.getLogger(__name__)


class ImageDetector:
    """A network of the DETR line on a backend. One instance serves one thread.

    Args:
        file: ONNX; `docs/image_detectors.md` says which and what may lie beside it.
        backend, options: see `select_backend`.
        batch: images that go through at once, where the file allows it.
        score_threshold: least score of a detection, unless the YAML beside the file has another.
        cache: folder for the file as the backends take it; the user's cache by default.

    Raises ConfigurationError for a file that is none or whose use cannot be found out, BackendUnavailable where no
    backend runs it.
    """

    def __init__(
        self,
        file: Path,
        backend: str = "auto",
        options: BackendOptions | None = None,
        *,
        batch: int = 1,
        score_threshold: float = 0.3,
        cache: Path | None = None,
    ) -> None:
        if not file.is_file():
            raise ConfigurationError(f"model {str(file)!r}: expected an ONNX file, and there is no such file")
        self.file = file
        self.layout, content = find_layout(file, batch)
        self.score_threshold = settings_beside(file).score_threshold or score_threshold
        self._prepared = PreparedFile(content, file.stem, cache or default_cache())
        self._backend: Backend = select_backend(backend, self._graph(), options)
        self._warm_up()

    @property
    def info(self) -> dict[str, Any]:
        """What runs: model, kind, weights, weights_hash, backend, backend_version, precision, inputs, classes."""
        classes = sorted({int(label) for label in self.layout.classes if label >= 0})
        return {
            "model": self.file.name,
            "kind": self.layout.kind,
            "trained": True,
            "weights": str(self.file),
            "weights_hash": self._prepared.digest,
            "backend": self._backend.name,
            "backend_version": self._backend.version,
            "precision": self._backend.precision,
            "inputs": {"batch": self.layout.batch, "image": [self.layout.height, self.layout.width]},
            "classes": [class_name(label) for label in classes],
        }

    def detect(
        self, cameras: Mapping[str, CameraFrame | None], stopwatch: Stopwatch | None = None
    ) -> dict[str, ImageBoxes]:
        """Rectangles by camera, for those that delivered, best first.

        Stages on the stopwatch: preprocess, network, decode. Raises InvalidInput for an image that is not rectified.
        """
        stopwatch = stopwatch or Stopwatch()
        delivering = {name: camera for name, camera in cameras.items() if camera is not None}
        for name, camera in delivering.items():
            if camera.distortion.model is not DistortionModel.NONE:
                got = f"distortion {camera.distortion.model.value}"
                advice = "undistort it first"
                raise InvalidInput(f"camera {name!r}", "a rectified image", got, advice, reason="distorted_image")
        found: dict[str, ImageBoxes] = {}
        names, size = list(delivering), self.layout.batch
        for first in range(0, len(names), size):
            self._detect({name: delivering[name] for name in names[first : first + size]}, found, stopwatch)
        return found

    def _detect(self, cameras: Mapping[str, CameraFrame], found: dict[str, ImageBoxes], stopwatch: Stopwatch) -> None:
        """One run of the network, for as many cameras as it takes."""
        with stopwatch("preprocess"):
            batch, filled = image_batch([camera.image for camera in cameras.values()], self.layout)
        with stopwatch("network"):
            outputs = self._backend.run({self.layout.image_input: batch})
        with stopwatch("decode"):
            for row, (name, camera) in enumerate(cameras.items()):
                height, width = camera.image.shape[:2]
                answers = candidates(outputs, row, self.layout)
                found[name] = image_boxes(answers, filled[row], (width, height), self.layout, self.score_threshold)

    def _warm_up(self) -> None:
        """Run once: a file that a backend takes but cannot run is told at the start."""
        image = np.zeros((self.layout.height, self.layout.width, 3), np.uint8)
        batch, _ = image_batch([image], self.layout)
        self._backend.run({self.layout.image_input: batch})

    def _graph(self) -> Graph:
        """The file as backends know graphs."""
        layout = self.layout
        sides = (layout.height, layout.width)
        shape = (layout.batch, *sides, 3) if layout.channels_last else (layout.batch, 3, *sides)

        def onnx(precision: str = "f32") -> Path:
            return self._prepared.path

        def module() -> nn.Module:
            raise BackendUnavailable(
                f"{self.file.name} is an ONNX file, which torch does not run: choose another backend"
            )

        return Graph("image detector", {layout.image_input: shape}, layout.outputs, onnx, module)
