"""Axes to draw measurements on: lines and bars between ticks, on a part of an image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from karp_perception.view.palette import BACKGROUND, FAINT, GRID, MUTED, TEXT, Color
from karp_perception.view.shapes import area, fill, pill, polyline
from karp_perception.view.text import draw_text, text_width

TEXT_PX = 13
_TITLE_PX = 17


def canvas(width: int, height: int) -> np.ndarray:
    """(H, W, 3) uint8 with nothing on it."""
    image = np.empty((height, width, 3), np.uint8)
    fill(image, BACKGROUND)
    return image


class Plot:
    """Axes in an image, y upwards.

    Args:
        image: (H, W, 3) uint8, drawn on in place.
        box: left, top, right, bottom of the area between the axes, px.
        x_range, y_range: values at its ends.
        title: above it. x_label: below it. y_label: above the y axis.
    """

    def __init__(
        self,
        image: np.ndarray,
        box: tuple[int, int, int, int],
        x_range: tuple[float, float],
        y_range: tuple[float, float] = (0.0, 1.0),
        *,
        title: str = "",
        x_label: str = "",
        y_label: str = "",
    ) -> None:
        self.image, self.box, self.x_range, self.y_range = image, box, x_range, y_range
        left, top, right, bottom = box
        draw_text(image, title, (left, top - 34), TEXT, _TITLE_PX, weight=600)
        draw_text(image, y_label, (left, top - 12), MUTED, TEXT_PX)
        draw_text(image, x_label, ((left + right) / 2, bottom + 40), MUTED, TEXT_PX, align="center")

    def place(self, x: np.ndarray | float, y: np.ndarray | float) -> np.ndarray:
        """Pixels (..., 2) of values."""
        left, top, right, bottom = self.box
        (x0, x1), (y0, y1) = self.x_range, self.y_range
        px = left + (np.asarray(x, float) - x0) / (x1 - x0) * (right - left)
        return np.stack(np.broadcast_arrays(px, bottom - (np.asarray(y, float) - y0) / (y1 - y0) * (bottom - top)), -1)

    def x_ticks(self, ticks: Mapping[float, str], *, grid: bool = True) -> None:
        """Names of places along x, with lines up from them."""
        for x, name in ticks.items():
            line = self.place(np.full(2, x), np.array(self.y_range))
            if grid:
                polyline(self.image, line, GRID)
            draw_text(self.image, name, (line[0, 0], self.box[3] + 18), FAINT, TEXT_PX - 1, align="center")

    def y_ticks(self, ticks: Mapping[float, str], *, grid: bool = True, color: Color = FAINT) -> None:
        """Names of places along y, with lines across from them."""
        for y, name in ticks.items():
            line = self.place(np.array(self.x_range), np.full(2, y))
            if grid:
                polyline(self.image, line, GRID)
            draw_text(self.image, name, (self.box[0] - 8, line[0, 1] + 4), color, TEXT_PX - 1, align="right")

    def line(self, x: np.ndarray, y: np.ndarray, color: Color, width: int = 2) -> None:
        """A line through values, broken where y is NaN."""
        pixels = self.place(x, np.nan_to_num(y))
        known = np.isfinite(y)
        for piece in np.split(np.arange(len(known)), np.flatnonzero(np.diff(known)) + 1):
            if len(piece) and known[piece[0]]:
                polyline(self.image, pixels[piece], color, width)

    def bar(self, low: tuple[float, float], high: tuple[float, float], color: Color, opacity: float = 1.0) -> None:
        """A filled rectangle between two corners in values."""
        (x0, y0), (x1, y1) = self.place(*low), self.place(*high)
        area(self.image, np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]]), color, opacity)

    def dot(self, x: float, y: float, color: Color, radius: float = 3.5) -> None:
        """A round mark."""
        cx, cy = self.place(x, y)
        pill(self.image, (cx - radius, cy - radius, cx + radius, cy + radius), color, radius)

    def text(
        self,
        x: float,
        y: float,
        text: str,
        color: Color = MUTED,
        align: str = "center",
        shift: tuple[float, float] = (0.0, 0.0),
    ) -> None:
        """A text at a value, `shift` px further right and down."""
        px, py = self.place(x, y) + np.array(shift)
        draw_text(self.image, text, (px, py), color, TEXT_PX - 1, align=align)


def legend(image: np.ndarray, entries: Sequence[tuple[str, Color]], at: tuple[int, int], step: int = 22) -> None:
    """Names with their colours, one below the other from `at` (x, y px)."""
    x, y = at
    for name, color in entries:
        pill(image, (x, y - 9, x + 18, y), color, 3)
        draw_text(image, name, (x + 26, y), MUTED, TEXT_PX)
        y += step


def widest(names: Sequence[str]) -> int:
    """Width of the widest name as a tick, px."""
    return max((text_width(name, TEXT_PX - 1) for name in names), default=0)
