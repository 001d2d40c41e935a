"""What rays with a known length say about boxes: which of them end in a box, which were stopped before it.

A ray that would enter a box but ended short of it was stopped by something in front; one that ends inside shows the
box; one that passes through without meeting anything tells nothing (windows, the space below a car). The share of the
first two that are of the second kind is the visible share.
"""

from __future__ import annotations

import numpy as np

from karp_perception.core import Boxes

_SHORT = 0.15  # m before a box at which a return no longer belongs to it
_GROUND = 0.08  # m above a box's bottom from which on a ray counts: lower ones end on the ground before it
_GROWN = 0.05  # m on each side, for mirrors and noise


def meet(boxes: Boxes, origin: np.ndarray, rays: np.ndarray, length: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which box each ray ends in, and how many rays each box's visible share is known from.

    Args:
        boxes: N, in the frame of the rays.
        origin: (3,) where the rays start, m.
        rays: (M, 3) of unit length.
        length: (M,) m to where they end; inf for a ray that met nothing.

    Returns:
        owner (M,), index of the box in which a ray ends, the nearest to the origin where boxes overlap, or -1; and
        stopped (N,), the number of rays that ended before each box.
    """
    owner = np.full(len(rays), -1, np.int64)
    stopped = np.zeros(len(boxes), np.int64)
    distance = np.linalg.norm(boxes.center - origin, axis=1)
    radius = 0.5 * np.linalg.norm(boxes.size, axis=1) + _GROWN
    for i in np.argsort(distance):
        if distance[i] <= radius[i]:
            candidates = np.arange(len(rays))
        else:
            # Rays within the cone around the box's enclosing sphere.
            towards = (boxes.center[i] - origin) / distance[i]
            candidates = np.flatnonzero(rays @ towards >= np.sqrt(1.0 - (radius[i] / distance[i]) ** 2))
        if not len(candidates):
            continue
        entry, leave = _slab(boxes, int(i), origin, rays[candidates])
        hit, end = entry <= leave, length[candidates]
        inside = hit & (end >= entry - _SHORT) & (end <= leave + _SHORT)
        mine = candidates[inside]
        owner[mine[owner[mine] < 0]] = i
        stopped[i] = np.count_nonzero(hit & (end < entry - _SHORT))
    return owner, stopped


def _slab(boxes: Boxes, i: int, origin: np.ndarray, rays: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where rays enter and leave a box (Kay and Kajiya 1986), m; entry > leave for those that miss it."""
    c, s = np.cos(boxes.yaw[i]), np.sin(boxes.yaw[i])
    turn = np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]])
    start = turn @ (origin - boxes.center[i])
    directions = rays @ turn.T
    half = 0.5 * boxes.size[i]
    low = np.array([-half[0] - _GROWN, -half[1] - _GROWN, -half[2] + _GROUND])
    high = half + _GROWN
    with np.errstate(divide="ignore", invalid="ignore"):
        a, b = (low - start) / directions, (high - start) / directions
    parallel = directions == 0
    outside = parallel & ((start < low) | (start > high))
    near = np.where(parallel, -np.inf, np.minimum(a, b)).max(axis=1)
    far = np.where(parallel, np.inf, np.maximum(a, b)).min(axis=1)
    missed = outside.any(axis=1) | (far < 0)
    return np.where(missed, np.inf, np.maximum(near, 0.0)), np.where(missed, -np.inf, far)


def visible_share(owner: np.ndarray, stopped: np.ndarray) -> np.ndarray:
    """(N,) 0..1 of each box, from what `meet` says; 0 where no ray looked that way."""
    own = np.bincount(owner[owner >= 0], minlength=len(stopped)).astype(float)
    seen = own + stopped
    return np.divide(own, seen, out=np.zeros(len(stopped)), where=seen > 0)
