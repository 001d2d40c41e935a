"""Traffic lights of a junction: stages in turn, each green followed by yellow and by red for all."""

from __future__ import annotations

from collections.abc import Sequence

from karp_perception.core import LightColor
from karp_perception.world.layout import Signal

YELLOW_S = 3.0  # as German RiLSA asks for at 50 km/h
ALL_RED_S = 2.0
_CLEARANCE_S = 5.0  # for people to leave a crossing before its cross traffic starts


def signal(number: int, stages: Sequence[float], green: int, offset: float, on_foot: bool = False) -> Signal:
    """A light that is green in one stage.

    Args:
        number: its own.
        stages: s of green of each stage of the cycle, in order.
        green: the stage in which it is green.
        offset: s into the cycle at time 0; the same for all lights of a junction.
        on_foot: it ends early and without yellow.
    """
    each = [g + YELLOW_S + ALL_RED_S for g in stages]
    before, length = sum(each[:green]), stages[green]
    shown = max(length - _CLEARANCE_S, 4.0) if on_foot else length
    yellow = 0.0 if on_foot else YELLOW_S
    after = sum(each) - before - shown - yellow
    phases = [
        (LightColor.RED, before),
        (LightColor.GREEN, shown),
        (LightColor.YELLOW, yellow),
        (LightColor.RED, after),
    ]
    return Signal(number, tuple((color, s) for color, s in phases if s > 0.0), offset)
