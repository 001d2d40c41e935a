"""losses.jsonl: what was lost at which step."""

from __future__ import annotations

import json
from pathlib import Path


def lines_before(file: Path, first: int) -> list[str]:
    """Lines of steps before `first`: whole ones, and none where there is no file."""
    kept = []
    for line in file.read_text(errors="replace").splitlines() if first and file.exists() else ():
        try:
            before = json.loads(line)["step"] < first
        except (ValueError, KeyError, TypeError):
            continue
        if before:
            kept.append(line)
    return kept
