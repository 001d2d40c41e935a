"""`replay.mcap`: what the pipeline saw and said, as Foxglove opens it.

Open the file, add a 3D panel (fixed frame `odom` or `base_link`), an image panel, and plots of `/plan` and `/ego`. The
messages are Foxglove's own schemas, which its SDK encodes far faster than Python could build ROS messages of hundreds
of boxes; the nodes and the `recorder` give the same results as ROS messages. Sensors are thinned for viewing.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import foxglove
import numpy as np
from foxglove import channels
from foxglove import messages as fox
from foxglove.mcap import MCAPCompression, MCAPWriteOptions

from karp_perception.core import Boxes, CameraFrame, Objects, Plan, SensorFrame, class_name
from karp_perception.core.geometry import quaternion_from_matrix, quaternion_from_yaw
from karp_perception.pipeline import Result
from karp_perception.records import plan_record
from karp_perception.view.palette import DECISION_COLORS, OBSTACLE, TARGET, Color, class_color, score_color
from karp_perception.view.relevance import moving

_BASE, _ODOM = "base_link", "odom"
_LINE_M = 0.08  # thickness of drawn lines
_TEXT_M = 0.5  # height of letters
_NAMED_WITHIN_M = 40.0  # objects further away carry no name
_PATH_POINTS = 12  # at most, of a proposal: enough for the eye
_POINT_FIELDS = ("x", "y", "z", "intensity")


@dataclass(frozen=True)
class DriveLogOptions:
    """How much of the sensors is kept."""

    max_points: int = 30_000
    image_width: int = 640
    jpeg_quality: int = 80


class DriveLog:
    """Writes frames and results to one .mcap file, which appears when it is closed without an error."""

    def __init__(self, path: Path, options: DriveLogOptions = DriveLogOptions()) -> None:
        self._path, self._partial = Path(path), Path(path).with_name(f".{Path(path).name}.partial")
        self._options = options
        self._context = foxglove.Context()
        options = MCAPWriteOptions(compression=MCAPCompression.Lz4)
        self._writer = foxglove.open_mcap(
            self._partial, allow_overwrite=True, context=self._context, writer_options=options
        )
        self._channels: dict[str, Any] = {}

    def __enter__(self) -> DriveLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()
        if kind is None:
            os.replace(self._partial, self._path)
        else:
            self._partial.unlink(missing_ok=True)

    def add(self, frame: SensorFrame, result: Result) -> None:
        """One frame and what was made of it."""
        stamp_ns = frame.stamp_ns
        transforms = [_transform(_ODOM, _BASE, result.ego.T_odom_base, stamp_ns)]
        for name, camera in frame.cameras.items():
            if camera is not None:
                transforms.append(_transform(_BASE, f"camera_{name}", camera.T_base_camera, stamp_ns))
                self._camera(name, camera)
        self._log(channels.FrameTransformsChannel, "/tf", fox.FrameTransforms(transforms=transforms), stamp_ns)
        if frame.lidar is not None:
            points = frame.lidar.points[:: max(1, -(-len(frame.lidar.points) // self._options.max_points))]
            self._log(channels.PointCloudChannel, "/lidar/points", _cloud(points, stamp_ns), stamp_ns)
        target = result.plan.decision.target_id
        self._scene("obstacles", stamp_ns, cubes=_cubes(result.obstacles, [OBSTACLE] * len(result.obstacles), 0.25))
        self._scene("detections", stamp_ns, cubes=_cubes(result.detections, _colors(result.detections), 0.3))
        self._objects(result.objects, target, stamp_ns)
        self._plan(result.plan)
        self._json("/plan", {k: v for k, v in plan_record(result.plan).items() if k != "trajectory"}, stamp_ns)
        self._json("/ego", {"speed": result.ego.speed, "yaw_rate": result.ego.yaw_rate}, stamp_ns)
        self._json("/latency_ms", dict(result.latency_ms), stamp_ns)

    def _objects(self, objects: Objects, target: int | None, stamp_ns: int) -> None:
        boxes = objects.boxes
        colors = [TARGET if i == target else c for i, c in zip(objects.track_id, _colors(boxes), strict=True)]
        moves, distance = moving(objects), np.linalg.norm(boxes.center[:, :2], axis=1)
        lines, texts = [], []
        for i in np.flatnonzero(moves | (objects.track_id == (target or -1))):
            for path in objects.predicted[i, objects.predicted_probability[i] > 0.0]:
                lines.append(_line(np.column_stack([path[:, :2], np.full(len(path), 0.2)]), colors[i]))
            if distance[i] < _NAMED_WITHIN_M:
                speed = np.hypot(*boxes.velocity[i])
                text = f"{class_name(int(boxes.label[i]))} {objects.track_id[i]}, {speed:.1f} m/s"
                texts.append(_text(text, boxes.center[i] + (0, 0, boxes.size[i, 2] / 2 + _TEXT_M), colors[i]))
        self._scene("objects", stamp_ns, cubes=_cubes(boxes, colors, 0.5), lines=lines, texts=texts)

    def _plan(self, plan: Plan) -> None:
        way, color = plan.trajectory, DECISION_COLORS[plan.decision.kind]
        lines = [_line(np.column_stack([way.x, way.y, np.full(len(way), 0.1)]), color)] if len(way) else []
        self._proposals(plan)
        words = _text(f"{plan.decision.kind.value}: {plan.decision.reason}", np.array([0.0, 0.0, 3.0]), color)
        self._scene("plan", plan.stamp_ns, lines=lines, texts=[words])

    def _proposals(self, plan: Plan) -> None:
        lines = []
        if (told := plan.proposals) is not None:
            shown = told.moments(_PATH_POINTS)
            ways = np.stack([told.x, told.y, np.full_like(told.x, 0.05)], axis=-1)[:, shown]
            colors = [score_color(score) for score in told.score.tolist()]
            lines = [_line(way, color, 0.5 * _LINE_M) for way, color in zip(ways, colors, strict=True)]
        self._scene("proposals", plan.stamp_ns, lines=lines)

    def _camera(self, name: str, camera: CameraFrame) -> None:
        height, width = camera.image.shape[:2]
        size = (min(self._options.image_width, width), round(height * min(1.0, self._options.image_width / width)))
        image = cv2.resize(camera.image, size, interpolation=cv2.INTER_AREA) if size[0] < width else camera.image
        quality = [cv2.IMWRITE_JPEG_QUALITY, self._options.jpeg_quality]
        _, jpeg = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), quality)
        K = np.diag([size[0] / width, size[1] / height, 1.0]) @ camera.intrinsics
        frame_id, stamp_ns = f"camera_{name}", camera.stamp_ns
        calibration = fox.CameraCalibration(
            timestamp=_time(stamp_ns),
            frame_id=frame_id,
            width=size[0],
            height=size[1],
            K=K.ravel().tolist(),
            P=np.column_stack([K, np.zeros(3)]).ravel().tolist(),
        )
        encoded = fox.CompressedImage(timestamp=_time(stamp_ns), frame_id=frame_id, data=jpeg.tobytes(), format="jpeg")
        self._log(channels.CameraCalibrationChannel, f"/camera/{name}/calibration", calibration, stamp_ns)
        self._log(channels.CompressedImageChannel, f"/camera/{name}/image", encoded, stamp_ns)

    def _scene(
        self,
        name: str,
        stamp_ns: int,
        *,
        cubes: Iterable[fox.CubePrimitive] = (),
        lines: Iterable[fox.LinePrimitive] = (),
        texts: Iterable[fox.TextPrimitive] = (),
    ) -> None:
        # One entity under one id: each frame replaces the last one's drawing.
        entity = fox.SceneEntity(
            timestamp=_time(stamp_ns), frame_id=_BASE, id=name, cubes=list(cubes), lines=list(lines), texts=list(texts)
        )
        update = fox.SceneUpdate(entities=[entity])
        self._log(channels.SceneUpdateChannel, f"/scene/{name}", update, stamp_ns)

    def _json(self, topic: str, content: dict[str, Any], stamp_ns: int) -> None:
        if topic not in self._channels:
            schema = {"type": "object", "additionalProperties": True}
            self._channels[topic] = foxglove.Channel(topic, schema=schema, context=self._context)
        self._channels[topic].log(content, log_time=stamp_ns)

    def _log(self, kind: Any, topic: str, message: Any, stamp_ns: int) -> None:
        if topic not in self._channels:
            self._channels[topic] = kind(topic, context=self._context)
        self._channels[topic].log(message, log_time=stamp_ns)


def _colors(boxes: Boxes) -> list[Color]:
    return [class_color(int(label)) for label in boxes.label]


def _cubes(boxes: Boxes, colors: list[Color], alpha: float) -> list[fox.CubePrimitive]:
    return [
        fox.CubePrimitive(pose=_pose(center, quaternion_from_yaw(yaw)), size=_vector(size), color=_color(c, alpha))
        for center, size, yaw, c in zip(boxes.center, boxes.size, boxes.yaw, colors, strict=True)
    ]


def _line(points: np.ndarray, color: Color, thickness: float = _LINE_M) -> fox.LinePrimitive:
    corners = [fox.Point3(x=x, y=y, z=z) for x, y, z in points.tolist()]
    kind = fox.LinePrimitiveLineType.LineStrip
    return fox.LinePrimitive(type=kind, pose=_ORIGIN, thickness=thickness, points=corners, color=_color(color, 0.9))


def _text(text: str, position: np.ndarray, color: Color) -> fox.TextPrimitive:
    pose = _pose(position, (0.0, 0.0, 0.0, 1.0))
    return fox.TextPrimitive(pose=pose, billboard=True, font_size=_TEXT_M, color=_color(color, 1.0), text=text)


def _cloud(points: np.ndarray, stamp_ns: int) -> fox.PointCloud:
    kind = fox.PackedElementFieldNumericType.Float32
    fields = [fox.PackedElementField(name=n, offset=4 * i, type=kind) for i, n in enumerate(_POINT_FIELDS)]
    data = np.ascontiguousarray(points, np.float32).tobytes()
    return fox.PointCloud(
        timestamp=_time(stamp_ns), frame_id=_BASE, pose=_ORIGIN, point_stride=16, fields=fields, data=data
    )


def _transform(parent: str, child: str, T: np.ndarray, stamp_ns: int) -> fox.FrameTransform:
    x, y, z, w = map(float, quaternion_from_matrix(T[:3, :3]))
    return fox.FrameTransform(
        timestamp=_time(stamp_ns),
        parent_frame_id=parent,
        child_frame_id=child,
        translation=_vector(T[:3, 3]),
        rotation=fox.Quaternion(x=x, y=y, z=z, w=w),
    )


def _pose(position: np.ndarray, quaternion: Iterable[float]) -> fox.Pose:
    x, y, z, w = map(float, quaternion)
    return fox.Pose(position=_vector(position), orientation=fox.Quaternion(x=x, y=y, z=z, w=w))


def _vector(values: np.ndarray) -> fox.Vector3:
    x, y, z = map(float, values)
    return fox.Vector3(x=x, y=y, z=z)


def _color(color: Color, alpha: float) -> fox.Color:
    r, g, b = (part / 255 for part in color)
    return fox.Color(r=r, g=g, b=b, a=alpha)


def _time(stamp_ns: int) -> fox.Timestamp:
    return fox.Timestamp(sec=stamp_ns // 1_000_000_000, nsec=stamp_ns % 1_000_000_000)


_ORIGIN = _pose(np.zeros(3), (0.0, 0.0, 0.0, 1.0))
