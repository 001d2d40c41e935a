"""A few seconds of a drive as a video from above, around the moment that decided it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from karp_perception.evaluation.drive_record import DriveRecord
from karp_perception.evaluation.driving import contacts
from karp_perception.evaluation.reaction import SEEN
from karp_perception.view.drive_drawing import LIGHT_COLORS, ROAD, decisive_tick
from karp_perception.view.palette import (
    BACKGROUND,
    DECISION_COLORS,
    EGO,
    FAINT,
    GRID,
    MUTED,
    OBSTACLE,
    PANEL,
    TARGET,
    TEXT,
    class_color,
    mixed,
)
from karp_perception.view.shapes import area, polyline
from karp_perception.view.text import draw_text, wrapped
from karp_perception.view.video import VideoWriter

_SIZE = (640, 360)  # px
_BANNER = 54  # px
_BEFORE, _AFTER = 4.0, 1.5  # s
_SCALE = 9.0  # px in a m
_AHEAD = 0.3  # share of the width from the left at which the vehicle is
_FAR = 90.0  # m
_KMH = 3.6  # km/h in a m/s


def write_clip(record: DriveRecord, path: Path, moment: float | None = None) -> None:
    """Write an MP4.

    Args:
        record: of the drive.
        path: of the file.
        moment: s, that decided it; None takes what `decisive_tick` finds.
    """
    middle = decisive_tick(record) if moment is None else int(np.searchsorted(record.time, moment))
    first = max(middle - round(_BEFORE / record.step), 0)
    last = min(middle + round(_AFTER / record.step), len(record) - 1)
    touched = {contact.actor_id: contact.time for contact in contacts(record)}
    with VideoWriter(path, 1.0 / record.step, _SIZE) as video:
        for tick in range(first, last + 1):
            video.write(draw_tick(record, tick, {k for k, t in touched.items() if t <= record.time[tick]}))


def draw_tick(record: DriveRecord, tick: int, touched: set[int] = frozenset()) -> np.ndarray:  # type: ignore[assignment]
    """(H, W, 3) uint8 RGB: the surroundings in a tick, the vehicle drives to the right.

    What is not in sight is drawn faintly; what perception takes things for is outlined; who is `touched` stands out.
    """
    width, height = _SIZE
    image = np.full((height, width, 3), BACKGROUND, np.uint8)
    yaw = float(record.yaw[tick])
    turn = np.array([[np.cos(yaw), np.sin(yaw)], [-np.sin(yaw), np.cos(yaw)]])
    here = np.array([record.x[tick], record.y[tick]])
    origin = np.array([_AHEAD * width, _BANNER + 0.5 * (height - _BANNER)])

    def pixels(points: np.ndarray) -> np.ndarray:
        return ((np.asarray(points) - here) @ turn.T) * (_SCALE, -_SCALE) + origin

    for color, wider in ((GRID, 0.2), (ROAD, -0.1)):
        for lane in record.lanes:
            points = lane.center[np.hypot(*(lane.center - here).T) < _FAR]
            if len(points) > 1:
                polyline(image, pixels(points), color, max(1, round((lane.width + wider) * _SCALE)))
    route = record.route[np.hypot(*(record.route - here).T) < _FAR]
    if len(route) > 1:
        polyline(image, pixels(route), FAINT, 1)
    for row in np.flatnonzero(record.light_tick == tick):
        at = pixels(np.array([record.light_x[row], record.light_y[row]]))
        square = at + 5.0 * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
        area(image, square, LIGHT_COLORS.get(str(record.light_color[row]), TEXT))
    for row in np.flatnonzero(record.actor_tick == tick):
        color = class_color(int(record.actor_label[row]))
        if int(record.actor_id[row]) in touched:
            color = TARGET
        elif record.visibility[row] <= SEEN:
            color = mixed(BACKGROUND, color, 0.35)
        corners = pixels(record.actor_corners[row])
        area(image, corners, color, 0.5)
        polyline(image, corners, color, 1, closed=True)
        velocity = np.array([record.actor_x[row], record.actor_y[row]]) + record.actor_velocity[row]
        start = np.array([record.actor_x[row], record.actor_y[row]])
        if np.hypot(*record.actor_velocity[row]) > 0.3:
            polyline(image, pixels(np.stack([start, velocity])), color, 1)
    for row in np.flatnonzero(record.seen_tick == tick):
        named = record.seen_id[row] == record.target[tick]
        polyline(image, pixels(record.seen_corners[row]), TARGET if named else OBSTACLE, 2 if named else 1, closed=True)
    polyline(image, pixels(record.ego_corners[: tick + 1].mean(axis=1)), mixed(BACKGROUND, EGO, 0.6), 2)
    corners = pixels(record.ego_corners[tick])
    area(image, corners, EGO, 0.6)
    polyline(image, corners, EGO, 2, closed=True)
    _banner(image, record, tick)
    return image


def _banner(image: np.ndarray, record: DriveRecord, tick: int) -> None:
    width = image.shape[1]
    image[:_BANNER] = PANEL
    colors = {kind.value: color for kind, color in DECISION_COLORS.items()}
    image[:_BANNER, :6] = colors.get(str(record.decision[tick]), TEXT)
    for k, line in enumerate(wrapped(record.reason[tick], width - 150, 13)[:2]):
        draw_text(image, line, (14, 20 + 17 * k), TEXT, 13)
    draw_text(image, f"{record.speed[tick] * _KMH:.0f} km/h", (width - 10, 20), TEXT, 14, align="right")
    draw_text(image, f"{record.time[tick]:.1f} s", (width - 10, 40), MUTED, 13, align="right")
