"""What is painted on roads: lines, arrows, stripes; and what repairs, lids and puddles leave there."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from karp_perception.world.geometry.ground import Surface
from karp_perception.world.layouts.curves import Spot, distances, piece, spots
from karp_perception.world.layouts.plan import Layer, Plan, rectangle

LINE = 0.12  # m, width of a thin line
WIDE_LINE = 0.25  # m, width of edge lines of motorways and of lines beside bicycle lanes
STOP_LINE = 0.5  # m along the road

_ARROW_HEAD = np.array([[5.0, 0.0], [3.0, 0.42], [3.0, 0.08], [3.0, -0.08], [3.0, -0.42]])
_SHAFT = np.array([[0.0, 0.08], [3.0, 0.08], [3.0, -0.08], [0.0, -0.08]])
_BRANCH = np.array([[1.0, 0.08], [2.6, 0.55], [2.3, 0.8], [3.9, 1.05], [3.2, 0.2], [2.9, 0.42], [1.35, -0.02]])


def solid(plan: Plan, points: np.ndarray, left: float, width: float = LINE) -> None:
    """A line along a curve, `left` m to its left."""
    plan.strip(Layer.MARKING, Surface.MARKING, points, left - 0.5 * width, left + 0.5 * width)


def dashed(
    plan: Plan, points: np.ndarray, left: float, dash: float, gap: float, width: float = LINE, phase: float = 0.0
) -> None:
    """Dashes of `dash` m with `gap` m between them along a curve, `left` m to its left."""
    length = distances(points)[-1]
    at = np.arange(phase + 0.5 * gap, length - dash, dash + gap)
    for quad in quads(points, at, at + dash, left - 0.5 * width, left + 0.5 * width):
        plan.patch(Layer.MARKING, Surface.MARKING, quad)


def quads(points: np.ndarray, begin: np.ndarray, end: np.ndarray, right: float, left: float) -> np.ndarray:
    """(M, 4, 2) m: pieces of a curve's strip from `begin` to `end` (M,) between two offsets, with straight sides."""
    place, heading = spots(points, np.concatenate([begin, end]))
    normal = np.stack([-np.sin(heading), np.cos(heading)], axis=1)
    low, high = place + right * normal, place + left * normal
    m = len(begin)
    return np.stack([low[:m], low[m:], high[m:], high[:m]], axis=1)


def across(plan: Plan, at: Spot, right: float, left: float, depth: float = STOP_LINE) -> None:
    """A bar across the road: from `right` to `left` m beside the spot, `depth` m deep and ending at it."""
    plan.patch(
        Layer.MARKING, Surface.MARKING, rectangle(at.shifted(-0.5 * depth, 0.5 * (left + right)), depth, left - right)
    )


def teeth(plan: Plan, at: Spot, right: float, left: float) -> None:
    """A line of short bars across the road at which one gives way."""
    for middle in np.arange(right + 0.35, left - 0.2, 0.75):
        plan.patch(Layer.MARKING, Surface.MARKING, rectangle(at.shifted(-0.2, float(middle)), 0.4, 0.5))


def zebra(plan: Plan, start: np.ndarray, end: np.ndarray, width: float, stripes: bool = True) -> None:
    """A crossing from kerb to kerb: bars of 0.5 m along the road, or two thin lines where lights rule."""
    along = end - start
    length = float(np.hypot(*along))
    heading = float(np.arctan2(along[1], along[0]))
    first = Spot(float(start[0]), float(start[1]), heading)
    if stripes:
        count = int(length / 1.0)
        margin = 0.5 * (length - (count - 0.5))
        for k in range(count):
            plan.patch(Layer.MARKING, Surface.MARKING, rectangle(first.shifted(margin + 0.25 + k, 0.0), 0.5, width))
        return
    for side in (-0.5, 0.5):
        for k in np.arange(0.25, length - 0.4, 0.9):
            plan.patch(
                Layer.MARKING, Surface.MARKING, rectangle(first.shifted(float(k) + 0.25, side * width), 0.5, LINE)
            )


