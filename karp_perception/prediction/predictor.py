"""The predictor: what is known of lanes, and of the last seconds, makes the paths of tracked objects better."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from karp_perception.core import EgoState, Lane, Objects, Road, Route, Vehicle
from karp_perception.core.errors import ConfigurationError
from karp_perception.core.geometry import invert_pose, wrap_angle, yaw_of
from karp_perception.prediction.history import EGO_ID, History
from karp_perception.prediction.kinematic import kinematic_paths
from karp_perception.prediction.lanes import Lanes, ways_ahead
from karp_perception.prediction.network import PredictorNetwork
from karp_perception.prediction.settings import PredictionSettings
from karp_perception.prediction.state import MotionState, is_movable
from karp_perception.prediction.tokens import LanePieces


class Predictor:
    """Objects with the tracker's paths in, the same objects with better ones out.

    What moves and has a class gets the network's paths, the nearest things first; those that it leaves out get
    manoeuvres, along a known lane where they are on one. What stands, and what has no class, keeps what the tracker
    said. Not thread-safe: moments go through in order.

    Args:
        settings: how far, how finely, by what.
        vehicle: its own footprint, which others see.
    """

    def __init__(self, settings: PredictionSettings = PredictionSettings(), vehicle: Vehicle = Vehicle()) -> None:
        self.settings, self.vehicle = settings, vehicle
        self.network = open_network(settings.network)
        self._history = History()
        self._route: Route | None = None
        self._mapped: tuple[Lane, ...] = ()
        self._lanes: tuple[Lanes, LanePieces] | None = None

    def reset(self) -> None:
        """Forget what was: the objects' frame or ids are others now."""
        self._history.clear()

    def step(
        self, stamp_ns: int, objects: Objects, ego: EgoState, route: Route | None = None, road: Road | None = None
    ) -> Objects:
        """One moment.

        Args:
            stamp_ns: of the objects, ns; the history starts anew where it does not rise.
            objects: in `base_link`, with the tracker's paths.
            ego: where `base_link` is in `odom`, and how it moves.
            route: a lane that is known, in `odom`.
            road: all of them, where there is a map, in `odom`.
        """
        state, size = self._all(objects, ego)
        ids = np.r_[EGO_ID, objects.track_id]
        self._history.add(stamp_ns * 1e-9, ids, state)
        if len(objects) == 0:
            return objects
        past = self._history.past(ids)
        state = replace(state, turn_rate=past.turn_rate(state))
        lanes = self._known_lanes(route, road)
        moving = is_movable(state.label) & (state.speed > self.settings.slowest)
        moving[0] = False
        learnt = self._nearest(np.flatnonzero(moving), state) if self.network else np.zeros(0, int)
        rest = np.setdiff1d(np.flatnonzero(moving), learnt)
        if len(learnt) == 0 and len(rest) == 0:
            return objects
        found = []
        if len(rest):
            found.append((rest, *kinematic_paths(state.take(rest), self.settings, lanes and lanes[0])))
        if self.network and len(learnt):
            own, pieces = ids == EGO_ID, lanes and lanes[1]
            found.append((learnt, *self.network.paths(learnt, state, past, size, own, pieces, self.settings)))
        return _with_paths(objects, found, ego, self.settings)

    def _all(self, objects: Objects, ego: EgoState) -> tuple[MotionState, np.ndarray]:
        """The vehicle itself (row 0) and the objects, in `odom`, and their sizes."""
        turn, vehicle = ego.T_odom_base[:2, :2], self.vehicle
        yaw, boxes = yaw_of(ego.T_odom_base), objects.boxes
        middle = np.array([0.5 * (vehicle.front - vehicle.rear), 0.0])
        position = np.vstack([middle, boxes.center[:, :2]]) @ turn.T + ego.T_odom_base[:2, 3]
        velocity = np.vstack([ego.velocity, np.nan_to_num(boxes.velocity)]) @ turn.T
        state = MotionState.moving(position, np.r_[0.0, boxes.yaw] + yaw, velocity, np.r_[0, boxes.label])
        size = np.vstack([(vehicle.front + vehicle.rear, vehicle.width, vehicle.height), boxes.size])
        return state, size

    def _known_lanes(self, route: Route | None, road: Road | None) -> tuple[Lanes, LanePieces] | None:
        # A route is often told anew in every frame; lanes are cut from it only where it is another one.
        before, mapped = self._route, () if road is None else road.lanes
        if route is not before and before is not None and route is not None:
            same = np.array_equal(route.points, before.points)
        else:
            same = route is before
        if not same or mapped is not self._mapped:
            self._route, self._mapped = route, mapped
            lanes = Lanes.of([*([] if route is None else [route.points]), *ways_ahead(mapped)])
            self._lanes = None if len(lanes) == 0 else (lanes, LanePieces.of(lanes))
        return self._lanes

    def _nearest(self, rows: np.ndarray, state: MotionState) -> np.ndarray:
        away = np.hypot(*(state.position[rows] - state.position[0]).T)
        return np.sort(rows[np.argsort(away, kind="stable")[: self.settings.most]])


def open_network(name: str) -> PredictorNetwork | None:
    """The network of a shipped name or a file; None for `none`, and, with a line in the log, where a shipped name has
    no weights. Raises ConfigurationError for a file that cannot be used."""
    return PredictorNetwork.open(name, without="paths come from manoeuvres alone")


def _with_paths(
    objects: Objects,
    found: list[tuple[np.ndarray, np.ndarray, np.ndarray]],
    ego: EgoState,
    settings: PredictionSettings,
) -> Objects:
    """`objects` with paths (in `odom`) of some rows, counted with the vehicle as row 0."""
    n, most = len(objects), max(paths.shape[1] for _, paths, _ in found)
    count, step = settings.count, settings.step
    kept = objects.predicted
    fits = kept.shape[2] == count and abs(objects.prediction_step - step) < 1e-9
    if not fits:
        raise ConfigurationError(
            f"prediction: the tracker's paths have {kept.shape[2]} points every {objects.prediction_step} s, expected "
            f"{count} every {step} s; give both the same settings"
        )
    most = max(most, kept.shape[1])
    predicted, probability = np.empty((n, most, count, 3)), np.zeros((n, most))
    predicted[:, : kept.shape[1]] = kept
    # A path that nobody takes lies on the first one.
    predicted[:, kept.shape[1] :] = kept[:, :1]
    probability[:, : kept.shape[1]] = objects.predicted_probability
    T, turn = invert_pose(ego.T_odom_base), yaw_of(ego.T_odom_base)
    for rows, paths, p in found:
        here = paths[..., :2] @ T[:2, :2].T + T[:2, 3]
        k = paths.shape[1]
        predicted[rows - 1, :k, :, :2] = here
        predicted[rows - 1, :k, :, 2] = wrap_angle(paths[..., 2] - turn)
        predicted[rows - 1, k:] = predicted[rows - 1, :1]
        probability[rows - 1] = 0.0
        probability[rows - 1, :k] = p
    return replace(objects, predicted=predicted, predicted_probability=probability)
