"""The way of a frame over a device: the same boxes as on the CPU, and the order of what a GPU is asked to do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")

from recording_cuda import RecordingCuda  # noqa: E402
from small_model import SMALL, camera, small_weights, sweep  # noqa: E402

from karp_perception.core import BackendUnavailable, Boxes, LidarSweep, SensorFrame  # noqa: E402
from karp_perception.core.stopwatch import Stopwatch  # noqa: E402
from karp_perception.detection.detector import Detector, DetectorSettings  # noqa: E402
from karp_perception.detection.model.weights import find_model  # noqa: E402
from karp_perception.detection.runtime import backend as backends  # noqa: E402
from karp_perception.detection.runtime import device_cuda, gpus, torch_cuda  # noqa: E402
from karp_perception.detection.runtime.artefacts import Artefacts  # noqa: E402
from karp_perception.detection.runtime.backend import BackendOptions  # noqa: E402
from karp_perception.detection.runtime.device_torch import TorchDeviceBackend  # noqa: E402
from karp_perception.detection.runtime.gpus import Gpu  # noqa: E402


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """The operations are small: threads only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def cuda() -> RecordingCuda:
    return RecordingCuda()


@pytest.fixture
def on_device(weights: Path, cache: Path, cuda: RecordingCuda, monkeypatch: pytest.MonkeyPatch) -> Detector:
    """A detector on a backend whose GPU is the stand-in."""
    for module in (gpus, backends, torch_cuda):
        monkeypatch.setattr(module, "gpus", lambda: (Gpu("made up", "8.9", "13.0"),))
    monkeypatch.setattr(device_cuda, "Cuda", lambda: cuda)
    monkeypatch.setattr("karp_perception.detection.runtime.device_torch.torch.compile", lambda module, dynamic: module)
    settings = DetectorSettings(
        str(weights), backend="torch_cuda", precision="f32", score_threshold=0.2, refiner="none"
    )
    return Detector(settings, cache=cache)


@pytest.fixture(scope="module")
def on_host(weights: Path, cache: Path) -> Detector:
    return Detector(DetectorSettings(str(weights), backend="torch", score_threshold=0.2, refiner="none"), cache=cache)


def frame(
    seed: int, cameras: tuple[bool, ...] = (True, True, True), lidar: bool = True, points: int = 4000
) -> SensorFrame:
    rng = np.random.default_rng(seed)
    shapes = ((90, 200), (90, 200), (60, 150))
    taken = [camera(rng, yaw, shape, y=-yaw) for yaw, shape in zip((0.0, 1.0, -1.0), shapes, strict=True)]
    cloud = sweep(rng, points)
    return SensorFrame(seed, {f"c{i}": taken[i] if cameras[i] else None for i in range(3)}, cloud if lidar else None)


def assert_close(found: Boxes, expected: Boxes) -> None:
    """The same boxes; images differ by the rounding of grey levels."""
    assert len(expected) > 3
    assert abs(len(found) - len(expected)) <= 2
    distance = np.linalg.norm(found.center[:, None] - expected.center, axis=-1)
    assert np.quantile(distance.min(axis=0), 0.8) < 0.1
    partner = distance.argmin(axis=0)
    assert np.median(np.abs(found.score[partner] - expected.score)) < 0.02


@pytest.mark.parametrize(
    ("cameras", "lidar"),
    [((True, True, True), True), ((False, True, False), True), ((True, True, True), False), ((False,) * 3, True)],
)
def test_boxes_are_those_of_the_host(
    on_device: Detector, on_host: Detector, cameras: tuple[bool, ...], lidar: bool
) -> None:
    for seed in range(2):
        data = frame(seed, cameras, lidar)
        assert_close(on_device.detect(data), on_host.detect(data))


def test_without_images_only_the_canvas_differs_by_rounding(on_device: Detector, on_host: Detector) -> None:
    data = frame(5, (False,) * 3)
    found, expected = on_device.detect(data), on_host.detect(data)
    np.testing.assert_allclose(found.center, expected.center, atol=1e-3)
    np.testing.assert_allclose(found.score, expected.score, atol=1e-4)


def test_what_a_frame_leaves_behind_does_not_reach_the_next(on_device: Detector) -> None:
    """Sensors come and go, sweeps grow and shrink: each frame is what it is alone."""
    frames = [
        frame(0), frame(1, points=2500), frame(2, (True, False, True)), frame(3, points=20000), frame(4, lidar=False),
        frame(5, points=100), frame(6), frame(7, (False, False, True), points=17000), frame(8, (False,) * 3),
    ]  # fmt: skip
    alone = [on_device.detect(each) for each in frames]
    backwards = [on_device.detect(each) for each in frames[::-1]][::-1]
    in_a_row = list(on_device.detect_each(frames))
    for one, other, third in zip(alone, backwards, in_a_row, strict=True):
        for column in ("center", "score", "label"):
            np.testing.assert_array_equal(getattr(one, column), getattr(other, column))
            np.testing.assert_array_equal(getattr(one, column), getattr(third, column))


def test_blind_frames_between_others_give_no_boxes_in_their_place(on_device: Detector, on_host: Detector) -> None:
    blind = SensorFrame(0, {}, LidarSweep(np.zeros((0, 4), np.float32), 0))
    frames = [frame(0), blind, frame(1), frame(2), blind]
    for detector in (on_device, on_host):
        assert [len(boxes) > 0 for boxes in detector.detect_each(iter(frames))] == [True, False, True, True, False]


