"""Backends against torch, the cache of exported graphs, and the choice among backends."""

from __future__ import annotations

import itertools
import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnxscript")

from small_model import SMALL, camera, small_weights, sweep

from karp_perception.core import BackendUnavailable, ConfigurationError, InvalidInput, SensorFrame
from karp_perception.detection.detector import network_arrays
from karp_perception.detection.model.weights import find_model
from karp_perception.detection.runtime.artefacts import Artefacts
from karp_perception.detection.runtime.backend import (
    BACKENDS,
    DEVICE_BACKENDS,
    Backend,
    BackendOptions,
    open_backend,
    select_backend,
)
from karp_perception.detection.runtime.graph import POSITION_OUTPUTS

FILES = ("network.onnx", "position.onnx", "references.npz")  # of an entry


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def artefacts(weights: Path, cache: Path) -> Artefacts:
    return Artefacts(find_model(str(weights)), cache)


@pytest.fixture(scope="module")
def opened(artefacts: Artefacts) -> dict[str, tuple[Backend, Backend]]:
    options = BackendOptions(threads=2)
    return {
        name: (open_backend(name, artefacts.network, options), open_backend(name, artefacts.position, options))
        for name in BACKENDS
        if name not in DEVICE_BACKENDS and (name == "torch" or pytest.importorskip(name))
    }


def frame(cameras: tuple[bool, ...], lidar: bool, seed: int = 0) -> SensorFrame:
    rng = np.random.default_rng(seed)
    taken = [camera(rng, yaw, (90, 200), y=-yaw) for yaw in (0.0, 1.0, -1.0)]
    cloud = sweep(rng)
    return SensorFrame(0, {f"c{i}": taken[i] if cameras[i] else None for i in range(3)}, cloud if lidar else None)


def run(backend: tuple[Backend, Backend], data: SensorFrame) -> dict[str, np.ndarray]:
    rig, arrays = network_arrays(data, SMALL)
    calibration = {"intrinsics": rig.intrinsics, "T_base_camera": rig.T_base_camera, "camera_present": rig.present}
    position = backend[1].run(calibration)
    return {**position, **backend[0].run({**arrays, **{name: position[name] for name in POSITION_OUTPUTS}})}


def answering(subset: tuple[bool, ...]) -> np.ndarray:
    """(N,) queries that can say something: candidates of sensors that are not there cannot."""
    counts = (SMALL.learned_queries, SMALL.candidate_queries, SMALL.image_queries)
    return np.repeat([True, subset[3], any(subset[:3])], counts)


@pytest.mark.parametrize("subset", [s for s in itertools.product((False, True), repeat=4) if any(s)])
def test_every_backend_says_what_torch_says(
    opened: dict[str, tuple[Backend, Backend]], subset: tuple[bool, ...]
) -> None:
    data = frame(subset[:3], subset[3])
    reference = run(opened["torch"], data)
    for name in ("openvino", "onnxruntime"):
        for output, value in run(opened[name], data).items():
            rows = slice(None) if output in POSITION_OUTPUTS else answering(subset)
            limit = 1e-4 * max(1.0, np.abs(reference[output]).max())
            off = (
                np.abs(value - reference[output])[:, rows].reshape(value.shape[0], -1, value.shape[-1]).max(axis=(0, 2))
            )
            # A place that lies on the very edge of an image is in it or not, as the backend rounds.
            on_edges = 2 if output == "reference_position" else 0
            assert (off > limit).sum() <= on_edges, (name, output)


def test_a_backend_repeats_itself_to_the_bit(opened: dict[str, tuple[Backend, Backend]]) -> None:
    for backend in opened.values():
        first, second = run(backend, frame((True, True, False), True)), run(backend, frame((True, True, False), True))
        assert all(np.array_equal(first[name], second[name]) for name in first)


def test_results_are_the_callers_own(opened: dict[str, tuple[Backend, Backend]]) -> None:
    for backend in opened.values():
        first = run(backend, frame((True, True, True), True))
        kept = {name: value.copy() for name, value in first.items()}
        run(backend, frame((True, False, True), True, seed=1))
        assert all(np.array_equal(first[name], kept[name]) for name in first)


