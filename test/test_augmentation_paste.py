"""Pasted objects: where they stand, what they hide and what hides them, checked ray by ray in plain loops."""

from __future__ import annotations

import pickle
from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from labelled_scenes import ORIGIN, cast, make_scene, scene, slab

from karp_perception.core import Boxes, SensorFrame
from karp_perception.detection.training.augmentation import AugmentationSettings, PasteBank, augment, drop_sensors
from karp_perception.detection.training.augmentation.paste import overlaps, paste
from karp_perception.detection.training.augmentation.patches import Patch, warped
from karp_perception.detection.training.augmentation.sensor_dropout import without
from karp_perception.detection.training.augmentation.settings import DropSettings, PasteSettings
from karp_perception.sensing.labelled_frame import LabelledFrame

ALWAYS = PasteSettings(share=1.0, most=4, tries=6)
EMPTY_STREET = np.zeros((0, 9))
# Posts all around, with gaps between them.
_AROUND = np.arange(0.0, 2 * np.pi, np.pi / 10)
POSTS = np.array([(7 * np.cos(a), 7 * np.sin(a), 0.4, 0.4, 3.0, a, 0, 0, 9) for a in _AROUND])


def full_bank() -> PasteBank:
    return PasteBank.of([scene()] * 3, 0, lidar_origin=ORIGIN)


def pasted(base: LabelledFrame, seed: int, bank: PasteBank | None = None) -> LabelledFrame:
    return paste(base, bank or full_bank(), np.random.default_rng(seed), ALWAYS, lidar_origin=ORIGIN)


def polygon_overlap(a: Boxes, b: Boxes) -> bool:
    """Whether ground rectangles share area: one cut along the sides of the other (Sutherland and Hodgman 1974)."""
    polygon, clip = list(a.footprint()[0]), b.footprint()[0]
    for k in range(4):
        start, side = clip[k], clip[(k + 1) % 4] - clip[k]
        cut = []
        for p, q in zip(polygon, polygon[1:] + polygon[:1], strict=True):
            left, right = (side[0] * (x[1] - start[1]) - side[1] * (x[0] - start[0]) for x in (p, q))
            if left >= 0:
                cut.append(p)
            if (left >= 0) != (right >= 0):
                cut.append(p + left / (left - right) * (q - p))
        polygon = cut
    x, y = np.array(polygon).reshape(-1, 2).T
    return bool(0.5 * abs(x @ np.roll(y, 1) - y @ np.roll(x, 1)) > 1e-4)


@given(
    st.lists(
        st.tuples(st.floats(-6, 6), st.floats(-6, 6), st.floats(0.3, 9), st.floats(0.3, 3), st.floats(-3, 3)),
        min_size=2,
        max_size=6,
    )
)
@settings(max_examples=60, deadline=None)
def test_rectangles_overlap_as_cut_polygons_do(rows: list[tuple[float, ...]]) -> None:
    table = np.array(rows)
    n = len(table)
    boxes = Boxes(
        np.c_[table[:, :2], np.zeros(n)], np.c_[table[:, 2:4], np.ones(n)], table[:, 4], np.zeros((n, 2)),
        np.zeros(n, int), np.ones(n),
    )  # fmt: skip
    found = overlaps(boxes[[0]], boxes[1:])
    shrunk = overlaps(boxes[[0]], boxes[1:], -0.01)
    for i in range(1, n):
        expected = polygon_overlap(boxes[[0]], boxes[[i]])
        # Rectangles that just touch may go either way.
        assert found[i - 1] == expected or (found[i - 1] and not shrunk[i - 1])


