"""Rays and primitives against independent references: convex hulls, dense sampling, bisection, a search without
culling."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import ConvexHull

from karp_perception.core import ConfigurationError
from karp_perception.world.geometry.cast import GROUND, NOTHING, Carrier, cast
from karp_perception.world.geometry.ground import Ground, GroundRays, Patch, Surface, ground_hit
from karp_perception.world.geometry.materials import PASSES, Material
from karp_perception.world.geometry.primitives import Kind, canonical_normal, enter_and_leave
from karp_perception.world.geometry.scene import Bodies, Body, Scene, SceneRays
from karp_perception.world.geometry.shape import Shape, ShapeBuilder, rotation_matrix

FAR = 200.0


def aimed_rays(rng: np.random.Generator, count: int, spread: float) -> tuple[np.ndarray, np.ndarray]:
    """Origins 3 to 20 m away in any direction, and unit directions to somewhere near the origin."""
    away = rng.normal(size=(count, 3))
    origin = away / np.linalg.norm(away, axis=1, keepdims=True) * rng.uniform(3, 20, (count, 1))
    direction = rng.uniform(-spread, spread, (count, 3)) - origin
    return origin, direction / np.linalg.norm(direction, axis=1, keepdims=True)


def interval(shape: Shape, origin: np.ndarray, direction: np.ndarray, row: int = 0) -> tuple[float, float]:
    A = shape.affine[row]
    o, d = A[:, :3] @ origin + A[:, 3], A[:, :3] @ direction
    return enter_and_leave(shape.kind[row], shape.taper[row], *o, *d)


def block_corners(center: np.ndarray, size: np.ndarray, taper: np.ndarray, rotation: np.ndarray) -> np.ndarray:
    """Corners from what the documentation of `ShapeBuilder.block` says, not from the canonical map."""
    half, local = 0.5 * size, []
    for z, inset in ((-half[2], np.zeros(4)), (half[2], taper)):
        for x in (-half[0] + inset[0], half[0] - inset[1]):
            local += [(x, y, z) for y in (-half[1] + inset[2], half[1] - inset[3])]
    return np.array(local) @ rotation_matrix(*rotation).T + center


@pytest.mark.parametrize("seed", range(12))
def test_a_block_is_the_convex_hull_of_its_corners(seed: int) -> None:
    rng = np.random.default_rng(seed)
    center, size, rotation = rng.uniform(-1, 1, 3), rng.uniform(0.3, 4, 3), rng.uniform(-3, 3, 3)
    taper = rng.uniform(-0.3, 0.49, 4) * size[[0, 0, 1, 1]]
    shape = (
        ShapeBuilder()
        .block(tuple(center), tuple(size), Material.PAINT, taper=tuple(taper), rotation=tuple(rotation))
        .build()
    )
    corners = block_corners(center, size, taper, rotation)
    planes = np.unique(np.round(ConvexHull(corners).equations, 9), axis=0)
    hits = 0
    for origin, direction in zip(*aimed_rays(rng, 400, 3.0), strict=True):
        rate, value = planes[:, :3] @ direction, planes[:, :3] @ origin + planes[:, 3]
        t = -value / rate
        near, far = t[rate < 0].max(), t[rate > 0].min()
        found = interval(shape, origin, direction)
        if abs(far - near) < 1e-7:
            continue
        assert (found[0] <= found[1]) == (near <= far)
        if near <= far:
            hits += 1
            np.testing.assert_allclose(found, (near, far), atol=1e-6)
    assert hits > 10
    assert (shape.lower <= corners.min(axis=0) + 1e-9).all()
    assert (shape.upper >= corners.max(axis=0) - 1e-9).all()


def inside(kind: Kind, taper: float, p: np.ndarray) -> np.ndarray:
    x, y, z = p.T
    if kind is Kind.CYLINDER:
        return (np.abs(z) <= 1) & (x**2 + y**2 <= (1 - taper * (z + 1) / 2) ** 2)
    return x**2 + y**2 + z**2 <= 1


@pytest.mark.parametrize(
    ("kind", "taper"), [(Kind.CYLINDER, 0.0), (Kind.CYLINDER, 0.6), (Kind.CYLINDER, 1.0), (Kind.ELLIPSOID, 0.0)]
)
def test_round_primitives_are_met_where_sampling_along_the_ray_finds_them(kind: Kind, taper: float) -> None:
    rng = np.random.default_rng(int(kind) + int(10 * taper))
    step = 0.002
    t = np.arange(0.0, 30.0, step)
    for origin, direction in zip(*aimed_rays(rng, 150, 1.4), strict=True):
        near, far = enter_and_leave(int(kind), np.array([taper, 0, 0, 0]), *origin, *direction)
        within = t[inside(kind, taper, origin + t[:, None] * direction)]
        if len(within) > 2:
            assert near == pytest.approx(within[0], abs=2 * step)
            assert far == pytest.approx(within[-1], abs=2 * step)
        else:
            assert far - near < 4 * step


@pytest.mark.parametrize("kind", list(Kind))
def test_normals_point_out_and_are_the_gradient_of_the_surface(kind: Kind) -> None:
    rng = np.random.default_rng(int(kind))
    taper = np.array([0.3, 0.2, 0.1, 0.25]) if kind is Kind.BLOCK else np.array([0.4, 0, 0, 0])
    for origin, direction in zip(*aimed_rays(rng, 200, 0.8), strict=True):
        near, far = enter_and_leave(int(kind), taper, *origin, *direction)
        if near > far:
            continue
        point = origin + near * direction
        normal = np.array(canonical_normal(int(kind), taper, *point))
        normal /= np.linalg.norm(normal)
        assert normal @ direction < 1e-9  # a ray comes in against it
        # Along the surface's tangents nothing changes to first order: the entry of a parallel ray lies on the plane.
        for _ in range(2):
            aside = np.cross(normal, rng.normal(size=3)) * 1e-5
            moved = enter_and_leave(int(kind), taper, *(origin + aside), *direction)[0]
            if np.isfinite(moved) and abs(normal @ direction) > 0.2:
                drift = normal @ (origin + aside + moved * direction - point)
                if abs(drift) > 1e-7:  # next to an edge the other ray meets another face
                    other = np.array(canonical_normal(int(kind), taper, *(origin + aside + moved * direction)))
                    assert abs(other @ normal / np.linalg.norm(other)) < 0.999


def random_scene(rng: np.random.Generator, moving: bool) -> Scene:
    bodies = []
    for k in range(40):
        builder = ShapeBuilder()
        for _ in range(3):
            at, size = tuple(np.add(rng.uniform(-1, 1, 3), (0, 0, 1.5))), tuple(rng.uniform(0.2, 2.5, 3))
            builder.block(
                at, size, Material.PAINT, taper=(0.05, 0.05, 0.05, 0.05), rotation=tuple(rng.uniform(-1, 1, 3))
            )
            builder.cylinder(at, size[0], size[1], Material.METAL, rotation=tuple(rng.uniform(-2, 2, 3)), taper=0.3)
            builder.ellipsoid(at, size, Material.CLOTH, rotation=tuple(rng.uniform(-2, 2, 3)))
        velocity = (*tuple(rng.uniform(-15, 15, 2)), 0.0) if moving else (0.0, 0.0, 0.0)
        place = (*rng.uniform(-40, 40, 2), 0.0)
        bodies.append(
            Body(
                builder.build(),
                place,
                rng.uniform(-3, 3),
                rng.uniform(-0.1, 0.1),
                0.05,
                k + 1,
                velocity,
                float(rng.uniform(-1, 1)) if moving else 0.0,
            )
        )
    return Scene(Ground.flat(), Bodies.of(bodies[:20]), Bodies.of(bodies[20:]))


def turned(angle: np.ndarray, v: np.ndarray) -> np.ndarray:
    """(N, 3) vectors (N, 3) or (3,), turned about z by angles (N,)."""
    c, s = np.cos(angle), np.sin(angle)
    x, y, z = np.broadcast_to(v, (len(angle), 3)).T
    return np.column_stack([c * x - s * y, s * x + c * y, z])


def rays_in_the_world(
    carrier: Carrier, origin: np.ndarray, directions: np.ndarray, time: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Origins and directions (N, 3) of rays (N, 3) that a moving sensor fires, each at its own time (N,)."""
    R, turn = carrier.pose[:3, :3], carrier.yaw_rate * time
    way = turned(0.5 * turn, np.array([*carrier.velocity, 0.0])) * time[:, None]
    return (turned(turn, origin) + way) @ R.T + carrier.pose[:3, 3], turned(turn, directions) @ R.T


