"""The lanes of a layout as arrays for compiled code, with the places where they cross and join."""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

import numpy as np

from karp_perception.core.compiled import njit
from karp_perception.world.layout import Crossing, Lane, Layout

_STEP = 1.0  # m, at most, between the points of a lane
_STRIDE = 8  # points between those tried first when the nearest is sought
_SMOOTHING = 5  # points over which a lane's curvature is averaged
_CLEARANCE = {(False, False): 2.5, (False, True): 1.9, (True, False): 1.9, (True, True): 1.1}  # m between middles
_SWING = 10.0  # m²: how much farther a bus reaches in a bend of 1 m radius
_MOST_SWING = 0.9  # m
_JOINED = 0.6  # m between ends that are the same place
_ALONGSIDE = math.radians(12.0)  # lanes that run together at less than this do not cross
_TOUCHING = 1.7  # m between the middles of lanes that run together and yet are in each other's way
_FORGIVEN = 25.0  # m of running that closely alongside that are taken for one narrow road


class Conflict(IntEnum):
    """How two lanes meet."""

    CROSS = 0
    MERGE = 1


class Roads(NamedTuple):
    """L lanes with P points in all. A lane is its row from here on; -1 stands for none."""

    first: np.ndarray  # (L + 1,) rows of a lane's points: first[i] to first[i + 1]
    step: np.ndarray  # (L,) m between them
    x: np.ndarray  # (P,) m
    y: np.ndarray
    tx: np.ndarray  # (P,) direction, of unit length
    ty: np.ndarray
    curvature: np.ndarray  # (P,) 1/m, positive to the left
    length: np.ndarray  # (L,) m
    width: np.ndarray  # (L,) m
    limit: np.ndarray  # (L,) m/s
    bend: np.ndarray  # (L,) 1/m, the sharpest curvature
    turn: np.ndarray  # (L,) rad from its first direction to its last
    left: np.ndarray  # (L,) lane beside it
    right: np.ndarray
    signal: np.ndarray  # (L,) row of the light at its end
    bike: np.ndarray  # (L,) 1 for bicycles only
    next_first: np.ndarray  # (L + 1,)
    next_lane: np.ndarray  # successors
    before: np.ndarray  # (L,) how many lanes lead into it
    conflict_first: np.ndarray  # (L + 1,); the places along a lane in order of where they begin
    conflict_lane: np.ndarray  # the other lane
    conflict_from: np.ndarray  # m along this lane
    conflict_to: np.ndarray
    other_from: np.ndarray  # m along the other
    other_to: np.ndarray
    conflict_kind: np.ndarray  # a Conflict
    conflict_rank: np.ndarray  # 1 where this lane goes first, -1 where it yields, 0 for neither
    crossing_first: np.ndarray  # (L + 1,)
    crossing: np.ndarray  # row of the crossing
    crossing_stop: np.ndarray  # m along the lane where one stops for it
    crossing_end: np.ndarray  # m along the lane where it ends


def roads_of(layout: Layout) -> tuple[Roads, dict[int, int]]:
    """The layout's lanes as arrays, and the row of each lane number."""
    lanes = list(layout.lanes.values())
    row = {lane.number: i for i, lane in enumerate(lanes)}
    signals = {number: i for i, number in enumerate(layout.signals)}
    crossings = {number: i for i, number in enumerate(layout.crossings)}
    points, tangents, curvature, step = zip(*(_sampled(lane) for lane in lanes), strict=True)
    first = np.concatenate([[0], np.cumsum([len(p) for p in points])]).astype(np.int64)
    xy, t = np.concatenate(points), np.concatenate(tangents)
    bike = np.array([lane.number in layout.bikeways for lane in lanes])
    before = np.zeros(len(lanes), np.int64)
    for lane in lanes:
        for number in lane.successors:
            before[row[number]] += 1
    next_first, next_lane = _ragged([[row[n] for n in lane.successors] for lane in lanes])
    bend = np.array([np.abs(c).max() for c in curvature])
    conflicts = _conflicts(lanes, points, tangents, step, bike, bend)
    conflict_first, _ = _ragged([[c[0] for c in found] for found in conflicts])
    flat = np.array([c for found in conflicts for c in found], float).reshape(-1, 7)
    along_crossings = [
        [(crossings[n], stop, _crossing_end(lane, stop, layout.crossings[n])) for n, stop in lane.crossings]
        for lane in lanes
    ]
    crossing_first, _ = _ragged([[c[0] for c in found] for found in along_crossings])
    flat_crossings = np.array([c for found in along_crossings for c in found], float).reshape(-1, 3)
    beside = [[-1 if n is None else row[n] for n in (lane.left, lane.right)] for lane in lanes]
    return Roads(
        first, np.array(step), *np.ascontiguousarray(xy.T), *np.ascontiguousarray(t.T), np.concatenate(curvature),
        np.array([lane.length for lane in lanes]), np.array([lane.width for lane in lanes], float),
        np.array([lane.speed_limit for lane in lanes], float),
        bend, np.array([_turn(p) for p in tangents]),
        np.array(beside, np.int64).reshape(-1, 2)[:, 0].copy(), np.array(beside, np.int64).reshape(-1, 2)[:, 1].copy(),
        np.array([-1 if lane.signal is None else signals[lane.signal] for lane in lanes], np.int64),
        bike.astype(np.int64), next_first, next_lane, before,
        conflict_first, flat[:, 0].astype(np.int64), *(flat[:, k].copy() for k in (1, 2, 3, 4)),
        flat[:, 5].astype(np.int64), flat[:, 6].astype(np.int64),
        crossing_first, flat_crossings[:, 0].astype(np.int64), flat_crossings[:, 1].copy(), flat_crossings[:, 2].copy(),
    ), row  # fmt: skip


