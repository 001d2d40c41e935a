"""A sensor frame with its truth: what a detector is trained on and measured with, and how it lies on disk.

A folder holds `frame.json` (calibration, boxes, all in `base_link`), `points.bin` (N x 4 little-endian float32: x y z
intensity) and the images it names. Any of the sensors may be absent. Recorded frames often know no more; what more may
be there (`world.frame_files` writes all of it):

- `time.bin`: N little-endian float32, s of each point relative to the stamp.
- in `frame.json`: `stamp_ns`; `ego` {T_odom_base, velocity, yaw_rate}; `labels`: "all around" where they do not end
  with the camera's view; for a camera `distortion` {model, coefficients}; for a box `id`, `velocity` (over ground, axes
  of `base_link`), `visibility` (0..1) and `points_inside`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from karp_perception.core import (
    Boxes,
    CameraFrame,
    Distortion,
    DistortionModel,
    EgoState,
    InvalidInput,
    LidarSweep,
    SensorFrame,
    class_from_name,
)

ALL_AROUND = "all around"
"""What `labels` says in frame.json where they cover every direction, however many cameras there are."""


@dataclass(frozen=True)
class LabelledFrame:
    """A sensor frame and its truth.

    Attributes:
        sensors: stamp 0 and no ego state where the file does not tell.
        labels: scores 1; label UNKNOWN for classes that are none of ours; velocity NaN where the file does not tell.
        points_inside: (N,) lidar points in each label, counted.
        unlabelled: (M, 3) x, y, radius (m) of places with real objects that carry no label: neither hit nor false
            alarm.
        sector: whether labels cover the cameras' views only (frames with one camera) instead of all around.
        object_id: (N,) the same for an object throughout a drive, None where the file does not tell.
        visibility: (N,) share of an object that is not hidden, 0..1; None where the file does not tell.
        weight: (N,) how far each label is to be believed, 0..1 (labels that a network made); None for certain ones.
        masks: by camera: (H, W) int32, the object_id that each pixel shows, 0 for the rest; empty where nobody knows.
    """

    sensors: SensorFrame
    labels: Boxes
    points_inside: np.ndarray
    unlabelled: np.ndarray
    sector: bool
    object_id: np.ndarray | None = None
    visibility: np.ndarray | None = None
    weight: np.ndarray | None = None
    masks: Mapping[str, np.ndarray] = field(default_factory=dict)

    def with_labels(self, rows: np.ndarray) -> LabelledFrame:
        """The same frame with some of its labels only: a mask or indices."""
        columns = {name: getattr(self, name) for name in ("object_id", "visibility", "weight")}
        chosen = {name: None if column is None else column[rows] for name, column in columns.items()}
        return replace(self, labels=self.labels[rows], points_inside=self.points_inside[rows], **chosen)


def load_labelled_frame(folder: Path) -> LabelledFrame:
    """Read a folder with `frame.json`. Raises InvalidInput where a file is missing, damaged or says the impossible."""
    folder = Path(folder)
    try:
        content = json.loads((folder / "frame.json").read_text())
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InvalidInput(f"{folder}/frame.json", "a JSON file with calibration and boxes", error) from None
    try:
        stamp_ns = content.get("stamp_ns", 0)
        cameras = {str(c["name"]): _camera(folder, c, stamp_ns) for c in content.get("cameras", ())}
        boxes = content.get("boxes", ())
        labels = _labels(boxes)
        told = bool(boxes) and all("id" in box and "visibility" in box for box in boxes)
        object_id = np.array([int(box["id"]) for box in boxes], np.int64) if told else None
        visibility = np.array([float(box["visibility"]) for box in boxes]) if told else None
        lidar = _lidar(folder, stamp_ns)
        ego = None if "ego" not in content else EgoState(stamp_ns, **content["ego"])
        unlabelled = [(*place["center"][:2], place["radius"]) for place in content.get("unlabelled") or ()]
    except (KeyError, TypeError, AttributeError) as error:
        raise InvalidInput(f"{folder}/frame.json", "cameras and boxes with all their keys", repr(error)) from None
    points = np.zeros((0, 4), np.float32) if lidar is None else lidar.points
    inside = labels.contains(points.astype(np.float64)).sum(axis=1) if len(labels) else np.zeros(0, int)
    sensors = SensorFrame(stamp_ns, cameras, lidar, ego)
    # Labels of a world reach all around, whatever its cameras see.
    sector = len(cameras) == 1 and content.get("labels") != ALL_AROUND
    unlabelled = np.reshape(unlabelled, (-1, 3))
    return LabelledFrame(sensors, labels, inside, unlabelled, sector, object_id, visibility)


def _camera(folder: Path, entry: Mapping[str, Any], stamp_ns: int) -> CameraFrame:
    image = cv2.imread(str(folder / entry["file"]), cv2.IMREAD_COLOR)
    if image is None:
        raise InvalidInput(str(folder / entry["file"]), "an image", "a file that is missing or cannot be read")
    distortion = Distortion()
    if "distortion" in entry:
        lens = entry["distortion"]
        try:
            distortion = Distortion(DistortionModel(lens["model"]), tuple(lens["coefficients"]))
        except ValueError as error:
            raise InvalidInput(f"{folder}/frame.json", "a lens model of sensor_msgs/CameraInfo", error) from None
    image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    return CameraFrame(image, entry["K"], entry["T_base_camera"], stamp_ns, distortion)


def _lidar(folder: Path, stamp_ns: int) -> LidarSweep | None:
    file, times = folder / "points.bin", folder / "time.bin"
    if not file.exists():
        return None
    values = np.fromfile(file, dtype="<f4")
    if values.size % 4:
        raise InvalidInput(str(file), "4 float32 a point", f"{values.size} numbers")
    points = values.reshape(-1, 4)
    time = np.fromfile(times, dtype="<f4") if times.exists() else None
    if time is not None and len(time) != len(points):
        raise InvalidInput(str(times), f"a time for each of {len(points)} points", f"{len(time)}")
    finite = np.isfinite(points).all(axis=1)
    return LidarSweep(points[finite], stamp_ns, None if time is None else time[finite])


def _labels(entries: list[Mapping[str, Any]]) -> Boxes:
    n = len(entries)
    if n == 0:
        return Boxes.empty()
    unknown = (np.nan, np.nan)
    return Boxes(
        [e["center"] for e in entries],
        [e["size"] for e in entries],
        [e["yaw"] for e in entries],
        [(e.get("velocity") or unknown)[:2] for e in entries],
        [int(class_from_name(e["label"])) for e in entries],
        np.ones(n),
    )
