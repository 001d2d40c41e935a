"""`report.html` and `report.md`: what happened in each scenario of a suite, with a drawing."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from karp_perception.records import atomic_file

_KINDS = {
    "conflict": "Conflicts: the right answer is to slow down, stop or keep clear",
    "clear": "Clear: hard braking is wrong",
    "fault": "Faults: sensors fail on the way",
    "random": "Random drives",
}
_STYLE = """
:root { color-scheme: light dark; --ok: #2eb66a; --bad: #de3a36; --warn: #e8a428; --line: #8884; }
body { font: 15px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 1160px; padding: 0 1em; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .25em .6em; border-bottom: 1px solid var(--line); vertical-align: top; }
td.n, th.n { text-align: right; }
img { width: 100%; height: auto; border-radius: 6px; }
.ok { color: var(--ok); } .bad { color: var(--bad); } .warn { color: var(--warn); }
details { margin: .4em 0 1em; } summary { cursor: pointer; }
.big { font-size: 1.6em; margin-right: 1.2em; } small { opacity: .7; }
"""


def write_report(out: Path, summary: Mapping[str, Any]) -> None:
    """Write `report.html` and `report.md` beside a summary whose drawings lie in `cases/`."""
    with atomic_file(out / "report.html") as file:
        file.write(_html(summary))
    with atomic_file(out / "report.md") as file:
        file.write(_markdown(summary))


def _grouped(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, list[Mapping[str, Any]]]]:
    """Kind -> scenario -> rows."""
    found: dict[str, dict[str, list[Mapping[str, Any]]]] = {kind: {} for kind in _KINDS}
    for row in rows:
        found[row["kind"]].setdefault(row["scenario"], []).append(row)
    return {kind: scenarios for kind, scenarios in found.items() if scenarios}


def _what(row: Mapping[str, Any]) -> str:
    """What happened, in a few words."""
    told = []
    if row["contact"]:
        place = f"{row['contact_side']} contact with {row['contact_with']} at {row['contact_speed_kmh']:.0f} km/h"
        told.append(place if row["avoidable"] else place + " (nobody could avoid it)")
    elif row["run_into"]:
        told.append("was run into")
    if row["needless_braking"]:
        told.append(f"braked needlessly with {row['max_deceleration']:.1f} m/s²: {row['braking_because']}")
    told += [f"{c['name']}: {c['found']}" for c in row["checks"] if not c["passed"] and c["name"] != "no_contact"]
    return "; ".join(told) or "as it should be"


def _number(value: float | None, digits: int = 1) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _html(summary: Mapping[str, Any]) -> str:
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>",
        f"<title>karp drive</title><style>{_STYLE}</style>",
        f"<h1>{summary['scenarios']} scenarios, {summary['cases']} cases, perception: {summary['perception']}</h1><p>",
    ]
    figures = (
        ("score", f"{100 * summary['score']:.1f} %"),
        ("cases passed", f"{summary['passed']} of {summary['cases']}"),
        ("contacts", str(summary["contacts"])),
        ("needless hard braking", str(summary["needless_hard_braking"])),
    )
    parts += [f"<span class=big>{value} <small>{name}</small></span>" for name, value in figures]
    parts.append("</p>")
    for kind, scenarios in _grouped(summary["rows"]).items():
        parts.append(f"<h2>{_KINDS[kind]} <small>{100 * summary['score_by_kind'][kind]:.1f} %</small></h2>")
        for name, rows in scenarios.items():
            good = sum(row["passed"] for row in rows)
            mark = "ok" if good == len(rows) else "bad" if good == 0 else "warn"
            head = f"<b>{html.escape(name)}</b> <span class={mark}>{good} of {len(rows)}</span>"
            parts.append(f"<details><summary>{head} {html.escape(rows[0]['sentence'])}</summary>")
            parts += [_case(row) for row in rows]
            parts.append("</details>")
    return "\n".join(parts) + "\n</html>\n"


def _case(row: Mapping[str, Any]) -> str:
    mark = "ok" if row["passed"] else "bad"
    checks = "".join(
        f"<tr><td class={'ok' if c['passed'] else 'bad'}>{'holds' if c['passed'] else 'fails'}"
        f"<td>{html.escape(c['name'])}<td>{html.escape(c['found'])}"
        for c in row["checks"]
    )
    numbers = (
        f"{row['start_kmh']:.0f} to {row['end_kmh']:.0f} km/h, least gap {_number(row['min_gap_m'], 2)} m to "
        f"{html.escape(str(row['min_gap_to']))}, hardest braking {_number(row['max_deceleration'])} m/s², "
        f"jerk {_number(row['max_jerk'])} m/s³, {row['distance_m']:.0f} m in {row['duration_s']:.1f} s"
    )
    picture = f"cases/{html.escape(row['case'].replace(':', '-'))}.png"
    return (
        f"<h4><span class={mark}>{'passed' if row['passed'] else 'failed'}</span> {html.escape(row['case'])}</h4>"
        f"<p>{html.escape(row['sentence'])} <b>{html.escape(_what(row))}</b><br><small>{numbers}</small></p>"
        f"<img loading=lazy src='{picture}' alt='the drive from above'><table>{checks}</table>"
    )


def _markdown(summary: Mapping[str, Any]) -> str:
    lines = [
        f"# {summary['scenarios']} scenarios, {summary['cases']} cases, perception: {summary['perception']}",
        "",
        f"Score {100 * summary['score']:.1f} %, {summary['passed']} of {summary['cases']} cases passed, "
        f"{summary['contacts']} contacts ({summary['contacts_unavoidable']} that nobody could avoid), "
        f"{summary['needless_hard_braking']} times needless hard braking.",
    ]
    for kind, scenarios in _grouped(summary["rows"]).items():
        lines += ["", f"## {_KINDS[kind]} ({100 * summary['score_by_kind'][kind]:.1f} %)", ""]
        lines += [
            "| case | passed | contact km/h | least gap m | braking m/s² | jerk m/s³ | what happened |",
            "|---|---|---|---|---|---|---|",
        ]
        for rows in scenarios.values():
            for row in rows:
                cells = (
                    row["case"],
                    "yes" if row["passed"] else "**no**",
                    _number(row["contact_speed_kmh"], 0),
                    _number(row["min_gap_m"], 2),
                    _number(row["max_deceleration"]),
                    _number(row["max_jerk"]),
                    _what(row).replace("|", "/"),
                )
                lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
