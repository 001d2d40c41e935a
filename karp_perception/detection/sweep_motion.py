"""How fast things move, from what the lidar saw of them now and one sweep before.

A detector that looks at single sweeps can only guess speeds. Two sweeps show them: the points on a thing are laid onto
those that were on it before (point to plane, as Chen and Medioni, 1992, with Geman and McClure's weights), and how far
they had to be moved is how far it went. All things are fitted together, so that a frame costs a few searches for
neighbours and no loop over boxes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial import cKDTree

from karp_perception.core import Boxes, EgoState, LidarSweep, MotionSource
from karp_perception.core.classes import KIND, ObjectClass
from karp_perception.core.geometry import transform_points
from karp_perception.core.settings import Settings, setting
from karp_perception.detection.decoding import VEHICLE_CLASSES
from karp_perception.sensing.point_index import PointIndex, thinned

_MARGIN_M = 0.4  # beside a box: what a detector is wrong by
_GROUND_M = 0.25  # above a box's bottom: below it lies road
_GROWN_M, _RAISED_M = np.array([2 * _MARGIN_M, 2 * _MARGIN_M, -_GROUND_M]), np.array([0.0, 0.0, 0.5 * _GROUND_M])
_NEIGHBOURS = 6  # whose spread shows how a surface lies
_UPRIGHT_M = 0.1  # surfaces go on upwards for as much, where there is but one ring of points
_APART_M = 1000.0  # between things, in a direction of its own: none takes another's points for its own
_LOOKED_AT = 8  # times the points that are kept, around a box: an eighth of them or more is in it
_LEAST_OF_A_TURN = 0.5  # between two looks at a thing, for a speed to be told
_TILT = 0.25  # rad, by which a normal is wrong
_FIRST_GATE_M = 0.3  # to a neighbour, where a place to begin at is chosen
_GATES_M = (0.6, 0.3, 0.15, 0.1, 0.1)  # the same, round by round
_SHARED = 4.0  # points that say the same: neighbours on one surface are wrong together
_LEAST_DEVIATION_M = 0.015  # of a point from its surface
_KINDS = np.array([*KIND, KIND[ObjectClass.CAR]])  # by label, UNKNOWN last
_FASTEST = np.array([80.0] * VEHICLE_CLASSES + [6.0, 60.0, 20.0, 2.0, 2.0, 80.0])  # m/s, likewise


@dataclass(frozen=True)
class SweepMotionSettings(Settings):
    """When two sweeps tell a speed."""

    enabled: bool = setting(True, "measure how fast detections move by what two sweeps show of them")
    points: int = setting(48, "of a thing that are laid onto the sweep before", low=8, high=1000)
    kept_points: int = setting(128, "of a thing that are kept for the next sweep", low=8, high=10_000)
    fewest_points: int = setting(10, "that a thing has to show in both sweeps", low=4, high=1000)
    inliers: float = setting(0.6, "share of the points that have to fit", low=0.0, high=1.0)
    largest_deviation: float = setting(1.0, "of a speed, or it is not told", unit="m/s", low=0.05, high=20.0)
    guess_deviation: float = setting(
        3.0, "of a speed that a detector of single sweeps tells, at least", unit="m/s", low=0.0, high=100.0
    )
    place_deviation: float = setting(
        0.015, "of where the vehicle was, from one sweep to the next", unit="m", low=0.0, high=1.0
    )
    sideways: float = setting(0.3, "how fast what has wheels moves across its heading", unit="m/s", low=0.01, high=10.0)
    longest_gap: float = setting(0.35, "between two sweeps", unit="s", low=0.05, high=2.0)


@dataclass(frozen=True)
class _Seen:
    """Things of one sweep, in `odom`.

    Attributes:
        boxes: N of them.
        velocity: (N, 2) m/s that sweeps showed, 0 where they showed none; written when they do.
        time: (N,) s, when each was seen, relative to the sweep's stamp.
        points: (M, 3) m, on them. owner: (M,) row of the thing that each is on.
        count: (N,) points on each.
    """

    boxes: Boxes
    velocity: np.ndarray
    time: np.ndarray
    points: np.ndarray
    owner: np.ndarray
    count: np.ndarray

    @classmethod
    def of(cls, boxes: Boxes, sweep: LidarSweep, ego: EgoState, most: int) -> _Seen:
        """Boxes in `base_link`, and up to `most` points on each, evenly chosen, above the road."""
        n = len(boxes)
        if n == 0:
            nothing = np.zeros(0)
            return cls(Boxes.empty("odom"), np.zeros((0, 2)), nothing, np.zeros((0, 3)), np.zeros(0, np.int64), nothing)
        size = np.maximum(boxes.size + _GROWN_M, 0.1)
        body = replace(boxes, center=boxes.center + _RAISED_M, size=size)
        owner, row = PointIndex(sweep.points).inside(body, most=_LOOKED_AT * most)
        owner, row = thinned(owner, row, most, n)
        points, time = sweep.points[row, :3].astype(float), np.zeros(n)
        count = np.bincount(owner, minlength=n)
        if sweep.time is not None:
            own = sweep.time[row].astype(float)
            points = _undone(points, own, ego)
            time = np.bincount(owner, own, minlength=n) / np.maximum(count, 1)
        points = transform_points(ego.T_odom_base, points)
        return cls(boxes.transformed(ego.T_odom_base, "odom"), np.zeros((n, 2)), time, points, owner, count)

    def points_on(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(M, 3) points on the things `rows`, and which of these each is on."""
        number = np.full(len(self.boxes), -1)
        number[rows] = np.arange(len(rows))
        of = number[self.owner]
        return self.points[of >= 0], of[of >= 0]