def met_first(
    scene: SceneRays, ground: GroundRays, o: np.ndarray, d: np.ndarray, time: np.ndarray, reach: float
) -> tuple[np.ndarray, np.ndarray]:
    """Distance (N,) and primitive (N,) that rays meet first: each of them tried with every primitive."""
    best = np.array([ground_hit(ground, *ray, reach)[0] for ray in np.column_stack([o, d]).tolist()])
    hit = np.where(np.isfinite(best), GROUND, NOTHING)
    best = np.minimum(best, reach)
    for p, (kind, A) in enumerate(zip(scene.kind.tolist(), scene.affine, strict=True)):
        b = scene.body[p]
        back = -scene.yaw_rate[b] * time
        at = scene.place[b] + turned(back, o - scene.velocity[b] * time[:, None] - scene.place[b])
        rays = np.column_stack([at @ A[:, :3].T + A[:, 3], turned(back, d) @ A[:, :3].T])
        near, far = np.array([enter_and_leave(kind, scene.taper[p], *ray) for ray in rays.tolist()]).T
        nearer = (near <= far) & (near > 0) & (near < best)
        best[nearer], hit[nearer] = near[nearer], p
    return best, hit


@pytest.mark.parametrize("moving", [False, True])
def test_a_sweep_finds_what_a_search_over_everything_finds(moving: bool) -> None:
    rng = np.random.default_rng(5)
    scene, ground = random_scene(rng, moving).rays(3.0, -2.0, 150.0)
    pose = np.eye(4)
    pose[:3, :3] = rotation_matrix(0.01, -0.02, 2.0)
    pose[:3, 3] = 3.0, -2.0, 0.1
    carrier = Carrier(pose, (9.0, 0.5), 0.4)
    azimuth = rng.uniform(-np.pi, np.pi, 3000)
    elevation = rng.uniform(-0.4, 0.2, 3000)
    directions = np.stack(
        [np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)], axis=1
    )
    time = rng.uniform(-0.05, 0.05, 3000)
    origin = np.array([0.5, 0.1, 1.8])
    found = cast(scene, ground, carrier, origin, directions, time, 80.0, seed=1, threads=2)
    assert (found.primitive >= 0).sum() > 500
    best, hit = met_first(scene, ground, *rays_in_the_world(carrier, origin, directions, time), time, 80.0)
    np.testing.assert_array_equal(found.primitive, hit)
    met = hit != NOTHING
    np.testing.assert_allclose(found.distance[met], best[met], rtol=0, atol=1e-6)
    np.testing.assert_array_equal(found.owner, np.where(hit >= 0, scene.owner[scene.body[hit]], 0))


