"""How good the engines are that were measured: held-out frames of the world, each seen by all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from karp_perception.bench.engines import EngineName
from karp_perception.detection.detector import DetectorSettings

_RIG = "nano"
_KEPT = ("mean_ap", "nds", "ap")
_ENGINE = ("backend", "backend_version", "precision", "weights_hash")


def accuracy_of(
    names: Sequence[EngineName], settings: DetectorSettings, count: int, stepped: Callable[[], None]
) -> dict[EngineName, dict[str, Any]]:
    """`mean_ap`, `nds` and `ap` by class of each engine, with what it is, and `frames`, `rig`.

    The frames are those of `karp evaluate world --seed 0`; each engine comes from the same files as the one that was
    timed.

    Args:
        names: engines that can be used here.
        settings: of the model, its cameras and threads.
        count: frames.
        stepped: called after each frame of each engine.
    """
    from karp_perception.evaluation.detection import open_detector, run_detector
    from karp_perception.evaluation.detection_report import detection_report
    from karp_perception.evaluation.detection_run import world_source
    from karp_perception.world.layouts.families import FAMILIES

    frames = list(world_source(0, count, FAMILIES, _RIG).frames)
    found: dict[EngineName, dict[str, Any]] = {}
    for name in names:
        detector = open_detector(replace(settings, backend=name.backend, precision=name.precision))
        report = detection_report(
            run_detector(frames, detector, stepped=stepped), settings.score_threshold, reach=detector.config
        )
        engine = {key: detector.info[key] for key in _ENGINE}
        found[name] = {**{key: report[key] for key in _KEPT}, "frames": count, "rig": _RIG, "engine": engine}
    return found
