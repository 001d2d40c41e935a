"""One labelled sensor frame on disk: reading it, and scoring what was found against its labels.

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
from dataclasses import dataclass
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
    ObjectClass,
    SensorFrame,
    class_from_name,
)
from karp_perception.core.classes import TWO_WHEELERS, VEHICLES
from karp_perception.core.geometry import invert_pose, project_points, transform_points

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
        alarm. sector: whether labels cover the cameras' views only (frames with one camera) instead of all around.
        object_id: (N,) the same for an object throughout a drive, None where the file does not tell.
        visibility: (N,) share of an object that is not hidden, 0..1; None where the file does not tell.
    """

    sensors: SensorFrame
    labels: Boxes
    points_inside: np.ndarray
    unlabelled: np.ndarray
    sector: bool
    object_id: np.ndarray | None = None
    visibility: np.ndarray | None = None


@dataclass(frozen=True)
class Group:
    """Classes that are scored together, within a range."""

    labels: frozenset[int]
    max_distance: float
    min_points: int = 10


GROUPS: Mapping[str, Group] = {
    "vehicles": Group(VEHICLES, 40.0),
    "pedestrians": Group(frozenset({int(ObjectClass.PEDESTRIAN)}), 30.0),
    "two_wheelers": Group(frozenset(TWO_WHEELERS), 30.0),
}


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


def score_labelled_frame(frame: LabelledFrame, detections: Boxes, obstacles: Boxes) -> dict[str, Any]:
    """How well detections and obstacles fit the labels.

    For each group, over its labels with enough lidar points in range (and in view, where labels cover only that): hits
    are detections of a class of the group within 2 m of a label in bird's eye, each label taken once, best score
    first; other detections in range are false alarms, unless they lie on a label that does not count or on an
    unlabelled object. `obstacles.covered` is the share of all counted labels that touch an obstacle, which has no
    class.
    """
    result: dict[str, Any] = {}
    counted_any = np.zeros(len(frame.labels), bool)
    for name, group in GROUPS.items():
        of_group = np.isin(frame.labels.label, list(group.labels))
        counted = of_group & _in_scope(frame, frame.labels.center, group.max_distance)
        counted &= frame.points_inside >= group.min_points
        counted_any |= counted
        found = detections[np.isin(detections.label, list(group.labels))]
        found = found[_in_scope(frame, found.center, group.max_distance)]
        result[name] = _score_group(frame, counted, found)
    covered = _covered(frame.labels[counted_any], obstacles)
    share = round(float(covered.mean()), 4) if len(covered) else None
    result["obstacles"] = {"labels": len(covered), "covered": share, "count": len(obstacles)}
    return result


def _score_group(frame: LabelledFrame, counted: np.ndarray, found: Boxes) -> dict[str, Any]:
    match_m = 2.0
    labels = frame.labels
    free = np.ones(len(labels), bool)
    hits, errors, false_alarms = 0, [], 0
    for i in np.argsort(-found.score, kind="stable"):
        distance = np.linalg.norm(labels.center[:, :2] - found.center[i, :2], axis=1)
        candidates = np.where(counted & free, distance, np.inf)
        best = int(np.argmin(candidates)) if len(candidates) else -1
        if best >= 0 and candidates[best] <= match_m:
            free[best] = False
            hits += 1
            errors.append(float(distance[best]))
        else:
            excused = bool((distance[~counted] <= match_m).any())
            near = np.linalg.norm(frame.unlabelled[:, :2] - found.center[i, :2], axis=1) <= frame.unlabelled[:, 2]
            false_alarms += not (excused or near.any())
    n = int(counted.sum())
    return {
        "labels": n,
        "hits": hits,
        "false_alarms": false_alarms,
        "recall": round(hits / n, 4) if n else None,
        "precision": round(hits / (hits + false_alarms), 4) if hits + false_alarms else None,
        "center_error_m": round(float(np.median(errors)), 4) if errors else None,
    }


def _in_scope(frame: LabelledFrame, centers: np.ndarray, max_distance: float) -> np.ndarray:
    """(N,) mask: within range, and in the view of a camera where labels end there."""
    near = np.linalg.norm(centers[:, :2], axis=1) <= max_distance
    if not frame.sector:
        return near
    seen = np.zeros(len(centers), bool)
    for camera in frame.sensors.cameras.values():
        pixels, depth = project_points(transform_points(invert_pose(camera.T_base_camera), centers), camera.intrinsics)
        height, width = camera.image.shape[:2]
        with np.errstate(invalid="ignore"):
            seen |= (depth > 0) & (pixels >= 0).all(axis=1) & (pixels < (width, height)).all(axis=1)
    return near & seen


def _covered(labels: Boxes, obstacles: Boxes) -> np.ndarray:
    """(N,) mask: does the footprint of a label touch that of an obstacle (by OpenCV's rotated rectangles)."""
    covered = np.zeros(len(labels), bool)
    rectangles = [_rectangle(obstacles, j) for j in range(len(obstacles))]
    for i in range(len(labels)):
        reach = 0.5 * np.linalg.norm(labels.size[i, :2]) + 0.5 * np.linalg.norm(obstacles.size[:, :2], axis=1)
        close = np.linalg.norm(obstacles.center[:, :2] - labels.center[i, :2], axis=1) <= reach
        label = _rectangle(labels, i)
        covered[i] = any(cv2.rotatedRectangleIntersection(label, rectangles[j])[0] for j in np.flatnonzero(close))
    return covered


def _rectangle(boxes: Boxes, i: int) -> tuple[tuple[float, float], tuple[float, float], float]:
    x, y = map(float, boxes.center[i, :2])
    length, width = map(float, boxes.size[i, :2])
    return (x, y), (length, width), float(np.degrees(boxes.yaw[i]))
