"""An ONNX file as the model: of the pipeline, the commands and the nodes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from karp_perception.core import Boxes, CameraFrame, LidarSweep, ObjectClass, SensorFrame
from karp_perception.core.image_boxes import ImageBoxes
from karp_perception.core.stopwatch import Stopwatch
from karp_perception.detection.detector import DetectorSettings
from karp_perception.detection.lifted_detector import LiftedDetector
from karp_perception.pipeline import Perceiver, PipelineSettings, make_detector
from karp_perception.ros.image_box_messages import image_detections_bytes
from karp_perception.sensing.message_types import typestore

CAR = 2  # of COCO's 80
POSE = np.array([[0, 0, 1, 0.5], [-1, 0, 0, 0], [0, -1, 0, 1.5], [0, 0, 0, 1]], float)
INTRINSICS = np.array([[700.0, 0, 640], [0, 700, 360], [0, 0, 1]])


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A network that sees the same in every image: a car in the middle, and nothing else of note."""
    # 12 m before the camera, 1.8 m wide and 1.5 m high: 105 by 87 px of 1280 by 720.
    boxes = np.zeros((1, 4, 4), np.float32)
    boxes[0] = (0.5, (360 + 1.5 * 58.3 - 43.7) / 720, 105 / 1280, 87.5 / 720)
    logits = np.full((1, 4, 80), -5.0, np.float32)
    logits[0, 1, CAR] = 2.0
    constants = [onnx.numpy_helper.from_array(v, f"{k}_") for k, v in (("logits", logits), ("pred_boxes", boxes))]
    inputs = [helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, [1, 3, 64, 96])]
    outputs = [
        helper.make_tensor_value_info(k, TensorProto.FLOAT, list(v.shape))
        for k, v in (("logits", logits), ("pred_boxes", boxes))
    ]
    nodes = [helper.make_node("Identity", [f"{k}_"], [k]) for k in ("logits", "pred_boxes")]
    graph = helper.make_graph(nodes, "constant", inputs, outputs, constants)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    made.ir_version = 8
    onnx.save(made, tmp_path / "my_rtdetr.onnx")
    return tmp_path / "my_rtdetr.onnx"


def frame() -> SensorFrame:
    """A street with the rear of a car 12.5 m ahead."""
    rng = np.random.default_rng(0)
    ground = np.column_stack([rng.uniform(-40, 40, (30000, 2)), np.zeros(30000), np.ones(30000)])
    rear = np.column_stack([np.full(900, 12.5), rng.uniform(-0.9, 0.9, 900), rng.uniform(0.2, 1.5, 900), np.ones(900)])
    sweep = LidarSweep(np.concatenate([ground, rear]).astype(np.float32), 0)
    camera = CameraFrame(np.zeros((720, 1280, 3), np.uint8), INTRINSICS, POSE, 0)
    return SensorFrame(0, {"front": camera, "rear": None}, sweep)


def test_a_file_is_a_detector_like_the_transformer(model: Path) -> None:
    detector = make_detector(DetectorSettings(model=str(model), backend="onnxruntime"))
    assert isinstance(detector, LiftedDetector)
    assert detector.trained
    assert {"model", "trained", "backend", "weights_hash", "classes"} <= set(detector.info)
    assert detector.info["model"] == "my_rtdetr.onnx"
    detector.warm_up()
    stopwatch = Stopwatch()
    boxes = detector.detect(frame(), stopwatch)
    assert boxes.label.tolist() == [ObjectClass.CAR]
    np.testing.assert_allclose(boxes.center[0, :2], [14.6, 0.0], atol=0.4)
    assert boxes.center[0, 0] - 0.5 * boxes.size[0, 0] == pytest.approx(12.5, abs=0.15)
    assert boxes.frame == "base_link"
    assert set(detector.image_boxes) == {"front"}
    assert {"preprocess", "network", "decode", "lifting"} <= set(stopwatch.milliseconds)


def test_the_pipeline_uses_it_by_its_name(model: Path) -> None:
    settings = PipelineSettings().with_parameters({"detector.model": str(model), "detector.backend": "onnxruntime"})
    with Perceiver(settings.for_cameras(1)) as perceiver:
        seen = perceiver.step(frame())
    assert len(seen.detections) == 1
    assert len(seen.obstacles) >= 1


