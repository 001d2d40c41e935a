"""Which measurement belongs to which track.

Pairs are judged by where the measured box says the track is. A detection measures a whole object, so its centre
counts. An obstacle is the visible part of something: its centre jumps when more or less of it is seen, so what counts
is each face that looks at the sensor, or both ends of a side seen from beside.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from karp_perception.core import Boxes, ObjectClass
from karp_perception.core.classes import KIND

if TYPE_CHECKING:
    from karp_perception.tracking.motion import Motion
    from karp_perception.tracking.tracker_settings import TrackerSettings

_KIND = np.array([*KIND, -1])  # by label, UNKNOWN last
_PERSON = 1.2
"""Nobody is wider, m."""
_FEW = 150
"""Up to so many pairs one matrix is faster than groups."""
_GAP = 1.0
"""How much longer than what is seen a thing with hidden ends may well be, m."""


@dataclass(frozen=True)
class Pairs:
    """P candidate pairs of a track and a measured box, and what the box says of the track.

    Attributes:
        track, box: (P,) rows.
        position: (P, 2) where the box says the track's centre is, m.
        noise: (P, 2, 2) covariance of that, m².
        residual: (P, 2) part of the difference of centres that is due to different extents, along the track's axes, m.
        extent: (P, 2) length and width of the box along the track's axes, m.
        turn: (P,) yaw of the box relative to the track, up to quarter turns, rad in [-pi/4, pi/4).
        overlap: (P,) common area as part of the smaller footprint.
    """

    track: np.ndarray
    box: np.ndarray
    position: np.ndarray
    noise: np.ndarray
    residual: np.ndarray
    extent: np.ndarray
    turn: np.ndarray
    overlap: np.ndarray

    def __len__(self) -> int:
        return len(self.track)

    def take(self, rows: np.ndarray) -> Pairs:
        """Those pairs alone."""
        return Pairs(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))

    def joined(self, other: Pairs) -> Pairs:
        """These pairs and then those of `other`."""
        names = self.__dataclass_fields__
        return Pairs(*(np.concatenate([getattr(self, name), getattr(other, name)]) for name in names))


def visible_pairs(
    track: np.ndarray,
    box: np.ndarray,
    tracks: Boxes,
    boxes: Boxes,
    own: np.ndarray,
    sensor: np.ndarray,
    deviation: tuple[float, float, float],
) -> Pairs:
    """Compares tracks with visible parts.

    Args:
        track, box: (P,) rows of the candidate pairs.
        tracks: where the tracks are expected.
        boxes: measured obstacles in the same frame.
        own: (len(boxes), 4) which faces are real ends, from `visibility.own_ends`.
        sensor: (2,) where it was seen from.
        deviation: of a face that looks at the sensor (m), of an end seen from beside (m), and of an end that is none,
            as part of the box's extent and a metre: what is seen through a gap moves along with the gap.
    """
    quarter = np.round((boxes.yaw[box] - tracks.yaw[track]) / (np.pi / 2)).astype(np.int64)
    turn = boxes.yaw[box] - tracks.yaw[track] - quarter * (np.pi / 2)
    extent = boxes.size[box, :2]
    extent = np.where((quarter % 2 == 1)[:, None], extent[:, ::-1], extent)
    u = np.stack([np.cos(tracks.yaw[track]), np.sin(tracks.yaw[track])], axis=-1)
    axes = np.stack([u, np.stack([-u[:, 1], u[:, 0]], axis=-1)], axis=1)  # (P, axis, xy)
    apart = np.einsum("pax,px->pa", axes, boxes.center[box, :2] - tracks.center[track, :2])
    expected = tracks.size[track, :2]
    longer = 0.5 * (extent - expected)
    high, low = apart + longer, apart - longer  # how far the front/left and the rear/right face moved
    viewpoint = np.einsum("pax,px->pa", axes, sensor - tracks.center[track, :2])
    half = 0.5 * np.maximum(extent, expected)
    faces = own[box]
    rows = np.arange(len(box))[:, None]
    own_high = faces[rows, (np.array([0, 1]) - quarter[:, None]) % 4]
    own_low = faces[rows, (np.array([2, 3]) - quarter[:, None]) % 4]
    sees_high, sees_low = viewpoint > half, viewpoint < -half
    beside = ~(sees_high | sees_low)
    # Seen from beside, the least motion that explains both ends: none where one end only came into view.
    least = np.maximum(np.minimum(high, low), np.minimum(np.maximum(high, low), 0.0))
    moved = np.where(sees_high | (beside & own_high & ~own_low), high, low)
    moved = np.where(beside & (own_high == own_low), least, moved)
    # Of a person all that faces the sensor is seen at once, if it is no more than a person: its middle counts.
    person = (_KIND[tracks.label[track]] == KIND[ObjectClass.PEDESTRIAN])[:, None] & (extent < _PERSON)
    moved = np.where(person & beside & own_high & own_low, apart, moved)
    known = np.where(sees_high, own_high, np.where(sees_low, own_low, own_high | own_low))
    spread = np.where(beside, deviation[1], deviation[0])
    spread = np.where(known, spread, spread + deviation[2] * (extent + _GAP))
    # A box that was fitted at another angle, or cut differently, has its faces elsewhere too.
    spread = spread + 0.5 * np.abs(np.sin(turn))[:, None] * extent[:, ::-1] + 0.1 * np.abs(extent - expected)
    position = tracks.center[track, :2] + np.einsum("pax,pa->px", axes, moved)
    noise = np.einsum("pax,pa,pay->pxy", axes, spread**2, axes)
    return Pairs(track, box, position, noise, apart - moved, extent, turn, _overlap(apart, extent, expected))


def whole_pairs(track: np.ndarray, box: np.ndarray, tracks: Boxes, boxes: Boxes, noise: np.ndarray) -> Pairs:
    """Compares tracks with whole boxes by their centres; `noise` is (len(boxes), 2, 2) m²."""
    quarter = np.round((boxes.yaw[box] - tracks.yaw[track]) / (np.pi / 2))
    turn = boxes.yaw[box] - tracks.yaw[track] - quarter * (np.pi / 2)
    extent = boxes.size[box, :2]
    extent = np.where((quarter % 2 == 1)[:, None], extent[:, ::-1], extent)
    c, s = np.cos(tracks.yaw[track]), np.sin(tracks.yaw[track])
    offset = boxes.center[box, :2] - tracks.center[track, :2]
    apart = np.stack([c * offset[:, 0] + s * offset[:, 1], -s * offset[:, 0] + c * offset[:, 1]], axis=-1)
    overlap = _overlap(apart, extent, tracks.size[track, :2])
    return Pairs(track, box, boxes.center[box, :2], noise[box], np.zeros_like(apart), extent, turn, overlap)


def _overlap(apart: np.ndarray, extent: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """(P,) common area of two aligned rectangles `apart` (P, 2) from each other, as part of the smaller one."""
    low = np.maximum(apart - 0.5 * extent, -0.5 * expected)
    high = np.minimum(apart + 0.5 * extent, 0.5 * expected)
    common = np.clip(high - low, 0.0, None).prod(axis=1)
    return common / np.minimum(extent.prod(axis=1), expected.prod(axis=1))


def cost(
    motion: Motion, pairs: Pairs, slack: np.ndarray, expected: Boxes, settings: TrackerSettings
) -> tuple[np.ndarray, np.ndarray]:
    """What it costs to take each of P pairs, and (P,) the log-likelihood of its position; less is better.

    The Mahalanobis distance decides, with `slack` (P or 1, 2, 2) m² added to the noise; no common area and another size
    cost more. `expected` are the tracks as boxes.
    """
    noise = pairs.noise + slack
    likelihood = motion.log_likelihood(pairs.track, pairs.position, noise)
    # An end that is none makes the noise wide, not the match less likely: as dense as for a well seen face.
    width = (noise[:, 0, 0] * noise[:, 1, 1] - noise[:, 0, 1] ** 2) / settings.face_deviation**4
    likelihood = likelihood + 0.5 * np.log(np.maximum(width, 1.0))
    area = expected.size[pairs.track, 0] * expected.size[pairs.track, 1]
    apart = settings.overlap_weight * (1 - np.minimum(pairs.overlap, 1.0))
    unlike = settings.size_weight * np.abs(np.log(pairs.extent[:, 0] * pairs.extent[:, 1] / area))
    return apart + unlike - likelihood, likelihood


def assign(track: np.ndarray, box: np.ndarray, cost: np.ndarray, miss: float) -> np.ndarray:
    """Pairs that are taken: each track and each box at most once, the sum of costs and of `miss` a lone track least.

    Hungarian method (Jonker-Volgenant in scipy) on each group of tracks and boxes that compete for each other.

    Args:
        track, box: (P,) rows of the candidate pairs, each pair once.
        cost: (P,) finite.
        miss: what it costs a track to go without; pairs that cost more are never taken.

    Returns:
        sorted rows (of the P pairs) that were taken.
    """
    candidates = np.flatnonzero(cost < miss)
    if len(candidates) == 0:
        return candidates
    track, box, cost = track[candidates], box[candidates], cost[candidates]
    if len(candidates) <= _FEW:
        return candidates[_cheapest(_rank(track), _rank(box), cost, miss)]
    tracks, boxes = int(track.max()) + 1, int(box.max()) + 1
    graph = coo_matrix((np.ones(len(track)), (track, tracks + box)), shape=(tracks + boxes, tracks + boxes))
    group = connected_components(graph, directed=False)[1][track]
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(group[order]) != 0])
    sizes = np.diff(np.r_[starts, len(order)])
    taken = [order[starts[sizes == 1]]]  # nobody else wants either of the two
    track, box = _rank_in_group(track, group), _rank_in_group(box, group)
    for start, size in zip(starts[sizes > 1], sizes[sizes > 1], strict=True):
        rows = order[start : start + size]
        taken.append(rows[_cheapest(track[rows], box[rows], cost[rows], miss)])
    return np.sort(candidates[np.concatenate(taken)])


def _cheapest(track: np.ndarray, box: np.ndarray, cost: np.ndarray, miss: float) -> np.ndarray:
    """Sorted rows of the pairs that are taken, for tracks and boxes that are numbered from 0."""
    here, there = int(track.max()) + 1, int(box.max()) + 1
    pair = np.full((here, there + here), -1)
    pair[track, box] = np.arange(len(track))
    matrix = np.full((here, there + here), float(miss))
    matrix[track, box] = cost
    chosen = pair[linear_sum_assignment(matrix)]
    return np.sort(chosen[chosen >= 0])


def _rank(item: np.ndarray) -> np.ndarray:
    """(P,) number of each item among the different items, from 0."""
    place = np.zeros(int(item.max()) + 1, np.int64)
    place[item] = 1
    return (np.cumsum(place) - 1)[item]


def _rank_in_group(item: np.ndarray, group: np.ndarray) -> np.ndarray:
    """(P,) number of each item among the different items of its group, from 0."""
    order = np.lexsort((item, group))
    first_of_group = np.r_[True, np.diff(group[order]) != 0]
    new_item = np.r_[True, np.diff(item[order]) != 0] | first_of_group
    count = np.cumsum(new_item) - 1
    rank = np.empty(len(item), np.int64)
    rank[order] = count - count[first_of_group][np.cumsum(first_of_group) - 1]
    return rank
