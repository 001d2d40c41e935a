"""One labelled frame through detection: what is found in it and, with labels present, how well."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from karp_perception.core import Vehicle, class_name
from karp_perception.core.stopwatch import Stopwatch
from karp_perception.detection.explanation import Explainer
from karp_perception.evaluation.frame_score import score_labelled_frame
from karp_perception.pipeline import Perceiver, PipelineSettings
from karp_perception.records import boxes_record, versions, write_json
from karp_perception.sensing.image_files import write_image
from karp_perception.sensing.labelled_frame import LabelledFrame, load_labelled_frame

EXPLAINED = 5
"""Detections of a frame that are explained unless somebody asks for more or fewer."""


def detect(
    folder: Path,
    out: Path,
    settings: PipelineSettings = PipelineSettings(),
    picture: Path | None = None,
    explain: Path | None = None,
    top: int = EXPLAINED,
) -> dict[str, Any]:
    """Detect in the frame of `folder`, write `out` (JSON) and, if asked, a picture; returns what the JSON holds.

    With `explain`, a folder, also one picture for each of the `top` best detections: where its attention lay. These are
    detected once more, by PyTorch in f32: near the threshold there may be others than the backend's.

    Raises InvalidInput for a folder that is not a labelled frame or a picture that cannot be written,
    ConfigurationError where a model that runs no network is to be explained.
    """
    frame = load_labelled_frame(folder)
    explainer = None if explain is None else Explainer(settings.detector)
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
    if explainer is not None and explain is not None:
        content["explained"] = _draw_explanations(frame, explainer, explain, top, settings.vehicle)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_json(out, content)
    if picture is not None:
        from karp_perception.view.frame_view import draw_frame

        image = draw_frame(frame.sensors, seen.detections, seen.obstacles, frame.labels, settings.vehicle)
        picture.parent.mkdir(parents=True, exist_ok=True)
        write_image(picture, image)
    return content


def _draw_explanations(
    frame: LabelledFrame, explainer: Explainer, folder: Path, top: int, vehicle: Vehicle
) -> list[dict[str, Any]]:
    """Draws the best detections into `folder`; for each its box, its file and the shares of attention by sensor."""
    from karp_perception.view.attention_view import draw_explanation

    explanation = explainer.explain(frame.sensors)
    note = "" if explainer.trained else "the network is untrained: this means nothing"
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number, record in enumerate(boxes_record(explanation.boxes)[:top]):
        image = draw_explanation(frame.sensors, explanation, number, vehicle, note)
        name = class_name(int(explanation.boxes.label[number]))
        file = folder / f"{number:02d}_{name}_{round(100 * explanation.boxes.score[number]):02d}.png"
        write_image(file, image)
        shares = {sensor: round(share, 4) for sensor, share in explanation.shares(number).items()}
        rows.append({**record, "picture": str(file), "attention": shares})
    return rows
