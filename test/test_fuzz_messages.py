"""Malformed messages by the thousand: each is decoded or counted under a documented reason; nothing else happens."""

from __future__ import annotations

import copy
import tracemalloc
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sensor_message_builders import TYPES, camera_info_message, cloud_message, compressed_message, image_message

from karp_perception.core.counters import Counters
from karp_perception.core.errors import InvalidInput
from karp_perception.sensing.calibration import CameraModel, decode_camera_info
from karp_perception.sensing.images import SUPPORTED_ENCODINGS, decode_compressed_image, decode_image
from karp_perception.sensing.pointclouds import PointCloud, decode_pointcloud

# Of each of the four decoders: 10,000 messages in the long run.
MANY = 2500  # from here on every reason must have come up
EXAMPLES = pytest.mark.parametrize("examples", [300, pytest.param(MANY, marks=pytest.mark.slow)])
LARGEST_ALLOCATION = 32 << 20  # bytes; the messages hold a few KB
REASONS = {
    *("malformed_points", "empty_points", "absurd_stamp"),
    *("malformed_image", "unknown_encoding", "truncated_image", "invalid_calibration"),
}

UINT32 = st.one_of(st.integers(0, 40), st.sampled_from([2**16, 2**31 - 1, 2**31, 2**32 - 1]), st.integers(0, 2**32 - 1))
NUMBER = st.one_of(UINT32, st.sampled_from([-1, 1.5, float("nan"), None, "7", 2**64, True]))
TEXT = st.one_of(st.sampled_from(["", "x", "rgb8", "nv12", "jpeg", "plumb_bob", "\0"]), st.text(max_size=9), st.none())
BYTES = st.one_of(
    st.binary(max_size=600).map(lambda b: np.frombuffer(b, np.uint8)), st.sampled_from([b"", None, "data"])
)
FLOATS = st.lists(st.floats(width=64), max_size=15).map(np.array)


def _streams() -> list[bytes]:
    picture = np.random.default_rng(0).integers(0, 256, (24, 40, 3), np.uint8)
    kinds = ((".jpg", picture), (".jpg", picture[..., 0]), (".png", picture), (".png", picture.astype(np.uint16) * 257))
    streams = [cv2.imencode(extension, image)[1].tobytes() for extension, image in kinds]
    progressive = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    return [*streams, progressive]


STREAMS = _streams()


def damaged(data: st.DataObject, content: np.ndarray) -> np.ndarray:
    """Bytes changed, cut out, cut off or put in."""
    content = bytearray(content.tobytes())
    for _ in range(data.draw(st.integers(0, 3))):
        at = data.draw(st.integers(0, len(content)))
        kind = data.draw(st.sampled_from(["change", "cut", "remove", "insert"]))
        if kind == "cut":
            del content[at:]
        elif kind == "remove":
            del content[at : at + data.draw(st.integers(1, 20))]
        elif kind == "insert":
            content[at:at] = data.draw(st.binary(min_size=1, max_size=20))
        elif at < len(content):
            content[at] = data.draw(st.integers(0, 255))
    return np.frombuffer(bytes(content), np.uint8)


def mutated(data: st.DataObject, message: Any, values: dict[str, st.SearchStrategy[Any]]) -> None:
    """One to three attributes, dotted names, drawn anew; or an attribute that is not there at all."""
    for name in data.draw(st.lists(st.sampled_from(sorted(values)), min_size=1, max_size=3)):
        *path, last = name.split(".")
        owner = message
        for part in path:
            owner = getattr(owner, part, None)
        if owner is None or not hasattr(owner, last):
            continue
        if data.draw(st.integers(0, 30)) == 0:
            delattr(owner, last)
        else:
            setattr(owner, last, data.draw(values[name]))


COMMON = {
    "header": st.none(),
    "header.stamp": st.none(),
    "header.stamp.sec": NUMBER,
    "header.stamp.nanosec": NUMBER,
    "header.frame_id": TEXT,
}


class Node:
    """Decodes and counts as a node does. Whatever else than InvalidInput is raised fails the test."""

    def __init__(self) -> None:
        self.counters = Counters()
        self.received = 0

    def receive(self, decode: Callable[[Any], Any], message: Any) -> Any:
        self.received += 1
        result = None
        tracemalloc.start()
        try:
            result = decode(message)
            self.counters.use()
        except InvalidInput as error:
            self.counters.drop(error.reason)
        finally:
            largest = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert largest < LARGEST_ALLOCATION
        assert self.counters.received == self.received
        return result


def fuzz(body: Callable[[st.DataObject, Node], None], examples: int) -> set[str]:
    """Run `body` on as many messages. Returns the reasons of those that were dropped."""
    node = Node()

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def run(data: st.DataObject) -> None:
        body(data, node)

    run()
    counted = node.counters.as_dict()
    assert counted["received"] == node.received >= examples
    assert counted["used"] > examples // 50, "hardly any message was still valid: the mutations are too coarse"
    assert sum(counted["dropped"].values()) > examples // 5
    assert set(counted["dropped"]) <= REASONS
    return set(counted["dropped"])


FIELD = st.builds(
    TYPES["sensor_msgs/msg/PointField"],
    st.sampled_from(["x", "y", "z", "intensity", "t", "timestamp", "ring", ""]),
    st.one_of(st.integers(0, 24), UINT32),
    st.integers(0, 10),
    st.sampled_from([0, 1, 1, 1, 2]),
)


