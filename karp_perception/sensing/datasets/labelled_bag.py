"""A recording with labels beside its sensors: any topics of cameras and lidar, and one of boxes."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from karp_perception.core import Boxes
from karp_perception.core.errors import ConfigurationError, InvalidInput, MissingTransform
from karp_perception.sensing.bags import BagReader, Topic
from karp_perception.sensing.datasets.dataset import index_of
from karp_perception.sensing.labelled_frame import LabelledFrame, check_labels, naming, points_in_labels

if TYPE_CHECKING:
    from karp_perception.pipeline import PipelineSettings

DETECTIONS = "vision_msgs/msg/Detection3DArray"
AUTOWARE = tuple(f"autoware_perception_msgs/msg/{kind}Objects" for kind in ("Detected", "Tracked", "Predicted"))
LABEL_TYPES = (DETECTIONS, *AUTOWARE)
"""Messages that labels may come in."""

_SIGNALS = "/signals"  # stop lines and lights come as boxes, too
_TELLING = ("truth", "label", "annotation", "annotated", "/gt", "gt/", "_gt", "gt_")
_log = logging.getLogger(__name__)


class LabelledBag:
    """Frames of a recording whose moment has labels.

    A label message belongs to the sweep (or, without a lidar, to the first camera's image) whose stamp is nearest. Its
    boxes may be given in any frame that the recording's transforms join to `base_link`. Scores below 1 become the
    labels' weights: labels that a network made are believed as far as it believed them. A score of 0 is one that nobody
    filled in, as in what labelling tools write: nobody publishes what is surely not there.

    Args:
        path: of the recording.
        labels: the topic; None where one topic alone can be meant.
        in_view: whether labels cover the cameras' views only instead of all around.
        tolerance: most time between labels and sensors, s.
        settings: of sensing.

    Raises:
        BagError: no recording, or one without sensors.
        InvalidInput: no labels, several topics that may be meant, or none at the time of a sweep.
    """

    format = "bag"

    def __init__(
        self,
        path: Path | str,
        labels: str | None = None,
        in_view: bool = False,
        tolerance: float = 0.05,
        settings: PipelineSettings | None = None,
    ) -> None:
        from karp_perception.pipeline import PipelineSettings
        from karp_perception.replay.bag_moments import BagMoments

        self.name, self._in_view = str(path), in_view
        settings = settings or PipelineSettings()
        self._base = settings.sensing.base_frame
        with BagReader(path) as bag:
            self.topic = _label_topic(self.name, bag.topics, labels)
            self._type = bag.topics[self.topic].type
        self._moments = BagMoments(path, settings, [self.topic])
        self._pairs = _pairs(self._moments.stamps_ns, self._moments.also_ns[self.topic], round(tolerance * 1e9))
        count, used = len(self._moments.also_ns[self.topic]), len(self._pairs)
        if not used:
            raise InvalidInput(
                f"{self.name} {self.topic}", f"labels within {tolerance:g} s of a sweep", "none",
                "compare the stamps in both headers",
            )  # fmt: skip
        if used < count:
            _log.warning(
                "%s %s: %d of %d messages belong to no sweep within %g s",
                self.name, self.topic, count - used, count, tolerance,
            )  # fmt: skip

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, i: int) -> LabelledFrame:
        moment, stamp_ns, log_ns = self._pairs[index_of(i, len(self))]
        sensors, transforms = self._moments.frame(moment)
        subject = f"{self.name} {self.topic} at {stamp_ns / 1e9:.3f} s"
        try:
            with naming(subject):
                boxes, object_id = self._boxes(stamp_ns, log_ns)
                if boxes.frame.lstrip("/") not in ("", self._base):
                    boxes = boxes.transformed(transforms.lookup(self._base, boxes.frame, stamp_ns), "base_link")
                score = np.where(boxes.score == 0, 1.0, boxes.score)
                weight = score if (score < 1).any() else None
                boxes = replace(boxes, score=np.ones(len(boxes)), frame="base_link", variance=None)
                check_labels(boxes, weight)
        except MissingTransform as error:
            raise InvalidInput(subject, f"boxes in {self._base} or a frame joined to it", str(error)) from None
        points = np.zeros((0, 4)) if sensors.lidar is None else sensors.lidar.points
        inside = points_in_labels(boxes, points)
        return LabelledFrame(
            sensors, boxes, inside, np.zeros((0, 3)), sector=self._in_view, object_id=object_id, weight=weight
        )

    def close(self) -> None:
        """Closes the files, until they are needed again."""
        self._moments.close()

    def _boxes(self, stamp_ns: int, log_ns: int) -> tuple[Boxes, np.ndarray | None]:
        from karp_perception.ros.primitives import get_stamp

        found = [m.message for m in self._moments.messages(self.topic, log_ns)]
        message = next((m for m in found if get_stamp(m.header.stamp) == stamp_ns), None)
        if message is None:
            raise InvalidInput("labels", f"a {self._type}", "one that cannot be decoded")
        return boxes_of_labels(message, self._type)


def boxes_of_labels(message: Any, type_name: str) -> tuple[Boxes, np.ndarray | None]:
    """Boxes of a message of one of LABEL_TYPES, and the numbers (N,) of its objects where each has an id."""
    from karp_perception.ros.box_messages import boxes_from_detections
    from karp_perception.ros.object_messages import boxes_from_objects, track_id_of

    if type_name == DETECTIONS:
        ids = [str(getattr(detection, "id", "")) for detection in message.detections]
        known = bool(ids) and all(ids)
        return boxes_from_detections(message), np.array([_number(text) for text in ids]) if known else None
    boxes = boxes_from_objects(message)
    if not len(boxes) or not hasattr(message.objects[0], "object_id"):
        return boxes, None
    return boxes, np.array([track_id_of(item.object_id.uuid) for item in message.objects], np.int64)


def _number(text: str) -> int:
    """A number as it is; of any other name one that is always the same."""
    if text.isascii() and text.isdigit() and len(text) < 19:
        return int(text)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")


def _label_topic(name: str, topics: Mapping[str, Topic], asked: str | None) -> str:
    candidates = [topic.name for topic in topics.values() if topic.type in LABEL_TYPES and topic.count]
    candidates = [topic for topic in candidates if not topic.endswith(_SIGNALS)]
    if asked is not None:
        if asked not in topics:
            raise ConfigurationError(f"{name}: no topic {asked}; boxes are in {', '.join(candidates) or 'none'}")
        if topics[asked].type not in LABEL_TYPES:
            raise InvalidInput(f"{name} {asked}", " or ".join(LABEL_TYPES), topics[asked].type)
        return asked
    if not candidates:
        advice = f"`karp label {name} --out DIR` lets a detector make some"
        raise InvalidInput(name, f"a topic of labels ({', '.join(LABEL_TYPES)})", "none", advice)
    telling = [topic for topic in candidates if any(word in topic.lower() for word in _TELLING)]
    chosen = candidates if len(candidates) == 1 else telling
    if len(chosen) != 1:
        raise InvalidInput(
            name, "one topic of labels", ", ".join(chosen or candidates), "say which is the truth: labels="
        )
    if not telling:
        _log.warning("%s: %s is taken for labels: it is the only topic of boxes", name, chosen[0])
    return chosen[0]


def _pairs(anchors: np.ndarray, labels: np.ndarray, tolerance_ns: int) -> list[tuple[int, int, int]]:
    """(number of the anchor, stamp and log time of its labels), in order of time; each anchor and label once."""
    if not len(anchors) or not len(labels):
        return []
    at = np.clip(np.searchsorted(anchors, labels[:, 0]), 1, max(1, len(anchors) - 1))
    before, after = np.maximum(at - 1, 0), np.minimum(at, len(anchors) - 1)
    nearer = np.abs(labels[:, 0] - anchors[before]) <= np.abs(anchors[after] - labels[:, 0])
    nearest = np.where(nearer, before, after)
    away = np.abs(labels[:, 0] - anchors[nearest])
    best: dict[int, int] = {}
    for row in np.argsort(away, kind="stable"):
        if away[row] <= tolerance_ns:
            best.setdefault(int(nearest[row]), int(row))
    return [(anchor, int(labels[row, 0]), int(labels[row, 1])) for anchor, row in sorted(best.items())]
