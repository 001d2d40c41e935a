"""The embedded world's cameras, against OpenCV's projections, exact ray tests and the statistics they promise."""

from __future__ import annotations

import hashlib
import math
import subprocess
import sys

import cv2
import numpy as np
import pytest

from karp_perception.core.errors import ConfigurationError
from karp_perception.core.frames import Distortion, DistortionModel
from karp_perception.world.geometry.cast import Carrier
from karp_perception.world.geometry.ground import Ground, Patch, Surface
from karp_perception.world.geometry.materials import Material
from karp_perception.world.geometry.scene import BRAKE, LEFT, Bodies, Body, Scene
from karp_perception.world.geometry.shape import FIRST, ShapeBuilder, rotation_matrix
from karp_perception.world.sensors.camera import Camera, CameraModel, Rendered, Surroundings, render_all
from karp_perception.world.sensors.lens import Lens, develop
from karp_perception.world.sensors.shading import linear
from karp_perception.world.sensors.weather import Weather

LENS = (0.02, -0.01, 0.003, -0.0005)
PLACE = (0.6, 0.2, 1.5)
PINHOLE = CameraModel.pinhole("pinhole", 320, 180, 80.0, PLACE, 12.0, 4.0)
FISHEYE = CameraModel.fisheye("fisheye", 320, 240, 170.0, PLACE, 12.0, 4.0, coefficients=LENS)
FLAT = Ground.flat()


def carrier(x: float = 3.0, y: float = -2.0, yaw: float = 0.3) -> Carrier:
    pose = np.eye(4)
    pose[:3, :3] = rotation_matrix(0.01, -0.02, yaw)
    pose[:3, 3] = x, y, 0.05
    return Carrier(pose, (5.0, 0.0), 0.1)


def look(
    bodies: list[Body], model: CameraModel = PINHOLE, weather: Weather | None = None, ground: Ground = FLAT
) -> Rendered:
    scene, rays = Scene(ground, Bodies.of([]), Bodies.of(bodies)).rays(0.0, 0.0, 200.0)
    around = Surroundings.of(scene, rays, carrier(), weather or Weather(), ground)
    return Camera(model).expose(around, carrier(), 10**9, 7)


def ahead(model: CameraModel, x: float, y: float, z: float) -> np.ndarray:
    """The place in the world of a point of a camera's optical frame."""
    return (carrier().pose @ model.T_base_camera @ (x, y, z, 1.0))[:3]


def projected(model: CameraModel, points: np.ndarray) -> np.ndarray:
    """(N, 2) pixels of (N, 3) points of the world, by OpenCV."""
    T = np.linalg.inv(carrier().pose @ model.T_base_camera)
    rotation, shift = cv2.Rodrigues(T[:3, :3])[0], T[:3, 3]
    points = np.asarray(points, float).reshape(-1, 1, 3)
    if model.distortion.model is DistortionModel.EQUIDISTANT:
        D = np.array(model.distortion.coefficients)
        return cv2.fisheye.projectPoints(points, rotation, shift, model.intrinsics, D)[0].reshape(-1, 2)
    return cv2.projectPoints(points, rotation, shift, model.intrinsics, None)[0].reshape(-1, 2)


def ball(at: np.ndarray, radius: float, owner: int) -> Body:
    shape = ShapeBuilder().ellipsoid((0, 0, 0), (2 * radius,) * 3, Material.PLASTIC).build()
    return Body(shape, tuple(at), owner=owner)


def box(at: np.ndarray, size: tuple[float, float, float], angles: tuple[float, float, float], owner: int) -> Body:
    shape = ShapeBuilder().block((0, 0, 0), size, Material.PAINT, tint=FIRST).build()
    return Body(shape, tuple(at), angles[2], angles[1], angles[0], owner, first=(200.0, 30.0, 30.0))


def corners(body: Body, size: tuple[float, float, float]) -> np.ndarray:
    R = rotation_matrix(body.roll, body.pitch, body.yaw)
    unit = np.array(np.meshgrid([-0.5, 0.5], [-0.5, 0.5], [-0.5, 0.5])).reshape(3, -1).T
    return unit * size @ R.T + body.position


