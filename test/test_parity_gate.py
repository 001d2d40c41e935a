"""No engine is used before it was compared: broken ones are refused with numbers, and the next backend is taken."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")
pytest.importorskip("openvino")

import onnx
import torch
from small_model import small_weights

from karp_perception.core import BackendUnavailable
from karp_perception.core.resources import resource
from karp_perception.detection.detector import Detector, DetectorSettings
from karp_perception.detection.model.weights import find_model, load_network
from karp_perception.detection.runtime import onnxruntime as onnxruntime_backend
from karp_perception.detection.runtime import openvino as openvino_backend
from karp_perception.detection.runtime.artefacts import Artefacts
from karp_perception.detection.runtime.backend import BackendOptions, open_backend, select_backend
from karp_perception.detection.runtime.graph import NETWORK_OUTPUTS, POSITION_OUTPUTS
from karp_perception.detection.runtime.reference_frames import (
    calibration_frames,
    load_frames,
    reference_frames,
    reference_frames_file,
    save_frames,
)
from karp_perception.detection.runtime.references import References, sensor_subsets

Outputs = dict[str, np.ndarray]
F32 = BackendOptions(1, "f32")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def made(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with the exported model and no results of comparisons."""
    cache = tmp_path_factory.mktemp("cache")
    Artefacts(find_model(str(weights)), cache).network.onnx()
    return cache


@pytest.fixture
def artefacts(weights: Path, made: Path) -> Artefacts:
    found = Artefacts(find_model(str(weights)), made)
    for record in found.network.onnx().parent.glob("parity-*.json"):
        record.unlink()
    return found


def spoil(monkeypatch: pytest.MonkeyPatch, backend: type, change: Mapping[str, float], sample: str = "network") -> None:
    """Have a backend answer with something added to outputs of a graph."""
    real = backend.run  # type: ignore[attr-defined]

    def wrong(self: object, inputs: Outputs) -> Outputs:
        outputs = real(self, inputs)
        if self._graph.name == sample:  # type: ignore[attr-defined]
            outputs |= {name: outputs[name] + np.float32(by) for name, by in change.items()}
        return outputs

    monkeypatch.setattr(backend, "run", wrong)


@pytest.mark.parametrize("change", [{"center": 0.5}, {"logits": -1.0}, {"direction": 0.3}, {"log_variance": np.nan}])
def test_a_wrong_engine_is_refused_with_numbers_and_the_next_one_is_taken(
    artefacts: Artefacts, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, change: dict[str, float]
) -> None:
    spoil(monkeypatch, openvino_backend.OpenVinoBackend, change)
    backend = select_backend("auto", artefacts.network, F32)
    assert backend.name == "onnxruntime"
    assert backend.parity is not None
    assert backend.parity.passed
    assert "openvino cannot be used: openvino is refused: f32 against the reference in" in caplog.text
    assert "center_m" in caplog.text
    assert "unmatched" in caplog.text
    with pytest.raises(BackendUnavailable, match="openvino is refused"):
        open_backend("openvino", artefacts.network, F32)


def test_a_layer_of_zeros_is_noticed(artefacts: Artefacts, tmp_path: Path) -> None:
    model = onnx.load(artefacts.network.onnx())
    weight = next(w for w in model.graph.initializer if w.name.endswith("lidar_encoder.stem.halve.1.0.weight"))
    weight.CopyFrom(onnx.numpy_helper.from_array(np.zeros(tuple(weight.dims), np.float32), weight.name))
    broken = tmp_path / "network.onnx"
    onnx.save(model, broken)
    graph = dataclasses.replace(artefacts.network, onnx=lambda precision="f32": broken)
    for name in ("openvino", "onnxruntime"):
        with pytest.raises(BackendUnavailable, match=f"{name} is refused"):
            open_backend(name, graph, F32)
    assert select_backend("auto", graph, F32).name == "torch"  # which does not read the file


def test_wrong_positions_are_noticed(artefacts: Artefacts, monkeypatch: pytest.MonkeyPatch) -> None:
    spoil(monkeypatch, onnxruntime_backend.OnnxRuntimeBackend, {"image_ray": 0.5}, "position")
    with pytest.raises(BackendUnavailable, match=r"onnxruntime is refused: .* image_ray 0\.\d+"):
        open_backend("onnxruntime", artefacts.position, F32)


