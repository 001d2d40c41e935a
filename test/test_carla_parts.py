"""The parts of CarlaWorld against closed forms: coordinates, classes, control, lidar beams, pictures, visibility."""

from __future__ import annotations

import math
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation as ScipyRotation

from karp_perception.core import Boxes, Command, InvalidInput
from karp_perception.core.classes import ObjectClass
from karp_perception.core.frames import Distortion, DistortionModel
from karp_perception.core.geometry import pose_from_rotation
from karp_perception.world.carla.control import PedalControl
from karp_perception.world.carla.coordinates import (
    angles_to_carla,
    depth_from_carla,
    image_from_carla,
    points_from_carla,
    pose_from_carla,
    rotation_from_carla,
    transform_to_carla,
    vector_from_carla,
    yaw_rate_from_carla,
)
from karp_perception.world.carla.labels import label_of, size_or_fallback
from karp_perception.world.carla.pinhole_view import PinholeView
from karp_perception.world.carla.sensors import MountedCamera, MountedLidar, beam_blocks
from karp_perception.world.carla.visibility import meet, visible_share
from karp_perception.world.sensors.camera import CameraModel
from karp_perception.world.sensors.lidar_models import LIDARS, lidar_named

Ns = SimpleNamespace
angles = st.floats(-180.0, 180.0)
pitches = st.floats(-89.0, 89.0)
STAND_IN = Ns(
    Location=lambda x, y, z: Ns(x=x, y=y, z=z),
    Rotation=lambda pitch, yaw, roll: Ns(pitch=pitch, yaw=yaw, roll=roll),
    Transform=lambda location, rotation: Ns(location=location, rotation=rotation),
    VehicleControl=Ns,
)


@given(pitches, angles, angles)
def test_rotations_are_those_of_scipy_with_mirrored_signs(pitch: float, yaw: float, roll: float) -> None:
    # REP-103: yaw about z, then pitch about y, then roll about x; CARLA's yaw and pitch turn the other way.
    expected = ScipyRotation.from_euler("ZYX", [-yaw, -pitch, roll], degrees=True).as_matrix()
    np.testing.assert_allclose(rotation_from_carla(Ns(pitch=pitch, yaw=yaw, roll=roll)), expected, atol=1e-12)


@given(pitches, angles, angles)
def test_angles_come_back(pitch: float, yaw: float, roll: float) -> None:
    R = rotation_from_carla(Ns(pitch=pitch, yaw=yaw, roll=roll))
    again = angles_to_carla(R)
    np.testing.assert_allclose(rotation_from_carla(Ns(pitch=again[0], yaw=again[1], roll=again[2])), R, atol=1e-9)
    assert again[0] == pytest.approx(pitch, abs=1e-6)


@pytest.mark.parametrize("pitch", [90.0, -90.0])
def test_straight_up_and_down_are_rotations_too(pitch: float) -> None:
    R = rotation_from_carla(Ns(pitch=pitch, yaw=30.0, roll=20.0))
    p, y, r = angles_to_carla(R)
    np.testing.assert_allclose(rotation_from_carla(Ns(pitch=p, yaw=y, roll=r)), R, atol=1e-7)
    assert r == 0.0


def test_right_becomes_left() -> None:
    np.testing.assert_array_equal(vector_from_carla(Ns(x=1.0, y=2.0, z=3.0)), [1, -2, 3])
    T = pose_from_carla(Ns(location=Ns(x=10.0, y=5.0, z=0.0), rotation=Ns(pitch=0.0, yaw=90.0, roll=0.0)))
    # It stands 5 m to the right and looks to the right: 2 m ahead of it are 7 m to the right.
    np.testing.assert_allclose(T @ [2, 0, 0, 1], [10, -7, 0, 1], atol=1e-12)
    # Nose up: what is ahead is higher.
    T = pose_from_carla(Ns(location=Ns(x=0.0, y=0.0, z=0.0), rotation=Ns(pitch=10.0, yaw=0.0, roll=0.0)))
    assert (T @ [1, 0, 0, 1])[2] == pytest.approx(math.sin(math.radians(10.0)))
    assert yaw_rate_from_carla(Ns(x=0.0, y=0.0, z=90.0)) == pytest.approx(-math.pi / 2)


