"""A detector run over labelled frames: what it found beside what counts, how long it took, and the memory it needed.

Which labels count. Where a frame has a lidar, those with at least one point of it (the rule of the nuScenes detection
task, Caesar et al. 2020). Where it has none, or where sensors without a lidar are measured, those in the view of a
present camera of which at least `SEEN` is visible. Where labels end with a camera's view (frames with one camera),
labels and detections count within it. Detections on places that are marked as unlabelled do not count.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import cycle, islice
from typing import TYPE_CHECKING

import numpy as np

from karp_perception.core import Boxes, CameraFrame, ConfigurationError, SensorFrame
from karp_perception.core.stopwatch import Stopwatch
from karp_perception.detection.detector import NO_MODEL, Detector, DetectorSettings
from karp_perception.detection.lifted_detector import LiftedDetector, is_image_model
from karp_perception.detection.model.weights import find_model
from karp_perception.detection.preprocessing import has_lidar
from karp_perception.evaluation.camera_view import seen_by
from karp_perception.evaluation.evaluation_frame import EvaluationFrame
from karp_perception.evaluation.nuscenes_config import CVPR_2019
from karp_perception.evaluation.scored_frames import ScoredFrame
from karp_perception.sensing.labelled_frame import LabelledFrame
from karp_perception.sensing.rectified import rectified

if TYPE_CHECKING:
    from karp_perception.pipeline import Detecting

SEEN = 0.2
"""Share of an object that must be visible for it to count without a lidar; annotators leave out what is less so."""

LEAST_SCORE = 0.02
"""Threshold under which average precision is measured: lower ones add only what is hardly ever right."""

AS_IT_IS = "all sensors"
"""Name of the run on the frames as they are."""

_ON_LABEL_M = 2.0  # a detection so near to a label is judged by it, wherever it lies
_MIB = 2.0**20


Variant = Callable[[EvaluationFrame], LabelledFrame]
"""Another version of a frame. Its labels may have moved, but which of them count is told by the frame as it is."""


@dataclass(frozen=True)
class DetectedFrame:
    """What is left of a frame when the detector has seen it: labels and detections, no sensor data.

    Attributes:
        index, name, kind: of the EvaluationFrame.
        frame: labels as they were; cameras without their images' content, no points.
        has_lidar: whether the frame came with a sweep.
        detections: by name of the variant, `AS_IT_IS` among them; best first.
        moved: variants whose labels are not where those of the frame are.
    """

    index: int
    name: str
    kind: str
    frame: LabelledFrame
    has_lidar: bool
    detections: Mapping[str, Boxes]
    moved: Mapping[str, LabelledFrame] = field(default_factory=dict)

    @property
    def cameras(self) -> tuple[str, ...]:
        """Names of the cameras that delivered."""
        return tuple(name for name, camera in self.frame.sensors.cameras.items() if camera is not None)

    def sees(self, points: np.ndarray, cameras: Collection[str]) -> np.ndarray:
        """(N,) whether points (N, 3) of `base_link` lie in the view of any of these cameras."""
        return seen_by((self.frame.sensors.cameras.get(name) for name in cameras), points)

    def scored(self, variant: str = AS_IT_IS, cameras: Collection[str] | None = None) -> ScoredFrame:
        """Detections and labels that count.

        Args:
            variant: whose detections.
            cameras: None for the rule of frames as they are; else labels count by the rule of frames without a lidar,
                for these cameras, whatever the variant has: so rows of a table compare like with like.
        """
        truth = self.moved.get(variant, self.frame)
        found, labels, points = self.detections[variant], truth.labels, self.frame.points_inside
        if cameras is None and not self.has_lidar:
            cameras = self.cameras
        if cameras is not None:
            counts = self._visible() & self.sees(labels.center, cameras)
            found = found[self.sees(found.center, cameras)]
            # The metrics leave out labels without points, which is not the rule here.
            points = np.maximum(points, 1)
        elif self.frame.sector:
            counts = (points > 0) & self.sees(labels.center, self.cameras)
            found = found[self.sees(found.center, self.cameras)]
        else:
            counts = points > 0
        return ScoredFrame(found[~_excused(truth, found)], labels[counts], points[counts])

    def _visible(self) -> np.ndarray:
        """(N,) labels that can be seen; where the file does not tell, a lidar's points show it if there are any."""
        if self.frame.visibility is not None:
            return self.frame.visibility >= SEEN
        points = self.frame.points_inside
        return points > 0 if points.any() else np.ones(len(points), bool)


