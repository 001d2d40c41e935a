"""karp bench: messages to frames, stages, percentiles, comparisons, what cannot be used, and the command itself."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_model import camera, small_weights, sweep
from typer.testing import CliRunner

from karp_perception.bench.engines import EngineName, engine_names, open_engine
from karp_perception.bench.feed import feed_of, with_cameras, with_points
from karp_perception.bench.frames import noise_frame
from karp_perception.bench.fresh_process import needs_of
from karp_perception.bench.options import BenchOptions
from karp_perception.bench.reception import Turns
from karp_perception.bench.results import keep_result
from karp_perception.bench.run import SCHEMA, bench, compare, take_turns
from karp_perception.bench.tables import bench_tables
from karp_perception.bench.timing import stage_summary, summary
from karp_perception.cli import app
from karp_perception.core import BackendUnavailable, ConfigurationError, SensorFrame
from karp_perception.core.stopwatch import Stopwatch
from karp_perception.detection.detector import Detector, DetectorSettings
from karp_perception.view.latency_chart import latency_chart

STAGES = [
    "deserialise",
    "assemble",
    "preprocess",
    "network",
    "decode",
    "refine",
    "other",
    "total",
    "cpu",
    "network_cpu",
]


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "bench_cache"))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_weights(tmp_path_factory.mktemp("weights"))


def frame(seed: int = 0, cameras: int = 2) -> SensorFrame:
    rng = np.random.default_rng(seed)
    return SensorFrame(0, {f"camera{i}": camera(rng, 1.2 * i) for i in range(cameras)}, sweep(rng))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0.01, 1e4), min_size=1, max_size=40))
def test_percentiles_are_numpys(times: list[float]) -> None:
    found = summary(times)
    for p in (50, 95, 99):
        assert found[f"p{p}"] == pytest.approx(np.percentile(times, p), abs=1e-3)
    assert found["min"] <= found["p50"] <= found["p95"] <= found["p99"] <= found["max"]


def test_jitter_is_the_mean_change_from_frame_to_frame() -> None:
    assert summary([1.0, 3.0, 2.0])["jitter"] == 1.5
    assert summary([4.0])["jitter"] == 0.0


@pytest.mark.parametrize("compressed", [False, True])
def test_messages_become_the_frames_that_they_were_made_of(compressed: bool) -> None:
    frames = [frame(0), frame(1)]
    turns = Turns(feed_of(frames, compressed=compressed))
    for _ in range(3):
        messages, stamp_ns = turns.messages()
        found = turns.frame(messages, stamp_ns, Stopwatch())
        assert found.stamp_ns == stamp_ns
        given = min(frames, key=lambda each: float(np.abs(each.lidar.points - found.lidar.points).max()))
        np.testing.assert_allclose(found.lidar.points, given.lidar.points, atol=1e-5)
        np.testing.assert_allclose(found.lidar.time, given.lidar.time, atol=1e-6)
        for name, original in given.cameras.items():
            np.testing.assert_allclose(found.cameras[name].T_base_camera, original.T_base_camera, atol=1e-9)
            np.testing.assert_array_equal(found.cameras[name].intrinsics, original.intrinsics)
            if not compressed:
                np.testing.assert_array_equal(found.cameras[name].image, original.image)


def test_each_message_has_memory_of_its_own() -> None:
    feed = feed_of([frame()])
    first, second = feed.at(0, 10**9), feed.at(0, 2 * 10**9)
    assert all(a.data is not b.data and a.data != b.data for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("count", [1, 700, 4000, 9000])
def test_points_are_thinned_or_doubled_where_surfaces_are(count: int) -> None:
    given = frame()
    found = with_points(given, count).lidar.points
    assert len(found) == count
    if count <= len(given.lidar.points):
        rows = {row.tobytes() for row in given.lidar.points}
        assert all(row.tobytes() in rows for row in found)
    else:
        again = given.lidar.points[np.arange(count) % len(given.lidar.points)]
        assert np.abs(found - again).max() < 0.15


def test_cameras_are_left_out_from_the_end() -> None:
    assert list(with_cameras(noise_frame(0, cameras=3, points=10), 2).cameras) == ["camera0", "camera1"]


def test_stages_add_up_to_the_whole(weights: Path) -> None:
    name = EngineName("torch", "f32")
    detector = Detector(DetectorSettings(str(weights), cameras=1, backend="torch", threads=1))
    rows = take_turns({name: detector}, feed_of([frame()]), 4)[name]
    for row in rows:
        assert list(row) == STAGES
        assert sum(row[stage] for stage in STAGES[:-3]) == pytest.approx(row["total"], rel=1e-6)
    # What no stage accounts for is Python between them; a busy machine may interrupt some frames there.
    assert min(row["other"] / row["total"] for row in rows) < 0.5


def test_ratios_are_those_of_medians() -> None:
    fast = [{"network": t, "network_cpu": 0.0, "total": 2 * t} for t in (1.0, 2.0, 3.0)]
    slow = [{"network": t, "network_cpu": t, "total": 3 * t} for t in (4.0, 8.0, 30.0)]
    (row,) = compare({"fast": fast}, {"slow": slow})
    assert row == {
        "engine": "fast",
        "against": "slow",
        "network": 4.0,
        "total": 6.0,
        "network_least": 4.0,
        "network_cpu": None,
    }


def test_torch_by_itself_gives_the_boxes_of_the_detector(weights: Path) -> None:
    options = DetectorSettings(str(weights), cameras=1, score_threshold=0.1, threads=1)
    engine = open_engine(EngineName("torch_eager", "f32"), options)
    ours = Detector(replace(options, backend="torch")).detect(frame())
    theirs = engine.detector.detect(frame())
    assert len(ours) > 3
    np.testing.assert_allclose(theirs.center, ours.center, atol=1e-4)
    np.testing.assert_array_equal(theirs.label, ours.label)


def test_what_cannot_be_used_here_is_told(weights: Path) -> None:
    settings = DetectorSettings(str(weights), cameras=1)
    engine = open_engine(EngineName("torch", "f16"), settings)
    assert engine.detector is None
    assert "f32" in engine.unavailable
    assert "int8" in open_engine(EngineName("torch_eager", "int8"), settings).unavailable


def test_backends_that_do_not_exist_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="tensorflow"):
        engine_names(["tensorflow"], ["f32"], ["torch"])
    assert engine_names(["torch", "torch"], ["f32"], ["torch"]) == [EngineName("torch", "f32")]


@pytest.mark.parametrize("wrong", [{"repeat": 1}, {"seconds": 0.0}, {"rates_hz": (0.0,)}, {"points": -1}])
def test_options_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        BenchOptions(**wrong)


def test_nothing_usable_is_an_error_that_says_why(weights: Path) -> None:
    options = BenchOptions(str(weights), ("torch",), ("f16",), against=(), input="noise", cameras=1, rates_hz=())
    with pytest.raises(BackendUnavailable, match="torch f16"):
        bench(options)


def test_a_fresh_process_tells_its_memory_and_its_start(weights: Path) -> None:
    settings = DetectorSettings(str(weights), cameras=1, threads=1)
    found = needs_of(EngineName("openvino", "f32"), settings, "cpu", feed_of([frame(cameras=1)]))
    assert 50 < found["peak_rss_mib"] < 4000
    assert found["first_boxes_s"] > 0
    wrong = needs_of(EngineName("torch", "f16"), settings, "cpu", feed_of([frame()]))
    assert "f16" in wrong["unavailable"]


def test_the_command_writes_figures_and_a_plot(weights: Path, tmp_path: Path) -> None:
    arguments = ["bench", "--model", str(weights), "--backend", "openvino", "--precision", "f32", "--precision", "f16"]
    arguments += ["--against", "torch_eager", "--against", "onnxruntime", "--input", "noise", "--cameras", "1"]
    arguments += ["--points", "3000", "--rate", "20", "--seconds", "0.3", "--repeat", "3", "--threads", "1"]
    result = CliRunner().invoke(app, [*arguments, "--no-memory", "--out", str(tmp_path)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    content = json.loads((tmp_path / "bench.json").read_text())
    assert content["schema"] == SCHEMA
    assert set(content) == {
        "schema", "machine", "versions", "model", "input", "options", "engines", "comparisons",
    }  # fmt: skip
    assert content["machine"]["cpu"]
    assert len(content["model"]["onnx_sha256"]) == 64
    assert content["model"]["cameras"] == content["input"]["cameras"] == 1
    assert content["input"]["points"] == [3000] * content["input"]["frames"]
    rows = {row["name"]: row for row in content["engines"]}
    assert set(rows) == {"openvino f32", "openvino f16", "torch_eager f32", "onnxruntime f32"}
    assert "f16" in rows["openvino f16"]["unavailable"]
    assert list(rows["openvino f32"]["stages_ms"]) == STAGES
    assert rows["openvino f32"]["precision"] == "f32"
    (run,) = rows["openvino f32"]["paced"]
    assert run["received"] == run["used"] + run["missed"] == 6
    assert rows["openvino f32"]["highest_rate_hz"] > 0
    assert [row["against"] for row in content["comparisons"]] == ["torch_eager f32", "onnxruntime f32"]
    assert all(row["network"] > 0 for row in content["comparisons"])
    picture = cv2.imread(str(tmp_path / "latency.png"))
    assert picture.std() > 5
    np.testing.assert_array_equal(cv2.cvtColor(latency_chart(content), cv2.COLOR_RGB2BGR), picture)
    assert "torch_eager" in result.output
    assert len(bench_tables(content)) == 5


def result_of(cpu: str, gpus: list[str], threads: int) -> dict[str, Any]:
    machine = {"cpu": cpu, "cores": 8, "gpus": [{"name": name} for name in gpus]}
    return {"schema": SCHEMA, "machine": machine, "options": {"threads": threads}}


def test_results_of_several_machines_share_a_file(tmp_path: Path) -> None:
    file = tmp_path / "nano" / "bench.json"
    for result in (result_of("A", [], 1), result_of("A", [], 0), result_of("A", ["H200"], 1), result_of("A", [], 1)):
        keep_result(result, file)
    kept = json.loads(file.read_text())
    assert list(kept) == ["A, 1 thread", "A, 8 threads", "H200"]
    assert all(each["schema"] == SCHEMA for each in kept.values())


@pytest.mark.parametrize("text", ["[1]", "{", '{"a": 1}'])
def test_other_files_are_not_written_over(tmp_path: Path, text: str) -> None:
    file = tmp_path / "bench.json"
    file.write_text(text)
    with pytest.raises(ConfigurationError, match=r"bench\.json"):
        keep_result(result_of("A", [], 1), file)
    assert file.read_text() == text


def test_stage_summaries_keep_the_order_of_stages() -> None:
    assert list(stage_summary([{"b": 1.0, "a": 2.0}])) == ["b", "a"]
