"""What every layout has to be: joined lanes, a route along them, lights and crossings that exist."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from karp_perception.core.errors import ConfigurationError
from karp_perception.world.layout import Lane, Layout

_GAP = 0.1  # m between the end of a lane and the beginning of the next
_KINK = math.radians(5.0)  # between their directions
_STEP = 1.0 + 1e-6  # m between points of a lane
_OVERLAP = 0.05  # m by which neighbours may reach into each other


def check_layout(layout: Layout) -> None:
    """Raises ConfigurationError that names the first thing that is wrong with a layout."""
    for problem in problems(layout):
        raise ConfigurationError(f"layout {layout.family!r}, seed {layout.seed}: {problem}")


def problems(layout: Layout) -> Iterator[str]:
    """What is wrong with a layout, in words."""
    for number, lane in layout.lanes.items():
        yield from _lane(layout, number, lane)
    yield from _route(layout)
    for crossing in layout.crossings.values():
        if crossing.signal is not None and crossing.signal not in layout.signals:
            yield f"crossing {crossing.number}: no light {crossing.signal}"
        if not (np.isfinite([*crossing.start, *crossing.end]).all() and crossing.width > 0.5):
            yield f"crossing {crossing.number}: not a crossing"
    for signal in layout.signals.values():
        if any(s <= 0.0 for _, s in signal.phases):
            yield f"light {signal.number}: a phase without a length"
    for k, way in enumerate(layout.walkways):
        if way.ndim != 2 or way.shape[1] != 2 or len(way) < 2 or not np.isfinite(way).all():
            yield f"walkway {k}: expected (N, 2) finite, N >= 2"
    for k, patch in enumerate(layout.ground.patches):
        polygon = patch.polygon
        if polygon.ndim != 2 or polygon.shape[1] != 2 or len(polygon) < 3 or not np.isfinite(polygon).all():
            yield f"patch {k} ({patch.surface.name}): expected (N, 2) finite, N >= 3, got {polygon.shape}"
    for thing in layout.scenery:
        if thing.signal is not None and thing.signal not in layout.signals:
            yield f"{thing.family} at ({thing.x:.1f}, {thing.y:.1f}): no light {thing.signal}"
        if not np.isfinite([thing.x, thing.y, thing.yaw, *(thing.size or ())]).all():
            yield f"{thing.family}: its place is not finite"


def _lane(layout: Layout, number: int, lane: Lane) -> Iterator[str]:
    if number != lane.number or number < 1:
        yield f"lane {number}: its number is {lane.number}"
    center = lane.center
    if center.ndim != 2 or center.shape[1] != 3 or len(center) < 2 or not np.isfinite(center).all():
        yield f"lane {number}: expected (N, 3) finite points, N >= 2"
        return
    step = np.diff(lane.along)
    if step.max() > _STEP or step.min() < 1e-3:
        yield f"lane {number}: {step.min():.3f} to {step.max():.3f} m between points, expected up to 1 m"
    off = np.abs(layout.ground.height(center[:, 0], center[:, 1]) - center[:, 2]).max()
    if off > 0.02:
        yield f"lane {number}: {off:.2f} m off the ground"
    for name, numbers in (("successor", lane.successors), ("lane to yield to", lane.yields_to)):
        for other in numbers:
            if other not in layout.lanes:
                yield f"lane {number}: no {name} {other}"
    for other in lane.successors:
        if other in layout.lanes:
            yield from _joint(lane, layout.lanes[other])
    if lane.signal is not None and lane.signal not in layout.signals:
        yield f"lane {number}: no light {lane.signal}"
    for crossing, at in lane.crossings:
        if crossing not in layout.crossings:
            yield f"lane {number}: no crossing {crossing}"
        if not 0.0 <= at <= lane.length + 1e-6:
            yield f"lane {number}: stops for crossing {crossing} at {at:.1f} m of {lane.length:.1f} m"
    yield from _neighbours(layout, lane)


def _joint(lane: Lane, after: Lane) -> Iterator[str]:
    gap = float(np.hypot(*(after.center[0, :2] - lane.center[-1, :2])))
    if gap > _GAP:
        yield f"lane {lane.number}: its successor {after.number} begins {gap:.2f} m away"
    before, then = lane.center[-1] - lane.center[-2], after.center[1] - after.center[0]
    kink = math.atan2(before[0] * then[1] - before[1] * then[0], before[0] * then[0] + before[1] * then[1])
    if abs(kink) > _KINK:
        yield f"lane {lane.number}: its successor {after.number} turns off by {math.degrees(kink):.1f} degrees"


def _neighbours(layout: Layout, lane: Lane) -> Iterator[str]:
    for side, other, back in (("left", lane.left, "right"), ("right", lane.right, "left")):
        if other is None:
            continue
        if other not in layout.lanes:
            yield f"lane {lane.number}: no lane {other} on its {side}"
            continue
        beside = layout.lanes[other]
        mutual = getattr(beside, back)
        if mutual is not None and mutual != lane.number:
            yield f"lane {lane.number}: {other} on its {side} has {mutual} on its {back}"
        mine = lane.center[:: max(len(lane.center) // 8, 1), :2]
        gap = np.hypot(*(mine[:, None] - beside.center[None, :, :2]).transpose(2, 0, 1)).min(axis=1)
        wide = 0.5 * (lane.width + beside.width)
        if gap.min() < wide - _OVERLAP or gap.max() > wide + 1.5:
            yield f"lane {lane.number}: {gap.min():.2f} to {gap.max():.2f} m beside lane {other}, expected {wide:.2f} m"


def _route(layout: Layout) -> Iterator[str]:
    for number in layout.route:
        if number not in layout.lanes:
            yield f"route: no lane {number}"
            return
    if not layout.route:
        yield "no route"
        return
    for before, after in pairwise(layout.route):
        if after not in layout.lanes[before].successors:
            yield f"route: lane {after} does not follow lane {before}"
    if not 0.0 <= layout.start < layout.lanes[layout.route[0]].length:
        yield f"route: begins at {layout.start} m of a lane of {layout.lanes[layout.route[0]].length:.1f} m"
