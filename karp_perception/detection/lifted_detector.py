"""Somebody else's detector for images, with its answers lifted to boxes in space: takes the transformer's place."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from karp_perception.core import Boxes, SensorFrame
from karp_perception.core.image_boxes import ImageBoxes
from karp_perception.core.stopwatch import Stopwatch
from karp_perception.detection.image_detectors.image_detector import ImageDetector
from karp_perception.detection.lifting.lifter import Lifter, LiftSettings
from karp_perception.detection.lifting.riders import with_riders
from karp_perception.detection.runtime.backend import BackendOptions

if TYPE_CHECKING:
    from karp_perception.detection.detector import DetectorSettings


def is_image_model(model: str) -> bool:
    """Whether the name of a model is that of an ONNX file."""
    return model.lower().endswith(".onnx")


class LiftedDetector:
    """Finds objects in the images, and their places by the lidar or, without one, by the ground.

    Its weights are the user's: it is taken for trained.

    Args:
        settings: `model` is an ONNX file, `cameras` the number of images that go through at once.
        lifting: see LiftSettings.
        cache: folder for the file as backends take it; the user's cache by default.

    Raises what `ImageDetector` does.
    """

    trained = True

    def __init__(
        self, settings: DetectorSettings, lifting: LiftSettings | None = None, *, cache: Path | None = None
    ) -> None:
        self.settings = settings
        self.images = ImageDetector(
            Path(settings.model).expanduser(),
            settings.backend,
            BackendOptions(settings.threads, settings.precision),
            batch=max(1, settings.cameras),
            score_threshold=settings.score_threshold,
            cache=cache,
        )
        self._lifter = Lifter(lifting)
        self._image_boxes: Mapping[str, ImageBoxes] = {}

    @property
    def info(self) -> dict[str, Any]:
        """What runs; see `ImageDetector.info`."""
        return {**self.images.info, "threads": BackendOptions(self.settings.threads).thread_count}

    @property
    def image_boxes(self) -> Mapping[str, ImageBoxes]:
        """What was found in the images of the last frame, by camera, best first."""
        return self._image_boxes

    def detect(self, frame: SensorFrame, stopwatch: Stopwatch | None = None) -> Boxes:
        """Boxes in `base_link`, best first, at most `max_detections`.

        Stages on the stopwatch: preprocess, network, decode, lifting. Raises InvalidInput for an image that is not
        rectified.
        """
        stopwatch = stopwatch or Stopwatch()
        self._image_boxes = self.images.detect(frame.cameras, stopwatch)
        with stopwatch("lifting"):
            found = {name: with_riders(boxes) for name, boxes in self._image_boxes.items()}
            return self._lifter.lift(frame, found)[: self.settings.max_detections]

    def warm_up(self) -> None:
        """Nothing more: the network has run when the file was opened."""