@given(pitches, angles, angles, st.tuples(*[st.floats(-1e3, 1e3)] * 3))
def test_the_wheels_own_transform_agrees(pitch: float, yaw: float, roll: float, place: tuple) -> None:
    carla = pytest.importorskip("carla", reason="needs the carla package")
    transform = carla.Transform(carla.Location(*place), carla.Rotation(pitch=pitch, yaw=yaw, roll=roll))
    mirror = np.diag([1.0, -1.0, 1.0, 1.0])
    theirs = mirror @ np.array(transform.get_matrix()) @ mirror
    T = pose_from_carla(transform)
    np.testing.assert_allclose(T, theirs, atol=2e-4)  # it computes in single precision
    back = np.array(transform_to_carla(carla, T).get_matrix())
    np.testing.assert_allclose(mirror @ back @ mirror, T, atol=2e-4)


def test_the_wheels_own_vectors_and_types_are_accepted() -> None:
    carla = pytest.importorskip("carla", reason="needs the carla package")
    np.testing.assert_array_equal(vector_from_carla(carla.Vector3D(1, 2, 3)), [1, -2, 3])
    local = carla.Transform(carla.Location(1, 2, 3), carla.Rotation(yaw=30)).transform(carla.Location(4, 5, 6))
    T = pose_from_carla(carla.Transform(carla.Location(1, 2, 3), carla.Rotation(yaw=30)))
    np.testing.assert_allclose((T @ [4, -5, 6, 1])[:3], vector_from_carla(local), atol=1e-5)


def test_points_and_pixels_are_copied_and_mirrored() -> None:
    raw = np.array([[1, 2, 3, 0.5], [4, -5, 6, 1.0]], np.float32)
    points = points_from_carla(raw.tobytes())
    np.testing.assert_array_equal(points, [[1, -2, 3, 0.5], [4, 5, 6, 1.0]])
    points[:] = 0  # its own memory
    with pytest.raises(InvalidInput, match="four numbers"):
        points_from_carla(raw.tobytes()[:-4])
    pixels = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
    np.testing.assert_array_equal(image_from_carla(pixels.tobytes(), 3, 2), pixels[..., [2, 1, 0]])
    with pytest.raises(InvalidInput, match="3 x 3 pixels"):
        image_from_carla(pixels.tobytes(), 3, 3)


def test_depth_is_24_bits_over_a_kilometre() -> None:
    # B, G, R, A; red holds the lowest bits.
    pixels = np.array([[[0, 0, 0, 255], [255, 255, 255, 255], [0, 0, 1, 255], [1, 0, 0, 255]]], np.uint8)
    step = 1000.0 / (2**24 - 1)
    np.testing.assert_allclose(
        depth_from_carla(pixels.tobytes(), 4, 1)[0], [0.0, 1000.0, step, 65536 * step], rtol=1e-6
    )


@pytest.mark.parametrize(
    ("type_id", "attributes", "expected"),
    [
        ("vehicle.tesla.model3", {"base_type": "car", "number_of_wheels": "4"}, ObjectClass.CAR),
        ("vehicle.mercedes.sprinter", {"base_type": "van", "special_type": ""}, ObjectClass.CAR),
        ("vehicle.ford.ambulance", {"base_type": "van", "special_type": "emergency"}, ObjectClass.CAR),
        ("vehicle.carlamotors.firetruck", {"base_type": "truck", "special_type": "emergency"}, ObjectClass.TRUCK),
        ("vehicle.mitsubishi.fusorosa", {"base_type": "bus"}, ObjectClass.BUS),
        ("vehicle.vespa.zx125", {"base_type": "motorcycle", "number_of_wheels": "2"}, ObjectClass.MOTORCYCLE),
        ("vehicle.gazelle.omafiets", {"base_type": "bicycle", "number_of_wheels": "2"}, ObjectClass.BICYCLE),
        # Older releases: no base_type.
        ("vehicle.gazelle.omafiets", {"number_of_wheels": "2"}, ObjectClass.BICYCLE),
        ("vehicle.harley-davidson.low_rider", {"number_of_wheels": "2"}, ObjectClass.MOTORCYCLE),
        ("vehicle.carlamotors.carlacola", {"number_of_wheels": "4"}, ObjectClass.TRUCK),
        ("vehicle.tesla.cybertruck", {"number_of_wheels": "4"}, ObjectClass.CAR),
        ("vehicle.audi.tt", {"number_of_wheels": "4"}, ObjectClass.CAR),
        ("walker.pedestrian.0031", {}, ObjectClass.PEDESTRIAN),
        ("static.prop.constructioncone", {}, ObjectClass.TRAFFIC_CONE),
        ("static.prop.streetbarrier", {}, ObjectClass.BARRIER),
        ("static.prop.bin", {}, ObjectClass.UNKNOWN),
        ("traffic.traffic_light", {}, ObjectClass.UNKNOWN),
        ("sensor.camera.rgb", {}, ObjectClass.UNKNOWN),
        ("controller.ai.walker", {}, ObjectClass.UNKNOWN),
    ],
)
def test_blueprints_have_our_classes(type_id: str, attributes: dict[str, str], expected: ObjectClass) -> None:
    assert label_of(type_id, attributes) is expected


