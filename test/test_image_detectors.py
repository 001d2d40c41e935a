"""2D detectors in ONNX files: what is found out of them, and that decoding says what transformers itself says."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from detr_files import QUERIES, SIDE, Exported, export, exported, torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from karp_perception.core import BackendUnavailable, CameraFrame, ConfigurationError, ObjectClass, class_from_name
from karp_perception.core.coco import COCO_80, COCO_91
from karp_perception.core.image_boxes import ImageBoxes
from karp_perception.detection.image_detectors.decoding import Candidates, candidates, image_boxes, one_an_object
from karp_perception.detection.image_detectors.image_detector import ImageDetector
from karp_perception.detection.image_detectors.layout import IMAGENET_MEAN, Layout, find_layout
from karp_perception.detection.image_detectors.preprocessing import image_batch

# Exporting those of the most layers takes ten seconds each.
KINDS = (
    "rt_detr",
    pytest.param("rt_detr_v2", marks=pytest.mark.slow),
    pytest.param("d_fine", marks=pytest.mark.slow),
    "rf_detr",
    "detr",
)
BACKENDS = ("openvino", "onnxruntime")
RNG = np.random.default_rng(0)
# Coarse patches: of fine noise nothing would be left after the first layers.
PICTURES = [
    cv2.resize(RNG.integers(0, 255, (5, 7, 3), np.uint8), size, interpolation=cv2.INTER_NEAREST)
    for size in ((160, 90), (100, 96))
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("detectors")


class Networks(dict[str, Exported]):
    """Exported when they are first asked for."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def __missing__(self, kind: str) -> Exported:
        self[kind] = exported(kind, self.folder, dynamic=kind == "rt_detr")
        return self[kind]


@pytest.fixture(scope="module")
def networks(folder: Path) -> Networks:
    return Networks(folder)


def camera(image: np.ndarray) -> CameraFrame:
    height, width = image.shape[:2]
    pose = np.array([[0, 0, 1, 0.0], [-1, 0, 0, 0], [0, -1, 0, 1.5], [0, 0, 0, 1]])
    return CameraFrame(image, [[100, 0, width / 2], [0, 100, height / 2], [0, 0, 1]], pose, 0)


def reference(network: Exported, kind: str, pixels: np.ndarray, sizes: list[tuple[int, int]]) -> list[dict[str, Any]]:
    """What transformers' own post-processing makes of its own model's outputs."""
    outputs = network.outputs(pixels)
    targets = torch.tensor(sizes)
    if kind == "detr":
        from transformers.models.detr.image_processing_pil_detr import DetrImageProcessorPil

        return DetrImageProcessorPil().post_process_object_detection(outputs, 0.0, targets)
    # Those of RT-DETR, D-FINE and RF-DETR are the same; this one needs no torchvision.
    from transformers.models.rt_detr.image_processing_pil_rt_detr import RTDetrImageProcessorPil

    return RTDetrImageProcessorPil().post_process_object_detection(outputs, 0.0, targets)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", KINDS)