def test_messages_of_rectangles_are_what_vision_msgs_says() -> None:
    boxes = ImageBoxes(np.array([[10.0, 20, 30, 60], [0, 0, 5, 8]]), np.array([0, 5]), np.array([0.9, 0.4]))
    data = image_detections_bytes(boxes, 12_000_000_034, "camera_front")
    message: Any = typestore().deserialize_cdr(data, "vision_msgs/msg/Detection2DArray")
    assert (message.header.stamp.sec, message.header.stamp.nanosec) == (12, 34)
    assert message.header.frame_id == message.detections[1].header.frame_id == "camera_front"
    first, second = message.detections
    assert first.results[0].hypothesis.class_id == "car"
    assert first.results[0].hypothesis.score == 0.9
    assert first.results[0].pose.pose.orientation.w == 1.0
    assert (first.bbox.center.position.x, first.bbox.center.position.y) == (20.0, 40.0)
    assert (first.bbox.size_x, first.bbox.size_y, first.bbox.center.theta) == (20.0, 40.0, 0.0)
    assert second.results[0].hypothesis.class_id == "pedestrian"
    assert bytes(typestore().serialize_cdr(message, "vision_msgs/msg/Detection2DArray")) == data


def test_karp_detect_takes_a_file_for_its_model(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from typer.testing import CliRunner

    from karp_perception.cli import app
    from karp_perception.sensing.frame_folder_writer import write_labelled_frame
    from karp_perception.sensing.labelled_frame import LabelledFrame

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    labels = Boxes([[14.6, 0, 0.8]], [[4.2, 1.8, 1.5]], [0.0], [[0.0, 0.0]], [0], [1.0])
    sensors = frame()
    sensors = SensorFrame(0, {"front": sensors.cameras["front"]}, sensors.lidar)
    truth = LabelledFrame(sensors, labels, np.array([900]), np.zeros((0, 3)), sector=True)
    (tmp_path / "frame").mkdir()
    write_labelled_frame(tmp_path / "frame", truth, "made up")
    out = tmp_path / "out.json"
    arguments = ["detect", str(tmp_path / "frame"), "--out", str(out), "--model", str(model), "--backend", "openvino"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    content = json.loads(out.read_text())
    assert [row["label"] for row in content["detections"]] == ["car"]
    assert content["scores"]["vehicles"]["hits"] == 1


@pytest.fixture
def peer() -> Iterator[Any]:
    pytest.importorskip("rclpy", reason="needs rclpy: `make setup` installs it, or source a ROS 2 installation")
    from ros_graph import Peer

    made = Peer()
    yield made
    made.close()


@pytest.mark.ros
def test_the_detector_node_publishes_rectangles_and_boxes(peer: Any, model: Path) -> None:
    from ros_graph import NodeProcess, SensorRig, wait_until

    from karp_perception.ros import messages

    rectangles = peer.heard("vision_msgs/msg/Detection2DArray", "/detector/output/image_detections0")
    boxes = peer.heard("vision_msgs/msg/Detection3DArray", "/detector/output/detections")
    rig = SensorRig(peer, "detector")
    node = NodeProcess("detector", "-p", f"detector.model:={model}", "-p", "odometry.enabled:=false")
    try:
        wait_until(rig.connected, "the detector to subscribe")

        def sent() -> bool:
            sent.stamp += 100_000_000
            rig.send(sent.stamp)
            return bool(rectangles and [m for m in boxes if m.detections])

        sent.stamp = 5000 * 10**9
        wait_until(sent, "detections")
        assert rectangles[-1].header.frame_id == "camera"
        assert rectangles[-1].detections[0].results[0].hypothesis.class_id == "car"
        found = messages.boxes_from_detections([m for m in boxes if m.detections][-1])
        assert found.label.tolist() == [ObjectClass.CAR]
        np.testing.assert_allclose(found.center[0, :2], [14.6, 0.0], atol=0.6)
    finally:
        code, _ = node.end()
    assert code == 0, node.output
    assert "untrained" not in node.output
