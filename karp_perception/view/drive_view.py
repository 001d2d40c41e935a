"""One picture a frame that a person understands without a legend: decision, cameras, the scene from above, speed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import cv2
import numpy as np

from karp_perception.core import CameraFrame, ConfigurationError, DecisionKind, MotionSource, SensorFrame, Vehicle
from karp_perception.core.geometry import wrap_angle
from karp_perception.view import corridor, relevance
from karp_perception.view.birdseye import BirdsEye, short_name
from karp_perception.view.camera import Projection, draw_bar, draw_boxes, draw_corridor, scaled
from karp_perception.view.chart import SpeedChart
from karp_perception.view.palette import (
    BACKGROUND,
    DECISION_COLORS,
    MUTED,
    PANEL,
    TARGET,
    TEXT,
    Color,
    class_color,
    mixed,
    readable_on,
)
from karp_perception.view.shapes import fill, pill
from karp_perception.view.text import draw_text, fitted, text_width, wrapped

if TYPE_CHECKING:
    from karp_perception.pipeline import Result

_KMH = 3.6  # km/h in a m/s
_NAMED_RANGE = 45.0  # m within which objects are named in the camera images
_PANEL_SHARE = (0.255, 0.4)  # of the height under the banner, for the speed chart and the status: least and most
_FLASH_NS = 300_000_000  # an emergency stop changes its red this often
_MOTION = {MotionSource.ODOMETRY: "from odometry", MotionSource.LIDAR: "from lidar", MotionSource.NONE: "unknown"}
_SAFETY_LINES = 3  # of what the safety layer says
_AMBER: Color = (232, 184, 92)
_QUIET = (DecisionKind.CRUISE, DecisionKind.NO_INPUT)


class DriveView:
    """Draws frames of a drive, one after the other; it remembers speeds for its chart and where cameras look.

    Args:
        vehicle: its footprint and width.
        size: width, height of the pictures, px, at least 640 x 360.
        ahead, behind: m shown from above.
    """

    def __init__(
        self, vehicle: Vehicle, size: tuple[int, int] = (1280, 720), *, ahead: float = 50.0, behind: float = 14.0
    ) -> None:
        width, height = size
        if width < 640 or height < 360:
            raise ConfigurationError(f"DriveView.size: expected at least 640 x 360 px, got {width} x {height}")
        self.vehicle, self.size = vehicle, size
        self._unit = height / 720
        self._gap = max(4, round(8 * self._unit))
        self._banner_height = round(74 * self._unit)
        side = height - self._banner_height - self._gap
        above_width = min(round(0.68 * side), round(0.4 * width))
        self._birdseye = BirdsEye(vehicle, (above_width, side), ahead, behind)
        self._left_width = width - above_width - 3 * self._gap
        self._blank = np.full((height, width, 3), BACKGROUND, np.uint8)
        self._chart = SpeedChart()
        self._bearings: dict[str, float] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._first_ns: int | None = None

    def draw(self, frame: SensorFrame, result: Result, notes: Mapping[str, str] | None = None) -> np.ndarray:
        """(H, W, 3) uint8 RGB picture of a frame and what was made of it.

        Args:
            frame: what the sensors said; missing images and a missing lidar are shown as missing.
            result: of the pipeline for this frame.
            notes: short things to know, such as {"network": "untrained: its boxes are not used"}.
        """
        width, height = self.size
        gap, banner = self._gap, self._banner_height
        if self._first_ns is None or result.stamp_ns < self._first_ns:
            self._first_ns = result.stamp_ns
        image = self._blank.copy()
        measured = result.ego.source is not MotionSource.NONE
        self._chart.add(result.stamp_ns, result.ego.speed if measured else None, result.plan.decision.kind)

        self._draw_banner(image[:banner], result, measured)
        above = self._birdseye.draw(
            None if frame.lidar is None else frame.lidar.points, result.obstacles, result.objects, result.plan
        )
        image[banner : banner + above.shape[0], width - gap - above.shape[1] : width - gap] = above

        left = image[banner : height - gap, gap : gap + self._left_width]
        panel_height = self._panel_height(left, frame)
        self._draw_cameras(left[: -panel_height - gap], frame, result)
        status_width = round(0.37 * left.shape[1])
        panels = left[-panel_height:]
        self._chart.draw(panels[:, : -status_width - gap], result.plan, self._px(13))
        self._draw_status(panels[:, -status_width:], frame, result, notes or {})
        if result.plan.decision.kind is DecisionKind.EMERGENCY_STOP:
            cv2.rectangle(image, (0, 0), (width - 1, height - 1), self._decision_color(result), self._px(10))
        return image

    def _panel_height(self, left: np.ndarray, frame: SensorFrame) -> int:
        """What a single wide image leaves over goes to the panels beneath; lost images don't change the layout."""
        height, width = left.shape[:2]
        for name, camera in frame.cameras.items():
            if camera is not None:
                self._shapes[name] = camera.image.shape
        low, high = _PANEL_SHARE
        if len(frame.cameras) != 1 or next(iter(frame.cameras)) not in self._shapes:
            return round(low * height)
        rows, columns, _ = self._shapes[next(iter(frame.cameras))]
        return round(float(np.clip(height - self._gap - width * rows / columns, low * height, high * height)))

    def _px(self, size: float) -> int:
        return max(9 if size > 8 else 1, round(size * self._unit))

    def _decision_color(self, result: Result) -> Color:
        kind = result.plan.decision.kind
        color = DECISION_COLORS[kind]
        if kind is DecisionKind.EMERGENCY_STOP and (result.stamp_ns // _FLASH_NS) % 2:
            return mixed(color, (90, 0, 0), 0.55)
        return color

    def _draw_banner(self, image: np.ndarray, result: Result, measured: bool) -> None:
        height, width = image.shape[:2]
        kind, color, gap = result.plan.decision.kind, self._decision_color(result), self._gap
        urgent = kind is DecisionKind.EMERGENCY_STOP
        fill(image, color if urgent else mixed(BACKGROUND, color, 0.20))
        word, size = kind.value.replace("_", " "), self._px(27)
        wide = text_width(word, size, 700)
        right = 2 * gap + max(wide + 4 * gap, round(0.118 * width))
        pill(image, (gap, gap, right, height - gap), color, 8)
        at = ((gap + right) / 2, height / 2 + 0.36 * size)
        draw_text(image, word, at, readable_on(color), size, weight=700, align="center")

        number = f"{abs(result.ego.speed) * _KMH:.0f}" if measured else "?"
        unit_size, number_size = self._px(15), self._px(34)
        x = width - 2 * gap
        elapsed = (result.stamp_ns - (self._first_ns or 0)) * 1e-9
        clock = f"{elapsed:.1f} s"
        x_clock = x - round(62 * self._unit)
        draw_text(image, clock, (x, height / 2 + 0.36 * unit_size), TEXT if urgent else MUTED, unit_size, align="right")
        draw_text(image, "km/h", (x_clock, height / 2 + 0.36 * number_size), TEXT, unit_size, align="right")
        x_number = x_clock - text_width("km/h", unit_size) - gap
        at = (x_number, height / 2 + 0.36 * number_size)
        draw_text(image, number, at, TEXT, number_size, weight=600, align="right")

        # The sentence may begin with the word that already stands beside it.
        reason, size = result.plan.decision.reason.removeprefix(kind.value).lstrip(" :,"), self._px(19)
        room = x_number - round(64 * self._unit) - right - 3 * gap
        if text_width(reason, size) > room:
            size = self._px(16)
        lines = wrapped(reason, room, size)
        y = height / 2 + 0.36 * size - 0.62 * size * (len(lines) - 1)
        for line in lines:
            draw_text(image, line, (right + 2 * gap, y), TEXT, size)
            y += 1.24 * size

    def _draw_cameras(self, image: np.ndarray, frame: SensorFrame, result: Result) -> None:
        """Fills `image` with all cameras: the one that looks ahead large, the others in a row beneath."""
        names = self._by_bearing(frame)
        height, width = image.shape[:2]
        if not names:
            self._empty_tile(image, "no camera")
            return
        main = min(names, key=lambda name: abs(self._bearings.get(name, np.pi)))
        others = [name for name in names if name != main]
        gap, strip = self._gap, 0
        if others:
            tile_width = (width - gap * (len(others) - 1)) // len(others)
            strip = min(round(tile_width * 9 / 16), round(0.32 * height))
        room = height - (strip + gap if others else 0)
        camera = frame.cameras[main]
        shape = (room, width) if camera is None else camera.image.shape
        scale = min(width / shape[1], room / shape[0])
        size = (max(1, int(shape[1] * scale)), max(1, int(shape[0] * scale)))
        left, top = (width - size[0]) // 2, (room - size[1]) // 2
        self._camera_tile(image[top : top + size[1], left : left + size[0]], main, camera, result, large=True)
        for k, name in enumerate(others):
            x = k * (tile_width + gap)
            tile = image[height - strip :, x : x + tile_width]
            self._camera_tile(tile, name, frame.cameras[name], result, large=False)

    def _by_bearing(self, frame: SensorFrame) -> list[str]:
        """Names of the cameras from left to right as they look, those behind last; one never seen comes at the end."""
        for name, camera in frame.cameras.items():
            if camera is not None:
                ray = camera.T_base_camera[:3, 2]
                self._bearings[name] = float(np.arctan2(ray[1], ray[0]))
        unknown = 2 * np.pi

        def rank(name: str) -> tuple[float, str]:
            # Clockwise from straight behind, so that left comes before ahead and ahead before right.
            bearing = self._bearings.get(name)
            return (unknown if bearing is None else float(wrap_angle(-bearing - 1e-3)), name)

        return sorted(frame.cameras, key=rank)

    def _camera_tile(
        self, tile: np.ndarray, name: str, camera: CameraFrame | None, result: Result, *, large: bool
    ) -> None:
        height, width = tile.shape[:2]
        if camera is None:
            self._empty_tile(tile, f"{name}: no image")
            return
        scale = max(width / camera.image.shape[1], height / camera.image.shape[0])
        # A tile shows the middle of an image of another shape.
        full = (max(width, round(camera.image.shape[1] * scale)), max(height, round(camera.image.shape[0] * scale)))
        drawn = scaled(camera.image, full)
        self._draw_on_camera(drawn, Projection.of(camera, full), result, large)
        x, y = (full[0] - width) // 2, (full[1] - height) // 2
        tile[:] = drawn[y : y + height, x : x + width]
        size = self._px(13 if large else 11)
        pill(tile, (4, 4, 16 + text_width(name, size), size + 13), BACKGROUND, 4)
        draw_text(tile, name, (10, size + 6), TEXT, size)

    def _draw_on_camera(self, image: np.ndarray, projection: Projection, result: Result, large: bool) -> None:
        decision, objects = result.plan.decision, result.objects
        color = DECISION_COLORS[decision.kind]
        path = corridor.resampled(result.plan.trajectory)
        if large and len(path):
            draw_corridor(image, projection, *corridor.edges(path, self.vehicle), color)
        if large and decision.distance_m is not None and decision.kind not in _QUIET:
            ends = corridor.bar(path, self.vehicle, max(0.0, decision.distance_m))
            draw_bar(image, projection, ends, color)
        shown = np.flatnonzero(relevance.relevant(objects, path, self.vehicle, decision.target_id))
        moves = relevance.moving(objects)
        texts, colors, widths = [], [], []
        for i in shown:
            is_target = objects.track_id[i] == decision.target_id
            colors.append(TARGET if is_target else class_color(objects.boxes.label[i]))
            widths.append((3 if large else 2) if is_target else 1)
            texts.append(self._object_text(result, int(i), bool(moves[i])) if large else "")
        draw_boxes(
            image, objects.boxes[shown], projection.intrinsics, projection.T_base_camera,
            distortion=projection.distortion, colors=colors, texts=texts, widths=widths, text_size=self._px(13),
        )  # fmt: skip

    def _object_text(self, result: Result, i: int, moves: bool) -> str:
        """Class, id, distance and speed of a tracked object; "" for those far away."""
        boxes, decision = result.objects.boxes, result.plan.decision
        is_target = result.objects.track_id[i] == decision.target_id
        away = float(np.hypot(*boxes.center[i, :2]))
        if away > _NAMED_RANGE and not is_target:
            return ""
        # The target's distance is the decision's own: along the path, from bumper to body.
        distance = decision.distance_m if is_target and decision.distance_m is not None else away
        # In the unit of the decision's sentence, which often names the same speed.
        motion = f"{float(np.hypot(*boxes.velocity[i])):.1f} m/s" if moves else "standing"
        return f"{short_name(int(boxes.label[i]))} {result.objects.track_id[i]} · {distance:.0f} m · {motion}"

    def _empty_tile(self, tile: np.ndarray, text: str) -> None:
        height, width = tile.shape[:2]
        fill(tile, PANEL)
        size = self._px(15)
        draw_text(tile, text, (width / 2, height / 2 + 0.36 * size), TARGET, size, align="center")

    def _draw_status(self, image: np.ndarray, frame: SensorFrame, result: Result, notes: Mapping[str, str]) -> None:
        """What came in, how long it took, the notes, and what the safety layer has to say, in small."""
        fill(image, PANEL)
        height, width = image.shape[:2]
        size = self._px(13)
        seen = sum(camera is not None for camera in frame.cameras.values())
        lost = [name for name, camera in frame.cameras.items() if camera is None]
        cameras = f"{seen} of {len(frame.cameras)} images" + (f", missing: {', '.join(lost)}" if lost else "")
        lidar = "missing" if frame.lidar is None else f"{len(frame.lidar.points):,} points"
        moving = int(relevance.moving(result.objects).sum())
        rows: list[tuple[str, str, Color]] = [
            ("cameras", cameras if frame.cameras else "none", TARGET if lost or not frame.cameras else TEXT),
            ("lidar", lidar, TARGET if frame.lidar is None else TEXT),
            ("own motion", _MOTION[result.ego.source], _AMBER if result.ego.source is MotionSource.NONE else TEXT),
            ("objects", f"{len(result.objects)} tracked, {moving} moving", TEXT),
            ("obstacles", f"{len(result.obstacles)}", TEXT),
        ]
        if "total" in result.latency_ms:
            rows.append(("computing", f"{result.latency_ms['total']:.0f} ms", TEXT))
        column = max(text_width(key, size) for key in (*notes, "own motion")) + 2.2 * size
        room = int(width - column - 0.5 * size)
        for key, value in notes.items():
            first, *more = wrapped(value, room, size)
            rows += [(key, first, _AMBER), *(("", line, _AMBER) for line in more)]
        said = result.plan.notes
        lines = wrapped(said[0], room, size) if len(said) == 1 else list(said[:_SAFETY_LINES])
        rows += [("" if number else "safety", line, _AMBER) for number, line in enumerate(lines)]
        step = min(1.75 * size, (height - size) / len(rows))
        y = 0.5 * size + 0.5 * step + 0.36 * size
        for key, value, color in rows:
            draw_text(image, key, (size, y), MUTED, size)
            draw_text(image, fitted(value, room, size), (column, y), color, size)
            y += step