def test_wrong_inputs_are_named(opened: dict[str, tuple[Backend, Backend]]) -> None:
    _, arrays = network_arrays(frame((True, True, True), True), SMALL)
    for backend in opened.values():
        with pytest.raises(InvalidInput, match="inputs of the network graph"):
            backend[0].run(arrays)
        wrong = {"intrinsics": np.zeros((1, 2, 3, 3)), "T_base_camera": np.zeros((1, 3, 4, 4))}
        wrong["camera_present"] = np.ones((1, 3))
        with pytest.raises(InvalidInput, match=r"'intrinsics'.*\(1, 3, 3, 3\).*\(1, 2, 3, 3\)"):
            backend[1].run(wrong)


def test_graphs_have_static_shapes(artefacts: Artefacts) -> None:
    import onnx

    for graph in (artefacts.network, artefacts.position):
        model = onnx.load(graph.onnx())
        onnx.checker.check_model(model, full_check=True)
        shapes = {i.name: tuple(d.dim_value for d in i.type.tensor_type.shape.dim) for i in model.graph.input}
        assert shapes == graph.inputs
        assert [o.name for o in model.graph.output] == list(graph.outputs)
        assert all(d.dim_value > 0 for o in model.graph.output for d in o.type.tensor_type.shape.dim)


def warnings(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.levelno >= logging.WARNING]


def flip_a_byte(entry: Path) -> None:
    file = entry / "network.onnx"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    file.write_bytes(bytes(content))


def cut_short(entry: Path) -> None:
    file = entry / "position.onnx"
    file.write_bytes(file.read_bytes()[:1000])


def lose_references(entry: Path) -> None:
    (entry / "references.npz").unlink()


def lose_manifest(entry: Path) -> None:
    (entry / "manifest.json").unlink()


def spoil_manifest(entry: Path) -> None:
    (entry / "manifest.json").write_text("[1, 2")


@pytest.mark.parametrize("damage", [flip_a_byte, cut_short, lose_references, lose_manifest, spoil_manifest])
def test_damaged_cache_is_made_again_with_one_line(
    artefacts: Artefacts, weights: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch, damage: object,
) -> None:  # fmt: skip
    whole = {name: (artefacts.network.onnx().parent / name).read_bytes() for name in FILES}
    monkeypatch.setattr(Artefacts, "_export", lambda self, folder: [
        (folder / name).write_bytes(content) for name, content in whole.items()
    ])  # fmt: skip
    first = Artefacts(find_model(str(weights)), tmp_path)
    damage(first.network.onnx().parent)  # type: ignore[operator]
    with caplog.at_level(logging.WARNING):
        again = Artefacts(find_model(str(weights)), tmp_path)
        assert {name: (again.network.onnx().parent / name).read_bytes() for name in FILES} == whole
        assert len(warnings(caplog)) == 1
        assert "made again" in caplog.text
        assert Artefacts(find_model(str(weights)), tmp_path).network.onnx().read_bytes() == whole["network.onnx"]
        assert len(warnings(caplog)) == 1
    assert [path.name for path in tmp_path.iterdir()] == [again.key]


def test_key_covers_weights_configuration_and_sources(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = Artefacts(find_model(str(weights))).key
    assert Artefacts(find_model(str(weights))).key == key
    assert Artefacts(find_model(str(small_weights(tmp_path, seed=4)))).key != key
    original = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda self: original(self) + (b"#" if self.name == "block.py" else b""))
    assert Artefacts(find_model(str(weights))).key != key


