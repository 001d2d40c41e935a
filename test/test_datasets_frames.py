"""Frame folders: what is written comes back, whatever a frame knows, and what is broken is said in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dataset_folders import KITTI_NAMES, made_up_frame, write_kitti, write_nuscenes
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_world import TinyPlaces

from karp_perception.core import Boxes, ConfigurationError, InvalidInput, LidarSweep
from karp_perception.core.geometry import invert_pose, project_points, transform_points
from karp_perception.sensing.datasets import FORMATS, JoinedDatasets, open_dataset
from karp_perception.sensing.frame_folder_writer import write_labelled_frame
from karp_perception.sensing.image_files import write_image
from karp_perception.sensing.labelled_frame import load_labelled_frame, points_in_labels
from karp_perception.world.dataset import DatasetSettings, run
from karp_perception.world.world_frames import WorldFrames, labelled


def full_frame(stamp_ns: int = 1_700_000_000_000_000_001):
    """A frame that knows everything."""
    frame = made_up_frame(4, stamp_ns=stamp_ns)
    n = len(frame.labels)
    velocity = frame.labels.velocity.copy()
    velocity[1] = np.nan
    sweep = frame.sensors.lidar
    time = np.linspace(-0.05, 0.05, len(sweep.points), dtype=np.float32)
    sensors = replace(frame.sensors, lidar=LidarSweep(sweep.points, stamp_ns, time))
    return replace(
        frame,
        sensors=sensors,
        labels=replace(frame.labels, velocity=velocity),
        unlabelled=np.array([[20.0, -5.5, 3.0], [-4.0, 1.25, 0.5]]),
        sector=True,
        object_id=np.arange(n) + 3,
        visibility=np.linspace(0, 1, n),
        weight=np.linspace(1, 0.2, n),
    )


def test_all_that_a_frame_knows_comes_back(tmp_path: Path) -> None:
    frame = full_frame()
    write_labelled_frame(tmp_path, frame, "a test")
    read = load_labelled_frame(tmp_path)
    assert read.sensors.stamp_ns == frame.sensors.stamp_ns
    np.testing.assert_array_equal(read.sensors.lidar.points, frame.sensors.lidar.points)
    np.testing.assert_array_equal(read.sensors.lidar.time, frame.sensors.lidar.time)
    for name in ("center", "size", "yaw", "velocity", "label"):
        np.testing.assert_allclose(getattr(read.labels, name), getattr(frame.labels, name), atol=6e-5, err_msg=name)
    for name in ("unlabelled", "visibility", "weight", "object_id", "points_inside"):
        np.testing.assert_allclose(getattr(read, name), getattr(frame, name), atol=6e-5, err_msg=name)
    assert read.sector
    np.testing.assert_array_equal(read.sensors.ego.T_odom_base, frame.sensors.ego.T_odom_base)


def test_a_frame_that_knows_little_comes_back(tmp_path: Path) -> None:
    frame = replace(made_up_frame(0, cameras={}), sector=False)
    frame = replace(frame, sensors=replace(frame.sensors, lidar=None, ego=None), points_inside=np.zeros(5, int))
    write_labelled_frame(tmp_path, frame, "a test")
    read = load_labelled_frame(tmp_path)
    assert (read.sensors.lidar, read.sensors.ego, read.object_id, read.visibility, read.weight) == (None,) * 5
    assert not read.sector
    one_camera = made_up_frame(0)
    (tmp_path / "b").mkdir()
    write_labelled_frame(tmp_path / "b", one_camera, "a test")
    assert not load_labelled_frame(tmp_path / "b").sector, "one camera, but labels all around"


def test_a_weight_that_only_some_labels_have_is_one_for_the_rest(tmp_path: Path) -> None:
    write_labelled_frame(tmp_path, full_frame(), "a test")
    edited(tmp_path, lambda content: content["boxes"][2].pop("weight"))
    np.testing.assert_allclose(load_labelled_frame(tmp_path).weight, [1.0, 0.8, 1.0, 0.4, 0.2])


def edited(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    file = folder / "frame.json"
    content = json.loads(file.read_text())
    edit(content)
    file.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (lambda c: c["boxes"][0].update(weight=1.5), "expected a share from 0 to 1, got 1.5"),
        (lambda c: c["boxes"][0].update(weight=float("nan")), "expected a share from 0 to 1, got nan"),
        (lambda c: c["boxes"][0].update(weight="sure"), "expected cameras and boxes with all their keys"),
        (lambda c: c["boxes"][0].update(visibility=-0.1), "visibility of a label: expected a share from 0 to 1"),
        (lambda c: c["boxes"][0].update(size=[4, -2, 1]), "expected positive lengths in m, got -2"),
        (lambda c: c["boxes"][0].update(size=[4, 2]), "Boxes.size"),
        (lambda c: c["boxes"][0].update(center=[4000, 2, 1]), "expected centres within 500 m, got 4000 m"),
        (lambda c: c["boxes"][0].update(center=[float("nan"), 2, 1]), "Boxes.center: expected finite numbers"),
        (lambda c: c["boxes"][0].update(yaw=None), "Boxes.yaw"),
        (lambda c: c["boxes"][0].pop("label"), "'label'"),
        (lambda c: c["boxes"].append(7), "keys"),
        (lambda c: c.update(boxes=3), "keys"),
        (lambda c: c.update(labels="most"), "expected 'all around' or 'in view', got 'most'"),
        (lambda c: c.update(stamp_ns=-4), "expected a time from 0 to 2^31 s"),
        (lambda c: c.update(unlabelled=[{"center": [1, 2]}]), "'radius'"),
        (lambda c: c.update(unlabelled=[{"center": [1], "radius": 2}] * 3), "unlabelled center: expected shape (3, 2)"),
        (lambda c: c.update(unlabelled=[{"center": [1, 2], "radius": -2}]), "unlabelled radius: expected at least 0 m"),
        (lambda c: c["cameras"].append(c["cameras"][0]), "a name of its own for each, got ['front', 'front']"),
        (lambda c: c["cameras"][0].update(K=[[1, 2], [3, 4]]), "CameraFrame.intrinsics"),
        (lambda c: c["cameras"][0].update(file="gone.jpg"), "gone.jpg: expected an image"),
        (lambda c: c["ego"].update(mood="good"), "mood"),
    ],
)
def test_what_is_broken_is_said_in_one_line(tmp_path: Path, edit: Callable[..., object], says: str) -> None:
    write_labelled_frame(tmp_path, full_frame(), "a test")
    edited(tmp_path, edit)
    with pytest.raises(InvalidInput, match="expected") as caught:
        load_labelled_frame(tmp_path)
    assert says in str(caught.value)
    assert str(tmp_path) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_the_frame_that_the_documentation_shows_can_be_read(tmp_path: Path) -> None:
    page = (Path(__file__).parents[1] / "docs" / "data.md").read_text()
    (tmp_path / "frame.json").write_text(page.split("```json\n")[1].split("```")[0])
    write_image(tmp_path / "front.jpg", np.zeros((376, 1242, 3), np.uint8))
    np.zeros((9, 4), "<f4").tofile(tmp_path / "points.bin")
    frame = open_dataset(tmp_path)[0]
    assert (len(frame.labels), set(frame.sensors.cameras), frame.sector) == (1, {"front"}, False)
    assert len(frame.sensors.lidar.points) == 9
    # What is straight ahead of the camera is drawn at its principal point.
    ahead = transform_points(invert_pose(frame.sensors.cameras["front"].T_base_camera), np.array([[20.0, 0, 1.6]]))
    pixels, _ = project_points(ahead, frame.sensors.cameras["front"].intrinsics)
    np.testing.assert_allclose(pixels, [[620, 180]], atol=1e-6)


@pytest.mark.parametrize(("file", "columns"), [("points.bin", 4), ("time.bin", 1)])
def test_half_a_sweep_does_not_pass_for_a_whole_one(tmp_path: Path, file: str, columns: int) -> None:
    write_labelled_frame(tmp_path, full_frame(), "a test")
    whole = (tmp_path / file).read_bytes()
    for lost in range(1, 4 * columns):
        (tmp_path / file).write_bytes(whole[:-lost])
        with pytest.raises(InvalidInput, match=rf"{file}: expected {columns} float32 a point"):
            load_labelled_frame(tmp_path)
    (tmp_path / file).write_bytes(whole[: -4 * columns])
    with pytest.raises(InvalidInput, match="expected a time for each"):
        load_labelled_frame(tmp_path)
    (tmp_path / file).unlink()
    with pytest.raises(InvalidInput, match=rf"{file}: expected a sweep of the lidar, .*is it there"):
        load_labelled_frame(tmp_path)
    (tmp_path / file).mkdir()
    with pytest.raises(InvalidInput, match=rf"{file}: expected a sweep of the lidar"):
        load_labelled_frame(tmp_path)


def complaint(folder: Path) -> str | None:
    try:
        load_labelled_frame(folder)
    except InvalidInput as error:
        return str(error)
    return None


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(["boxes", "cameras", "ego", "unlabelled", "labels", "stamp_ns"]),
    st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(-(10**20), 10**20), st.floats(), st.text(max_size=5)),
        lambda inner: st.one_of(
            st.lists(inner, max_size=3),
            st.dictionaries(
                st.sampled_from(
                    ["center", "size", "yaw", "label", "velocity", "id", "weight", "radius", "name", "file"]
                ),
                inner,
                max_size=6,
            ),
        ),
        max_leaves=12,
    ),
)
def test_any_content_is_read_or_complained_about(tmp_path: Path, key: str, value: object) -> None:
    (tmp_path / "frame.json").write_text(json.dumps({"boxes": [], "cameras": [], key: value}))
    said = complaint(tmp_path)
    assert said is None or (str(tmp_path) in said and len(said.splitlines()) == 1)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 12), st.integers(0, 300))
def test_points_in_labels_are_those_that_the_boxes_contain(seed: int, boxes: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    labels = Boxes(
        rng.uniform(-20, 20, (boxes, 3)), rng.uniform(0.3, 12, (boxes, 3)), rng.uniform(-3, 3, boxes),
        np.zeros((boxes, 2)), np.zeros(boxes, int), np.ones(boxes),
    )  # fmt: skip
    points = rng.uniform(-25, 25, (count, 4)).astype(np.float32)
    expected = labels.contains(points.astype(np.float64)).sum(axis=1) if boxes else np.zeros(0)
    assert points_in_labels(labels, points).tolist() == expected.tolist()


def test_worlds_data_sets_open_by_themselves(tmp_path: Path) -> None:
    made = DatasetSettings(seed=5, per_drive=3)
    run(tmp_path / "set", 4, made, open_world=TinyPlaces())
    (tmp_path / "set/frames/.000009.partial").mkdir()
    dataset = open_dataset(tmp_path / "set")
    assert (dataset.format, len(dataset)) == ("frames", 4)
    source = WorldFrames(made.seed, made.families, per_drive=3, open_world=TinyPlaces())
    sensors, _ = list(source.drive(0))[2]
    assert dataset[2].sensors.stamp_ns == sensors.stamp_ns
    assert dataset[-2].sensors.stamp_ns == sensors.stamp_ns
    assert sum(1 for _ in dataset) == 4, "a loop ends"
    assert len(open_dataset(tmp_path / "set/frames")) == 4
    one = open_dataset(tmp_path / "set/frames/000002")
    assert (len(one), one[0].sensors.stamp_ns) == (1, sensors.stamp_ns)
    joined = JoinedDatasets([dataset, one, dataset], "three")
    assert [joined[i].sensors.stamp_ns for i in (4, -7)] == [sensors.stamp_ns] * 2
    assert (len(joined), joined.format) == (9, "frames")
    with pytest.raises(IndexError):
        joined[9]


@pytest.mark.data
def test_recorded_frames_open_by_themselves(recorded_data: Path) -> None:
    dataset = open_dataset(recorded_data / "labelled")
    frames = {dataset.folder(i).name: dataset[i] for i in range(len(dataset))}
    assert len(frames["nuscenes_n015"].labels) == 68
    assert frames["kitti_000001"].sector
    assert not frames["sustech_000965"].sector


def test_formats_are_recognised(tmp_path: Path) -> None:
    write_kitti(tmp_path / "kitti", [made_up_frame(0)])
    write_nuscenes(tmp_path / "nuscenes", 1, 0)
    (tmp_path / "frames/a").mkdir(parents=True)
    write_labelled_frame(tmp_path / "frames/a", full_frame(), "a test")
    for name in ("kitti", "nuscenes", "frames"):
        assert open_dataset(tmp_path / name).format == name
        assert len(open_dataset(tmp_path / name, name)) == 1
    assert open_dataset(tmp_path / "kitti/training").format == "kitti"
    assert set(FORMATS) == {"kitti", "nuscenes", "frames", "bag"}


@pytest.mark.parametrize(
    ("make", "arguments", "error", "says"),
    [
        (lambda p: None, {}, InvalidInput, "got a folder with nothing; give the folder"),
        (lambda p: (p / "a.txt").touch(), {}, InvalidInput, "v1.0-*/sample.json"),
        (lambda p: p.rmdir(), {}, InvalidInput, "got nothing of that name"),
        (lambda p: None, {"format": "coco"}, ConfigurationError, "only nuscenes, kitti, frames, bag"),
        (lambda p: None, {"format": "kitti"}, InvalidInput, "expected a folder label_2"),
        (lambda p: None, {"format": "nuscenes"}, InvalidInput, "unpack the metadata there"),
        (lambda p: None, {"format": "frames"}, InvalidInput, "expected frame.json"),
        (lambda p: None, {"format": "frames", "sweeps": 3}, ConfigurationError, "sweeps"),
        (lambda p: (p / "training/label_2").mkdir(parents=True), {}, InvalidInput, "expected a folder calib"),
        (
            lambda p: [(p / "training" / d).mkdir(parents=True) for d in ("label_2", "calib", "velodyne")],
            {},
            InvalidInput,
            "expected label files",
        ),
    ],
)
def test_what_is_no_data_set_is_said_in_one_line(
    tmp_path: Path, make: Callable[[Path], object], arguments: dict[str, Any], error: type[Exception], says: str
) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    make(folder)
    with pytest.raises(error, match=r"set|coco") as caught:
        open_dataset(folder, **arguments)
    assert says in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.slow
def test_a_worlds_frame_survives_the_way_through_kittis_format(tmp_path: Path) -> None:
    frames = []
    for sensors, truth in WorldFrames(3, ("straight",), per_drive=2).drive(0):
        frame = labelled(sensors, truth)
        frames.append(frame.with_labels(np.isin(frame.labels.label, list(KITTI_NAMES))))
    write_kitti(tmp_path, frames)
    dataset = open_dataset(tmp_path)
    for i, frame in enumerate(frames):
        assert len(frame.labels)
        read = dataset[i]
        np.testing.assert_allclose(read.labels.center, frame.labels.center, atol=1e-6)
        np.testing.assert_allclose(np.cos(read.labels.yaw - frame.labels.yaw), 1.0, atol=1e-9)
        # Lowered and raised again, a point on a box's face may come to lie on its other side.
        inside = points_in_labels(frame.labels, frame.sensors.lidar.points)
        np.testing.assert_allclose(read.points_inside, inside, rtol=0.02, atol=2)
        np.testing.assert_array_equal(read.sensors.cameras["front"].image, frame.sensors.cameras["front"].image)
