"""Visible parts of things -> tracks: which part is which track, and what each tells of it."""

from __future__ import annotations

import numpy as np

from karp_perception.core import Boxes
from karp_perception.core.geometry import wrap_angle
from karp_perception.tracking import association
from karp_perception.tracking.association import Pairs
from karp_perception.tracking.existence import believe
from karp_perception.tracking.tracker_settings import TrackerSettings
from karp_perception.tracking.tracks import Tracks
from karp_perception.tracking.visibility import Skyline, near_pairs, own_ends


def join_obstacles(
    tracks: Tracks, boxes: Boxes, detected: np.ndarray, reach: np.ndarray, skyline: Skyline, settings: TrackerSettings
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Updates tracks with visible parts, all in `odom`.

    Args:
        tracks: N of them, changed in place.
        boxes: the parts.
        detected: (N,) which tracks a detection updated in this frame.
        reach: (N,) m, how far from where it is expected each track is looked for.
        skyline: of the parts, from where they were seen.

    Returns:
        (N,) which tracks were seen in this frame, (N,) the row of `boxes` each was seen as, or -1, and (K,) rows of
        `boxes` that are new things.
    """
    seen, index = detected.copy(), np.full(len(tracks), -1)
    used = np.zeros(len(boxes), bool)
    if len(boxes) and len(tracks):
        expected = tracks.boxes()
        i, j = near_pairs(expected, boxes, reach)
        deviation = (settings.face_deviation, settings.side_deviation, settings.cut_deviation)
        own = own_ends(boxes, skyline)
        pairs = association.visible_pairs(i, j, expected, boxes, own, skyline.sensor, deviation)
        # What lies on a track that was detected is that thing, in one piece or several.
        same = pairs.take(np.flatnonzero(detected[pairs.track] & (pairs.overlap >= settings.same_overlap)))
        best = np.lexsort((same.box, -same.overlap, same.track))
        first = best[np.unique(same.track[best], return_index=True)[1]]
        index[same.track[first]] = same.box[first]
        used[same.box] = True
        rest = pairs.take(np.flatnonzero(~detected[pairs.track] & ~used[pairs.box]))
        cost, likelihood = association.cost(tracks.motion, rest, np.zeros((1, 2, 2)), expected, settings)
        chosen = association.assign(rest.track, rest.box, cost, -np.log(settings.birth_density))
        taken = rest.take(chosen)
        rows, box = taken.track, taken.box
        tracks.motion.update(rows, taken.position, taken.noise, settings.motion.evidence)
        _join_extent(tracks, taken, boxes, settings)
        believe(tracks, rows, likelihood[chosen], settings)
        seen[rows], index[rows], used[box] = True, box, True
        # Further pieces of what was just seen start nothing.
        piece = seen[pairs.track] & (pairs.overlap >= settings.same_overlap)
        used[pairs.box[piece]] = True
    _drop_pieces(tracks, seen, settings)
    return seen, index, np.flatnonzero(~used)


def _drop_pieces(tracks: Tracks, seen: np.ndarray, settings: TrackerSettings) -> None:
    """A track without a measurement of its own, on top of one that has it, was a piece of it."""
    lost, there = np.flatnonzero(~seen & ~tracks.whole), np.flatnonzero(seen)
    if len(lost) == 0 or len(there) == 0:
        return
    now = tracks.boxes()
    a, b = near_pairs(now[lost], now[there], 0.0)
    covered = association.whole_pairs(lost[a], there[b], now, now, np.zeros((len(now), 2, 2)))
    tracks.existence[covered.track[covered.overlap > settings.same_overlap]] = -np.inf


def _join_extent(tracks: Tracks, pairs: Pairs, boxes: Boxes, settings: TrackerSettings) -> None:
    """Yaw, size and height of tracks from visible parts; a size that changes keeps the face where it was seen."""
    rows, box = pairs.track, pairs.box
    slim = np.minimum(pairs.extent[:, 0], pairs.extent[:, 1]) / np.maximum(pairs.extent[:, 0], pairs.extent[:, 1])
    noise = (settings.obstacle_yaw_deviation + 0.5 * slim**2) ** 2  # a square has no yaw
    gain = tracks.yaw_variance[rows] / (tracks.yaw_variance[rows] + noise)
    tracks.yaw[rows] = wrap_angle(tracks.yaw[rows] + gain * pairs.turn)
    tracks.yaw_variance[rows] *= 1 - gain
    tracks.join_height(rows, boxes.center[box, 2], np.full(len(rows), settings.side_deviation**2))
    part = ~tracks.whole[rows]
    rows, box = rows[part], box[part]
    longer = pairs.extent[part] - tracks.size[rows, :2]
    follow = np.where(longer > 0, settings.grow, settings.shrink)
    tracks.size[rows, :2] += follow * longer
    tracks.size[rows, 2] += 0.3 * (boxes.size[box, 2] - tracks.size[rows, 2])
    c, s = np.cos(tracks.yaw[rows]), np.sin(tracks.yaw[rows])
    by = follow * pairs.residual[part]
    tracks.motion.shift(rows, np.column_stack([c * by[:, 0] - s * by[:, 1], s * by[:, 0] + c * by[:, 1]]))
