"""A sensor frame with its truth: what a detector is trained on and measured with, and how it lies on disk.

A folder holds `frame.json` (calibration, boxes, all in `base_link`), `points.bin` (N x 4 little-endian float32: x y z
intensity) and the images it names. Any of the sensors may be absent. Recorded frames often know no more; what more may
be there (`sensing.frame_folder_writer` writes all of it):

- `time.bin`: N little-endian float32, s of each point relative to the stamp.
- in `frame.json`: `stamp_ns`; `points` and `time`: a word on their files, which must be there then; `ego` {T_odom_base,
  velocity, yaw_rate}; `labels`: "all around" or "in view" (of the cameras), by default the latter where there is one
  camera; `unlabelled`: places {center, radius} of objects without a label; for a camera `distortion` {model,
  coefficients}; for a box `id`, `velocity` (over ground, axes of `base_link`), `visibility` (0..1), `weight` (0..1, how
  far it is to be believed) and `points_inside`, which is counted anew when a frame is read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

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
from karp_perception.core.validation import as_array
from karp_perception.sensing.image_files import read_image
from karp_perception.sensing.point_files import read_rows

ALL_AROUND = "all around"
"""What `labels` says in frame.json where they cover every direction, however many cameras there are."""

IN_VIEW = "in view"
"""What it says where they cover what the cameras see, and no more."""

FARTHEST_LABEL_M = 500.0
LARGEST_LABEL_M = 100.0
"""What lies beyond is no label of a vehicle's sensors: other units, or the coordinates of a map."""


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
    file = folder / "frame.json"
    try:
        content = json.loads(file.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidInput(str(file), "a JSON file with calibration and boxes", error) from None
    try:
        with naming(file):
            return _labelled_frame(folder, content)
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
        if isinstance(error, InvalidInput):
            raise
        raise InvalidInput(str(file), "cameras and boxes with all their keys", repr(error)) from None


@contextmanager
def naming(source: Path | str) -> Iterator[None]:
    """Within it, an InvalidInput that does not say which file it is about is raised with the name of `source`."""
    try:
        yield
    except InvalidInput as error:
        if error.subject.startswith((str(source), f"{Path(source).parent}/")):
            raise
        subject = f"{source}: {error.subject}"
        raise InvalidInput(subject, error.expected, error.got, error.advice, reason=error.reason) from None


def check_labels(labels: Boxes, weight: np.ndarray | None = None, visibility: np.ndarray | None = None) -> None:
    """Raises InvalidInput for labels where no sensor sees anything, of impossible size, or with shares outside 0..1."""
    if len(labels) == 0:
        return
    distance = float(np.abs(labels.center).max())
    if distance > FARTHEST_LABEL_M:
        advice = "are they metres, and in the vehicle's coordinates rather than a map's?"
        raise InvalidInput("labels", f"centres within {FARTHEST_LABEL_M:g} m", f"{distance:.6g} m", advice)
    largest = float(labels.size.max())
    if largest > LARGEST_LABEL_M:
        raise InvalidInput("labels", f"sizes up to {LARGEST_LABEL_M:g} m", f"{largest:.6g} m", "are they metres?")
    for name, share in (("weight", weight), ("visibility", visibility)):
        if share is not None and not ((share >= 0) & (share <= 1)).all():
            wrong = share[~((share >= 0) & (share <= 1))][0]
            raise InvalidInput(f"{name} of a label", "a share from 0 to 1", wrong)


def points_in_labels(labels: Boxes, points: np.ndarray) -> np.ndarray:
    """(N,) number of points (M, 3 or more columns) in each label, m. Only points near a label are looked at."""
    counts = np.zeros(len(labels), np.int64)
    if len(points) == 0:
        return counts
    order = np.argsort(points[:, 0], kind="stable")
    ordered = points[order, :3].astype(np.float64)
    reach = 0.5 * np.linalg.norm(labels.size, axis=1)
    first = np.searchsorted(ordered[:, 0], labels.center[:, 0] - reach, "left")
    last = np.searchsorted(ordered[:, 0], labels.center[:, 0] + reach, "right")
    for i in range(len(labels)):
        counts[i] = labels[[i]].contains(ordered[first[i] : last[i]]).sum()
    return counts


def _labelled_frame(folder: Path, content: Mapping[str, Any]) -> LabelledFrame:
    stamp_ns = content.get("stamp_ns", 0)
    cameras = {str(c["name"]): _camera(folder, c, stamp_ns) for c in content.get("cameras", ())}
    if len(cameras) < len(content.get("cameras", ())):
        raise InvalidInput("cameras", "a name of its own for each", [c["name"] for c in content["cameras"]])
    boxes = content.get("boxes", ())
    labels = _labels(boxes)
    object_id, visibility, weight = (_column(boxes, key) for key in ("id", "visibility", "weight"))
    if weight is None and any("weight" in box for box in boxes):
        weight = np.array([float(box.get("weight", 1.0)) for box in boxes])
    check_labels(labels, weight, visibility)
    lidar = _lidar(folder, content, stamp_ns)
    ego = None if "ego" not in content else EgoState(stamp_ns, **content["ego"])
    inside = points_in_labels(labels, np.zeros((0, 4)) if lidar is None else lidar.points)
    covers = content.get("labels", IN_VIEW if len(cameras) == 1 else ALL_AROUND)
    if covers not in (ALL_AROUND, IN_VIEW):
        raise InvalidInput("labels", f"{ALL_AROUND!r} or {IN_VIEW!r}", repr(covers))
    return LabelledFrame(
        SensorFrame(stamp_ns, cameras, lidar, ego),
        labels,
        inside,
        _unlabelled(content.get("unlabelled") or ()),
        sector=covers == IN_VIEW,
        object_id=None if object_id is None else object_id.astype(np.int64),
        visibility=visibility,
        weight=weight,
    )


def _unlabelled(entries: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """(M, 3) x, y, radius, m."""
    n = len(entries)
    center = as_array("unlabelled center", [place["center"][:2] for place in entries] or np.zeros((0, 2)), (n, 2))
    radius = as_array("unlabelled radius", [place["radius"] for place in entries], (n,))
    if (radius < 0).any():
        raise InvalidInput("unlabelled radius", "at least 0 m", radius.min())
    return np.column_stack([center, radius])


def _column(boxes: list[Mapping[str, Any]], key: str) -> np.ndarray | None:
    """(N,) values of a key that every box has; None where one lacks it."""
    if not boxes or not all(key in box for box in boxes):
        return None
    return np.array([int(box[key]) if key == "id" else float(box[key]) for box in boxes])


def _camera(folder: Path, entry: Mapping[str, Any], stamp_ns: int) -> CameraFrame:
    image = read_image(folder / entry["file"])
    distortion = Distortion()
    if "distortion" in entry:
        lens = entry["distortion"]
        try:
            distortion = Distortion(DistortionModel(lens["model"]), tuple(lens["coefficients"]))
        except ValueError as error:
            raise InvalidInput(f"{folder}/frame.json", "a lens model of sensor_msgs/CameraInfo", error) from None
    return CameraFrame(image, entry["K"], entry["T_base_camera"], stamp_ns, distortion)


def _lidar(folder: Path, content: Mapping[str, Any], stamp_ns: int) -> LidarSweep | None:
    """The sweep; None where there is no file, unless frame.json speaks of it: half a frame must not pass for one."""
    file, times = folder / "points.bin", folder / "time.bin"
    if not file.exists() and not content.get("points"):
        return None
    points = read_rows(file, 4)
    time = read_rows(times, 1)[:, 0] if times.exists() or content.get("time") else None
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
