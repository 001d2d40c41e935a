"""`karp drive`: cases in parallel processes -> cases/, summary.json, report.html, report.md; a video of a single case.

Each finished drive leaves `cases/<name>.json` and `.npz`, written whole or not at all (those of baselines in
`cases/<planner>/`); a second run takes them up again where nothing about the case, or about this package, has changed.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Generator, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import orjson

import karp_perception
from karp_perception.core.errors import ConfigurationError, KarpError
from karp_perception.drive.cases import DriveOptions
from karp_perception.drive.summary import compared, summarised
from karp_perception.pipeline import PipelineSettings
from karp_perception.records import atomic_file, versions, write_json
from karp_perception.world.scenarios.case import Case
from karp_perception.world.scenarios.suite import find_cases, load_suite, random_cases
from karp_perception.world.workers import Work, run_jobs

Progress = Callable[[float, str], None]

RANDOM = "random"
"""The suite of random drives."""


def run(
    out: Path,
    suite: str | Path = "all",
    scenarios: Sequence[str] = (),
    options: DriveOptions = DriveOptions(),
    workers: int | None = None,
    settings: PipelineSettings = PipelineSettings(),
    progress: Progress = lambda share, what: None,
    planners: Sequence[str] = (),
    drives: int = 200,
    video: bool = True,
) -> dict[str, Any]:
    """Drive a suite, or some scenarios of it, and write what came of it into `out`.

    Args:
        out: folder for everything; made where missing.
        suite: see `load_suite`; or RANDOM: drives through places of all families with their traffic.
        scenarios: names of scenarios, cases or random drives; all of the suite where empty.
        options: how they are driven.
        workers: processes; None takes as many as there are cores.
        settings: of pipeline and vehicle.
        progress: called with the share that is done, and what that is in words.
        planners: that drive, the one that matters first; that of the options where empty.
        drives: how many of RANDOM.
        video: write drive.mp4 where there is one case.

    Returns:
        What `summary.json` holds.

    Raises:
        ConfigurationError: no such suite or scenario, or something in a file that cannot be.
    """
    cases = _cases(suite, scenarios, drives, options.seed)
    if workers is not None and workers < 1:
        raise ConfigurationError(f"workers: expected at least 1, got {workers}")
    every = [dataclasses.replace(options, planner=name) for name in dict.fromkeys(planners or (options.planner,))]
    out.mkdir(parents=True, exist_ok=True)
    for how in every:
        _file(out, cases[0], how).parent.mkdir(parents=True, exist_ok=True)
    rows = _drive_all(cases, out, every, workers or os.cpu_count() or 1, settings, progress, video)
    main, *others = (summarised(found, how) for found, how in zip(rows, every, strict=True))
    summary = {**main, "baselines": {other["planner"]: other for other in others}}
    summary["comparison"] = [compared(other) for other in (main, *others)]
    summary["versions"] = versions()
    write_json(out / "summary.json", summary)
    from karp_perception.view.drive_report import write_report

    write_report(out, summary)
    return summary


def _cases(suite: str | Path, scenarios: Sequence[str], drives: int, seed: int) -> list[Case]:
    if str(suite) == RANDOM and not scenarios:
        return random_cases(drives, seed)
    found = () if str(suite) == RANDOM else load_suite(suite)
    return find_cases(scenarios, found) if scenarios else [case for scenario in found for case in scenario.cases]


def _drive_all(
    cases: Sequence[Case],
    out: Path,
    every: Sequence[DriveOptions],
    workers: int,
    settings: PipelineSettings,
    progress: Progress,
    video: bool,
) -> list[list[dict[str, Any]]]:
    """Rows of all cases, for each way to drive them."""
    film = out / "drive.mp4" if video and len(cases) == 1 else None
    digests = {(case.name, how): digest(case, how, settings) for case in cases for how in every}

    def finished(case: Case, how: DriveOptions) -> dict[str, Any] | None:
        return _finished(_file(out, case, how), digests[case.name, how])

    todo = []
    for case in cases:
        missing = [how for how in every if finished(case, how) is None]
        if film is not None and not film.exists() and every[0] not in missing:
            missing.insert(0, every[0])
        todo.append((case, missing))
    total = len(cases) * len(every)
    done = total - sum(len(missing) for _, missing in todo)
    # The longest first: nobody waits for one that was begun last.
    todo = sorted((job for job in todo if job[1]), key=lambda job: -job[0].duration * len(job[1]))
    make = partial(_worker, todo, out=out, settings=settings, film=film, main=every[0], digests=digests)

    def stepped() -> None:
        nonlocal done
        done += 1
        progress(done / total, f"{done} of {total} drives")

    if min(len(todo), workers) <= 1:
        work = make()
        for index in range(len(todo)):
            for _ in work(index):
                stepped()
    else:
        run_jobs(make, range(len(todo)), workers, stepped)
    rows = [[finished(case, how) for case in cases] for how in every]
    lost = [case.name for found in rows for case, row in zip(cases, found, strict=True) if row is None]
    if lost:
        raise KarpError(f"{out / 'cases'}: {len(lost)} results vanished while others were driven: {lost[0]}")
    return rows  # type: ignore[return-value]


def _worker(
    jobs: Sequence[tuple[Case, Sequence[DriveOptions]]],
    *,
    out: Path,
    settings: PipelineSettings,
    film: Path | None,
    main: DriveOptions,
    digests: Mapping[tuple[str, DriveOptions], str],
) -> Work:
    """Does the cases by number, in whatever process: the expert drives each once, then those who are measured by it.

    A result is written last, and says of what it is, by what the asking process knew: its code may change meanwhile.
    """

    def work(index: int) -> Generator[object, None, None]:
        from karp_perception.drive.cases import expert_way

        case, ways = jobs[index]
        expert = expert_way(case, main.seed, settings)
        for how in ways:
            row = _one(case, how, expert, out, settings, film if how == main else None)
            write_json(_file(out, case, how), {**row, "digest": digests[case.name, how]})
            yield

    return work


def _one(
    case: Case, how: DriveOptions, expert: Any, out: Path, settings: PipelineSettings, film: Path | None
) -> dict[str, Any]:
    """Drive one case, keep its record and its pictures, and say what came of it."""
    import cv2

    from karp_perception.drive.cases import drive_case
    from karp_perception.evaluation.verdict import verdict
    from karp_perception.view.drive_clip import write_clip
    from karp_perception.view.drive_drawing import draw_drive

    path = _file(out, case, how)
    record = drive_case(case, how, settings, film)
    row = verdict(case, record, expert)
    record.save(path.with_suffix(".npz"))
    _, png = cv2.imencode(".png", draw_drive(record)[..., ::-1])
    with atomic_file(path.with_suffix(".png"), "wb") as file:
        file.write(png.tobytes())
    row["picture"] = str(path.with_suffix(".png").relative_to(out))
    row["clip"] = None
    if not row["passed"]:
        write_clip(record, path.with_suffix(".mp4"), row["moment_s"])
        row["clip"] = str(path.with_suffix(".mp4").relative_to(out))
    return row


def _finished(path: Path, wanted: str) -> dict[str, Any] | None:
    """What lies there, if it is of what the digest says."""
    if not (path.is_file() and path.with_suffix(".npz").is_file()):
        return None
    try:
        row = orjson.loads(path.read_bytes())
    except orjson.JSONDecodeError:
        return None
    return row if isinstance(row, dict) and row.get("digest") == wanted else None


def digest(case: Case, how: DriveOptions, settings: PipelineSettings) -> str:
    """What a result depends on, in short: the case, how it is driven, and the code of what drives it."""
    told = (dataclasses.asdict(case), dataclasses.asdict(how), dataclasses.asdict(settings), versions(), _code())
    return hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()[:16]


@lru_cache(maxsize=1)
def _code() -> str:
    """Of this package's modules, in short."""
    root, found = Path(karp_perception.__file__).parent, hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        found.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return found.hexdigest()[:16]


def _file(out: Path, case: Case, how: DriveOptions) -> Path:
    folder = out / "cases" if how.planner == "karp" else out / "cases" / how.planner
    return folder / f"{case.name.replace(':', '-')}.json"
