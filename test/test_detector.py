"""Decoding against a loop, and the Detector from sensor frames to boxes."""

from __future__ import annotations

import dataclasses
import itertools
import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from small_model import SMALL, camera, small_weights, sweep

from karp_perception.core import (
    CLASS_NAMES,
    Boxes,
    CameraFrame,
    ConfigurationError,
    Distortion,
    DistortionModel,
    InvalidInput,
    LidarSweep,
    SensorFrame,
)
from karp_perception.core.stopwatch import Stopwatch
from karp_perception.detection.decoding import decode, said_once
from karp_perception.detection.detector import Detector, DetectorSettings
from karp_perception.detection.model.weights import find_model, load_network, save_weights

COLUMNS = ("center", "size", "yaw", "velocity", "label", "score", "variance")


def heads(rng: np.random.Generator, count: int = 40) -> dict[str, np.ndarray]:
    widths = {"logits": 10, "center": 3, "log_size": 3, "direction": 2, "velocity": 2, "log_variance": 9}
    return {name: rng.normal(0, 1, (1, count, width)).astype(np.float32) for name, width in widths.items()}


def same(a: Boxes, b: Boxes) -> bool:
    return len(a) == len(b) and all(np.array_equal(getattr(a, name), getattr(b, name)) for name in COLUMNS)


@pytest.mark.parametrize(("threshold", "most"), [(0.0, 100), (0.8, 100), (0.0, 7), (0.9, 3)])
def test_decoding_equals_a_loop_over_queries(threshold: float, most: int) -> None:
    outputs = heads(np.random.default_rng(0))
    rows = []
    for query in range(40):
        scores = 1 / (1 + np.exp(-outputs["logits"][0, query].astype(float)))
        label = int(np.argmax(scores))
        if scores[label] >= threshold:
            size = np.exp(outputs["log_size"][0, query].astype(float))
            sine, cosine = outputs["direction"][0, query].astype(float)
            variance = np.exp(outputs["log_variance"][0, query].astype(float))
            variance[3:6] *= size * size
            yaw = np.arctan2(sine, cosine)
            rows.append((scores[label], label, query, size, yaw, variance))
    rows.sort(key=lambda row: -row[0])
    boxes = decode(outputs, threshold, most)
    assert len(boxes) == min(most, len(rows))
    assert boxes.frame == "base_link"
    for number, (score, label, query, size, yaw, variance) in enumerate(rows[:most]):
        assert boxes.label[number] == label
        np.testing.assert_allclose(boxes.score[number], score)
        np.testing.assert_allclose(boxes.size[number], size)
        np.testing.assert_allclose(boxes.yaw[number], yaw)
        np.testing.assert_allclose(boxes.center[number], outputs["center"][0, query])
        np.testing.assert_allclose(boxes.velocity[number], outputs["velocity"][0, query])
        assert boxes.variance is not None
        np.testing.assert_allclose(boxes.variance[number], variance)


def test_variance_of_lengths_follows_from_that_of_their_logarithms() -> None:
    outputs = heads(np.random.default_rng(1), 1)
    spread = 0.05
    outputs["log_variance"][0, 0, 3:6] = 2 * np.log(spread)
    boxes = decode(outputs, 0.0, 1)
    rng = np.random.default_rng(2)
    drawn = np.exp(outputs["log_size"][0, 0] + spread * rng.standard_normal((200000, 3)))
    assert boxes.variance is not None
    np.testing.assert_allclose(boxes.variance[0, 3:6], drawn.var(axis=0), rtol=0.03)


