"""Casting the rays of a sweep into a scene: the nearest thing each one meets, with everything moving meanwhile."""

from __future__ import annotations

import itertools
import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from karp_perception.core.compiled import PER_ROW, njit
from karp_perception.world.geometry.ground import GroundRays, ground_hit, terrain_slope
from karp_perception.world.geometry.materials import PASSES
from karp_perception.world.geometry.primitives import canonical_normal, enter_and_leave, hash3, misses_ball
from karp_perception.world.geometry.scene import SceneRays

NOTHING, GROUND = -2, -1
"""Values of `Hits.primitive` for a ray that met nothing, and for the ground."""

_BINS = 720  # of azimuth


@dataclass(frozen=True)
class Hits:
    """What each of N rays met first.

    Attributes:
        distance: (N,) m, infinity for nothing.
        primitive: (N,) row of SceneRays, GROUND or NOTHING.
        owner: (N,) id of the actor hit, 0 for scenery and ground.
        surface: (N,) the Material hit, or the Surface where it is the ground.
        incidence: (N,) cosine of the angle between the ray and the surface's normal, 0..1.
    """

    distance: np.ndarray
    primitive: np.ndarray
    owner: np.ndarray
    surface: np.ndarray
    incidence: np.ndarray


@dataclass(frozen=True)
class Carrier:
    """What carries a sensor: pose of `base_link` in the world at the stamp, and its motion around it.

    Attributes:
        pose: (4, 4).
        velocity: (2,) m/s along x and y of `base_link`. yaw_rate: rad/s.
    """

    pose: np.ndarray
    velocity: tuple[float, float] = (0.0, 0.0)
    yaw_rate: float = 0.0


def cast(
    scene: SceneRays,
    ground: GroundRays,
    carrier: Carrier,
    origin: np.ndarray,
    directions: np.ndarray,
    time: np.ndarray,
    reach: float,
    seed: int,
    threads: int = 2,
) -> Hits:
    """Nearest hits of N rays.

    Args:
        scene, ground: of `Scene.rays`.
        carrier: of the sensor.
        origin: (3,) m, of all rays, in `base_link`.
        directions: (N, 3) of unit length, in `base_link` as it stands when the ray is fired.
        time: (N,) s relative to the stamp at which each is fired.
        reach: m, beyond which nothing is met.
        seed: decides which beams pass glass, mesh and leaves.
        threads: rays are shared out among so many.
    """
    n = len(directions)
    found = Hits(
        np.full(n, np.inf), np.full(n, NOTHING, np.int32), np.zeros(n, np.int64), np.zeros(n, np.int64), np.zeros(n)
    )
    if n == 0:
        return found
    pose = np.ascontiguousarray(carrier.pose, np.float64)
    motion = np.array([carrier.velocity[0], carrier.velocity[1], carrier.yaw_rate], np.float64)
    start = (pose @ np.append(origin, 1.0))[:3]
    longest = float(np.abs(time).max())
    heading = math.atan2(pose[1, 0], pose[0, 0])
    bins = _bin_bodies(scene, start, np.asarray(pose[:2, :2] @ motion[:2]), float(motion[2]), heading, longest, reach)
    out = (found.distance, found.primitive, found.owner, found.surface, found.incidence)

    def part(span: tuple[int, int]) -> None:
        _cast(scene, ground, bins, pose, motion, np.asarray(origin, np.float64), directions, time, reach, seed,
              PASSES, *span, *out)  # fmt: skip

    edges = np.linspace(0, n, max(1, threads) + 1).astype(int)
    spans = [(int(a), int(b)) for a, b in itertools.pairwise(edges)]
    if len(spans) == 1:
        part(spans[0])
    else:
        list(_pool(threads).map(part, spans))
    return found


@lru_cache(maxsize=4)
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="rays")


@njit(**PER_ROW)
def _bin(x, y):
    """Number of the bin that a direction falls into: by a measure that grows with its azimuth, without its cost."""
    p = y / max(abs(x) + abs(y), 1e-12)
    if x < 0.0:
        p = 2.0 - p
    elif y < 0.0:
        p += 4.0
    return min(int(p * (0.25 * _BINS)), _BINS - 1)


