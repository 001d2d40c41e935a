"""Why the network says so: for each detection, how much each square of each image and of the lidar's canvas counted.

Computed with torch, from the same weights and the same arrays that `Detector` uses, whatever backend that runs on;
scores can differ from the backend's by its rounding.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from karp_perception.core import BackendUnavailable, Boxes, CameraFrame, ConfigurationError, InvalidInput, SensorFrame
from karp_perception.detection.decoding import decode_rows
from karp_perception.detection.detector import NO_MODEL, DetectorSettings
from karp_perception.detection.lifted_detector import is_image_model
from karp_perception.detection.model.config import ModelConfig
from karp_perception.detection.model.weights import ModelSource, find_model, load_network
from karp_perception.detection.preprocessing import has_lidar, image_cut, network_arrays
from karp_perception.detection.refinement.stage import RefinementStage

DEFAULT_METHOD = "mean"
LIDAR = "lidar"
"""What the lidar is called among the sensors."""


@dataclass(frozen=True)
class Explanation:
    """What N detections of one frame rest on. For each of them, all of its attention sums to 1.

    Attributes:
        config: shape of the network.
        boxes: the detections, best first, `base_link`.
        query: (N,) row of the network's outputs that each comes from; `config.kind_of_query` says of what
            kind it is.
        label: (N,) class for which the network took each: what is explained. A refiner may have said better.
        reference: (N, 3) m, `base_link`: the place where each query began to look.
        cameras: names of the cameras that the network saw, in its order.
        image_attention: (N, C, rows, columns) of each camera's tokens, C as many as `cameras`.
        lidar_attention: (N, X, Y) of the canvas's tokens, x forward and y left; zeros without a lidar.
        lidar: whether there was one.
    """

    config: ModelConfig
    boxes: Boxes
    query: np.ndarray
    label: np.ndarray
    reference: np.ndarray
    cameras: tuple[str, ...]
    image_attention: np.ndarray
    lidar_attention: np.ndarray
    lidar: bool

    def __len__(self) -> int:
        return len(self.boxes)

    def shares(self, number: int) -> dict[str, float]:
        """How much of a detection's attention went to each sensor that delivered: cameras by name, and "lidar"."""
        found = dict(zip(self.cameras, self.image_attention[number].sum(axis=(1, 2)).tolist(), strict=True))
        if self.lidar:
            found[LIDAR] = float(self.lidar_attention[number].sum())
        return found

    def flat(self) -> np.ndarray:
        """(N, M) in the order of the network's tokens; zeros for camera slots that nothing is in."""
        images = self.image_attention.reshape(len(self), -1)
        lidar = self.lidar_attention.reshape(len(self), -1)
        empty = np.zeros((len(self), self.config.token_count - images.shape[1] - lidar.shape[1]))
        return np.concatenate([images, empty, lidar], axis=1)