def open_detector(settings: DetectorSettings, cameras: int = 0) -> Detector | LiftedDetector:
    """The detector as users have it, but for its threshold: every query that is sure of anything may answer.

    Args:
        settings: model, backend, precision, threads; threshold and number of detections are replaced.
        cameras: slots, where the frames have that many cameras; 0 leaves what `settings` says.

    Raises ConfigurationError for a model that does not exist, or none.
    """
    if settings.model == NO_MODEL:
        raise ConfigurationError("evaluation of model 'none': there is nothing to evaluate; name a model or a file")
    if is_image_model(settings.model):
        slots = settings.cameras or max(1, min(cameras, 16))
        most = CVPR_2019.max_boxes
        return LiftedDetector(replace(settings, cameras=slots, score_threshold=LEAST_SCORE, max_detections=most))
    config = find_model(settings.model).config
    queries = config.queries
    slots = settings.cameras or min(cameras, config.cameras)
    most = min(queries, CVPR_2019.max_boxes)  # with more the nuScenes measures refuse a frame
    return Detector(replace(settings, cameras=slots, score_threshold=LEAST_SCORE, max_detections=most))


def run_detector(
    frames: Iterable[EvaluationFrame],
    detector: Detecting,
    variants: Mapping[str, Variant] | Callable[[EvaluationFrame], Mapping[str, Variant]] = {},  # noqa: B006
    stepped: Callable[[], None] = lambda: None,
) -> list[DetectedFrame]:
    """Every frame through the detector, as it is and in each variant; no sensor data is kept.

    Args:
        frames: in any order; only one is held at a time. Lens distortion is taken out of their images.
        detector: anything that detects.
        variants: other versions of the sensors, by name; or what gives those of a frame.
        stepped: called after each frame.

    Returns frames in the order of their index.
    """
    detector.warm_up()
    found = []
    for raw in frames:
        item = replace(raw, frame=rectified(raw.frame))
        detections = {AS_IT_IS: detector.detect(item.frame.sensors)}
        moved: dict[str, LabelledFrame] = {}
        for name, variant in (variants(item) if callable(variants) else variants).items():
            changed = variant(item)
            # What is uncertain is measured on the frames as they are; elsewhere variances only take up memory.
            detections[name] = replace(detector.detect(changed.sensors), variance=None)
            if changed.labels is not item.frame.labels:
                moved[name] = _bare(changed)
        found.append(
            DetectedFrame(
                item.index,
                item.name,
                item.kind,
                _bare(item.frame),
                has_lidar(item.frame.sensors),
                detections,
                moved,
            )
        )
        stepped()
    return sorted(found, key=lambda frame: frame.index)


def scored_frames(
    frames: Iterable[DetectedFrame], variant: str = AS_IT_IS, cameras: Collection[str] | None = None
) -> list[ScoredFrame]:
    """`DetectedFrame.scored` of every frame that the variant was run on."""
    return [frame.scored(variant, cameras) for frame in frames if variant in frame.detections]


def cameras_of(frames: Sequence[DetectedFrame]) -> tuple[str, ...]:
    """Names of all cameras of the frames, in order of their appearance."""
    return tuple(dict.fromkeys(name for frame in frames for name in frame.cameras))


def peak_memory_mib() -> float:
    """Most memory that this process has had resident so far, MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / _MIB if sys.platform == "darwin" else peak / 1024  # getrusage(2): bytes there, KiB on Linux


def repeated_latency(
    frames: Sequence[SensorFrame], detector: Detecting, times: int, most_s: float
) -> list[dict[str, float]]:
    """Time by stage, ms, of frames detected in turn, with nothing else at work: so many times, or for so many s."""
    found: list[dict[str, float]] = []
    started = time.perf_counter()
    for frame in islice(cycle(frames), times):
        stopwatch = Stopwatch()
        with stopwatch("total"):
            detector.detect(frame, stopwatch)
        found.append(stopwatch.milliseconds)
        if time.perf_counter() - started > most_s:
            break
    return found


def _bare(frame: LabelledFrame) -> LabelledFrame:
    """A frame without sensor data: labels, and cameras with empty images."""
    sensors = frame.sensors
    cameras = {name: None if camera is None else _blank(camera) for name, camera in sensors.cameras.items()}
    return replace(frame, sensors=SensorFrame(sensors.stamp_ns, cameras, ego=sensors.ego), masks={})


def _blank(camera: CameraFrame) -> CameraFrame:
    """The same camera with an image of the same size that takes up no memory."""
    return replace(camera, image=np.broadcast_to(np.zeros((1, 1, 3), np.uint8), camera.image.shape))


def _excused(frame: LabelledFrame, found: Boxes) -> np.ndarray:
    """(N,) detections on real objects that carry no label."""
    places = frame.unlabelled
    if not len(places) or not len(found):
        return np.zeros(len(found), bool)
    there = _distances(found, places[:, :2]) <= places[:, 2]
    on_label = (_distances(found, frame.labels.center[:, :2]) <= _ON_LABEL_M).any(axis=1)
    return there.any(axis=1) & ~on_label


def _distances(boxes: Boxes, places: np.ndarray) -> np.ndarray:
    """(N, M) m between box centres and places (M, 2), in bird's eye."""
    return np.linalg.norm(boxes.center[:, None, :2] - places[None], axis=-1)