def test_sides_that_are_no_size_are_replaced() -> None:
    assert size_or_fallback((1.5, 0.0, 1.4), ObjectClass.BICYCLE) == (1.5, 0.6, 1.4)
    assert size_or_fallback((math.inf, math.nan, 1.4), ObjectClass.MOTORCYCLE) == (2.11, 0.77, 1.4)
    assert size_or_fallback((4.0, 2.0, 1.5), ObjectClass.CAR) == (4.0, 2.0, 1.5)


def simulate(controller: PedalControl, command: Command, speed: float, seconds: float) -> list[float]:
    """A point mass whose pedals do what the controller takes for full."""
    speeds = []
    for _ in range(round(seconds / 0.05)):
        throttle, brake, reverse = controller.pedals(command, speed)
        force = 4.0 * throttle * (-1 if reverse else 1)
        resistance = 0.15 + 0.0006 * speed * speed + 8.0 * brake
        if speed == 0 and abs(force) <= resistance:
            acceleration = 0.0
        else:
            acceleration = force - math.copysign(resistance, speed or force)
        after = speed + 0.05 * acceleration
        speed = 0.0 if speed * after < 0 and brake > 0 else after
        speeds.append(speed)
    return speeds


def test_pedals_reach_and_keep_a_speed() -> None:
    speeds = simulate(PedalControl(STAND_IN, 0.05), Command(0.0, 12.0, 2.0), 0.0, 30.0)
    assert speeds[-1] == pytest.approx(12.0, abs=0.1)
    assert max(speeds) < 12.6
    assert np.ptp(speeds[-100:]) < 0.1


def test_pedals_brake_to_a_stand_and_hold() -> None:
    speeds = simulate(PedalControl(STAND_IN, 0.05), Command(0.0, 0.0, -3.0), 10.0, 8.0)
    assert speeds[-1] == 0.0
    assert PedalControl(STAND_IN, 0.05).pedals(Command(0.0, 0.0, 0.0), 0.0) == (0.0, 1.0, False)


def test_pedals_go_backwards_only_from_a_stand() -> None:
    controller = PedalControl(STAND_IN, 0.05)
    assert controller.pedals(Command(0.0, -2.0, -1.0), 5.0)[2] is False
    assert simulate(controller, Command(0.0, -2.0, -1.0), 0.0, 15.0)[-1] == pytest.approx(-2.0, abs=0.1)


def test_steering_is_positive_to_the_right_and_follows_the_vehicles_curve() -> None:
    curve = np.array([[0.0, 1.0], [100.0, 0.5]])
    controller = PedalControl(STAND_IN, 0.05, math.radians(50.0), curve)
    assert controller.steer(math.radians(25.0), 0.0) == pytest.approx(-0.5)
    assert controller.steer(math.radians(-25.0), 100 / 3.6) == pytest.approx(1.0)
    assert controller.steer(-2.0, 0.0) == 1.0