class SweepMotion:
    """Follows detections from one sweep to the next, and no farther: tracks are the tracker's business.

    Not thread-safe: frames go through in order, one at a time.
    """

    def __init__(self, settings: SweepMotionSettings = SweepMotionSettings()) -> None:
        self.settings = settings
        self._last: _Seen | None = None
        self._source: MotionSource | None = None
        self._stamp_ns = 0

    def step(self, boxes: Boxes, sweep: LidarSweep | None, ego: EgoState) -> Boxes:
        """The detections with the speeds that the sweeps show.

        Args:
            boxes: detections in `base_link`.
            sweep: the sweep that they were found in; without one nothing is measured.
            ego: the vehicle's motion at that time.

        Returns:
            The same boxes. Where a velocity was measured it and its variances are that; elsewhere a velocity is the
            detector's guess, and its deviation at least `guess_deviation`. Variances stay None where there are none.
        """
        settings = self.settings
        if not settings.enabled:
            return boxes
        velocity = boxes.velocity.copy()
        variance = None if boxes.variance is None else boxes.variance.copy()
        if variance is not None:
            variance[:, 7:] = np.maximum(variance[:, 7:], settings.guess_deviation**2)
        if sweep is None or not len(sweep.points):
            self._last = None
            return replace(boxes, variance=variance)
        dt = (sweep.stamp_ns - self._stamp_ns) * 1e-9
        follows = ego.source is self._source and 0.0 < dt <= settings.longest_gap
        last, here = self._last if follows else None, _Seen.of(boxes, sweep, ego, settings.kept_points)
        self._last, self._source, self._stamp_ns = here, ego.source, sweep.stamp_ns
        if last is not None:
            rows, shown, covariance = _measured(last, here, dt, settings)
            here.velocity[rows] = shown
            turn = ego.T_odom_base[:2, :2].T
            velocity[rows] = shown @ turn.T
            if variance is not None:
                variance[rows, 7:] = np.einsum("ij,njk,ik->ni", turn, covariance, turn)
        return replace(boxes, velocity=velocity, variance=variance)


