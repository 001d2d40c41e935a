"""Compiled: which of many motions of the vehicle touch which of many things, on which of their possible paths."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from karp_perception.core import Vehicle
from karp_perception.core.compiled import njit

_STANDS = 0.1  # m/s: who is slower was run into
_GAP_BEHIND = 0.5  # m ahead of the rear bumper: what touches only behind it runs into the vehicle


@dataclass(frozen=True)
class Things:
    """Q rectangles that move as one with M things, in `base_link` at the moment of the plan.

    Attributes:
        box: (Q, 6) middle x, y (m), yaw (rad), half length, half width, and the margin around (m). What is within its
            margin now has none: it is passed as closely as it must be. What lies in the vehicle now is an error of
            measurement, or a contact already: no motion is better than another.
        thing: (Q,) index of the thing that each belongs to.
        start: (M, 3) x, y, yaw of the things now.
        paths: (M, K, T, 3) x, y, yaw later, the first `step` s from now; K = 1 of things that stand.
        probability: (M, K) of the paths.
        sure: (M,) whether a thing counts for the way that the vehicle is on (one frame's phantom does not).
    """

    box: np.ndarray
    thing: np.ndarray
    start: np.ndarray
    paths: np.ndarray
    probability: np.ndarray
    sure: np.ndarray


@dataclass(frozen=True)
class Touches:
    """What P motions touch.

    Attributes:
        time: (P, M) s until a thing is first touched by the vehicle's fault, infinity for never.
        probability: (P, M) of the paths on which it is.
        ahead: (P, M) probability of the paths on which the thing would be touched within `reach` s, at some moment, if
            the vehicle went on along its way at the speed of that moment (time to collision).
    """

    time: np.ndarray
    probability: np.ndarray
    ahead: np.ndarray


def touches(
    pose: np.ndarray, speed: np.ndarray, step: float, aside: np.ndarray, things: Things, vehicle: Vehicle,
    reach: float, until: float,
) -> Touches:  # fmt: skip
    """Checks every motion with every thing on every path, at the same times.

    A touch is the vehicle's fault where it moves and the thing does not merely run into its rear, or comes from behind
    it and into its side: on the way that it is on, others have to look where they change lanes. Overlap by separating
    axes (Gottschalk, Lin, Manocha 1996).

    Args:
        pose: (P, T, 3) x, y, yaw of `base_link`; the first is now, then every `step` s, as the things' paths.
        speed: (P, T) m/s.
        aside: (P,) whether a motion leads to another place on the road: then things that are not `sure` count as well,
            and so does who would run into the rear.
        reach: s of time to collision.
        until: s from now until which it is asked for.
    """
    found = _touches(
        pose, speed, step, aside, things.box, things.thing, things.start, things.paths, things.probability,
        things.sure, vehicle.front, vehicle.rear, 0.5 * vehicle.width, np.array([0.0, reach / 3, 2 * reach / 3, reach]),
        round(until / step),
    )  # fmt: skip
    return Touches(*found)


@njit(cache=True, nogil=True, error_model="numpy")
def _touches(
    pose: np.ndarray,
    speed: np.ndarray,
    step: float,
    aside: np.ndarray,
    box: np.ndarray,
    thing: np.ndarray,
    start: np.ndarray,
    paths: np.ndarray,
    probability: np.ndarray,
    sure: np.ndarray,
    front: float,
    rear: float,
    half_width: float,
    reach: np.ndarray,
    until: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    motions, times = speed.shape
    number, ways = probability.shape
    half_length, middle = 0.5 * (front + rear), 0.5 * (front - rear)
    radius = np.hypot(half_length, half_width)
    looks = len(reach)
    # The vehicle's middles at every time: where it is (0), and where it would be had it gone on for reach[j] until now.
    ex = np.full((times, motions, looks), np.nan)
    ey, ec, es = ex.copy(), ex.copy(), ex.copy()
    low_x, high_x = np.full(times, np.inf), np.full(times, -np.inf)
    low_y, high_y = np.full(times, np.inf), np.full(times, -np.inf)
    for p in range(motions):
        for t in range(times):
            for j in range(looks):
                later = t + int(np.round(reach[j] / step))
                if later >= times or (j > 0 and t > until):
                    break
                # Onwards along its own way, as fast as now; straight on where that ends.
                left, k = speed[p, t] * reach[j], t
                x, y, yaw = pose[p, k, 0], pose[p, k, 1], pose[p, k, 2]
                while left > 0.0 and k + 1 < times:
                    dx, dy = pose[p, k + 1, 0] - x, pose[p, k + 1, 1] - y
                    length = np.hypot(dx, dy)
                    if length > left:
                        share = left / length
                        x, y, left = x + share * dx, y + share * dy, 0.0
                        yaw += share * (pose[p, k + 1, 2] - yaw)
                        break
                    x, y, yaw, left, k = pose[p, k + 1, 0], pose[p, k + 1, 1], pose[p, k + 1, 2], left - length, k + 1
                c, s = np.cos(yaw), np.sin(yaw)
                x, y = x + (middle + left) * c, y + (middle + left) * s
                ex[later, p, j], ey[later, p, j], ec[later, p, j], es[later, p, j] = x, y, c, s
                low_x[later], high_x[later] = min(low_x[later], x), max(high_x[later], x)
                low_y[later], high_y[later] = min(low_y[later], y), max(high_y[later], y)
    first = np.full((motions, number), np.inf)
    touched = np.zeros((motions, number, ways), np.bool_)
    near, ended = np.zeros_like(touched), np.zeros_like(touched)
    for q in range(len(box)):
        m = thing[q]
        ox, oy = box[q, 0] - middle, box[q, 1]
        c, s = np.cos(box[q, 2]), np.sin(box[q, 2])
        long, wide = box[q, 3] + box[q, 5], box[q, 4] + box[q, 5]
        if _overlap(ox, oy, 1.0, 0.0, half_length, half_width, c, s, long, wide):
            long, wide = box[q, 3], box[q, 4]
            if _overlap(ox, oy, 1.0, 0.0, half_length, half_width, c, s, long, wide):
                continue
        reaches = np.hypot(long, wide) + radius
        from_behind = ox + np.abs(c) * long + np.abs(s) * wide < -half_length
        dx, dy = box[q, 0] - start[m, 0], box[q, 1] - start[m, 1]
        c0, s0 = np.cos(start[m, 2]), np.sin(start[m, 2])
        along, left = c0 * dx + s0 * dy, c0 * dy - s0 * dx
        turned = box[q, 2] - start[m, 2]
        for k in range(ways):
            if probability[m, k] <= 0.0:
                continue
            for t in range(times):
                if t == 0:
                    x, y, yaw = start[m, 0], start[m, 1], start[m, 2]
                else:
                    x, y, yaw = paths[m, k, t - 1, 0], paths[m, k, t - 1, 1], paths[m, k, t - 1, 2]
                far = reaches + np.abs(along) + np.abs(left)
                if x < low_x[t] - far or x > high_x[t] + far or y < low_y[t] - far or y > high_y[t] + far:
                    continue
                c, s = np.cos(yaw), np.sin(yaw)
                x, y = x + c * along - s * left, y + s * along + c * left
                c, s = np.cos(yaw + turned), np.sin(yaw + turned)
                for p in range(motions):
                    if not (sure[m] or aside[p]):
                        continue
                    for j in range(looks):
                        if ended[p, m, k] or (j > 0 and near[p, m, k]):
                            continue
                        ox, oy = x - ex[t, p, j], y - ey[t, p, j]
                        if not ox * ox + oy * oy < reaches * reaches:  # NaN: not asked for
                            continue
                        if not _overlap(ox, oy, ec[t, p, j], es[t, p, j], half_length, half_width, c, s, long, wide):
                            continue
                        ahead = ec[t, p, j] * ox + es[t, p, j] * oy
                        beyond = np.abs(ec[t, p, j] * c + es[t, p, j] * s) * long
                        beyond += np.abs(ec[t, p, j] * s - es[t, p, j] * c) * wide
                        blameless = ahead + beyond < _GAP_BEHIND - half_length or (from_behind and ahead < half_length)
                        blameless = blameless and not aside[p]
                        if j > 0:
                            near[p, m, k] = near[p, m, k] or (ahead > 0.0 and not blameless)
                        elif blameless or speed[p, t] <= _STANDS:
                            ended[p, m, k] = True  # whatever follows follows from that
                        elif t > 0 or ahead > 0.0:
                            touched[p, m, k] = ended[p, m, k] = True
                            first[p, m] = min(first[p, m], t * step)
    hit, soon = np.zeros((motions, number)), np.zeros((motions, number))
    for p in range(motions):
        for m in range(number):
            for k in range(ways):
                if touched[p, m, k]:
                    hit[p, m] += probability[m, k]
                if near[p, m, k] or touched[p, m, k]:
                    soon[p, m] += probability[m, k]
    return first, hit, soon


@njit(cache=True, nogil=True, error_model="numpy")
def _overlap(
    ox: float, oy: float, c1: float, s1: float, l1: float, w1: float, c2: float, s2: float, l2: float, w2: float
) -> bool:
    """Whether two rectangles touch: the second's middle is at (ox, oy) from the first's."""
    c, s = np.abs(c1 * c2 + s1 * s2), np.abs(c1 * s2 - s1 * c2)
    if np.abs(c1 * ox + s1 * oy) > l1 + c * l2 + s * w2:
        return False
    if np.abs(c1 * oy - s1 * ox) > w1 + s * l2 + c * w2:
        return False
    if np.abs(c2 * ox + s2 * oy) > l2 + c * l1 + s * w1:
        return False
    return not np.abs(c2 * oy - s2 * ox) > w2 + s * l1 + c * w1