def _sampled(lane: Lane) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Points (N, 2) evenly along a lane, their directions (N, 2), curvature (N,) and distance (m)."""
    count = max(2, math.ceil(lane.length / _STEP))
    s = np.linspace(0.0, lane.length, count + 1)
    along, keep = lane.along, np.concatenate([[True], np.diff(lane.along) > 1e-6])
    points = np.column_stack([np.interp(s, along[keep], lane.center[keep, axis]) for axis in (0, 1)])
    d = np.gradient(points, axis=0, edge_order=1)
    d /= np.linalg.norm(d, axis=1, keepdims=True)
    yaw = np.unwrap(np.arctan2(d[:, 1], d[:, 0]))
    bend = np.gradient(yaw, s)
    kernel = np.ones(min(_SMOOTHING, len(bend)))
    bend = np.convolve(bend, kernel, "same") / np.convolve(np.ones(len(bend)), kernel, "same")
    return points, d, bend, lane.length / count


def _turn(tangents: np.ndarray) -> float:
    yaw = np.unwrap(np.arctan2(tangents[:, 1], tangents[:, 0]))
    return float(yaw[-1] - yaw[0])


def _ragged(rows: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    first = np.concatenate([[0], np.cumsum([len(r) for r in rows])]).astype(np.int64)
    return first, np.array([n for r in rows for n in r], np.int64)


def _crossing_end(lane: Lane, stop: float, crossing: Crossing) -> float:
    """m along the lane where a crossing's far edge is: beyond the lane's end where it lies on the next one."""
    middle = 0.5 * (np.asarray(crossing.start, float) + np.asarray(crossing.end, float))
    along, points = lane.along, lane.center[:, :2]
    a, b = np.asarray(crossing.start, float), np.asarray(crossing.end, float)
    u = (b - a) / max(float(np.linalg.norm(b - a)), 1e-9)
    off = np.abs((points - a) @ np.array([-u[1], u[0]]))
    inside = ((points - a) @ u > -2.0) & ((points - b) @ u < 2.0) & (along >= stop - 1e-6)
    if inside.any() and off[inside].min() < 1.0:
        return float(along[inside][off[inside].argmin()]) + 0.5 * crossing.width
    reach = float(np.linalg.norm(middle - points[-1]))
    return max(stop, lane.length) + min(reach, 6.0) + 0.5 * crossing.width


def _conflicts(
    lanes: Sequence[Lane], points: Sequence[np.ndarray], tangents: Sequence[np.ndarray], step: Sequence[float],
    bike: np.ndarray,
    bend: np.ndarray,
) -> list[list[tuple[float, ...]]]:  # fmt: skip
    """By lane: (other, from, to, other from, other to, kind, rank), sorted by where they begin."""
    found: list[list[tuple[float, ...]]] = [[] for _ in lanes]
    low = np.array([p.min(axis=0) for p in points]) - 1.5
    high = np.array([p.max(axis=0) for p in points]) + 1.5
    near = (low[:, None] < high[None]).all(axis=2) & (high[:, None] > low[None]).all(axis=2)
    for i, j in zip(*np.nonzero(np.triu(near, 1)), strict=True):
        a, b = lanes[i], lanes[j]
        beside = {a.left, a.right} & {b.number} or {b.left, b.right} & {a.number}
        if b.number in a.successors or a.number in b.successors or beside:
            continue
        clearance = _CLEARANCE[bool(bike[i]), bool(bike[j])]
        if not (bike[i] or bike[j]):
            clearance += min(_SWING * max(bend[i], bend[j]), _MOST_SWING)
        place = _meeting(points[i], points[j], tangents[i], tangents[j], clearance)
        if place is None:
            continue
        kind, rows, columns = place
        rank = int(a.number in b.yields_to) - int(b.number in a.yields_to)
        on_a = (rows[0] * step[i], rows[1] * step[i])
        on_b = (columns[0] * step[j], columns[1] * step[j])
        found[i].append((j, *on_a, *on_b, kind, rank))
        found[j].append((i, *on_b, *on_a, kind, -rank))
    for conflicts in found:
        conflicts.sort(key=lambda c: c[1])
    return found


def _meeting(
    p: np.ndarray, q: np.ndarray, t: np.ndarray, u: np.ndarray, clearance: float
) -> tuple[Conflict, tuple[int, int], tuple[int, int]] | None:
    """Kind and the rows of either lane that lie in each other's way; None where they only part or run alongside."""
    distance = np.linalg.norm(p[:, None] - q[None], axis=2)
    if distance.min() >= clearance:
        return None
    if distance[-1, -1] < _JOINED:
        kind = Conflict.MERGE
    elif distance[0, 0] < _JOINED:
        return None  # they part here: whoever follows sees the one ahead
    else:
        kind = Conflict.CROSS
        angle = np.arccos(np.clip(t @ u.T, -1.0, 1.0))
        alongside = (angle < _ALONGSIDE) | (angle > math.pi - _ALONGSIDE)
        blocked = (distance < clearance) & (~alongside | (distance < _TOUCHING))
        if not blocked.any() or (alongside[blocked].all() and blocked.any(axis=1).sum() > _FORGIVEN):
            return None
        distance = np.where(blocked, distance, np.inf)
    close = distance < clearance
    rows, columns = np.flatnonzero(close.any(axis=1)), np.flatnonzero(close.any(axis=0))
    return kind, (int(rows[0]), int(rows[-1])), (int(columns[0]), int(columns[-1]))


