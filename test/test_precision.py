"""What counts as the same answer, which precision is taken, and what is remembered."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from small_model import SMALL, small_weights

from karp_perception.core import BackendUnavailable
from karp_perception.detection.detector import Detector, DetectorSettings
from karp_perception.detection.model.weights import find_model
from karp_perception.detection.runtime import backend as backends
from karp_perception.detection.runtime import openvino as openvino_backend
from karp_perception.detection.runtime.artefacts import Artefacts
from karp_perception.detection.runtime.backend import BackendOptions
from karp_perception.detection.runtime.comparison import measure_parity
from karp_perception.detection.runtime.graph import Reference
from karp_perception.detection.runtime.parity import (
    QUANTITIES,
    Parity,
    ParityLimits,
    checked_parity,
    limits_of,
    parity_record,
)

Outputs = dict[str, np.ndarray]
GENEROUS = ParityLimits(*[10.0] * 6, unmatched=1.0, boxes_unmatched=1.0)
STRICT = ParityLimits(*[0.0] * 7)


class Said:
    """An engine that gives what it was told to."""

    precision = "bf16"

    def __init__(self, outputs: Outputs) -> None:
        self.outputs = outputs

    def run(self, inputs: object) -> Outputs:
        return self.outputs


def heads(seed: int = 0, count: int = 40) -> Outputs:
    """Boxes five metres apart, a quarter of them with a score that counts."""
    rng = np.random.default_rng(seed)
    yaw = rng.uniform(-np.pi, np.pi, count)
    place = np.column_stack([5.0 * np.arange(count), rng.normal(0, 1, count), np.zeros(count)])
    logits = np.full((count, 10), -6.0)
    logits[: count // 4, 0] = 2.0
    return {
        "logits": logits[None],
        "center": place[None],
        "log_size": rng.normal(0, 0.5, (1, count, 3)),
        "direction": np.column_stack([np.sin(yaw), np.cos(yaw)])[None],
        "velocity": rng.normal(0, 3, (1, count, 2)),
        "log_variance": rng.normal(0, 1, (1, count, 9)),
    }


def parity(exact: Outputs, fast: Outputs, limits: ParityLimits | None = None) -> Parity:
    return measure_parity(Said(fast), [Reference({}, exact)], limits or ParityLimits())


def changed(outputs: Outputs, name: str, rows: slice | int, by: float | np.ndarray) -> Outputs:
    copy = {key: value.copy() for key, value in outputs.items()}
    copy[name][0, rows] += by
    return copy


def test_the_order_of_queries_means_nothing() -> None:
    outputs = heads()
    order = np.random.default_rng(1).permutation(40)
    result = parity(outputs, {name: value[:, order] for name, value in outputs.items()})
    assert result.passed
    assert result.unmatched == 0
    assert max(result.worst.values()) == 0.0


def test_differences_are_those_of_queries_that_count() -> None:
    outputs = heads()
    assert parity(outputs, changed(outputs, "center", slice(10, 40), 0.5)).worst["center_m"] == 0.0
    result = parity(outputs, changed(outputs, "center", 1, (0.3, 0.0, 0.4)))
    assert result.worst["center_m"] == pytest.approx(0.5)
    assert result.queries == 10
    assert not result.passed


def test_centres_that_are_far_away_may_differ_in_proportion() -> None:
    outputs = heads()
    outputs["center"][0, 8] = 40.0, 0.0, 1.0
    assert parity(outputs, changed(outputs, "center", 8, (0.0, 0.0, 0.8))).worst["center_m"] == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("name", "by", "quantity", "expected"),
    [
        ("log_size", 0.06, "log_size", 0.06),
        ("velocity", 0.3, "velocity_mps", 0.3),
        ("log_variance", -0.3, "log_variance", 0.3),
        ("logits", 1.0, "probability", 1 / (1 + np.exp(-3)) - 1 / (1 + np.exp(-2))),
    ],
)
def test_every_quantity_has_its_limit(name: str, by: float, quantity: str, expected: float) -> None:
    outputs = heads()
    result = parity(outputs, changed(outputs, name, slice(0, 10), by))
    assert result.worst[quantity] == pytest.approx(expected, rel=1e-6)
    assert result.passed == (expected <= getattr(ParityLimits(), quantity))
    assert parity(outputs, changed(outputs, name, slice(0, 10), by), GENEROUS).passed


def test_a_turn_is_an_angle_and_weighs_less_where_the_heading_is_unknown() -> None:
    outputs = heads()
    yaw = np.arctan2(*outputs["direction"][0].T) + 0.2
    turned = {**outputs, "direction": np.column_stack([np.sin(yaw), np.cos(yaw)])[None]}
    assert parity(outputs, turned).usual["yaw_rad"] == pytest.approx(0.2)
    assert not parity(outputs, turned).passed
    short, short_turned = ({**each, "direction": 0.1 * each["direction"]} for each in (outputs, turned))
    assert parity(short, short_turned).usual["yaw_rad"] == pytest.approx(0.02)


def test_a_swap_among_weak_candidates_is_no_fault_and_lost_objects_are() -> None:
    outputs = heads()
    assert parity(outputs, changed(outputs, "center", slice(30, 40), (0.0, 50.0, 0.0))).passed
    lost = parity(outputs, changed(outputs, "center", slice(0, 2), (0.0, 50.0, 0.0)))
    assert (lost.unmatched, lost.passed) == (4, False)  # two that were, two that are new


def test_one_query_at_a_tipping_point_is_borne_within_four_limits() -> None:
    outputs = heads(count=160)  # 40 count
    assert parity(outputs, changed(outputs, "center", 0, (0.3, 0, 0))).passed
    assert not parity(outputs, changed(outputs, "center", 0, (0.5, 0, 0))).passed
    assert not parity(outputs, changed(outputs, "center", slice(0, 4), (0.3, 0, 0))).passed


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_answers_that_are_not_finite_fail(value: float) -> None:
    outputs = heads()
    assert not parity(outputs, changed(outputs, "velocity", 30, value), GENEROUS).passed


def test_masked_queries_are_not_compared() -> None:
    outputs = changed(heads(), "logits", slice(20, 40), -1e4)
    assert parity(outputs, changed(outputs, "center", slice(20, 40), 500.0)).unmatched == 0


def test_a_network_without_any_score_is_compared_everywhere() -> None:
    outputs = changed(heads(), "logits", slice(0, 10), -8.0)
    assert parity(outputs, outputs).queries == 40
    assert not parity(outputs, changed(outputs, "center", slice(0, 20), (0, 0, 0.5))).passed
    swapped = parity(outputs, changed(outputs, "center", slice(20, 40), (0, 50, 0)))
    assert (swapped.unmatched, swapped.passed) == (40, True)
    assert not parity(outputs, changed(outputs, "center", slice(0, 40), (0, 50, 0))).passed  # nothing left to compare


RESULT = Parity("bf16", True, dict.fromkeys(QUANTITIES, 0.01), dict.fromkeys(QUANTITIES, float("inf")), 40, 1)


def test_results_survive_writing() -> None:
    assert Parity.from_json(RESULT.to_json()) == RESULT


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "{}", RESULT.to_json().replace("true", '"yes"'), RESULT.to_json().replace("Infinity", "NaN"),
     RESULT.to_json().replace("center_m", "centre", 1), RESULT.to_json().replace("40", "null")],
)  # fmt: skip
def test_spoilt_results_are_measured_again_with_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str
) -> None:
    onnx = tmp_path / "network.onnx"
    onnx.write_bytes(b"x")
    measured: list[int] = []

    def measure() -> Parity:
        measured.append(1)
        return RESULT

    record = parity_record(onnx, ["here"], ParityLimits())
    for _ in range(2):
        assert checked_parity(record, measure) == RESULT
    assert len(measured) == 1
    record.write_text(text)
    for _ in range(2):
        assert checked_parity(record, measure) == RESULT
    assert len(measured) == 2
    assert len(caplog.records) == 1
    assert "compared again" in caplog.text
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["network.onnx", record.name])


def test_another_file_place_or_limit_is_another_check(tmp_path: Path) -> None:
    onnx = tmp_path / "network.onnx"
    onnx.write_bytes(b"x")
    records = [parity_record(onnx, [place], limits) for place in ("here", "there") for limits in (GENEROUS, STRICT)]
    onnx.write_bytes(b"y")
    records.append(parity_record(onnx, ["here"], GENEROUS))
    assert len(set(records)) == 5
    assert all(record.parent == tmp_path for record in records)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("torch")
    pytest.importorskip("onnxscript")
    pytest.importorskip("openvino")
    return small_weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The precisions that engines of the network are opened in, on a CPU that is said to have bf16."""
    precisions: list[str] = []
    real = openvino_backend.OpenVinoBackend

    def stand_in(graph: object, options: BackendOptions) -> object:
        if getattr(graph, "name", "") == "network":
            precisions.append(options.precision)
        # What is under test is the choice: bf16 itself is not everywhere.
        backend = real(graph, dataclasses.replace(options, precision="f32"))  # type: ignore[arg-type]
        backend.precision = options.precision
        return backend

    monkeypatch.setattr(openvino_backend, "OpenVinoBackend", stand_in)
    monkeypatch.setattr(openvino_backend, "bf16_cpu", lambda core: True)
    return precisions


