"""What happened in a drive, tick by tick: where the vehicle was, what it decided, and where everything else was."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from karp_perception.core import Lane
from karp_perception.core.errors import InvalidInput
from karp_perception.core.validation import as_array
from karp_perception.evaluation.footprints import rectangles
from karp_perception.records import atomic_file

_EGO = ("time", "x", "y", "yaw", "speed", "steering")
_ACTOR = ("actor_x", "actor_y", "actor_yaw", "actor_length", "actor_width", "actor_vx", "actor_vy", "visibility")
_LIGHT = ("light_x", "light_y")
_SEEN = ("seen_x", "seen_y", "seen_yaw", "seen_length", "seen_width", "seen_vx", "seen_vy")
_INTEGER = (
    "actor_tick", "actor_id", "actor_label", "light_tick", "light_number", "seen_tick", "seen_id", "seen_label",
)  # fmt: skip
_TEXT = ("decision", "light_color")
_PER_TICK = ("limit", "off_road", "took", "target")
CORNERS = 4
"""Of a footprint."""
OFF_ROAD = 0.3
"""m from where one may drive, from which on one has left it (nuPlan's tolerance)."""
_BACK, _ON = 20.0, 60.0  # m from one point of a way to the next at which it is looked for


@dataclass(frozen=True)
class DriveRecord:
    """T ticks of a drive in the world's frame `odom`: columns of numbers, so that measures are a line of numpy.

    Attributes:
        time: (T,) s from the first tick, evenly spaced.
        x, y, yaw: (T,) m, rad, of the vehicle's `base_link`.
        speed: (T,) m/s, true. steering: (T,) rad, of the front wheels, as commanded.
        decision: (T,) str, the planner's kind of decision.
        reason: (T,) its sentences.
        front, rear, width: m, the vehicle's footprint around `base_link`. axle: m from the middle of the rear axle
            forward to `base_link`.
        route: (R, 2) m.
        lanes: of the place.
        limit: (T,) m/s, the speed limit; NaN, or nothing at all, where none is known.
        off_road: (T, 4) bool, corners of the footprint (see `ego_corners`) that are farther than `OFF_ROAD` from what
            one may drive on; nothing at all where only the lanes tell.
        took: (T,) s that the pipeline took for the frame of a tick; NaN where it says nothing.
        target: (T,) id of the object that the planner names, -1 for none.
        actor_tick, actor_id, actor_label: (M,) int, one row for each actor in each tick, ticks in order.
        actor_x, actor_y, actor_yaw, actor_length, actor_width, actor_vx, actor_vy: (M,) m, rad, m/s.
        visibility: (M,) share of it that is seen.
        names: actor_id of the scenario's own actors by name.
        places: m along the route of its crossings, stop lines and the like, by name.
        light_tick, light_number: (L,) int. light_x, light_y: (L,) m, where it stops traffic. light_color: (L,) str.
        seen_tick, seen_id, seen_label: (S,) int, one row for each object that perception told the planner of in each
            tick, ticks in order; none where perception is perfect.
        seen_x, seen_y, seen_yaw, seen_length, seen_width, seen_vx, seen_vy: (S,) m, rad, m/s.
    """

    time: np.ndarray
    x: np.ndarray
    y: np.ndarray
    yaw: np.ndarray
    speed: np.ndarray
    steering: np.ndarray
    decision: np.ndarray
    reason: tuple[str, ...]
    front: float
    rear: float
    width: float
    route: np.ndarray
    actor_tick: np.ndarray
    actor_id: np.ndarray
    actor_label: np.ndarray
    actor_x: np.ndarray
    actor_y: np.ndarray
    actor_yaw: np.ndarray
    actor_length: np.ndarray
    actor_width: np.ndarray
    actor_vx: np.ndarray
    actor_vy: np.ndarray
    visibility: np.ndarray
    axle: float = 0.0
    lanes: tuple[Lane, ...] = ()
    limit: np.ndarray = field(default_factory=lambda: np.zeros(0))
    off_road: np.ndarray = field(default_factory=lambda: np.zeros((0, CORNERS), bool))
    took: np.ndarray = field(default_factory=lambda: np.zeros(0))
    target: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    names: Mapping[str, int] = field(default_factory=dict)
    places: Mapping[str, float] = field(default_factory=dict)
    light_tick: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    light_number: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    light_x: np.ndarray = field(default_factory=lambda: np.zeros(0))
    light_y: np.ndarray = field(default_factory=lambda: np.zeros(0))
    light_color: np.ndarray = field(default_factory=lambda: np.zeros(0, "U8"))
    seen_tick: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    seen_id: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    seen_label: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    seen_x: np.ndarray = field(default_factory=lambda: np.zeros(0))
    seen_y: np.ndarray = field(default_factory=lambda: np.zeros(0))
    seen_yaw: np.ndarray = field(default_factory=lambda: np.zeros(0))
    seen_length: np.ndarray = field(default_factory=lambda: np.zeros(0))
    seen_width: np.ndarray = field(default_factory=lambda: np.zeros(0))
    seen_vx: np.ndarray = field(default_factory=lambda: np.zeros(0))
    seen_vy: np.ndarray = field(default_factory=lambda: np.zeros(0))

    def __post_init__(self) -> None:
        ticks = len(self.time)
        count = {"actor": len(self.actor_tick), "light": len(self.light_tick), "seen": len(self.seen_tick)}
        for name in (*_EGO, *_ACTOR, *_LIGHT, *_SEEN, *_INTEGER):
            rows = ticks if name in _EGO else count["actor" if name == "visibility" else name.split("_")[0]]
            dtype = np.int64 if name in _INTEGER else np.float64
            object.__setattr__(self, name, as_array(f"DriveRecord.{name}", getattr(self, name), (rows,), dtype))
        object.__setattr__(self, "route", as_array("DriveRecord.route", self.route, (None, 2)))
        # What is not known of any tick may be left out.
        unknown = {"limit": (np.nan, ()), "off_road": (True, (CORNERS,)), "took": (np.nan, ()), "target": (-1, ())}
        for name, (value, shape) in unknown.items():
            given = np.asarray(getattr(self, name))
            if len(given) not in (0, ticks) or given.shape[1:] != shape:
                raise InvalidInput(f"DriveRecord.{name}", f"shape {(ticks, *shape)}, or nothing", given.shape)
            object.__setattr__(self, name, given if len(given) else np.full((ticks, *shape), value))
        if len(self.time) < 2 or len(self.decision) != len(self.time) or len(self.reason) != len(self.time):
            raise InvalidInput("DriveRecord", "at least two ticks, each with a decision and its reason", len(self.time))

    def __len__(self) -> int:
        return len(self.time)

    @property
    def step(self) -> float:
        """Between two ticks, s."""
        return float(self.time[1] - self.time[0])

    @cached_property
    def ego_corners(self) -> np.ndarray:
        """(T, 4, 2) of the vehicle's footprint."""
        return rectangles(self.ego_center, self.yaw, np.asarray(self.front + self.rear), np.asarray(self.width))

    @property
    def ego_center(self) -> np.ndarray:
        """(T, 2) m, the middle of the vehicle's footprint."""
        return self._ahead(0.5 * (self.front - self.rear))

    @property
    def rear_axle(self) -> np.ndarray:
        """(T, 2) m."""
        return self._ahead(-self.axle)

    def _ahead(self, distance: float) -> np.ndarray:
        return np.stack([self.x + distance * np.cos(self.yaw), self.y + distance * np.sin(self.yaw)], axis=1)

    @cached_property
    def actor_corners(self) -> np.ndarray:
        """(M, 4, 2) of the actors' footprints."""
        center = np.stack([self.actor_x, self.actor_y], axis=1)
        return rectangles(center, self.actor_yaw, self.actor_length, self.actor_width)

    @cached_property
    def seen_corners(self) -> np.ndarray:
        """(S, 4, 2) of what perception took things for."""
        center = np.stack([self.seen_x, self.seen_y], axis=1)
        return rectangles(center, self.seen_yaw, self.seen_length, self.seen_width)

    @property
    def ego_velocity(self) -> np.ndarray:
        """(T, 2) m/s."""
        return self.speed[:, None] * np.stack([np.cos(self.yaw), np.sin(self.yaw)], axis=1)

    @property
    def actor_velocity(self) -> np.ndarray:
        """(M, 2) m/s."""
        return np.stack([self.actor_vx, self.actor_vy], axis=1)

    @cached_property
    def along_and_offset(self) -> tuple[np.ndarray, np.ndarray]:
        """(T,) m along the route, and (T,) m beside it, positive to the left, of `base_link`."""
        return project(self.route, np.stack([self.x, self.y], axis=1))

    def rows_of(self, name: str) -> np.ndarray:
        """Rows of one of the scenario's own actors, in order of time. Raises InvalidInput for a name that is none."""
        if name not in self.names:
            raise InvalidInput("actor", f"one of {', '.join(sorted(self.names)) or 'no names at all'}", name)
        return np.flatnonzero(self.actor_id == self.names[name])

    def save(self, path: Path) -> None:
        """Write it as .npz, which appears under its name when it is complete."""
        columns = {name: getattr(self, name) for name in _COLUMNS}
        told = {"front": self.front, "rear": self.rear, "width": self.width, "axle": self.axle}
        told |= {"lanes": [_told(lane) for lane in self.lanes]}
        told |= {"names": dict(self.names), "places": dict(self.places), "reason": list(self.reason)}
        with atomic_file(path, "wb") as file:
            np.savez_compressed(
                file,
                **columns,
                lane_points=np.concatenate([np.zeros((0, 2)), *(lane.center for lane in self.lanes)]),
                told=np.array(json.dumps(told)),
            )

    @classmethod
    def load(cls, path: Path) -> DriveRecord:
        """Read what `save` wrote."""
        with np.load(path, allow_pickle=False) as data:
            told = json.loads(str(data["told"]))
            ends = np.cumsum([lane.pop("points") for lane in told["lanes"]])
            centers = np.split(data["lane_points"], ends)[:-1] if len(ends) else []
            columns = {name: data[name] for name in _COLUMNS}
        reason = tuple(told.pop("reason"))
        lanes = tuple(Lane(center, **lane) for center, lane in zip(centers, told.pop("lanes"), strict=True))
        return cls(**columns, **told, reason=reason, lanes=lanes)


_COLUMNS = (*_EGO, *_ACTOR, *_LIGHT, *_SEEN, *_INTEGER, *_TEXT, *_PER_TICK, "route")


def _told(lane: Lane) -> dict[str, Any]:
    """A lane without its points, of which there are `points`."""
    about = {name: getattr(lane, name) for name in ("width", "speed_limit", "left", "right", "successors")}
    return {**about, "points": len(lane.center)}


def route_progress(route: np.ndarray, points: np.ndarray) -> np.ndarray:
    """(N,) m along a route (R, 2) of points (N, 2) m one after the other on a way.

    Each is looked for near where the last one was, so that a route may cross itself; beyond the ends it goes on.
    """
    along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(route, axis=0), axis=1))])
    reached, found = float(project(route, points[:1])[0][0]), np.empty(len(points))
    for k, point in enumerate(points):
        low = max(int(np.searchsorted(along, reached - _BACK)) - 1, 0)
        high = max(int(np.searchsorted(along, reached + _ON)) + 1, low + 2)
        reached = float(along[low] + project(route[low:high], point[None])[0][0])
        found[k] = reached
    return found


def project(line: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distance along a polyline (R, 2) and offset from it (positive to the left), m, of points (N, 2).

    Beyond its ends the first and last piece go on straight.
    """
    start, edge = line[:-1], np.diff(line, axis=0)
    length = np.linalg.norm(edge, axis=1)
    begin = np.concatenate([[0.0], np.cumsum(length)])
    unit = edge / length[:, None]
    along_all, offset_all = np.empty(len(points)), np.empty(len(points))
    for first in range(0, len(points), 512):  # bounds the memory of points x pieces
        offset = points[first : first + 512, None, :] - start
        along = np.einsum("nrj,rj->nr", offset, unit)
        across = unit[:, 0] * offset[..., 1] - unit[:, 1] * offset[..., 0]
        low, high = np.zeros(len(length)), length.copy()
        low[0], high[-1] = -np.inf, np.inf
        held = np.clip(along, low, high)
        nearest = np.hypot(along - held, across).argmin(axis=1)
        rows = np.arange(len(nearest))
        along_all[first : first + 512] = begin[nearest] + held[rows, nearest]
        away = np.hypot(along - held, across)[rows, nearest]
        offset_all[first : first + 512] = np.copysign(away, across[rows, nearest])
    return along_all, offset_all