@pytest.mark.parametrize("name", ["logits", "center", "log_size", "direction", "velocity", "log_variance"])
def test_a_query_that_is_not_finite_is_left_out(name: str) -> None:
    outputs = heads(np.random.default_rng(3), 6)
    clean = decode(outputs, 0.0, 10)
    for value in (np.nan, np.inf, -np.inf):
        broken = {key: column.copy() for key, column in outputs.items()}
        broken[name][0, 2, 0] = value
        boxes = decode(broken, 0.0, 10)
        assert len(boxes) == 5
        expected = {tuple(center) for center in clean.center} - {tuple(outputs["center"][0, 2].astype(float))}
        assert {tuple(center) for center in boxes.center} == expected
    assert len(decode({key: np.full_like(column, np.nan) for key, column in outputs.items()}, 0.0, 10)) == 0


def test_numbers_beyond_reason_become_valid_boxes() -> None:
    for sign in (-1, 1):
        outputs = {
            name: np.full_like(column, sign * 1e30) for name, column in heads(np.random.default_rng(4), 3).items()
        }
        outputs["logits"][:] = sign * 50.0
        boxes = decode(outputs, 0.0, 10)
        assert len(boxes) == 1, "three vehicles of a class in one place are one"
        assert np.isfinite(boxes.velocity).all()
        assert np.abs(boxes.center).max() <= 1000.0


def test_equal_scores_keep_the_order_of_queries() -> None:
    outputs = heads(np.random.default_rng(5), 20)
    outputs["logits"][:] = 1.0
    outputs["center"][0, :, 0] = 20.0 * np.arange(20)
    boxes = decode(outputs, 0.0, 20)
    np.testing.assert_array_equal(boxes.center, outputs["center"][0].astype(float))
    assert (boxes.label == 0).all()


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("torch")
    return small_weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def small(weights: Path) -> Detector:
    return Detector(
        DetectorSettings(model=str(weights), backend="torch", score_threshold=0.0, threads=1, refiner="none")
    )


def frame(rng: np.random.Generator, **names: float) -> SensorFrame:
    return SensorFrame(5, {name: camera(rng, yaw) for name, yaw in names.items()}, sweep(rng))


def test_trained_weights_are_found_and_described(small: Detector, weights: Path) -> None:
    assert small.trained
    info = small.info
    assert (info["model"], info["trained"], info["backend"], info["precision"]) == ("small", True, "torch", "f32")
    assert info["weights"] == str(weights)
    assert json.dumps(info)


def test_every_subset_of_sensors_gives_valid_sorted_boxes(small: Detector) -> None:
    whole = frame(np.random.default_rng(0), a=0.0, b=1.0, c=-1.0)
    for subset in itertools.product((False, True), repeat=4):
        cameras = {name: whole.cameras[name] if on else None for name, on in zip("abc", subset, strict=False)}
        boxes = small.detect(SensorFrame(0, cameras, whole.lidar if subset[3] else None))
        if not any(subset):
            assert len(boxes) == 0
            continue
        # Without a sensor there are no candidates of it, not even at a threshold of 0.
        candidates = SMALL.candidate_queries * subset[3] + SMALL.image_queries * any(subset[:3])
        assert len(boxes) == SMALL.learned_queries + candidates
        assert (np.diff(boxes.score) <= 0).all()


def test_names_and_order_of_cameras_change_nothing(small: Detector) -> None:
    one = frame(np.random.default_rng(1), front=0.0, left=1.0, right=-1.0)
    renamed = SensorFrame(
        5, {"z": one.cameras["right"], "y": one.cameras["front"], "x": one.cameras["left"], "w": None}, one.lidar
    )
    assert same(small.detect(one), small.detect(renamed))
    assert same(small.detect(one), small.detect(one))


def test_a_calibration_seen_before_is_used_again_and_a_new_one_is_not(weights: Path) -> None:
    detector = Detector(DetectorSettings(model=str(weights), backend="torch", score_threshold=0.0, threads=1))
    runs = []
    position = detector._position
    run = position.run
    position.run = lambda inputs: (runs.append(1), run(inputs))[1]  # type: ignore[method-assign]
    rng = np.random.default_rng(2)
    first = frame(rng, a=0.0)
    detector.detect(first)
    detector.detect(SensorFrame(6, {"other_name": first.cameras["a"]}, sweep(rng)))
    assert len(runs) == 1
    before = detector.detect(first)
    shifted = camera(np.random.default_rng(2), 0.3)
    moved = SensorFrame(
        7, {"a": dataclasses.replace(first.cameras["a"], T_base_camera=shifted.T_base_camera)}, first.lidar
    )
    assert not same(detector.detect(moved), before)
    assert len(runs) == 2