def _measured(
    last: _Seen, here: _Seen, dt: float, settings: SweepMotionSettings
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows of `here` whose speed is known, velocities (K, 2) in m/s along `odom`, covariances (K, 2, 2)."""
    rows, before = _same_things(last, here, dt)
    went = dt + here.time[rows] - last.time[before]
    enough = (here.count[rows] >= settings.fewest_points) & (last.count[before] >= settings.fewest_points)
    # Where a turn of the lidar ends and the next begins, it may see a thing twice within no time.
    enough &= went >= _LEAST_OF_A_TURN * dt
    rows, before, went = rows[enough], before[enough], went[enough]
    if not len(rows):
        return rows, np.zeros((0, 2)), np.zeros((0, 2, 2))
    label = here.boxes.label[rows]
    heading = np.where((label >= 0) & (label < VEHICLE_CLASSES), here.boxes.yaw[rows], np.nan)
    begin = np.stack(
        [last.velocity[before] * went[:, None], (here.boxes.center[rows] - last.boxes.center[before])[:, :2]]
    )
    moved, covariance, inliers = _laid_on(
        last.points_on(before), here.points_on(rows), begin, heading, settings.sideways * dt, settings.points
    )
    covariance = (covariance + settings.place_deviation**2 * np.eye(2)) / went[:, None, None] ** 2
    velocity = moved / went[:, None]
    known = (inliers >= settings.inliers) & (np.hypot(*velocity.T) <= _FASTEST[label])
    known &= np.linalg.eigvalsh(covariance)[:, 1] <= settings.largest_deviation**2
    return rows[known], velocity[known], covariance[known]


def _same_things(last: _Seen, here: _Seen, dt: float) -> tuple[np.ndarray, np.ndarray]:
    """Rows of `here` and of `last` that are each other's nearest of one kind, where the older one is expected."""
    if not len(last.boxes) or not len(here.boxes):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    expected = last.boxes.center[:, :2] + last.velocity * dt
    distance = np.hypot(*(here.boxes.center[:, None, :2] - expected).transpose(2, 0, 1))
    distance[_KINDS[here.boxes.label][:, None] != _KINDS[last.boxes.label]] = np.inf
    before, rows = distance.argmin(axis=1), np.arange(len(here.boxes))
    mutual = distance.argmin(axis=0)[before] == rows
    mutual &= distance[rows, before] <= 1.0 + _FASTEST[here.boxes.label] * dt
    return rows[mutual], before[mutual]


def _laid_on(
    before: tuple[np.ndarray, np.ndarray], now: tuple[np.ndarray, np.ndarray], begin: np.ndarray, heading: np.ndarray,
    sideways_m: float, most: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # fmt: skip
    """How far K things moved between two looks at each.

    Args:
        before, now: (M, 3) m points and (M,) things that they are on.
        begin: (S, K, 2) m, places to begin at: the one where most points lie on others is taken.
        heading: (K,) rad of what has wheels, NaN for others.
        sideways_m: how far what has wheels moves across its heading.
        most: points of a thing that are used.

    Returns:
        (K, 2) m, covariances (K, 2, 2) m², and the share of the points that fit (K,).
    """
    (target, of_target), (source, of) = before, now
    count = len(heading)
    of, chosen = thinned(of, np.arange(len(source)), most, count)
    source, total = source[chosen], np.maximum(np.bincount(of, minlength=count), 1)
    tree = cKDTree(_apart(target, of_target))
    near_enough = [
        np.bincount(of, np.isfinite(_nearest(tree, source, of, moved, _FIRST_GATE_M)[0]), minlength=count)
        for moved in begin
    ]
    moved = begin[np.argmax(near_enough, axis=0), np.arange(count)]
    normal = _normals(target, tree)
    across = np.stack([-np.sin(heading), np.cos(heading)], axis=1)
    stays = np.where(np.isnan(heading)[:, None, None], 0.0, across[:, :, None] * across[:, None]) / sideways_m**2
    stays += 1e-2 * np.eye(2)  # where nothing tells, it stood
    for gate in _GATES_M:
        distance, near, back = _nearest(tree, source, of, moved, gate)
        found = np.isfinite(distance)
        n = normal[near]
        residual = np.einsum("ni,ni->n", back - target[near], n)
        weight = found / (1.0 + (residual / (0.5 * gate)) ** 2) ** 2
        flat = n[:, :2]
        # One pass of sums: xx, xy, yy, x, y of the normal equations, then weights and squared residuals.
        terms = [flat[:, 0] ** 2, flat[:, 0] * flat[:, 1], flat[:, 1] ** 2, *(residual * flat.T), 1.0, residual**2]
        xx, xy, yy, x, y, w, squared = (np.bincount(of, weight * term, minlength=count) for term in terms)
        noise = _SHARED * np.maximum(squared / np.maximum(w, 1e-9), _LEAST_DEVIATION_M**2)
        known = np.stack([xx, xy, xy, yy], axis=1).reshape(-1, 2, 2) / noise[:, None, None] + stays
        pull = np.stack([x, y], axis=1) / noise[:, None] - np.einsum("nij,nj->ni", stays, moved)
        moved = moved + np.linalg.solve(known, pull[..., None])[..., 0]
    fits = np.bincount(of, found & (np.abs(residual) < gate), minlength=count) / total
    # Of that a surface tells something of the way along it, as much is owed to normals that are a little wrong.
    value, axes = np.linalg.eigh(known - stays)
    value = np.maximum(value - _TILT**2 * (w / noise)[:, None], 0.0)
    known = np.einsum("nij,nj,nkj->nik", axes, value, axes) + stays
    return moved, np.linalg.inv(known), fits


def _nearest(
    tree: cKDTree, source: np.ndarray, of: np.ndarray, moved: np.ndarray, gate: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For the points as they were before things `moved`: distances (inf beyond two gates), neighbours, the points."""
    back = source.copy()
    back[:, :2] -= moved[of]
    distance, near = tree.query(_apart(back, of), distance_upper_bound=2 * gate)
    return distance, np.where(np.isfinite(distance), near, 0), back


def _normals(points: np.ndarray, tree: cKDTree) -> np.ndarray:
    """(M, 3) unit normals of the surfaces that points lie on."""
    _, near = tree.query(tree.data, k=min(_NEIGHBOURS, len(points)))
    around = points[near]
    around = around - around.mean(axis=1, keepdims=True)
    spread = np.einsum("nki,nkj->nij", around, around) / around.shape[1]
    spread[:, 2, 2] += _UPRIGHT_M**2
    return np.linalg.eigh(spread)[1][:, :, 0]


def _undone(points: np.ndarray, time: np.ndarray, ego: EgoState) -> np.ndarray:
    """Points (M, 3) m of `base_link` at their own `time` (M,) s -> of `base_link` at the stamp."""
    turn = ego.yaw_rate * time
    c, s = np.cos(turn), np.sin(turn)
    x, y = points[:, 0], points[:, 1]
    vx, vy = ego.velocity
    return np.column_stack([c * x - s * y + vx * time, s * x + c * y + vy * time, points[:, 2]])


def _apart(points: np.ndarray, owner: np.ndarray) -> np.ndarray:
    """(M, 4): points of different things far from each other."""
    return np.column_stack([points, _APART_M * owner])
