"""On an NVIDIA GPU: engines say what the CPU says, are captured, are kept, and are fast.

python -m pytest -q -m gpu test/test_gpu.py test/test_device_arrays.py
"""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")

from small_model import SMALL, camera, small_weights, sweep  # noqa: E402

from karp_perception.core import BackendUnavailable, CameraFrame, LidarSweep, SensorFrame  # noqa: E402
from karp_perception.core.stopwatch import Stopwatch  # noqa: E402
from karp_perception.detection.detector import Detector, DetectorSettings  # noqa: E402
from karp_perception.detection.model.weights import find_model  # noqa: E402
from karp_perception.detection.preprocessing import network_arrays  # noqa: E402
from karp_perception.detection.runtime.artefacts import Artefacts  # noqa: E402
from karp_perception.detection.runtime.backend import BackendOptions, open_backend  # noqa: E402
from karp_perception.detection.runtime.device_backend import DeviceBackend  # noqa: E402
from karp_perception.detection.runtime.device_cuda import Cuda  # noqa: E402
from karp_perception.detection.runtime.device_torch import TorchDeviceBackend  # noqa: E402
from karp_perception.detection.runtime.gpus import gpus  # noqa: E402
from karp_perception.detection.runtime.reference_frames import reference_frames  # noqa: E402

pytestmark = pytest.mark.gpu

ENGINES = ["torch_cuda", "tensorrt", "tensorrt_rtx"]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(small_weights(tmp_path_factory.mktemp("weights")))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def detector(model: str, backend: str, cache: Path, **settings: object) -> Detector:
    """On a backend; or the test is skipped with what stands in the way of a TensorRT: not there, not for this GPU."""
    chosen = DetectorSettings(model, backend=backend, engines=str(cache / "engines"), **settings)  # type: ignore[arg-type]
    try:
        return Detector(chosen, cache=cache)
    except BackendUnavailable as error:
        if backend == "torch_cuda":
            raise
        pytest.skip(str(error))


def small_frame(seed: int, cameras: tuple[bool, ...] = (True, True, True), lidar: bool = True) -> SensorFrame:
    rng = np.random.default_rng(seed)
    taken = [camera(rng, yaw, (90, 200), y=-yaw) for yaw in (0.0, 1.0, -1.0)]
    cloud = sweep(rng)
    return SensorFrame(seed, {f"c{i}": taken[i] if cameras[i] else None for i in range(3)}, cloud if lidar else None)


def test_the_driver_is_asked_as_torch_asks_it() -> None:
    first = gpus()[0]
    assert first.name == torch.cuda.get_device_name(0)
    assert first.compute_capability == "{}.{}".format(*torch.cuda.get_device_capability(0))
    assert tuple(map(int, first.driver.split("."))) >= (12, 0)


@pytest.mark.parametrize("precision", ["f32", "f16", "bf16"])
def test_torch_cuda_says_what_torch_says(weights: str, cache: Path, precision: str) -> None:
    graph = Artefacts(find_model(weights), cache).network
    exact = open_backend("torch", graph, BackendOptions())
    fast = TorchDeviceBackend(graph, precision, Cuda())
    position = open_backend("torch", Artefacts(find_model(weights), cache).position, BackendOptions())
    limit = {"f32": 1e-3, "f16": 0.05, "bf16": 0.4}[precision]
    for seed in range(3):
        rig, arrays = network_arrays(small_frame(seed), SMALL)
        inputs = {**arrays, **position.run(rig.calibration)}
        expected, found = exact.run(inputs), fast.run(inputs)
        learned = slice(0, SMALL.learned_queries)  # candidates may change places
        for name, value in expected.items():
            assert np.abs(found[name] - value)[:, learned].max() <= limit * max(1.0, np.abs(value).max()), name


@pytest.mark.parametrize("backend", ENGINES)
@pytest.mark.parametrize("subset", [((True,) * 3, True), ((False, True, False), True), ((True,) * 3, False)])
def test_boxes_are_those_of_the_cpu(
    weights: str, cache: Path, backend: str, subset: tuple[tuple[bool, ...], bool]
) -> None:
    on_gpu = detector(weights, backend, cache, precision="f32", score_threshold=0.2)
    on_cpu = Detector(DetectorSettings(weights, backend="torch", score_threshold=0.2), cache=cache)
    for seed in range(3):
        found, expected = (each.detect(small_frame(seed, *subset)) for each in (on_gpu, on_cpu))
        assert abs(len(found) - len(expected)) <= 2
        distance = np.linalg.norm(found.center[:, None] - expected.center, axis=-1)
        assert np.quantile(distance.min(axis=0), 0.8) < 0.1


