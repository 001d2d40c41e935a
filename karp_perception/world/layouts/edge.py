"""Standing things along a curve: the kerb of a pavement, the front of a row of plots, the side of a country road."""

from __future__ import annotations

import math

import numpy as np

from karp_perception.world.geometry.ground import Surface
from karp_perception.world.layouts.curves import Spot, distances, headings, offset, resample
from karp_perception.world.layouts.plan import Layer, Plan, rectangle
from karp_perception.world.layouts.site import LANE, PAVED, SPACE, TAKEN, WALK

FOOTPRINTS: dict[str, tuple[float, float]] = {
    "tree": (0.9, 0.9), "conifer": (2.6, 2.6), "young_tree": (0.6, 0.6), "bush": (1.6, 1.6),
    "ragged_vegetation": (3.0, 1.6), "hedge": (6.0, 1.0), "pole": (0.4, 0.4), "lamp_post": (0.5, 0.5),
    "sign": (0.5, 0.5), "billboard": (1.0, 4.2), "traffic_light": (0.5, 0.5), "bin": (0.9, 0.9), "dumpster": (2.2, 2.8),
    "bench": (0.9, 2.0), "bus_shelter": (1.8, 4.6), "kiosk": (3.2, 3.2), "market_stall": (2.6, 3.6),
    "bollard": (0.3, 0.3), "hydrant": (0.5, 0.5), "cabinet": (0.7, 1.5), "advertising_column": (1.6, 1.6),
    "post_box": (0.7, 0.7), "pallet_pile": (1.6, 1.6), "rock": (1.6, 1.6), "container": (6.2, 2.6),
    "bike_rack": (2.0, 3.2), "scaffolding": (8.0, 1.4), "planter": (1.6, 0.9), "cafe_table": (2.0, 2.0),
    "wall_fragment": (4.0, 0.8), "facade_fragment": (6.0, 1.6), "house_corner": (5.0, 5.0),
}  # fmt: skip
"""Length and width (m) of the ground that things need whose size no place decides."""

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
    def to_road(self) -> float:
        """Turn (rad) from the curve's direction to what looks at the road."""
        return -self.sign * 0.5 * math.pi

    @property
    def to_traffic(self) -> float:
        """Turn (rad) to what looks at the traffic that comes on this side of the road."""
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
        """Stand something there unless the ground is taken; whether it stands. `joined`: it may touch its neighbours."""
        footprint = FOOTPRINTS[family] if size is None else size[:2]
        if joined:
            footprint = (footprint[0] - 0.6, footprint[1])
        return self.plan.place(family, self.at(s, out, turn), footprint, size, forbidden=forbidden, sink=sink)

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
        """A wall, hedge or fence along the edge in parts of about `part` m, left out where the ground is taken."""
        count = max(round((end - begin) / part), 1)
        each = (end - begin) / count
        if each < 0.8:
            return
        for k in range(count):
            # Parts meet; a claim keeps 0.3 m off so that neighbours do not refuse each other.
            at = self.at(begin + (k + 0.5) * each, out)
            if self.plan.site.claim(at.x, at.y, at.heading, each - 0.6, width, forbidden):
                self.plan.stand(family, at, (each, width, height), sink=0.1)

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
