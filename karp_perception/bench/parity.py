"""Every backend in every precision beside the reference: how far apart they are, and which are refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from karp_perception.bench.engines import engine_names, open_engine
from karp_perception.detection.detector import DetectorSettings
from karp_perception.detection.runtime.backend import BACKENDS
from karp_perception.detection.runtime.graph import PRECISIONS
from karp_perception.detection.runtime.parity import QUANTITIES

if TYPE_CHECKING:
    from rich.table import Table

_SHORT = {"probability": "p", "center_m": "m", "log_size": "size", "yaw_rad": "yaw", "velocity_mps": "m/s"}


def parity_rows(
    model: str,
    backends: Sequence[str] = (),
    precisions: Sequence[str] = (),
    progress: Callable[[float, str], None] = lambda share, what: None,
) -> list[dict[str, Any]]:
    """What the comparison with the references found of each engine.

    Args:
        model: shipped name or file.
        backends, precisions: None named: all there are.
        progress: called with the share that is done, and what is done next.

    Returns a row for each: `name`, and `parity` (see `runtime.parity.Parity`; None for the reference itself) or
    `unavailable`: why it cannot be used here, or by how much it is wrong.

    Raises ConfigurationError for a model or a backend that does not exist.
    """
    names = engine_names(backends or BACKENDS, precisions or PRECISIONS, BACKENDS)
    rows = []
    for number, name in enumerate(names):
        progress(number / len(names), f"comparing {name}")
        engine = open_engine(name, DetectorSettings(model))
        row: dict[str, Any] = {"name": str(name), "parity": engine.about.get("parity")}
        rows.append({"name": str(name), "unavailable": engine.unavailable} if engine.detector is None else row)
    progress(1.0, "done")
    return rows


def parity_tables(rows: Sequence[Mapping[str, Any]]) -> list[Table]:
    """A table of those that were compared, and one of the others."""
    from rich.table import Column, Table

    columns = (Column(_SHORT.get(name, "variance"), justify="right") for name in QUANTITIES)
    found = Table("engine", *columns, "unmatched", title="largest difference of 95 % of the queries (of all)")
    missing = Table("engine", Column("why", overflow="fold"), title="refused, or not to be had here")
    for row in rows:
        if "unavailable" in row:
            missing.add_row(row["name"], row["unavailable"])
            continue
        parity = row["parity"]
        if parity is None:
            found.add_row(row["name"], *("reference" if name == QUANTITIES[0] else "" for name in QUANTITIES), "")
            continue
        values = (f"{parity['usual'][name]:.2g} ({parity['worst'][name]:.2g})" for name in QUANTITIES)
        found.add_row(row["name"], *values, f"{parity['unmatched']} of {parity['queries']}")
    return [table for table in (found, missing) if table.row_count]
