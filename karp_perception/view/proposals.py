"""What the planner chose from, for a person: each proposal as a line, and the best of them in words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from karp_perception.core import ScoredProposals, Vehicle
from karp_perception.view.palette import MUTED, PANEL, RULED_OUT, TARGET, TEXT, Color, mixed, score_color
from karp_perception.view.shapes import fixed_point, pill, polyline
from karp_perception.view.text import draw_text, text_width

_ROWS = 4  # proposals in words
_POINTS = 16  # at most, of a line: enough for the eye
_AS_GOOD_AS_BEST = 0.995  # a score that is written as 1.00
_STANDING = 0.3  # m; a shorter way is drawn as none


@dataclass(frozen=True)
class Remark:
    """A proposal in words.

    Attributes:
        name: of it. score: 0..1; 0 is ruled out.
        lacks: the term that costs it most; empty where nothing costs it anything to speak of.
    """

    name: str
    score: float
    lacks: str


def remarks(proposals: ScoredProposals, count: int = _ROWS) -> list[Remark]:
    """The chosen proposal, then the best on each other way, then the next best, `count` at most."""
    ranked = sorted(range(len(proposals)), key=lambda i: (i != proposals.chosen, -proposals.score[i]))
    of_ways: dict[str, int] = {}
    for i in ranked:
        of_ways.setdefault(proposals.ways[i], i)
    first = list(of_ways.values())[:count]
    taken = first + [i for i in ranked if i not in first][: count - len(first)]
    taken = first[:1] + sorted(taken[1:], key=ranked.index)
    return [_remark(proposals, i) for i in taken]


def summary(proposals: ScoredProposals) -> str:
    """How many there are, and how many of them are ruled out by what."""
    out = np.flatnonzero(proposals.score <= 0.0)
    if not len(out):
        return f"{len(proposals)} proposals"
    causes = [next(iter(proposals.shortcomings(int(i))), "") for i in out]
    counts = {cause: causes.count(cause) for cause in dict.fromkeys(causes)}
    most = max(counts, key=counts.__getitem__)
    others = "" if len(counts) == 1 else ", ..."
    return f"{len(out)} of {len(proposals)} ruled out: {most}{others}"


def draw_lines(
    image: np.ndarray, proposals: ScoredProposals, vehicle: Vehicle, pixels: Callable[[np.ndarray], np.ndarray]
) -> None:
    """Where the middle of the bumper would go, with a dot where it would be at the end, the best on top; in place.

    Args:
        image: (H, W, 3) uint8.
        proposals: in `base_link`; those that stand are left out.
        vehicle: whose bumper it is.
        pixels: of points (..., 2) in `base_link`, m.
    """
    places = pixels(noses(proposals, vehicle))
    order = sorted(range(len(proposals)), key=lambda i: (i == proposals.chosen, proposals.score[i]))
    moves = np.hypot(proposals.x[:, -1] - proposals.x[:, 0], proposals.y[:, -1] - proposals.y[:, 0]) > _STANDING
    radius = max(2, round(image.shape[0] / 220))
    for i in order:
        if not moves[i]:
            continue
        color, chosen = score_color(float(proposals.score[i])), i == proposals.chosen
        polyline(image, places[i], color, 2 if chosen else 1)
        at = fixed_point(places[i, -1]).tolist()
        cv2.circle(image, at, (radius + chosen) * 16, TEXT if chosen else color, cv2.FILLED, cv2.LINE_AA, 4)


def draw_table(image: np.ndarray, proposals: ScoredProposals, at: tuple[float, float], size: int) -> None:
    """The remarks as a small table with the chosen one on top, and the summary below it; in place.

    Args:
        image: (H, W, 3) uint8.
        at: x, y of the lower left corner, px.
        size: of the letters, px.
    """
    rows = remarks(proposals)
    words = [(row.name, f"{row.score:.2f}", row.lacks) for row in rows]
    pad = 0.6 * size
    name, score = (max(text_width(row[k], size, 600) for row in words) for k in (0, 1))
    lacks, last = max(text_width(row[2], size) for row in words), summary(proposals)
    x, y = at
    column = x + 2 * pad + 0.5 * size
    wide = max(column - x + name + score + lacks + 2 * size + pad, text_width(last, size) + 2 * pad)
    step = 1.4 * size
    y -= step * (len(rows) + 1) + pad
    pill(image, (x, y, x + wide, at[1]), PANEL, 4)
    y += 0.5 * pad + 0.7 * step + 0.36 * size
    for number, (row, (first, second, third)) in enumerate(zip(rows, words, strict=True)):
        weight = 600 if number == 0 else 400
        color = TEXT if number == 0 else MUTED if row.score > 0.0 else _red()
        middle = y - 0.32 * size
        dot = (x + pad, middle - 0.25 * size, x + pad + 0.5 * size, middle + 0.25 * size)
        pill(image, dot, score_color(row.score), 0.25 * size)
        draw_text(image, first, (column, y), color, size, weight=weight)
        draw_text(image, second, (column + name + size + score, y), color, size, weight=weight, align="right")
        draw_text(image, third, (column + name + 2 * size + score, y), color, size)
        y += step
    draw_text(image, last, (x + pad, y), MUTED, size)


def noses(proposals: ScoredProposals, vehicle: Vehicle) -> np.ndarray:
    """(P, N, 2) m: where the middle of the front bumper would be, at few moments, the first and the last included."""
    shown = proposals.moments(_POINTS)
    yaw = proposals.yaw[:, shown]
    ahead = vehicle.front * np.stack([np.cos(yaw), np.sin(yaw)], axis=-1)
    return np.stack([proposals.x[:, shown], proposals.y[:, shown]], axis=-1) + ahead


def _remark(proposals: ScoredProposals, index: int) -> Remark:
    score = float(proposals.score[index])
    lacks = next(iter(proposals.shortcomings(index)), "") if score < _AS_GOOD_AS_BEST else ""
    return Remark(proposals.names[index], score, lacks)


def _red() -> Color:
    """Of words about what is ruled out: readable, unlike the lines' red."""
    return mixed(RULED_OUT, TARGET, 0.6)