@pytest.mark.parametrize("model", [PINHOLE, FISHEYE], ids=["pinhole", "fisheye"])
def test_a_small_ball_appears_where_opencv_projects_its_middle(model: CameraModel) -> None:
    rng = np.random.default_rng(3)
    wide = 0.6 if model is PINHOLE else 2.2
    far = (6, 9, 12, 15)
    places = np.array([ahead(model, z * rng.uniform(-wide, wide), z * rng.uniform(-0.3, 0.1), z) for z in far])
    bodies = [ball(at, 0.03 * z, k + 1) for k, (z, at) in enumerate(zip(far, places, strict=True))]
    mask = look(bodies, model).mask
    for k, (u, v) in enumerate(projected(model, places)):
        rows, columns = np.nonzero(mask == k + 1)
        assert len(rows) >= 4
        assert (columns.mean(), rows.mean()) == pytest.approx((u, v), abs=0.5)


@pytest.mark.parametrize("seed", range(6))
def test_the_mask_of_an_unhidden_box_is_the_hull_of_its_projected_corners(seed: int) -> None:
    rng = np.random.default_rng(seed)
    size = (float(rng.uniform(1.5, 5)), float(rng.uniform(1, 2.5)), float(rng.uniform(1, 2.5)))
    z = float(rng.uniform(7, 14))
    body = box(ahead(PINHOLE, z * rng.uniform(-0.3, 0.3), -0.6, z), size, (0.0, 0.1, float(rng.uniform(-3, 3))), 5)
    # Nothing under it hides it: the ground is far below.
    low = Ground(np.full((2, 2), -30.0), (-1000.0, -1000.0), 2000.0)
    seen = look([body], ground=low).mask == 5
    hull = cv2.convexHull(projected(PINHOLE, corners(body, size)).astype(np.float32))[:, 0]
    v, u = np.mgrid[: seen.shape[0], : seen.shape[1]]
    edge = np.roll(hull, -1, axis=0) - hull
    side = [dx * (v - y) - dy * (u - x) for (x, y), (dx, dy) in zip(hull, edge, strict=True)]
    outline = np.all(np.array(side) >= 0, axis=0) | np.all(np.array(side) <= 0, axis=0)
    both, either = np.sum(seen & outline), np.sum(seen | outline)
    assert np.sum(seen) > 300
    assert both / either > 0.98


@pytest.mark.parametrize("model", [PINHOLE, FISHEYE], ids=["pinhole", "fisheye"])
def test_depth_agrees_with_an_exact_slab_test(model: CameraModel) -> None:
    rng = np.random.default_rng(11)
    size = (2.0, 1.2, 1.6)
    bodies = []
    for k in range(12):
        z = float(rng.uniform(4, 20))
        at = ahead(model, z * rng.uniform(-0.8, 0.8), z * rng.uniform(-0.3, 0.2), z)
        bodies.append(box(at, size, tuple(rng.uniform(-3, 3, 3)), k + 1))
    low = Ground(np.full((2, 2), -500.0), (-1000.0, -1000.0), 2000.0)
    found = look(bodies, model, ground=low)
    pose = carrier().pose @ model.T_base_camera
    rays = model.directions.astype(float) @ pose[:3, :3].T
    nearest, owner = np.full(rays.shape[:2], np.inf), np.zeros(rays.shape[:2], int)
    edge = np.zeros(rays.shape[:2], bool)
    for body in bodies:
        R = rotation_matrix(body.roll, body.pitch, body.yaw)
        start, direction = (pose[:3, 3] - body.position) @ R, rays @ R
        with np.errstate(divide="ignore"):
            a, b = ((sign * 0.5 * np.array(size) - start) / direction for sign in (-1.0, 1.0))
        enter, leave = np.minimum(a, b).max(axis=-1), np.maximum(a, b).min(axis=-1)
        edge |= np.abs(enter - leave) < 1e-3  # a ray that grazes an edge may be rounded either way
        closer = (enter < leave) & (enter > 0) & (enter < nearest)
        nearest[closer], owner[closer] = enter[closer], body.owner
    box_seen = (owner > 0) & ~edge
    assert box_seen.sum() > 2000
    np.testing.assert_array_equal(found.mask[~edge], owner[~edge])
    np.testing.assert_allclose(found.depth[box_seen], nearest[box_seen], rtol=2e-4)


def test_what_stands_before_hides_what_stands_behind_and_both_are_counted() -> None:
    size = (1.0, 1.0, 1.0)
    near, far = box(ahead(PINHOLE, 0, 0, 6), size, (0, 0, 0.2), 8), box(ahead(PINHOLE, 0.7, 0, 9), size, (0, 0, 0.9), 3)
    alone = look([far])
    both = look([far, near])
    assert list(both.owners) == [3, 8]
    assert both.covered[0] == alone.visible[0] == alone.covered[0] > 100
    assert both.visible[0] == np.sum(both.mask == 3) < both.covered[0]
    assert both.visible[1] == both.covered[1] == np.sum(both.mask == 8)
    gone = box(ahead(PINHOLE, 0, 0, 12), (0.3, 0.3, 0.3), (0, 0, 0), 4)
    hidden = look([near, gone])
    assert list(hidden.owners) == [4, 8]
    assert hidden.visible[0] == 0 < hidden.covered[0]