def start(weights: Path, cache: Path, **settings: object) -> Detector:
    detector = Detector(DetectorSettings(model=str(weights), threads=1, **settings), cache=cache)  # type: ignore[arg-type]
    detector.warm_up()
    return detector


def test_the_fast_precision_is_taken_after_a_check_that_is_made_once(
    weights: Path, cache: Path, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = start(weights, cache)
    assert opened == ["bf16"]
    assert first.info["precision"] == "bf16"
    assert first.info["parity"]["passed"] is True
    assert set(first.info["parity"]["worst"]) == set(QUANTITIES)
    monkeypatch.setattr(Artefacts, "references", property(lambda self: pytest.fail("compared again")))
    assert start(weights, cache).info == first.info


def test_a_check_that_fails_leaves_f32_and_says_why_in_one_line(
    weights: Path, cache: Path, opened: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    impossible = ParityLimits(*[-1.0] * 7)  # the stand-in for bf16 is f32, which differs by nothing
    monkeypatch.setattr(backends, "limits_of", lambda precision: impossible if precision == "bf16" else ParityLimits())
    detector = start(weights, cache)
    assert (detector.info["precision"], detector.info["parity"]["passed"]) == ("f32", True)
    assert opened == ["bf16", "f32"]
    assert len([record for record in caplog.records if record.levelno >= logging.WARNING]) == 1
    assert "does without bf16: openvino is refused: bf16 against the reference in" in caplog.text
    assert "center_m" in caplog.text
    opened.clear()
    assert start(weights, cache).info["precision"] == "f32"
    assert opened == ["f32"]  # what failed once is not even built


def test_a_precision_that_is_asked_for_is_checked_too(
    weights: Path, cache: Path, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for precision in ("f32", "bf16"):
        info = start(weights, cache, precision=precision).info
        assert info["precision"] == precision
        assert info["parity"]["precision"] == precision
    assert opened == ["f32", "bf16"]
    impossible = ParityLimits(*[-1.0] * 7)
    monkeypatch.setattr(backends, "limits_of", lambda precision: impossible)
    with pytest.raises(BackendUnavailable, match="openvino is refused: f32 against the reference in"):
        start(weights, cache, backend="openvino", precision="f32")


def test_other_backends_compute_in_f32(weights: Path, cache: Path) -> None:
    info = {backend: start(weights, cache, backend=backend).info for backend in ("torch", "onnxruntime")}
    assert {each["precision"] for each in info.values()} == {"f32"}
    assert "parity" not in info["torch"]  # it is the reference
    assert info["onnxruntime"]["parity"]["passed"] is True


def test_a_cpu_without_bf16_computes_in_f32_and_opens_nothing_else(
    weights: Path, cache: Path, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openvino_backend, "bf16_cpu", lambda core: False)
    assert start(weights, cache).info["precision"] == "f32"
    assert opened == ["f32"]


@pytest.mark.parametrize(
    ("abilities", "flags", "native"),
    [
        (["FP32", "BF16"], "flags\t\t: fpu avx512f avx512_bf16", True),
        (["FP32", "BF16"], "Features\t: fp asimd bf16", True),
        (["FP32", "BF16"], "flags\t\t: fpu avx512f", False),  # computed by conversions
        (["FP32", "INT8"], "flags\t\t: fpu avx512f avx512_bf16", False),
        (["FP32", "BF16"], None, True),  # no list of flags: not Linux
    ],
)
def test_bf16_is_native_where_openvino_and_the_flags_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, abilities: list[str], flags: str | None, native: bool
) -> None:
    file = tmp_path / "cpuinfo"
    if flags is not None:
        file.write_text(f"processor\t: 0\n{flags}\n")
    monkeypatch.setattr(openvino_backend, "_CPU_INFO", file)
    properties = {"OPTIMIZATION_CAPABILITIES": abilities, "FULL_DEVICE_NAME": "a CPU"}
    core = SimpleNamespace(get_property=lambda device, name: properties[name])
    assert openvino_backend.bf16_cpu(core) == native  # type: ignore[arg-type]


def test_bf16_of_this_cpu_agrees_with_f32_but_for_swapped_candidates(weights: Path, cache: Path) -> None:
    if not openvino_backend.bf16_cpu(openvino_backend._core()):
        pytest.skip("this CPU has no native bf16")
    graph = Artefacts(find_model(str(weights)), cache).network
    assert graph.references is not None
    fast = openvino_backend.open_backend(graph, BackendOptions(1, "bf16"))
    limits = dataclasses.replace(limits_of("bf16"), probability=0.2)
    result = measure_parity(fast, graph.references(), limits)
    assert result.queries > 3 * SMALL.queries
    assert 0 < result.usual["center_m"] < 0.4
    assert result.worst["center_m"] < 1.0  # random weights tell depths of up to 90 m
    assert result.usual["yaw_rad"] < 0.05
    assert result.unmatched < 0.2 * result.queries  # four places to a token: random ones nearly tie
