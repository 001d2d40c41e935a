"""What the nuScenes detection metrics are taken over: classes with their ranges, distances, limits."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from karp_perception.core import CLASS_NAMES, ConfigurationError
from karp_perception.evaluation.scored_frames import ScoredFrame, Table, tables


@dataclass(frozen=True)
class NuscenesConfig:
    """What is scored and how.

    Attributes:
        class_range: by class, m from `base_link` along the ground within which boxes count.
        distances: m between centres below which a detection is right; AP is the mean over them.
        tp_distance: the one of them at which true-positive errors are taken.
        min_recall: precision and errors up to here are not looked at.
        min_precision: only what precision exceeds this by counts.
        max_boxes: most detections allowed in a frame.
        mean_ap_weight: of mAP in NDS, beside 1 for each of the five errors.
    """

    class_range: Mapping[str, float]
    distances: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0)
    tp_distance: float = 2.0
    min_recall: float = 0.1
    min_precision: float = 0.1
    max_boxes: int = 500
    mean_ap_weight: float = 5.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "class_range", MappingProxyType(dict(self.class_range)))
        unknown = sorted(set(self.class_range) - set(CLASS_NAMES))
        if unknown or not self.class_range:
            wanted = ", ".join(CLASS_NAMES)
            raise ConfigurationError(f"NuscenesConfig.class_range: expected some of {wanted}, got {unknown or 'none'}")
        if self.tp_distance not in self.distances:
            raise ConfigurationError(
                f"NuscenesConfig.tp_distance: expected one of {self.distances}, got {self.tp_distance}"
            )

    def for_classes(self, names: Collection[str]) -> NuscenesConfig:
        """The same for some of the classes only."""
        return replace(self, class_range={name: r for name, r in self.class_range.items() if name in names})


CVPR_2019 = NuscenesConfig(
    {
        "car": 50.0,
        "truck": 50.0,
        "bus": 50.0,
        "trailer": 50.0,
        "construction_vehicle": 50.0,
        "pedestrian": 40.0,
        "motorcycle": 40.0,
        "bicycle": 40.0,
        "traffic_cone": 30.0,
        "barrier": 30.0,
    }
)
"""The official configuration, `detection_cvpr_2019`."""


def in_range(table: Table, config: NuscenesConfig) -> np.ndarray:
    """(N,) whether boxes are of a class that is scored and within its range."""
    reach = np.zeros(len(CLASS_NAMES) + 1)  # the last is for UNKNOWN, -1
    for name, distance in config.class_range.items():
        reach[CLASS_NAMES.index(name)] = distance
    return table.distance < reach[table.boxes.label]


def counted_tables(frames: Sequence[ScoredFrame], config: NuscenesConfig) -> tuple[Table, Table, np.ndarray]:
    """Detections and truth that count, and (T,) the points in each truth, of all frames.

    Both count within the range of their class; truth without a single point does not.
    """
    detections, truth, points = tables(frames)
    counts = in_range(truth, config) & (points != 0)
    return detections[in_range(detections, config)], truth[counts], points[counts]


def present_classes(frames: Sequence[ScoredFrame], config: NuscenesConfig = CVPR_2019) -> tuple[str, ...]:
    """The classes of `config` of which there is anything to be found."""
    _, truth, _ = counted_tables(frames, config)
    labels = set(truth.boxes.label.tolist())
    return tuple(name for name in config.class_range if CLASS_NAMES.index(name) in labels)


def of_present_classes(frames: Sequence[ScoredFrame]) -> NuscenesConfig:
    """The official configuration for the classes of which there is anything to be found, for all where nothing is."""
    present = present_classes(frames)
    return CVPR_2019.for_classes(present) if present else CVPR_2019