def test_the_number_of_threads_changes_nothing() -> None:
    scene, ground = random_scene(np.random.default_rng(2), True).rays(0.0, 0.0, 100.0)
    angle = np.linspace(-3.1, 3.1, 4001)
    directions = np.stack([np.cos(angle), np.sin(angle), np.full_like(angle, -0.02)], axis=1)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    sweeps = [
        cast(scene, ground, Carrier(np.eye(4)), np.array([0, 0, 1.7]), directions, 0 * angle, 90.0, 3, threads)
        for threads in (1, 2, 3)
    ]
    for other in sweeps[1:]:
        for name in ("distance", "primitive", "owner", "surface", "incidence"):
            np.testing.assert_array_equal(getattr(other, name), getattr(sweeps[0], name))


def test_glass_lets_its_share_of_beams_through() -> None:
    shape = (
        ShapeBuilder()
        .block((5.0, 0.0, 1.0), (0.02, 40.0, 40.0), Material.GLASS)
        .block((7.0, 0.0, 1.0), (0.1, 60.0, 60.0), Material.SEAT)
        .build()
    )
    scene, ground = Scene(Ground.flat(), Bodies.of([Body(shape, (0.0, 0.0, 0.0))]), Bodies.of([])).rays(0.0, 0.0, 50.0)
    y = np.linspace(-1, 1, 20000)
    directions = np.stack([np.ones_like(y), y, np.full_like(y, 0.01)], axis=1)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    found = cast(scene, ground, Carrier(np.eye(4)), np.array([0, 0, 1.0]), directions, 0 * y, 50.0, seed=4)
    through = (found.surface == Material.SEAT).mean()
    assert through == pytest.approx(PASSES[Material.GLASS], abs=0.01)
    assert set(np.unique(found.surface)) == {Material.SEAT, Material.GLASS}


