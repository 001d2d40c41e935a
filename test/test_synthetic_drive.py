"""The synthetic drive: what its sensors say agrees with its truth, by references that share no code with it."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.integrate import trapezoid
from scipy.spatial import ConvexHull

from karp_perception.core import Boxes, ConfigurationError
from karp_perception.core.geometry import invert_pose, transform_points
from karp_perception.sensing.bags import BagReader
from karp_perception.sensing.pointclouds import decode_pointcloud
from karp_perception.world.drive_bag import write_bag
from karp_perception.world.painter import Camera
from karp_perception.world.raycast import Lidar, LidarModel, Motion
from karp_perception.world.scenario import SCENARIOS, Course
from karp_perception.world.solids import Material, Part, Solids
from karp_perception.world.street import Street
from karp_perception.world.synthetic_drive import SyntheticDrive

SMALL = (320, 180)
EXACT = LidarModel(beams=24, columns=256, range_noise=0.0, dropout=0.0, sweep_time=0.0)
STRAIGHT = Street(radius=1e7, crossing=None)


def short_drive(**arguments: object) -> SyntheticDrive:
    return SyntheticDrive(**{"duration_s": 0.3, "image_size": SMALL, "lidar": EXACT, **arguments})


def random_solids(rng: np.random.Generator, count: int) -> Solids:
    parts = [
        Part((0, 0, 0), tuple(rng.uniform(0.4, 4, 3)), (200, 40, 40), Material.PAINT, tuple(rng.uniform(-0.3, 0.8, 2)))
        for _ in range(count)
    ]
    solids = Solids.of_parts(parts, owner=7)
    angle = np.linspace(-np.pi, np.pi, count, endpoint=False) + 0.1
    away = rng.uniform(5, 40, count)
    center = np.stack([away * np.cos(angle), away * np.sin(angle), rng.uniform(0.5, 2.5, count)], axis=1)
    return replace(solids, center=center, yaw=rng.uniform(-3, 3, count))


def at_rest(solids: Solids) -> Motion:
    return Motion(np.zeros(2), 0.0, np.zeros((len(solids), 2)))


def first_hit(hull: ConvexHull, origin: np.ndarray, direction: np.ndarray) -> float:
    """Distance at which a ray enters a convex hull, from the hull's own face equations; infinite for a miss."""
    normal, offset = hull.equations[:, :3], hull.equations[:, 3]
    rate, height = normal @ direction, normal @ origin + offset
    if ((np.abs(rate) < 1e-12) & (height > 0)).any():
        return np.inf
    t = -height / np.where(np.abs(rate) < 1e-12, np.inf, rate)
    enter, leave = t[rate < 0].max(initial=-np.inf), t[rate > 0].min(initial=np.inf)
    return enter if 0 < enter < leave else np.inf


def test_ranges_equal_rays_against_convex_hulls_and_the_ground_plane():
    rng = np.random.default_rng(3)
    solids = random_solids(rng, 12)
    returns = Lidar(EXACT).sweep(solids, STRAIGHT, (0.0, 0.0, 0.0), at_rest(solids), rng)
    hulls = [ConvexHull(corners) for corners in solids.corners()]
    origin = EXACT.origin
    offset = returns.points[:, :3].astype(float) - origin
    measured = np.linalg.norm(offset, axis=1)
    on_solid = np.flatnonzero(returns.owner == 7)
    assert len(on_solid) > 200
    checked = np.r_[rng.choice(on_solid, 150, replace=False), rng.choice(np.flatnonzero(returns.owner == 0), 150)]
    for i in checked:
        direction = offset[i] / measured[i]
        expected = min(first_hit(hull, origin, direction) for hull in hulls)
        ground = (origin[2] + 0.0) / -direction[2] if direction[2] < 0 else np.inf
        across = abs(direction[1] * ground) if np.isfinite(ground) else 0.0
        if across >= STRAIGHT.kerb:
            raised = (origin[2] - STRAIGHT.kerb_height) / -direction[2]
            face = STRAIGHT.kerb / abs(direction[1])
            ground = max(raised, face)
        assert measured[i] == pytest.approx(min(expected, ground), abs=5e-3)


