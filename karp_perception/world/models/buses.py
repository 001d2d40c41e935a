"""Buses: of the city, of long distance, small, and articulated ones in two sections."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from karp_perception.core import ObjectClass
from karp_perception.world.geometry.materials import Material
from karp_perception.world.geometry.shape import FIRST, SECOND
from karp_perception.world.models.colors import BUS_PAINT, pick
from karp_perception.world.models.family import Family, Size, Sizes
from karp_perception.world.models.heavy_parts import mirrors
from karp_perception.world.models.model import Model
from karp_perception.world.models.sculptor import Sculptor


@dataclass(frozen=True)
class BusStyle:
    """What sets one kind of bus apart.

    Attributes:
        belt: height of the windows' lower edge, share of the height. eaves: of their upper edge.
        clearance: m. radius: of its wheels, m.
        front_overhang, rear_overhang: shares of its length.
        bonnet: m of a short nose ahead of the windscreen.
        front, rear: whether it has a face and a tail, or ends in the bellows of an articulated bus.
    """

    belt: float = 0.42
    eaves: float = 0.86
    clearance: float = 0.3
    radius: float = 0.48
    front_overhang: float = 0.22
    rear_overhang: float = 0.28
    bonnet: float = 0.0
    front: bool = True
    rear: bool = True


CITY_BUS = BusStyle()
COACH = BusStyle(belt=0.52, eaves=0.92, clearance=0.32, front_overhang=0.22, rear_overhang=0.27)
MINIBUS = BusStyle(
    belt=0.48, eaves=0.88, clearance=0.24, radius=0.36, front_overhang=0.15, rear_overhang=0.26, bonnet=0.75
)
ARTICULATED = BusStyle(front_overhang=0.25, rear_overhang=0.2, rear=False)
ARTICULATED_REAR = BusStyle(rear_overhang=0.42, front=False)


def draw_bus(name: str, style: BusStyle, rng: np.random.Generator, size: Size) -> Model:
    """A bus, or one section of an articulated one, in a box of a size (m) without its mirrors."""
    L, W, H = size
    half, end = 0.5 * W, 0.5 * L
    low, gap = style.clearance, style.radius + 0.08
    belt, eaves = style.belt * H + rng.uniform(-0.06, 0.06), style.eaves * H
    arch = 2 * style.radius + 0.08
    rear_axle = (style.rear_overhang - 0.5) * L
    front_axle = end - style.front_overhang * L if style.front else None
    paint = {"tint": FIRST}
    b = Sculptor()
    nose = end - style.bonnet
    face = nose - 0.02 if style.front else end - 0.55
    tail = -end + 0.02 if style.rear else 0.55 - end
    cuts = [tail, rear_axle - gap, rear_axle + gap]
    cuts += [front_axle - gap, front_axle + gap, end - 0.03] if front_axle is not None else [face]
    for k in range(0, len(cuts) - 1, 2):
        b.slab((cuts[k], cuts[k + 1]), (-half, half), (low, arch), Material.PAINT, **paint)
    b.slab((tail + 0.2, face - 0.2), (0.4 - half, half - 0.4), (low, arch), Material.PLASTIC)
    b.slab((tail, face), (-half, half), (arch, max(belt, arch + 0.05)), Material.PAINT, **paint)
    rake = 0.5 if style.bonnet else 0.12
    b.slab((tail + 0.03, face), (0.03 - half, half - 0.03), (belt, eaves), Material.GLASS, taper=(0, rake, 0.04, 0.04))
    b.slab(
        (tail, face - rake + 0.06),
        (0.03 - half, half - 0.03),
        (eaves, H - 0.1),
        Material.PAINT,
        taper=(0.05, 0.05, 0.12, 0.12),
        **paint,
    )
    b.slab(
        (tail + 0.15 * L, tail + 0.15 * L + rng.uniform(0.2, 0.4) * L),
        (-0.32 * W, 0.32 * W),
        (H - 0.11, H),
        Material.PLASTIC,
    )
    _windows(b, style, size, rng, tail, face, belt, eaves, rake)
    _ends(b, style, size, belt, eaves, rake)
    for x in (rear_axle, front_axle):
        if x is not None:
            b.axle(x, W - 0.04, style.radius, 0.34, rim=0.5)
    if name == "coach" and L > 12.6:
        b.axle(rear_axle - 2 * style.radius - 0.12, W - 0.04, style.radius, 0.34, rim=0.5)
    if style.front:
        mirrors(b, nose - 0.05 - 0.5 * rake, W, (0.62 * H, 0.62 * H + 0.42))
    return Model(
        name,
        ObjectClass.BUS,
        size,
        b.fitted(size),
        pick(BUS_PAINT, rng),
        pick(BUS_PAINT, rng),
        wheelbase=(end if front_axle is None else front_axle) - rear_axle,
        rear_axle=rear_axle,
        hitch=None if style.rear else -end,
        king_pin=None if style.front else end,
    )


def _windows(
    b: Sculptor,
    style: BusStyle,
    size: Size,
    rng: np.random.Generator,
    tail: float,
    face: float,
    belt: float,
    eaves: float,
    rake: float,
) -> None:
    L, W, _ = size
    half = 0.5 * W
    bays = max(3, round((face - tail) / 2.2))
    for k in range(bays + 1):
        x = tail + 0.1 + k * (face - tail - 0.2 - 0.6 * rake) / bays
        lean = rake if k == bays else 0.0
        for side in (1, -1):
            b.post(
                (x, side * (half - 0.035), belt),
                (x - lean, side * (half - 0.075), eaves),
                (0.13, 0.06),
                Material.PAINT,
                tint=FIRST,
            )
    # Rows of seats run through, with an aisle; a driver's place ahead of them.
    top = min(belt + 0.4, eaves - 0.2)
    b.pair((tail + 0.5, 0.5 * (tail + face)), (0.22, half - 0.2), (belt - 0.1, top), Material.SEAT)
    b.pair((0.5 * (tail + face) + 0.9, face - 1.9), (0.22, half - 0.2), (belt - 0.1, top - 0.12), Material.SEAT)
    if style.front:
        b.slab((face - 1.25 - rake, face - 1.05 - rake), (0.25, half - 0.25), (belt - 0.1, belt + 0.55), Material.SEAT)
        # Doors on the right are glass from top to bottom.
        b.slab((face - 1.35, face - 0.25), (-half - 0.006, 0.1 - half), (style.clearance + 0.1, belt), Material.PLASTIC)
    if rng.random() < 0.6 and L > 8:
        x = rng.uniform(-0.1, 0.1) * L
        b.slab((x, x + 1.25), (-half - 0.006, 0.1 - half), (style.clearance + 0.1, belt), Material.PLASTIC)
    b.slab(
        (tail + 0.3, face - 0.4), (-half - 0.003, half + 0.003), (belt - 0.35, belt - 0.15), Material.PAINT, tint=SECOND
    )


def _ends(b: Sculptor, style: BusStyle, size: Size, belt: float, eaves: float, rake: float) -> None:
    L, W, H = size
    half, end = 0.5 * W, 0.5 * L
    if style.bonnet:
        b.prow(
            (end - style.bonnet - 0.02, end - 0.01),
            (0.02 - half, half - 0.02),
            (0.75, belt),
            Material.PAINT,
            top=belt - 1.02,
            side=0.16 * half,
            tint=FIRST,
        )
    if style.front:
        z = 0.62 if not style.bonnet else 0.8
        b.pair((end - 0.12, end), (0.58 * half, 0.84 * half), (z, z + 0.18), Material.HEAD_LAMP)
        b.pair((end - 0.2, end - 0.02), (0.85 * half, 0.95 * half), (z, z + 0.16), Material.INDICATOR)
        b.slab((end - 0.05, end), (-0.26, 0.26), (z - 0.22, z - 0.11), Material.PLATE)
        nose = end - style.bonnet
        b.slab(
            (nose - rake - 0.1, nose - rake + 0.08),
            (0.2 - half, half - 0.2),
            (eaves + 0.02, H - 0.12),
            Material.INDICATOR,
            color=(120, 90, 20),
        ) if not style.bonnet else b
    else:
        b.slab((end - 0.6, end), (0.12 - half, half - 0.12), (style.clearance + 0.1, H - 0.2), Material.RUBBER)
    if style.rear:
        b.slab((0.01 - end, 0.06 - end), (0.25 - half, half - 0.25), (1.0, belt - 0.1), Material.PLASTIC)
        b.pair((-end, 0.1 - end), (0.8 * half, 0.97 * half), (0.9, 1.3), Material.TAIL_LAMP)
        b.pair((-end, 0.1 - end), (0.8 * half, 0.97 * half), (1.3, 1.45), Material.INDICATOR)
        b.slab((-end, 0.05 - end), (-0.26, 0.26), (0.7, 0.81), Material.PLATE)
    else:
        b.slab((-end, 0.6 - end), (0.12 - half, half - 0.12), (style.clearance + 0.1, H - 0.2), Material.RUBBER)


def _family(name: str, style: BusStyle, sizes: Sizes) -> Family:
    return Family(name, ObjectClass.BUS, sizes, partial(draw_bus, name, style))


BUSES: tuple[Family, ...] = (
    _family("city_bus", CITY_BUS, Sizes((12.0, 2.55, 3.15), (0.45, 0.03, 0.12))),
    _family("coach", COACH, Sizes((12.6, 2.55, 3.65), (0.7, 0.03, 0.12))),
    _family("minibus", MINIBUS, Sizes((7.2, 2.2, 2.85), (0.6, 0.12, 0.15))),
    _family("articulated_bus", ARTICULATED, Sizes((10.6, 2.55, 3.15), (0.3, 0.02, 0.1))),
    _family("articulated_bus_rear", ARTICULATED_REAR, Sizes((7.9, 2.55, 3.15), (0.3, 0.02, 0.1))),
)
