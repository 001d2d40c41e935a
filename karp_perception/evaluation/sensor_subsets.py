"""One set of weights on every subset of the sensors: a row for each, beside all sensors on the same labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

from karp_perception.core import SensorFrame
from karp_perception.evaluation.detection import (
    AS_IT_IS,
    DetectedFrame,
    Variant,
    cameras_of,
    scored_frames,
)
from karp_perception.evaluation.evaluation_frame import EvaluationFrame
from karp_perception.evaluation.nuscenes_config import of_present_classes
from karp_perception.evaluation.nuscenes_metrics import nuscenes_metrics

_FEW = 3  # cameras of which every combination is measured; of more, each alone and all together

AROUND = "all around"
"""Where labels count by the lidar's points."""

IN_VIEW = "in view"
"""Where labels count by what cameras see."""


@dataclass(frozen=True)
class SensorSubset:
    """Some sensors of a vehicle: names of cameras in use, and whether its lidar is."""

    cameras: tuple[str, ...]
    lidar: bool

    def name(self, every_camera: Sequence[str]) -> str:
        """For people: "lidar", "cameras", "front", "lidar + front"."""
        every = len(every_camera) > 1 and len(self.cameras) == len(every_camera)
        seen = "cameras" if every else " + ".join(self.cameras)
        return " + ".join(part for part in ("lidar" if self.lidar else "", seen) if part)

    def of(self, frame: SensorFrame) -> SensorFrame:
        """The frame with the others missing."""
        cameras = {name: camera if name in self.cameras else None for name, camera in frame.cameras.items()}
        return SensorFrame(frame.stamp_ns, cameras, frame.lidar if self.lidar else None, frame.ego)


def subsets_of(cameras: Sequence[str], lidar: bool) -> list[SensorSubset]:
    """All subsets that are measured, but for all sensors together: with the lidar first, more cameras before fewer."""
    count = len(cameras)
    sizes = range(count, -1, -1) if count <= _FEW else (count, 1, 0)
    chosen = [names for size in sizes for names in combinations(cameras, size)]
    every = [SensorSubset(names, has) for has in ((True, False) if lidar else (False,)) for names in chosen]
    whole = SensorSubset(tuple(cameras), lidar)
    return [subset for subset in every if subset != whole and (subset.lidar or subset.cameras)]


def subset_variants(item: EvaluationFrame) -> dict[str, Variant]:
    """The subsets of a frame's sensors, for `run_detector`."""
    sensors = item.frame.sensors
    cameras = [name for name, camera in sensors.cameras.items() if camera is not None]
    return {
        subset.name(cameras): lambda frame, subset=subset: replace(frame.frame, sensors=subset.of(frame.frame.sensors))
        for subset in subsets_of(cameras, sensors.lidar is not None)
    }


def subset_table(frames: Sequence[DetectedFrame]) -> list[dict[str, Any]]:
    """A row for each subset and set of labels.

    A subset with the lidar is scored on all labels by the rule of frames with a lidar, and one with cameras (and the
    lidar alone) on the labels in the view of its cameras (of all cameras) by that of frames without: see `detection`.
    Each row says beside it what all sensors reach on the same labels. Keys: `sensors`, `cameras`, `lidar`, `labels`
    (which), `view` (of which cameras), `frames`, `mean_ap`, `nds`, `all_sensors` {mean_ap, nds}, `share_of_mean_ap`,
    `share_of_nds`.
    """
    cameras = cameras_of(frames)
    lidar = any(frame.has_lidar for frame in frames)
    rows = []
    for subset in [SensorSubset(cameras, lidar), *subsets_of(cameras, lidar)]:
        whole = subset == SensorSubset(cameras, lidar)
        name = AS_IT_IS if whole else subset.name(cameras)
        ran = [frame for frame in frames if name in frame.detections]
        if not ran:
            continue
        scopes: list[tuple[str, ...] | None] = [None] if subset.lidar else []
        if cameras:
            scopes.append(subset.cameras or cameras)
        for scope in scopes:
            best = figures(ran, AS_IT_IS, scope)
            here = best if whole else figures(ran, name, scope)
            rows.append(
                {
                    "sensors": name,
                    "cameras": list(subset.cameras),
                    "lidar": subset.lidar,
                    "labels": AROUND if scope is None else IN_VIEW,
                    "view": list(scope or ()),
                    "frames": len(ran),
                    **here,
                    "all_sensors": best,
                    "share_of_mean_ap": share(here["mean_ap"], best["mean_ap"]),
                    "share_of_nds": share(here["nds"], best["nds"]),
                }
            )
    return rows


def share(value: float, whole: float) -> float | None:
    """`value` / `whole`, None where there is nothing to have a share of."""
    return round(value / whole, 4) if whole > 0 else None


def figures(frames: Sequence[DetectedFrame], variant: str, cameras: tuple[str, ...] | None = None) -> dict[str, float]:
    """`mean_ap` and `nds` of a variant over the classes that occur, by the labels that `DetectedFrame.scored` tells."""
    scored = scored_frames(frames, variant, cameras)
    result = nuscenes_metrics(scored, of_present_classes(scored))
    return {"mean_ap": round(float(result.mean_ap), 4), "nds": round(float(result.nds), 4)}
