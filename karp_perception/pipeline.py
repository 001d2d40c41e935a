"""The way of one sensor frame through the package: detection, tracking, planning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from karp_perception.core import Boxes, EgoState, Objects, Plan


@dataclass(frozen=True)
class Result:
    """Everything the pipeline says about one sensor frame, in `base_link`.

    Attributes:
        stamp_ns: the frame's stamp.
        ego: the motion that was used; its `source` says where it came from.
        detections: of the network, at the scores the settings ask for.
        obstacles: of the geometric channel.
        objects: tracked.
        plan: trajectory and decision.
        latency_ms: wall-clock time by stage; stages may overlap, `total` is from frame to plan.
    """

    stamp_ns: int
    ego: EgoState
    detections: Boxes
    obstacles: Boxes
    objects: Objects
    plan: Plan
    latency_ms: Mapping[str, float]
