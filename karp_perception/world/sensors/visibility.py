"""How much of each actor can be seen: rays to points inside it, and whether anything else is met first."""

from __future__ import annotations

import numpy as np

from karp_perception.core.geometry import invert_pose, transform_points
from karp_perception.world.geometry.cast import Carrier, cast
from karp_perception.world.geometry.ground import GroundRays
from karp_perception.world.geometry.materials import PASSES
from karp_perception.world.geometry.primitives import Kind
from karp_perception.world.geometry.scene import SceneRays

SAMPLES = 28
"""Points looked at in each actor."""

_SEE_THROUGH = 0.5  # materials that let more beams pass are not worth looking at
_LARGEST = 12  # primitives of an actor that points are laid into
_DEEPER = 0.02  # m, numerical room between a point and what hides it


def visibility(
    scene: SceneRays,
    ground: GroundRays,
    carrier: Carrier,
    origins: np.ndarray,
    owners: np.ndarray,
    looks: np.ndarray | None = None,
    samples: int = SAMPLES,
    threads: int = 2,
) -> np.ndarray:
    """Share of each actor that the best placed sensor sees at the stamp.

    Args:
        scene, ground: of `Scene.rays`.
        carrier: pose of `base_link`.
        origins: (K, 3) m, of sensors in `base_link`.
        owners: (N,) ids of actors.
        looks: (K, N) bool, whether a sensor looks towards an actor at all; None for all around.
        samples: points looked at in each.

    Returns (N,) 0..1; 0 for an actor that is not in the scene.
    """
    owners = np.asarray(owners, np.int64)
    best = np.zeros(len(owners))
    targets, actor = _targets(scene, owners, samples)
    if not len(targets):
        return best
    targets = transform_points(invert_pose(carrier.pose), targets)
    still = Carrier(carrier.pose)
    for k, origin in enumerate(np.asarray(origins, float).reshape(-1, 3)):
        rows = slice(None) if looks is None else np.flatnonzero(np.asarray(looks)[k][actor])
        of = actor[rows]
        if not len(of):
            continue
        rays = targets[rows] - origin
        distance = np.maximum(np.linalg.norm(rays, axis=1), 1e-6)
        hits = cast(
            scene, ground, still, origin, rays / distance[:, None], np.zeros(len(rays)), float(distance.max()) + 1.0,
            k, threads,
        )  # fmt: skip
        seen = (hits.owner == owners[of]) | (hits.distance > distance - _DEEPER)
        count = np.bincount(of, minlength=len(owners))
        share = np.bincount(of, weights=seen, minlength=len(owners)) / np.maximum(count, 1)
        np.maximum(best, share, out=best)
    return best


def _targets(scene: SceneRays, owners: np.ndarray, samples: int) -> tuple[np.ndarray, np.ndarray]:
    """(M, 3) points of the world inside what is solid of each actor, and (M,) the row of `owners` each belongs to.

    Larger primitives get more of them, by the area they show (their volume to the power 2/3).
    """
    solid = (scene.density == 0.0) & (PASSES[scene.material] < _SEE_THROUGH)
    owner = scene.owner[scene.body]
    rows = np.flatnonzero(solid & np.isin(owner, owners))
    area = np.abs(np.linalg.det(scene.affine[rows, :, :3])) ** (-2.0 / 3.0)
    place = {int(number): i for i, number in enumerate(owners)}
    by_actor: dict[int, list[int]] = {}
    for k, number in enumerate(owner[rows]):
        by_actor.setdefault(place[int(number)], []).append(k)
    chosen, actor = [], []
    steps = (np.arange(samples) + 0.5) / samples
    for i in sorted(by_actor):
        of = np.array(by_actor[i])
        of = of[np.argsort(-area[of], kind="stable")[:_LARGEST]]
        part = np.cumsum(area[of])
        chosen.append(rows[of[np.minimum(np.searchsorted(part, steps * part[-1]), len(of) - 1)]])
        actor.append(np.full(samples, i))
    if not chosen:
        return np.zeros((0, 3)), np.zeros(0, np.int64)
    primitive, of_actor = np.concatenate(chosen), np.concatenate(actor)
    points = _inside(scene.kind[primitive], scene.taper[primitive], np.tile(_spread(samples), (len(chosen), 1)))
    A = scene.affine[primitive]
    return np.linalg.solve(A[:, :, :3], (points - A[:, :, 3])[:, :, None])[:, :, 0], of_actor


def _spread(samples: int) -> np.ndarray:
    """(samples, 3) in 0..1, any few in a row evenly spread: Halton's sequence, best across, then upwards."""
    return np.stack([_radical_inverse(samples, base) for base in (5, 2, 3)], axis=1)


def _radical_inverse(count: int, base: int) -> np.ndarray:
    rest, digit, value = np.arange(1, count + 1), 1.0, np.zeros(count)
    while rest.any():
        digit /= base
        value += digit * (rest % base)
        rest //= base
    return value


def _inside(kind: np.ndarray, taper: np.ndarray, u: np.ndarray) -> np.ndarray:
    """(M, 3) canonical points inside primitives, spread as (M, 3) numbers of 0..1 are."""
    up = u[:, 2]
    low_x, high_x = -1 + taper[:, 0] * up, 1 - taper[:, 1] * up
    low_y, high_y = -1 + taper[:, 2] * up, 1 - taper[:, 3] * up
    block = np.stack([low_x + (high_x - low_x) * u[:, 0], low_y + (high_y - low_y) * u[:, 1], 2 * up - 1], axis=1)
    angle, radius = 2 * np.pi * u[:, 0], np.sqrt(u[:, 1])
    ring = radius * np.where(kind == Kind.CYLINDER, 1 - taper[:, 0] * up, np.sqrt(np.maximum(1 - (2 * up - 1) ** 2, 0)))
    round_ = np.stack([ring * np.cos(angle), ring * np.sin(angle), 2 * up - 1], axis=1)
    return np.where((kind == Kind.BLOCK)[:, None], block, round_)
