"""How much ground things take that draw their own size."""

from __future__ import annotations

from functools import lru_cache

EXAMPLES = 96
"""Different examples of a family in layouts: few, so that they are drawn once and kept."""
SIZED_EXAMPLES = 16
"""The same of what the place gives a size."""

_STEMS = {"tree": 1.0, "young_tree": 0.6, "lamp_post": 0.5, "traffic_light": 0.5, "sign": 0.6, "pole": 0.4}
"""m, across the foot of what is wider above."""


@lru_cache(maxsize=8192)
def footprint(family: str, seed: int) -> tuple[float, float]:
    """Length and width (m) of the ground that the example of a family with a seed stands on."""
    if family in _STEMS:
        return _STEMS[family], _STEMS[family]
    from karp_perception.world.models.catalogue import draw

    return draw(family, seed).size[:2]