def arrow(plan: Plan, at: Spot, ways: Sequence[str]) -> None:
    """An arrow of 5 m that begins at the spot: any of "left", "straight", "right"."""
    c, s = np.cos(at.heading), np.sin(at.heading)
    shapes = [_SHAFT]
    if "straight" in ways:
        shapes.append(_ARROW_HEAD)
    if "left" in ways:
        shapes.append(_BRANCH)
    if "right" in ways:
        shapes.append((_BRANCH * (1.0, -1.0))[::-1])
    for shape in shapes:
        plan.patch(Layer.MARKING, Surface.MARKING, shape @ np.array([[c, s], [-s, c]]) + (at.x, at.y))


def wear(plan: Plan, rng: np.random.Generator, points: np.ndarray, half: float, amount: float = 1.0) -> None:
    """Repairs, trenches, manholes and puddles on a road of `half` m on either side of a curve."""
    length = distances(points)[-1]
    each = length / 100.0 * amount

    def some(per_100_m: float, left: float) -> tuple[np.ndarray, np.ndarray]:
        n = int(rng.poisson(per_100_m * each))
        place, heading = spots(points, rng.uniform(2.0, length - 2.0, n))
        beside = rng.uniform(-left, left, n)
        return place + np.stack([-np.sin(heading), np.cos(heading)], axis=1) * beside[:, None], heading

    for (x, y), heading in zip(*some(2.0, half - 1.2), strict=True):
        plan.patch(
            Layer.REPAIR, Surface.ASPHALT_OLD if rng.random() < 0.8 else Surface.ASPHALT,
            rectangle(Spot(x, y, heading), rng.uniform(1.0, 8.0), rng.uniform(0.6, 2.2)),
        )  # fmt: skip
    for (x, y), heading in zip(*some(0.5, 0.0), strict=True):  # trenches right across
        trench = rectangle(Spot(x, y, heading), rng.uniform(0.5, 1.2), 2.0 * half)
        plan.patch(Layer.REPAIR, Surface.ASPHALT_OLD, trench)
    for (x, y), _ in zip(*some(2.2, half - 0.8), strict=True):
        plan.patch(Layer.LID, Surface.MANHOLE, disc(x, y, 0.31))
    for side in (-1.0, 1.0):  # gullies along the kerb
        at = np.arange(rng.uniform(4.0, 20.0), length - 1.0, 28.0 / max(amount, 0.3))
        for quad in quads(points, at, at + 0.5, side * half - 0.22 * (side > 0), side * half + 0.22 * (side < 0)):
            plan.patch(Layer.LID, Surface.MANHOLE, quad)
    if rng.random() < 0.35:
        for (x, y), heading in zip(*some(2.5, half - 0.4), strict=True):
            plan.patch(Layer.REPAIR, Surface.PUDDLE, blot(rng, x, y, heading, rng.uniform(0.4, 2.2)))


def old_stretches(plan: Plan, rng: np.random.Generator, points: np.ndarray, half: float) -> None:
    """Long pieces of an older or newer surface over the whole or half the width."""
    length = distances(points)[-1]
    for _ in range(int(rng.poisson(length / 250.0))):
        begin = rng.uniform(0.0, 0.8 * length)
        right = -half if rng.random() < 0.7 else 0.0
        stretch = piece(points, begin, begin + rng.uniform(15.0, 90.0))
        plan.strip(Layer.ROAD, Surface.ASPHALT_OLD, stretch, right, half)


def disc(x: float, y: float, radius: float, count: int = 10) -> np.ndarray:
    """(count, 2) m, a round polygon."""
    angle = np.arange(count) * (2.0 * np.pi / count)
    return np.stack([x + radius * np.cos(angle), y + radius * np.sin(angle)], axis=1)


def blot(rng: np.random.Generator, x: float, y: float, heading: float, radius: float) -> np.ndarray:
    """(12, 2) m, an irregular round thing, longer along `heading`."""
    angle = np.arange(12) * (np.pi / 6.0)
    reach = radius * rng.uniform(0.6, 1.2, 12)
    points = np.stack([1.6 * reach * np.cos(angle), 0.7 * reach * np.sin(angle)], axis=1)
    c, s = np.cos(heading), np.sin(heading)
    return points @ np.array([[c, s], [-s, c]]) + (x, y)
