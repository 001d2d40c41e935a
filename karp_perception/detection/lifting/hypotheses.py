"""Boxes that an object might have, what speaks against each, and what is known of it when all of them are weighed.

The costs are negative log likelihoods, doubled: sums of squared deviations over variances. So the best box comes out,
and from how much the others weigh against it the variances do.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from karp_perception.core.geometry import wrap_angle
from karp_perception.detection.lifting.size_priors import SizePrior
from karp_perception.detection.lifting.view import View

_CORNERS = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (0.0, 1.0)])
_MOST = 9.0  # cost of an edge that is entirely wrong: what hides part of an object cuts its rectangle


@dataclass(frozen=True)
class Hypotheses:
    """K boxes for one object.

    Attributes:
        xy: (K, 2) m. bottom: (K,) m. size: (K, 3) m. yaw: (K,) rad, of which half turns make no difference.
    """

    xy: np.ndarray
    bottom: np.ndarray
    size: np.ndarray
    yaw: np.ndarray

    def rectangles(self, view: View) -> np.ndarray:
        """(K, 4) where they appear, px, beyond the image's border as well."""
        local = self.size[:, None] * _CORNERS
        c, s = np.cos(self.yaw)[:, None], np.sin(self.yaw)[:, None]
        x = c * local[..., 0] - s * local[..., 1] + self.xy[:, None, 0]
        y = s * local[..., 0] + c * local[..., 1] + self.xy[:, None, 1]
        pixels, _ = view.pixels(np.stack([x, y, local[..., 2] + self.bottom[:, None]], axis=-1))
        return np.concatenate([pixels.min(axis=1), pixels.max(axis=1)], axis=1)


@dataclass(frozen=True)
class Weighed:
    """One object.

    Attributes:
        xy: (2,) m. bottom: m. size: (3,) m. yaw: rad.
        variance: (7,) of x, y, z, length, width, height (m2) and yaw (rad2).
    """

    xy: np.ndarray
    bottom: float
    size: np.ndarray
    yaw: float
    variance: np.ndarray


def edge_cost(found: np.ndarray, seen: np.ndarray, cut: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """(K,) what the edges of a rectangle (4,) say against those of hypotheses (K, 4).

    The top is compared with the bottom, not with a place in the image: a nodding camera moves both.

    Args:
        found: of the hypotheses, px.
        seen: of the detection, px.
        cut: (4,) edges that are the image's border or are hidden: the object may go on beyond them.
        sigma: (4,) standard deviations, px; the second is that of the height.
    """
    outwards = (found - seen) * np.array([-1.0, -1.0, 1.0, 1.0])  # positive: the hypothesis is larger
    if not cut[3]:
        outwards[:, 1] += outwards[:, 3]
    off = np.where(cut & (outwards > 0), 0.0, outwards) / sigma
    return np.minimum(off**2, _MOST).sum(axis=1)


def size_cost(size: np.ndarray, prior: SizePrior) -> np.ndarray:
    """(K,) what usual sizes say against lengths, widths and heights (K, 3), m."""
    length, width, height = (np.log(size / prior.size) / prior.spread).T
    r = prior.together
    return (length**2 - 2 * r * length * width + width**2) / (1 - r**2) + height**2


def weigh(boxes: Hypotheses, cost: np.ndarray, mean: bool) -> Weighed:
    """The best hypothesis, or with `mean` its size and direction at the mean place, with variances from all of them."""
    best = int(np.argmin(cost))
    weight = np.exp(-0.5 * (cost - cost[best]))
    weight /= weight.sum()
    turn = wrap_angle(2 * (boxes.yaw - boxes.yaw[best])) / 2
    xy = weight @ boxes.xy if mean else boxes.xy[best]
    middle = boxes.bottom + 0.5 * boxes.size[:, 2]
    variance = np.concatenate(
        [
            weight @ np.square(boxes.xy - xy),
            [weight @ np.square(middle - middle[best])],
            weight @ np.square(boxes.size - boxes.size[best]),
            [weight @ np.square(turn)],
        ]
    )
    return Weighed(xy, float(boxes.bottom[best]), boxes.size[best], float(boxes.yaw[best]), variance)
