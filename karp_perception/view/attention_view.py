"""Why a detection was made, in one picture: where its attention lay in each image and on the bird's-eye canvas."""

from __future__ import annotations

import cv2
import numpy as np

from karp_perception.core import Boxes, CameraFrame, SensorFrame, Vehicle, class_name
from karp_perception.detection.explanation import Explanation, image_token_to_pixel, lidar_token_to_base
from karp_perception.view.birdseye import BirdsEye
from karp_perception.view.camera import Projection, draw_boxes, scaled
from karp_perception.view.palette import BACKGROUND, FAINT, MUTED, OBSTACLE, PANEL, TARGET, TEXT, Color, class_color
from karp_perception.view.shapes import fill, polyline
from karp_perception.view.text import draw_text, fitted, text_width

_SIZE = (1280, 720)  # px
_BANNER, _GAP, _FOOT = 64, 8, 56  # px
_STRONGEST = 0.75  # opacity of the most attended token
_RISE = 0.7  # below 1, so that the second most attended things are seen, too
_SHOWN = 0.04  # share of the most attended token's weight below which nothing is drawn
_PALER = 0.72  # brightness of images under heat
_LEAST_CLOSE_UP = 120  # px of height that a close-up is worth drawing in
_NEAREST_M = 0.3  # what is closer to the lens is not seen whole
_AROUND = 2.2  # a close-up shows so many times the box
_STOPS = np.array([0.0, 0.35, 0.7, 1.0])
_HEAT = np.array(
    [[94, 32, 130], [214, 58, 92], [250, 150, 50], [255, 246, 178]], float
)  # dark to bright, not a class's


def draw_explanation(
    frame: SensorFrame, explanation: Explanation, number: int, vehicle: Vehicle, note: str = ""
) -> np.ndarray:
    """(720, 1280, 3) uint8 RGB: images on the left, the scene from above on the right, both under a heat map.

    The brightest colour is the most attended token among all images, and among all of the canvas: the legend beneath
    says how much of the detection's whole attention that is, and the shares of the sensors stand above them.

    Args:
        frame: that was explained; its images may have any size, and are rectified.
        explanation: of the frame.
        number: of the detection.
        vehicle: its footprint is drawn.
        note: what else should be known, such as that the network is untrained.
    """
    width, height = _SIZE
    image = np.full((height, width, 3), BACKGROUND, np.uint8)
    _draw_banner(image[:_BANNER], explanation, number, note)
    room = height - _BANNER - _FOOT - 2 * _GAP
    (x0, x1), (y0, y1) = explanation.config.x_range_m, explanation.config.y_range_m
    above = BirdsEye(vehicle, (round(room * (y1 - y0) / (x1 - x0)), room), x1, -x0)
    left = width - above.size[0] - 3 * _GAP
    top = _BANNER + _GAP
    _draw_cameras(image[top : top + room, _GAP : _GAP + left], frame, explanation, number)
    right = _GAP + left + _GAP
    image[top : top + room, right : right + above.size[0]] = _draw_above(above, frame, explanation, number)
    foot = image[height - _FOOT :]
    _draw_legend(foot, _GAP, left, "images", float(explanation.image_attention[number].max(initial=0.0)))
    brightest = float(explanation.lidar_attention[number].max(initial=0.0))
    _draw_legend(foot, right, above.size[0], "bird's-eye canvas", brightest)
    return image


def image_heat(explanation: Explanation, number: int, camera: str, source: CameraFrame) -> np.ndarray:
    """(H, W) float32: attention at each pixel of a camera's own image, in that of a token; zeros where none looked."""
    tokens = explanation.image_attention[number, explanation.cameras.index(camera)]
    height, width = source.image.shape[:2]
    # Rows that the network did not see, above and below its cut, belong to no token.
    return _warped(tokens, image_token_to_pixel(source, explanation.config), (width, height))


def canvas_heat(explanation: Explanation, number: int, above: BirdsEye) -> np.ndarray:
    """(H, W) float32: attention to the lidar's canvas at each pixel of a bird's-eye drawing."""
    to_base = lidar_token_to_base(explanation.config)
    # A token's (j, i), as images are indexed, to x and y, to pixels.
    corners = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    pixels = above.pixels(np.c_[corners[:, ::-1], np.ones(3)] @ to_base.T)
    to_pixel = np.column_stack([pixels[1] - pixels[0], pixels[2] - pixels[0], pixels[0]])
    return _warped(explanation.lidar_attention[number], to_pixel, above.size)