@EXAMPLES
def test_point_clouds(examples: int) -> None:
    layouts = [({"t": "u4"}, None), ({"time": "f4"}, 22), ({"timestamp": "f8"}, 32), ({}, 16)]
    bases = []
    for extra, step in layouts:
        columns = {name: np.arange(12).astype("f4") for name in ("x", "y", "z", "intensity")}
        columns |= {name: np.linspace(0, 0.1, 12).astype(kind) for name, kind in extra.items()}
        bases.append(cloud_message(columns, step=step, height=3, row_padding=0 if step == 16 else 4))
    values = {
        **COMMON,
        **dict.fromkeys(("height", "width", "point_step", "row_step"), NUMBER),
        "fields": st.one_of(st.lists(FIELD, max_size=6), st.none(), st.just([1])),
        "is_bigendian": st.one_of(st.booleans(), NUMBER),
        "data": BYTES,
    }

    def body(data: st.DataObject, node: Node) -> None:
        message = copy.deepcopy(data.draw(st.sampled_from(bases)))
        kind = data.draw(st.sampled_from(["attributes", "bytes", "fields", "both"]))
        if kind == "fields":
            field = data.draw(st.sampled_from(message.fields))
            name = data.draw(st.sampled_from(["name", "offset", "datatype", "count"]))
            setattr(field, name, data.draw(TEXT if name == "name" else NUMBER))
        if kind in ("attributes", "both"):
            mutated(data, message, values)
        if kind in ("bytes", "both") and isinstance(getattr(message, "data", None), np.ndarray):
            message.data = damaged(data, message.data)
        cloud = node.receive(decode_pointcloud, message)
        if cloud is not None:
            assert isinstance(cloud, PointCloud)
            assert cloud.points.shape[1:] == (4,)
            assert len(cloud.points) <= cloud.received == message.height * message.width
            assert np.isfinite(cloud.points).all()
            assert cloud.time is None or (len(cloud.time) == len(cloud.points) and np.isfinite(cloud.time).all())

    found = fuzz(body, examples)
    assert found >= {"malformed_points", "empty_points", "absurd_stamp"} or examples < MANY


@EXAMPLES
def test_images(examples: int) -> None:
    values = {
        **COMMON,
        **dict.fromkeys(("height", "width", "step", "is_bigendian"), NUMBER),
        "encoding": st.one_of(TEXT, st.sampled_from(sorted(SUPPORTED_ENCODINGS))),
        "data": BYTES,
    }

    def body(data: st.DataObject, node: Node) -> None:
        encoding = data.draw(st.sampled_from(sorted(SUPPORTED_ENCODINGS)))
        message = image_message(encoding, np.arange(6 * 64, dtype=np.uint8).reshape(6, 64), 8)
        if encoding.startswith("nv"):
            message.data = np.resize(
                message.data, 64 * {"nv12": 9, "nv21": 9, "nv24": 18, "nv42": 18}.get(encoding, 12)
            )
        kind = data.draw(st.sampled_from(["attributes", "bytes"]))
        if kind == "attributes":
            mutated(data, message, values)
        else:
            message.data = damaged(data, message.data)
        image = node.receive(decode_image, message)
        if image is not None:
            assert image.shape == (message.height, message.width, 3)
            assert image.dtype == np.uint8

    found = fuzz(body, examples)
    assert found >= {"malformed_image", "truncated_image", "unknown_encoding"} or examples < MANY


@EXAMPLES
def test_compressed_images(examples: int) -> None:
    values = {**COMMON, "format": TEXT, "data": BYTES}

    def body(data: st.DataObject, node: Node) -> None:
        kinds = ["jpeg", "png", "rgb8; jpeg compressed bgr8", "bayer_rggb8; png compressed ", "16UC1; compressedDepth"]
        stream = data.draw(st.sampled_from(STREAMS))
        message = compressed_message(stream, data.draw(st.sampled_from(kinds)))
        if data.draw(st.integers(0, 3)) == 0:
            mutated(data, message, values)
        if isinstance(getattr(message, "data", None), np.ndarray):
            message.data = damaged(data, message.data)
        image = node.receive(decode_compressed_image, message)
        if image is not None:
            assert image.ndim == 3
            assert image.shape[2] == 3
            assert image.dtype == np.uint8

    found = fuzz(body, examples)
    assert found >= {"malformed_image", "truncated_image", "unknown_encoding"} or examples < MANY


@EXAMPLES
def test_camera_infos(examples: int) -> None:
    bases = [
        camera_info_message(d=(-0.3, 0.1, 0.001, -0.002, 0.01)),
        camera_info_message(model="equidistant", d=(0.1, 0.02, 0.0, 0.01), binning=(2, 2)),
        camera_info_message(model="", d=(), roi=(10, 20, 300, 200)),
    ]
    values = {
        **COMMON,
        **dict.fromkeys(("width", "height", "binning_x", "binning_y"), NUMBER),
        **{f"roi.{name}": NUMBER for name in ("x_offset", "y_offset", "width", "height")},
        **dict.fromkeys(("k", "d", "r", "p"), st.one_of(FLOATS, TEXT)),
        "distortion_model": st.one_of(TEXT, st.sampled_from(["rational_polynomial", "fisheye"])),
        "roi": st.none(),
    }

    def body(data: st.DataObject, node: Node) -> None:
        message = copy.deepcopy(data.draw(st.sampled_from(bases)))
        numbers = getattr(message, data.draw(st.sampled_from(["k", "p", "r", "d"])))
        if len(numbers) and data.draw(st.booleans()):
            numbers[data.draw(st.integers(0, len(numbers) - 1))] = data.draw(st.floats(width=64))
        else:
            mutated(data, message, values)
        model = node.receive(decode_camera_info, message)
        if model is not None:
            assert isinstance(model, CameraModel)
            assert model.width > 0 < model.height
            assert np.isfinite(model.intrinsics).all()
            assert np.isfinite(model.rectified_intrinsics).all()

    assert fuzz(body, examples) == {"invalid_calibration"}