def test_glass_belongs_to_its_owner_and_shows_what_is_behind() -> None:
    cabin = ShapeBuilder().block((0, 0, 0), (1.6, 1.6, 1.0), Material.GLASS).build()
    body = Body(cabin, tuple(ahead(PINHOLE, 0, 0, 6)), owner=2)
    wall = box(ahead(PINHOLE, 0, 0, 12), (8.0, 8.0, 8.0), (0, 0, 0.3), 9)
    found = look([body, wall])
    v, u = (round(c) for c in projected(PINHOLE, np.array([body.position]))[0][::-1])
    assert found.mask[v, u] == 2
    assert found.depth[v, u] > 7.0


def busy() -> list[Body]:
    leaves = ShapeBuilder().ellipsoid((0, 0, 2.5), (2, 2, 2), Material.LEAVES, density=3.0)
    tree = leaves.cylinder((0, 0, 1), 0.1, 2, Material.BARK).build()
    bodies = [Body(tree, tuple(ahead(PINHOLE, x, 1.5, 10))) for x in (-3.0, 0.0, 3.0)]
    return [*bodies, box(ahead(PINHOLE, 1, 0.6, 8), (4.0, 1.8, 1.5), (0, 0, 0.4), 6)]


STREET = Ground.flat(
    [Patch(Surface.PAVEMENT, np.array([(-90, 2), (90, 2), (90, 9), (-90, 9)], float)),
     Patch(Surface.MARKING, np.array([(-90, -1), (90, -1), (90, -0.85), (-90, -0.85)], float))]
)  # fmt: skip


def digest(threads: int) -> str:
    scene, rays = Scene(STREET, Bodies.of([]), Bodies.of(busy())).rays(0.0, 0.0, 200.0)
    weather = Weather(rain=5.0, wetness=0.7)
    around = Surroundings.of(scene, rays, carrier(), weather, STREET)
    found = hashlib.sha256()
    for rendered in render_all([Camera(PINHOLE), Camera(FISHEYE)], around, carrier(), 10**9, 7, threads).values():
        found.update(rendered.frame.image.tobytes() + rendered.mask.tobytes() + rendered.depth.tobytes())
    single = Camera(PINHOLE).expose(around, carrier(), 10**9, 7, threads)
    found.update(single.frame.image.tobytes())
    return found.hexdigest()


def test_the_same_bytes_for_any_number_of_threads_and_in_another_process() -> None:
    here = digest(1)
    assert digest(2) == here == digest(5)
    code = "import sys; sys.path.insert(0, 'test'); from test_world_camera import digest; print(digest(2))"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == here


def test_textures_stand_still_while_noise_changes() -> None:
    clean = Lens(read_noise=0.0, full_well=1e6, blur=0.0)
    model = CameraModel.pinhole("still", 160, 90, 70.0, PLACE, lens=clean)
    scene, rays = Scene(STREET, Bodies.of([]), Bodies.of(busy())).rays(0.0, 0.0, 200.0)
    around = Surroundings.of(scene, rays, carrier(), Weather(), STREET)
    first, second = (Camera(model).expose(around, carrier(), stamp, 7).frame.image for stamp in (0, 10**8))
    np.testing.assert_array_equal(first, second)
    noisy = CameraModel.pinhole("noisy", 160, 90, 70.0, PLACE)
    first, second = (Camera(noisy).expose(around, carrier(), stamp, 7).frame.image for stamp in (0, 10**8))
    assert 0.5 < np.std(first.astype(float) - second.astype(float)) < 8.0