def test_decoding_says_what_transformers_says(kind: str, backend: str, networks: Networks, folder: Path) -> None:
    network = networks[kind]
    detector = ImageDetector(network.file, backend, batch=2, cache=folder / "cache")
    layout = detector.layout
    assert layout.batch == (2 if kind == "rt_detr" else 1)
    used = PICTURES[: layout.batch]
    pixels, filled = image_batch(used, layout)
    outputs = detector._backend.run({layout.image_input: pixels})
    sizes = [picture.shape[:2] for picture in used]
    for row, theirs in enumerate(reference(network, kind, pixels, sizes)):
        ours = candidates(outputs, row, layout)
        height, width = sizes[row]
        corners = ours.corners * (width, height, width, height)
        assert len(ours.score) == QUERIES
        expected = {name: value.numpy() for name, value in theirs.items()}
        order = np.argsort(-expected["scores"], kind="stable")  # DETR's come by query
        np.testing.assert_allclose(ours.score, expected["scores"][order], atol=1e-4)
        gaps = -np.diff(expected["scores"][order], append=0.0, prepend=1.0)
        # Which of two comes first is open only where rounding may swap them.
        rounding = 4 * np.abs(ours.score - expected["scores"][order]).max() + 1e-7
        clear = (gaps[:-1] > rounding) & (gaps[1:] > rounding)
        assert clear.sum() >= 5
        assert np.array_equal(ours.number[clear], expected["labels"][order][clear])
        np.testing.assert_allclose(corners[clear], expected["boxes"][order][clear], atol=0.05)
        boxes = image_boxes(ours, filled[row], (width, height), layout, 0.0)
        names = [layout.class_names[number] for number in ours.number]
        assert set(boxes.label) <= {int(class_from_name(name)) for name in names} - {-1}


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_file_is_fed_with_is_what_its_family_was_trained_with(kind: str, networks: Networks) -> None:
    network = networks[kind]
    assert type(network.model).__module__.startswith(f"transformers.models.{kind}.")
    layout = find_layout(network.file, 4)[0]
    of_rt_detr = kind in ("rt_detr", "rt_detr_v2", "d_fine")
    assert layout.mean == ((0.0, 0.0, 0.0) if of_rt_detr else IMAGENET_MEAN)
    assert layout.class_names == (COCO_80 if of_rt_detr else COCO_91)
    assert layout.activation == ("softmax" if kind == "detr" else "sigmoid")
    assert layout.batch == (4 if kind == "rt_detr" else 1)
    assert (layout.height, layout.width) == (SIDE, SIDE)


