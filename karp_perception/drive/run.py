"""`karp drive`: cases in parallel processes -> cases/, summary.json, report.html, report.md; a video of a single case.

Each finished case leaves `cases/<name>.json` and `.npz`, written whole or not at all; a second run takes them up again
where nothing about the case has changed.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import orjson

from karp_perception.core.errors import ConfigurationError, KarpError
from karp_perception.drive.drivers import PERCEPTIONS
from karp_perception.pipeline import PipelineSettings
from karp_perception.records import atomic_file, versions, write_json
from karp_perception.world.scenarios.case import Case
from karp_perception.world.scenarios.suite import find_cases, load_suite
from karp_perception.world.workers import Work, run_jobs

Progress = Callable[[float, str], None]


@dataclass(frozen=True)
class DriveOptions:
    """How cases are driven.

    Attributes:
        perception: one of PERCEPTIONS.
        seed: of traffic and noise, beside what a case fixes.
        rig: sensors for `model`; None takes the world's "nano".
        video: write drive.mp4 where there is one case.
    """

    perception: str = "truth"
    seed: int = 0
    rig: str | None = None
    video: bool = True

    def __post_init__(self) -> None:
        if self.perception not in PERCEPTIONS:
            raise ConfigurationError(f"perception: expected one of {', '.join(PERCEPTIONS)}, got {self.perception!r}")


def run(
    out: Path,
    suite: str | Path = "all",
    scenarios: Sequence[str] = (),
    options: DriveOptions = DriveOptions(),
    workers: int | None = None,
    settings: PipelineSettings = PipelineSettings(),
    progress: Progress = lambda share, what: None,
) -> dict[str, Any]:
    """Drive a suite, or some scenarios of it, and write what came of it into `out`.

    Args:
        out: folder for everything; made where missing.
        suite: see `load_suite`.
        scenarios: names of scenarios, cases or random drives; all of the suite where empty.
        options: how they are driven.
        workers: processes; None takes as many as there are cores.
        settings: of pipeline and vehicle.
        progress: called with the share that is done, and what that is in words.

    Returns:
        What `summary.json` holds.

    Raises:
        ConfigurationError: no such suite or scenario, or something in a file that cannot be.
    """
    found = load_suite(suite)
    cases = find_cases(scenarios, found) if scenarios else [case for scenario in found for case in scenario.cases]
    if workers is not None and workers < 1:
        raise ConfigurationError(f"workers: expected at least 1, got {workers}")
    out.mkdir(parents=True, exist_ok=True)
    (out / "cases").mkdir(exist_ok=True)
    rows = _drive_all(cases, out, options, workers or os.cpu_count() or 1, settings, progress)
    summary = summarised(rows, options)
    write_json(out / "summary.json", summary)
    from karp_perception.view.drive_report import write_report

    write_report(out, summary)
    return summary


def _drive_all(
    cases: Sequence[Case],
    out: Path,
    options: DriveOptions,
    workers: int,
    settings: PipelineSettings,
    progress: Progress,
) -> list[dict[str, Any]]:
    video = out / "drive.mp4" if options.video and len(cases) == 1 else None
    todo = [case for case in cases if _finished(case, out, options, settings) is None]
    if video is not None and not video.exists():
        todo = list(cases)
    done = len(cases) - len(todo)
    # The longest first: nobody waits for one that was begun last.
    todo.sort(key=lambda case: -case.duration)
    make = partial(_worker, todo, out=out, options=options, settings=settings, video=video)

    def stepped() -> None:
        nonlocal done
        done += 1
        progress(done / len(cases), f"{done} of {len(cases)} cases")

    if min(len(todo), workers) <= 1:
        work = make()
        for index in range(len(todo)):
            for _ in work(index):
                stepped()
    else:
        run_jobs(make, range(len(todo)), workers, stepped)
    rows = [_finished(case, out, options, settings) for case in cases]
    lost = [case.name for case, row in zip(cases, rows, strict=True) if row is None]
    if lost:
        raise KarpError(
            f"{_file(out, cases[0]).parent}: {len(lost)} results vanished while others were driven: {lost[0]}"
        )
    return [row for row in rows if row is not None]


def _worker(cases: Sequence[Case], **options: Any) -> Work:
    """Does the cases by number, in whatever process."""

    def work(index: int) -> Generator[object, None, None]:
        _one(cases[index], **options)
        yield

    return work


def _one(case: Case, *, out: Path, options: DriveOptions, settings: PipelineSettings, video: Path | None) -> None:
    """Drive one case and keep what came of it."""
    import cv2

    from karp_perception.drive.cases import drive_case
    from karp_perception.evaluation.verdict import verdict
    from karp_perception.view.drive_drawing import draw_drive

    record = drive_case(case, options.perception, options.seed, options.rig, settings, video)
    record.save(_file(out, case).with_suffix(".npz"))
    _, png = cv2.imencode(".png", draw_drive(record)[..., ::-1])
    with atomic_file(_file(out, case).with_suffix(".png"), "wb") as file:
        file.write(png.tobytes())
    write_json(_file(out, case), {**verdict(case, record), "digest": digest(case, options, settings)})


def _finished(case: Case, out: Path, options: DriveOptions, settings: PipelineSettings) -> dict[str, Any] | None:
    path = _file(out, case)
    if not (path.is_file() and path.with_suffix(".npz").is_file()):
        return None
    try:
        row = orjson.loads(path.read_bytes())
    except orjson.JSONDecodeError:
        return None
    return row if isinstance(row, dict) and row.get("digest") == digest(case, options, settings) else None


def digest(case: Case, options: DriveOptions, settings: PipelineSettings) -> str:
    """What a result depends on, in short: the case, how it is driven, and the version of what drives it."""
    told = (dataclasses.asdict(case), dataclasses.asdict(options), dataclasses.asdict(settings), versions())
    return hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _file(out: Path, case: Case) -> Path:
    return out / "cases" / f"{case.name.replace(':', '-')}.json"


def summarised(rows: Sequence[dict[str, Any]], options: DriveOptions) -> dict[str, Any]:
    """The summary of a suite: counts, the score, and a row a case.

    The score is the mean over scenarios (not cases: a grid of thirty counts once) of their cases' scores, 0 to 1.
    """
    by_scenario: dict[str, list[float]] = {}
    for row in rows:
        by_scenario.setdefault(row["scenario"], []).append(row["score"])
    kinds = sorted({row["kind"] for row in rows})
    means = {name: sum(scores) / len(scores) for name, scores in by_scenario.items()}
    kind_of = {row["scenario"]: row["kind"] for row in rows}
    return {
        "perception": options.perception,
        "seed": options.seed,
        "scenarios": len(by_scenario),
        "cases": len(rows),
        "passed": sum(row["passed"] for row in rows),
        "contacts": sum(row["contact"] for row in rows),
        "contacts_unavoidable": sum(row["contact"] and not row["avoidable"] for row in rows),
        "run_into": sum(row["run_into"] for row in rows),
        "needless_hard_braking": sum(row["needless_braking"] for row in rows),
        "score": round(sum(means.values()) / max(len(means), 1), 4),
        "score_by_kind": {
            kind: round(
                sum(m for n, m in means.items() if kind_of[n] == kind) / sum(k == kind for k in kind_of.values()), 4
            )
            for kind in kinds
        },
        "rows": [{key: value for key, value in row.items() if key != "digest"} for row in rows],
        "versions": versions(),
    }
