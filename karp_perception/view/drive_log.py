"""`replay.mcap`: what the pipeline saw and said as standard ROS 2 messages, for Foxglove and `ros2 bag play`.

Results have the topics of the `stack` node. Sensors are thinned for viewing: every few points, smaller images.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import cv2

from karp_perception.core import CameraFrame, Route, SensorFrame
from karp_perception.pipeline import Result
from karp_perception.ros import messages as ros
from karp_perception.sensing.bags import BagWriter
from karp_perception.sensing.message_types import default_message
from karp_perception.sensing.qos import LATCHED, Qos

_OUTPUT = "/stack/output"


@dataclass(frozen=True)
class DriveLogOptions:
    """How much of the sensors is kept."""

    max_points: int = 30_000
    image_width: int = 640
    jpeg_quality: int = 80


class DriveLog:
    """Writes frames and results to one .mcap file, which appears when it is closed without an error."""

    def __init__(self, path: Path, wheelbase: float, options: DriveLogOptions = DriveLogOptions()) -> None:
        self._writer = BagWriter(path)
        self._wheelbase = wheelbase
        self._options = options
        self._mounted: set[str] = set()
        self._route: Route | None = None

    def __enter__(self) -> DriveLog:
        self._writer.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.__exit__(kind, error, trace)

    def add(self, frame: SensorFrame, result: Result, route: Route | None = None) -> None:
        """One frame and what was made of it."""
        stamp_ns = frame.stamp_ns
        for name, camera in frame.cameras.items():
            if camera is not None:
                self._camera(name, camera)
        if frame.lidar is not None:
            step = max(1, -(-len(frame.lidar.points) // self._options.max_points))
            self._write(
                "/lidar/points",
                stamp_ns,
                ros.pointcloud_message(frame.lidar.points[::step], stamp_ns, "base_link", default_message),
            )
        to_odom = [("odom", "base_link", result.ego.T_odom_base)]
        self._write("/tf", stamp_ns, ros.transforms_message(to_odom, stamp_ns, default_message))
        if route is not None and route is not self._route:
            self._route = route
            self._write("/route", stamp_ns, ros.route_message(route, stamp_ns, default_message), LATCHED)
        self._results(result)

    def _results(self, result: Result) -> None:
        stamp_ns, create = result.stamp_ns, default_message
        outputs = {
            "detections": ros.detections_message(result.detections, stamp_ns, create),
            "obstacles": ros.detections_message(result.obstacles, stamp_ns, create),
            "objects": ros.objects_message(result.objects, stamp_ns, create),
            "tracks": ros.tracks_message(result.objects, stamp_ns, create),
            "odometry": ros.odometry_message(result.ego, create),
            "path": ros.path_message(result.plan, create),
            "trajectory": ros.trajectory_message(result.plan, self._wheelbase, create),
            "decision": ros.decision_message(result.plan, create),
        }
        drawing = ros.MarkerDrawing(stamp_ns, "base_link", create).perception(result.detections, result.obstacles)
        outputs["markers"] = drawing.objects(result.objects).plan(result.plan).message
        for name, message in outputs.items():
            self._write(f"{_OUTPUT}/{name}", stamp_ns, message)

    def _camera(self, name: str, camera: CameraFrame) -> None:
        optical, topic = f"camera_{name}_optical", f"/camera/{name}"
        if name not in self._mounted:
            self._mounted.add(name)
            mount = [("base_link", optical, camera.T_base_camera)]
            message = ros.transforms_message(mount, camera.stamp_ns, default_message)
            self._write("/tf_static", camera.stamp_ns, message, LATCHED)
        height, width = camera.image.shape[:2]
        scale = min(1.0, self._options.image_width / width)
        size = (round(width * scale), round(height * scale))
        image = cv2.resize(camera.image, size, interpolation=cv2.INTER_AREA) if scale < 1 else camera.image
        quality = self._options.jpeg_quality
        intrinsics = camera.intrinsics.copy()
        # Pixel centres lie at half numbers: scaling about the corner of the image moves the principal point with it.
        intrinsics[0] *= size[0] / width
        intrinsics[1] *= size[1] / height
        stamp_ns = camera.stamp_ns
        encoded = ros.compressed_image_message(image, stamp_ns, optical, default_message, quality)
        self._write(f"{topic}/image_rect/compressed", stamp_ns, encoded)
        info = ros.camera_info_message(intrinsics, size, stamp_ns, optical, default_message)
        self._write(f"{topic}/camera_info", stamp_ns, info)

    def _write(self, topic: str, stamp_ns: int, message: ros.Message, qos: Qos | None = None) -> None:
        self._writer.write(topic, message.__msgtype__, stamp_ns, message, **({} if qos is None else {"qos": qos}))