@pytest.mark.parametrize("seed", range(6))
def test_pasted_objects_stand_free_on_the_ground(seed: int) -> None:
    base = make_scene()
    frame = pasted(base, seed)
    new = range(len(base.labels), len(frame.labels))
    assert len(new) > 0
    for i in new:
        box = frame.labels[[i]]
        assert abs(box.center[0, 2] - 0.5 * box.size[0, 2]) < 0.1  # the ground is z = 0
        for j in range(i):
            assert not polygon_overlap(box, frame.labels[[j]])
        source = int(np.argmin(np.abs(scene().labels.size - box.size).sum(axis=1)))
        before = scene().labels[[source]]
        np.testing.assert_allclose(box.size, before.size)
        assert box.label == before.label
        # It keeps its speed and the side that it shows.
        assert np.hypot(*box.velocity[0]) == pytest.approx(np.hypot(*before.velocity[0]))
        turn = np.angle(np.exp(1j * (box.yaw - before.yaw)))[0]
        c, s = np.cos(turn), np.sin(turn)
        np.testing.assert_allclose(box.velocity[0], np.array([[c, -s], [s, c]]) @ before.velocity[0], atol=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_labels_stay_true(seed: int) -> None:
    base = scene()
    frame = pasted(base, seed)
    points = frame.sensors.lidar.points.astype(float)
    shrunk, grown = (frame.labels.contains(points, margin).sum(axis=1) for margin in (-1e-3, 1e-3))
    assert (frame.points_inside <= grown).all()
    assert (frame.points_inside >= shrunk).all()
    n = len(frame.labels)
    assert len(frame.object_id) == len(frame.visibility) == n
    assert len(set(frame.object_id.tolist())) == n
    assert (frame.visibility[: len(base.labels)] <= base.visibility + 1e-9).all()
    assert len(frame.sensors.lidar.time) == len(frame.sensors.lidar.points)
    for mask in frame.masks.values():
        assert set(np.unique(mask)) <= {0, *frame.object_id.tolist()}


def test_points_hide_each_other_as_rays_do() -> None:
    """Every point of the result, one by one: is what is left of the scene before or beside the pasted objects."""
    checked = 0
    for seed in range(2):
        base = make_scene(EMPTY_STREET)
        frame = paste(base, full_bank(), np.random.default_rng(seed), replace(ALWAYS, most=1), lidar_origin=ORIGIN)
        if not len(frame.labels):
            continue
        old = {tuple(p) for p in base.sensors.lidar.points.tolist()}
        points = frame.sensors.lidar.points
        is_old = np.array([tuple(p) in old for p in points.tolist()])
        own, left = points[~is_old, :3].astype(float) - ORIGIN, points[is_old, :3].astype(float) - ORIGIN
        distance = np.linalg.norm(own, axis=1)
        direction = own / distance[:, None]
        # No old point is left whose ray passes well through the box, as near to an own point as the next beam.
        # Beams are half a degree apart: so wide a rim may belong to either.
        rim = 2 * np.tan(np.radians(0.6)) * distance.max()
        within = replace(frame.labels, size=np.maximum(frame.labels.size - rim, 0.05))
        ahead = left @ direction.mean(axis=0) > 0.9 * np.linalg.norm(left, axis=1)
        for point in left[ahead]:
            r = np.linalg.norm(point)
            angle = np.arccos(np.clip(direction @ (point / r), -1, 1))
            close = (angle < np.radians(0.4)) & (distance < r - 0.3)
            assert not close.any() or slab(ORIGIN, point[None] / r, within)[0, 0] > r
            checked += 1
        # What is gone had the box before it, or lay in it.
        remaining = {tuple(p) for p in points.tolist()}
        gone = np.array([p for p in base.sensors.lidar.points.tolist() if tuple(p) not in remaining])[:, :3] - ORIGIN
        assert len(gone) > 10
        r = np.linalg.norm(gone, axis=1)
        entry = slab(ORIGIN, gone / r[:, None], frame.labels)[0]
        assert (entry < r).all()
    assert checked > 300


def test_posts_hide_what_is_put_behind_them() -> None:
    base, bank = make_scene(POSTS), full_bank()
    hidden = 0
    for seed in range(15):
        frame = pasted(base, seed, bank)
        posts = frame.labels[: len(POSTS)]
        # Half a cell at their sides may go either way.
        posts = replace(posts, size=posts.size - (0.15, 0.15, 0.2))
        for i in range(len(POSTS), len(frame.labels)):
            inside = frame.labels[[i]].contains(frame.sensors.lidar.points, 0.1)[0]
            offset = frame.sensors.lidar.points[inside, :3] - ORIGIN
            distance = np.linalg.norm(offset, axis=1)
            assert not (slab(ORIGIN, offset / distance[:, None], posts) < distance - 0.5).any()
            source = int(np.argmin(np.abs(scene().labels.size - frame.labels.size[i]).sum(axis=1)))
            hidden += frame.points_inside[i] < 0.9 * scene().points_inside[source]
    assert hidden > 3


def test_a_turned_object_is_drawn_where_its_box_projects() -> None:
    """The patch of a box, warped to another bearing, against the silhouette of the turned box."""
    objects = np.array([(14.0, 1.5, 4.4, 1.8, 1.5, 0.5, 0.0, 0.0, 0)])
    base = make_scene(objects)
    camera, mask = base.sensors.cameras["front"], base.masks["front"]
    patch = Patch.cut(camera, mask, int(base.object_id[0]), 10)
    assert patch is not None
    assert patch.whole
    eye = camera.T_base_camera[:3, 3]
    for turn in (-0.4, -0.1, 0.0, 0.2):
        c, s = np.cos(turn), np.sin(turn)
        R = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
        x, y, _ = R @ (base.labels.center[0] - eye) + eye
        moved = objects.copy()
        moved[0, :2], moved[0, 5] = (x, y), objects[0, 5] + turn
        expected = make_scene(moved).masks["front"] > 0
        drawing = warped(patch, camera, turn, (np.array([x, y, 0.75]), 0.0))
        assert drawing is not None
        drawn = np.zeros(mask.shape, bool)
        drawn[drawing.rows, drawing.columns] = drawing.alpha > 0.5
        assert (drawn & expected).sum() / (drawn | expected).sum() > 0.88
        if turn == 0.0:
            colors = drawing.colors[drawing.alpha > 0.9]
            own = camera.image[mask > 0][0]
            assert np.median(np.abs(colors.astype(int) - own)) <= 3


def test_nearer_objects_stay_in_front_of_drawn_ones() -> None:
    base = scene()
    drawn_at_all = 0
    bank = full_bank()
    for seed in range(20):
        frame = pasted(base, seed, bank)
        for name, mask in frame.masks.items():
            before = base.masks[name]
            changed = mask != before
            drawn_at_all += bool(changed.any())
            eye = base.sensors.cameras[name].T_base_camera[:3, 3]
            away = {int(n): np.linalg.norm(c - eye) for n, c in zip(frame.object_id, frame.labels.center, strict=True)}
            for new, old in {(int(a), int(b)) for a, b in zip(mask[changed], before[changed], strict=True)}:
                assert old == 0 or away[new] < away[old]
            # Where no mask changed, the image is what it was, but for the soft rim of what was drawn.
            far = cv2.dilate(changed.astype(np.uint8), np.ones((7, 7))) == 0
            np.testing.assert_array_equal(frame.sensors.cameras[name].image[far], base.sensors.cameras[name].image[far])
    assert drawn_at_all > 2


def test_without_images_objects_turn_about_the_lidar() -> None:
    base = make_scene()
    blind = replace(base, sensors=SensorFrame(base.sensors.stamp_ns, {}, base.sensors.lidar), masks={})
    bank = full_bank()
    counts = 0
    for seed in range(5):
        frame = pasted(blind, seed, bank)
        for i in range(len(base.labels), len(frame.labels)):
            size = frame.labels.size[i]
            source = int(np.argmin(np.abs(scene().labels.size - size).sum(axis=1)))
            here, there = (np.hypot(*b.center[k, :2]) for b, k in ((frame.labels, i), (scene().labels, source)))
            assert here == pytest.approx(there, abs=1e-6)
            assert 0 < frame.points_inside[i] <= scene().points_inside[source]
            counts += 1
    assert counts > 3


def test_the_bank_holds_a_few_of_each_class_and_rare_ones_as_often() -> None:
    bank = PasteBank(capacity=3)
    rng = np.random.default_rng(0)
    for _ in range(30):
        bank.add(scene(), rng, lidar_origin=ORIGIN)
    drawn = [int(bank.draw(rng).box.label[0]) for _ in range(400)]  # type: ignore[union-attr]
    labels = set(scene().labels.label.tolist())
    assert set(drawn) == labels
    assert len(bank) <= 3 * len(labels)
    share = np.bincount(drawn, minlength=10)[list(labels)] / 400
    assert share.min() > 0.1
    assert PasteBank().draw(rng) is None


def test_a_bank_can_be_sent_to_other_processes() -> None:
    bank = full_bank()
    copy = pickle.loads(pickle.dumps(bank))
    assert len(copy) == len(bank) > 4
    a, b = pasted(scene(), 3, bank), pasted(scene(), 3, copy)
    np.testing.assert_array_equal(a.sensors.lidar.points, b.sensors.lidar.points)
    np.testing.assert_array_equal(a.labels.center, b.labels.center)


def test_stored_objects_do_not_change_with_their_frame() -> None:
    base = make_scene()
    points, image = base.sensors.lidar.points.copy(), base.sensors.cameras["front"].image.copy()
    camera = replace(base.sensors.cameras["front"], image=image)
    sensors = SensorFrame(0, {"front": camera}, replace(base.sensors.lidar, points=points))
    bank = PasteBank()
    bank.add(replace(base, sensors=sensors, masks={"front": base.masks["front"]}), np.random.default_rng(0), most=9)
    rng = np.random.default_rng(1)
    before = [(s.points.copy(), s.patches["front"].image.copy()) for s in (bank.draw(rng),) if "front" in s.patches]
    points[:], image[:] = 0, 0
    rng = np.random.default_rng(1)
    after = [(s.points, s.patches["front"].image) for s in (bank.draw(rng),) if "front" in s.patches]
    assert before
    for (p, i), (q, j) in zip(before, after, strict=True):
        np.testing.assert_array_equal(p, q)
        np.testing.assert_array_equal(i, j)


def test_the_same_seed_gives_the_same_frame() -> None:
    frames = [augment(scene(), np.random.default_rng(5), paste=full_bank()) for _ in range(2)]
    a, b = (drop_sensors(frame, np.random.default_rng(6)) for frame in frames)
    assert np.array_equal(a.labels.center, b.labels.center)
    assert (a.sensors.lidar is None) == (b.sensors.lidar is None)
    np.testing.assert_array_equal(frames[0].sensors.lidar.points, frames[1].sensors.lidar.points)
    for name, camera in frames[0].sensors.cameras.items():
        np.testing.assert_array_equal(camera.image, frames[1].sensors.cameras[name].image)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_augmented_labels_are_true_whatever_happens(seed: int) -> None:
    rng = np.random.default_rng(seed)
    frame = augment(scene(), rng, paste=full_bank(), lidar_origin=ORIGIN)
    # Noise and tilt bring points over the sides of their box, and haze may lie in it.
    points = frame.sensors.lidar.points.astype(float)
    shrunk, grown = (frame.labels.contains(points, margin).sum(axis=1) for margin in (-0.5, 0.5))
    assert (frame.points_inside <= grown).all()
    assert (frame.points_inside >= shrunk).all()
    dropped = drop_sensors(frame, rng)
    sensors = dropped.sensors
    present = [name for name, camera in sensors.cameras.items() if camera is not None]
    assert present or sensors.lidar is not None
    assert set(sensors.cameras) == {"front", "right"}
    assert set(dropped.masks) == set(present)
    assert (dropped.points_inside == (0 if sensors.lidar is None else frame.points_inside)).all()
    assert len(dropped.labels) == len(frame.labels)
    assert (dropped.visibility <= frame.visibility).all()


def test_frames_that_lack_things_can_be_augmented() -> None:
    base = scene()
    sensors = base.sensors
    bare = replace(
        base, object_id=None, visibility=None, masks={}, labels=replace(base.labels, velocity=np.full((6, 2), np.nan))
    )
    no_points = replace(sensors.lidar, points=np.zeros((0, 4)), time=np.zeros(0))
    kinds = {
        "no truth but boxes": bare,
        "no labels": base.with_labels(np.zeros(6, bool)),
        "no lidar": replace(base, sensors=SensorFrame(0, sensors.cameras, None, sensors.ego)),
        "no points": replace(base, sensors=SensorFrame(0, sensors.cameras, no_points, sensors.ego)),
        "no cameras": replace(base, sensors=SensorFrame(0, {"front": None}, sensors.lidar), masks={}),
        "nothing": replace(bare, sensors=SensorFrame(0)),
    }
    bank = full_bank()
    for name, frame in kinds.items():
        for seed in range(6):
            rng = np.random.default_rng(seed)
            changed = drop_sensors(augment(frame, rng, paste=bank), rng)
            assert len(changed.points_inside) == len(changed.labels), name
            for column in (changed.object_id, changed.visibility, changed.weight):
                assert column is None or len(column) == len(changed.labels), name
            if frame.sensors.lidar is None:
                assert changed.sensors.lidar is None


def test_shares_of_missing_sensors() -> None:
    kinds = {"no images": 0, "no lidar": 0, "one of two": 0}
    for seed in range(2000):
        sensors = drop_sensors(scene(), np.random.default_rng(seed), DropSettings(camera=0.2)).sensors
        present = sum(camera is not None for camera in sensors.cameras.values())
        kinds["no images"] += present == 0
        kinds["no lidar"] += sensors.lidar is None
        kinds["one of two"] += present == 1
    assert kinds["no images"] / 2000 == pytest.approx(0.25, abs=0.03)
    assert kinds["no lidar"] / 2000 == pytest.approx(0.25, abs=0.03)
    # Of the rest 2 * 0.2 * 0.8 lose one, and 0.2 * 0.2 would lose both and keep one.
    assert kinds["one of two"] / 2000 == pytest.approx(0.75 * (0.32 + 0.04), abs=0.03)
    assert drop_sensors(scene(), np.random.default_rng(0), AugmentationSettings.none().drop) is scene()


def test_labels_of_one_camera_end_with_its_view_when_it_goes() -> None:
    base = scene()
    camera = base.sensors.cameras["front"]
    one = replace(
        base,
        sensors=SensorFrame(0, {"front": camera}, base.sensors.lidar),
        masks={"front": base.masks["front"]},
        sector=True,
    )
    blind = without(one, {"front"})
    assert not blind.sector
    left = blind.sensors.lidar.points[:, :3].astype(float)
    T = np.linalg.inv(camera.T_base_camera)
    pixels = (left @ T[:3, :3].T + T[:3, 3]) @ camera.intrinsics.T
    assert (pixels[:, 2] > 0).all()
    pixels = pixels[:, :2] / pixels[:, 2:]
    assert (pixels >= -1e-3).all()
    assert (pixels <= np.array([351, 127]) + 1e-3).all()
    assert 0 < len(left) < len(base.sensors.lidar.points)


def test_casting_over_boxes_is_what_a_pasted_box_looks_like() -> None:
    """Of the ground's points behind a pasted object, few are left where a lidar would have none."""
    base = make_scene(EMPTY_STREET)
    shares = []
    for seed in range(3):
        frame = paste(base, full_bank(), np.random.default_rng(seed), replace(ALWAYS, most=1), lidar_origin=ORIGIN)
        if not len(frame.labels):
            continue
        real = set(map(tuple, cast(frame.labels).tolist()))
        ground = [p for p in base.sensors.lidar.points.tolist() if tuple(p) not in real]
        left = {tuple(p) for p in frame.sensors.lidar.points.tolist()}
        shares.append(np.mean([tuple(p) in left for p in ground]))
    assert len(shares) > 1
    assert np.mean(shares) < 0.2