def test_real_beam_tables_become_a_few_blocks_of_carlas() -> None:
    for name in LIDARS:
        table = np.sort(LIDARS[name].elevations)
        blocks, worst = beam_blocks(LIDARS[name].elevations)
        beams = np.concatenate([np.linspace(b.lower, b.upper, b.count) for b in blocks])
        assert len(beams) == len(table)
        assert len(blocks) <= 4
        assert np.abs(beams - table).max() == pytest.approx(worst, abs=1e-9)
        assert worst < 1.3, name
    # HDL-64E: two blocks, as it is built.
    blocks, worst = beam_blocks(lidar_named("hdl64e").elevations)
    assert [block.count for block in blocks] in ([32, 32], [33, 31], [31, 33])
    assert worst < 0.15


def test_a_lidar_turns_once_a_tick() -> None:
    lidar = MountedLidar(lidar_named("vlp16"), np.eye(4), 0.05)
    (order,) = lidar.orders()
    assert order.blueprint == "sensor.lidar.ray_cast"
    assert float(order.attributes["rotation_frequency"]) == 20.0
    columns = int(order.attributes["points_per_second"]) * 0.05 / 16
    assert columns == pytest.approx(1808, abs=1)
    assert float(order.attributes["lower_fov"]) == pytest.approx(-15.0, abs=0.01)
    assert float(order.attributes["upper_fov"]) == pytest.approx(15.0, abs=0.01)


def test_a_camera_is_mounted_where_its_optical_frame_is() -> None:
    model = CameraModel.pinhole("left", 640, 360, 80.0, (1.0, 0.5, 1.5), yaw_deg=30.0, pitch_deg=10.0)
    order = MountedCamera(model, PinholeView(model)).order()
    assert float(order.attributes["fov"]) == pytest.approx(80.0)
    pitch, yaw, roll = angles_to_carla(order.T_base_sensor[:3, :3])
    assert (pitch, yaw, roll) == pytest.approx((-10.0, -30.0, 0.0), abs=1e-9)
    np.testing.assert_allclose(order.T_base_sensor[:3, 3], [1.0, 0.5, 1.5])


def scene(view: PinholeView) -> np.ndarray:
    """What CARLA would render of a colour that depends on direction alone."""
    u, v = np.meshgrid(np.arange(view.width), np.arange(view.height))
    K = view.intrinsics
    return colours(np.dstack([(u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1], np.ones(u.shape)]))


def colours(rays: np.ndarray) -> np.ndarray:
    rays = rays / np.linalg.norm(rays, axis=-1, keepdims=True)
    return np.rint(127.5 + 127.5 * np.clip(rays, -1, 1)).astype(np.uint8)


def test_pictures_of_other_lenses_are_looked_up_in_a_pinholes() -> None:
    T = np.eye(4)
    K = np.array([[300.0, 0, 200.0], [0, 320.0, 90.0], [0, 0, 1]])
    off_centre = CameraModel("off", 320, 240, K, T)
    view = PinholeView(off_centre)
    u, v = np.meshgrid(np.arange(320.0), np.arange(240.0))
    rays = np.dstack([(u - 200) / 300, (v - 90) / 320, np.ones(u.shape)])
    assert np.abs(view.picture(scene(view)).astype(int) - colours(rays)).max() <= 2

    k = (0.02, -0.01, 0.001, 0.0)
    K = np.array([[150.0, 0, 159.5], [0, 150.0, 119.5], [0, 0, 1]])
    fisheye = CameraModel("fish", 320, 240, K, T, Distortion(DistortionModel.EQUIDISTANT, k))
    view = PinholeView(fisheye)
    picture = view.picture(scene(view))
    pixels = np.array([[160.0, 120.0], [60.0, 50.0], [250.0, 200.0], [300.0, 119.5]])
    # OpenCV's fisheye model is the reference.
    xy = cv2.fisheye.undistortPoints(pixels.reshape(-1, 1, 2), K, np.array(k)).reshape(-1, 2)
    expected = colours(np.column_stack([xy, np.ones(len(xy))]))
    found = picture[pixels[:, 1].astype(int), pixels[:, 0].astype(int)]
    # The last pixel lies at y = 119.5, half a pixel from its neighbour.
    assert np.abs(found.astype(int) - expected).max() <= 3


