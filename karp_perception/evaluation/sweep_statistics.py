"""What a detector sees of the world, in numbers: statistics of lidar sweeps and their labels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from karp_perception.core import Boxes, ObjectClass
from karp_perception.core.classes import TWO_WHEELERS
from karp_perception.detection.ground import GroundEstimator, GroundSettings
from karp_perception.evaluation.camera_view import View

KINDS: Mapping[str, frozenset[int]] = {
    "car": frozenset({int(ObjectClass.CAR)}),
    "large vehicle": frozenset(
        int(c) for c in (ObjectClass.TRUCK, ObjectClass.BUS, ObjectClass.TRAILER, ObjectClass.CONSTRUCTION_VEHICLE)
    ),
    "pedestrian": frozenset({int(ObjectClass.PEDESTRIAN)}),
    "two-wheeler": frozenset(int(c) for c in TWO_WHEELERS),
}
"""Classes that are counted together."""

DISTANCES = (0.0, 10.0, 20.0, 30.0, 40.0, 60.0)  # m
RANGES = (0.0, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 60.0, 250.0)  # m
HEIGHTS = (-20.0, -0.2, 0.2, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0, 40.0)  # m above ground
GROWN = 0.15
"""m, by which labels are grown for the points on them: they are drawn tightly."""
QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)
_RING_GROUPS = 8
_ON_GROUND = 0.2  # m, below which a point belongs to the ground
_FEWEST = 3  # points of an object that is counted


@dataclass(frozen=True)
class Scan:
    """A sweep with its labels.

    Attributes:
        points: (N, 4) x y z (m, `base_link`) and intensity.
        boxes: labels.
        origin: (3,) m, of the lidar.
        elevations: (beams,) deg, of its rings, the lowest first.
        pulses: fired in the part of a turn that is looked at.
        nearest: m from the origin below which points are the vehicle's own or no returns.
        view: what is looked at, where labels (or points) cover what a camera sees and nothing else; None for all.
    """

    points: np.ndarray
    boxes: Boxes
    origin: np.ndarray
    elevations: np.ndarray
    pulses: int
    nearest: float = 1.8
    view: View | None = None


@dataclass(frozen=True)
class Quantity:
    """A number and how many objects or sweeps it rests on."""

    value: float
    count: int


def statistics(scans: Iterable[Scan]) -> dict[str, Quantity]:
    """Quantities by name; shares are of the returns of all sweeps together.

    - "returns: of pulses fired" and "returns: ring 1/8 (lowest)" ..., "returns: 5-10 m" ...: shares
    - "share: ground", "share: labelled", "share: clutter"
    - "height: 0.5-1 m" ...: share of the returns at that height above the ground found below them
    - "ground: range p95": m
    - "points: car 10-20 m": median of the points of objects that have any
    - "intensity: ground p50" ...: quantiles on ground, cars, the rest
    """
    estimator = GroundEstimator(GroundSettings())
    sums: dict[str, float] = {}
    shades: dict[str, list[np.ndarray]] = {"ground": [], "car": [], "rest": []}
    objects: dict[str, list[int]] = {}
    far: list[np.ndarray] = []
    sweeps, total, fired = 0, 0, 0.0

    def add(name: str, amount: float) -> None:
        sums[name] = sums.get(name, 0.0) + float(amount)

    for scan in scans:
        offset = scan.points[:, :3] - scan.origin
        distance = np.linalg.norm(offset, axis=1)
        keep = distance >= scan.nearest
        if scan.view is not None:
            keep &= scan.view.sees(scan.points[:, :3].astype(float))
        points, distance, offset = scan.points[keep], distance[keep], offset[keep]
        sweeps, total = sweeps + 1, total + len(points)
        fired += scan.pulses
        ring = _rings(offset, scan.elevations)
        groups = ring * _RING_GROUPS // len(scan.elevations)
        for k, amount in enumerate(np.bincount(groups, minlength=_RING_GROUPS)):
            add(f"returns: rings {k + 1}/{_RING_GROUPS}", amount)
        for name, amount in _binned(distance, RANGES):
            add(f"returns: {name}", amount)
        height = _above_ground(estimator, points)
        seen = np.isfinite(height)
        for name, amount in _binned(height[seen], HEIGHTS):
            add(f"height: {name}", amount)
        boxes = scan.boxes if scan.view is None else scan.boxes[whole(scan.boxes, scan.view)]
        inside = boxes.contains(points[:, :3].astype(float), GROWN) if len(boxes) else np.zeros((0, len(points)), bool)
        on_ground = seen & (np.abs(height) < _ON_GROUND)
        # The ground below a label is no part of the object.
        inside &= ~on_ground | (points[:, 2] > boxes.center[:, 2:3] - 0.5 * boxes.size[:, 2:3] + _ON_GROUND)
        labelled = inside.any(axis=0)
        add("share: ground", (on_ground & ~labelled).sum())
        add("share: labelled", labelled.sum())
        add("share: clutter", (~on_ground & ~labelled).sum())
        far.append(distance[on_ground])
        of_car = inside[np.isin(boxes.label, list(KINDS["car"]))].any(axis=0)
        shades["ground"].append(points[on_ground & ~labelled, 3])
        shades["car"].append(points[of_car, 3])
        shades["rest"].append(points[~on_ground & ~labelled, 3])
        away = np.linalg.norm(boxes.center[:, :2] - scan.origin[:2], axis=1)
        for i, count in enumerate(inside.sum(axis=1)):
            kind = next((k for k, labels in KINDS.items() if int(boxes.label[i]) in labels), None)
            where = distance_name(float(away[i]))
            if kind is not None and count >= _FEWEST and where is not None:
                objects.setdefault(f"{kind} {where}", []).append(int(count))
    result = {"returns: of pulses fired": Quantity(total / max(fired, 1.0), sweeps)}
    result |= {name: Quantity(amount / max(total, 1), sweeps) for name, amount in sums.items()}
    if far and sum(map(len, far)):
        result["ground: range p95"] = Quantity(float(np.quantile(np.concatenate(far), 0.95)), sweeps)
    for name in (f"{kind} {_span(DISTANCES, k)}" for kind in KINDS for k in range(len(DISTANCES) - 1)):
        if name in objects:
            result[f"points: {name}"] = Quantity(float(np.median(objects[name])), len(objects[name]))
    for name, parts in shades.items():
        values = np.concatenate(parts) if parts else np.zeros(0)
        for q in QUANTILES if len(values) else ():
            result[f"intensity: {name} p{round(100 * q)}"] = Quantity(float(np.quantile(values, q)), sweeps)
    return result


def whole(boxes: Boxes, view: View) -> np.ndarray:
    """(N,) whether all corners of a box are seen."""
    corners = boxes.corners()
    return view.sees(corners.reshape(-1, 3)).reshape(corners.shape[:2]).all(axis=1)


def distance_name(distance: float) -> str | None:
    """The span of DISTANCES that a distance (m) lies in, None beyond the last."""
    k = int(np.searchsorted(DISTANCES, distance, side="right")) - 1
    return _span(DISTANCES, k) if k < len(DISTANCES) - 1 else None


def _rings(offset: np.ndarray, elevations: np.ndarray) -> np.ndarray:
    """(N,) ring whose elevation is the nearest."""
    elevation = np.degrees(np.arctan2(offset[:, 2], np.hypot(offset[:, 0], offset[:, 1])))
    elevations = np.asarray(elevations, float)
    return np.searchsorted(0.5 * (elevations[1:] + elevations[:-1]), elevation)


def _above_ground(estimator: GroundEstimator, points: np.ndarray) -> np.ndarray:
    """(N,) m above the ground that the detector's estimate finds below each point; NaN beyond its reach."""
    x, y, z = (np.ascontiguousarray(points[:, k]) for k in range(3))
    near = np.hypot(x, y) < estimator.settings.max_range - 1.0
    height = np.full(len(points), np.nan, np.float32)
    x, y, z = x[near], y[near], z[near]
    where = estimator.grid.locate(x, y)
    height[near] = z - estimator.estimate(z, *where).height_at(x, y, where)
    return height


def _span(edges: tuple[float, ...], k: int) -> str:
    return f"{edges[k]:g}-{edges[k + 1]:g} m"


def _binned(values: np.ndarray, edges: tuple[float, ...]) -> Iterable[tuple[str, int]]:
    counts, _ = np.histogram(values, edges)
    return ((_span(edges, k), int(count)) for k, count in enumerate(counts))
