"""One drive in one picture: from above, and its speed, acceleration and gap over time."""

from __future__ import annotations

import cv2
import numpy as np

from karp_perception.evaluation.drive_record import DriveRecord
from karp_perception.evaluation.driving import acceleration, contacts, gaps
from karp_perception.view.palette import (
    BACKGROUND,
    DECISION_COLORS,
    EGO,
    FAINT,
    GRID,
    MUTED,
    PANEL,
    TARGET,
    TEXT,
    Color,
    class_color,
    mixed,
)
from karp_perception.view.shapes import area, polyline
from karp_perception.view.text import draw_text

_SIZE = (1120, 430)  # px
_MAP_HEIGHT = 250  # px
_MARGIN = 12.0  # m around what is shown
_AROUND = 65.0  # m from where the vehicle is at the moment that matters; what of its way lies farther off is cut
_NEAR = 30.0  # m from the vehicle within which an actor is shown at all
_MOST_ACTORS = 24
_KMH = 3.6  # km/h in a m/s
_GHOST_S = 2.0  # between two faint outlines of the vehicle
_PAD = 8  # px
ROAD: Color = (33, 38, 48)
LIGHT_COLORS: dict[str, Color] = {"red": (255, 64, 56), "yellow": (255, 196, 60), "green": (70, 214, 120)}


def draw_drive(record: DriveRecord) -> np.ndarray:
    """(H, W, 3) uint8 RGB picture of a drive.

    The way is coloured by speed, from blue (standing) to yellow (the fastest of the drive); outlines are those of the
    moment of contact, else of the smallest gap.
    """
    width, height = _SIZE
    image = np.full((height, width, 3), BACKGROUND, np.uint8)
    moment = decisive_tick(record)
    _from_above(image[:_MAP_HEIGHT], record, moment)
    third = width // 3
    panels = [image[_MAP_HEIGHT + _PAD : height, k * third + _PAD : (k + 1) * third] for k in range(3)]
    gap = _least_gap(record)
    _chart(panels[0], record, record.speed * _KMH, "speed, km/h", moment, 0.0)
    _chart(panels[1], record, acceleration(record), "acceleration, m/s²", moment, None, -2.0)
    _chart(panels[2], record, np.minimum(gap, 40.0), "least gap to anything, m (up to 40)", moment, 0.0)
    return image


def decisive_tick(record: DriveRecord) -> int:
    """The tick that says most: of the first contact, else at the first stop line, else of the smallest gap."""
    found = contacts(record)
    if found:
        return int(np.searchsorted(record.time, found[0].time).clip(0, len(record) - 1))
    front = record.along_and_offset[0] + record.front
    passed = np.flatnonzero(front > record.places.get("stop_line", np.inf))
    if len(passed) and len(record.light_tick):
        return int(passed[0])
    gap = _least_gap(record)
    return int(gap.argmin()) if np.isfinite(gap).any() else int(acceleration(record).argmin())


def _least_gap(record: DriveRecord) -> np.ndarray:
    """(T,) m to the nearest actor in each tick, inf where there is none."""
    least = np.full(len(record), np.inf)
    np.minimum.at(least, record.actor_tick, gaps(record))
    return least


class _Map:
    """Metres to pixels: what matters fills the panel, the drive goes to the right."""

    def __init__(self, record: DriveRecord, size: tuple[int, int], shown: np.ndarray, moment: int) -> None:
        ego = np.stack([record.x, record.y], axis=1)
        near = np.flatnonzero(np.hypot(*(ego - ego[moment]).T) < _AROUND)
        way = ego[near[-1]] - ego[near[0]]
        ahead = np.arctan2(way[1], way[0]) if np.hypot(*way) > 5.0 else record.yaw[moment]
        c, s = np.cos(ahead), np.sin(ahead)
        self._turn = np.array([[c, s], [-s, c]])
        points = np.concatenate([record.ego_corners[near].reshape(-1, 2), shown.reshape(-1, 2)]) @ self._turn.T
        low, high = points.min(axis=0) - _MARGIN, points.max(axis=0) + _MARGIN
        width, height = size
        self.scale = float(min(width / (high[0] - low[0]), height / (high[1] - low[1])))
        middle = 0.5 * (low + high)
        self._offset = np.array([0.5 * width, 0.5 * height]) - self.scale * middle * (1, -1)

    def pixels(self, points: np.ndarray) -> np.ndarray:
        """(..., 2) px of points (..., 2) m."""
        return (np.asarray(points) @ self._turn.T) * (self.scale, -self.scale) + self._offset


