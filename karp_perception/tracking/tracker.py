"""The tracker: detections and obstacles of one moment after another become objects with identity and velocity."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np

from karp_perception.core import Boxes, EgoState, ObjectClass, Objects
from karp_perception.core.errors import InvalidInput
from karp_perception.core.geometry import invert_pose, pose_from_xy_yaw, wrap_angle, yaw_of
from karp_perception.core.validation import as_stamp
from karp_perception.prediction.constant_velocity import constant_velocity_paths
from karp_perception.tracking.bodies import Bodies, moving_bodies
from karp_perception.tracking.detection_join import detection_noise, join_detections, join_velocity
from karp_perception.tracking.existence import doubt
from karp_perception.tracking.motion import Motion
from karp_perception.tracking.obstacle_join import join_obstacles
from karp_perception.tracking.tracker_settings import TrackerSettings
from karp_perception.tracking.tracks import Tracks
from karp_perception.tracking.twins import twins
from karp_perception.tracking.visibility import Skyline

__all__ = ["Tracker", "TrackerSettings"]

_log = logging.getLogger(__name__)
_BORN_HEIGHT_VARIANCE = 0.04  # m²
_CARRIED_ON = 0.3  # s unseen, after which a track may be where nothing is
_SLACK = 0.5  # m, by which the place of anything may be off
_AT = np.array([0, 1, 4, 5])  # of x, y, vx, vy in Objects.covariance


class Tracker:
    """Keeps tracks in the `odom` frame and reports them in `base_link`.

    Time: a frame of the same stamp as the one before is joined without motion in between. A frame that is older by up
    to `longest_gap` is not used: the objects are reported for its moment, from what is known already. Any larger jump,
    forth or back, forgets all tracks (one line in the log). Ids are never used again, not after `reset` either.
    """

    def __init__(self, settings: TrackerSettings | None = None) -> None:
        self.settings = settings or TrackerSettings()
        self._priors = self.settings.motion.by_class()
        self._next_id = 1
        self.reset()

    def reset(self) -> None:
        """Forgets all tracks; ids go on counting."""
        self._tracks = Tracks.empty()
        self._ego: EgoState | None = None
        self._stamp_ns: int | None = None

    def step(self, stamp_ns: int, detections: Boxes, obstacles: Boxes, ego: EgoState) -> Objects:
        """Joins what was measured at one moment.

        Args:
            stamp_ns: of the measurements, ns.
            detections: whole boxes with classes, `base_link`.
            obstacles: visible parts without a class, `base_link`.
            ego: the vehicle's motion at `stamp_ns`.

        Returns:
            confirmed objects in `base_link`, by id; `obstacle_index` and `detection_index` refer to the rows that came
            in.

        Raises:
            InvalidInput: boxes in another frame, or an impossible stamp.
        """
        stamp_ns = as_stamp("Tracker.step stamp_ns", stamp_ns)
        for name, boxes in (("detections", detections), ("obstacles", obstacles)):
            if boxes.frame != "base_link":
                raise InvalidInput(f"Tracker.step {name}", "boxes in base_link", boxes.frame, "transform them first")
        dt = 0.0 if self._stamp_ns is None else (stamp_ns - self._stamp_ns) * 1e-9
        if abs(dt) > self.settings.longest_gap:
            _log.warning("time jumped by %.1f s: forgetting %d tracks", dt, len(self._tracks))
            self.reset()
            dt = 0.0
        if dt < 0:
            _log.info("a frame %.3f s older than the last one is not used", -dt)
            self._tracks.detection = np.full(len(self._tracks), -1)
            return self._report(ego, dt, np.full(len(self._tracks), -1))
        self._enter_frame(ego, dt)
        self._predict(dt)
        # Rows in an order of their own, so that the order they came in cannot matter.
        order, part_order = _own_order(detections), _own_order(obstacles)
        order = order[~self._answered_twice(detections[order])]
        whole = detections[order].transformed(ego.T_odom_base, "odom") if len(order) else Boxes.empty("odom")
        parts = obstacles[part_order].transformed(ego.T_odom_base, "odom") if len(part_order) else Boxes.empty("odom")
        sensor = ego.T_odom_base[:2, 3]
        detected = self._join_detections(whole, sensor, dt)
        detected = detected[self._merge()]
        seen, obstacle = self._join_obstacles(parts, detected, sensor)
        self._ego, self._stamp_ns = ego, stamp_ns
        self._tracks.settle(self.settings.settled_age, self.settings.settled_moving)
        hidden = np.zeros(len(seen), bool)
        if not seen.all():
            skyline = Skyline(Boxes.concatenate([whole, parts]), sensor)
            hidden[~seen] = skyline.hides(self._tracks.motion.mixed()[0][~seen, :2])
        stay = doubt(self._tracks, seen, hidden, dt, self.settings)
        if len(stay) < len(self._tracks):
            self._tracks = self._tracks.take(stay)
        self._tracks.detection = _before(order, self._tracks.detection)
        return self._report(ego, 0.0, _before(part_order, obstacle[stay]))

    def expected(self, stamp_ns: int) -> tuple[Boxes, np.ndarray, np.ndarray]:
        """Where all tracks, reported or not, are to be looked for at a later moment.

        Returns:
            Boxes in `odom`, (N,) m, the deviation of each place, and (N,) which were seen in one frame only.
        """
        tracks = self._tracks
        dt = 0.0 if self._stamp_ns is None else max((stamp_ns - self._stamp_ns) * 1e-9, 0.0)
        boxes = tracks.boxes()
        mean, covariance = tracks.motion.mixed()
        center = boxes.center + dt * np.column_stack([mean[:, 2:], np.zeros(len(mean))])
        place = covariance[:, :2, :2] + dt * (covariance[:, :2, 2:] + covariance[:, 2:, :2])
        place = place + dt**2 * covariance[:, 2:, 2:]
        deviation = np.sqrt(0.5 * np.maximum(np.trace(place, axis1=1, axis2=2), 0.0))
        return replace(boxes, center=center), deviation, tracks.age == 0

    def _enter_frame(self, ego: EgoState, dt: float) -> None:
        """Carries the tracks along when `odom` itself changed (another source, a jump): they stay by the vehicle."""
        last = self._ego
        if last is None or len(self._tracks) == 0:
            return
        x, y = ego.T_odom_base[:2, 3] - last.T_odom_base[:2, 3]
        moved = float(np.hypot(x, y))
        if ego.source == last.source and moved <= 1.0 + self.settings.highest_ego_speed * dt:
            return
        _log.warning("odometry changed (%s to %s, %.1f m): tracks carried over", last.source, ego.source, moved)
        ahead = pose_from_xy_yaw(*(last.velocity * dt), last.yaw_rate * dt)
        change = ego.T_odom_base @ invert_pose(last.T_odom_base @ ahead)
        rotation = pose_from_xy_yaw(0, 0, yaw_of(change))[:2, :2]
        before = rotation @ last.T_odom_base[:2, :2] @ last.velocity
        self._tracks.motion.moved_frame(rotation, change[:2, 3], ego.T_odom_base[:2, :2] @ ego.velocity - before)
        self._tracks.origin = self._tracks.origin @ rotation.T + change[:2, 3]
        self._tracks.yaw = wrap_angle(self._tracks.yaw + yaw_of(change))
        self._tracks.z = self._tracks.z + change[2, 3]

    def _predict(self, dt: float) -> None:
        tracks = self._tracks
        tracks.detection = np.full(len(tracks), -1)
        if dt <= 0 or len(tracks) == 0:
            return
        prior = self._priors[tracks.label]
        # Who accelerates goes on doing so for a while: over long gaps that counts for more than over one frame.
        prior[:, 1] *= 1 + self.settings.unseen_acceleration * tracks.unseen
        turned = tracks.motion.predict(dt, prior, self.settings.motion)
        tracks.yaw = wrap_angle(tracks.yaw + tracks.motion.moving * turned * tracks.whole)
        tracks.yaw_variance = np.minimum(tracks.yaw_variance + self.settings.turn_rate**2 * dt, 1.0)
        tracks.z_variance = tracks.z_variance + self.settings.climb**2 * dt
        tracks.age = tracks.age + dt
        tracks.unseen = tracks.unseen + dt

    def _reach(self, slack: float) -> np.ndarray:
        """(N,) how far from where it is expected each track is looked for, m; `slack` m beyond its deviation."""
        _, covariance = self._tracks.motion.mixed()
        return np.minimum(4 * np.sqrt(covariance[:, 0, 0] + covariance[:, 1, 1]) + slack, 20.0)

    def _join_detections(self, boxes: Boxes, sensor: np.ndarray, dt: float) -> np.ndarray:
        """Updates tracks with detections and starts new ones; returns (N,) which tracks were updated or born."""
        tracks = self._tracks
        if len(boxes) == 0:
            return np.zeros(len(tracks), bool)
        noise = detection_noise(boxes, dt, self.settings)
        reach = self._reach(_SLACK + 3 * self.settings.gate_deviation)
        rows, free = join_detections(tracks, boxes, noise, reach, sensor, self.settings)
        updated = np.zeros(len(tracks) + len(free), bool)
        updated[rows] = updated[len(tracks) :] = True
        if len(free):
            score = np.clip(boxes.score[free], 0.02, 0.9)
            prior = self._priors[boxes.label[free]]
            born = boxes[free]
            motion = Motion.born(born.center[:, :2], noise.position[free], prior[:, 0], prior[:, 2], turn=prior[:, 4])
            self._start(born, motion, noise.yaw[free], np.log(score / (1 - score)))
            self._tracks.detection[len(tracks) :] = free
            told_once = detection_noise(born, np.inf, self.settings).velocity
            join_velocity(self._tracks, np.arange(len(tracks), len(updated)), born.velocity, told_once, self.settings)
        return updated

    def _answered_twice(self, boxes: Boxes) -> np.ndarray:
        """(N,) which detections lie on a surer one of the same kind."""
        rank = np.empty(len(boxes))
        rank[np.argsort(-boxes.score, kind="stable")] = np.arange(len(boxes))
        return twins(boxes, rank, self.settings.same_overlap)

    def _merge(self) -> np.ndarray:
        """Ends tracks that came to lie on another of the same kind; returns rows of those that stay.

        The older one stays, unless it has only been carried on for a while: that may have led it there.
        """
        tracks = self._tracks
        rank = np.empty(len(tracks))
        rank[np.lexsort((tracks.track_id, tracks.unseen > _CARRIED_ON))] = np.arange(len(tracks))
        label = np.where(tracks.whole, tracks.label, ObjectClass.UNKNOWN)
        stay = np.flatnonzero(~twins(replace(tracks.boxes(), label=label), rank, self.settings.same_overlap))
        if len(stay) < len(tracks):
            self._tracks = tracks.take(stay)
        return stay

    def _join_obstacles(self, boxes: Boxes, detected: np.ndarray, sensor: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Updates tracks with visible parts and starts new ones.

        Returns (N,) which tracks were seen in this frame and (N,) the row of `boxes` each was seen as, or -1.
        """
        tracks, settings = self._tracks, self.settings
        if len(boxes) == 0 and tracks.whole.all():
            return detected, np.full(len(tracks), -1)
        skyline = Skyline(boxes, sensor)
        seen, index, free = join_obstacles(tracks, boxes, detected, self._reach(_SLACK), skyline, settings)
        if len(free):
            born = boxes[free]
            noise = np.tile(4 * settings.side_deviation**2 * np.eye(2), (len(free), 1, 1))
            motion = self._motion_of_parts(born, noise, sensor)
            self._start(born, motion, np.full(len(free), settings.obstacle_yaw_deviation**2), np.zeros(len(free)))
        return np.r_[seen, np.ones(len(free), bool)], np.r_[index, free]

    def _motion_of_parts(self, parts: Boxes, noise: np.ndarray, sensor: np.ndarray) -> Motion:
        """How new parts move before anything is known: as the body they belong to, or as what has no class."""
        prior, settings = self._priors[parts.label], self.settings.motion
        speed, moving, velocity = prior[:, 0].copy(), prior[:, 2].copy(), np.zeros((len(parts), 2))
        planar, bodies = self._moving_bodies(sensor)
        part_of = bodies.around(parts)
        part = np.flatnonzero(part_of >= 0)
        row = bodies.row[part_of[part]]
        variance = 0.5 * np.trace(planar[row, 2:, 2:], axis1=1, axis2=2)
        velocity[part] = bodies.box.velocity[part_of[part]]
        speed[part] = np.sqrt(settings.start_speed**2 + variance)
        moving[part] = settings.moving_part
        return Motion.born(parts.center[:, :2], noise, speed, moving, velocity)

    def _start(self, boxes: Boxes, motion: Motion, yaw_noise: np.ndarray, existence: np.ndarray) -> None:
        """New tracks of boxes nobody claimed."""
        ids = self._next_id + np.arange(len(boxes))
        self._next_id += len(boxes)
        height = np.full(len(boxes), _BORN_HEIGHT_VARIANCE)
        self._tracks = self._tracks.joined(Tracks.born(boxes, motion, ids, height, yaw_noise, existence))

    def _moving_bodies(self, sensor: np.ndarray) -> tuple[np.ndarray, Bodies]:
        """Planar covariance (N, 4, 4) of the tracks, and the bodies of those that move and are seen."""
        tracks, settings = self._tracks, self.settings
        _, planar = tracks.planar()
        bodies = moving_bodies(tracks.boxes(), planar, tracks.whole, sensor, settings.bodies)
        return planar, bodies.take((tracks.unseen == 0)[bodies.row] & tracks.confirmed[bodies.row])

    def _report(self, ego: EgoState, ahead: float, obstacle: np.ndarray) -> Objects:
        """Confirmed tracks as Objects in `base_link` of `ego`, `ahead` seconds from the tracks' own time."""
        tracks = self._tracks
        reported = tracks.confirmed & (tracks.probability >= self.settings.report)
        if not reported.all():
            rows = np.flatnonzero(reported)
            tracks, obstacle = tracks.take(rows), obstacle[rows]
        if len(tracks) == 0:
            return replace(Objects.empty(), prediction_step=self.settings.prediction.step)
        boxes = tracks.boxes()
        if ahead:
            moved = boxes.center + ahead * np.column_stack([boxes.velocity, np.zeros(len(boxes))])
            boxes = replace(boxes, center=moved)
        T = invert_pose(ego.T_odom_base)
        boxes = boxes.transformed(T, "base_link")
        _, planar = tracks.planar()
        covariance = np.zeros((len(tracks), 6, 6))
        turn = np.zeros((4, 4))
        turn[:2, :2] = turn[2:, 2:] = pose_from_xy_yaw(0, 0, yaw_of(T))[:2, :2]
        covariance[:, _AT[:, None], _AT] = turn @ planar @ turn.T
        covariance[:, 2, 2], covariance[:, 3, 3] = tracks.z_variance, tracks.yaw_variance
        paths, probability = self._paths(boxes)
        return Objects(
            boxes=boxes,
            track_id=tracks.track_id,
            covariance=covariance,
            age=tracks.age,
            unseen=tracks.unseen,
            predicted=paths,
            predicted_probability=probability,
            prediction_step=self.settings.prediction.step,
            obstacle_index=obstacle,
            detection_index=tracks.detection,
        )

    def _paths(self, boxes: Boxes) -> tuple[np.ndarray, np.ndarray]:
        """Paths (N, 1, T, 3) and their probabilities (N, 1) of the reported objects, in their own frame: straight on.

        Better ones are the business of `prediction.predictor`, which knows the route and the last seconds.
        """
        return constant_velocity_paths(boxes.center[:, :2], boxes.yaw, boxes.velocity, self.settings.prediction)


def _before(order: np.ndarray, row: np.ndarray) -> np.ndarray:
    """(N,) rows as they were before they were put in `order`; -1 stays."""
    return np.where(row >= 0, order[row], -1) if len(order) else np.full(len(row), -1)


def _own_order(boxes: Boxes) -> np.ndarray:
    """(N,) row order that depends on the boxes alone, not on the order they came in."""
    if len(boxes) < 2:
        return np.arange(len(boxes))
    velocity = np.nan_to_num(boxes.velocity, nan=np.inf)
    columns = (boxes.yaw, boxes.label, boxes.score, *velocity.T, *boxes.size.T, *boxes.center.T[::-1])
    return np.lexsort(columns)