@njit(cache=True, nogil=True)
def place_on(roads, lane, s, d):
    """x, y (m) and direction (unit x, y) of a place `s` m along a lane and `d` m to the left of its middle.

    Between two points the way is the cubic that has their directions; before the first and after the last it goes on
    straight.
    """
    a, b = roads.first[lane], roads.first[lane + 1] - 1
    h = roads.step[lane]
    u = s / h
    if u <= 0.0:
        tx, ty = roads.tx[a], roads.ty[a]
        return roads.x[a] + s * tx - d * ty, roads.y[a] + s * ty + d * tx, tx, ty
    k = a + int(u)
    if k >= b:
        tx, ty = roads.tx[b], roads.ty[b]
        rest = s - (b - a) * h
        return roads.x[b] + rest * tx - d * ty, roads.y[b] + rest * ty + d * tx, tx, ty
    u -= k - a
    x0, y0, x1, y1 = roads.x[k], roads.y[k], roads.x[k + 1], roads.y[k + 1]
    ax, ay, bx, by = h * roads.tx[k], h * roads.ty[k], h * roads.tx[k + 1], h * roads.ty[k + 1]
    u2 = u * u
    u3 = u2 * u
    p0, p1, m0, m1 = 2 * u3 - 3 * u2 + 1, 3 * u2 - 2 * u3, u3 - 2 * u2 + u, u3 - u2
    x, y = p0 * x0 + p1 * x1 + m0 * ax + m1 * bx, p0 * y0 + p1 * y1 + m0 * ay + m1 * by
    g0, n0, n1 = 6 * u2 - 6 * u, 3 * u2 - 4 * u + 1, 3 * u2 - 2 * u
    tx, ty = g0 * (x0 - x1) + n0 * ax + n1 * bx, g0 * (y0 - y1) + n0 * ay + n1 * by
    size = math.sqrt(tx * tx + ty * ty)
    tx, ty = tx / size, ty / size
    return x - d * ty, y + d * tx, tx, ty


@njit(cache=True, nogil=True)
def curvature_on(roads, lane, s):
    """1/m, `s` m along a lane."""
    a, b = roads.first[lane], roads.first[lane + 1] - 1
    u = min(max(s / roads.step[lane], 0.0), b - a - 1e-9)
    k = a + int(u)
    u -= k - a
    return roads.curvature[k] * (1.0 - u) + roads.curvature[k + 1] * u


@njit(cache=True, nogil=True)
def project_on(roads, lane, x, y):
    """m along a lane and m to the left of its middle of the place on it that is nearest to (x, y)."""
    a, b = roads.first[lane], roads.first[lane + 1] - 1
    nearest, best = a, math.inf
    for k in range(a, b + 1, _STRIDE):
        distance = (x - roads.x[k]) ** 2 + (y - roads.y[k]) ** 2
        if distance < best:
            nearest, best = k, distance
    for k in range(max(a, nearest - _STRIDE), min(b, nearest + _STRIDE) + 1):
        distance = (x - roads.x[k]) ** 2 + (y - roads.y[k]) ** 2
        if distance < best:
            nearest, best = k, distance
    s = (nearest - a) * roads.step[lane]
    for _ in range(3):
        px, py, tx, ty = place_on(roads, lane, s, 0.0)
        s += (x - px) * tx + (y - py) * ty
    px, py, tx, ty = place_on(roads, lane, s, 0.0)
    return s, (y - py) * tx - (x - px) * ty
