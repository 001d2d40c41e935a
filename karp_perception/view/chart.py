"""Speed over time: what was driven, coloured by the decision of each moment, and what is planned."""

from __future__ import annotations

from collections import deque

import numpy as np

from karp_perception.core import DecisionKind, Plan
from karp_perception.view.palette import DECISION_COLORS, FAINT, GRID, MUTED, PANEL, TEXT
from karp_perception.view.shapes import area, fill, polyline
from karp_perception.view.text import draw_text

_KMH = 3.6  # km/h in a m/s


class SpeedChart:
    """Remembers the speed and decision of past frames and draws them left of "now", the planned speed right of it.

    Args:
        past: s shown before now. ahead: s shown after now.
    """

    def __init__(self, past: float = 10.0, ahead: float = 5.0) -> None:
        self.past, self.ahead = past, ahead
        self._history: deque[tuple[int, float, DecisionKind]] = deque()

    def add(self, stamp_ns: int, speed: float | None, kind: DecisionKind) -> None:
        """One moment: speed in m/s, None where it is not known. A stamp before the last one begins a new history."""
        if self._history and stamp_ns <= self._history[-1][0]:
            self._history.clear()
        self._history.append((stamp_ns, np.nan if speed is None else speed, kind))
        while (stamp_ns - self._history[0][0]) * 1e-9 > self.past:
            self._history.popleft()

    def draw(self, image: np.ndarray, plan: Plan | None, text_size: int = 12) -> None:
        """Fills `image` (H, W, 3) uint8 with the chart."""
        height, width = image.shape[:2]
        fill(image, PANEL)
        left, right, top, bottom = 3.4 * text_size, width - text_size, 2.4 * text_size, height - 2.6 * text_size
        if bottom - top < 20 or right - left < 40 or not self._history:
            return
        draw_text(image, "speed, km/h", (0.9 * text_size, 1.5 * text_size), MUTED, text_size)
        now = self._history[-1][0]
        times = np.array([(stamp - now) * 1e-9 for stamp, _, _ in self._history])
        speeds = np.array([speed for _, speed, _ in self._history]) * _KMH
        trajectory = plan.trajectory if plan is not None else None
        planned = trajectory.speed * _KMH if trajectory is not None else np.zeros(0)
        highest = max([30.0, *speeds[np.isfinite(speeds)], *planned])
        step = 10 if highest <= 60 else 20 if highest <= 120 else 40
        ceiling = step * np.ceil(highest / step)

        def place(t: np.ndarray, v: np.ndarray) -> np.ndarray:
            x = left + (np.asarray(t) + self.past) / (self.past + self.ahead) * (right - left)
            return np.stack([x, bottom - np.asarray(v) / ceiling * (bottom - top)], axis=-1)

        many = max(1, int(np.ceil(ceiling / step / max(1, (bottom - top) / 28))))
        for value in np.arange(0, ceiling + 1, step * many):
            line = place(np.array([-self.past, self.ahead]), np.full(2, value))
            polyline(image, line, GRID, 1)
            at = (left - 6, line[0, 1] + 0.35 * text_size)
            draw_text(image, f"{value:.0f}", at, FAINT, text_size - 1, align="right")
        self._draw_past(image, times, place(times, np.nan_to_num(speeds)), np.isfinite(speeds), bottom)
        if trajectory is not None and len(trajectory) > 1:
            shown = trajectory.time <= self.ahead
            line = place(trajectory.time[shown], planned[shown])
            color = DECISION_COLORS[plan.decision.kind]
            base = np.c_[line[:, 0], np.full(len(line), bottom)]
            area(image, np.concatenate([line, base[::-1]]), color, 0.12)
            for a, b in zip(line[::2], line[1::2], strict=False):
                polyline(image, np.stack([a, b]), color, 2)
        at_now = place(np.zeros(2), np.array([0, ceiling]))
        polyline(image, at_now, TEXT, 1)
        y = height - 0.7 * text_size
        draw_text(image, "now", (at_now[0, 0], y), TEXT, text_size - 1, align="center")
        draw_text(image, f"{self.past:.0f} s ago", (left, y), FAINT, text_size - 1)
        draw_text(image, f"planned, {self.ahead:.0f} s", (right, y), FAINT, text_size - 1, align="right")

    def _draw_past(
        self, image: np.ndarray, times: np.ndarray, line: np.ndarray, known: np.ndarray, bottom: float
    ) -> None:
        kinds = [kind for _, _, kind in self._history]
        start = 0
        for end in range(1, len(kinds) + 1):
            if end < len(kinds) and kinds[end] is kinds[start]:
                continue
            # One piece a decision; it reaches to the next one's first moment so that the line has no gap.
            piece = slice(start, min(end + 1, len(kinds)))
            points = line[piece][known[piece]]
            color = DECISION_COLORS[kinds[start]]
            if len(points) > 1:
                base = np.c_[points[:, 0], np.full(len(points), bottom)]
                area(image, np.concatenate([points, base[::-1]]), color, 0.20)
                polyline(image, points, color, 2)
            x0, x1 = line[start, 0], line[min(end, len(kinds) - 1), 0]
            bar = np.array([[x0, bottom + 2], [x1, bottom + 2], [x1, bottom + 6], [x0, bottom + 6]])
            if x1 > x0:
                area(image, bar, color)
            start = end