@njit(cache=True, nogil=True)
def _bin_bodies(scene, start, velocity, yaw_rate, heading, longest, reach):
    """Bodies that rays of each bin of azimuth (about base_link's z, from its x) may meet, nearest first.

    Returns (first (bins + 1,), bodies (M,), nearest (B,) m, lowest (B,), highest (B,) slopes dz / dxy).
    """
    count = len(scene.reach)
    nearest, lowest, highest = np.empty(count), np.empty(count), np.empty(count)
    left, right = np.empty(count, np.int64), np.empty(count, np.int64)
    total = np.zeros(_BINS + 1, np.int64)
    for b in range(count):
        dx, dy = scene.middle[b, 0] - start[0], scene.middle[b, 1] - start[1]
        distance = math.sqrt(dx * dx + dy * dy)
        vx, vy = scene.velocity[b, 0] - velocity[0], scene.velocity[b, 1] - velocity[1]
        # It moves against the sensor while the sensor turns: met from beside its place at the stamp.
        extent = scene.reach[b] + longest * (math.sqrt(vx * vx + vy * vy) + 2.0) + 0.02
        nearest[b] = max(distance - extent, 0.0)
        rise, fall = scene.top[b] - start[2] + 0.05, scene.bottom[b] - start[2] - 0.05
        close, far = max(nearest[b], 0.05), distance + extent
        highest[b] = rise / (close if rise > 0 else far)
        lowest[b] = fall / (close if fall < 0 else far)
        left[b], right[b] = 0, -1
        if nearest[b] > reach:
            continue
        if distance <= extent:
            left[b], right[b] = 0, _BINS - 1
        else:
            half = math.asin(extent / distance) + abs(yaw_rate) * longest
            middle = math.atan2(dy, dx) - heading
            left[b], right[b] = 0, _BINS - 1
            if half < 1.5:
                left[b] = _bin(math.cos(middle - half), math.sin(middle - half)) - 1
                right[b] = _bin(math.cos(middle + half), math.sin(middle + half)) + 1
                if right[b] < left[b]:
                    right[b] += _BINS
        for k in range(left[b], right[b] + 1):
            total[k % _BINS + 1] += 1
    first = np.cumsum(total)
    bodies = np.empty(first[-1], np.int64)
    filled = first[:-1].copy()
    for b in np.argsort(nearest):
        for k in range(left[b], right[b] + 1):
            bodies[filled[k % _BINS]] = b
            filled[k % _BINS] += 1
    return first, bodies, nearest, lowest, highest


