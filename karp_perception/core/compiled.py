"""numba's `njit` with a cache that knows when code has changed.

numba looks at the file of a function alone: compiled code that calls functions of other files would stay what it was
when those change. Here the cache is a folder for each state of all files with compiled code, in the user's cache.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numba

PER_ROW: dict[str, Any] = {"cache": True, "nogil": True, "error_model": "numpy", "_nrt": False}
"""Options of loops over pixels or rays that allocate nothing.

Without `_nrt` numba counts the references to every array of a tuple that is passed on, atomically, several times a
pixel: an image takes four times as long, and threads wait for each other's counters. numpy's error model divides
without asking first whether the divisor is zero.
"""

PER_PIXEL: dict[str, Any] = {"inline": "always", **PER_ROW}
"""Options of what such loops call with tuples: handing those over would cost more than most of these functions do."""

_KEPT = 4  # folders of other states of the code: of branches, versions, environments


def njit(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """`numba.njit(**options)` whose cache lies in the `cache_folder` of the function's part of the package."""

    def compiled(function: Callable[..., Any]) -> Any:
        before = numba.config.CACHE_DIR
        numba.config.CACHE_DIR = before or str(cache_folder(function.__module__.split(".")[1]))
        try:
            return numba.njit(**options)(function)
        finally:
            numba.config.CACHE_DIR = before

    return compiled


@lru_cache
def cache_folder(part: str) -> Path:
    """Where compiled code of a part of the package ("world", "planning") is kept, in the present state of its files.

    Below `$XDG_CACHE_HOME` or ~/.cache; `NUMBA_CACHE_DIR` goes before it. Compiled code calls none of other parts, so
    that a change to one leaves the others' as it is. Folders of the oldest other states are removed.
    """
    package = Path(__file__).parents[1]
    digest = hashlib.sha256(numba.__version__.encode())
    for file in sorted((package / part).rglob("*.py")):
        content = file.read_bytes()
        if b"njit" in content:
            digest.update(str(file.relative_to(package)).encode() + content)
    home = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    root = home / "karp_perception" / "compiled" / part
    folder = root / digest.hexdigest()[:16]
    if not folder.is_dir() and root.is_dir():
        others = sorted((f for f in root.iterdir() if f.is_dir()), key=lambda f: f.stat().st_mtime, reverse=True)
        for old in others[_KEPT:]:
            shutil.rmtree(old, ignore_errors=True)
    return folder