def test_only_the_first_start_pays(
    artefacts: Artefacts, weights: Path, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = open_backend("onnxruntime", artefacts.network, F32)
    again = Artefacts(find_model(str(weights)), made)
    monkeypatch.setattr(References, "load", lambda file: pytest.fail("compared again"))
    assert open_backend("onnxruntime", again.network, F32).parity == first.parity


def test_an_engine_that_was_built_anew_is_compared_anew(artefacts: Artefacts, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[str] = []
    real = onnxruntime_backend.OnnxRuntimeBackend.run
    monkeypatch.setattr(
        onnxruntime_backend.OnnxRuntimeBackend,
        "run",
        lambda self, inputs: compared.append(self.engine) or real(self, inputs),
    )
    for engine in ("one", "one", "two"):
        monkeypatch.setattr(onnxruntime_backend.OnnxRuntimeBackend, "engine", engine)
        open_backend("onnxruntime", artefacts.network, F32)
    once = len(artefacts.references)
    assert compared == ["one"] * once + ["two"] * once


def test_a_refused_network_leaves_a_detector_that_works(
    weights: Path, artefacts: Artefacts, made: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    spoil(monkeypatch, openvino_backend.OpenVinoBackend, {"center": 3.0})
    with caplog.at_level(logging.WARNING):
        detector = Detector(DetectorSettings(model=str(weights), threads=1, precision="f32"), cache=made)
    assert detector.info["backend"] == "onnxruntime"
    assert detector.info["parity"]["passed"] is True
    detector.warm_up()


def test_references_cover_every_state_of_the_sensors(artefacts: Artefacts) -> None:
    references = artefacts.references
    states = {(tuple(c), bool(on)) for c, on in zip(references.cameras, references.lidar, strict=True)}
    assert states == set(sensor_subsets(3))
    assert len(states) == 15
    assert set(references.frame) == set(range(len(reference_frames())))
    assert set(references.outputs) == set(NETWORK_OUTPUTS)
    assert set(references.positions) == set(POSITION_OUTPUTS)
    assert all(np.isfinite(values).all() for values in references.outputs.values())


def test_larger_rigs_are_whole_partial_and_blind() -> None:
    subsets = sensor_subsets(6)
    assert subsets[0] == ((True,) * 6, True)
    assert ((False,) * 6, True) in subsets
    assert ((True,) * 6, False) in subsets
    assert len(set(subsets)) == len(subsets) < 12
    assert any(sum(cameras) == 1 and not lidar for cameras, lidar in subsets)


@pytest.mark.parametrize("batch", [1, 2])
def test_references_are_what_torch_says_of_their_inputs(artefacts: Artefacts, batch: int) -> None:
    net, references = load_network(artefacts.source), artefacts.references

    def embed(calibration: Outputs) -> Outputs:
        values = net.position(*(torch.from_numpy(value) for value in calibration.values()))
        return {name: value.numpy() for name, value in zip(POSITION_OUTPUTS, values, strict=True)}

    with torch.inference_mode():
        for reference in list(references.of_network(embed, batch))[:4]:
            found = net(*(torch.from_numpy(np.ascontiguousarray(value)) for value in reference.inputs.values()))
            rows = np.abs(reference.outputs["logits"]).max(axis=-1) < 100.0  # those that are not masked
            for name, expected in reference.outputs.items():
                difference = np.abs(getattr(found, name).numpy() - expected)[rows]
                assert difference.max() <= 1e-4 * max(1.0, np.abs(expected[rows]).max()), name


def test_references_survive_writing_to_the_bit(artefacts: Artefacts, tmp_path: Path) -> None:
    references = artefacts.references
    file, other = tmp_path / "one.npz", tmp_path / "other.npz"
    references.save(file)
    References.load(file).save(other)
    assert file.read_bytes() == other.read_bytes() == artefacts.references_file.read_bytes()


def test_nano_comes_with_references_of_its_own_weights_and_frames() -> None:
    source = find_model("nano")
    references = References.load(resource("models", "nano", "references.npz"))
    assert references.about["weights"] == source.digest
    assert references.about["config"] == source.config.to_json()
    assert references.about["frames"] == hashlib.sha256(reference_frames_file().read_bytes()).hexdigest()
    assert resource("models", "nano", "references.npz").stat().st_size < 3e6


def test_frames_to_compare_on_are_not_those_to_calibrate_on(tmp_path: Path) -> None:
    compared, calibrated = reference_frames(), calibration_frames()
    assert len(compared) >= 4
    assert len(calibrated) >= 4
    clouds = [frame.lidar.points.tobytes() for frame in (*compared, *calibrated) if frame.lidar is not None]
    assert len(set(clouds)) == len(compared) + len(calibrated)
    for frame in compared:
        assert len(frame.cameras) == 6
        assert all(camera is not None and camera.image.std() > 10 for camera in frame.cameras.values())
    file = tmp_path / "frames.npz"
    save_frames(file, compared[:1])
    (again,) = load_frames(file)
    assert again.lidar is not None
    assert compared[0].lidar is not None
    assert np.array_equal(again.lidar.points, compared[0].lidar.points)
    assert np.array_equal(again.lidar.time, compared[0].lidar.time)  # type: ignore[arg-type]
