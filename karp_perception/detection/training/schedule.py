"""How fast a training learns at each step."""

from __future__ import annotations

import math


def cosine_rate(step: int, steps: int, highest: float, last_share: float, warm_up: int) -> float:
    """Learning rate of a step: rising in the warm-up, then a half cosine (Loshchilov and Hutter, 2017).

    Args:
        step, steps: which of how many.
        highest: reached after `warm_up` steps.
        last_share: of it, which is left at the end and after it.
    """
    if step < warm_up:
        return highest * (step + 1) / warm_up
    share = min(1.0, (step - warm_up) / max(1, steps - warm_up))
    return highest * (last_share + (1 - last_share) * 0.5 * (1 + math.cos(math.pi * share)))
