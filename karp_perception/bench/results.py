"""Results that travel with a model: one file for all machines that it was measured on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from karp_perception.core import ConfigurationError
from karp_perception.records import write_json


def machine_name(content: Mapping[str, Any]) -> str:
    """The GPU's name, or where there is none the CPU's, and how many threads."""
    machine, threads = content["machine"], content["options"]["threads"] or content["machine"]["cores"]
    if machine["gpus"]:
        return str(machine["gpus"][0]["name"])
    return f"{machine['cpu']}, {threads} thread{'s' if threads > 1 else ''}"


def keep_result(content: Mapping[str, Any], file: Path) -> None:
    """Put a measurement into a file of results by machine, in the place of an earlier one of the same machine.

    Raises ConfigurationError for a file that is something else.
    """
    results: dict[str, Any] = {}
    if file.exists():
        try:
            results = json.loads(file.read_text())
            right = all(isinstance(each, dict) and "schema" in each for each in results.values())
        except (OSError, ValueError, AttributeError):
            right = False
        if not right:
            raise ConfigurationError(f"{file}: expected results of karp bench by machine; name another file")
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file, {**results, machine_name(content): content})
