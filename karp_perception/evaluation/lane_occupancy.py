"""Which lanes points lie in, and which lane a vehicle is said to drive in."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from karp_perception.core import Lane
from karp_perception.core.geometry import wrap_angle
from karp_perception.evaluation.drive_record import CORNERS, DriveRecord, project


class LaneOccupancy:
    """Where a vehicle was among the lanes of its place, tick by tick.

    Args:
        record: of T ticks, with K lanes.

    Attributes:
        center: (T, K) whether the middle of the vehicle lies in a lane. axle: (T, K) the same of its rear axle.
        corners: (T, 4, K) the same of its corners.
        along: (T, K) m along each lane of its middle; NaN where it does not lie in it.
        lane: (T,) the lane it drives in, -1 for none.
    """

    def __init__(self, record: DriveRecord) -> None:
        ticks = len(record)
        points = np.concatenate([record.ego_center, record.rear_axle, record.ego_corners.reshape(-1, 2)])
        inside, along = lanes_of(record.lanes, points)
        self.center, self.axle = inside[:ticks], inside[ticks : 2 * ticks]
        self.corners = inside[2 * ticks :].reshape(ticks, CORNERS, len(record.lanes))
        self.along = along[:ticks]
        self._lanes = record.lanes
        self.lane = self._driven(record.yaw)

    def in_one_lane(self) -> np.ndarray:
        """(T,) whether all corners lie in one lane, or in it and lanes that begin where it ends."""
        onward = self.corners.copy()
        for k, lane in enumerate(self._lanes):
            for following in lane.successors:
                onward[:, :, k] |= self.corners[:, :, following]
        return onward.all(axis=1).any(axis=1)

    def in_junction(self) -> np.ndarray:
        """(T,) whether the rear axle lies where lanes cross, join or part: in two at once."""
        return self.axle.sum(axis=1) > 1

    def against(self, yaw: np.ndarray) -> np.ndarray:
        """(T,) whether the vehicle, of headings (T,) rad, points against its lane."""
        found = np.zeros(len(yaw), bool)
        for t in np.flatnonzero(self.lane >= 0):
            k = int(self.lane[t])
            found[t] = abs(float(wrap_angle(yaw[t] - heading_at(self._lanes[k], self.along[t, k])))) > 0.5 * np.pi
        return found

    def _driven(self, yaw: np.ndarray) -> np.ndarray:
        """The lane it was in while it still lies in it, then one that follows, else the one that points most its way.

        Where lanes cross a place lies in several.
        """
        found, last = np.full(len(yaw), -1), -1
        for t in range(len(yaw)):
            candidates = np.flatnonzero(self.center[t])
            if not len(candidates):
                continue
            if last not in candidates:
                onward = set() if last < 0 else set(self._lanes[last].successors)
                following = [k for k in candidates if k in onward]
                turned = [
                    abs(float(wrap_angle(yaw[t] - heading_at(self._lanes[k], self.along[t, k]))))
                    for k in following or candidates
                ]
                last = int((following or candidates)[int(np.argmin(turned))])
            found[t] = last
        return found


def lanes_of(lanes: Sequence[Lane], points: np.ndarray, wider: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """For points (N, 2) m and K lanes: (N, K) which lie in which, and (N, K) m along it where they do, else NaN.

    A lane reaches half its width to either side of its middle, from its beginning to its end, and `wider` m more all
    around.
    """
    inside = np.zeros((len(points), len(lanes)), bool)
    along = np.full(inside.shape, np.nan)
    for k, lane in enumerate(lanes):
        half = 0.5 * lane.width + wider
        low, high = lane.center.min(axis=0) - half, lane.center.max(axis=0) + half
        rows = np.flatnonzero(((points >= low) & (points <= high)).all(axis=1))
        if not len(rows):
            continue
        s, offset = project(lane.center, points[rows])
        hit = (np.abs(offset) <= half) & (s >= -wider) & (s <= lane.length + wider)
        inside[rows[hit], k], along[rows[hit], k] = True, s[hit]
    return inside, along


def heading_at(lane: Lane, along: float) -> float:
    """Direction (rad) of a lane, m along it."""
    k = int(np.clip(np.searchsorted(lane.along, along, side="right") - 1, 0, len(lane.center) - 2))
    dx, dy = lane.center[k + 1] - lane.center[k]
    return float(np.arctan2(dy, dx))
