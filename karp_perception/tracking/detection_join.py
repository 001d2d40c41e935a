"""Detections -> tracks: which detection is which track, and what each tells of it.

Two stages, as a weak detection is worth little on its own and a lot beside a known track (Zhang et al., "ByteTrack",
ECCV 2022): confident detections choose among all tracks first, weak ones among what is left of the known tracks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from karp_perception.core import Boxes, ObjectClass
from karp_perception.core.classes import KIND
from karp_perception.core.geometry import wrap_angle
from karp_perception.tracking import association
from karp_perception.tracking.association import Pairs
from karp_perception.tracking.existence import believe
from karp_perception.tracking.tracker_settings import TrackerSettings
from karp_perception.tracking.tracks import Tracks
from karp_perception.tracking.visibility import near_pairs

_SMALLEST_VARIANCE = 1e-4
_KIND = np.array([*KIND, -1])  # by label, UNKNOWN last


@dataclass(frozen=True)
class DetectionNoise:
    """How wrong N detections may be: `position` (N, 2, 2) m², `height` (N,) m², `yaw` (N,) rad² and `velocity` (N, 2)
    m²/s², infinite where it is not to be believed.
    """

    position: np.ndarray
    height: np.ndarray
    yaw: np.ndarray
    velocity: np.ndarray


def detection_noise(boxes: Boxes, dt: float, settings: TrackerSettings) -> DetectionNoise:
    """From the detector's own variances, or from the settings where it gives none.

    Velocities: those that are told unsurely are guesses and not believed. Where errors last, ten answers a second are
    not ten times the evidence: taken as such, a guess of zero would outweigh what positions show.
    """
    n, eye = len(boxes), np.eye(2)
    if boxes.variance is None:
        position = np.tile(settings.detection_deviation**2 * eye, (n, 1, 1))
        height, yaw = np.full(n, settings.side_deviation**2), np.full(n, settings.detection_yaw_deviation**2)
        speed = np.full((n, 2), settings.detection_speed_deviation**2)
    else:
        variance = np.maximum(boxes.variance, _SMALLEST_VARIANCE)
        position, height, yaw = variance[:, :2, None] * eye, variance[:, 2], variance[:, 6]
        speed = variance[:, 7:9]
    believed = speed.max(axis=1, initial=0.0) <= settings.believed_speed_deviation**2
    repeats = max(1.0, settings.speed_error_lasts / max(dt, 1e-3))
    return DetectionNoise(position, height, yaw, np.where(believed[:, None], speed * repeats, np.inf))


def join_detections(
    tracks: Tracks,
    boxes: Boxes,
    noise: DetectionNoise,
    reach: np.ndarray,
    sensor: np.ndarray,
    settings: TrackerSettings,
) -> tuple[np.ndarray, np.ndarray]:
    """Updates tracks with detections, all in `odom`.

    Args:
        tracks: N of them, changed in place. `tracks.detection` becomes the row of the detection that each took.
        boxes: detections. noise: theirs.
        reach: (N,) m, how far from where it is expected each track is looked for.
        sensor: (2,) where they were seen from.

    Returns:
        (M,) rows of tracks that were updated, and (K,) rows of detections that are new things.
    """
    nothing = np.zeros(0, np.int64)
    if len(boxes) == 0:
        return nothing, nothing
    if len(tracks) == 0:
        return nothing, np.flatnonzero(boxes.score >= settings.birth_score)
    expected = tracks.boxes()
    pairs, likelihood = _paired(tracks, expected, boxes, noise, reach, sensor, settings)
    rows, box = pairs.track, pairs.box
    label, speed = expected.label, np.hypot(*expected.velocity.T)
    tracks.motion.update(rows, pairs.position, pairs.noise, settings.motion.evidence)
    fresh = ~tracks.whole[rows]  # so far only parts were known: the whole box replaces them, which is no motion
    if fresh.any():
        tracks.motion.place(rows[fresh], boxes.center[box[fresh], :2], noise.position[box[fresh]])
        tracks.size[rows[fresh]], tracks.yaw[rows[fresh]] = boxes.size[box[fresh]], boxes.yaw[box[fresh]]
    tracks.whole[rows], tracks.detection[rows] = True, box
    join_velocity(tracks, rows, boxes.velocity[box], noise.velocity[box], settings)
    _join_heading(tracks, rows, boxes.yaw[box], noise.yaw[box])
    rolls = tracks.turns(label[rows]) & ~fresh
    # A person who walks is easily taken for a cyclist, and walks to the side as well.
    rolls &= (_KIND[label[rows]] != KIND[ObjectClass.PEDESTRIAN]) | (speed[rows] > settings.walking_speed)
    tracks.motion.update_heading(rows[rolls], boxes.yaw[box[rolls]], noise.yaw[box[rolls]], settings.motion.sideways)
    _join_size(tracks, rows, boxes.size[box])
    tracks.join_height(rows, boxes.center[box, 2], noise.height[box])
    tracks.evidence[rows] *= 0.9
    classed = boxes.label[box] >= 0
    tracks.evidence[rows[classed], boxes.label[box[classed]]] += boxes.score[box[classed]]
    score = np.clip(boxes.score[box], 0.05, 0.95)
    believe(tracks, rows, likelihood + np.log(score / (1 - score)), settings)
    return rows, _new(expected, label, rows, boxes, box, noise, settings)


def join_velocity(
    tracks: Tracks, rows: np.ndarray, velocity: np.ndarray, variance: np.ndarray, settings: TrackerSettings
) -> None:
    """Takes in the velocities (M, 2) that are told of the tracks `rows`, where there are any that are believed."""
    known = np.isfinite(velocity).all(axis=1) & np.isfinite(variance).all(axis=1)
    if known.any():
        noise = variance[known, :, None] * np.eye(2)
        tracks.motion.update_velocity(
            rows[known], velocity[known], noise, settings.motion.evidence, settings.speed_outlier
        )


def _paired(
    tracks: Tracks,
    expected: Boxes,
    boxes: Boxes,
    noise: DetectionNoise,
    reach: np.ndarray,
    sensor: np.ndarray,
    settings: TrackerSettings,
) -> tuple[Pairs, np.ndarray]:
    """The pairs that are taken, and the log-likelihood of each."""
    i, j = near_pairs(expected, boxes, reach)
    whole = tracks.whole[i]
    pairs = association.whole_pairs(i[whole], j[whole], expected, boxes, noise.position)
    if not whole.all():
        own = np.ones((len(boxes), 4), bool)
        deviation = (settings.detection_deviation, settings.detection_deviation, 0.0)
        by_face = association.visible_pairs(i[~whole], j[~whole], expected, boxes, own, sensor, deviation)
        pairs = pairs.joined(by_face)
    track, box = pairs.track, pairs.box
    slack = np.where(tracks.whole[track], settings.gate_deviation**2, 0.0)[:, None, None] * np.eye(2)
    label = expected.label[track]
    other = (label != boxes.label[box]) & (label != ObjectClass.UNKNOWN)
    kindred = _KIND[label] == _KIND[boxes.label[box]]
    cost, likelihood = association.cost(tracks.motion, pairs, slack, expected, settings)
    long = 1 - np.minimum(*expected.size[:, :2].T) / np.maximum(*expected.size[:, :2].T)
    across = tracks.whole[track] * long[track] * np.square(np.sin(boxes.yaw[box] - expected.yaw[track]))
    cost = cost + np.where(kindred, settings.kindred_weight, settings.class_weight) * other
    cost = cost + settings.yaw_weight * across
    weak = boxes.score[box] < settings.confident
    miss = -np.log(settings.birth_density)
    if not weak.any():
        taken = association.assign(track, box, cost, miss)
        return pairs.take(taken), likelihood[taken]
    first = np.flatnonzero(~weak)
    first = first[association.assign(track[first], box[first], cost[first], miss)]
    known = tracks.probability >= settings.weak_existence
    known[track[first]] = False
    rest = np.flatnonzero(weak & known[track])
    second = rest[association.assign(track[rest], box[rest], cost[rest] + settings.weak_cost, miss)]
    taken = np.r_[first, second]
    return pairs.take(taken), likelihood[taken]


def _new(
    expected: Boxes,
    label: np.ndarray,
    rows: np.ndarray,
    boxes: Boxes,
    box: np.ndarray,
    noise: DetectionNoise,
    settings: TrackerSettings,
) -> np.ndarray:
    """Rows of detections that nothing took and that start something."""
    free = boxes.score >= settings.birth_score
    free[box] = False
    free = np.flatnonzero(free)
    if len(free) == 0 or len(rows) == 0:
        return free
    # One left over beside a track it lies on is the same thing seen twice.
    i, j = near_pairs(expected[rows], boxes[free], 0.0)
    twins = association.whole_pairs(i, j, expected[rows], boxes[free], noise.position[free])
    same = boxes.label[free[twins.box]] == label[rows[twins.track]]
    return np.delete(free, np.unique(twins.box[(twins.overlap > settings.same_overlap) & same]))


def _join_heading(tracks: Tracks, rows: np.ndarray, yaw: np.ndarray, noise: np.ndarray) -> None:
    """Yaw from detections. One that points the other way counts as a vote, and turns the track once most do."""
    difference = wrap_angle(yaw - tracks.yaw[rows])
    opposite = np.abs(difference) > np.pi / 2
    tracks.against[rows] += 0.3 * (opposite - tracks.against[rows])
    difference = np.where(opposite, wrap_angle(difference + np.pi), difference)
    gain = tracks.yaw_variance[rows] / (tracks.yaw_variance[rows] + noise)
    turned = tracks.against[rows] > 0.5
    tracks.yaw[rows] = wrap_angle(tracks.yaw[rows] + gain * difference + np.pi * turned)
    tracks.against[rows[turned]] = 0.0
    tracks.yaw_variance[rows] *= 1 - gain


def _join_size(tracks: Tracks, rows: np.ndarray, size: np.ndarray) -> None:
    """Sizes do not change: a mean over what was measured, its first few values counting fully."""
    tracks.sightings[rows] += 1
    gain = 1 / np.minimum(tracks.sightings[rows], 10)
    tracks.size[rows] += gain[:, None] * (size - tracks.size[rows])
