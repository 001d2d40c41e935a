"""Answers to compare engines with: what torch in float32 made of frames of the world, in every state of the sensors.

They lie beside the ONNX files as `references.npz`. Kept are the network's inputs for whole rigs (images in steps of
0.02, about a grey level; the canvas in float16) and which sensors deliver in each sample: the inputs are what the file
says, to the bit, so no other library that resizes or decodes images can come between an engine and its reference.
"""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from karp_perception.core import ConfigurationError, SensorFrame
from karp_perception.detection.model.config import ModelConfig
from karp_perception.detection.preprocessing import network_arrays
from karp_perception.detection.runtime.graph import LIDAR_POSITION, NETWORK_OUTPUTS, POSITION_OUTPUTS, Reference
from karp_perception.records import atomic_file

if TYPE_CHECKING:
    from karp_perception.detection.model.detector_net import DetectorNet

FILE_NAME = "references.npz"

_IMAGE_STEP, _IMAGE_ZERO = np.float32(0.02), np.float32(110)  # normalised pixels lie within -2.2 and 2.7
_EVERY = 31  # of the rows of position embeddings: which is all of them that is needed to see that they are right
_ALL_SUBSETS = 3  # cameras up to which every subset is taken

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class References:
    """Samples: frame, delivering sensors, the network's outputs.

    Attributes:
        about: model, weights (digest), config, and the versions that made them.
        images: (F, C, 3, H, W) uint8, steps of 0.02 from -2.2 on.
        canvas: (F, channels, X, Y) float16.
        intrinsics, T_base_camera: (F, C, 3, 3), (F, C, 4, 4) float32.
        frame: (S,) which frame a sample is of.
        cameras: (S, C) bool, cameras that deliver; for slots that the frame has a camera for.
        lidar: (S,) bool.
        outputs: of the network by name, (S, N, k) float32.
        positions: of the position graph by name for sample 0 of every frame, every 31st row, (F, rows, k) float32.
    """

    about: Mapping[str, Any]
    images: np.ndarray
    canvas: np.ndarray
    intrinsics: np.ndarray
    T_base_camera: np.ndarray
    frame: np.ndarray
    cameras: np.ndarray
    lidar: np.ndarray
    outputs: Mapping[str, np.ndarray]
    positions: Mapping[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.frame)

    def calibration(self, sample: int) -> Arrays:
        """Inputs of the position graph."""
        frame = self.frame[sample]
        return {
            "intrinsics": self.intrinsics[frame][None],
            "T_base_camera": self.T_base_camera[frame][None],
            "camera_present": self.cameras[sample][None].astype(np.float32),
        }

    def sensors(self, sample: int) -> Arrays:
        """Inputs of the network but for the embeddings: zeros for what does not deliver."""
        frame, cameras, lidar = self.frame[sample], self.cameras[sample], self.lidar[sample]
        images = (self.images[frame].astype(np.float32) - _IMAGE_ZERO) * _IMAGE_STEP
        return {
            "images": images[None] * cameras[None, :, None, None, None],
            "camera_present": cameras[None].astype(np.float32),
            "canvas": self.canvas[frame][None].astype(np.float32) * np.float32(lidar),
            "lidar_present": np.full((1, 1), lidar, np.float32),
        }

    def of_position(self, batch: int = 1) -> list[Reference]:
        """What the position graph has to say, for whole rigs; frames follow each other in a batch."""
        firsts = np.unique(self.frame, return_index=True)[1]
        references = []
        for group in _groups(len(firsts), batch):
            inputs = stacked([self.calibration(int(firsts[number])) for number in group])
            outputs = stacked([{k: v[number][None] for k, v in self.positions.items()} for number in group])
            references.append(Reference(inputs, outputs, _EVERY))
        return references

    def of_network(self, embed: Callable[[Arrays], Mapping[str, np.ndarray]], batch: int = 1) -> Iterator[Reference]:
        """What the network has to say; samples follow each other in a batch. One at a time, because they are large.

        Args:
            embed: the position graph, for a batch of one.
            batch: of the network.
        """
        known: tuple[bytes, Mapping[str, np.ndarray]] = (b"", {})
        for group in _groups(len(self), batch):
            inputs = []
            for sample in group:
                rig = bytes([self.frame[sample]]) + self.cameras[sample].tobytes()
                if known[0] != rig:
                    known = (rig, embed(self.calibration(sample)))
                inputs.append(self.sensors(sample) | {name: known[1][name] for name in POSITION_OUTPUTS})
            yield Reference(stacked(inputs), {name: values[group] for name, values in self.outputs.items()})

    def save(self, file: Path) -> None:
        """Write what `load` reads, atomically, and the same bytes for the same content."""
        arrays = {name: getattr(self, name) for name in _PLAIN}
        arrays |= {f"outputs.{name}": values for name, values in self.outputs.items()}
        arrays |= {f"positions.{name}": values for name, values in self.positions.items()}
        content = io.BytesIO()
        np.savez_compressed(content, about=np.array(json.dumps(self.about, sort_keys=True)), **arrays)
        with atomic_file(file, "wb") as stream:
            stream.write(content.getvalue())

    @classmethod
    def load(cls, file: Path) -> References:
        """The references of a file. Raises ConfigurationError for one that cannot be read."""
        try:
            with np.load(file, allow_pickle=False) as content:
                return cls(
                    about=json.loads(str(content["about"])),
                    outputs={name: content[f"outputs.{name}"] for name in NETWORK_OUTPUTS},
                    positions={name: content[f"positions.{name}"] for name in POSITION_OUTPUTS},
                    **{name: content[name] for name in _PLAIN},
                )
        except (OSError, ValueError, KeyError) as error:
            raise ConfigurationError(f"{file}: expected references of a model, got something else: {error}") from None