def test_leaves_are_met_at_depths_with_the_mean_of_their_density() -> None:
    density = 2.0
    shape = ShapeBuilder().block((25.0, 0.0, 2.0), (40.0, 90.0, 90.0), Material.LEAVES, density=density).build()
    scene, ground = Scene(Ground.flat(), Bodies.of([Body(shape, (0.0, 0.0, 0.0))]), Bodies.of([])).rays(0.0, 0.0, 90.0)
    n = 20000
    directions = np.tile([1.0, 0.0, 0.0], (n, 1))
    found = cast(scene, ground, Carrier(np.eye(4)), np.array([0, 0, 1.0]), directions, np.zeros(n), 90.0, seed=4)
    depth = found.distance - 5.0
    assert depth.min() > 0
    assert depth.mean() == pytest.approx(1 / density, rel=0.03)
    assert depth.std() == pytest.approx(1 / density, rel=0.05)


def hilly() -> Ground:
    rng = np.random.default_rng(3)
    x = np.arange(0, 161, 4.0)
    terrain = 1.5 * np.sin(x[None] / 17) + 1.2 * np.cos(x[:, None] / 23) + rng.normal(0, 0.03, (len(x), len(x)))
    kerb = Patch(Surface.PAVEMENT, np.array([[-80, 4.0], [80, 4.0], [80, 9.0], [-80, 9.0]]))
    return Ground(terrain, (-80.0, -80.0), 4.0, [kerb], Surface.ASPHALT)


def test_rays_meet_hilly_ground_where_bisection_does() -> None:
    ground = hilly()
    rays = ground.rays(0.0, 0.0)
    rng = np.random.default_rng(0)
    met = 0
    for _ in range(400):
        azimuth, elevation = rng.uniform(-3.1, 3.1), rng.uniform(-0.4, 0.02)
        o = np.array([0.0, 0.0, float(ground.height(0.0, 0.0)) + 1.8])
        d = np.array([np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)])
        t = np.arange(0, 75, 0.02)
        p = o + t[:, None] * d
        below = p[:, 2] < ground.surface_height(p[:, 0], p[:, 1])
        found, surface = ground_hit(rays, *o, *d, 75.0)
        if not below.any():
            assert found > 60.0
            continue
        met += 1
        first = t[np.argmax(below)]
        # Roughness of some millimetres moves the place by so much along a grazing ray.
        assert found == pytest.approx(first, abs=0.05 + 0.04 / max(-d[2], 0.02))
        x, y = (o + found * d)[:2]
        if abs(y - 4) > 0.3 and abs(y - 9) > 0.3:
            assert surface == int(ground.surface(x, y))
    assert met > 200


def test_ground_rises_by_the_kerb_and_windows_agree_with_exact_polygons() -> None:
    ground = hilly()
    assert float(ground.surface_height(0.0, 6.0) - ground.height(0.0, 6.0)) == pytest.approx(0.12)
    raster = ground.window(-16.0, -16.0, 0.1, 320)
    rng = np.random.default_rng(1)
    rows, columns = rng.integers(0, 320, (2, 400))
    x, y = -16 + (columns + 0.5) * 0.1, -16 + (rows + 0.5) * 0.1
    clear = (np.abs(y - 4) > 0.11) & (np.abs(y - 9) > 0.11)
    np.testing.assert_array_equal(raster[rows, columns][clear], ground.surface(x, y)[clear])


@given(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3), st.floats(0.1, 50.0), st.floats(-3.1, 3.1), st.floats(-1.5, 1.5))
@settings(max_examples=200, deadline=None)
def test_no_ray_to_the_ground_is_nan(x: float, y: float, z: float, azimuth: float, elevation: float) -> None:
    d = np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)
    found, _ = ground_hit(hilly().rays(x, y), x, y, z + 5.0, *d, 100.0)
    assert found == np.inf or 0 < found <= 100.0


@pytest.mark.parametrize("build", [
    lambda: ShapeBuilder().build(),
    lambda: ShapeBuilder().block((0, 0, 0), (1, 1, 0), Material.PAINT),
    lambda: ShapeBuilder().block((0, 0, 0), (1, 1, 1), Material.PAINT, taper=(0.7, 0.7, 0, 0)),
    lambda: ShapeBuilder().cylinder((0, 0, 0), 0.3, float("nan"), Material.PAINT),
    lambda: Ground(np.zeros((1, 1)), (0, 0), 1.0),
])  # fmt: skip
def test_impossible_shapes_are_refused(build) -> None:
    with pytest.raises(ConfigurationError):
        build()
