"""The measures of the KITTI benchmark over frames of a folder that its archives were unpacked into."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from karp_perception.evaluation.detection import AS_IT_IS, DetectedFrame
from karp_perception.evaluation.kitti_frames import kitti_frame_of_file
from karp_perception.evaluation.kitti_metrics import kitti_metrics
from karp_perception.sensing.datasets.kitti_object import CAMERA, read_calibration, read_labels


def kitti_scores(frames: Sequence[DetectedFrame], folder: Path, variant: str = AS_IT_IS) -> dict[str, Any]:
    """`kitti_metrics` of frames whose index is the place of their label file in order of names.

    Frames without an image are left out, since 2D boxes decide what counts; nothing comes back where none has one.
    """
    root = folder / "training" if (folder / "training").is_dir() else folder
    names = sorted(file.stem for file in (root / "label_2").glob("*.txt"))
    scored = []
    for frame in frames:
        camera = frame.frame.sensors.cameras.get(CAMERA)
        if camera is None:
            continue
        name = names[frame.index]
        columns = read_labels(root / "label_2" / f"{name}.txt")
        T_base_rectified = read_calibration(root / "calib" / f"{name}.txt").T_base_rectified
        scored.append(kitti_frame_of_file(columns, T_base_rectified, camera, frame.detections[variant]))
    return kitti_metrics(scored) if scored else {}