def test_a_wide_fisheye_sees_beside_and_behind_itself_and_nothing_outside_its_lens() -> None:
    model = CameraModel.fisheye("wide", 400, 400, 200.0, PLACE)
    aside = box(ahead(model, 6.0, 0.0, -0.5), (1.0, 1.0, 1.0), (0, 0, 0.5), 4)  # 95 degrees off the axis
    found = look([aside], model)
    angle = math.atan2(6.0, -0.5)
    u = model.intrinsics[0, 2] + model.intrinsics[0, 0] * angle
    rows, columns = np.nonzero(found.mask == 4)
    assert columns.mean() == pytest.approx(u, abs=1.5)
    assert rows.mean() == pytest.approx(model.intrinsics[1, 2], abs=1.5)
    narrow = CameraModel.fisheye("narrow", 200, 200, 150.0, PLACE, coefficients=(-0.30, 0.0, 0.0, 0.0))
    assert not narrow.directions[0, 0].any()
    dark = look([], narrow).frame.image
    assert dark[0, 0].mean() < 12 < dark[60, 100].mean()


def test_noise_has_the_deviation_of_its_photons_and_exposure_its_gain() -> None:
    flat = np.full((200, 300, 3), 0.2, np.float32)
    lens = Lens(full_well=4000.0, read_noise=0.004, vignette=0.0, blur=0.0, saturation=1.0)
    image = develop(flat, lens, 1.0, False, 5).astype(float)
    deviation = linear(image).std()
    assert deviation == pytest.approx(math.sqrt(0.2 / 4000.0 + 0.004**2), rel=0.1)
    assert linear(image).mean() == pytest.approx(0.2, rel=0.02)
    brighter = develop(flat, Lens(exposure_ev=1.0, vignette=0.0, saturation=1.0), 1.0, False, 5).astype(float)
    assert linear(brighter).mean() == pytest.approx(0.4, rel=0.02)
    corners_lost = develop(flat, Lens(vignette=0.5, saturation=1.0), 1.0, False, 5).astype(float)
    assert linear(corners_lost[:4, :4]).mean() == pytest.approx(0.1, rel=0.1)


def test_the_sun_leaves_the_ground_dark_where_a_box_stands_in_its_way() -> None:
    weather = Weather(sun_azimuth=0.5 * math.pi + 0.3, sun_elevation=0.6, cloudiness=0.0)
    body = box(np.array([11.0, 1.0, 1.2]), (2.0, 2.0, 1.0), (0.0, 0.0, 0.2), 4)
    clean = Lens(read_noise=0.0, full_well=1e6, blur=0.0, vignette=0.0)
    model = CameraModel.pinhole("high", 320, 240, 70.0, (0.0, 0.0, 8.0), 0.0, 35.0, lens=clean)
    found = look([body], model, weather)
    pose = carrier().pose @ model.T_base_camera
    places = pose[:3, 3] + found.depth[..., None] * (model.directions @ pose[:3, :3].T)
    R = rotation_matrix(0.0, 0.0, body.yaw)
    start, direction = (places - body.position) @ R, weather.sun_direction @ R

    def blocked(half: np.ndarray) -> np.ndarray:
        a, b = ((sign * half - start) / direction for sign in (-1.0, 1.0))
        return np.minimum(a, b).max(axis=-1) < np.maximum(a, b).min(axis=-1)

    ground = (found.mask == 0) & (np.abs(places[..., 2]) < 0.02)
    inside, outside = ground & blocked(np.array([0.85, 0.85, 0.4])), ground & ~blocked(np.array([1.6, 1.6, 1.1]))
    light = linear(found.frame.image.astype(float)).mean(axis=-1)
    assert inside.sum() > 100
    assert outside.sum() > 5000
    assert light[inside].max() < 0.75 * np.percentile(light[outside], 5)


def test_lamps_that_are_on_shine_on_their_side() -> None:
    def rear(lights: int) -> np.ndarray:
        b = ShapeBuilder().block((0, 0, 0.6), (4, 1.8, 1.0), Material.PLASTIC)
        for y in (-0.7, 0.7):
            b.block((-2.0, y, 0.7), (0.1, 0.3, 0.2), Material.TAIL_LAMP)
            b.block((-2.0, y, 1.0), (0.1, 0.3, 0.2), Material.INDICATOR)
        at = carrier().pose @ (9.0, -1.5, 0.0, 1.0)
        body = Body(b.build(), tuple(at[:3]), 0.3, owner=1, lights=lights)
        return look([body]).frame.image.astype(float)

    dark = rear(0)
    braking, turning = rear(BRAKE) - dark, rear(LEFT) - dark
    strong = np.nonzero(braking[..., 0] > 40)
    assert len(strong[0]) > 10
    assert np.ptp(strong[1]) > 20  # both sides
    lit = np.nonzero(turning[..., 0] > 40)[1]
    assert len(lit) > 4
    assert lit.max() < np.mean(strong[1])  # the left one alone


