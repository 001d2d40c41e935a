"""One labelled frame through detection: what is found in it and, with labels present, how well."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2

from karp_perception.core import EgoState, Objects
from karp_perception.core.plans import Decision, DecisionKind, Plan, Trajectory
from karp_perception.core.stopwatch import Stopwatch
from karp_perception.evaluation.frame_score import score_labelled_frame
from karp_perception.pipeline import Perceiver, PipelineSettings, Result
from karp_perception.records import boxes_record, versions, write_json
from karp_perception.sensing.labelled_frame import load_labelled_frame


def detect(
    folder: Path, out: Path, settings: PipelineSettings = PipelineSettings(), picture: Path | None = None
) -> dict[str, Any]:
    """Detect in the frame of `folder`, write `out` (JSON) and, if asked, a picture; returns what the JSON holds.

    Raises InvalidInput for a folder that is not a labelled frame.
    """
    frame = load_labelled_frame(folder)
    stopwatch = Stopwatch()
    with Perceiver(settings.for_cameras(len(frame.sensors.cameras))) as perceiver:
        perceiver.detector.warm_up()
        with stopwatch("total"):
            seen = perceiver.step(frame.sensors, stopwatch)
        info = perceiver.detector.info
    scores = score_labelled_frame(frame, seen.detections, seen.obstacles) if len(frame.labels) else None
    content = {
        "frame": str(folder),
        "detections": boxes_record(seen.detections),
        "obstacles": boxes_record(seen.obstacles),
        "labels": boxes_record(frame.labels),
        "scores": scores,
        "latency_ms": {stage: round(ms, 3) for stage, ms in stopwatch.milliseconds.items()},
        "model": info,
        "versions": versions(),
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    write_json(out, content)
    if picture is not None:
        from karp_perception.view.drive_view import DriveView

        idle = Plan(0, Trajectory.empty(), Decision(DecisionKind.NO_INPUT, "a single frame: nothing is planned"))
        result = Result(0, EgoState.standing(0), seen.detections, seen.obstacles, Objects.empty(), idle, {})
        image = DriveView(settings.vehicle).draw(frame.sensors, result)
        picture.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(picture), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    return content