@njit(**PER_ROW)
def _cast(
    scene, ground, bins, pose, motion, origin, directions, time, reach, seed, passes, begin, end,
    distance, primitive, owner, surface, incidence,
):  # fmt: skip
    first, bodies, nearest, lowest, highest = bins
    t, c, s, px, py = 0.0, 1.0, 0.0, origin[0], origin[1]
    for i in range(begin, end):
        if time[i] != t:  # the beams of a column are fired together
            t = time[i]
            # base_link at the ray's own time, seen from base_link at the stamp: a turn, a way along the mean heading.
            turn = motion[2] * t
            c, s = math.cos(turn), math.sin(turn)
            cm, sm = math.cos(0.5 * turn), math.sin(0.5 * turn)
            px = c * origin[0] - s * origin[1] + (cm * motion[0] - sm * motion[1]) * t
            py = s * origin[0] + c * origin[1] + (sm * motion[0] + cm * motion[1]) * t
        fx = c * directions[i, 0] - s * directions[i, 1]
        fy = s * directions[i, 0] + c * directions[i, 1]
        fz = directions[i, 2]
        ox = pose[0, 0] * px + pose[0, 1] * py + pose[0, 2] * origin[2] + pose[0, 3]
        oy = pose[1, 0] * px + pose[1, 1] * py + pose[1, 2] * origin[2] + pose[1, 3]
        oz = pose[2, 0] * px + pose[2, 1] * py + pose[2, 2] * origin[2] + pose[2, 3]
        dx = pose[0, 0] * fx + pose[0, 1] * fy + pose[0, 2] * fz
        dy = pose[1, 0] * fx + pose[1, 1] * fy + pose[1, 2] * fz
        dz = pose[2, 0] * fx + pose[2, 1] * fy + pose[2, 2] * fz
        best, covered = ground_hit(ground, ox, oy, oz, dx, dy, dz, reach)
        hit = GROUND if best <= reach else NOTHING
        best = min(best, reach)
        across = math.sqrt(dx * dx + dy * dy)
        slope = dz / max(across, 1e-9)
        k = _bin(fx, fy)
        for m in range(first[k], first[k + 1]):
            b = bodies[m]
            if nearest[b] > best:
                break
            if slope < lowest[b] or slope > highest[b]:
                continue
            # Instead of the body, the ray moves: back to where the body was at the stamp.
            bx, by, bz = ox - scene.velocity[b, 0] * t, oy - scene.velocity[b, 1] * t, oz - scene.velocity[b, 2] * t
            ex, ey = dx, dy
            if scene.yaw_rate[b] != 0.0:
                w = -scene.yaw_rate[b] * t
                cw, sw = math.cos(w), math.sin(w)
                hx, hy = bx - scene.place[b, 0], by - scene.place[b, 1]
                bx, by = scene.place[b, 0] + cw * hx - sw * hy, scene.place[b, 1] + sw * hx + cw * hy
                ex, ey = cw * dx - sw * dy, sw * dx + cw * dy
            # Does it pass the body's round at all?
            hx, hy = scene.middle[b, 0] - bx, scene.middle[b, 1] - by
            aside = hx * ey - hy * ex
            if abs(aside) > scene.reach[b] * across + 1e-9:
                continue
            for p in range(scene.first[b], scene.first[b + 1]):
                A = scene.affine[p]
                qx, qy, qz = (
                    A[0, 0] * bx + A[0, 1] * by + A[0, 2] * bz + A[0, 3],
                    A[1, 0] * bx + A[1, 1] * by + A[1, 2] * bz + A[1, 3],
                    A[2, 0] * bx + A[2, 1] * by + A[2, 2] * bz + A[2, 3],
                )
                rx, ry, rz = (
                    A[0, 0] * ex + A[0, 1] * ey + A[0, 2] * dz,
                    A[1, 0] * ex + A[1, 1] * ey + A[1, 2] * dz,
                    A[2, 0] * ex + A[2, 1] * ey + A[2, 2] * dz,
                )
                if misses_ball(scene.ball[p], qx, qy, qz, rx, ry, rz):
                    continue
                near, far = enter_and_leave(scene.kind[p], scene.taper[p], qx, qy, qz, rx, ry, rz)
                if near > far or near >= best or far <= 0.0:
                    continue
                if scene.density[p] > 0.0:
                    luck = hash3(i, p, seed)
                    near = max(near, 0.0) - math.log(1.0 - luck) / scene.density[p]
                    if near > far or near >= best:
                        continue
                elif near <= 0.0:
                    continue  # a sensor inside a solid sees out of it
                else:
                    through = passes[scene.material[p]]
                    if through > 0.0 and hash3(i, p, seed) < through:
                        continue
                best, hit = near, p
        if hit == NOTHING:
            continue
        distance[i], primitive[i] = best, hit
        if hit == GROUND:
            surface[i] = covered
            sx, sy = terrain_slope(ground, ox + best * dx, oy + best * dy)
            incidence[i] = abs(dz - sx * dx - sy * dy) / math.sqrt(1.0 + sx * sx + sy * sy)
            continue
        b = scene.body[hit]
        owner[i], surface[i] = scene.owner[b], scene.material[hit]
        if scene.density[hit] > 0.0:
            incidence[i] = 0.3 + 0.7 * hash3(p, i, seed + 1)  # leaves face anywhere
            continue
        bx, by, bz = ox - scene.velocity[b, 0] * t, oy - scene.velocity[b, 1] * t, oz - scene.velocity[b, 2] * t
        ex, ey = dx, dy
        if scene.yaw_rate[b] != 0.0:
            w = -scene.yaw_rate[b] * t
            cw, sw = math.cos(w), math.sin(w)
            hx, hy = bx - scene.place[b, 0], by - scene.place[b, 1]
            bx, by = scene.place[b, 0] + cw * hx - sw * hy, scene.place[b, 1] + sw * hx + cw * hy
            ex, ey = cw * dx - sw * dy, sw * dx + cw * dy
        A = scene.affine[hit]
        x, y, z = bx + best * ex, by + best * ey, bz + best * dz
        cx, cy, cz = canonical_normal(
            scene.kind[hit], scene.taper[hit],
            A[0, 0] * x + A[0, 1] * y + A[0, 2] * z + A[0, 3],
            A[1, 0] * x + A[1, 1] * y + A[1, 2] * z + A[1, 3],
            A[2, 0] * x + A[2, 1] * y + A[2, 2] * z + A[2, 3],
        )  # fmt: skip
        nx = A[0, 0] * cx + A[1, 0] * cy + A[2, 0] * cz
        ny = A[0, 1] * cx + A[1, 1] * cy + A[2, 1] * cz
        nz = A[0, 2] * cx + A[1, 2] * cy + A[2, 2] * cz
        length = math.sqrt(nx * nx + ny * ny + nz * nz)
        incidence[i] = abs(nx * ex + ny * ey + nz * dz) / max(length, 1e-12)