def test_fog_swallows_what_is_far() -> None:
    far = box(ahead(PINHOLE, 0, -1.0, 90), (12.0, 12.0, 12.0), (0, 0, 0.3), 3)

    def contrast(weather: Weather) -> float:
        found = look([far], weather=weather)
        image = found.frame.image.astype(float).mean(axis=-1)
        sky = np.isinf(found.depth) & (np.arange(180)[:, None] > 20)
        return abs(image[found.mask == 3].mean() - image[sky].mean())

    assert contrast(Weather(cloudiness=1.0, visibility=60.0)) < 0.15 * contrast(Weather(cloudiness=1.0))


def test_a_turning_camera_smears_edges_by_rate_times_exposure_times_focal_length() -> None:
    exposure, rate = 0.04, 1.2
    lens = Lens(exposure_time=exposure, read_noise=0.0, full_well=1e6, blur=0.0, vignette=0.0)
    model = CameraModel.pinhole("slow", 320, 180, 60.0, (0.0, 0.0, 1.5), lens=lens)
    low = Ground(np.full((2, 2), -500.0), (-1000.0, -1000.0), 2000.0)
    # Its left side hides half of the view; from a vehicle on its own wheels, so that the edge is upright.
    wall = box(np.array([10.0, -10.0, 1.5]), (0.2, 20.0, 30.0), (0.0, 0.0, 0.0), 1)
    scene, rays = Scene(low, Bodies.of([]), Bodies.of([wall])).rays(0.0, 0.0, 200.0)

    def smeared(yaw_rate: float) -> float:
        """Pixels from 10 % to 90 % of the step in light across the edge."""
        moving = Carrier(np.eye(4), (0.0, 0.0), yaw_rate)
        found = Camera(model).expose(Surroundings.of(scene, rays, moving, Weather(cloudiness=1.0)), moving, 0, 1)
        light = linear(found.frame.image[85:95, 100:220].astype(float)).mean(axis=(0, 2))
        step = (light - light[:20].mean()) / (light[-20:].mean() - light[:20].mean())
        return float(np.sum((step > 0.1) & (step < 0.9)))

    assert smeared(0.0) <= 1
    assert smeared(rate) == pytest.approx(0.8 * rate * exposure * model.intrinsics[0, 0], abs=1.5)


def test_markings_are_seen_where_they_lie() -> None:
    found = look([], ground=STREET)
    at = np.array([(x, -0.925, 0.003) for x in (9.0, 11.0, 14.0)])
    beside = at + np.array([0.0, -1.2, 0.0])
    brightness = [
        [found.frame.image[round(v), round(u)].mean() for u, v in projected(PINHOLE, points)] for points in (at, beside)
    ]
    assert np.all(np.subtract(*brightness) > 40)


def test_bad_models_and_weather_are_refused_in_one_line() -> None:
    with pytest.raises(ConfigurationError, match="visibility: expected 10 to 100000 m, got 1"):
        Weather(visibility=1.0)
    with pytest.raises(ConfigurationError, match="rain: expected 0 to 200 mm/h, got -1"):
        Weather.from_mapping({"rain": -1})
    with pytest.raises(ConfigurationError, match="cloudiness"):
        Weather(cloudiness=float("nan"))
    with pytest.raises(ConfigurationError, match="1 to 170 degrees, got 190"):
        CameraModel.pinhole("a", 64, 48, 190.0, PLACE)
    with pytest.raises(ConfigurationError, match="at least 2x2"):
        CameraModel.pinhole("a", 1, 48, 90.0, PLACE)
    with pytest.raises(ConfigurationError, match="plumb_bob"):
        CameraModel("a", 64, 48, PINHOLE.intrinsics, np.eye(4), Distortion(DistortionModel.PLUMB_BOB, (0.1, 0, 0, 0)))


def test_drawn_weather_repeats_and_covers_day_night_rain_and_fog() -> None:
    draws = [Weather.draw(np.random.default_rng(seed)) for seed in range(400)]
    assert draws[7] == Weather.draw(np.random.default_rng(7))
    assert 0.01 < np.mean([w.night for w in draws]) < 0.2
    assert 0.05 < np.mean([w.rain > 0 for w in draws]) < 0.25
    assert any(w.visibility < 1000 for w in draws)
    assert all(w.cloudiness >= 0.8 for w in draws if w.rain > 0)
    # Meteorological optical range: where a twentieth of the light is left (WMO-No. 8).
    assert math.exp(-1000.0 * Weather(visibility=1000.0).extinction) == pytest.approx(0.05)