def test_a_blind_lidar_counts_as_missing(small: Detector) -> None:
    rng = np.random.default_rng(3)
    cameras = {"a": camera(rng, 0.0)}
    blind = LidarSweep(np.zeros((0, 4), np.float32), 0)
    assert same(small.detect(SensorFrame(0, cameras, blind)), small.detect(SensorFrame(0, cameras)))
    assert len(small.detect(SensorFrame(0, {}, blind))) == 0


def test_stages_are_timed(small: Detector) -> None:
    stopwatch = Stopwatch()
    small.detect(frame(np.random.default_rng(4), a=0.0), stopwatch)
    assert list(stopwatch.milliseconds) == ["preprocess", "network", "decode", "refine"]


def test_threshold_and_most_detections_are_kept(weights: Path, small: Detector) -> None:
    data = frame(np.random.default_rng(5), a=0.0)
    everything = small.detect(data)
    threshold = float(everything.score[5])
    few = Detector(
        DetectorSettings(
            model=str(weights), backend="torch", score_threshold=threshold, max_detections=4, threads=1, refiner="none"
        )
    )
    assert same(few.detect(data), everything[:4])
    many = Detector(
        DetectorSettings(model=str(weights), backend="torch", score_threshold=threshold, threads=1, refiner="none")
    )
    assert len(many.detect(data)) == int((everything.score >= threshold).sum())


def test_too_many_cameras_are_reported_once(small: Detector, caplog: pytest.LogCaptureFixture) -> None:
    ring = frame(np.random.default_rng(6), e=0.0, d=1.0, c=-1.0, b=2.0, a=3.1)
    small.detect(ring)
    small.detect(ring)
    assert len(caplog.records) == 1
    assert "takes 3 cameras: e, d, c used, a, b left out" in caplog.text


@pytest.mark.parametrize(("slots", "yaws"), [(1, {"a": 0.0}), (2, {"a": 0.0, "b": 1.0}), (1, {})])
def test_slots_that_are_not_there_change_nothing_for_a_rig_that_fits(
    weights: Path, slots: int, yaws: dict[str, float]
) -> None:
    data = frame(np.random.default_rng(8), **yaws)
    whole, fewer = (
        Detector(DetectorSettings(model=str(weights), cameras=count, backend="torch", score_threshold=0.0, threads=1))
        for count in (0, slots)
    )
    assert whole.config is not None
    assert fewer.config is not None
    assert (whole.config.cameras, fewer.config.cameras) == (SMALL.cameras, slots)
    assert fewer.info["inputs"]["cameras"] == slots
    expected, got = whole.detect(data), fewer.detect(data)
    assert len(expected) == SMALL.queries - (0 if yaws else SMALL.image_queries)
    for name in COLUMNS:
        np.testing.assert_allclose(getattr(got, name), getattr(expected, name), rtol=1e-4, atol=1e-4, err_msg=name)