def test_culling_rays_by_windows_loses_no_return():
    rng = np.random.default_rng(4)
    solids = random_solids(rng, 30)
    moving = Motion(np.array([9.0, 0.0]), 0.2, rng.uniform(-6, 6, (30, 2)))
    model = replace(EXACT, sweep_time=0.1)

    class EveryRay(Lidar):
        def _windows(self, solids: Solids, motion: Motion) -> list[tuple[int, slice, slice]]:
            return [(i, slice(0, model.beams), slice(0, model.columns)) for i in range(len(solids))]

    lidars = (Lidar(model), EveryRay(model))
    sweeps = [lidar.sweep(solids, STRAIGHT, (0, 0, 0), moving, np.random.default_rng(5)) for lidar in lidars]
    np.testing.assert_array_equal(sweeps[0].points, sweeps[1].points)
    np.testing.assert_array_equal(sweeps[0].owner, sweeps[1].owner)
    assert (sweeps[0].owner == 7).sum() > 300


def test_points_of_a_turning_sweep_lie_on_the_moving_box_once_the_motion_is_undone():
    model = replace(EXACT, sweep_time=0.1)
    box = Solids.of_parts([Part((12.0, 3.0, 1.0), (4.0, 2.0, 2.0), (1, 2, 3), Material.PAINT)], owner=1)
    velocity, yaw_rate, own = np.array([-7.0, 2.0]), 0.3, np.array([10.0, 0.0])
    returns = Lidar(model).sweep(
        box, STRAIGHT, (0, 0, 0), Motion(own, yaw_rate, velocity[None]), np.random.default_rng(0)
    )
    hit = returns.owner == 1
    points, time = returns.points[hit].astype(float), returns.time[hit].astype(float)
    assert hit.sum() > 50
    assert np.ptp(returns.time) == pytest.approx(0.1, abs=1e-3)
    c, s = np.cos(yaw_rate * time), np.sin(yaw_rate * time)
    x = c * points[:, 0] - s * points[:, 1] + (own[0] - velocity[0]) * time
    y = s * points[:, 0] + c * points[:, 1] + (own[1] - velocity[1]) * time
    inside = np.stack([np.abs(x - 12.0) - 2.0, np.abs(y - 3.0) - 1.0, np.abs(points[:, 2] - 1.0) - 1.0])
    np.testing.assert_allclose(inside.max(axis=0), 0, atol=2e-3)
    # Columns fire from behind clockwise, and the vehicle looks ahead at the stamp.
    ahead = np.abs(np.arctan2(returns.points[:, 1], returns.points[:, 0])) < 0.02
    assert np.abs(returns.time[ahead]).max() < 1e-3


def test_returns_of_an_actor_lie_in_its_box():
    frame = next(iter(short_drive().frames()))
    inside = frame.truth.contains(frame.sensors.lidar.points, margin=0.03).sum(axis=1)
    assert (frame.truth_points > 20).sum() >= 4
    assert (inside >= frame.truth_points).all()


def test_velocities_are_the_derivative_of_places():
    drive = short_drive(scenario="street", duration_s=12.0)
    h = 1e-4
    for actor in drive.script.actors:
        for t in (0.5, 3.0, 4.4, 6.3, 9.7, 11.4):
            before, now, after = (actor.state(t + k * h, drive.street) for k in (-1, 0, 1))
            np.testing.assert_allclose(now[2], (after[0] - before[0])[:2] / (2 * h), atol=2e-3)


def test_truth_of_successive_frames_agrees_with_its_velocities_and_odometry():
    frames = list(short_drive(duration_s=0.8).frames())
    for a, b in pairwise(frames):
        dt = (b.stamp_ns - a.stamp_ns) * 1e-9
        both = np.intersect1d(a.truth_id, b.truth_id)
        rows = [np.searchsorted(f.truth_id, both) for f in (a, b)]
        odom = [f.truth[r].transformed(f.sensors.ego.T_odom_base, "odom") for f, r in zip((a, b), rows, strict=True)]
        mean_velocity = 0.5 * (odom[0].velocity + odom[1].velocity)
        np.testing.assert_allclose((odom[1].center - odom[0].center)[:, :2] / dt, mean_velocity, atol=0.05)
        poses = [f.sensors.ego.T_odom_base for f in (a, b)]
        moved = np.linalg.norm(poses[1][:3, 3] - poses[0][:3, 3]) / dt
        assert moved == pytest.approx(0.5 * (a.sensors.ego.speed + b.sensors.ego.speed), abs=0.01)
        turned = np.arctan2((poses[0].T @ poses[1])[1, 0], (poses[0].T @ poses[1])[0, 0]) / dt
        assert turned == pytest.approx(0.5 * (a.sensors.ego.yaw_rate + b.sensors.ego.yaw_rate), abs=1e-3)