class _Deployed(torch.nn.Module):
    """RT-DETR's official deploy graph: the network and its post-processor (`rtdetr_postprocessor.py`, deploy mode)."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Any, orig_target_sizes: Any) -> tuple[Any, Any, Any]:
        out = self.model(pixel_values=images)
        x, y, w, h = out.pred_boxes.unbind(-1)
        boxes = torch.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], -1)
        boxes = boxes * orig_target_sizes.repeat(1, 2).unsqueeze(1)
        scores, index = torch.topk(out.logits.sigmoid().flatten(1), QUERIES, dim=-1)
        labels, index = index % 80, index // 80
        return labels, boxes.gather(1, index.unsqueeze(-1).repeat(1, 1, 4)), scores


@pytest.mark.slow
def test_the_official_deploy_graph_says_the_same_as_the_bare_network(networks: Networks, folder: Path) -> None:
    file = folder / "deployed.onnx"
    names = (["images", "orig_target_sizes"], ["labels", "boxes", "scores"])
    arguments = (torch.rand(1, 3, SIDE, SIDE), torch.tensor([[SIDE, SIDE]]))
    export(_Deployed(networks["rt_detr"].model), file, names, arguments)
    for backend in BACKENDS:
        answers = []
        for each in (file, networks["rt_detr"].file):
            detector = ImageDetector(each, backend, cache=folder / "cache")
            pixels, _ = image_batch(PICTURES[:1], detector.layout)
            outputs = detector._backend.run({detector.layout.image_input: pixels})
            answers.append(candidates(outputs, 0, detector.layout))
        deployed, bare = answers
        np.testing.assert_allclose(deployed.score, bare.score, atol=1e-4)
        np.testing.assert_allclose(deployed.corners[:5], bare.corners[:5], atol=1e-3)
        assert np.array_equal(deployed.number[:5], bare.number[:5])


def test_all_cameras_go_through_whatever_the_batch(networks: Networks, folder: Path) -> None:
    cameras = {f"camera{i}": camera(PICTURES[i % 2]) for i in range(3)} | {"broken": None}
    together = ImageDetector(networks["rt_detr"].file, "onnxruntime", batch=2, score_threshold=0.05, cache=folder)
    alone = ImageDetector(networks["rt_detr"].file, "onnxruntime", batch=1, score_threshold=0.05, cache=folder)
    found, single = together.detect(cameras), alone.detect(cameras)
    assert set(found) == {"camera0", "camera1", "camera2"}
    for name in found:
        assert len(found[name]) == len(single[name])
        np.testing.assert_allclose(found[name].score, single[name].score, atol=1e-4)
    assert np.array_equal(found["camera0"].score, found["camera2"].score)


# Graphs of a few nodes, for what can be found out of names and shapes.


@dataclass(frozen=True)
class Made:
    """An ONNX file that answers the same to every image."""

    inputs: dict[str, tuple[Any, ...]]
    outputs: dict[str, np.ndarray]
    kinds: dict[str, int] | None = None
    metadata: dict[str, str] | None = None

    def write(self, file: Path) -> Path:
        kinds = self.kinds or {}
        inputs = [
            helper.make_tensor_value_info(name, kinds.get(name, TensorProto.FLOAT), list(shape))
            for name, shape in self.inputs.items()
        ]
        nodes, constants, outputs = [], [], []
        for name, value in self.outputs.items():
            constants.append(onnx.numpy_helper.from_array(value, f"{name}_value"))
            nodes.append(helper.make_node("Identity", [f"{name}_value"], [name]))
            kind = helper.np_dtype_to_tensor_dtype(value.dtype)
            outputs.append(helper.make_tensor_value_info(name, kind, list(value.shape)))
        model = helper.make_model(
            helper.make_graph(nodes, "made", inputs, outputs, constants), opset_imports=[helper.make_opsetid("", 17)]
        )
        model.ir_version = 8
        for key, text in (self.metadata or {}).items():
            model.metadata_props.add(key=key, value=text)
        onnx.save(model, file)
        return file


def logits(classes: int) -> np.ndarray:
    return np.full((1, 5, classes), -3.0, np.float32)


BOXES = np.tile(np.array([0.5, 0.5, 0.2, 0.4], np.float32), (1, 5, 1))
IMAGE = {"pixel_values": (1, 3, 64, 96)}


def layout_of(file: Path) -> Layout:
    return find_layout(file, 1)[0]


@pytest.mark.parametrize(
    ("made", "key"),
    [
        (Made(IMAGE, {"logits": logits(7), "pred_boxes": BOXES}), "class_names"),
        (Made({"pixel_values": (1, 3, "h", "w")}, {"logits": logits(80), "pred_boxes": BOXES}), "height"),
        (Made({"x": (1, 3, 64, 96)}, {"a": logits(80), "b": logits(80), "pred_boxes": BOXES}), "logits_output"),
        (Made(IMAGE, {"p": BOXES, "q": BOXES, "logits": logits(80)}), "boxes_output"),
        (
            Made(
                {"images": (1, 3, 64, 96)},
                {"labels": np.zeros((1, 5), np.int64), "boxes": BOXES, "scores": np.zeros((1, 5), np.float32)},
            ),
            "class_names",
        ),
    ],
)
def test_what_cannot_be_found_out_is_asked_for_by_its_key(made: Made, key: str, tmp_path: Path) -> None:
    file = made.write(tmp_path / "mine.onnx")
    with pytest.raises(ConfigurationError, match=f"`{key}:` in mine.yaml") as caught:
        layout_of(file)
    assert "\n" not in str(caught.value)


def test_the_yaml_beside_a_file_has_the_last_word(tmp_path: Path) -> None:
    made = Made({"x": (1, 3, "h", "w")}, {"a": logits(3), "b": logits(3), "boxes": BOXES})
    file = made.write(tmp_path / "mine.onnx")
    (tmp_path / "mine.yaml").write_text(
        "width: 96\nheight: 64\nmean: [0.5, 0.5, 0.5]\nstd: [0.25, 0.25, 0.25]\ncolor: bgr\nlogits_output: b\n"
        "class_names: [car, lorry, person]\nresize: letterbox\nbox_format: xyxy\nbox_units: pixels\n"
    )
    layout = layout_of(file)
    assert layout.outputs == ("b", "boxes")
    assert (layout.width, layout.height, layout.bgr, layout.letterbox) == (96, 64, True, True)
    assert layout.activation == "sigmoid"
    assert layout.classes.tolist() == [ObjectClass.CAR, ObjectClass.UNKNOWN, ObjectClass.PEDESTRIAN]
    picture = np.zeros((32, 96, 3), np.uint8)
    picture[..., 0] = 255  # red
    batch, filled = image_batch([picture], layout)
    np.testing.assert_allclose(batch[0, :, :32], np.array([-2.0, -2.0, 2.0])[:, None, None] * np.ones((3, 32, 96)))
    assert not batch[0, :, 32:].any()
    assert filled.tolist() == [[1.0, 0.5]]


def test_wrong_keys_and_files_end_in_one_clear_line(tmp_path: Path) -> None:
    file = Made(IMAGE, {"logits": logits(80), "pred_boxes": BOXES}).write(tmp_path / "mine.onnx")
    for text, expected in (
        ("hight: 3\n", "no such setting"),
        ("mean: [1.0]\n", "three numbers"),
        ("std: [0, 1, 1]", "0"),
    ):
        (tmp_path / "mine.yaml").write_text(text)
        with pytest.raises(ConfigurationError, match=expected):
            layout_of(file)
    (tmp_path / "mine.yaml").unlink()
    (tmp_path / "torn.onnx").write_bytes(file.read_bytes()[:100])
    for name, expected in (("torn.onnx", "cannot be read"), ("absent.onnx", "no such file")):
        with pytest.raises(ConfigurationError, match=expected):
            ImageDetector(tmp_path / name)
    extra = Made({**IMAGE, "prompt": (1, 8)}, {"logits": logits(80), "pred_boxes": BOXES}).write(tmp_path / "e.onnx")
    with pytest.raises(ConfigurationError, match="prompt"):
        layout_of(extra)
    with pytest.raises(BackendUnavailable, match="another backend"):
        ImageDetector(file, "torch", cache=tmp_path)


def test_what_transformers_keeps_with_a_model_is_read(tmp_path: Path) -> None:
    (tmp_path / "onnx").mkdir()
    file = Made({"pixel_values": ("b", 3, "h", "w")}, {"logits": logits(2), "pred_boxes": BOXES}).write(
        tmp_path / "onnx" / "model.onnx"
    )
    (tmp_path / "config.json").write_text(
        json.dumps({"model_type": "d_fine", "id2label": {"0": "truck", "1": "Person"}})
    )
    processor = {"do_normalize": False, "image_mean": [0.4] * 3, "image_std": [0.2] * 3}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({**processor, "size": {"height": 64, "width": 32}}))
    layout = layout_of(file)
    assert (layout.height, layout.width, layout.mean) == (64, 32, (0.0, 0.0, 0.0))
    assert layout.classes.tolist() == [ObjectClass.TRUCK, ObjectClass.PEDESTRIAN]


def test_deploy_graphs_are_told_that_images_are_one_by_one_large(tmp_path: Path) -> None:
    corners = np.array([[[0.25, 0.5, 0.5, 1.0], [0.0, 0.0, 0.1, 0.1]]], np.float32)
    outputs = {"labels": np.array([[2, 2]]), "boxes": corners, "scores": np.array([[0.8, 0.1]], np.float32)}
    inputs = {"images": ("N", 3, 64, 64), "orig_target_sizes": ("N", 2)}
    made = Made(inputs, outputs, kinds={"orig_target_sizes": TensorProto.INT64})
    detector = ImageDetector(made.write(tmp_path / "d.onnx"), "onnxruntime", cache=tmp_path)
    assert detector.layout.kind == "RT-DETR or D-FINE, deployed"
    found = detector.detect({"front": camera(PICTURES[0])})["front"]
    assert found.label.tolist() == [ObjectClass.CAR]
    np.testing.assert_allclose(found.corners, [[39.5, 44.5, 79.5, 89.5]], atol=1e-4)


def test_ultralytics_rt_detr_tells_its_classes_itself(tmp_path: Path) -> None:
    answers = np.zeros((1, 20, 4 + 3), np.float32)
    answers[0, 4] = (0.5, 0.5, 0.2, 0.4, 0.1, 0.9, 0.2)
    metadata = {"names": "{0: 'person', 1: 'car', 2: 'bus'}", "imgsz": "[64, 96]", "task": "detect"}
    file = Made({"images": (1, 3, "h", "w")}, {"output0": answers}, metadata=metadata).write(tmp_path / "u.onnx")
    detector = ImageDetector(file, "onnxruntime", cache=tmp_path)
    found = detector.detect({"front": camera(PICTURES[0])})["front"]
    assert found.label.tolist() == [ObjectClass.CAR]
    np.testing.assert_allclose(found.score, [0.9], atol=1e-6)
    np.testing.assert_allclose(
        found.corners, [[0.4 * 160 - 0.5, 0.3 * 90 - 0.5, 0.6 * 160 - 0.5, 0.7 * 90 - 0.5]], atol=1e-4
    )


@pytest.mark.parametrize("backend", BACKENDS)
def test_bytes_in_rows_of_pixels_and_half_precision_are_taken(backend: str, tmp_path: Path) -> None:
    best = logits(80)
    best[0, 2, 2] = 2.0
    outputs = {"logits": best.astype(np.float16), "pred_boxes": BOXES.astype(np.float16)}
    made = Made({"pixel_values": (1, 64, 96, 3)}, outputs, kinds={"pixel_values": TensorProto.UINT8})
    detector = ImageDetector(made.write(tmp_path / "b.onnx"), backend, cache=tmp_path)
    assert detector.layout.byte_colors
    assert detector.layout.channels_last
    assert image_batch(PICTURES[:1], detector.layout)[0].max() > 200
    assert detector.detect({"front": camera(PICTURES[0])})["front"].label.tolist() == [ObjectClass.CAR]


def test_a_prepared_file_that_was_damaged_is_written_again(tmp_path: Path) -> None:
    best = logits(80)
    file = Made(IMAGE, {"logits": best, "pred_boxes": BOXES}).write(tmp_path / "mine.onnx")
    cache = tmp_path / "cache"
    ImageDetector(file, "onnxruntime", cache=cache)
    (prepared,) = cache.rglob("*.onnx")
    whole = prepared.read_bytes()
    prepared.write_bytes(whole[:-7])
    ImageDetector(file, "onnxruntime", cache=cache)
    assert prepared.read_bytes() == whole
    assert len(list(cache.rglob("*"))) == 2


def test_coco_numbers_are_those_of_its_annotations() -> None:
    assert len(COCO_80) == 80
    assert len(COCO_91) == 91
    assert tuple(name for name in COCO_91 if name) == COCO_80
    # instances_val2017.json: id 1 person, 3 car, 13 stop sign, 44 bottle, 90 toothbrush.
    assert [COCO_91[i] for i in (1, 3, 13, 44, 90)] == ["person", "car", "stop_sign", "bottle", "toothbrush"]
    ours = {name: class_from_name(name) for name in COCO_80 if class_from_name(name) >= 0}
    assert ours == {
        "person": ObjectClass.PEDESTRIAN,
        "bicycle": ObjectClass.BICYCLE,
        "car": ObjectClass.CAR,
        "motorcycle": ObjectClass.MOTORCYCLE,
        "bus": ObjectClass.BUS,
        "train": ObjectClass.BUS,
        "truck": ObjectClass.TRUCK,
    }


def test_of_the_answers_around_one_object_the_best_stays() -> None:
    corners = np.array([[0, 0, 10, 10], [0.2, 0, 10, 10], [0, 0, 5, 10], [20, 0, 30, 10]])
    boxes = ImageBoxes(corners, np.array([0, 1, 5, 0]), np.array([0.9, 0.8, 0.7, 0.6]))
    assert one_an_object(boxes).score.tolist() == [0.9, 0.7, 0.6]


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(*[st.floats(-2, 3, width=32)] * 4, st.integers(-3, 200), st.floats(0, 1)), min_size=0, max_size=12
    )
)
def test_whatever_a_network_says_rectangles_lie_in_the_image(rows: list[tuple[float, ...]]) -> None:
    table = np.array(rows, float).reshape(-1, 6)
    found = Candidates(table[:, :4], table[:, 4].astype(int), table[:, 5])
    layout = Layout(
        "any", "x", False, 1, 64, 64, False, (0, 0, 0), (1, 1, 1), False, False, ("a", "b"), "sigmoid", "xyxy", (1, 1),
        np.array([int(class_from_name(name)) for name in COCO_80]), COCO_80,
    )  # fmt: skip
    boxes = image_boxes(found, np.ones(2), (160, 90), layout, 0.1)
    assert (boxes.corners[:, :2] >= -0.5).all()
    assert (boxes.corners[:, 2:] <= (159.5, 89.5)).all()
    assert (boxes.label >= 0).all()
    assert (boxes.score >= 0.1).all()