def _from_above(image: np.ndarray, record: DriveRecord, moment: int) -> None:
    height, width = image.shape[:2]
    gap = gaps(record)
    ids = np.unique(record.actor_id)
    least = np.full(len(ids), np.inf)
    np.minimum.at(least, np.searchsorted(ids, record.actor_id), gap)
    own = set(record.names.values())
    order = [k for k in np.argsort(least) if least[k] < _NEAR or int(ids[k]) in own][:_MOST_ACTORS]
    chosen = set(ids[order].tolist())
    at_moment = np.flatnonzero((record.actor_tick == moment) & np.isin(record.actor_id, list(chosen)))
    close = at_moment[gap[at_moment] < _NEAR]
    place = _Map(record, (width, height), record.actor_corners[close], moment)
    for lane in record.lanes:
        polyline(image, place.pixels(lane.center), GRID, max(2, round(3.2 * place.scale)))
    for lane in record.lanes:
        polyline(image, place.pixels(lane.center), ROAD, max(1, round(2.9 * place.scale)))
    polyline(image, place.pixels(record.route), FAINT, 1)
    for number in chosen:
        rows = np.flatnonzero(record.actor_id == number)
        color = class_color(int(record.actor_label[rows[0]]))
        way = np.stack([record.actor_x[rows], record.actor_y[rows]], axis=1)
        if np.ptp(way, axis=0).max() > 0.5:
            polyline(image, place.pixels(way[:: max(1, len(way) // 80)]), mixed(BACKGROUND, color, 0.7), 1)
    _way(image, record, place)
    for row in np.flatnonzero(record.light_tick == moment):
        at = place.pixels(np.array([record.light_x[row], record.light_y[row]]))
        around = at + 5.0 * np.array(
            [[1, 0], [0.7, 0.7], [0, 1], [-0.7, 0.7], [-1, 0], [-0.7, -0.7], [0, -1], [0.7, -0.7]]
        )
        area(image, around, LIGHT_COLORS.get(str(record.light_color[row]), TEXT))
    touched = {c.actor_id for c in contacts(record)}
    for row in at_moment:
        label = int(record.actor_label[row])
        color = TARGET if int(record.actor_id[row]) in touched else class_color(label)
        corners = place.pixels(record.actor_corners[row])
        area(image, corners, color, 0.45)
        polyline(image, corners, color, 1, closed=True)
        _nose(image, corners, color)
    corners = place.pixels(record.ego_corners[moment])
    area(image, corners, EGO, 0.55)
    polyline(image, corners, EGO, 2, closed=True)
    _nose(image, corners, EGO)
    metres = 10 if width / place.scale < 150 else 20 if width / place.scale < 300 else 50
    bar = np.array([[12.0, height - 12.0], [12.0 + metres * place.scale, height - 12.0]])
    polyline(image, bar, MUTED, 2)
    draw_text(image, f"{metres} m", (bar[1, 0] + 6, height - 8), MUTED, 12)
    text = f"{record.time[moment]:.1f} s: {record.reason[moment]}"
    draw_text(image, text[:150], (10, 17), TEXT, 13)


def _nose(image: np.ndarray, corners: np.ndarray, color: Color) -> None:
    """A line across the front of a footprint, so that one sees where it points."""
    front, rear = corners[[0, 3]], corners[[1, 2]]
    polyline(image, front + 0.2 * (rear - front), color, 1)


def _way(image: np.ndarray, record: DriveRecord, place: _Map) -> None:
    """The way of the vehicle's middle, coloured by speed, and faint outlines along it."""
    middle = record.ego_corners.mean(axis=1)
    fastest = max(float(record.speed.max()), 1.0)
    levels = np.uint8(np.clip(255 * record.speed / fastest, 0, 255)).reshape(-1, 1)
    colors = cv2.applyColorMap(levels, cv2.COLORMAP_VIRIDIS)[:, 0, ::-1]
    pixels = place.pixels(middle)
    every = max(1, round(_GHOST_S / record.step))
    for k in range(0, len(record), every):
        polyline(image, place.pixels(record.ego_corners[k]), tuple(int(v) for v in colors[k] // 2), 1, closed=True)
    for k in range(len(record) - 1):
        polyline(image, pixels[k : k + 2], tuple(int(v) for v in colors[k]), 3)


def _chart(
    image: np.ndarray,
    record: DriveRecord,
    values: np.ndarray,
    title: str,
    moment: int,
    floor: float | None,
    line: float | None = None,
) -> None:
    """Values over time, coloured by the decision of each moment; a dashed line at `line`."""
    height, width = image.shape[:2]
    image[:] = PANEL
    draw_text(image, title, (8, 15), MUTED, 12)
    left, right, top, bottom = 40.0, width - 8.0, 26.0, height - 20.0
    known = values[np.isfinite(values)]
    low = float(known.min(initial=0.0)) if floor is None else floor
    high = float(known.max(initial=1.0))
    step = _step(high - low)
    low, high = np.floor(low / step) * step, max(np.ceil(high / step) * step, low + step)
    last = max(float(record.time[-1]), 0.1)

    def place(t: np.ndarray, v: np.ndarray) -> np.ndarray:
        return np.stack([left + t / last * (right - left), bottom - (v - low) / (high - low) * (bottom - top)], axis=-1)

    for value in np.arange(low, high + 0.5 * step, step):
        ends = place(np.array([0.0, last]), np.full(2, value))
        polyline(image, ends, GRID, 1)
        draw_text(image, f"{value:g}", (left - 5, ends[0, 1] + 4), FAINT, 11, align="right")
    if line is not None and low < line:
        polyline(image, place(np.array([0.0, last]), np.full(2, line)), mixed(PANEL, TARGET, 0.6), 1)
    at = place(np.full(2, record.time[moment]), np.array([low, high]))
    polyline(image, at, MUTED, 1)
    points = place(record.time, np.where(np.isfinite(values), values, high))
    colors = {kind.value: color for kind, color in DECISION_COLORS.items()}
    for k in range(len(record) - 1):
        polyline(image, points[k : k + 2], colors.get(str(record.decision[k]), TEXT), 2)
    draw_text(image, "0 s", (left, height - 6), FAINT, 11)
    draw_text(image, f"{last:.1f} s", (right, height - 6), FAINT, 11, align="right")


def _step(span: float) -> float:
    """A round number of which four or so make the span."""
    rough = max(span, 1e-6) / 4
    power = 10.0 ** np.floor(np.log10(rough))
    return float(power * min((1.0, 2.0, 5.0, 10.0), key=lambda m: abs(m * power - rough)))