def test_a_course_is_the_integral_of_its_speed():
    course = Course(3.0, ((1.0, 2.0), (2.5, 0.0), (4.0, -1.0)))
    times = np.linspace(0, 6, 6_001)
    way = 3.0 + trapezoid([course.speed(t) for t in times], times)
    assert course.at(6.0) == pytest.approx(way, abs=1e-6)


def test_painted_bodies_cover_what_opencv_projects():
    drive = short_drive(image_size=(640, 360), scenario="free")
    camera = Camera(drive.camera, drive.street, drive.script.lane_d, 20.0, seed=0)
    body = Solids.of_parts([Part((14.0, 2.0, 1.2), (4.0, 1.8, 2.0), (255, 0, 255), Material.PAINT)], owner=1)
    body = replace(body, yaw=np.array([0.5]))
    far = replace(body, center=np.array([[-500.0, 0, 0]]))
    changed = (camera.paint(0.0, body, 0.0) != camera.paint(0.0, far, 0.0)).any(axis=2)
    box = Boxes(body.center, body.size, body.yaw, np.zeros((1, 2)), [0], [1.0])
    T = invert_pose(drive.camera.T_base_camera)
    turn, _ = cv2.Rodrigues(T[:3, :3])
    pixels, _ = cv2.projectPoints(box.corners()[0], turn, T[:3, 3], drive.camera.intrinsics, None)
    hull = np.zeros(changed.shape, np.uint8)
    cv2.fillConvexPoly(hull, np.int32(np.round(cv2.convexHull(pixels[:, 0].astype(np.float32)))), 1)
    assert changed.sum() > 2000
    differing = changed != hull.astype(bool)
    # Only pixels on the outline may differ.
    assert not cv2.erode(differing.astype(np.uint8), np.ones((3, 3))).any()


def test_road_markings_are_where_opencv_projects_them():
    drive = short_drive(image_size=(1280, 720), scenario="free")
    street, d = drive.street, drive.script.lane_d
    camera = Camera(drive.camera, street, d, 60.0, seed=0)
    s_ego = 50.0
    x, y, heading = street.pose(np.float64(s_ego), np.float64(d))
    nothing = Solids.of_parts([Part((-500, 0, 0), (1, 1, 1), (0, 0, 0), Material.PAINT)], owner=1)
    image = camera.paint(s_ego, nothing, float(heading)).mean(axis=2)
    T = invert_pose(drive.camera.T_base_camera)
    stripes = np.arange(-3.0, 3.0, 0.5)
    mx, my, _ = street.pose(np.full_like(stripes, street.crossing), stripes)
    c, sn = np.cos(heading), np.sin(heading)
    base = np.stack([c * (mx - x) + sn * (my - y), c * (my - y) - sn * (mx - x), 0 * mx], axis=1)
    pixels, _ = cv2.projectPoints(base, cv2.Rodrigues(T[:3, :3])[0], T[:3, 3], drive.camera.intrinsics, None)
    u, v = np.round(pixels[:, 0]).astype(int).T
    painted = np.mod(stripes + 0.25, 1.0) < 0.5
    assert image[v, u][painted].min() > image[v, u][~painted].max() + 60


