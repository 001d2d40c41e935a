"""TensorRT: what it is asked, in which order, by a stand-in; and real engines, by TensorRT for RTX and on a GPU."""

from __future__ import annotations

import json
import logging
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")

from recording_cuda import Calls, RecordingCuda, RecordingTensorRt  # noqa: E402
from small_model import small_weights  # noqa: E402

from karp_perception.core import BackendUnavailable, ConfigurationError  # noqa: E402
from karp_perception.core.long_work import Progress, listening  # noqa: E402
from karp_perception.detection.model.weights import find_model  # noqa: E402
from karp_perception.detection.runtime import device_cuda, tensorrt, tensorrt_rtx  # noqa: E402
from karp_perception.detection.runtime.artefacts import Artefacts  # noqa: E402
from karp_perception.detection.runtime.backend import BackendOptions  # noqa: E402
from karp_perception.detection.runtime.compiling import compile_model, compute_capability  # noqa: E402
from karp_perception.detection.runtime.gpus import Gpu, gpus  # noqa: E402
from karp_perception.detection.runtime.graph import Graph  # noqa: E402
from karp_perception.detection.runtime.tensorrt_builder import build_engine, known_capabilities  # noqa: E402

GPU = Gpu("NVIDIA made up", "8.9", "13.0")


# A graph of one product, and libraries that only say that they compile it.


class Product(torch.nn.Module):
    """y = a * b."""

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor]:
        return (a * b,)


@pytest.fixture
def graph(tmp_path: Path) -> Graph:
    for precision in ("f32", "f16"):
        (tmp_path / f"product.{precision}.onnx").write_bytes(f"product in {precision}".encode())
    return Graph(
        "network",
        {"a": (1, 3), "b": (1, 3)},
        ("y",),
        lambda precision="f32": tmp_path / f"product.{precision}.onnx",
        Product,
    )