_PLAIN = ("images", "canvas", "intrinsics", "T_base_camera", "frame", "cameras", "lidar")


def sensor_subsets(cameras: int) -> list[tuple[tuple[bool, ...], bool]]:
    """Which cameras deliver, and whether the lidar does; all of them first.

    Every subset of a rig of up to three cameras; of a larger one whole and missing kinds, single and missing cameras.
    """
    whole, none = (True,) * cameras, (False,) * cameras
    if cameras <= _ALL_SUBSETS:
        states = itertools.product(itertools.product((True, False), repeat=cameras), (True, False))
        return [(present, lidar) for present, lidar in states if any(present) or lidar]
    first, last = (True, *none[1:]), (*none[1:], True)
    half = tuple(slot < cameras // 2 for slot in range(cameras))
    return [
        (whole, True), (whole, False), (none, True), (first, True), (first, False), (last, False), (half, True),
        ((False, *whole[1:]), True),
    ]  # fmt: skip


def make_references(
    net: DetectorNet, frames: Sequence[SensorFrame], about: Mapping[str, Any], config: ModelConfig
) -> References:
    """What a network says of frames by torch in float32: of the first in every state of the sensors, of the others as
    whole rigs, without the lidar and without the cameras.
    """  # fmt: skip
    import torch

    rigs, inputs = zip(*(network_arrays(frame, config) for frame in frames), strict=True)
    taken = [rig.present[0] > 0 for rig in rigs]
    whole, none = (True,) * config.cameras, (False,) * config.cameras
    states = [(0, present, lidar) for present, lidar in sensor_subsets(config.cameras)]
    states += [
        (number, present, lidar)
        for number in range(1, len(frames))
        for present, lidar in ((whole, True), (whole, False), (none, True))
    ]
    images = np.stack([each["images"][0] for each in inputs])
    draft = References(
        about=about,
        images=np.clip(np.round(images / _IMAGE_STEP) + _IMAGE_ZERO, 0, 255).astype(np.uint8),
        canvas=np.stack([each["canvas"][0] for each in inputs]).astype(np.float16),
        intrinsics=np.stack([rig.intrinsics[0] for rig in rigs]),
        T_base_camera=np.stack([rig.T_base_camera[0] for rig in rigs]),
        frame=np.array([number for number, _, _ in states]),
        cameras=np.array([np.logical_and(present, taken[number]) for number, present, _ in states]),
        lidar=np.array([lidar for _, _, lidar in states]),
        outputs={},
        positions={},
    )
    said: dict[str, list[np.ndarray]] = {name: [] for name in NETWORK_OUTPUTS}
    placed: dict[str, list[np.ndarray]] = {name: [] for name in POSITION_OUTPUTS}
    with torch.inference_mode():
        for sample, (number, _, _) in enumerate(states):
            embeddings = net.position(*(torch.from_numpy(v) for v in draft.calibration(sample).values()))
            if number == len(placed[LIDAR_POSITION]):
                for name, values in zip(POSITION_OUTPUTS, embeddings, strict=True):
                    placed[name].append(values[0, ::_EVERY].numpy())
            prediction = net(*(torch.from_numpy(v) for v in draft.sensors(sample).values()), *embeddings)
            for name in NETWORK_OUTPUTS:
                said[name].append(getattr(prediction, name)[0].numpy())
    return References(
        **{name: getattr(draft, name) for name in ("about", *_PLAIN)},
        outputs={name: np.stack(values) for name, values in said.items()},
        positions={name: np.stack(values) for name, values in placed.items()},
    )


def _groups(count: int, batch: int) -> list[list[int]]:
    """Numbers below `count` in groups of `batch`, the last one filled up from the front."""
    return [[i % count for i in range(first, first + batch)] for first in range(0, count, batch)]


def stacked(parts: Sequence[Mapping[str, np.ndarray]]) -> Arrays:
    """Batches of one as one batch; of the lidar's positions, which are the same for all, the first."""
    first = parts[0]
    return {
        name: first[name] if name == LIDAR_POSITION else np.concatenate([part[name] for part in parts])
        for name in first
    }
