"""The tracker: detections and obstacles of one moment after another become objects with identity and velocity."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import numpy as np

from karp_perception.core import Boxes, EgoState, Objects
from karp_perception.core.errors import InvalidInput
from karp_perception.core.geometry import invert_pose, pose_from_xy_yaw, wrap_angle, yaw_of
from karp_perception.core.settings import Settings, nested, setting
from karp_perception.core.validation import as_stamp
from karp_perception.tracking import association
from karp_perception.tracking.association import Pairs
from karp_perception.tracking.bodies import Bodies, BodySettings, moving_bodies
from karp_perception.tracking.motion import Motion, MotionSettings
from karp_perception.tracking.prediction import PredictionSettings, constant_velocity_paths
from karp_perception.tracking.tracks import Tracks
from karp_perception.tracking.visibility import Skyline, near_pairs, own_ends

_log = logging.getLogger(__name__)
_UNKNOWN = -1


@dataclass(frozen=True)
class TrackerSettings(Settings):
    """How the tracker weighs what it is told."""

    motion: MotionSettings = nested(MotionSettings)
    prediction: PredictionSettings = nested(PredictionSettings)
    bodies: BodySettings = nested(BodySettings)
    face_deviation: float = setting(0.12, "of a visible face of an obstacle", unit="m", low=0.01, high=2.0)
    side_deviation: float = setting(0.2, "of an obstacle's end seen from beside", unit="m", low=0.01, high=2.0)
    cut_deviation: float = setting(
        0.4, "of an end that is no real one, as part of the extent and 1 m", low=0.0, high=2.0
    )
    detection_deviation: float = setting(0.3, "of a detection that gives no variance", unit="m", low=0.01, high=5.0)
    detection_speed_deviation: float = setting(1.0, "of its velocity", unit="m/s", low=0.05, high=20.0)
    speed_error_lasts: float = setting(
        1.0, "a detector that errs about a speed does so again, for so long", unit="s", low=0.0, high=60.0
    )
    obstacle_yaw_deviation: float = setting(0.2, "of an obstacle's yaw", unit="rad", low=0.01, high=1.5)
    detection_yaw_deviation: float = setting(0.1, "of a detection's yaw", unit="rad", low=0.01, high=1.5)
    turn_rate: float = setting(0.2, "how fast things turn", unit="rad/sqrt(s)", low=0.001, high=3.0)
    birth_density: float = setting(2e-4, "new things in a frame; a match must be likelier", unit="1/m2", low=1e-9)
    clutter_density: float = setting(0.1, "chance measurements near a track", unit="1/m2", low=1e-9)
    overlap_weight: float = setting(2.0, "cost of no common area, in log likelihood", low=0.0, high=20.0)
    size_weight: float = setting(0.5, "cost of an e-fold difference in area", low=0.0, high=20.0)
    class_weight: float = setting(3.0, "cost of another class", low=0.0, high=20.0)
    same_overlap: float = setting(0.5, "common area from which two boxes are one thing", low=0.05, high=1.0)
    birth_score: float = setting(0.3, "a detection below it only updates tracks", low=0.0, high=1.0)
    confirm: float = setting(0.7, "existence probability from which a track is reported", low=0.0, high=1.0)
    report: float = setting(0.3, "and below which it no longer is", low=0.0, high=1.0)
    forget: float = setting(0.15, "existence probability that ends a track", low=0.0, high=1.0)
    most_existence: float = setting(0.98, "existence probability is kept below", low=0.5, high=0.999999)
    missed: float = setting(12.0, "loss of log odds while in plain view but not measured", unit="1/s", low=0.0)
    hidden: float = setting(2.0, "the same while something stands in front", unit="1/s", low=0.0)
    longest_unseen: float = setting(3.0, "a track ends after (or after as long as it was seen)", unit="s", low=0.0)
    grow: float = setting(0.4, "how quickly a part's size follows a larger one", low=0.01, high=1.0)
    shrink: float = setting(0.1, "how quickly it follows a smaller one", low=0.01, high=1.0)
    settled_age: float = setting(1.0, "an older part that stands has to leave its place again", unit="s", low=0.0)
    settled_moving: float = setting(0.3, "it stands where it moves less probably", low=0.0, high=1.0)
    longest_gap: float = setting(2.0, "a longer jump in time forgets all tracks", unit="s", low=0.1, high=60.0)
    highest_ego_speed: float = setting(100.0, "a faster change of pose is a new odom frame", unit="m/s", low=1.0)


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
            confirmed objects in `base_link`, by id; `obstacle_index` refers to the rows of `obstacles`.

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
            return self._report(ego, dt, np.full(len(self._tracks), -1))
        self._enter_frame(ego, dt)
        self._predict(dt)
        # Rows in an order of their own, so that the order they came in cannot matter.
        detections = detections[_own_order(detections)]
        order = _own_order(obstacles)
        whole = detections.transformed(ego.T_odom_base, "odom")
        parts = obstacles[order].transformed(ego.T_odom_base, "odom")
        sensor = ego.T_odom_base[:2, 3]
        detected = self._join_detections(whole, sensor, dt)
        skyline = Skyline(parts, sensor)
        seen, obstacle = self._join_obstacles(parts, detected, skyline)
        self._ego, self._stamp_ns = ego, stamp_ns
        if len(whole):
            skyline = Skyline(Boxes.concatenate([whole, parts]), sensor)
        self._tracks.settle(self.settings.settled_age, self.settings.settled_moving)
        stay = self._end(seen, skyline, dt)
        index = np.where(obstacle >= 0, order[obstacle] if len(order) else -1, -1)
        return self._report(ego, 0.0, index[stay])

    def _enter_frame(self, ego: EgoState, dt: float) -> None:
        """Carries the tracks along when `odom` itself changed (another source, a jump): they stay by the vehicle."""
        last = self._ego
        if last is None or len(self._tracks) == 0:
            return
        moved = float(np.linalg.norm(ego.T_odom_base[:2, 3] - last.T_odom_base[:2, 3]))
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
        if dt <= 0 or len(tracks) == 0:
            return
        prior = self._priors[tracks.label]
        tracks.motion.predict(dt, prior[:, 1], prior[:, 3], self.settings.motion)
        tracks.yaw_variance = np.minimum(tracks.yaw_variance + self.settings.turn_rate**2 * dt, 1.0)
        tracks.z_variance = tracks.z_variance + 0.01 * dt
        tracks.age = tracks.age + dt
        tracks.unseen = tracks.unseen + dt

    def _reach(self) -> np.ndarray:
        """(N,) how far from where it is expected each track is looked for, m."""
        _, covariance = self._tracks.motion.mixed()
        return np.minimum(4 * np.sqrt(covariance[:, 0, 0] + covariance[:, 1, 1]) + 0.5, 20.0)

    def _match(self, pairs: Pairs, other_class: np.ndarray, area: np.ndarray) -> tuple[Pairs, np.ndarray]:
        """The pairs that are taken, and the log-likelihood of each."""
        settings, motion = self.settings, self._tracks.motion
        likelihood = motion.log_likelihood(pairs.track, pairs.position, pairs.noise)
        # An end that is none makes the noise wide, not the match less likely: as dense as for a well seen face.
        width = np.linalg.det(pairs.noise) / settings.face_deviation**4
        likelihood = likelihood + 0.5 * np.log(np.maximum(width, 1.0))
        cost = settings.overlap_weight * (1 - np.minimum(pairs.overlap, 1.0)) + settings.class_weight * other_class
        cost = cost + settings.size_weight * np.abs(np.log(pairs.extent.prod(axis=1) / area[pairs.track])) - likelihood
        taken = association.assign(pairs.track, pairs.box, cost, -np.log(settings.birth_density))
        return pairs.take(taken), likelihood[taken]

    def _join_detections(self, boxes: Boxes, sensor: np.ndarray, dt: float) -> np.ndarray:
        """Updates tracks with detections and starts new ones; returns (N,) which tracks were updated or born."""
        tracks, settings = self._tracks, self.settings
        if len(boxes) == 0:
            return np.zeros(len(tracks), bool)
        position_noise, yaw_noise = self._detection_noise(boxes)
        expected = tracks.boxes()
        i, j = near_pairs(expected, boxes, self._reach())
        whole = tracks.whole[i]
        by_center = association.whole_pairs(i[whole], j[whole], expected, boxes, position_noise)
        own = np.ones((len(boxes), 4), bool)
        deviation = (settings.detection_deviation, settings.detection_deviation, 0.0)
        by_face = association.visible_pairs(i[~whole], j[~whole], expected, boxes, own, sensor, deviation)
        pairs = Pairs(*(np.concatenate(columns) for columns in zip(*map(_columns, (by_center, by_face)), strict=True)))
        label = tracks.label
        other = (label[pairs.track] != boxes.label[pairs.box]) & (label[pairs.track] != _UNKNOWN)
        pairs, likelihood = self._match(pairs, other, tracks.size[:, 0] * tracks.size[:, 1])
        rows, box = pairs.track, pairs.box
        tracks.motion.update(rows, pairs.position, pairs.noise, settings.motion.evidence)
        fresh = ~tracks.whole[rows]  # so far only parts were known: the whole box replaces them, which is no motion
        tracks.motion.place(rows[fresh], boxes.center[box[fresh], :2], position_noise[box[fresh]])
        tracks.size[rows[fresh]], tracks.yaw[rows[fresh]] = boxes.size[box[fresh]], boxes.yaw[box[fresh]]
        tracks.whole[rows] = True
        self._join_velocity(rows, boxes, box, dt)
        self._join_heading(rows, boxes.yaw[box], yaw_noise[box])
        tracks.size[rows] += 0.3 * (boxes.size[box] - tracks.size[rows])
        self._join_height(rows, boxes.center[box, 2])
        tracks.evidence[rows] *= 0.9
        classed = boxes.label[box] >= 0
        tracks.evidence[rows[classed], boxes.label[box[classed]]] += boxes.score[box[classed]]
        score = np.clip(boxes.score[box], 0.05, 0.95)
        self._believe(rows, likelihood + np.log(score / (1 - score)))
        free = np.setdiff1d(np.flatnonzero(boxes.score >= settings.birth_score), box)
        # A weak match left over beside a track it lies on is the same thing seen twice.
        i, j = near_pairs(expected[rows], boxes[free], 0.0)
        twins = association.whole_pairs(i, j, expected[rows], boxes[free], position_noise[free])
        same = boxes.label[free[twins.box]] == label[rows[twins.track]]
        free = np.delete(free, np.unique(twins.box[(twins.overlap > settings.same_overlap) & same]))
        updated = np.zeros(len(tracks) + len(free), bool)
        updated[rows] = updated[len(tracks) :] = True
        born = np.clip(boxes.score[free], 0.1, 0.9)
        self._start(boxes[free], position_noise[free], yaw_noise[free], np.log(born / (1 - born)))
        return updated

    def _join_obstacles(self, boxes: Boxes, detected: np.ndarray, skyline: Skyline) -> tuple[np.ndarray, np.ndarray]:
        """Updates tracks with visible parts and starts new ones.

        Returns (N,) which tracks were seen in this frame and (N,) the row of `boxes` each was seen as, or -1.
        """
        tracks, settings = self._tracks, self.settings
        expected = tracks.boxes()
        i, j = near_pairs(expected, boxes, self._reach())
        deviation = (settings.face_deviation, settings.side_deviation, settings.cut_deviation)
        own = own_ends(boxes, skyline)
        pairs = association.visible_pairs(i, j, expected, boxes, own, skyline.sensor, deviation)
        seen, index = detected.copy(), np.full(len(tracks), -1)
        # What lies on a track that was detected is that thing, in one piece or several.
        same = pairs.take(np.flatnonzero(detected[pairs.track] & (pairs.overlap >= settings.same_overlap)))
        best = np.lexsort((same.box, -same.overlap, same.track))
        first = best[np.unique(same.track[best], return_index=True)[1]]
        index[same.track[first]] = same.box[first]
        used = np.zeros(len(boxes), bool)
        used[same.box] = True
        rest = pairs.take(np.flatnonzero(~detected[pairs.track] & ~used[pairs.box]))
        taken, likelihood = self._match(rest, np.zeros(len(rest)), tracks.size[:, 0] * tracks.size[:, 1])
        rows, box = taken.track, taken.box
        tracks.motion.update(rows, taken.position, taken.noise, settings.motion.evidence)
        self._join_extent(taken, boxes)
        self._believe(rows, likelihood)
        seen[rows], index[rows], used[box] = True, box, True
        # Further pieces of what was just seen start nothing.
        piece = seen[pairs.track] & (pairs.overlap >= settings.same_overlap)
        used[pairs.box[piece]] = True
        # And a track without a measurement of its own, on top of one that has it, was a piece of it.
        now, lost, there = tracks.boxes(), np.flatnonzero(~seen & ~tracks.whole), np.flatnonzero(seen)
        a, b = near_pairs(now[lost], now[there], 0.0)
        covered = association.whole_pairs(lost[a], there[b], now, now, np.zeros((len(now), 2, 2)))
        tracks.existence[covered.track[covered.overlap > settings.same_overlap]] = -np.inf
        free = np.flatnonzero(~used)
        position_noise = np.tile(4 * settings.side_deviation**2 * np.eye(2), (len(free), 1, 1))
        yaw_noise = np.full(len(free), settings.obstacle_yaw_deviation**2)
        self._start(boxes[free], position_noise, yaw_noise, np.zeros(len(free)), skyline.sensor)
        return np.r_[seen, np.ones(len(free), bool)], np.r_[index, free]

    def _join_extent(self, pairs: Pairs, boxes: Boxes) -> None:
        """Yaw, size and height of tracks from visible parts; a size that changes keeps the face where it was seen."""
        tracks, settings = self._tracks, self.settings
        rows, box = pairs.track, pairs.box
        slim = np.minimum(pairs.extent[:, 0], pairs.extent[:, 1]) / np.maximum(pairs.extent[:, 0], pairs.extent[:, 1])
        noise = (settings.obstacle_yaw_deviation + 0.5 * slim**2) ** 2  # a square has no yaw
        gain = tracks.yaw_variance[rows] / (tracks.yaw_variance[rows] + noise)
        tracks.yaw[rows] = wrap_angle(tracks.yaw[rows] + gain * pairs.turn)
        tracks.yaw_variance[rows] *= 1 - gain
        self._join_height(rows, boxes.center[box, 2])
        part = ~tracks.whole[rows]
        rows, box = rows[part], box[part]
        longer = pairs.extent[part] - tracks.size[rows, :2]
        follow = np.where(longer > 0, settings.grow, settings.shrink)
        tracks.size[rows, :2] += follow * longer
        tracks.size[rows, 2] += 0.3 * (boxes.size[box, 2] - tracks.size[rows, 2])
        c, s = np.cos(tracks.yaw[rows]), np.sin(tracks.yaw[rows])
        by = follow * pairs.residual[part]
        tracks.motion.shift(rows, np.column_stack([c * by[:, 0] - s * by[:, 1], s * by[:, 0] + c * by[:, 1]]))

    def _join_heading(self, rows: np.ndarray, yaw: np.ndarray, noise: np.ndarray) -> None:
        """Yaw from detections. One that points the other way counts as a vote, and turns the track once most do."""
        tracks = self._tracks
        difference = wrap_angle(yaw - tracks.yaw[rows])
        opposite = np.abs(difference) > np.pi / 2
        tracks.against[rows] += 0.3 * (opposite - tracks.against[rows])
        difference = np.where(opposite, wrap_angle(difference + np.pi), difference)
        gain = tracks.yaw_variance[rows] / (tracks.yaw_variance[rows] + noise)
        turned = tracks.against[rows] > 0.5
        tracks.yaw[rows] = wrap_angle(tracks.yaw[rows] + gain * difference + np.pi * turned)
        tracks.against[rows[turned]] = 0.0
        tracks.yaw_variance[rows] *= 1 - gain

    def _join_height(self, rows: np.ndarray, z: np.ndarray) -> None:
        tracks = self._tracks
        gain = tracks.z_variance[rows] / (tracks.z_variance[rows] + self.settings.side_deviation**2)
        tracks.z[rows] += gain * (z - tracks.z[rows])
        tracks.z_variance[rows] *= 1 - gain

    def _join_velocity(self, rows: np.ndarray, boxes: Boxes, box: np.ndarray, dt: float = np.inf) -> None:
        """Takes in the velocities that a detector tells, which it told of the same tracks `dt` s ago.

        Its variances say how wrong one answer is, and the next frame looks nearly the same: ten answers a second are
        not ten times the evidence. Taken as such, a guess of zero would outweigh what the positions show.
        """
        known = np.isfinite(boxes.velocity[box]).all(axis=1)
        rows, box = rows[known], box[known]
        variance = np.full((len(box), 2), self.settings.detection_speed_deviation**2)
        if boxes.variance is not None:
            repeats = max(1.0, self.settings.speed_error_lasts / max(dt, 1e-3))
            variance = np.maximum(boxes.variance[box, 7:9], 1e-4) * repeats
        noise, evidence = variance[:, :, None] * np.eye(2), self.settings.motion.evidence
        self._tracks.motion.update_velocity(rows, boxes.velocity[box], noise, evidence)

    def _detection_noise(self, boxes: Boxes) -> tuple[np.ndarray, np.ndarray]:
        """Covariance of the centres (N, 2, 2) and variance of the yaws (N,) of detections."""
        n, settings = len(boxes), self.settings
        if boxes.variance is None:
            noise = np.tile(settings.detection_deviation**2 * np.eye(2), (n, 1, 1))
            return noise, np.full(n, settings.detection_yaw_deviation**2)
        position = np.maximum(boxes.variance[:, :2], 1e-4)
        return position[:, :, None] * np.eye(2), np.maximum(boxes.variance[:, 6], 1e-4)

    def _start(
        self,
        boxes: Boxes,
        noise: np.ndarray,
        yaw_noise: np.ndarray,
        existence: np.ndarray,
        sensor: np.ndarray | None = None,
    ) -> None:
        """New tracks of boxes nobody claimed; parts, seen from `sensor`, have the motion of the body they belong to."""
        if len(boxes) == 0:
            return
        prior = self._priors[boxes.label]
        speed, moving, velocity = prior[:, 0], prior[:, 2], np.zeros((len(boxes), 2))
        if sensor is not None:
            speed, moving = speed.copy(), moving.copy()
            planar, bodies = self._moving_bodies(sensor)
            part_of = bodies.around(boxes)
            part = np.flatnonzero(part_of >= 0)
            row = bodies.row[part_of[part]]
            variance = 0.5 * np.trace(planar[row, 2:, 2:], axis1=1, axis2=2)
            velocity[part] = bodies.box.velocity[part_of[part]]
            speed[part] = np.sqrt(self.settings.motion.start_speed**2 + variance)
            moving[part] = self.settings.motion.moving_part
        motion = Motion.born(boxes.center[:, :2], noise, speed, moving, velocity)
        rows = np.arange(len(boxes))
        ids = self._next_id + rows
        self._next_id += len(boxes)
        born = Tracks.born(boxes, motion, ids, np.full(len(boxes), 0.04), yaw_noise, existence)
        self._tracks = self._tracks.joined(born)
        known = np.flatnonzero(np.isfinite(boxes.velocity).all(axis=1))
        self._join_velocity(len(self._tracks) - len(boxes) + known, boxes, known)

    def _moving_bodies(self, sensor: np.ndarray) -> tuple[np.ndarray, Bodies]:
        """Planar covariance (N, 4, 4) of the tracks, and the bodies of those that move and are seen."""
        tracks, settings = self._tracks, self.settings
        _, planar = tracks.planar()
        bodies = moving_bodies(tracks.boxes(), planar, tracks.whole, sensor, settings.bodies)
        return planar, bodies.take((tracks.unseen == 0)[bodies.row] & tracks.confirmed[bodies.row])

    def _believe(self, rows: np.ndarray, likelihood: np.ndarray) -> None:
        """Existence after a match: the surer, the better it fits where the track was expected (Blackman's score)."""
        gain = np.clip(likelihood - np.log(self.settings.clutter_density), -1.0, 2.0)
        most = np.log(self.settings.most_existence / (1 - self.settings.most_existence))
        self._tracks.existence[rows] = np.minimum(self._tracks.existence[rows] + gain, most)
        self._tracks.unseen[rows] = 0.0

    def _end(self, seen: np.ndarray, skyline: Skyline, dt: float) -> np.ndarray:
        """Takes from the existence of what was not seen and ends tracks; returns the rows that stay."""
        tracks, settings = self._tracks, self.settings
        hidden = skyline.hides(tracks.motion.mixed()[0][:, :2])
        tracks.existence = tracks.existence - ~seen * np.where(hidden, settings.hidden, settings.missed) * dt
        probability = tracks.probability
        tracks.confirmed |= probability >= settings.confirm
        longest = np.minimum(settings.longest_unseen, tracks.age - tracks.unseen + 0.2)
        stay = np.flatnonzero((probability >= settings.forget) & (tracks.unseen <= longest))
        self._tracks = tracks.take(stay)
        return stay

    def _report(self, ego: EgoState, ahead: float, index: np.ndarray) -> Objects:
        """Confirmed tracks as Objects in `base_link` of `ego`, `ahead` seconds from the tracks' own time."""
        rows = np.flatnonzero(self._tracks.confirmed & (self._tracks.probability >= self.settings.report))
        tracks, index = self._tracks.take(rows), index[rows]
        if len(tracks) == 0:
            return replace(Objects.empty(), prediction_step=self.settings.prediction.step)
        boxes = tracks.boxes()
        moved = boxes.center + ahead * np.column_stack([boxes.velocity, np.zeros(len(boxes))])
        T = invert_pose(ego.T_odom_base)
        boxes = replace(boxes, center=moved).transformed(T, "base_link")
        _, planar = tracks.planar()
        covariance = np.zeros((len(tracks), 6, 6))
        at = np.array([0, 1, 4, 5])
        turn = np.zeros((4, 4))
        turn[:2, :2] = turn[2:, 2:] = pose_from_xy_yaw(0, 0, yaw_of(T))[:2, :2]
        covariance[:, at[:, None], at] = turn @ planar @ turn.T
        covariance[:, 2, 2], covariance[:, 3, 3] = tracks.z_variance, tracks.yaw_variance
        prediction = self.settings.prediction
        paths, probability = constant_velocity_paths(boxes.center[:, :2], boxes.yaw, boxes.velocity, prediction)
        return Objects(
            boxes=boxes,
            track_id=tracks.track_id,
            covariance=covariance,
            age=tracks.age,
            unseen=tracks.unseen,
            predicted=paths,
            predicted_probability=probability,
            prediction_step=prediction.step,
            obstacle_index=index,
        )


def _columns(pairs: Pairs) -> list[np.ndarray]:
    return [getattr(pairs, name) for name in pairs.__dataclass_fields__]


def _own_order(boxes: Boxes) -> np.ndarray:
    """(N,) row order that depends on the boxes alone, not on the order they came in."""
    velocity = np.nan_to_num(boxes.velocity, nan=np.inf)
    columns = (boxes.yaw, boxes.label, boxes.score, *velocity.T, *boxes.size.T, *boxes.center.T[::-1])
    return np.lexsort(columns)
