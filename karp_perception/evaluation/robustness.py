"""What is left when sensors fail, get worse or lie: corruptions at three strengths, as shares of the clean NDS."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from karp_perception.evaluation.detection import (
    AS_IT_IS,
    DetectedFrame,
    Variant,
    cameras_of,
)
from karp_perception.evaluation.evaluation_frame import EvaluationFrame
from karp_perception.evaluation.sensor_subsets import figures, share
from karp_perception.sensing.corruptions import CORRUPTIONS, STRENGTHS, corrupt
from karp_perception.sensing.labelled_frame import LabelledFrame


def corruption_variants(item: EvaluationFrame, names: Sequence[str] = tuple(CORRUPTIONS)) -> dict[str, Variant]:
    """A frame's corrupted versions, for `run_detector`: of the corruptions that can change anything of its sensors.

    Chance depends on the frame's index, the corruption and the strength alone.
    """
    sensors = item.frame.sensors
    cameras = sum(camera is not None for camera in sensors.cameras.values())
    has = {"cameras": cameras > 0, "lidar": sensors.lidar is not None}
    found = {}
    for name in names:
        able = any(has[sensor] for sensor in CORRUPTIONS[name].sensors) and (name != "one_camera" or cameras > 1)
        for strength in strengths_of(name) if able else ():
            found[variant_name(name, strength)] = _variant(name, strength)
    return found


def strengths_of(corruption: str) -> tuple[int, ...]:
    """Strengths that differ: one is enough for a sensor that is missing."""
    return STRENGTHS if CORRUPTIONS[corruption].graded else STRENGTHS[:1]


def variant_name(corruption: str, strength: int) -> str:
    """Under which `run_detector` keeps a corrupted version."""
    return f"{corruption} {strength}"


def robustness_table(frames: Sequence[DetectedFrame], names: Sequence[str] = tuple(CORRUPTIONS)) -> dict[str, Any]:
    """`clean` {mean_ap, nds} and `rows`, one for each corruption and strength.

    Labels are those that count in the clean frames, whatever is left of the sensors. A row has `corruption`,
    `strength` (None where there is but one), `mean_ap`, `nds`, `nds_kept` and `mean_ap_kept` (shares of the clean
    ones) and, where there are cameras, `in_view`: the same on the labels in the cameras' view, by the rule of frames
    without a lidar.
    """
    cameras = cameras_of(frames)
    scopes: dict[str, tuple[str, ...] | None] = {"": None}
    if cameras:
        scopes["in_view"] = cameras
    clean = {key: figures(frames, AS_IT_IS, scope) for key, scope in scopes.items()}
    rows = []
    for name in names:
        for strength in strengths_of(name):
            variant = variant_name(name, strength)
            ran = [frame for frame in frames if variant in frame.detections]
            if not ran:
                continue
            row: dict[str, Any] = {"corruption": name, "strength": strength if CORRUPTIONS[name].graded else None}
            for key, scope in scopes.items():
                found = figures(ran, variant, scope)
                whole = clean[key] if len(ran) == len(frames) else figures(ran, AS_IT_IS, scope)
                kept = {f"{figure}_kept": share(found[figure], whole[figure]) for figure in found}
                row.update({key: {**found, **kept}} if key else {**found, **kept})
            rows.append(row)
    return {"clean": {**clean[""], **{key: clean[key] for key in scopes if key}}, "rows": rows}


def _variant(name: str, strength: int) -> Variant:
    def corrupted(item: EvaluationFrame) -> LabelledFrame:
        rng = np.random.default_rng([item.index, zlib.crc32(name.encode()), strength])
        return corrupt(item.frame, name, strength, rng)

    return corrupted
