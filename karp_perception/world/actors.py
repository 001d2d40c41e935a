"""An actor: a model that has a label and is somewhere, moving or not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from karp_perception.core import Boxes
from karp_perception.world.geometry.scene import Body
from karp_perception.world.models.model import Model


@dataclass(frozen=True)
class Actor:
    """One labelled thing at one moment, in the world's frame.

    Attributes:
        number: its id, positive, its own for ever.
        model: what it looks like.
        position: (3,) m, its origin on the ground.
        yaw, pitch, roll: rad. yaw_rate: rad/s.
        velocity: (2,) m/s over ground.
        phase: of its gait, rad.
        lights: bits of `geometry.scene` (BRAKE, LEFT, RIGHT, HEAD).
    """

    number: int
    model: Model
    position: tuple[float, float, float]
    yaw: float
    velocity: tuple[float, float] = (0.0, 0.0)
    yaw_rate: float = 0.0
    pitch: float = 0.0
    roll: float = 0.0
    phase: float = 0.0
    lights: int = 0

    def body(self) -> Body:
        """What lasers and cameras meet of it."""
        model, (vx, vy) = self.model, self.velocity
        return Body(
            model.shape_at(self.phase), self.position, self.yaw, self.pitch, self.roll, self.number, (vx, vy, 0.0),
            self.yaw_rate, model.first, model.second, self.lights,
        )  # fmt: skip


def boxes_of(actors: Sequence[Actor]) -> Boxes:
    """Their boxes in the world's frame (`odom`), scores 1. Raises InvalidInput for an actor without a label."""
    n = len(actors)
    size = np.array([a.model.size for a in actors], float).reshape(n, 3)
    position = np.array([a.position for a in actors], float).reshape(n, 3)
    return Boxes(
        position + 0.5 * size * (0, 0, 1),
        size,
        np.array([a.yaw for a in actors], float),
        np.array([a.velocity for a in actors], float).reshape(n, 2),
        np.array([-1 if a.model.label is None else a.model.label for a in actors], np.int64),
        np.ones(n),
        frame="odom",
    )
