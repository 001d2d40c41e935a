"""nuScenes folders: poses, boxes, velocities and sweeps against a drive whose geometry is known."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dataset_folders import (
    CAMERA_DELAY_US,
    CAMERAS,
    INTRINSICS,
    SPEED,
    START_US,
    T_BASE_LIDAR,
    TURN,
    made_up_frame,
    vehicle_at,
    write_nuscenes,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from karp_perception.core import Boxes, ConfigurationError, InvalidInput
from karp_perception.core.geometry import invert_pose, project_points, transform_points
from karp_perception.sensing.datasets import open_dataset
from karp_perception.sensing.datasets.nuscenes_tables import records


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Boxes]]:
    root = tmp_path_factory.mktemp("nuscenes")
    return root, write_nuscenes(root)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_nuscenes(tmp_path, 2, 1)
    return tmp_path


def test_labels_lie_where_they_were_put(made: tuple[Path, list[Boxes]]) -> None:
    root, truth = made
    dataset = open_dataset(root)
    assert (dataset.format, len(dataset)) == ("nuscenes", 3)
    for i, boxes in enumerate(truth):
        frame = dataset[i]
        assert frame.sensors.stamp_ns == (START_US + 500_000 * i) * 1000
        assert not frame.sector
        np.testing.assert_allclose(frame.labels.center, boxes.center, atol=1e-6)
        np.testing.assert_allclose(frame.labels.size, boxes.size, atol=1e-9)
        # A box that stands upright in the map is turned to the tilted vehicle by its heading alone.
        np.testing.assert_allclose(np.cos(frame.labels.yaw - boxes.yaw), 1.0, atol=1e-6)
        assert frame.labels.label.tolist() == boxes.label.tolist()
        assert frame.object_id.tolist() == list(range(1, len(boxes) + 1))
    assert dataset[0].visibility.tolist() == [0.2, 0.5, 0.7, 0.9, 0.2]


def test_velocities_are_differences_between_annotations(made: tuple[Path, list[Boxes]]) -> None:
    root, truth = made
    dataset = open_dataset(root)
    for i, boxes in enumerate(truth):
        moving = 4  # the fifth object was annotated once
        tilt = 9.0 * 0.025  # the vehicle stands on a slope: a level velocity has a part along its z axis
        np.testing.assert_allclose(
            dataset[i].labels.velocity[:moving], boxes.velocity[:moving], atol=0.01 * tilt + 0.01
        )
    assert np.isnan(dataset[0].labels.velocity[4]).all()


def test_points_lie_in_their_boxes_and_intensity_is_a_share(made: tuple[Path, list[Boxes]]) -> None:
    root, _ = made
    for i in range(3):
        frame, expected = open_dataset(root)[i], made_up_frame(3).points_inside
        assert frame.points_inside.tolist() == expected[: len(frame.labels)].tolist()
        points = frame.sensors.lidar.points
        np.testing.assert_allclose(points[:, 3], made_up_frame(3).sensors.lidar.points[:, 3], atol=1e-6)
        assert frame.sensors.lidar.time is None
    first = open_dataset(root)[0].sensors.lidar.points
    np.testing.assert_allclose(first, made_up_frame(3).sensors.lidar.points, atol=1e-4)


def test_what_stands_still_is_in_its_place_in_every_camera(made: tuple[Path, list[Boxes]]) -> None:
    root, _ = made
    frame = open_dataset(root)[1]
    assert set(frame.sensors.cameras) == {"front", "back"}
    place = np.array([[12.0, 1.0, 0.5], [-9.0, 2.0, 1.0]])  # in the vehicle's frame at the lidar's time
    in_map = transform_points(vehicle_at(0.5), place)
    for channel, name in (("CAM_FRONT", "front"), ("CAM_BACK", "back")):
        camera = frame.sensors.cameras[name]
        delay = CAMERA_DELAY_US[channel]
        assert camera.stamp_ns == frame.sensors.stamp_ns + delay * 1000
        at_exposure = transform_points(invert_pose(vehicle_at(0.5 + delay * 1e-6) @ CAMERAS[channel]), in_map)
        expected, depth = project_points(at_exposure, INTRINSICS)
        seen, _ = project_points(transform_points(invert_pose(camera.T_base_camera), place), camera.intrinsics)
        assert (depth > 0).sum() == 1
        np.testing.assert_allclose(seen, expected, atol=1e-6)
    # Uncompensated, the camera would be SPEED * delay away from there.
    moved = frame.sensors.cameras["front"].T_base_camera[:3, 3] - CAMERAS["CAM_FRONT"][:3, 3]
    assert moved[0] == pytest.approx(SPEED * CAMERA_DELAY_US["CAM_FRONT"] * 1e-6, abs=0.01)


def test_the_vehicles_motion_comes_from_its_poses(made: tuple[Path, list[Boxes]]) -> None:
    root, _ = made
    ego = open_dataset(root)[1].sensors.ego
    np.testing.assert_allclose(ego.T_odom_base, vehicle_at(0.5), atol=1e-9)
    np.testing.assert_allclose(ego.velocity, [SPEED, 0.0], atol=0.02)
    assert ego.yaw_rate == pytest.approx(TURN, abs=1e-3)


def test_earlier_sweeps_join_with_their_times(made: tuple[Path, list[Boxes]]) -> None:
    root, _ = made
    one, three = open_dataset(root)[2], open_dataset(root, sweeps=3)[2]
    count = len(one.sensors.lidar.points)
    joined = three.sensors.lidar
    np.testing.assert_array_equal(joined.points[:count], one.sensors.lidar.points)
    np.testing.assert_allclose(np.unique(joined.time), [-0.1, -0.05, 0.0], atol=1e-6)
    assert three.points_inside.tolist() == one.points_inside.tolist(), "only the sample's own points count"
    # The ground stands still: its points, made once, are in the same place in every sweep.
    ground = one.sensors.lidar.points[-300:, :3]
    earlier = joined.points[joined.time < -0.07][-300:, :3]
    in_lidar = transform_points(np.linalg.inv(T_BASE_LIDAR), earlier.astype(np.float64))
    assert (np.abs(in_lidar[:, :2]) >= 1.0).any(axis=1).mean() > 0.9
    distance = np.linalg.norm(earlier[:, None] - ground[None], axis=2).min(axis=1)
    assert np.quantile(distance, 0.9) < 1e-3
    first = open_dataset(root, sweeps=10)[0].sensors.lidar
    assert len(first.points) == count, "nothing was recorded before the first"


def test_a_part_of_the_data_is_a_data_set(folder: Path) -> None:
    next((folder / "samples/LIDAR_TOP").iterdir()).unlink()
    assert len(open_dataset(folder)) == 1
    for file in (folder / "samples/LIDAR_TOP").iterdir():
        file.unlink()
    with pytest.raises(InvalidInput, match="LIDAR_TOP files of 2 samples, got none"):
        open_dataset(folder)


def test_cameras_that_were_not_unpacked_give_nothing(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    shutil.rmtree(folder / "samples/CAM_BACK")
    frame = open_dataset(folder)[1]
    assert frame.sensors.cameras["back"] is None
    assert frame.sensors.cameras["front"] is not None
    assert "no images of CAM_BACK" in caplog.text


def test_levels_of_visibility_that_do_not_exist_are_the_nearest(folder: Path) -> None:
    change(
        folder,
        "sample_annotation",
        lambda t: [t[0].update(visibility_token="9" * 30), t[1].update(visibility_token="")],
    )
    assert open_dataset(folder)[0].visibility.tolist()[:3] == [0.9, 1.0, 0.7]


def test_scenes_and_versions_can_be_chosen(folder: Path) -> None:
    assert len(open_dataset(folder, scenes=["scene-0001"])) == 2
    assert len(open_dataset(folder / "v1.0-mini")) == 2
    with pytest.raises(InvalidInput, match="at least one of the scenes"):
        open_dataset(folder, scenes=["scene-0002"])
    (folder / "v1.0-mini").rename(folder / "v1.0-a")
    write_nuscenes(folder)
    with pytest.raises(ConfigurationError, match=r"v1\.0-a, v1\.0-mini; say which"):
        open_dataset(folder)
    assert len(open_dataset(folder, version="v1.0-a")) == 2
    with pytest.raises(ConfigurationError, match="sweeps"):
        open_dataset(folder, version="v1.0-a", sweeps=0)


def change(folder: Path, table: str, edit: Callable[[list[dict[str, Any]]], object]) -> Path:
    file = folder / "v1.0-mini" / f"{table}.json"
    content = json.loads(file.read_text())
    edit(content)
    file.write_text(json.dumps(content))
    return file


@pytest.mark.parametrize(
    ("table", "edit", "says"),
    [
        ("sample", lambda t: t[0].pop("timestamp"), "record 0: expected a key 'timestamp', got only token"),
        ("sample", lambda t: t[0].update(timestamp="noon"), "timestamp: expected an integer, got 'noon'"),
        ("sample_data", lambda t: t[0].update(ego_pose_token="x"), "expected one of ego_pose.json, got 'x'"),
        ("sample_data", lambda t: t[1].update(calibrated_sensor_token=[]), "record 1: calibrated_sensor_token"),
        ("calibrated_sensor", lambda t: t[1].update(camera_intrinsic=[]), "camera_intrinsic: expected 3 rows"),
        ("calibrated_sensor", lambda t: t[0].update(rotation=[1, 0, 0]), "rotation: expected 4 finite numbers"),
        ("ego_pose", lambda t: t[0].update(translation=[1, float("nan"), 0]), "translation: expected 3 finite numbers"),
        ("ego_pose", lambda t: t[0].update(rotation=[0, 0, 0, 0]), "a length near 1"),
        ("sample_annotation", lambda t: t[0].update(size=[1.8, -4.2, 1.5]), "expected positive lengths in m, got -4.2"),
        ("sample_annotation", lambda t: t[0].update(size=[1800, 4200, 1500]), "expected sizes up to 100 m, got 4200 m"),
        ("sample_annotation", lambda t: t[0].update(translation=[9e9, 0, 0]), "expected centres within 500 m"),
        ("sample_annotation", lambda t: t[0].update(translation=[float("nan"), 0, 0]), "expected finite numbers"),
        ("sample_annotation", lambda t: t[0].update(translation=["a", 0, 0]), "expected tokens and numbers"),
        ("sample_annotation", lambda t: t[0].update(visibility_token=float("inf")), "expected tokens and numbers"),
        ("sample_annotation", lambda t: t[0].update(instance_token="x"), "expected one of instance.json, got 'x'"),
        ("sample_annotation", lambda t: t.clear(), "expected labels, got none; v1.0-test has none"),
    ],
)  # fmt: skip
def test_what_is_broken_is_said_in_one_line(folder: Path, table: str, edit: Any, says: str) -> None:
    file = change(folder, table, edit)
    with pytest.raises(InvalidInput, match="expected") as caught:
        open_dataset(folder)[0]
    assert says in str(caught.value)
    assert str(file) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_truncated_files_are_named(folder: Path) -> None:
    table = folder / "v1.0-mini/sample_annotation.json"
    whole = table.read_bytes()
    for part in (0, 1, len(whole) // 2, len(whole) - 1):
        table.write_bytes(whole[:part])
        with pytest.raises(InvalidInput, match=r"sample_annotation\.json: expected .*unpack it again"):
            open_dataset(folder)
    table.unlink()
    with pytest.raises(InvalidInput, match=r"sample_annotation\.json: .*is it there"):
        open_dataset(folder)
    table.write_bytes(whole)
    sweep = sorted((folder / "samples/LIDAR_TOP").iterdir())[0]
    sweep.write_bytes(sweep.read_bytes()[:-4])
    with pytest.raises(InvalidInput, match=r"\.pcd\.bin: expected 5 float32 a point"):
        open_dataset(folder)[0]
    image = sorted((folder / "samples/CAM_FRONT").iterdir())[1]
    image.unlink()
    with pytest.raises(InvalidInput, match=r"CAM_FRONT/.*\.jpg: "):
        open_dataset(folder)[1]


def test_an_unknown_category_is_kept_without_a_class(folder: Path) -> None:
    change(folder, "category", lambda t: t[0].update(name="vehicle.spaceship"))
    assert open_dataset(folder)[0].labels.label.tolist() == [-1, 1, 5, 7, -1]


VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=6,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.dictionaries(st.text(max_size=6), VALUES, max_size=4), max_size=8),
    st.sampled_from([None, 0, 2]),
    st.data(),
)
def test_tables_are_read_as_json_reads_them(
    tmp_path: Path, table: list[dict[str, Any]], indent: int | None, data: st.DataObject
) -> None:
    file = tmp_path / "table.json"
    text = json.dumps(table, indent=indent)
    file.write_text(text)
    assert list(records(file)) == table
    file.write_text(text[: data.draw(st.integers(0, len(text) - 1))])
    with pytest.raises(InvalidInput, match=r"table\.json"):
        list(records(file))


def test_a_record_across_blocks_is_read_whole(tmp_path: Path) -> None:
    table = [{"token": str(k), "text": "x" * 5000} for k in range(700)]  # 3.5 MB, several blocks
    (tmp_path / "table.json").write_text(json.dumps(table))
    assert list(records(tmp_path / "table.json")) == table