def test_the_same_seed_gives_the_same_bytes_and_another_does_not():
    a, b, other = (list(short_drive(seed=seed, lidar=None).frames()) for seed in (1, 1, 2))
    for x, y in zip(a, b, strict=True):
        assert x.sensors.lidar.points.tobytes() == y.sensors.lidar.points.tobytes()
        assert x.sensors.cameras["front"].image.tobytes() == y.sensors.cameras["front"].image.tobytes()
        assert x.truth.center.tobytes() == y.truth.center.tobytes()
    assert a[0].sensors.lidar.points.tobytes() != other[0].sensors.lidar.points.tobytes()


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_vehicle_keeps_its_distance_in_every_scenario(scenario: str):
    drive = short_drive(scenario=scenario, duration_s=12.0)
    for index in range(0, len(drive), 5):
        ego = drive.ego(index)
        boxes, _, _ = drive._actors_at(index / drive.rate_hz, ego.stamp_ns, ego.T_odom_base)
        ahead = (np.abs(boxes.center[:, 1]) < 1.5) & (boxes.center[:, 0] > 0)
        free = boxes.center[ahead, 0] - 0.5 * boxes.size[ahead].max(axis=1, initial=0) - 2.9
        assert (free > 1.5).all()
    end = drive.ego(len(drive) - 1).speed
    assert end < 0.3 if scenario == "standing_car" else True
    assert end == pytest.approx(6.0, abs=0.5) if scenario == "follow" else True
    assert end > 7.5 if scenario == "free" else True


def test_unknown_scenarios_and_impossible_rates_are_refused_by_name():
    with pytest.raises(ConfigurationError, match=r"standing_car"):
        SyntheticDrive(scenario="parade")
    with pytest.raises(ConfigurationError, match="0 Hz"):
        SyntheticDrive(rate_hz=0)


def test_the_recording_says_what_the_drive_said(tmp_path: Path):
    drive, calls = short_drive(lidar=replace(EXACT, sweep_time=0.1)), []
    write_bag(tmp_path / "bag", drive, lambda done, total: calls.append((done, total)))
    assert calls == [(1, 3), (2, 3), (3, 3)]
    frames = list(drive.frames())
    with BagReader(tmp_path / "bag") as bag:
        topics = {topic.name: topic for topic in bag.topics.values()}
        messages: dict[str, list] = {}
        for message in bag.messages():
            messages.setdefault(message.topic, []).append(message.message)
    assert {name: topic.count for name, topic in topics.items()} == {
        "/tf_static": 1, "/route": 1, "/tf": 3, "/odometry": 3, "/camera/front/camera_info": 3,
        "/camera/front/image_raw/compressed": 3, "/lidar/points": 3, "/truth": 3,
    }  # fmt: skip
    assert topics["/tf_static"].qos[0].durability == topics["/route"].qos[0].durability == "transient_local"
    mounts = {item.child_frame_id: item for item in messages["/tf_static"][0].transforms}
    assert mounts["lidar"].transform.translation.z == pytest.approx(drive.lidar.height)
    for k, frame in enumerate(frames):
        decoded = decode_pointcloud(messages["/lidar/points"][k])
        in_base = transform_points(
            np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, drive.lidar.height], [0, 0, 0, 1.0]]), decoded.points[:, :3]
        )
        np.testing.assert_allclose(in_base, frame.sensors.lidar.points[:, :3], atol=1e-5)
        np.testing.assert_array_equal(decoded.points[:, 3], frame.sensors.lidar.points[:, 3])
        np.testing.assert_allclose(decoded.time, frame.sensors.lidar.time, atol=1e-6)
        position = messages["/odometry"][k].pose.pose.position
        np.testing.assert_allclose((position.x, position.y), frame.sensors.ego.T_odom_base[:2, 3])
        assert len(messages["/truth"][k].detections) == len(frame.truth)
        image = cv2.imdecode(np.asarray(messages["/camera/front/image_raw/compressed"][k].data), cv2.IMREAD_COLOR)
        assert np.abs(image[..., ::-1].astype(int) - frame.sensors.cameras["front"].image).mean() < 4


def test_raw_images_are_recorded_byte_by_byte(tmp_path: Path):
    drive = short_drive(duration_s=0.1)
    write_bag(tmp_path / "bag", drive, compressed=False)
    image = next(iter(drive.frames())).sensors.cameras["front"].image
    with BagReader(tmp_path / "bag") as bag:
        (message,) = [m.message for m in bag.messages() if m.topic == "/camera/front/image_raw"]
    assert (message.encoding, message.width, message.height, message.step) == ("rgb8", *SMALL, 3 * SMALL[0])
    assert bytes(message.data) == image.tobytes()
