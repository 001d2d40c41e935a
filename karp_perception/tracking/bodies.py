"""What belongs to a moving body.

A lidar sees of a car what faces it: the rear, and through or over it bits of the roof, the wheels, the far bumper. They
come and go, each a box of its own. A bit that appears where a moving body is, or touches it, most likely moves with it;
that it stands there would take something the body is about to run over.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from karp_perception.core import Boxes
from karp_perception.core.settings import Settings, setting
from karp_perception.tracking.association import whole_pairs
from karp_perception.tracking.visibility import near_pairs


@dataclass(frozen=True)
class BodySettings(Settings):
    """How far the body of something that moves may reach beyond what is seen of it."""

    significance: float = setting(2.5, "speed in its deviations from which a thing moves", low=0.0, high=10.0)
    slowest: float = setting(0.5, "slower things have no body to speak of", unit="m/s", low=0.0, high=5.0)
    touch: float = setting(0.4, "what comes so close to a body touches it", unit="m", low=0.0, high=2.0)
    vehicle_width: float = setting(1.2, "from which a moving thing is a vehicle", unit="m", low=0.1, high=5.0)
    vehicle_length: float = setting(
        4.5, "how far behind its near face its far end may be", unit="m", low=0.0, high=20.0
    )
    agreement: float = setting(3.0, "difference of velocities, in deviations, that may be none", low=0.1, high=10.0)


@dataclass(frozen=True)
class Bodies:
    """M moving bodies: `row` (M,) of each among what was asked about, and `box`, where its parts may be."""

    row: np.ndarray
    box: Boxes

    def __len__(self) -> int:
        return len(self.row)

    def take(self, bodies: np.ndarray) -> Bodies:
        """Those bodies alone (mask or index)."""
        return Bodies(self.row[bodies], self.box[bodies])

    def around(self, boxes: Boxes) -> np.ndarray:
        """(len(boxes),) the body (0 to M - 1) that the larger part of each box lies in, most of it first; or -1."""
        around = np.full(len(boxes), -1)
        body, box = self.pairs(boxes)
        around[box] = body  # the largest share is written last
        return around

    def pairs(self, boxes: Boxes) -> tuple[np.ndarray, np.ndarray]:
        """Bodies and rows of `boxes` of which the larger part lies in the body, the largest share last."""
        i, j = near_pairs(self.box, boxes, 0.0)
        pairs = whole_pairs(i, j, self.box, boxes, np.zeros((len(boxes), 2, 2)))
        area, whole = boxes.size[j, 0] * boxes.size[j, 1], self.box.size[i, 0] * self.box.size[i, 1]
        share = pairs.overlap * np.minimum(area, whole) / area
        order = np.lexsort((-i, share))
        order = order[share[order] > 0.5]
        return i[order], j[order]


def moving_bodies(
    boxes: Boxes, covariance: np.ndarray, whole: np.ndarray, sensor: np.ndarray, settings: BodySettings
) -> Bodies:
    """The bodies of those of N tracked things that surely move.

    Seen from before or behind, the far end of a thing as wide as a vehicle is not known: its body is then as long as a
    vehicle is. What is narrow, was detected as a whole, or shows its side, has the length it shows.

    Args:
        boxes: with velocities over ground.
        covariance: (N, 4, 4) of x, y, vx, vy.
        whole: (N,) whether the whole box is known.
        sensor: (2,) where they are seen from, in the frame of the boxes.
    """
    velocity = boxes.velocity
    speed = np.hypot(velocity[:, 0], velocity[:, 1])
    forward = np.where(speed[:, None] > 1e-6, velocity / np.maximum(speed, 1e-6)[:, None], [1.0, 0.0])
    deviation = np.sqrt(np.einsum("ni,nij,nj->n", forward, covariance[:, 2:, 2:], forward))
    row = np.flatnonzero(speed > np.maximum(settings.significance * deviation, settings.slowest))
    forward, turn = forward[row], boxes.yaw[row] - np.arctan2(velocity[row, 1], velocity[row, 0])
    c, s = np.abs(np.cos(turn)), np.abs(np.sin(turn))
    length = boxes.size[row, 0] * c + boxes.size[row, 1] * s
    width = boxes.size[row, 0] * s + boxes.size[row, 1] * c
    ahead = np.einsum("ni,ni->n", sensor - boxes.center[row, :2], forward)  # of the sensor, seen from the thing
    unseen = ~whole[row] & (width >= settings.vehicle_width) & (np.abs(ahead) > 0.5 * length)
    longer = np.where(unseen, np.maximum(settings.vehicle_length - length, 0.0), 0.0)
    center = boxes.center[row].copy()
    center[:, :2] -= (0.5 * longer * np.sign(ahead))[:, None] * forward
    place = np.minimum(np.sqrt(np.maximum(np.trace(covariance[row, :2, :2], axis1=1, axis2=2), 0.0)), settings.touch)
    reach = 2 * (settings.touch + place)
    size = np.column_stack([length + longer + reach, width + reach, boxes.size[row, 2]])
    yaw = np.arctan2(forward[:, 1], forward[:, 0])
    body = Boxes(center, size, yaw, velocity[row], boxes.label[row], boxes.score[row], frame=boxes.frame)
    return Bodies(row, body)


def parts_of_bodies(
    boxes: Boxes, covariance: np.ndarray, whole: np.ndarray, bodies: Bodies, settings: BodySettings
) -> np.ndarray:
    """(N,) row of the thing that each of the same N things is a part of, or -1.

    A part lies in the body and may have its velocity; of two that may be each other's part, the one whose velocity is
    less sure is. What was detected as a whole is no part.
    """
    part_of = np.full(len(boxes), -1)
    if len(bodies) == 0:
        return part_of
    unsure = np.trace(covariance[:, 2:, 2:], axis1=1, axis2=2)
    body, part = bodies.pairs(boxes)
    of = bodies.row[body]
    surer = (unsure[of] < unsure[part]) & ~whole[part]
    of, part = of[surer], part[surer]
    apart = boxes.velocity[part] - boxes.velocity[of]
    both = covariance[part, 2:, 2:] + covariance[of, 2:, 2:]
    distance = np.einsum("ni,ni->n", apart, np.linalg.solve(both, apart[:, :, None])[:, :, 0])
    agree = distance < settings.agreement**2
    part_of[part[agree]] = of[agree]
    for _ in range(3):  # part of a part
        further = (part_of >= 0) & (part_of[part_of] >= 0)
        part_of[further] = part_of[part_of[further]]
    return part_of
