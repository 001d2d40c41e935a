"""KITTI object folders: the benchmark's own definitions against what is read, and one line for what is broken."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from dataset_folders import LIDAR_HEIGHT, camera_at, made_up_frame, pose, write_kitti
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from karp_perception.core import InvalidInput
from karp_perception.core.geometry import project_points, transform_points
from karp_perception.sensing.datasets import open_dataset
from karp_perception.sensing.datasets.kitti_object import KittiObject, read_calibration, read_labels
from karp_perception.sensing.labelled_frame import LabelledFrame, load_labelled_frame
from karp_perception.sensing.sweep_changes import view_mask


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_kitti(tmp_path / "kitti", [made_up_frame(0), made_up_frame(1)])
    return tmp_path / "kitti"


def test_a_frame_comes_back_as_it_was(folder: Path) -> None:
    dataset = open_dataset(folder)
    assert (dataset.format, len(dataset)) == ("kitti", 2)
    for i in (0, 1):
        read, written = dataset[i], made_up_frame(i)
        np.testing.assert_allclose(read.labels.center, written.labels.center, atol=1e-6)
        np.testing.assert_allclose(read.labels.size, written.labels.size, atol=1e-6)
        np.testing.assert_allclose(read.labels.yaw, written.labels.yaw, atol=1e-6)
        assert read.labels.label.tolist() == written.labels.label.tolist()
        assert np.isnan(read.labels.velocity).all(), "KITTI's object labels have no velocity"
        assert read.points_inside.tolist() == written.points_inside.tolist()
        np.testing.assert_allclose(read.sensors.lidar.points, written.sensors.lidar.points, atol=1e-6)
        camera, original = read.sensors.cameras["front"], written.sensors.cameras["front"]
        np.testing.assert_array_equal(camera.image, original.image)
        np.testing.assert_allclose(camera.intrinsics, original.intrinsics, atol=1e-9)
        np.testing.assert_allclose(camera.T_base_camera, original.T_base_camera, atol=1e-9)
        assert read.sector
    # Truncation of 0.25 takes a quarter of what KITTI's levels of occlusion leave.
    np.testing.assert_allclose(dataset[0].visibility, [0.75, 0.45, 0.1875, 0.15, 0.75])


def devkit_corners(line: str, P2: np.ndarray) -> np.ndarray:
    """(8, 2) pixels of a label's corners, as the benchmark's development kit draws them (computeBox3D)."""
    height, width, length, x, y, z, turn = map(float, line.split()[8:15])
    c, s = np.cos(turn), np.sin(turn)
    R = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
    signs = np.array([[1, 1, -1, -1] * 2, [0] * 4 + [-1] * 4, [1, -1, -1, 1] * 2])
    corners = R @ (signs * [[length / 2], [height], [width / 2]]) + [[x], [y], [z]]
    pixels = P2 @ np.vstack([corners, np.ones(8)])
    return (pixels[:2] / pixels[2]).T


def test_corners_lie_on_the_pixels_where_the_development_kit_draws_them(folder: Path) -> None:
    frame = open_dataset(folder)[0]
    calib = (folder / "training/calib/000000.txt").read_text().splitlines()
    P2 = np.reshape([float(v) for v in calib[1].split()[1:]], (3, 4))
    camera = frame.sensors.cameras["front"]
    lines = (folder / "training/label_2/000000.txt").read_text().splitlines()
    for i in range(len(frame.labels)):
        local = transform_points(np.linalg.inv(camera.T_base_camera), frame.labels[[i]].corners()[0])
        ours, depth = project_points(local, camera.intrinsics)
        assert (depth > 0).all()
        theirs = devkit_corners(lines[i], P2)
        distance = np.linalg.norm(ours[:, None] - theirs[None], axis=2)
        assert distance.min(axis=1).max() < 1e-3, "the same eight corners"


def test_a_tilted_camera_moves_labels_by_no_more_than_its_tilt(tmp_path: Path) -> None:
    frame = made_up_frame(0, {"front": camera_at(0.3, 0.06, 1.65, 0.01, 0.012)})
    write_kitti(tmp_path, [frame])
    read = open_dataset(tmp_path)[0]
    np.testing.assert_allclose(read.labels.center, frame.labels.center, atol=0.5 * 3.1 * 0.012)
    np.testing.assert_allclose(read.labels.yaw, frame.labels.yaw, atol=1e-3)
    camera, original = read.sensors.cameras["front"], frame.sensors.cameras["front"]
    np.testing.assert_allclose(camera.T_base_camera, original.T_base_camera, atol=1e-9)


def test_areas_without_labels_become_places_that_hold_what_they_may_show(folder: Path) -> None:
    frame = open_dataset(folder)[0]
    camera = frame.sensors.cameras["front"]
    left, top, right, bottom = 40.0, 10.0, 60.0, 20.0
    for height in (1.2, 1.8, 4.0):
        for u in np.linspace(left + 1, right - 1, 5):
            depth = camera.intrinsics[1, 1] * height / (bottom - top)
            ray = np.linalg.inv(camera.intrinsics) @ [u, 15.0, 1.0] * depth
            x, y = (camera.T_base_camera @ [*ray, 1])[:2]
            places = frame.unlabelled
            assert (np.hypot(places[:, 0] - x, places[:, 1] - y) <= places[:, 2]).any()
    assert (frame.unlabelled[:, 0] > 0).all()


def test_a_height_of_the_lidar_can_be_given(folder: Path) -> None:
    low, high = KittiObject(folder)[0], KittiObject(folder, height=LIDAR_HEIGHT + 0.5)[0]
    np.testing.assert_allclose(high.labels.center - low.labels.center, [[0, 0, 0.5]] * 5, atol=1e-9)
    np.testing.assert_allclose(high.sensors.lidar.points[:, 2] - low.sensors.lidar.points[:, 2], 0.5, atol=1e-5)


@pytest.mark.data
@pytest.mark.parametrize("name", ["kitti_000001", "kitti_000008"])
def test_recorded_frames_written_as_kitti_come_back(recorded_data: Path, tmp_path: Path, name: str) -> None:
    recorded = load_labelled_frame(recorded_data / "labelled" / name)
    known = [i for i, label in enumerate(recorded.labels.label) if label in (-1, 0, 1, 2, 5, 7)]
    write_kitti(tmp_path, [recorded.with_labels(np.array(known))])
    read: LabelledFrame = open_dataset(tmp_path)[0]
    np.testing.assert_allclose(read.labels.yaw, recorded.labels.yaw[known], atol=2e-4)
    # Boxes stand upright in the tilted camera: half a truck's height at 0.6 degrees is 15 mm.
    np.testing.assert_allclose(read.labels.center, recorded.labels.center[known], atol=0.02)
    np.testing.assert_allclose(
        read.sensors.cameras["front"].T_base_camera, recorded.sensors.cameras["front"].T_base_camera, atol=1e-6
    )
    np.testing.assert_allclose(read.points_inside, recorded.points_inside[known], rtol=0.05, atol=1)


LABEL, CALIB = "training/label_2/000000.txt", "training/calib/000000.txt"
GOOD = "Car 0.00 0 -1.57 599.41 156.40 629.75 189.25 1.5 1.7 4.1 0.47 1.49 20.0 -1.56"


@pytest.mark.parametrize(
    ("file", "content", "says"),
    [
        (LABEL, GOOD.rsplit(" ", 2)[0], "line 1: expected 15 words, got 13"),
        (LABEL, f"{GOOD}\n{GOOD.replace('4.1', 'long')}", "line 2: expected a class and 14 numbers"),
        (LABEL, GOOD.replace("20.0", "nan"), "line 1: expected finite numbers"),
        (LABEL, GOOD.replace("4.1", "-4.1"), "height, width and length above 0"),
        (LABEL, GOOD.replace("20.0", "20000.0"), "expected centres within 500 m, got 20000"),
        (LABEL, GOOD.replace("4.1", "4100"), "expected sizes up to 100 m, got 4100 m; are they metres"),
        (CALIB, "P2: 1 2 3", "P2: expected 12 finite numbers, got 1 2 3"),
        (CALIB, "P2: " + "a " * 12, "P2: expected 12 numbers"),
        (CALIB, "R0_rect: 1 0 0 0 1 0 0 0 1", "expected a line P2, got only R0_rect"),
        (CALIB, "", "expected a line P2, got only none"),
        (
            CALIB,
            "P2: 1 0 0 0 0 1 0 0 0 0 1 0\nR0_rect: 1 0 0 0 2 0 0 0 1\nTr_velo_to_cam: 1 0 0 0 0 1 0 0 0 0 1 0",
            "R0_rect: expected a rotation matrix",
        ),
    ],
)  # fmt: skip
def test_what_is_broken_is_said_in_one_line(folder: Path, file: str, content: str, says: str) -> None:
    (folder / file).write_text(content)
    with pytest.raises(InvalidInput, match="expected") as caught:
        open_dataset(folder)[0]
    assert says in str(caught.value)
    assert str(folder / file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_truncated_and_missing_sensor_files_are_named(folder: Path) -> None:
    sweep, image = folder / "training/velodyne/000000.bin", folder / "training/image_2/000000.png"
    whole = sweep.read_bytes()
    sweep.write_bytes(whole[:-7])
    with pytest.raises(InvalidInput, match=r"000000\.bin: expected 4 float32 a point"):
        open_dataset(folder)[0]
    sweep.write_bytes(whole)
    image.write_bytes(image.read_bytes()[:-100])
    with pytest.raises(InvalidInput, match=r"000000\.png: expected a whole image"):
        open_dataset(folder)[0]
    image.unlink()
    with pytest.raises(InvalidInput, match=r"000000\.png: .*is it there"):
        open_dataset(folder)[0]
    open_dataset(folder)[1]


def test_points_that_are_not_finite_are_left_out(folder: Path) -> None:
    file = folder / "training/velodyne/000000.bin"
    points = np.fromfile(file, "<f4").reshape(-1, 4)
    points[-5:, 1] = np.nan
    points.tofile(file)
    assert len(open_dataset(folder)[0].sensors.lidar.points) == len(points) - 5


def test_a_class_that_nobody_knows_is_kept_without_a_class(folder: Path) -> None:
    (folder / LABEL).write_text(GOOD.replace("Car", "Spaceship"))
    assert open_dataset(folder)[0].labels.label.tolist() == [-1]


def test_no_labels_and_no_camera_are_fine(folder: Path) -> None:
    (folder / LABEL).write_text("")
    shutil.rmtree(folder / "training/image_2")
    frame = open_dataset(folder)[0]
    assert (len(frame.labels), len(frame.sensors.cameras), len(frame.unlabelled)) == (0, 0, 0)


def test_without_images_the_sweep_ends_where_the_labels_do(folder: Path) -> None:
    whole = open_dataset(folder)[0]
    shutil.rmtree(folder / "training/image_2")
    cut = open_dataset(folder)[0]
    seen = view_mask(whole.sensors.lidar, whole.sensors.cameras["front"])
    assert (cut.sector, cut.sensors.cameras) == (False, {})
    assert 0 < seen.sum() <= len(cut.sensors.lidar.points) <= 1.05 * seen.sum() < len(whole.sensors.lidar.points)
    assert (cut.sensors.lidar.points[:, 0] > 0).all()
    assert (cut.points_inside > 0).all()


WORDS = st.one_of(st.sampled_from(["Car", "DontCare", "nan", "1e400", "-1"]), st.floats().map(repr))
LINES = st.lists(WORDS, min_size=14, max_size=17).map(lambda words: " ".join(words).encode())
ANYTHING = st.one_of(st.binary(max_size=300), st.text(max_size=300).map(str.encode), LINES)


def complaint(read: Callable[[Path], object], file: Path) -> str | None:
    try:
        read(file)
    except InvalidInput as error:
        return str(error)
    return None


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ANYTHING)
def test_parsers_read_anything_or_say_what_is_wrong(tmp_path: Path, data: bytes) -> None:
    file = tmp_path / "anything.txt"
    file.write_bytes(data)
    for read in (read_labels, read_calibration):
        said = complaint(read, file)
        assert said is None or (str(file) in said and len(said.splitlines()) == 1)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.floats(-3, 3), st.floats(-0.02, 0.02), st.floats(-1, 1), st.floats(1, 2))
def test_calibrations_come_back(tmp_path: Path, yaw: float, pitch: float, y: float, z: float) -> None:
    T = camera_at(0.3, y, z, yaw, pitch)
    write_kitti(tmp_path, [made_up_frame(0, {"front": T})])
    calibration = read_calibration(tmp_path / CALIB)
    np.testing.assert_allclose(calibration.T_base_camera, T, atol=1e-8)
    # Camera 2 looks the way the rectified camera 0 does, from 0.06 m beside it.
    np.testing.assert_allclose(np.linalg.inv(calibration.T_base_rectified) @ T, pose(-0.06, 0, 0), atol=1e-8)
