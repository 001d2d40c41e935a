"""What there is to be found in a frame, given the sensors that are there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from karp_perception.core.geometry import invert_pose, project_points, transform_points
from karp_perception.detection.model.config import ModelConfig
from karp_perception.detection.preprocessing import has_lidar
from karp_perception.sensing.labelled_frame import LabelledFrame

if TYPE_CHECKING:
    from karp_perception.detection.model.matcher import Targets


@dataclass(frozen=True)
class Findable:
    """From when on an object must be found, and from when on it may be. Between the two nothing is asked for."""

    points: int = 2  # lidar points on it that prove it
    few_points: int = 1
    visibility: float = 0.35  # share of it that a camera sees
    little_visibility: float = 0.1
    camera_range_m: float = 50.0  # beyond, cameras of this size show a handful of pixels
    beyond_m: float = 1.0  # outside the canvas


def target_weights(
    frame: LabelledFrame, config: ModelConfig, findable: Findable = Findable()
) -> tuple[np.ndarray, np.ndarray]:
    """What each label asks for.

    Returns:
        (N,) weight of each label: 1 to be found, 0 may be found, NaN for what no sensor that is there shows; and (N,)
        the same weights where cameras show enough of it, 0 elsewhere.

    Labels of a network's making weigh as much as they are believed. Labels of no class of ours may be found.
    """
    labels, count = frame.labels, len(frame.labels)
    sure, perhaps = np.zeros(count, bool), np.zeros(count, bool)
    x, y = labels.center[:, 0], labels.center[:, 1]
    b = findable.beyond_m
    on_canvas = (x > config.x_range_m[0] - b) & (x < config.x_range_m[1] + b)
    on_canvas &= (y > config.y_range_m[0] - b) & (y < config.y_range_m[1] + b)
    if has_lidar(frame.sensors):
        sure |= on_canvas & (frame.points_inside >= findable.points)
        perhaps |= frame.points_inside >= findable.few_points
    seen = seen_by_cameras(frame) & (np.hypot(x, y) < findable.camera_range_m)
    if frame.visibility is None and has_lidar(frame.sensors):
        perhaps |= seen & (frame.points_inside >= findable.few_points)
        shown = seen & (frame.points_inside >= findable.points)
    elif frame.visibility is None:
        shown = seen  # who labelled the images saw it there
    else:
        # What a lidar hit that is not there any more does not show how much of an object cameras see.
        shown = seen & (frame.visibility >= findable.visibility)
        perhaps |= seen & (frame.visibility >= findable.little_visibility)
    sure |= shown
    weight = np.where(sure, 1.0, np.where(perhaps, 0.0, np.nan))
    if frame.weight is not None:
        weight = np.where(weight == 1.0, frame.weight, weight)
    weight = np.where(labels.label < 0, np.minimum(weight, 0.0), weight)
    return weight, np.where(shown, weight, 0.0)


def seen_by_cameras(frame: LabelledFrame) -> np.ndarray:
    """(N,) whether the middle of each label lies in the image of a camera that is there."""
    seen = np.zeros(len(frame.labels), bool)
    for camera in frame.sensors.cameras.values():
        if camera is None:
            continue
        local = transform_points(invert_pose(camera.T_base_camera), frame.labels.center)
        pixels, depth = project_points(local, camera.intrinsics)
        height, width = camera.image.shape[:2]
        with np.errstate(invalid="ignore"):
            seen |= (depth > 0) & (pixels >= 0).all(axis=1) & (pixels < (width, height)).all(axis=1)
    return seen


def target_arrays(frame: LabelledFrame, config: ModelConfig, findable: Findable = Findable()) -> dict[str, np.ndarray]:
    """Columns of `matcher.Targets` for the labels of one frame that a sensor shows, as arrays."""
    weight, shown = target_weights(frame, config, findable)
    rows = np.flatnonzero(~np.isnan(weight))
    labels = frame.labels[rows]
    known = np.isfinite(labels.velocity).all(axis=1)
    return {
        "label": np.maximum(labels.label, 0),
        "center": labels.center.astype(np.float32),
        "log_size": np.log(labels.size).astype(np.float32),
        "yaw": labels.yaw.astype(np.float32),
        "velocity": np.where(known[:, None], labels.velocity, 0.0).astype(np.float32),
        "velocity_known": known.astype(np.float32),
        "weight": weight[rows].astype(np.float32),
        "shown": shown[rows].astype(np.float32),
    }


def pad_targets(frames: Sequence[dict[str, np.ndarray]]) -> Targets:
    """Targets of a batch from the arrays of its frames."""
    import torch

    from karp_perception.detection.model.matcher import Targets

    most = max((len(frame["label"]) for frame in frames), default=0)
    columns = {}
    for name, first in frames[0].items():
        column = np.zeros((len(frames), most, *first.shape[1:]), first.dtype)
        for row, frame in enumerate(frames):
            column[row, : len(frame[name])] = frame[name]
        columns[name] = torch.from_numpy(column)
    valid = np.zeros((len(frames), most), bool)
    for row, frame in enumerate(frames):
        valid[row, : len(frame["label"])] = True
    return Targets(**columns, valid=torch.from_numpy(valid))
