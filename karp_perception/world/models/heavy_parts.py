"""What lorries, buses and machines have in common: cabs, frames, lamps at the rear."""

from __future__ import annotations

from karp_perception.world.geometry.materials import Material
from karp_perception.world.geometry.shape import FIRST
from karp_perception.world.models.sculptor import Sculptor, Span

TYRE_RADIUS = 0.5
"""m, of a 315/80 R22.5 truck tyre."""


def cab(b: Sculptor, x: Span, width: float, z: Span, *, belt: float, sleeper: float = 0.0, rake: float = 0.12) -> None:
    """A lorry's cab from its rear x[0] to its front x[1]: windows above `belt` (share of its height), seats inside.

    `sleeper`: m behind the doors without windows.
    """
    half, sill = 0.5 * width, z[0] + belt * (z[1] - z[0])
    top, back = z[1] - 0.1, x[0] + max(sleeper, 0.06)
    lean = 0.03 * width
    paint = {"tint": FIRST}
    b.prow((x[0], x[1] - 0.02), (-half, half), (z[0], sill), Material.PAINT, side=0.05 * half, **paint)
    b.slab((back, x[1] - 0.04), (0.03 - half, half - 0.03), (sill, top), Material.GLASS, taper=(0, rake, lean, lean))
    b.slab((x[0], back), (-half, half), (sill, top), Material.PAINT, taper=(0, 0, lean, lean), **paint)
    b.slab(
        (x[0], x[1] - rake - 0.02),
        (lean - half, half - lean),
        (top, z[1]),
        Material.PAINT,
        taper=(0.05, 0.15, 0.1, 0.1),
        **paint,
    )
    for side in (1, -1):
        foot, head = side * (half - 0.05), side * (half - 0.05 - lean)
        b.post((x[1] - 0.09, foot, sill), (x[1] - 0.09 - rake, head, top), (0.1, 0.08), Material.PAINT, **paint)
    seat = back + 0.45 * (x[1] - back)
    b.pair((seat - 0.2, seat), (0.12 * width, 0.36 * width), (sill - 0.1, sill + 0.62 * (top - sill)), Material.SEAT)
    b.slab(
        (x[1] - 0.03, x[1] - 0.008),
        (-0.62 * half, 0.62 * half),
        (z[0] + 0.3 * (sill - z[0]), sill - 0.1),
        Material.PLASTIC,
    )
    b.pair((x[1] - 0.1, x[1]), (0.66 * half, 0.92 * half), (z[0] + 0.12, z[0] + 0.3), Material.HEAD_LAMP)
    b.pair((x[1] - 0.12, x[1] - 0.03), (0.93 * half, 0.99 * half), (z[0] + 0.12, z[0] + 0.3), Material.INDICATOR)
    b.slab((x[1] - 0.05, x[1]), (-0.26, 0.26), (z[0] + 0.03, z[0] + 0.14), Material.PLATE)


def mirrors(b: Sculptor, x: float, width: float, z: Span) -> None:
    """Mirrors of lorries and buses, outside the box."""
    b.outside()
    b.pair((x - 0.08, x + 0.08), (0.5 * width - 0.01, 0.5 * width + 0.22), z, Material.PLASTIC)


def frame(b: Sculptor, x: Span, z: Span, width: float = 0.9) -> None:
    """The chassis, dark and narrow."""
    b.slab(x, (-0.5 * width, 0.5 * width), z, Material.PLASTIC)


def rear_end(b: Sculptor, x: float, width: float, z: float) -> None:
    """Lamps, indicators, plate and the bumper below at the rear end x."""
    half = 0.5 * width
    b.slab((x + 0.02, x + 0.12), (0.02 - half, half - 0.02), (z - 0.28, z - 0.12), Material.METAL)
    b.pair((x, x + 0.08), (half - 0.45, half - 0.16), (z - 0.1, z + 0.06), Material.TAIL_LAMP)
    b.pair((x, x + 0.08), (half - 0.16, half - 0.03), (z - 0.1, z + 0.06), Material.INDICATOR)
    b.slab((x, x + 0.05), (-0.26, 0.26), (z - 0.1, z + 0.01), Material.PLATE)
