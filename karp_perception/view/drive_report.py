"""`report.html` and `report.md`: what happened in each scenario of a suite, with drawings, and clips of failures."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
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
img { width: 100%; height: auto; border-radius: 6px; } video { width: 640px; max-width: 100%; border-radius: 6px; }
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
    head = f"{summary['scenarios']} scenarios, {summary['cases']} cases, {_how(summary)}"
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>",
        f"<title>karp drive</title><style>{_STYLE}</style><h1>{html.escape(head)}</h1><p>",
    ]
    figures = (
        ("score", _share(summary["score"])),
        ("nuPlan", _share(summary["nuplan_score"])),
        ("CARLA", _share(summary["carla_score"])),
        ("cases passed", f"{summary['passed']} of {summary['cases']}"),
        ("contacts", str(summary["contacts"])),
        ("needless hard braking", str(summary["needless_hard_braking"])),
    )
    parts += [f"<span class=big>{value} <small>{name}</small></span>" for name, value in figures]
    parts.append("</p>")
    for title, header, lines in _tables(summary):
        parts.append(f"<h2>{html.escape(title)}</h2>" + _html_table(header, lines))
    failed = [row for row in summary["rows"] if not row["passed"]]
    if failed:
        parts.append(f"<h2>Failures <small>{len(failed)}</small></h2>")
        parts += [_case(row, summary) for row in failed]
    for kind, scenarios in _grouped(summary["rows"]).items():
        parts.append(f"<h2>{_KINDS[kind]} <small>{_share(summary['score_by_kind'][kind])}</small></h2>")
        for name, rows in scenarios.items():
            good = sum(row["passed"] for row in rows)
            mark = "ok" if good == len(rows) else "bad" if good == 0 else "warn"
            told = f"<b>{html.escape(name)}</b> <span class={mark}>{good} of {len(rows)}</span>"
            parts.append(f"<details><summary>{told} {html.escape(rows[0]['sentence'])}</summary>")
            parts += [
                _case(row, summary)
                if row["passed"]
                else f"<p><a href='#{_anchor(row)}'>{html.escape(row['case'])}</a></p>"
                for row in rows
            ]
            parts.append("</details>")
    return "\n".join(parts) + "\n</html>\n"


def _how(summary: Mapping[str, Any]) -> str:
    latency = summary["latency_ms"]
    late = "latency as measured" if latency == "measured" else f"{latency:g} ms of latency"
    return f"planner: {summary['planner']}, perception: {summary['perception']}, {late}"


def _tables(summary: Mapping[str, Any]) -> list[tuple[str, list[str], list[list[str]]]]:
    """Title, head and lines of the tables of both reports."""
    found = []
    if len(summary["comparison"]) > 1:
        names = [*list(summary["comparison"][0])[1:]]
        lines = [[line["planner"], *(_cell(line[name]) for name in names)] for line in summary["comparison"]]
        found.append(("Compared with", ["planner", *(_HEADS.get(name, name) for name in names)], lines))
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for row in summary["rows"]:
        groups.setdefault(row["group"], []).append(row)
    lines = []
    for group, rows in sorted(groups.items()):
        count = [
            sum(bool(row[name]) for row in rows) for name in ("passed", "contact", "needless_braking", "comfortable")
        ]
        scores = [_share(_mean(row[name] for row in rows)) for name in ("score", "nuplan_score", "carla_score")]
        reactions = [row["reaction_s"] for row in rows if row["reaction_s"] is not None]
        lines.append(
            [group, str(len(rows)), *map(str, count), *scores, f"{_mean(reactions):.2f}" if reactions else "–"]
        )
    head = ["group", "cases", "passed", "contacts", "needless braking", "comfortable", "score", "nuPlan", "CARLA",
            "reaction s"]  # fmt: skip
    found.append(("By group", head, lines))
    terms = list(summary["rows"][0]["nuplan"])
    lines = [
        [
            kind,
            *(_share(_mean(row["nuplan"][term] for row in summary["rows"] if row["kind"] == kind)) for term in terms),
        ]
        for kind in _grouped(summary["rows"])
    ]
    title = f"Terms of nuPlan's score ({summary['nuplan']['version']}), means over cases"
    found.append((title, ["kind", *(_HEADS.get(term, term) for term in terms)], lines))
    return found


_HEADS = {
    "nuplan_score": "nuPlan",
    "carla_score": "CARLA",
    "no_at_fault_collision": "no fault",
    "drivable_area": "drivable",
    "driving_direction": "direction",
    "making_progress": "gets on",
    "ttc": "TTC",
    "speed_limit": "limit",
    "needless_hard_braking": "needless braking",
}


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return sum(found) / max(len(found), 1)


def _share(value: float) -> str:
    return f"{100 * value:.1f} %"


def _cell(value: Any) -> str:
    return f"{100 * value:.1f} %" if isinstance(value, float) else str(value)


def _html_table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    top = "".join(f"<th{' class=n' if k else ''}>{html.escape(name)}" for k, name in enumerate(head))
    body = "".join(
        "<tr>" + "".join(f"<td{' class=n' if k else ''}>{html.escape(cell)}" for k, cell in enumerate(line))
        for line in lines
    )
    return f"<table><tr>{top}{body}</table>"


def _anchor(row: Mapping[str, Any]) -> str:
    return html.escape(row["case"].replace(":", "-").replace(",", "_"))


def _case(row: Mapping[str, Any], summary: Mapping[str, Any]) -> str:
    mark = "ok" if row["passed"] else "bad"
    checks = "".join(
        f"<tr><td class={'ok' if c['passed'] else 'bad'}>{'holds' if c['passed'] else 'fails'}"
        f"<td>{html.escape(c['name'])}<td>{html.escape(c['found'])}"
        for c in row["checks"]
    )
    reaction = "" if row["conflict_s"] is None else f", brakes {_number(row['reaction_s'])} s after the conflict began"
    numbers = (
        f"{row['start_kmh']:.0f} to {row['end_kmh']:.0f} km/h, least gap {_number(row['min_gap_m'], 2)} m to "
        f"{html.escape(str(row['min_gap_to']))}, hardest braking {_number(row['max_deceleration'])} m/s², "
        f"jerk {_number(row['max_jerk'])} m/s³, {row['distance_m']:.0f} m in {row['duration_s']:.1f} s{reaction}"
    )
    terms = ", ".join(f"{_HEADS.get(name, name)} {value:g}" for name, value in row["nuplan"].items())
    scores = f"nuPlan {_share(row['nuplan_score'])} ({html.escape(terms)}), CARLA {_share(row['carla_score'])}"
    others = "".join(
        f"<br><small>{html.escape(name)}: {html.escape(_what(other))}, nuPlan {_share(other['nuplan_score'])}</small>"
        for name, baseline in summary["baselines"].items()
        for other in baseline["rows"]
        if other["case"] == row["case"]
    )
    wrong = row["perception_error"]
    blame = f"<br><b class=warn>{html.escape(wrong)}</b>" if wrong else ""
    clip = f"<video controls muted loop preload=none src='{html.escape(row['clip'])}'></video>" if row["clip"] else ""
    return (
        f"<h4 id='{_anchor(row)}'><span class={mark}>{'passed' if row['passed'] else 'failed'}</span> "
        f"{html.escape(row['case'])}</h4>"
        f"<p>{html.escape(row['sentence'])} <b>{html.escape(_what(row))}</b>{blame}<br><small>{numbers}<br>{scores}"
        f"</small>{others}</p>"
        f"<img loading=lazy src='{html.escape(row['picture'])}' alt='the drive from above'>{clip}"
        f"<table>{checks}</table>"
    )


def _markdown(summary: Mapping[str, Any]) -> str:
    lines = [
        f"# {summary['scenarios']} scenarios, {summary['cases']} cases, {_how(summary)}",
        "",
        f"Score {_share(summary['score'])}, nuPlan's {_share(summary['nuplan_score'])}, CARLA's "
        f"{_share(summary['carla_score'])}; {summary['passed']} of {summary['cases']} cases passed, "
        f"{summary['contacts']} contacts ({summary['contacts_unavoidable']} that nobody could avoid), "
        f"{summary['needless_hard_braking']} times needless hard braking.",
    ]
    for title, head, table in _tables(summary):
        lines += ["", f"## {title}", "", "| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
        lines += ["| " + " | ".join(line) + " |" for line in table]
    for kind, scenarios in _grouped(summary["rows"]).items():
        lines += ["", f"## {_KINDS[kind]} ({_share(summary['score_by_kind'][kind])})", ""]
        lines += [
            "| case | passed | nuPlan | contact km/h | least gap m | braking m/s² | jerk m/s³ | what happened |",
            "|---|---|---|---|---|---|---|---|",
        ]
        for rows in scenarios.values():
            for row in rows:
                what = "; ".join(filter(None, (_what(row), row["perception_error"])))
                cells = (
                    row["case"],
                    "yes" if row["passed"] else "**no**",
                    _number(row["nuplan_score"], 2),
                    _number(row["contact_speed_kmh"], 0),
                    _number(row["min_gap_m"], 2),
                    _number(row["max_deceleration"]),
                    _number(row["max_jerk"]),
                    what.replace("|", "/"),
                )
                lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