def test_a_plain_camera_is_rendered_as_it_is() -> None:
    model = CameraModel.pinhole("front", 64, 48, 80.0, (0.0, 0.0, 1.5))
    view = PinholeView(model)
    picture = np.zeros((48, 64, 3), np.uint8)
    assert view.picture(picture) is picture
    assert (view.width, view.height) == (64, 48)
    np.testing.assert_allclose(view.intrinsics, model.intrinsics)


def boxes_at(*centers: tuple[float, float, float], yaw: float = 0.0) -> Boxes:
    n = len(centers)
    ones = np.ones(n)
    return Boxes(np.array(centers), np.tile([4.0, 2.0, 1.6], (n, 1)), yaw * ones, np.zeros((n, 2)), 0 * ones, ones)


def test_rays_are_attributed_to_boxes_as_an_exact_intersection_says() -> None:
    rng = np.random.default_rng(0)
    boxes = boxes_at((10, 0, 0.8), (20, 5, 0.8), (-8, -6, 0.8), yaw=0.4)
    origin = np.array([0.0, 0.0, 1.7])
    rays = rng.normal(size=(20000, 3))
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    length = rng.uniform(1.0, 40.0, len(rays))
    owner, stopped = meet(boxes, origin, rays, length)
    # Points well inside belong to their box, points clear of all to none.
    ends = origin + rays * length[:, None]
    deep, clear = boxes.contains(ends, -0.2), ~boxes.contains(ends, 0.4).any(axis=0)
    for i in range(len(boxes)):
        assert (owner[deep[i]] == i).all()
    assert (owner[clear] == -1).all()
    # Along rays that meet a box, sampling says which of them ended before it.
    for i in range(len(boxes)):
        along = np.linspace(0.0, 45.0, 1500)
        hits = np.array([boxes[[i]].contains(origin + r * along[:, None], -0.05)[0] for r in rays[:3000]])
        met = hits.any(axis=1)
        entry = along[hits.argmax(axis=1)]
        certain = np.count_nonzero(met & (length[:3000] < entry - 0.5))
        possible = np.count_nonzero(boxes_entered(boxes[[i]], origin, rays[:3000], along, 0.1, length[:3000]))
        _, part = meet(boxes[[i]], origin, rays[:3000], length[:3000])
        assert certain <= part[0] <= possible
    assert stopped.sum() > 0


def boxes_entered(
    box: Boxes, origin: np.ndarray, rays: np.ndarray, along: np.ndarray, margin: float, length: np.ndarray
) -> np.ndarray:
    hits = np.array([box.contains(origin + r * along[:, None], margin)[0] for r in rays])
    return hits.any(axis=1) & (length < along[hits.argmax(axis=1)] + 0.1)


def test_visible_share_is_that_of_the_rays_that_look_at_a_box() -> None:
    boxes = boxes_at((20, 0, 0.8), (-20, 0, 0.8))
    origin = np.array([0.0, 0.0, 1.0])
    targets = np.column_stack([np.full(10, 18.5), np.linspace(-0.8, 0.8, 10), np.full(10, 1.0)])
    rays = (targets - origin) / np.linalg.norm(targets - origin, axis=1, keepdims=True)
    length = np.linalg.norm(targets - origin, axis=1)
    length[:4] = 8.0  # something stands in front
    share = visible_share(*meet(boxes, origin, rays, length))
    np.testing.assert_allclose(share, [0.6, 0.0])


def test_own_returns_are_left_out_of_a_sweep() -> None:
    lidar = MountedLidar(lidar_named("vlp16"), pose_from_rotation(np.eye(3), (0.0, 0.0, 1.8)), 0.1)
    raw = np.array([[0.95, 0.0, -1.0, 1.0], [10, 2, 0, 0.5], [np.nan, 0, 0, 0], [200, 0, 0, 1], [0.1, 0, 0, 1]], "f4")
    sweep = lidar.sweep([Ns(raw_data=raw.tobytes())], 5, boxes_at((0.0, 0.0, 0.8)))
    np.testing.assert_allclose(sweep.points, [[10, -2, 1.8, 0.5]], atol=1e-6)
    assert sweep.time is None