class Explainer:
    """Explains what a network detects. One instance serves one thread.

    Args:
        settings: the same that a `Detector` gets; `backend`, `precision`, `threads` and `cameras` have no say here.
        method: one of `model.attribution.METHODS`.

    Raises ConfigurationError for a model that does not exist or runs no network, and for a method that is none;
    BackendUnavailable where torch is not installed.
    """

    def __init__(self, settings: DetectorSettings | None = None, method: str = DEFAULT_METHOD) -> None:
        self.settings = settings or DetectorSettings()
        if is_image_model(self.settings.model):
            raise ConfigurationError(
                f"model {self.settings.model!r} is a 2D detector: only the package's own are explained"
            )
        if self.settings.model == NO_MODEL:
            raise ConfigurationError(f"model {NO_MODEL!r} runs no network: there is nothing to explain")
        try:
            from karp_perception.detection.model import attribution
        except ImportError as error:
            raise BackendUnavailable(f"explaining needs torch ({error}): pip install torch") from None
        if method not in attribution.METHODS:
            raise ConfigurationError(f"method: expected one of {', '.join(attribution.METHODS)}, got {method!r}")
        self.method = method
        self.source: ModelSource = find_model(self.settings.model)
        self._net = load_network(self.source)
        self._refinement = RefinementStage.of(self.settings)
        self._attribution: Any = attribution  # a module of torch: not imported with this one

    @property
    def config(self) -> ModelConfig:
        """Shape of the network."""
        return self.source.config

    @property
    def trained(self) -> bool:
        """Whether detections, and so their explanations, mean anything."""
        return self.source.trained

    def explain(self, frame: SensorFrame) -> Explanation:
        """What is detected in a frame and why. Raises InvalidInput for an image that is not rectified."""
        rows, columns = self.config.image_tokens
        nx, ny = self.config.canvas_tokens
        if not (has_lidar(frame) or any(frame.cameras.values())):
            none = np.zeros
            return Explanation(
                self.config, Boxes.empty(), none(0, int), none(0, int), none((0, 3)), (), none((0, 0, rows, columns)),
                none((0, nx, ny)), False,
            )  # fmt: skip
        rig, arrays = network_arrays(frame, self.config)
        encoded = self._attribution.encode(self._net, arrays, rig.calibration)
        outputs = {name: value.numpy() for name, value in vars(self._attribution.predict(self._net, encoded)).items()}
        said, query = decode_rows(outputs, self._refinement.least_score, self.settings.max_detections)
        boxes, kept = self._refinement(said, frame.lidar)
        query, label = query[kept], said.label[kept]
        found = self._attribution.attribute(self._net, encoded, query.tolist(), label.tolist(), self.method)
        weights = found.numpy().astype(np.float64)
        images = weights[:, : -nx * ny].reshape(len(boxes), self.config.cameras, rows, columns)
        return Explanation(
            self.config,
            boxes,
            query,
            label,
            encoded.reference[0].numpy()[query].astype(np.float64),
            rig.names,
            images[:, : len(rig.names)],
            weights[:, -nx * ny :].reshape(len(boxes), nx, ny),
            has_lidar(frame),
        )

    def answers_without(
        self, frame: SensorFrame, hidden: np.ndarray, *, from_inputs: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        """What all queries answer where some tokens are hidden.

        Args:
            frame: as explained.
            hidden: (V, M) mask of tokens, V at least 1, in the order of `Explanation.flat`.
            from_inputs: False: queries cannot attend to the hidden tokens, all else stays: row n of the result is the
                same query in every variant. True: pixels under hidden image tokens take the mean colour and cells under
                hidden lidar tokens are emptied before anything is computed; other candidates may become queries then.

        Returns:
            scores (V, N, 10) of each class, 0..1, and centres (V, N, 3), m, `base_link`.
        """
        if hidden.ndim != 2 or len(hidden) == 0 or hidden.shape[1] != self.config.token_count:
            raise InvalidInput("hidden tokens", f"shape (1 or more, {self.config.token_count})", f"{hidden.shape}")
        rig, arrays = network_arrays(frame, self.config)
        if from_inputs:
            parts = []
            for row in hidden:
                encoded = self._attribution.encode(self._net, _blanked(arrays, row, self.config), rig.calibration)
                parts.append(self._attribution.predict(self._net, encoded))
        else:
            encoded = self._attribution.encode(self._net, arrays, rig.calibration)
            parts = self._attribution.predict_without(self._net, encoded, np.asarray(hidden, bool))
        logits = np.concatenate([part.logits.numpy() for part in parts]).astype(np.float64)
        center = np.concatenate([part.center.numpy() for part in parts]).astype(np.float64)
        return 1.0 / (1.0 + np.exp(-logits)), center

    def delivered(self, frame: SensorFrame) -> np.ndarray:
        """(M,) mask of the tokens in which a sensor delivered something: pixels that are no padding, lidar points."""
        rig, arrays = network_arrays(frame, self.config)
        (rows, columns), (nx, ny), cells = self.config.image_tokens, self.config.canvas_tokens, self.config.token_cells
        images = np.zeros((self.config.cameras, rows, columns), bool)
        for slot, name in enumerate(rig.names):
            camera = frame.cameras[name]
            assert camera is not None
            stride = self.config.image_height // rows
            images[slot, : -(-image_cut(camera, self.config).rows // stride)] = True
        filled = (arrays["canvas"][0] != 0).any(axis=0).reshape(nx, cells, ny, cells).any(axis=(1, 3))
        return np.concatenate([images.ravel(), filled.ravel()])


def image_token_to_pixel(camera: CameraFrame, config: ModelConfig) -> np.ndarray:
    """(2, 3) affine map from (column, row, 1) of a camera's tokens to pixels of its own image.

    Whole numbers are the middles of tokens, and of pixels.
    """
    stride = config.image_width // config.image_tokens[1]
    to_cut = image_cut(camera, config).intrinsics @ np.linalg.inv(camera.intrinsics)
    middle = (stride - 1) / 2
    token_to_cut = np.array([[stride, 0, middle], [0, stride, middle], [0, 0, 1.0]])
    return (np.linalg.inv(to_cut) @ token_to_cut)[:2]


def lidar_token_to_base(config: ModelConfig) -> np.ndarray:
    """(2, 3) affine map from (i, j, 1) of the canvas's tokens to x, y in `base_link`, m."""
    half = 0.5 * config.token_m
    return np.array([[config.token_m, 0, config.x_range_m[0] + half], [0, config.token_m, config.y_range_m[0] + half]])


def _blanked(arrays: Mapping[str, np.ndarray], hidden: np.ndarray, config: ModelConfig) -> dict[str, np.ndarray]:
    """The network's inputs, empty under the hidden tokens (M,)."""
    (rows, columns), (nx, ny), cells = config.image_tokens, config.canvas_tokens, config.token_cells
    stride = config.image_height // rows
    images = hidden[: -nx * ny].reshape(config.cameras, rows, columns).repeat(stride, axis=1).repeat(stride, axis=2)
    canvas = hidden[-nx * ny :].reshape(nx, ny).repeat(cells, axis=0).repeat(cells, axis=1)
    # Images are normalised: zero is the mean colour.
    return {
        **arrays,
        "images": np.where(images[None, :, None], np.float32(0), arrays["images"]),
        "canvas": np.where(canvas, np.float32(0), arrays["canvas"]),
    }
