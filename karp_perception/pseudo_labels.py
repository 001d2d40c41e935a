"""Labels that a detector makes for recordings that have none: what it is sure of, weighted by how sure it is.

Three kinds of places come out of a frame. What is surely there becomes a label whose `weight` is the confidence. What
may be there becomes a place without a label (`LabelledFrame.unlabelled`), where whoever learns from the frame is told
neither that there is something nor that there is nothing. The rest counts as empty.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from karp_perception.core import Boxes, Objects, SensorFrame, Settings, setting
from karp_perception.core.errors import BagError, ConfigurationError
from karp_perception.pipeline import Detecting, Perceiver, PipelineSettings
from karp_perception.replay.bag_frames import BagFrames
from karp_perception.replay.bag_moments import BagMoments
from karp_perception.sensing.bags import BagReader
from karp_perception.sensing.datasets.dataset import index_of
from karp_perception.sensing.datasets.frame_folders import FrameFolders
from karp_perception.sensing.frame_folder_writer import write_labelled_frame
from karp_perception.sensing.labelled_frame import LabelledFrame, points_in_labels
from karp_perception.tracking.tracker import Tracker

if TYPE_CHECKING:
    from karp_perception.core import EgoState

_log = logging.getLogger(__name__)

SOURCE = "karp_perception, pseudo-labels"


@dataclass(frozen=True)
class PseudoLabelSettings(Settings):
    """What is believed of a detector."""

    keep: float = setting(0.5, "least confidence of a label", low=0.0, high=1.0)
    doubt: float = setting(
        0.15, "least score of what may be there, which is neither asked for nor wrong", low=0.0, high=1.0
    )
    track: bool = setting(
        True, "follow detections over time: a label's confidence is the probability that its track exists"
    )
    age: float = setting(0.25, "a track younger than this is a doubt, however sure", unit="s", low=0.0, high=60.0)
    place_margin: float = setting(0.5, "around what may be there", unit="m", low=0.0, high=10.0)
    same: float = setting(2.0, "a detection this near to a label's middle belongs to it", unit="m", low=0.0, high=10.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.doubt > self.keep:
            raise ConfigurationError(
                f"PseudoLabelSettings.doubt: expected at most keep ({self.keep}), got {self.doubt}"
            )


def pseudo_labelled(
    frames: Iterable[SensorFrame],
    settings: PseudoLabelSettings = PseudoLabelSettings(),
    pipeline: PipelineSettings = PipelineSettings(),
    detector: Detecting | None = None,
) -> Iterator[LabelledFrame]:
    """The frames of one drive, in order of time, with labels that a detector made.

    Labels carry `weight` (0..1) and, where they are tracked, `object_id` and the track's velocity. Frames without a
    lidar are labelled in the cameras' views only.

    Args:
        frames: of one drive.
        settings: what is believed.
        pipeline: settings of the detector, the odometry (for frames without ego motion) and the tracker.
        detector: made from the settings by default.

    Raises ConfigurationError for a detector without trained weights: its labels would mean nothing.
    """
    own = replace(pipeline.detector, score_threshold=settings.doubt)
    with Perceiver(replace(pipeline, detector=own), detector) as perceiver:
        if not perceiver.detector.trained:
            model = perceiver.detector.info.get("model")
            raise ConfigurationError(f"model {model}: expected trained weights: labels of other ones mean nothing")
        tracker = Tracker(pipeline.tracker) if settings.track else None
        for frame in frames:
            seen = perceiver.step(frame)
            yield _labelled(frame, seen.detections, seen.ego, tracker, settings)


def _labelled(
    frame: SensorFrame, detections: Boxes, ego: EgoState, tracker: Tracker | None, settings: PseudoLabelSettings
) -> LabelledFrame:
    detections = detections[(detections.score >= settings.doubt) & (detections.label >= 0)]
    object_id = None
    if tracker is None:
        sure = detections.score >= settings.keep
        labels, doubtful = detections[sure], detections[~sure]
    else:
        objects = tracker.step(frame.stamp_ns, detections, Boxes.empty(), ego)
        sure = _sure(objects, settings)
        labels, object_id = objects.boxes[sure], objects.track_id[sure]
        known = objects.boxes.label >= 0
        apart = ~_near(detections, labels, settings.same)
        doubtful = Boxes.concatenate([objects.boxes[known & ~sure], detections[apart]])
    weight = labels.score.copy()
    labels = replace(labels, score=np.ones(len(labels)), variance=None)
    radius = 0.5 * np.linalg.norm(doubtful.size[:, :2], axis=1) + settings.place_margin
    return LabelledFrame(
        frame,
        labels,
        points_in_labels(labels, np.zeros((0, 4)) if frame.lidar is None else frame.lidar.points),
        np.column_stack([doubtful.center[:, :2], radius]),
        sector=frame.lidar is None,
        object_id=object_id,
        weight=weight,
    )


def _sure(objects: Objects, settings: PseudoLabelSettings) -> np.ndarray:
    """(N,) objects of a known class that were measured in this frame and for long enough, and surely exist."""
    seen = (objects.unseen == 0) & (objects.age >= settings.age)
    return seen & (objects.boxes.label >= 0) & (objects.boxes.score >= settings.keep)


def _near(boxes: Boxes, others: Boxes, distance: float) -> np.ndarray:
    """(N,) whether the middle of each box is within `distance` of another's, in bird's eye."""
    offset = boxes.center[:, None, :2] - others.center[None, :, :2]
    return (np.linalg.norm(offset, axis=2) <= distance).any(axis=1)


class PseudoLabels:
    """A recording without labels as a data set: labels are made once, in order of time, when it is built.

    Sensor data are read again when a frame is asked for; only the labels are kept.

    Args:
        path: of the recording.
        settings, pipeline, detector: see `pseudo_labelled`.
        progress: called with the share that is done, 0 to 1.

    Raises BagError for what is no recording or gives no frame, and what `pseudo_labelled` does.
    """

    format = "pseudo"

    def __init__(
        self,
        path: Path | str,
        settings: PseudoLabelSettings = PseudoLabelSettings(),
        pipeline: PipelineSettings = PipelineSettings(),
        detector: Detecting | None = None,
        progress: Callable[[float], None] = lambda _: None,
    ) -> None:
        self.name = str(path)
        self._moments = BagMoments(path, pipeline)
        number = {int(stamp): i for i, stamp in enumerate(self._moments.stamps_ns)}
        self._labels: list[tuple[int, LabelledFrame]] = []
        for frame in _from_bag(Path(path), settings, pipeline, detector, progress):
            kept = replace(frame, sensors=SensorFrame(frame.sensors.stamp_ns))
            self._labels.append((number[frame.sensors.stamp_ns], kept))

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, i: int) -> LabelledFrame:
        moment, labels = self._labels[index_of(i, len(self))]
        sensors, _ = self._moments.frame(moment)
        return replace(labels, sensors=sensors)

    def close(self) -> None:
        """Closes the recording, until it is needed again."""
        self._moments.close()


def write_pseudo_labels(
    path: Path | str,
    out: Path,
    settings: PseudoLabelSettings = PseudoLabelSettings(),
    pipeline: PipelineSettings = PipelineSettings(),
    detector: Detecting | None = None,
    progress: Callable[[float], None] = lambda _: None,
) -> FrameFolders:
    """A recording without labels as labelled frames in `out/frames`, each under its name when it is complete.

    Raises ConfigurationError for a directory that is not empty, and what `PseudoLabels` does.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigurationError(f"{out}: expected an empty directory or none; choose another one")
    root = out / "frames"
    for done, frame in enumerate(_from_bag(Path(path), settings, pipeline, detector, progress)):
        partial = root / f".{done:06d}.{os.getpid()}.partial"
        partial.mkdir(parents=True)
        write_labelled_frame(partial, frame, f"{SOURCE} of {Path(path).name}")
        partial.rename(root / f"{done:06d}")
    return FrameFolders(out)


def _from_bag(
    path: Path,
    settings: PseudoLabelSettings,
    pipeline: PipelineSettings,
    detector: Detecting | None,
    progress: Callable[[float], None],
) -> Iterator[LabelledFrame]:
    with BagReader(path) as bag:
        frames = BagFrames(bag, pipeline)
        anchor = frames.inputs.points or next(iter(frames.inputs.cameras.values())).image
        count = max(1, bag.topics[anchor].count)
        pipeline = pipeline.for_cameras(len(frames.inputs.cameras))
        sensors = (frame for frame, _ in frames)
        done = labels = 0
        for done, frame in enumerate(pseudo_labelled(sensors, settings, pipeline, detector), 1):
            frames.assembler.counters.use()
            labels += len(frame.labels)
            yield frame
            progress(min(1.0, done / count))
        if not done:
            raise BagError(f"{path}: no frame could be used: `karp doctor {path}` says why")
        if not labels:
            # Whoever learned from these frames would learn that there is nothing anywhere.
            _log.warning("%s: not one label in %d frames: is the model made for such sensors?", path, done)
