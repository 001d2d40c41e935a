"""`karp replay` and its parts: the files, the accounts, and that two runs agree."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from recorded_truth import LEAD_REAR_M
from world_drives import record

from karp_perception.core import BagError, CameraFrame, LidarSweep, Route, SensorFrame
from karp_perception.pipeline import PipelineSettings
from karp_perception.replay import BagFrames, ReplayOptions, replay
from karp_perception.replay.detected_frames import DetectedFrames, ReaderFailed
from karp_perception.replay.frame_ring import FrameRing
from karp_perception.sensing.bags import BagReader, BagWriter

GEOMETRY_ONLY = PipelineSettings().with_parameters({"detector.model": "none"})
DECISIONS = {"CRUISE", "FOLLOW", "SLOW", "YIELD", "STOP", "EMERGENCY_STOP", "NO_INPUT"}


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record(tmp_path_factory.mktemp("drive") / "bag", 1.5, image=(640, 360))


@pytest.fixture(scope="module")
def run(bag: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    out = tmp_path_factory.mktemp("run")
    return out, replay(bag, out, GEOMETRY_ONLY)


def frames_of(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "frames.jsonl").read_text().splitlines()]


def without_latency(frames: list[dict]) -> list[dict]:
    return [{key: value for key, value in frame.items() if key != "latency_ms"} for frame in frames]


def test_all_files_are_there_and_nothing_half_written(run: tuple[Path, dict]) -> None:
    assert sorted(f.name for f in run[0].iterdir()) == ["drive.mp4", "frames.jsonl", "replay.mcap", "summary.json"]


def test_frames_have_the_fields_that_scripts_rely_on(run: tuple[Path, dict]) -> None:
    frames = frames_of(run[0])
    assert len(frames) == 15
    stamps = [frame["stamp_ns"] for frame in frames]
    assert stamps == sorted(stamps)
    box = {"label", "score", "center", "size", "yaw", "velocity"}
    for frame in frames:
        assert {"stamp_ns", "detections", "obstacles", "objects", "plan", "latency_ms"} <= set(frame)
        assert all(box <= set(entry) for entry in frame["obstacles"])
        assert all(box | {"id"} <= set(entry) for entry in frame["objects"])
        plan = frame["plan"]
        assert plan["decision"] in DECISIONS
        why = {"notes", "proposals", "chosen"}
        assert set(plan) == {"decision", "reason", "target_id", "distance_m", "ttc_s", "trajectory"} | why
        assert all(len(point) == 5 for point in plan["trajectory"])
        chosen = plan["proposals"][plan["chosen"]]
        assert chosen["score"] == max(proposal["score"] for proposal in plan["proposals"])
        assert all(0 <= value < 1 for proposal in plan["proposals"] for value in proposal["terms"].values())
        assert frame["latency_ms"]["total"] > 0
    tracked = {entry["id"] for entry in frames[-1]["objects"]}
    followed = {entry["id"] for entry in frames[-1]["obstacles"]} - {None}
    assert followed
    assert followed <= tracked


def test_the_summary_accounts_for_every_frame(run: tuple[Path, dict]) -> None:
    out, summary = run
    assert json.loads((out / "summary.json").read_text()) == summary
    frames = summary["frames"]
    assert frames == {"received": 15, "used": 15, "dropped": {}}
    assert summary["inputs"]["front"]["used"] == 15
    assert summary["ego"]["source"] == "odometry"
    assert summary["realtime_factor"] > 0
    assert set(summary["latency_ms"]["total"]) == {"p50", "p95", "p99"}
    assert summary["model"]["model"] == summary["backend"] == "none"
    assert sum(summary["decisions"].values()) == 15


def test_two_runs_agree_but_for_latencies(run: tuple[Path, dict], bag: Path, tmp_path: Path) -> None:
    replay(bag, tmp_path, GEOMETRY_ONLY, ReplayOptions(video=False, mcap=False))
    assert without_latency(frames_of(tmp_path)) == without_latency(frames_of(run[0]))
    assert sorted(f.name for f in tmp_path.iterdir()) == ["frames.jsonl", "summary.json"]


def test_foxglove_can_read_the_log(run: tuple[Path, dict]) -> None:
    from mcap.reader import make_reader

    with (run[0] / "replay.mcap").open("rb") as file:
        summary = make_reader(file).get_summary()
    assert summary is not None
    counts = {c.topic: summary.statistics.channel_message_counts[i] for i, c in summary.channels.items()}
    schemas = {c.topic: summary.schemas[c.schema_id].name for c in summary.channels.values()}
    assert counts["/lidar/points"] == counts["/scene/objects"] == counts["/scene/proposals"] == counts["/plan"] == 15
    assert schemas["/scene/objects"] == "foxglove.SceneUpdate"
    assert schemas["/camera/front/image"] == "foxglove.CompressedImage"
    assert schemas["/tf"] == "foxglove.FrameTransforms"


def test_the_video_has_every_frame(run: tuple[Path, dict]) -> None:
    import av

    with av.open(str(run[0] / "drive.mp4")) as video:
        assert sum(1 for _ in video.decode(video=0)) == 15
        assert float(video.streams.video[0].average_rate) == pytest.approx(10.0, abs=0.1)


def test_a_stop_after_some_frames(bag: Path, tmp_path: Path) -> None:
    summary = replay(bag, tmp_path, GEOMETRY_ONLY, ReplayOptions(video=False, mcap=False, max_frames=4))
    assert summary["frames"]["used"] == len(frames_of(tmp_path)) == 4


def test_a_drive_without_transforms_has_no_frames_and_says_why(bag: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare.mcap"
    with BagReader(bag) as reader, BagWriter(bare) as writer:
        for raw in reader.raw_messages():
            if raw.topic not in ("/tf_static", "/tf"):
                writer.write(raw.topic, raw.type, raw.log_ns, raw.data)
    summary = replay(bare, tmp_path / "out", GEOMETRY_ONLY, ReplayOptions(video=False, mcap=False))
    assert summary["frames"] == {"received": 15, "used": 0, "dropped": {"missing_transform": 15}}
    assert frames_of(tmp_path / "out") == []


@pytest.mark.parametrize("what", ["missing", "empty", "text"])
def test_what_is_no_recording_ends_in_one_error(what: str, tmp_path: Path) -> None:
    path = tmp_path / "drive.mcap"
    if what == "empty":
        path.touch()
    if what == "text":
        path.write_text("not a recording")
    with pytest.raises(BagError, match=r"drive\.mcap"):
        replay(path, tmp_path / "out", GEOMETRY_ONLY)
    assert not list((tmp_path / "out").glob("*"))


def test_a_recording_without_sensors_is_refused(bag: Path, tmp_path: Path) -> None:
    path = tmp_path / "tf_only.mcap"
    with BagReader(bag) as reader, BagWriter(path) as writer:
        for raw in reader.raw_messages(["/tf_static"]):
            writer.write(raw.topic, raw.type, raw.log_ns, raw.data)
    with pytest.raises(BagError, match="/tf_static"):
        replay(path, tmp_path / "out", GEOMETRY_ONLY)


def test_a_reader_that_dies_is_told(bag: Path) -> None:
    with DetectedFrames(bag, GEOMETRY_ONLY) as frames:
        iterator = iter(frames)
        next(iterator)
        frames._process.kill()
        with pytest.raises(ReaderFailed, match="exit code -9"):
            for _ in iterator:
                pass


def test_frames_cross_processes_unchanged_and_uncopied() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (40, 60, 3), np.uint8)
    camera = CameraFrame(image, np.diag([9.0, 9, 1]), np.eye(4), 5)
    sweep = LidarSweep(rng.normal(size=(10_000, 4)).astype(np.float32), 5, np.zeros(10_000, np.float32))
    frame, route = SensorFrame(5, {"front": camera, "rear": None}, sweep), Route([[0, 0], [1, 0]])
    ring = FrameRing.create()
    for slot in (0, ring.slots - 1):
        number, there, its_route = ring.take(ring.put(slot, (frame, route)))
        assert number == slot
        np.testing.assert_array_equal(there.lidar.points, sweep.points)
        np.testing.assert_array_equal(there.cameras["front"].image, image)
        assert there.cameras["rear"] is None
        np.testing.assert_array_equal(its_route.points, route.points)
        assert not there.lidar.points.flags.owndata
    ring.close()


def test_small_arrays_outlive_their_slot() -> None:
    ring = FrameRing.create()
    _, pose, points = ring.take(ring.put(0, (np.eye(4), np.ones((50_000, 4), np.float32))))
    ring.put(0, (np.zeros((4, 4)), np.zeros((50_000, 4), np.float32)))
    np.testing.assert_array_equal(pose, np.eye(4))
    assert points.max() == 0  # large ones are views
    ring.close()


def test_what_the_tracker_keeps_of_a_frame_stays_as_it_was(
    bag: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    replay(bag, tmp_path, GEOMETRY_ONLY, ReplayOptions(video=False, mcap=False))
    assert "odometry changed" not in caplog.text


def test_a_route_is_followed_only_where_its_frame_is_known(bag: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare.mcap"
    with BagReader(bag) as reader, BagWriter(bare) as writer:
        for raw in reader.raw_messages():
            if raw.topic not in ("/odometry", "/tf"):
                writer.write(raw.topic, raw.type, raw.log_ns, raw.data)
    for path, followed in ((bag, True), (bare, False)):
        with BagReader(path) as reader:
            routes = [route for _, route in BagFrames(reader, GEOMETRY_ONLY)]
        assert len(routes) == 15
        assert all((route is not None) == followed for route in routes)


@pytest.mark.data
def test_the_recorded_drive(recorded_data: Path, tmp_path: Path) -> None:
    """A real car rolls up behind another in traffic; rear faces as measured from the lidar by hand."""
    summary = replay(recorded_data / "kitti_drive", tmp_path, GEOMETRY_ONLY, ReplayOptions(video=False, mcap=False))
    assert summary["frames"] == {"received": 30, "used": 30, "dropped": {}}
    frames = frames_of(tmp_path)
    rears, ids = [], []
    for k, frame in enumerate(frames):
        expected = np.interp(k, list(LEAD_REAR_M), list(LEAD_REAR_M.values()))
        faces = [
            (box["center"][0] - box["size"][0] / 2, box) for box in frame["obstacles"] if abs(box["center"][1]) < 1
        ]
        face, box = min(faces, key=lambda pair: abs(pair[0] - expected))
        rears.append(abs(face - expected) < 0.3)
        ids.append(box["id"])
    assert sum(rears) >= 29
    assert len(set(ids[5:])) == 1
    for frame in frames[5:]:
        plan = frame["plan"]
        assert plan["decision"] in {"FOLLOW", "SLOW", "STOP"}
        assert plan["target_id"] == ids[-1]
    assert all(frame["plan"]["decision"] != "EMERGENCY_STOP" for frame in frames)
    # Standing cars in the next lane, registered against each other, put the way at 6.0 to 6.2 m.
    assert summary["ego"]["distance_m"] == pytest.approx(6.1, rel=0.05)


@pytest.mark.data
def test_the_recorded_car_ahead_is_tracked_at_its_speed(recorded_data: Path, tmp_path: Path) -> None:
    """With the shipped network. Its speed over ground is the vehicle's and that at which its rear face closes in."""
    replay(recorded_data / "kitti_drive", tmp_path, options=ReplayOptions(video=False, mcap=False))
    frames, number = frames_of(tmp_path), np.arange(30)
    place = np.array([(frame["ego"]["x"], frame["ego"]["y"]) for frame in frames])
    gap = np.polyval(np.polyfit(list(LEAD_REAR_M), list(LEAD_REAR_M.values()), 3), number)
    way = np.polynomial.Polynomial.fit(number * 0.1, np.hypot(*(place - place[0]).T) + gap, 4)
    close, ids = [], set()
    for k, frame in enumerate(frames):
        ahead = [o for o in frame["objects"] if o["label"] == "car" and abs(o["center"][1]) < 1.2]
        error = [abs(o["center"][0] - o["size"][0] / 2 - gap[k]) for o in ahead]
        assert min(error) < 0.5
        lead = ahead[int(np.argmin(error))]
        close.append(abs(lead["velocity"][0] - way.deriv()(0.1 * k)) < 0.2)
        ids.add(lead["id"])
    assert len(ids) == 1
    assert sum(close[2:]) >= 25  # one sweep shows no speed, and the first two make the odometry begin


def test_settings_of_the_recording_process_are_the_ones_given(bag: Path, tmp_path: Path) -> None:
    nowhere = replace(GEOMETRY_ONLY, sensing=replace(GEOMETRY_ONLY.sensing, base_frame="nowhere"))
    summary = replay(bag, tmp_path, nowhere, ReplayOptions(video=False, mcap=False))
    assert summary["frames"]["dropped"] == {"missing_transform": 15}


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="this system shares memory through a file")
def test_frames_cross_over_where_a_container_gives_little_shared_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(*_: object, **__: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(tempfile, "TemporaryFile", no_room)
    ring = FrameRing.create()
    _, points = ring.take(ring.put(ring.slots - 1, (np.ones((50_000, 4), np.float32),)))
    assert points.all()
    ring.close()
