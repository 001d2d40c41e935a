"""Rectangles on the ground: how far apart two are, whether they touch, and when they would.

N pairs at a time: `a` and `b` are corners (N, 4, 2) in order around each rectangle, m. Overlap follows the separating
axis theorem (Gottschalk, Lin, Manocha 1996): two convex shapes are apart exactly where their shadows on the normal of
some edge are. With constant velocities the shadows meet and part at linear times, so contact times are exact as well.
"""

from __future__ import annotations

import numpy as np


def rectangles(center: np.ndarray, yaw: np.ndarray, length: np.ndarray, width: np.ndarray) -> np.ndarray:
    """(N, 4, 2) corners, counter-clockwise from front left, of rectangles with middles (N, 2) and headings (N,)."""
    half = 0.5 * np.stack(np.broadcast_arrays(length, width), axis=-1)[..., None, :]
    local = half * np.array([[1.0, 1.0], [-1.0, 1.0], [-1.0, -1.0], [1.0, -1.0]])
    c, s = np.cos(yaw)[..., None], np.sin(yaw)[..., None]
    turned = np.stack([c * local[..., 0] - s * local[..., 1], s * local[..., 0] + c * local[..., 1]], axis=-1)
    return turned + np.asarray(center)[..., None, :]


def separation(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How far apart their shadows are along the axis that parts them best.

    Returns:
        (N,) m, negative by the depth of the overlap where they touch; and that axis (N, 2), of length 1, from a to b.
    """
    axes = _axes(a, b)
    low_a, high_a, low_b, high_b = _shadows(axes, a, b)
    ahead, behind = low_b - high_a, low_a - high_b
    gap = np.maximum(ahead, behind)
    best = gap.argmax(axis=1)[:, None]
    sign = np.where(np.take_along_axis(ahead >= behind, best, axis=1), 1.0, -1.0)
    normal = np.take_along_axis(axes, best[..., None], axis=1)[:, 0] * sign
    return np.take_along_axis(gap, best, axis=1)[:, 0], normal


def distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(N,) m between the nearest points of two rectangles, 0 where they touch."""
    apart, _ = separation(a, b)
    near = np.minimum(_corner_to_edge(a, b), _corner_to_edge(b, a))
    return np.where(apart <= 0, 0.0, near)


def time_to_contact(a: np.ndarray, velocity_a: np.ndarray, b: np.ndarray, velocity_b: np.ndarray) -> np.ndarray:
    """(N,) s until they first touch if both keep their velocities (N, 2) m/s and headings; inf if they never do."""
    begin, end = contact_interval(a, velocity_a, b, velocity_b)
    return np.where(end >= 0, np.maximum(begin, 0.0), np.inf)


def contact_interval(
    a: np.ndarray, velocity_a: np.ndarray, b: np.ndarray, velocity_b: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """From when to when they touch if both keep their velocities (N, 2) m/s and headings: (N,) s, negative for what
    has been; inf and -inf if they never do."""
    axes = _axes(a, b)
    low_a, high_a, low_b, high_b = _shadows(axes, a, b)
    closing = np.einsum("nij,nj->ni", axes, np.asarray(velocity_a) - np.asarray(velocity_b))
    # The shadow of a moves over that of b: it is on it while low_b - high_a <= closing * t <= high_b - low_a.
    first, last = low_b - high_a, high_b - low_a
    still = np.abs(closing) < 1e-9
    with np.errstate(divide="ignore", invalid="ignore"):
        one, two = first / closing, last / closing
    enter = np.where(still, np.where((first <= 0) & (last >= 0), -np.inf, np.inf), np.minimum(one, two))
    leave = np.where(still, np.where((first <= 0) & (last >= 0), np.inf, -np.inf), np.maximum(one, two))
    begin, end = enter.max(axis=1), leave.min(axis=1)
    never = begin > end
    return np.where(never, np.inf, begin), np.where(never, -np.inf, end)


def _axes(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(N, 4, 2) directions of the edges of both, of length 1."""
    edges = np.stack([a[:, 0] - a[:, 1], a[:, 1] - a[:, 2], b[:, 0] - b[:, 1], b[:, 1] - b[:, 2]], axis=1)
    return edges / np.linalg.norm(edges, axis=2, keepdims=True)


def _shadows(axes: np.ndarray, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, ...]:
    """Lowest and highest coordinate along each axis, (N, 4) each: of a, of a, of b, of b."""
    on_a, on_b = np.einsum("nij,nkj->nik", axes, a), np.einsum("nij,nkj->nik", axes, b)
    return on_a.min(axis=2), on_a.max(axis=2), on_b.min(axis=2), on_b.max(axis=2)


def _corner_to_edge(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(N,) m from the corners of a to the edges of b, the least of them."""
    start, edge = b, np.roll(b, -1, axis=1) - b
    offset = a[:, :, None, :] - start[:, None, :, :]
    along = np.einsum("nijk,njk->nij", offset, edge) / np.einsum("njk,njk->nj", edge, edge)[:, None, :]
    nearest = np.clip(along, 0.0, 1.0)[..., None] * edge[:, None, :, :]
    return np.linalg.norm(offset - nearest, axis=3).min(axis=(1, 2))
