"""A single frame with what was found in it, beside its labels: every camera, and the scene from above."""

from __future__ import annotations

import numpy as np

from karp_perception.core import Boxes, SensorFrame, Vehicle, class_name
from karp_perception.view.birdseye import BirdsEye
from karp_perception.view.camera import Projection, draw_boxes, scaled
from karp_perception.view.palette import BACKGROUND, FAINT, MUTED, PANEL, TEXT, class_color
from karp_perception.view.shapes import fill, polyline
from karp_perception.view.text import draw_text

_SIZE = (1280, 720)
_ABOVE = 440  # px, width of the view from above
_BANNER = 36  # px
_GAP = 8  # px
_AHEAD_M, _BEHIND_M = 50.0, 30.0


def draw_frame(
    frame: SensorFrame, detections: Boxes, obstacles: Boxes, labels: Boxes, vehicle: Vehicle = Vehicle()
) -> np.ndarray:
    """(720, 1280, 3) uint8 RGB. All boxes are in `base_link`.

    Args:
        frame: any of its sensors may be missing.
        detections: in the colours of their classes, with score.
        obstacles: geometric ones, as thin grey outlines from above.
        labels: as white outlines from above, and in no image.
        vehicle: drawn from above.
    """
    width, height = _SIZE
    image = np.full((height, width, 3), BACKGROUND, np.uint8)
    fill(image[:_BANNER], PANEL)
    texts = (f"{len(detections)} detections", f"{len(labels)} labels, white" if len(labels) else "no labels")
    draw_text(image, texts[0], (12, 24), TEXT, 15)
    draw_text(image, f"{texts[1]}   ·   {len(obstacles)} geometric obstacles, grey", (170, 24), MUTED, 14)
    image[_BANNER:, width - _ABOVE :] = _above(frame, detections, obstacles, labels, vehicle)
    cameras = {name: camera for name, camera in frame.cameras.items() if camera is not None}
    area = image[_BANNER + _GAP : -_GAP, _GAP : width - _ABOVE - _GAP]
    if not cameras:
        draw_text(image, "no camera", ((width - _ABOVE) / 2, height / 2), FAINT, 16, align="center")
        return image
    columns = 1 if len(cameras) <= 2 else 2 if len(cameras) <= 4 else 3
    rows = -(-len(cameras) // columns)
    cell = ((area.shape[1] - (columns - 1) * _GAP) // columns, (area.shape[0] - (rows - 1) * _GAP) // rows)
    for place, (name, camera) in enumerate(cameras.items()):
        h, w = camera.image.shape[:2]
        scale = min(cell[0] / w, cell[1] / h)
        size = max(2, round(w * scale)), max(2, round(h * scale))
        picture = scaled(camera.image, size)
        projection = Projection.of(camera, size)
        words = [f"{class_name(int(k))} {s:.2f}" for k, s in zip(detections.label, detections.score, strict=True)]
        draw_boxes(
            picture, detections, projection.intrinsics, projection.T_base_camera,
            distortion=projection.distortion, texts=words, widths=[2] * len(detections), text_size=12,
        )  # fmt: skip
        draw_text(picture, name, (8, 18), TEXT, 13)
        row, column = divmod(place, columns)
        x = column * (cell[0] + _GAP) + (cell[0] - size[0]) // 2
        y = row * (cell[1] + _GAP) + (cell[1] - size[1]) // 2
        area[y : y + size[1], x : x + size[0]] = picture
    return image


def _above(frame: SensorFrame, detections: Boxes, obstacles: Boxes, labels: Boxes, vehicle: Vehicle) -> np.ndarray:
    view = BirdsEye(vehicle, (_ABOVE, _SIZE[1] - _BANNER), _AHEAD_M, _BEHIND_M)
    image = view.draw(None if frame.lidar is None else frame.lidar.points, obstacles)
    for corners in labels.footprint():
        polyline(image, view.pixels(corners), TEXT, 1, closed=True)
    for corners, center, label in zip(detections.footprint(), detections.center, detections.label, strict=True):
        color = class_color(label)
        polyline(image, view.pixels(corners), color, 2, closed=True)
        front = corners[[0, 3]].mean(axis=0)
        polyline(image, view.pixels(np.stack([center[:2], front])), color, 1)
    return image
