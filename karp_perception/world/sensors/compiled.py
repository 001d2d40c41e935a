"""How code that runs for each pixel is compiled."""

from __future__ import annotations

from typing import Any

PER_ROW: dict[str, Any] = {"cache": True, "nogil": True, "error_model": "numpy", "_nrt": False}
"""Options of numba.njit for loops over pixels that allocate nothing.

Without `_nrt` numba counts the references to every array of a tuple that is passed on, atomically, several times a
pixel: an image takes four times as long, and threads wait for each other's counters. numpy's error model divides
without asking first whether the divisor is zero.
"""

PER_PIXEL: dict[str, Any] = {"inline": "always", **PER_ROW}
"""Options of what such loops call with tuples: handing those over would cost more than most of these functions do."""