class Machine:
    """A made-up machine with a GPU and a TensorRT."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.cuda = RecordingCuda()
        self.calls: Calls = self.cuda.calls
        self.memory: dict[int, torch.Tensor] = {}
        make = self.cuda.zeros

        def zeros(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
            tensor = make(shape, dtype)
            self.memory[tensor.data_ptr()] = tensor
            return tensor

        monkeypatch.setattr(self.cuda, "zeros", zeros)
        self.trt = self.library()
        self.options = BackendOptions(engines=folder / "engines")
        monkeypatch.setattr(tensorrt, "gpus", lambda: (GPU,))
        monkeypatch.setattr(device_cuda, "Cuda", lambda: self.cuda)
        self._monkeypatch = monkeypatch
        self.install()

    def library(self, **options: Any) -> RecordingTensorRt:
        shapes = {"a": (1, 3), "b": (1, 3), "y": (1, 3)}
        return RecordingTensorRt(self.calls, lambda v: {"y": v["a"] * v["b"]}, shapes, memory=self.memory, **options)

    def install(self, **options: Any) -> None:
        if options:
            self.trt = self.library(**options)
        self._monkeypatch.setitem(sys.modules, "tensorrt", self.trt)  # type: ignore[arg-type]

    def asked(self, *names: str) -> list[str]:
        return [call[0] for call in self.calls if call[0] in names]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Machine:
    return Machine(monkeypatch, tmp_path)


A, B = np.array([[1.0, 2, 3]], np.float32), np.array([[2.0, 2, -1]], np.float32)


def test_addresses_are_set_before_anything_runs_and_capture_comes_after_warm_up(machine: Machine, graph: Graph) -> None:
    backend = tensorrt.open_backend(graph, machine.options)
    assert [call[1] for call in machine.calls if call[0] == "address"] == ["a", "b", "y"]
    np.testing.assert_array_equal(backend.run({"a": A, "b": B})["y"], A * B)
    steps = ("address", "warm up", "capture", "execute", "replay", "mark", "synchronise")
    first = machine.asked(*steps)
    assert first == [
        "address", "address", "address", "warm up", "execute", "capture", "execute", "replay", "execute", "mark",
        "synchronise",
    ]  # fmt: skip
    machine.calls.clear()
    np.testing.assert_array_equal(backend.run({"a": B, "b": B})["y"], B * B)
    assert machine.asked(*steps) == ["replay", "execute", "mark", "synchronise"], "one launch, awaited before reading"
    assert {call[1] for call in machine.calls if call[0] == "execute"} == {machine.cuda.handle("compute")}
    assert {call[1] for call in machine.calls if call[0] == "mark"} == {"compute"}
    assert (backend.name, backend.version, backend.precision) == ("tensorrt", "10.9.0", "f32")


@pytest.mark.parametrize(("version", "strongly_typed", "flags"), [("10.9.0", True, 2), ("11.0.1", False, 0)])
def test_networks_are_strongly_typed_in_every_version(
    machine: Machine, graph: Graph, version: str, strongly_typed: bool, flags: int
) -> None:
    machine.install(version=version, strongly_typed=strongly_typed)
    backend = tensorrt.open_backend(graph, replace(machine.options, precision="f16"))
    assert ("create_network", flags) in machine.calls
    assert ("clear_flag", "TF32") in machine.calls
    assert ("build", "product.f16.onnx") in machine.calls
    assert (backend.version, backend.precision) == (version, "f16")


def test_a_second_start_loads_what_the_first_built(machine: Machine, graph: Graph) -> None:
    first = tensorrt.open_backend(graph, machine.options)
    machine.calls.clear()
    second = tensorrt.open_backend(graph, machine.options)
    assert machine.asked("build", "deserialize") == ["deserialize"]
    assert first.engine == second.engine != ""
    sidecars = {
        file.name.split("-")[0]: json.loads(file.read_text()) for file in machine.options.engines.glob("*.json")
    }  # type: ignore[union-attr]
    key = sidecars["network"]["key"]
    assert (key["device"], key["compute_capability"], key["version"]) == ("NVIDIA made up", "8.9", "10.9.0")
    assert key["shapes"] == {"a": [1, 3], "b": [1, 3]}


def test_another_version_builds_anew_with_a_line(
    machine: Machine, graph: Graph, caplog: pytest.LogCaptureFixture
) -> None:
    tensorrt.open_backend(graph, machine.options)
    machine.install(version="11.0.0")
    machine.calls.clear()
    tensorrt.open_backend(graph, machine.options)
    assert machine.asked("build") == ["build"]
    (line,) = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert "version 10.9.0 -> 11.0.0" in line


def test_an_engine_that_the_library_does_not_load_is_built_anew(
    machine: Machine, graph: Graph, caplog: pytest.LogCaptureFixture
) -> None:
    tensorrt.open_backend(graph, machine.options)
    (file,) = machine.options.engines.glob("network*.engine")  # type: ignore[union-attr]
    content = file.read_bytes()
    machine.trt.refuses.add(content)
    with pytest.raises(Exception, match="does not load it"):  # and the new one is no better
        tensorrt.open_backend(graph, machine.options)
    machine.trt.refuses.clear()
    tensorrt.open_backend(graph, machine.options)
    assert "tensorrt 10.9.0 does not load it; it is set aside and built again" in caplog.text


def test_times_of_kernels_are_kept_for_the_next_build(machine: Machine, graph: Graph) -> None:
    tensorrt.open_backend(graph, machine.options)
    tensorrt.open_backend(graph, replace(machine.options, precision="f16"))
    assert [call[1] for call in machine.calls if call[0] == "timing_cache"] == [b"", b"timings"]


def test_phases_within_phases_are_one_progress(machine: Machine, graph: Graph) -> None:
    heard: list[Progress] = []
    with listening(heard.append):
        tensorrt.open_backend(graph, machine.options)
    assert heard[0].what == "compiling the network in f32 with tensorrt 10.9.0"
    assert (heard[0].share, heard[0].finished) == (None, False)
    assert (heard[-1].share, heard[-1].finished) == (1.0, True)


def test_what_tensorrt_says_stands_in_the_error(machine: Machine, graph: Graph) -> None:
    machine.trt.fails = "no kernel for node_7"
    with pytest.raises(
        BackendUnavailable, match=r"^tensorrt does not compile product\.f32\.onnx: no kernel for node_7$"
    ):
        tensorrt.open_backend(graph, machine.options)
    graph.onnx().write_bytes(b"not an ONNX file")
    with pytest.raises(BackendUnavailable, match=r"does not read product\.f32\.onnx: no such operator"):
        tensorrt.open_backend(graph, machine.options)


def test_an_engine_of_another_graph_is_refused(machine: Machine, graph: Graph) -> None:
    machine.trt.shapes = {"a": (1, 4), "b": (1, 3), "z": (1, 3)}
    with pytest.raises(
        BackendUnavailable, match=r"not one of the network graph: 'y' is missing.*'z' is .*'a' is \(1, 4\)"
    ):
        tensorrt.open_backend(graph, machine.options)


def test_kernels_that_rtx_compiles_at_first_run_are_kept(
    machine: Machine, graph: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    trt = machine.library()
    trt.__name__ = "tensorrt_rtx"
    trt.ComputeCapability = SimpleNamespace(
        __members__={"NONE": 0, "CURRENT": 1, "SM86": 86, "SM89": 89}, SM86=86, SM89=89
    )  # type: ignore[attr-defined]
    loaded: list[bytes] = []
    plain = trt._engine

    def engine() -> Any:
        made = plain()
        kernels = SimpleNamespace(deserialize=loaded.append, serialize=lambda: b"kernels")
        settings = SimpleNamespace(create_runtime_cache=lambda: kernels, set_runtime_cache=lambda cache: None)
        made.create_runtime_config = lambda: settings
        context = made.create_execution_context
        made.create_execution_context = lambda settings=None: context()
        return made

    monkeypatch.setattr(trt, "_engine", engine)
    config = trt.Builder(None).create_builder_config
    chosen: list[Any] = []

    def builder(logger: Any) -> Any:
        made = RecordingTensorRt.Builder(trt, logger)

        def with_capabilities() -> Any:
            settings = config()
            settings.set_compute_capability = lambda capability, number: chosen.append((number, capability))
            return settings

        made.create_builder_config = with_capabilities
        return made

    monkeypatch.setattr(trt, "Builder", builder)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", trt)  # type: ignore[arg-type]
    for _ in range(2):
        backend = tensorrt_rtx.open_backend(graph, machine.options)
        backend.run({"a": A, "b": B})
    assert chosen == [(0, 89)], "compiled once, for this GPU"
    assert loaded == [b"kernels"], "given to the second start"


def test_one_line_where_it_is_missing_old_or_without_a_gpu(
    graph: Graph, monkeypatch: pytest.MonkeyPatch, machine: Machine
) -> None:
    monkeypatch.setattr(tensorrt, "gpus", lambda: ())
    with pytest.raises(BackendUnavailable, match="needs an NVIDIA GPU and its driver: there is none here"):
        tensorrt.open_backend(graph, machine.options)
    machine.trt.IExecutionContext = SimpleNamespace()  # as in version 8.4
    with pytest.raises(BackendUnavailable, match=r"tensorrt 10\.9\.0 is too old: pip install tensorrt, version 10"):
        tensorrt.open_backend(graph, machine.options)
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(BackendUnavailable, match=r"^tensorrt is not installed \([^\n]*\): pip install tensorrt"):
        tensorrt.open_backend(graph, machine.options)


@pytest.mark.parametrize("name", ["sm_89", "sm89", "SM_89", "89", "8.9"])
def test_gpus_are_named_in_the_usual_ways(name: str) -> None:
    assert compute_capability(name) == "8.9"
    assert compute_capability(name.replace("8", "12", 1)) == "12.9"
    for wrong in ("", "H200", "sm_", "8.9.1"):
        with pytest.raises(ConfigurationError, match="such as sm_89"):
            compute_capability(wrong)


# The real thing: TensorRT for RTX compiles without a GPU.


@pytest.fixture(scope="session")
def rtx() -> ModuleType:
    try:
        return tensorrt_rtx.RTX.load()
    except BackendUnavailable as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def onnx_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("onnx")


@pytest.mark.parametrize("precision", ["f32", "f16"])
@pytest.mark.parametrize("model", ["nano", "tiny"])
def test_rtx_compiles_the_shipped_sizes_without_a_gpu(
    rtx: ModuleType, onnx_cache: Path, tmp_path: Path, model: str, precision: str
) -> None:
    heard: list[Progress] = []
    with listening(heard.append):
        (file,) = compile_model(model, "tensorrt_rtx", precision, tmp_path, ["sm_89"], onnx_cache=onnx_cache)
    weights_bytes = Artefacts(find_model(model), onnx_cache).network.onnx(precision).stat().st_size
    assert file.stat().st_size > 0.9 * weights_bytes, "an engine holds the weights"
    key = json.loads(file.with_suffix(".json").read_text())["key"]
    assert (key["backend"], key["version"], key["precision"]) == ("tensorrt_rtx", rtx.__version__, precision)
    assert (key["compute_capability"], key["device"]) == ("8.9", "any")
    built = [progress for progress in heard if "tensorrt_rtx" in progress.what]
    assert built[-1].finished
    shares = [progress.share for progress in built if progress.share is not None]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(small_weights(tmp_path_factory.mktemp("weights")))


def test_rtx_compiles_for_several_gpus_and_for_all(
    rtx: ModuleType, small: str, onnx_cache: Path, tmp_path: Path
) -> None:
    files = compile_model(small, "tensorrt_rtx", "f32", tmp_path, ["8.6", "sm_120"], onnx_cache=onnx_cache)
    if not gpus():
        files += compile_model(small, "tensorrt_rtx", "f32", tmp_path, onnx_cache=onnx_cache)
    kinds = [json.loads(file.with_suffix(".json").read_text())["key"]["compute_capability"] for file in files]
    assert kinds == ["8.6", "12.0", "any"][: len(files)]
    with pytest.raises(BackendUnavailable, match=r"does not compile for compute capability 9\.0: it knows .*8\.9"):
        compile_model(small, "tensorrt_rtx", "f32", tmp_path, ["sm_90"], onnx_cache=onnx_cache)
    assert "8.9" in known_capabilities(rtx)


def test_rtx_says_what_is_wrong_with_a_file(rtx: ModuleType, tmp_path: Path) -> None:
    broken = tmp_path / "network.onnx"
    broken.write_bytes(b"not a model")
    with pytest.raises(BackendUnavailable, match=r"tensorrt_rtx does not read network\.onnx: \S"):
        build_engine(tensorrt_rtx.RTX, broken, "the network")


def test_tensorrt_compiles_for_its_own_gpu_alone(
    machine: Machine, small: str, onnx_cache: Path, tmp_path: Path
) -> None:
    with pytest.raises(
        BackendUnavailable, match=r"for the GPU of this machine alone \(NVIDIA made up, 8\.9\), not for 9\.0"
    ):
        compile_model(small, "tensorrt", "f32", tmp_path, ["sm_90"], onnx_cache=onnx_cache)
    (file,) = compile_model(small, "tensorrt", "f32", tmp_path, ["sm_89"], onnx_cache=onnx_cache)
    assert json.loads(file.with_suffix(".json").read_text())["key"]["device"] == "NVIDIA made up"
    with pytest.raises(ConfigurationError, match="keeps no engines"):
        compile_model(small, "onnxruntime", "f32", tmp_path, onnx_cache=onnx_cache)
