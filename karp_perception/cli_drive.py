"""`karp drive`: the closed loop in the embedded world."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from karp_perception.cli_options import Backend, Config, Model, settings_of
from karp_perception.cli_progress import ProgressBar

_MANY_CASES = 30  # more than a person reads through


def drive(
    out: Annotated[Path, typer.Option(help="Directory for what comes out; finished drives in it are kept.")],
    suite: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="all, the name of a group, random, or a YAML file or folder of your own."),
    ] = None,
    scenario: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(help="A scenario, one of its cases (ccrs,speed=30), or random:<family>:<seed>; may be repeated."),
    ] = None,
    drives: Annotated[int, typer.Option(min=1, help="How many of the suite random.")] = 200,
    perception: Annotated[str, typer.Option(help="model: from the sensors on; truth: perfect perception.")] = "truth",
    planner: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(help="karp, idm (IDM alone) or constant (speed); may be repeated, the one that matters first."),
    ] = None,
    compare: Annotated[bool, typer.Option("--compare", help="With all planners, karp first.")] = False,
    latency_ms: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(min=0, help="From a frame to its plan, in simulated time; 100 for model, 0 for truth by default."),
    ] = None,
    measured_latency: Annotated[
        bool, typer.Option("--measured-latency", help="As long as each frame takes here; no two runs are alike.")
    ] = False,
    rig: Annotated[Optional[str], typer.Option(help="Sensors, for perception model; nano by default.")] = None,  # noqa: UP045
    seed: Annotated[int, typer.Option(min=0, help="Of traffic, noise and random drives.")] = 0,
    workers: Annotated[Optional[int], typer.Option(min=1, help="Processes; one a core by default.")] = None,  # noqa: UP045
    video: Annotated[bool, typer.Option(help="Write drive.mp4 where one case is driven.")] = True,
    model: Model = None,
    backend: Backend = None,
    config: Config = None,
) -> None:
    """Closed loop in the embedded world: summary.json with a row a case, a report with drawings and clips, a video."""
    from karp_perception.core.errors import ConfigurationError
    from karp_perception.drive.baselines import PLANNERS
    from karp_perception.drive.cases import MEASURED, DriveOptions
    from karp_perception.drive.run import run

    if compare and planner:
        raise ConfigurationError("--compare: expected no --planner beside it, it takes all of them")
    if measured_latency and latency_ms is not None:
        raise ConfigurationError("--measured-latency: expected no --latency-ms beside it")
    settings = settings_of(config, model, backend)
    names = PLANNERS if compare else tuple(planner or PLANNERS[:1])
    options = DriveOptions(perception, names[0], seed, rig, MEASURED if measured_latency else latency_ms)
    with ProgressBar("driving") as progress:
        summary = run(out, suite or "all", scenario or (), options, workers, settings, progress, names, drives, video)
    _print_drives(summary)
    print(f"written to {out}: {', '.join(sorted(f.name for f in out.iterdir() if not f.name.startswith('.')))}")


def _print_drives(summary: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Column, Table

    case, verdict = Column("case", overflow="fold", min_width=24), Column("verdict", overflow="fold")
    table = Table(case, "nuPlan", "hit", "gap", "brake", "jerk", verdict, caption="km/h, m, m/s², m/s³")
    rows = summary["rows"]
    if len(rows) > _MANY_CASES:
        print("failed cases (the others are in summary.json and report.html):")
        rows = [row for row in rows if not row["passed"]]
    for row in rows:
        keys = ("nuplan_score", "contact_speed_kmh", "min_gap_m", "max_deceleration", "max_jerk")
        failed = [f"{check['name']} ({check['found']})" for check in row["checks"] if not check["passed"]]
        outcome = "passed" if row["passed"] else "failed: " + ", ".join(failed)
        if row["perception_error"]:
            outcome += f"; {row['perception_error']}"
        table.add_row(row["case"], *("-" if row[key] is None else str(row[key]) for key in keys), outcome)
    Console().print(table)
    if summary["baselines"]:
        _print_comparison(summary["comparison"])
    print(
        f"{summary['passed']} of {summary['cases']} cases of {summary['scenarios']} scenarios passed, "
        f"{summary['contacts']} contacts ({summary['contacts_unavoidable']} that nobody could avoid), "
        f"{summary['needless_hard_braking']} times braked hard for nothing; score {summary['score']}, "
        f"nuPlan's {summary['nuplan_score']}, CARLA's {summary['carla_score']}"
    )


def _print_comparison(lines: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    names = ("score", "nuplan_score", "carla_score", "progress", "ttc", "comfort", "passed", "contacts")
    heads = ("score", "nuPlan", "CARLA", "progress", "TTC", "comfort", "passed", "hits")
    table = Table("planner", *heads, "needless")
    for line in lines:
        table.add_row(line["planner"], *(str(line[name]) for name in (*names, "needless_hard_braking")))
    Console().print(table)
