"""The embedded world as training data: drives with ever other sensors through ever other places."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from karp_perception.sensing.labelled_frame import LabelledFrame
from karp_perception.world.embedded import EmbeddedWorld, Setup, WorldSettings
from karp_perception.world.layouts.families import FAMILIES
from karp_perception.world.rig import Rig, mounted
from karp_perception.world.sensors.camera import CameraModel
from karp_perception.world.sensors.lidar_models import lidar_named
from karp_perception.world.world_frames import HELD_OUT_FAMILY, Beginning, WorldFrames, labelled

TRAINING_FAMILIES = tuple(family for family in FAMILIES if family != HELD_OUT_FAMILY)
TRAINING_SEEDS = 1_000_000
"""Training draws its places from seeds below; evaluation from seeds far above."""

# Share of drives with each lidar: what vehicles carry, from 16 beams to 128.
_LIDARS = {
    "hdl64e": 0.28, "hdl32e": 0.18, "pandar40": 0.16, "pandar64": 0.08, "64x1024": 0.1, "vls128": 0.07, "os128": 0.05,
    "vlp16": 0.08,
}  # fmt: skip
_HEIGHT_M = (1.55, 2.1)  # of the lidar
_FORWARD_M = (-0.3, 1.2)
_CAMERAS = {0: 0.25, 1: 0.5, 3: 0.25}  # share of drives with that many
_IMAGE = (528, 192)  # px, once and a half the network's: what is scaled down has softer edges, as real images do
_HORIZON = (0.3, 0.5)  # of the image's height: rows that the network does not see are not rendered
_VIEW_DEG = (60.0, 100.0)  # of a camera that is alone
_SIDE_VIEW_DEG = (60.0, 75.0)
_SIDE_DEG = (45.0, 65.0)  # to where the side cameras look
_PITCH_DEG = 2.0
# More of what is seldom seen than streets have: ten classes can then be learnt from thousands of frames, not millions.
_TRAFFIC = {
    "density": 1.8, "uncommon": 5.0, "evened": 0.4, "towing": 0.4, "pedestrians": 1.5, "roadworks": 0.6, "halted": 20,
    "clear": 15.0, "models": 60, "sizes": 1.8,
}  # fmt: skip


def training_rig(rng: np.random.Generator) -> Rig:
    """A lidar out of the usual ones, and none, one or three cameras, all placed at random as vehicles have them."""
    lidar = str(rng.choice(list(_LIDARS), p=list(_LIDARS.values())))
    place = mounted(float(rng.uniform(*_FORWARD_M)), 0.0, float(rng.uniform(*_HEIGHT_M)))
    count = int(rng.choice(list(_CAMERAS), p=list(_CAMERAS.values())))
    width, height = _IMAGE
    forward, up = float(rng.uniform(0.0, 1.8)), float(rng.uniform(1.2, 1.9))
    row = height * float(rng.uniform(*_HORIZON))
    side = float(rng.uniform(*_SIDE_DEG))
    view = _VIEW_DEG if count == 1 else _SIDE_VIEW_DEG
    cameras = []
    for name, yaw in (("front", 0.0), ("front_left", side), ("front_right", -side))[:count]:
        across = 0.5 * np.sin(np.radians(yaw))
        pitch = float(rng.normal(0.0, _PITCH_DEG / 2))
        model = CameraModel.pinhole(
            name, width, height, float(rng.uniform(*view)), (forward, float(across), up), yaw, pitch
        )
        intrinsics = model.intrinsics.copy()
        intrinsics[1, 2] = row
        cameras.append(CameraModel(name, width, height, intrinsics, model.T_base_camera, lens=model.lens))
    return Rig("training", lidar_named(lidar), place, tuple(cameras))


@dataclass(frozen=True)
class WorldDrives:
    """Labelled frames of drives that are numbered: a drive is the same whoever asks for it.

    Attributes:
        seed: of all places; below TRAINING_SEEDS.
        families: of layouts.
        per_drive: frames of a drive, `spacing` s apart.
        enriched: with more of what is seldom seen than streets have.
    """

    seed: int
    families: tuple[str, ...] = TRAINING_FAMILIES
    per_drive: int = 8
    spacing: float = 1.0
    enriched: bool = True

    def frames(self, first: int, stride: int) -> Iterator[LabelledFrame]:
        """Frames of the drives `first`, `first + stride`, ... without end."""
        open_world = partial(_with_any_rig, traffic=_TRAFFIC if self.enriched else {})
        frames = WorldFrames(
            self.seed, self.families, per_drive=self.per_drive, spacing=self.spacing, open_world=open_world
        )
        for sensors, truth in frames.from_drive(first, stride):
            yield labelled(sensors, truth)


def _with_any_rig(beginning: Beginning, traffic: Mapping[str, Any]) -> EmbeddedWorld:
    setup = Setup(beginning.family, start=beginning.start, lateral=beginning.lateral, speed=beginning.speed)
    settings = WorldSettings.from_mapping({"threads": 1, "traffic": dict(traffic)})
    rig = training_rig(np.random.default_rng([beginning.seed, 7]))
    return EmbeddedWorld(setup, rig, settings, beginning.seed)
