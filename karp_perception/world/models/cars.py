"""Cars: one way of building them, and the styles that make sedans, vans and pickups of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from karp_perception.core import ObjectClass
from karp_perception.world.geometry.materials import Material
from karp_perception.world.geometry.shape import FIRST
from karp_perception.world.models.colors import CAR_PAINT, pick
from karp_perception.world.models.family import Family, Size, Sizes
from karp_perception.world.models.model import Model
from karp_perception.world.models.sculptor import Sculptor


@dataclass(frozen=True)
class CarStyle:
    """What sets one kind of car apart; lengths as shares of the car's length, heights of its height.

    Attributes:
        bonnet: from the front to the foot of the windscreen.
        boot: from the rear to the foot of the rear window.
        windscreen, rear_window: how far their tops lie behind or ahead of their feet.
        belt: height of the windows' lower edge. nose: height of the bonnet at the front.
        front_overhang, rear_overhang: from the ends to the axles.
        clearance: m below the sills. wheel: radius, share of the height.
        rear_pillar: m along x of the rearmost pillars.
        panel: whether it has no windows behind the front doors.
        bed: of the open bed of a pickup, 0 for none.
        rails: whether rails run along its roof.
    """

    bonnet: float = 0.26
    boot: float = 0.12
    windscreen: float = 0.13
    rear_window: float = 0.13
    belt: float = 0.62
    nose: float = 0.50
    front_overhang: float = 0.19
    rear_overhang: float = 0.21
    clearance: float = 0.17
    wheel: float = 0.22
    rear_pillar: float = 0.14
    panel: bool = False
    bed: float = 0.0
    rails: bool = False


SEDAN = CarStyle()
HATCHBACK = CarStyle(
    bonnet=0.25,
    boot=0.02,
    windscreen=0.16,
    rear_window=0.10,
    belt=0.61,
    nose=0.50,
    front_overhang=0.20,
    rear_overhang=0.165,
    wheel=0.215,
    rear_pillar=0.28,
)
CITY_CAR = replace(
    HATCHBACK, bonnet=0.22, windscreen=0.17, rear_window=0.06, front_overhang=0.18, rear_overhang=0.15, wheel=0.195
)
ESTATE = CarStyle(boot=0.015, rear_window=0.07, rear_pillar=0.16, rails=True)
SUV = CarStyle(
    bonnet=0.25,
    boot=0.015,
    windscreen=0.12,
    rear_window=0.07,
    belt=0.63,
    nose=0.56,
    clearance=0.22,
    wheel=0.215,
    rear_overhang=0.19,
    rear_pillar=0.22,
    rails=True,
)
MINIVAN = CarStyle(
    bonnet=0.19,
    boot=0.015,
    windscreen=0.19,
    rear_window=0.05,
    belt=0.57,
    nose=0.46,
    wheel=0.19,
    rear_overhang=0.18,
    rear_pillar=0.16,
)
VAN = CarStyle(
    bonnet=0.17,
    boot=0.005,
    windscreen=0.12,
    rear_window=0.02,
    belt=0.55,
    nose=0.44,
    wheel=0.165,
    clearance=0.2,
    front_overhang=0.18,
    rear_overhang=0.2,
    rear_pillar=0.16,
)
PANEL_VAN = replace(VAN, panel=True)
PICKUP = CarStyle(
    bonnet=0.22,
    windscreen=0.1,
    rear_window=0.03,
    belt=0.62,
    nose=0.55,
    clearance=0.25,
    wheel=0.205,
    bed=0.29,
    front_overhang=0.17,
    rear_overhang=0.22,
)
SPORTS_CAR = CarStyle(
    bonnet=0.31, boot=0.1, windscreen=0.17, rear_window=0.2, belt=0.66, nose=0.50, clearance=0.13, wheel=0.255
)


def draw_car(name: str, style: CarStyle, rng: np.random.Generator, size: Size) -> Model:
    """A car of a style in a box of a size (m) that leaves its mirrors out, as annotators do (KITTI, nuScenes)."""
    L, W, H = size
    style = replace(
        style,
        bonnet=style.bonnet + rng.uniform(-0.015, 0.015),
        windscreen=style.windscreen + rng.uniform(-0.02, 0.02),
        rear_window=style.rear_window * rng.uniform(0.8, 1.2),
        belt=style.belt + rng.uniform(-0.02, 0.02),
        nose=style.nose + rng.uniform(-0.03, 0.02),
    )
    radius = style.wheel * H * rng.uniform(0.97, 1.03)
    b = Sculptor()
    front, rear, belt = assemble(b, style, size, radius, rng)
    b.outside()
    cowl = 0.5 * L - style.bonnet * L
    b.pair(
        (cowl - 0.27, cowl - 0.14), (0.5 * W - 0.02, 0.5 * W + 0.11), (belt, belt + 0.13), Material.PAINT, tint=FIRST
    )
    return Model(
        name,
        ObjectClass.CAR,
        size,
        b.fitted(size),
        pick(CAR_PAINT, rng),
        wheelbase=front - rear,
        rear_axle=rear,
        hitch=-0.5 * L - 0.1,
    )


def assemble(
    b: Sculptor, style: CarStyle, size: Size, radius: float, rng: np.random.Generator
) -> tuple[float, float, float]:
    """A car with wheels of a radius, without mirrors; where its front and its rear axle are, and its belt, m."""
    L, W, H = size
    front, rear = L * (0.5 - style.front_overhang), L * (style.rear_overhang - 0.5)
    arch = 2 * radius + 0.05
    belt = max(style.belt * H, arch + 0.12)
    nose = min(max(style.nose * H, arch + 0.02), belt - 0.03)
    _body(b, style, size, front, rear, radius, arch, belt, nose)
    _cabin(b, style, size, belt, rng)
    for x in (front, rear):
        b.axle(x, W - 0.03, radius, 0.13 * W, rim=rng.uniform(0.6, 0.72))
    _lamps(b, style, size, arch, belt, nose)
    return front, rear, belt


def _body(
    b: Sculptor,
    style: CarStyle,
    size: Size,
    front: float,
    rear: float,
    radius: float,
    arch: float,
    belt: float,
    nose: float,
) -> None:
    """Everything below the windows, with gaps around the wheels and below."""
    L, W, _ = size
    half, end, gap, low = 0.5 * W, 0.5 * L - 0.012, radius + 0.06, style.clearance
    cowl, tail = 0.5 * L - style.bonnet * L, -0.5 * L + style.boot * L
    paint = {"tint": FIRST}
    b.slab((rear + gap, front - gap), (-half, half), (low, arch), Material.PAINT, **paint)
    b.slab((0.15 - end, end - 0.15), (0.3 - half, half - 0.3), (low + 0.02, arch), Material.PLASTIC)
    b.prow((front + gap, end), (-half, half), (low + 0.04, nose - 0.02), Material.PAINT, side=0.15 * half, **paint)
    b.prow((rear - gap, -end), (-half, half), (low + 0.08, arch), Material.PAINT, side=0.11 * half, **paint)
    b.prow(
        (cowl - 0.12, end - 0.05),
        (0.012 - half, half - 0.012),
        (arch, belt),
        Material.PAINT,
        top=belt - nose,
        side=0.14 * half,
        **paint,
    )
    if style.bed:
        bed = -0.5 * L + style.bed * L
        b.slab((bed, cowl), (-half, half), (arch, belt), Material.PAINT, taper=(0, 0, 0.03, 0.03), **paint)
        b.slab((-end, bed), (-half, half), (arch - 0.05, arch + 0.02), Material.PAINT, **paint)
        b.pair((-end, bed), (half - 0.07, half), (arch, belt), Material.PAINT, **paint)
        b.slab((-end, 0.06 - end), (-half, half), (arch - 0.05, belt), Material.PAINT, **paint)
        return
    middle = min(tail + 0.3, cowl - 0.5)
    b.slab((middle, cowl), (-half, half), (arch, belt), Material.PAINT, taper=(0, 0, 0.035, 0.035), **paint)
    drop = 0.05 if style.boot > 0.05 else 0.0
    b.prow(
        (middle + 0.02, -end), (-half, half), (arch, belt + 0.02), Material.PAINT, top=drop, side=0.1 * half, **paint
    )


def _cabin(b: Sculptor, style: CarStyle, size: Size, belt: float, rng: np.random.Generator) -> None:
    """Windows that lasers pass, the roof, its pillars, and seats inside."""
    L, W, H = size
    cowl = 0.5 * L - style.bonnet * L
    tail = -0.5 * L + (style.bed * L + 0.03 if style.bed else style.boot * L + 0.02)
    top, ahead, behind = H - 0.07, style.windscreen * L, style.rear_window * L
    lean = min(0.07 * W, 0.3 * (H - belt))
    half = 0.5 * W - 0.05
    paint = {"tint": FIRST}
    b.slab((tail, cowl), (-half, half), (belt, top), Material.GLASS, taper=(behind, ahead, lean, lean))
    # The dashboard and the parcel shelf, dark, close the cabin below.
    b.slab((tail + 0.06, cowl - 0.06), (0.06 - half, half - 0.06), (belt - 0.02, belt + 0.015), Material.PLASTIC)
    roof = (tail + behind - 0.03, cowl - ahead + 0.03)
    edge = half - lean + 0.02
    b.slab(roof, (-edge, edge), (top - 0.01, H), Material.PAINT, taper=(0.12, 0.12, 0.12, 0.12), **paint)
    if style.rails and rng.random() < 0.6:
        b.pair((roof[0] + 0.2, roof[1] - 0.3), (edge - 0.16, edge - 0.12), (H - 0.04, H), Material.METAL)
    door = 0.4 * tail + 0.6 * cowl if style.panel else 0.52 * tail + 0.48 * cowl
    for side in (1, -1):
        foot, head = side * (half - 0.012), side * (half - lean - 0.012)
        b.post((cowl - 0.05, foot, belt), (cowl - ahead - 0.02, head, top), (0.09, 0.06), Material.PAINT, **paint)
        b.post((door, foot, belt), (door, head, top), (0.1, 0.06), Material.PLASTIC)
        c = style.rear_pillar
        b.post((tail + 0.5 * c, foot, belt), (tail + behind + 0.5 * c, head, top), (c, 0.06), Material.PAINT, **paint)
    if style.panel:
        b.slab(
            (tail - 0.005, door),
            (-half - 0.03, half + 0.03),
            (belt, top),
            Material.PAINT,
            taper=(behind, 0, lean, lean),
            **paint,
        )
    seat = min(cowl - 0.55 * ahead - 0.75, door + 0.25)
    b.pair(
        (seat - 0.16, seat),
        (0.14 * W, 0.36 * W),
        (belt - 0.15, belt + 0.55 * (top - belt)),
        Material.SEAT,
        taper=(-0.08, 0.13, 0.06, 0.06),
    )
    rear_seat = max(tail + 0.35, seat - 0.95)
    if not style.panel and seat - rear_seat > 0.6:
        b.slab(
            (rear_seat - 0.15, rear_seat), (-0.36 * W, 0.36 * W), (belt - 0.1, belt + 0.3 * (top - belt)), Material.SEAT
        )


def _lamps(b: Sculptor, style: CarStyle, size: Size, arch: float, belt: float, nose: float) -> None:
    """Lamps, indicators, number plates and the grille, which make its ends."""
    L, W, _ = size
    half, end = 0.5 * W, 0.5 * L
    corner = 0.84 * half
    b.pair(
        (end - 0.2, end - 0.006),
        (0.5 * half, corner),
        (nose - 0.17, nose - 0.04),
        Material.HEAD_LAMP,
    )
    b.pair((end - 0.26, end - 0.05), (corner, corner + 0.06 * half), (nose - 0.15, nose - 0.07), Material.INDICATOR)
    b.slab((end - 0.1, end - 0.004), (-0.45 * half, 0.45 * half), (nose - 0.2, nose - 0.06), Material.PLASTIC)
    b.slab((end - 0.05, end), (-0.26, 0.26), (nose - 0.34, nose - 0.23), Material.PLATE)
    tall = style.boot < 0.05 and not style.bed
    low, high = (belt - 0.28, belt + 0.02) if tall else (belt - 0.2, belt - 0.05)
    inner = 0.66 * half if tall or style.bed else 0.5 * half
    b.pair((-end + 0.006, 0.12 - end), (inner, 0.89 * half), (low, high), Material.TAIL_LAMP)
    b.pair((-end + 0.004, 0.1 - end), (inner + 0.02, 0.85 * half), (low - 0.07, low), Material.INDICATOR)
    plate = arch - 0.02 if style.bed else 0.5 * (arch + belt)
    b.slab((-end, 0.05 - end), (-0.26, 0.26), (plate - 0.055, plate + 0.055), Material.PLATE)


# Makers' data sheets of common cars of each kind; see the catalogue for the mix and how it compares with data sets.
_STYLES: dict[str, tuple[CarStyle, Sizes]] = {
    "sedan": (SEDAN, Sizes((4.68, 1.82, 1.45), (0.24, 0.05, 0.03))),
    "hatchback": (HATCHBACK, Sizes((4.12, 1.75, 1.48), (0.18, 0.05, 0.04))),
    "estate": (ESTATE, Sizes((4.62, 1.80, 1.49), (0.18, 0.05, 0.04))),
    "suv": (SUV, Sizes((4.52, 1.87, 1.69), (0.24, 0.07, 0.07))),
    "van": (VAN, Sizes((4.95, 1.95, 2.02), (0.35, 0.06, 0.17))),
    "panel_van": (PANEL_VAN, Sizes((5.35, 1.98, 2.25), (0.5, 0.06, 0.25), 0.7)),
    "minivan": (MINIVAN, Sizes((4.58, 1.84, 1.71), (0.24, 0.05, 0.07))),
    "pickup": (PICKUP, Sizes((5.35, 1.92, 1.82), (0.28, 0.08, 0.07))),
    "city_car": (CITY_CAR, Sizes((3.58, 1.63, 1.50), (0.16, 0.04, 0.04))),
    "sports_car": (SPORTS_CAR, Sizes((4.38, 1.83, 1.29), (0.16, 0.05, 0.04))),
}

CARS: tuple[Family, ...] = tuple(
    Family(name, ObjectClass.CAR, sizes, partial(draw_car, name, style)) for name, (style, sizes) in _STYLES.items()
)
