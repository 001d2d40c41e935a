"""Exported files: operators, metadata, types, 8 bits in the encoders alone, batches, the folder of `karp export`."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")

import onnx
from onnx import TensorProto
from small_model import SMALL, small_weights

from karp_perception.core import CLASS_NAMES, BackendUnavailable, ConfigurationError
from karp_perception.detection.model.weights import find_model
from karp_perception.detection.runtime import onnxruntime as onnxruntime_backend
from karp_perception.detection.runtime.artefacts import Artefacts
from karp_perception.detection.runtime.backend import BackendOptions
from karp_perception.detection.runtime.calibration import Histogram
from karp_perception.detection.runtime.comparison import measure_parity
from karp_perception.detection.runtime.description import description
from karp_perception.detection.runtime.export_folder import export_folder
from karp_perception.detection.runtime.graph import PRECISIONS
from karp_perception.detection.runtime.onnx_scopes import scope_of, within
from karp_perception.detection.runtime.operators import STANDARD_OPERATORS, require_standard
from karp_perception.detection.runtime.parity import ParityLimits, limits_of
from karp_perception.detection.runtime.quantized_graph import EIGHT_BITS
from karp_perception.detection.runtime.typed_graph import HALF_TYPES, typed_graph

HALF_OF = {"f16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}
ENCODERS = ("image_encoder", "lidar_encoder")


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
def models(artefacts: Artefacts) -> dict[str, onnx.ModelProto]:
    return {precision: onnx.load(artefacts.network.onnx(precision)) for precision in PRECISIONS}


def types(model: onnx.ModelProto) -> dict[str, int]:
    values = [*model.graph.input, *model.graph.value_info, *model.graph.output]
    return {v.name: v.type.tensor_type.elem_type for v in values} | {
        w.name: w.data_type for w in model.graph.initializer
    }


def test_every_file_holds_standard_operators_only(models: dict[str, onnx.ModelProto], artefacts: Artefacts) -> None:
    for model in (*models.values(), onnx.load(artefacts.position.onnx())):
        onnx.checker.check_model(model, full_check=True)
        assert {node.op_type for node in model.graph.node} <= STANDARD_OPERATORS
        assert {node.domain for node in model.graph.node} <= {"", "ai.onnx"}
        assert {entry.domain for entry in model.opset_import} <= {"", "ai.onnx"}


@pytest.mark.parametrize(
    ("operator", "domain"), [("GridSample", ""), ("Conv", "com.nvidia"), ("NonMaxSuppression", "")]
)
def test_an_operator_that_not_every_engine_has_is_refused(operator: str, domain: str) -> None:
    node = onnx.helper.make_node(operator, ["x"], ["y"], domain=domain)
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "g", [], []))
    with pytest.raises(BackendUnavailable, match=operator):
        require_standard(model)


def test_the_file_says_what_it_is(models: dict[str, onnx.ModelProto], artefacts: Artefacts) -> None:
    for precision, model in models.items():
        said = description(model)
        assert said["model"] == "small"
        assert said["precision"] == precision
        assert said["weights"] == artefacts.source.digest
        assert tuple(json.loads(said["classes"])) == tuple(CLASS_NAMES)
        assert json.loads(said["ranges"])["x_m"] == list(SMALL.x_range_m)
        assert json.loads(said["shapes"])["images"] == list(artefacts.network.inputs["images"])
        assert {"torch", "onnx", "onnxscript"} == set(json.loads(said["exporters"]))
        assert said["package"]
        assert "/" not in "".join(entry.value for node in model.graph.node for entry in node.metadata_props)


def test_inputs_and_outputs_are_float32_in_every_precision(
    models: dict[str, onnx.ModelProto], artefacts: Artefacts
) -> None:
    for model in models.values():
        assert {v.type.tensor_type.elem_type for v in (*model.graph.input, *model.graph.output)} == {TensorProto.FLOAT}
        assert [v.name for v in model.graph.input] == list(artefacts.network.inputs)
        assert [v.name for v in model.graph.output] == list(artefacts.network.outputs)


@pytest.mark.parametrize("precision", ["f16", "bf16"])
def test_encoders_and_decoder_compute_in_half_precision_and_heads_do_not(
    models: dict[str, onnx.ModelProto], precision: str
) -> None:
    model = models[precision]
    known, half = types(model), HALF_OF[precision]
    products = [node for node in model.graph.node if node.op_type in ("MatMul", "Conv")]
    assert products
    for node in products:
        kinds = {known[name] for name in (*node.input, *node.output)}
        expected = (
            TensorProto.FLOAT if within(scope_of(node), "heads", "heatmap", "image_heatmap", "image_depth") else half
        )
        assert kinds == {expected}, node.name
    for node in model.graph.node:
        if node.op_type in ("TopK", "MaxPool", *HALF_TYPES[precision].exact):
            assert known[node.input[0]] == TensorProto.FLOAT, node.name
    stored = sum(np.prod(w.dims) for w in model.graph.initializer if w.data_type == half)
    assert stored > 0.7 * sum(np.prod(w.dims) for w in model.graph.initializer)


def test_f16_says_what_torch_says(artefacts: Artefacts) -> None:
    engine = onnxruntime_backend.open_backend(artefacts.network, BackendOptions(2, "f16"))
    result = measure_parity(engine, artefacts.network.references(), limits_of("f16"))  # type: ignore[misc]
    assert result.usual["center_m"] > 1e-6  # it does round
    assert result.usual["probability"] < 0.1  # weights are random: candidates are close to each other
    assert result.unmatched < 0.05 * result.queries


def test_a_weight_that_is_too_large_for_f16_is_told(models: dict[str, onnx.ModelProto]) -> None:
    large = onnx.ModelProto()
    large.CopyFrom(models["f32"])
    weight = next(w for w in large.graph.initializer if w.name.endswith("stem.halve.0.0.weight"))
    weight.CopyFrom(onnx.numpy_helper.from_array(1e6 * onnx.numpy_helper.to_array(weight), weight.name))
    with pytest.raises(BackendUnavailable, match=r"stem\.halve\.0\.0\.weight is too large"):
        typed_graph(large, HALF_TYPES["f16"])


@pytest.mark.parametrize("precision", ["int8", "fp8"])
def test_eight_bits_are_in_the_encoders_only(models: dict[str, onnx.ModelProto], precision: str) -> None:
    model, plain = models[precision], models["f32"]
    made_by = {name: node for node in model.graph.node for name in node.output}
    through = {node.output[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    readers = [node for node in model.graph.node if any(name in through for name in node.input)]
    assert readers
    assert {node.op_type for node in readers} == set(EIGHT_BITS[precision].operators)
    assert all(within(scope_of(node), *ENCODERS) for node in readers)
    assert any("image_encoder" in scope_of(node) for node in readers)
    assert any("lidar_encoder" in scope_of(node) for node in readers)
    for node in readers:  # both sides, activation and weight, so that an engine can compute in 8 bits
        assert all(made_by[name].op_type == "DequantizeLinear" for name in node.input[:2])
    kinds = types(model)
    eight = onnx.helper.np_dtype_to_tensor_dtype(EIGHT_BITS[precision].numpy)
    assert {kinds[name] for name in kinds if name.endswith("_quantized")} == {eight}
    # Nothing else has changed.
    others = [node.SerializeToString() for node in plain.graph.node if not within(scope_of(node), *ENCODERS)]
    kept = {node.SerializeToString() for node in model.graph.node}
    assert all(node in kept for node in others)


@pytest.mark.parametrize("precision", ["int8", "fp8"])
def test_eight_bits_change_the_answers_a_little(artefacts: Artefacts, precision: str) -> None:
    engine = onnxruntime_backend.open_backend(artefacts.network, BackendOptions(2, precision))
    loose = ParityLimits(*[10.0] * 6, unmatched=1.0, boxes_unmatched=1.0)
    result = measure_parity(engine, artefacts.network.references(), loose)  # type: ignore[misc]
    assert 1e-5 < result.usual["probability"] < 0.3
    assert result.unmatched < 0.5 * result.queries


def test_the_range_of_least_error_is_the_one_that_changes_values_least() -> None:
    values = np.append(np.random.default_rng(0).normal(0, 1, 100_000), 12.0)
    histogram = Histogram.empty()
    for part in np.array_split(values, 4):
        histogram.add(part)
    end = histogram.least_error()
    assert histogram.counts.sum() == len(values)
    assert histogram.largest == pytest.approx(12.0, rel=0.01)

    def error(limit: float) -> float:
        step = limit / 127
        return float(((np.clip(np.rint(values / step), -127, 127) * step - values) ** 2).mean())

    assert end < 0.8 * histogram.largest  # the outlier is cut
    assert error(end) < 1.05 * min(error(limit) for limit in np.linspace(2, 12, 101))
    assert histogram.signal_to_noise_db() == pytest.approx(10 * np.log10((values**2).mean() / error(end)), abs=0.2)


def test_positions_come_in_f32_only(artefacts: Artefacts) -> None:
    with pytest.raises(BackendUnavailable, match="computed in f32, not in f16"):
        artefacts.position.onnx("f16")
    with pytest.raises(BackendUnavailable, match="expected one of f32"):
        artefacts.network.onnx("f64")


def test_a_batch_of_two_says_of_each_frame_what_it_says_alone(weights: Path, cache: Path, artefacts: Artefacts) -> None:
    two = Artefacts(find_model(str(weights)), cache, batch=2)
    assert two.key != artefacts.key
    for graph in (two.network, two.position):
        engine = onnxruntime_backend.open_backend(graph, BackendOptions(2))
        assert measure_parity(engine, graph.references(), limits_of("f32")).passed  # type: ignore[misc]


def test_a_folder_with_a_dynamic_batch_is_complete_and_kept(weights: Path, cache: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = export_folder(str(weights), out, ("f32", "f16"), "dynamic", cache=cache)
    names = ["export.json", "network.f16.onnx", "network.f32.onnx", "position.onnx", "references.npz"]
    assert sorted(path.name for path in out.iterdir()) == names
    assert not any(placed.kept for placed in first)
    for name in ("network.f32.onnx", "network.f16.onnx", "position.onnx"):
        model = onnx.load(out / name)
        batches = {v.name: v.type.tensor_type.shape.dim[0] for v in (*model.graph.input, *model.graph.output)}
        fixed = batches.pop("lidar_position")
        assert fixed.dim_value == 1
        assert {axis.dim_param for axis in batches.values()} == {"batch"}
    changed = {path.name: path.stat().st_mtime_ns for path in out.iterdir() if path.name != "export.json"}
    (out / "position.onnx").write_bytes(b"half a file")
    again = {placed.file.name: placed.kept for placed in export_folder(str(weights), out, ("f32", "f16"), "dynamic", cache=cache)}  # fmt: skip  # noqa: E501
    assert again == {name: name != "position.onnx" for name in names if name != "export.json"}
    assert all((out / name).stat().st_mtime_ns == when for name, when in changed.items() if name != "position.onnx")
    onnx.checker.check_model(onnx.load(out / "position.onnx"))


def test_a_dynamic_file_that_mixes_frames_up_is_refused(
    weights: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = onnxruntime_backend.OnnxRuntimeBackend.run

    def mixed(self: object, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        outputs = real(self, inputs)  # type: ignore[arg-type]
        return (
            {name: values[::-1] for name, values in outputs.items()} if len(inputs["camera_present"]) > 1 else outputs
        )

    monkeypatch.setattr(onnxruntime_backend.OnnxRuntimeBackend, "run", mixed)
    with pytest.raises(BackendUnavailable, match="wrong for a batch of 2: f32 against the reference"):
        export_folder(str(weights), tmp_path, ("f32",), "dynamic", cache=cache)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"precisions": ("f8",)}, "f8"),
        ({"batch": "0"}, "'0'"),
        ({"batch": "two"}, "'two'"),
        ({"precisions": ()}, "precision"),
    ],
)
def test_what_cannot_be_exported_is_named(tmp_path: Path, options: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        export_folder("nano", tmp_path, **options)  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.parametrize("model", ["nano", "tiny"])
def test_shipped_models_come_in_every_precision(tmp_path: Path, model: str) -> None:
    artefacts = Artefacts(find_model(model), tmp_path)
    for precision in PRECISIONS:
        require_standard(onnx.load(artefacts.network.onnx(precision)))
    engine = onnxruntime_backend.open_backend(artefacts.network, BackendOptions(0, "f16"))
    limits = dataclasses.replace(limits_of("f16"), unmatched=0.1)
    assert measure_parity(engine, artefacts.network.references(), limits).passed  # type: ignore[misc]