@pytest.mark.parametrize("backend", ENGINES)
def test_overlapping_frames_repeat_themselves(weights: str, cache: Path, backend: str) -> None:
    """A graph that reads what the next frame's upload writes would show here."""
    on_gpu = detector(weights, backend, cache, precision="f32", score_threshold=0.0)
    frames = [small_frame(seed, (True, seed % 3 > 0, True), seed % 4 > 0) for seed in range(12)]
    alone = [on_gpu.detect(each) for each in frames]
    for _ in range(20):
        for one, other in zip(alone, on_gpu.detect_each(frames), strict=True):
            np.testing.assert_allclose(other.score, one.score, atol=1e-5)
            np.testing.assert_allclose(other.center, one.center, atol=1e-3)


@pytest.mark.parametrize("backend", ENGINES)
def test_the_network_is_one_cuda_graph(weights: str, cache: Path, backend: str) -> None:
    on_gpu = detector(weights, backend, cache)
    on_gpu.detect(small_frame(0))
    network = on_gpu._network
    assert isinstance(network, DeviceBackend)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        network.launch()
        torch.cuda.synchronize()
    launches = {event.key: event.count for event in profile.key_averages() if "aunch" in event.key}
    assert launches.get("cudaGraphLaunch", 0) == 1
    assert launches.get("cudaLaunchKernel", 0) == 0


@pytest.mark.parametrize("backend", ["tensorrt", "tensorrt_rtx"])
def test_the_second_start_takes_the_engine_of_the_first(
    weights: str, cache: Path, backend: str, caplog: pytest.LogCaptureFixture
) -> None:
    first = detector(weights, backend, cache, precision="f16")
    stamps = {file: file.stat().st_mtime_ns for file in (cache / "engines").glob("*.engine")}
    second = detector(weights, backend, cache, precision="f16")
    assert {file: file.stat().st_mtime_ns for file in stamps} == stamps
    assert first._network.engine == second._network.engine
    (file,) = (cache / "engines").glob(f"network-{backend}-f16-*.engine")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(bytes(content))
    detector(weights, backend, cache, precision="f16").detect(small_frame(0))
    assert "damaged" in caplog.text


@pytest.mark.parametrize("backend", ENGINES)
def test_latency_of_tiny(cache: Path, backend: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Six cameras of 1600 x 900 and 120,000 points, in host memory, to boxes there: figures, printed as JSON.

    What is asserted is a relation within one run: preprocessing and decoding take no longer than the network.
    """
    on_gpu = detector("tiny", backend, cache, precision="auto")
    rng = np.random.default_rng(0)
    made = reference_frames()[0]
    intrinsics = np.array([[800.0, 0, 799.5], [0, 800, 449.5], [0, 0, 1]])
    cameras: dict[str, CameraFrame | None] = {}
    for name, each in made.cameras.items():
        assert each is not None
        image = rng.integers(0, 256, (900, 1600, 3), dtype=np.uint8)
        cameras[name] = dataclasses.replace(each, image=image, intrinsics=intrinsics)
    assert len(cameras) == 6
    assert made.lidar is not None
    points = np.resize(made.lidar.points, (120_000, 4))
    points[:, :3] += rng.normal(0, 0.05, (120_000, 3))
    data = SensorFrame(0, cameras, LidarSweep(points.astype(np.float32), 0))
    for _ in range(20):
        on_gpu.detect(data)
    total, stages = [], []
    for _ in range(200):
        stopwatch, start = Stopwatch(), time.perf_counter()
        on_gpu.detect(data, stopwatch)
        total.append((time.perf_counter() - start) * 1e3)
        stages.append(stopwatch.milliseconds)
    middle = {name: float(np.median([each[name] for each in stages])) for name in stages[0]}
    start = time.perf_counter()
    for _ in on_gpu.detect_each([data] * 200):
        pass
    rate = 200 / (time.perf_counter() - start)
    figures = {
        "gpu": gpus()[0].name,
        "backend": backend,
        "precision": on_gpu.info["precision"],
        "p50_ms": np.median(total),
        "p99_ms": np.quantile(total, 0.99),
        "stages_p50_ms": middle,
        "frames_per_second": rate,
    }
    with capsys.disabled():
        print("\n" + json.dumps(figures, default=float))
    assert middle["preprocess"] + middle["decode"] <= middle["network"]


def test_all_states_of_the_sensors_with_the_shipped_model(cache: Path) -> None:
    on_gpu = detector("nano", "torch_cuda", cache, precision="auto", score_threshold=0.05)
    on_cpu = Detector(DetectorSettings("nano", backend="torch", score_threshold=0.05), cache=cache)
    for data in reference_frames():
        found, expected = on_gpu.detect(data), on_cpu.detect(data)
        strong = expected[expected.score > 0.3]
        if len(strong):
            distance = np.linalg.norm(found.center[:, None] - strong.center, axis=-1)
            assert np.quantile(distance.min(axis=0), 0.8) < 0.3