def test_untrained_nano_with_one_slot_says_what_it_says_with_three(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("torch")
    settings = {"backend": "torch", "score_threshold": 0.0, "max_detections": 1000}
    three, one = (Detector(DetectorSettings(cameras=count, **settings), cache=tmp_path) for count in (3, 1))  # type: ignore[arg-type]
    outputs = []
    for detector in (three, one):
        monkeypatch.setattr(detector._network, "run", record(detector._network.run, outputs))
        detector.detect(frame(np.random.default_rng(9), front=0.0))
    assert outputs[0].keys() == outputs[1].keys()
    for name, value in outputs[0].items():
        np.testing.assert_allclose(outputs[1][name], value, rtol=1e-4, atol=1e-4, err_msg=name)


def record(run: Callable[..., dict[str, np.ndarray]], kept: list[dict[str, np.ndarray]]) -> Callable[..., object]:
    def recorded(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        kept.append(run(inputs))
        return kept[-1]

    return recorded


def test_more_slots_than_the_model_has_are_the_models(weights: Path) -> None:
    detector = Detector(DetectorSettings(model=str(weights), cameras=16, backend="torch", threads=1))
    assert detector.config == SMALL


def test_a_camera_beyond_the_slots_asked_for_is_reported_once(weights: Path, caplog: pytest.LogCaptureFixture) -> None:
    detector = Detector(
        DetectorSettings(model=str(weights), cameras=1, backend="torch", score_threshold=0.0, threads=1)
    )
    pair = frame(np.random.default_rng(6), side=1.0, ahead=0.0)
    boxes = [detector.detect(pair) for _ in range(2)]
    assert len(caplog.records) == 1
    assert "takes 1 cameras: ahead used, side left out" in caplog.text
    alone = detector.detect(SensorFrame(5, {"ahead": pair.cameras["ahead"]}, pair.lidar))
    assert same(boxes[0], alone)
    assert len(caplog.records) == 1


def test_distorted_image_is_an_error_that_says_so(small: Detector) -> None:
    one = camera(np.random.default_rng(7), 0.0)
    lens = Distortion(DistortionModel.EQUIDISTANT, (0.1, 0, 0, 0))
    bent = CameraFrame(one.image, one.intrinsics, one.T_base_camera, 0, lens)
    with pytest.raises(InvalidInput, match="undistort it first"):
        small.detect(SensorFrame(0, {"a": bent}))


def test_no_model_detects_nothing() -> None:
    detector = Detector(DetectorSettings(model="none"))
    assert not detector.trained
    assert detector.info["model"] == "none"
    detector.warm_up()
    assert len(detector.detect(frame(np.random.default_rng(0), a=0.0))) == 0


def test_untrained_weights_are_reported(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("torch")

    def missing(*parts: str) -> Path:
        raise ConfigurationError("/".join(parts))

    monkeypatch.setattr("karp_perception.detection.model.weights.resource", missing)
    with caplog.at_level(logging.WARNING):
        detector = Detector(DetectorSettings(backend="torch"), cache=tmp_path)
    assert not detector.trained
    assert detector.info["trained"] is False
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "UNTRAINED" in caplog.text
    # Its scores lie at the prior, far below the threshold: nothing is let through.
    assert len(detector.detect(frame(np.random.default_rng(0), a=0.0))) == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"score_threshold": 1.5}, "0.0 to 1.0"),
        ({"backend": "cuda"}, "one of auto, tensorrt"),
        ({"threads": -1}, "0 to 256"),
        ({"max_detections": 0}, "1 to 1000"),
        ({"model": 3}, "expected str"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        DetectorSettings.from_mapping(settings)


def test_models_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"expected one of nano, tiny, none, or a \.safetensors file"):
        Detector(DetectorSettings(model="huge"))
    junk = tmp_path / "junk.safetensors"
    for content in (
        b"",
        b"12345",
        b"\xff" * 100,
        (8).to_bytes(8, "little") + b"[1,2,3] ",
        (2).to_bytes(8, "little") + b"{}",
    ):
        junk.write_bytes(content)
        with pytest.raises(ConfigurationError, match=r"junk\.safetensors: expected a safetensors file"):
            find_model(str(junk))


def test_weights_of_another_shape_are_refused_with_one_line(weights: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from safetensors.torch import load_file, save_file

    source = find_model(str(weights))
    wider = source.config.to_json().replace('"learned_queries": 6', '"learned_queries": 7')
    other = tmp_path / "other.safetensors"
    save_file(load_file(weights), other, metadata={"karp_config": wider})
    with pytest.raises(ConfigurationError, match="not the tensors of its configuration") as error:
        load_network(find_model(str(other)))
    assert "\n" not in str(error.value)


def test_half_precision_files_load_close_to_what_was_saved(weights: Path, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    net = load_network(find_model(str(weights)))
    file = tmp_path / "half.safetensors"
    save_weights(net, file, {"trained_on": "nothing"})
    assert file.stat().st_size < 0.6 * weights.stat().st_size
    again = load_network(find_model(str(file)))
    assert find_model(str(file)).digest != find_model(str(weights)).digest
    for (name, saved), loaded in zip(net.state_dict().items(), again.state_dict().values(), strict=True):
        assert loaded.dtype == saved.dtype, name
        torch.testing.assert_close(loaded, saved, rtol=1e-3, atol=1e-4)


def recorded_frame(folder: Path) -> SensorFrame:
    content = json.loads((folder / "frame.json").read_text())
    cameras = {}
    for entry in content["cameras"]:
        image = cv2.cvtColor(cv2.imread(str(folder / entry["file"])), cv2.COLOR_BGR2RGB)
        cameras[entry["name"]] = CameraFrame(image, np.array(entry["K"]), np.array(entry["T_base_camera"]), 0)
    points = np.fromfile(folder / "points.bin", "<f4").reshape(-1, 4)
    return SensorFrame(0, cameras, LidarSweep(points, 0))


@pytest.mark.data
@pytest.mark.parametrize(("name", "cameras"), [("kitti_000001", 1), ("sustech_000965", 3), ("nuscenes_n015", 6)])
def test_recorded_frames_of_one_three_and_six_cameras(recorded_data: Path, name: str, cameras: int) -> None:
    pytest.importorskip("torch")
    data = recorded_frame(recorded_data / "labelled" / name)
    assert len(data.cameras) == cameras
    detector = Detector(DetectorSettings(backend="torch", score_threshold=0.0, max_detections=1000))
    config = detector.config
    assert config is not None
    everything = detector.detect(data)
    # Of hopeless queries many say the same: all but those that stand in each other.
    assert 0.5 * config.queries < len(everything) <= config.queries
    without_lidar, without_cameras = SensorFrame(0, data.cameras), SensorFrame(0, {}, data.lidar)
    left = ((without_lidar, config.candidate_queries), (without_cameras, config.image_queries))
    for part, count in ((part, config.queries - lost) for part, lost in left):
        boxes = detector.detect(part)
        assert 0 < len(boxes) <= count
        assert not same(boxes, everything[: len(boxes)])


def test_a_vehicle_is_said_once_and_people_as_often_as_they_are() -> None:
    center = np.ones((7, 3))
    center[:, :2] = [[10, 0], [10.5, 0.4], [10, 2], [10.2, 0.2], [20, 0], [20.2, 0], [10.9, 0.8]]
    boxes = Boxes(
        center, np.tile((4.4, 1.8, 1.5), (7, 1)), np.zeros(7), np.zeros((7, 2)), np.array([0, 0, 0, 1, 5, 5, 0]),
        np.linspace(0.9, 0.4, 7),
    )  # fmt: skip
    # The second is the first again; the fourth is of another class; people stand close; the last is near the second
    # alone, which is gone.
    assert said_once(boxes).tolist() == [True, False, True, True, True, True, True]
    assert said_once(Boxes.empty()).tolist() == []
    # Where boxes of people have been fitted to points, two in one place are one of them.
    people = replace(boxes[[4, 5, 6]], size=np.tile((0.6, 0.6, 1.7), (3, 1)), label=np.full(3, 5))
    people = replace(people, center=np.array([[20.0, 0, 1], [20.2, 0, 1], [20.4, 0, 1]]))
    assert said_once(people).all()
    assert said_once(people, len(CLASS_NAMES)).tolist() == [True, False, True]
