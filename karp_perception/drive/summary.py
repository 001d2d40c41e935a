"""What came of a suite, in figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from karp_perception.drive.cases import DriveOptions
from karp_perception.evaluation import carla_score, nuplan_score
from karp_perception.evaluation.nuplan_score import NuplanScore

SCORES = ("score", "nuplan_score", "carla_score")
"""Of a row and of a summary, 0 to 1."""

Row = Mapping[str, Any]


def summarised(rows: Sequence[Row], options: DriveOptions) -> dict[str, Any]:
    """The summary of one planner's drives: counts, scores, and a row a case.

    Scores are means over scenarios (not cases: a grid of thirty counts once) of their cases' scores, 0 to 1.
    """
    kinds = sorted({row["kind"] for row in rows})
    by_kind = {kind: [row for row in rows if row["kind"] == kind] for kind in kinds}
    contacts = [row for row in rows if row["contact"]]
    reactions = [row["reaction_s"] for row in rows if row["reaction_s"] is not None]
    latency = options.latency
    return {
        "planner": options.planner,
        "perception": options.perception,
        "latency_ms": "measured" if latency is None else 1e3 * latency,
        "took_ms": _took(rows),
        "seed": options.seed,
        "scenarios": len({row["scenario"] for row in rows}),
        "cases": len(rows),
        "passed": sum(row["passed"] for row in rows),
        "contacts": len(contacts),
        "contacts_unavoidable": sum(not row["avoidable"] for row in contacts),
        "mean_contact_speed_kmh": _mean(contacts, lambda row: row["contact_speed_kmh"]) if contacts else None,
        "run_into": sum(row["run_into"] for row in rows),
        "needless_hard_braking": sum(row["needless_braking"] for row in rows),
        "comfortable": sum(row["comfortable"] for row in rows),
        "median_reaction_s": round(float(np.median(reactions)), 3) if reactions else None,
        **{name: _mean(rows, lambda row, name=name: row[name]) for name in SCORES},
        **{
            f"{name}_by_kind": {kind: _mean(of, lambda row, name=name: row[name]) for kind, of in by_kind.items()}
            for name in SCORES
        },
        "nuplan": {
            "version": nuplan_score.VERSION,
            **{
                name: _mean(rows, lambda row, name=name: row["nuplan"][name])
                for name in (*NuplanScore.GATES, *NuplanScore.WEIGHTED)
            },
        },
        "carla": {
            "version": carla_score.VERSION,
            **{name: _mean(rows, lambda row, name=name: row["carla"][name]) for name in ("completion", "penalty")},
        },
        "rows": [{key: value for key, value in row.items() if key != "digest"} for row in rows],
    }


def _took(rows: Sequence[Row]) -> dict[str, float] | None:
    """Medians over drives of the percentiles of what the pipeline took for a frame, ms."""
    known = [row["took_ms"] for row in rows if row["took_ms"]]
    return {q: round(float(np.median([of[q] for of in known])), 3) for q in known[0]} if known else None


def compared(summary: Mapping[str, Any]) -> dict[str, Any]:
    """A planner's line in the comparison of several."""
    names = ("planner", *SCORES, "passed", "cases", "contacts", "needless_hard_braking", "comfortable")
    terms = ("no_at_fault_collision", "progress", "ttc", "speed_limit", "comfort")
    return {name: summary[name] for name in names} | {name: summary["nuplan"][name] for name in terms}


def _mean(rows: Sequence[Row], value: Callable[..., float]) -> float:
    """Over scenarios of the mean over their cases."""
    found: dict[str, list[float]] = {}
    for row in rows:
        found.setdefault(row["scenario"], []).append(float(value(row)))
    return round(float(np.mean([np.mean(values) for values in found.values()])), 4) if found else 0.0
