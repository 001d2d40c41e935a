"""Checks on arrays where core types are built, so that everything behind them can rely on shapes and finite numbers."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from karp_perception.core.errors import InvalidInput


def as_array(
    name: str,
    value: ArrayLike,
    shape: tuple[int | None, ...],
    dtype: DTypeLike = np.float64,
    *,
    finite: bool = True,
) -> np.ndarray:
    """`value` as a read-only array of `dtype` with `shape` (None: any length), or InvalidInput naming `name`.

    The array is a view where the input already has the type; the caller must not write to it afterwards.
    """
    try:
        array = np.asarray(value, dtype=dtype)
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidInput(
            name, f"numbers of shape {_shape_text(shape)}", f"{type(value).__name__} ({error})"
        ) from None
    if array.ndim != len(shape) or any(w is not None and w != s for w, s in zip(shape, array.shape, strict=True)):
        raise InvalidInput(name, f"shape {_shape_text(shape)}", f"shape {array.shape}")
    if finite and array.dtype.kind == "f" and not np.isfinite(array).all():
        bad = int(np.size(array) - np.isfinite(array).sum())
        raise InvalidInput(name, "finite numbers", f"{bad} of {array.size} NaN or infinite")
    view = array.view()
    view.flags.writeable = False
    return view


def as_stamp(name: str, value: int) -> int:
    """A time in integer nanoseconds since the epoch, not negative and within what ROS can say (31 bits of seconds)."""
    try:
        stamp = int(value)
    except (TypeError, ValueError, OverflowError):
        raise InvalidInput(name, "integer nanoseconds", repr(value)) from None
    if not 0 <= stamp < (1 << 31) * 1_000_000_000:
        raise InvalidInput(name, "a time from 0 to 2^31 s, in nanoseconds", stamp, reason="absurd_stamp")
    return stamp


def as_pose(name: str, value: ArrayLike) -> np.ndarray:
    """A rigid transform (4, 4): rotation orthonormal and right-handed within 1e-3, last row 0 0 0 1."""
    T = as_array(name, value, (4, 4))
    R = T[:3, :3]
    if not (np.allclose(R @ R.T, np.eye(3), atol=1e-3) and np.linalg.det(R) > 0):
        raise InvalidInput(name, "a rotation matrix (orthonormal, determinant +1)", R.round(4).tolist())
    if not np.allclose(T[3], (0, 0, 0, 1)):
        raise InvalidInput(name, "a last row of 0 0 0 1", T[3].tolist())
    return T


def _shape_text(shape: tuple[int | None, ...]) -> str:
    return "(" + ", ".join("N" if s is None else str(s) for s in shape) + ("," if len(shape) == 1 else "") + ")"