def test_the_next_upload_begins_before_the_result_is_waited_for(on_device: Detector, cuda: RecordingCuda) -> None:
    list(on_device.detect_each([frame(i) for i in range(3)]))  # graphs are captured
    cuda.calls.clear()
    list(on_device.detect_each([frame(i) for i in range(4)]))
    uploads = [i for i, call in enumerate(cuda.calls) if call[:2] == ("mark", "copies")]
    results = {call[1]: i for i, call in enumerate(cuda.calls) if call[0] == "synchronise"}
    marks = [call[2] for call in cuda.calls if call[:2] == ("mark", "compute")]
    last = marks[4::5]  # of each frame: upload through, preprocessed, network, decoded, result copied
    assert len(uploads) == 4
    for number in range(3):
        assert uploads[number + 1] < results[last[number]], "uploaded only after the frame before was finished"


def test_order_of_what_the_gpu_is_asked(on_device: Detector, cuda: RecordingCuda) -> None:
    on_device.detect(frame(0))
    captures = [call[0] for call in cuda.calls if call[0] in ("warm up", "capture", "replay")]
    assert captures == ["warm up", "capture", "replay"] * 3  # preprocessing, network, decoding
    on_device.detect(frame(1))
    cuda.calls.clear()
    on_device.detect(frame(2))
    names = [call[0] for call in cuda.calls if call[0] not in ("allocate", "pin")]
    assert names == [
        "synchronise", "wait",  # the buffers are free: of the host, of the GPU
        "mark",  # uploaded
        "wait", "mark",  # the compute stream waits for that
        "replay", "mark", "replay", "mark", "replay", "mark",  # preprocessing, network, decoding
        "mark", "synchronise",  # the table is on the host before it is read
    ]  # fmt: skip
    assert {call[1] for call in cuda.calls if call[0] == "mark"} == {"copies", "compute"}
    uploaded = next(call for call in cuda.calls if call[:2] == ("mark", "copies"))
    assert ("wait", "compute", uploaded[2]) in cuda.calls
    assert not [call for call in cuda.calls if call[0] in ("allocate", "pin", "capture")], "nothing new for a known rig"


def test_stages_are_the_gpus_own_times(on_device: Detector) -> None:
    stopwatch = Stopwatch()
    on_device.detect(frame(0), stopwatch)
    assert set(stopwatch.milliseconds) == {"upload", "preprocess", "network", "decode", "refine"}
    assert stopwatch.milliseconds["network"] == 1.0  # of the stand-in: events are numbered


def test_buffers_of_rigs_that_are_gone_are_freed(on_device: Detector) -> None:
    subsets = [(a, b, c) for a in (True, False) for b in (True, False) for c in (True, False)]
    for subset in subsets:
        on_device.detect(frame(0, subset))
    assert on_device._on_device is not None
    assert len(on_device._on_device._stages) == 4


@pytest.mark.parametrize("precision", ["f16", "bf16"])
def test_half_precision_keeps_heads_exact_and_the_module_as_it_was(
    weights: Path, cache: Path, cuda: RecordingCuda, precision: str
) -> None:
    graph = Artefacts(find_model(str(weights)), cache).network
    backend = TorchDeviceBackend(graph, precision, cuda, compiled=False)
    assert backend.precision == precision
    exact = TorchDeviceBackend(graph, "f32", cuda, compiled=False)
    rng = np.random.default_rng(0)
    inputs = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in graph.inputs.items()}
    inputs["camera_present"][:], inputs["lidar_present"][:] = 1, 1
    half, full = backend.run(inputs), exact.run(inputs)
    assert all(value.dtype == np.float32 for value in half.values())
    # Learned queries are the same ones in both; candidates may change places.
    learned = slice(0, SMALL.learned_queries)
    difference = np.abs(half["center"][:, learned] - full["center"][:, learned])
    assert 0 < difference.max() < 0.5
    assert {parameter.dtype for parameter in graph.module().parameters()} == {torch.float32}


def test_without_a_gpu_one_line_says_so(weights: Path, cache: Path) -> None:
    if gpus.gpus():
        pytest.skip("there is a GPU here")
    for name in ("torch_cuda", "tensorrt_rtx", "tensorrt"):
        with pytest.raises(BackendUnavailable, match=r"^[^\n]*(needs an NVIDIA GPU|is not installed)[^\n]*$"):
            Detector(DetectorSettings(str(weights), backend=name), cache=cache)
    assert Detector(DetectorSettings(str(weights)), cache=cache).info["backend"] == "openvino"


def test_torch_cuda_names_precisions_that_it_has(monkeypatch: pytest.MonkeyPatch, weights: Path, cache: Path) -> None:
    monkeypatch.setattr(torch_cuda, "gpus", lambda: (Gpu("made up", "8.9", "13.0"),))
    graph = Artefacts(find_model(str(weights)), cache).network
    with pytest.raises(BackendUnavailable, match="f32, f16, bf16, not in int8"):
        torch_cuda.open_backend(graph, BackendOptions(precision="int8"))
    if not torch.cuda.is_available():
        with pytest.raises(BackendUnavailable, match=r"install a torch with CUDA|finds no GPU"):
            torch_cuda.open_backend(replace(graph), BackendOptions())
