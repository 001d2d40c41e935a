"""Standing things along a curve: the kerb of a pavement, the front of a row of plots, the side of a country road."""

from __future__ import annotations

import math

import numpy as np

from karp_perception.world.geometry.ground import Surface
from karp_perception.world.layouts.curves import Spot, distances, headings, offset, resample
from karp_perception.world.layouts.footprint import SIZED_EXAMPLES
from karp_perception.world.layouts.plan import Layer, Plan, rectangle
from karp_perception.world.layouts.site import LANE, PAVED, SPACE, TAKEN, WALK

ON_LAND = LANE | WALK | PAVED | TAKEN | SPACE
"""What buildings and gardens keep off."""
ON_PAVEMENT = LANE | WALK | TAKEN | SPACE
"""What stands on pavements keeps off."""


class Edge:
    """A curve with land on one side of it.

    Args:
        plan: what to stand things in.
        rng: draws them.
        points: (N, 2) m.
        left: m from the curve to the edge.
        sign: 1 where the land lies to the left of the curve, -1 to its right.
    """

    def __init__(self, plan: Plan, rng: np.random.Generator, points: np.ndarray, left: float, sign: float) -> None:
        edge = resample(offset(points, left), 1.0)
        self.plan, self.rng, self.sign = plan, rng, sign
        self.points = edge
        self.length = float(distances(edge)[-1])
        self._step = self.length / (len(edge) - 1)
        self._x, self._y = edge[:, 0].tolist(), edge[:, 1].tolist()
        self._heading = headings(edge).tolist()

    @property
    def front(self) -> float:
        """Turn (rad) from the curve's direction of long things whose front (-y) is to face the road."""
        return math.pi if self.sign < 0 else 0.0

    @property
    def to_road(self) -> float:
        """Turn (rad) of what looks (+x) at the road."""
        return -self.sign * 0.5 * math.pi

    @property
    def to_traffic(self) -> float:
        """Turn (rad) of what looks (+x) at the traffic that comes on this side of the road."""
        return math.pi if self.sign < 0 else 0.0

    def at(self, s: float, out: float, turn: float = 0.0) -> Spot:
        """The place s m along and `out` m beyond the edge, turned by `turn` rad from its direction."""
        u = min(max(s / self._step, 0.0), len(self._x) - 1.001)
        k = int(u)
        u -= k
        heading = self._heading[k] + u * (self._heading[k + 1] - self._heading[k])
        left = self.sign * out
        x = self._x[k] + u * (self._x[k + 1] - self._x[k]) - left * math.sin(heading)
        y = self._y[k] + u * (self._y[k + 1] - self._y[k]) + left * math.cos(heading)
        return Spot(x, y, heading + turn)

    def put(
        self,
        family: str,
        s: float,
        out: float,
        turn: float = 0.0,
        size: tuple[float, float, float] | None = None,
        forbidden: int = ON_LAND,
        sink: float = 0.0,
        joined: bool = False,
    ) -> bool:
        """Stand something there unless the ground is taken; whether it stands. `joined`: it may touch others."""
        at = self.at(s, out, turn)
        return self.plan.place(family, at, size, forbidden=forbidden, sink=sink, spare=0.3 if joined else 0.0)

    def row(
        self,
        family: str,
        begin: float,
        end: float,
        out: float,
        width: float,
        height: float,
        part: float = 8.0,
        forbidden: int = ON_LAND,
    ) -> None:
        """A wall, hedge or fence along the edge in parts of `part` m, left out where the ground is taken.

        Its parts look alike: they have one seed, and few lengths so that their models are drawn once.
        """
        seed, height = self.plan.next_seed() % SIZED_EXAMPLES, round(height * 5.0) / 5.0
        while begin < end - 0.9:
            length = part if end - begin > part + 0.5 else math.floor((end - begin) * 2.0) / 2.0
            # Parts meet; a claim keeps 0.3 m off so that neighbours do not refuse each other.
            at = self.at(begin + 0.5 * length, out, self.front)
            if self.plan.site.claim(at.x, at.y, at.heading, length - 0.6, width, forbidden):
                self.plan.stand(family, at, (length, width, height), seed, sink=0.1)
            begin += length

    def land(
        self, surface: Surface, begin: float, end: float, near: float, far: float, layer: Layer = Layer.PLOT
    ) -> None:
        """Paint a plot: from `begin` to `end` m along the edge, `near` to `far` m beyond it."""
        at = self.at(0.5 * (begin + end), 0.5 * (near + far))
        self.plan.patch(layer, surface, rectangle(at, end - begin, far - near))

    def uniform(self, low: float, high: float) -> float:
        """A number between the two."""
        return low + (high - low) * self.rng.random()

    def chance(self, share: float) -> bool:
        """True for that share of calls."""
        return self.rng.random() < share

    def pick(self, *options: str) -> str:
        """One of them."""
        return options[int(self.rng.random() * len(options))]
