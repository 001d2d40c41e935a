"""Corruptions: each changes what it says and nothing else, and the stronger ones change more."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from labelled_scenes import COLUMNS, ORIGIN, RINGS, make_scene, scene

from karp_perception.core import EgoState, InvalidInput, LidarSweep, SensorFrame
from karp_perception.core.geometry import pose_from_xy_yaw
from karp_perception.detection.training.augmentation.settings import SweepSettings
from karp_perception.detection.training.augmentation.sweeps import changed
from karp_perception.sensing import image_changes, sweep_changes
from karp_perception.sensing.beams import find_beams, find_origin
from karp_perception.sensing.corruptions import CORRUPTIONS, STRENGTHS, corrupt, image_distance
from karp_perception.sensing.delays import with_late_images, with_late_points
from karp_perception.sensing.labelled_frame import LabelledFrame
from karp_perception.sensing.point_index import PointIndex


def corrupted(name: str, strength: int, seed: int = 0) -> LabelledFrame:
    return corrupt(scene(), name, strength, np.random.default_rng(seed), lidar_origin=ORIGIN)


def image_of(frame: LabelledFrame) -> np.ndarray:
    return frame.sensors.cameras["front"].image.astype(float)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_corruption_changes_what_it_says_and_nothing_else(name: str) -> None:
    before = scene()
    after = corrupted(name, 2)
    corruption = CORRUPTIONS[name]
    for column in ("center", "size", "yaw", "velocity", "label"):
        np.testing.assert_array_equal(getattr(after.labels, column), getattr(before.labels, column))
    np.testing.assert_array_equal(after.object_id, before.object_id)
    points = np.zeros((0, 4)) if after.sensors.lidar is None else after.sensors.lidar.points.astype(float)
    # Points that only moved are still those of their objects.
    inside = before.points_inside if name in ("lidar_noise", "delay") else after.labels.contains(points).sum(axis=1)
    np.testing.assert_array_equal(after.points_inside, inside)
    assert set(after.sensors.cameras) == set(before.sensors.cameras)

    def of_cameras(frame: LabelledFrame) -> list[bytes]:
        cameras = frame.sensors.cameras.values()
        return [b"" if c is None else c.image.tobytes() + c.T_base_camera.tobytes() for c in cameras]

    def of_lidar(frame: LabelledFrame) -> bytes:
        return b"" if frame.sensors.lidar is None else frame.sensors.lidar.points.tobytes()

    assert (of_cameras(after) != of_cameras(before)) == ("cameras" in corruption.sensors)
    assert (of_lidar(after) != of_lidar(before)) == ("lidar" in corruption.sensors)
    assert after.sensors.ego is before.sensors.ego


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_the_same_seed_gives_the_same_corruption(name: str) -> None:
    first, second = corrupted(name, 3, 4), corrupted(name, 3, 4)
    for camera, other in zip(first.sensors.cameras.values(), second.sensors.cameras.values(), strict=True):
        assert (camera is None) == (other is None)
        if camera is not None and other is not None:
            np.testing.assert_array_equal(camera.image, other.image)
            np.testing.assert_array_equal(camera.T_base_camera, other.T_base_camera)
    if first.sensors.lidar is not None:
        np.testing.assert_array_equal(first.sensors.lidar.points, second.sensors.lidar.points)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_frames_that_lack_sensors_can_be_corrupted(name: str) -> None:
    base = scene()
    nothing = replace(base, sensors=SensorFrame(0, {"front": None}, None), masks={})
    assert corrupt(nothing, name, 2, np.random.default_rng(0)).sensors.lidar is None
    blind = replace(base, sensors=SensorFrame(0, {}, LidarSweep(np.zeros((0, 4)), 0)), masks={})
    left = corrupt(blind, name, 2, np.random.default_rng(0)).sensors.lidar
    assert left is None or len(left.points) == 0


def test_counts_that_a_simulator_knows_fall_by_what_is_lost() -> None:
    # Of an object that moved on during the sweep, twice as many points as lie in its box; of another, none lies there.
    base = scene()
    told = base.points_inside * 2
    away = replace(base.labels, center=base.labels.center + np.where(np.arange(6) == 4, 50.0, 0.0)[:, None])
    frame = corrupt(replace(base, labels=away, points_inside=told), "point_dropout", 2, np.random.default_rng(0))
    share = frame.labels.contains(frame.sensors.lidar.points).sum(axis=1) / base.points_inside
    share[4] = len(frame.sensors.lidar.points) / len(base.sensors.lidar.points)
    np.testing.assert_allclose(frame.points_inside, told * share, atol=0.51)


def test_unknown_names_and_strengths_are_refused() -> None:
    with pytest.raises(InvalidInput, match="no_camera"):
        corrupt(scene(), "sandstorm", 1, np.random.default_rng(0))
    with pytest.raises(InvalidInput, match="1, 2 or 3"):
        corrupt(scene(), "fog", 4, np.random.default_rng(0))


def farther_image(frame: LabelledFrame) -> float:
    return float(np.abs(image_of(frame) - image_of(scene())).mean())


def lost_points(frame: LabelledFrame) -> float:
    return -float(len(frame.sensors.lidar.points))


def range_error(frame: LabelledFrame) -> float:
    r = [np.linalg.norm(f.sensors.lidar.points[:, :3] - ORIGIN, axis=1) for f in (frame, scene())]
    return float(np.std(r[0] - r[1]))


def moved_points(frame: LabelledFrame) -> float:
    return float(np.abs(frame.sensors.lidar.points - scene().sensors.lidar.points).mean())


def turned_cameras(frame: LabelledFrame) -> float:
    a, b = (f.sensors.cameras["front"].T_base_camera[:3, :3] for f in (frame, scene()))
    return float(np.arccos((np.trace(a.T @ b) - 1) / 2))


def lost_contrast(frame: LabelledFrame) -> float:
    return -float(np.diff(image_of(frame), axis=1).std())


@pytest.mark.parametrize(
    ("name", "harm"),
    [
        ("few_beams", lost_points),
        ("point_dropout", lost_points),
        ("blind_sector", lost_points),
        ("fog", lost_points),
        ("rain", lost_points),
        ("lidar_noise", range_error),
        ("delay", moved_points),
        ("miscalibration", turned_cameras),
        ("fog", farther_image),
        ("rain", farther_image),
        ("motion_blur", lost_contrast),
        ("defocus", lost_contrast),
        ("low_light", farther_image),
        ("overexposure", farther_image),
        ("image_noise", farther_image),
        ("jpeg", farther_image),
        ("dirt", farther_image),
    ],
)
def test_stronger_corruptions_do_more_harm(name: str, harm: Callable[[LabelledFrame], float]) -> None:
    clean = harm(scene())
    grades = [np.mean([harm(corrupted(name, strength, seed)) for seed in range(3)]) for strength in STRENGTHS]
    assert clean < grades[0] < grades[1] < grades[2]


def test_all_graded_corruptions_are_among_those_that_harm_more() -> None:
    flat = {name for name, corruption in CORRUPTIONS.items() if not corruption.graded}
    assert flat == {"no_camera", "one_camera", "no_lidar"}


def test_missing_sensors() -> None:
    assert all(camera is None for camera in corrupted("no_camera", 1).sensors.cameras.values())
    one = corrupted("one_camera", 1)
    assert one.sensors.cameras["right"] is None
    assert one.sensors.cameras["front"] is not None
    assert set(one.masks) == {"front"}
    dark = corrupted("no_lidar", 1)
    assert dark.sensors.lidar is None
    assert not dark.points_inside.any()
    # The car behind is in no image: nothing sees it any more.
    assert dark.visibility[4] == 0
    assert dark.visibility[0] == scene().visibility[0]


@pytest.mark.parametrize("strength", STRENGTHS)
def test_few_beams_keeps_whole_rings(strength: int) -> None:
    points = corrupted("few_beams", strength).sensors.lidar.points
    offset = points[:, :3].astype(float) - ORIGIN
    elevation = np.arctan2(offset[:, 2], np.hypot(offset[:, 0], offset[:, 1]))
    ring = np.abs(elevation[:, None] - RINGS).argmin(axis=1)
    assert set(np.unique(ring)) <= set(range(0, len(RINGS), 2**strength))
    full = scene().sensors.lidar.points[:, :3].astype(float) - ORIGIN
    true_ring = np.abs(np.arctan2(full[:, 2], np.hypot(full[:, 0], full[:, 1]))[:, None] - RINGS).argmin(axis=1)
    assert len(points) == (true_ring % 2**strength == 0).sum()


def test_beams_are_found_without_knowing_where_they_start() -> None:
    # Level ground alone looks the same from every height: walls tell.
    walls = [
        (x, y, 0.5, 20.0, 8.0, yaw, 0, 0, 9) for x, y, yaw in ((18, 0, 0.3), (-14, 3, 0), (2, 12, 1.6), (0, -9, 1.4))
    ]
    assert find_origin(make_scene(np.array(walls)).sensors.lidar.points)[2] == pytest.approx(ORIGIN[2], abs=0.03)
    points = scene().sensors.lidar.points
    beams = find_beams(points, ORIGIN)
    assert len(beams.ring_elevation) == len(RINGS)
    np.testing.assert_allclose(beams.ring_elevation, RINGS, atol=np.radians(0.3))
    offset = points[:, :3].astype(float) - ORIGIN
    true_column = ((np.arctan2(offset[:, 1], offset[:, 0]) + np.pi) * COLUMNS / (2 * np.pi)).astype(int)
    every_second = find_beams(points, ORIGIN).columns() % 2
    agreement = np.mean(every_second == true_column % 2)
    assert agreement > 0.97 or agreement < 0.03


def test_beams_of_another_lidar_are_its_nearest_rings() -> None:
    points = scene().sensors.lidar.points
    wanted = np.arange(-15.3, 15.0, 2.0)
    beams = find_beams(points, ORIGIN)
    kept = beams.like(np.radians(wanted))
    rings = np.unique(beams.ring[kept])
    # From -15.3 to 2.7 degrees it has ten beams, each within a degree of a ring of ours; above there is nothing.
    expected = [int(np.abs(np.degrees(RINGS) - w).argmin()) for w in wanted if w < 3.0]
    assert rings.tolist() == expected
    assert len(expected) == 10


def test_miscalibration_turns_by_the_angle_it_says() -> None:
    for strength, degrees in zip(STRENGTHS, CORRUPTIONS["miscalibration"].levels, strict=True):
        frame = corrupted("miscalibration", strength, 3)
        assert turned_cameras(frame) == pytest.approx(np.radians(degrees), rel=1e-6)
        offset = frame.sensors.cameras["front"].T_base_camera - scene().sensors.cameras["front"].T_base_camera
        assert np.linalg.norm(offset[:3, 3]) == pytest.approx(0.05 * degrees, rel=1e-6)
        np.testing.assert_array_equal(image_of(frame), image_of(scene()))


def test_points_that_are_late_lie_where_they_were_seen_from_then() -> None:
    """Against poses in the world, of the vehicle and of each object, a moment ago."""
    base, delay = scene(), 0.2
    ego = base.sensors.ego
    late = with_late_points(base, delay)
    # A circle: the pose of then, by many small steps back.
    pose, steps = np.eye(4), 2000
    for _ in range(steps):
        dt = -delay / steps
        pose = pose @ pose_from_xy_yaw(*(ego.velocity * dt), ego.yaw_rate * dt)
    points = base.sensors.lidar.points
    owner = base.labels.contains(points.astype(float), 0.1)
    checked = 0
    for k in range(0, len(points), 7):
        place = points[k, :3].astype(float)
        boxes = np.flatnonzero(owner[:, k])
        if len(boxes):
            place[:2] -= base.labels.velocity[boxes[0]] * delay
            checked += 1
        seen = np.linalg.inv(pose) @ np.append(place, 1.0)
        np.testing.assert_allclose(late.sensors.lidar.points[k, :3], seen[:3], atol=3e-3)
    assert checked > 20
    np.testing.assert_array_equal(late.labels.center, base.labels.center)


def test_late_images_see_a_standing_world_from_where_the_vehicle_was() -> None:
    still = make_scene(np.array([(12.0, 3.0, 4.4, 1.8, 1.5, 0.1, 0.0, 0.0, 0)]))
    late = with_late_images(still, 0.1)
    ego, later = still.sensors.ego, late.sensors.ego
    # What stands keeps its place in odom, and the points their place in the box.
    places = [f.sensors.ego.T_odom_base @ np.append(f.labels.center[0], 1.0) for f in (still, late)]
    np.testing.assert_allclose(places[0], places[1], atol=1e-9)
    step = np.linalg.norm(later.T_odom_base[:3, 3] - ego.T_odom_base[:3, 3])
    assert step == pytest.approx(0.1 * np.linalg.norm(ego.velocity), rel=1e-3)
    counts = [f.labels.contains(f.sensors.lidar.points, 1e-3).sum() for f in (still, late)]
    assert counts[0] == counts[1] > 0
    assert late.sensors.cameras == still.sensors.cameras


def test_a_standing_vehicle_has_no_delay_but_that_of_moving_objects() -> None:
    base = scene()
    parked = replace(base, sensors=SensorFrame(0, {}, base.sensors.lidar, EgoState.standing(0)), masks={})
    late = with_late_points(parked, 0.1).sensors.lidar.points
    moved = np.abs(late - base.sensors.lidar.points).max(axis=1) > 1e-6
    moving = np.hypot(*base.labels.velocity.T) > 0
    inside = base.labels[moving].contains(base.sensors.lidar.points, 0.1).any(axis=0)
    np.testing.assert_array_equal(moved, inside)


def test_fog_is_koschmieders() -> None:
    image = np.full((4, 5, 3), 40, np.uint8)
    image[:, :, 1] = 60
    distance = np.linspace(5, 100, 20).reshape(4, 5)
    foggy = image_changes.foggy(image, distance, 50.0)
    air = min(205.0, 60.0 + image.mean())
    for i in range(4):
        for j in range(5):
            left = 0.05 ** (distance[i, j] / 50.0)  # 5 % of contrast at 50 m
            expected = left * image[i, j] + (1 - left) * air
            np.testing.assert_allclose(foggy[i, j], expected, atol=0.6)


def test_distances_of_an_image_are_about_right() -> None:
    frame = scene()
    distance = image_distance(frame, "front")
    camera = frame.sensors.cameras["front"]
    for row in (0, 1, 2):
        shown = frame.masks["front"] == frame.object_id[row]
        away = np.linalg.norm(frame.labels.center[row] - camera.T_base_camera[:3, 3])
        assert np.median(distance[shown]) == pytest.approx(away, rel=1e-5)
    assert np.median(distance[0]) > 300  # the sky


def test_low_light_is_darker_and_noisier() -> None:
    grey = np.full((200, 200, 3), 120, np.uint8)
    rng = np.random.default_rng(0)
    dark = image_changes.in_low_light(grey, 0.1, rng)
    light = (120 / 255) ** 2.2 * 0.1 * 0.1**-0.5
    assert dark.mean() == pytest.approx(255 * light ** (1 / 2.2), abs=2)
    assert dark.std() > 2 * image_changes.in_low_light(grey, 1.0, rng).std()


def test_noise_has_the_spread_it_is_given() -> None:
    grey = np.full((300, 300, 3), 128, np.uint8)
    for share in (0.0, 0.5):
        noisy = image_changes.noisy(grey, 10.0, np.random.default_rng(0), share).astype(float) - 128
        assert noisy.std() == pytest.approx(10.0, rel=0.03)
        correlation = np.corrcoef(noisy[..., 0].ravel(), noisy[..., 1].ravel())[0, 1]
        assert correlation == pytest.approx(share, abs=0.03)


def test_colours_keep_grey_grey() -> None:
    grey = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    turned = image_changes.colored(grey, hue=1.0, saturation=1.7)
    np.testing.assert_allclose(turned.astype(int), grey, atol=1)
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (20, 20, 3)).astype(np.uint8)
    np.testing.assert_allclose(image_changes.colored(picture).astype(int), picture, atol=1)
    plain = image_changes.colored(picture, saturation=0.0)
    np.testing.assert_allclose(plain[..., 0], cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), atol=1)


def test_a_smear_is_as_long_as_it_says() -> None:
    point = np.zeros((41, 41, 3), np.uint8)
    point[20, 20] = 250
    along = image_changes.motion_blurred(point, 11.0, 0.0)[..., 0].astype(float)
    u = np.arange(41) - 20
    assert abs(along.sum(axis=0) @ u) / along.sum() < 0.3
    # An even line of n pixels has a variance of (n^2 - 1) / 12.
    assert along.sum(axis=0) @ u**2 / along.sum() == pytest.approx((11**2 - 1) / 12, rel=0.2)
    assert along.sum(axis=1) @ u**2 / along.sum() < 0.5


def test_dirt_covers_its_share() -> None:
    white = np.full((128, 352, 3), 255, np.uint8)
    for share in (0.1, 0.5):
        dirty = image_changes.dirty(white, share, np.random.default_rng(2))
        assert np.mean(dirty[..., 0] < 200) == pytest.approx(share, abs=0.05)


@given(
    st.integers(0, 2**31),
    st.lists(st.tuples(st.floats(-200, 200), st.floats(-200, 200), st.floats(0.3, 15), st.floats(-4, 4)), max_size=8),
    st.sampled_from([0.0, 0.1, 1.0]),
)
@settings(max_examples=40, deadline=None)
def test_the_index_finds_what_boxes_contain(seed: int, rows: list[tuple[float, ...]], margin: float) -> None:
    table = np.reshape(rows, (-1, 4))
    n = len(table)
    rng = np.random.default_rng(seed)
    points = (rng.standard_normal((500, 4)) * (60, 60, 2, 1)).astype(np.float32)
    if n:
        points[:200, :2] = table[rng.integers(0, n, 200), :2] + rng.standard_normal((200, 2)) * 3
    boxes = scene().labels[np.zeros(n, int)]
    boxes = replace(
        boxes, center=np.c_[table[:, :2], np.zeros(n)], size=np.c_[table[:, 2], table[:, 2] / 2, np.full(n, 3)]
    )
    boxes = replace(boxes, yaw=table[:, 3])
    expected = boxes.contains(points, margin)
    owner, point = PointIndex(points).inside(boxes, margin)
    found = np.zeros_like(expected)
    found[owner, point] = True
    assert len(owner) == expected.sum()
    np.testing.assert_array_equal(found, expected)


def test_sweeps_change_as_their_settings_say() -> None:
    base = scene()
    none = dict.fromkeys(
        ("thin_rings", "thin_columns", "dropout", "noise", "intensity", "constant_intensity", "camera_view",
         "blind_sector"), 0.0,
    )  # fmt: skip
    count = len(base.sensors.lidar.points)
    for name in none:
        after = changed(base, np.random.default_rng(1), SweepSettings(**{**none, name: 1.0}), ORIGIN).sensors.lidar
        if name in ("noise", "intensity", "constant_intensity"):
            assert len(after.points) == count
            same_place = np.array_equal(after.points[:, :3], base.sensors.lidar.points[:, :3])
            assert same_place == (name != "noise")
            same_intensity = np.array_equal(after.points[:, 3], base.sensors.lidar.points[:, 3])
            assert same_intensity == (name == "noise")
            if name == "constant_intensity":
                assert np.ptp(after.points[:, 3]) == 0
        else:
            assert 0 < len(after.points) < count
            # What is left is what it was, with its time.
            left = {
                tuple(p): t for p, t in zip(base.sensors.lidar.points.tolist(), base.sensors.lidar.time, strict=True)
            }
            assert all(left[tuple(p)] == t for p, t in zip(after.points.tolist(), after.time, strict=True))
    assert changed(base, np.random.default_rng(1), SweepSettings(**none), ORIGIN) is base


def test_noise_moves_points_along_their_rays() -> None:
    sweep = scene().sensors.lidar
    noisy = sweep_changes.with_range_noise(sweep, 0.1, np.random.default_rng(0), ORIGIN)
    before, after = sweep.points[:, :3] - ORIGIN, noisy.points[:, :3] - ORIGIN
    r, s = np.linalg.norm(before, axis=1), np.linalg.norm(after, axis=1)
    np.testing.assert_allclose(after / s[:, None], before / r[:, None], atol=1e-4)
    assert np.std(s - r) == pytest.approx(0.1, rel=0.05)