def _warped(tokens: np.ndarray, to_pixel: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Squares of tokens (rows, columns) laid out by an affine map from (column, row) to pixels of an image."""
    heat = tokens.astype(np.float32)
    return cv2.warpAffine(heat, to_pixel, size, flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT, borderValue=0)


def _lay_over(image: np.ndarray, heat: np.ndarray, most: float) -> None:
    """Heat (H, W) in colour over an image, in place; `most` is the brightest."""
    if most <= 0:
        return
    level = heat / most
    color = heat_colors(level)
    opacity = np.where(level > _SHOWN, _STRONGEST * np.clip(level, 0, 1) ** _RISE, 0)[..., None]
    image[:] = np.round(image * (1 - opacity) + color * opacity)


def heat_colors(level: np.ndarray) -> np.ndarray:
    """(..., 3) RGB of 0..1, ever brighter: it reads in grey, too."""
    return np.stack([np.interp(level, _STOPS, _HEAT[:, c]) for c in range(3)], axis=-1)


def _draw_above(above: BirdsEye, frame: SensorFrame, explanation: Explanation, number: int) -> np.ndarray:
    scene = above.draw(None if frame.lidar is None else frame.lidar.points)
    seen = (scene != above.draw(np.zeros((0, 4)))).any(axis=-1)
    points = scene[seen]
    most = float(explanation.lidar_attention[number].max(initial=0.0))
    _lay_over(scene, canvas_heat(explanation, number, above), most)
    # Points stay as bright as they are under any heat.
    scene[seen] = np.maximum(scene[seen], points)
    footprints = above.pixels(explanation.boxes.footprint())
    for i, outline in enumerate(footprints):
        if i != number:
            polyline(scene, outline, OBSTACLE, 1, closed=True)
    polyline(scene, footprints[number], BACKGROUND, 4, closed=True)
    polyline(scene, footprints[number], TARGET, 2, closed=True)
    start = above.pixels(explanation.reference[number])
    for way in ((5, 0), (0, 5)):
        polyline(scene, np.stack([start - way, start + way]), TEXT, 1)
    return scene


def _draw_cameras(image: np.ndarray, frame: SensorFrame, explanation: Explanation, number: int) -> None:
    """Fills `image` with the images that the network saw, the most attended one first and largest."""
    height, width = image.shape[:2]
    fill(image, PANEL)
    names = sorted(explanation.cameras, key=lambda name: -explanation.shares(number)[name])
    if not names:
        draw_text(image, "no camera", (width / 2, height / 2), FAINT, 18, align="center")
        return
    most = float(explanation.image_attention[number].max(initial=0.0))
    across = min(3, len(names) - 1)
    strips = -(-(len(names) - 1) // across) if across else 0
    strip = min(round(width / across * 9 / 16), (height // 2 - _GAP) // strips) if across else 0
    tiles = [(0, 0, width, height - strips * (strip + _GAP))]
    for k in range(len(names) - 1):
        row, column = divmod(k, across)
        x = column * (width + _GAP) // across
        tiles.append((x, height - (strips - row) * (strip + _GAP) + _GAP, (width + _GAP) // across - _GAP, strip))
    for name, (x, y, wide, high) in zip(names, tiles, strict=True):
        camera = frame.cameras[name]
        assert camera is not None
        _draw_camera(image[y : y + high, x : x + wide], camera, name, explanation, number, most)


def _draw_camera(
    tile: np.ndarray, camera: CameraFrame, name: str, explanation: Explanation, number: int, most: float
) -> None:
    """One image under its heat; where the tile is much taller, a close-up of the detection with and without."""
    high, wide = tile.shape[:2]
    rows, columns = camera.image.shape[:2]
    scale = min(wide / columns, high / rows)
    size = (max(1, int(columns * scale)), max(1, int(rows * scale)))
    # Paler, so that heat stands out from what is bright by itself.
    paler = cv2.convertScaleAbs(camera.image, alpha=_PALER)
    hot = paler.copy()
    _lay_over(hot, image_heat(explanation, number, name, camera), most)
    picture = scaled(hot, size).copy()
    projection = Projection.of(camera, size)
    box = explanation.boxes[[number]]
    draw_boxes(picture, box, projection.intrinsics, camera.T_base_camera, colors=[TARGET], texts=[""], widths=[2])
    room = high - size[1] - _GAP
    part = _close_up(camera, box, (wide - _GAP) // 2 / room) if room >= _LEAST_CLOSE_UP else None
    x, y = (wide - size[0]) // 2, 0 if part is not None else (high - size[1]) // 2
    tile[y : y + size[1], x : x + size[0]] = picture
    draw_text(tile, f"{name}  {explanation.shares(number)[name]:.0%}", (x + 8, y + 20), TEXT, 15, weight=600)
    if part is None:
        return
    for left, source in ((0, paler), ((wide + _GAP) // 2, hot)):
        target = tile[size[1] + _GAP :, left : left + (wide - _GAP) // 2]
        target[:] = cv2.resize(source[part], (target.shape[1], target.shape[0]), interpolation=cv2.INTER_CUBIC)


def _close_up(camera: CameraFrame, box: Boxes, aspect: float) -> tuple[slice, slice] | None:
    """Rows and columns of an image around one box, about `aspect` as wide as high; None where it is not seen whole."""
    corners = Projection.of(camera).in_camera(box.corners()[0])
    if corners[:, 2].min() <= _NEAREST_M:
        return None
    pixels = Projection.of(camera).pixels(corners)
    size = np.array(camera.image.shape[1::-1])
    low, high = pixels.min(axis=0), pixels.max(axis=0)
    middle = (low + high) / 2
    if not np.isfinite(pixels).all() or (middle < 0).any() or (middle >= size).any():
        return None
    tall = max(_AROUND * float((high - low)[1]), _AROUND * float((high - low)[0]) / aspect)
    tall = min(tall, size[1], size[0] / aspect)
    extent = np.maximum(2, np.array([tall * aspect, tall]).astype(int))
    start = np.clip(np.round(middle - extent / 2).astype(int), 0, np.maximum(size - extent, 0))
    return slice(start[1], start[1] + extent[1]), slice(start[0], start[0] + extent[0])


def _draw_banner(image: np.ndarray, explanation: Explanation, number: int, note: str) -> None:
    width = image.shape[1]
    fill(image, PANEL)
    box = explanation.boxes
    title = f"{class_name(int(box.label[number]))}  {box.score[number]:.2f}"
    x = 2 * _GAP + draw_text(image, title, (2 * _GAP, 27), class_color(box.label[number]), 21, weight=700)
    place, length = box.center[number], float(np.hypot(*box.center[number, :2]))
    kind = explanation.config.kind_of_query(int(explanation.query[number]))
    about = f"{length:.1f} m away ({place[0]:.1f} ahead, {place[1]:.1f} to the left), by {kind}"
    draw_text(image, fitted(about, width - x - 3 * _GAP, 15), (x + 2 * _GAP, 27), MUTED, 15)
    shares = ", ".join(f"{name} {share:.0%}" for name, share in explanation.shares(number).items())
    line = f"attention: {shares}" + (f"   ({note})" if note else "")
    draw_text(image, fitted(line, width - 4 * _GAP, 15), (2 * _GAP, 52), TEXT, 15)


def _draw_legend(image: np.ndarray, x: int, width: int, what: str, most: float) -> None:
    """The colours from none to most, and how much that is."""
    names = f"{what}:", "0", f"{most:.1%} of all attention on one square"
    y, size = 22, 13
    at = x + draw_text(image, names[0], (x, y + 5), MUTED, size) + 10
    at += draw_text(image, names[1], (at, y + 5), MUTED, size) + 6
    bar = max(20, min(220, width - (at - x) - text_width(names[2], size) - 12))
    strip = np.tile(np.linspace(0, 1, bar), (12, 1))
    target = image[y - 7 : y + 5, at : at + bar]
    target[:] = BACKGROUND
    _lay_over(target, strip, 1.0)
    draw_text(image, names[2], (at + bar + 6, y + 5), MUTED, size)
    marks: tuple[tuple[str, Color], ...] = (("this detection", TARGET), ("others", OBSTACLE), ("+ its query", TEXT))
    if what != "images":
        at = x
        for text, color in marks:
            at += draw_text(image, text, (at, y + 26), color, size) + 14
