"""The lidar of the embedded world against its tables, exact ray tests and closed forms."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import norm

from karp_perception.core import ConfigurationError
from karp_perception.world.geometry.cast import Carrier
from karp_perception.world.geometry.ground import Ground, Patch, Surface
from karp_perception.world.geometry.materials import REFLECTIVITY, Material
from karp_perception.world.geometry.scene import Bodies, Body, Scene
from karp_perception.world.geometry.shape import ShapeBuilder, rotation_matrix
from karp_perception.world.sensors.laser_returns import AIR, backscatter, echo_tables
from karp_perception.world.sensors.laser_weather import LaserWeather
from karp_perception.world.sensors.lidar import Lidar, LidarReturns
from karp_perception.world.sensors.lidar_models import LIDARS, LidarModel, lidar_named
from karp_perception.world.sensors.weather import Weather

STILL = Carrier(np.eye(4))
CLEAR = Weather(visibility=100000.0)


def pose(x: float, y: float, z: float) -> np.ndarray:
    T = np.eye(4)
    T[:3, 3] = x, y, z
    return T


def ideal(model: LidarModel, **changes: object) -> LidarModel:
    """A sensor that misses nothing and errs by nothing."""
    exact: dict[str, object] = {"range_step": 1e-7, "reach_at_10": 1e5, "min_range": 0.01, "max_range": 300.0}
    exact["roof"] = None
    exact |= dict.fromkeys(("noise", "noise_per_m", "divergence", "fading", "beam_spread", "missing"), 0.0)
    return replace(model, **(exact | changes))


def sweep(
    model: LidarModel,
    bodies: list[Body],
    height: float = 2.0,
    ground: Ground | None = None,
    carrier: Carrier = STILL,
    seed: int = 1,
    weather: Weather | None = None,
    threads: int = 1,
) -> LidarReturns:
    scene = Scene(ground or Ground.flat(base=Surface.PUDDLE), Bodies.of(bodies), Bodies.of([]))
    rays = scene.rays(float(carrier.pose[0, 3]), float(carrier.pose[1, 3]), 300.0)
    return Lidar(model, pose(0, 0, height), threads).sweep(*rays, carrier, 10, seed, weather)


def wall(x: float, material: Material = Material.CONCRETE, **motion: object) -> Body:
    """A wall whose face stands at x, wide and high."""
    shape = ShapeBuilder().block((0.5, 0.0, 30.0), (1.0, 400.0, 60.0), material).build()
    return Body(shape, (x, 0.0, 0.0), owner=7, **motion)


def room(half: float) -> list[Body]:
    """Four walls, and a ceiling and floor far above and below."""
    builder = ShapeBuilder()
    for x, y in ((1, 0), (-1, 0), (0, 1), (0, -1)):
        size = (0.2, 2 * half, 200.0) if x else (2 * half, 0.2, 200.0)
        builder.block((x * half, y * half, 0.0), size, Material.PLASTER)
    return [Body(builder.build(), (0.0, 0.0, 100.0))]


@pytest.mark.parametrize("name", sorted(LIDARS))
def test_beams_point_where_the_table_says(name: str) -> None:
    model = ideal(LIDARS[name], columns=90)
    returns = sweep(model, room(20.0), height=100.0)
    d = returns.sweep.points[:, :3].astype(float) - (0, 0, 100.0)
    elevation = np.degrees(np.arctan2(d[:, 2], np.hypot(d[:, 0], d[:, 1])))
    table = np.array(model.elevations)
    assert (np.diff(table) > 0).all()
    edges = np.concatenate([[table[0] - 0.05], 0.5 * (table[1:] + table[:-1]), [table[-1] + 0.05]])
    counts, _ = np.histogram(elevation, edges)
    np.testing.assert_array_equal(counts, np.full(model.beams, 90))
    np.testing.assert_allclose(elevation, table[returns.ring], atol=1e-4)
    # Every ring is offset to its side, and the head turns clockwise by equal steps.
    azimuth = np.degrees(np.arctan2(d[:, 1], d[:, 0])) + np.array(model.azimuth_offsets)[returns.ring]
    turned = (180.0 - azimuth - (returns.column + 0.5) * 4.0 + 180.0) % 360.0 - 180.0
    assert np.ptp(turned) < 1e-3
    assert abs(turned).max() <= 2.0 + 1e-3
    np.testing.assert_allclose(
        returns.sweep.time, ((returns.column + 0.5) / 90 - model.stamp_at) * model.sweep_s, atol=1e-8
    )


def slab(origin: np.ndarray, rays: np.ndarray, body: Body, half: np.ndarray) -> np.ndarray:
    """(N,) exact entry of rays into a turned box that stands on its origin, infinity for a miss."""
    R = rotation_matrix(body.roll, body.pitch, body.yaw)
    o = R.T @ (origin - np.array(body.position) - R @ (0, 0, half[2]))
    d = rays @ R
    with np.errstate(divide="ignore", invalid="ignore"):
        a, b = (-half - o) / d, (half - o) / d
    near, far = np.minimum(a, b).max(axis=1), np.maximum(a, b).min(axis=1)
    return np.where((near <= far) & (near > 0), near, np.inf)


def test_ranges_are_those_of_an_exact_ray_box_test() -> None:
    model = ideal(LIDARS["hdl32e"], columns=300)
    rng = np.random.default_rng(5)
    compared = 0
    for trial in range(6):
        bodies, halves = [], []
        for k in range(25):
            half = rng.uniform(0.2, 2.0, 3)
            shape = ShapeBuilder().block((0, 0, half[2]), tuple(2 * half), Material.CONCRETE).build()
            angle, away = rng.uniform(-np.pi, np.pi), rng.uniform(5.0, 45.0)
            place = (away * np.cos(angle), away * np.sin(angle), rng.uniform(0.0, 1.5))
            turn = rng.uniform(-0.6, 0.6, 2)
            bodies.append(Body(shape, place, rng.uniform(-3, 3), turn[0], turn[1], owner=k + 1))
            halves.append(half)
        returns = sweep(model, bodies, seed=trial)
        lidar = Lidar(model, pose(0, 0, 2.0))
        rays, origin = lidar.directions(trial), np.array([0, 0, 2.0])
        each = np.array([slab(origin, rays, b, h) for b, h in zip(bodies, halves, strict=True)])
        with np.errstate(divide="ignore"):
            floor = np.where(rays[:, 2] < 0, (0.002 - 2.0) / rays[:, 2], np.inf)
        nearest = np.minimum(each.min(axis=0), floor)
        expected = nearest < 300.0
        index = returns.column * model.beams + returns.ring
        np.testing.assert_array_equal(np.flatnonzero(expected), index)
        measured = np.linalg.norm(returns.sweep.points[:, :3].astype(float) - origin, axis=1)
        # The ground is found to a millimetre in height; boxes exactly.
        solid = ~returns.ground
        np.testing.assert_allclose(measured[solid], nearest[index][solid], atol=2e-5)
        np.testing.assert_allclose(returns.sweep.points[returns.ground, 2], 0.002, atol=2e-3)
        boxed = each.min(axis=0) < floor
        np.testing.assert_array_equal(returns.owner, np.where(boxed, each.argmin(axis=0) + 1, 0)[index])
        compared += int(solid.sum())
    assert compared > 2000


def test_round_things_are_met_where_the_quadratics_say() -> None:
    model = ideal(LIDARS["vlp16"], columns=1200)
    height = 2.0
    shape = ShapeBuilder().cylinder((0, 0, 2.0), 0.7, 4.0, Material.METAL).build()
    ball = ShapeBuilder().ellipsoid((0, 0, 2.0), (3.0, 2.0, 2.4), Material.METAL).build()
    bodies = [Body(shape, (9.0, 2.0, 0.0), owner=1), Body(ball, (-8.0, 3.0, 0.0), 0.7, owner=2)]
    returns = sweep(model, bodies, height)
    rays = Lidar(model, pose(0, 0, height)).directions(1)
    index = returns.column * model.beams + returns.ring
    measured = np.linalg.norm(returns.sweep.points[:, :3].astype(float) - (0, 0, height), axis=1)
    # Pillar: a circle seen from above, no higher than 4 m.
    a = (rays[:, :2] ** 2).sum(axis=1)
    b, c = rays[:, :2] @ (-9.0, -2.0), 81.0 + 4.0 - 0.49
    with np.errstate(invalid="ignore"):
        t = (-b - np.sqrt(b * b - a * c)) / a
        pillar = np.isfinite(t) & (t > 0) & (np.abs(height + t * rays[:, 2] - 2.0) <= 2.0)
    np.testing.assert_array_equal(np.flatnonzero(pillar), index[returns.owner == 1])
    np.testing.assert_allclose(measured[returns.owner == 1], t[index[returns.owner == 1]], atol=2e-5)
    # Ellipsoid: x' S x = 1 in its own axes.
    R = rotation_matrix(0.0, 0.0, 0.7)
    S = R @ np.diag(1.0 / np.square([1.5, 1.0, 1.2])) @ R.T
    o = np.array([8.0, -3.0, 0.0])
    a, b, c = np.einsum("ni,ij,nj->n", rays, S, rays), rays @ S @ o, o @ S @ o - 1.0
    with np.errstate(invalid="ignore"):
        t = (-b - np.sqrt(b * b - a * c)) / a
    ellipsoid = np.isfinite(t) & (t > 0)
    np.testing.assert_array_equal(np.flatnonzero(ellipsoid), index[returns.owner == 2])
    np.testing.assert_allclose(measured[returns.owner == 2], t[index[returns.owner == 2]], atol=2e-5)


@pytest.mark.parametrize("stamp_at", [0.0, 0.5, 1.0])
def test_a_wall_leans_as_driving_turning_and_its_own_motion_make_it(stamp_at: float) -> None:
    model = ideal(LIDARS["hdl32e"], columns=400, rate=10.0, stamp_at=stamp_at)
    speed, yaw_rate, own = 15.0, 0.4, -3.0
    driving = sweep(model, [wall(20.0)], carrier=Carrier(np.eye(4), (speed, 0.0), 0.0))
    seen = driving.owner == 7
    t = driving.sweep.time[seen].astype(float)
    assert np.ptp(t) > 0.03
    np.testing.assert_allclose(driving.sweep.points[seen, 0], 20.0 - speed * t, atol=1e-4)
    turning = sweep(model, [wall(20.0)], carrier=Carrier(np.eye(4), (0.0, 0.0), yaw_rate))
    seen = turning.owner == 7
    points, t = turning.sweep.points[seen].astype(float), turning.sweep.time[seen].astype(float)
    ahead = np.cos(yaw_rate * t) * points[:, 0] - np.sin(yaw_rate * t) * points[:, 1]
    np.testing.assert_allclose(ahead, 20.0, atol=1e-4)
    coming = sweep(model, [wall(20.0, velocity=(own, 0.0, 0.0))])
    seen = coming.owner == 7
    np.testing.assert_allclose(
        coming.sweep.points[seen, 0], 20.0 + own * coming.sweep.time[seen].astype(float), atol=1e-4
    )


def test_range_noise_is_normal_and_of_the_size_the_model_says() -> None:
    model = ideal(LIDARS["hdl32e"], columns=2000, noise=0.03, range_step=1e-5)
    returns = sweep(model, room(12.0), height=100.0)
    exact = sweep(replace(model, noise=0.0), room(12.0), height=100.0)
    assert len(returns.ring) == len(exact.ring)
    at = (0, 0, 100.0)
    error = np.linalg.norm(returns.sweep.points[:, :3] - at, axis=1) - np.linalg.norm(
        exact.sweep.points[:, :3] - at, axis=1
    )
    assert abs(error.mean()) < 4 * 0.03 / np.sqrt(len(error))
    assert error.std() == pytest.approx(0.03, rel=0.02)
    assert (np.abs(error) < 0.03).mean() == pytest.approx(norm.cdf(1) - norm.cdf(-1), abs=0.01)
    assert abs(np.corrcoef(error[:-1], error[1:])[0, 1]) < 0.02


def test_a_square_wall_fades_with_range_as_the_received_power_says() -> None:
    model = ideal(LIDARS["hdl32e"], columns=1800, reach_at_10=12.0, fading=0.4)
    for x in (12.0, 16.0, 20.0, 24.0, 30.0):
        returns = sweep(model, [wall(x)], weather=CLEAR)
        rays = Lidar(model, pose(0, 0, 2.0)).directions(1)
        square = (rays[:, 0] > 0.98) & (2.0 + rays[:, 2] * x > 0.5)
        back = np.zeros(len(rays), bool)
        back[returns.column * model.beams + returns.ring] = True
        r, cosine = x / rays[square, 0], rays[square, 0]
        scene, _ = Scene(Ground.flat(), Bodies.of([wall(x)]), Bodies.of([])).rays(0.0, 0.0, 300.0)
        reflectivity = echo_tables(scene)[0][0]
        assert 0.3 < reflectivity / REFLECTIVITY[Material.CONCRETE] < 3.0  # walls differ
        echo = np.array([backscatter(reflectivity, 0.0, c) for c in cosine])
        expected = norm.cdf(np.log(echo / r**2 / (0.1 / 12.0**2)) / 0.4).mean()
        share = back[square].mean()
        assert share == pytest.approx(expected, abs=4 * np.sqrt(0.25 / square.sum()) + 0.01)


def test_surfaces_give_less_back_at_a_slant_the_gloss_least() -> None:
    cosines = np.linspace(0.01, 1.0, 60)
    for specular in (0.0, 0.3, 0.9):
        back = np.array([backscatter(0.5, specular, c) for c in cosines])
        assert (np.diff(back) > 0).all()
        assert back[-1] == pytest.approx(0.5)
    assert backscatter(0.5, 0.9, 0.3) < 0.2 * backscatter(0.5, 0.0, 0.3)


def test_roads_vanish_with_range_and_walls_do_not() -> None:
    model = replace(LIDARS["hdl64e"], roof=None)
    returns = sweep(model, [wall(50.0, Material.PLASTER)], 1.73, Ground.flat(base=Surface.ASPHALT))
    rays = Lidar(model, pose(0, 0, 1.73)).directions(1)
    down = np.where(rays[:, 2] < 0, -1.73 / np.minimum(rays[:, 2], -1e-9), np.inf)
    down[(rays[:, 0] > 0) & (down * rays[:, 0] > 50.0)] = np.inf
    back = np.zeros(len(rays), bool)
    back[(returns.column * 64 + returns.ring)[returns.ground]] = True
    shares = [back[(down >= a) & (down < a + 10)].mean() for a in (4, 14, 24, 34, 44, 54, 64)]
    assert (np.diff(shares) < 0.005).all()
    assert shares[0] > 0.97
    assert shares[2] > 0.4
    assert shares[-1] < 0.05
    on_wall = returns.owner == 7
    up = (rays[:, 0] * 0.999 > np.cos(np.radians(20))) & (rays[:, 2] > -0.01)
    assert on_wall.sum() > 0.9 * up.sum()


def car(x: float, brightness: float) -> Body:
    shape = ShapeBuilder().block((0, 0, 0.8), (4.0, 1.8, 1.2), Material.PAINT, tint=1).build()
    return Body(shape, (x, 0.0, 0.0), owner=3, first=(brightness,) * 3)


def test_black_cars_thin_out_before_white_ones() -> None:
    def points(x: float, brightness: float) -> int:
        return int((sweep(LIDARS["hdl64e"], [car(x, brightness)]).owner == 3).sum())

    assert points(10.0, 15.0) > 0.85 * points(10.0, 240.0)
    assert points(45.0, 15.0) < 0.7 * points(45.0, 240.0)


def test_glass_passes_beams_and_puddles_and_sky_swallow_them() -> None:
    model = LIDARS["hdl64e"]
    pane = ShapeBuilder().block((0, 0, 3.0), (0.05, 30.0, 6.0), Material.GLASS).build()
    returns = sweep(model, [Body(pane, (12.0, 0.0, 0.0), 0.8, owner=9), wall(20.0)])
    behind, on = (returns.owner == 7).sum(), (returns.owner == 9).sum()
    assert on < 0.12 * behind
    puddle = np.array([(8.0, -2.0), (12.0, -2.0), (12.0, 2.0), (8.0, 2.0)])
    ground = Ground.flat([Patch(Surface.PUDDLE, puddle)], Surface.ASPHALT)
    returns = sweep(model, [], 1.73, ground)
    x, y, z = returns.sweep.points[:, :3].T
    assert returns.ground.all()
    assert (z < 0.5).all()  # nothing comes back from the sky
    wet = (x > 8.3) & (x < 11.7) & (np.abs(y) < 1.7)
    dry = (x > -11.7) & (x < -8.3) & (np.abs(y) < 1.7)
    assert wet.sum() < 0.1 * dry.sum()


def test_what_is_too_near_or_too_far_is_left_out() -> None:
    model = LIDARS["hdl64e"]
    roof = ShapeBuilder().block((0, 0, 0), (1.0, 1.0, 0.4), Material.PLASTER).build()
    returns = sweep(model, [Body(roof, (1.2, 0.0, 1.6), owner=4), wall(90.0)])
    distance = np.linalg.norm(returns.sweep.points[:, :3] - (0, 0, 2.0), axis=1)
    assert distance.min() >= model.min_range - 0.01
    assert distance.max() <= model.max_range + 0.01
    assert not (returns.owner == 4).any()


def test_beams_that_meet_the_own_roof_are_lost() -> None:
    model = ideal(LIDARS["hdl32e"], columns=360)
    free = sweep(model, [])
    behind = sweep(replace(model, roof=(0.5, 1.0, 2.0, 0.8)), [])
    # A ray to ground 2 m below passes the roof's level a quarter of the way there.
    x, y, _ = 0.25 * free.sweep.points[:, :3].T
    on_roof = (x < 1.0) & (x > -2.0) & (np.abs(y) < 0.8)
    assert on_roof.sum() > 500
    kept = (free.column * 32 + free.ring)[~on_roof]
    # Which beams those are is decided once for all turns, each of which begins within a column of another.
    assert len(np.setxor1d(kept, behind.column * 32 + behind.ring)) <= 40


def test_edges_leave_points_between_front_and_back_only_for_wide_beams() -> None:
    post = ShapeBuilder().block((0, 0, 2.0), (0.1, 0.6, 4.0), Material.CONCRETE).build()
    bodies = [Body(post, (15.0, 0.0, 0.0), owner=2), wall(15.6)]
    between = {}
    for divergence in (0.0, 0.004):
        model = ideal(LIDARS["hdl64e"], divergence=divergence, pulse_length=0.9)
        x, _, z, _ = sweep(model, bodies).sweep.points.T
        x = x[z > 0.05]
        between[divergence] = int(((x > 15.1) & (x < 15.55)).sum())
    assert between[0.0] == 0
    assert between[0.004] > 30
    # Farther apart than a pulse is long, the stronger of the two is reported.
    model = ideal(LIDARS["hdl64e"], divergence=0.004, pulse_length=0.9)
    x, y, z, _ = sweep(model, [bodies[0], wall(18.0)]).sweep.points.T
    assert not ((x > 15.1) & (x < 17.9) & (np.abs(y) < 5) & (z > 0.05)).any()


def test_signs_are_as_bright_as_can_be_and_paint_is_not() -> None:
    def shade(material: Material) -> np.ndarray:
        returns = sweep(LIDARS["vlp16"], [wall(15.0, material)])
        return returns.sweep.points[(returns.owner == 7) & (np.abs(returns.sweep.points[:, 1]) < 4), 3]

    assert np.median(shade(Material.REFLECTIVE)) > 2.5 * np.median(shade(Material.PLASTER))
    assert np.median(shade(Material.RUBBER)) < 0.3 * np.median(shade(Material.PLASTER))


def test_fog_echoes_nearby_and_hides_what_is_far() -> None:
    def seen(visibility: float) -> tuple[int, int, float]:
        returns = sweep(LIDARS["hdl32e"], [wall(35.0)], weather=Weather(visibility=visibility))
        air = returns.surface == AIR
        ranges = np.linalg.norm(returns.sweep.points[air, :3] - (0, 0, 2.0), axis=1)
        return int((returns.owner == 7).sum()), int(air.sum()), float(ranges.max()) if air.any() else 0.0

    clear, light, dense = seen(100000.0), seen(200.0), seen(40.0)
    assert clear[1] == 0
    assert clear[0] > light[0] > 10 * dense[0]
    assert dense[1] > light[1]
    assert dense[1] > 1000
    assert dense[2] < 20.0


def test_rain_weakens_blurs_and_leaves_drops() -> None:
    model = LIDARS["hdl32e"]
    bodies = [wall(40.0)]
    dry, wet = (sweep(model, bodies, weather=w) for w in (CLEAR, Weather(visibility=100000.0, rain=30.0)))
    assert (wet.owner == 7).sum() < (dry.owner == 7).sum()
    assert (dry.surface != AIR).all()
    drops = (wet.surface == AIR).mean()
    assert 0.001 < drops < 0.15
    spread = [float(np.std(r.sweep.points[r.owner == 7, 0])) for r in (dry, wet)]
    assert spread[1] > 2 * spread[0]
    # 1.076 R^0.67 dB/km (ITU-R P.1814) both ways, beside what clear air takes.
    more = LaserWeather.of(Weather(rain=30.0)).loss - LaserWeather.of(Weather()).loss
    assert 10.0 * np.log10(np.exp(more * 1000.0)) == pytest.approx(2 * 1.076 * 30.0**0.67)


_DIGEST = """
import sys
sys.path.insert(0, {folder!r})
from test_world_lidar import digest
print(digest({threads}))
"""


def digest(threads: int) -> str:
    """SHA-256 of everything in two sweeps of a small scene in rain."""
    weather = Weather(rain=5.0, visibility=300.0)
    found = hashlib.sha256()
    for seed in (3, 4):
        r = sweep(lidar_named("64x256"), [car(12.0, 90.0), wall(30.0)], seed=seed, weather=weather, threads=threads,
                  carrier=Carrier(np.eye(4), (9.0, 0.1), 0.2))  # fmt: skip
        for part in (r.sweep.points, r.sweep.time, r.owner, r.ring, r.column, r.surface, r.ground):
            found.update(np.ascontiguousarray(part).tobytes())
    return found.hexdigest()


def test_the_same_seed_gives_the_same_bytes_in_another_process_with_other_threads() -> None:
    folder = str(Path(__file__).parent)
    code = _DIGEST.format(folder=folder, threads=2)
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == digest(1)


def test_another_seed_gives_another_sweep() -> None:
    a, b = (sweep(LIDARS["vlp16"], [wall(15.0)], seed=seed) for seed in (1, 2))
    assert not np.array_equal(a.sweep.points[:1000], b.sweep.points[:1000])


def test_models_by_name() -> None:
    assert lidar_named("hdl64e").beams == 64
    assert (lidar_named("16x512").beams, lidar_named("16x512").columns) == (16, 512)
    assert LIDARS["64x1024"].columns == 1024
    for name in ("hdl65", "64x", "64x0", "63x100", ""):
        with pytest.raises(ConfigurationError, match=r"there are .*hdl64e"):
            lidar_named(name)
    with pytest.raises(ConfigurationError, match="as many azimuth offsets"):
        replace(LIDARS["vlp16"], azimuth_offsets=(0.0,))
    with pytest.raises(ConfigurationError, match="above 0"):
        replace(LIDARS["vlp16"], columns=0)