def test_a_cache_that_cannot_be_written_is_done_without(
    weights: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setattr(Artefacts, "_export", lambda self, folder: [
        (folder / name).write_bytes(b"x") for name in FILES
    ])  # fmt: skip
    artefacts = Artefacts(find_model(str(weights)), tmp_path / "file" / "cache")
    assert artefacts.network.onnx().read_bytes() == b"x"
    assert "cannot be kept" in caplog.text


def test_a_finished_entry_of_another_process_is_taken(artefacts: Artefacts, weights: Path, tmp_path: Path) -> None:
    other = Artefacts(find_model(str(weights)), tmp_path)

    def export_while_another_finishes(folder: Path) -> None:
        entry = tmp_path / other.key
        entry.mkdir()
        for file in artefacts.network.onnx().parent.iterdir():
            (entry / file.name).write_bytes(file.read_bytes())
        for name in FILES:
            (folder / name).write_bytes(b"later")

    other._export = export_while_another_finishes  # type: ignore[method-assign]
    assert other.network.onnx().read_bytes() == artefacts.network.onnx().read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == [other.key]


def test_a_model_that_does_not_export_runs_on_torch(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise RuntimeError("no such operator\nand more")

    monkeypatch.setattr("torch.onnx.export", fail)
    artefacts = Artefacts(find_model(str(weights)), tmp_path)
    assert select_backend("auto", artefacts.network).name == "torch"
    assert "does not export small to ONNX: no such operator" in caplog.text
    assert not any(tmp_path.iterdir())


def test_auto_takes_the_next_and_says_why(
    artefacts: Artefacts, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    assert select_backend("auto", artefacts.network).name == "onnxruntime"
    assert "openvino cannot be used: openvino is not installed" in caplog.text
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert select_backend("auto", artefacts.network).name == "torch"
    with pytest.raises(BackendUnavailable, match="pip install onnxruntime"):
        select_backend("onnxruntime", artefacts.network)
    with pytest.raises(BackendUnavailable, match=r"no inference backend works.*openvino: .*; onnxruntime: .*; torch: "):
        select_backend("auto", artefacts.network, BackendOptions(precision="bf16"))
    with pytest.raises(ConfigurationError, match="'tensorboard'"):
        select_backend("tensorboard", artefacts.network)


def test_a_file_that_is_no_onnx_is_refused(artefacts: Artefacts, tmp_path: Path) -> None:
    import dataclasses

    broken = tmp_path / "network.onnx"
    broken.write_bytes(b"not a model")
    graph = dataclasses.replace(artefacts.network, onnx=lambda precision="f32": broken)
    for name in ("openvino", "onnxruntime"):
        with pytest.raises(BackendUnavailable, match=r"network\.onnx"):
            open_backend(name, graph, BackendOptions())


def test_a_warm_start_needs_no_torch(artefacts: Artefacts, weights: Path, cache: Path) -> None:
    artefacts.network.onnx()
    code = (
        "import sys; from pathlib import Path\n"
        "from karp_perception.detection.detector import Detector, DetectorSettings\n"
        f"d = Detector(DetectorSettings(model={str(weights)!r}, backend='openvino'), cache=Path({str(cache)!r}))\n"
        "d.warm_up(); import json; print(json.dumps([d.info['backend'], 'torch' in sys.modules]))"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert json.loads(answer.stdout.splitlines()[-1]) == ["openvino", False]


def test_threads_default_to_those_of_this_process() -> None:
    assert BackendOptions(3).thread_count == 3
    assert BackendOptions().thread_count == len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else True


INTERRUPTED = """
import os, signal, sys
from pathlib import Path
import faulthandler

faulthandler.enable()  # gives signal handlers a stack of their own, as pytest and rclpy do
from karp_perception.detection.model.weights import find_model
from karp_perception.detection.runtime.artefacts import Artefacts
from karp_perception.detection.runtime.backend import BackendOptions, open_backend

rung = []
signal.signal(signal.SIGINT, lambda *_: rung.append(1))
graph = Artefacts(find_model(sys.argv[1]), Path(sys.argv[2])).network
first, second = (open_backend("openvino", graph, BackendOptions(1, "f32")) for _ in range(2))
del first
del second
os.kill(os.getpid(), signal.SIGINT)
assert rung == [1]
"""


def test_ctrl_c_is_no_crash_after_networks_have_come_and_gone(weights: Path, cache: Path, artefacts: Artefacts) -> None:
    pytest.importorskip("openvino")
    artefacts.network.onnx()
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, str(weights), str(cache)],
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, (done.returncode, done.stderr[-2000:])
