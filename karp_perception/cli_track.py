"""`karp track` and `karp evaluate tracking`: detections of a recording to tracks, and how good those are."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Optional

import typer


def track(
    detections: Annotated[
        list[Path],
        typer.Argument(
            metavar="DETECTIONS...", help="Detection files of one sequence, or a folder of SSSS_<class>.txt."
        ),
    ],
    out: Annotated[Path, typer.Option(help="File for the tracks; a folder where DETECTIONS is one.")],
    format: Annotated[str, typer.Option(help="Of the files: kitti.")] = "kitti",
) -> None:
    """Detections of a recording to tracks with ids and scores, in the KITTI tracking format."""
    from karp_perception.core.errors import ConfigurationError, InvalidInput
    from karp_perception.evaluation.tracking import read_all_detections
    from karp_perception.sensing.datasets.kitti_tracking import write_tracks
    from karp_perception.tracking.recorded import track_kitti

    if format != "kitti":
        raise ConfigurationError(f"--format: expected kitti, got {format}")
    folders = [path for path in detections if path.is_dir()]
    if folders and len(detections) > 1:
        raise InvalidInput("DETECTIONS", "one folder, or files of one sequence", f"{len(detections)} paths")
    groups: dict[Path, list[Path]] = {}
    for file in sorted(folders[0].glob("*_*.txt")) if folders else detections:
        groups.setdefault(out / f"{file.stem.rsplit('_', 1)[0]}.txt" if folders else out, []).append(file)
    if not groups:
        raise InvalidInput(str(folders[0]), "detection files SSSS_<class>.txt", "none")
    for target, files in groups.items():
        found = read_all_detections(files)
        rows = track_kitti(found)
        write_tracks(target, rows)
        frames = int(found.frame.max(initial=-1)) + 1
        print(f"{target}: {frames} frames, {len(found)} detections, {len(set(rows.track_id.tolist()))} tracks")


def evaluate(
    folder: Annotated[Path, typer.Argument(help="Folder with labels/SSSS.txt and detections/SSSS_<class>.txt.")],
    results: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Measure these result files (SSSS.txt) instead of tracking."),
    ] = None,
    out: Annotated[Optional[Path], typer.Option(help="Folder for the result files of what is tracked.")] = None,  # noqa: UP045
    json_file: Annotated[Optional[Path], typer.Option("--json", help="Write the figures into this file.")] = None,  # noqa: UP045
) -> None:
    """Tracks of KITTI tracking sequences: sAMOTA, MOTA, switches, fragmentations at 3D IoU 0.25, HOTA, AMOTA."""
    from rich.console import Console

    from karp_perception.evaluation.tracking import evaluate_tracking, write_json

    content = evaluate_tracking(folder, results, out)
    Console().print(table(content))
    if not any(row["truths"] for row in content["classes"].values()):
        print("no label counts in these sequences: the figures say nothing")
    if "frames_per_second" in content:
        print(f"{content['frames_per_second']} frames a second, all classes together")
    if json_file is not None:
        write_json(content, json_file)


_PERCENT = {
    "sAMOTA": "samota", "AMOTA": "amota", "AMOTP": "amotp", "MOTA": "mota", "MOTP": "motp", "HOTA": "hota",
    "DetA": "deta", "AssA": "assa", "LocA": "loca", "AMOTA, nuScenes": "nuscenes_amota",
}  # fmt: skip
_COUNTS = {
    "switches": "switches", "fragmentations": "fragmentations", "hits": "hits", "false alarms": "false_alarms",
    "misses": "misses", "labels that count": "truths", "trajectories": "trajectories",
    "mostly tracked": "mostly_tracked", "mostly lost": "mostly_lost",
}  # fmt: skip


def table(content: dict[str, Any]) -> Any:
    """What `evaluate_tracking` found, for people: percent, and counts at the threshold where MOTA is best."""
    from rich.table import Table

    classes = {kind: row for kind, row in content["classes"].items() if row["truths"]}
    shown = Table("3D IoU 0.25", *classes)
    for name, key in _PERCENT.items():
        shown.add_row(f"{name}, %", *(f"{100 * row[key]:.2f}" for row in classes.values()))
    shown.add_row("AMOTP, nuScenes, m", *(f"{row['nuscenes_amotp']:.3f}" for row in classes.values()))
    for name, key in _COUNTS.items():
        shown.add_row(name, *(str(row[key]) for row in classes.values()))
    return shown
