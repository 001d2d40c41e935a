"""Data sets: the same bytes however they were made, resumed where they stopped, whole frames whatever happens."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from tiny_world import TinyPlaces, TinyWorld

from karp_perception.core import ConfigurationError
from karp_perception.sensing.bags import BagReader
from karp_perception.sensing.labelled_frame import load_labelled_frame
from karp_perception.world.dataset import DatasetSettings, frame_folder, run
from karp_perception.world.frame_files import write_frame
from karp_perception.world.recording import record_drive
from karp_perception.world.workers import WorkerFailed, job_results, run_jobs
from karp_perception.world.world_frames import WorldFrames

HERE = Path(__file__).parent
SETTINGS = DatasetSettings(seed=5, per_drive=3)
FRAMES = 8


def content(out: Path) -> dict[str, bytes]:
    return {str(file.relative_to(out)): file.read_bytes() for file in sorted(out.rglob("*")) if file.is_file()}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("made") / "set"
    shares: list[float] = []
    told = run(out, FRAMES, SETTINGS, 1, shares.append, open_world=TinyPlaces())
    assert (told["frames"], told["written"], told["kept"]) == (FRAMES, FRAMES, 0)
    assert shares[-1] == 1.0
    assert shares == sorted(shares)
    return out


def test_two_workers_write_the_same_bytes_as_one(made: Path, tmp_path: Path) -> None:
    run(tmp_path / "two", FRAMES, SETTINGS, 2, open_world=TinyPlaces())
    assert content(tmp_path / "two") == content(made)


def test_a_run_that_stopped_goes_on_and_keeps_what_is_there(made: Path, tmp_path: Path) -> None:
    out = tmp_path / "set"
    run(out, 4, SETTINGS, open_world=TinyPlaces())
    kept = frame_folder(out, 1) / "points.bin"
    before = kept.stat().st_mtime_ns
    for file in frame_folder(out, 2).iterdir():
        file.unlink()
    frame_folder(out, 2).rmdir()
    told = run(out, FRAMES, SETTINGS, open_world=TinyPlaces())
    assert (told["written"], told["kept"]) == (FRAMES - 3, 3)
    assert kept.stat().st_mtime_ns == before
    assert content(out) == content(made)


def test_a_frame_is_read_back_as_it_was(made: Path) -> None:
    source = WorldFrames(SETTINGS.seed, SETTINGS.families, per_drive=3, open_world=TinyPlaces())
    sensors, truth = list(source.drive(1))[2]
    frame = load_labelled_frame(frame_folder(made, 5))
    assert frame.sensors.stamp_ns == sensors.stamp_ns > 0
    np.testing.assert_array_equal(frame.sensors.lidar.points, sensors.lidar.points)
    np.testing.assert_array_equal(frame.sensors.lidar.time, sensors.lidar.time)
    np.testing.assert_array_equal(frame.sensors.ego.T_odom_base, sensors.ego.T_odom_base)
    np.testing.assert_array_equal(frame.sensors.ego.velocity, sensors.ego.velocity)
    for name in ("center", "size", "yaw", "velocity", "label"):
        np.testing.assert_allclose(getattr(frame.labels, name), getattr(truth.boxes, name), atol=1e-4, err_msg=name)
    np.testing.assert_array_equal(frame.object_id, truth.object_id)
    np.testing.assert_allclose(frame.visibility, truth.visibility)
    assert not frame.sector, "labels reach all around"
    stored = json.loads((frame_folder(made, 5) / "frame.json").read_text())
    assert stored["boxes"][0]["points_inside"] == 400
    camera, seen = sensors.cameras["front"], frame.sensors.cameras["front"]
    np.testing.assert_array_equal(seen.intrinsics, camera.intrinsics)
    np.testing.assert_array_equal(seen.T_base_camera, camera.T_base_camera)


def test_frames_of_a_drive_are_a_second_apart_and_drives_differ() -> None:
    source = WorldFrames(SETTINGS.seed, ("a", "b"), per_drive=3, spacing=1.0, open_world=TinyPlaces())
    stamps = [sensors.stamp_ns for sensors, _ in source.drive(0)]
    assert np.diff(stamps).tolist() == [10**9, 10**9]
    beginnings = [source.beginning(k) for k in range(40)]
    assert len({b.seed for b in beginnings}) == 40
    assert {b.family for b in beginnings} == {"a", "b"}
    assert any(b.speed == 0 for b in beginnings)
    shares = [source.from_drive(k, 2) for k in range(2)]
    taken = [next(shares[k])[0].lidar.points.tobytes() for k in (0, 0, 0, 1)]
    every = [sensors.lidar.points.tobytes() for k in (0, 1) for sensors, _ in source.drive(k)]
    assert taken == every[:4]


def test_other_settings_are_refused_in_one_line(made: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="seed 5 instead of 6"):
        run(made, FRAMES, DatasetSettings(seed=6, per_drive=3), open_world=TinyPlaces())
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ConfigurationError, match="no data set"):
        run(tmp_path, FRAMES, SETTINGS, open_world=TinyPlaces())
    with pytest.raises(ConfigurationError, match="families"):
        run(tmp_path / "none", FRAMES, DatasetSettings(families=()), open_world=TinyPlaces())
    assert not (tmp_path / "none").exists()


def test_recordings_have_the_same_bytes_too(tmp_path: Path) -> None:
    settings = DatasetSettings(seed=5, per_drive=4, bags=True)
    for name, workers in (("one", 1), ("two", 2)):
        told = run(tmp_path / name, 7, settings, workers, open_world=TinyPlaces())
        assert told["frames"] == 8, "whole drives"
    assert content(tmp_path / "one") == content(tmp_path / "two")
    with BagReader(tmp_path / "one" / "bags" / "000001") as bag:
        assert bag.topics["/lidar/points"].count == 4


def start_slow_run(out: Path) -> subprocess.Popen[bytes]:
    program = (
        f"import sys; sys.path.insert(0, {str(HERE)!r})\n"
        "from pathlib import Path\n"
        "from tiny_world import TinyPlaces\n"
        "from karp_perception.world.dataset import DatasetSettings, run\n"
        "if __name__ == '__main__':\n"
        f"    run(Path({str(out)!r}), 1000, DatasetSettings(5, per_drive=3), 2, open_world=TinyPlaces(0.02))\n"
    )
    file = out.with_suffix(".py")
    file.write_text(program)
    process = subprocess.Popen([sys.executable, str(file)], start_new_session=True, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while len(list(out.glob("frames/0*"))) < 5:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return process


def running_in_session(session: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(int(entry.name))
    return found


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_ctrl_c_and_a_kill_leave_whole_frames_and_no_process(number: int, made: Path, tmp_path: Path) -> None:
    out = tmp_path / "set"
    process = start_slow_run(out)
    # Ctrl-C reaches every process of the terminal; a kill the parent alone.
    (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
    process.wait(30)
    deadline = time.monotonic() + 30
    while running_in_session(process.pid):
        assert time.monotonic() < deadline, "a worker outlived its parent"
        time.sleep(0.05)
    whole = content(made)
    there = sorted(folder.name for folder in out.glob("frames/0*"))
    assert there
    for name in there:
        for file in ("frame.json", "points.bin", "time.bin", "front.jpg"):
            data = (out / "frames" / name / file).read_bytes()
            assert whole.get(f"frames/{name}/{file}", data) == data
    told = run(out, FRAMES, SETTINGS, open_world=TinyPlaces())
    assert told["kept"] + told["written"] == FRAMES
    assert content(out).items() >= whole.items()
    assert not list(out.rglob(".*"))


class Fails:
    """Makes a job that cannot be done."""

    def __init__(self, how: str) -> None:
        self.how = how

    def __call__(self):
        def work(job: int):
            if self.how == "error":
                raise ConfigurationError("this cannot be")
            os.kill(os.getpid(), signal.SIGKILL)
            yield

        return work


@pytest.mark.parametrize(("how", "says"), [("error", "this cannot be"), ("killed", "exit code -9")])
def test_a_worker_that_fails_is_told(how: str, says: str) -> None:
    with pytest.raises(WorkerFailed, match=says):
        run_jobs(Fails(how), [0, 1, 2], 2, lambda: None)


def test_a_recording_given_up_leaves_nothing(tmp_path: Path) -> None:
    def stop(done: int, _: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        record_drive(TinyWorld(), tmp_path / "bag", 2.0, stop)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_another_frame_is_not_mixed_up(tmp_path: Path) -> None:
    world = TinyWorld()
    write_frame(tmp_path, world.sensors(), world.truth())
    (tmp_path / "time.bin").write_bytes(b"\0" * 8)
    with pytest.raises(ValueError, match="a time for each"):
        load_labelled_frame(tmp_path)


class Counts:
    """Makes a job that yields as many values as its number says."""

    def __call__(self):
        def work(job: int):
            yield from (10 * job + k for k in range(job))

        return work


def test_what_jobs_yield_comes_back_whole_and_in_order_within_a_job() -> None:
    results = list(job_results(Counts(), [3, 0, 2, 4], 2))
    for job in (0, 2, 3, 4):
        assert [value for number, value in results if number == job] == [10 * job + k for k in range(job)]
    assert len(results) == 9
